//! The flow table: entries in an array, found through buckets of short tags.
//!
//! Invariants:
//! - A live entry stands in exactly two slots, one for each tuple, each in one of the tuple's two
//!   buckets. A slot is a tag of eight bits and the entry's index; tag zero is vacant.
//! - A vacant entry has state 0 and stands in the list of vacant entries.
//! - A live entry stands in the queue of what it is worth where there is no room, or, where it never
//!   gives way, in none.
//! - Everything is an index; nothing is a pointer. Buckets and queues can be made anew from the entries, and
//!   are when a later process adopts the table ([`Table::attach`]).
//! - An entry's state is written after all else of it, and taken away before all else: at whatever
//!   instruction a process is killed, an entry with a state is whole.

mod attach;
mod clients;
mod error;
mod evict;
mod queues;
mod track;

use core::sync::atomic::{Ordering, compiler_fence};

use zerocopy::{Immutable, IntoBytes};

use super::raw::{self, split_plain};
use super::{Address, Direction, Entry, FlowEnd, State, Tuple, Worth};
use crate::hash::{HashKey, reduce};
use crate::net::{Protocol, WorkerId};

pub use attach::{Adopted, AttachError};
pub(super) use clients::ClientCounts;
use queues::Queue;
pub use track::Tracked;

/// The most flows of one table: what an index of 24 bits can name.
pub const CAPACITY_MAX: u32 = (1 << 24) - 1;

/// The fewest flows of one table.
const CAPACITY_MIN: u32 = 16;

/// Slots of a bucket: one cache line.
const SLOTS: usize = 16;

/// Entries for each bucket: with two slots an entry, buckets are half full on average, and with two
/// buckets to choose from, none overflows in practice.
const ENTRIES_PER_BUCKET: u32 = 4;

/// Used slots from which on a tuple may go to its second bucket. Below, the first has it, so that a
/// lookup reads one bucket; in a full table, about nine tuples in ten are found there.
const CROWDED: u32 = 12;

const CACHE_LINE: usize = 64;

/// The index of no entry.
pub(crate) const NONE: u32 = u32::MAX;
const MAGIC: u64 = u64::from_le_bytes(*b"WGFLOWS\0");
/// Grows with every change to what the bytes of a table mean; see also [`attach::layout`].
const VERSION: u32 = 6;

/// The first cache line of a table: what it is, so that a later process can tell.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Header {
    magic: u64,
    version: u32,
    layout: u32,
    capacity: u32,
    worker: u8,
    workers: u8,
    reserved: [u8; 10],
    secret: [u64; 4],
}
const _: () = assert!(size_of::<Header>() == 64 && core::mem::offset_of!(Header, secret) == 22 + 10);

/// Whose flows a table has: the source ports of its replies lead to this worker among so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The worker.
    pub worker: WorkerId,
    /// How many workers share the ports; 0 for a table that is nobody's.
    pub workers: u8,
}

impl Owner {
    /// Of a table that stands alone.
    pub const NOBODY: Self = Self { worker: WorkerId(0), workers: 0 };
}

/// The parts of a table's memory.
struct Parts<'m, A: Address> {
    header: &'m mut Header,
    buckets: &'m mut [Bucket],
    clients: &'m mut [ClientCounts],
    entries: &'m mut [Entry<A>],
}

/// Sixteen slots that are read together: their tags, and their entries.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    tags: [u8; SLOTS],
    entries: [[u8; 3]; SLOTS],
}
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    const VACANT: Self = Self { tags: [0; SLOTS], entries: [[0; 3]; SLOTS] };

    /// The slots with this tag, a bit each.
    #[inline(always)]
    fn matches(&self, tag: u8) -> u16 {
        raw::equal_bytes(self.tags, tag)
    }

    #[inline(always)]
    fn entry(&self, slot: usize) -> Option<u32> {
        // Its three bytes with the one before them, which is read faster.
        let bytes = self.as_bytes().get(size_of_val(&self.tags) - 1 + 3 * slot..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) >> 8)
    }

    fn vacant_slot(&self) -> Option<usize> {
        slots(self.matches(0)).next()
    }

    fn used(&self) -> u32 {
        SLOTS as u32 - self.matches(0).count_ones()
    }

    fn set(&mut self, slot: usize, tag: u8, entry: u32) {
        if let (Some(own), Some(place)) = (self.tags.get_mut(slot), self.entries.get_mut(slot)) {
            *own = tag;
            let [a, b, c, _] = entry.to_le_bytes();
            *place = [a, b, c];
        }
    }
}

/// Whether more than so many bits are set. For a few, faster than counting them.
const fn has_more_than<const COUNT: u32>(mut bits: u16) -> bool {
    let mut turn = 0;
    while turn < COUNT {
        bits &= bits.wrapping_sub(1);
        turn += 1;
    }
    bits != 0
}

/// The slots whose bits are set, in order.
#[inline(always)]
fn slots(mut bits: u16) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let slot = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        slot
    })
}

/// The part of a hash that a bucket remembers; zero is a vacant slot's.
#[inline(always)]
const fn tag_of(hash: u64) -> u8 {
    let tag = hash as u8;
    if tag == 0 { 1 } else { tag }
}

/// Flows of one family, in memory of the caller's.
#[derive(Debug)]
pub struct Table<'m, A: Address> {
    entries: &'m mut [Entry<A>],
    buckets: &'m mut [Bucket],
    /// How many half-open flows clients have.
    clients: &'m mut [ClientCounts],
    key: HashKey,
    live: u32,
    vacant: u32,
    /// Where ageing goes on.
    hand: u32,
    /// The flows that may have to give way, by what they are worth.
    queues: [Queue; Worth::COUNT],
}

/// What tells how long flows have idled, and how long they may.
#[derive(Clone, Copy, Debug)]
pub struct Age<'a> {
    /// Now.
    pub(crate) tick: u32,
    /// The ticks that a state may idle, by its number.
    pub(crate) idle: &'a [u32; State::COUNT],
}

/// Why memory cannot become a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// Fewer or more flows than a table can have.
    Capacity {
        /// What was asked for.
        asked: u32,
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
    },
    /// The memory is too short, or does not begin at a multiple of 64.
    Memory {
        /// How many bytes there are.
        have: usize,
        /// How many it takes, so aligned.
        need: usize,
    },
}

/// Why a flow was not inserted. The table is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsertError {
    /// No vacant entry, or no slot in either bucket of a tuple.
    Full,
    /// Another flow has one of the tuples.
    TupleTaken,
}

/// A flow that was found, and the direction of the packet that found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The entry's place in the table.
    pub index: u32,
    /// Which tuple matched.
    pub direction: Direction,
}

impl<'m, A: Address> Table<'m, A> {
    /// How many bytes a table of `capacity` flows takes, to begin at a multiple of 64.
    #[must_use]
    pub const fn memory_bytes(capacity: u32) -> usize {
        let bytes = size_of::<Header>()
            + Self::bucket_count(capacity) as usize * size_of::<Bucket>()
            + Self::client_lines(capacity) * size_of::<ClientCounts>()
            + capacity as usize * size_of::<Entry<A>>();
        // What follows may be another table.
        bytes.next_multiple_of(CACHE_LINE)
    }

    const fn bucket_count(capacity: u32) -> u32 {
        let count = capacity.div_ceil(ENTRIES_PER_BUCKET);
        if count < 2 { 2 } else { count }
    }

    fn split(capacity: u32, memory: &'m mut [u8]) -> Result<Parts<'m, A>, TableError> {
        if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) {
            return Err(TableError::Capacity { asked: capacity, min: CAPACITY_MIN, max: CAPACITY_MAX });
        }
        let error = TableError::Memory { have: memory.len(), need: Self::memory_bytes(capacity) };
        let (header, rest) = split_plain::<Header>(memory, 1).ok_or(error)?;
        let (buckets, rest) = split_plain::<Bucket>(rest, Self::bucket_count(capacity) as usize).ok_or(error)?;
        let (clients, rest) = split_plain::<ClientCounts>(rest, Self::client_lines(capacity)).ok_or(error)?;
        let (entries, _) = split_plain::<Entry<A>>(rest, capacity as usize).ok_or(error)?;
        let header = header.first_mut().ok_or(error)?;
        Ok(Parts { header, buckets, clients, entries })
    }

    /// Makes an empty table of `capacity` flows. Touches all of `memory` once.
    ///
    /// `secret` keys the hash; keep it from everyone who sends packets. It stays with the table.
    ///
    /// # Errors
    /// [`TableError`] where the capacity is out of range or the memory does not hold it.
    pub fn new(capacity: u32, secret: [u64; 4], memory: &'m mut [u8]) -> Result<Self, TableError> {
        Self::with_owner(capacity, Owner::NOBODY, secret, memory)
    }

    /// As [`new`](Self::new), for a worker.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_owner(capacity: u32, owner: Owner, secret: [u64; 4], memory: &'m mut [u8]) -> Result<Self, TableError> {
        let Parts { header, buckets, clients, entries } = Self::split(capacity, memory)?;
        // Until all is written the memory is no table, whatever lay there before.
        header.magic = 0;
        compiler_fence(Ordering::Release);
        for (index, entry) in (1..).zip(entries.iter_mut()) {
            *entry = A::VACANT;
            entry.seen = if index == capacity { NONE } else { index };
        }
        buckets.fill(Bucket::VACANT);
        clients.fill(ClientCounts::NONE);
        *header = Header {
            magic: 0,
            version: VERSION,
            layout: attach::layout::<A>(),
            capacity,
            worker: owner.worker.0,
            workers: owner.workers,
            reserved: [0; 10],
            secret,
        };
        compiler_fence(Ordering::Release);
        header.magic = MAGIC;
        Ok(Self {
            entries,
            buckets,
            clients,
            key: HashKey::new(secret),
            live: 0,
            vacant: 0,
            hand: 0,
            queues: Queue::NONE,
        })
    }

    /// How many flows there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.live
    }

    /// Whether there is no flow.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many flows there can be.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The hash by which this table finds a tuple.
    #[must_use]
    #[inline(always)]
    pub fn hash(&self, tuple: &Tuple<A>, protocol: Protocol) -> u64 {
        A::hash(&self.key, tuple, protocol)
    }

    /// The entry at a place that a lookup gave.
    #[must_use]
    #[inline]
    pub fn get(&self, index: u32) -> Option<&Entry<A>> {
        self.entries.get(index as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Entry<A>> {
        self.entries.get_mut(index as usize)
    }

    /// All live flows.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<A>> {
        self.entries.iter().filter(|entry| entry.state != 0)
    }

    #[inline]
    fn bucket_pair(&self, hash: u64) -> [u32; 2] {
        let count = self.buckets.len() as u32;
        [reduce((hash >> 32) as u32, count), reduce(hash as u32, count)]
    }

    /// First step of a lookup in a burst: asks for the bucket that most likely has the tuple, and tells which it is.
    #[inline(always)]
    pub(crate) fn prefetch_bucket(&self, hash: u64) -> u32 {
        let [first, _] = self.bucket_pair(hash);
        if let Some(bucket) = self.buckets.get(first as usize) {
            raw::prefetch(bucket);
        }
        first
    }

    /// Asks for all that says whether there is a flow with a tuple of this hash, for one that is to be made.
    pub(crate) fn prefetch_buckets(&self, hash: u64) {
        for bucket in self.bucket_pair(hash) {
            if let Some(bucket) = self.buckets.get(bucket as usize) {
                raw::prefetch(bucket);
            }
        }
    }

    /// `false` where no flow has a tuple of this hash; `true` also of some that none has: one in
    /// sixteen in a full table. Reads no entry.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        self.bucket_pair(hash)
            .into_iter()
            .any(|bucket| self.buckets.get(bucket as usize).is_some_and(|bucket| bucket.matches(tag_of(hash)) != 0))
    }

    /// Second step: reads the bucket that the first step told and asks for the entry that most likely matches, whose
    /// index it tells, or for the second bucket where none does.
    #[inline(always)]
    pub(crate) fn prefetch_entry(&self, first: u32, hash: u64) -> u32 {
        let Some(bucket) = self.buckets.get(first as usize) else { return NONE };
        let likely = slots(bucket.matches(tag_of(hash))).next().and_then(|slot| bucket.entry(slot));
        let Some(likely) = likely else {
            let [_, second] = self.bucket_pair(hash);
            if let Some(bucket) = self.buckets.get(second as usize) {
                raw::prefetch(bucket);
            }
            return NONE;
        };
        if let Some(entry) = self.entries.get(likely as usize) {
            raw::prefetch(entry);
            if size_of::<Entry<A>>() > 2 * CACHE_LINE {
                raw::prefetch(&entry.protocol);
            }
            // Wherever the entry begins, this is on its last line.
            raw::prefetch(&entry.traffic.bytes[1]);
        }
        likely
    }

    /// Third step: as [`lookup`](Self::lookup), but looks first at the entry that the second step told.
    #[inline(always)]
    pub(crate) fn lookup_likely(&self, likely: u32, hash: u64, tuple: &Tuple<A>, protocol: Protocol) -> Option<Found> {
        // No two flows have a tuple in common: a flow that has it is the one, whatever came about since.
        match self.found_at(likely, tuple, protocol) {
            None => self.lookup_elsewhere(hash, *tuple, protocol),
            found => found,
        }
    }

    /// As [`lookup`](Self::lookup). The tuple comes by value: for one by reference, every packet's would have to be
    /// in memory.
    #[cold]
    #[inline(never)]
    fn lookup_elsewhere(&self, hash: u64, tuple: Tuple<A>, protocol: Protocol) -> Option<Found> {
        self.lookup(hash, &tuple, protocol)
    }

    /// Finds the flow of a packet with this tuple, whose hash is `hash`.
    ///
    /// Work: at most two buckets of 16 slots, and the entries whose tag of 8 bits is the same.
    #[must_use]
    #[inline(never)]
    pub fn lookup(&self, hash: u64, tuple: &Tuple<A>, protocol: Protocol) -> Option<Found> {
        let [first, second] = self.bucket_pair(hash);
        match self.lookup_in(first, hash, tuple, protocol) {
            None if first != second => self.lookup_in(second, hash, tuple, protocol),
            found => found,
        }
    }

    #[inline(always)]
    fn lookup_in(&self, bucket: u32, hash: u64, tuple: &Tuple<A>, protocol: Protocol) -> Option<Found> {
        let bucket = self.buckets.get(bucket as usize)?;
        slots(bucket.matches(tag_of(hash))).find_map(|slot| self.found_at(bucket.entry(slot)?, tuple, protocol))
    }

    /// The flow at this place, if it has this tuple.
    #[inline(always)]
    fn found_at(&self, index: u32, tuple: &Tuple<A>, protocol: Protocol) -> Option<Found> {
        let entry = self.entries.get(index as usize)?;
        // No slot leads to a vacant entry, and one that has been vacated since has 0 for a protocol.
        if entry.protocol != protocol.0 {
            None
        } else if entry.original == *tuple {
            Some(Found { index, direction: Direction::Original })
        } else if entry.reply == *tuple {
            Some(Found { index, direction: Direction::Reply })
        } else {
            None
        }
    }

    /// Inserts a flow under both its tuples; `fill` completes the entry before anyone can find it.
    ///
    /// Work: four buckets and one entry.
    ///
    /// # Errors
    /// [`InsertError::Full`] or [`InsertError::TupleTaken`]; the table is then unchanged.
    pub(crate) fn insert(
        &mut self,
        original: Tuple<A>,
        reply: Tuple<A>,
        protocol: Protocol,
        state: State,
        fill: impl FnOnce(&mut Entry<A>),
    ) -> Result<u32, InsertError> {
        let tuples = [&original, &reply];
        let hashes = self.vacant_hashes(tuples, protocol)?;
        self.enter(tuples, hashes, protocol, state, fill)
    }

    /// The hashes of both tuples of a flow that is to be inserted.
    ///
    /// # Errors
    /// [`InsertError::TupleTaken`] where a flow has one of them.
    fn vacant_hashes(&self, tuples: [&Tuple<A>; 2], protocol: Protocol) -> Result<[u64; 2], InsertError> {
        let hashes = tuples.map(|tuple| self.hash(tuple, protocol));
        for (hash, tuple) in hashes.iter().zip(tuples) {
            if self.may_have(*hash) && self.lookup(*hash, tuple, protocol).is_some() {
                return Err(InsertError::TupleTaken);
            }
        }
        Ok(hashes)
    }

    /// As [`insert`](Self::insert), for tuples with these hashes that no flow has.
    #[inline(always)]
    fn enter(
        &mut self,
        [original, reply]: [&Tuple<A>; 2],
        hashes: [u64; 2],
        protocol: Protocol,
        state: State,
        fill: impl FnOnce(&mut Entry<A>),
    ) -> Result<u32, InsertError> {
        let index = self.vacant;
        let first = self.place(hashes[0]).ok_or(InsertError::Full)?;
        let Some(entry) = self.entries.get_mut(index as usize) else { return Err(InsertError::Full) };
        let next = entry.seen;
        *entry = A::VACANT;
        entry.original = *original;
        entry.reply = *reply;
        entry.protocol = protocol.0;
        fill(entry);
        self.write_slot(first, index, hashes[0]);
        // The second tuple may want the very bucket that the first has just filled.
        let Some(second) = self.place(hashes[1]) else {
            self.clear_slot(index, hashes[0]);
            if let Some(entry) = self.entries.get_mut(index as usize) {
                *entry = Entry { seen: next, ..A::VACANT };
            }
            return Err(InsertError::Full);
        };
        self.write_slot(second, index, hashes[1]);
        self.vacant = next;
        self.live += 1;
        if let Some(entry) = self.get_mut(index) {
            compiler_fence(Ordering::Release);
            entry.state = state as u8;
        }
        self.enqueue(index);
        Ok(index)
    }

    /// A vacant slot of the tuple's first bucket; past [`CROWDED`], of the emptier of its two.
    fn place(&self, hash: u64) -> Option<(u32, usize)> {
        let [first, second] = self.bucket_pair(hash);
        let vacant = self.buckets.get(first as usize)?.matches(0);
        if has_more_than::<{ SLOTS as u32 - CROWDED }>(vacant) {
            return Some((first, vacant.trailing_zeros() as usize));
        }
        let used = |bucket: u32| self.buckets.get(bucket as usize).map_or(SLOTS as u32, Bucket::used);
        let is_crowded = used(first) >= CROWDED;
        let bucket = if is_crowded && used(second) < used(first) { second } else { first };
        Some((bucket, self.buckets.get(bucket as usize)?.vacant_slot()?))
    }

    fn write_slot(&mut self, (bucket, slot): (u32, usize), index: u32, hash: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket as usize) {
            bucket.set(slot, tag_of(hash), index);
        }
    }

    fn clear_slot(&mut self, index: u32, hash: u64) {
        for bucket in self.bucket_pair(hash) {
            let Some(bucket) = self.buckets.get_mut(bucket as usize) else { continue };
            if let Some(slot) = slots(bucket.matches(tag_of(hash))).find(|slot| bucket.entry(*slot) == Some(index)) {
                bucket.set(slot, 0, 0);
                return;
            }
        }
    }

    /// Forgets the flow at this place. Does nothing where there is none.
    ///
    /// Work: four buckets and one entry.
    pub fn remove(&mut self, index: u32) {
        let Some(state) = self.get(index).map(|entry| entry.state).filter(|state| *state != 0) else { return };
        self.dequeue(index, state);
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        let (original, reply, protocol) = (entry.original, entry.reply, Protocol(entry.protocol));
        entry.state = 0;
        compiler_fence(Ordering::Release);
        *entry = Entry { seen: self.vacant, ..A::VACANT };
        self.vacant = index;
        self.live -= 1;
        for tuple in [original, reply] {
            let hash = self.hash(&tuple, protocol);
            self.clear_slot(index, hash);
        }
    }

    /// Looks at the next `budget` entries and forgets those that idled too long, each of which `ended` is shown.
    /// Returns how many.
    pub(crate) fn age(&mut self, age: Age<'_>, budget: u32, ended: &mut impl FnMut(&Entry<A>, FlowEnd)) -> u32 {
        let mut expired = 0;
        for _ in 0..budget.min(self.capacity()) {
            let index = self.hand;
            self.hand = if index + 1 < self.capacity() { index + 1 } else { 0 };
            let Some(entry) = self.entries.get(index as usize).filter(|entry| entry.state != 0) else { continue };
            if entry.is_idle(age.tick, age.idle) || entry.is_ahead(age.tick) {
                ended(entry, FlowEnd::Expired);
                self.remove(index);
                expired += 1;
            }
        }
        expired
    }
}

/// How many ticks a clock may go back, a second: no flow is idle for that.
const BACK_MAX: i32 = 1 << 10;

impl<A: Address> Entry<A> {
    /// Whether the flow has idled longer than its state may.
    #[inline]
    pub(crate) fn is_idle(&self, tick: u32, idle: &[u32; State::COUNT]) -> bool {
        self.idled(tick) > idle[usize::from(self.state) % State::COUNT].cast_signed()
    }

    /// Whether the last packet came at a time that the clock has not reached: such an entry is damaged, or the
    /// difference has wrapped.
    const fn is_ahead(&self, tick: u32) -> bool {
        self.idled(tick) < -BACK_MAX
    }

    /// How many ticks ago the last packet came: less than none where the clock has gone back since.
    #[inline(always)]
    pub(crate) const fn idled(&self, tick: u32) -> i32 {
        tick.wrapping_sub(self.seen).cast_signed()
    }
}

#[cfg(test)]
mod tests;
