//! What a flow is bound to, under a later snapshot than the one that it was bound under. Its backend may be none of
//! its service's any more, the service may be gone, and the address that stands for its client may be another
//! gateway's.
//!
//! The first packet under another generation asks. A flow that is as it was is not asked about again before the
//! next one; any other is, with each of its packets.

use super::context::Context;
use super::family::Wire;
use super::item::Item;
use super::observe::Observer;
use crate::flow::{Direction, Entry, FlowEnd, Found, Mode, NO_SERVICE, State, Table};
use crate::net::Protocol;
use crate::snapshot::Snapshot;
use crate::wire::tcp::Flags;

/// What becomes of a packet of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Validity {
    /// It goes on.
    Valid,
    /// It goes on, and keeps its flow no longer: the answer of a backend that was removed.
    Draining,
    /// It begins another flow, whose place this one has until then: its backend was removed. An open TCP
    /// connection does not, since no other backend knows it.
    Rebind,
    /// It is of an open TCP connection whose backend was removed, and whose service has such connections reset.
    Reset,
    /// It may begin another flow in the place of an open TCP connection, and anybody may have written it: see
    /// `handshake`.
    Doubted,
    /// It is of no flow: none goes on that has idled too long, or from an address that is not the gateway's.
    Gone,
}

/// What becomes of this packet of a flow. One that has idled too long, before ageing comes round to it, or cannot go
/// on is forgotten.
pub(super) fn check<A: Wire, O: Observer>(cx: &mut Context<'_, '_, '_, O>, found: Found, item: &Item<A>) -> Validity {
    let is_idle = has_idled(cx.tick, cx.snapshot, cx.worker.flows.of::<A>(), found.index);
    let validity = if is_idle { Validity::Gone } else { look(cx, found, item) };
    if validity == Validity::Gone {
        cx.end_flow::<A>(found.index, if is_idle { FlowEnd::Expired } else { FlowEnd::AddressGone });
    }
    validity
}

/// Whether the flow at this index has idled too long.
pub(super) fn has_idled<A: Wire>(tick: u32, snapshot: &Snapshot<'_>, flows: &Table<'_, A>, index: u32) -> bool {
    flows.get(index).is_none_or(|entry| entry.is_idle(tick, &snapshot.globals.idle_ticks))
}

#[cold]
#[inline(never)]
fn look<A: Wire, O>(cx: &mut Context<'_, '_, '_, O>, found: Found, item: &Item<A>) -> Validity {
    let snapshot = cx.snapshot;
    let Some(entry) = cx.worker.flows.of_mut::<A>().get_mut(found.index) else { return Validity::Valid };
    if is_known(snapshot, entry) {
        return Validity::Valid;
    }
    if !snapshot.has_address(entry) {
        return Validity::Gone;
    }
    if has_backend(snapshot, entry) {
        entry.renew(snapshot.generation());
        return Validity::Valid;
    }
    let is_tcp = item.packet.protocol == Protocol::TCP;
    let begins = State::first(item.packet.protocol, item.packet.flags).is_some();
    let is_open =
        is_tcp && entry.is_assured() && !matches!(entry.state(), Some(State::TcpLastAck | State::TcpTimeWait));
    match found.direction {
        Direction::Original if begins && is_open => Validity::Doubted,
        _ if is_open
            && !item.packet.flags.contains(Flags::RST)
            && snapshot.selector_of(entry).is_some_and(|selector| selector.resets != 0) =>
        {
            Validity::Reset
        }
        Direction::Original if begins || !is_tcp => Validity::Rebind,
        Direction::Reply if !is_tcp => Validity::Draining,
        _ => Validity::Valid,
    }
}

/// Whether the flow was looked at under this snapshot, and nothing of it has changed.
#[inline(always)]
pub(super) const fn is_known<A: Wire>(snapshot: &Snapshot<'_>, entry: &Entry<A>) -> bool {
    entry.generation == snapshot.generation()
}

/// Whether the flow's service is there, and has its backend, be it with a weight of zero, which keeps its flows; and
/// there is a node that has its address. Notes the number of the service that has its frontend now, if one has.
fn has_backend<A: Wire>(snapshot: &Snapshot<'_>, entry: &mut Entry<A>) -> bool {
    if entry.mode == Mode::Outward as u8 {
        return true;
    }
    let backend = (entry.reply.source, entry.reply.source_port);
    let selector = snapshot.selector_of(entry);
    entry.service = selector.map_or(NO_SERVICE, |selector| selector.service);
    let Some(selector) = selector else { return false };
    snapshot.is_backend(selector, backend.0.mapped(), backend.1) && A::overlay_hop(snapshot, backend.0).is_some()
}
