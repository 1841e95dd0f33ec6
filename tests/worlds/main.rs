//! The finished binary in small worlds of network namespaces, with real clients and servers. Needs root. One binary,
//! since each costs a link.

mod common;

mod checksums;
mod conns;
mod differential;
mod flood;
mod forwarding;
mod hairpin;
mod host;
mod huge_pages;
mod limits;
mod masquerade;
mod persistence;
mod pings;
mod policy;
mod preserve_source;
mod programs;
mod refusals;
mod removed_backend;
mod restart;
mod sctp;
mod shapes;
mod takeover;
mod threads;
