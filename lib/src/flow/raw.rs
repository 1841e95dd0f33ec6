//! The one door to typed views of memory that the caller lends, and to the processor's own instructions.
#![expect(unsafe_code, reason = "casts of plain data, and instructions that every x86-64 has")]

use super::table::{Bucket, ClientCounts, Header};
use super::{Address, Entry};

/// Types for which every byte pattern is a value.
///
/// # Safety
/// The type is `repr(C)`, holds integers and arrays of integers only, and has no padding, so that
/// any initialised bytes form a value and every value leaves all its bytes initialised.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: `repr(C)`, integers only, and its size is asserted to be the sum of its fields.
unsafe impl Plain for Header {}
// SAFETY: `repr(C)`, sixteen bytes and 48 more, which fill its 64 bytes (asserted beside it).
unsafe impl Plain for Bucket {}
// SAFETY: `repr(C)`, sixteen `u32` in 64 bytes (asserted beside it).
unsafe impl Plain for ClientCounts {}
// SAFETY: `repr(C, align(16))` over byte arrays, `u32`s and four `u64`; for both families (the trait is sealed)
// the fields add up to the size, as asserted beside the type.
unsafe impl<A: Address> Plain for Entry<A> {}

/// Splits `count` values of `T` off the front of `memory`.
///
/// `None` where `memory` is too short or not aligned for `T`.
pub(super) fn split_plain<T: Plain>(memory: &mut [u8], count: usize) -> Option<(&mut [T], &mut [u8])> {
    let size = size_of::<T>().checked_mul(count)?;
    if !(memory.as_ptr() as usize).is_multiple_of(align_of::<T>()) {
        return None;
    }
    let (front, rest) = memory.split_at_mut_checked(size)?;
    // SAFETY: `front` is exactly `count` values long and aligned for `T` (checked above), is
    // initialised, and `Plain` makes every byte pattern a value of `T` and every `T` plain bytes.
    // The borrow of `front` moves into the result, so no other reference to these bytes exists.
    let values = unsafe { core::slice::from_raw_parts_mut(front.as_mut_ptr().cast::<T>(), count) };
    Some((values, rest))
}

/// Asks the processor to bring the cache line of `value` near.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint that cannot fault, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Which of the sixteen bytes are equal to `byte`, a bit each, from the first byte's at the bottom on.
#[inline(always)]
pub(super) fn equal_bytes(bytes: [u8; 16], byte: u8) -> u16 {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        let whole = u128::from_le_bytes(bytes);
        let [low, high] = [whole as u64, (whole >> 64) as u64];
        // SAFETY: values in, a value out; SSE2 is part of x86-64.
        unsafe {
            let bytes = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
            _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte.cast_signed()))) as u16
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        (0..).zip(bytes).fold(0, |bits, (place, other)| bits | u16::from(other == byte) << place)
    }
}
