//! What is neither TCP nor UDP: pings for the gateway's overlay addresses are answered, errors follow
//! the flow that they quote, the rest has a name to be dropped by.

use super::act::{self, Leave, Seen};
use super::{Context, Item, Recorder, Step, Way, Wire, bind};
use crate::flow::{Direction, Tuple};
use crate::frame::Frame;
use crate::net::Mac;
use crate::verdict::{DropReason, Verdict};
use crate::wire::icmpv4;
use crate::wire::packet::Transport;

#[cold]
pub(super) fn act<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    if item.packet.fragment.is_some() {
        return Err(DropReason::Fragment);
    }
    match item.packet.transport {
        Transport::EchoRequest if A::is_own(cx.snapshot, item.packet.destination) => answer_echo(cx, frame, item),
        Transport::IcmpError => translate_error(cx, frame, item),
        Transport::Other => Err(DropReason::UnknownProtocol),
        _ => Err(DropReason::IcmpUnmatched),
    }
}

/// Answers a ping from the overlay, whoever's address in the gateway's subnets it is for.
fn answer_echo<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    if item.way == Way::Link || !A::may_send(item.packet.source) {
        return Err(DropReason::IcmpUnmatched);
    }
    let way = match (A::overlay_hop(cx.snapshot, item.packet.source), item.way) {
        (Some(hop), _) => act::to_peer(cx.snapshot, hop)?,
        // A node that is reached by a plain route pings from its own address on the underlay.
        (None, Way::Underlay) => {
            let port = cx.snapshot.port(frame.port()).ok_or(DropReason::UnknownPort)?;
            Leave::Station(frame.port(), port, item.station, item.vlan)
        }
        (None, _) => return Err(DropReason::NoRoute),
    };
    // What came from a link with a larger MTU may not fit through the tunnel again.
    if item.packet.len > way.mtu() {
        return Err(DropReason::TooBig);
    }
    if !cx.worker.echoes.take() {
        return Err(DropReason::ErrorRateLimited);
    }
    let ip = frame.bytes_mut().get_mut(usize::from(item.at)..).unwrap_or_default();
    A::answer_echo(ip, &item.packet).ok_or(DropReason::Malformed)?;
    cx.worker.counters.echoes_answered.add(1);
    cx.explain(Step::Answered);
    act::leave(cx, frame, item, way)
}

/// An error about a packet of a flow: both its own addresses and the packet that it quotes become
/// what they are on the other side (RFC 5508 §4.2). It neither refreshes nor ends the flow (REQ-6).
///
/// - From outside, about an answer to the client: to the backend, from the pool address.
/// - From the overlay, about a request: to the client, from the service's address, whichever router
///   reported it.
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
    if !quote.header_is_intact || !matches!(quote.transport, Transport::Tcp | Transport::Udp) {
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
    let Some(found) = flows.lookup(flows.hash(&answer, quote.protocol), &answer, quote.protocol) else {
        let elsewhere = if A::is_own(cx.snapshot, item.packet.destination) {
            act::owner_elsewhere::<A, R>(cx, quote.source_port)
        } else if item.way == Way::Overlay {
            bind::inside_elsewhere(cx, &answer, quote.protocol)
        } else {
            bind::outside_elsewhere(cx, &answer, quote.protocol)
        };
        return elsewhere.ok_or(DropReason::IcmpUnmatched);
    };
    let entry = *flows.get(found.index).ok_or(DropReason::IcmpUnmatched)?;
    let (told_at, source, destination, quoted_now) = match found.direction {
        Direction::Original => (entry.original.destination, entry.reply.destination, entry.reply.source, entry.reply),
        Direction::Reply => {
            (entry.reply.destination, entry.original.destination, entry.original.source, entry.original)
        }
    };
    let comes_from_its_side = match found.direction {
        Direction::Original => item.way != Way::Overlay,
        Direction::Reply => item.way != Way::Link,
    };
    if item.packet.destination != told_at || !comes_from_its_side {
        return Err(DropReason::IcmpUnmatched);
    }
    let way = match found.direction {
        Direction::Original => {
            let hop = A::overlay_hop(cx.snapshot, entry.reply.source).ok_or(DropReason::NoRoute)?;
            act::to_peer(cx.snapshot, hop)?
        }
        Direction::Reply => {
            let seen = Seen { port: entry.port, mac: Mac(entry.link), vlan: entry.vlan };
            act::to_station(cx, destination, seen)?
        }
    };
    if item.packet.len > way.mtu() {
        return Err(DropReason::TooBig);
    }
    A::translate_error(ip, &item.packet, &quote, &quoted_now, (source, destination))?;
    cx.worker.counters.errors_translated.add(1);
    act::leave(cx, frame, item, way)
}
