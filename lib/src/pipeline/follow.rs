//! How a packet of a flow goes on: what it is translated to, and its egress. Each kind of flow has two sides, and
//! a packet that comes in on the wrong one has a spoofed source.

use super::context::Context;
use super::decision::{Counted, Decision, FlowChange, Forward, Learnt, Onward, Update};
use super::egress::{self, ClientLink, Egress};
use super::family::Wire;
use super::item::{Ingress, Item};
use super::observe::{Observer, Step};
use super::{policy, revalidate};
use crate::flow::{self, Direction, Entry, Found, Mode, SnapshotIndex, Tuple};
use crate::frame::Frame;
use crate::snapshot::SelectorRecord;
use crate::tunnel::Carrier;
use crate::verdict::DropReason;

/// A packet that changes no more than the state of its flow, which was found under the snapshot in force: the fast
/// path, where [`fast_to_backend`], [`fast_to_client`] or [`fast_of_pod`] has an egress for it.
#[derive(Clone, Copy)]
pub(super) struct Fast {
    pub(super) found: Found,
    state: u8,
}

impl Fast {
    /// `None` for any other packet of the flow.
    #[inline(always)]
    pub(super) fn of<A: Wire, O>(cx: &Context<'_, '_, '_, O>, item: &Item<A>, found: Found) -> Option<Self> {
        let entry = cx.worker.flows.of::<A>().get(found.index)?;
        if entry.is_idle(cx.tick, &cx.snapshot.globals.idle_ticks) || !revalidate::is_known(cx.snapshot, entry) {
            return None;
        }
        let state = flow::step(entry.state, found.direction, item.packet.flags).plain()?;
        Some(Self { found, state })
    }

    #[inline(always)]
    const fn update(self, learnt: Learnt) -> Counted {
        Counted::Flow(Update { requeues: false, learnt, ..Update::to(self.found, self.state) })
    }
}

/// From the client to the backend, by the next hop that the flow remembers.
#[inline(always)]
pub(super) fn fast_to_backend<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    item: &Item<A>,
    fast: Fast,
) -> Option<Onward<'s, A>> {
    let entry = cx.worker.flows.of::<A>().get(fast.found.index)?;
    let hop = cx.snapshot.hop_at(entry.hop).filter(|hop| item.ingress != Ingress::Overlay && hop.is_resolved != 0)?;
    let to = entry.reply.inverted();
    cx.explain(Step::FlowFound(Direction::Original));
    let learnt = Learnt { client: true, ..Learnt::NOTHING };
    Some(Onward { to, egress: Egress::Peer(hop), whole_len: 0, counted: fast.update(learnt) })
}

/// From the backend to the client, by the neighbour that the flow remembers.
#[inline(always)]
pub(super) fn fast_to_client<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    item: &Item<A>,
    fast: Fast,
) -> Option<Onward<'s, A>> {
    let entry = cx.worker.flows.of::<A>().get(fast.found.index)?;
    let neighbour = cx.snapshot.neighbour_at(entry.neighbour).filter(|_| item.ingress != Ingress::Link)?;
    let (to, client) = (entry.original.inverted(), ClientLink::of(entry));
    cx.explain(Step::FlowFound(Direction::Reply));
    let egress = egress::to_neighbour(cx, neighbour, client).ok()?;
    Some(Onward { to, egress, whole_len: 0, counted: fast.update(Learnt::NOTHING) })
}

/// Of a flow that a pod began and whose packets come out of VXLAN, by what the flow remembers of its two sides.
#[inline(always)]
pub(super) fn fast_of_pod<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    item: &Item<A>,
    fast: Fast,
) -> Option<Onward<'s, A>> {
    let (snapshot, direction) = (cx.snapshot, fast.found.direction);
    let entry = cx.worker.flows.of::<A>().get(fast.found.index)?;
    let is_outward = entry.mode == Mode::Outward as u8;
    if !is_outward && !egress::came_tunnelled(entry) {
        return None;
    }
    let to = if direction == Direction::Original { entry.reply.inverted() } else { entry.original.inverted() };
    let egress = match (direction, item.ingress) {
        (Direction::Original, Ingress::Overlay) if is_outward => {
            let neighbour = snapshot.neighbour_at(entry.neighbour)?;
            egress::to_neighbour(cx, neighbour, ClientLink::NONE).ok()?
        }
        (Direction::Reply, Ingress::Link | Ingress::Underlay) if is_outward => {
            egress::over(snapshot.hop_at(entry.hop)?).ok()?
        }
        (Direction::Original, Ingress::Overlay) => egress::over(snapshot.hop_at(entry.hop)?).ok()?,
        (Direction::Reply, Ingress::Underlay | Ingress::Overlay) if !is_outward => {
            egress::over(snapshot.hop_at(entry.neighbour)?).ok()?
        }
        _ => return None,
    };
    cx.explain(Step::FlowFound(direction));
    Some(Onward { to, egress, whole_len: 0, counted: fast.update(Learnt::NOTHING) })
}

/// Any packet of a flow that has its backend and its address still.
pub(super) fn follow<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    update: Update,
) -> Result<Decision<'s, A>, DropReason> {
    let direction = update.found.direction;
    cx.explain(Step::FlowFound(direction));
    let entry = *cx.worker.flows.of::<A>().get(update.found.index).ok_or(DropReason::NoFlow)?;
    let onward = match entry.mode() {
        Mode::Inward => inward(cx, item, &entry, direction),
        Mode::Outward => outward(cx, item, &entry, direction),
        Mode::Hairpin => hairpin(cx, item, &entry, direction),
    }?;
    let FlowEgress { to, egress, selector, learnt } = onward;
    let rewrite = policy::rewrite(cx, frame, item, selector, egress);
    Ok(Decision::Forward(Forward { to, egress, rewrite, flow: FlowChange::Update(Update { learnt, ..update }) }))
}

/// Where a flow's packet goes.
struct FlowEgress<'s, A> {
    to: Tuple<A>,
    egress: Egress<'s>,
    selector: Option<&'s SelectorRecord>,
    learnt: Learnt,
}

/// Between a client and the backend of its service. A flow whose packets are to be marked remembers no next hop, so
/// that all of them come by here.
fn inward<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    item: &Item<A>,
    entry: &Entry<A>,
    direction: Direction,
) -> Result<FlowEgress<'s, A>, DropReason> {
    let snapshot = cx.snapshot;
    let is_known = revalidate::is_known(snapshot, entry);
    let mut learnt = Learnt::NOTHING;
    match (direction, item.ingress) {
        (Direction::Original, Ingress::Link | Ingress::Underlay) => {
            learnt.client = true;
            let to = entry.reply.inverted();
            if let Some(hop) = snapshot.hop_at(entry.hop).filter(|_| is_known) {
                return Ok(FlowEgress { to, egress: egress::over(hop)?, selector: None, learnt });
            }
            let selector = snapshot.selector_of(entry);
            let (egress, next_hop) = egress::to_pod(snapshot, to.destination)?;
            let is_marked = selector.is_some_and(|selector| selector.dscp().is_some());
            let is_remembered = is_known && !is_marked;
            learnt.next_hop = Some(if is_remembered { SnapshotIndex::at(next_hop) } else { SnapshotIndex::NONE });
            Ok(FlowEgress { to, egress, selector, learnt })
        }
        (Direction::Reply, Ingress::Underlay | Ingress::Overlay) => {
            let to = entry.original.inverted();
            let (egress, neighbour) = egress::to_outside(cx, to.destination, ClientLink::of(entry))?;
            learnt.neighbour = is_known.then_some(neighbour);
            Ok(FlowEgress { to, egress, selector: None, learnt })
        }
        _ => Err(DropReason::SpoofedSource),
    }
}

/// Between a pod and somebody outside.
fn outward<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    item: &Item<A>,
    entry: &Entry<A>,
    direction: Direction,
) -> Result<FlowEgress<'s, A>, DropReason> {
    let is_known = revalidate::is_known(cx.snapshot, entry);
    let mut learnt = Learnt::NOTHING;
    let (to, egress) = match (direction, item.ingress) {
        (Direction::Original, ingress) if ingress == Ingress::Overlay || came_by_plain_route(cx, item) => {
            let to = entry.reply.inverted();
            let (egress, neighbour) = egress::to_outside(cx, to.destination, ClientLink::NONE)?;
            learnt.neighbour = is_known.then_some(neighbour);
            (to, egress)
        }
        (Direction::Reply, Ingress::Link | Ingress::Underlay) => {
            let to = entry.original.inverted();
            let (egress, next_hop) = egress::to_pod(cx.snapshot, to.destination)?;
            learnt.next_hop = is_known.then_some(SnapshotIndex::at(next_hop));
            (to, egress)
        }
        _ => return Err(DropReason::SpoofedSource),
    };
    Ok(FlowEgress { to, egress, selector: None, learnt })
}

/// Between a pod and the backend that a service gave it (RFC 4787 §6): both are inside, and neither sees the other's
/// address. In the place of a neighbour the flow remembers the next hop back to the pod.
fn hairpin<'s, A: Wire, O: Observer>(
    cx: &Context<'_, '_, 's, O>,
    item: &Item<A>,
    entry: &Entry<A>,
    direction: Direction,
) -> Result<FlowEgress<'s, A>, DropReason> {
    let is_known = revalidate::is_known(cx.snapshot, entry);
    let is_tunnelled = egress::came_tunnelled(entry);
    // A pod's packets have the ingress that its first one had.
    let pods_ingress = if is_tunnelled { Ingress::Overlay } else { Ingress::Underlay };
    let mut learnt = Learnt::NOTHING;
    match direction {
        Direction::Original if item.ingress == pods_ingress => {
            let selector = cx.snapshot.selector_of(entry);
            let to = entry.reply.inverted();
            let (egress, next_hop) = egress::to_pod(cx.snapshot, to.destination)?;
            learnt.client = !is_tunnelled;
            let is_marked = selector.is_some_and(|selector| selector.dscp().is_some());
            let is_remembered = is_known && !is_marked;
            learnt.next_hop = Some(if is_remembered { SnapshotIndex::at(next_hop) } else { SnapshotIndex::NONE });
            Ok(FlowEgress { to, egress, selector, learnt })
        }
        Direction::Reply if item.ingress != Ingress::Link => {
            let to = entry.original.inverted();
            let egress = if is_tunnelled {
                let (egress, next_hop) = egress::to_pod(cx.snapshot, to.destination)?;
                learnt.neighbour = is_known.then_some(SnapshotIndex::at(next_hop));
                egress
            } else {
                egress::back_to_pod(cx, entry)?
            };
            Ok(FlowEgress { to, egress, selector: None, learnt })
        }
        _ => Err(DropReason::SpoofedSource),
    }
}

/// Whether a packet is a pod's that a peer has sent as it is, and packets to the pod go so, too.
pub(super) fn came_by_plain_route<A: Wire, O>(cx: &Context<'_, '_, '_, O>, item: &Item<A>) -> bool {
    let hop = || cx.snapshot.hop(A::overlay_hop(cx.snapshot, item.packet.source)?);
    item.ingress == Ingress::Underlay && hop().is_some_and(|hop| hop.headers.carrier() == Carrier::Direct)
}
