//! A packet's flow: found or not, still its backend's or not, and what the packet makes of its state.

use super::bind::bind;
use super::context::Context;
use super::decision::{Decision, Update};
use super::family::Wire;
use super::follow::follow;
use super::handshake::Segment;
use super::item::Item;
use super::observe::Observer;
use super::revalidate::{self, Validity};
use super::{admit, stateless};
use crate::flow::{Found, Step, step};
use crate::frame::Frame;
use crate::verdict::DropReason;

/// A TCP segment or UDP datagram, whole or the first fragment of one: of the flow that was found, or of none.
#[inline(always)]
pub(super) fn decide<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    found: Option<Found>,
) -> Result<Decision<'s, A>, DropReason> {
    match found {
        Some(found) => of_flow(cx, frame, item, found),
        None => bind(cx, frame, item, None),
    }
}

#[inline(never)]
fn of_flow<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    found: Found,
) -> Result<Decision<'s, A>, DropReason> {
    let validity = revalidate::check(cx, found, item);
    match validity {
        Validity::Valid | Validity::Doubted => {}
        Validity::Reset => return reset(cx, frame, item, found),
        Validity::Draining => return pass(cx, frame, item, found),
        Validity::Rebind => return bind(cx, frame, item, Some(found.index)),
        Validity::Gone => return bind(cx, frame, item, None),
    }
    let entry = *cx.worker.flows.of::<A>().get(found.index).ok_or(DropReason::NoFlow)?;
    let step = step(entry.state, found.direction, item.packet.flags);
    if let Some(state) = step.plain() {
        return follow(cx, frame, item, Update { requeues: false, ..Update::to(found, state) });
    }
    let segment = Segment::read(frame, item);
    // What the flow expects, once the packet has gone on.
    let mut after = entry;
    let step = match segment {
        Some(segment) if validity == Validity::Doubted => segment.doubted(&mut after, cx.tick),
        Some(segment) => segment.judged(&entry, found.direction, step),
        None => step,
    };
    let update = match step {
        Step::REOPEN => return bind(cx, frame, item, Some(found.index)),
        Step::DELETE => return follow(cx, frame, item, Update { ends: true, ..Update::none(found, entry.state) }),
        Step::IGNORE => Update::none(found, entry.state),
        _ if let Some(state) = step.state() => Update::to(found, state),
        _ => match admit::misfit(item, DropReason::OutOfState) {
            DropReason::OutOfState if stateless::began_without::<A, O>(cx, found) => Update::none(found, entry.state),
            reason => return Err(reason),
        },
    };
    after.state = update.state;
    if let Some(segment) = segment {
        segment.note(&mut after, found.direction);
    }
    follow(cx, frame, item, Update { expected: Some(after.expected), ..update })
}

/// A segment of a connection that is to be reset, as any other has to come in on its own side. The flow stays as it is:
/// whoever wrote the segment, neither end is answered for a shorter time.
fn reset<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    found: Found,
) -> Result<Decision<'s, A>, DropReason> {
    match pass(cx, frame, item, found) {
        Err(DropReason::SpoofedSource) => Err(DropReason::SpoofedSource),
        _ => match admit::misfit(item, DropReason::OutOfState) {
            DropReason::OutOfState => Ok(Decision::Reset),
            reason => Err(reason),
        },
    }
}

/// A packet that goes on and leaves its flow in its state.
pub(super) fn pass_on<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    found: Found,
) -> Result<Decision<'s, A>, DropReason> {
    let state = state_of::<A, O>(cx, found);
    follow(cx, frame, item, Update::to(found, state))
}

/// A packet that goes on and changes nothing about its flow, not even how long it has idled.
pub(super) fn pass<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    found: Found,
) -> Result<Decision<'s, A>, DropReason> {
    let state = state_of::<A, O>(cx, found);
    follow(cx, frame, item, Update::none(found, state))
}

/// The byte of the flow's state.
fn state_of<A: Wire, O>(cx: &Context<'_, '_, '_, O>, found: Found) -> u8 {
    cx.worker.flows.of::<A>().get(found.index).map_or(0, |entry| entry.state)
}
