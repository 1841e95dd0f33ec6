//! From the structures of C to the core's description, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weirgate::counters;
use weirgate::net::{Endpoint, Mac, PortId, Prefix};
use weirgate::snapshot::{
    Admission, Backend, ClientAddress, Echo, Encapsulation, MssLimit, Neighbour, NextHop, OuterDscp, PastLimit, Peer,
    Policy, Port, RemovedBackend, Route, RouteTarget, Timeouts, Vtep,
};
use weirgate::verdict::Verdict;
use weirgate::wire::Dscp;

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
        1 => Some(NextHop {
            port: PortId(raw.next_hop_port),
            mac: Mac(raw.next_hop_mac),
            mtu: route_mtu(raw.next_hop_mtu),
        }),
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
    let target = match raw.target {
        types::WEIRGATE_ROUTE_PORT => match optional(&raw.via).map_err(|problem| problem.within("via"))? {
            Some(router) => RouteTarget::Router(port, router),
            None => RouteTarget::Link(port),
        },
        types::WEIRGATE_ROUTE_NOWHERE => RouteTarget::Nowhere,
        other => return Err(choice("target", other)),
    };
    Ok(Route {
        prefix: prefix(&raw.prefix).map_err(|problem| problem.within("prefix"))?,
        target,
        mtu: route_mtu(raw.mtu),
    })
}

/// A route's own MTU; 0 stands for none.
const fn route_mtu(raw: u16) -> Option<u16> {
    if raw == 0 { None } else { Some(raw) }
}

/// A number other than a field's two values.
fn choice(field: &str, number: u8) -> Problem {
    Problem::new(Status::Flag, format!("{field} is {number}; it is 0 or 1"))
}

fn dscp(number: u8) -> Result<Dscp, Problem> {
    Dscp::new(number).ok_or_else(|| Problem::new(Status::Dscp, format!("codepoint {number}; it is at most 63")))
}

pub(crate) fn policy(raw: &types::Service) -> Result<Policy, Problem> {
    Ok(Policy {
        client_address: match raw.client_address {
            types::WEIRGATE_CLIENT_TRANSLATED => ClientAddress::Translate,
            types::WEIRGATE_CLIENT_PRESERVED => ClientAddress::Preserve,
            other => return Err(choice("client_address", other)),
        },
        removed_backend: match raw.removed_backend {
            types::WEIRGATE_REMOVED_BACKEND_CONTINUE => RemovedBackend::Continue,
            types::WEIRGATE_REMOVED_BACKEND_RESET => RemovedBackend::Reset,
            other => return Err(choice("removed_backend", other)),
        },
        dscp: match raw.has_dscp {
            0 => None,
            1 => Some(dscp(raw.dscp)?),
            other => return Err(choice("has_dscp", other)),
        },
    })
}

pub(crate) const fn mss(raw: u16) -> MssLimit {
    match raw {
        types::WEIRGATE_MSS_OFF => MssLimit::Off,
        types::WEIRGATE_MSS_OF_PATH => MssLimit::Path,
        bytes => MssLimit::Bytes(bytes),
    }
}

pub(crate) fn outer_dscp(raw: u8) -> Result<OuterDscp, Problem> {
    if raw == types::WEIRGATE_OUTER_DSCP_COPY { Ok(OuterDscp::Copy) } else { dscp(raw).map(OuterDscp::Fixed) }
}

pub(crate) fn admission(raw: &types::Description) -> Result<Admission, Problem> {
    Ok(Admission {
        half_open_per_client: raw.half_open_per_client,
        new_flows_per_second: raw.new_flows_per_second,
        past_limit: match raw.past_limit {
            types::WEIRGATE_PAST_LIMIT_DROP => PastLimit::Drop,
            types::WEIRGATE_PAST_LIMIT_STATELESS => PastLimit::Stateless,
            other => return Err(choice("past_limit", other)),
        },
    })
}

pub(crate) fn echo(raw: &types::Description) -> Result<Echo, Problem> {
    let services = match raw.echo_services {
        0 => false,
        1 => true,
        other => return Err(choice("echo_services", other)),
    };
    Ok(Echo { services, per_second: raw.echoes_per_second })
}

pub(crate) fn neighbour(raw: &types::Neighbour) -> Result<Neighbour, Problem> {
    Ok(Neighbour { port: PortId(raw.port), address: address(&raw.address)?, mac: Mac(raw.mac) })
}

pub(crate) const fn timeouts(raw: &types::Timeouts) -> Timeouts {
    Timeouts {
        tcp_syn_sent_seconds: raw.tcp_syn_sent_seconds,
        tcp_syn_received_seconds: raw.tcp_syn_received_seconds,
        tcp_established_seconds: raw.tcp_established_seconds,
        tcp_fin_wait_seconds: raw.tcp_fin_wait_seconds,
        tcp_close_wait_seconds: raw.tcp_close_wait_seconds,
        tcp_last_ack_seconds: raw.tcp_last_ack_seconds,
        tcp_time_wait_seconds: raw.tcp_time_wait_seconds,
        tcp_reset_seconds: raw.tcp_reset_seconds,
        tcp_syn_sent2_seconds: raw.tcp_syn_sent2_seconds,
        udp_seconds: raw.udp_seconds,
        udp_stream_seconds: raw.udp_stream_seconds,
        icmp_seconds: raw.icmp_seconds,
        sctp_cookie_wait_seconds: raw.sctp_cookie_wait_seconds,
        sctp_cookie_echoed_seconds: raw.sctp_cookie_echoed_seconds,
        sctp_established_seconds: raw.sctp_established_seconds,
        sctp_shutdown_sent_seconds: raw.sctp_shutdown_sent_seconds,
        sctp_shutdown_received_seconds: raw.sctp_shutdown_received_seconds,
        sctp_shutdown_ack_sent_seconds: raw.sctp_shutdown_ack_sent_seconds,
        sctp_closed_seconds: raw.sctp_closed_seconds,
    }
}

pub(crate) const fn raw_timeouts(timeouts: &Timeouts) -> types::Timeouts {
    types::Timeouts {
        tcp_syn_sent_seconds: timeouts.tcp_syn_sent_seconds,
        tcp_syn_received_seconds: timeouts.tcp_syn_received_seconds,
        tcp_established_seconds: timeouts.tcp_established_seconds,
        tcp_fin_wait_seconds: timeouts.tcp_fin_wait_seconds,
        tcp_close_wait_seconds: timeouts.tcp_close_wait_seconds,
        tcp_last_ack_seconds: timeouts.tcp_last_ack_seconds,
        tcp_time_wait_seconds: timeouts.tcp_time_wait_seconds,
        tcp_reset_seconds: timeouts.tcp_reset_seconds,
        tcp_syn_sent2_seconds: timeouts.tcp_syn_sent2_seconds,
        udp_seconds: timeouts.udp_seconds,
        udp_stream_seconds: timeouts.udp_stream_seconds,
        icmp_seconds: timeouts.icmp_seconds,
        sctp_cookie_wait_seconds: timeouts.sctp_cookie_wait_seconds,
        sctp_cookie_echoed_seconds: timeouts.sctp_cookie_echoed_seconds,
        sctp_established_seconds: timeouts.sctp_established_seconds,
        sctp_shutdown_sent_seconds: timeouts.sctp_shutdown_sent_seconds,
        sctp_shutdown_received_seconds: timeouts.sctp_shutdown_received_seconds,
        sctp_shutdown_ack_sent_seconds: timeouts.sctp_shutdown_ack_sent_seconds,
        sctp_closed_seconds: timeouts.sctp_closed_seconds,
    }
}

/// The gateway's VTEP over IPv4, where there is one.
pub(crate) fn vtep_v4(raw: &types::Vtep) -> Result<Option<Vtep<Ipv4Addr>>, Problem> {
    match optional(&raw.public_address)? {
        None => Ok(None),
        Some(IpAddr::V4(public)) => Ok(Some(Vtep { public, mac: Mac(raw.mac) })),
        Some(IpAddr::V6(other)) => Err(Problem::new(Status::AddressFamily, format!("{other} is no IPv4 address"))),
    }
}

/// The gateway's VTEP over IPv6, where there is one.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors show that [`timeouts`] reads each field by its name.
    #[test]
    fn timeouts_are_told_as_they_are_read() {
        let raw = types::Timeouts {
            tcp_syn_sent_seconds: 1,
            tcp_syn_received_seconds: 2,
            tcp_established_seconds: 3,
            tcp_fin_wait_seconds: 4,
            tcp_close_wait_seconds: 5,
            tcp_last_ack_seconds: 6,
            tcp_time_wait_seconds: 7,
            tcp_reset_seconds: 8,
            tcp_syn_sent2_seconds: 9,
            udp_seconds: 10,
            udp_stream_seconds: 11,
            icmp_seconds: 12,
            sctp_cookie_wait_seconds: 13,
            sctp_cookie_echoed_seconds: 14,
            sctp_established_seconds: 15,
            sctp_shutdown_sent_seconds: 16,
            sctp_shutdown_received_seconds: 17,
            sctp_shutdown_ack_sent_seconds: 18,
            sctp_closed_seconds: 19,
        };
        assert_eq!(raw_timeouts(&timeouts(&raw)), raw);
    }
}
