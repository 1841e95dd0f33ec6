//! The core, asked as its users ask it: frames in, frames out. One binary, since each costs a link.

mod adopted;
mod conformance;
mod errors;
mod fragments;
mod hairpin;
mod kept;
mod limits;
mod masquerade;
mod mtu;
mod outlived;
mod pipeline;
mod placed;
mod policy;
mod ports;
mod pressure;
mod refused;
mod reopened;
mod sctp;
mod strangers;
mod workers;
