//! Datagrams in parts: frames in, frames out, the exact counters.

mod crossing;
mod cut;
mod echo;
mod helpers;
mod property;
mod refused;
mod sctp;
mod workers;
