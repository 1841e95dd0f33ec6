//! From the structures of C to the core's description, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weirgate::counters;
use weirgate::net::{Endpoint, Mac, PortId, Prefix};
use weirgate::snapshot::{Backend, Encapsulation, Neighbour, NextHop, Peer, Port, Route, RouteTarget, Timeouts, Vtep};
use weirgate::verdict::Verdict;

use crate::status::{Problem, Status};
use crate::types;

/// An address, or `None` where the family says that there is none.
pub(crate) fn optional(raw: &types::Address) -> Result<Option<IpAddr>, Problem> {
    let [a, b, c, d, ..] = raw.bytes;
    match raw.family {
        types::WEIRGATE_FAMILY_NONE => Ok(None),
        types::WEIRGATE_FAMILY_V4 => Ok(Some(Ipv4Addr::new(a, b, c, d).into())),
        types::WEIRGATE_FAMILY_V6 => Ok(Some(Ipv6Addr::from(raw.bytes).into())),
        other => {
            Err(Problem::new(Status::AddressFamily, format!("address family {other}; it is 4, 6, or 0 for no address")))
        }
    }
}

pub(crate) fn address(raw: &types::Address) -> Result<IpAddr, Problem> {
    optional(raw)?.ok_or_else(|| Problem::new(Status::AddressFamily, "there is no address"))
}

pub(crate) fn prefix(raw: &types::Prefix) -> Result<Prefix, Problem> {
    let address = address(&raw.address)?;
    Prefix::new(address, raw.length)
        .ok_or_else(|| Problem::new(Status::PrefixLength, format!("{address} has no prefix of {} bits", raw.length)))
}

pub(crate) fn endpoint(raw: &types::Endpoint) -> Result<Endpoint, Problem> {
    Ok(Endpoint { address: address(&raw.address)?, port: raw.port })
}

pub(crate) fn backend(raw: &types::Backend) -> Result<Backend, Problem> {
    Ok(Backend { endpoint: endpoint(&raw.endpoint)?, weight: raw.weight })
}

pub(crate) fn port(raw: &types::Port) -> Result<Port, Problem> {
    Ok(Port { mac: Mac(raw.mac), mtu: raw.mtu })
}

pub(crate) fn peer(raw: &types::Peer) -> Result<Peer, Problem> {
    let encapsulation = match raw.encapsulation {
        types::WEIRGATE_ENCAPSULATION_DIRECT => Encapsulation::Direct,
        types::WEIRGATE_ENCAPSULATION_VXLAN => Encapsulation::Vxlan { mac: Mac(raw.vtep_mac) },
        other => {
            let text = format!("encapsulation {other}; it is 0 for none or 1 for VXLAN");
            return Err(Problem::new(Status::Encapsulation, text));
        }
    };
    let next_hop = match raw.has_next_hop {
        0 => None,
        1 => Some(NextHop { port: PortId(raw.next_hop_port), mac: Mac(raw.next_hop_mac) }),
        other => return Err(Problem::new(Status::Flag, format!("has_next_hop is {other}; it is 0 or 1"))),
    };
    Ok(Peer {
        subnet: prefix(&raw.subnet).map_err(|problem| problem.within("subnet"))?,
        public: address(&raw.public_address).map_err(|problem| problem.within("public_address"))?,
        encapsulation,
        next_hop,
    })
}

pub(crate) fn route(raw: &types::Route) -> Result<Route, Problem> {
    let port = PortId(raw.port);
    let router = optional(&raw.via).map_err(|problem| problem.within("via"))?;
    Ok(Route {
        prefix: prefix(&raw.prefix).map_err(|problem| problem.within("prefix"))?,
        target: router.map_or(RouteTarget::Link(port), |router| RouteTarget::Router(port, router)),
    })
}

pub(crate) fn neighbour(raw: &types::Neighbour) -> Result<Neighbour, Problem> {
    Ok(Neighbour { port: PortId(raw.port), address: address(&raw.address)?, mac: Mac(raw.mac) })
}

pub(crate) fn timeouts(raw: &types::Timeouts) -> Timeouts {
    Timeouts {
        tcp_syn_sent_seconds: raw.tcp_opening_seconds,
        tcp_syn_received_seconds: raw.tcp_opening_seconds,
        tcp_established_seconds: raw.tcp_established_seconds,
        tcp_fin_wait_seconds: raw.tcp_closing_seconds,
        tcp_close_wait_seconds: raw.tcp_closing_seconds,
        tcp_last_ack_seconds: raw.tcp_closing_seconds,
        tcp_time_wait_seconds: raw.tcp_closing_seconds,
        udp_seconds: raw.udp_seconds,
        udp_stream_seconds: raw.udp_stream_seconds,
        ..Timeouts::default()
    }
}

pub(crate) const fn raw_timeouts(timeouts: &Timeouts) -> types::Timeouts {
    types::Timeouts {
        tcp_opening_seconds: timeouts.tcp_syn_sent_seconds,
        tcp_established_seconds: timeouts.tcp_established_seconds,
        tcp_closing_seconds: timeouts.tcp_fin_wait_seconds,
        udp_seconds: timeouts.udp_seconds,
        udp_stream_seconds: timeouts.udp_stream_seconds,
    }
}

/// The gateway's end over IPv4, where there is one.
pub(crate) fn vtep_v4(raw: &types::Vtep) -> Result<Option<Vtep<Ipv4Addr>>, Problem> {
    match optional(&raw.public_address)? {
        None => Ok(None),
        Some(IpAddr::V4(public)) => Ok(Some(Vtep { public, mac: Mac(raw.mac) })),
        Some(IpAddr::V6(other)) => Err(Problem::new(Status::AddressFamily, format!("{other} is no IPv4 address"))),
    }
}

/// The gateway's end over IPv6, where there is one.
pub(crate) fn vtep_v6(raw: &types::Vtep) -> Result<Option<Vtep<Ipv6Addr>>, Problem> {
    match optional(&raw.public_address)? {
        None => Ok(None),
        Some(IpAddr::V6(public)) => Ok(Some(Vtep { public, mac: Mac(raw.mac) })),
        Some(IpAddr::V4(other)) => Err(Problem::new(Status::AddressFamily, format!("{other} is no IPv6 address"))),
    }
}

pub(crate) fn raw_address(address: IpAddr) -> types::Address {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            types::Address {
                bytes: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                family: types::WEIRGATE_FAMILY_V4,
            }
        }
        IpAddr::V6(address) => types::Address { bytes: address.octets(), family: types::WEIRGATE_FAMILY_V6 },
    }
}

/// A verdict as a frame's `verdict` and `detail`.
pub(crate) const fn verdict(verdict: Option<Verdict>) -> (u8, u8) {
    match verdict {
        None => (types::WEIRGATE_VERDICT_NONE, 0),
        Some(Verdict::Transmit(port)) => (types::WEIRGATE_VERDICT_TRANSMIT, port.0),
        Some(Verdict::Host) => (types::WEIRGATE_VERDICT_HOST, 0),
        Some(Verdict::Drop(reason)) => (types::WEIRGATE_VERDICT_DROP, reason as u8),
        Some(Verdict::Handover(worker)) => (types::WEIRGATE_VERDICT_HANDOVER, worker.0),
        Some(Verdict::Held) => (types::WEIRGATE_VERDICT_HELD, 0),
    }
}

pub(crate) fn traffic(traffic: &counters::Traffic) -> types::Traffic {
    types::Traffic { packets: traffic.packets.get(), bytes: traffic.bytes.get() }
}
