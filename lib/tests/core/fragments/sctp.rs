//! Fragmented SCTP: the first fragment waits for the last, since its checksum depends on the whole length.

use weirgate::net::WorkerId;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{Body, FROM_CLIENT, Packet, chunk, framed, from_pod, init_chunk, tunnelled, unframed};
use weirgate_fixture::world::{UNDERLAY, UPLINK, World};

use super::helpers::{
    Cluster, all_sent, at_client, at_pod, dropped, fragments, from_client, from_pods, node_of, reassembled,
};

const CLIENT_TAG: [u8; 4] = [0xc1, 0, 0, 1];
const POD_TAG: [u8; 4] = [0xac, 0, 0, 1];

/// An INIT with a parameter of so many bytes.
pub(crate) fn long_init(v6: bool, len: usize) -> Packet {
    let init = if v6 { Packet::init_v6(5000, CLIENT_TAG) } else { Packet::init(5000, CLIENT_TAG) };
    let body = Body::Sctp([0; 4], init_chunk(1, CLIENT_TAG, &chunk(0x80, 0, &vec![0x5a; len])));
    Packet { body, dont_fragment: v6, ..init }
}

/// A pod's answer to an INIT: an INIT ACK with a long cookie.
fn long_init_ack(inner: &Packet) -> Packet {
    let body = Body::Sctp(CLIENT_TAG, init_chunk(2, POD_TAG, &chunk(7, 0, &[0xa5; 3001])));
    Packet { body, dont_fragment: inner.dont_fragment, ..inner.answer(0, b"") }
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn rfc9260_s6_8_an_association_is_set_up_by_fragments_in_any_order() {
    for v6 in [false, true] {
        for order in ORDERS {
            let mut gateway = World::new().with_sctp().gateway();
            let request = long_init(v6, 3000);
            let cut = fragments(&request.bytes(), 77, [1376, 1376]);
            let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
            let (inner, _) = at_pod(&outs).expect("all of it");
            let expected =
                Packet { source: inner.source, destination: inner.destination, ..request.clone().after_a_hop() };
            assert_eq!(inner, expected);
            assert_ne!((inner.source.port(), inner.destination.port()), (5000, 30_038));

            let answer = long_init_ack(&inner);
            let cut = fragments(&answer.bytes(), 78, [1376, 1376]);
            let outs = from_pods(&mut gateway, &answer, &order.map(|index| cut[index].clone()));
            let (back, _) = at_client(&outs).expect("all of it");
            let expected = Packet { source: request.destination, destination: request.source, ..answer.after_a_hop() };
            assert_eq!(back, expected);
            // Once the first is there, fragments that come with or after the last need not wait.
            let [first, last] = [0, 2].map(|fragment| order.iter().position(|index| *index == fragment).unwrap());
            let early = if first > last { first } else { last + 1 } as u64;
            assert_eq!(gateway.counters.fragments_held.get(), 2 * early, "{order:?}");
            assert_eq!(gateway.counters.flows_created.get(), 1);
            assert_eq!(gateway.worker.fragmented_datagrams(), 0);
        }
    }
}

#[test]
fn rfc8200_s4_5_extension_headers_behind_the_fragment_header_are_not_summed() {
    let mut gateway = World::new().with_sctp().gateway();
    let request = long_init(true, 3000);
    let plain = request.bytes();
    // Destination options before SCTP: eight bytes of padding.
    let mut ip = [&plain[..40], &[132, 0, 1, 4, 0, 0, 0, 0], &plain[40..]].concat();
    ip[6] = 60;
    let len = (ip.len() as u16 - 40).to_be_bytes();
    ip[4..6].copy_from_slice(&len);
    for order in ORDERS {
        let cut = fragments(&ip, 5, [1376, 1376]);
        let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
        let inner: Vec<_> = all_sent(&outs, UNDERLAY).iter().map(|frame| tunnelled(frame).inner).collect();
        let (mut whole, _) = reassembled(&inner).expect("all of it");
        assert_eq!(whole.drain(40..48).collect::<Vec<_>>(), [132, 0, 1, 4, 0, 0, 0, 0]);
        whole[6] = 132;
        whole[4..6].copy_from_slice(&(plain.len() as u16 - 40).to_be_bytes());
        assert_eq!(Packet::read(&whole).body, request.body);
    }
}

/// Where the entry of a datagram is displaced, its first fragment may go round the workers twice.
#[test]
fn a_first_fragment_that_comes_back_late_is_a_repeated_one() {
    let mut cluster = Cluster::new(2);
    let cut = fragments(&long_init(false, 3000).bytes(), 77, [1376, 1376]);
    let gateway = &mut cluster.gateways[1];
    let mut call = |fragment: &[u8], handovers| {
        let outs = gateway.call(&[(UPLINK, framed(FROM_CLIENT, fragment), handovers)]);
        outs.into_iter().map(|(out, ..)| out.verdict).collect::<Vec<_>>()
    };
    for fragment in &cut {
        assert_eq!(call(fragment, 0), [Verdict::Handover(WorkerId(0))]);
    }
    assert_eq!(call(&cut[0], 2), [Verdict::Transmit(UNDERLAY)]);
    assert_eq!(call(&cut[0], 2), [Verdict::Drop(DropReason::FragmentRepeated)]);
    assert_eq!(call(&cut[1], 2), [Verdict::Transmit(UNDERLAY)]);
}

#[test]
fn without_its_last_fragment_nothing_egresses() {
    let mut gateway = World::new().with_sctp().gateway();
    let cut = fragments(&long_init(false, 3000).bytes(), 77, [1376, 1376]);
    let outs = from_client(&mut gateway, &[cut[1].clone(), cut[0].clone(), cut[0].clone(), cut[1].clone()]);
    let verdicts: Vec<_> = outs.iter().map(|out| out.verdict).collect();
    let repeated = Verdict::Drop(DropReason::FragmentRepeated);
    assert_eq!(verdicts, [Verdict::Held, Verdict::Held, repeated, repeated]);
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now + Span::from_millis(2100), 2000);
    gateway.assert_counted(&[
        ("port0-in", 4),
        ("fragments-held", 2),
        ("drop-fragment-repeated", 2),
        ("drop-fragment-expired", 2),
    ]);
}

#[test]
fn a_refused_first_fragment_ends_all_that_waited() {
    let mut gateway = World::new().with_sctp().gateway();
    let request = long_init(false, 3000);
    let data = Packet { body: Body::Sctp(POD_TAG, chunk(0, 3, &[1; 3000])), ..request.clone() };
    for (id, order) in (100..).zip(ORDERS) {
        let cut = fragments(&data.bytes(), id, [1376, 1376]);
        let before = gateway.counters.drops(DropReason::FragmentRefused);
        let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
        let reasons: Vec<_> = outs.iter().filter(|out| out.verdict != Verdict::Held).map(dropped).collect();
        assert!(reasons.contains(&DropReason::NotSyn), "{order:?} {reasons:?}");
        assert_eq!(gateway.counters.drops(DropReason::FragmentRefused) - before, 2, "{order:?}");
    }
    assert_eq!(gateway.counters.drops(DropReason::NotSyn), ORDERS.len() as u64);
    // Without a service the host gets all fragments, the first one first.
    let mut other = request;
    other.destination.set_port(9);
    for (id, order) in (200..).zip(ORDERS) {
        let cut = fragments(&other.bytes(), id, [1376, 1376]);
        let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
        let mut host: Vec<_> =
            outs.into_iter().filter(|out| out.verdict == Verdict::Host).map(|out| unframed(&out.bytes).1).collect();
        assert_eq!(host[0], cut[0], "{order:?}: as it came");
        host.sort_by_key(|ip| u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff);
        assert_eq!(host, cut, "{order:?}");
    }
}

#[test]
fn fragments_find_the_worker_that_has_their_association() {
    for workers in [2, 3, 8] {
        for owner in 0..usize::from(workers) {
            for order in ORDERS {
                let mut cluster = Cluster::new(workers);
                let init = Packet::init(5000, CLIENT_TAG);
                let outs = cluster.send(owner, UPLINK, &framed(FROM_CLIENT, &init.bytes()));
                let whole = Packet::read(&tunnelled(all_sent(&outs, UNDERLAY)[0]).inner);
                let body = Body::Sctp(POD_TAG, chunk(10, 0, &[0xa5; 3001]));
                let echo = Packet { body, dont_fragment: false, ..init };
                let cut = fragments(&echo.bytes(), 7, [1376, 1376]);
                let outs: Vec<_> = order
                    .iter()
                    .flat_map(|index| cluster.send(0, UPLINK, &framed(FROM_CLIENT, &cut[*index])))
                    .collect();
                let (inner, _) = at_pod(&outs).expect("all of it");
                assert_eq!((inner.source, inner.destination), (whole.source, whole.destination));
                assert_eq!(inner.body, echo.body);
                assert_eq!(cluster.gateways.iter().map(|gateway| gateway.worker.flows().v4.len()).sum::<u32>(), 1);

                let answer = Packet { dont_fragment: false, ..long_init_ack(&inner) };
                let cut = fragments(&answer.bytes(), 78, [1376, 1376]);
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
fn an_unknown_association_opens_at_the_worker_its_fragments_came_to() {
    for order in ORDERS {
        let mut cluster = Cluster::new(3);
        let request = long_init(false, 3000);
        let cut = fragments(&request.bytes(), 7, [1376, 1376]);
        let outs: Vec<_> =
            order.iter().flat_map(|index| cluster.send(1, UPLINK, &framed(FROM_CLIENT, &cut[*index]))).collect();
        assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
        let flows: Vec<_> = cluster.gateways.iter().map(|gateway| gateway.worker.flows().v4.len()).collect();
        assert_eq!(flows, [0, 1, 0]);
    }
}

#[test]
fn a_packet_that_is_fragmented_here_is_summed_as_a_whole() {
    let mut gateway = World::new().with_sctp().gateway();
    let mut request = long_init(false, 1400);
    request.dont_fragment = false;
    let outs = gateway.send_burst(&[(UPLINK, framed(FROM_CLIENT, &request.bytes()))]);
    assert_eq!(outs.len(), 2);
    assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
}

#[test]
fn rfc4443_s3_2_a_first_fragment_that_has_waited_still_gets_an_error() {
    for order in ORDERS {
        let mut gateway = World::new().with_sctp().gateway();
        let cut = fragments(&long_init(true, 3000).bytes(), 1, [1448, 1448]);
        let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
        let reported: Vec<_> = outs.iter().filter(|out| out.verdict == Verdict::Transmit(UPLINK)).collect();
        assert_eq!(reported.len(), 1, "{order:?} {outs:?}");
        let error = Packet::read(&unframed(&reported[0].bytes).1);
        let Body::Icmp(2, 0, [0, 0, 5, 150], quote) = &error.body else { panic!("{error:?}") };
        assert_eq!(quote[..], cut[0][..1232]);
        assert_eq!(gateway.counters.drops(DropReason::FragmentRefused), 2);
    }
}
