//! What is done to packets beyond translating them, where the description asks for it: the maximum
//! segment size is lowered, the differentiated services codepoint set.

use super::act::Leave;
use super::{Context, Item, Recorder, Step, Way, Wire, pods};
use crate::flow::{Direction, Entry, Found, Mode};
use crate::frame::Frame;
use crate::net::{PortId, Protocol};
use crate::snapshot::SelectorRecord;
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
    // What is to be told of is quoted as it came.
    if !is_limited || !is_handshake || packet.ttl <= 1 {
        return;
    }
    let mut most = globals.mss_max;
    if globals.mss_of_path != 0 {
        let Some(mtu) = mtu_of_path(cx, frame.port(), item, entry, direction) else { return };
        let headers = A::HEADER_LEN + tcp::HEADER_LEN;
        most = most.min(mtu.saturating_sub(headers as u16));
    }
    let segment = usize::from(item.at) + usize::from(packet.transport_offset);
    let end = usize::from(item.at) + usize::from(packet.len);
    if frame.bytes_mut().get_mut(segment..end).is_some_and(|segment| tcp::lower_mss(segment, most)) {
        cx.explain(Step::MssLowered(most));
    }
}

/// The smaller of the two ways' MTUs; `None` where there is no way.
fn mtu_of_path<A: Wire, R: Recorder>(
    cx: &Context<'_, '_, '_, R>,
    port: PortId,
    item: &Item<A>,
    entry: &Entry<A>,
    direction: Direction,
) -> Option<u16> {
    let snapshot = cx.snapshot;
    let overlay = |address: A| A::overlay_hop(snapshot, address).and_then(|hop| snapshot.hop(hop));
    let back = match item.way {
        Way::Overlay => overlay(item.packet.source)?.mtu,
        Way::Link | Way::Underlay => snapshot.port(port)?.mtu,
    };
    let onward = match direction {
        Direction::Reply if entry.mode == Mode::Hairpin as u8 => pods::back_to_pod(cx, entry).ok()?.mtu(),
        direction => {
            let receiver = if direction == Direction::Original { entry.reply.source } else { entry.original.source };
            match overlay(receiver) {
                Some(hop) => hop.mtu,
                None => snapshot.port(PortId(A::route(snapshot, receiver)?.port))?.mtu,
            }
        }
    };
    Some(onward.min(back))
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
    // What is to be told of is quoted as it came.
    let is_told = item.packet.ttl <= 1 || item.packet.len > way.mtu() && item.packet.dont_fragment;
    if is_told || dscp.mark(item.packet.tos) == item.packet.tos {
        return;
    }
    let ip = frame.bytes_mut().get_mut(usize::from(item.at)..).unwrap_or_default();
    if A::set_dscp(ip, dscp).is_some() {
        item.packet.tos = dscp.mark(item.packet.tos);
        cx.explain(Step::Marked(dscp));
    }
}
