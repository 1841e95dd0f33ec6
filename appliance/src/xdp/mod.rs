//! AF_XDP: the steering program, the sockets' rings and the memory they share.
//!
//! Starting, in an order that leaves the host as it was after any refusal:
//! [`Steering::load`], [`Steering::fill`], [`worker::start`](crate::worker::start), and last
//! [`Steering::attach`].
//!
//! Unsafe code lives in `umem`, `ring` and `sys` here; outside of this module in
//! [`worker::Memory`](crate::worker::Memory), for the flow tables' memory, and in
//! [`control::signals`](crate::control::signals). Elsewhere it does not compile.

pub mod interface;
pub mod layout;

mod early;
mod error;
mod napi;
#[allow(unsafe_code)]
pub(crate) mod ring;
mod steer;
#[allow(unsafe_code)]
pub(crate) mod sys;
#[allow(unsafe_code)]
pub(crate) mod umem;

pub(crate) use early::{EarlyFragment, EarlyFragments};
pub use error::StartError;
pub use interface::{Interface, Mode};
pub(crate) use napi::DeferredInterrupts;
pub use napi::{Deferral, Polling, WAIT_MAX};
pub use ring::{RingCounters, Transfer};
pub use steer::{Attach, PROGRAM, Removed, SteerCounters, SteerTable, Steering, detach};

// A received frame has as much headroom as the pipeline may need.
const _: () = assert!(umem::KERNEL_HEADROOM as usize >= weirgate::frame::HEADROOM_MAX);
const _: () = assert!(layout::ADJUST <= umem::KERNEL_HEADROOM as usize);
const _: () = assert!(layout::PORTS_MAX as usize == weirgate::net::PORTS_MAX);
