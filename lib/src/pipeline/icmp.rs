//! What is neither TCP nor UDP: pings for the gateway's overlay addresses are answered, the rest
//! has a name to be dropped by.

use super::act;
use super::{Context, Item, Recorder, Step, Way, Wire};
use crate::frame::Frame;
use crate::verdict::{DropReason, Verdict};
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
    let hop = A::overlay_hop(cx.snapshot, item.packet.source).ok_or(DropReason::NoRoute)?;
    let way = act::to_peer(cx.snapshot, hop)?;
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
