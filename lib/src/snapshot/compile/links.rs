//! Ports, and where packets go from them: hops to peers, routes and neighbours.

use core::mem::take;
use core::net::IpAddr;

use super::addresses::not_mapped;
use super::{CompileError, Writer, ranges};
use crate::net::{Mac, PORTS_MAX, PortId};
use crate::snapshot::description::{Encapsulation, Peer, Port, RouteTarget};
use crate::snapshot::layout::{HopRecord, NONE, NeighbourRecord, PortRecord, RouteRecord};
use crate::snapshot::view::mapped;
use crate::tunnel::{Carrier, Headers, Link, Tunnel, Vtep};
use crate::wire::ethernet::EtherType;

/// The smallest packet that a link to a peer has to carry inside: IPv6's least MTU (RFC 8200 §5) for both families.
const MTU_MIN: u16 = 1280;

/// Below this the MTU of a route for IPv4 is not believed. Hosts take as much (RFC 791 §3.1), and so do segments of
/// connections that have agreed on no size (RFC 9293 §3.7.1).
const ROUTE_MTU_MIN_V4: u16 = 576;

/// What a route of this family takes whose link takes `mtu` bytes, as far as the route itself is believed.
fn mtu_of(route: Option<u16>, mtu: u16, is_v4: bool) -> u16 {
    let least = if is_v4 { ROUTE_MTU_MIN_V4 } else { MTU_MIN };
    route.map_or(mtu, |route| route.max(least).min(mtu))
}

impl<'d> Writer<'d, '_> {
    pub(super) fn ports(&mut self) -> Result<(), CompileError> {
        if self.d.ports.len() > PORTS_MAX {
            return Err(CompileError::TooManyPorts(self.d.ports.len()));
        }
        let records = take(&mut self.out.ports);
        for (index, (record, port)) in (0..).zip(records.iter_mut().zip(self.d.ports)) {
            *record = self.port_record(PortId(index), port);
        }
        Ok(())
    }

    fn port_record(&self, id: PortId, port: &Port) -> PortRecord {
        let leads_to = |peer: &Peer| peer.next_hop.is_some_and(|hop| hop.port == id);
        PortRecord { mac: port.mac, mtu: port.mtu, underlay: self.d.peers.iter().any(leads_to).into(), reserved: 0 }
    }

    fn port(&self, port: PortId) -> Result<&'d Port, CompileError> {
        self.d.ports.get(usize::from(port.0)).ok_or(CompileError::UnknownPort(port))
    }

    pub(super) fn hops(&mut self) -> Result<(), CompileError> {
        let records = take(&mut self.out.hops);
        for (record, peer) in records.iter_mut().zip(self.d.peers) {
            *record = self.hop(peer)?;
        }
        Ok(())
    }

    fn hop(&self, peer: &Peer) -> Result<HopRecord, CompileError> {
        let gateway = &self.d.gateway;
        let own = peer.next_hop.map(|next| self.port(next.port)).transpose()?;
        let link = Link {
            destination: peer.next_hop.map_or(Mac::ZERO, |next| next.mac),
            source: own.map_or(Mac::ZERO, |port| port.mac),
        };
        let inner = if peer.subnet.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let tunnel = Tunnel { vni: gateway.vni, port: gateway.vxlan_port, inner, dscp: gateway.outer_dscp };
        let headers = match (peer.encapsulation, peer.public) {
            (Encapsulation::Direct, _) => Headers::direct(link, inner),
            (Encapsulation::Vxlan { mac }, IpAddr::V4(public)) => {
                let own = gateway.v4.ok_or(CompileError::NoVtep(peer.public))?;
                Headers::vxlan_v4(link, own, Vtep { public, mac }, tunnel)
            }
            (Encapsulation::Vxlan { mac }, IpAddr::V6(public)) => {
                let own = gateway.v6.ok_or(CompileError::NoVtep(peer.public))?;
                Headers::vxlan_v6(link, own, Vtep { public, mac }, tunnel)
            }
        };
        let mut hop = HopRecord { headers, port: 0, is_resolved: 0, mtu: 0 };
        let (Some(next), Some(port)) = (peer.next_hop, own) else { return Ok(hop) };
        hop.port = next.port.0;
        hop.is_resolved = 1;
        let room = port.mtu.saturating_sub(headers.overhead());
        let mtu = match gateway.overlay_mtu {
            Some(mtu) if headers.carrier() != Carrier::Direct => mtu.min(room),
            _ => room,
        };
        if mtu < MTU_MIN {
            return Err(CompileError::MtuTooSmall { mtu: port.mtu });
        }
        let inside = next.mtu.map(|route| route.saturating_sub(headers.overhead()));
        hop.mtu = mtu_of(inside, mtu, peer.subnet.is_ipv4());
        Ok(hop)
    }

    pub(super) fn overlay(&mut self) -> Result<(), CompileError> {
        let peers = self.d.peers;
        let subnets = self.d.gateway.subnets;
        let prefixes = || (0..).zip(peers.iter().map(|peer| &peer.subnet));
        let Self { out, used, scratch, error, .. } = self;
        used.overlay_v4 = ranges(scratch, out.overlay_v4, prefixes(), *error)?;
        used.overlay_v6 = ranges(scratch, out.overlay_v6, prefixes(), *error)?;
        used.subnets_v4 = ranges(scratch, out.subnets_v4, (0..).zip(subnets), *error)?;
        used.subnets_v6 = ranges(scratch, out.subnets_v6, (0..).zip(subnets), *error)?;
        Ok(())
    }

    pub(super) fn routes(&mut self) -> Result<(), CompileError> {
        let routes = self.d.routes;
        let records = take(&mut self.out.route_targets);
        for (record, route) in records.iter_mut().zip(routes) {
            let (port, via) = match route.target {
                RouteTarget::Link(port) => (port, None),
                RouteTarget::Router(port, via) => (port, Some(via)),
                RouteTarget::Nowhere => continue,
            };
            let own = self.port(port)?;
            *record = RouteRecord {
                via: via.map_or([0; 16], mapped),
                port: port.0,
                is_on_link: via.is_none().into(),
                link: PortRecord {
                    mtu: mtu_of(route.mtu, own.mtu, route.prefix.is_ipv4()),
                    ..self.port_record(port, own)
                },
            };
        }
        let prefixes = || (0..).zip(routes.iter().map(|route| &route.prefix));
        let Self { out, used, scratch, error, .. } = self;
        used.routes_v4 = ranges(scratch, out.routes_v4, prefixes(), *error)?;
        used.routes_v6 = ranges(scratch, out.routes_v6, prefixes(), *error)?;
        // Only now: which of equal and nested prefixes counts has been decided whatever they lead to.
        let v4 = out.routes_v4.iter_mut().take(used.routes_v4).map(|range| &mut range.target);
        let v6 = out.routes_v6.iter_mut().take(used.routes_v6).map(|range| &mut range.target);
        for target in v4.chain(v6) {
            let route = routes.get(*target as usize);
            if route.is_some_and(|route| route.target == RouteTarget::Nowhere) {
                *target = NONE;
            }
        }
        Ok(())
    }

    pub(super) fn neighbours(&mut self) -> Result<(), CompileError> {
        let records = take(&mut self.out.neighbours);
        let mut count = 0;
        for neighbour in self.d.neighbours {
            self.port(neighbour.port)?;
            // No neighbour has one; it would be found for an IPv4 address.
            if not_mapped(neighbour.address).is_ok()
                && let Some(record) = records.get_mut(count)
            {
                let address = mapped(neighbour.address);
                *record = NeighbourRecord { address, mac: neighbour.mac, port: neighbour.port.0, reserved: 0 };
                count += 1;
            }
        }
        let records = records.get_mut(..count).unwrap_or_default();
        records.sort_unstable_by_key(|record| (record.key(), record.mac));
        self.used.neighbours = count;
        Ok(())
    }
}
