//! What is done to packets beyond translating them, where the description asks for it: the maximum
//! segment size is lowered, the differentiated services codepoint set.

use super::act::Leave;
use super::{Context, Item, Recorder, Step, Way, Wire, pods};
use crate::flow::{Direction, Entry, Found, Mode};
use crate::frame::Frame;
use crate::net::{PortId, Protocol};
use crate::snapshot::SelectorRecord;
use crate::wire::packet::Packet;
use crate::wire::tcp;

/// Lowers the maximum segment size that a handshake's segment announces. It tells what its sender takes,
/// so both ways count: the way on, which shows what the sender would be sent from there, and the way back.
#[cold]
#[inline(never)]
pub(super) fn lower_mss<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    found: Found,
) {
    if let Some(entry) = A::flows(cx.worker).get(found.index).copied() {
        lower_mss_of(cx, frame, item, &entry, found.direction);
    }
}

/// As [`lower_mss`], where this is the flow.
pub(super) fn lower_mss_of<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    entry: &Entry<A>,
    direction: Direction,
) {
    let globals = cx.snapshot.globals;
    let is_limited = globals.mss_of_path != 0 || globals.mss_max != u16::MAX;
    let packet = &item.packet;
    let is_handshake = packet.protocol == Protocol::TCP && packet.flags.contains(tcp::Flags::SYN);
    if !is_limited || !is_handshake {
        return;
    }
    let Some([onward, back]) = mtus_of_path(cx, frame.port(), item, entry, direction) else { return };
    if is_told_of(packet, onward) {
        return;
    }
    let mut most = globals.mss_max;
    if globals.mss_of_path != 0 {
        let headers = A::HEADER_LEN + tcp::HEADER_LEN;
        most = most.min(onward.min(back).saturating_sub(headers as u16));
    }
    let segment = usize::from(item.at) + usize::from(packet.transport_offset);
    let end = usize::from(item.at) + usize::from(packet.len);
    if frame.bytes_mut().get_mut(segment..end).is_some_and(|segment| tcp::lower_mss(segment, most)) {
        cx.explain(Step::MssLowered(most));
    }
}

/// Whether the packet's sender will be told that it goes no further: then it is quoted, as it came.
const fn is_told_of<A>(packet: &Packet<A>, onward: u16) -> bool {
    packet.ttl <= 1 || packet.len > onward && packet.dont_fragment
}

/// The MTUs of the way onward and of the way back; `None` where there is none.
fn mtus_of_path<A: Wire, R: Recorder>(
    cx: &Context<'_, '_, '_, R>,
    port: PortId,
    item: &Item<A>,
    entry: &Entry<A>,
    direction: Direction,
) -> Option<[u16; 2]> {
    let snapshot = cx.snapshot;
    let overlay = |address: A| A::overlay_hop(snapshot, address).and_then(|hop| snapshot.hop(hop));
    let to_client = |address: A| {
        let route = A::route(snapshot, address)?;
        Some(route.link.mtu)
    };
    let back = match (item.way, overlay(item.packet.source)) {
        (Way::Overlay, hop) => hop?.mtu,
        (Way::Underlay, Some(hop)) => snapshot.port(port)?.mtu.min(hop.mtu),
        // Without a route nothing goes back.
        (Way::Link | Way::Underlay, _) => {
            to_client(item.packet.source).unwrap_or(u16::MAX).min(snapshot.port(port)?.mtu)
        }
    };
    let onward = match direction {
        Direction::Reply if entry.mode == Mode::Hairpin as u8 => pods::back_to_pod(cx, entry).ok()?.mtu(),
        direction => {
            let receiver = if direction == Direction::Original { entry.reply.source } else { entry.original.source };
            match overlay(receiver) {
                Some(hop) => hop.mtu,
                None => to_client(receiver)?,
            }
        }
    };
    Some([onward, back])
}

/// Sets the codepoint that a service's packets towards backends shall have.
pub(super) fn mark<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    selector: Option<&SelectorRecord>,
    way: Leave<'_>,
) {
    let Some(dscp) = selector.and_then(SelectorRecord::dscp) else { return };
    if is_told_of(&item.packet, way.mtu()) || dscp.mark(item.packet.tos) == item.packet.tos {
        return;
    }
    let ip = frame.bytes_mut().get_mut(usize::from(item.at)..).unwrap_or_default();
    if A::set_dscp(ip, dscp).is_some() {
        item.packet.tos = dscp.mark(item.packet.tos);
        cx.explain(Step::Marked(dscp));
    }
}
