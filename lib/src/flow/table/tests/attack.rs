//! Whoever sends packets picks tuples, and knows this code, the table's size and every other table; all
//! but the secret.

use std::vec::Vec;

use super::super::*;
use super::Memory;

const CAPACITY: u32 = 4096;
/// Buckets that an attacker aims at, of 1024.
const AIMED_AT: u32 = 8;

type Make<A> = fn(u32) -> Tuple<A>;

fn v4([a, b]: [u32; 2], [c, d]: [u16; 2]) -> Tuple<[u8; 4]> {
    Tuple {
        source: a.to_be_bytes(),
        destination: b.to_be_bytes(),
        source_port: c.to_be_bytes(),
        destination_port: d.to_be_bytes(),
    }
}

fn v6([a, b]: [u128; 2], [c, d]: [u16; 2]) -> Tuple<[u8; 16]> {
    Tuple {
        source: a.to_be_bytes(),
        destination: b.to_be_bytes(),
        source_port: c.to_be_bytes(),
        destination_port: d.to_be_bytes(),
    }
}

const SERVICE: [u32; 2] = [0xc000_0201, 0xcb00_710a];
const SERVICE_V6: u128 = 0x2001_0db8_0001_0000_0000_0000_0000_0001;

/// Families of tuples whose parts stand in relations that a weak hash keeps.
const PATTERNS_V4: &[(&str, Make<[u8; 4]>)] = &[
    ("rising ports of one client", |n| v4([0xc633_6401, SERVICE[0]], [n as u16, 30_080])),
    ("rising clients", |n| v4([0x0a00_0000 + n, SERVICE[0]], [1024, 30_080])),
    ("clients far apart", |n| v4([n.reverse_bits(), SERVICE[0]], [1024, 30_080])),
    ("a port up, a client down", |n| v4([0xc633_ffff - n, SERVICE[0]], [n as u16, 30_080])),
    ("a port up, the other down", |n| v4([0xc633_6401 + n / 65_536, SERVICE[0]], [n as u16, !n as u16])),
    ("one bit at a time", |n| v4([1_u32 << (n % 32), SERVICE[n as usize / 32 % 2]], [(n / 64) as u16, 30_080])),
    ("both addresses by the same", |n| v4([n << 12, SERVICE[0] ^ (n << 12)], [7, 30_080])),
    ("addresses and ports by the same", |n| v4([n * 0x0001_0001, SERVICE[0]], [n as u16, n as u16])),
    ("source and destination changed", |n| match n % 2 {
        0 => v4([n / 2, SERVICE[0]], [7, 30_080]),
        _ => v4([SERVICE[0], n / 2], [30_080, 7]),
    }),
    ("close to overflow", |n| v4([u32::MAX - n, u32::MAX - n], [u16::MAX - n as u16, u16::MAX])),
];

const PATTERNS_V6: &[(&str, Make<[u8; 16]>)] = &[
    ("rising interfaces", |n| v6([SERVICE_V6 << 4 | u128::from(n), SERVICE_V6], [7, 30_080])),
    ("rising subnets", |n| v6([SERVICE_V6 | u128::from(n) << 64, SERVICE_V6], [7, 30_080])),
    ("halves changed", |n| match n % 2 {
        0 => v6([u128::from(n / 2) << 64 | 5, SERVICE_V6], [7, 30_080]),
        _ => v6([5 << 64 | u128::from(n / 2), SERVICE_V6], [7, 30_080]),
    }),
    ("one half up, the other down", |n| v6([u128::from(n) << 64 | u128::from(!n), SERVICE_V6], [7, 30_080])),
    ("one bit at a time", |n| v6([1_u128 << (n % 128), SERVICE_V6], [(n / 128) as u16, 30_080])),
    ("both addresses by the same", |n| {
        let n = u128::from(n) << 40;
        v6([n, SERVICE_V6 ^ n], [7, 30_080])
    }),
];

fn secrets(count: u64) -> impl Iterator<Item = [u64; 4]> {
    let mut stream = crate::hash::Stream::new([2, 7, 1, 8]);
    (0..count).map(move |_| [stream.next(), stream.next(), stream.next(), stream.next()])
}

/// What the keys of a full table's flows do to it: all of them find room, no bucket is full long before
/// others are, and a lookup looks at hardly more entries than the one it is for.
fn assert_harmless<A: Address>(name: &str, secret: [u64; 4], tuples: impl Iterator<Item = (Tuple<A>, Tuple<A>)>) {
    let bytes = Table::<A>::memory_bytes(CAPACITY);
    let mut memory = Memory::new(bytes);
    let mut table = Table::<A>::new(CAPACITY, secret, memory.aligned(bytes)).unwrap();
    let mut keys = Vec::new();
    for (original, reply) in tuples {
        match table.insert(original, reply, Protocol::TCP, State::TcpSynSent, |_| ()) {
            Ok(_) => keys.extend([original, reply].map(|tuple| table.hash(&tuple, Protocol::TCP))),
            Err(InsertError::TupleTaken) => {}
            Err(InsertError::Full) => panic!("{name}: full with {} of {CAPACITY} flows", table.len()),
        }
    }
    assert!(keys.len() >= 400, "{name}: only {} keys", keys.len());
    let fullest = table.buckets.iter().map(Bucket::used).max().unwrap();
    assert!(fullest <= CROWDED + 2, "{name}: a bucket with {fullest} keys among {}", keys.len());
    let same_tag = |hash: u64| {
        let buckets = table.bucket_pair(hash).map(|bucket| table.buckets[bucket as usize].matches(tag_of(hash)));
        buckets.iter().map(|bits| bits.count_ones()).sum::<u32>()
    };
    let most = keys.iter().map(|hash| same_tag(*hash)).max().unwrap_or(0);
    assert!(most <= 6, "{name}: a lookup that looks at {most} entries");
}

/// The attack works where the secret is known, so that the tests below would see it work.
#[test]
fn an_attacker_who_knows_the_secret_fills_the_table_with_a_few_flows() {
    let secret = [1, 2, 3, 4];
    let bytes = Table::<[u8; 4]>::memory_bytes(CAPACITY);
    let mut memory = Memory::new(bytes);
    let mut table = Table::<[u8; 4]>::new(CAPACITY, secret, memory.aligned(bytes)).unwrap();
    let refused = aimed(&table).into_iter().enumerate().find_map(|(number, tuple)| {
        let reply = v4([0x0a4d_040a, 0x0a4d_c802], [80, 1024 + number as u16]);
        table.insert(tuple, reply, Protocol::TCP, State::TcpSynSent, |_| ()).err()
    });
    assert_eq!(refused, Some(InsertError::Full));
    assert!(table.len() <= AIMED_AT * SLOTS as u32, "{} flows of {CAPACITY}", table.len());
}

/// Tuples of which both buckets are among the first few of this table.
fn aimed(table: &Table<'_, [u8; 4]>) -> Vec<Tuple<[u8; 4]>> {
    let tuples = (0..4_000_000).map(|n| v4([n, SERVICE[0]], [7, 30_080]));
    let is_aimed = |tuple: &Tuple<_>| {
        let [first, second] = table.bucket_pair(table.hash(tuple, Protocol::TCP));
        first < AIMED_AT && second < AIMED_AT
    };
    tuples.filter(is_aimed).take(200).collect()
}

#[test]
fn tuples_aimed_at_a_table_under_another_secret_are_spread() {
    let bytes = Table::<[u8; 4]>::memory_bytes(CAPACITY);
    let mut memory = Memory::new(bytes);
    let guessed = Table::<[u8; 4]>::new(CAPACITY, [1, 2, 3, 4], memory.aligned(bytes)).unwrap();
    let tuples = aimed(&guessed);
    assert_eq!(tuples.len(), 200);
    // Secrets that have much in common with the guess, and some that have nothing.
    let near = (0..256).map(|bit| {
        let mut secret = [1, 2, 3, 4];
        secret[bit / 64] ^= 1 << (bit % 64);
        secret
    });
    for secret in near.step_by(5).chain(secrets(32)) {
        let replies = (0..).map(|number| v4([0x0a4d_040a, 0x0a4d_c802], [80, 1024 + number]));
        assert_harmless("aimed", secret, tuples.iter().copied().zip(replies));
    }
}

#[test]
fn tuples_chosen_without_the_secret_make_no_chains() {
    for secret in secrets(6) {
        // A client cannot choose the pool's port, but it sees none, and many of its flows go to one backend.
        let reply = |n: u32| v4([0x0a4d_040a, 0x0a4d_c802 + n / 60_000], [80, 1024 + (n % 60_000) as u16]);
        for (name, make) in PATTERNS_V4 {
            assert_harmless(name, secret, (0..CAPACITY / 2).map(|n| (make(n), reply(n))));
        }
        let reply = |n: u32| v6([0xfd77 << 112 | 0x74, 0xfd77 << 112 | 0x200], [80, 1024 + n as u16]);
        for (name, make) in PATTERNS_V6 {
            assert_harmless(name, secret, (0..CAPACITY / 2).map(|n| (make(n), reply(n))));
        }
    }
}
