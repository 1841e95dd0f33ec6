//! What changes in packets beyond their translation, segment sizes and codepoints, and what is not forwarded.

use std::net::IpAddr;

use etherparse::{Ipv4Header, Ipv6Header, TcpHeader};
use weirgate::net::Endpoint;
use weirgate::pipeline::Step;
use weirgate::snapshot::{Admission, CompileError, MssLimit, OuterDscp, PastLimit, bytes_required, compile};
use weirgate::verdict::{DropReason, Verdict};
use weirgate::wire::Dscp;
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Packet, SYN, framed, from_node, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, DNS, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, Out, leak_aligned};

/// Maximum segment size, no operation, window scale, SACK permitted, timestamps.
fn usual(mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    vec![2, 4, high, low, 1, 3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]
}

/// Puts options into a segment that has none, and corrects its checksum.
fn with_options(packet: &Packet, options: &[u8]) -> Vec<u8> {
    let padded = options.len().next_multiple_of(4);
    let mut ip = packet.bytes();
    let at = if ip[0] >> 4 == 4 { 20 } else { 40 };
    let mut all = options.to_vec();
    all.resize(padded, 0);
    ip.splice(at + 20..at + 20, all);
    ip[at + 12] = ((20 + padded) * 4) as u8;
    let len = ip.len() as u16;
    if at == 20 {
        let (mut header, _) = Ipv4Header::from_slice(&ip).unwrap();
        header.total_len = len;
        header.header_checksum = header.calc_header_checksum();
        ip[..20].copy_from_slice(&header.to_bytes());
    } else {
        ip[4..6].copy_from_slice(&(len - 40).to_be_bytes());
    }
    let sum = checksum(&ip);
    ip[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    ip
}

/// The right TCP checksum, computed from the bytes.
fn checksum(ip: &[u8]) -> u16 {
    let (at, addresses) = if ip[0] >> 4 == 4 { (20, &ip[12..20]) } else { (40, &ip[8..40]) };
    let mut segment = ip[at..].to_vec();
    segment[16..18].fill(0);
    let pseudo = [addresses, &(segment.len() as u32).to_be_bytes(), &[0, 0, 0, 6], &segment].concat();
    let mut sum: u32 =
        pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// The options of a forwarded segment; its checksum has to be right.
fn options(ip: &[u8]) -> Vec<u8> {
    let at = if ip[0] >> 4 == 4 { 20 } else { 40 };
    assert_eq!(ip[at + 16..at + 18], checksum(ip).to_be_bytes(), "checksum");
    ip[at + 20..at + usize::from(ip[at + 12] >> 4) * 4].to_vec()
}

fn limited(mss: MssLimit) -> World {
    World { mss, ..World::new() }
}

fn inside(out: &Out) -> Vec<u8> {
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
    tunnelled(&out.bytes).inner
}

fn outside(out: &Out) -> Vec<u8> {
    assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
    unframed(&out.bytes).1
}

fn node_of(gateway_out: &Out) -> usize {
    let link = tunnelled(&gateway_out.bytes).link;
    (0..2).find(|node| link == to_node(*node)).expect("one of the nodes")
}

#[test]
fn rfc9293_s3_7_1_the_segment_size_of_either_end_is_lowered_to_what_both_paths_take() {
    for (request, overlay, most) in
        [(Packet::web(7, SYN, b""), 1450, 1410), (Packet::web_v6(7, SYN, b""), 1430, 1370_u16)]
    {
        let headers = if request.source.is_ipv4() { 40 } else { 60 };
        assert_eq!(overlay - headers, most, "the overlay is the narrower one");
        for announced in [536, most - 1, most, most + 1, 1460, 8960, 65_495] {
            let mut gateway = limited(MssLimit::Path).gateway();
            let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &with_options(&request, &usual(announced))));
            assert_eq!(options(&inside(&out)), usual(announced.min(most)));
            // A retransmitted SYN, and the answer to it.
            let again = gateway.send(UPLINK, &framed(FROM_CLIENT, &with_options(&request, &usual(announced))));
            assert_eq!(options(&inside(&again)), usual(announced.min(most)));
            let inner = Packet::read(&inside(&out));
            for _ in 0..2 {
                let answer = with_options(&inner.answer(SYN | ACK, b""), &usual(announced));
                let back = gateway.send(UNDERLAY, &from_pod(node_of(&out), &answer));
                assert_eq!(options(&outside(&back)), usual(announced.min(most)));
            }
            // A segment without SYN is not changed.
            let later = Packet { body: Body::Tcp(ACK, b"data".into()), ..request.clone() };
            let later = gateway.send(UPLINK, &framed(FROM_CLIENT, &with_options(&later, &usual(announced))));
            assert_eq!(options(&inside(&later)), usual(announced));
        }
    }
}

#[test]
fn a_narrower_link_to_the_client_counts_as_well_and_a_number_counts_alone() {
    let syn = with_options(&Packet::web(7, SYN, b""), &usual(1460));
    let mut narrow = limited(MssLimit::Path);
    narrow.ports[0].mtu = 1300;
    let mut gateway = narrow.gateway();
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &syn));
    assert_eq!(options(&inside(&out)), usual(1260));
    let answer = with_options(&Packet::read(&inside(&out)).answer(SYN | ACK, b""), &usual(1410));
    assert_eq!(options(&outside(&gateway.send(UNDERLAY, &from_pod(node_of(&out), &answer)))), usual(1260));

    for (limit, most) in [(MssLimit::Off, 1460), (MssLimit::Bytes(1200), 1200), (MssLimit::Bytes(9000), 1460)] {
        let mut gateway = limited(limit).gateway();
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &syn));
        assert_eq!(options(&inside(&out)), usual(most), "{limit:?}");
    }
    assert_eq!(limited(MssLimit::Bytes(536)).describe(|it| compile(it, leak_aligned(bytes_required(it))).err()), None);
    limited(MssLimit::Bytes(535)).describe(|description| {
        let error = compile(description, leak_aligned(bytes_required(description)));
        assert_eq!(error, Err(CompileError::MssTooSmall(535)));
    });
}

#[test]
fn truncated_option_lists_are_unchanged_and_odd_offsets_are_summed_right() {
    let mss = [2, 4, 0x05, 0xb4];
    let lowered = [2, 4, 0x05, 0x82];
    let with = |before: &[u8], option: &[u8], after: &[u8]| [before, option, after].concat();
    let cases: &[(Vec<u8>, Vec<u8>)] = &[
        // At every offset, even and odd.
        (with(&[1], &mss, &[]), with(&[1], &lowered, &[])),
        (with(&[1, 1], &mss, &[]), with(&[1, 1], &lowered, &[])),
        (with(&[3, 3, 7], &mss, &[0]), with(&[3, 3, 7], &lowered, &[0])),
        // The option twice: the receiver may use either.
        (with(&mss, &[1], &mss), with(&lowered, &[1], &lowered)),
        // Bytes behind the end of the list are no option.
        (with(&[1, 0], &mss, &[]), with(&[1, 0], &mss, &[])),
        // No option, and malformed ones.
        (vec![], vec![]),
        (vec![4, 2], vec![4, 2]),
        (vec![2, 3, 9], vec![2, 3, 9]),
        // Lengths of zero, of one, and past the header, before the option and behind it.
        (with(&[8, 0], &mss, &[]), with(&[8, 0], &mss, &[])),
        (with(&[8, 1], &mss, &[]), with(&[8, 1], &mss, &[])),
        (with(&mss, &[8, 0], &[1, 1]), with(&mss, &[8, 0], &[1, 1])),
        (with(&mss, &[8, 10], &[1, 1]), with(&mss, &[8, 10], &[1, 1])),
        (with(&mss, &[1, 1, 1, 2], &[]), with(&mss, &[1, 1, 1, 2], &[])),
    ];
    for packet in [Packet::web(7, SYN, b"fast open"), Packet::web_v6(7, SYN, b"fast open")] {
        let lowered_v6 = |list: &[u8]| {
            // 1370 instead of 1410.
            let mut list = list.to_vec();
            for at in 0..list.len().saturating_sub(1) {
                if list[at..at + 2] == [0x05, 0x82] {
                    list[at + 1] = 0x5a;
                }
            }
            list
        };
        for (list, expected) in cases {
            let mut gateway = limited(MssLimit::Path).gateway();
            let ip = with_options(&packet, list);
            let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &ip));
            let mut expected = if packet.source.is_ipv4() { expected.clone() } else { lowered_v6(expected) };
            expected.resize(expected.len().next_multiple_of(4), 0);
            let inner = inside(&out);
            assert_eq!(options(&inner), expected, "{list:?}");
            assert!(inner.ends_with(b"fast open"));
        }
    }
}

#[test]
fn a_wrong_checksum_stays_wrong_when_a_segment_size_is_lowered() {
    let mut gateway = limited(MssLimit::Path).gateway();
    let mut ip = with_options(&Packet::web(7, SYN, b""), &usual(1460));
    ip[36] ^= 0x55;
    let out = inside(&gateway.send(UPLINK, &framed(FROM_CLIENT, &ip)));
    assert_ne!(out[36..38], checksum(&out).to_be_bytes());
    let (header, _) = TcpHeader::from_slice(&out[20..]).unwrap();
    assert!(header.syn);
}

#[test]
fn pods_own_handshakes_are_lowered_too_and_errors_quote_packets_as_they_came() {
    let mut world = limited(MssLimit::Path);
    world.masquerade = vec![[198, 51, 100, 7].into()];
    let mut gateway = world.gateway();
    let out = Packet::new((world::pod(0, 10), 40_000).into(), (world::CLIENT, 443).into(), Body::Tcp(SYN, vec![]));
    let sent = outside(&gateway.send(UNDERLAY, &from_pod(0, &with_options(&out, &usual(1460)))));
    assert_eq!(options(&sent), usual(1410));
    let answer = with_options(&Packet::read(&sent).answer(SYN | ACK, b""), &usual(1460));
    assert_eq!(options(&inside(&gateway.send(UPLINK, &framed(FROM_CLIENT, &answer)))), usual(1410));
    // A pod's request to a service, over the overlay and by a plain route.
    let hairpin = Packet { source: (world::pod(0, 10), 7).into(), ..Packet::web(7, SYN, b"") };
    let syn = with_options(&hairpin, &usual(1460));
    let out = gateway.send(UNDERLAY, &from_pod(0, &syn));
    assert_eq!(options(&inside(&out)), usual(1410));
    let answer = with_options(&Packet::read(&inside(&out)).answer(SYN | ACK, b""), &usual(1460));
    let back = gateway.send(UNDERLAY, &from_pod(node_of(&out), &answer));
    assert_eq!(options(&inside(&back)), usual(1410));
    let mut gateway = limited(MssLimit::Path).gateway();
    let out = gateway.send(UNDERLAY, &framed(from_node(0), &syn));
    let answer = with_options(&Packet::read(&inside(&out)).answer(SYN | ACK, b""), &usual(1460));
    let back = gateway.send(UNDERLAY, &from_pod(node_of(&out), &answer));
    assert_eq!(options(&unframed(&back.bytes).1), usual(1410));

    let dying = with_options(&Packet { ttl: 1, ..Packet::web(9, SYN, b"") }, &usual(1460));
    let error = Packet::read(&outside(&gateway.send(UPLINK, &framed(FROM_CLIENT, &dying))));
    let Body::Icmp(11, 0, _, quoted) = error.body else { panic!("{error:?}") };
    assert_eq!(quoted, dying);
}

fn dscp(number: u8) -> Dscp {
    Dscp::new(number).expect("six bits")
}

fn marking(mut world: World, service: u32, number: u8) -> World {
    world.policies.entry(service).or_default().dscp = Some(dscp(number));
    world
}

/// Requests of every kind with this type of service.
fn requests(tos: u8) -> [Packet; 3] {
    [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b""), Packet::dns(7, b"query")]
        .map(|packet| Packet { tos, ..packet })
}

#[test]
fn a_services_codepoint_is_set_towards_its_pods_and_nothing_else_of_the_byte() {
    for (codepoint, expected) in [(None, 0b0110_1000), (Some(46), 46 << 2), (Some(0), 0)] {
        for ecn in 0..4 {
            for request in requests(0b0110_1000 | ecn) {
                let mut world = World::new();
                if let Some(number) = codepoint {
                    world = marking(marking(world, WEB, number), DNS, number);
                }
                let mut gateway = world.gateway();
                let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes()));
                let inner = Packet::read(&inside(&out));
                assert_eq!(inner.tos, expected | ecn);
                assert_eq!(tunnelled(&out.bytes).outer.tos, ecn, "the outer one is its own");
                // The reply has the codepoint that the pod has set.
                let answer = Packet { tos: 0b1000_0000 | ecn, ..inner.answer(SYN | ACK, b"") };
                let back = gateway.send(UNDERLAY, &from_pod(node_of(&out), &answer.bytes()));
                assert_eq!(Packet::read(&outside(&back)).tos, 0b1000_0000 | ecn);
                // The same holds for every packet of the flow.
                let again = gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes()));
                assert_eq!(Packet::read(&inside(&again)).tos, expected | ecn);
            }
        }
    }
}

#[test]
fn a_codepoint_follows_the_snapshot_and_a_pod_that_comes_by_hairpin_gets_it_too() {
    for request in requests(0) {
        let mut gateway = World::new().gateway();
        let sent = |gateway: &mut Gateway| {
            Packet::read(&inside(&gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes())))).tos
        };
        assert_eq!(sent(&mut gateway), 0);
        for (generation, number) in [(2, Some(10)), (3, Some(12)), (4, None)] {
            let mut world = World { generation, ..World::new() };
            if let Some(number) = number {
                world = marking(marking(world, WEB, number), DNS, number);
            }
            gateway.apply(&world);
            for _ in 0..2 {
                assert_eq!(sent(&mut gateway), number.map_or(0, |number| number << 2));
            }
        }
    }
    // A handshake's segments always ask the service; datagrams go by what their flow remembers.
    for request in [Packet::web(7, SYN, b""), Packet::dns(7, b"query")] {
        let mut gateway = marking(marking(World::new(), WEB, 46), DNS, 46).gateway();
        let hairpin = Packet { source: (world::pod(0, 10), 7).into(), ..request };
        for _ in 0..4 {
            let out = gateway.send(UNDERLAY, &from_pod(0, &hairpin.bytes()));
            assert_eq!(Packet::read(&inside(&out)).tos, 46 << 2);
        }
    }
}

#[test]
fn a_syn_that_is_too_big_is_quoted_with_the_segment_size_that_it_came_with() {
    for mss in [MssLimit::Path, MssLimit::Bytes(1200)] {
        // With data, as with TCP fast open (RFC 7413 §2).
        for request in [Packet::web(7, SYN, &[1; 1440]), Packet::web_v6(7, SYN, &[1; 1420])] {
            let mut gateway = limited(mss).gateway();
            let sent = with_options(&request, &usual(1460));
            let error = Packet::read(&outside(&gateway.send(UPLINK, &framed(FROM_CLIENT, &sent))));
            let Body::Icmp(kind, _, _, quoted) = error.body else { panic!("{error:?}") };
            assert!([3, 2].contains(&kind));
            assert_eq!(quoted, sent[..quoted.len()], "{mss:?}");
            // The same SYN, retransmitted.
            let error = Packet::read(&outside(&gateway.send(UPLINK, &framed(FROM_CLIENT, &sent))));
            assert!(matches!(error.body, Body::Icmp(_, _, _, again) if again == quoted));
        }
    }
}

#[test]
fn what_is_as_large_as_its_egress_takes_has_the_codepoint_of_its_service() {
    let mut gateway = marking(World::new(), DNS, 46).gateway();
    for data in [1421, 1422] {
        let request = Packet { tos: 0x28, ..Packet::dns(7, &vec![1; data]) };
        let seen = inside(&gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes())));
        assert_eq!((seen.len(), Ipv4Header::from_slice(&seen).unwrap().0.dscp.value()), (data + 28, 46));
    }
}

#[test]
fn what_is_too_big_is_quoted_with_the_codepoint_that_it_came_with() {
    let mut gateway = marking(World::new(), DNS, 46).gateway();
    let request = Packet { tos: 0x28, ..Packet::dns(7, &[1; 1440]) };
    for request in [request.clone(), Packet { ttl: 1, ..request }] {
        let error = Packet::read(&outside(&gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes()))));
        let Body::Icmp(_, _, _, quoted) = error.body else { panic!("{error:?}") };
        assert_eq!(Ipv4Header::from_slice(&quoted).unwrap().0.dscp.value(), 10);
    }
}

#[test]
fn rfc2983_the_outer_codepoint_is_one_of_its_own_or_the_inner_ones_and_ecn_is_not_touched() {
    for (outer, expected) in [
        (OuterDscp::default(), 0),
        (OuterDscp::Fixed(dscp(48)), 48),
        (OuterDscp::Fixed(dscp(63)), 63),
        (OuterDscp::Copy, 26),
    ] {
        let world = World { outer_dscp: outer, ..World::new() };
        for ecn in 0..4 {
            for request in requests(26 << 2 | ecn) {
                let mut gateway = world.gateway();
                let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes()));
                let seen = tunnelled(&out.bytes);
                assert_eq!(seen.outer.tos, expected << 2 | ecn, "{outer:?}");
                let inner = Packet::read(&seen.inner);
                assert_eq!(inner.tos, 26 << 2 | ecn);
                // Decapsulation does not change the inner codepoint (pipe model).
                let answer = inner.answer(SYN | ACK, b"");
                let mut frame = from_pod(node_of(&out), &answer.bytes());
                set_outer_tos(&mut frame, 0xb8);
                let back = Packet::read(&outside(&gateway.send(UNDERLAY, &frame)));
                assert_eq!(back.tos, 0);
            }
        }
    }
    // The service's codepoint is the one that is copied.
    let world = marking(World { outer_dscp: OuterDscp::Copy, ..World::new() }, WEB, 46);
    let out = world.gateway().send(UPLINK, &framed(FROM_CLIENT, &Packet::web(7, SYN, b"").bytes()));
    assert_eq!(tunnelled(&out.bytes).outer.tos, 46 << 2);
    // Without a tunnel there is no outer header.
    let world = World { outer_dscp: OuterDscp::Fixed(dscp(48)), ..World::new().direct() };
    let out = world.gateway().send(UPLINK, &framed(FROM_CLIENT, &Packet::web(7, SYN, b"").bytes()));
    assert_eq!(Packet::read(&unframed(&out.bytes).1).tos, 0);
}

fn set_outer_tos(frame: &mut [u8], tos: u8) {
    if frame[14] >> 4 == 4 {
        let (mut header, _) = Ipv4Header::from_slice(&frame[14..]).unwrap();
        header.dscp = (tos >> 2).try_into().unwrap();
        header.header_checksum = header.calc_header_checksum();
        frame[14..34].copy_from_slice(&header.to_bytes());
    } else {
        let (mut header, _) = Ipv6Header::from_slice(&frame[14..]).unwrap();
        header.traffic_class = tos;
        frame[14..54].copy_from_slice(&header.to_bytes());
    }
}

#[test]
fn a_source_that_is_one_of_the_gateways_own_addresses_is_spoofed() {
    let mut world = World { masquerade: vec!["198.51.100.7".parse().unwrap()], ..World::new() };
    world.frontends[0].2.push(Endpoint { address: "203.0.113.10".parse().unwrap(), port: 80 });
    let mut gateway = world.gateway();
    // A link's address, a service's, a masquerade address, a SNAT pool address, and VTEPs'.
    for own in ["192.0.2.1", "203.0.113.10", "198.51.100.7", "10.77.200.2", "10.99.0.50", "2001:db8:1::1", "fd99::50"] {
        let own: IpAddr = own.parse().unwrap();
        let packet = if own.is_ipv4() { Packet::web(7, SYN, b"") } else { Packet::web_v6(7, SYN, b"") };
        let forged = Packet { source: (own, 7).into(), ..packet };
        for (port, frame) in [
            (UPLINK, framed(FROM_CLIENT, &forged.bytes())),
            (UNDERLAY, framed(from_node(0), &forged.bytes())),
            (UNDERLAY, from_pod(0, &forged.bytes())),
        ] {
            assert_eq!(gateway.send(port, &frame).verdict, Verdict::Drop(DropReason::SpoofedSource), "{own}");
        }
    }
    assert!(gateway.worker.flows().is_empty());
}

#[test]
fn an_ipv4_option_of_a_length_that_cannot_be_is_malformed() {
    let mut gateway = World::new().gateway();
    let with = |options: &[u8]| {
        let mut ip = Packet::web(7, SYN, b"").bytes();
        ip.splice(20..20, options.iter().copied());
        let (mut header, _) =
            Ipv4Header::from_slice(&[&[0x45 + (options.len() / 4) as u8], &ip[1..]].concat()).unwrap();
        header.total_len = ip.len() as u16;
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &ip[20 + options.len()..]].concat()
    };
    for broken in [&[7, 0, 4, 0][..], &[7, 1, 4, 0], &[7, 5, 4, 0], &[1, 1, 1, 7], &[1, 7, 3, 4, 68, 5, 5, 9]] {
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &with(broken)));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::Malformed), "{broken:?}");
        assert_eq!(gateway.send(UNDERLAY, &from_pod(0, &with(broken))).verdict, Verdict::Drop(DropReason::Malformed));
    }
    for right in [&[7, 3, 4, 0][..], &[1, 1, 1, 1], &[7, 4, 4, 0], &[0, 7, 0, 99], &[68, 8, 5, 0, 0, 0, 0, 0]] {
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &with(right)));
        assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY), "{right:?}");
    }
}

#[test]
fn stateless_packets_are_lowered_and_marked_too() {
    let mut world = marking(limited(MssLimit::Path), WEB, 46).preserving(WEB);
    world.admission = Admission { new_flows_per_second: 1, past_limit: PastLimit::Stateless, ..world.admission };
    let mut gateway = world.gateway();
    let mut out =
        |port| gateway.send(UPLINK, &framed(FROM_CLIENT, &with_options(&Packet::web(port, SYN, b""), &usual(1460))));
    let (with_flow, stateless) = (out(7), out(8));
    assert_eq!(gateway.counters.forwarded_stateless.get(), 1);
    for out in [with_flow, stateless] {
        assert_eq!(options(&inside(&out)), usual(1410));
        let inner = Packet::read(&inside(&out));
        assert_eq!(inner.tos, 46 << 2);
        let answer = with_options(&inner.answer(SYN | ACK, b""), &usual(1460));
        assert_eq!(options(&outside(&gateway.send(UNDERLAY, &from_pod(node_of(&out), &answer)))), usual(1410));
    }
    assert_eq!(gateway.counters.forwarded_stateless.get(), 2);
}

#[test]
fn the_tracer_reports_what_was_lowered_and_marked() {
    let world = marking(limited(MssLimit::Path), WEB, 46);
    let mut gateway = world.gateway();
    let seen = gateway.steps(UPLINK, &framed(FROM_CLIENT, &with_options(&Packet::web(7, SYN, b""), &usual(1460))));
    assert!(seen.contains(&Step::MssLowered(1410)) && seen.contains(&Step::Marked(dscp(46))), "{seen:?}");
    let as_they_are = Packet { tos: 46 << 2, ..Packet::web(8, SYN, b"") };
    let seen = gateway.steps(UPLINK, &framed(FROM_CLIENT, &with_options(&as_they_are, &usual(1000))));
    assert!(!seen.iter().any(|step| matches!(step, Step::MssLowered(_) | Step::Marked(_))), "{seen:?}");
}
