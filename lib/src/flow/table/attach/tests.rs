use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::flow::table::tests::{Memory, V4, assert_whole, find, insert, reply, tuple};
use crate::flow::table::{Age, ENTRIES_PER_BUCKET, SLOTS};
use crate::net::{Mac, Origin};

const OWNER: Owner = Owner { worker: WorkerId(1), workers: 4 };
const SECRET: [u64; 4] = [3, 1, 4, 1];

fn table(capacity: u32, memory: &mut Memory) -> Table<'_, V4> {
    let bytes = Table::<V4>::memory_bytes(capacity);
    Table::with_owner(capacity, OWNER, SECRET, memory.aligned(bytes)).unwrap()
}

fn attach(capacity: u32, memory: &mut Memory) -> Result<(Table<'_, V4>, Adopted), AttachError> {
    let memory = memory.aligned(Table::<V4>::memory_bytes(capacity));
    assert_eq!(Table::<V4>::check(capacity, OWNER, memory).err(), {
        let copy = memory.to_vec();
        let error = Table::<V4>::attach(capacity, OWNER, memory, 0, |_| true).err();
        assert!(error.is_none() || copy == memory, "a refusal changes nothing");
        error
    });
    Table::attach(capacity, OWNER, memory, 0, |_| true)
}

#[test]
fn a_later_process_finds_every_flow_again() {
    for capacity in [16, 1000, 4099] {
        let mut memory = Memory::new(Table::<V4>::memory_bytes(capacity));
        let mut first = table(capacity, &mut memory);
        for n in 0..capacity {
            let index = insert(&mut first, n, n).unwrap();
            let entry = first.get_mut(index).unwrap();
            (entry.seen, entry.origin, entry.service) = (n, Origin::new(Mac([1, 2, 3, 4, 5, 6]), [0, 7]), 8);
            (entry.hop, entry.neighbour) = (SnapshotIndex::at(9), SnapshotIndex::at(10));
            entry.traffic.packets = [n.into(), 5];
        }
        for n in (0..capacity).step_by(3) {
            first.remove(find(&first, &tuple(n, 7)).unwrap().index);
        }
        let left = first.len();
        let (mut second, adopted) = attach(capacity, &mut memory).unwrap();
        assert_eq!(adopted, Adopted { flows: left, ..Adopted::default() });
        assert_whole(&second);
        for n in 0..capacity {
            let found = find(&second, &tuple(n, 7));
            assert_eq!(found.is_some(), n % 3 != 0, "{n}");
            let Some(found) = found else { continue };
            let entry = second.get(found.index).unwrap();
            assert_eq!((entry.seen, entry.origin), (n, Origin::new(Mac([1, 2, 3, 4, 5, 6]), [0, 7])));
            let of_a_snapshot = (entry.hop, entry.neighbour, entry.service);
            assert_eq!(
                of_a_snapshot,
                (SnapshotIndex::NONE, SnapshotIndex::NONE, NO_SERVICE),
                "of another process's snapshot"
            );
            assert_eq!(second.get(found.index).unwrap().traffic.packets, [n.into(), 5]);
        }
        for n in left..capacity {
            insert(&mut second, capacity + n, capacity + n).unwrap();
        }
        assert!(insert(&mut second, u32::MAX, u32::MAX).is_err());
        assert_whole(&second);
    }
}

#[test]
fn what_differs_is_named() {
    let bytes = Table::<V4>::memory_bytes(64);
    let mut memory = Memory::new(bytes);
    assert_eq!(attach(64, &mut memory).err(), Some(AttachError::NoTable), "noise");
    memory.aligned(bytes).fill(0);
    assert_eq!(attach(64, &mut memory).err(), Some(AttachError::NoTable), "all zero is empty");
    table(64, &mut memory);
    assert!(attach(64, &mut memory).is_ok());

    let memory = memory.aligned(bytes);
    let other = Owner { worker: WorkerId(1), workers: 2 };
    let refused = Table::<V4>::attach(64, other, memory, 0, |_| true).unwrap_err();
    assert_eq!(std::format!("{refused}"), "it is of worker 1 among 4, not of worker 1 among 2");
    let refused = Table::<V4>::attach(63, OWNER, memory, 0, |_| true).unwrap_err();
    assert_eq!(std::format!("{refused}"), "it is for 64 flows, not 63");
    let refused = Table::<V4>::attach(64, OWNER, &mut memory[..bytes - 64], 0, |_| true).unwrap_err();
    assert_eq!(refused, AttachError::Table(TableError::Memory { have: bytes - 64, need: bytes }));
    assert_eq!(Table::<V4>::check(64, OWNER, &memory[..bytes - 64]), Err(refused));
    assert_eq!(Table::<V4>::check(64, OWNER, &memory[1..]).unwrap_err(), {
        AttachError::Table(TableError::Memory { have: bytes - 1, need: bytes })
    });
    // Where the version lies.
    memory[8] = 1;
    let refused = Table::<V4>::attach(64, OWNER, memory, 0, |_| true).unwrap_err();
    assert_eq!(refused, AttachError::Version { found: 1, expected: VERSION });
    memory[8] = VERSION as u8;
    memory[12] ^= 1;
    let refused = Table::<V4>::attach(64, OWNER, memory, 0, |_| true).unwrap_err();
    assert!(matches!(refused, AttachError::Layout { expected, .. } if expected == layout::<V4>()));
    assert_ne!(layout::<V4>(), layout::<[u8; 16]>());
}

#[test]
fn an_unfinished_table_is_none() {
    // `new` was killed where the magic was gone and the entries were not yet cleared.
    let mut memory = Memory::new(Table::<V4>::memory_bytes(16));
    let mut old = table(16, &mut memory);
    insert(&mut old, 1, 1).unwrap();
    memory.aligned(8).fill(0);
    assert_eq!(attach(16, &mut memory).err(), Some(AttachError::NoTable));
}

#[test]
fn two_entries_with_one_tuple_are_not_both_adopted() {
    let mut memory = Memory::new(Table::<V4>::memory_bytes(16));
    let mut first = table(16, &mut memory);
    let [a, b] = [1, 2].map(|n| insert(&mut first, n, n).unwrap());
    let copied = *first.get(a).unwrap();
    first.get_mut(b).unwrap().reply = copied.reply;
    let bytes = Table::<V4>::memory_bytes(16);
    let (second, adopted) = Table::<V4>::attach(16, OWNER, memory.aligned(bytes), 0, |_| true).unwrap();
    assert_eq!(adopted, Adopted { flows: 1, damaged: 1, strayed: 0 });
    assert_whole(&second);
}

#[test]
fn an_entry_that_no_bucket_has_a_place_for_is_dropped() {
    // Nobody without the key can bring this about: more tuples in two buckets than these have slots.
    let capacity = 8 * ENTRIES_PER_BUCKET;
    let mut memory = Memory::new(Table::<V4>::memory_bytes(capacity));
    let first = table(capacity, &mut memory);
    let crowd: Vec<u32> = (0..)
        .filter(|n| {
            let pair = first.bucket_pair(first.hash(&tuple(*n, 7), Protocol::TCP));
            pair[0] < 2 && pair[1] < 2
        })
        .take(capacity as usize)
        .collect();
    for (number, client) in (0..).zip(crowd) {
        let entry = &mut first.entries[number as usize];
        (entry.original, entry.reply) = (tuple(client, 7), reply(number));
        (entry.protocol, entry.state) = (Protocol::TCP.0, State::TcpSynSent as u8);
    }
    let bytes = Table::<V4>::memory_bytes(capacity);
    let (second, adopted) = Table::<V4>::attach(capacity, OWNER, memory.aligned(bytes), 0, |_| true).unwrap();
    assert_eq!(adopted.flows + adopted.damaged, capacity);
    assert!(adopted.damaged >= capacity - 2 * SLOTS as u32 && adopted.flows > 0, "{adopted:?}");
    assert_whole(&second);
}

/// Where the entries and the index lie in the memory of a table of this capacity.
fn regions(capacity: usize) -> [core::ops::Range<usize>; 2] {
    let index = size_of::<Header>()
        + Table::<V4>::bucket_count(capacity as u32) as usize * size_of::<Bucket>()
        + Table::<V4>::client_lines(capacity as u32) * size_of::<ClientCounts>();
    [index..index + capacity * size_of::<Entry<V4>>(), size_of::<Header>()..index]
}

proptest! {
    /// Whatever noise lies in the entries, what is adopted is a whole table, and intact entries
    /// whose tuples nobody else claims are in it.
    #[test]
    fn noise_in_entries_and_index_leaves_a_whole_table(
        clients in prop::collection::btree_set(1..60_u32, 0..24),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200),
        index_noise: [u8; 32],
    ) {
        const CAPACITY: u32 = 24;
        let mut memory = Memory::new(Table::<V4>::memory_bytes(CAPACITY));
        let mut first = table(CAPACITY, &mut memory);
        let mut intact: BTreeMap<u32, u32> =
            clients.iter().map(|client| (insert(&mut first, *client, *client).unwrap(), *client)).collect();
        let [entries, index] = regions(CAPACITY as usize);
        let bytes = memory.aligned(Table::<V4>::memory_bytes(CAPACITY));
        // Noise can write another client's number into an entry, which then claims its tuples.
        intact.retain(|_, client| noise.iter().all(|(_, byte)| u32::from(*byte) != *client));
        for (at, byte) in noise {
            let at = entries.start + at.index(entries.len());
            if bytes[at] != byte {
                bytes[at] = byte;
                intact.remove(&(((at - entries.start) / size_of::<Entry<V4>>()) as u32));
            }
        }
        for (place, byte) in bytes[index].iter_mut().zip(index_noise.iter().cycle()) {
            *place = *byte;
        }
        let (mut second, adopted) = Table::<V4>::attach(CAPACITY, OWNER, bytes, 0, |_| true).unwrap();
        assert_whole(&second);
        prop_assert!(adopted.flows as usize >= intact.len());
        prop_assert!(adopted.flows + adopted.damaged <= CAPACITY);
        for client in intact.values() {
            let found = find(&second, &tuple(*client, 7)).map(|found| found.index);
            prop_assert!(found.is_some() && found == find(&second, &reply(*client)).map(|found| found.index));
        }
        // It is a table like any other.
        let idle = [0; State::COUNT];
        for tick in [0, 1 << 16] {
            second.age(Age { tick, idle: &idle }, CAPACITY, &mut |_, _| {});
        }
        prop_assert!(second.is_empty());
        for n in 0..CAPACITY {
            insert(&mut second, n, n).unwrap();
        }
        assert_whole(&second);
    }
}

#[test]
fn a_flows_state_and_protocol_agree() {
    let mut memory = Memory::new(Table::<V4>::memory_bytes(256));
    for number in 0..=255 {
        let mut first = table(256, &mut memory);
        let index = insert(&mut first, 1, 1).unwrap();
        first.get_mut(index).unwrap().state = number;
        let bytes = Table::<V4>::memory_bytes(256);
        let (second, adopted) = Table::<V4>::attach(256, OWNER, memory.aligned(bytes), 0, |_| true).unwrap();
        let (state, assured) = (State::from_number(number & !0x20), number & 0x20 != 0);
        let is_tcp = state.is_some_and(|state| state.is_of(Protocol::TCP) && state.can_be(assured));
        assert_eq!(adopted.flows, u32::from(is_tcp), "state {number}");
        assert_eq!(adopted.damaged, u32::from(!is_tcp && number != 0), "state {number}");
        assert_whole(&second);
    }
}

#[test]
fn an_entry_that_no_process_writes_is_dropped() {
    type Harm = fn(&mut Entry<V4>);
    let harms: [(&str, Harm); 6] = [
        ("a mode that is none", |entry| entry.mode = Mode::Hairpin as u8 + 1),
        ("one tuple for both directions", |entry| entry.reply = entry.original),
        ("a request from nobody", |entry| entry.original.source = [0; 4]),
        ("a request to nobody", |entry| entry.original.destination = [0; 4]),
        ("an answer from nobody", |entry| entry.reply.source = [0; 4]),
        ("an answer to nobody", |entry| entry.reply.destination = [0; 4]),
    ];
    for (harm, do_harm) in harms {
        let mut memory = Memory::new(Table::<V4>::memory_bytes(256));
        let mut first = table(256, &mut memory);
        let [harmed, other] = [1, 2].map(|n| insert(&mut first, n, n).unwrap());
        do_harm(first.get_mut(harmed).unwrap());
        let bytes = Table::<V4>::memory_bytes(256);
        let (second, adopted) = Table::<V4>::attach(256, OWNER, memory.aligned(bytes), 0, |_| true).unwrap();
        assert_eq!(adopted, Adopted { flows: 1, damaged: 1, strayed: 0 }, "{harm}");
        assert_eq!(find(&second, &tuple(2, 7)).map(|found| found.index), Some(other), "{harm}");
        assert_whole(&second);
    }
}

#[test]
fn the_secret_is_the_tables_own() {
    let mut memory = Memory::new(Table::<V4>::memory_bytes(256));
    let hash = table(256, &mut memory).hash(&tuple(1, 7), Protocol::TCP);
    let (second, _) = attach(256, &mut memory).unwrap();
    assert_eq!(second.hash(&tuple(1, 7), Protocol::TCP), hash);
}
