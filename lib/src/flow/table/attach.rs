//! Adopting a table that an earlier process wrote in the same memory.
//!
//! Of what lies there only the entries' tuples, states, times and link addresses are taken over, each
//! entry after a test of its own. Buckets, queues, counts and the list of vacant entries are made anew: no index
//! in the memory is followed. The queues begin in the order of the entries; who came first is not known.

use core::fmt;
use core::mem::offset_of;

use super::{Bucket, ClientCounts, Header, MAGIC, NONE, Owner, Parts, Queue, Table, TableError, VERSION, split_plain};
use crate::flow::{Address, Entry, FlowTraffic, Mode, NO_SERVICE, SnapshotIndex, State, Tuple, raw};
use crate::hash::HashKey;
use crate::net::{Mac, Protocol, WorkerId};

/// Entries whose buckets are asked for together.
const BATCH: usize = 16;

/// What came of a table that was adopted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Adopted {
    /// Flows that go on.
    pub flows: u32,
    /// Entries that were no flow's: a state that there is not, another protocol's state, a tuple that
    /// another flow has, or no place for them in the index.
    pub damaged: u32,
    /// Flows that are not this table's under the snapshot in force, such as those whose replies now lead to
    /// another worker.
    pub strayed: u32,
}

/// Why an entry is not a flow of the table that is adopted.
enum Dropped {
    Damaged,
    Strayed,
}

/// Why memory is not a table that this process can adopt. Begin with an empty one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// The memory or the capacity is none that a table can have.
    Table(TableError),
    /// No table was written here, or not to the end.
    NoTable,
    /// Written by a version whose bytes mean something else.
    Version {
        /// The table's.
        found: u32,
        /// What this code writes.
        expected: u32,
    },
    /// Of the same version, but laid out in another way: another family, or another build.
    Layout {
        /// A number that stands for the table's layout.
        found: u32,
        /// The number that stands for this code's.
        expected: u32,
    },
    /// For another number of flows.
    Capacity {
        /// The table's.
        found: u32,
        /// What was asked for.
        expected: u32,
    },
    /// Written by another worker, or among another number of them: replies would not lead here.
    Owner {
        /// The table's.
        found: Owner,
        /// Who asked.
        expected: Owner,
    },
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Table(error) => error.fmt(f),
            Self::NoTable => write!(f, "no table was finished there"),
            Self::Version { found, expected } => write!(f, "its version is {found}, not {expected}"),
            Self::Layout { found, expected } => write!(f, "its layout is {found:08x}, not {expected:08x}"),
            Self::Capacity { found, expected } => write!(f, "it is for {found} flows, not {expected}"),
            Self::Owner { found, expected } => write!(
                f,
                "it is of worker {} among {}, not of worker {} among {}",
                found.worker.0, found.workers, expected.worker.0, expected.workers
            ),
        }
    }
}

/// A number that stands for where everything of a table lies and which states there are: FNV-1a over
/// sizes and offsets, so that a change that forgets the version is noticed all the same.
pub(super) const fn layout<A: Address>() -> u32 {
    let places = [
        size_of::<Header>(),
        size_of::<Entry<A>>(),
        size_of::<FlowTraffic>(),
        size_of::<Bucket>(),
        size_of::<ClientCounts>(),
        Table::<A>::client_lines(1 << 20),
        Table::<A>::bucket_count(1 << 20) as usize,
        State::ALL.len(),
        offset_of!(Entry<A>, original),
        offset_of!(Entry<A>, reply),
        offset_of!(Entry<A>, protocol),
        offset_of!(Entry<A>, state),
        offset_of!(Entry<A>, port),
        offset_of!(Entry<A>, mode),
        offset_of!(Entry<A>, seen),
        offset_of!(Entry<A>, origin),
        offset_of!(Entry<A>, origin) + size_of::<Mac>(),
        offset_of!(Entry<A>, service),
        offset_of!(Entry<A>, hop),
        offset_of!(Entry<A>, neighbour),
        offset_of!(Entry<A>, generation),
        offset_of!(Entry<A>, queued),
        offset_of!(Entry<A>, expected),
        offset_of!(Entry<A>, traffic),
        offset_of!(Tuple<A>, destination),
        offset_of!(Tuple<A>, source_port),
        offset_of!(Tuple<A>, destination_port),
    ];
    let mut sum = 0x811c_9dc5_u32;
    let mut index = 0;
    while index < places.len() {
        sum = (sum ^ places[index] as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    sum
}

impl Header {
    fn check<A: Address>(&self, capacity: u32, owner: Owner) -> Result<(), AttachError> {
        let found = Owner { worker: WorkerId(self.worker), workers: self.workers };
        if self.magic != MAGIC {
            Err(AttachError::NoTable)
        } else if self.version != VERSION {
            Err(AttachError::Version { found: self.version, expected: VERSION })
        } else if self.layout != layout::<A>() {
            Err(AttachError::Layout { found: self.layout, expected: layout::<A>() })
        } else if self.capacity != capacity {
            Err(AttachError::Capacity { found: self.capacity, expected: capacity })
        } else if found != owner {
            Err(AttachError::Owner { found, expected: owner })
        } else {
            Ok(())
        }
    }
}

impl<'m, A: Address> Table<'m, A> {
    /// Whether [`attach`](Self::attach) would adopt this memory. Reads the table's header alone.
    ///
    /// # Errors
    /// What keeps it from being adopted.
    pub fn check(capacity: u32, owner: Owner, memory: &[u8]) -> Result<(), AttachError> {
        let need = Self::memory_bytes(capacity);
        let memory_error = AttachError::Table(TableError::Memory { have: memory.len(), need });
        // The header's bytes are copied to where it may lie.
        #[repr(align(64))]
        struct Copied([u8; size_of::<Header>()]);
        let first = memory.first_chunk().filter(|_| memory.len() >= need && memory.as_ptr().addr().is_multiple_of(64));
        let mut copied = Copied(*first.ok_or(memory_error)?);
        let (header, _) = split_plain::<Header>(&mut copied.0, 1).ok_or(memory_error)?;
        header.first().ok_or(memory_error)?.check::<A>(capacity, owner)
    }

    /// Adopts the table that an earlier process wrote in this memory, whatever instruction it died
    /// at. Nobody else may write there any more.
    ///
    /// - `capacity`, `owner`: as the table was made.
    /// - The hash's secret is the one that lies with the table.
    /// - What flows remember of a snapshot is forgotten and looked up again with their next packet.
    /// - `generation`: one that no later snapshot has: the earlier process's numbers say nothing about this one's.
    /// - `is_ours`: whether a flow still is this table's, asked of each that is sound.
    /// - Work: reads every entry once, and writes the whole index: linear in the capacity.
    ///
    /// # Errors
    /// [`AttachError`]; the memory is then as it was.
    pub fn attach(
        capacity: u32,
        owner: Owner,
        memory: &'m mut [u8],
        generation: u32,
        is_ours: impl Fn(&Entry<A>) -> bool,
    ) -> Result<(Self, Adopted), AttachError> {
        let Parts { header, buckets, clients, entries } = Self::split(capacity, memory).map_err(AttachError::Table)?;
        header.check::<A>(capacity, owner)?;
        buckets.fill(Bucket::VACANT);
        clients.fill(ClientCounts::NONE);
        let key = HashKey::new(header.secret);
        let mut table = Self { entries, buckets, clients, key, live: 0, vacant: NONE, hand: 0, queues: Queue::NONE };
        let mut adopted = Adopted::default();
        // From the last entry to the first, so that the list of vacant ones begins with the first.
        let mut end = capacity;
        while end > 0 {
            let begin = end.saturating_sub(BATCH as u32);
            let mut hashes = [[0; 2]; BATCH];
            for (index, hashes) in (begin..end).zip(&mut hashes) {
                *hashes = table.prepare(index);
            }
            for (index, hashes) in (begin..end).zip(hashes).rev() {
                if table.get(index).is_some_and(|entry| entry.state != 0) {
                    match table.adopt(index, hashes, generation, &is_ours) {
                        Ok(()) => {
                            table.live += 1;
                            table.enqueue_first(index);
                            continue;
                        }
                        Err(Dropped::Damaged) => adopted.damaged += 1,
                        Err(Dropped::Strayed) => adopted.strayed += 1,
                    }
                }
                if let Some(entry) = table.entries.get_mut(index as usize) {
                    entry.state = 0;
                    entry.seen = table.vacant;
                    table.vacant = index;
                }
            }
            end = begin;
        }
        adopted.flows = table.live;
        Ok((table, adopted))
    }

    /// The hashes of an entry's tuples, whose buckets are asked for.
    fn prepare(&self, index: u32) -> [u64; 2] {
        let Some(entry) = self.get(index).filter(|entry| entry.state != 0) else { return [0; 2] };
        let protocol = Protocol(entry.protocol);
        [entry.original, entry.reply].map(|tuple| {
            let hash = self.hash(&tuple, protocol);
            for bucket in self.bucket_pair(hash) {
                if let Some(bucket) = self.buckets.get(bucket as usize) {
                    raw::prefetch(bucket);
                }
            }
            hash
        })
    }

    /// Puts an entry in the index, under both its tuples or not at all.
    fn adopt(
        &mut self,
        index: u32,
        [original_hash, reply_hash]: [u64; 2],
        generation: u32,
        is_ours: impl Fn(&Entry<A>) -> bool,
    ) -> Result<(), Dropped> {
        let entry = self.entries.get_mut(index as usize).filter(|entry| entry.is_sane()).ok_or(Dropped::Damaged)?;
        if !is_ours(entry) {
            return Err(Dropped::Strayed);
        }
        // Of a snapshot that is no more.
        (entry.hop, entry.neighbour, entry.generation) = (SnapshotIndex::NONE, SnapshotIndex::NONE, generation);
        entry.service = NO_SERVICE;
        // An earlier version left links of a queue there.
        if let Some(spare) = entry.spare() {
            *spare = [0; 2];
        }
        let (original, reply, protocol) = (entry.original, entry.reply, Protocol(entry.protocol));
        if self.lookup(original_hash, &original, protocol).is_some()
            || self.lookup(reply_hash, &reply, protocol).is_some()
        {
            return Err(Dropped::Damaged);
        }
        let first = self.place(original_hash).ok_or(Dropped::Damaged)?;
        self.write_slot(first, index, original_hash);
        let Some(second) = self.place(reply_hash) else {
            self.clear_slot(index, original_hash);
            return Err(Dropped::Damaged);
        };
        self.write_slot(second, index, reply_hash);
        Ok(())
    }
}

impl<A: Address> Entry<A> {
    /// Whether these bytes can be a flow's.
    fn is_sane(&self) -> bool {
        self.state().is_some_and(|state| state.is_of(Protocol(self.protocol)) && state.can_be(self.is_assured()))
            && self.mode <= Mode::Hairpin as u8
            && self.original != self.reply
            && [self.original, self.reply]
                .iter()
                .all(|tuple| !tuple.source.to_ip().is_unspecified() && !tuple.destination.to_ip().is_unspecified())
    }
}

#[cfg(test)]
mod tests;
