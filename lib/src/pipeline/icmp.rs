//! What is neither TCP nor UDP: pings of the gateway itself are answered, errors follow the flow that they
//! quote, the rest has a name to be dropped by.

use super::act::{self, Seen};
use super::bind::Bound;
use super::standing::{self, Standing};
use super::{Context, Item, Recorder, Step, Way, Wire, admit, bind, error, parts, place, pods, sctp};
use crate::flow::{Direction, Mode, Tuple};
use crate::frame::Frame;
use crate::net::{Mac, Protocol, WorkerId};
use crate::time::Span;
use crate::verdict::{DropReason, Verdict};
use crate::wire::icmpv4;
use crate::wire::packet::{Packet, Transport};

#[cold]
pub(super) fn act<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    if item.packet.fragment.is_some() {
        return parts::act(cx, frame, item);
    }
    match item.packet.transport {
        Transport::EchoRequest | Transport::EchoReply => echo(cx, frame, item),
        Transport::IcmpError => translate_error(cx, frame, item),
        Transport::Other if item.packet.protocol == Protocol::SCTP => sctp::read(cx, frame, item),
        Transport::Sctp => sctp::act(cx, frame, item),
        Transport::Other => Err(DropReason::UnknownProtocol),
        _ => Err(DropReason::IcmpUnmatched),
    }
}

/// An echo, or the first part of one: for the gateway itself, of a pod's flow, or the beginning of one.
pub(super) fn echo<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    if is_asked(cx, item) {
        return answer(cx, frame, item);
    }
    let tuple = item.tuple();
    let is_request = item.packet.transport == Transport::EchoRequest;
    let found = A::flows(cx.worker).lookup(item.hash, &tuple, item.packet.protocol);
    let found = match found {
        Some(found)
            if act::has_idled(cx.tick, cx.snapshot, A::flows(cx.worker), found.index)
                || standing::look(cx, found, item) == Standing::Over =>
        {
            act::expire::<A, R>(cx, found.index);
            None
        }
        found => found,
    };
    if let Some(found) = found
        && is_request == (found.direction == Direction::Original)
    {
        cx.explain(Step::FlowFound(found.direction));
        let hit = act::hit(A::flows(cx.worker), found, item);
        return act::requeueing::<A, R>(cx, found, |cx| pods::follow(cx, frame, item, hit));
    }
    if is_request && found.is_none() && pods::is_outward(cx, item) {
        return match pods::bind(cx, frame, item, None)? {
            Bound::Flow(found) => {
                let hit = act::hit(A::flows(cx.worker), found, item);
                pods::follow(cx, frame, item, hit)
            }
            Bound::Verdict(verdict) => Ok(verdict),
            // A backend's port has no pings.
            Bound::Placed(_) => Err(DropReason::IcmpUnmatched),
        };
    }
    if is_request
        || !A::masquerade(cx.snapshot).addresses.contains(&item.packet.destination)
        || item.way == Way::Overlay
    {
        return Err(DropReason::IcmpUnmatched);
    }
    let elsewhere = bind::masquerade_elsewhere::<A, R>(cx, item.packet.destination_port);
    elsewhere.ok_or(DropReason::IcmpUnmatched)
}

/// Whether this is an echo request, or the first part of one, that the gateway answers itself: for one of its
/// overlay addresses, for a service's, or from outside for one that stands for pods.
pub(super) fn is_asked<A: Wire, R>(cx: &Context<'_, '_, '_, R>, item: &Item<A>) -> bool {
    let asked = item.packet.destination;
    let stands_for_pods = || A::masquerade(cx.snapshot).addresses.contains(&asked) && item.way != Way::Overlay;
    item.packet.transport == Transport::EchoRequest
        && (A::is_own(cx.snapshot, asked) || A::is_pinged(cx.snapshot, asked) || stands_for_pods())
}

/// Answers a ping of the gateway itself, or a part of one, by the way that it came: operators ping.
pub(super) fn answer<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
) -> Result<Verdict, DropReason> {
    let is_inside = A::is_own(cx.snapshot, item.packet.destination);
    if is_inside && item.way == Way::Link {
        return Err(DropReason::IcmpUnmatched);
    }
    admit::comes_from_pod(cx, item)?;
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    if A::has_source_route(ip) {
        return Err(DropReason::SourceRoute);
    }
    let way = error::way_back(cx, frame, item)?;
    // What came from a link with a larger MTU may not fit through the tunnel again.
    if item.packet.len > way.mtu() {
        return Err(DropReason::TooBig);
    }
    // A ping is one, however many parts it comes in.
    let is_later = item.packet.transport == Transport::LaterFragment;
    let (now, apart) = (cx.worker.now, Span(cx.snapshot.globals.answer_ns.into()));
    let [inside, others] = &mut cx.worker.echoes;
    if !is_later && !(if is_inside { inside } else { others }).take(now, apart) {
        return Err(DropReason::EchoLimit);
    }
    let ip = frame.bytes_mut().get_mut(usize::from(item.at)..).unwrap_or_default();
    A::answer_echo(ip, &item.packet).ok_or(DropReason::Malformed)?;
    cx.worker.counters.echoes_answered.add(u64::from(!is_later));
    cx.explain(Step::Answered);
    act::leave(cx, frame, item, way)
}

/// The worker to look for the flow of a client, of whose answer an error from outside speaks. Where
/// the client's address is kept, or the client is a pod, that names it. Else nothing does: the hash that spread the flow's own
/// packets is the NIC's, and the error has other headers. So it goes round, until one has the flow, as
/// often as errors may be sent; one that tells of an MTU, whatever others there are.
fn outside_elsewhere<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &Frame<'_>,
    error: &Packet<A>,
    request: &Tuple<A>,
    protocol: Protocol,
) -> Option<Verdict> {
    let selector = cx.snapshot.selector(request.destination.mapped(), request.destination_port, protocol)?;
    if selector.keeps_client != 0 || A::overlay_hop(cx.snapshot, request.source).is_some() {
        return bind::endpoint_elsewhere(cx, request.source, request.source_port);
    }
    let (workers, handovers) = (cx.snapshot.globals.workers, frame.handovers());
    let is_last = handovers.saturating_add(1) >= workers;
    let (now, [too_big, others]) = (cx.worker.now, &mut cx.worker.rounds);
    let budget = if A::is_too_big(error.icmp) { too_big } else { others };
    if is_last || handovers == 0 && !budget.take(now) {
        return None;
    }
    Some(Verdict::Handover(WorkerId((cx.worker.id.0 + 1) % workers)))
}

/// Whether a quoted packet can be one of a flow's.
const fn has_flow(transport: Transport) -> bool {
    matches!(
        transport,
        Transport::Tcp | Transport::Udp | Transport::Sctp | Transport::EchoRequest | Transport::EchoReply
    )
}

/// An error about a packet of a flow: both its own addresses and the packet that it quotes become
/// what they are on the other side (RFC 5508 §4.2). It neither refreshes nor ends the flow (REQ-6).
///
/// - From outside, about an answer to the client: to the backend, from the pool address.
/// - From the overlay, about a request: to the client, from the service's address, whichever router
///   reported it.
/// - From outside, about what a pod sent: to the pod, from the router that reported it, so that the
///   pod can trace its way.
/// - From the overlay, about an answer to a pod: to who answered, from the address that stands for
///   the pod.
/// - Between a pod and the backend that a service gave it: as between a client and its backend.
fn translate_error<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    let at = usize::from(item.at);
    let ip = frame.bytes_mut().get_mut(at..).unwrap_or_default();
    // RFC 5508 §4.1, REQ-3 a: what does not sum up is not worth a translation.
    if A::is_intact(ip, &item.packet) != Some(true) || !A::is_told_onward(item.packet.icmp[0]) {
        return Err(DropReason::IcmpUnmatched);
    }
    let quote_at = usize::from(item.packet.transport_offset) + icmpv4::HEADER_LEN;
    let quote = A::quote(ip.get(quote_at..usize::from(item.packet.len)).unwrap_or_default())?;
    if !quote.header_is_intact || !has_flow(quote.transport) {
        return Err(DropReason::IcmpUnmatched);
    }
    let quoted = Tuple {
        source: quote.source,
        destination: quote.destination,
        source_port: quote.source_port,
        destination_port: quote.destination_port,
    };
    let answer = quoted.inverted();
    let flows = A::flows(cx.worker);
    let found = flows.lookup(flows.hash(&answer, quote.protocol), &answer, quote.protocol);
    let found = found.filter(|found| {
        !act::has_idled(cx.tick, cx.snapshot, flows, found.index)
            && flows.get(found.index).is_some_and(|entry| standing::has_address(cx.snapshot, entry))
    });
    let (entry, direction) = if let Some(found) = found {
        (*flows.get(found.index).ok_or(DropReason::IcmpUnmatched)?, found.direction)
    } else {
        let elsewhere = if A::is_own(cx.snapshot, item.packet.destination) {
            act::owner_elsewhere::<A, R>(cx, quote.source_port)
        } else if A::masquerade(cx.snapshot).addresses.contains(&item.packet.destination) {
            bind::masquerade_elsewhere::<A, R>(cx, quote.source_port)
        } else if item.way == Way::Overlay
            || item.way == Way::Underlay && A::overlay_hop(cx.snapshot, answer.source).is_some()
        {
            bind::inside_elsewhere(cx, &answer, quote.protocol, frame.handovers(), false)
        } else {
            outside_elsewhere(cx, frame, &item.packet, &answer, quote.protocol)
        };
        if let Some(elsewhere) = elsewhere {
            return Ok(elsewhere);
        }
        place::place(cx, &answer, quote.protocol, None).ok_or(DropReason::IcmpUnmatched)?.as_entry()
    };
    let (told_at, source, destination, quoted_now) = match direction {
        Direction::Original => (entry.original.destination, entry.reply.destination, entry.reply.source, entry.reply),
        Direction::Reply => {
            (entry.reply.destination, entry.original.destination, entry.original.source, entry.original)
        }
    };
    let is_outward = entry.mode == Mode::Outward as u8;
    let is_hairpin = entry.mode == Mode::Hairpin as u8;
    let to_inside = (direction == Direction::Original) != is_outward;
    let source = if is_outward && to_inside { item.packet.source } else { source };
    let comes_from_its_side = if to_inside && !is_hairpin { item.way != Way::Overlay } else { item.way != Way::Link };
    if item.packet.destination != told_at || !comes_from_its_side {
        return Err(DropReason::IcmpUnmatched);
    }
    let way = if to_inside {
        let hop = A::overlay_hop(cx.snapshot, destination).ok_or(DropReason::NoRoute)?;
        act::to_peer(cx.snapshot, hop)?
    } else if is_hairpin {
        pods::back_to_pod(cx, &entry)?
    } else {
        let seen = Seen { port: entry.port, mac: Mac(entry.link), vlan: entry.vlan };
        act::to_station(cx, destination, seen)?.0
    };
    if item.packet.len > way.mtu() {
        return Err(DropReason::TooBig);
    }
    let ip = frame.bytes_mut().get_mut(at..).unwrap_or_default();
    A::translate_error(ip, &item.packet, &quote, &quoted_now, (source, destination))?;
    cx.worker.counters.errors_translated.add(1);
    act::leave(cx, frame, item, way)
}
