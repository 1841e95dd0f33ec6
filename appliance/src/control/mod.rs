//! The control side: what the configuration and the kernel say, compiled and published for the
//! workers.

pub mod compile;
pub mod netlink;
pub mod publish;
