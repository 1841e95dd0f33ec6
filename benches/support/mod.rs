//! What the benches of the core share: large memory, many flows, and the yardstick *L*.

#![allow(dead_code, reason = "each bench uses some of it")]

pub(crate) mod baseline;
mod family;
pub(crate) mod gateway;
pub(crate) mod report;

use std::hint::black_box;
use std::time::Instant as Clock;

pub(crate) use family::Family;
pub(crate) use gateway::{Bench, Workload};

/// Frames of one call, as the bars have it.
pub(crate) const BURST: usize = 32;

/// Zeroed memory that lives for ever, in huge pages where the system gives them.
///
/// # Panics
/// Where there is none.
pub(crate) fn huge_memory(len: usize) -> &'static mut [u8] {
    // SAFETY: an anonymous private mapping of our own; nothing else refers to it, it is zeroed,
    // page-aligned, `len` bytes long and never unmapped.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let memory = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED, "{len} bytes: {}", std::io::Error::last_os_error());
        libc::madvise(memory, len, libc::MADV_HUGEPAGE);
        std::slice::from_raw_parts_mut(memory.cast(), len)
    }
}

/// *L*: nanoseconds of one dependent random load over `len` bytes, in memory like the tables'.
pub(crate) fn load_latency(len: usize) -> f64 {
    const LINE: usize = 64;
    let lines = (len / LINE).max(2);
    let memory = huge_memory(lines * LINE);
    let (words, _) = memory.as_chunks_mut::<8>();
    // A random cycle through all lines (Sattolo's shuffle).
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut random = Random(7);
    for last in (1..lines).rev() {
        order.swap(last, random.below(last as u32) as usize);
    }
    for pair in 0..lines {
        let (from, to) = (order[pair] as usize, order[(pair + 1) % lines] as usize);
        words[from * LINE / 8] = (to * LINE / 8).to_le_bytes();
    }
    let loads = 2_000_000;
    let mut at = 0;
    let begin = Clock::now();
    for _ in 0..loads {
        at = usize::from_le_bytes(words[at]);
    }
    let spent = begin.elapsed();
    black_box(at);
    // SAFETY: the mapping that `huge_memory` has just made for us; `words` is not used after this.
    unsafe { libc::munmap(memory.as_mut_ptr().cast(), memory.len()) };
    spent.as_nanos() as f64 / f64::from(loads)
}

/// A small random number generator (xorshift), so that runs repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }
}
