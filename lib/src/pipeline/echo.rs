//! Pings: of the gateway itself and of services' addresses, which are answered here, and those of pods to the outside.

use super::context::Context;
use super::decision::{Answer, Decision, Update};
use super::egress;
use super::family::Wire;
use super::follow::follow;
use super::item::{Ingress, Item};
use super::observe::Observer;
use super::revalidate::{self, Validity};
use super::{admit, masquerade, owner};
use crate::flow::{Direction, step};
use crate::frame::Frame;
use crate::time::Span;
use crate::verdict::DropReason;
use crate::wire::packet::Transport;

/// An echo, or the first fragment of one: for the gateway itself, of a pod's flow, or the beginning of one.
pub(super) fn decide<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
) -> Result<Decision<'s, A>, DropReason> {
    if is_asked(cx, item) {
        return answer(cx, frame, item);
    }
    let is_request = item.packet.transport == Transport::EchoRequest;
    let found = cx.worker.flows.of::<A>().lookup(item.hash, &item.tuple(), item.packet.protocol);
    let found = found.filter(|found| revalidate::check(cx, *found, item) != Validity::Gone);
    if let Some(found) = found
        && is_request == (found.direction == Direction::Original)
    {
        let before = cx.worker.flows.of::<A>().get(found.index).map_or(0, |entry| entry.state);
        let state = step(before, found.direction, item.packet.flags).state().unwrap_or(before);
        return follow(cx, frame, item, Update::to(found, state));
    }
    if is_request && found.is_none() && masquerade::is_outward(cx, item) {
        return masquerade::bind(cx, frame, item, None);
    }
    if is_request
        || !A::masquerade(cx.snapshot).addresses.contains(&item.packet.destination)
        || item.ingress == Ingress::Overlay
    {
        return Err(DropReason::IcmpUnmatched);
    }
    let elsewhere = owner::of_masquerade::<A, O>(cx, item.packet.destination_port);
    elsewhere.map(Decision::Handover).ok_or(DropReason::IcmpUnmatched)
}

/// Whether this is an echo request, or the first fragment of one, that the gateway answers itself: for one of its
/// overlay addresses, for a service's, or from outside for a masquerade address.
pub(super) fn is_asked<A: Wire, O>(cx: &Context<'_, '_, '_, O>, item: &Item<A>) -> bool {
    let asked = item.packet.destination;
    let stands_for_pods = || A::masquerade(cx.snapshot).addresses.contains(&asked) && item.ingress != Ingress::Overlay;
    item.packet.transport == Transport::EchoRequest
        && (A::is_own(cx.snapshot, asked) || A::is_pinged(cx.snapshot, asked) || stands_for_pods())
}

/// How a ping that the gateway answers, or a fragment of one, is answered: by where it came from. Operators ping.
pub(super) fn answer<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
) -> Result<Decision<'s, A>, DropReason> {
    let is_inside = A::is_own(cx.snapshot, item.packet.destination);
    if is_inside && item.ingress == Ingress::Link {
        return Err(DropReason::IcmpUnmatched);
    }
    admit::comes_from_pod(cx, item)?;
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    if A::has_source_route(ip) {
        return Err(DropReason::SourceRoute);
    }
    let egress = egress::back(cx, frame, item)?;
    // What came from a link with a larger MTU may not fit through the tunnel again.
    if item.packet.len > egress.mtu() {
        return Err(DropReason::TooBig);
    }
    // A ping is one, however many fragments it comes in.
    let is_later = item.packet.transport == Transport::LaterFragment;
    let (now, apart) = (cx.worker.now, Span(cx.snapshot.globals.answer_ns.into()));
    let [inside, others] = &mut cx.worker.echoes;
    if !is_later && !(if is_inside { inside } else { others }).take(now, apart) {
        return Err(DropReason::EchoLimit);
    }
    Ok(Decision::Answer(Answer { egress, identification: None }))
}
