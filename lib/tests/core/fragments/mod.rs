//! Fragmented datagrams: frames in, frames out, the exact counters.

mod crossing;
mod echo;
mod fragmentation;
pub(crate) mod helpers;
mod property;
mod refused;
mod sctp;
mod workers;
