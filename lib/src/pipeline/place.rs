//! Packets that go on without a flow, because none may begin: each by itself, to the backend that
//! the hash gives, and back.
//!
//! That can be undone without state where the client's address and port stay as they are and a backend's
//! endpoint tells which frontend was asked: its service has no other in this family, and the backend is of
//! no other service. All gateways place alike. (SCTP is not placed: its tags are checked against its flow's.) What a flow would have done more is not done: a
//! connection placed so moves when its backend's slot does, and of TCP it is only asked whether a segment can
//! have its flags.

use super::act::{self, Hit};
use super::{Context, Item, Recorder, Step, Wire, pods, policy};
use crate::flow::{Direction, Entry, Found, State, Tuple};
use crate::frame::Frame;
use crate::net::Protocol;
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, Verdict};

/// The place of no flow in a table.
const NO_FLOW: u32 = u32::MAX;

/// The flow that a packet would have.
#[derive(Clone, Copy)]
pub(super) struct Placed<A> {
    original: Tuple<A>,
    reply: Tuple<A>,
    direction: Direction,
}

impl<A: Wire> Placed<A> {
    /// As the flow's entry would be, and the direction of the packet.
    pub(super) fn as_entry(&self) -> (Entry<A>, Direction) {
        let mut entry = A::VACANT;
        (entry.original, entry.reply, entry.port) = (self.original, self.reply, pods::UNSEEN.port);
        (entry, self.direction)
    }
}

/// The flow that a packet with this tuple would have, where it is to go on without one and can.
///
/// - `over`: a flow with this tuple whose connection has ended, if there is one.
/// - Work: two lookups in the snapshot, one in the table.
#[cold]
pub(super) fn place<A: Wire, R>(
    cx: &mut Context<'_, '_, '_, R>,
    tuple: &Tuple<A>,
    protocol: Protocol,
    over: Option<u32>,
) -> Option<Placed<A>> {
    let snapshot = cx.snapshot;
    if snapshot.globals.places == 0 || protocol == Protocol::SCTP {
        return None;
    }
    let placed = request(snapshot, tuple, protocol).or_else(|| answer(snapshot, tuple, protocol))?;
    let client = placed.original.source;
    if A::overlay_hop(snapshot, client).is_some() || !A::may_send(client) {
        return None;
    }
    // Under another snapshot a flow with one of the tuples may have got another backend.
    let other = if placed.direction == Direction::Original { &placed.reply } else { &placed.original };
    let flows = A::flows(cx.worker);
    let taken = flows.lookup(flows.hash(other, protocol), other, protocol);
    taken.is_none_or(|found| Some(found.index) == over).then_some(placed)
}

/// Whether a flow in which nobody has answered its SYN may be of a connection that is older than
/// itself: its first segments went on without a flow, to the same backend, and the SYN came twice. What
/// does not fit its state goes on then, as it did before there was a flow.
#[cold]
pub(super) fn began_without<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, found: Found) -> bool {
    let snapshot = cx.snapshot;
    let Some(entry) = A::flows(cx.worker).get(found.index) else { return false };
    snapshot.globals.places != 0
        && entry.state() == Some(State::TcpSynSent)
        && request(snapshot, &entry.original, Protocol(entry.protocol))
            .is_some_and(|placed| placed.reply == entry.reply)
}

/// Of a packet from a client to a service.
fn request<A: Wire>(snapshot: &Snapshot<'_>, original: &Tuple<A>, protocol: Protocol) -> Option<Placed<A>> {
    let selector = snapshot.selector(original.destination.mapped(), original.destination_port, protocol)?;
    if selector.keeps_client == 0 {
        return None;
    }
    let backend = snapshot.select(selector, A::hash(&snapshot.globals.selector, original, protocol))?;
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
    Some(Placed { original: *original, reply, direction: Direction::Original })
}

/// Of a packet from a backend to a client.
fn answer<A: Wire>(snapshot: &Snapshot<'_>, reply: &Tuple<A>, protocol: Protocol) -> Option<Placed<A>> {
    let (frontend, _) = snapshot.answers_as(reply.source.mapped(), reply.source_port, protocol)?;
    let original = Tuple {
        source: reply.destination,
        destination: A::unmapped(frontend.address),
        source_port: reply.destination_port,
        destination_port: frontend.port,
    };
    Some(Placed { original, reply: *reply, direction: Direction::Reply })
}

/// Sends the packet on.
pub(super) fn follow<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    placed: &Placed<A>,
) -> Result<Verdict, DropReason> {
    cx.explain(Step::Placed(placed.direction));
    let (entry, direction) = placed.as_entry();
    policy::lower_mss_of(cx, frame, item, &entry, direction);
    let hit = Hit { found: Found { index: NO_FLOW, direction: placed.direction }, state: 0 };
    let (to, way) = match placed.direction {
        Direction::Original => {
            let snapshot = cx.snapshot;
            let hop = A::overlay_hop(snapshot, placed.reply.source).ok_or(DropReason::NoRoute)?;
            let way = act::to_peer(snapshot, hop)?;
            let asked = placed.original;
            let selector = snapshot.selector(asked.destination.mapped(), asked.destination_port, item.packet.protocol);
            policy::mark(cx, frame, item, selector, way);
            (placed.reply.inverted(), way)
        }
        Direction::Reply => {
            let to = placed.original.inverted();
            (to, act::to_station(cx, to.destination, pods::UNSEEN)?.0)
        }
    };
    act::finish(cx, frame, item, hit, &to, way)
}

/// Counts a packet that has gone on.
#[cold]
#[inline(never)]
pub(super) fn count<A: Wire, R>(cx: &Context<'_, '_, '_, R>, item: &Item<A>, direction: Direction) {
    cx.worker.counters.placed_without_state.add(1);
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
