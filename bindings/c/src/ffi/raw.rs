//! The guards: from pointers to references, after every possible check.
//!
//! What cannot be checked, each export requires under *Safety*: that a pointer which is
//! neither null nor misaligned points to the stated number of values, that nobody else writes
//! them during the call, and that they outlive the guard's result. No guard's result outlives
//! its call.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use crate::status::Status;

fn check<T>(pointer: *const T) -> Result<(), Status> {
    if pointer.is_null() {
        return Err(Status::NullPointer);
    }
    if pointer.is_aligned() { Ok(()) } else { Err(Status::Misaligned) }
}

/// Checks that an array is no larger than memory can be.
fn check_array<T>(pointer: *const T, count: usize) -> Result<(), Status> {
    check(pointer)?;
    match count.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Status::OutOfRange),
    }
}

/// # Safety
/// As the module says, for one value.
pub(super) unsafe fn reference<'a, T>(pointer: *const T) -> Result<&'a T, Status> {
    check(pointer)?;
    // SAFETY: not null, aligned; the caller vouches for the rest.
    Ok(unsafe { &*pointer })
}

/// # Safety
/// As the module says, for one value that nobody else reads either.
pub(super) unsafe fn reference_mut<'a, T>(pointer: *mut T) -> Result<&'a mut T, Status> {
    check(pointer)?;
    // SAFETY: not null, aligned; the caller vouches for the rest.
    Ok(unsafe { &mut *pointer })
}

/// Room for a result, which need not be initialised.
///
/// # Safety
/// As the module says, for one value that nobody else reads either.
pub(super) unsafe fn place<'a, T>(pointer: *mut T) -> Result<&'a mut MaybeUninit<T>, Status> {
    // SAFETY: `MaybeUninit<T>` has the layout of `T`, and the caller vouches for the rest.
    unsafe { reference_mut(pointer.cast()) }
}

/// # Safety
/// As the module says, for `count` values. A null pointer is allowed where there are none.
pub(super) unsafe fn array<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], Status> {
    if count == 0 && pointer.is_null() {
        return Ok(&[]);
    }
    check_array(pointer, count)?;
    // SAFETY: not null, aligned, not larger than memory; the caller vouches for the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// # Safety
/// As the module says, for `count` values that nobody else reads either. A null pointer is allowed
/// where there are none.
pub(super) unsafe fn array_mut<'a, T>(pointer: *mut T, count: usize) -> Result<&'a mut [T], Status> {
    if count == 0 && pointer.is_null() {
        return Ok(&mut []);
    }
    check_array(pointer, count)?;
    // SAFETY: not null, aligned, not larger than memory; the caller vouches for the rest.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, count) })
}

/// Bytes to write to, which are filled with zeros: they may not have been written yet. They begin
/// where the pointer says, also where there are none.
///
/// # Safety
/// As [`array_mut`], but for the values.
pub(super) unsafe fn zeroed<'a>(pointer: *mut u8, count: usize) -> Result<&'a mut [u8], Status> {
    check_array(pointer, count)?;
    // SAFETY: not null, and the caller vouches for `count` bytes that are to be written.
    unsafe { pointer.write_bytes(0, count) };
    // SAFETY: the bytes have just been written; the caller vouches for the rest.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, count) })
}

/// Writes as much of `text` as fits and a zero byte after it. Nothing where there is no room.
///
/// # Safety
/// As the module says, for `count` bytes, unless `pointer` is null.
pub(super) unsafe fn write_text(pointer: *mut c_char, count: usize, text: &str) {
    if pointer.is_null() || count == 0 {
        return;
    }
    let mut fits = text.len().min(count - 1);
    while !text.is_char_boundary(fits) {
        fits -= 1;
    }
    // SAFETY: `fits` is below `count`, for which the caller vouches, and no longer than `text`,
    // which is memory of our own and so apart from the caller's.
    unsafe {
        pointer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), fits);
        pointer.add(fits).write(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_whole_character() {
        for (room, expected) in [(9, "port §4"), (8, "port §"), (7, "port "), (2, "p"), (1, "")] {
            let mut buffer = [0x55; 12];
            // SAFETY: `room` is at most the buffer's length.
            unsafe { write_text(buffer.as_mut_ptr(), room, "port §4") };
            let bytes = buffer.map(|byte| byte as u8);
            assert_eq!(std::ffi::CStr::from_bytes_until_nul(&bytes).unwrap().to_str(), Ok(expected));
            assert_eq!(bytes[expected.len() + 1], 0x55);
        }
    }
}
