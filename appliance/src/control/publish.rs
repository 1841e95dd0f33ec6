//! Compiled snapshots, and the place where workers find the latest one.

use std::fmt;

use arc_swap::ArcSwap;
use weirgate::snapshot::{CompileError, Description, Snapshot, bytes_required, compile};
use zerocopy::IntoBytes;

/// Where workers find the latest snapshot. Storing one never waits for a reader.
pub type Published = ArcSwap<SnapshotMemory>;

/// The bytes of one compiled snapshot. Immutable, aligned as the core wants them.
pub struct SnapshotMemory {
    words: Box<[u64]>,
    len: usize,
}

impl SnapshotMemory {
    /// Compiles `description` into memory of its own.
    ///
    /// # Errors
    /// What the core refuses, with the offending value.
    pub fn compile(description: &Description<'_>) -> Result<Self, CompileError> {
        let words = bytes_required(description).div_ceil(size_of::<u64>());
        let mut words = vec![0_u64; words].into_boxed_slice();
        let len = compile(description, words.as_mut_bytes())?;
        Ok(Self { words, len })
    }

    /// The snapshot in it. Cheap, yet not free: call it once for each swap, not for each burst.
    #[must_use]
    pub fn view(&self) -> Snapshot<'_> {
        Snapshot::attach(&self.words.as_bytes()[..self.len]).expect("these bytes came out of compile")
    }

    /// How many bytes the snapshot has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the snapshot has no bytes: never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for SnapshotMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotMemory")
            .field("generation", &self.view().generation())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
