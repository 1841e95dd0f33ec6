//! The packet core of weirgate for programs in C, and in other languages that call C.
//!
//! The header `bindings/include/weirgate.h` is generated from this crate. Conventions:
//!
//! - The caller allocates and frees, after asking for the size. `const` means not modified.
//! - Every call that can fail returns a [`Status`](status::Status), whose numbers are never reused.
//!   Null, misaligned and short arguments are reported; then at most memory that was to be written has
//!   lost its content.
//! - Numbers are in the machine's byte order, addresses in network byte order.
//! - Processing frames and ageing allocate nothing. Compiling a snapshot uses memory of the
//!   library's own, which is freed before the call returns.
//! - A defect that panics ends the process; it never unwinds into the caller.

#![deny(unsafe_code)]

mod convert;
pub mod ffi;
pub mod status;
mod text;
pub mod types;
