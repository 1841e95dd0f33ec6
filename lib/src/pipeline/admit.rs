//! Whether another flow may begin: how many half-open ones its client has, and how fast new ones come.

use super::context::Context;
use super::family::Wire;
use super::item::{Ingress, Item};
use crate::flow::{State, are_legal};
use crate::net::Protocol;
use crate::time::Span;
use crate::verdict::DropReason;

/// Whether what is for the gateway comes from a pod, where its source can be at all: one that belongs to this
/// side, and is nobody else's than its sender's.
#[inline(always)]
pub(super) fn comes_from_pod<A: Wire, O>(cx: &Context<'_, '_, '_, O>, item: &Item<A>) -> Result<bool, DropReason> {
    let source = item.packet.source;
    let is_pod = A::overlay_hop(cx.snapshot, source).is_some();
    let is_spoofed = match item.ingress {
        Ingress::Overlay => !is_pod,
        Ingress::Link => is_pod,
        Ingress::Underlay => false,
    };
    if is_spoofed || A::is_own(cx.snapshot, source) || A::is_local(cx.snapshot, source) {
        return Err(DropReason::SpoofedSource);
    }
    if A::may_send(source) { Ok(is_pod) } else { Err(DropReason::MartianAddress) }
}

/// The state, if a flow in it may begin that `client` asks for; `is_pod`: whether that is inside. Ask
/// this first: where flows may not begin, nothing is looked for that they would need.
pub(super) fn admit<A: Wire, O>(
    cx: &mut Context<'_, '_, '_, O>,
    client: A,
    is_pod: bool,
    state: State,
) -> Result<State, DropReason> {
    let globals = cx.snapshot.globals;
    let limit = globals.half_open_per_client;
    if limit != 0 && state.is_half_open() && !cx.worker.flows.of::<A>().may_begin_half_open(client, is_pod, limit) {
        return Err(DropReason::HalfOpenLimit);
    }
    if globals.new_flow_ns != 0 && !cx.worker.new_flows.may_come(cx.worker.now) {
        return Err(DropReason::NewFlowLimit);
    }
    Ok(state)
}

/// Counts a flow that has begun. One that was admitted and yet could not, as there was no backend for it, no
/// port or no room, leaves others their time.
pub(super) fn begun<O>(cx: &mut Context<'_, '_, '_, O>) {
    let apart = Span(cx.snapshot.globals.new_flow_ns.into());
    if apart != Span(0) {
        cx.worker.new_flows.come(cx.worker.now, apart);
    }
}

/// The state that the packet begins a flow in.
pub(super) fn first_state<A>(item: &Item<A>) -> Result<State, DropReason> {
    State::first(item.packet.protocol, item.packet.flags).ok_or_else(|| misfit(item, DropReason::NotSyn))
}

/// The drop of a packet that neither fits a flow nor begins one: `otherwise`, where its flags can be a
/// segment's at all.
pub(super) fn misfit<A>(item: &Item<A>, otherwise: DropReason) -> DropReason {
    let are_legal = item.packet.protocol != Protocol::TCP || are_legal(item.packet.flags);
    if are_legal { otherwise } else { DropReason::TcpFlags }
}
