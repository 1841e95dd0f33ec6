//! RFC 792, 1812 §4.3, 4443 and 5508: the gateway's own errors, and errors from others.

use std::net::IpAddr;

use weirgate::net::Mac;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Link, Packet, SYN, framed, from_pod, unframed};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

use super::helpers::{
    converse, dropped, error_about, error_quoting, from_client, seal_v4, to_client, to_pod, transmitted, with_options,
};

fn router(v4: bool) -> IpAddr {
    if v4 { [10, 77, 74, 1].into() } else { "fd77:0:0:74::1".parse().expect("an address") }
}

#[test]
fn rfc1812_s4_3_2_5_an_error_has_the_precedence_of_network_control() {
    let mut gateway = World::new().gateway();
    let out = from_client(&mut gateway, &Packet { ttl: 1, ..Packet::web(7, SYN, b"") }.bytes());
    assert_eq!(Packet::read(&unframed(transmitted(&out, UPLINK)).1).tos >> 5, 6);
}

#[test]
fn rfc1812_s4_3_2_7_no_error_is_sent_about_an_error() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web(7, SYN, b""));
    let error = Packet { ttl: 1, ..error_about(&inner, router(true), (3, 1), [0; 4]) };
    assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(node, &error.bytes()))), DropReason::TtlExpired);
    assert_eq!(gateway.counters.errors_sent.get(), 0);
}

#[test]
fn rfc1812_s4_3_2_7_no_error_is_sent_to_a_multicast_source_of_either_layer() {
    let mut gateway = World::new().gateway();
    let dead = |packet: Packet| Packet { ttl: 1, ..packet }.bytes();
    let from_group = Link { source: Mac([1, 0, 0x5e, 0, 0, 1]), ..FROM_CLIENT };
    let out = gateway.send(UPLINK, &framed(from_group, &dead(Packet::web(7, SYN, b""))));
    assert_eq!(dropped(&out), DropReason::MartianAddress);
    let group = Packet { source: ([224, 0, 0, 1], 7).into(), ..Packet::web(7, SYN, b"") };
    assert_eq!(dropped(&from_client(&mut gateway, &dead(group))), DropReason::MartianAddress);
    assert_eq!(gateway.counters.errors_sent.get(), 0);
}

#[test]
fn rfc4443_s2_4_e_no_error_is_sent_about_an_error() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web_v6(7, SYN, b""));
    let error = Packet { ttl: 1, ..error_about(&inner, router(false), (1, 3), [0; 4]) };
    assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(node, &error.bytes()))), DropReason::TtlExpired);
    let from_group = Link { source: Mac([0x33, 0x33, 0, 0, 0, 1]), ..FROM_CLIENT };
    let dead = Packet { ttl: 1, ..Packet::web_v6(7, SYN, b"") };
    assert_eq!(dropped(&gateway.send(UPLINK, &framed(from_group, &dead.bytes()))), DropReason::MartianAddress);
    for nobody in ["::", "ff02::1"] {
        let source = (nobody.parse::<IpAddr>().unwrap(), 7).into();
        let out = from_client(&mut gateway, &Packet { source, ..dead.clone() }.bytes());
        assert_eq!(dropped(&out), DropReason::MartianAddress, "{nobody}");
    }
    assert_eq!(gateway.counters.errors_sent.get(), 0);
}

#[test]
fn rfc4443_s2_4_a_an_error_of_an_unknown_type_reaches_whom_it_is_about() {
    for kind in [4, 5, 100, 127] {
        let mut gateway = World::new().gateway();
        let request = Packet::web_v6(7, SYN, b"");
        let (node, inner) = converse(&mut gateway, &request);
        let seen = to_client(&mut gateway, node, &error_about(&inner, router(false), (kind, 9), [1, 2, 3, 4]));
        assert_eq!(seen.destination.ip(), request.source.ip());
        assert!(matches!(seen.body, Body::Icmp(k, 9, [1, 2, 3, 4], _) if k == kind), "{seen:?}");
    }
}

#[test]
fn rfc4443_s2_4_b_unknown_informational_messages_are_dropped() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web_v6(7, SYN, b""));
    for kind in [150, 200, 255] {
        let message = error_about(&inner, router(false), (kind, 0), [0; 4]);
        let out = gateway.send(UNDERLAY, &from_pod(node, &message.bytes()));
        assert_eq!(dropped(&out), DropReason::IcmpUnmatched);
    }
}

#[test]
fn rfc4443_s2_4_f_errors_are_rate_limited_over_ipv6() {
    let mut gateway = World::new().gateway();
    let dead = Packet { ttl: 1, ..Packet::web_v6(7, SYN, b"") }.bytes();
    let sent = (0..100).filter(|_| from_client(&mut gateway, &dead).verdict == Verdict::Transmit(UPLINK)).count();
    assert!(sent < 100, "all {sent} of 100 at once");
    assert_eq!(gateway.counters.drops(DropReason::ErrorRateLimited), 100 - sent as u64);
    gateway.advance(Span::from_secs(1));
    transmitted(&from_client(&mut gateway, &dead), UPLINK);
}

#[test]
fn rfc5508_req3b_options_of_the_quoted_packet_are_stepped_over() {
    let mut gateway = World::new().gateway();
    let request = Packet::web(7, SYN, b"");
    let (node, inner) = converse(&mut gateway, &request);
    let quote = with_options(&inner.bytes(), &[1, 0x9e, 6, 1, 2, 3, 4, 0]);
    let error = error_quoting(&quote, (inner.source.ip(), router(true)), (3, 1), [0; 4]);
    let seen = to_client(&mut gateway, node, &error);
    let Body::Icmp(3, 1, _, quoted) = seen.body else { panic!("{seen:?}") };
    let at = 28;
    assert_eq!(quoted[at..at + 2], request.source.port().to_be_bytes());
    assert_eq!(quoted[at + 2..at + 4], request.destination.port().to_be_bytes());
    let mut sealed = quoted.clone();
    seal_v4(&mut sealed);
    assert_eq!(sealed, quoted, "the quoted header's checksum is right");
}

#[test]
fn rfc5508_req3c_a_wrong_transport_checksum_in_the_quote_is_ignored() {
    let mut gateway = World::new().gateway();
    let request = Packet::web(7, SYN, b"data");
    let (node, inner) = converse(&mut gateway, &request);
    let mut quote = inner.bytes();
    quote[37] ^= 0x55;
    let error = error_quoting(&quote, (inner.source.ip(), router(true)), (3, 1), [0; 4]);
    assert_eq!(to_client(&mut gateway, node, &error).destination.ip(), request.source.ip());
}

#[test]
fn rfc5508_req4_req5_type_and_code_stay_and_every_kind_of_unreachable_passes() {
    let mut gateway = World::new().gateway();
    let request = Packet::web(7, SYN, b"");
    let (node, inner) = converse(&mut gateway, &request);
    let back = to_client(&mut gateway, node, &inner.answer(ACK, b""));
    let kinds = (0..=15).map(|code| (3, code)).chain([(11, 0), (11, 1), (12, 0), (12, 1)]);
    for (kind, code) in kinds {
        let seen = to_client(&mut gateway, node, &error_about(&inner, router(true), (kind, code), [0; 4]));
        assert!(matches!(seen.body, Body::Icmp(k, c, ..) if (k, c) == (kind, code)), "inside: {seen:?}");
        let outside = error_about(&back, [198, 51, 100, 9].into(), (kind, code), [0; 4]);
        let (_, seen) = to_pod(&mut gateway, &outside);
        assert!(matches!(seen.body, Body::Icmp(k, c, ..) if (k, c) == (kind, code)), "outside: {seen:?}");
    }
}

/// An error about an error may not be sent (RFC 1812 §4.3.2.7), and one that is cut says less than its sender meant.
#[test]
fn an_error_as_large_as_its_egress_takes_passes_and_a_larger_one_is_dropped() {
    let cases = [
        (Packet::web(7, SYN, b""), (3, 1), "198.51.100.9", 20, 1450),
        (Packet::web_v6(7, SYN, b""), (1, 3), "2001:db8:9::1", 40, 1430),
    ];
    for (request, kind, reporter, header, mtu) in cases {
        let mut gateway = World::new().gateway();
        let (node, inner) = converse(&mut gateway, &request);
        let back = to_client(&mut gateway, node, &inner.answer(ACK, b""));
        for (len, fits) in [(mtu - 1, true), (mtu, true), (mtu + 1, false), (1500, false)] {
            let about = Packet { body: Body::Tcp(ACK, vec![0x55; len - (header + 8) - (header + 20)]), ..back.clone() };
            let error = error_about(&about, reporter.parse().unwrap(), kind, [0; 4]).bytes();
            assert_eq!(error.len(), len);
            let out = from_client(&mut gateway, &error);
            let expected = if fits { Verdict::Transmit(UNDERLAY) } else { Verdict::Drop(DropReason::TooBig) };
            assert_eq!(out.verdict, expected, "{len} bytes of {mtu}");
        }
    }
}

/// Also RFC 4787 REQ-12 and RFC 5382 REQ-10: an error does not end what it is about.
#[test]
fn rfc5508_req6_an_error_neither_refreshes_nor_ends_a_flow() {
    for request in [Packet::dns(7, b"query"), Packet::web(7, SYN, b"")] {
        let world = World::new();
        let life = match request.body {
            Body::Udp(_) => world.timeouts.udp_seconds,
            _ => world.timeouts.tcp_syn_sent_seconds,
        };
        let mut gateway = world.gateway();
        let (node, inner) = to_pod(&mut gateway, &request);
        gateway.advance(Span::from_secs(u64::from(life) - 10));
        for (kind, code) in [(3, 1), (3, 3), (3, 13), (11, 0)] {
            to_client(&mut gateway, node, &error_about(&inner, router(true), (kind, code), [0; 4]));
        }
        // Not ended: the reply still passes, and so would the client's next packet.
        let mut same = World::new().gateway();
        let (same_node, same_inner) = to_pod(&mut same, &request);
        to_client(&mut same, same_node, &error_about(&same_inner, router(true), (3, 3), [0; 4]));
        to_client(&mut same, same_node, &same_inner.answer(SYN | ACK, b""));
        assert_eq!(to_pod(&mut same, &request).1.source, same_inner.source);
        // Not refreshed: the idle timeout counts from the flow's own last packet.
        gateway.advance(Span::from_secs(11));
        let out = gateway.send(UNDERLAY, &from_pod(node, &inner.answer(SYN | ACK, b"").bytes()));
        assert_eq!(dropped(&out), DropReason::NoFlow);
    }
}

#[test]
fn rfc1812_s4_3_2_1_messages_of_unknown_types_are_dropped_silently() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web(7, SYN, b""));
    for kind in [1, 2, 7, 42, 100, 255] {
        let message = error_about(&inner, router(true), (kind, 0), [0; 4]);
        let out = gateway.send(UNDERLAY, &from_pod(node, &message.bytes()));
        assert_eq!(dropped(&out), DropReason::IcmpUnmatched, "type {kind}");
    }
    assert_eq!((gateway.counters.errors_sent.get(), gateway.counters.errors_translated.get()), (0, 0));
}

/// Timestamp, information and address mask, which RFC 6918 deprecates, and router discovery.
#[test]
fn rfc5508_req11_queries_but_echo_are_dropped_by_name() {
    let mut gateway = World { masquerade: vec![[198, 51, 100, 7].into()], ..World::new() }.gateway();
    for kind in [9, 10, 13, 14, 15, 16, 17, 18] {
        let body = Body::Icmp(kind, 0, [0x12, 0x34, 0, 1], vec![0; 12]);
        let query = Packet::new((world::pod(0, 10), 0).into(), (world::CLIENT, 0).into(), body);
        let out = gateway.send(UNDERLAY, &from_pod(0, &query.bytes()));
        assert_eq!(dropped(&out), DropReason::IcmpUnmatched, "type {kind}");
    }
    assert_eq!(gateway.worker.flows().v4.len(), 0);
}
