//! Packets that go on without a flow, because none may begin: each by itself, to the backend that
//! the hash gives, and back.
//!
//! That can be undone without state where the client's address and port stay as they are and a backend's
//! endpoint tells which frontend was asked: its service has no other in this family, and the backend is of
//! no other service. All gateways decide alike. (SCTP is never stateless: its tags are checked against its flow's.)
//! What a flow would have done more is not done: a connection without one moves when its backend's slot does, and of
//! TCP it is only asked whether a segment can have its flags.

use super::context::Context;
use super::decision::{Beginning, FlowChange, Forward};
use super::egress::{self, ClientLink};
use super::family::Wire;
use super::item::Item;
use super::observe::{Observer, Step};
use super::policy;
use crate::flow::{Direction, Entry, Found, Mode, State, Tuple};
use crate::frame::Frame;
use crate::net::Protocol;
use crate::snapshot::Snapshot;
use crate::verdict::DropReason;

/// The flow that a packet would have.
#[derive(Clone, Copy)]
pub(super) struct Stateless<A> {
    original: Tuple<A>,
    reply: Tuple<A>,
    direction: Direction,
}

impl<A: Wire> Stateless<A> {
    /// As the flow's entry would be, and the direction of the packet.
    pub(super) fn as_entry(&self) -> (Entry<A>, Direction) {
        let mut entry = A::VACANT;
        (entry.original, entry.reply, entry.port) = (self.original, self.reply, ClientLink::NONE.port);
        (entry, self.direction)
    }
}

/// The flow that a packet with this tuple would have, where it is to go on without one and can.
///
/// - `ended`: a flow with this tuple whose connection is over, if there is one.
/// - Work: two lookups in the snapshot, one in the table.
#[cold]
pub(super) fn find<A: Wire, O>(
    cx: &mut Context<'_, '_, '_, O>,
    tuple: &Tuple<A>,
    protocol: Protocol,
    ended: Option<u32>,
) -> Option<Stateless<A>> {
    let snapshot = cx.snapshot;
    if snapshot.globals.forwards_stateless == 0 || protocol == Protocol::SCTP {
        return None;
    }
    let stateless = request(snapshot, tuple, protocol).or_else(|| answer(snapshot, tuple, protocol))?;
    let client = stateless.original.source;
    if A::overlay_hop(snapshot, client).is_some() || !A::may_send(client) {
        return None;
    }
    // Under another snapshot a flow with one of the tuples may have got another backend.
    let other = if stateless.direction == Direction::Original { &stateless.reply } else { &stateless.original };
    let flows = cx.worker.flows.of::<A>();
    let taken = flows.lookup(flows.hash(other, protocol), other, protocol);
    taken.is_none_or(|found| Some(found.index) == ended).then_some(stateless)
}

/// Whether a flow in which nobody has answered its SYN may be of a connection that is older than
/// itself: its first segments went on without a flow, to the same backend, and the SYN came twice. What
/// does not fit its state goes on then, as it did before there was a flow.
#[cold]
pub(super) fn began_without<A: Wire, O>(cx: &mut Context<'_, '_, '_, O>, found: Found) -> bool {
    let snapshot = cx.snapshot;
    let Some(entry) = cx.worker.flows.of::<A>().get(found.index) else { return false };
    snapshot.globals.forwards_stateless != 0
        && entry.state() == Some(State::TcpSynSent)
        && request(snapshot, &entry.original, Protocol(entry.protocol))
            .is_some_and(|stateless| stateless.reply == entry.reply)
}

/// Of a packet from a client to a service.
fn request<A: Wire>(snapshot: &Snapshot<'_>, original: &Tuple<A>, protocol: Protocol) -> Option<Stateless<A>> {
    let selection = snapshot.select(original, protocol)?;
    if selection.selector.preserves_source == 0 {
        return None;
    }
    let backend = selection.backend()?;
    let (frontend, _) = snapshot.answers_as(backend.address, backend.port, protocol)?;
    if (frontend.address, frontend.port) != (original.destination.mapped(), original.destination_port) {
        return None;
    }
    let reply = Tuple {
        source: A::unmapped(backend.address),
        destination: original.source,
        source_port: backend.port,
        destination_port: original.source_port,
    };
    Some(Stateless { original: *original, reply, direction: Direction::Original })
}

/// Of a packet from a backend to a client.
fn answer<A: Wire>(snapshot: &Snapshot<'_>, reply: &Tuple<A>, protocol: Protocol) -> Option<Stateless<A>> {
    let (frontend, _) = snapshot.answers_as(reply.source.mapped(), reply.source_port, protocol)?;
    let original = Tuple {
        source: reply.destination,
        destination: A::unmapped(frontend.address),
        source_port: reply.destination_port,
        destination_port: frontend.port,
    };
    Some(Stateless { original, reply: *reply, direction: Direction::Reply })
}

/// How the packet goes on without a flow, where it can.
///
/// - `ended`: a flow with the packet's tuple whose connection is over, if there is one. It goes.
#[cold]
pub(super) fn decide<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    ended: Option<u32>,
) -> Option<Result<Forward<'s, A>, DropReason>> {
    let stateless = find(cx, &item.tuple(), item.packet.protocol, ended)?;
    Some(forward(cx, frame, item, &stateless, ended))
}

/// As [`decide`], for a packet whose flow found no room.
pub(super) fn instead_of<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    beginning: &Beginning,
) -> Option<Result<Forward<'s, A>, DropReason>> {
    if beginning.mode == Mode::Outward { None } else { decide(cx, frame, item, beginning.ended) }
}

fn forward<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    stateless: &Stateless<A>,
    ended: Option<u32>,
) -> Result<Forward<'s, A>, DropReason> {
    let Stateless { original, reply, direction } = *stateless;
    cx.explain(Step::Stateless(direction));
    let (to, egress, selector) = match direction {
        Direction::Original => {
            let (egress, _) = egress::to_pod(cx.snapshot, reply.source)?;
            let asked = original.destination.mapped();
            let selector = cx.snapshot.selector(asked, original.destination_port, item.packet.protocol);
            (reply.inverted(), egress, selector)
        }
        Direction::Reply => {
            let to = original.inverted();
            (to, egress::to_outside(cx, to.destination, ClientLink::NONE)?.0, None)
        }
    };
    let rewrite = policy::rewrite(cx, frame, item, selector, egress);
    Ok(Forward { to, egress, rewrite, flow: FlowChange::Stateless { direction, ended } })
}

/// Counts a packet that has gone on.
#[cold]
#[inline(never)]
pub(super) fn count<A: Wire, O>(cx: &Context<'_, '_, '_, O>, item: &Item<A>, direction: Direction) {
    cx.worker.counters.forwarded_stateless.add(1);
    let (packet, bytes) = (&item.packet, u64::from(item.packet.len));
    let selector = match direction {
        Direction::Original => {
            cx.snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol)
        }
        Direction::Reply => cx
            .snapshot
            .answers_as(packet.source.mapped(), packet.source_port, packet.protocol)
            .map(|(_, selector)| selector),
    };
    let service = selector.and_then(|selector| cx.worker.services.get(selector.service as usize));
    if let Some(service) = service {
        match direction {
            Direction::Original => service.original.count(1, bytes),
            Direction::Reply => service.reply.count(1, bytes),
        }
    }
}
