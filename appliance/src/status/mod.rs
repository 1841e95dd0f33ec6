//! `weirgate status`: what a running gateway tells of itself over its control socket, for people
//! and for programs.

mod counters;
mod model;
mod socket;
mod table;
#[cfg(test)]
mod tests;

pub use counters::{COUNTERS, Counter, reference};
pub use model::{BurstTimes, FlowTable, NextHop, Peer, Port, Service, Status, Traffic};
pub use socket::{Server, SocketError, ask, refuse_live, remove_stale};
