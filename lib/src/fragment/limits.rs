//! How much is kept, and what is wrong with memory that does not hold so much.

use core::fmt;

use crate::time::Span;

/// The fewest and the most fragmented datagrams that a worker can know at a time.
pub const DATAGRAMS: (u32, u32) = (16, 1 << 16);
/// The fewest and the most bytes for fragments that wait.
pub const HELD_BYTES: (u32, u32) = (1 << 12, 1 << 30);

/// How much of fragmented datagrams a worker keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The most datagrams that are on their way at a time; rounded up to a multiple of eight.
    pub datagrams: u32,
    /// The most bytes of frames that wait for their datagram's first fragment; rounded up to a multiple of 32.
    pub held_bytes: u32,
    /// How long a fragment waits for its first one, and how long a datagram is known after its last fragment.
    pub wait: Span,
}

impl Default for Limits {
    /// 1024 datagrams, a mebibyte, two seconds.
    fn default() -> Self {
        Self { datagrams: 1024, held_bytes: 1 << 20, wait: Span::from_secs(2) }
    }
}

/// Why memory cannot hold fragmented datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FragmentsError {
    /// Fewer or more datagrams than [`DATAGRAMS`].
    Datagrams {
        /// What was asked for.
        asked: u32,
    },
    /// Fewer or more bytes than [`HELD_BYTES`].
    HeldBytes {
        /// What was asked for.
        asked: u32,
    },
    /// The memory is too short, or does not begin at a multiple of 64.
    Memory {
        /// How many bytes there are.
        have: usize,
        /// How many it takes.
        need: usize,
    },
}

impl fmt::Display for FragmentsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datagrams { asked } => {
                write!(f, "{asked} fragmented datagrams; there can be {} to {}", DATAGRAMS.0, DATAGRAMS.1)
            }
            Self::HeldBytes { asked } => {
                write!(f, "{asked} bytes for fragments that wait; there can be {} to {}", HELD_BYTES.0, HELD_BYTES.1)
            }
            Self::Memory { have, need } => {
                write!(f, "memory of {have} bytes; it takes {need} that begin at a multiple of 64")
            }
        }
    }
}

impl core::error::Error for FragmentsError {}
