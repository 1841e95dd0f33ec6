//! Reopening an ended connection: the new one replaces it, or nothing changes.

use weirgate::flow::Entry;
use weirgate::net::WorkerId;
use weirgate::snapshot::{Admission, PastLimit};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::Gateway;
use weirgate_fixture::frames::{
    ACK, Body, FIN, FROM_CLIENT, Packet, SYN, chunk, framed, from_pod, init_chunk, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, SIGNAL, UNDERLAY, UPLINK, WEB, World};

/// One new flow a second.
const ONE: Admission = Admission { half_open_per_client: 0, new_flows_per_second: 1, past_limit: PastLimit::Drop };

fn from_client(gateway: &mut Gateway, packet: &Packet) -> Verdict {
    gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes())).verdict
}

/// A client's packet as the pod sees it, and the pod's node.
fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()));
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

/// Opens a connection and ends it with both FINs: its pod's node, and the client's packet as the pod sees it.
fn used(gateway: &mut Gateway, request: &Packet) -> (usize, Packet) {
    let (node, inner) = to_pod(gateway, request);
    to_client(gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(gateway, &with_flags(request, ACK));
    to_client(gateway, node, &inner.answer(FIN | ACK, b""));
    to_pod(gateway, &with_flags(request, FIN | ACK));
    (node, inner)
}

/// All flows of both tables.
fn flows(gateway: &Gateway) -> String {
    format!(
        "{:?}",
        (gateway.worker.flows().v4.iter().collect::<Vec<_>>(), gateway.worker.flows().v6.iter().collect::<Vec<_>>())
    )
}

/// Asserts that the client's SYN is refused, and the ended connection does not change.
fn assert_untouched(gateway: &mut Gateway, request: &Packet, (node, inner): &(usize, Packet), refused: Verdict) {
    let before = flows(gateway);
    for _ in 0..3 {
        assert_eq!(from_client(gateway, request), refused);
        assert_eq!(flows(gateway), before);
    }
    assert_eq!((gateway.counters.flows_reopened.get(), gateway.counters.flows_ended()), (0, 0));
    // The last acknowledgement, and the FIN that was retransmitted because it was late.
    to_client(gateway, *node, &inner.answer(FIN | ACK, b""));
    let (again, seen) = to_pod(gateway, &with_flags(request, ACK));
    assert_eq!((again, seen.source, seen.destination), (*node, inner.source, inner.destination));
}

#[test]
fn a_refused_reopening_does_not_change_the_ended_connection() {
    for request in [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b"")] {
        for world in [World::new(), World::new().preserving(WEB)] {
            let mut gateway = World { admission: ONE, ..world.clone() }.gateway();
            let used = used(&mut gateway, &request);
            assert_untouched(&mut gateway, &request, &used, Verdict::Drop(DropReason::NewFlowLimit));
            // Once allowed, it replaces the ended one; with a preserved source, at the same backend.
            gateway.advance(Span::from_secs(1));
            let (node, inner) = to_pod(&mut gateway, &request);
            if world.preserves_sources() {
                assert_eq!((node, &inner), (used.0, &used.1));
            }
            let counters = gateway.counters;
            assert_eq!((counters.flows_reopened.get(), counters.flows_created.get()), (1, 2));
            to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
            to_pod(&mut gateway, &with_flags(&request, ACK));
            assert_eq!(gateway.worker.flows().len(), 1);
        }
    }
}

#[test]
fn a_reopening_without_a_backend_does_not_change_the_ended_connection() {
    let mut gateway = World::new().gateway();
    let request = Packet::web(7, SYN, b"");
    let used = used(&mut gateway, &request);
    let mut world = World { generation: 2, ..World::new() };
    world.backends[0].clear();
    gateway.apply(&world);
    // The client gets an error instead.
    assert_untouched(&mut gateway, &request, &used, Verdict::Transmit(UPLINK));
    assert_eq!(gateway.counters.errors_sent.get(), 3);
}

#[test]
fn the_only_port_of_an_ended_connection_goes_to_the_next_one() {
    let mut world = World::new();
    world.pool.truncate(1);
    world.pool_ports = (2000, 2000);
    world.backends[0].truncate(1);
    let mut gateway = world.gateway();
    let request = Packet::web(7, SYN, b"");
    let (_, inner) = used(&mut gateway, &request);
    assert_eq!(from_client(&mut gateway, &Packet::web(8, SYN, b"")), Verdict::Drop(DropReason::PortsExhausted));
    assert_eq!(to_pod(&mut gateway, &request).1, inner);
    assert_eq!(gateway.counters.flows_reopened.get(), 1);
}

#[test]
fn a_connection_that_is_forwarded_statelessly_ends_the_one_before_it() {
    let admission = Admission { past_limit: PastLimit::Stateless, ..ONE };
    let mut gateway = World { admission, ..World::new().preserving(WEB) }.gateway();
    let request = Packet::web(7, SYN, b"");
    let (node, inner) = used(&mut gateway, &request);
    assert_eq!(to_pod(&mut gateway, &request), (node, inner.clone()));
    assert_eq!((gateway.worker.flows().v4.len(), gateway.counters.flows_reopened.get()), (0, 1));
    to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
    assert_eq!(to_pod(&mut gateway, &with_flags(&request, ACK)).0, node);
    assert_eq!(gateway.counters.forwarded_stateless.get(), 3);
}

#[test]
fn in_a_full_table_an_ended_connection_is_evicted_for_its_own_successor() {
    let mut gateway = World::new().describe(|description| Gateway::with_worker(description, WorkerId(0), 16));
    (1..=16).for_each(|port| _ = used(&mut gateway, &Packet::web(port, SYN, b"")));
    for port in 1..=16 {
        let (node, inner) = to_pod(&mut gateway, &Packet::web(port, SYN, b""));
        to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
        to_pod(&mut gateway, &Packet::web(port, ACK, b""));
    }
    let counters = gateway.counters;
    assert_eq!((counters.flows_reopened.get(), counters.flows_ended(), counters.flows_created.get()), (16, 16, 32));
}

#[test]
fn a_refused_reopening_does_not_change_the_ended_association() {
    const TAGS: [[u8; 4]; 2] = [[0xc1, 0, 0, 1], [0xac, 0, 0, 1]];
    const ABORT: u8 = 6;
    for world in [World::new().with_sctp(), World::new().with_sctp().preserving(SIGNAL)] {
        let mut gateway = World { admission: ONE, ..world }.gateway();
        let init = Packet::init(40_000, TAGS[0]);
        let (node, inner) = to_pod(&mut gateway, &init);
        let aborted = Body::Sctp(TAGS[0], chunk(ABORT, 0, b""));
        to_client(&mut gateway, node, &Packet::new(inner.destination, inner.source, aborted));
        let state = |gateway: &Gateway| gateway.worker.flows().v4.get(0).and_then(Entry::state);
        assert_eq!(state(&gateway), Some(weirgate::flow::State::SctpClosed));
        let before = flows(&gateway);
        assert_eq!(from_client(&mut gateway, &init), Verdict::Drop(DropReason::NewFlowLimit));
        assert_eq!((flows(&gateway), gateway.counters.flows_ended()), (before, 0));
        gateway.advance(Span::from_secs(1));
        let (node, inner) = to_pod(&mut gateway, &init);
        assert_eq!((gateway.counters.flows_reopened.get(), gateway.worker.flows().v4.len()), (1, 1));
        let answer = Body::Sctp(TAGS[0], init_chunk(2, TAGS[1], &chunk(7, 0, b"cookie")));
        to_client(&mut gateway, node, &Packet::new(inner.destination, inner.source, answer));
        assert!([10, 11].iter().any(|number| inner.destination.ip() == world::pod(node, *number)));
    }
}
