//! Somebody's ICMP errors about packets of flows: they follow the flow that they quote.

use super::context::Context;
use super::decision::{Decision, ForwardError};
use super::egress::{self, ClientLink};
use super::family::Wire;
use super::item::{Ingress, Item};
use super::observe::Observer;
use super::{owner, revalidate, stateless};
use crate::flow::{Direction, Mode, Tuple};
use crate::frame::Frame;
use crate::verdict::DropReason;
use crate::wire::icmpv4;
use crate::wire::packet::Transport;

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
pub(super) fn decide<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
) -> Result<Decision<'s, A>, DropReason> {
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    // RFC 5508 §4.1, REQ-3 a: what does not sum up is not worth a translation.
    if A::is_intact(ip, &item.packet) != Some(true) || !A::is_translatable(item.packet.icmp[0]) {
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
    let flows = cx.worker.flows.of::<A>();
    let found = flows.lookup(flows.hash(&answer, quote.protocol), &answer, quote.protocol);
    let found = found.filter(|found| {
        !revalidate::has_idled(cx.tick, cx.snapshot, flows, found.index)
            && flows.get(found.index).is_some_and(|entry| cx.snapshot.has_address(entry))
    });
    let (entry, direction) = if let Some(found) = found {
        (*flows.get(found.index).ok_or(DropReason::IcmpUnmatched)?, found.direction)
    } else {
        let elsewhere = if A::is_own(cx.snapshot, item.packet.destination) {
            owner::of_pool::<A, O>(cx, quote.source_port)
        } else if A::masquerade(cx.snapshot).addresses.contains(&item.packet.destination) {
            owner::of_masquerade::<A, O>(cx, quote.source_port)
        } else if item.ingress == Ingress::Overlay
            || item.ingress == Ingress::Underlay && A::overlay_hop(cx.snapshot, answer.source).is_some()
        {
            owner::of_pods_packet(cx, &answer, quote.protocol, frame.handovers(), false)
        } else {
            owner::of_clients_error(cx, frame, &item.packet, &answer, quote.protocol)
        };
        if let Some(elsewhere) = elsewhere {
            return Ok(Decision::Handover(elsewhere));
        }
        stateless::find(cx, &answer, quote.protocol, None).ok_or(DropReason::IcmpUnmatched)?.as_entry()
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
    let comes_from_its_side =
        if to_inside && !is_hairpin { item.ingress != Ingress::Overlay } else { item.ingress != Ingress::Link };
    if item.packet.destination != told_at || !comes_from_its_side {
        return Err(DropReason::IcmpUnmatched);
    }
    let egress = if to_inside {
        egress::to_pod(cx.snapshot, destination)?.0
    } else if is_hairpin {
        egress::back_to_pod(cx, &entry)?
    } else {
        egress::to_outside(cx, destination, ClientLink::of(&entry))?.0
    };
    if item.packet.len > egress.mtu() {
        return Err(DropReason::TooBig);
    }
    Ok(Decision::ForwardError(ForwardError { quote, quoted: quoted_now, source, destination, egress }))
}
