//! `weirgate status`: what a running gateway reports over its control socket, for people
//! and for programs.

mod conns;
mod counters;
mod fill;
mod model;
mod socket;
mod starting;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use conns::push_line;
pub use conns::{AddressFilter, Conn, ConnTuple, ConnsEnd, Filter, InState, OfProtocol};
pub use counters::{COUNTERS, Counter, reference};
pub use fill::Watch;
pub use model::{
    BurstTimes, FlowMemory, FlowTable, Interrupts, MasqueradeAddress, NextHop, Peer, PoolAddress, Port, Service,
    Status, Traffic,
};
pub use socket::{
    Client, Predecessor, Released, Request, Server, SocketError, Successor, ask, ask_conns, refuse_live, remove_stale,
};
