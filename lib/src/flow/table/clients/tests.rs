use std::vec::Vec;

use super::super::tests::{Gone, Memory, V4, assert_whole, put_in_state, reply, tuple};
use super::*;
use crate::flow::{ASSURED, State};

const CAPACITY: u32 = 1 << 16;

fn begin(table: &mut Table<'_, V4>, client: V4, number: u32) -> u32 {
    let original = Tuple { source: client, ..tuple(0, number as u16) };
    table.insert(original, reply(number), Protocol::TCP, State::TcpSynSent, |_| ()).unwrap()
}

#[test]
fn a_clients_half_open_flows_are_counted_while_they_are_half_open() {
    let bytes = Table::<V4>::memory_bytes(64);
    let mut memory = Memory::new(bytes);
    let mut table = Table::new(64, [5; 4], memory.aligned(bytes)).unwrap();
    let (one, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let flows: Vec<u32> = (0..10).map(|n| begin(&mut table, one, n)).collect();
    begin(&mut table, other, 10);
    assert_eq!((table.half_open_of(one, false), table.half_open_of(other, false)), (10, 1));
    put_in_state(&mut table, flows[0], State::TcpSynReceived as u8);
    assert_eq!(table.half_open_of(one, false), 10);
    put_in_state(&mut table, flows[0], State::TcpEstablished as u8 | ASSURED);
    put_in_state(&mut table, flows[1], State::TcpReset as u8 | ASSURED);
    table.remove(flows[2]);
    assert_eq!((table.half_open_of(one, false), table.half_open_of(other, false)), (7, 1));
    assert_whole(&table);
}

#[test]
fn an_ipv6_client_is_its_64_and_a_pod_is_itself() {
    let bytes = Table::<[u8; 16]>::memory_bytes(1024);
    let mut memory = Memory::new(bytes);
    let mut table = Table::<[u8; 16]>::new(1024, [5; 4], memory.aligned(bytes)).unwrap();
    let address = |site: u8, host: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, site, 0, 0, 0, 0, 0, 0, 0, host];
    let mut begin = |site, host, mode: Mode| {
        let original = Tuple {
            source: address(site, host),
            destination: address(9, 9),
            source_port: [host, site],
            destination_port: [0, 80],
        };
        let reply = Tuple { destination: address(8, mode as u8), ..original };
        let state = State::TcpSynSent;
        table.insert(original, reply, Protocol::TCP, state, |entry| entry.mode = mode as u8).unwrap()
    };
    for host in 0..5 {
        begin(1, host, Mode::Inward);
        begin(2, host, Mode::Outward);
    }
    assert_eq!([0, 77].map(|host| table.half_open_of(address(1, host), false)), [5, 5]);
    assert_eq!([0, 77].map(|host| table.half_open_of(address(2, host), true)), [1, 0]);
    assert_eq!(table.half_open_of(address(3, 0), false), 0);
}

/// What a limit of 256 does to clients that have no flow, while a flood of one such flow each, or
/// of 255 flows each, fills the table.
#[test]
fn clients_are_hardly_ever_taken_for_those_they_share_counters_with() {
    let bytes = Table::<V4>::memory_bytes(CAPACITY);
    for (each, most_held) in [(1, 0), (255, 60)] {
        let mut memory = Memory::new(bytes);
        let mut table = Table::new(CAPACITY, [5; 4], memory.aligned(bytes)).unwrap();
        for n in 0..CAPACITY {
            begin(&mut table, (0x0a00_0001 + n / each).to_be_bytes(), n);
        }
        let estimates = (0..100_000_u32).map(|n| table.half_open_of((0xc633_0000 + n).to_be_bytes(), false));
        let held = estimates.filter(|estimate| *estimate >= 255).count();
        assert!(held <= most_held, "{held} of 100000 by {each} flows each");
        let known = (0..CAPACITY).map(|n| table.half_open_of((0x0a00_0001 + n / each).to_be_bytes(), false));
        assert!(known.take((CAPACITY - each) as usize).all(|estimate| estimate >= each), "never below the truth");
    }
}

/// A client is held to its limit while the table fills, and then it needs the flow that has been half-open longest.
#[test]
fn a_client_at_its_limit_needs_a_table_that_does_not_fill_or_the_oldest_half_open_flow() {
    let bytes = Table::<V4>::memory_bytes(64);
    let (client, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    // Of 64 flows: the client's 4, others that are half-open, others that are assured; whether the client's are the
    // oldest; whether it may begin another of a limit of 4, and of 5.
    for (half_open, assured, is_oldest, of_four, of_five) in [
        (11, 0, false, true, true),
        (12, 0, false, false, true),
        (12, 0, true, true, true),
        (0, 43, false, true, true),
        (1, 43, false, false, true),
        (1, 43, true, true, true),
    ] {
        for is_pod in [false, true] {
            let mut memory = Memory::new(bytes);
            let mut table = Table::new(64, [5; 4], memory.aligned(bytes)).unwrap();
            let mut number = 0;
            let mut begin = |table: &mut Table<'_, V4>, client, count| {
                for _ in 0..count {
                    let original = Tuple { source: client, ..tuple(0, number as u16) };
                    let mode = if is_pod { Mode::Outward } else { Mode::Inward };
                    let fill = |entry: &mut Entry<V4>| entry.mode = mode as u8;
                    table.insert(original, reply(number), Protocol::TCP, State::TcpSynSent, fill).unwrap();
                    number += 1;
                }
            };
            begin(&mut table, client, if is_oldest { 4 } else { 0 });
            begin(&mut table, other, half_open);
            begin(&mut table, client, if is_oldest { 0 } else { 4 });
            begin(&mut table, other, assured);
            for index in table.len() - assured..table.len() {
                put_in_state(&mut table, index, State::TcpEstablished as u8 | ASSURED);
            }
            let case = (half_open, assured, is_oldest, is_pod);
            assert_eq!(table.half_open_of(client, is_pod), 4, "{case:?}");
            let may = [4, 5].map(|limit| table.may_begin_half_open(client, is_pod, limit));
            assert_eq!(may, [of_four, of_five], "{case:?}");
            let is_filling = half_open >= 12 || assured + half_open + 4 >= 48;
            // Nothing is evicted for the same address on the other side.
            assert_eq!(table.may_begin_half_open(client, !is_pod, 4), !is_filling, "{case:?}");

            // One has begun beyond the limit: of the client's own the oldest is evicted, where that is the oldest of all.
            for (limit, goes) in [(3, is_filling && is_oldest), (4, false)] {
                let (mut gone, begun) = (Gone::default(), table.len() - assured - 1);
                let begun = if is_oldest { 3 } else { begun };
                let before = table.len();
                table.hold_client(begun, limit, Age { tick: 0, idle: &[0; State::COUNT] }, &mut gone.count());
                assert_eq!((before - table.len(), gone.evicted[0]), (u32::from(goes), u32::from(goes)), "{case:?}");
                assert_eq!(table.get(0).unwrap().state == 0, is_filling && is_oldest, "{case:?}");
            }
            assert_whole(&table);
        }
    }
}

#[test]
fn the_flow_that_began_is_not_evicted_for_itself() {
    let bytes = Table::<V4>::memory_bytes(16);
    let mut memory = Memory::new(bytes);
    let mut table = Table::new(16, [5; 4], memory.aligned(bytes)).unwrap();
    let flows: Vec<u32> = (0..4).map(|n| begin(&mut table, [192, 0, 2, 1], n)).collect();
    let age = Age { tick: 0, idle: &[0; State::COUNT] };
    table.hold_client(flows[0], 1, age, &mut Gone::default().count());
    assert_eq!(table.len(), 4);
    table.hold_client(flows[3], 1, age, &mut Gone::default().count());
    assert_eq!((table.len(), table.get(flows[0]).unwrap().state), (3, 0));
}
