//! Runs the steps: packets of clients and pods, what answers them, snapshots, time and restarts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weirgate::fragment::Limits;
use weirgate::net::{Protocol, WorkerId};
use weirgate::pipeline::{Worker, WorkerConfig};
use weirgate::time::Span;
use weirgate::verdict::Verdict;
use weirgate_fixture::frames::{
    ACK, Body, FIN, FROM_CLIENT, Packet, RST, SYN, chunk, framed, from_pod, init_chunk, tunnelled, unframed,
};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK};
use weirgate_fixture::{Gateway, leak_aligned, worker_config};

use super::cluster::{self, Change, Cluster};
use super::rules::{Passed, known};
use super::{Request, Said, Step};
use crate::fragments::helpers::fragments;

/// Clients and pods that ask.
pub(super) const REQUESTERS: usize = 5;

const CLIENT_TAG: [u8; 4] = [0xc1, 0, 0, 1];
const POD_TAG: [u8; 4] = [0xac, 0, 0, 1];

/// What has happened that the rules are about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) begun: u64,
    pub(super) reopened: u64,
    /// Packets to a backend with weight 0.
    pub(super) kept: u64,
    /// Segments to a backend that is gone, and SYNs among them.
    pub(super) followed: u64,
    pub(super) doubted: u64,
    /// Replies of backends that are gone.
    pub(super) drained: u64,
    /// Replies to pods.
    pub(super) hairpinned: u64,
    pub(super) fragments: u64,
    pub(super) stateless: u64,
    pub(super) outward: u64,
    pub(super) address_gone: u64,
    pub(super) adopted: u64,
}

impl Tally {
    pub(super) fn iter(self) -> impl Iterator<Item = u64> {
        let Self { begun, reopened, kept, followed, doubted, drained, .. } = self;
        let Self { hairpinned, fragments, stateless, outward, address_gone, adopted, .. } = self;
        [
            begun,
            reopened,
            kept,
            followed,
            doubted,
            drained,
            hairpinned,
            fragments,
            stateless,
            outward,
            address_gone,
            adopted,
        ]
        .into_iter()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.begun += other.begun;
        self.reopened += other.reopened;
        self.kept += other.kept;
        self.followed += other.followed;
        self.doubted += other.doubted;
        self.drained += other.drained;
        self.hairpinned += other.hairpinned;
        self.fragments += other.fragments;
        self.stateless += other.stateless;
        self.outward += other.outward;
        self.address_gone += other.address_gone;
        self.adopted += other.adopted;
    }
}

/// A packet on its way to the gateway.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) is_from_pod: bool,
    pub(super) packet: Packet,
    ip: Vec<u8>,
}

/// A packet that has been received, and whether by a pod.
type Received = (bool, Packet);

pub(super) struct Run {
    gateway: Option<Gateway>,
    config: WorkerConfig,
    /// The worker's memory, which outlives a process.
    memory: (*mut u8, usize),
    pub(super) cluster: Cluster,
    /// The last ones, the latest last.
    received: Vec<Received>,
    requests: Vec<Request>,
    datagrams: u16,
    pub(super) tally: Tally,
}

pub(super) fn protocol(packet: &Packet) -> Protocol {
    match (&packet.body, packet.source) {
        (Body::Tcp(..), _) => Protocol::TCP,
        (Body::Udp(_), _) => Protocol::UDP,
        (Body::Sctp(..), _) => Protocol::SCTP,
        (Body::Icmp(..), SocketAddr::V4(_)) => Protocol::ICMP,
        (Body::Icmp(..), SocketAddr::V6(_)) => Protocol::ICMPV6,
    }
}

/// A body of this protocol; the first ones are what a conversation begins with.
fn body(protocol: Protocol, what: u8, is_reply: bool) -> Body {
    let pick = |choices: &[u8]| choices[usize::from(what) % choices.len()];
    match protocol {
        Protocol::TCP if is_reply => Body::Tcp(pick(&[SYN | ACK, SYN | ACK, ACK, ACK, FIN | ACK, RST]), vec![]),
        Protocol::TCP => Body::Tcp(pick(&[SYN, SYN, SYN, ACK, ACK, FIN | ACK, RST, SYN | ACK]), vec![]),
        Protocol::SCTP => {
            let tag = if is_reply { CLIENT_TAG } else { POD_TAG };
            match pick(if is_reply { &[2, 2, 11, 11, 0, 5, 6, 8, 14] } else { &[1, 1, 10, 10, 0, 4, 6, 7, 14] }) {
                1 => Body::Sctp([0; 4], init_chunk(1, CLIENT_TAG, b"")),
                2 => Body::Sctp(CLIENT_TAG, init_chunk(2, POD_TAG, &chunk(7, 0, b"cookie"))),
                kind => Body::Sctp(tag, chunk(kind, 0, b"data")),
            }
        }
        _ => Body::Udp(vec![what; 24]),
    }
}

impl Run {
    pub(super) fn new() -> Self {
        let cluster = Cluster::new();
        let fragments = Limits { datagrams: 16, held_bytes: 4096, ..Limits::default() };
        let config = cluster.describe(|it| worker_config(it, WorkerId(0), 64));
        let config = WorkerConfig { fragments, ..config };
        let memory = leak_aligned(Worker::memory_bytes(&config));
        let parts = (memory.as_mut_ptr(), memory.len());
        let gateway = cluster.describe(|it| Gateway::with_memory(it, &config, memory));
        Self {
            gateway: Some(gateway),
            config,
            memory: parts,
            cluster,
            received: vec![],
            requests: vec![],
            datagrams: 0,
            tally: Tally::default(),
        }
    }

    pub(super) fn gateway(&mut self) -> &mut Gateway {
        self.gateway.as_mut().expect("a process that runs")
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Burst(all) => {
                let sent: Vec<_> = all.iter().flat_map(|said| self.says(said)).collect();
                self.burst(&sent);
            }
            Step::Converse(request) => {
                let first = self.requests(Request { what: 0, ..*request });
                let before = self.received.len();
                self.burst(&first);
                if self.received.len() > before && matches!(self.received.last(), Some((true, _))) {
                    let reply = self.replies(0, 0);
                    self.burst(&reply);
                    let second = if request.service == cluster::SCTP_SERVICE { 2 } else { 3 };
                    let second = self.requests(Request { what: second, ..*request });
                    self.burst(&second);
                }
            }
            Step::Change(changes) => self.change(changes),
            Step::ChangeOf { received, kind } => self.change_of(*received, *kind),
            Step::Between { request, kind } => {
                let whole = self.requests(Request { service: cluster::DNS_SERVICE, what: 0, ..*request });
                self.burst(&whole);
                self.datagrams += 1;
                let [first, later] = self.cut(&whole[0]);
                self.burst(&[first]);
                self.change_of(0, *kind);
                self.burst(&[later]);
            }
            Step::Wait(millis) => {
                let gateway = self.gateway();
                gateway.advance(Span::from_millis(u64::from(*millis)));
                gateway.worker.age(&gateway.snapshot(), gateway.now, 64);
            }
            Step::Restart(changes) => self.restart(changes),
        }
    }

    /// Another snapshot.
    fn change(&mut self, changes: &[Change]) {
        self.cluster.generation += 1;
        changes.iter().for_each(|change| self.cluster.change(*change));
        let snapshot = self.cluster.describe(weirgate_fixture::snapshot);
        self.gateway().put(snapshot);
    }

    /// Another snapshot, in which who has received the packet that many packets ago is another backend, or none.
    fn change_of(&mut self, received: usize, kind: u8) {
        if let Some((_, packet)) = self.received.iter().rev().nth(received) {
            let changes = self.cluster.changes_of(protocol(packet), packet.destination.ip(), kind);
            self.change(&changes);
        }
    }

    /// Another process, whose first snapshot has the generation of the last one of the process before it.
    fn restart(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| self.cluster.change(*change));
        let now = self.gateway().now;
        self.gateway = None;
        let (start, len) = self.memory;
        // SAFETY: leaked in `new`, so it lives for ever; the gateway that had it is gone.
        let memory = unsafe { std::slice::from_raw_parts_mut(start, len) };
        let config = &self.config;
        let (mut gateway, adopted) = self.cluster.describe(|it| Gateway::adopt(it, config, memory));
        assert_eq!(adopted.damaged, 0);
        gateway.now = now;
        self.gateway = Some(gateway);
        self.tally.adopted += u64::from(adopted.flows);
    }

    fn says(&mut self, said: &Said) -> Vec<Sent> {
        match *said {
            Said::Request(request) => self.requests(request),
            Said::Again { sent, what } => {
                let request = self.requests.iter().rev().nth(sent).map(|request| Request { what, ..*request });
                request.map_or(vec![], |request| self.requests(request))
            }
            Said::Reply { to, what } => self.replies(to, what),
            Said::Outward { who, what } => self.goes_outward(who, what),
        }
    }

    /// The address of who asks, and whether it is a pod's.
    fn requester(who: usize, v6: bool) -> (IpAddr, bool) {
        let client = |last: u8| match v6 {
            false => Ipv4Addr::new(192, 0, 2, last).into(),
            true => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(last)).into(),
        };
        let pod = |node, number| -> IpAddr {
            if v6 { world::pod_v6(node, number).into() } else { world::pod(node, number).into() }
        };
        match who {
            0 => (client(10), false),
            1 => (client(16), false),
            2 => (client(17), false),
            3 => (pod(0, 77), true),
            _ => (pod(1, 10), true),
        }
    }

    fn requests(&mut self, request: Request) -> Vec<Sent> {
        self.requests.push(request);
        let (source, is_from_pod) = Self::requester(request.who, request.v6);
        let (protocol, frontend) = self.cluster.frontend(request.service, request.external, request.v6);
        let body = body(protocol, request.what, false);
        let mut packet = Packet::new((source, 40_000 + request.port).into(), frontend, body);
        if request.what >= 240 {
            packet.numbers[0] = 77_777;
        }
        let sent = Sent { is_from_pod, ip: packet.bytes(), packet };
        if protocol != Protocol::UDP || request.what < 192 {
            return vec![sent];
        }
        // A datagram's two fragments in either order, or one of them: the other one may come in another burst.
        self.datagrams += u16::from(request.what & 1 == 0);
        let [first, later] = self.cut(&sent);
        match request.what >> 1 & 3 {
            0 => vec![first],
            1 => vec![later],
            2 => vec![later, first],
            _ => vec![first, later],
        }
    }

    /// A datagram's two fragments.
    fn cut(&self, whole: &Sent) -> [Sent; 2] {
        let both = fragments(&whole.ip, self.datagrams, [16]);
        let fragment = |index: usize| Sent { ip: both[index].clone(), ..whole.clone() };
        [fragment(0), fragment(1)]
    }

    /// From who has received the packet that many packets ago.
    fn replies(&self, to: usize, what: u8) -> Vec<Sent> {
        let Some((is_from_pod, received)) = self.received.iter().rev().nth(to) else { return vec![] };
        let body = match &received.body {
            Body::Icmp(kind @ (8 | 128), code, rest, data) => {
                Body::Icmp(if *kind == 8 { 0 } else { 129 }, *code, *rest, data.clone())
            }
            Body::Icmp(..) => return vec![],
            _ => body(protocol(received), what, *is_from_pod),
        };
        let packet = Packet::new(received.destination, received.source, body);
        vec![Sent { is_from_pod: *is_from_pod, ip: packet.bytes(), packet }]
    }

    /// A pod's own connection to a client outside.
    fn goes_outward(&self, who: usize, what: u8) -> Vec<Sent> {
        let v6 = what & 1 == 1;
        let ((source, _), (outside, _)) = (Self::requester(3 + who % 2, v6), Self::requester(who % 3, v6));
        let packet = match what >> 1 & 3 {
            0 => Packet::ping(source, outside, b"hello"),
            1 => Packet::new((source, 50_000).into(), (outside, 443).into(), Body::Tcp(SYN, vec![])),
            _ => Packet::new((source, 50_000).into(), (outside, 443).into(), Body::Udp(vec![what; 24])),
        };
        vec![Sent { is_from_pod: true, ip: packet.bytes(), packet }]
    }

    /// Sends the packets in one burst, and checks what comes out.
    fn burst(&mut self, sent: &[Sent]) {
        let frames: Vec<_> = sent
            .iter()
            .map(|it| match it.is_from_pod {
                true => {
                    // What comes from nowhere in particular comes from the first node.
                    let node = self.cluster.node_of(it.packet.source.ip()).unwrap_or(0);
                    (UNDERLAY, from_pod(node, &it.ip))
                }
                false => (UPLINK, framed(FROM_CLIENT, &it.ip)),
            })
            .collect();
        let before = known(self.gateway());
        self.gateway().events.clear();
        let outs = self.gateway().send_burst(&frames);
        let mut passed = vec![];
        for (index, out) in outs.iter().enumerate() {
            let Verdict::Transmit(port) = out.verdict else { continue };
            // Fragments that have waited come after the frames; only what these services are asked is fragmented.
            let sent = sent.get(index);
            let (node, ip) = if port == UNDERLAY {
                let seen = tunnelled(&out.bytes);
                (Some((seen.outer.destination.ip(), seen.inner_link.destination)), seen.inner)
            } else {
                (None, unframed(&out.bytes).1)
            };
            let is_fragment = if ip[0] >> 4 == 4 { ip[6] & 0x3f != 0 || ip[7] != 0 } else { ip[6] == 44 };
            let packet = (!is_fragment).then(|| Packet::read(&ip));
            if let Some(packet) = &packet {
                self.received.push((node.is_some(), packet.clone()));
            }
            passed.push(Passed { sent, node, packet, ip });
        }
        self.check(before, &passed);
    }
}
