//! What a flow lets through, how long it lives, and what happens to others in a full table.

use std::collections::BTreeSet;

use weirgate::flow::{Entry, FlowTraffic, State};
use weirgate::net::WorkerId;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, Body, FIN, FROM_CLIENT, Packet, RST, SYN, framed, from_pod, tunnelled};
use weirgate_fixture::world::{self, DNS, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, Out};

use super::helpers::{dropped, established, from_client, to_client, to_pod, transmitted};

#[test]
fn only_a_bare_syn_creates_a_tcp_flow() {
    let mut gateway = World::new().gateway();
    for flags in [ACK, SYN | ACK, FIN | ACK, RST] {
        assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, flags, b""))), DropReason::NotSyn);
    }
    gateway.assert_counted(&[("drop-not-syn", 4), ("port0-in", 4)]);
}

#[test]
fn rfc9293_s3_6_1_a_syn_after_the_end_reopens_the_connection_as_a_new_flow() {
    let mut gateway = World::new().gateway();
    let (node, inner) = established(&mut gateway, &Packet::web(7, SYN, b""));
    // Ended by one side only, a connection may still carry the other's data: the SYN takes the old path,
    // and the pod challenges it (RFC 5961 §4).
    to_pod(&mut gateway, &Packet::web(7, FIN | ACK, b""));
    let (_, same) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    assert_eq!((same.source, same.destination), (inner.source, inner.destination));
    to_client(&mut gateway, node, &inner.answer(FIN | ACK, b""));
    to_pod(&mut gateway, &Packet::web(7, ACK, b""));
    let (node, again) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    assert_ne!(again.source, inner.source, "the old port may still be in the pod's TIME-WAIT");
    assert_eq!((gateway.worker.flows().v4.len(), gateway.counters.flows_created.get()), (1, 2));

    // A reset before the client has acknowledged ends nothing: the SYN takes the same path.
    to_client(&mut gateway, node, &again.answer(SYN | ACK, b""));
    to_client(&mut gateway, node, &again.answer(RST, b""));
    let (_, same) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    assert_eq!((same.source, same.destination), (again.source, again.destination));
    assert_eq!((gateway.worker.flows().v4.len(), gateway.counters.flows_created.get()), (1, 2));
}

#[test]
fn a_connection_refused_before_any_reply_is_forgotten_at_once() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let refused = to_client(&mut gateway, node, &inner.answer(RST | ACK, b""));
    assert_eq!(refused.body, Body::Tcp(RST | ACK, vec![]));
    assert_eq!(gateway.worker.flows().v4.len(), 0);
    to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    to_pod(&mut gateway, &Packet::web(7, RST, b""));
    assert_eq!(gateway.worker.flows().v4.len(), 0);
}

#[test]
fn what_a_flows_state_does_not_allow_is_dropped_by_name_and_changes_nothing() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    // Before the pod has answered, only the SYN again or a reset passes.
    for flags in [ACK, SYN | ACK, FIN | ACK] {
        assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, flags, b""))), DropReason::OutOfState);
    }
    // Invalid combinations of flags.
    for flags in [0, FIN, SYN | FIN, SYN | RST, FIN | RST | ACK] {
        assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, flags, b""))), DropReason::TcpFlags);
        let answer = from_pod(node, &inner.answer(flags, b"").bytes());
        assert_eq!(dropped(&gateway.send(UNDERLAY, &answer)), DropReason::TcpFlags);
    }
    assert_eq!(gateway.counters.drops(DropReason::OutOfState), 3);
    assert_eq!(gateway.counters.drops(DropReason::TcpFlags), 10);
    let entry = *gateway.worker.flows().v4.iter().next().expect("the flow");
    assert_eq!((entry.state(), entry.is_assured()), (Some(State::TcpSynSent), false));
    established(&mut gateway, &Packet::web(7, SYN, b""));
    let entry = *gateway.worker.flows().v4.iter().next().expect("the flow");
    assert_eq!((entry.state(), entry.is_assured()), (Some(State::TcpEstablished), true));
}

#[test]
fn a_retransmitted_syn_does_not_extend_its_flow() {
    let mut gateway = World::new().gateway();
    to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    for _ in 0..2 {
        gateway.advance(Span::from_secs(50));
        to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    }
    gateway.advance(Span::from_secs(21));
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now, 2000);
    assert_eq!((gateway.worker.flows().v4.len(), gateway.counters.flows_created.get()), (0, 1));
}

#[test]
fn an_idle_flow_is_forgotten_even_before_ageing_comes_by() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_secs(119));
    to_client(&mut gateway, node, &inner.answer(0, b""));
    gateway.advance(Span::from_secs(119));
    to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_secs(299));
    to_client(&mut gateway, node, &inner.answer(0, b""));
    gateway.advance(Span::from_secs(301));
    let out = gateway.send(UNDERLAY, &from_pod(node, &inner.answer(0, b"").bytes()));
    assert_eq!(dropped(&out), DropReason::NoFlow);
    assert_eq!(gateway.worker.flows().v4.len(), 0);

    to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_secs(121));
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now, 2000);
    assert_eq!((gateway.worker.flows().v4.len(), gateway.counters.flows_expired.get()), (0, 2));
}

#[test]
fn a_flow_follows_its_node_to_another_snapshot_and_stops_when_the_node_is_gone() {
    let mut world = World::new();
    let mut gateway = world.gateway();
    let (node, before) = established(&mut gateway, &Packet::web(7, SYN, b""));
    world.peers.reverse();
    world.generation += 1;
    gateway.apply(&world);
    let (same, after) = to_pod(&mut gateway, &Packet::web(7, ACK, b""));
    assert_eq!((node, before.destination), (same, after.destination));

    let subnet = world.peers.iter().position(|peer| peer.subnet.contains(before.destination.ip())).unwrap();
    world.peers[subnet].next_hop = None;
    world.generation += 1;
    gateway.apply(&world);
    assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, ACK, b""))), DropReason::NeighbourUnresolved);
    world.peers.remove(subnet);
    world.generation += 1;
    gateway.apply(&world);
    assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, ACK, b""))), DropReason::NoRoute);
}

#[test]
fn a_full_flow_table_drops_the_new_flow_and_no_old_one() {
    let mut gateway = World::new().describe(|description| Gateway::with_worker(description, WorkerId(0), 16));
    for port in 1..=16 {
        established(&mut gateway, &Packet::web(port, SYN, b""));
    }
    assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(17, SYN, b""))), DropReason::FlowTableFull);
    for port in 1..=16 {
        to_pod(&mut gateway, &Packet::web(port, ACK, b""));
    }
    assert_eq!(gateway.counters.drops(DropReason::FlowTableFull), 1);
}

#[test]
fn ports_serve_every_backend_once_and_then_are_exhausted() {
    let mut world = World::new();
    world.pool_ports = (2000, 2003);
    world.pool.truncate(1);
    let mut gateway = world.gateway();
    let mut replies = std::collections::HashSet::new();
    let mut exhausted = 0;
    for port in 1..=200 {
        let out = from_client(&mut gateway, &Packet::web(port, SYN, b""));
        if out.verdict == Verdict::Drop(DropReason::PortsExhausted) {
            exhausted += 1;
        } else {
            let inner = Packet::read(&tunnelled(transmitted(&out, UNDERLAY)).inner);
            assert!((2000..=2003).contains(&inner.source.port()));
            assert!(replies.insert((inner.source, inner.destination)), "two flows share {inner:?}");
        }
    }
    // Four ports for each of four pods; 128 tries find the last of four.
    assert_eq!((replies.len(), exhausted), (16, 184));
}

#[test]
fn a_reply_that_reaches_another_worker_is_handed_to_its_owner_unchanged() {
    let world = World { workers: 4, ..World::new() };
    let mut workers: Vec<Gateway> =
        (0..4).map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 256))).collect();
    for owner in 0..4 {
        let (node, inner) = to_pod(&mut workers[owner], &Packet::web(100 + owner as u16, SYN, b""));
        let frame = from_pod(node, &inner.answer(SYN | ACK, b"").bytes());
        for (id, worker) in workers.iter_mut().enumerate() {
            let out = worker.send(UNDERLAY, &frame);
            if id == owner {
                transmitted(&out, UPLINK);
            } else {
                assert_eq!(out, Out { verdict: Verdict::Handover(WorkerId(owner as u8)), bytes: frame.clone() });
            }
        }
    }
    assert_eq!(workers[0].counters.handovers.get(), 3);
}

#[test]
fn a_flow_and_its_service_count_packets_and_bytes_as_they_are_on_the_clients_side() {
    let mut gateway = World::new().gateway();
    let mut bytes = [0, 0];
    let (node, inner) = to_pod(&mut gateway, &Packet::dns(7, b"who?"));
    bytes[0] += Packet::dns(7, b"who?").bytes().len() as u64;
    for len in [0, 17, 400] {
        let answer = inner.answer(0, &vec![1; len]);
        bytes[1] += answer.bytes().len() as u64;
        to_client(&mut gateway, node, &answer);
    }
    let request = Packet::dns(7, &[1; 333]);
    bytes[0] += request.bytes().len() as u64;
    to_pod(&mut gateway, &request);
    let entry = *gateway.worker.flows().v4.iter().next().expect("the flow");
    assert_eq!(entry.traffic, FlowTraffic { packets: [2, 3], bytes });
    let service = &gateway.services[DNS as usize];
    assert_eq!([service.original.packets.get(), service.reply.packets.get()], [2, 3]);
    assert_eq!([service.original.bytes.get(), service.reply.bytes.get()], bytes);
}

#[test]
fn flows_that_begin_in_one_burst_get_the_backends_that_they_get_alone_and_ports_of_their_own() {
    let requests: Vec<Packet> = (1..=100)
        .map(|port| if port % 3 == 0 { Packet::dns(port, b"query") } else { Packet::web(port, SYN, b"") })
        .collect();
    let mut alone = World::new().gateway();
    let expected: Vec<_> = requests.iter().map(|request| to_pod(&mut alone, request).1.destination).collect();
    let mut gateway = World::new().gateway();
    let frames: Vec<_> = requests.iter().map(|request| (UPLINK, framed(FROM_CLIENT, &request.bytes()))).collect();
    let inner: Vec<_> =
        gateway.send_burst(&frames).iter().map(|out| Packet::read(&tunnelled(&out.bytes).inner)).collect();
    assert!(inner.iter().map(|packet| packet.destination).eq(expected));
    let replies: BTreeSet<_> = inner.iter().map(|packet| (packet.source, packet.destination)).collect();
    assert_eq!(replies.len(), requests.len());
}

/// What a pod and a client ask a service counts for the service that has the frontend, not for the number of one that
/// had it.
#[test]
fn regression_a_flow_counts_for_the_service_that_has_its_frontend_now() {
    const NEW: u32 = 9;
    let mut world = World::new();
    let mut gateway = world.gateway();
    let (client, pod) = (Packet::web(7, ACK, b""), world::pod(0, 77));
    let pod = Packet { source: (pod, 7).into(), ..client.clone() };
    let sends = |gateway: &mut Gateway, flags: u8, source: &Packet| {
        let packet = Packet { body: Body::Tcp(flags, vec![]), ..source.clone() };
        let is_pod = source.source == pod.source;
        let (port, frame) = match is_pod {
            true => (UNDERLAY, from_pod(0, &packet.bytes())),
            false => (UPLINK, framed(FROM_CLIENT, &packet.bytes())),
        };
        let out = gateway.send(port, &frame);
        Packet::read(&tunnelled(transmitted(&out, UNDERLAY)).inner)
    };
    for source in [&client, &pod] {
        let inner = sends(&mut gateway, SYN, source);
        let node = usize::from(!matches!(inner.destination.ip(), std::net::IpAddr::V4(it) if it.octets()[2] == 74));
        gateway.send(UNDERLAY, &from_pod(node, &inner.answer(SYN | ACK, b"").bytes()));
        sends(&mut gateway, ACK, source);
    }
    let counted = |gateway: &Gateway| [WEB, NEW].map(|id| gateway.services[id as usize].original.packets.get());
    let services = |gateway: &Gateway| gateway.worker.flows().v4.iter().map(Entry::service).collect::<Vec<_>>();
    assert_eq!((counted(&gateway), services(&gateway)), ([4, 0], vec![Some(WEB); 2]));

    // The same frontend and backends, under another number.
    (world.generation, world.frontends[0].0) = (2, NEW);
    gateway.apply(&world);
    [&client, &pod].iter().for_each(|source| drop(sends(&mut gateway, ACK, source)));
    assert_eq!((counted(&gateway), services(&gateway)), ([4, 2], vec![Some(NEW); 2]));

    // No service.
    world.generation = 3;
    world.frontends.remove(0);
    world.backends.remove(0);
    gateway.apply(&world);
    [&client, &pod].iter().for_each(|source| drop(sends(&mut gateway, ACK, source)));
    assert_eq!((counted(&gateway), services(&gateway)), ([4, 2], vec![None; 2]));
}
