//! The memory for frames, shared with the kernel, and who may access which of its chunks.
//!
//! The memory is divided into chunks of equal size. A [`Chunk`] is the right to use one of them. There
//! is exactly one value for each, and it cannot be copied. Either one thread owns it, or the kernel
//! has it through a ring. So every frame has one owner by construction.
//!
//! That holds for one [`Area`] and the chunks that came with it, which is all that a worker ever meets:
//! [`ring::Shape::open`](super::ring::Shape::open) makes an area and hands it to the workers with its chunks, and a chunk
//! leaves them through rings alone, those of that area and those between its workers.

use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::ptr::NonNull;

use xsk_rs::Umem;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::umem::frame::FrameDesc;

use super::{StartError, layout};

/// `XDP_PACKET_HEADROOM` of linux/bpf.h: the kernel puts a received frame this far into its chunk.
pub(super) const KERNEL_HEADROOM: u32 = 256;
/// Ethernet header and one tag, which the MTU does not count.
const LINK_HEADER: u32 = 18;

/// The right to use one chunk of the memory, and the position of a frame in it.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Chunk(FrameDesc);

impl Chunk {
    /// How many bytes the frame has, headroom included.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.0.lengths().data()
    }

    fn address(&self) -> usize {
        self.0.addr()
    }

    /// The descriptors of these chunks, for a ring.
    pub(super) fn descriptors(chunks: &[Self]) -> &[FrameDesc] {
        // SAFETY: a chunk is transparent over its descriptor.
        unsafe { &*(std::ptr::from_ref(chunks) as *const [FrameDesc]) }
    }

    /// Takes over a chunk that a ring has just returned.
    ///
    /// # Safety
    /// The kernel must have released the descriptor, and no other `Chunk` may be made of it.
    pub(super) unsafe fn from_ring(descriptor: FrameDesc) -> Self {
        Self(descriptor)
    }
}

/// The memory itself.
#[derive(Debug)]
pub(crate) struct Area {
    umem: Umem,
    base: NonNull<u8>,
    bytes: usize,
    chunk_bytes: usize,
}

// SAFETY: `base` points into memory that `umem` keeps mapped, and is followed only with a `Chunk`
// in hand, of which there is one for each piece of the memory.
unsafe impl Send for Area {}
// SAFETY: as above: shared access to an `Area` alone reaches no memory.
unsafe impl Sync for Area {}

/// The smallest chunk for frames of this MTU, in bytes.
///
/// # Errors
/// The largest MTU possible, where this one is larger: a chunk is at most a page.
pub(crate) fn chunk_bytes(mtu: u32) -> Result<u32, u32> {
    let around = KERNEL_HEADROOM + layout::ADJUST as u32 + LINK_HEADER;
    [2048, 4096].into_iter().find(|chunk| mtu <= chunk - around).ok_or(4096 - around)
}

impl Area {
    /// Maps memory for `count` chunks of `chunk_bytes`, a power of two between 2048 and 4096.
    ///
    /// - `ring`: how many descriptors each fill and completion ring will hold, a power of two.
    pub(super) fn new(chunk_bytes: u32, count: u32, ring: u32) -> Result<(Self, Vec<Chunk>), StartError> {
        const STEP: &str = "set up the memory of the rings";
        let needed = u64::from(chunk_bytes) * u64::from(count);
        let invalid = |what: &dyn Error| StartError::Program { step: STEP, cause: what.to_string() };
        let ring = QueueSize::new(ring).map_err(|error| invalid(&error))?;
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(chunk_bytes).map_err(|error| invalid(&error))?)
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .build()
            .map_err(|error| invalid(&error))?;
        let count = NonZeroU32::new(count).ok_or(StartError::Ports { count: 0 })?;
        let (umem, mut descriptors) = Umem::new(config, count, false).map_err(|error| {
            let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
            match cause.and_then(io::Error::raw_os_error) {
                Some(libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => StartError::LockedMemory { needed },
                Some(number) => StartError::system(STEP, None, io::Error::from_raw_os_error(number)),
                None => StartError::Program { step: STEP, cause: error.to_string() },
            }
        })?;
        // SAFETY: the first descriptor is of this memory and nobody else uses it yet; the memory
        // begins its address in front of the slice.
        let base = unsafe {
            let first = umem.data(&descriptors[0]);
            let start = first.contents().as_ptr().cast_mut().sub(descriptors[0].addr());
            NonNull::new_unchecked(start)
        };
        let chunks = descriptors.drain(..).map(Chunk).collect();
        Ok((Self { umem, base, bytes: needed as usize, chunk_bytes: chunk_bytes as usize }, chunks))
    }

    /// How many bytes of memory there are.
    pub(crate) const fn len(&self) -> usize {
        self.bytes
    }

    pub(super) const fn umem(&self) -> &Umem {
        &self.umem
    }

    /// Which chunk of the memory this is, counted from its beginning.
    #[must_use]
    pub(crate) fn number(&self, chunk: &Chunk) -> usize {
        chunk.address() / self.chunk_bytes
    }

    /// All bytes of a chunk.
    #[must_use]
    #[allow(clippy::mut_from_ref)] // the right to write comes from the chunk, not from the area
    pub(crate) fn bytes<'a>(&'a self, chunk: &'a mut Chunk) -> &'a mut [u8] {
        let start = chunk.address() - self.offset(chunk);
        if start + self.chunk_bytes > self.bytes {
            return &mut [];
        }
        // SAFETY: `start` and the bytes of a chunk from there on lie inside the memory, as was just compared,
        // which stays mapped while the sockets that hold `umem` and this value live. The chunk is the only
        // right to these bytes (see the module), it is borrowed for as long as the slice lives, and the kernel
        // has released it: a ring consumes the `Chunk`.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(start), self.chunk_bytes) }
    }

    /// The offset of the descriptor's address in its chunk, at which frames are received and transmitted.
    #[must_use]
    pub(crate) fn offset(&self, chunk: &Chunk) -> usize {
        chunk.address() % self.chunk_bytes
    }

    /// Prefetches the cache lines that hold a received frame's headers, and those to which they move.
    pub(super) fn prefetch(&self, chunk: &Chunk) {
        #[cfg(target_arch = "x86_64")]
        for line in [0, 64, 128] {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.base.as_ptr().wrapping_add(chunk.address() + line);
            // SAFETY: a prefetch reads nothing and faults nowhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = chunk;
    }

    /// Copies a frame into the chunk, to where one from a ring would be. Returns `false` and does nothing
    /// where the chunk is too short.
    #[must_use]
    pub(crate) fn write(&self, chunk: &mut Chunk, frame: &[u8]) -> bool {
        let offset = self.offset(chunk);
        let begin = offset + layout::ADJUST;
        let Some(into) = self.bytes(chunk).get_mut(begin..begin + frame.len()) else { return false };
        into.copy_from_slice(frame);
        self.settle(chunk, offset, layout::ADJUST + frame.len())
    }

    /// Makes the chunk's frame the `length` bytes that begin at its byte `start`. A frame is sent from the
    /// descriptor's address, so the bytes move there unless they are there already. Returns `false` and does
    /// nothing where the chunk is too short.
    #[must_use]
    pub(crate) fn settle(&self, chunk: &mut Chunk, start: usize, length: usize) -> bool {
        let offset = self.offset(chunk);
        let bytes = self.bytes(chunk);
        if bytes.is_empty() || start.max(offset).checked_add(length).is_none_or(|end| end > bytes.len()) {
            return false;
        }
        if start != offset {
            bytes.copy_within(start..start + length, offset);
        }
        chunk.0.set_options(0);
        // SAFETY: `bytes` is not empty, so the descriptor's address lies inside the memory; the slice that is made of the bytes from there to the chunk's end is theirs alone, as that
        // of `bytes` was, which is not used any more. Only the descriptor's length is written.
        unsafe { self.umem.data_mut(&mut chunk.0).cursor().set_pos(length) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_mtu_fits_a_small_chunk_and_a_page_is_the_most() {
        assert_eq!(chunk_bytes(1500), Ok(2048));
        let small = 2048 - KERNEL_HEADROOM - LINK_HEADER - layout::ADJUST as u32;
        assert_eq!(chunk_bytes(small), Ok(2048));
        assert_eq!(chunk_bytes(small + 1), Ok(4096));
        assert_eq!(chunk_bytes(small + 2048), Ok(4096));
        assert_eq!(chunk_bytes(small + 2049), Err(small + 2048));
        assert_eq!(chunk_bytes(u32::MAX), Err(small + 2048));
    }
}
