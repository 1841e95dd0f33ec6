mod attack;

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::flow::{ASSURED, Worth, idle_ticks};
use crate::snapshot::Timeouts;

/// Bytes that begin at a multiple of 64.
pub(super) struct Memory(Vec<u8>);

impl Memory {
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0xa5; len + 64])
    }

    pub(super) fn aligned(&mut self, len: usize) -> &mut [u8] {
        let skip = self.0.as_ptr().align_offset(64);
        &mut self.0[skip..skip + len]
    }
}

pub(super) type V4 = [u8; 4];

/// Flows that ended to make room.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Gone {
    /// By class.
    pub(super) evicted: [u32; Worth::COUNT],
    pub(super) expired: u32,
}

impl Gone {
    pub(super) fn count(&mut self) -> impl FnMut(&Entry<V4>, FlowEnd) {
        |entry, end| match (end, entry.worth()) {
            (FlowEnd::Evicted, Some(worth)) => self.evicted[worth as usize] += 1,
            (FlowEnd::Expired, _) => self.expired += 1,
            other => panic!("no flow ends so to make room: {other:?}"),
        }
    }
}

pub(super) fn tuple(source: u32, port: u16) -> Tuple<V4> {
    Tuple {
        source: source.to_be_bytes(),
        destination: [192, 0, 2, 1],
        source_port: port.to_be_bytes(),
        destination_port: [0, 80],
    }
}

pub(super) fn reply(index: u32) -> Tuple<V4> {
    Tuple {
        source: [10, 0, (index >> 24) as u8, 1],
        destination: [10, 1, 0, (index >> 16) as u8],
        source_port: [0, 80],
        destination_port: (index as u16).to_be_bytes(),
    }
}

pub(super) fn insert(table: &mut Table<'_, V4>, client: u32, number: u32) -> Result<u32, InsertError> {
    table.insert(tuple(client, 7), reply(number), Protocol::TCP, State::TcpSynSent, |_| ())
}

pub(super) fn find(table: &Table<'_, V4>, tuple: &Tuple<V4>) -> Option<Found> {
    table.lookup(table.hash(tuple, Protocol::TCP), tuple, Protocol::TCP)
}

/// Every invariant of a table: live entries are found under both tuples and nothing else is in the
/// index; every vacant entry is in the list, once.
pub(super) fn assert_whole(table: &Table<'_, V4>) {
    let mut live = 0;
    for (index, entry) in (0..).zip(table.entries.iter()).filter(|(_, entry)| entry.state != 0) {
        live += 1;
        for (tuple, direction) in [(entry.original, Direction::Original), (entry.reply, Direction::Reply)] {
            let protocol = Protocol(entry.protocol);
            let found = table.lookup(table.hash(&tuple, protocol), &tuple, protocol);
            assert_eq!(found, Some(Found { index, direction }));
        }
    }
    assert_eq!(table.len(), live);
    let used: u32 = table.buckets.iter().map(Bucket::used).sum();
    assert_eq!(used, 2 * live, "slots of the index");
    let mut vacant = 0;
    let mut next = table.vacant;
    while let Some(entry) = table.get(next) {
        assert_eq!(entry.state, 0);
        vacant += 1;
        assert!(vacant <= table.capacity(), "the list of vacant entries goes round");
        next = entry.seen;
    }
    assert_eq!((next, vacant), (NONE, table.capacity() - live));
    assert_clients_counted(table);
    assert_eq!(Worth::ALL.map(|worth| queue(table, worth).len()).iter().sum::<usize>(), {
        table.iter().filter(|entry| entry.worth().is_some()).count()
    });
}

/// The counts of half-open flows by client are what counting anew gives.
fn assert_clients_counted(table: &Table<'_, V4>) {
    let mut counts = vec![[0_u32; 16]; table.clients.len()];
    for entry in table.iter().filter(|entry| entry.worth() == Some(Worth::HalfOpen)) {
        let (line, counters) = table.place_of(entry.original.source, entry.mode != 0);
        assert_ne!(counters[0], counters[1]);
        counters.iter().for_each(|counter| counts[line][*counter] += 1);
        assert!(table.half_open_of(entry.original.source, entry.mode != 0) > 0);
    }
    assert!(table.clients.iter().map(ClientCounts::all).eq(&counts), "counts by client");
}

/// The flows of a class, the first one first.
pub(super) fn queue(table: &Table<'_, V4>, worth: Worth) -> Vec<u32> {
    let mut queue = Vec::new();
    let mut next = table.first_of(worth);
    while let Some(index) = next {
        let entry = table.get(index).unwrap();
        assert_eq!(entry.worth(), Some(worth));
        assert_eq!(entry.queued[0], queue.last().copied().unwrap_or(NONE));
        queue.push(index);
        assert!(queue.len() <= table.capacity() as usize, "the queue goes round");
        next = table.get(entry.queued[1]).map(|_| entry.queued[1]);
    }
    if worth == Worth::HalfOpen {
        assert_eq!(table.half_open() as usize, queue.len());
    }
    queue
}

/// Puts a flow in a state, as a packet does.
pub(super) fn put_in_state(table: &mut Table<'_, V4>, index: u32, state: u8) {
    let entry = table.get_mut(index).unwrap();
    let before = core::mem::replace(&mut entry.state, state);
    table.requeue(index, before);
}

#[test]
fn a_flow_takes_at_most_128_bytes() {
    for capacity in [1000, 65_536, CAPACITY_MAX] {
        assert!(Table::<V4>::memory_bytes(capacity) <= 128 * capacity as usize + 64);
    }
}

#[test]
fn one_entry_answers_for_both_directions() {
    let mut memory = Memory::new(Table::<V4>::memory_bytes(16));
    let mut table = Table::new(16, [1; 4], memory.aligned(Table::<V4>::memory_bytes(16))).unwrap();
    let index = insert(&mut table, 1, 2).unwrap();
    assert_eq!(find(&table, &tuple(1, 7)), Some(Found { index, direction: Direction::Original }));
    assert_eq!(find(&table, &reply(2)), Some(Found { index, direction: Direction::Reply }));
    assert_eq!(find(&table, &reply(2).inverted()), None);
    let hash = table.hash(&tuple(1, 7), Protocol::UDP);
    assert_eq!(table.lookup(hash, &tuple(1, 7), Protocol::UDP), None);
    // Nor where both protocols' hashes are the same.
    let hash = table.hash(&tuple(1, 7), Protocol::TCP);
    assert_eq!(table.lookup(hash, &tuple(1, 7), Protocol::UDP), None);
    assert_eq!((table.is_empty(), table.len()), (false, 1));
}

#[test]
fn full_refuses_and_leaves_the_others_alone() {
    for capacity in [16, 17, 1000] {
        let bytes = Table::<V4>::memory_bytes(capacity);
        let mut memory = Memory::new(bytes);
        let mut table = Table::new(capacity, [3; 4], memory.aligned(bytes)).unwrap();
        for n in 0..capacity {
            insert(&mut table, n, n).unwrap_or_else(|error| panic!("{n} of {capacity}: {error:?}"));
        }
        assert_eq!(insert(&mut table, capacity, capacity), Err(InsertError::Full));
        assert_eq!(table.len(), capacity);
        for n in 0..capacity {
            let found = find(&table, &tuple(n, 7)).unwrap();
            assert_eq!(find(&table, &reply(n)).unwrap().index, found.index);
        }
        table.remove(find(&table, &reply(5)).unwrap().index);
        insert(&mut table, capacity, capacity).unwrap();
        assert_eq!(find(&table, &tuple(5, 7)), None);
    }
}

#[test]
fn no_two_flows_share_a_tuple() {
    let mut memory = Memory::new(Table::<V4>::memory_bytes(64));
    let mut table = Table::new(64, [1; 4], memory.aligned(Table::<V4>::memory_bytes(64))).unwrap();
    insert(&mut table, 1, 1).unwrap();
    assert_eq!(insert(&mut table, 1, 2), Err(InsertError::TupleTaken));
    assert_eq!(insert(&mut table, 2, 1), Err(InsertError::TupleTaken));
    assert_eq!(table.len(), 1);
}

#[test]
fn memory_that_does_not_do_is_refused() {
    let bytes = Table::<V4>::memory_bytes(64);
    let mut memory = Memory::new(bytes);
    let short = Table::<V4>::new(64, [0; 4], &mut memory.aligned(bytes)[..bytes - 1]).unwrap_err();
    assert_eq!(short, TableError::Memory { have: bytes - 1, need: bytes });
    let odd = Table::<V4>::new(64, [0; 4], &mut memory.aligned(bytes)[8..]).unwrap_err();
    assert!(matches!(odd, TableError::Memory { .. }));
    for asked in [0, 15, CAPACITY_MAX + 1] {
        let error = Table::<V4>::new(asked, [0; 4], &mut []).unwrap_err();
        assert_eq!(error, TableError::Capacity { asked, min: 16, max: CAPACITY_MAX });
    }
}

#[test]
fn ageing_goes_round_in_slices_and_survives_the_clocks_wrap() {
    let mut memory = Memory::new(Table::<V4>::memory_bytes(64));
    let mut table = Table::new(64, [1; 4], memory.aligned(Table::<V4>::memory_bytes(64))).unwrap();
    let idle = idle_ticks(&Timeouts::default());
    let start = u32::MAX - 5;
    for n in 0..64 {
        let index = insert(&mut table, n, n).unwrap();
        table.get_mut(index).unwrap().seen = start;
    }
    let opening = idle[State::TcpSynSent as usize];
    assert_eq!(table.age(Age { tick: start.wrapping_add(opening), idle: &idle }, 64, &mut |_, _| {}), 0);
    assert_eq!(table.age(Age { tick: start.wrapping_add(opening + 1), idle: &idle }, 10, &mut |_, _| {}), 10);
    assert_eq!(table.age(Age { tick: start.wrapping_add(opening + 1), idle: &idle }, 1000, &mut |_, _| {}), 54);
    assert!(table.is_empty());
    for n in 0..64 {
        insert(&mut table, n, n).unwrap();
    }
}

#[test]
fn a_clock_may_go_back_a_second() {
    let idle = idle_ticks(&Timeouts::default());
    let mut memory = Memory::new(Table::<V4>::memory_bytes(16));
    let mut table = Table::new(16, [1; 4], memory.aligned(Table::<V4>::memory_bytes(16))).unwrap();
    for (n, ahead) in [1, 1024, 1025].into_iter().enumerate() {
        let index = insert(&mut table, n as u32, n as u32).unwrap();
        table.get_mut(index).unwrap().seen = 5000 + ahead;
    }
    assert_eq!(table.age(Age { tick: 5000, idle: &idle }, 16, &mut |_, _| {}), 1);
    assert_eq!(find(&table, &reply(2)), None);
}

#[derive(Clone, Debug)]
enum Operation {
    Insert(u32, u32, State),
    Remove(u32),
    /// A packet that puts the flow in a state.
    Touch(u32, u8),
    Age(u32, u32),
    Attach,
}

/// What there can be of TCP and how a flow in it goes when there is no room.
const STATES: [u8; 6] = [
    State::TcpSynSent as u8,
    State::TcpSynReceived as u8,
    State::TcpReset as u8 | ASSURED,
    State::TcpFinWaitReply as u8,
    State::TcpTimeWait as u8 | ASSURED,
    State::TcpEstablished as u8 | ASSURED,
];

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        8 => (1..40_u32, 0..40_u32).prop_map(|(a, b)| Operation::Insert(a, b, State::TcpSynSent)),
        1 => (0..40_u32).prop_map(Operation::Remove),
        6 => (0..40_u32, prop::sample::select(&STATES)).prop_map(|(a, b)| Operation::Touch(a, b)),
        1 => (0..30_000_u32, 0..50_u32).prop_map(|(a, b)| Operation::Age(a, b)),
        1 => Just(Operation::Attach),
    ];
    prop::collection::vec(one, 0..200)
}

/// A flow as the slow model knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Modelled {
    number: u32,
    seen: u32,
    state: u8,
    /// Its place among those of its class.
    queued: u32,
}

impl Modelled {
    /// The class in which the flow gives way; `None` for never.
    fn worth(&self) -> Option<Worth> {
        match State::from_number(self.state & !ASSURED).unwrap() {
            State::TcpSynSent | State::TcpSynReceived => Some(Worth::HalfOpen),
            State::TcpReset | State::TcpTimeWait | State::TcpFinWaitReply => Some(Worth::Closing),
            _ => None,
        }
    }

    fn is_idle(&self, age: Age<'_>) -> bool {
        age.tick - self.seen > age.idle[usize::from(self.state & !ASSURED)]
    }
}

proptest! {
    /// The table against a sorted map that is plainly right.
    #[test]
    fn agrees_with_a_slow_model(operations in operations(), secret: [u64; 4]) {
        const CAPACITY: u32 = 24;
        let bytes = Table::<V4>::memory_bytes(CAPACITY);
        let mut memory = Memory::new(bytes);
        let mut table = Table::new(CAPACITY, secret, memory.aligned(bytes)).unwrap();
        let idle = idle_ticks(&Timeouts::default());
        let mut model: BTreeMap<u32, Modelled> = BTreeMap::new();
        let mut now = 0_u32;
        for (serial, operation) in (CAPACITY..).zip(operations) {
            let age = Age { tick: now, idle: &idle };
            match operation {
                Operation::Insert(client, number, state) => {
                    let is_taken = model.contains_key(&client) || model.values().any(|flow| flow.number == number);
                    let is_full = model.len() == CAPACITY as usize;
                    let count = |worth| model.values().filter(|flow| flow.worth() == Some(worth)).count();
                    let is_one_way_first = count(Worth::OneWay) > count(Worth::HalfOpen);
                    let in_turn = model.iter().filter_map(|(it, flow)| {
                        let worth = flow.worth()?;
                        Some((!(is_one_way_first && worth == Worth::OneWay), worth, flow.queued, *it))
                    });
                    let victim = in_turn.min().map(|(.., client)| client);
                    let idle_clients: Vec<u32> =
                        model.iter().filter(|(_, flow)| flow.is_idle(age)).map(|(client, _)| *client).collect();
                    let mut expected_gone = Gone::default();
                    let expected = match (is_taken, is_full, victim) {
                        (true, ..) => Err(InsertError::TupleTaken),
                        (_, true, None) if idle_clients.is_empty() => Err(InsertError::Full),
                        (_, true, None) => {
                            idle_clients.iter().for_each(|client| _ = model.remove(client));
                            expected_gone.expired = idle_clients.len() as u32;
                            Ok(())
                        }
                        (_, true, Some(victim)) => {
                            let victim = model.remove(&victim).unwrap();
                            match victim.is_idle(age) {
                                true => expected_gone.expired = 1,
                                false => expected_gone.evicted[victim.worth().unwrap() as usize] = 1,
                            }
                            Ok(())
                        }
                        _ => Ok(()),
                    };
                    let mut gone = Gone::default();
                    let tuples = (tuple(client, 7), reply(number));
                    let result = table.insert_or_evict(tuples, Protocol::TCP, state, age, &mut gone.count(), |entry| {
                        entry.seen = now;
                    });
                    prop_assert_eq!(result.map(|_| ()), expected);
                    prop_assert_eq!(gone, expected_gone);
                    if expected.is_ok() {
                        model.insert(client, Modelled { number, seen: now, state: state as u8, queued: serial });
                    }
                }
                Operation::Remove(client) => {
                    if let Some(found) = find(&table, &tuple(client, 7)) {
                        table.remove(found.index);
                    }
                    model.remove(&client);
                }
                Operation::Touch(client, state) => {
                    let found = find(&table, &tuple(client, 7));
                    prop_assert_eq!(found.is_some(), model.contains_key(&client));
                    if let Some((found, flow)) = found.zip(model.get_mut(&client)) {
                        table.get_mut(found.index).unwrap().seen = now;
                        put_in_state(&mut table, found.index, state);
                        let before = flow.worth();
                        (flow.seen, flow.state) = (now, state);
                        if flow.worth() != before {
                            flow.queued = serial;
                        }
                    }
                }
                Operation::Age(step, budget) => {
                    now += step;
                    let age = Age { tick: now, idle: &idle };
                    let before = table.len();
                    let expired = table.age(age, budget, &mut |_, _| {});
                    prop_assert!(expired <= budget && table.len() == before - expired);
                    model.retain(|client, flow| {
                        !flow.is_idle(age) || budget < CAPACITY && find(&table, &tuple(*client, 7)).is_some()
                    });
                }
                Operation::Attach => {
                    let flows = table.len();
                    let (adopted, counts) =
                        Table::attach(CAPACITY, Owner::NOBODY, memory.aligned(bytes), 0, |_| true).unwrap();
                    prop_assert_eq!(counts, Adopted { flows, ..Adopted::default() });
                    table = adopted;
                    for (client, flow) in &mut model {
                        flow.queued = find(&table, &tuple(*client, 7)).unwrap().index;
                    }
                }
            }
            prop_assert_eq!(table.len() as usize, model.len());
            for (client, flow) in &model {
                let found = find(&table, &tuple(*client, 7)).map(|found| found.index);
                prop_assert!(found.is_some() && found == find(&table, &reply(flow.number)).map(|found| found.index));
                let entry = table.get(found.unwrap()).unwrap();
                prop_assert_eq!((entry.seen, entry.state), (flow.seen, flow.state));
            }
            assert_whole(&table);
        }
    }
}
