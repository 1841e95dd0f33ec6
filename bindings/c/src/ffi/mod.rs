//! The exported calls: each guards its arguments and makes one call into safe code. Only they access
//! the caller's memory; start reading at [`worker`].
#![expect(unsafe_code, reason = "pointers come from the caller; what can be checked of them is checked in `raw`")]

pub mod pieces;
mod raw;
pub mod snapshot;
pub mod worker;

use std::ffi::{CStr, c_char};
use std::ptr;

use crate::status::Status;
use crate::{text, types};

fn answer(result: Result<(), Status>) -> Status {
    match result {
        Ok(()) => Status::Ok,
        Err(status) => status,
    }
}

fn pointer(text: Option<&'static CStr>) -> *const c_char {
    text.map_or(ptr::null(), CStr::as_ptr)
}

/// The version of the interface that the library was built with. Compare it with
/// `WEIRGATE_ABI_VERSION` before any other call: this one never changes.
#[unsafe(no_mangle)]
pub extern "C" fn weirgate_abi_version() -> u32 {
    types::WEIRGATE_ABI_VERSION
}

/// A few words about a status, for a log. Never null; lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn weirgate_status_text(status: u32) -> *const c_char {
    let known = usize::try_from(status).ok().and_then(|number| Status::ALL.get(number));
    known.map_or(c"a status of another version", |status| status.text()).as_ptr()
}

/// How many drop reasons there are. Their numbers are valid for one build of the library; their names
/// never change.
#[unsafe(no_mangle)]
pub extern "C" fn weirgate_drop_reason_count() -> usize {
    weirgate::verdict::DropReason::COUNT
}

/// The name by which counters and logs call the drop reason with this number; null past the last.
/// Lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn weirgate_drop_reason_name(reason: u8) -> *const c_char {
    pointer(text::name(reason))
}

/// One sentence for an operator about the drop reason with this number; null past the last. Lives
/// as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn weirgate_drop_reason_text(reason: u8) -> *const c_char {
    pointer(text::description(reason))
}
