//! Fragmented datagrams cross in any order, and with few spare buffers.

use weirgate::net::WorkerId;
use weirgate::snapshot::{Admission, PastLimit};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::Gateway;
use weirgate_fixture::frames::{ACK, FROM_CLIENT, Packet, SYN, framed, from_node, from_pod, tunnelled, unframed};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

use super::helpers::{
    all_sent, at_client, at_pod, dropped, fragment, fragments, from_client, from_pods, is_pool, node_of, query,
    query_v6, reassembled,
};

#[test]
fn rfc4787_req14_a_fragmented_datagram_crosses_and_its_reply_comes_back_in_any_order() {
    for request in [query(5000, 4000), query_v6(5000, 4000)] {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut gateway = World::new().gateway();
            let cut = fragments(&request.bytes(), 77, [1376, 1376]);
            let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
            let (inner, _) = at_pod(&outs).expect("all of it");
            assert!(is_pool(inner.source.ip()));
            let expected =
                Packet { source: inner.source, destination: inner.destination, ..request.clone().after_a_hop() };
            assert_eq!(inner, expected);

            let answer = Packet { dont_fragment: inner.dont_fragment, ..inner.answer(0, &[7; 4001]) };
            let cut = fragments(&answer.bytes(), 78, [1376, 1376]);
            let outs = from_pods(&mut gateway, &answer, &order.map(|index| cut[index].clone()));
            let (back, _) = at_client(&outs).expect("all of it");
            assert_eq!(
                back,
                Packet { source: request.destination, destination: request.source, ..answer.after_a_hop() }
            );
            let early = 2 * order.iter().position(|index| *index == 0).unwrap() as u64;
            let mut counted = vec![
                ("flows-created", 1),
                ("port0-in", 3),
                ("port1-out", 3),
                ("port1-in", 3),
                ("port0-out", 3),
                ("service2-flows", 1),
                ("service2-original", 3),
                ("service2-reply", 3),
                ("fragments-held", early),
            ];
            counted.retain(|(_, count)| *count != 0);
            gateway.assert_counted(&counted);
            assert_eq!(gateway.worker.fragmented_datagrams(), 0);
        }
    }
}

#[test]
fn fragments_of_a_datagram_whose_flow_finds_no_room_go_on_as_one_datagram() {
    let admission = Admission { half_open_per_client: 0, new_flows_per_second: 0, past_limit: PastLimit::Stateless };
    let world = World { admission, ..World::new().preserving(world::WEB).preserving(world::DNS) };
    for order in [[0, 1, 2], [2, 0, 1]] {
        let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 16));
        for port in 1..=16 {
            let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &Packet::web(port, SYN, b"").bytes()));
            let inner = Packet::read(&tunnelled(&out.bytes).inner);
            let answer = inner.answer(SYN | ACK, b"");
            gateway.send(UNDERLAY, &from_pod(node_of(answer.source.ip()), &answer.bytes()));
            gateway.send(UPLINK, &framed(FROM_CLIENT, &Packet::web(port, ACK, b"").bytes()));
        }
        let request = query(5000, 4000);
        let cut = fragments(&request.bytes(), 77, [1376, 1376]);
        let (inner, _) = at_pod(&from_client(&mut gateway, &order.map(|index| cut[index].clone()))).expect("all of it");
        assert_eq!(inner.source, request.source);
        assert_eq!(gateway.counters.forwarded_stateless.get(), 3);
        assert_eq!(gateway.counters.flows_created.get(), 16);
    }
}

#[test]
fn fragments_of_a_datagram_that_is_forwarded_statelessly_follow_the_first() {
    let admission = Admission { half_open_per_client: 0, new_flows_per_second: 1, past_limit: PastLimit::Stateless };
    let world = World { admission, ..World::new().preserving(world::DNS) };
    for request in [query(5000, 4000), query_v6(5000, 4000)] {
        for order in [[0, 1, 2], [2, 0, 1]] {
            let mut gateway = world.gateway();
            from_client(&mut gateway, &[query(1, 8).bytes()]);
            let cut = fragments(&request.bytes(), 77, [1376, 1376]);
            let (inner, _) = at_pod(&from_client(&mut gateway, &order.map(|index| cut[index].clone()))).expect("all");
            assert_eq!(inner.source, request.source);
            let answer = Packet { dont_fragment: inner.dont_fragment, ..inner.answer(0, &[7; 4001]) };
            let cut = fragments(&answer.bytes(), 78, [1376, 1376]);
            let outs = from_pods(&mut gateway, &answer, &order.map(|index| cut[index].clone()));
            let (back, _) = at_client(&outs).expect("all of it");
            assert_eq!(back, Packet { source: request.destination, ..answer.after_a_hop() });
            assert_eq!(gateway.counters.forwarded_stateless.get(), 6);
        }
    }
}

#[test]
fn fragments_cross_a_plain_route_too() {
    let mut gateway = World::new().direct().gateway();
    let request = query(5000, 3000);
    let outs = from_client(&mut gateway, &fragments(&request.bytes(), 1, [1480, 1480]));
    let ips: Vec<_> = all_sent(&outs, UNDERLAY).iter().map(|frame| unframed(frame).1).collect();
    let inner = Packet::read(&reassembled(&ips).unwrap().0);
    let answer = Packet { dont_fragment: false, ..inner.answer(0, &[1; 3000]) };
    let node = node_of(answer.source.ip());
    let outs: Vec<_> = fragments(&answer.bytes(), 9, [1480, 1480])
        .iter()
        .rev()
        .flat_map(|fragment| gateway.send_burst(&[(UNDERLAY, framed(from_node(node), fragment))]))
        .collect();
    assert_eq!(at_client(&outs).unwrap().0.body, answer.body);
}

#[test]
fn the_longest_datagram_crosses_backwards_through_few_spare_buffers() {
    for request in [query(5000, 65_507), query_v6(5000, 65_527)] {
        let mut gateway = World::new().gateway();
        let mut cut = fragments(&request.bytes(), 1, [1376; 48]);
        cut.reverse();
        let outs = from_client(&mut gateway, &cut);
        assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    }
}

#[test]
fn fragments_that_overtake_their_first_in_a_burst_egress_with_it() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 4000);
    let frames: Vec<_> = fragments(&request.bytes(), 3, [1376, 1376])
        .iter()
        .rev()
        .map(|fragment| (UPLINK, framed(FROM_CLIENT, fragment)))
        .collect();
    let outs = gateway.send_burst(&frames);
    assert_eq!(outs.iter().filter(|out| out.verdict == Verdict::Held).count(), 2);
    assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
}

#[test]
fn without_a_spare_buffer_fragments_wait_for_the_next_burst() {
    let mut gateway = World::new().gateway();
    let cut = fragments(&query(5000, 20_000).bytes(), 3, [1376; 15]);
    let (first, later) = cut.split_first().unwrap();
    for fragment in later {
        assert_eq!(gateway.send(UPLINK, &framed(FROM_CLIENT, fragment)).verdict, Verdict::Held);
    }
    // Room is left, should they need fragmentation.
    let mut calls = vec![gateway.call(&[(UPLINK, framed(FROM_CLIENT, first), 0)]).len()];
    while gateway.worker.has_waiting_frames() {
        calls.push(gateway.call(&[]).len());
    }
    assert_eq!((calls, later.len()), (vec![1 + 6, 6, 2], 14));
}

#[test]
fn rfc768_no_udp_checksum_stays_none_in_fragments() {
    let mut gateway = World::new().gateway();
    let mut ip = query(5000, 3000).bytes();
    ip[26..28].fill(0);
    let outs = from_client(&mut gateway, &fragments(&ip, 1, [1376, 1376]));
    let inner: Vec<_> = all_sent(&outs, UNDERLAY).iter().map(|frame| tunnelled(frame).inner).collect();
    assert_eq!(reassembled(&inner).unwrap().0[26..28], [0, 0]);
}

#[test]
fn rfc6864_s5_3_1_fragments_egress_under_distinct_identifications() {
    let mut gateway = World::new().gateway();
    let mut seen = vec![];
    // Two clients use the same identification, and both datagrams egress from the gateway's few addresses.
    for port in [5000, 5001] {
        let cut = fragments(&query(port, 3000).bytes(), 7, [1376, 1376]);
        seen.push(at_pod(&from_client(&mut gateway, &cut)).unwrap().1);
    }
    assert_ne!(seen[0], seen[1]);
    // IPv6 identifications are 32 random bits, and stay.
    let cut = fragments(&query_v6(5000, 3000).bytes(), 7, [1376, 1376]);
    assert_eq!(at_pod(&from_client(&mut gateway, &cut)).unwrap().1, 7);
}

#[test]
fn an_identification_may_be_used_again_once_its_datagram_is_complete() {
    let mut gateway = World::new().gateway();
    for data in [3000, 3008] {
        let cut = fragments(&query(5000, data).bytes(), 7, [1376, 1376]);
        assert!(at_pod(&from_client(&mut gateway, &cut)).is_some());
    }
    // And after a while, where the datagram never became complete.
    let cut = fragments(&query(5000, 3000).bytes(), 7, [1376, 1376]);
    from_client(&mut gateway, &cut[..1]);
    assert_eq!(dropped(&from_client(&mut gateway, &cut[..1])[0]), DropReason::FragmentRepeated);
    gateway.advance(Span::from_millis(2100));
    assert!(at_pod(&from_client(&mut gateway, &cut)).is_some());
}

#[test]
fn rfc6946_an_atomic_fragment_waits_for_nothing() {
    let mut gateway = World::new().gateway();
    let request = query_v6(5000, 100);
    let ip = request.bytes();
    for _ in 0..2 {
        let outs = from_client(&mut gateway, &[fragment(&ip, 1, 0, ip.len() - 40, false)]);
        assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    }
    assert_eq!(gateway.worker.fragmented_datagrams(), 0);
}
