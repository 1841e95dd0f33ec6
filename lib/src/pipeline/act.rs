//! Third pass: decide what becomes of a packet, then carry it out.

use super::context::{Context, Spares};
use super::decision::Decision;
use super::family::Wire;
use super::follow::{self, Fast};
use super::fragments::{self, Decided};
use super::item::Item;
use super::observe::Observer;
use super::{carry_out, decide};
use crate::flow::{Direction, Found, Mode};
use crate::fragment::{Fate, First};
use crate::frame::Frame;
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::Transport;

/// Forwards a plain packet of a flow at once; anything else is decided first.
#[inline(always)]
pub(super) fn act<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
) -> Result<Verdict, DropReason> {
    match item.packet.transport {
        Transport::Tcp | Transport::Udp if item.packet.fragment.is_none() => {}
        _ => return act_on_rare(cx, frame, item, spares, None),
    }
    let flows = cx.worker.flows.of::<A>();
    let found = flows.lookup_likely(item.likely, item.hash, &item.tuple(), item.packet.protocol);
    let Some(found) = found else { return act_on_rare(cx, frame, item, spares, None) };
    if flows.get(found.index).is_some_and(|entry| entry.mode() != Mode::Inward) {
        return act_on_pods(cx, frame, item, spares, found);
    }
    if let Some(fast) = Fast::of(cx, item, found) {
        match found.direction {
            Direction::Original => {
                if let Some(onward) = follow::fast_to_backend(cx, item, fast) {
                    return carry_out::send_on(cx, frame, item, spares, onward);
                }
            }
            Direction::Reply => {
                if let Some(onward) = follow::fast_to_client(cx, item, fast) {
                    return carry_out::send_on(cx, frame, item, spares, onward);
                }
            }
        }
    }
    act_on_rare(cx, frame, item, spares, Some(found))
}

/// A packet of a flow that a pod began.
#[inline(never)]
fn act_on_pods<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
    found: Found,
) -> Result<Verdict, DropReason> {
    match Fast::of(cx, item, found).and_then(|fast| follow::fast_of_pod(cx, item, fast)) {
        Some(onward) => carry_out::send_on(cx, frame, item, spares, onward),
        None => act_on_rare(cx, frame, item, spares, Some(found)),
    }
}

#[cold]
#[inline(never)]
fn act_on_rare<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
    found: Option<Found>,
) -> Result<Verdict, DropReason> {
    if item.packet.fragment.is_some() {
        return act_on_fragment(cx, frame, item, spares);
    }
    // By reference: it is large, and `?` would copy it.
    match decide::decide(cx, frame, item, found) {
        Ok(ref decision) => carry_out::carry_out(cx, frame, item, spares, decision),
        Err(reason) => Err(reason),
    }
}

/// A fragment that has come in.
fn act_on_fragment<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
) -> Result<Verdict, DropReason> {
    let (index, range) = fragments::open(cx, frame, item)?;
    let decided = fragments::decide(cx, frame, item, spares, (index, range));
    let verdict = carry_out_fragment(cx, frame, item, spares, index, decided);
    cx.worker.fragments.finish(index);
    cx.worker.count_lost_fragments();
    verdict
}

/// A fragment that has waited in its datagram's entry.
///
/// - `fate`: of the datagram; `first`: what its first fragment said.
pub(super) fn act_on_held<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
    (index, fate, first): (u32, Fate, First),
) -> Result<Verdict, DropReason> {
    let decided = fragments::decide_held(cx, frame, item, (index, fate, first));
    carry_out_fragment(cx, frame, item, spares, index, decided)
}

fn carry_out_fragment<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
    index: u32,
    Decided { decision, first }: Decided<'_, A>,
) -> Result<Verdict, DropReason> {
    let is_answered = matches!(decision, Ok(Decision::Answer(_)));
    let verdict = decision.and_then(|decision| carry_out::carry_out(cx, frame, item, spares, &decision));
    if let Some(first) = first {
        let fate = fragments::fate_of(item, is_answered, verdict);
        cx.worker.fragments.decide(index, fate, first, cx.tick);
    }
    verdict
}
