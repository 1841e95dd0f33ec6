//! RFC 4787, 5382, 6056 and 7857: mappings, as far as they apply to a gateway for services.

use std::net::SocketAddr;

use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::Gateway;
use weirgate_fixture::frames::{ACK, Body, FIN, Packet, RST, SYN, from_pod, tunnelled};
use weirgate_fixture::world::{self, UNDERLAY, World};

use super::helpers::{converse, dropped, from_client, to_client, to_pod};

#[test]
fn rfc4787_req5_a_udp_mapping_lives_at_least_two_minutes_and_five_as_a_stream() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_millis(119_990));
    to_client(&mut gateway, node, &inner.answer(0, b""));
    gateway.advance(Span::from_millis(119_990));
    // The client answers the reply: this is more than one query and its reply.
    to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_millis(299_990));
    let snapshot = gateway.snapshot();
    gateway.worker.age(&snapshot, gateway.now, 4096);
    to_client(&mut gateway, node, &inner.answer(0, b""));
}

#[test]
fn rfc4787_req6_packets_of_either_direction_refresh_a_mapping() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::dns(7, b""));
    to_pod(&mut gateway, &Packet::dns(7, b""));
    let step = Span::from_secs(200);
    for _ in 0..4 {
        gateway.advance(step);
        assert_eq!(to_pod(&mut gateway, &Packet::dns(7, b"")).1.source, inner.source);
    }
    for _ in 0..4 {
        gateway.advance(step);
        to_client(&mut gateway, node, &inner.answer(0, b""));
    }
}

#[test]
fn rfc4787_req8_only_the_backend_of_a_flow_answers_it() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web(7, SYN, b""));
    let answer = inner.answer(ACK, b"");
    let outsiders: [SocketAddr; 3] =
        [(world::pod(node, 99), 80).into(), (world::pod(1 - node, 10), 80).into(), (answer.source.ip(), 81).into()];
    for outsider in outsiders {
        let forged = Packet { source: outsider, ..answer.clone() };
        assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(node, &forged.bytes()))), DropReason::NoFlow);
    }
    to_client(&mut gateway, node, &answer);
}

#[test]
fn rfc5382_req2_a_simultaneous_open_passes() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    to_client(&mut gateway, node, &inner.answer(SYN, b""));
    assert_eq!(to_pod(&mut gateway, &Packet::web(7, SYN | ACK, b"")).1.source, inner.source);
    to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
    for _ in 0..2 {
        assert_eq!(to_pod(&mut gateway, &Packet::web(7, ACK, b"data")).1.source, inner.source);
        to_client(&mut gateway, node, &inner.answer(ACK, b"data"));
    }
}

#[test]
fn rfc5382_req2_either_side_may_close_first_and_the_other_goes_on_sending() {
    for client_first in [true, false] {
        let mut gateway = World::new().gateway();
        let (node, inner) = converse(&mut gateway, &Packet::web(7, SYN, b""));
        if client_first {
            to_pod(&mut gateway, &Packet::web(7, FIN | ACK, b""));
        } else {
            to_client(&mut gateway, node, &inner.answer(FIN | ACK, b""));
        }
        for _ in 0..3 {
            to_client(&mut gateway, node, &inner.answer(ACK, b"half closed"));
            assert_eq!(to_pod(&mut gateway, &Packet::web(7, ACK, b"half closed")).1.source, inner.source);
        }
    }
}

#[test]
fn rfc5382_req4_an_unsolicited_syn_from_the_overlay_is_dropped_without_a_word() {
    let mut gateway = World::new().gateway();
    let from: SocketAddr = (world::pod(0, 10), 80).into();
    let syn = Packet::new(from, ([10, 77, 200, 2], 5000).into(), Body::Tcp(SYN, vec![]));
    assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(0, &syn.bytes()))), DropReason::NoFlow);
    gateway.assert_counted(&[("port1-in", 1), ("drop-no-flow", 1)]);
}

#[test]
fn rfc5382_req5_an_established_flow_survives_two_hours_four_minutes_idle() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web(7, SYN, b""));
    gateway.advance(Span::from_secs(7440));
    let snapshot = gateway.snapshot();
    gateway.worker.age(&snapshot, gateway.now, 4096);
    to_client(&mut gateway, node, &inner.answer(ACK, b"still here"));
    gateway.advance(Span::from_secs(7440));
    assert_eq!(to_pod(&mut gateway, &Packet::web(7, ACK, b"so am I")).1.source, inner.source);
}

#[test]
fn rfc6056_s3_3_1_ports_are_not_taken_in_order() {
    let mut gateway = World::new().gateway();
    let ports: Vec<i32> = (1..=200)
        .map(|client| i32::from(to_pod(&mut gateway, &Packet::web(client, SYN, b"")).1.source.port()))
        .collect();
    let near = ports.windows(2).filter(|pair| (pair[1] - pair[0]).abs() < 64).count();
    // A random step is this short with a chance of one in five hundred; there are 199 steps.
    assert!(near < 8, "{near} of 199 steps lead to a port nearby");
    let halves = ports.iter().filter(|port| **port > 33_280).count();
    assert!((50..150).contains(&halves), "{halves} of 200 in the upper half");
}

#[test]
fn rfc7857_s3_one_port_serves_several_backends() {
    let mut world = World::new();
    world.pool_ports = (2000, 2000);
    world.pool.truncate(1);
    let mut gateway = world.gateway();
    let mut seen = std::collections::BTreeSet::new();
    for client in 1..=64 {
        let request = Packet::web(client, SYN, b"").bytes();
        let out = from_client(&mut gateway, &request);
        if let Verdict::Transmit(_) = out.verdict {
            let inner = Packet::read(&tunnelled(&out.bytes).inner);
            assert_eq!(inner.source.port(), 2000);
            assert!(seen.insert(inner.destination), "{} twice behind one port", inner.destination);
        } else {
            assert_eq!(dropped(&out), DropReason::PortsExhausted);
        }
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn rfc7857_s2_2_a_reset_is_translated_and_its_flow_is_known_four_minutes_longer() {
    for (from_pod_side, goes_on) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut gateway = World::new().gateway();
        let request = Packet::web(7, SYN, b"");
        let (node, inner) = converse(&mut gateway, &request);
        let with = |flags| Packet { body: Body::Tcp(flags, vec![]), ..request.clone() };
        let reset = |gateway: &mut Gateway| {
            if from_pod_side {
                let seen = to_client(gateway, node, &inner.answer(RST | ACK, b""));
                assert_eq!((seen.source, seen.destination), (request.destination, request.source));
            } else {
                assert_eq!(to_pod(gateway, &with(RST | ACK)).1.source, inner.source);
            }
        };
        reset(&mut gateway);
        gateway.advance(Span::from_secs(239));
        // Neither a repeated reset nor a SYN after it extends the flow.
        reset(&mut gateway);
        assert_eq!(to_pod(&mut gateway, &with(SYN)).1.source, inner.source);
        if goes_on {
            to_client(&mut gateway, node, &inner.answer(ACK, b"not at all"));
            to_pod(&mut gateway, &with(ACK));
            gateway.advance(Span::from_secs(7440));
            assert_eq!(to_pod(&mut gateway, &with(ACK)).1.source, inner.source);
        } else {
            gateway.advance(Span::from_secs(2));
            let out = gateway.send(UNDERLAY, &from_pod(node, &inner.answer(ACK, b"too late").bytes()));
            assert_eq!(dropped(&out), DropReason::NoFlow);
        }
    }
}
