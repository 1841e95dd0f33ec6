//! Full tables: who gives way, who never does, and what is counted.

use std::net::{Ipv4Addr, SocketAddr};

use weirgate::flow::State;
use weirgate::net::WorkerId;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FIN, FROM_CLIENT, Packet, RST, SYN, framed, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out};

fn gateway(flows: u32) -> Gateway {
    World::new().describe(|description| Gateway::with_worker(description, WorkerId(0), flows))
}

fn from_client(gateway: &mut Gateway, packet: &Packet) -> Out {
    gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()))
}

/// What a client's packet is to a pod, and the pod's node.
fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let out = from_client(gateway, packet);
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY), "{packet:?}");
    let seen = tunnelled(&out.bytes);
    let node = (0..2).find(|node| seen.link == to_node(*node)).expect("one of the nodes");
    (node, Packet::read(&seen.inner))
}

fn to_client(gateway: &mut Gateway, node: usize, packet: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from_pod(node, &packet.bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UPLINK), "{packet:?}");
    Packet::read(&unframed(&out.bytes).1)
}

fn with_flags(packet: &Packet, flags: u8) -> Packet {
    Packet { body: Body::Tcp(flags, vec![]), ..packet.clone() }
}

/// Opens a connection: its pod's node, and what the pod sees of the client.
fn open(gateway: &mut Gateway, request: &Packet) -> (usize, Packet) {
    let (node, inner) = to_pod(gateway, request);
    to_client(gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(gateway, &with_flags(request, ACK));
    (node, inner)
}

/// A SYN from somewhere, as a flood has them.
fn flood(number: u32) -> Packet {
    let source = Ipv4Addr::from_bits(0xc000_0210 + number % 200);
    Packet { source: SocketAddr::from((source, (number / 200) as u16 + 1)), ..Packet::web(1, SYN, b"") }
}

#[test]
fn connections_go_on_while_a_flood_of_syns_fills_the_table() {
    let mut gateway = gateway(1024);
    let connections: Vec<_> = (1..=800)
        .map(|port| {
            let request = Packet::web(port, SYN, b"");
            let (node, inner) = open(&mut gateway, &request);
            (with_flags(&request, ACK), node, inner)
        })
        .collect();
    let flooded = 20_000;
    for number in 0..flooded {
        to_pod(&mut gateway, &flood(number));
        let (request, node, inner) = &connections[number as usize % connections.len()];
        let (to, seen) = to_pod(&mut gateway, request);
        assert_eq!((to, seen.source, seen.destination), (*node, inner.source, inner.destination));
        let back = to_client(&mut gateway, *node, &inner.answer(ACK, b"data"));
        assert_eq!((back.source, back.destination), (request.destination, request.source));
    }
    let counters = gateway.counters;
    assert_eq!(gateway.worker.flows_v4().len(), 1024);
    assert_eq!(counters.evicted_half_open.get(), u64::from(flooded) - 224);
    assert_eq!(counters.flows_ended(), counters.evicted_half_open.get(), "nothing else gave way");
    assert_eq!(counters.flows_created.get(), u64::from(flooded) + 800);

    // An honest client gets in between, and its connection is one that nothing ends.
    let honest = Packet::web(60_000, SYN, b"");
    let (node, inner) = open(&mut gateway, &honest);
    (0..2000).for_each(|number| _ = to_pod(&mut gateway, &flood(flooded + number)));
    to_client(&mut gateway, node, &inner.answer(ACK, b"data"));
    to_pod(&mut gateway, &with_flags(&honest, FIN | ACK));
}

#[test]
fn where_every_flow_is_assured_a_new_one_is_refused_by_name_until_one_ends() {
    let mut gateway = gateway(16);
    let opened: Vec<_> = (1..=16).map(|port| open(&mut gateway, &Packet::web(port, SYN, b""))).collect();
    for port in 100..120 {
        let out = from_client(&mut gateway, &Packet::web(port, SYN, b""));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::FlowTableFull));
    }
    assert_eq!(gateway.counters.drops(DropReason::FlowTableFull), 20);
    assert_eq!((gateway.counters.flows_ended(), gateway.counters.flows_created.get()), (0, 16));
    // Half-closed, it is still open the other way.
    to_pod(&mut gateway, &Packet::web(3, FIN | ACK, b""));
    let (node, inner) = &opened[2];
    to_client(&mut gateway, *node, &inner.answer(ACK, b"rest"));
    let out = from_client(&mut gateway, &Packet::web(100, SYN, b""));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::FlowTableFull));
    to_client(&mut gateway, *node, &inner.answer(FIN | ACK, b""));
    to_pod(&mut gateway, &Packet::web(3, ACK, b""));
    to_pod(&mut gateway, &Packet::web(100, SYN, b""));
    assert_eq!(gateway.counters.evicted_closing.get(), 1);
    for port in (1..=16).filter(|port| *port != 3) {
        to_pod(&mut gateway, &Packet::web(port, ACK, b""));
    }
}

#[test]
fn queries_that_nobody_answered_give_way_before_those_that_were() {
    let mut gateway = gateway(16);
    for port in 1..=16 {
        let (node, inner) = to_pod(&mut gateway, &Packet::dns(port, b"query"));
        if port % 2 == 0 {
            to_client(&mut gateway, node, &inner.answer(0, b"answer"));
        }
    }
    (100..108).for_each(|port| _ = open(&mut gateway, &Packet::web(port, SYN, b"")));
    assert_eq!(gateway.counters.evicted_one_way.get(), 8);
    (108..116).for_each(|port| _ = open(&mut gateway, &Packet::web(port, SYN, b"")));
    assert_eq!((gateway.counters.evicted_one_way.get(), gateway.counters.evicted_unassured.get()), (8, 8));
    let states: Vec<_> = gateway.worker.flows_v4().iter().map(|(entry, _)| entry.state()).collect();
    assert_eq!(states, [Some(State::TcpEstablished); 16]);
}

#[test]
fn a_flow_for_which_there_is_no_port_drives_nobody_out() {
    let mut world = World::new();
    world.pool.truncate(1);
    world.pool_ports = (2000, 2015);
    world.backends[0].truncate(1);
    let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 16));
    for number in 0..16 {
        to_pod(&mut gateway, &flood(number));
    }
    for number in 16..40 {
        gateway.advance(Span::from_millis(20));
        assert_eq!(from_client(&mut gateway, &flood(number)).verdict, Verdict::Drop(DropReason::PortsExhausted));
    }
    assert_eq!((gateway.worker.flows_v4().len(), gateway.counters.flows_ended()), (16, 0));
}

#[test]
fn how_each_flow_ended_is_counted() {
    let mut gateway = gateway(64);
    let request = Packet::web(7, SYN, b"");
    // Refused before any answer.
    let (node, inner) = to_pod(&mut gateway, &request);
    to_client(&mut gateway, node, &inner.answer(RST | ACK, b""));
    // Reset, and opened again.
    let (node, inner) = open(&mut gateway, &request);
    to_client(&mut gateway, node, &inner.answer(RST, b""));
    to_pod(&mut gateway, &request);
    // Idle for too long, and noticed by a packet before ageing comes by.
    gateway.advance(Span::from_secs(121));
    to_pod(&mut gateway, &request);
    let counters = gateway.counters;
    let counts = [&counters.flows_created, &counters.flows_reset, &counters.flows_reopened, &counters.flows_expired];
    assert_eq!(counts.map(|counter| counter.get()), [4, 1, 1, 1]);
    assert_eq!((counters.flows_ended(), gateway.worker.flows_v4().len()), (3, 1));
}

#[test]
fn a_flow_that_has_idled_too_long_is_none_for_an_error_about_it_either() {
    let mut gateway = gateway(64);
    let (node, inner) = to_pod(&mut gateway, &Packet::dns(7, b"query"));
    let body = Body::Icmp(3, 3, [0; 4], inner.bytes());
    let refused = Packet::new((inner.destination.ip(), 0).into(), (inner.source.ip(), 0).into(), body);
    gateway.advance(Span::from_secs(119));
    to_client(&mut gateway, node, &refused);
    gateway.advance(Span::from_secs(2));
    let out = gateway.send(UNDERLAY, &from_pod(node, &refused.bytes()));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::IcmpUnmatched));
}
