//! Why a description cannot be compiled.

use core::fmt;
use core::net::IpAddr;

use crate::maglev::FillError;
use crate::net::{Endpoint, POOL_MAX, PORTS_MAX, PortId, Protocol, WORKERS_MAX};
use crate::wire::tcp;

/// Why a description cannot be compiled. What the memory held is then lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompileError {
    /// The memory is too short, or does not begin at a multiple of 8.
    Memory {
        /// How many bytes there are.
        have: usize,
        /// How many it takes, so aligned.
        need: usize,
    },
    /// More ports than a gateway can have.
    TooManyPorts(usize),
    /// A port that is not among the ports.
    UnknownPort(PortId),
    /// No worker, or more than a gateway can have.
    Workers(u8),
    /// The pool's ports do not give each worker at least one.
    PoolPorts(u16, u16),
    /// More pool addresses of one family than a gateway can have.
    TooManyPoolAddresses(usize),
    /// A pool address that is in none of the gateway's subnets, or the first of one.
    PoolAddress(IpAddr),
    /// An address of a service's in one of the gateway's subnets, where only answers of backends arrive.
    FrontendAddress(IpAddr),
    /// An IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2): write the IPv4 one.
    MappedAddress(IpAddr),
    /// A masquerade address in a subnet of the gateway's or a peer's.
    MasqueradeAddress(IpAddr),
    /// A VXLAN peer at an address of a family in which the gateway has no VTEP.
    NoVtep(IpAddr),
    /// A link too small for the encapsulation of a peer behind it.
    MtuTooSmall {
        /// The link's MTU.
        mtu: u16,
    },
    /// A maximum segment size below that of who announces none (RFC 9293 §3.7.1).
    MssTooSmall(u16),
    /// Two services listen at the same place.
    DuplicateFrontend(Endpoint, Protocol),
    /// A service that is none of TCP, UDP and SCTP.
    UnknownProtocol(Protocol),
    /// The selector of this service cannot be filled.
    Selector {
        /// The service.
        service: u32,
        /// What is wrong.
        error: FillError,
    },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Memory { have, need } => {
                write!(f, "memory of {have} bytes; it takes {need} that begin at a multiple of 8")
            }
            Self::TooManyPorts(count) => write!(f, "{count} ports; a gateway has at most {PORTS_MAX}"),
            Self::UnknownPort(PortId(port)) => write!(f, "port {port} is not among the ports"),
            Self::Workers(count) => write!(f, "{count} workers; a gateway has 1 to {WORKERS_MAX}"),
            Self::PoolPorts(first, last) => {
                write!(f, "ports {first} to {last} do not give each worker one, or begin with 0")
            }
            Self::TooManyPoolAddresses(count) => {
                write!(f, "{count} pool addresses of one family; a gateway has at most {POOL_MAX}")
            }
            Self::PoolAddress(address) => {
                write!(f, "pool address {address} is in none of the gateway's subnets, or the first of one")
            }
            Self::FrontendAddress(address) => {
                write!(f, "a service listens at {address}, which is in one of the gateway's subnets")
            }
            Self::MappedAddress(address) => write!(f, "{address} is IPv4-mapped: write the IPv4 address"),
            Self::MasqueradeAddress(address) => {
                write!(f, "masquerade address {address} is in a subnet of the gateway's or a peer's")
            }
            Self::NoVtep(address) => write!(f, "the gateway has no VTEP in the family of the peer at {address}"),
            Self::MtuTooSmall { mtu } => write!(f, "an MTU of {mtu} is too small for what a peer behind it is sent"),
            Self::MssTooSmall(most) => {
                write!(f, "a maximum segment size of {most} bytes; {} is the least", tcp::MSS_DEFAULT)
            }
            Self::DuplicateFrontend(endpoint, protocol) => {
                write!(f, "two services listen at {endpoint} over {protocol}")
            }
            Self::UnknownProtocol(protocol) => write!(f, "a service of {protocol}; there are tcp, udp and sctp"),
            Self::Selector { service, error } => write!(f, "the selector of service {service}: {error}"),
        }
    }
}

impl core::error::Error for CompileError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Selector { error, .. } => Some(error),
            _ => None,
        }
    }
}
