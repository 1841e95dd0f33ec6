//! Flows that pods begin: their own connections to the outside, which leave from an address that
//! stands for the pod (masquerade), those to the gateway's own services (hairpin), and the way back.
//!
//! A packet out of the overlay may reach any worker, since the outer header decides, and a node may
//! change that while a flow lasts. So the pod's own endpoint names the worker that owns the flow,
//! and the port that is allocated names the same one for the way back.

use super::act::{self, Hit, Leave, Seen};
use super::admit::{admit, comes_from_pod};
use super::bind::{self, Bound};
use super::error::{self, Kind};
use super::standing::{self, Standing};
use super::{Context, Item, Recorder, Step, Way, Wire, place, policy};
use crate::flow::{Address, Direction, Entry, Mode, NO_SERVICE};
use crate::frame::Frame;
use crate::nat;
use crate::net::{Mac, PORTS_MAX, PortId, Protocol};
use crate::tunnel::Carrier;
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::Transport;

/// Nobody has been seen anywhere: the way outside is the kernel's to tell.
pub(super) const UNSEEN: Seen = Seen { port: PORTS_MAX as u8, mac: Mac::ZERO, vlan: [0; 2] };

/// Whether a packet is a pod's that a peer has sent as it is, and packets to the pod go so, too.
fn came_by_plain_route<A: Wire, R>(cx: &Context<'_, '_, '_, R>, item: &Item<A>) -> bool {
    let hop = || cx.snapshot.hop(A::overlay_hop(cx.snapshot, item.packet.source)?);
    item.way == Way::Underlay && hop().is_some_and(|hop| hop.headers.carrier() == Carrier::Direct)
}

/// Whether a packet for no service is a pod's to the outside: any out of the overlay, and of those that came
/// by a plain route what the host does not get or route itself.
pub(super) fn is_outward<A: Wire, R>(cx: &Context<'_, '_, '_, R>, item: &Item<A>) -> bool {
    let (snapshot, destination) = (cx.snapshot, item.packet.destination);
    let is_the_hosts = || {
        A::masquerade(snapshot).addresses.is_empty()
            || A::is_local(snapshot, destination)
            || A::is_exempt(snapshot, destination)
            || A::overlay_hop(snapshot, destination).is_some()
    };
    item.way == Way::Overlay || came_by_plain_route(cx, item) && !is_the_hosts()
}

/// Makes a flow for the first packet from a pod to the outside. What is for an address of the gateway's own is the
/// host's.
///
/// - `over`: as of [`bind::bind`].
pub(super) fn bind<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    over: Option<u32>,
) -> Result<Bound<A>, DropReason> {
    let packet = &item.packet;
    let original = item.tuple();
    // No client's answer begins as these do; and parts do not find their way back from who was asked.
    let first_state = act::first_state(item);
    let is_syn = packet.transport == Transport::Tcp && first_state.is_ok();
    let begins = match packet.transport {
        Transport::EchoRequest => true,
        Transport::Tcp => is_syn,
        _ => packet.fragment.is_some(),
    };
    if let Some(elsewhere) = bind::inside_elsewhere(cx, &original, packet.protocol, frame.handovers(), begins) {
        return Ok(Bound::Verdict(elsewhere));
    }
    let snapshot = cx.snapshot;
    let pool = A::masquerade(snapshot);
    if A::is_local(snapshot, packet.destination) && !pool.addresses.contains(&packet.destination) {
        // As from a link, but for a sender that is no pod: the kernel does not see where this came from.
        comes_from_pod(cx, item)?;
        return Ok(Bound::Verdict(Verdict::Host));
    }
    if first_state == Err(DropReason::TcpFlags) {
        return Err(DropReason::TcpFlags);
    }
    if !is_syn && let Some(placed) = place::place(cx, &original, packet.protocol, over) {
        return Ok(Bound::Placed(placed));
    }
    if pool.addresses.is_empty() || pool.addresses.contains(&packet.destination) {
        return Err(DropReason::NoFlow);
    }
    if A::overlay_hop(snapshot, packet.source).is_none() {
        return Err(DropReason::SpoofedSource);
    }
    if !A::may_send(packet.source) || !A::may_send(packet.destination) {
        return Err(DropReason::MartianAddress);
    }
    if A::is_exempt(snapshot, packet.destination) {
        return Err(DropReason::NotMasqueraded);
    }
    A::route(snapshot, packet.destination).ok_or(DropReason::NoRoute)?;
    if packet.ttl <= 1 {
        return error::answer(cx, frame, item, Kind::TimeExceeded).map(Bound::Verdict);
    }
    let state = admit(cx, packet.source, true, first_state?)?;
    let is_echo = packet.transport == Transport::EchoRequest;
    let peer = nat::Peer {
        address: packet.destination,
        port: (!is_echo).then_some(packet.destination_port),
        protocol: packet.protocol,
    };
    let reply = bind::allocate_for_pod(cx, item.hash, pool, peer, over, packet.source)?;
    cx.explain(Step::Bound(act::endpoint(reply.destination, reply.destination_port)));
    let (tick, generation) = (cx.tick, cx.snapshot.generation());
    let found = bind::enter(cx, (original, reply), packet.protocol, state, over, |entry| {
        entry.mode = Mode::Outward as u8;
        entry.generation = generation;
        entry.port = UNSEEN.port;
        entry.seen = tick;
        entry.service = NO_SERVICE;
    })?;
    Ok(Bound::Flow(found))
}

/// A packet of a flow that did not come as a client's or a backend's does: a pod's own flow, or
/// somebody pretends.
#[cold]
#[inline(never)]
pub(super) fn follow<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
) -> Result<Verdict, DropReason> {
    let entry = *A::flows(cx.worker).get(hit.found.index).ok_or(DropReason::NoFlow)?;
    if entry.mode == Mode::Inward as u8 {
        return Err(DropReason::SpoofedSource);
    }
    if !standing::is_known(cx.snapshot, &entry) {
        match standing::look(cx, hit.found, item) {
            Standing::GoesOn => {}
            Standing::Fades => {
                return act::unrefreshed::<A, R>(cx, hit.found, |cx, hit| follow_hairpin(cx, frame, item, hit, &entry));
            }
            Standing::Anew => return act::begin(cx, frame, item, Some(hit.found.index)),
            Standing::Over => return act::begin_again(cx, frame, item, hit.found),
        }
    }
    if entry.mode == Mode::Hairpin as u8 {
        return follow_hairpin(cx, frame, item, hit, &entry);
    }
    match (hit.found.direction, item.way) {
        (Direction::Original, way) if way == Way::Overlay || came_by_plain_route(cx, item) => {
            let to = entry.reply.inverted();
            let (way, _) = act::to_station(cx, to.destination, UNSEEN)?;
            act::finish(cx, frame, item, hit, &to, way)
        }
        (Direction::Reply, Way::Link | Way::Underlay) => {
            let to = entry.original.inverted();
            let hop = A::overlay_hop(cx.snapshot, to.destination).ok_or(DropReason::NoRoute)?;
            let way = act::to_peer(cx.snapshot, hop)?;
            act::finish(cx, frame, item, hit, &to, way)
        }
        _ => Err(DropReason::SpoofedSource),
    }
}

/// A packet between a pod and the backend that a service gave it (RFC 4787 §6): both are inside, and
/// neither sees the other's address. What the flow would remember of a snapshot is looked up each time.
fn follow_hairpin<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
    entry: &Entry<A>,
) -> Result<Verdict, DropReason> {
    // A pod's packets come the way that its first one came.
    let is_pods_way = item.way == if came_tunnelled(entry) { Way::Overlay } else { Way::Underlay };
    match hit.found.direction {
        Direction::Original if is_pods_way => {
            let asked = entry.original;
            let selector =
                cx.snapshot.selector(asked.destination.mapped(), asked.destination_port, Protocol(entry.protocol));
            let (port, station, vlan) = (frame.port().0, item.station, item.vlan);
            if let Some(entry) = A::flows(cx.worker).get_mut(hit.found.index) {
                entry.service = selector.map_or(NO_SERVICE, |selector| selector.service);
                if !came_tunnelled(entry) {
                    (entry.port, entry.link, entry.vlan) = (port, station.0, vlan);
                }
            }
            let to = entry.reply.inverted();
            let hop = A::overlay_hop(cx.snapshot, to.destination).ok_or(DropReason::NoRoute)?;
            let way = act::to_peer(cx.snapshot, hop)?;
            policy::mark(cx, frame, item, selector, way);
            act::finish(cx, frame, item, hit, &to, way)
        }
        Direction::Reply if item.way != Way::Link => {
            let to = entry.original.inverted();
            let way = back_to_pod(cx, entry)?;
            act::finish(cx, frame, item, hit, &to, way)
        }
        _ => Err(DropReason::SpoofedSource),
    }
}

/// Whether the packets of the pod that began this flow come out of VXLAN.
const fn came_tunnelled<A: Address>(entry: &Entry<A>) -> bool {
    entry.port == UNSEEN.port
}

/// The way back to the pod that began a hairpin: the one that it came by, since its node may refuse
/// answers from an address that it has another route to (RFC 3704 §2.2).
pub(super) fn back_to_pod<'s, A: Wire, R: Recorder>(
    cx: &Context<'_, '_, 's, R>,
    entry: &Entry<A>,
) -> Result<Leave<'s>, DropReason> {
    if came_tunnelled(entry) {
        let hop = A::overlay_hop(cx.snapshot, entry.original.source).ok_or(DropReason::NoRoute)?;
        return act::to_peer(cx.snapshot, hop);
    }
    let port = PortId(entry.port);
    let record = cx.snapshot.port(port).ok_or(DropReason::UnknownPort)?;
    Ok(Leave::Station(port, record, Mac(entry.link), entry.vlan))
}
