use std::collections::BTreeSet;
use std::vec::Vec;

use super::super::tests::{Gone, Memory, V4, assert_whole, find, put_in_state, queue, reply, tuple};
use super::*;
use crate::flow::{ASSURED, FlowTraffic, idle_ticks};
use crate::net::{Mac, Origin};
use crate::snapshot::Timeouts;

const ESTABLISHED: u8 = State::TcpEstablished as u8 | ASSURED;

/// A table full of flows in these states, in turn.
fn full<'m>(capacity: u32, memory: &'m mut Memory, states: &[u8]) -> Table<'m, V4> {
    let bytes = Table::<V4>::memory_bytes(capacity);
    let mut table = Table::new(capacity, [5; 4], memory.aligned(bytes)).unwrap();
    for (n, state) in (0..capacity).zip(states.iter().cycle()) {
        let state_now = State::from_number(state & !ASSURED).unwrap();
        let index = table.insert(tuple(n, 7), reply(n), Protocol::TCP, state_now, |_| ()).unwrap();
        put_in_state(&mut table, index, *state);
    }
    table
}

fn memory(capacity: u32) -> Memory {
    Memory::new(Table::<V4>::memory_bytes(capacity))
}

/// One more flow; what gave way to it.
fn insert(table: &mut Table<'_, V4>, number: u32, tick: u32) -> Result<Gone, InsertError> {
    let idle = idle_ticks(&Timeouts::default());
    let mut gone = Gone::default();
    let tuples = (tuple(number, 7), reply(number));
    let age = Age { tick, idle: &idle };
    table
        .insert_or_evict(tuples, Protocol::TCP, State::TcpSynSent, age, &mut gone.count(), |entry| entry.seen = tick)?;
    Ok(gone)
}

fn evicted(worth: Worth) -> Gone {
    let mut gone = Gone::default();
    gone.evicted[worth as usize] = 1;
    gone
}

#[test]
fn each_class_gives_way_before_the_next_and_assured_flows_are_left() {
    let states = [
        ESTABLISHED,
        State::UdpAnswered as u8,
        State::TcpTimeWait as u8 | ASSURED,
        State::TcpCloseWaitReply as u8 | ASSURED,
        State::TcpSynReceived as u8,
        State::TcpFinWaitOriginal as u8 | ASSURED,
        State::UdpStream as u8 | ASSURED,
        State::SctpEstablished as u8 | ASSURED,
    ];
    let mut memory = memory(64);
    let mut table = full(64, &mut memory, &states);
    let mut next = 1000..;
    let unassured = Worth::Unassured;
    // Streams leave a sixteenth of the table to the others.
    for (worth, count) in
        [(Worth::HalfOpen, 8), (Worth::Closing, 8), (unassured, 5), (Worth::Stream, 8), (unassured, 3)]
    {
        for _ in 0..count {
            let number = next.next().unwrap();
            assert_eq!(insert(&mut table, number, 0), Ok(evicted(worth)));
            // The new one is answered, and assured.
            let index = find(&table, &tuple(number, 7)).unwrap().index;
            put_in_state(&mut table, index, ESTABLISHED);
        }
    }
    assert_eq!(insert(&mut table, 2000, 0), Err(InsertError::Full));
    assert_eq!(table.iter().filter(|entry| entry.is_assured()).count(), 64);
    for n in (0..64).filter(|n| states[*n as usize % 8] & ASSURED != 0 && ![2, 6].contains(&(n % 8))) {
        assert!(find(&table, &tuple(n, 7)).is_some(), "{n}");
    }
    assert_whole(&table);
}

#[test]
fn of_handshakes_and_unanswered_datagrams_the_more_give_way() {
    let mut memory = memory(64);
    let mut table = full(64, &mut memory, &[State::Udp as u8, State::Udp as u8, State::TcpSynSent as u8]);
    // 21 handshakes and 43 datagrams: new handshakes are let in until there are as many.
    for number in 1000..1011 {
        assert_eq!(insert(&mut table, number, 0), Ok(evicted(Worth::OneWay)));
    }
    assert_eq!((table.queued(Worth::HalfOpen), table.queued(Worth::OneWay)), (32, 32));
    assert_eq!(insert(&mut table, 1011, 0), Ok(evicted(Worth::HalfOpen)));
    assert_whole(&table);
}

#[test]
fn what_has_idled_too_long_is_no_eviction_and_goes_before_one_is_refused() {
    let mut memory = memory(64);
    let mut table = full(64, &mut memory, &[ESTABLISHED]);
    let late = idle_ticks(&Timeouts::default())[State::TcpEstablished as usize] + 1;
    for n in (0..64).filter(|n| *n != 40) {
        let index = find(&table, &tuple(n, 7)).unwrap().index;
        table.get_mut(index).unwrap().seen = late;
    }
    assert_eq!(insert(&mut table, 1000, late), Ok(Gone { expired: 1, ..Gone::default() }));
    assert_eq!(find(&table, &tuple(40, 7)), None);
    // The half-open one that has just come is next, whether it has idled too long or not.
    assert_eq!(insert(&mut table, 1001, late), Ok(evicted(Worth::HalfOpen)));
    assert_eq!(find(&table, &tuple(1000, 7)), None);
    assert_eq!(insert(&mut table, 1002, late + 1_000_000), Ok(Gone { expired: 1, ..Gone::default() }));
    assert_whole(&table);
}

#[test]
fn a_flood_of_half_open_flows_drives_out_only_itself_and_the_oldest_first() {
    const CAPACITY: u32 = 1 << 12;
    let mut memory = memory(CAPACITY);
    // Every fourth flow is half-open.
    let states = [ESTABLISHED, ESTABLISHED, State::TcpSynSent as u8, ESTABLISHED];
    let mut table = full(CAPACITY, &mut memory, &states);
    let half_open = CAPACITY / 4;
    for n in 0..4 * half_open {
        assert_eq!(insert(&mut table, CAPACITY + n, 0), Ok(evicted(Worth::HalfOpen)));
        // It stays for as many more as there are half-open ones.
        if let Some(older) = (n + 1).checked_sub(half_open) {
            assert!(find(&table, &tuple(CAPACITY + older, 7)).is_some(), "{older} after {n}");
        }
    }
    for n in (0..CAPACITY).filter(|n| n % 4 != 2) {
        assert!(find(&table, &tuple(n, 7)).is_some(), "{n}");
    }
    assert_whole(&table);
}

#[test]
fn a_lone_flow_that_may_go_is_found_at_once() {
    const CAPACITY: u32 = 1 << 10;
    let mut memory = memory(CAPACITY);
    let mut table = full(CAPACITY, &mut memory, &[ESTABLISHED]);
    let index = find(&table, &tuple(777, 7)).unwrap().index;
    put_in_state(&mut table, index, State::TcpReset as u8 | ASSURED);
    assert_eq!(insert(&mut table, 5000, 0), Ok(evicted(Worth::Closing)));
    assert_eq!(find(&table, &tuple(777, 7)), None);
}

#[test]
fn a_flow_is_queued_anew_when_it_is_worth_something_else_and_not_before() {
    let mut memory = memory(64);
    let mut table = full(64, &mut memory, &[State::TcpSynSent as u8]);
    let turn = queue(&table, Worth::HalfOpen);
    assert_eq!(turn, (0..64).collect::<Vec<_>>());
    put_in_state(&mut table, 0, State::TcpSynReceived as u8);
    assert_eq!(queue(&table, Worth::HalfOpen), turn);
    for index in [0, 63, 31] {
        put_in_state(&mut table, index, ESTABLISHED);
    }
    assert_eq!(table.half_open(), 61);
    for index in [31, 0] {
        put_in_state(&mut table, index, State::TcpTimeWait as u8 | ASSURED);
    }
    assert_eq!(queue(&table, Worth::Closing), [31, 0]);
    table.remove(31);
    table.remove(5);
    assert_eq!((queue(&table, Worth::Closing), queue(&table, Worth::HalfOpen).len()), ([0].to_vec(), 60));
    assert_whole(&table);
}

#[test]
fn a_table_fills_up_before_anybody_is_refused() {
    for capacity in [1024, 1 << 16] {
        for secret in 0..4 {
            let bytes = Table::<V4>::memory_bytes(capacity);
            let mut memory = memory(capacity);
            let mut table = Table::<V4>::new(capacity, [secret; 4], memory.aligned(bytes)).unwrap();
            let refused = (0..).find(|n| {
                let Ok(gone) = insert(&mut table, *n, 0) else { return true };
                assert_eq!(gone, Gone::default());
                let index = find(&table, &tuple(*n, 7)).unwrap().index;
                put_in_state(&mut table, index, ESTABLISHED);
                false
            });
            let filled = table.len() * 10 / capacity;
            assert!(filled >= 9, "{refused:?} of {capacity} in, then a refusal");
        }
    }
}

/// Numbers of flows whose tuples both want only these two buckets.
fn crowd(table: &Table<'_, V4>, count: usize) -> Vec<u32> {
    let wants = |tuple: &Tuple<V4>| {
        let pair = table.bucket_pair(table.hash(tuple, Protocol::TCP));
        pair == [0, 1] || pair == [1, 0]
    };
    (0..4_000_000).filter(|n| wants(&tuple(*n, 7)) && wants(&reply(*n))).take(count).collect()
}

#[test]
fn where_buckets_are_full_one_of_theirs_gives_way_the_longest_idle_first() {
    // Nobody without the key can bring this about.
    let mut memory = memory(32);
    let bytes = Table::<V4>::memory_bytes(32);
    let mut table = Table::<V4>::new(32, [5; 4], memory.aligned(bytes)).unwrap();
    let crowd = crowd(&table, 60);
    assert_eq!(crowd.len(), 60);
    let (first, later) = crowd.split_at(16);
    for (n, tick) in first.iter().zip([9, 5, 7].into_iter().chain(10..)) {
        assert_eq!(insert(&mut table, *n, tick), Ok(Gone::default()), "two buckets take sixteen flows");
    }
    assert_eq!(table.len(), 16);
    for (n, oldest) in later.iter().zip([1, 2, 0, 3, 4]) {
        assert_eq!(insert(&mut table, *n, 40), Ok(evicted(Worth::HalfOpen)));
        assert_eq!(find(&table, &tuple(first[oldest], 7)), None, "{oldest} had idled longest");
        assert_whole(&table);
    }
    let live: BTreeSet<u32> = crowd.iter().copied().filter(|n| find(&table, &tuple(*n, 7)).is_some()).collect();
    for n in &live {
        let index = find(&table, &tuple(*n, 7)).unwrap().index;
        put_in_state(&mut table, index, ESTABLISHED);
    }
    for n in &later[10..] {
        assert_eq!(insert(&mut table, *n, 50), Err(InsertError::Full));
    }
    assert_eq!(live.len(), 16);
    assert!(live.iter().all(|n| find(&table, &tuple(*n, 7)).is_some()), "a refusal takes nothing away");
    assert_whole(&table);
}

#[test]
fn a_flow_whose_place_no_other_takes_is_as_it_was() {
    for state in [State::TcpFinWaitReply as u8, State::TcpReset as u8 | ASSURED, State::TcpLastAck as u8 | ASSURED] {
        let mut memory = memory(64);
        let mut table = full(64, &mut memory, &[ESTABLISHED]);
        let index = find(&table, &tuple(40, 7)).unwrap().index;
        put_in_state(&mut table, index, state);
        let entry = table.get_mut(index).unwrap();
        (entry.seen, entry.origin, entry.traffic.packets) = (77, Origin::new(Mac([1, 2, 3, 4, 5, 6]), [0, 7]), [8, 9]);
        let all = |table: &Table<'_, V4>| std::format!("{:?}", table.iter().collect::<Vec<_>>());
        let before = all(&table);
        let taken = table.take(index).unwrap();
        assert_eq!((table.len(), find(&table, &tuple(40, 7))), (63, None));
        table.put_back(taken);
        assert_eq!(all(&table), before);
        assert_whole(&table);
        let new = (tuple(40, 7), reply(1000));
        let insert = |table: &mut Table<'_, V4>| table.insert(new.0, new.1, Protocol::TCP, State::TcpSynSent, |_| ());
        assert_eq!(insert(&mut table), Err(InsertError::TupleTaken));
        table.take(index).unwrap();
        assert_eq!(insert(&mut table), Ok(index));
        assert_eq!((find(&table, &reply(40)), table.get(index).unwrap().traffic), (None, FlowTraffic::default()));
        assert_whole(&table);
    }
}

#[test]
fn where_buckets_are_full_what_has_idled_too_long_goes_first() {
    let mut memory = memory(32);
    let bytes = Table::<V4>::memory_bytes(32);
    let mut table = Table::<V4>::new(32, [5; 4], memory.aligned(bytes)).unwrap();
    let crowd = crowd(&table, 17);
    let late = idle_ticks(&Timeouts::default())[State::TcpEstablished as usize] + 100;
    for n in &crowd[..16] {
        insert(&mut table, *n, late).unwrap();
    }
    let idle = find(&table, &tuple(crowd[3], 7)).unwrap().index;
    put_in_state(&mut table, idle, ESTABLISHED);
    table.get_mut(idle).unwrap().seen = 0;
    assert_eq!(insert(&mut table, crowd[16], late), Ok(Gone { expired: 1, ..Gone::default() }));
    assert_eq!(find(&table, &tuple(crowd[3], 7)), None);
}

/// A flow elsewhere would be evicted first, to no use.
#[test]
fn where_both_tuples_want_the_one_slot_left_a_flow_of_its_bucket_is_evicted() {
    let mut memory = memory(32);
    let bytes = Table::<V4>::memory_bytes(32);
    let mut table = Table::<V4>::new(32, [5; 4], memory.aligned(bytes)).unwrap();
    let crowd = crowd(&table, 16);
    let pair = |tuple: &Tuple<V4>| table.bucket_pair(table.hash(tuple, Protocol::TCP));
    let is_elsewhere = |tuple: &Tuple<V4>| pair(tuple).iter().all(|bucket| *bucket > 1);
    let is_here = |tuple: &Tuple<V4>| matches!(pair(tuple), [0, 1] | [1, 0]);
    let elsewhere = (5_000_000..).find(|n| is_elsewhere(&tuple(*n, 7)) && is_elsewhere(&reply(*n))).unwrap();
    let half = (5_000_000..).find(|n| is_here(&tuple(*n, 7)) && is_elsewhere(&reply(*n))).unwrap();
    for n in [elsewhere, half].iter().chain(&crowd[..15]) {
        assert_eq!(insert(&mut table, *n, 5), Ok(Gone::default()));
    }
    let used: u32 = table.buckets[..2].iter().map(super::super::Bucket::used).sum();
    assert_eq!(used, 31);
    assert_eq!(insert(&mut table, crowd[15], 9), Ok(evicted(Worth::HalfOpen)));
    assert!(find(&table, &tuple(elsewhere, 7)).is_some());
    assert_whole(&table);
}
