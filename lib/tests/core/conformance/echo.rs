//! RFC 792, RFC 1122 §3.2.2.6 and RFC 4443 §4.2: pings of services' addresses, which no interface has.

use std::net::IpAddr;

use weirgate::net::{Mac, WorkerId};
use weirgate::pipeline::Step;
use weirgate::snapshot::Echo;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    Body, FROM_CLIENT, Link, Packet, TO_CLIENT, framed, from_node, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out};

use super::helpers::{dropped, from_client, transmitted, with_options};

/// A client's ping of the service's external address, over IPv4 or IPv6.
fn ping(v4: bool) -> Packet {
    let (from, to): (IpAddr, IpAddr) = if v4 {
        (world::CLIENT.into(), world::EXTERNAL.into())
    } else {
        (world::CLIENT_V6.into(), world::EXTERNAL_V6.into())
    };
    Packet::ping(from, to, b"hello")
}

fn at_client(out: &Out) -> Packet {
    let (link, ip) = unframed(transmitted(out, UPLINK));
    assert_eq!(link, TO_CLIENT);
    Packet::read(&ip)
}

/// Asserts that a ping is answered whatever its `ttl`, so that a trace of the path ends at the service.
fn is_answered(v4: bool) {
    let mut gateway = World::new().with_external().gateway();
    for ttl in [64, 2, 1] {
        let ping = Packet { ttl, tos: 0x28, ..ping(v4) };
        let expected = Packet { tos: 0x28, ..ping.answer(0, b"") };
        assert_eq!(at_client(&from_client(&mut gateway, &ping.bytes())), expected);
    }
    let vlan = Some(0x4005);
    let out = gateway.send(UPLINK, &framed(Link { vlan, ..FROM_CLIENT }, &ping(v4).bytes()));
    assert_eq!(unframed(transmitted(&out, UPLINK)).0, Link { vlan, ..TO_CLIENT });
    gateway.assert_counted(&[("echoes-answered", 4), ("port0-in", 4), ("port0-out", 4)]);
}

#[test]
fn rfc1122_s3_2_2_6_pings_of_a_services_address_are_answered() {
    is_answered(true);
}

#[test]
fn rfc4443_s4_2_pings_of_a_services_address_are_answered() {
    is_answered(false);
}

#[test]
fn rfc792_a_damaged_ping_is_answered_damaged() {
    let mut gateway = World::new().with_external().gateway();
    let mut damaged = ping(true).bytes();
    damaged[28] ^= 1;
    let (_, mut answer) = unframed(transmitted(&from_client(&mut gateway, &damaged), UPLINK));
    answer[28] ^= 1;
    assert_eq!(Packet::read(&answer), ping(true).answer(0, b""), "nothing else is wrong with it");
}

#[test]
fn pods_pings_of_a_services_address_are_answered_on_the_path_that_they_came() {
    let masquerade = ["198.51.100.7", "2001:db8:7::7"].map(|text| text.parse().unwrap()).into();
    for (world, tunnel) in [
        (World { masquerade, ..World::new() }, true),
        (World { workers: 4, ..World::new() }, true),
        (World::new().direct(), false),
    ] {
        for v4 in [true, false] {
            let pod: IpAddr = if v4 { world::pod(1, 10).into() } else { world::pod_v6(1, 0x10).into() };
            let ping = Packet { source: (pod, 0).into(), ..ping(v4) };
            let world = world.clone().with_external();
            let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 1024));
            let (link, ip) = if tunnel {
                let seen = tunnelled(transmitted(&gateway.send(UNDERLAY, &from_pod(1, &ping.bytes())), UNDERLAY));
                (seen.link, seen.inner)
            } else {
                unframed(transmitted(&gateway.send(UNDERLAY, &framed(from_node(1), &ping.bytes())), UNDERLAY))
            };
            assert_eq!((link, Packet::read(&ip)), (to_node(1), ping.answer(0, b"")));
            gateway.assert_counted(&[("echoes-answered", 1), ("port1-in", 1), ("port1-out", 1)]);
        }
    }
}

#[test]
fn the_tracer_reports_what_became_of_a_ping() {
    let mut gateway =
        World { echo: Echo { per_second: 1, ..Echo::default() }, ..World::new() }.with_external().gateway();
    let ping = framed(FROM_CLIENT, &ping(true).bytes());
    assert_eq!(gateway.steps(UPLINK, &ping), [Step::Answered, Step::Decided(Verdict::Transmit(UPLINK))]);
    assert_eq!(gateway.steps(UPLINK, &ping), [Step::Decided(Verdict::Drop(DropReason::EchoLimit))]);
}

#[test]
fn every_worker_answers_what_its_queue_brings() {
    let world = World { workers: 3, ..World::new() }.with_external();
    for worker in 0..3 {
        let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(worker), 1024));
        assert_eq!(at_client(&from_client(&mut gateway, &ping(true).bytes())), ping(true).answer(0, b""));
    }
}

#[test]
fn pings_of_the_hosts_own_addresses_and_of_unknown_ones_are_not_answered() {
    let silent = World { echo: Echo { services: false, ..Echo::default() }, ..World::new() };
    let own: World = {
        let mut own = World::new().with_external();
        own.local.extend([IpAddr::from(world::EXTERNAL), world::EXTERNAL_V6.into()]);
        own
    };
    for world in [silent.with_external(), own, World::new()] {
        let mut gateway = world.gateway();
        for v4 in [true, false] {
            assert_eq!(dropped(&from_client(&mut gateway, &ping(v4).bytes())), DropReason::IcmpUnmatched);
        }
    }
    let mut gateway = World::new().with_external().gateway();
    for address in ["192.0.2.1", "10.99.0.50", "203.0.113.11"] {
        let address: IpAddr = address.parse().unwrap();
        let ping = Packet { destination: (address, 0).into(), ..ping(true) };
        assert_eq!(dropped(&from_client(&mut gateway, &ping.bytes())), DropReason::IcmpUnmatched, "{address}");
    }
    // Echo replies, and the other ICMP queries (RFC 6918).
    for kind in [0, 13, 15, 17] {
        let packet = Packet { body: Body::Icmp(kind, 0, [0; 4], vec![0; 12]), ..ping(true) };
        assert_eq!(dropped(&from_client(&mut gateway, &packet.bytes())), DropReason::IcmpUnmatched, "{kind}");
    }
    let reply = Packet { body: Body::Icmp(129, 0, [0; 4], vec![]), ..ping(false) };
    assert_eq!(dropped(&from_client(&mut gateway, &reply.bytes())), DropReason::IcmpUnmatched);
}

#[test]
fn rfc1122_s3_2_1_3_pings_from_invalid_sources_are_not_answered() {
    let mut gateway = World::new().with_external().gateway();
    let martians = ["255.255.255.255", "224.0.0.1", "0.0.0.0", "127.0.0.1", "::", "::1", "ff02::1", "fe80::1"];
    let spoofed = [
        // Sources that are the gateway's own addresses, the service's among them, or pods'.
        "203.0.113.10",
        "192.0.2.1",
        "10.77.200.2",
        "10.77.74.10",
        "2001:db8:113::10",
        "fd77:0:0:74::10",
    ];
    let sources = martians.map(|text| (text, DropReason::MartianAddress)).into_iter();
    for (source, reason) in sources.chain(spoofed.map(|text| (text, DropReason::SpoofedSource))) {
        let source: IpAddr = source.parse().unwrap();
        let ping = Packet { source: (source, 0).into(), ..ping(source.is_ipv4()) };
        assert_eq!(dropped(&from_client(&mut gateway, &ping.bytes())), reason, "{source}");
    }
    let group = Link { source: Mac([0x01, 0, 0x5e, 0, 0, 1]), ..FROM_CLIENT };
    let out = gateway.send(UPLINK, &framed(group, &ping(true).bytes()));
    assert_eq!(dropped(&out), DropReason::MartianAddress);
}

#[test]
fn rfc1122_s3_2_2_6_a_ping_with_a_source_route_is_dropped_and_other_options_come_back() {
    let mut gateway = World::new().with_external().gateway();
    for kind in [131, 137] {
        for options in [[kind, 7, 8, 192, 0, 2, 77, 0].as_slice(), &[1, 7, 3, 4, kind, 3, 4, 0]] {
            let ping = with_options(&ping(true).bytes(), options);
            assert_eq!(dropped(&from_client(&mut gateway, &ping)), DropReason::SourceRoute);
        }
    }
    let recorded = [7, 7, 4, 0, 0, 0, 0, 0];
    let out = from_client(&mut gateway, &with_options(&ping(true).bytes(), &recorded));
    let (_, answer) = unframed(transmitted(&out, UPLINK));
    let expected = Packet { dont_fragment: true, ..ping(true).answer(0, b"") };
    assert_eq!(answer, with_options(&expected.bytes(), &recorded));
}

#[test]
fn answers_to_pings_are_rate_limited_and_those_of_nodes_by_themselves() {
    let mut gateway =
        World { echo: Echo { per_second: 100, ..Echo::default() }, ..World::new() }.with_external().gateway();
    gateway.advance(Span::from_secs(1));
    let answered = |gateway: &mut Gateway, times: usize| {
        (0..times).filter(|_| from_client(gateway, &ping(true).bytes()).verdict == Verdict::Transmit(UPLINK)).count()
    };
    // A burst of a tenth of a second's, and one that the refill adds.
    assert_eq!(answered(&mut gateway, 50), 11);
    assert_eq!(gateway.counters.drops(DropReason::EchoLimit), 39);
    let node = Packet::ping(world::pod(0, 0).into(), [10, 77, 200, 0].into(), b"alive?");
    transmitted(&gateway.send(UNDERLAY, &from_pod(0, &node.bytes())), UNDERLAY);
    gateway.advance(Span::from_millis(50));
    assert_eq!(answered(&mut gateway, 50), 5);
    let unlimited = World { echo: Echo { per_second: 0, ..Echo::default() }, ..World::new() };
    assert_eq!(answered(&mut unlimited.with_external().gateway(), 5000), 5000);
}

/// A link may receive more than the egress may send: an MTU limits only what is sent.
#[test]
fn a_reply_that_is_larger_than_its_egress_mtu_is_not_sent() {
    let padded = |ping: &Packet, len: usize| {
        let Body::Icmp(kind, code, rest, _) = ping.body else { panic!("a ping") };
        let bare = Packet { body: Body::Icmp(kind, code, rest, vec![]), ..ping.clone() }.bytes().len();
        Packet { body: Body::Icmp(kind, code, rest, vec![7; len - bare]), ..ping.clone() }
    };
    for v4 in [true, false] {
        let mut world = World::new().with_external();
        world.ports[0].mtu = 1300;
        let mut gateway = world.gateway();
        transmitted(&from_client(&mut gateway, &padded(&ping(v4), 1300).bytes()), UPLINK);
        assert_eq!(dropped(&from_client(&mut gateway, &padded(&ping(v4), 1301).bytes())), DropReason::TooBig);

        let world = World { overlay_mtu: Some(1400), ..World::new() }.with_external();
        let mut gateway = world.gateway();
        let (pod, own): (IpAddr, IpAddr) =
            if v4 { (world::pod(0, 10).into(), world.pool[0]) } else { (world::pod_v6(0, 10).into(), world.pool[2]) };
        let mut answer = |len| {
            let ping = padded(&Packet::ping(pod, own, b""), len);
            gateway.send(UNDERLAY, &from_pod(0, &ping.bytes()))
        };
        transmitted(&answer(1400), UNDERLAY);
        assert_eq!(dropped(&answer(1401)), DropReason::TooBig);
    }
}
