//! Several workers: a packet that reaches another worker than its flow's owner is handed to the owner.

use std::collections::VecDeque;
use std::net::IpAddr;

use weirgate::net::{PortId, WorkerId};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Packet, SYN, framed, from_node, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, DNS, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, Out, leak_aligned, worker_config};

/// All workers of a gateway; each frame comes to one worker's queue.
struct Cluster {
    workers: Vec<Gateway>,
    /// Hand-overs so far.
    handed: u64,
}

impl Cluster {
    fn new(world: &World) -> Self {
        let worker = |id| world.describe(|it| Gateway::with_worker(it, WorkerId(id), 256));
        Self { workers: (0..world.workers).map(worker).collect(), handed: 0 }
    }

    /// The final outcome of a frame.
    fn send(&mut self, worker: usize, port: PortId, frame: &[u8]) -> Out {
        let mut outs = self.send_all(worker, port, frame);
        assert_eq!(outs.len(), 1, "one frame in, one out");
        outs.remove(0)
    }

    fn send_all(&mut self, worker: usize, port: PortId, frame: &[u8]) -> Vec<Out> {
        let mut waiting = VecDeque::from([(worker, port, frame.to_vec(), 0)]);
        let mut outs = vec![];
        while let Some((worker, port, frame, handovers)) = waiting.pop_front() {
            let mut called = self.workers[worker].call(&[(port, frame, handovers)]);
            while self.workers[worker].worker.has_waiting_frames() {
                called.extend(self.workers[worker].call(&[]));
            }
            for (out, port, handovers) in called {
                match out.verdict {
                    Verdict::Handover(next) => {
                        self.handed += 1;
                        assert!(handovers < 16, "handed over for ever");
                        waiting.push_back((usize::from(next.0), port, out.bytes, handovers + 1));
                    }
                    _ => outs.push(out),
                }
            }
        }
        outs
    }

    /// How many hand-overs this takes.
    fn handovers(&mut self, of: impl FnOnce(&mut Self)) -> u64 {
        let before = self.handed;
        of(self);
        self.handed - before
    }
}

fn inside(out: &Out) -> (usize, Packet) {
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
    let seen = tunnelled(&out.bytes);
    (usize::from(seen.link == to_node(1)), Packet::read(&seen.inner))
}

fn outside(out: &Out) -> Packet {
    assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
    Packet::read(&unframed(&out.bytes).1)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// An error about `about` from a router among the clients.
fn error_about(about: &Packet) -> Packet {
    let v4 = about.source.is_ipv4();
    let router = address(if v4 { "198.51.100.9" } else { "2001:db8:ff::9" });
    let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
    let body = Body::Icmp(kind, code, [0, 0, 5, 20], about.bytes());
    Packet::new((router, 0).into(), (about.source.ip(), 0).into(), body)
}

/// RFC 1191 §3 and RFC 8201 §4 need it: receive-side scaling may give the error to any worker.
#[test]
fn regression_an_error_from_outside_finds_its_flow_at_whichever_worker() {
    for request in [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b"")] {
        for owner in 0..4 {
            for at in 0..4 {
                let mut cluster = Cluster::new(&World { workers: 4, ..World::new() });
                let out = cluster.send(owner, UPLINK, &framed(FROM_CLIENT, &request.bytes()));
                let (node, inner) = inside(&out);
                let answer = inner.answer(SYN | ACK, b"answer");
                let seen = outside(&cluster.send(0, UNDERLAY, &from_pod(node, &answer.bytes())));
                let error = error_about(&seen).bytes();
                // By the link that the reply left by, or by the nodes' link.
                let (port, frame) = match at % 2 {
                    0 => (UPLINK, framed(FROM_CLIENT, &error)),
                    _ => (UNDERLAY, framed(from_node(0), &error)),
                };
                let handovers = cluster.handovers(|cluster| {
                    let (back, error) = inside(&cluster.send(at, port, &frame));
                    assert_eq!((back, error.destination.ip()), (node, answer.source.ip()));
                    let Body::Icmp(.., rest, quote) = &error.body else { panic!("{error:?}") };
                    assert_eq!(*rest, [0, 0, 5, 20]);
                    let quoted = Packet { ttl: answer.ttl, ..Packet::read(quote) };
                    assert_eq!(quoted, answer, "the pod's own packet");
                });
                assert_eq!(handovers, (owner + 4 - at) as u64 % 4);
            }
        }
    }
}

#[test]
fn an_error_about_no_flow_goes_round_once_at_a_limited_rate() {
    let mut cluster = Cluster::new(&World { workers: 4, ..World::new() });
    let request = Packet::web(7, SYN, b"");
    let nobodys = error_about(&Packet::new(request.destination, request.source, Body::Tcp(ACK, vec![])));
    let frame = framed(FROM_CLIENT, &nobodys.bytes());
    let handovers = cluster.handovers(|cluster| {
        let out = cluster.send(2, UPLINK, &frame);
        assert_eq!(out, Out { verdict: Verdict::Drop(DropReason::IcmpUnmatched), bytes: frame.clone() });
    });
    assert_eq!(handovers, 3, "to each of the others");
    // An error about a packet that no frontend sent is not handed over at all.
    let unrelated = error_about(&Packet::web(9, ACK, b"").answer(ACK, b""));
    let unrelated = Packet { destination: (world::NODE_PORT_ADDRESS, 0).into(), ..unrelated };
    let Body::Icmp(kind, code, rest, mut quote) = unrelated.body.clone() else { unreachable!("made so") };
    quote[21] ^= 1;
    let unrelated = Packet { body: Body::Icmp(kind, code, rest, quote), ..unrelated };
    let none = cluster.handovers(|cluster| {
        let out = cluster.send(2, UPLINK, &framed(FROM_CLIENT, &unrelated.bytes()));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::IcmpUnmatched));
    });
    assert_eq!(none, 0);
    // A flood of them stays at one worker.
    let flood = cluster.handovers(|cluster| (0..5000).for_each(|_| drop(cluster.send(2, UPLINK, &frame))));
    assert!(flood < 3 * 1100, "{flood} hand-overs for five thousand errors at once");
    cluster.workers.iter_mut().for_each(|worker| worker.advance(Span::from_secs(1)));
    let later = cluster.handovers(|cluster| drop(cluster.send(2, UPLINK, &frame)));
    assert_eq!(later, 3);
}

/// Cuts an IPv4 packet in two.
fn halves(ip: &[u8], id: u16) -> [Vec<u8>; 2] {
    let middle = 20 + (ip.len() - 20) / 2 / 8 * 8;
    let fragment = |data: &[u8], offset: usize, more: bool| {
        let mut head = ip[..20].to_vec();
        head[2..4].copy_from_slice(&((20 + data.len()) as u16).to_be_bytes());
        head[4..6].copy_from_slice(&id.to_be_bytes());
        head[6..8].copy_from_slice(&(((offset / 8) as u16) | (u16::from(more) << 13)).to_be_bytes());
        head[10..12].fill(0);
        let mut sum: u32 = head.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        head[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        [&head, data].concat()
    };
    [fragment(&ip[20..middle], 0, true), fragment(&ip[middle..], middle - 20, false)]
}

/// They were handed from worker to worker, came back to the first one, and were refused there.
#[test]
fn regression_fragments_from_a_client_whose_source_is_preserved_reach_their_owner_at_once() {
    for workers in [2, 3, 8] {
        let world = World { workers, ..World::new() }.preserving(DNS);
        for port in 1..20 {
            for at in 0..usize::from(workers) {
                for reversed in [false, true] {
                    let mut cluster = Cluster::new(&world);
                    let mut fragments = halves(&Packet::dns(port, &[5; 1200]).bytes(), 77);
                    if reversed {
                        fragments.reverse();
                    }
                    let outs: Vec<Out> = fragments
                        .iter()
                        .flat_map(|fragment| cluster.send_all(at, UPLINK, &framed(FROM_CLIENT, fragment)))
                        .filter(|out| out.verdict != Verdict::Held)
                        .collect();
                    assert_eq!(outs.len(), 2);
                    assert!(outs.iter().all(|out| out.verdict == Verdict::Transmit(UNDERLAY)), "{outs:?}");
                    assert!(cluster.handed <= 2, "{} hand-overs for two fragments", cluster.handed);
                }
            }
        }
    }
}

/// The replies went to the pod's worker, which did not know the client, and were masqueraded.
#[test]
fn regression_replies_of_a_removed_backend_reach_a_client_whose_source_is_preserved() {
    for masquerade in [vec![], vec![address("203.0.113.200"), address("2001:db8:113::200")]] {
        let world = World { workers: 4, masquerade, ..World::new() }.preserving(WEB).preserving(DNS);
        let mut later = world.clone();
        later.generation += 1;
        // One service has lost all backends, the other has two left.
        later.backends[0].clear();
        later.backends[1].truncate(4);
        for port in 1..20 {
            for request in [Packet::web(port, SYN, b""), Packet::dns(port, b"query"), Packet::web_v6(port, SYN, b"")] {
                let mut cluster = Cluster::new(&world);
                let (node, inner) = inside(&cluster.send(0, UPLINK, &framed(FROM_CLIENT, &request.bytes())));
                cluster.workers.iter_mut().for_each(|worker| worker.apply(&later));
                let answer = inner.answer(SYN | ACK, b"answer");
                for at in 0..4 {
                    let seen = outside(&cluster.send(at, UNDERLAY, &from_pod(node, &answer.bytes())));
                    assert_eq!((seen.source, seen.destination), (request.destination, request.source));
                }
                assert_eq!(cluster.workers.iter().map(|it| it.counters.flows_created.get()).sum::<u64>(), 1);
            }
        }
    }
}

#[test]
fn a_backend_opens_its_own_flow_though_services_preserve_sources() {
    let masquerade = vec![address("203.0.113.200")];
    let world = World { workers: 4, masquerade, ..World::new() }.preserving(WEB);
    let mut cluster = Cluster::new(&world);
    let requests = (1..40).flat_map(|port| {
        let between = |body| Packet::new((world::pod(0, 10), port).into(), (world::CLIENT, 443).into(), body);
        [between(Body::Udp(b"query".to_vec())), between(Body::Tcp(SYN, vec![]))]
    });
    for request in requests {
        let frame = from_pod(0, &request.bytes());
        let first: Vec<Packet> = (0..4).map(|at| outside(&cluster.send(at, UNDERLAY, &frame))).collect();
        assert!(first.iter().all(|it| it.source == first[0].source), "one flow, whichever worker it came to");
        let later = cluster.handovers(|cluster| drop(cluster.send(1, UNDERLAY, &frame)));
        assert!(later <= 1, "{later} hand-overs for a flow that exists");
        let (_, back) =
            inside(&cluster.send(2, UPLINK, &framed(FROM_CLIENT, &first[0].answer(SYN | ACK, b"").bytes())));
        assert_eq!(back.destination, request.source);
    }
}

/// What cannot be a reply to a client is not taken to the worker that the client names.
#[test]
fn a_pods_first_packet_is_handed_to_the_pods_worker_and_no_further() {
    let masquerade = vec![address("203.0.113.200")];
    let world = World { workers: 4, masquerade, ..World::new() }.preserving(WEB);
    for port in 1..20 {
        let between = |body| Packet::new((world::pod(0, 10), port).into(), (world::CLIENT, 443).into(), body);
        let ping = between(Body::Icmp(8, 0, [0, port as u8, 0, 1], vec![]));
        for request in [ping, between(Body::Tcp(SYN, vec![]))] {
            let mut cluster = Cluster::new(&world);
            let handovers = cluster.handovers(|cluster| {
                outside(&cluster.send(1, UNDERLAY, &from_pod(0, &request.bytes())));
            });
            assert!(handovers <= 1, "{handovers} hand-overs for {request:?}");
        }
    }
}

/// RFC 6864 §5.3.1: receivers may still hold fragments that the earlier process numbered.
#[test]
fn rfc6864_s5_3_1_a_later_process_does_not_number_fragments_as_the_one_before() {
    let world = World::new();
    let numbers: Vec<u16> = (0..8)
        .map(|secret| {
            let mut gateway = world.describe(|it| {
                let mut config = worker_config(it, WorkerId(0), 64);
                config.secret[1] ^= secret << 40;
                let memory = leak_aligned(weirgate::pipeline::Worker::memory_bytes(&config));
                Gateway::with_memory(it, &config, memory)
            });
            let [first, _] = halves(&Packet::dns(7, &[5; 1200]).bytes(), 77);
            let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &first));
            assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
            let inner = tunnelled(&out.bytes).inner;
            u16::from_be_bytes([inner[4], inner[5]])
        })
        .collect();
    let distinct: std::collections::BTreeSet<u16> = numbers.iter().copied().collect();
    assert!(distinct.len() >= 7, "{numbers:?}");
}
