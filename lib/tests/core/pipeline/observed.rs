//! What an observer sees of flows.

use std::collections::BTreeMap;

use weirgate::flow::{Direction, Flow, FlowEnd, FlowEvent, State};
use weirgate::net::{Endpoint, Protocol, WorkerId};
use weirgate::time::Span;
use weirgate_fixture::frames::{ACK, FIN, Packet, RST, SYN};
use weirgate_fixture::world::{WEB, World};
use weirgate_fixture::{Events, Gateway, Observed};

use super::helpers::{established, is_pool, to_client, to_pod};

/// What became of flows since the last call, the state of each then, and whether it was assured.
fn events(gateway: &mut Gateway) -> Vec<(FlowEvent, Option<State>, bool)> {
    let seen = std::mem::take(&mut gateway.events);
    seen.into_iter().map(|it| (it.event, it.state.0, it.state.1)).collect()
}

/// Both sides of a client's connection end it.
fn close(gateway: &mut Gateway, number: u16, (node, inner): (usize, &Packet)) {
    to_pod(gateway, &Packet::web(number, FIN | ACK, b""));
    to_client(gateway, node, &inner.answer(FIN | ACK, b""));
    to_pod(gateway, &Packet::web(number, ACK, b""));
}

#[test]
fn a_connection_begins_changes_with_each_step_and_ends() {
    let mut gateway = World::new().gateway();
    let (node, inner) = established(&mut gateway, &Packet::web(7, SYN, b""));
    let [begun, ..] = &gateway.events[..] else { panic!("a flow has begun") };
    let request = Packet::web(7, SYN, b"");
    let endpoint = |(address, port)| Endpoint { address, port };
    let [client, frontend, backend] = [
        (request.source.ip(), request.source.port()),
        (request.destination.ip(), request.destination.port()),
        (inner.destination.ip(), inner.destination.port()),
    ]
    .map(endpoint);
    assert_eq!((begun.flow, begun.backend), ((Protocol::TCP, [client, frontend]), Some(backend)));
    let changed = FlowEvent::Changed;
    let (syn_sent, syn_received, open) = (State::TcpSynSent, State::TcpSynReceived, State::TcpEstablished);
    let expected = [
        (FlowEvent::Begun, Some(syn_sent), false),
        (changed(syn_sent), Some(syn_received), false),
        (changed(syn_received), Some(open), true),
    ];
    assert_eq!(events(&mut gateway), expected);

    // What else a flow says of itself, over either family.
    established(&mut gateway, &Packet::web_v6(7, SYN, b""));
    gateway.events.clear();
    let flows = gateway.worker.flows();
    let both = [Flow::V4(flows.v4.iter().next().unwrap()), Flow::V6(flows.v6.iter().next().unwrap())];
    for flow in both {
        assert_eq!((flow.protocol(), flow.service(), flow.traffic().packets), (Protocol::TCP, Some(WEB), [2, 1]));
        let [from, to] = flow.endpoints(Direction::Reply);
        assert_eq!(Some(from), flow.backend());
        assert!(is_pool(to.address), "{to}");
    }
    assert_eq!((flows.len(), flows.of::<[u8; 16]>().len(), flows.is_empty()), (2, 1, false));

    // Data changes nothing.
    to_pod(&mut gateway, &Packet::web(7, ACK, b"data"));
    assert_eq!(events(&mut gateway), []);
    close(&mut gateway, 7, (node, &inner));
    let states: Vec<_> = events(&mut gateway).into_iter().map(|(event, state, _)| (event, state)).collect();
    let [one, other, last] = [State::TcpFinWaitOriginal, State::TcpLastAck, State::TcpTimeWait];
    assert_eq!(states, [(changed(open), Some(one)), (changed(one), Some(other)), (changed(other), Some(last))]);

    // A SYN reopens it: the old flow ends before the new one begins.
    to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let reopened = FlowEvent::Ended(FlowEnd::Reopened);
    assert_eq!(events(&mut gateway), [(reopened, Some(last), true), (FlowEvent::Begun, Some(syn_sent), false)]);
    to_pod(&mut gateway, &Packet::web(7, RST, b""));
    assert!(matches!(events(&mut gateway)[..], [(FlowEvent::Ended(FlowEnd::Reset), ..)]));
    assert!(gateway.worker.flows().v4.is_empty());
}

#[test]
fn ageing_reports_the_flows_that_it_forgets() {
    let mut gateway = World::new().gateway();
    to_pod(&mut gateway, &Packet::dns(7, b""));
    to_pod(&mut gateway, &Packet::web(8, SYN, b""));
    gateway.advance(Span::from_secs(121));
    let (snapshot, now, mut observer) = (gateway.snapshot(), gateway.now, Events::default());
    gateway.worker.age_observed(&snapshot, now, 2000, &mut observer);
    let mut ended: Vec<_> = observer.0.iter().map(|it| (it.flow.0.0, it.event)).collect();
    ended.sort_by_key(|(protocol, _)| *protocol);
    let expired = FlowEvent::Ended(FlowEnd::Expired);
    assert_eq!(ended, [(Protocol::TCP.0, expired), (Protocol::UDP.0, expired)]);
}

#[test]
fn a_flow_that_is_found_idle_or_without_its_address_is_reported_with_the_reason() {
    let mut world = World::new();
    let mut gateway = world.gateway();
    let ended = |gateway: &mut Gateway| {
        let ends = events(gateway).into_iter().filter(|(event, ..)| matches!(event, FlowEvent::Ended(_)));
        ends.map(|(event, ..)| event).collect::<Vec<_>>()
    };
    to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_secs(121));
    to_pod(&mut gateway, &Packet::dns(7, b""));
    assert_eq!(ended(&mut gateway), [FlowEvent::Ended(FlowEnd::Expired)]);
    world.subnets = ["10.77.201.0/24", "fd77:0:0:201::/64"].map(|text| text.parse().unwrap()).into();
    world.pool = ["10.77.201.2", "fd77:0:0:201::2"].map(|text| text.parse().unwrap()).into();
    world.generation += 1;
    gateway.apply(&world);
    to_pod(&mut gateway, &Packet::dns(7, b""));
    assert_eq!(ended(&mut gateway), [FlowEvent::Ended(FlowEnd::AddressGone)]);
}

/// A replica of the table: what an observer alone knows.
#[test]
fn who_follows_the_events_knows_every_flow_and_its_state_in_a_table_that_is_full() {
    let mut world = World::new();
    world.admission.half_open_per_client = 4;
    let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 32));
    let mut replica = BTreeMap::<_, (Option<State>, bool)>::new();
    for turn in 0..400_u32 {
        let number = (turn * 7919 % 61) as u16;
        match turn % 3 {
            0 => {
                let number = 100 + number % 8;
                let (node, inner) = established(&mut gateway, &Packet::web(number, SYN, b""));
                close(&mut gateway, number, (node, &inner));
            }
            1 => _ = to_pod(&mut gateway, &Packet::dns(number, b"")),
            _ => _ = to_pod(&mut gateway, &Packet::web(number, SYN, b"")),
        }
        gateway.advance(Span::from_secs(7));
        for Observed { flow, state, event, .. } in gateway.events.drain(..) {
            let flow = (flow.0.0, flow.1);
            let before = replica.remove(&flow);
            match event {
                FlowEvent::Begun => assert_eq!(before, None),
                FlowEvent::Changed(from) => assert_eq!(before.expect("a flow that began").0, Some(from)),
                FlowEvent::Ended(_) => assert!(before.is_some()),
                other => panic!("{other:?}"),
            }
            if !matches!(event, FlowEvent::Ended(_)) {
                replica.insert(flow, state);
            }
        }
        let flows = gateway.worker.flows().v4.iter().map(weirgate::flow::Flow::V4);
        let table: BTreeMap<_, _> = flows
            .map(|it| ((it.protocol().0, it.endpoints(Direction::Original)), (it.state(), it.is_assured())))
            .collect();
        assert_eq!(replica, table, "turn {turn}");
    }
    let counters = gateway.counters;
    for ended in [&counters.evicted_half_open, &counters.flows_expired, &counters.flows_reopened] {
        assert!(ended.get() > 0, "flows ended in each way: {:?}", gateway.counted());
    }
}
