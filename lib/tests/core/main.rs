//! The core as its users call it: frames in, frames out. One binary, since each one costs a link.

mod adopted;
mod blind;
mod conformance;
mod errors;
mod fragments;
mod gone_backends;
mod hairpin;
mod limits;
mod masquerade;
mod mtu;
mod pipeline;
mod policy;
mod ports;
mod preserve_source;
mod pressure;
mod refused;
mod reopened;
mod sctp;
mod stale;
mod stateless;
mod workers;
