//! The appliance: AF_XDP workers around the core, and the control plane that feeds them.

#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod gateway;
pub mod status;
pub mod worker;
pub mod xdp;
