//! What a flow is bound to, under a later snapshot than the one that it was bound under. Its backend may be none of
//! its service's any more, the service may be gone, and the address that stands for its client may be another
//! gateway's.
//!
//! The first packet under another generation asks. A flow that is as it was is not asked about again before the
//! next one; any other is, with each of its packets.

use super::{Context, Item, Wire};
use crate::flow::{Direction, Entry, Found, Mode, NO_SERVICE, State};
use crate::net::Protocol;
use crate::snapshot::{Family, Snapshot};

/// What becomes of a packet of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It goes on.
    GoesOn,
    /// It goes on, and keeps its flow no longer: the answer of a backend that is one no more.
    Fades,
    /// It begins another flow, whose place this one has until then: its backend is one no more. An open TCP
    /// connection does not, since no other backend knows it.
    Anew,
    /// It is of no flow: none can go on from an address that is not the gateway's.
    Over,
}

/// What becomes of this packet of a flow that has not idled too long.
#[cold]
#[inline(never)]
pub(super) fn look<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, found: Found, item: &Item<A>) -> Standing {
    let snapshot = cx.snapshot;
    let Some(entry) = A::flows(cx.worker).get_mut(found.index) else { return Standing::GoesOn };
    if is_known(snapshot, entry) {
        return Standing::GoesOn;
    }
    if !has_address(snapshot, entry) {
        return Standing::Over;
    }
    if has_backend(snapshot, entry) {
        entry.renew(snapshot.generation());
        return Standing::GoesOn;
    }
    let is_tcp = item.packet.protocol == Protocol::TCP;
    let begins = State::first(item.packet.protocol, item.packet.flags).is_some();
    match found.direction {
        Direction::Original if begins || !is_tcp => Standing::Anew,
        Direction::Reply if !is_tcp => Standing::Fades,
        _ => Standing::GoesOn,
    }
}

/// Whether this has been asked under this snapshot, and the flow was found as it was.
#[inline(always)]
pub(super) const fn is_known<A: Wire>(snapshot: &Snapshot<'_>, entry: &Entry<A>) -> bool {
    entry.generation == snapshot.generation()
}

/// Whether what stands for whoever began the flow is an address of the gateway's, or of his own.
pub(super) fn has_address<A: Family>(snapshot: &Snapshot<'_>, entry: &Entry<A>) -> bool {
    let own = entry.reply.destination;
    if entry.mode == Mode::Outward as u8 {
        return A::masquerade(snapshot).addresses.contains(&own);
    }
    own == entry.original.source || A::is_own(snapshot, own)
}

/// Whether the flow's service is there, and has its backend, be it with a weight of zero, which keeps its flows; and
/// there is a node that has its address. Notes the service's number where the flow has none.
fn has_backend<A: Wire>(snapshot: &Snapshot<'_>, entry: &mut Entry<A>) -> bool {
    if entry.mode == Mode::Outward as u8 {
        return true;
    }
    let (asked, backend) = (entry.original, (entry.reply.source, entry.reply.source_port));
    let selector = snapshot.selector(asked.destination.mapped(), asked.destination_port, Protocol(entry.protocol));
    let Some(selector) = selector else { return false };
    if entry.service == NO_SERVICE {
        entry.service = selector.service;
    }
    snapshot.is_backend(selector, backend.0.mapped(), backend.1) && A::overlay_hop(snapshot, backend.0).is_some()
}
