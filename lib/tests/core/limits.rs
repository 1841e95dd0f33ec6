//! Floods of everything that is rate limited: each limit holds at one instant, and again a while later.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weirgate::net::WorkerId;
use weirgate::snapshot::{Admission, Echo, PastLimit};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::Gateway;
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Packet, SYN, framed, from_pod, to_node, tunnelled};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

/// The verdicts of these packets from outside, all at one instant.
fn flood(gateway: &mut Gateway, packets: impl IntoIterator<Item = Packet>) -> Vec<Verdict> {
    packets.into_iter().map(|it| gateway.send(UPLINK, &framed(FROM_CLIENT, &it.bytes())).verdict).collect()
}

/// Asserts that the first `allowed` of a flood get `pass`, and the others are dropped for `reason`.
fn assert_limited(verdicts: &[Verdict], allowed: usize, pass: Verdict, reason: DropReason) {
    assert!(allowed < verdicts.len(), "not a flood");
    let (passed, refused) = verdicts.split_at(allowed);
    assert!(passed.iter().all(|it| *it == pass), "{} passed", allowed_of(verdicts, pass));
    assert!(refused.iter().all(|it| *it == Verdict::Drop(reason)), "{} passed", allowed_of(verdicts, pass));
}

fn allowed_of(verdicts: &[Verdict], pass: Verdict) -> usize {
    verdicts.iter().filter(|it| **it == pass).count()
}

#[test]
fn errors_of_the_gateways_own() {
    for request in [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b"")] {
        let mut gateway = World::new().gateway();
        let dying = || vec![Packet { ttl: 1, ..request.clone() }; 200];
        for (pause, allowed) in [(0, 50), (10, 10), (60_000, 50)] {
            gateway.advance(Span::from_millis(pause));
            let verdicts = flood(&mut gateway, dying());
            assert_limited(&verdicts, allowed, Verdict::Transmit(UPLINK), DropReason::ErrorRateLimited);
        }
        assert_eq!(gateway.counters.errors_sent.get(), 110);
    }
}

/// Linux never limits path MTU discovery (`icmpv4_mask_allow`, `icmp/ratemask`): a sender without the error hangs.
#[test]
fn too_big_reaches_either_side_in_a_flood_of_other_errors() {
    for request in [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b"")] {
        let mut world = World::new();
        world.ports[0].mtu = 1400;
        let mut gateway = world.gateway();
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes()));
        let seen = tunnelled(&out.bytes);
        let node = usize::from(seen.link == to_node(1));
        let answer = Packet::read(&seen.inner).answer(SYN | ACK, b"");
        gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
        flood(&mut gateway, vec![Packet { ttl: 1, ..request.clone() }; 200]);
        let large = |packet: &Packet| Packet { body: Body::Tcp(ACK, vec![0; 1425]), ..packet.clone() };
        let verdicts = flood(&mut gateway, vec![large(&request); 500]);
        assert_eq!(allowed_of(&verdicts, Verdict::Transmit(UPLINK)), 500);
        // Outside senders do not use up the pods' limit.
        flood(&mut gateway, vec![large(&request); 2000]);
        let told = || from_pod(node, &large(&answer).bytes());
        let mut from_pods = |count| {
            (0..count).filter(|_| gateway.send(UNDERLAY, &told()).verdict == Verdict::Transmit(UNDERLAY)).count()
        };
        assert_eq!(from_pods(500), 500);
        assert_eq!(from_pods(2000), 500, "pods have a limit of their own");
        gateway.advance(Span::from_millis(10));
        assert_eq!(allowed_of(&flood(&mut gateway, vec![large(&request); 2000]), Verdict::Transmit(UPLINK)), 100);
    }
}

#[test]
fn answers_to_pings() {
    let mut gateway =
        World { echo: Echo { per_second: 100, ..Echo::default() }, ..World::new() }.with_external().gateway();
    let ping = Packet::ping(world::CLIENT.into(), world::EXTERNAL.into(), b"hello");
    for (pause, allowed) in [(0, 11), (50, 5), (60_000, 11)] {
        gateway.advance(Span::from_millis(pause));
        let verdicts = flood(&mut gateway, vec![ping.clone(); 200]);
        assert_limited(&verdicts, allowed, Verdict::Transmit(UPLINK), DropReason::EchoLimit);
    }
    assert_eq!(gateway.counters.echoes_answered.get(), 27);
}

#[test]
fn new_flows() {
    let admission = Admission { new_flows_per_second: 100, past_limit: PastLimit::Drop, ..Admission::default() };
    let mut gateway = World { admission, ..World::new() }.gateway();
    for (pause, allowed, ports) in [(0, 11, 1..200), (50, 5, 200..400), (60_000, 11, 400..600)] {
        gateway.advance(Span::from_millis(pause));
        let verdicts = flood(&mut gateway, ports.map(|port| Packet::web(port, SYN, b"")));
        assert_limited(&verdicts, allowed, Verdict::Transmit(UNDERLAY), DropReason::NewFlowLimit);
    }
    assert_eq!(gateway.counters.flows_created.get(), 27);
}

/// A search costs thousands of lookups: a client that finds all ports in use must not start one with each SYN.
#[test]
fn searches_for_the_last_free_ports() {
    const PORTS: u16 = 4096;
    let mut world = World::new();
    world.pool.truncate(1);
    world.pool_ports = (2000, 1999 + PORTS);
    world.backends[0].truncate(1);
    world.admission.half_open_per_client = 0;
    let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 8192));
    let syn = |number: u32| {
        let source = Ipv4Addr::from_bits(0xc000_0210 + number % 200);
        Packet { source: SocketAddr::from((source, (number / 200) as u16 + 1)), ..Packet::web(1, SYN, b"") }
    };
    for number in 0..u32::from(PORTS) {
        gateway.advance(Span::from_millis(20));
        assert_eq!(flood(&mut gateway, [syn(number)]), [Verdict::Transmit(UNDERLAY)]);
    }
    let mut number = 10_000;
    for pause in [0, 60_000] {
        gateway.advance(Span::from_millis(pause));
        let mut found = 0;
        for _ in 0..50 {
            // One port becomes free, or the one that no search has found still is.
            if gateway.worker.flows().v4.len() == u32::from(PORTS) {
                let index = (0..8192)
                    .find(|index| gateway.worker.flows().v4.get(*index).is_some_and(|it| it.state().is_some()));
                gateway.worker.forget::<[u8; 4]>(index.expect("a flow"));
            }
            number += 1;
            match flood(&mut gateway, [syn(number)])[..] {
                [Verdict::Transmit(UNDERLAY)] => found += 1,
                [Verdict::Drop(DropReason::PortsExhausted)] => {}
                ref other => panic!("{other:?}"),
            }
        }
        // One SYN in 32 draws the free port at random.
        assert!((4..=10).contains(&found), "{found} of 50 found the one free port of {PORTS}");
    }
}

#[test]
fn errors_that_look_for_their_flows_worker() {
    for v4 in [true, false] {
        let mut gateway = World { workers: 4, ..World::new() }.gateway();
        let request = if v4 { Packet::web(7, SYN, b"") } else { Packet::web_v6(7, SYN, b"") };
        let about = Packet::new(request.destination, request.source, Body::Tcp(ACK, vec![]));
        let router: IpAddr = if v4 { [198, 51, 100, 9].into() } else { "2001:db8:9::9".parse().unwrap() };
        let error = |kind, code| {
            let body = Body::Icmp(kind, code, [0, 0, 5, 20], about.bytes());
            Packet::new((router, 0).into(), (about.source.ip(), 0).into(), body)
        };
        let (too_big, other) = if v4 { (error(3, 4), error(3, 1)) } else { (error(2, 0), error(1, 0)) };
        for (pause, allowed, of_too_big) in [(0, 50, 1000), (10, 10, 100), (60_000, 50, 1000)] {
            gateway.advance(Span::from_millis(pause));
            let verdicts = flood(&mut gateway, vec![other.clone(); 200]);
            assert_limited(&verdicts, allowed, Verdict::Handover(WorkerId(1)), DropReason::IcmpUnmatched);
            // Errors that report an MTU have a limit of their own.
            let verdicts = flood(&mut gateway, vec![too_big.clone(); 2000]);
            assert_limited(&verdicts, of_too_big, Verdict::Handover(WorkerId(1)), DropReason::IcmpUnmatched);
        }
    }
}
