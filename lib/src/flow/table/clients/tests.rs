use std::vec::Vec;

use super::super::tests::{Memory, V4, assert_whole, put_in_state, reply, tuple};
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
