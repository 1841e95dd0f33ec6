//! By where a packet leaves the gateway: over the underlay to a peer's node, or out of a port to a neighbour.

use core::net::Ipv6Addr;

use super::context::Context;
use super::family::Wire;
use super::item::{Ingress, Item};
use super::observe::{Observer, Step};
use crate::flow::{Address, Entry, SnapshotIndex};
use crate::frame::Frame;
use crate::net::{Mac, Origin, PORTS_MAX, PortId};
use crate::snapshot::{HopRecord, NeighbourRecord, PortRecord, RouteRecord, Snapshot};
use crate::verdict::DropReason;

/// Where a packet leaves the gateway.
#[derive(Clone, Copy)]
pub(super) enum Egress<'s> {
    /// Over the underlay, by the next hop to a peer.
    Peer(&'s HopRecord),
    /// Out of a port to a neighbour on its link, in a VLAN or (zero) none.
    Neighbour(PortId, &'s PortRecord, Mac, [u8; 2]),
}

impl<'s> Egress<'s> {
    /// The largest packet that leaves here.
    #[inline(always)]
    pub(super) const fn mtu(&self) -> u16 {
        match self {
            Self::Peer(hop) => hop.mtu,
            Self::Neighbour(_, port, ..) => port.mtu,
        }
    }

    /// The same egress by this route, which may take less than the link.
    const fn by(self, route: &'s RouteRecord) -> Self {
        match self {
            Self::Neighbour(port, _, mac, vlan) => Self::Neighbour(port, &route.link, mac, vlan),
            peer @ Self::Peer(_) => peer,
        }
    }
}

/// Where a client's frames come from.
#[derive(Clone, Copy)]
pub(super) struct ClientLink {
    pub(super) port: u8,
    pub(super) origin: Origin,
}

impl ClientLink {
    /// Nobody has been seen anywhere: the route outside is the kernel's to know.
    pub(super) const NONE: Self = Self { port: PORTS_MAX as u8, origin: Origin::new(Mac::ZERO, [0; 2]) };

    /// As a flow's entry has it.
    #[inline(always)]
    pub(super) const fn of<A: Address>(entry: &Entry<A>) -> Self {
        Self { port: entry.port, origin: entry.origin }
    }
}

/// To a peer, by the index of the next hop.
#[inline(always)]
pub(super) fn to_peer<'s>(snapshot: &Snapshot<'s>, next_hop: u32) -> Result<Egress<'s>, DropReason> {
    over(snapshot.hop(next_hop).ok_or(DropReason::NoRoute)?)
}

/// To the peer that has this overlay address, and the index of the next hop.
pub(super) fn to_pod<'s, A: Wire>(snapshot: &Snapshot<'s>, address: A) -> Result<(Egress<'s>, u32), DropReason> {
    let next_hop = A::overlay_hop(snapshot, address).ok_or(DropReason::NoRoute)?;
    Ok((to_peer(snapshot, next_hop)?, next_hop))
}

/// Over this next hop, once its link address is known.
#[inline(always)]
pub(super) const fn over(hop: &HopRecord) -> Result<Egress<'_>, DropReason> {
    if hop.is_resolved == 0 { Err(DropReason::NeighbourUnresolved) } else { Ok(Egress::Peer(hop)) }
}

/// To somebody outside, as the kernel routes it, and the index of the neighbour where that is known.
pub(super) fn to_outside<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    client: A,
    seen: ClientLink,
) -> Result<(Egress<'s>, SnapshotIndex), DropReason> {
    let snapshot = cx.snapshot;
    let route = A::route(snapshot, client).ok_or(DropReason::NoRoute)?;
    let port = PortId(route.port);
    let next = if route.is_on_link == 0 { route.via } else { client.mapped() };
    if let Some((index, neighbour)) = snapshot.neighbour(port, next) {
        // The next packet asks the route again where its link alone does not say how large it may be.
        let is_narrow = snapshot.port(port).is_some_and(|link| route.link.mtu < link.mtu);
        let index = if is_narrow { SnapshotIndex::NONE } else { SnapshotIndex::at(index) };
        return Ok((to_neighbour(cx, neighbour, seen)?.by(route), index));
    }
    cx.worker.want_resolved(port, Ipv6Addr::from(next).to_canonical());
    // Until the kernel knows better, where the client's packets come from is where it is.
    if seen.port != route.port {
        return Err(DropReason::NeighbourUnresolved);
    }
    let neighbour = NeighbourRecord { address: next, mac: seen.origin.mac(), port: route.port, reserved: 0 };
    Ok((to_neighbour(cx, &neighbour, seen)?.by(route), SnapshotIndex::NONE))
}

/// To this neighbour.
#[inline(always)]
pub(super) fn to_neighbour<'s, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    neighbour: &NeighbourRecord,
    seen: ClientLink,
) -> Result<Egress<'s>, DropReason> {
    let port = PortId(neighbour.port);
    cx.explain(Step::ToLink(port, Ipv6Addr::from(neighbour.address).to_canonical(), neighbour.mac));
    let vlan = if seen.port == neighbour.port { seen.origin.vlan() } else { [0; 2] };
    let record = cx.snapshot.port(port).ok_or(DropReason::UnknownPort)?;
    Ok(Egress::Neighbour(port, record, neighbour.mac, vlan))
}

/// Back to who sent the packet: over the overlay what came out of it, any other to the link address that its frame
/// came from.
pub(super) fn back<'s, A: Wire, O>(
    cx: &Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
) -> Result<Egress<'s>, DropReason> {
    if item.ingress == Ingress::Overlay {
        return Ok(to_pod(cx.snapshot, item.packet.source)?.0);
    }
    let port = cx.snapshot.port(frame.port()).ok_or(DropReason::UnknownPort)?;
    Ok(Egress::Neighbour(frame.port(), port, item.origin.mac(), item.origin.vlan()))
}

/// Whether the packets of the pod that began this hairpin come out of VXLAN.
pub(super) const fn came_tunnelled<A: Address>(entry: &Entry<A>) -> bool {
    entry.port == ClientLink::NONE.port
}

/// Back to the pod that began a hairpin, by where it came from, since its node may refuse answers from an address
/// that it has another route to (RFC 3704 §2.2).
pub(super) fn back_to_pod<'s, A: Wire, O>(
    cx: &Context<'_, '_, 's, O>,
    entry: &Entry<A>,
) -> Result<Egress<'s>, DropReason> {
    if came_tunnelled(entry) {
        return Ok(to_pod(cx.snapshot, entry.original.source)?.0);
    }
    let port = PortId(entry.port);
    let record = cx.snapshot.port(port).ok_or(DropReason::UnknownPort)?;
    Ok(Egress::Neighbour(port, record, entry.origin.mac(), entry.origin.vlan()))
}
