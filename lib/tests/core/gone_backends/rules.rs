//! What may come out of the gateway under the snapshot in force.

use std::net::{IpAddr, SocketAddr};

use weirgate::flow::{Address, Entry, FlowEnd, FlowEvent, State, Table};
use weirgate::net::{Endpoint, Mac, Protocol};
use weirgate_fixture::frames::{Body, Packet, SYN};
use weirgate_fixture::world;
use weirgate_fixture::{Gateway, Observed};

use super::cluster::DNS_SERVICE;
use super::run::{Run, Sent, protocol};

/// A flow in the tables.
#[derive(Clone, Debug)]
pub(super) struct Known {
    protocol: Protocol,
    client: SocketAddr,
    frontend: SocketAddr,
    backend: Option<SocketAddr>,
    /// The address and port that stand for the client, or are its own.
    shown: SocketAddr,
    is_open: bool,
    service: Option<u32>,
}

/// A packet that was transmitted.
#[derive(Debug)]
pub(super) struct Passed<'a> {
    /// What came in; `None` for a fragment that has waited.
    pub(super) sent: Option<&'a Sent>,
    /// Whether it goes to a node, and then to which underlay address and VTEP.
    pub(super) node: Option<(IpAddr, Mac)>,
    /// What came out; `None` for a fragment.
    pub(super) packet: Option<Packet>,
    pub(super) ip: Vec<u8>,
}

/// Whether this is an open TCP connection, which no other backend knows.
fn is_open(protocol: Protocol, state: Option<State>, is_assured: bool) -> bool {
    protocol == Protocol::TCP && is_assured && !matches!(state, Some(State::TcpLastAck | State::TcpTimeWait))
}

fn flows_of<A: Address>(table: &Table<'_, A>, flows: &mut Vec<Known>) {
    let socket = |address: A, port: [u8; 2]| SocketAddr::new(address.to_ip(), u16::from_be_bytes(port));
    flows.extend(table.iter().map(|entry: &Entry<A>| Known {
        protocol: Protocol(entry.protocol),
        client: socket(entry.original.source, entry.original.source_port),
        frontend: socket(entry.original.destination, entry.original.destination_port),
        backend: entry.backend().map(at),
        shown: socket(entry.reply.destination, entry.reply.destination_port),
        is_open: is_open(Protocol(entry.protocol), entry.state(), entry.is_assured()),
        service: entry.service(),
    }));
}

/// All flows.
pub(super) fn known(gateway: &Gateway) -> Vec<Known> {
    let mut flows = vec![];
    flows_of(&gateway.worker.flows().v4, &mut flows);
    flows_of(&gateway.worker.flows().v6, &mut flows);
    flows
}

fn at(endpoint: Endpoint) -> SocketAddr {
    (endpoint.address, endpoint.port).into()
}

/// What has been seen of flows before and in a burst.
struct Seen {
    before: Vec<Known>,
    after: Vec<Known>,
    events: Vec<Observed>,
}

impl Seen {
    /// The flow of a request, to this backend, before the burst.
    fn of_request(&self, request: &Packet, backend: SocketAddr) -> Option<&Known> {
        self.before.iter().find(|flow| flow.is_of(request) && flow.backend == Some(backend))
    }

    /// What was observed of flows of a request to this backend.
    fn observed(&self, request: &Packet, backend: SocketAddr) -> impl Iterator<Item = &Observed> {
        let flow = (protocol(request), [request.source, request.destination]);
        self.events
            .iter()
            .filter(move |it| (it.flow.0, it.flow.1.map(at)) == flow && it.backend.map(at) == Some(backend))
    }
}

impl Known {
    fn is_of(&self, request: &Packet) -> bool {
        (self.protocol, self.client, self.frontend) == (protocol(request), request.source, request.destination)
    }
}

impl Run {
    /// Checks what a burst has sent and what it has left in the tables.
    pub(super) fn check(&mut self, before: Vec<Known>, passed: &[Passed<'_>]) {
        let events = std::mem::take(&mut self.gateway().events);
        let seen = Seen { before, after: known(self.gateway()), events };
        self.check_events(&seen);
        for passed in passed {
            let Some(packet) = &passed.packet else {
                self.check_fragment(passed);
                continue;
            };
            let sent = passed.sent.expect("the only frames that wait are fragments");
            let is_error = matches!(packet.body, Body::Icmp(..)) && !matches!(sent.packet.body, Body::Icmp(..));
            if is_error {
                continue;
            }
            let is_request = self.cluster.may_listen(protocol(&sent.packet), sent.packet.destination);
            match (sent.is_from_pod, is_request) {
                (_, true) => self.check_request(&seen, &sent.packet, packet, passed.node),
                (true, false) => self.check_reply(&seen, &sent.packet, packet, passed.node.is_some()),
                (false, false) => self.check_reply_to_pod(&seen, &sent.packet, packet),
            }
        }
    }

    /// Whether a service has the backend of its flow under the snapshot in force, and a node has its address.
    fn has_backend(&self, protocol: Protocol, frontend: SocketAddr, backend: SocketAddr) -> bool {
        let weight = self.cluster.listener(protocol, frontend).and_then(|listener| listener.weight(backend));
        weight.is_some() && self.cluster.node_of(backend.ip()).is_some()
    }

    /// A flow begins to a backend that its service has, that takes new ones, and with an address that the service asks.
    /// It ends for its backend or its address only where that is gone.
    fn check_events(&mut self, seen: &Seen) {
        for Observed { flow: (protocol, [client, frontend]), backend, event, .. } in &seen.events {
            match event {
                FlowEvent::Ended(FlowEnd::Reopened) => {
                    let is_there = |backend| self.has_backend(*protocol, at(*frontend), at(backend));
                    assert!(*protocol != Protocol::UDP || !backend.is_some_and(is_there), "{client} lost {backend:?}");
                    self.tally.reopened += 1;
                }
                FlowEvent::Ended(FlowEnd::AddressGone) => self.tally.address_gone += 1,
                _ => {}
            }
            let (Some(backend), FlowEvent::Begun) = (backend, event) else { continue };
            self.tally.begun += 1;
            let listener = self.cluster.listener(*protocol, at(*frontend)).expect("a service for a flow that begins");
            assert!(listener.weight(at(*backend)).is_some_and(|weight| weight > 0), "{client} gets {backend}");
            let is_it = |flow: &&Known| {
                (flow.protocol, flow.client, flow.frontend, flow.backend)
                    == (*protocol, at(*client), at(*frontend), Some(at(*backend)))
            };
            let Some(flow) = seen.after.iter().find(is_it) else { continue };
            let is_pod = self.cluster.node_of(client.address).is_some();
            if listener.preserves && !is_pod {
                assert_eq!(flow.shown, flow.client);
            } else {
                assert!(self.cluster.pool().contains(&flow.shown.ip()), "{flow:?}");
            }
        }
    }

    /// A packet to a service, which has gone to a pod.
    fn check_request(&mut self, seen: &Seen, request: &Packet, packet: &Packet, node: Option<(IpAddr, Mac)>) {
        let Some(carrier) = node else {
            // To whoever pinged.
            assert!(matches!(packet.body, Body::Icmp(..)), "{request:?} has gone outside as {packet:?}");
            return;
        };
        if matches!(packet.body, Body::Icmp(..)) {
            return;
        }
        let (protocol, backend) = (protocol(request), packet.destination);
        let old = seen.of_request(request, backend);
        let has_begun = seen.observed(request, backend).any(|it| it.event == FlowEvent::Begun);
        let has_ended = seen.observed(request, backend).any(|it| matches!(it.event, FlowEvent::Ended(_)));
        let listener = self.cluster.listener(protocol, request.destination);
        let weight = listener.as_ref().and_then(|listener| listener.weight(backend));
        let node = self.cluster.node_of(backend.ip()).expect("a node with the backend's address");
        let public: IpAddr = if backend.is_ipv4() { world::NODES[node].into() } else { world::NODES_V6[node].into() };
        assert_eq!(carrier, (public, world::NODE_VTEPS[node]), "at another node than the backend's");
        match weight {
            Some(0) => {
                assert!(old.is_some(), "a new flow to {backend}, whose weight is 0");
                self.tally.kept += 1;
            }
            Some(_) => {}
            None => {
                assert_eq!(protocol, Protocol::TCP, "{request:?} follows {backend}, which is gone");
                let old = old.expect("a connection that is there");
                self.tally.followed += 1;
                if matches!(request.body, Body::Tcp(SYN, _)) {
                    let opens = |it: &Observed| is_open(protocol, it.state.0, it.state.1);
                    let is_open = old.is_open || seen.observed(request, backend).any(opens);
                    assert!(is_open, "a SYN follows {old:?}");
                    self.tally.doubted += 1;
                }
            }
        }
        let is_own = packet.source == request.source || self.cluster.is_own(packet.source.ip());
        assert!(is_own, "{} stands for {}", packet.source, request.source);
        match old {
            _ if has_begun => {}
            Some(old) if !has_ended => assert_eq!(packet.source, old.shown),
            // It may have ended the flow.
            Some(old) if packet.source == old.shown => {}
            _ => {
                let preserves = listener.as_ref().is_some_and(|listener| listener.preserves);
                assert!(self.cluster.is_stateless() && preserves, "{request:?} of no flow has gone to {backend}");
                assert_eq!(packet.source, request.source);
                self.tally.stateless += 1;
            }
        }
        // What has been looked at is left right.
        if let Some(flow) = seen.after.iter().find(|flow| flow.is_of(request)) {
            assert!(flow.shown == flow.client || self.cluster.is_own(flow.shown.ip()), "{flow:?}");
            let has_backend = |backend| listener.as_ref().is_some_and(|listener| listener.weight(backend).is_some());
            assert!(flow.protocol == Protocol::TCP || flow.backend.is_some_and(has_backend), "{flow:?}");
            assert_eq!(flow.service, listener.map(|listener| listener.number), "{flow:?}");
        }
    }

    /// A pod's packet to somebody who is no service.
    fn check_reply(&mut self, seen: &Seen, reply: &Packet, packet: &Packet, is_at_pod: bool) {
        if matches!(reply.body, Body::Icmp(..)) {
            self.check_outward(packet, is_at_pod);
            return;
        }
        let protocol = protocol(reply);
        if !is_at_pod && !self.cluster.may_listen(protocol, packet.source) {
            self.check_outward(packet, is_at_pod);
            return;
        }
        let is_it = |flow: &&Known| {
            (flow.protocol, flow.backend, flow.shown) == (protocol, Some(reply.source), reply.destination)
        };
        let Some(flow) = seen.before.iter().chain(&seen.after).find(is_it) else {
            // One that began and ended in this burst is in the tables neither before nor after.
            let request = Packet { source: packet.destination, destination: packet.source, ..packet.clone() };
            let was_there = seen.observed(&request, reply.source).next().is_some();
            let is_stateless = self.cluster.is_stateless() && self.cluster.is_preserving(protocol, reply.source);
            assert!(was_there || is_stateless, "{reply:?} of no flow");
            return;
        };
        assert_eq!((packet.source, packet.destination), (flow.frontend, flow.client));
        assert!(flow.shown == flow.client || self.cluster.is_own(flow.shown.ip()), "{flow:?}");
        let listener = self.cluster.listener(protocol, flow.frontend);
        let is_gone = listener.is_none_or(|listener| listener.weight(reply.source).is_none());
        self.tally.drained += u64::from(is_gone);
        self.tally.hairpinned += u64::from(is_at_pod);
    }

    /// A pod's packet of its own.
    fn check_outward(&mut self, packet: &Packet, is_at_pod: bool) {
        if !is_at_pod && !matches!(packet.body, Body::Icmp(0 | 129, ..)) {
            assert!(self.cluster.masquerade().contains(&packet.source.ip()), "{packet:?}");
            self.tally.outward += 1;
        }
    }

    /// A packet from outside to a pod that had sent one there.
    fn check_reply_to_pod(&self, seen: &Seen, reply: &Packet, packet: &Packet) {
        assert!(self.cluster.masquerade().contains(&reply.destination.ip()), "{reply:?}");
        if !matches!(reply.body, Body::Icmp(..)) {
            let is_it =
                |flow: &&Known| (flow.protocol, flow.backend, flow.shown) == (protocol(reply), None, reply.destination);
            let flow = seen.before.iter().find(is_it).expect("a flow of the pod's");
            assert_eq!(packet.destination, flow.client);
        }
    }

    /// A fragment of a datagram to the only service that gets any.
    fn check_fragment(&mut self, passed: &Passed<'_>) {
        assert!(passed.node.is_some(), "{passed:?}");
        let ip = &passed.ip;
        let address: IpAddr = match ip[0] >> 4 {
            4 => <[u8; 4]>::try_from(&ip[16..20]).expect("four bytes").into(),
            _ => <[u8; 16]>::try_from(&ip[24..40]).expect("sixteen bytes").into(),
        };
        let frontends = [false, true].map(|external| self.cluster.frontend(DNS_SERVICE, external, address.is_ipv6()).1);
        let asked: Vec<_> = passed.sent.map_or(frontends.into(), |sent| vec![sent.packet.destination]);
        let listeners = asked.iter().filter_map(|frontend| self.cluster.listener(Protocol::UDP, *frontend));
        assert!(listeners.into_iter().any(|listener| listener.has_at(address)), "a fragment follows {address}");
        self.tally.fragments += 1;
    }
}
