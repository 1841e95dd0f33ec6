//! Memory for flow tables: outside the allocator, locked and on huge pages where that can be had.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use tracing::info;

/// The size of a huge page on the machines in question.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory that belongs to one owner. Aligned to a huge page where it is as large as one, and
/// to a page otherwise.
#[derive(Debug)]
pub struct Memory {
    mapped: NonNull<u8>,
    mapped_bytes: usize,
    offset: usize,
    bytes: usize,
    is_locked: bool,
}

// SAFETY: the mapping is private to this value, and every access goes through its borrow.
unsafe impl Send for Memory {}
// SAFETY: as above; shared borrows only read.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `bytes` of memory, touches every page of it and tries to lock it.
    ///
    /// # Errors
    /// The system's, where there is not as much memory.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let over = if bytes >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        let mapped_bytes = (bytes + over).max(1);
        // SAFETY: a new private mapping at a place of the kernel's choice touches nothing of ours.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(mapped) = NonNull::new(mapped.cast::<u8>()) else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let offset = if over == 0 { 0 } else { mapped.align_offset(HUGE_PAGE) };
        let mut memory = Self { mapped, mapped_bytes, offset, bytes, is_locked: false };
        if over != 0 {
            // SAFETY: the range is part of our mapping; the advice changes no content.
            unsafe { libc::madvise(memory.as_mut_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        }
        // SAFETY: the range is part of our mapping. Locking also touches every page.
        memory.is_locked = unsafe { libc::mlock(memory.as_ptr().cast(), bytes) } == 0;
        if !memory.is_locked {
            info!(bytes, "flow tables not locked into memory; raise `ulimit -l` to have that");
            memory.fill(0);
        }
        Ok(memory)
    }

    /// Whether the memory can never be swapped out.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.is_locked
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `offset + bytes` is at most `mapped_bytes`, the mapping lives as long as `self`
        // and began as zeroes, and writing takes an exclusive borrow.
        unsafe { std::slice::from_raw_parts(self.mapped.as_ptr().add(self.offset), self.bytes) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.mapped.as_ptr().add(self.offset), self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no borrow of it outlives `self`.
        unsafe { libc::munmap(self.mapped.as_ptr().cast(), self.mapped_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_aligned_and_as_long_as_asked() {
        for bytes in [1, 4096, HUGE_PAGE + 64] {
            let mut memory = Memory::new(bytes).unwrap();
            assert_eq!(memory.len(), bytes);
            assert_eq!(memory.as_ptr().align_offset(64), 0);
            assert!(memory.iter().all(|&byte| byte == 0));
            memory[bytes - 1] = 1;
            assert_eq!(memory[bytes - 1], 1);
        }
    }
}
