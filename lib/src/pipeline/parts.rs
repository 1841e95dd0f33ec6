//! Parts of datagrams: the first decides as a whole packet would, the others follow it.
//!
//! Where there are several workers, a part reaches whichever has the queue that its addresses hash
//! to, the same for all of one datagram; the flow's owner may be another. The first part is then
//! handed over, and what came before it or comes after goes the same way:
//!
//! - A reply's port names the owner.
//! - A client's datagram that has no flow here is handed from worker to worker, each the next one's
//!   number, until one has its flow. When it is back where it began, there is none, and one begins.
//!
//! Frames say how often they were handed over, and none is more often than there are workers, so
//! nothing goes round for ever; frames between two workers keep their order, so no later part
//! overtakes its first.

use super::standing::{self, Standing};
use super::{Context, Item, Recorder, Sorted, Spares, Step, Way, Wire, act, conclude, cut, icmp, place, sctp, sort};
use crate::fragment::{Clash, Fate, First, Key, Part};
use crate::frame::Frame;
use crate::net::{Protocol, WorkerId};
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet::EtherType;
use crate::wire::packet::Transport;
use crate::wire::{Fragment, ipv4, ipv6};

/// As much as every way takes at a time: the data of a packet of 576 bytes (RFC 791 §3.1).
const PIECE_MIN: usize = 512;

/// A part that has come in.
#[cold]
pub(super) fn act<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    let fragment = item.packet.fragment.ok_or(DropReason::Fragment)?;
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    let len = data_len(ip, item).ok_or(DropReason::Malformed)?;
    let index = cx.worker.fragments.open(&key(item, fragment), cx.tick);
    let verdict = take_in(cx, frame, item, index, Part { offset: fragment.offset, len, more: fragment.more });
    cx.worker.fragments.finish(index);
    cx.worker.count_lost_parts();
    verdict
}

fn take_in<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    index: u32,
    part: Part,
) -> Result<Verdict, DropReason> {
    let (fate, first) = cx.worker.fragments.get(index);
    if fate == Fate::Refused {
        return Err(DropReason::FragmentRefused);
    }
    // What has been round is noted already, unless it has been forgotten since.
    let workers = cx.snapshot.globals.workers;
    let has_been_round = workers > 1 && frame.handovers() >= workers;
    if fate == Fate::Waiting || !has_been_round {
        cx.worker.fragments.note(index, part, cx.tick).map_err(|clash| match clash {
            Clash::Repeated => DropReason::FragmentRepeated,
            Clash::Overlap => DropReason::FragmentOverlap,
            Clash::Length => DropReason::FragmentLength,
        })?;
    }
    match fate {
        Fate::Waiting if part.offset == 0 => begin(cx, frame, item, index),
        Fate::Asked(_) if part.offset == 0 && has_been_round => begin(cx, frame, item, index),
        Fate::Waiting => hold(cx, frame, index),
        Fate::Headed | Fate::Whole => {
            let verdict = hold(cx, frame, index);
            cx.worker.fragments.complete(index, cx.tick);
            verdict
        }
        // It may have to be cut, and the burst before it has used up the spare frames.
        Fate::Forwarded if !item.packet.dont_fragment && cx.spares_left < spares_needed(frame.len()) => {
            hold(cx, frame, index)
        }
        _ => follow(cx, frame, item, fate, first),
    }
}

/// The part waits: for the first one, or for spare frames.
fn hold<R: Recorder>(cx: &mut Context<'_, '_, '_, R>, frame: &Frame<'_>, index: u32) -> Result<Verdict, DropReason> {
    cx.explain(Step::Held);
    let is_held = cx.worker.fragments.hold(index, frame.bytes(), frame.port(), frame.handovers());
    if is_held { Ok(Verdict::Held) } else { Err(DropReason::FragmentDisplaced) }
}

/// Spare frames for a part that has waited, and for all the pieces that it may be cut in.
const fn spares_needed(len: usize) -> usize {
    1 + len / PIECE_MIN
}

/// The first part: what becomes of it becomes of all.
fn begin<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    index: u32,
) -> Result<Verdict, DropReason> {
    let first = First {
        source_port: item.packet.source_port,
        destination_port: item.packet.destination_port,
        protocol: item.packet.protocol.0,
        id: cx.worker.next_part_number(cx.snapshot.globals.workers),
    };
    let is_asked = icmp::is_asked(cx, item);
    let verdict = if !is_carried(cx, item) {
        Err(DropReason::Fragment)
    } else if let Some(next) = next_to_ask(cx, frame, item) {
        cx.worker.fragments.decide(index, Fate::Asked(next.0), first, cx.tick);
        return Ok(Verdict::Handover(next));
    } else if !knows_its_whole(cx, frame, item, index) {
        cx.explain(Step::Held);
        let is_held = cx.worker.fragments.hold_first(index, frame.bytes(), frame.port(), frame.handovers());
        return if is_held { Ok(Verdict::Held) } else { Err(DropReason::FragmentDisplaced) };
    } else {
        let old = renumber(frame, item, first.id);
        let verdict = match item.packet.transport {
            Transport::Sctp => sctp::act(cx, frame, item),
            Transport::EchoRequest | Transport::EchoReply => icmp::echo(cx, frame, item),
            _ => act::carry(cx, frame, item),
        };
        if let (Ok(Verdict::Handover(_) | Verdict::Host), Some(old)) = (verdict, old) {
            // It leaves here as it came.
            renumber_exactly(frame, item, old);
        }
        verdict
    };
    let fate = match verdict {
        // An error of the gateway's own has taken its place.
        Ok(Verdict::Transmit(_)) if item.packet.fragment.is_none() => Fate::Refused,
        Ok(Verdict::Transmit(_)) if is_asked => Fate::Answered,
        Ok(Verdict::Transmit(_)) => Fate::Forwarded,
        Ok(Verdict::Host) => Fate::Host,
        Ok(Verdict::Handover(worker)) => Fate::Handed(worker.0),
        Err(_) if cx.cut.is_some() => Fate::Forwarded,
        _ => Fate::Refused,
    };
    cx.worker.fragments.decide(index, fate, first, cx.tick);
    verdict
}

/// Whether the first part has all that its translation takes: of an SCTP packet the length of the whole,
/// on which its checksum depends.
fn knows_its_whole<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, frame: &Frame<'_>, item: &Item<A>, index: u32) -> bool {
    if item.packet.transport != Transport::Sctp {
        return true;
    }
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    let Some((total, here)) = cx.worker.fragments.total(index).zip(data_len(ip, item)) else { return false };
    // Behind the first part's fragment header in IPv6 may stand others.
    let headers = here.saturating_sub(item.packet.len - item.packet.transport_offset);
    cx.whole_len = u16::try_from(total).unwrap_or(u16::MAX).saturating_sub(headers);
    true
}

/// Whether a datagram may come in parts. VXLAN may not (RFC 7348 §4.3).
fn is_carried<A: Wire, R>(cx: &Context<'_, '_, '_, R>, item: &Item<A>) -> bool {
    let (vtep, has_vtep) = A::vtep(cx.snapshot);
    let packet = &item.packet;
    let is_vxlan = packet.destination_port == cx.snapshot.globals.vxlan_port
        && packet.destination == vtep
        && has_vtep
        && item.way != Way::Overlay;
    match packet.transport {
        Transport::Udp => !is_vxlan,
        Transport::Tcp | Transport::Sctp | Transport::EchoRequest | Transport::EchoReply => true,
        _ => false,
    }
}

/// The worker to look for a client's flow next; `None` where it is here, or nowhere.
fn next_to_ask<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, frame: &Frame<'_>, item: &Item<A>) -> Option<WorkerId> {
    let packet = &item.packet;
    let workers = cx.snapshot.globals.workers;
    if workers < 2 || frame.handovers() >= workers || A::is_own(cx.snapshot, packet.destination) {
        return None;
    }
    // A pod names the owner itself.
    if A::overlay_hop(cx.snapshot, packet.source).is_some() {
        return None;
    }
    let found = A::flows(cx.worker).lookup(item.hash, &item.tuple(), packet.protocol);
    if found.is_some_and(|found| !act::is_over(cx, found, item)) {
        return None;
    }
    let selector = cx.snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol)?;
    // A client whose address is kept names the owner, so that nobody needs to be asked.
    if selector.keeps_client != 0 {
        return None;
    }
    Some(WorkerId((cx.worker.id.0 + 1) % workers))
}

/// A later part goes where the first went.
fn follow<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    fate: Fate,
    first: First,
) -> Result<Verdict, DropReason> {
    match fate {
        Fate::Host => return Ok(Verdict::Host),
        Fate::Answered => {
            renumber(frame, item, first.id);
            return icmp::answer(cx, frame, item);
        }
        Fate::Handed(worker) | Fate::Asked(worker) if frame.handovers() < cx.snapshot.globals.workers => {
            return Ok(Verdict::Handover(WorkerId(worker)));
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
    let flows = A::flows(cx.worker);
    item.hash = flows.hash(&tuple, item.packet.protocol);
    match flows.lookup(item.hash, &tuple, item.packet.protocol) {
        Some(found) if !act::has_idled(cx.tick, cx.snapshot, flows, found.index) => {
            // What another snapshot has taken from the flow, the first part did not know.
            if matches!(standing::look(cx, found, item), Standing::Anew | Standing::Over) {
                return Err(DropReason::FragmentRefused);
            }
            // The first part has said what becomes of the flow's state.
            let hit = act::unchanged(A::flows(cx.worker), found);
            renumber(frame, item, first.id);
            act::follow(cx, frame, item, hit)
        }
        _ => {
            let placed = place::place(cx, &tuple, item.packet.protocol, None).ok_or(DropReason::NoFlow)?;
            renumber(frame, item, first.id);
            place::follow(cx, frame, item, &placed)
        }
    }
}

/// Sends parts that have waited and whose first one has come, as far as there are spare frames.
#[cold]
pub(super) fn release<R: Recorder>(cx: &mut Context<'_, '_, '_, R>, spares: &mut Spares<'_, '_>) {
    while let Some(len) = cx.worker.fragments.next_len() {
        // It may have to be cut. Where not even the first one finds as many, that is a drop.
        if spares.frames.len() < spares_needed(len) && spares.taken != 0 {
            break;
        }
        let Some(spare) = spares.frames.first_mut() else { break };
        let released = cx.worker.fragments.release(|held| {
            let fits = spare.refill(held.frame, held.port, held.handovers);
            (fits, held.index, held.fate, held.first)
        });
        let Some((fits, index, fate, first)) = released else { break };
        let Some((spare, number)) = spares.take() else { break };
        cx.frame_index = number;
        let mut item = Sorted::Decided(Verdict::Drop(DropReason::NoRoom));
        let sorted = if fits { sort::sort(cx.worker, cx.snapshot, spare, &mut item) } else { Ok(()) };
        let verdict = match (sorted, &mut item) {
            (Err(reason), _) => Err(reason),
            (_, Sorted::V4(item)) if fate == Fate::Whole => begin(cx, spare, item, index),
            (_, Sorted::V6(item)) if fate == Fate::Whole => begin(cx, spare, item, index),
            (_, Sorted::V4(item)) => follow(cx, spare, item, fate, first),
            (_, Sorted::V6(item)) => follow(cx, spare, item, fate, first),
            (_, Sorted::Decided(verdict)) => Ok(*verdict),
        };
        let verdict = verdict.unwrap_or_else(|reason| cut::or_drop(cx, spare, &item, reason, spares));
        conclude(cx, spare, verdict);
    }
    cx.worker.count_lost_parts();
}

/// What the parts of this one's datagram have in common.
fn key<A: Wire>(item: &Item<A>, fragment: Fragment) -> Key {
    Key {
        source: item.packet.source.mapped(),
        destination: item.packet.destination.mapped(),
        id: fragment.id,
        protocol: if is_v4::<A>() { item.packet.protocol.0 } else { 0 },
        way: item.way as u8,
        reserved: [0; 2],
    }
}

/// Bytes of the datagram's data that are in this part.
fn data_len<A: Wire>(ip: &[u8], item: &Item<A>) -> Option<u16> {
    if is_v4::<A>() {
        return item.packet.len.checked_sub(item.packet.transport_offset);
    }
    // Behind a first part's fragment header may come others, which count as data (RFC 8200 §4.5).
    let (header, payload) = ipv6::Header::parse(ip).ok()?;
    let found = ipv6::walk(header.next_header(), payload).ok()?.fragment?;
    u16::try_from(payload.len().checked_sub(found.at + ipv6::FRAGMENT_HEADER_LEN)?).ok()
}

const fn is_v4<A: Wire>() -> bool {
    A::ETHERTYPE.0 == EtherType::IPV4.0
}

/// Gives an IPv4 part its datagram's number, and tells what stood in the header before. Other clients'
/// parts leave from the same address under numbers of their own, so theirs and this one's are
/// replaced by numbers that the gateway keeps apart (RFC 6864 §5.3.1). Those of IPv6 have 32 bits and
/// are random (RFC 7739).
fn renumber<A: Wire>(frame: &mut Frame<'_>, item: &Item<A>, id: u16) -> Option<[u8; ipv4::HEADER_LEN]> {
    if !is_v4::<A>() {
        return None;
    }
    let ip = frame.bytes_mut().get_mut(usize::from(item.at)..)?;
    let old = *ip.first_chunk()?;
    ipv4::HeaderMut::at_front(ip)?.set_id(id);
    Some(old)
}

/// Puts back what [`renumber`] has changed.
fn renumber_exactly<A: Wire>(frame: &mut Frame<'_>, item: &Item<A>, old: [u8; ipv4::HEADER_LEN]) {
    let ip = frame.bytes_mut().get_mut(usize::from(item.at)..).unwrap_or_default();
    if let Some(place) = ip.first_chunk_mut() {
        *place = old;
    }
}
