//! Off the fast path: who decides, by what the packet is.

use super::context::Context;
use super::decision::Decision;
use super::family::Wire;
use super::item::Item;
use super::observe::Observer;
use super::{echo, icmp_error, sctp, track};
use crate::flow::Found;
use crate::frame::Frame;
use crate::verdict::DropReason;
use crate::wire::packet::Transport;

/// What becomes of a packet, or of the first fragment of one.
///
/// - `found`: the flow of a packet with ports, where there is one.
#[inline(always)]
pub(super) fn decide<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    found: Option<Found>,
) -> Result<Decision<'s, A>, DropReason> {
    match item.packet.transport {
        Transport::Tcp | Transport::Udp => track::decide(cx, frame, item, found),
        Transport::Sctp => sctp::decide(cx, frame, item),
        Transport::EchoRequest | Transport::EchoReply => echo::decide(cx, frame, item),
        Transport::IcmpError => icmp_error::decide(cx, frame, item),
        Transport::Other => Err(DropReason::UnknownProtocol),
        _ => Err(DropReason::IcmpUnmatched),
    }
}
