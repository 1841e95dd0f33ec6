//! Flows whose backend, service or translated address a later snapshot has removed.

mod reset;

use std::net::IpAddr;

use weirgate::flow::{Entry, State};
use weirgate::net::WorkerId;
use weirgate::pipeline::{InitError, Worker, WorkerConfig};
use weirgate::time::{Instant, Span};
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FIN, FROM_CLIENT, Packet, RST, SYN, chunk, framed, from_pod, init_chunk, to_node, tunnelled,
};
use weirgate_fixture::world::{self, DNS, SIGNAL, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, Out, leak_aligned, worker_config};

/// The requester: a client, or a pod.
#[derive(Clone, Copy, Debug)]
struct Requester {
    is_pod: bool,
    is_v6: bool,
}

impl Requester {
    /// To the service at this node port.
    fn asks(self, port: u16, body: Body) -> Packet {
        let (client, pod, frontend): (IpAddr, IpAddr, IpAddr) = if self.is_v6 {
            (world::CLIENT_V6.into(), world::pod_v6(0, 77).into(), world::NODE_PORT_ADDRESS_V6.into())
        } else {
            (world::CLIENT.into(), world::pod(0, 77).into(), world::NODE_PORT_ADDRESS.into())
        };
        Packet::new((if self.is_pod { pod } else { client }, 40_000).into(), (frontend, port).into(), body)
    }

    fn query(self) -> Packet {
        self.asks(30_053, Body::Udp(b"query".to_vec()))
    }

    fn init(self, tag: u8) -> Packet {
        self.asks(30_038, Body::Sctp([0; 4], init_chunk(1, [0xc1, 0, 0, tag], b"")))
    }

    fn segment(self, flags: u8) -> Packet {
        self.asks(30_080, Body::Tcp(flags, vec![]))
    }

    fn sends(self, gateway: &mut Gateway, packet: &Packet) -> Out {
        match self.is_pod {
            true => gateway.send(UNDERLAY, &from_pod(0, &packet.bytes())),
            false => gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes())),
        }
    }

    /// The packet as its backend sees it.
    fn reaches(self, gateway: &mut Gateway, packet: &Packet) -> Packet {
        let out = self.sends(gateway, packet);
        assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY), "{self:?} {packet:?}");
        let seen = tunnelled(&out.bytes);
        let inner = Packet::read(&seen.inner);
        assert_eq!(seen.link, to_node(node_of(inner.destination.ip())));
        inner
    }

    /// A backend's reply reaches the requester.
    fn hears(self, gateway: &mut Gateway, answer: &Packet) {
        let out = gateway.send(UNDERLAY, &from_pod(node_of(answer.source.ip()), &answer.bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(if self.is_pod { UNDERLAY } else { UPLINK }), "{self:?}");
    }
}

fn node_of(pod: IpAddr) -> usize {
    let is_first = match pod {
        IpAddr::V4(pod) => pod.octets()[2] == 74,
        IpAddr::V6(pod) => pod.segments()[3] == 0x74,
    };
    usize::from(!is_first)
}

/// Worlds with SNAT and with preserved sources, and the requesters in each.
fn everywhere(mut check: impl FnMut(&World, Requester)) {
    let world = World::new().with_sctp();
    for world in [world.clone(), world.preserving(WEB).preserving(DNS).preserving(SIGNAL)] {
        for (is_pod, is_v6) in [(false, false), (false, true), (true, false), (true, true)] {
            check(&world, Requester { is_pod, is_v6 });
        }
    }
}

/// The same world later, without this backend.
fn without(world: &World, backend: &Packet) -> World {
    let mut world = World { generation: world.generation + 1, ..world.clone() };
    for backends in &mut world.backends {
        backends.retain(|it| it.endpoint.address != backend.destination.ip());
    }
    world
}

/// The same world later, with this backend draining.
fn draining(world: &World, backend: &Packet) -> World {
    let mut world = World { generation: world.generation + 1, ..world.clone() };
    for it in world.backends.iter_mut().flatten() {
        it.weight = u32::from(it.endpoint.address != backend.destination.ip());
    }
    world
}

fn live(gateway: &Gateway) -> u32 {
    gateway.worker.flows().len()
}

/// The milliseconds that remain of the only flow's idle timeout.
fn remaining(gateway: &Gateway) -> u64 {
    let snapshot = gateway.snapshot();
    let v4 = gateway.worker.flows().v4.iter().map(|it| it.idle_left(snapshot.idle_ticks(), gateway.now).0);
    let v6 = gateway.worker.flows().v6.iter().map(|it| it.idle_left(snapshot.idle_ticks(), gateway.now).0);
    let all: Vec<u64> = v4.chain(v6).collect();
    assert_eq!(all.len(), 1);
    all[0] / 1_000_000
}

fn state(gateway: &Gateway) -> Option<State> {
    let v4 = gateway.worker.flows().v4.iter().next().and_then(Entry::state);
    v4.or_else(|| gateway.worker.flows().v6.iter().next().and_then(Entry::state))
}

#[test]
fn datagrams_for_a_removed_backend_go_to_another_one() {
    everywhere(|world, requester| {
        // A flow without a reply, one with a reply, and one with traffic in both directions.
        for spoken in 0..3 {
            for answers_first in [false, true] {
                let mut gateway = world.gateway();
                let query = requester.query();
                let first = requester.reaches(&mut gateway, &query);
                for turn in 0..spoken {
                    requester.hears(&mut gateway, &first.answer(0, b"answer"));
                    if turn == 1 {
                        assert_eq!(requester.reaches(&mut gateway, &query), first);
                    }
                }
                gateway.apply(&without(world, &first));
                gateway.advance(Span::from_secs(30));
                let before = remaining(&gateway);
                if answers_first {
                    // A reply in flight is forwarded, and does not extend the flow.
                    for _ in 0..2 {
                        requester.hears(&mut gateway, &first.answer(0, b"late"));
                        assert_eq!(remaining(&gateway), before);
                    }
                }
                let second = requester.reaches(&mut gateway, &query);
                assert_ne!(second.destination, first.destination);
                requester.hears(&mut gateway, &second.answer(0, b"answer"));
                for _ in 0..3 {
                    gateway.advance(Span::from_secs(60));
                    assert_eq!(requester.reaches(&mut gateway, &query), second);
                }
                assert_eq!((live(&gateway), gateway.counters.flows_reopened.get()), (1, 1));
                let late = from_pod(node_of(first.destination.ip()), &first.answer(0, b"late").bytes());
                assert_ne!(gateway.send(UNDERLAY, &late).verdict, Verdict::Transmit(UPLINK));
            }
        }
    });
}

#[test]
fn datagrams_get_an_error_once_no_backend_or_no_service_remains() {
    everywhere(|world, requester| {
        let mut gateway = world.gateway();
        let query = requester.query();
        let first = requester.reaches(&mut gateway, &query);
        let mut later = World { generation: 2, ..world.clone() };
        later.backends[1].clear();
        gateway.apply(&later);
        for sent in 1..=3 {
            gateway.advance(Span::from_secs(30));
            let out = requester.sends(&mut gateway, &query);
            assert_eq!(out.verdict, Verdict::Transmit(if requester.is_pod { UNDERLAY } else { UPLINK }));
            assert_eq!(gateway.counters.errors_sent.get(), sent);
        }
        later.generation = 3;
        later.frontends.remove(1);
        later.backends.remove(1);
        gateway.apply(&later);
        assert_eq!(requester.sends(&mut gateway, &query).verdict, Verdict::Host);
        // Nothing has extended the flow.
        gateway.advance(Span::from_secs(31));
        gateway.worker.age(&gateway.snapshot(), gateway.now, 4096);
        assert_eq!(live(&gateway), 0);
        // The service is added again.
        gateway.apply(&World { generation: 4, ..world.clone() });
        assert_eq!(requester.reaches(&mut gateway, &query).destination, first.destination);
    });
}

#[test]
fn a_backend_that_drains_keeps_its_flows() {
    everywhere(|world, requester| {
        for request in [requester.query(), requester.segment(SYN), requester.init(1)] {
            let mut gateway = world.gateway();
            let first = requester.reaches(&mut gateway, &request);
            gateway.apply(&draining(world, &first));
            assert_eq!(requester.reaches(&mut gateway, &request), first);
            requester.hears(&mut gateway, &first.answer(SYN | ACK, b"answer"));
            assert_eq!(requester.reaches(&mut gateway, &request), first);
            assert_eq!((live(&gateway), gateway.counters.flows_created.get()), (1, 1));
        }
    });
}

#[test]
fn an_init_opens_an_association_with_a_backend_that_exists() {
    const POD: [u8; 4] = [0xac, 0, 0, 1];
    everywhere(|world, requester| {
        for is_open in [false, true] {
            let mut gateway = world.gateway();
            let init = requester.init(1);
            let first = requester.reaches(&mut gateway, &init);
            requester.hears(&mut gateway, &first.answer(0, b"cookie"));
            let says = |kind: u8| requester.asks(30_038, Body::Sctp(POD, chunk(kind, 0, b"data")));
            let answers = |kind: u8| Packet {
                body: Body::Sctp([0xc1, 0, 0, 1], chunk(kind, 0, b"data")),
                ..first.answer(0, b"")
            };
            if is_open {
                requester.reaches(&mut gateway, &says(10));
                requester.hears(&mut gateway, &answers(11));
                assert_eq!(state(&gateway), Some(State::SctpEstablished));
                gateway.advance(Span::from_secs(20));
                // An INIT without an answer does not extend the flow.
                let before = remaining(&gateway);
                assert_eq!(requester.reaches(&mut gateway, &requester.init(2)).destination, first.destination);
                assert_eq!(remaining(&gateway), before);
            }
            gateway.apply(&without(world, &first));
            let before = remaining(&gateway);
            let heartbeat = requester.sends(&mut gateway, &says(4));
            assert_eq!(heartbeat.verdict, Verdict::Drop(DropReason::NotSyn));
            requester.hears(&mut gateway, &answers(4));
            assert_eq!(remaining(&gateway), before);
            let second = requester.reaches(&mut gateway, &requester.init(3));
            assert_ne!(second.destination, first.destination);
            requester.hears(&mut gateway, &second.answer(0, b"cookie"));
            assert_eq!(live(&gateway), 1);
        }
    });
}

#[test]
fn an_open_connection_continues_with_a_removed_backend_and_a_repeated_syn_does_not() {
    everywhere(|world, requester| {
        for no_service in [false, true] {
            let mut gateway = world.gateway();
            let syn = requester.segment(SYN);
            let first = requester.reaches(&mut gateway, &syn);
            requester.hears(&mut gateway, &first.answer(SYN | ACK, b""));
            requester.reaches(&mut gateway, &requester.segment(ACK));
            let mut later = without(world, &first);
            if no_service {
                later.frontends.remove(0);
                later.backends.remove(0);
            }
            gateway.apply(&later);
            for _ in 0..3 {
                gateway.advance(Span::from_secs(7200));
                assert_eq!(requester.reaches(&mut gateway, &requester.segment(ACK)).destination, first.destination);
                gateway.advance(Span::from_secs(7200));
                requester.hears(&mut gateway, &first.answer(ACK, b"data"));
                assert_eq!(state(&gateway), Some(State::TcpEstablished));
                assert_eq!(remaining(&gateway) / 1000, 86_399);
            }
            // The first one follows its connection.
            assert_eq!(requester.reaches(&mut gateway, &syn).destination, first.destination);
            assert_eq!((state(&gateway), remaining(&gateway) / 1000), (Some(State::TcpReset), 239));
            gateway.advance(Span::from_secs(1));
            let out = requester.sends(&mut gateway, &syn);
            if no_service {
                assert_eq!(out.verdict, Verdict::Host);
                assert_eq!(requester.reaches(&mut gateway, &requester.segment(ACK)).destination, first.destination);
                continue;
            }
            let second = Packet::read(&tunnelled(&out.bytes).inner);
            assert_ne!(second.destination, first.destination);
            requester.hears(&mut gateway, &second.answer(SYN | ACK, b""));
            assert_eq!(requester.reaches(&mut gateway, &requester.segment(ACK)).destination, second.destination);
            assert_eq!((live(&gateway), gateway.counters.flows_reopened.get()), (1, 1));
        }
    });
}

#[test]
fn rfc5961_s4_a_blind_syn_moves_no_connection_of_a_removed_backend_that_still_answers() {
    everywhere(|world, requester| {
        // Open, or half-closed.
        for (from_client, from_backend) in [(ACK, ACK), (FIN | ACK, ACK), (ACK, FIN | ACK)] {
            let mut gateway = world.gateway();
            let first = requester.reaches(&mut gateway, &requester.segment(SYN));
            requester.hears(&mut gateway, &first.answer(SYN | ACK, b""));
            requester.reaches(&mut gateway, &requester.segment(ACK));
            requester.reaches(&mut gateway, &requester.segment(from_client));
            requester.hears(&mut gateway, &first.answer(from_backend, b""));
            gateway.apply(&without(world, &first));
            let reset = requester.segment(RST);
            for number in [77_777, 77_777, 88_888] {
                let syn = Packet { numbers: [number, 0], ..requester.segment(SYN) };
                let reaches = |gateway: &mut Gateway, packet: &Packet| {
                    assert_eq!(requester.reaches(gateway, packet).destination, first.destination);
                    state(gateway)
                };
                // Whatever an off-path sender has sent before.
                assert_eq!(reaches(&mut gateway, &reset), Some(State::TcpReset));
                gateway.advance(Span::from_secs(100));
                assert_eq!(reaches(&mut gateway, &syn), Some(State::TcpReset));
                // There is at most one challenge in half a second.
                gateway.advance(Span::from_millis(498));
                assert_eq!(reaches(&mut gateway, &syn), Some(State::TcpReset));
                let other = Packet { numbers: [99_999, 0], ..syn.clone() };
                gateway.advance(Span::from_secs(1));
                assert_eq!(reaches(&mut gateway, &other), Some(State::TcpReset));
                requester.hears(&mut gateway, &first.answer(ACK, b""));
                assert_eq!(state(&gateway), Some(State::TcpResetReply));
                gateway.advance(Span::from_secs(1));
                assert_eq!(reaches(&mut gateway, &other), Some(State::TcpReset));
                requester.hears(&mut gateway, &first.answer(ACK, b""));
                assert_eq!(reaches(&mut gateway, &requester.segment(ACK)), Some(State::TcpEstablished));
            }
            assert_eq!(gateway.counters.flows_created.get(), 1);
        }
    });
}

#[test]
fn a_syn_for_a_connection_that_was_never_answered_or_has_ended_goes_to_a_backend_that_exists() {
    everywhere(|world, requester| {
        for has_ended in [false, true] {
            let mut gateway = world.gateway();
            let syn = requester.segment(SYN);
            let first = requester.reaches(&mut gateway, &syn);
            if has_ended {
                requester.hears(&mut gateway, &first.answer(SYN | ACK, b""));
                requester.reaches(&mut gateway, &requester.segment(ACK));
                requester.reaches(&mut gateway, &Packet { numbers: [1001, 1001], ..requester.segment(FIN | ACK) });
                requester.hears(&mut gateway, &Packet { numbers: [1001, 1002], ..first.answer(FIN | ACK, b"") });
                assert_eq!(state(&gateway), Some(State::TcpLastAck));
            }
            gateway.apply(&without(world, &first));
            let second = requester.reaches(&mut gateway, &syn);
            assert_ne!(second.destination, first.destination);
            assert_eq!(live(&gateway), 1);
        }
    });
}

#[test]
fn a_retransmitted_syn_after_a_reset_goes_to_a_backend_that_exists() {
    everywhere(|world, requester| {
        let mut gateway = world.gateway();
        let syn = requester.segment(SYN);
        let first = requester.reaches(&mut gateway, &syn);
        requester.hears(&mut gateway, &first.answer(SYN | ACK, b""));
        requester.reaches(&mut gateway, &requester.segment(ACK));
        requester.hears(&mut gateway, &first.answer(RST, b""));
        gateway.apply(&without(world, &first));
        assert_eq!(requester.reaches(&mut gateway, &syn).destination, first.destination);
        gateway.advance(Span::from_millis(501));
        assert_ne!(requester.reaches(&mut gateway, &syn).destination, first.destination);
        assert_eq!(live(&gateway), 1);
    });
}

/// The same world later, with other subnets and addresses of the gateway's own.
fn moved(world: &World) -> World {
    let mut world = World { generation: world.generation + 1, ..world.clone() };
    world.subnets = vec!["10.77.201.0/24".parse().unwrap(), "fd77:0:0:201::/64".parse().unwrap()];
    world.pool = ["10.77.201.2", "fd77:0:0:201::2"].map(|text| text.parse().unwrap()).into();
    world
}

#[test]
fn no_flow_continues_from_a_removed_snat_pool_address() {
    let world = World::new().with_sctp();
    let later = moved(&world);
    for (is_pod, is_v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let requester = Requester { is_pod, is_v6 };
        for request in [requester.query(), requester.init(1), requester.segment(SYN)] {
            let mut gateway = world.gateway();
            let first = requester.reaches(&mut gateway, &request);
            gateway.apply(&later);
            let second = requester.reaches(&mut gateway, &request);
            assert!(later.pool.contains(&second.source.ip()), "{second:?}");
            assert_eq!(second.destination, first.destination);
            requester.hears(&mut gateway, &second.answer(SYN | ACK, b"cookie"));
            assert_eq!(live(&gateway), 1);
            // A late packet to the old address matches no flow.
            let late = from_pod(node_of(first.destination.ip()), &first.answer(SYN | ACK, b"late").bytes());
            assert_eq!(gateway.send(UNDERLAY, &late).verdict, Verdict::Drop(DropReason::NoFlow));
        }
        // An open connection cannot change its address.
        for answers_first in [false, true] {
            let mut gateway = world.gateway();
            let first = requester.reaches(&mut gateway, &requester.segment(SYN));
            requester.hears(&mut gateway, &first.answer(SYN | ACK, b""));
            requester.reaches(&mut gateway, &requester.segment(ACK));
            gateway.apply(&later);
            if answers_first {
                let late = from_pod(node_of(first.destination.ip()), &first.answer(ACK, b"data").bytes());
                assert_eq!(gateway.send(UNDERLAY, &late).verdict, Verdict::Drop(DropReason::NoFlow));
            }
            let out = requester.sends(&mut gateway, &requester.segment(ACK));
            assert_eq!(out.verdict, Verdict::Drop(DropReason::NotSyn));
            assert_eq!(live(&gateway), 0);
        }
    }
}

#[test]
fn no_pods_flow_continues_from_a_removed_masquerade_address() {
    let out = |last: u8| vec![IpAddr::from([198, 51, 100, last]), format!("2001:db8:7::{last}").parse().unwrap()];
    let world = World { masquerade: out(7), ..World::new() };
    for is_v6 in [false, true] {
        let (pod, outside): (IpAddr, IpAddr) = match is_v6 {
            true => (world::pod_v6(0, 10).into(), world::CLIENT_V6.into()),
            false => (world::pod(0, 10).into(), world::CLIENT.into()),
        };
        let between = |body| Packet::new((pod, 40_000).into(), (outside, 443).into(), body);
        let bodies = [Body::Tcp(SYN, vec![]), Body::Udp(vec![1]), Packet::ping(pod, outside, b"hello").body];
        for body in bodies {
            let request =
                if matches!(body, Body::Icmp(..)) { Packet::ping(pod, outside, b"hello") } else { between(body) };
            let mut gateway = world.gateway();
            let ask = |gateway: &mut Gateway, packet: &Packet| {
                let out = gateway.send(UNDERLAY, &from_pod(0, &packet.bytes()));
                assert_eq!(out.verdict, Verdict::Transmit(UPLINK), "{packet:?}");
                Packet::read(&weirgate_fixture::frames::unframed(&out.bytes).1)
            };
            let first = ask(&mut gateway, &request);
            gateway.apply(&World { generation: 2, masquerade: out(8), ..world.clone() });
            let answer = gateway.send(UPLINK, &framed(FROM_CLIENT, &first.answer(SYN | ACK, b"late").bytes()));
            assert_ne!(answer.verdict, Verdict::Transmit(UNDERLAY));
            let second = ask(&mut gateway, &request);
            assert!(out(8).contains(&second.source.ip()), "{second:?}");
            let answer = gateway.send(UPLINK, &framed(FROM_CLIENT, &second.answer(SYN | ACK, b"").bytes()));
            assert_eq!(answer.verdict, Verdict::Transmit(UNDERLAY));
            // The same address again keeps its flow.
            gateway.apply(&World { generation: 3, masquerade: out(8), ..world.clone() });
            assert_eq!(ask(&mut gateway, &request).source.ip(), second.source.ip());
            assert_eq!(live(&gateway), 1);
        }
    }
}

#[test]
fn adopted_flows_are_checked_whatever_the_snapshots_generation() {
    everywhere(|world, requester| {
        let start = |world: &World| {
            let config = world.describe(|it| worker_config(it, WorkerId(0), 64));
            let memory = leak_aligned(Worker::memory_bytes(&config));
            let (base, len) = (memory.as_mut_ptr(), memory.len());
            (config, world.describe(|it| Gateway::with_memory(it, &config, memory)), base, len)
        };
        let (config, mut gateway, base, len) = start(world);
        let first = requester.reaches(&mut gateway, &requester.query());
        // SAFETY: leaked above; nothing uses the first gateway after this.
        let memory = unsafe { std::slice::from_raw_parts_mut(base, len) };
        let later = World { generation: 1, ..without(world, &first) };
        let (mut gateway, adopted) = later.describe(|it| Gateway::adopt(it, &config, memory));
        assert_eq!(adopted.flows, 1);
        // A late reply does not count as the check.
        requester.hears(&mut gateway, &first.answer(0, b"late"));
        let second = requester.reaches(&mut gateway, &requester.query());
        assert_ne!(second.destination, first.destination);

        // The same for addresses.
        let (config, mut gateway, base, len) = start(world);
        let first = requester.reaches(&mut gateway, &requester.query());
        // SAFETY: as above.
        let memory = unsafe { std::slice::from_raw_parts_mut(base, len) };
        let (_, adopted) = moved(world).describe(|it| Gateway::adopt(it, &config, memory));
        let is_preserved = !world.pool.contains(&first.source.ip());
        assert_eq!((adopted.flows, adopted.strayed), if is_preserved { (1, 0) } else { (0, 1) });
    });
}

#[test]
fn every_worker_checks_its_own_flows() {
    for world in [World::new(), World::new().preserving(DNS)] {
        let world = World { workers: 2, ..world };
        let mut moved = 0;
        for id in [0, 1] {
            let mut gateway = world.describe(|it| Gateway::with_worker(it, WorkerId(id), 64));
            for port in 1..=8 {
                let query = Packet::dns(port, b"query");
                let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &query.bytes()));
                if let Verdict::Handover(_) = out.verdict {
                    continue;
                }
                let first = Packet::read(&tunnelled(&out.bytes).inner);
                gateway.apply(&without(&world, &first));
                let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &query.bytes()));
                assert_ne!(Packet::read(&tunnelled(&out.bytes).inner).destination, first.destination);
                gateway.apply(&world);
                moved += 1;
            }
        }
        assert!(moved >= 8, "{moved}");
    }
}

#[test]
fn a_packet_that_is_not_forwarded_creates_no_flow() {
    let world = World { masquerade: vec![[198, 51, 100, 7].into()], ..World::new().with_sctp() };
    let outward = |body| Packet::new((world::pod(0, 10), 40_000).into(), (world::CLIENT, 443).into(), body);
    let ping = Packet::ping(world::pod(0, 10).into(), world::CLIENT.into(), b"hello");
    let by_pods = [outward(Body::Tcp(SYN, vec![])), outward(Body::Udp(vec![1])), ping];
    for (is_pod, is_v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let requester = Requester { is_pod, is_v6 };
        let mut requests = vec![requester.query(), requester.segment(SYN), requester.init(1)];
        if is_pod && !is_v6 {
            requests.extend(by_pods.clone());
        }
        for request in requests {
            let mut gateway = world.gateway();
            let back = Verdict::Transmit(if is_pod { UNDERLAY } else { UPLINK });
            let out = requester.sends(&mut gateway, &Packet { ttl: 1, ..request.clone() });
            assert_eq!((out.verdict, gateway.counters.errors_sent.get()), (back, 1), "{request:?}");
            assert_eq!((live(&gateway), gateway.counters.flows_created.get()), (0, 0), "{request:?}");
            assert!(matches!(requester.sends(&mut gateway, &request).verdict, Verdict::Transmit(_)));
            assert_eq!(live(&gateway), 1);
        }
    }
}

#[test]
fn a_packet_whose_next_hop_is_unresolved_creates_no_flow() {
    let mut world = World::new().with_sctp();
    world.peers.iter_mut().for_each(|peer| peer.next_hop = None);
    let mut gateway = world.gateway();
    for requester in [false, true].map(|is_v6| Requester { is_pod: false, is_v6 }) {
        for request in [requester.query(), requester.segment(SYN), requester.init(1)] {
            let out = requester.sends(&mut gateway, &request);
            assert_eq!(out.verdict, Verdict::Drop(DropReason::NeighbourUnresolved));
            assert_eq!(live(&gateway), 0);
        }
    }
}

#[test]
fn a_clock_that_goes_back_a_tick_makes_no_flow_idle() {
    everywhere(|world, requester| {
        let mut gateway = world.gateway();
        let first = requester.reaches(&mut gateway, &requester.query());
        let full = remaining(&gateway);
        gateway.now = Instant(gateway.now.0 - (1 << 20));
        assert_eq!(remaining(&gateway), full);
        gateway.worker.age(&gateway.snapshot(), gateway.now, 4096);
        assert_eq!(live(&gateway), 1);
        requester.hears(&mut gateway, &first.answer(0, b"answer"));
        assert_eq!((live(&gateway), gateway.counters.flows_ended()), (1, 0));
    });
}

#[test]
fn a_worker_has_a_number_below_that_of_workers() {
    let world = World { workers: 2, ..World::new() };
    world.describe(|description| {
        for (id, workers, is_one) in
            [(0, 1, true), (1, 2, true), (1, 1, false), (2, 2, false), (255, 2, false), (0, 0, false)]
        {
            let config = WorkerConfig { workers, ..worker_config(description, WorkerId(id), 16) };
            let memory = leak_aligned(Worker::memory_bytes(&config));
            let (counters, services) = (Box::leak(Box::default()), &[]);
            let made = Worker::new(&config, memory, counters, services);
            assert_eq!(made.err(), (!is_one).then_some(InitError::Id), "{id} of {workers}");
        }
    });
}
