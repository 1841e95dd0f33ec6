//! What is done to packets beyond translating them, where the description asks for it: the maximum
//! segment size is lowered, the differentiated services codepoint set.

use super::context::Context;
use super::decision::Rewrite;
use super::egress::Egress;
use super::family::Wire;
use super::item::{Ingress, Item};
use crate::frame::Frame;
use crate::net::{PortId, Protocol};
use crate::snapshot::SelectorRecord;
use crate::wire::packet::Packet;
use crate::wire::{Dscp, tcp};

/// What is rewritten in a packet that leaves by this egress. A packet that is quoted to its sender stays as it came.
///
/// - `selector`: of the service, where the packet goes to a backend.
pub(super) fn rewrite<A: Wire, O>(
    cx: &Context<'_, '_, '_, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    selector: Option<&SelectorRecord>,
    egress: Egress<'_>,
) -> Rewrite {
    if is_reported(&item.packet, egress.mtu()) {
        return Rewrite::default();
    }
    let tos = item.packet.tos;
    let dscp = selector.and_then(SelectorRecord::dscp).filter(|dscp: &Dscp| dscp.mark(tos) != tos);
    Rewrite { mss: mss(cx, frame.port(), item, egress), dscp, ..Rewrite::default() }
}

/// Whether the packet's sender is told that it goes no further.
const fn is_reported<A>(packet: &Packet<A>, mtu: u16) -> bool {
    packet.ttl <= 1 || packet.len > mtu && packet.dont_fragment
}

/// The most that a handshake's segment may announce as maximum segment size. It says what its sender takes,
/// so both paths count: onward, which shows what the sender would be sent from there, and back.
fn mss<A: Wire, O>(cx: &Context<'_, '_, '_, O>, port: PortId, item: &Item<A>, egress: Egress<'_>) -> Option<u16> {
    let globals = cx.snapshot.globals;
    let is_limited = globals.mss_of_path != 0 || globals.mss_max != u16::MAX;
    let packet = &item.packet;
    let is_handshake = packet.protocol == Protocol::TCP && packet.flags.contains(tcp::Flags::SYN);
    if !is_limited || !is_handshake {
        return None;
    }
    let back = mtu_back(cx, port, item)?;
    let mut most = globals.mss_max;
    if globals.mss_of_path != 0 {
        let headers = A::HEADER_LEN + tcp::HEADER_LEN;
        most = most.min(egress.mtu().min(back).saturating_sub(headers as u16));
    }
    Some(most)
}

/// The MTU of the path back to the packet's sender; `None` where there is none.
fn mtu_back<A: Wire, O>(cx: &Context<'_, '_, '_, O>, port: PortId, item: &Item<A>) -> Option<u16> {
    let (snapshot, source) = (cx.snapshot, item.packet.source);
    let next_hop = A::overlay_hop(snapshot, source).and_then(|index| snapshot.hop(index));
    Some(match (item.ingress, next_hop) {
        (Ingress::Overlay, next_hop) => next_hop?.mtu,
        (Ingress::Underlay, Some(next_hop)) => snapshot.port(port)?.mtu.min(next_hop.mtu),
        // Without a route nothing goes back.
        (Ingress::Link | Ingress::Underlay, _) => {
            let route = A::route(snapshot, source).map_or(u16::MAX, |route| route.link.mtu);
            route.min(snapshot.port(port)?.mtu)
        }
    })
}
