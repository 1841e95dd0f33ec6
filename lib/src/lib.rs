//! The packet core of weirgate: a gateway from the outside into a flannel container network.
//!
//! No allocation, no I/O, no clock, no globals: the data path is a function of frames, tables and
//! time, all of which the caller owns.

#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod counters;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod hash;
pub mod maglev;
pub mod nat;
pub mod net;
pub mod pipeline;
pub mod snapshot;
pub mod time;
pub mod tunnel;
pub mod verdict;
pub mod wire;
