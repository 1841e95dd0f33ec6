//! Fragments: the first decides as a whole packet would, the others follow it.
//!
//! Where there are several workers, a fragment reaches whichever has the queue that its addresses hash
//! to, the same for all of one datagram; the flow's owner may be another. The first fragment is then
//! handed over, and what came before it or comes after goes the same way:
//!
//! - A reply's port names the owner.
//! - A client's datagram that has no flow here is handed from worker to worker, each the next one's
//!   number, until one has its flow. When it is back where it began, there is none, and one begins.
//!
//! Frames say how often they were handed over, and none is more often than there are workers, so
//! nothing goes round for ever; frames between two workers keep their order, so no later fragment
//! overtakes its first.

use super::context::{Context, Spares};
use super::decision::{Decision, Forward, Hold};
use super::family::{Wire, is_v4};
use super::item::{Ingress, Item};
use super::observe::Observer;
use super::revalidate::{self, Validity};
use super::{decide, echo, owner, stateless, track};
use crate::flow::{Step, step};
use crate::fragment::{Clash, Extent, Fate, First, Key};
use crate::frame::Frame;
use crate::net::{Protocol, WorkerId};
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::Transport;
use crate::wire::{Fragment, ipv6};

/// As much as every egress takes at a time: the data of a packet of 576 bytes (RFC 791 §3.1).
const DATA_MIN: usize = 512;

/// What becomes of a fragment.
pub(super) struct Decided<'s, A> {
    pub(super) decision: Result<Decision<'s, A>, DropReason>,
    /// Of the first fragment, whose fate is that of all others.
    pub(super) first: Option<First>,
}

impl<'s, A> Decided<'s, A> {
    const fn later(decision: Result<Decision<'s, A>, DropReason>) -> Self {
        Self { decision, first: None }
    }
}

/// The entry of the fragment's datagram, made where there is none, and what of the datagram is in the fragment.
pub(super) fn open<A: Wire, O>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
) -> Result<(u32, Extent), DropReason> {
    let fragment = item.packet.fragment.ok_or(DropReason::Fragment)?;
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    let len = data_len(ip, item).ok_or(DropReason::Malformed)?;
    let index = cx.worker.fragments.open(&key(item, fragment), cx.tick);
    Ok((index, Extent { offset: fragment.offset, len, more: fragment.more }))
}

/// What becomes of a fragment that has come in.
pub(super) fn decide<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &mut Item<A>,
    spares: &Spares<'_, '_>,
    (index, range): (u32, Extent),
) -> Decided<'s, A> {
    let (fate, first) = cx.worker.fragments.get(index);
    if fate == Fate::Refused {
        return Decided::later(Err(DropReason::FragmentRefused));
    }
    // What has been round is noted already, unless it has been forgotten since.
    let workers = cx.snapshot.globals.workers;
    let has_been_round = frame.handovers() >= workers;
    if (fate == Fate::Waiting || !has_been_round)
        && let Err(clash) = cx.worker.fragments.note(index, range, cx.tick)
    {
        return Decided::later(Err(match clash {
            Clash::Repeated => DropReason::FragmentRepeated,
            Clash::Overlap => DropReason::FragmentOverlap,
            Clash::Length => DropReason::FragmentLength,
        }));
    }
    let is_first = range.offset == 0;
    match fate {
        Fate::Waiting if is_first => decide_first(cx, frame, item, index),
        Fate::Asked(_) if is_first && has_been_round => decide_first(cx, frame, item, index),
        Fate::Waiting => Decided::later(Ok(Decision::Hold(Hold::Later(index)))),
        Fate::Headed | Fate::Whole => Decided::later(Ok(Decision::Hold(Hold::Completing(index)))),
        // It may have to be fragmented again, and the burst before it has used up the spare frames.
        Fate::Forwarded if !item.packet.dont_fragment && spares.should_wait_for(spares_needed(frame.len())) => {
            Decided::later(Ok(Decision::Hold(Hold::Later(index))))
        }
        _ => Decided::later(decide_later(cx, frame, item, fate, first)),
    }
}

/// What becomes of a fragment that has waited.
pub(super) fn decide_held<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &mut Item<A>,
    (index, fate, first): (u32, Fate, First),
) -> Decided<'s, A> {
    if fate == Fate::Whole {
        return decide_first(cx, frame, item, index);
    }
    Decided::later(decide_later(cx, frame, item, fate, first))
}

/// Spare frames for a fragment that has waited, and for all that it may be fragmented in.
pub(super) const fn spares_needed(len: usize) -> usize {
    1 + len / DATA_MIN
}

/// The first fragment: what becomes of it becomes of all.
fn decide_first<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &mut Item<A>,
    index: u32,
) -> Decided<'s, A> {
    let first = First {
        source_port: item.packet.source_port,
        destination_port: item.packet.destination_port,
        protocol: item.packet.protocol.0,
        id: cx.worker.next_identification(cx.snapshot.globals.workers),
    };
    if !is_carried(cx, item) {
        return Decided { decision: Err(DropReason::Fragment), first: Some(first) };
    }
    if let Some(next) = next_to_ask(cx, frame, item) {
        cx.worker.fragments.decide(index, Fate::Asked(next.0), first, cx.tick);
        return Decided::later(Ok(Decision::Handover(next)));
    }
    let Some(whole_len) = whole_len(cx, frame, item, index) else {
        return Decided::later(Ok(Decision::Hold(Hold::First(index))));
    };
    let found = cx.worker.flows.of::<A>().lookup(item.hash, &item.tuple(), item.packet.protocol);
    let mut decision = decide::decide(cx, frame, item, found);
    if let Ok(Decision::Forward(Forward { rewrite, .. })) = &mut decision {
        rewrite.whole_len = whole_len;
    }
    Decided { decision: decision.map(|decision| identified(decision, first.id)), first: Some(first) }
}

/// What the verdict on the first fragment makes of its datagram.
pub(super) const fn fate_of<A>(item: &Item<A>, is_answered: bool, verdict: Result<Verdict, DropReason>) -> Fate {
    match verdict {
        // An error of the gateway's own has taken its place.
        Ok(Verdict::Transmit(_)) if item.packet.fragment.is_none() => Fate::Refused,
        Ok(Verdict::Transmit(_)) if is_answered => Fate::Answered,
        Ok(Verdict::Transmit(_)) | Err(DropReason::NoSpare) => Fate::Forwarded,
        Ok(Verdict::Host) => Fate::Host,
        Ok(Verdict::Handover(worker)) => Fate::Handed(worker.0),
        _ => Fate::Refused,
    }
}

/// Gives an IPv4 fragment that goes on its datagram's identification. Other clients' fragments leave from the same
/// address under numbers of their own, so theirs and this one's are replaced by numbers that the gateway keeps
/// apart (RFC 6864 §5.3.1).
fn identified<A>(mut decision: Decision<'_, A>, identification: u16) -> Decision<'_, A> {
    match &mut decision {
        Decision::Forward(forward) => forward.rewrite.identification = Some(identification),
        Decision::Answer(answer) => answer.identification = Some(identification),
        _ => {}
    }
    decision
}

/// Bytes of the whole of an SCTP packet, which its translation takes since its checksum depends on them; 0 of
/// others. `None` where they are not known yet.
fn whole_len<A: Wire, O>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    index: u32,
) -> Option<u16> {
    if item.packet.transport != Transport::Sctp {
        return Some(0);
    }
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    let (total, here) = cx.worker.fragments.total(index).zip(data_len(ip, item))?;
    // Behind the first fragment's fragment header in IPv6 may stand others.
    let headers = here.saturating_sub(item.packet.len - item.packet.transport_offset);
    Some(u16::try_from(total).unwrap_or(u16::MAX).saturating_sub(headers))
}

/// Whether a datagram may come fragmented. VXLAN may not (RFC 7348 §4.3).
fn is_carried<A: Wire, O>(cx: &Context<'_, '_, '_, O>, item: &Item<A>) -> bool {
    let (vtep, has_vtep) = A::vtep(cx.snapshot);
    let packet = &item.packet;
    let is_vxlan = packet.destination_port == cx.snapshot.globals.vxlan_port
        && packet.destination == vtep
        && has_vtep
        && item.ingress != Ingress::Overlay;
    match packet.transport {
        Transport::Udp => !is_vxlan,
        Transport::Tcp | Transport::Sctp | Transport::EchoRequest | Transport::EchoReply => true,
        _ => false,
    }
}

/// The worker to look for a client's flow next; `None` where it is here, or nowhere.
fn next_to_ask<A: Wire, O>(cx: &mut Context<'_, '_, '_, O>, frame: &Frame<'_>, item: &Item<A>) -> Option<WorkerId> {
    let packet = &item.packet;
    let workers = cx.snapshot.globals.workers;
    if workers < 2 || frame.handovers() >= workers || A::is_own(cx.snapshot, packet.destination) {
        return None;
    }
    // A pod names the owner itself.
    if A::overlay_hop(cx.snapshot, packet.source).is_some() {
        return None;
    }
    if has_flow(cx, item) {
        return None;
    }
    let selector = cx.snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol)?;
    // A client whose address is preserved names the owner, so that nobody needs to be asked.
    if selector.preserves_source != 0 {
        return None;
    }
    Some(owner::next(cx))
}

/// Whether the packet's flow is here, and has neither idled too long nor ended.
fn has_flow<A: Wire, O>(cx: &mut Context<'_, '_, '_, O>, item: &Item<A>) -> bool {
    let flows = cx.worker.flows.of::<A>();
    let Some(found) = flows.lookup(item.hash, &item.tuple(), item.packet.protocol) else { return false };
    let is_idle = revalidate::has_idled(cx.tick, cx.snapshot, flows, found.index);
    let state = flows.get(found.index).map_or(0, |entry| entry.state);
    !is_idle && step(state, found.direction, item.packet.flags) != Step::REOPEN
}

/// A later fragment goes where the first went.
fn decide_later<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &mut Item<A>,
    fate: Fate,
    first: First,
) -> Result<Decision<'s, A>, DropReason> {
    match fate {
        Fate::Host => return Ok(Decision::Host),
        Fate::Answered => return Ok(identified(echo::answer(cx, frame, item)?, first.id)),
        Fate::Handed(worker) | Fate::Asked(worker) if frame.handovers() < cx.snapshot.globals.workers => {
            return Ok(Decision::Handover(WorkerId(worker)));
        }
        // The first one has been here.
        Fate::Forwarded if item.packet.transport == Transport::Sctp => return Err(DropReason::FragmentRepeated),
        Fate::Forwarded => {}
        _ => return Err(DropReason::FragmentRefused),
    }
    let packet = &mut item.packet;
    packet.source_port = first.source_port;
    packet.destination_port = first.destination_port;
    packet.protocol = Protocol(first.protocol);
    let tuple = item.tuple();
    let flows = cx.worker.flows.of::<A>();
    item.hash = flows.hash(&tuple, item.packet.protocol);
    let found = flows.lookup(item.hash, &tuple, item.packet.protocol);
    let validity = found.map_or(Validity::Gone, |found| revalidate::check(cx, found, item));
    let decision = match (found, validity) {
        // The first fragment has said what becomes of the flow's state.
        (Some(found), Validity::Valid | Validity::Doubted) => track::pass_on(cx, frame, item, found)?,
        (Some(found), Validity::Draining) => track::pass(cx, frame, item, found)?,
        // What another snapshot has taken from the flow, the first fragment did not know.
        (_, Validity::Rebind | Validity::Reset) => return Err(DropReason::FragmentRefused),
        _ => Decision::Forward(stateless::decide(cx, frame, item, None).ok_or(DropReason::NoFlow)??),
    };
    Ok(identified(decision, first.id))
}

/// What the fragments of this one's datagram have in common.
fn key<A: Wire>(item: &Item<A>, fragment: Fragment) -> Key {
    Key {
        source: item.packet.source.mapped(),
        destination: item.packet.destination.mapped(),
        id: fragment.id,
        protocol: if is_v4::<A>() { item.packet.protocol.0 } else { 0 },
        way: item.ingress as u8,
        reserved: [0; 2],
    }
}

/// Bytes of the datagram's data that are in this fragment.
fn data_len<A: Wire>(ip: &[u8], item: &Item<A>) -> Option<u16> {
    if is_v4::<A>() {
        return item.packet.len.checked_sub(item.packet.transport_offset);
    }
    // Behind a first fragment's fragment header may come others, which count as data (RFC 8200 §4.5).
    let (header, payload) = ipv6::Header::parse(ip).ok()?;
    let found = ipv6::walk(header.next_header(), payload).ok()?.fragment?;
    u16::try_from(payload.len().checked_sub(found.at + ipv6::FRAGMENT_HEADER_LEN)?).ok()
}
