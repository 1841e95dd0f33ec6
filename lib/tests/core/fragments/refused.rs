//! Fragments that are not forwarded: they overlap, contradict each other, come too late, or have no destination.

use std::net::SocketAddr;

use etherparse::Ipv4Header;
use weirgate::fragment::Limits;
use weirgate::net::WorkerId;
use weirgate::pipeline::{Worker, WorkerConfig};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{Body, FROM_CLIENT, Packet, SYN, TO_CLIENT, framed, from_node, from_pod, unframed};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out, leak_aligned, worker_config};

use super::helpers::{
    all_sent, at_client, at_pod, dropped, fragment, fragments, from_client, from_pods, node_of, query, query_v6,
};

#[test]
fn rfc5722_s4_a_fragment_that_overlaps_another_ends_the_datagram() {
    for request in [query(5000, 4000), query_v6(5000, 4000)] {
        let mut gateway = World::new().gateway();
        let ip = request.bytes();
        let cut = fragments(&ip, 1, [1376, 1376]);
        let frames = [cut[0].clone(), fragment(&ip, 1, 1000, 1600, true), cut[1].clone(), cut[2].clone()];
        let outs = from_client(&mut gateway, &frames);
        assert_eq!(outs[0].verdict, Verdict::Transmit(UNDERLAY));
        assert_eq!(dropped(&outs[1]), DropReason::FragmentOverlap);
        assert_eq!(dropped(&outs[2]), DropReason::FragmentRefused);
        assert_eq!(dropped(&outs[3]), DropReason::FragmentRefused);
    }
}

#[test]
fn rfc5722_s4_waiting_fragments_are_dropped_with_an_overlap() {
    let mut gateway = World::new().gateway();
    let ip = query_v6(5000, 4000).bytes();
    let cut = fragments(&ip, 1, [1376, 1376]);
    let outs = from_client(&mut gateway, &[cut[1].clone(), fragment(&ip, 1, 2000, 2808, true), cut[0].clone()]);
    assert_eq!(outs[0].verdict, Verdict::Held);
    assert_eq!((dropped(&outs[1]), dropped(&outs[2])), (DropReason::FragmentOverlap, DropReason::FragmentRefused));
    gateway.assert_counted(&[
        ("port0-in", 3),
        ("fragments-held", 1),
        ("drop-fragment-overlap", 1),
        ("drop-fragment-refused", 2),
    ]);
}

#[test]
fn rfc8200_s4_5_a_duplicate_fragment_egresses_once() {
    for order in [vec![0, 1, 1, 0, 2], vec![2, 2, 1, 0], vec![1, 0, 0, 1, 2]] {
        let mut gateway = World::new().gateway();
        let cut = fragments(&query_v6(5000, 4000).bytes(), 1, [1376, 1376]);
        let frames: Vec<_> = order.iter().map(|index| cut[*index].clone()).collect();
        let mut outs = from_client(&mut gateway, &frames);
        outs.retain(|out| out.verdict != Verdict::Drop(DropReason::FragmentRepeated));
        assert_eq!(gateway.counters.drops(DropReason::FragmentRepeated), order.len() as u64 - 3);
        assert!(at_pod(&outs).is_some());
    }
}

#[test]
fn rfc1858_s3_a_first_fragment_without_its_whole_transport_header_is_refused() {
    let mut gateway = World::new().gateway();
    let ip = Packet::web(7, SYN, &[0; 100]).bytes();
    let outs = from_client(&mut gateway, &[fragment(&ip, 1, 0, 16, true)]);
    assert_eq!(dropped(&outs[0]), DropReason::FragmentTiny);
    let outs = from_client(&mut gateway, &[fragment(&ip, 2, 0, 24, true), fragment(&ip, 2, 24, 120, false)]);
    assert_eq!(at_pod(&outs).unwrap().0.body, Body::Tcp(SYN, vec![0; 100]));
}

#[test]
fn invalid_fragment_lengths_are_refused() {
    let mut gateway = World::new().gateway();
    let ip = query(5000, 4000).bytes();
    let outs = from_client(&mut gateway, &[fragment(&ip, 1, 0, 800, true), fragment(&ip, 1, 1600, 1700, false)]);
    all_sent(&outs, UNDERLAY);
    let outs = from_client(
        &mut gateway,
        &[fragment(&ip, 1, 2400, 2500, true)].map(|mut fragment| {
            fragment.truncate(20 + 96);
            fragment[3] = 116;
            let sum = Ipv4Header::from_slice(&fragment).unwrap().0.calc_header_checksum();
            fragment[10..12].copy_from_slice(&sum.to_be_bytes());
            fragment
        }),
    );
    assert_eq!(dropped(&outs[0]), DropReason::FragmentLength);
    // 65528 and the data behind it exceed the largest datagram.
    let past = fragment(&[&ip[..20], &vec![0; 65_528 + 8][..]].concat(), 2, 65_528, 65_536, false);
    assert_eq!(dropped(&from_client(&mut gateway, &[past])[0]), DropReason::Malformed);
}

#[test]
fn a_fragment_whose_first_never_comes_is_dropped_in_time() {
    let mut gateway = World::new().gateway();
    let cut = fragments(&query(5000, 4000).bytes(), 1, [1376, 1376]);
    from_client(&mut gateway, &cut[1..]);
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now + Span::from_millis(1900), 2000);
    assert_eq!(gateway.worker.fragmented_datagrams(), 1);
    gateway.worker.age(&snapshot, now + Span::from_millis(2100), 2000);
    assert_eq!(gateway.worker.fragmented_datagrams(), 0);
    gateway.assert_counted(&[("port0-in", 2), ("fragments-held", 2), ("drop-fragment-expired", 2)]);
}

#[test]
fn room_for_fragments_is_bounded_and_the_newest_get_it() {
    let mut gateway = World::new().describe(|description| {
        let config = WorkerConfig {
            fragments: Limits { datagrams: 16, held_bytes: 16_384, ..Limits::default() },
            ..worker_config(description, WorkerId(0), 1024)
        };
        Gateway::with_memory(description, &config, leak_aligned(Worker::memory_bytes(&config)))
    });
    // Later fragments of datagrams whose first never comes.
    for id in 0..1000 {
        let cut = fragments(&query(5000, 4000).bytes(), id, [1376, 1376]);
        from_client(&mut gateway, &cut[1..2]);
    }
    assert!(gateway.worker.fragmented_datagrams() <= 16);
    let lost = gateway.counters.drops(DropReason::FragmentDisplaced);
    assert!(lost >= 1000 - 16, "{lost}");
    let request = query(6000, 4000);
    let mut cut = fragments(&request.bytes(), 5000, [1376, 1376]);
    cut.reverse();
    assert_eq!(at_pod(&from_client(&mut gateway, &cut)).unwrap().0.body, request.body);
}

#[test]
fn a_fragment_from_the_other_side_completes_nothing() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 3000);
    let cut = fragments(&request.bytes(), 7, [1376, 1376]);
    let (inner, _) = at_pod(&from_client(&mut gateway, &cut)).unwrap();
    let answer = Packet { dont_fragment: false, ..inner.answer(0, &[1; 3000]) };
    let cut = fragments(&answer.bytes(), 9, [1376, 1376]);
    let node = node_of(answer.source.ip());
    assert_eq!(gateway.send(UNDERLAY, &from_pod(node, &cut[0])).verdict, Verdict::Transmit(UPLINK));
    // The same datagram's second fragment, but from the clients' side.
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &cut[1]));
    assert_eq!(out.verdict, Verdict::Held);
    assert_eq!(gateway.send(UNDERLAY, &from_pod(node, &cut[1])).verdict, Verdict::Transmit(UPLINK));
}

#[test]
fn fragments_without_a_service_or_a_flow_share_the_firsts_fate() {
    let mut gateway = World::new().gateway();
    let mut other = query(5000, 3000);
    other.destination.set_port(9);
    let outs = from_client(&mut gateway, &fragments(&other.bytes(), 1, [1376, 1376]));
    assert!(outs.iter().all(|out| out.verdict == Verdict::Host), "{outs:?}");
    let mut cut = fragments(&other.bytes(), 2, [1376, 1376]);
    cut.reverse();
    for (out, fragment) in from_client(&mut gateway, &cut).iter().skip(2).zip([&cut[2], &cut[0], &cut[1]]) {
        assert_eq!(out, &Out { verdict: Verdict::Host, bytes: framed(FROM_CLIENT, fragment) }, "as it came");
    }

    let [from, to] = [(world::pod(0, 10), 80), ([10, 77, 200, 2].into(), 5000)].map(SocketAddr::from);
    let stray = Packet { dont_fragment: false, ..Packet::new(from, to, Body::Udp(vec![0; 3000])) };
    let outs = from_pods(&mut gateway, &stray, &fragments(&stray.bytes(), 1, [1376, 1376]));
    let reasons: Vec<_> = outs.iter().map(dropped).collect();
    assert_eq!(reasons, [DropReason::NoFlow, DropReason::FragmentRefused, DropReason::FragmentRefused]);
}

/// The first fragment has gone where its flow went.
#[test]
fn a_backend_that_is_removed_between_fragments_gets_no_more_of_a_request_and_its_reply_is_completed() {
    for request in [query(5000, 3000), query_v6(5000, 3000)] {
        let mut world = World::new();
        let mut gateway = world.gateway();
        let (inner, _) = at_pod(&from_client(&mut gateway, &fragments(&request.bytes(), 7, [1376, 1376]))).unwrap();
        let answer = Packet { dont_fragment: inner.dont_fragment, ..inner.answer(0, &[1; 3000]) };
        let asked = fragments(&request.bytes(), 8, [1376, 1376]);
        let answered = fragments(&answer.bytes(), 9, [1376, 1376]);
        all_sent(&from_client(&mut gateway, &asked[..1]), UNDERLAY);
        let mut outs = from_pods(&mut gateway, &answer, &answered[..1]);
        world.generation += 1;
        world.backends[1].retain(|backend| backend.endpoint.address != inner.destination.ip());
        gateway.apply(&world);
        outs.extend(from_pods(&mut gateway, &answer, &answered[1..]));
        assert_eq!(at_client(&outs).unwrap().0.body, answer.body);
        for out in from_client(&mut gateway, &asked[1..]) {
            assert_eq!(dropped(&out), DropReason::FragmentRefused);
        }
        assert_eq!(gateway.counters.flows_created.get(), 1);
    }
}

#[test]
fn fragments_of_what_is_carried_only_whole_are_dropped_by_name() {
    let mut gateway = World::new().gateway();
    let [from, to] = [(world::pod(0, 10), 0), ([10, 77, 200, 2].into(), 0)].map(SocketAddr::from);
    let error = Packet { dont_fragment: false, ..Packet::new(from, to, Body::Icmp(3, 1, [0; 4], vec![0; 3000])) };
    let outs = from_pods(&mut gateway, &error, &fragments(&error.bytes(), 1, [1376, 1376]));
    assert_eq!(dropped(&outs[0]), DropReason::Fragment);
    // RFC 7348 §4.3: VXLAN itself must not be fragmented.
    let [from, to] = [(world::NODES[0], 40_000), (world::PUBLIC, world::VXLAN_PORT)].map(SocketAddr::from);
    let vxlan = Packet { dont_fragment: false, ..Packet::new(from, to, Body::Udp(vec![8; 3000])) };
    for fragment in fragments(&vxlan.bytes(), 1, [1376, 1376]) {
        let reason = dropped(&gateway.send(UNDERLAY, &framed(from_node(0), &fragment)));
        assert!(matches!(reason, DropReason::Fragment | DropReason::FragmentRefused));
    }
    // Its port at another address is not VXLAN, nor is another port at its address.
    for (address, port) in [(world::NODE_PORT_ADDRESS, world::VXLAN_PORT), (world::PUBLIC, 53)] {
        let datagram = Packet { destination: (address, port).into(), ..vxlan.clone() };
        for fragment in fragments(&datagram.bytes(), 2, [1376, 1376]) {
            let out = gateway.send(UNDERLAY, &framed(from_node(0), &fragment));
            assert_eq!(out.verdict, Verdict::Host, "{address}:{port}");
        }
    }
}

#[test]
fn rfc1812_s4_3_2_7_only_a_first_fragment_gets_an_error() {
    let mut gateway = World::new().gateway();
    let request = Packet { ttl: 1, ..query(5000, 3000) };
    let outs = from_client(&mut gateway, &fragments(&request.bytes(), 1, [1376, 1376]));
    let (link, ip) = unframed(&outs[0].bytes);
    assert_eq!((outs[0].verdict, link), (Verdict::Transmit(UPLINK), TO_CLIENT));
    assert!(matches!(Packet::read(&ip).body, Body::Icmp(11, 0, ..)));
    assert_eq!(dropped(&outs[1]), DropReason::FragmentRefused);

    let request = query(5000, 3000);
    let cut = fragments(&request.bytes(), 2, [1376, 1376]);
    let mut late = cut[1].clone();
    late[8] = 1;
    let sum = Ipv4Header::from_slice(&late).unwrap().0.calc_header_checksum();
    late[10..12].copy_from_slice(&sum.to_be_bytes());
    let outs = from_client(&mut gateway, &[cut[0].clone(), late]);
    assert_eq!(dropped(&outs[1]), DropReason::TtlExpired);
}
