//! The control side: what the configuration and the kernel say, compiled and published for the
//! workers.

pub mod compile;
pub mod follow;
pub mod netlink;
mod pace;
pub mod publish;
mod resolve;
#[allow(unsafe_code)] // signalfd
pub mod signals;
