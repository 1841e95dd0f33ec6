//! ICMP errors from others, about a flow's packet.

use std::net::IpAddr;

use weirgate::net::WorkerId;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Packet, SYN, framed, from_pod, to_node, tunnelled, unframed};
use weirgate_fixture::world::{UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out};

use super::helpers::{dropped, to_client, to_pod, transmitted};

/// An ICMP error about `about`, as sent by `reporter` to the packet's sender.
fn error_about(about: &Packet, reporter: IpAddr, kind: u8, code: u8, rest: [u8; 4], quoted: usize) -> Packet {
    let bytes = about.bytes();
    let quote = bytes[..quoted.min(bytes.len())].to_vec();
    Packet::new((reporter, 0).into(), (about.source.ip(), 0).into(), Body::Icmp(kind, code, rest, quote))
}

#[test]
fn rfc5508_req5_an_error_from_the_overlay_reaches_the_client_about_its_own_packet() {
    let routers: [IpAddr; 2] = [[10, 77, 74, 1].into(), "fd77:0:0:74::1".parse().unwrap()];
    for (request, router, kind, code, rest) in [
        (Packet::web(7, SYN, b""), routers[0], 3, 1, [0; 4]),
        (Packet::dns(7, b"query"), routers[0], 3, 4, [0, 0, 5, 0]),
        (Packet::web_v6(7, SYN, b""), routers[1], 2, 0, [0, 0, 5, 0]),
    ] {
        for quoted in [28, 48, 1000] {
            let quoted = if request.source.is_ipv6() { quoted + 20 } else { quoted };
            let mut gateway = World::new().gateway();
            let (node, inner) = to_pod(&mut gateway, &request);
            let error = error_about(&inner, router, kind, code, rest, quoted);
            let seen = to_client(&mut gateway, node, &error);
            let expected = error_about(
                &Packet { ttl: inner.ttl, ..request.clone() },
                request.destination.ip(),
                kind,
                code,
                rest,
                quoted,
            );
            assert_eq!(seen, expected.after_a_hop(), "{quoted} bytes quoted");
            let traffic = gateway.worker.flows().v4.iter().map(|entry| entry.traffic.packets).next();
            assert!(traffic.is_none_or(|packets| packets == [1, 0]), "an error is not counted as the flow's");
        }
    }
}

#[test]
fn rfc5508_req4_an_error_from_outside_reaches_the_pod_about_its_own_packet() {
    for (request, router) in [
        (Packet::web(7, SYN, b""), "198.51.100.9".parse::<IpAddr>().unwrap()),
        (Packet::dns(7, b"query"), "198.51.100.9".parse().unwrap()),
        (Packet::web_v6(7, SYN, b""), "2001:db8:9::9".parse().unwrap()),
    ] {
        let mut gateway = World::new().gateway();
        let (node, inner) = to_pod(&mut gateway, &request);
        let answer = inner.answer(SYN | ACK, b"much too long for a narrow link");
        let back = to_client(&mut gateway, node, &answer);
        let (kind, code) = if request.source.is_ipv4() { (3, 4) } else { (2, 0) };
        let error = error_about(&back, router, kind, code, [0, 0, 5, 0x14], 1000);
        let (same_node, seen) = to_pod(&mut gateway, &error);
        let expected = error_about(
            &Packet { ttl: back.ttl, ..answer.clone() },
            answer.destination.ip(),
            kind,
            code,
            [0, 0, 5, 0x14],
            1000,
        );
        assert_eq!((same_node, seen), (node, expected.after_a_hop()));
        assert_eq!(gateway.counters.errors_translated.get(), 1);
    }
}

#[test]
fn rfc768_no_udp_checksum_stays_none_in_a_quote() {
    let mut gateway = World::new().gateway();
    let mut query = Packet::dns(5000, b"query").bytes();
    query[26..28].fill(0);
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &query));
    let seen = tunnelled(transmitted(&out, UNDERLAY));
    let (source, router) = (Packet::read(&seen.inner).source.ip(), IpAddr::from([10, 77, 74, 1]));
    let error = Packet::new((router, 0).into(), (source, 0).into(), Body::Icmp(3, 1, [0; 4], seen.inner.clone()));
    let out = gateway.send(UNDERLAY, &from_pod(usize::from(seen.link == to_node(1)), &error.bytes()));
    let Body::Icmp(.., quote) = Packet::read(&unframed(transmitted(&out, UPLINK)).1).body else { panic!("{out:?}") };
    assert_eq!((&quote[12..26], &quote[26..28]), (&query[12..26], &[0, 0][..]));
}

#[test]
fn rfc5508_req3_errors_that_do_not_fit_a_flow_are_dropped() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let router: IpAddr = [10, 77, 74, 1].into();
    let good = error_about(&inner, router, 3, 1, [0; 4], 48);
    let changed = |change: fn(&mut Packet)| {
        let mut packet = good.clone();
        change(&mut packet);
        packet.bytes()
    };
    let quote = |packet: &mut Packet, at: usize, value: u8| {
        let Body::Icmp(.., quote) = &mut packet.body else { panic!("an error") };
        quote[at] = value;
    };
    let bad_sum = {
        let mut bytes = good.bytes();
        bytes[23] ^= 1;
        bytes
    };
    let cases = [
        bad_sum,
        // A redirect, source quench.
        error_about(&inner, router, 5, 1, [10, 77, 74, 1], 48).bytes(),
        error_about(&inner, router, 4, 0, [0; 4], 48).bytes(),
        // Sent to another pool address than the quoted packet came from.
        changed(|packet| packet.destination = ([10, 77, 200, 9], 0).into()),
        {
            // A quoted header with a wrong checksum.
            let mut packet = good.clone();
            quote(&mut packet, 8, 1);
            packet.bytes()
        },
        {
            // An error that quotes an error, and one that quotes a tunnel.
            let nested = error_about(&good, [10, 77, 200, 2].into(), 3, 1, [0; 4], 100);
            Packet { destination: good.destination, source: good.source, ..nested }.bytes()
        },
    ];
    for (index, ip) in cases.iter().enumerate() {
        let out = gateway.send(UNDERLAY, &from_pod(node, ip));
        assert_eq!(dropped(&out), DropReason::IcmpUnmatched, "case {index}");
    }
    let unknown = error_about(&Packet::web(9, SYN, b""), router, 3, 1, [0; 4], 48);
    let unknown = Packet { destination: good.destination, ..unknown };
    assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(node, &unknown.bytes()))), DropReason::IcmpUnmatched);
    // From a client's link, about a packet that only the overlay carried.
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &good.bytes()));
    assert_eq!(dropped(&out), DropReason::IcmpUnmatched);
    assert_eq!(gateway.counters.errors_translated.get(), 0);
}

#[test]
fn an_error_that_reaches_another_worker_is_handed_to_its_flows_owner() {
    let world = World { workers: 2, ..World::new() };
    let mut workers: Vec<Gateway> =
        (0..2).map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 256))).collect();
    let (node, inner) = to_pod(&mut workers[1], &Packet::web(7, SYN, b""));
    let frame = from_pod(node, &error_about(&inner, [10, 77, 74, 1].into(), 3, 1, [0; 4], 48).bytes());
    assert_eq!(
        workers[0].send(UNDERLAY, &frame),
        Out { verdict: Verdict::Handover(WorkerId(1)), bytes: frame.clone() }
    );
    transmitted(&workers[1].send(UNDERLAY, &frame), UPLINK);
}
