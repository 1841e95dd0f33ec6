//! Datagrams in parts: frames in, frames out, the exact counters.

mod echo;
mod sctp;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use etherparse::{IpFragOffset, Ipv4Header, Ipv6Header};
use proptest::prelude::*;
use weirgate::fragment::Limits;
use weirgate::net::{PortId, WorkerId};
use weirgate::pipeline::{Worker, WorkerConfig};
use weirgate::snapshot::{Admission, PastLimit};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    Body, FROM_CLIENT, Packet, SYN, TO_CLIENT, framed, from_node, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out, leak_aligned, worker_config};

/// Cuts a packet's bytes into parts of these many bytes of data, all but the last a multiple of eight;
/// what is left goes into one more.
fn parts(ip: &[u8], id: u16, lens: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    let header = if ip[0] >> 4 == 4 { 20 } else { 40 };
    let data = &ip[header..];
    let mut parts = vec![];
    let mut at = 0;
    let mut lens = lens.into_iter();
    while at < data.len() {
        let end = lens.next().map_or(data.len(), |len| (at + len).min(data.len()));
        parts.push(part(ip, id, at, end, end < data.len()));
        at = end;
    }
    parts
}

/// One part of a packet: its data from `at` up to `end`.
fn part(ip: &[u8], id: u16, at: usize, end: usize, more: bool) -> Vec<u8> {
    assert!(at.is_multiple_of(8));
    if ip[0] >> 4 == 4 {
        let (mut header, data) = Ipv4Header::from_slice(ip).unwrap();
        let data = &data[at..end];
        header.total_len = 20 + data.len() as u16;
        header.identification = id;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new((at / 8) as u16).unwrap();
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], data].concat()
    } else {
        let (mut header, data) = Ipv6Header::from_slice(ip).unwrap();
        let data = &data[at..end];
        let upper = header.next_header.0;
        header.next_header = 44.into();
        header.payload_length = 8 + data.len() as u16;
        let [o0, o1] = (at as u16 | u16::from(more)).to_be_bytes();
        let fragment = [upper, 0, o0, o1, 0, 0, (id >> 8) as u8, id as u8];
        [&header.to_bytes()[..], &fragment, data].concat()
    }
}

/// Puts parts together, as a host does: every byte once, all that tells one datagram the same.
/// `None` where something is missing.
fn reassembled(parts: &[Vec<u8>]) -> Option<(Vec<u8>, u32)> {
    let mut data = BTreeMap::new();
    let mut total = None;
    let mut common = None;
    for part in parts {
        let (head, id, offset, more, bytes) = if part[0] >> 4 == 4 {
            let (header, rest) = Ipv4Header::from_slice(part).expect("an IPv4 header");
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert!(!header.dont_fragment);
            let bytes = &rest[..usize::from(header.total_len) - header.header_len()];
            let offset = usize::from(header.fragment_offset.value()) * 8;
            let whole = Ipv4Header {
                fragment_offset: IpFragOffset::ZERO,
                more_fragments: false,
                total_len: 0,
                options: etherparse::Ipv4Options::default(),
                header_checksum: 0,
                ..header.clone()
            };
            (whole.to_bytes().to_vec(), u32::from(header.identification), offset, header.more_fragments, bytes)
        } else {
            let (header, rest) = Ipv6Header::from_slice(part).expect("an IPv6 header");
            assert_eq!(header.next_header.0, 44, "a fragment header");
            let bytes = &rest[8..usize::from(header.payload_length)];
            let word = u16::from_be_bytes([rest[2], rest[3]]);
            let whole = Ipv6Header { next_header: rest[0].into(), payload_length: 0, ..header };
            let id = u32::from_be_bytes(rest[4..8].try_into().unwrap());
            (whole.to_bytes().to_vec(), id, usize::from(word & !7), word & 1 == 1, bytes)
        };
        let common = common.get_or_insert((head.clone(), id));
        assert_eq!((&common.0, common.1), (&head, id), "parts of one datagram");
        assert!(!more || bytes.len().is_multiple_of(8));
        if !more {
            assert_eq!(total.replace(offset + bytes.len()), None, "one last part");
        }
        assert_eq!(data.insert(offset, bytes.to_vec()), None, "every part once");
    }
    let (mut ip, id) = common?;
    let mut whole = vec![];
    for (offset, bytes) in data {
        if offset != whole.len() {
            assert!(offset > whole.len(), "parts overlap");
            return None;
        }
        whole.extend(bytes);
    }
    if total != Some(whole.len()) {
        return None;
    }
    if ip[0] >> 4 == 4 {
        let mut header = Ipv4Header::from_slice(&ip).unwrap().0;
        header.total_len = (20 + whole.len()) as u16;
        header.header_checksum = header.calc_header_checksum();
        ip = header.to_bytes().to_vec();
    } else {
        ip[4..6].copy_from_slice(&(whole.len() as u16).to_be_bytes());
    }
    Some(([ip, whole].concat(), id))
}

fn dropped(out: &Out) -> DropReason {
    match out.verdict {
        Verdict::Drop(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

fn all_sent(outs: &[Out], port: PortId) -> Vec<&[u8]> {
    outs.iter()
        .filter(|out| out.verdict != Verdict::Held)
        .map(|out| {
            assert_eq!(out.verdict, Verdict::Transmit(port));
            &out.bytes[..]
        })
        .collect()
}

fn query(client_port: u16, len: usize) -> Packet {
    let data: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
    Packet { dont_fragment: false, ..Packet::dns(client_port, &data) }
}

fn query_v6(client_port: u16, len: usize) -> Packet {
    let [from, to] = [(world::CLIENT_V6, client_port), (world::NODE_PORT_ADDRESS_V6, 30_053)].map(SocketAddr::from);
    Packet { dont_fragment: true, source: from, destination: to, ..query(client_port, len) }
}

/// Sends parts from the client, each in a burst of its own; what reaches the underlay.
fn from_client(gateway: &mut Gateway, parts: &[Vec<u8>]) -> Vec<Out> {
    parts.iter().flat_map(|part| gateway.send_burst(&[(UPLINK, framed(FROM_CLIENT, part))])).collect()
}

/// The packet that these parts are for a pod, put together, with the identification it came under.
fn at_pod(outs: &[Out]) -> Option<(Packet, u32)> {
    let mut entropies = vec![];
    let inner: Vec<Vec<u8>> = all_sent(outs, UNDERLAY)
        .iter()
        .map(|frame| {
            let seen = tunnelled(frame);
            assert!((0..2).any(|node| seen.link == to_node(node)));
            entropies.push((seen.outer.source, seen.outer.destination));
            seen.inner
        })
        .collect();
    entropies.dedup();
    assert!(entropies.len() <= 1, "all of a datagram goes one way: {entropies:?}");
    reassembled(&inner).map(|(ip, id)| (Packet::read(&ip), id))
}

fn at_client(outs: &[Out]) -> Option<(Packet, u32)> {
    let ips: Vec<Vec<u8>> = all_sent(outs, UPLINK)
        .iter()
        .map(|frame| {
            let (link, ip) = unframed(frame);
            assert_eq!(link, TO_CLIENT);
            ip
        })
        .collect();
    reassembled(&ips).map(|(ip, id)| (Packet::read(&ip), id))
}

fn node_of(pod: IpAddr) -> usize {
    (0..2)
        .find(|node| {
            [10, 11].iter().any(|n| pod == IpAddr::from(world::pod(*node, *n)) || pod == world::pod_v6(*node, *n))
        })
        .expect("a pod")
}

/// What a pod answers, in parts, through the overlay.
fn from_pods(gateway: &mut Gateway, answer: &Packet, parts: &[Vec<u8>]) -> Vec<Out> {
    let node = node_of(answer.source.ip());
    parts.iter().flat_map(|part| gateway.send_burst(&[(UNDERLAY, from_pod(node, part))])).collect()
}

fn is_pool(address: IpAddr) -> bool {
    World::new().pool.contains(&address)
}

#[test]
fn rfc4787_req14_a_datagram_in_parts_crosses_and_its_answer_comes_back_in_any_order() {
    for request in [query(5000, 4000), query_v6(5000, 4000)] {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut gateway = World::new().gateway();
            let cut = parts(&request.bytes(), 77, [1376, 1376]);
            let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
            let (inner, _) = at_pod(&outs).expect("all of it");
            assert!(is_pool(inner.source.ip()));
            let expected =
                Packet { source: inner.source, destination: inner.destination, ..request.clone().after_a_hop() };
            assert_eq!(inner, expected);

            let answer = Packet { dont_fragment: inner.dont_fragment, ..inner.answer(0, &[7; 4001]) };
            let cut = parts(&answer.bytes(), 78, [1376, 1376]);
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
            assert_eq!(gateway.worker.datagrams_in_parts(), 0);
        }
    }
}

#[test]
fn parts_of_a_datagram_that_is_placed_without_state_go_where_the_first_went() {
    let admission = Admission { half_open_per_client: 0, new_flows_per_second: 1, past_limit: PastLimit::Place };
    let world = World { admission, ..World::new().keeping(world::DNS) };
    for request in [query(5000, 4000), query_v6(5000, 4000)] {
        for order in [[0, 1, 2], [2, 0, 1]] {
            let mut gateway = world.gateway();
            from_client(&mut gateway, &[query(1, 8).bytes()]);
            let cut = parts(&request.bytes(), 77, [1376, 1376]);
            let (inner, _) = at_pod(&from_client(&mut gateway, &order.map(|index| cut[index].clone()))).expect("all");
            assert_eq!(inner.source, request.source);
            let answer = Packet { dont_fragment: inner.dont_fragment, ..inner.answer(0, &[7; 4001]) };
            let cut = parts(&answer.bytes(), 78, [1376, 1376]);
            let outs = from_pods(&mut gateway, &answer, &order.map(|index| cut[index].clone()));
            let (back, _) = at_client(&outs).expect("all of it");
            assert_eq!(back, Packet { source: request.destination, ..answer.after_a_hop() });
            assert_eq!(gateway.counters.placed_without_state.get(), 6);
        }
    }
}

#[test]
fn parts_cross_a_plain_route_too() {
    let mut gateway = World::new().direct().gateway();
    let request = query(5000, 3000);
    let outs = from_client(&mut gateway, &parts(&request.bytes(), 1, [1480, 1480]));
    let ips: Vec<_> = all_sent(&outs, UNDERLAY).iter().map(|frame| unframed(frame).1).collect();
    let inner = Packet::read(&reassembled(&ips).unwrap().0);
    let answer = Packet { dont_fragment: false, ..inner.answer(0, &[1; 3000]) };
    let node = node_of(answer.source.ip());
    let outs: Vec<_> = parts(&answer.bytes(), 9, [1480, 1480])
        .iter()
        .rev()
        .flat_map(|part| gateway.send_burst(&[(UNDERLAY, framed(from_node(node), part))]))
        .collect();
    assert_eq!(at_client(&outs).unwrap().0.body, answer.body);
}

#[test]
fn the_longest_datagram_crosses_backwards_through_few_spare_buffers() {
    for request in [query(5000, 65_507), query_v6(5000, 65_527)] {
        let mut gateway = World::new().gateway();
        let mut cut = parts(&request.bytes(), 1, [1376; 48]);
        cut.reverse();
        let outs = from_client(&mut gateway, &cut);
        assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    }
}

#[test]
fn parts_of_one_burst_that_overtake_their_first_leave_with_it() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 4000);
    let frames: Vec<_> =
        parts(&request.bytes(), 3, [1376, 1376]).iter().rev().map(|part| (UPLINK, framed(FROM_CLIENT, part))).collect();
    let outs = gateway.send_burst(&frames);
    assert_eq!(outs.iter().filter(|out| out.verdict == Verdict::Held).count(), 2);
    assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
}

#[test]
fn without_a_spare_buffer_parts_wait_for_the_next_burst() {
    let mut gateway = World::new().gateway();
    let cut = parts(&query(5000, 20_000).bytes(), 3, [1376; 15]);
    let (first, later) = cut.split_first().unwrap();
    for part in later {
        assert_eq!(gateway.send(UPLINK, &framed(FROM_CLIENT, part)).verdict, Verdict::Held);
    }
    // Room is left for cutting, should they need it.
    let mut calls = vec![gateway.call(&[(UPLINK, framed(FROM_CLIENT, first), 0)]).len()];
    while gateway.worker.has_waiting_frames() {
        calls.push(gateway.call(&[]).len());
    }
    assert_eq!((calls, later.len()), (vec![1 + 6, 6, 2], 14));
}

#[test]
fn rfc768_no_udp_checksum_stays_none_in_parts() {
    let mut gateway = World::new().gateway();
    let mut ip = query(5000, 3000).bytes();
    ip[26..28].fill(0);
    let outs = from_client(&mut gateway, &parts(&ip, 1, [1376, 1376]));
    let inner: Vec<_> = all_sent(&outs, UNDERLAY).iter().map(|frame| tunnelled(frame).inner).collect();
    assert_eq!(reassembled(&inner).unwrap().0[26..28], [0, 0]);
}

#[test]
fn rfc6864_s5_3_1_parts_leave_under_numbers_that_the_gateway_keeps_apart() {
    let mut gateway = World::new().gateway();
    let mut seen = vec![];
    // Two clients' datagrams under one number; both leave from the gateway's few addresses.
    for port in [5000, 5001] {
        let cut = parts(&query(port, 3000).bytes(), 7, [1376, 1376]);
        seen.push(at_pod(&from_client(&mut gateway, &cut)).unwrap().1);
    }
    assert_ne!(seen[0], seen[1]);
    // IPv6 has 32 bits of random numbers; they stay.
    let cut = parts(&query_v6(5000, 3000).bytes(), 7, [1376, 1376]);
    assert_eq!(at_pod(&from_client(&mut gateway, &cut)).unwrap().1, 7);
}

#[test]
fn rfc5722_s4_a_part_that_overlaps_another_ends_the_datagram() {
    for request in [query(5000, 4000), query_v6(5000, 4000)] {
        let mut gateway = World::new().gateway();
        let ip = request.bytes();
        let cut = parts(&ip, 1, [1376, 1376]);
        let frames = [cut[0].clone(), part(&ip, 1, 1000, 1600, true), cut[1].clone(), cut[2].clone()];
        let outs = from_client(&mut gateway, &frames);
        assert_eq!(outs[0].verdict, Verdict::Transmit(UNDERLAY));
        assert_eq!(dropped(&outs[1]), DropReason::FragmentOverlap);
        assert_eq!(dropped(&outs[2]), DropReason::FragmentRefused);
        assert_eq!(dropped(&outs[3]), DropReason::FragmentRefused);
    }
}

#[test]
fn rfc5722_s4_parts_that_wait_go_with_an_overlap() {
    let mut gateway = World::new().gateway();
    let ip = query_v6(5000, 4000).bytes();
    let cut = parts(&ip, 1, [1376, 1376]);
    let outs = from_client(&mut gateway, &[cut[1].clone(), part(&ip, 1, 2000, 2808, true), cut[0].clone()]);
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
fn rfc8200_s4_5_a_part_that_comes_twice_leaves_once() {
    for order in [vec![0, 1, 1, 0, 2], vec![2, 2, 1, 0], vec![1, 0, 0, 1, 2]] {
        let mut gateway = World::new().gateway();
        let cut = parts(&query_v6(5000, 4000).bytes(), 1, [1376, 1376]);
        let frames: Vec<_> = order.iter().map(|index| cut[*index].clone()).collect();
        let mut outs = from_client(&mut gateway, &frames);
        outs.retain(|out| out.verdict != Verdict::Drop(DropReason::FragmentRepeated));
        assert_eq!(gateway.counters.drops(DropReason::FragmentRepeated), order.len() as u64 - 3);
        assert!(at_pod(&outs).is_some());
    }
}

#[test]
fn a_number_may_be_used_again_once_its_datagram_is_through() {
    let mut gateway = World::new().gateway();
    for data in [3000, 3008] {
        let cut = parts(&query(5000, data).bytes(), 7, [1376, 1376]);
        assert!(at_pod(&from_client(&mut gateway, &cut)).is_some());
    }
    // And after a while where it never got through.
    let cut = parts(&query(5000, 3000).bytes(), 7, [1376, 1376]);
    from_client(&mut gateway, &cut[..1]);
    assert_eq!(dropped(&from_client(&mut gateway, &cut[..1])[0]), DropReason::FragmentRepeated);
    gateway.advance(Span::from_millis(2100));
    assert!(at_pod(&from_client(&mut gateway, &cut)).is_some());
}

#[test]
fn rfc1858_s3_a_first_part_without_its_whole_transport_header_is_refused() {
    let mut gateway = World::new().gateway();
    let ip = Packet::web(7, SYN, &[0; 100]).bytes();
    let outs = from_client(&mut gateway, &[part(&ip, 1, 0, 16, true)]);
    assert_eq!(dropped(&outs[0]), DropReason::FragmentTiny);
    let outs = from_client(&mut gateway, &[part(&ip, 2, 0, 24, true), part(&ip, 2, 24, 120, false)]);
    assert_eq!(at_pod(&outs).unwrap().0.body, Body::Tcp(SYN, vec![0; 100]));
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let mut gateway = World::new().gateway();
    let ip = query(5000, 4000).bytes();
    let outs = from_client(&mut gateway, &[part(&ip, 1, 0, 800, true), part(&ip, 1, 1600, 1700, false)]);
    all_sent(&outs, UNDERLAY);
    let outs = from_client(
        &mut gateway,
        &[part(&ip, 1, 2400, 2500, true)].map(|mut part| {
            part.truncate(20 + 96);
            part[3] = 116;
            let sum = Ipv4Header::from_slice(&part).unwrap().0.calc_header_checksum();
            part[10..12].copy_from_slice(&sum.to_be_bytes());
            part
        }),
    );
    assert_eq!(dropped(&outs[0]), DropReason::FragmentLength);
    // 65528 and what follows is past what a datagram can be.
    let past = part(&[&ip[..20], &vec![0; 65_528 + 8][..]].concat(), 2, 65_528, 65_536, false);
    assert_eq!(dropped(&from_client(&mut gateway, &[past])[0]), DropReason::Malformed);
}

#[test]
fn rfc6946_an_atomic_fragment_waits_for_nothing() {
    let mut gateway = World::new().gateway();
    let request = query_v6(5000, 100);
    let ip = request.bytes();
    for _ in 0..2 {
        let outs = from_client(&mut gateway, &[part(&ip, 1, 0, ip.len() - 40, false)]);
        assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    }
    assert_eq!(gateway.worker.datagrams_in_parts(), 0);
}

#[test]
fn a_part_whose_first_never_comes_is_dropped_in_time() {
    let mut gateway = World::new().gateway();
    let cut = parts(&query(5000, 4000).bytes(), 1, [1376, 1376]);
    from_client(&mut gateway, &cut[1..]);
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now + Span::from_millis(1900), 2000);
    assert_eq!(gateway.worker.datagrams_in_parts(), 1);
    gateway.worker.age(&snapshot, now + Span::from_millis(2100), 2000);
    assert_eq!(gateway.worker.datagrams_in_parts(), 0);
    gateway.assert_counted(&[("port0-in", 2), ("fragments-held", 2), ("drop-fragment-expired", 2)]);
}

#[test]
fn room_for_parts_is_bounded_and_the_newest_get_it() {
    let mut gateway = World::new().describe(|description| {
        let config = WorkerConfig {
            fragments: Limits { datagrams: 16, held_bytes: 16_384, ..Limits::default() },
            ..worker_config(description, WorkerId(0), 1024)
        };
        Gateway::with_memory(description, &config, leak_aligned(Worker::memory_bytes(&config)))
    });
    // Later parts of datagrams that never begin.
    for id in 0..1000 {
        let cut = parts(&query(5000, 4000).bytes(), id, [1376, 1376]);
        from_client(&mut gateway, &cut[1..2]);
    }
    assert!(gateway.worker.datagrams_in_parts() <= 16);
    let lost = gateway.counters.drops(DropReason::FragmentDisplaced);
    assert!(lost >= 1000 - 16, "{lost}");
    let request = query(6000, 4000);
    let mut cut = parts(&request.bytes(), 5000, [1376, 1376]);
    cut.reverse();
    assert_eq!(at_pod(&from_client(&mut gateway, &cut)).unwrap().0.body, request.body);
}

#[test]
fn what_a_part_of_the_other_side_says_completes_nothing() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 3000);
    let cut = parts(&request.bytes(), 7, [1376, 1376]);
    let (inner, _) = at_pod(&from_client(&mut gateway, &cut)).unwrap();
    let answer = Packet { dont_fragment: false, ..inner.answer(0, &[1; 3000]) };
    let cut = parts(&answer.bytes(), 9, [1376, 1376]);
    let node = node_of(answer.source.ip());
    assert_eq!(gateway.send(UNDERLAY, &from_pod(node, &cut[0])).verdict, Verdict::Transmit(UPLINK));
    // The same datagram's second part, but from the clients' side.
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &cut[1]));
    assert_eq!(out.verdict, Verdict::Held);
    assert_eq!(gateway.send(UNDERLAY, &from_pod(node, &cut[1])).verdict, Verdict::Transmit(UPLINK));
}

#[test]
fn parts_of_what_is_no_service_or_no_flow_share_the_firsts_fate() {
    let mut gateway = World::new().gateway();
    let mut other = query(5000, 3000);
    other.destination.set_port(9);
    let outs = from_client(&mut gateway, &parts(&other.bytes(), 1, [1376, 1376]));
    assert!(outs.iter().all(|out| out.verdict == Verdict::Host), "{outs:?}");
    let mut cut = parts(&other.bytes(), 2, [1376, 1376]);
    cut.reverse();
    for (out, part) in from_client(&mut gateway, &cut).iter().skip(2).zip([&cut[2], &cut[0], &cut[1]]) {
        assert_eq!(out, &Out { verdict: Verdict::Host, bytes: framed(FROM_CLIENT, part) }, "as it came");
    }

    let [from, to] = [(world::pod(0, 10), 80), ([10, 77, 200, 2].into(), 5000)].map(SocketAddr::from);
    let stray = Packet { dont_fragment: false, ..Packet::new(from, to, Body::Udp(vec![0; 3000])) };
    let outs = from_pods(&mut gateway, &stray, &parts(&stray.bytes(), 1, [1376, 1376]));
    let reasons: Vec<_> = outs.iter().map(dropped).collect();
    assert_eq!(reasons, [DropReason::NoFlow, DropReason::FragmentRefused, DropReason::FragmentRefused]);
}

#[test]
fn parts_of_what_the_gateway_carries_only_whole_are_dropped_by_name() {
    let mut gateway = World::new().gateway();
    let ping =
        Packet { dont_fragment: false, ..Packet::ping(world::pod(0, 10).into(), [10, 77, 200, 2].into(), &[0; 3000]) };
    let outs = from_pods(&mut gateway, &ping, &parts(&ping.bytes(), 1, [1376, 1376]));
    assert_eq!(dropped(&outs[0]), DropReason::Fragment);
    // RFC 7348 §4.3: VXLAN itself is not to come in parts.
    let [from, to] = [(world::NODES[0], 40_000), (world::PUBLIC, world::VXLAN_PORT)].map(SocketAddr::from);
    let vxlan = Packet { dont_fragment: false, ..Packet::new(from, to, Body::Udp(vec![8; 3000])) };
    for part in parts(&vxlan.bytes(), 1, [1376, 1376]) {
        let reason = dropped(&gateway.send(UNDERLAY, &framed(from_node(0), &part)));
        assert!(matches!(reason, DropReason::Fragment | DropReason::FragmentRefused));
    }
}

#[test]
fn rfc1812_s4_3_2_7_only_a_first_part_is_told_about() {
    let mut gateway = World::new().gateway();
    let request = Packet { ttl: 1, ..query(5000, 3000) };
    let outs = from_client(&mut gateway, &parts(&request.bytes(), 1, [1376, 1376]));
    let (link, ip) = unframed(&outs[0].bytes);
    assert_eq!((outs[0].verdict, link), (Verdict::Transmit(UPLINK), TO_CLIENT));
    assert!(matches!(Packet::read(&ip).body, Body::Icmp(11, 0, ..)));
    assert_eq!(dropped(&outs[1]), DropReason::FragmentRefused);

    let request = query(5000, 3000);
    let cut = parts(&request.bytes(), 2, [1376, 1376]);
    let mut late = cut[1].clone();
    late[8] = 1;
    let sum = Ipv4Header::from_slice(&late).unwrap().0.calc_header_checksum();
    late[10..12].copy_from_slice(&sum.to_be_bytes());
    let outs = from_client(&mut gateway, &[cut[0].clone(), late]);
    assert_eq!(dropped(&outs[1]), DropReason::TtlExpired);
}

#[test]
fn rfc791_a_packet_too_large_for_its_way_is_cut() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 1472);
    let out = gateway.send_burst(&[(UPLINK, framed(FROM_CLIENT, &request.bytes()))]);
    assert_eq!(out.len(), 2);
    // The overlay takes 1450: 20 and 1424, a multiple of eight.
    assert_eq!(tunnelled(&out[0].bytes).inner.len(), 1444);
    let (inner, _) = at_pod(&out).unwrap();
    assert_eq!(inner, Packet { source: inner.source, destination: inner.destination, ..request.after_a_hop() });
    gateway.assert_counted(&[
        ("flows-created", 1),
        ("pieces-cut", 1),
        ("port0-in", 1),
        ("port1-out", 2),
        ("service2-flows", 1),
        ("service2-original", 1),
    ]);
}

#[test]
fn rfc4787_req13_df_is_told_and_its_absence_is_cut_to_the_clients_link_too() {
    let mut world = World::new();
    world.ports[0].mtu = 600;
    let mut gateway = world.gateway();
    let outs = from_client(&mut gateway, &[query(5000, 100).bytes()]);
    let inner = Packet::read(&tunnelled(&outs[0].bytes).inner);
    let answer = Packet { dont_fragment: false, ..inner.answer(0, &[9; 1400]) };
    let outs = from_pods(&mut gateway, &answer, &[answer.bytes()]);
    assert_eq!(outs.len(), 3);
    assert_eq!(at_client(&outs).unwrap().0.body, answer.body);

    let outs = from_pods(&mut gateway, &answer, &[Packet { dont_fragment: true, ..answer.clone() }.bytes()]);
    let told = Packet::read(&tunnelled(&outs[0].bytes).inner);
    assert!(matches!(told.body, Body::Icmp(3, 4, [0, 0, 2, 88], _)), "{told:?}");
}

#[test]
fn rfc791_s3_2_parts_are_cut_again() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 4000);
    for order in [[0, 1, 2], [2, 1, 0]] {
        let cut = parts(&request.bytes(), 77, [1480, 1480]);
        let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
        assert_eq!(outs.iter().filter(|out| out.verdict != Verdict::Held).count(), 5);
        assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    }
}

#[test]
fn rfc791_s3_1_options_are_copied_by_their_flag() {
    let mut gateway = World::new().gateway();
    let plain = query(5000, 1460).bytes();
    let mut ip = [&plain[..20], &[7, 3, 4, 1, 148, 4, 0, 0], &plain[20..]].concat();
    ip[0] = 0x47;
    ip[2..4].copy_from_slice(&(plain.len() as u16 + 8).to_be_bytes());
    let sum = Ipv4Header::from_slice(&ip).unwrap().0.calc_header_checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let outs = from_client(&mut gateway, &[ip]);
    let inner: Vec<_> = all_sent(&outs, UNDERLAY).iter().map(|frame| tunnelled(frame).inner).collect();
    assert_eq!(inner[0][20..28], [7, 3, 4, 1, 148, 4, 0, 0]);
    assert_eq!((inner[1][0], &inner[1][20..24]), (0x46, &[148, 4, 0, 0][..]));
    assert_eq!(Packet::read(&reassembled(&inner).unwrap().0).body, query(5000, 1460).body);
}

#[test]
fn ipv6_is_never_cut() {
    let mut gateway = World::new().gateway();
    let outs = from_client(&mut gateway, &[query_v6(5000, 1440).bytes()]);
    let (_, ip) = unframed(&outs[0].bytes);
    assert!(matches!(Packet::read(&ip).body, Body::Icmp(2, 0, [0, 0, 5, 150], _)));
    let outs = from_client(&mut gateway, &parts(&query_v6(5000, 3000).bytes(), 1, [1448, 1448]));
    let (_, ip) = unframed(&outs[0].bytes);
    assert!(matches!(Packet::read(&ip).body, Body::Icmp(2, 0, [0, 0, 5, 150], _)));
    assert_eq!(dropped(&outs[1]), DropReason::FragmentRefused);
}

#[test]
fn without_a_spare_buffer_a_packet_is_dropped_whole() {
    let mut gateway = World::new().gateway();
    let frame = (UPLINK, framed(FROM_CLIENT, &query(5000, 1472).bytes()));
    let outs = gateway.send_burst(&vec![frame; weirgate_fixture::SPARES + 1]);
    assert_eq!(outs.len(), 2 * weirgate_fixture::SPARES + 1);
    assert_eq!(dropped(&outs[weirgate_fixture::SPARES]), DropReason::NoSpare);
}

#[test]
fn parts_of_a_burst_that_all_have_to_be_cut_wait_for_buffers() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 60_000);
    let frames: Vec<_> =
        parts(&request.bytes(), 1, [1480; 40]).iter().map(|part| (UPLINK, framed(FROM_CLIENT, part))).collect();
    let outs = gateway.send_burst(&frames);
    assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    assert!(outs.iter().any(|out| out.verdict == Verdict::Held));
}

/// Several workers, each frame at the one whose queue it comes to, hand-overs carried between them.
struct Cluster {
    gateways: Vec<Gateway>,
    handed: u64,
}

impl Cluster {
    fn new(workers: u8) -> Self {
        Self::of(&World { workers, ..World::new().with_sctp() })
    }

    fn of(world: &World) -> Self {
        let gateways = (0..world.workers)
            .map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 1024)))
            .collect();
        Self { gateways, handed: 0 }
    }

    fn send(&mut self, worker: usize, port: PortId, frame: &[u8]) -> Vec<Out> {
        let mut waiting = VecDeque::from([(worker, port, frame.to_vec(), 0)]);
        let mut outs = vec![];
        while let Some((worker, port, frame, handovers)) = waiting.pop_front() {
            let gateway = &mut self.gateways[worker];
            let mut called = gateway.call(&[(port, frame, handovers)]);
            while gateway.worker.has_waiting_frames() {
                called.extend(gateway.call(&[]));
            }
            for (out, port, handovers) in called {
                match out.verdict {
                    Verdict::Handover(next) => {
                        self.handed += 1;
                        assert!(handovers < self.gateways.len() as u8, "handed round for ever");
                        waiting.push_back((usize::from(next.0), port, out.bytes, handovers + 1));
                    }
                    _ => outs.push(out),
                }
            }
        }
        outs
    }
}

#[test]
fn parts_find_the_worker_that_has_their_flow() {
    for workers in [2, 3, 8] {
        for owner in 0..usize::from(workers) {
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
                let mut cluster = Cluster::new(workers);
                // A whole packet makes the flow at one worker, the parts come to worker 0.
                let outs = cluster.send(owner, UPLINK, &framed(FROM_CLIENT, &query(5000, 10).bytes()));
                let whole = Packet::read(&tunnelled(all_sent(&outs, UNDERLAY)[0]).inner);
                let request = query(5000, 4000);
                let cut = parts(&request.bytes(), 7, [1376, 1376]);
                let outs: Vec<_> = order
                    .iter()
                    .flat_map(|index| cluster.send(0, UPLINK, &framed(FROM_CLIENT, &cut[*index])))
                    .collect();
                let (inner, _) = at_pod(&outs).expect("all of it");
                assert_eq!((inner.source, inner.destination), (whole.source, whole.destination));
                assert_eq!(cluster.gateways.iter().map(|gateway| gateway.worker.flows_v4().len()).sum::<u32>(), 1);

                // The answer comes to the last worker's queue.
                let answer = Packet { dont_fragment: false, ..inner.answer(0, &[7; 4001]) };
                let cut = parts(&answer.bytes(), 78, [1376, 1376]);
                let node = node_of(answer.source.ip());
                let last = usize::from(workers) - 1;
                let outs: Vec<_> = order
                    .iter()
                    .flat_map(|index| cluster.send(last, UNDERLAY, &from_pod(node, &cut[*index])))
                    .collect();
                assert_eq!(at_client(&outs).unwrap().0.body, answer.body);
            }
        }
    }
}

#[test]
fn a_datagram_without_a_flow_begins_one_where_it_came_in() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut cluster = Cluster::new(3);
        for (id, handed) in [(7, true), (8, false)] {
            let request = query(5000, 4000);
            let cut = parts(&request.bytes(), id, [1376, 1376]);
            let before = cluster.handed;
            let outs: Vec<_> =
                order.iter().flat_map(|index| cluster.send(1, UPLINK, &framed(FROM_CLIENT, &cut[*index]))).collect();
            assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
            assert_eq!(cluster.handed > before, handed, "only the first datagram goes round");
        }
        let flows: Vec<_> = cluster.gateways.iter().map(|gateway| gateway.worker.flows_v4().len()).collect();
        assert_eq!(flows, [0, 1, 0]);
    }
}

#[test]
fn parts_that_pass_between_workers_as_they_come_end_where_their_first_does() {
    // All parts are on their way before the first has been round.
    let mut cluster = Cluster::new(3);
    let request = query(5000, 4000);
    let cut = parts(&request.bytes(), 7, [1376, 1376]);
    let mut waiting: VecDeque<_> = cut.iter().map(|part| (1, framed(FROM_CLIENT, part), 0)).collect();
    let mut outs = vec![];
    while let Some((worker, frame, handovers)) = waiting.pop_front() {
        for (out, _, handovers) in cluster.gateways[worker].call(&[(UPLINK, frame, handovers)]) {
            match out.verdict {
                Verdict::Handover(next) => waiting.push_back((usize::from(next.0), out.bytes, handovers + 1)),
                _ => outs.push(out),
            }
        }
    }
    assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    assert_eq!(cluster.gateways[1].worker.flows_v4().len(), 1);
}

#[test]
fn parts_of_a_pods_datagram_for_a_service_find_the_owner_that_the_pod_names() {
    for port in 5000..5010 {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut cluster = Cluster::new(3);
            let request = Packet { source: (world::pod(0, 10), port).into(), ..query(port, 4000) };
            let cut = parts(&request.bytes(), 7, [1376, 1376]);
            let outs: Vec<_> =
                order.iter().flat_map(|index| cluster.send(1, UNDERLAY, &from_pod(0, &cut[*index]))).collect();
            let (inner, _) = at_pod(&outs).expect("all of it");
            assert_eq!((inner.body.clone(), is_pool(inner.source.ip())), (request.body.clone(), true));
            // A whole one goes the same way, and the answer, in parts, back to the pod.
            let small = Packet { body: Body::Udp(b"small".into()), ..request.clone() };
            let outs = cluster.send(0, UNDERLAY, &from_pod(0, &small.bytes()));
            assert_eq!(Packet::read(&tunnelled(all_sent(&outs, UNDERLAY)[0]).inner).source, inner.source);
            assert_eq!(cluster.gateways.iter().map(|gateway| gateway.worker.flows_v4().len()).sum::<u32>(), 1);
            let answer = Packet { dont_fragment: false, ..inner.answer(0, &[7; 4001]) };
            let cut = parts(&answer.bytes(), 78, [1376, 1376]);
            let node = node_of(answer.source.ip());
            let outs: Vec<_> =
                order.iter().flat_map(|index| cluster.send(2, UNDERLAY, &from_pod(node, &cut[*index]))).collect();
            let (back, _) = at_pod(&outs).expect("all of it");
            assert_eq!((back.source, back.body), (request.destination, answer.body));
        }
    }
}

#[test]
fn parts_that_lost_their_first_between_workers_do_not_go_round_for_ever() {
    let mut cluster = Cluster::new(3);
    let cut = parts(&query(5000, 4000).bytes(), 7, [1376, 1376]);
    // The first is handed over and lost on the way.
    let out = cluster.gateways[0].send(UPLINK, &framed(FROM_CLIENT, &cut[0]));
    assert_eq!(out.verdict, Verdict::Handover(WorkerId(1)));
    // The next waits where it is handed to.
    let outs = cluster.send(0, UPLINK, &framed(FROM_CLIENT, &cut[1]));
    assert_eq!(outs.iter().map(|out| out.verdict).collect::<Vec<_>>(), [Verdict::Held]);
    // Said to have been round, it is dropped.
    let outs = cluster.gateways[0].call(&[(UPLINK, framed(FROM_CLIENT, &cut[2]), 3)]);
    assert_eq!(dropped(&outs[0].0), DropReason::FragmentRefused);
}

/// How a datagram of the property test is cut and sent.
#[derive(Clone, Debug)]
struct Plan {
    v6: bool,
    /// An INIT of SCTP's in place of a datagram.
    is_sctp: bool,
    len: usize,
    /// Units of eight bytes in each part.
    units: Vec<usize>,
    /// Places to swap parts between.
    swaps: Vec<(usize, usize)>,
    /// A part that comes beside the others: from this unit, so many of them.
    extra: Option<(usize, usize)>,
    burst: bool,
    overlay_mtu: u16,
}

fn plan() -> impl Strategy<Value = Plan> {
    let parts = proptest::collection::vec(1_usize..172, 1..20);
    let swaps = proptest::collection::vec((any::<usize>(), any::<usize>()), 0..20);
    let extra = proptest::option::weighted(0.3, (0_usize..2000, 1_usize..150));
    (any::<[bool; 3]>(), 1_usize..40_000, parts, swaps, extra, 1280_u16..1450).prop_map(
        |([v6, is_sctp, burst], len, units, swaps, extra, mtu)| Plan {
            v6,
            is_sctp,
            len,
            units,
            swaps,
            extra,
            burst,
            overlay_mtu: if v6 { 1450 } else { mtu },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever parts come in whatever order, what leaves is the translated datagram, each byte once,
    /// or not all of it; and without a part too many it is all of it.
    #[test]
    fn parts_in_any_order_become_the_translated_datagram_or_nothing(plan in plan()) {
        let mut gateway = World { overlay_mtu: Some(plan.overlay_mtu), ..World::new().with_sctp() }.gateway();
        let request = match (plan.is_sctp, plan.v6) {
            (false, false) => query(5000, plan.len),
            (false, true) => query_v6(5000, plan.len),
            (true, v6) => sctp::long_init(v6, plan.len),
        };
        let ip = request.bytes();
        let data = ip.len() - if plan.v6 { 40 } else { 20 };
        // No part may be larger than what the client's link carries.
        let least = |place: usize| if place == 0 && plan.is_sctp { 32 } else { 8 };
        let lens = plan.units.iter().enumerate().map(|(place, units)| (units * 8).max(least(place)));
        let lens = lens.chain(std::iter::repeat(1376));
        let mut cut = parts(&ip, 7, lens);
        prop_assume!(cut.len() > 1);
        for (a, b) in &plan.swaps {
            let count = cut.len();
            cut.swap(a % count, b % count);
        }
        let extra = plan.extra.map(|(unit, units)| (unit * 8, (unit + units) * 8)).filter(|(_, end)| *end < data);
        if let Some((from, end)) = extra {
            cut.insert(cut.len() / 2, part(&ip, 7, from, end, true));
        }
        let frames: Vec<_> = cut.iter().map(|part| (UPLINK, framed(FROM_CLIENT, part))).collect();
        let mut outs = if plan.burst {
            gateway.send_burst(&frames)
        } else {
            frames.iter().flat_map(|frame| gateway.send_burst(std::slice::from_ref(frame))).collect()
        };
        outs.retain(|out| !matches!(out.verdict, Verdict::Drop(_)));
        let whole = at_pod(&outs);
        if let Some((inner, _)) = &whole {
            let expected = Packet { source: inner.source, destination: inner.destination, ..request.after_a_hop() };
            prop_assert_eq!(inner, &expected);
        }
        prop_assert!(whole.is_some() || extra.is_some(), "nothing lost without a reason");
    }
}
