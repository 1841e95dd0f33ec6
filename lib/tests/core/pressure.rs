//! Full tables: which flows are evicted, which never are, and what is counted.

use std::net::{Ipv4Addr, SocketAddr};

use weirgate::flow::{FlowTraffic, State};
use weirgate::net::WorkerId;
use weirgate::pipeline::Worker;
use weirgate::snapshot::Admission;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FIN, FROM_CLIENT, Packet, RST, SYN, framed, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out, leak_aligned, worker_config};

fn gateway(flows: u32) -> Gateway {
    World::new().describe(|description| Gateway::with_worker(description, WorkerId(0), flows))
}

fn from_client(gateway: &mut Gateway, packet: &Packet) -> Out {
    gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()))
}

/// A client's packet as the pod sees it, and the pod's node.
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

/// Opens a connection: its pod's node, and the client's packet as the pod sees it.
fn open(gateway: &mut Gateway, request: &Packet) -> (usize, Packet) {
    let (node, inner) = to_pod(gateway, request);
    to_client(gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(gateway, &with_flags(request, ACK));
    (node, inner)
}

/// A SYN from one of many addresses, as in a flood.
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
    assert_eq!(gateway.worker.flows().v4.len(), 1024);
    assert_eq!(counters.evicted_half_open.get(), u64::from(flooded) - 224);
    assert_eq!(counters.flows_ended(), counters.evicted_half_open.get(), "nothing else was evicted");
    assert_eq!(counters.flows_created.get(), u64::from(flooded) + 800);

    // A genuine client connects during the flood, and nothing evicts its connection.
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
    // Half-closed, it is still open in the other direction.
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
fn a_handshake_completes_in_a_flood_of_datagrams_and_evicts_a_stream() {
    let mut gateway = gateway(1024);
    let query = |number: u32| Packet {
        source: SocketAddr::from((Ipv4Addr::from_bits(0xc000_0210 + number % 200), (number / 200) as u16 + 1)),
        ..Packet::dns(1, b"who?")
    };
    // UDP streams fill the table; an attacker that can answer for the source addresses can create them.
    for number in 0..1024 {
        let (node, inner) = to_pod(&mut gateway, &query(number));
        to_client(&mut gateway, node, &inner.answer(0, b"he"));
        to_pod(&mut gateway, &query(number));
    }
    let request = Packet::web(1, SYN, b"");
    let (node, inner) = to_pod(&mut gateway, &request);
    assert_eq!(gateway.counters.evicted_stream.get(), 1);
    for number in 2000..4000 {
        to_pod(&mut gateway, &query(number));
    }
    to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(&mut gateway, &with_flags(&request, ACK));
}

#[test]
fn unanswered_queries_are_evicted_before_answered_ones() {
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
    let states: Vec<_> = gateway.worker.flows().v4.iter().map(|entry| entry.state()).collect();
    assert_eq!(states, [Some(State::TcpEstablished); 16]);
}

#[test]
fn a_flow_without_a_free_port_evicts_nothing() {
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
    assert_eq!((gateway.worker.flows().v4.len(), gateway.counters.flows_ended()), (16, 0));
}

#[test]
fn how_each_flow_ended_is_counted() {
    let mut gateway = gateway(64);
    let request = Packet::web(7, SYN, b"");
    // Refused before any reply.
    let (node, inner) = to_pod(&mut gateway, &request);
    to_client(&mut gateway, node, &inner.answer(RST | ACK, b""));
    // Closed by both sides, and reopened.
    let (node, inner) = open(&mut gateway, &request);
    to_pod(&mut gateway, &with_flags(&request, FIN | ACK));
    to_client(&mut gateway, node, &inner.answer(FIN | ACK, b""));
    to_pod(&mut gateway, &request);
    // Past its idle timeout, and found by a packet before ageing.
    gateway.advance(Span::from_secs(121));
    to_pod(&mut gateway, &request);
    let counters = gateway.counters;
    let counts = [&counters.flows_created, &counters.flows_reset, &counters.flows_reopened, &counters.flows_expired];
    assert_eq!(counts.map(|counter| counter.get()), [4, 1, 1, 1]);
    assert_eq!((counters.flows_ended(), gateway.worker.flows().v4.len()), (3, 1));
}

#[test]
fn an_error_matches_no_flow_past_its_idle_timeout() {
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

/// As [`gateway`], with these limits.
fn limited(admission: Admission) -> (World, Gateway) {
    let world = World { admission, ..World::new() };
    let gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 1024));
    (world, gateway)
}

/// A SYN from this address of the clients' network.
fn syn_of(host: u8, port: u16) -> Packet {
    Packet { source: SocketAddr::from(([192, 0, 2, host], port)), ..Packet::web(1, SYN, b"") }
}

/// Fills three quarters of a gateway's 1024 flows: an unanswered handshake, then connections.
fn fill(gateway: &mut Gateway) {
    to_pod(gateway, &syn_of(68, 1));
    (2..=768).for_each(|port| _ = open(gateway, &syn_of(68, port)));
}

#[test]
fn a_spoofed_client_address_does_not_block_its_owner_while_there_is_room() {
    let (_, mut gateway) = limited(Admission { half_open_per_client: 20, ..Admission::default() });
    let connections: Vec<_> = (1..=300).map(|port| open(&mut gateway, &syn_of(67, port))).collect();
    // Ten times one client's limit, but less than a quarter of the table.
    for number in 0..200 {
        to_pod(&mut gateway, &syn_of(66, 1000 + number));
        let (node, inner) = open(&mut gateway, &syn_of(66, 2000 + number));
        to_client(&mut gateway, node, &inner.answer(ACK, b"data"));
    }
    assert_eq!(gateway.counters.drops(DropReason::HalfOpenLimit), 0);
    assert_eq!((gateway.counters.flows_ended(), gateway.worker.flows().v4.len()), (0, 300 + 2 * 200));
    let (node, inner) = &connections[0];
    to_client(&mut gateway, *node, &inner.answer(ACK, b"data"));
}

#[test]
fn a_spoofed_address_in_a_filling_table_evicts_only_its_owners_oldest_handshakes() {
    let (_, mut gateway) = limited(Admission { half_open_per_client: 20, ..Admission::default() });
    (2..=768).for_each(|port| _ = open(&mut gateway, &syn_of(68, port)));
    let mut forged = 1_u16..;
    let mut forge = |gateway: &mut Gateway, count| {
        (0..count).for_each(|_| _ = to_pod(gateway, &syn_of(66, forged.next().expect("a port"))));
    };
    forge(&mut gateway, 5000);
    assert_eq!(gateway.worker.flows().v4.half_open_of([192, 0, 2, 66], false), 20);
    assert_eq!(gateway.counters.evicted_half_open.get(), 5000 - 20);
    let honest = syn_of(66, 60_000);
    let (node, inner) = to_pod(&mut gateway, &honest);
    forge(&mut gateway, 19);
    to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(&mut gateway, &with_flags(&honest, ACK));
    forge(&mut gateway, 5000);
    to_client(&mut gateway, node, &inner.answer(ACK, b"data"));
    assert_eq!(gateway.counters.drops(DropReason::HalfOpenLimit), 0);
}

#[test]
fn one_client_cannot_fill_a_table_with_handshakes() {
    let (_, mut gateway) = limited(Admission { half_open_per_client: 20, ..Admission::default() });
    let (silent, answered) = (syn_of(67, 1), syn_of(67, 2));
    to_pod(&mut gateway, &silent);
    let (node, inner) = to_pod(&mut gateway, &answered);
    let refused = (1..=20_000).filter(|port| {
        let out = from_client(&mut gateway, &syn_of(66, *port));
        out.verdict == Verdict::Drop(DropReason::HalfOpenLimit)
    });
    // The oldest flow belongs to another client, and stays; so do later flows of others.
    assert_eq!(refused.count(), 20_000 - 254);
    assert_eq!((gateway.worker.flows().v4.half_open(), gateway.counters.flows_ended()), (256, 0));
    to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(&mut gateway, &with_flags(&answered, ACK));
    let (node, inner) = to_pod(&mut gateway, &silent);
    to_client(&mut gateway, node, &inner.answer(RST | ACK, b""));
    // Now the client's own flow is the oldest.
    (20_001..=40_000).for_each(|port| _ = to_pod(&mut gateway, &syn_of(66, port)));
    assert_eq!((gateway.worker.flows().v4.half_open(), gateway.worker.flows().v4.len()), (255, 256));
    (1..=500).for_each(|port| _ = open(&mut gateway, &syn_of(69, port)));
    assert_eq!(gateway.counters.drops(DropReason::HalfOpenLimit), 20_000 - 254);
}

#[test]
fn half_open_flows_are_limited_per_client() {
    let (_, mut gateway) = limited(Admission { half_open_per_client: 20, ..Admission::default() });
    fill(&mut gateway);
    let opened: Vec<_> = (1..=20).map(|port| to_pod(&mut gateway, &syn_of(66, port))).collect();
    for port in 21..=1000 {
        let out = from_client(&mut gateway, &syn_of(66, port));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::HalfOpenLimit));
    }
    assert_eq!(gateway.counters.drops(DropReason::HalfOpenLimit), 980);
    assert_eq!((gateway.worker.flows().v4.len(), gateway.worker.flows().v4.half_open()), (768 + 20, 21));
    // Its open handshakes continue, and so do other clients and its queries.
    to_pod(&mut gateway, &syn_of(66, 7));
    (1..=20).for_each(|port| _ = open(&mut gateway, &syn_of(67, port)));
    let query = Packet { source: SocketAddr::from(([192, 0, 2, 66], 9)), ..Packet::dns(9, b"query") };
    to_pod(&mut gateway, &query);
    // A flow that is no longer half-open makes room for one: it was established, reset, or reached its
    // idle timeout.
    let (node, inner) = &opened[0];
    to_client(&mut gateway, *node, &inner.answer(SYN | ACK, b""));
    assert_eq!(from_client(&mut gateway, &syn_of(66, 500)).verdict, Verdict::Drop(DropReason::HalfOpenLimit));
    to_pod(&mut gateway, &with_flags(&syn_of(66, 1), ACK));
    to_pod(&mut gateway, &syn_of(66, 500));
    let (node, inner) = &opened[1];
    to_client(&mut gateway, *node, &inner.answer(RST | ACK, b""));
    to_pod(&mut gateway, &syn_of(66, 501));
    assert_eq!(from_client(&mut gateway, &syn_of(66, 502)).verdict, Verdict::Drop(DropReason::HalfOpenLimit));
    gateway.advance(Span::from_secs(121));
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now, 1024);
    assert_eq!(gateway.worker.flows().v4.half_open_of([192, 0, 2, 66], false), 0);
    (600..620).for_each(|port| _ = to_pod(&mut gateway, &syn_of(66, port)));
}

#[test]
fn without_a_limit_one_client_may_have_as_many_as_there_is_room_for() {
    let (_, mut gateway) = limited(Admission { half_open_per_client: 0, ..Admission::default() });
    (1..=2000).for_each(|port| _ = to_pod(&mut gateway, &syn_of(66, port)));
    assert_eq!(gateway.worker.flows().v4.half_open_of([192, 0, 2, 66], false), 1024);
    assert_eq!(gateway.counters.evicted_half_open.get(), 2000 - 1024);
}

#[test]
fn an_evicted_flow_no_longer_counts_against_its_client() {
    let (_, mut gateway) = limited(Admission { half_open_per_client: 300, ..Admission::default() });
    (1..=300).for_each(|port| _ = to_pod(&mut gateway, &syn_of(66, port)));
    for host in 100..104 {
        (1..=256).for_each(|port| _ = to_pod(&mut gateway, &syn_of(host, port)));
    }
    // Flows of other clients fill the table.
    assert_eq!(gateway.worker.flows().v4.half_open_of([192, 0, 2, 66], false), 0);
    (1..=300).for_each(|port| _ = to_pod(&mut gateway, &syn_of(66, port)));
}

#[test]
fn a_later_process_counts_the_half_open_flows_that_it_finds() {
    let world = World { admission: Admission { half_open_per_client: 20, ..Admission::default() }, ..World::new() };
    world.describe(|description| {
        let config = worker_config(description, WorkerId(0), 1024);
        let len = Worker::memory_bytes(&config);
        let memory = leak_aligned(len);
        let start = memory.as_mut_ptr();
        let mut first = Gateway::with_memory(description, &config, memory);
        fill(&mut first);
        (1..=20).for_each(|port| _ = to_pod(&mut first, &syn_of(66, port)));
        (1..=20).for_each(|port| _ = open(&mut first, &syn_of(67, port)));
        // SAFETY: nothing uses the first gateway after this, so this is the only live reference.
        let memory = unsafe { std::slice::from_raw_parts_mut(start, len) };
        let (mut second, adopted) = Gateway::adopt(description, &config, memory);
        assert_eq!(adopted.flows, 768 + 40);
        assert_eq!(from_client(&mut second, &syn_of(66, 21)).verdict, Verdict::Drop(DropReason::HalfOpenLimit));
        (21..=40).for_each(|port| _ = to_pod(&mut second, &syn_of(67, port)));
        assert_eq!(from_client(&mut second, &syn_of(67, 41)).verdict, Verdict::Drop(DropReason::HalfOpenLimit));
    });
}

#[test]
fn new_flows_past_the_limit_are_dropped_by_name_and_old_ones_are_not() {
    let (_, mut gateway) = limited(Admission { new_flows_per_second: 1000, ..Admission::default() });
    let opened = open(&mut gateway, &Packet::web(1, SYN, b""));
    // A burst of a tenth of a second's flows is allowed.
    (2..=101).for_each(|port| _ = to_pod(&mut gateway, &Packet::web(port, SYN, b"")));
    for port in 102..=200 {
        let out = from_client(&mut gateway, &Packet::web(port, SYN, b""));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::NewFlowLimit));
        let out = from_client(&mut gateway, &Packet::dns(port, b"query"));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::NewFlowLimit));
    }
    assert_eq!(gateway.counters.drops(DropReason::NewFlowLimit), 2 * 99);
    to_pod(&mut gateway, &Packet::web(1, ACK, b""));
    to_client(&mut gateway, opened.0, &opened.1.answer(ACK, b""));
    for port in 102..=200 {
        gateway.advance(Span::from_millis(1));
        to_pod(&mut gateway, &Packet::web(port, SYN, b""));
        let out = from_client(&mut gateway, &Packet::dns(port, b"query"));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::NewFlowLimit));
    }
    // A later snapshot may have another limit, or none.
    gateway.apply(&World { generation: 2, ..World::new() });
    (300..=900).for_each(|port| _ = to_pod(&mut gateway, &Packet::web(port, SYN, b"")));
}

/// To the service without backends.
fn empty(port: u16) -> Packet {
    let request = Packet::web(port, SYN, b"");
    Packet { destination: SocketAddr::new(request.destination.ip(), 30_099), ..request }
}

#[test]
fn a_refused_flow_uses_none_of_the_new_flow_limit() {
    let mut world = World::new();
    world.admission = Admission { new_flows_per_second: 2000, ..Admission::default() };
    world.pool.truncate(1);
    world.pool_ports = (2000, 2099);
    world.backends[0].truncate(1);
    let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 1024));
    (1..=100).for_each(|port| _ = open(&mut gateway, &Packet::web(port, SYN, b"")));
    // No free port towards the only backend; no backend at all.
    for port in 200..500 {
        let out = from_client(&mut gateway, &Packet::web(port, SYN, b""));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::PortsExhausted));
        let answered = from_client(&mut gateway, &empty(port)).verdict;
        assert!([Verdict::Transmit(UPLINK), Verdict::Drop(DropReason::ErrorRateLimited)].contains(&answered));
    }
    // The rest of the burst is still allowed.
    (1..=100).for_each(|port| _ = to_pod(&mut gateway, &Packet::dns(port, b"query")));
    assert_eq!((gateway.counters.drops(DropReason::NewFlowLimit), gateway.worker.flows().v4.len()), (0, 200));
}

#[test]
fn past_the_new_flow_limit_no_backend_or_port_is_looked_for() {
    let (_, mut gateway) = limited(Admission { new_flows_per_second: 10, ..Admission::default() });
    (1..=2).for_each(|port| _ = to_pod(&mut gateway, &Packet::web(port, SYN, b"")));
    for port in 1..=1000 {
        let out = from_client(&mut gateway, &empty(port));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::NewFlowLimit));
    }
    assert_eq!((gateway.counters.errors_sent.get(), gateway.worker.flows().v4.len()), (0, 2));
}

#[test]
fn counts_that_a_damaged_table_has_do_not_stop_its_flows() {
    World::new().describe(|description| {
        let config = worker_config(description, WorkerId(0), 64);
        let len = Worker::memory_bytes(&config);
        let memory = leak_aligned(len);
        let start = memory.as_mut_ptr();
        let request = Packet::web(1, SYN, b"");
        let mut first = Gateway::with_memory(description, &config, memory);
        let (node, inner) = open(&mut first, &request);
        let counts = &first.worker.flows().v4.get(0).expect("the flow's").traffic;
        let at = std::ptr::from_ref(counts).addr() - start.addr();
        // SAFETY: nothing uses the first gateway after this, so this is the only live reference.
        let memory = unsafe { std::slice::from_raw_parts_mut(start, len) };
        memory[at..][..size_of::<FlowTraffic>()].fill(0xff);
        let (mut second, adopted) = Gateway::adopt(description, &config, memory);
        assert_eq!((adopted.flows, adopted.damaged), (1, 0));
        let traffic = second.worker.flows().v4.get(0).expect("the flow's").traffic;
        assert_eq!((traffic.packets, traffic.bytes), ([u64::MAX; 2], [u64::MAX; 2]));
        to_pod(&mut second, &with_flags(&request, ACK));
        to_client(&mut second, node, &inner.answer(ACK, b"data"));
        assert_eq!(second.worker.flows().v4.get(0).map(|entry| entry.traffic.packets), Some([0; 2]));
    });
}

#[test]
fn a_reset_connection_may_be_evicted_until_both_ends_speak_again() {
    let mut gateway = gateway(16);
    let opened: Vec<_> = (1..=16).map(|port| open(&mut gateway, &Packet::web(port, SYN, b""))).collect();
    (1..=2).for_each(|port| _ = to_pod(&mut gateway, &Packet::web(port, RST, b"")));
    let (node, inner) = &opened[0];
    to_client(&mut gateway, *node, &inner.answer(ACK, b"still here"));
    to_pod(&mut gateway, &Packet::web(1, ACK, b""));
    to_pod(&mut gateway, &Packet::web(100, SYN, b""));
    assert_eq!((gateway.counters.evicted_closing.get(), gateway.counters.flows_ended()), (1, 1));
    to_client(&mut gateway, *node, &inner.answer(ACK, b"and here"));
}
