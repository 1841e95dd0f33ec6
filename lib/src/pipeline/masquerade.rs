//! Flows that pods begin to the outside, which leave from an address that stands for the pod.
//!
//! A packet out of the overlay may reach any worker, since the outer header decides, and a node may
//! change that while a flow lasts. So the pod's own endpoint names the worker that owns the flow,
//! and the port that is allocated names the same one for the way back.

use super::admit::{admit, comes_from_pod, first_state};
use super::context::Context;
use super::decision::{Beginning, Decision, FlowChange, Forward, endpoint};
use super::egress::{self, ClientLink};
use super::family::Wire;
use super::follow::came_by_plain_route;
use super::item::{Ingress, Item};
use super::observe::{Observer, Step};
use super::report::Report;
use super::{owner, policy, ports, stateless};
use crate::flow::{Mode, NO_SERVICE, SnapshotIndex};
use crate::frame::Frame;
use crate::nat::{self, Free};
use crate::verdict::DropReason;
use crate::wire::packet::Transport;

/// Whether a packet for no service is a pod's to the outside: any out of the overlay, and of those that came
/// by a plain route what the host does not get or route itself.
pub(super) fn is_outward<A: Wire, O>(cx: &Context<'_, '_, '_, O>, item: &Item<A>) -> bool {
    let (snapshot, destination) = (cx.snapshot, item.packet.destination);
    let is_the_hosts = || {
        A::masquerade(snapshot).addresses.is_empty()
            || A::is_local(snapshot, destination)
            || A::is_exempt(snapshot, destination)
            || A::overlay_hop(snapshot, destination).is_some()
    };
    item.ingress == Ingress::Overlay || came_by_plain_route(cx, item) && !is_the_hosts()
}

/// What becomes of the first packet from a pod to the outside: it begins a flow. What is for an address of the
/// gateway's own is the host's.
///
/// - `ended`: as of a packet to a service.
pub(super) fn bind<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    ended: Option<u32>,
) -> Result<Decision<'s, A>, DropReason> {
    let packet = &item.packet;
    let original = item.tuple();
    // No client's answer begins as these do; and fragments do not find their way back from who was asked.
    let first_state = first_state(item);
    let is_syn = packet.transport == Transport::Tcp && first_state.is_ok();
    let begins = match packet.transport {
        Transport::EchoRequest => true,
        Transport::Tcp => is_syn,
        _ => packet.fragment.is_some(),
    };
    if let Some(elsewhere) = owner::of_pods_packet(cx, &original, packet.protocol, frame.handovers(), begins) {
        return Ok(Decision::Handover(elsewhere));
    }
    let snapshot = cx.snapshot;
    let pool = A::masquerade(snapshot);
    if A::is_local(snapshot, packet.destination) && !pool.addresses.contains(&packet.destination) {
        // As from a link, but for a sender that is no pod: the kernel does not see where this came from.
        comes_from_pod(cx, item)?;
        return Ok(Decision::Host);
    }
    if first_state == Err(DropReason::TcpFlags) {
        return Err(DropReason::TcpFlags);
    }
    if !is_syn && let Some(forward) = stateless::decide(cx, frame, item, ended) {
        return forward.map(Decision::Forward);
    }
    if pool.addresses.is_empty() || pool.addresses.contains(&packet.destination) {
        return Err(DropReason::NoFlow);
    }
    if A::overlay_hop(snapshot, packet.source).is_none() {
        return Err(DropReason::SpoofedSource);
    }
    if !A::may_send(packet.source) || !A::may_send(packet.destination) {
        return Err(DropReason::MartianAddress);
    }
    if A::is_exempt(snapshot, packet.destination) {
        return Err(DropReason::NotMasqueraded);
    }
    A::route(snapshot, packet.destination).ok_or(DropReason::NoRoute)?;
    if packet.ttl <= 1 {
        return Ok(Decision::Report(Report::TimeExceeded));
    }
    let state = admit(cx, packet.source, true, first_state?)?;
    let is_echo = packet.transport == Transport::EchoRequest;
    let peer = nat::Peer {
        address: packet.destination,
        port: (!is_echo).then_some(packet.destination_port),
        protocol: packet.protocol,
    };
    let Free { reply, hash } = ports::allocate_for_pod(cx, item.hash, pool, peer, ended, packet.source)?;
    cx.explain(Step::Bound(endpoint(reply.destination.to_ip(), reply.destination_port)));
    let (egress, _) = egress::to_outside(cx, packet.destination, ClientLink::NONE)?;
    let beginning = Beginning {
        hash,
        state,
        mode: Mode::Outward,
        service: NO_SERVICE,
        is_tunnelled: true,
        next_hop: SnapshotIndex::NONE,
        tags: 0,
        ended,
    };
    let rewrite = policy::rewrite(cx, frame, item, None, egress);
    Ok(Decision::Forward(Forward { to: reply.inverted(), egress, rewrite, flow: FlowChange::Begin(beginning) }))
}
