use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::flow::idle_ticks;
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
        table.get_mut(index).unwrap().0.seen = start;
    }
    let opening = idle[State::TcpSynSent as usize];
    assert_eq!(table.age(start.wrapping_add(opening), &idle, 64), 0);
    assert_eq!(table.age(start.wrapping_add(opening + 1), &idle, 10), 10);
    assert_eq!(table.age(start.wrapping_add(opening + 1), &idle, 1000), 54);
    assert!(table.is_empty());
    for n in 0..64 {
        insert(&mut table, n, n).unwrap();
    }
}

#[test]
fn tuples_chosen_without_the_key_make_no_chains() {
    // Tuples that all fall in one bucket under one key fall apart under another.
    let capacity = 4096;
    let bytes = Table::<V4>::memory_bytes(capacity);
    let (mut one, mut two) = (Memory::new(bytes), Memory::new(bytes));
    let known = Table::<V4>::new(capacity, [1, 2, 3, 4], one.aligned(bytes)).unwrap();
    let chosen: Vec<_> = (0..2_000_000)
        .filter(|n| known.bucket_pair(known.hash(&tuple(*n, 7), Protocol::TCP))[0] == 0)
        .take(1000)
        .collect();
    assert_eq!(chosen.len(), 1000);
    let mut secret = Table::<V4>::new(capacity, [5, 6, 7, 8], two.aligned(bytes)).unwrap();
    for n in &chosen {
        insert(&mut secret, *n, *n).unwrap();
    }
    let worst = secret.buckets.iter().map(Bucket::used).max().unwrap();
    assert!(worst <= CROWDED + 1, "{worst} slots of one bucket taken by 2000 keys over 1024 buckets");
}

#[derive(Clone, Debug)]
enum Operation {
    Insert(u32, u32),
    Remove(u32),
    Touch(u32),
    Age(u32, u32),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        4 => (0..40_u32, 0..40_u32).prop_map(|(a, b)| Operation::Insert(a, b)),
        2 => (0..40_u32).prop_map(Operation::Remove),
        2 => (0..40_u32).prop_map(Operation::Touch),
        1 => (0..200_000_u32, 0..50_u32).prop_map(|(a, b)| Operation::Age(a, b)),
    ];
    prop::collection::vec(one, 0..200)
}

proptest! {
    /// The table against a sorted map that is plainly right.
    #[test]
    fn agrees_with_a_slow_model(operations in operations(), secret: [u64; 4]) {
        let bytes = Table::<V4>::memory_bytes(24);
        let mut memory = Memory::new(bytes);
        let mut table = Table::new(24, secret, memory.aligned(bytes)).unwrap();
        let idle = idle_ticks(&Timeouts::default());
        // Client to reply number and last tick.
        let mut model: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        let mut now = 0_u32;
        for operation in operations {
            match operation {
                Operation::Insert(client, number) => {
                    let taken = model.contains_key(&client) || model.values().any(|(n, _)| *n == number);
                    let expected = match (taken, model.len()) {
                        (true, _) => Err(InsertError::TupleTaken),
                        (false, 24) => Err(InsertError::Full),
                        (false, _) => Ok(()),
                    };
                    let result = table.insert(tuple(client, 7), reply(number), Protocol::TCP, State::TcpSynSent, |entry| {
                        entry.seen = now;
                    });
                    prop_assert_eq!(result.map(|_| ()), expected);
                    if expected.is_ok() {
                        model.insert(client, (number, now));
                    }
                }
                Operation::Remove(client) => {
                    if let Some(found) = find(&table, &tuple(client, 7)) {
                        table.remove(found.index);
                    }
                    model.remove(&client);
                }
                Operation::Touch(client) => {
                    let found = find(&table, &tuple(client, 7));
                    prop_assert_eq!(found.is_some(), model.contains_key(&client));
                    if let Some(found) = found {
                        table.get_mut(found.index).unwrap().0.seen = now;
                        model.get_mut(&client).unwrap().1 = now;
                    }
                }
                Operation::Age(step, budget) => {
                    now += step;
                    let old = |seen: u32| now - seen > idle[State::TcpSynSent as usize];
                    if budget >= 24 {
                        let before = model.len();
                        model.retain(|_, (_, seen)| !old(*seen));
                        prop_assert_eq!(table.age(now, &idle, budget) as usize, before - model.len());
                    } else {
                        let before = table.len();
                        let expired = table.age(now, &idle, budget);
                        prop_assert!(expired <= budget && table.len() == before - expired);
                        model.retain(|client, (_, seen)| find(&table, &tuple(*client, 7)).is_some() || !old(*seen));
                    }
                }
            }
            prop_assert_eq!(table.len() as usize, model.len());
            for (client, (number, _)) in &model {
                let found = find(&table, &tuple(*client, 7)).map(|found| found.index);
                prop_assert!(found.is_some() && found == find(&table, &reply(*number)).map(|found| found.index));
            }
        }
    }
}
