//! Third pass: find the packet's flow, translate it, send it on.

use super::error::{self, Kind};
use super::{Context, Item, Recorder, Step, Way, Wire, bind, icmp};
use crate::flow::{Direction, Found, State, Tuple};
use crate::frame::Frame;
use crate::nat;
use crate::net::{Endpoint, Mac, PortId};
use crate::overlay::{Passage, begin_before};
use crate::snapshot::{HopRecord, Snapshot};
use crate::verdict::{DropReason, Verdict};
use crate::wire::Ecn;
use crate::wire::ethernet;
use crate::wire::packet::Transport;

/// Where a packet of a flow goes, and as what.
struct Onward<A> {
    to: Tuple<A>,
    leave: Leave,
}

/// The last step of a packet's way through the gateway.
#[derive(Clone, Copy)]
pub(super) enum Leave {
    /// Over the underlay to a peer, by the index of its hop.
    Peer(u32),
    /// To a station on a link, in a VLAN or (zero) none.
    Station(PortId, Mac, [u8; 2]),
}

pub(super) fn act<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    match item.packet.transport {
        Transport::Tcp | Transport::Udp if item.packet.fragment.is_none() => {}
        _ => return icmp::act(cx, frame, item),
    }
    let tuple = item.tuple();
    let found = A::flows(cx.worker).lookup(item.hash, &tuple, item.packet.protocol);
    let found = match found {
        Some(found) if !is_over(cx, found, item) => found,
        stale => {
            if let Some(found) = stale {
                A::flows(cx.worker).remove(found.index);
            }
            match bind::bind(cx, frame, item)? {
                bind::Bound::Flow(found) => found,
                bind::Bound::Verdict(verdict) => return Ok(verdict),
            }
        }
    };
    follow(cx, frame, item, found)
}

/// Whether the flow has idled too long, or ended so that this packet begins another.
#[inline]
fn is_over<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, found: Found, item: &Item<A>) -> bool {
    let idle = &cx.snapshot.globals.idle_ticks;
    let tick = cx.tick;
    A::flows(cx.worker).get(found.index).is_none_or(|entry| {
        entry.is_idle(tick, idle)
            || entry.state().is_none_or(|state| state.is_reopened(found.direction, item.packet.flags))
    })
}

/// A packet of a flow: translate it, count it, send it on.
fn follow<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    found: Found,
) -> Result<Verdict, DropReason> {
    cx.explain(Step::FlowFound(found.direction));
    let onward = match found.direction {
        Direction::Original => to_backend(cx, item, found.index)?,
        Direction::Reply => to_client(cx, item, found.index)?,
    };
    let mtu = mtu_of(cx.snapshot, onward.leave)?;
    if item.packet.ttl <= 1 {
        return error::answer(cx, frame, item, Kind::TimeExceeded);
    }
    if item.packet.len > mtu {
        if !item.packet.dont_fragment {
            return Err(DropReason::TooBig);
        }
        return error::answer(cx, frame, item, Kind::TooBig { mtu });
    }
    let at = usize::from(item.at);
    A::translate(frame.bytes_mut().get_mut(at..).unwrap_or_default(), &item.packet, &onward.to)?;
    cx.explain(Step::Translated(
        endpoint(onward.to.source, onward.to.source_port),
        endpoint(onward.to.destination, onward.to.destination_port),
    ));
    remember(cx, item, found);
    leave(cx, frame, item, onward.leave)
}

#[inline]
pub(super) fn endpoint<A: Wire>(address: A, port: [u8; 2]) -> Endpoint {
    Endpoint { address: address.to_ip(), port: u16::from_be_bytes(port) }
}

/// From the client: to the backend, from the pool address. Looks the way up again where the flow's
/// is of another snapshot, and keeps the link address the client is seen at.
#[inline]
fn to_backend<A: Wire, R>(
    cx: &mut Context<'_, '_, '_, R>,
    item: &Item<A>,
    index: u32,
) -> Result<Onward<A>, DropReason> {
    if item.way == Way::Overlay {
        return Err(DropReason::SpoofedSource);
    }
    let snapshot = cx.snapshot;
    let (entry, _) = A::flows(cx.worker).get_mut(index).ok_or(DropReason::NoFlow)?;
    if entry.generation != snapshot.generation() {
        entry.hop = A::overlay_hop(snapshot, entry.reply.source).ok_or(DropReason::NoRoute)?;
        entry.generation = snapshot.generation();
    }
    entry.link = item.station.0;
    entry.vlan = item.vlan;
    Ok(Onward { to: entry.reply.inverted(), leave: Leave::Peer(entry.hop) })
}

/// From the backend: to the client, from the address that it wrote to.
#[inline]
fn to_client<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    item: &Item<A>,
    index: u32,
) -> Result<Onward<A>, DropReason> {
    if item.way == Way::Link {
        return Err(DropReason::SpoofedSource);
    }
    let entry = *A::flows(cx.worker).get(index).ok_or(DropReason::NoFlow)?;
    let client = entry.original.source;
    let route = A::route(cx.snapshot, client).ok_or(DropReason::NoRoute)?;
    let port = PortId(route.port);
    let next = if route.is_on_link == 0 { route.via } else { client.mapped() };
    let is_where_it_came_from = entry.port == route.port;
    let mac = match cx.snapshot.neighbour(port, next) {
        Some(mac) => mac,
        None => {
            let address = core::net::Ipv6Addr::from(next).to_canonical();
            cx.worker.want_resolved(port, address);
            // Until the kernel knows better, where the client's packets come from is where it is.
            if !is_where_it_came_from {
                return Err(DropReason::NeighbourUnresolved);
            }
            Mac(entry.link)
        }
    };
    cx.explain(Step::ToLink(port, core::net::Ipv6Addr::from(next).to_canonical(), mac));
    let vlan = if is_where_it_came_from { entry.vlan } else { [0; 2] };
    Ok(Onward { to: entry.original.inverted(), leave: Leave::Station(port, mac, vlan) })
}

/// What the packet changes in its flow, and the counts.
#[inline]
fn remember<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, item: &Item<A>, found: Found) {
    let tick = cx.tick;
    let bytes = u64::from(item.packet.len);
    let Some((entry, traffic)) = A::flows(cx.worker).get_mut(found.index) else { return };
    entry.seen = tick;
    if let Some(state) = entry.state() {
        entry.state = state.next(found.direction, item.packet.flags) as u8;
    }
    let service = entry.service;
    let direction = found.direction as usize;
    traffic.packets[direction] += 1;
    traffic.bytes[direction] += bytes;
    if let Some(service) = cx.worker.services.get(service as usize) {
        match found.direction {
            Direction::Original => service.original.count(1, bytes),
            Direction::Reply => service.reply.count(1, bytes),
        }
    }
}

/// The largest packet that this way takes.
#[inline]
pub(super) fn mtu_of(snapshot: &Snapshot<'_>, leave: Leave) -> Result<u16, DropReason> {
    match leave {
        Leave::Peer(hop) => Ok(resolved_hop(snapshot, hop)?.mtu),
        Leave::Station(port, ..) => Ok(snapshot.port(port).ok_or(DropReason::UnknownPort)?.mtu),
    }
}

#[inline]
fn resolved_hop<'s>(snapshot: &Snapshot<'s>, hop: u32) -> Result<&'s HopRecord, DropReason> {
    let hop = snapshot.hop(hop).ok_or(DropReason::NoRoute)?;
    if hop.is_resolved == 0 { Err(DropReason::NeighbourUnresolved) } else { Ok(hop) }
}

/// Sends the packet at `item.at` out of the gateway.
#[inline]
pub(super) fn leave<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    leave: Leave,
) -> Result<Verdict, DropReason> {
    let at = usize::from(item.at);
    // Ethernet's padding goes no further.
    if !frame.set_len(at + usize::from(item.packet.len)) {
        return Err(DropReason::NoRoom);
    }
    match leave {
        Leave::Peer(hop) => {
            let hop = resolved_hop(cx.snapshot, hop)?;
            cx.worker.identification = cx.worker.identification.wrapping_add(1);
            let passage =
                Passage { entropy: item.hash, identification: cx.worker.identification, ecn: Ecn::of(item.packet.tos) };
            hop.headers.encapsulate(frame, at, passage)?;
            cx.explain(Step::ToPeer(PortId(hop.port)));
            Ok(Verdict::Transmit(PortId(hop.port)))
        }
        Leave::Station(port, mac, vlan) => {
            let source = cx.snapshot.port(port).ok_or(DropReason::UnknownPort)?.mac();
            let vlan = (vlan != [0; 2]).then_some(u16::from_be_bytes(vlan));
            let header = ethernet::Header { destination: mac, source, vlan, ethertype: A::ETHERTYPE };
            if !begin_before(frame, at, header.len()) || header.emit(frame.bytes_mut()).is_none() {
                return Err(DropReason::NoRoom);
            }
            Ok(Verdict::Transmit(port))
        }
    }
}

/// Whether this worker owns the flows at this pool address and port; else, who does.
#[inline]
pub(super) fn owner_elsewhere<R>(cx: &Context<'_, '_, '_, R>, port: [u8; 2]) -> Option<Verdict> {
    let owner = nat::owner(cx.snapshot.globals, port);
    (owner != cx.worker.id).then_some(Verdict::Handover(owner))
}

/// The state that the packet begins a flow in.
pub(super) fn first_state<A>(item: &Item<A>) -> Result<State, DropReason> {
    State::first(item.packet.protocol, item.packet.flags).ok_or(DropReason::NotSyn)
}
