//! Which worker owns a flow, where that is another one. Every direction of a flow carries an endpoint or a port that
//! names its owner; what does not is handed from worker to worker, as often as there are workers and no more.

use super::context::Context;
use super::family::Wire;
use crate::flow::Tuple;
use crate::frame::Frame;
use crate::net::{Protocol, WorkerId};
use crate::wire::packet::Packet;

/// The owner of the flows at this port of the SNAT pool's addresses.
#[inline]
pub(super) fn of_pool<A: Wire, O>(cx: &Context<'_, '_, '_, O>, port: [u8; 2]) -> Option<WorkerId> {
    elsewhere(cx, A::pool(cx.snapshot).owner(port))
}

/// The owner of the flows at this port of the masquerade addresses.
pub(super) fn of_masquerade<A: Wire, O>(cx: &Context<'_, '_, '_, O>, port: [u8; 2]) -> Option<WorkerId> {
    elsewhere(cx, A::masquerade(cx.snapshot).owner(port))
}

/// The owner of what an endpoint sends and is sent, where its address is preserved.
pub(super) fn of_endpoint<A: Wire, O>(cx: &Context<'_, '_, '_, O>, address: A, port: [u8; 2]) -> Option<WorkerId> {
    elsewhere(cx, cx.snapshot.owner_of(address, port))
}

fn elsewhere<O>(cx: &Context<'_, '_, '_, O>, owner: WorkerId) -> Option<WorkerId> {
    (owner != cx.worker.id).then_some(owner)
}

/// The owner of the flow of a packet with this tuple from a pod to the outside. What a backend sends that sees its
/// clients may be the answer to one, and the client names the owner; of all else, and of what is for a service, it
/// is the pod.
///
/// A backend may have been removed, while its flows go on. So where the pod's worker has no flow, that of
/// the client is asked before it `begins` one.
///
/// - `handovers`: of the frame; at most three.
pub(super) fn of_pods_packet<A: Wire, O>(
    cx: &Context<'_, '_, '_, O>,
    tuple: &Tuple<A>,
    protocol: Protocol,
    handovers: u8,
    begins: bool,
) -> Option<WorkerId> {
    let snapshot = cx.snapshot;
    let by_client = || of_endpoint(cx, tuple.destination, tuple.destination_port);
    let by_pod = || of_endpoint(cx, tuple.source, tuple.source_port);
    if snapshot.selector(tuple.destination.mapped(), tuple.destination_port, protocol).is_some() {
        return by_pod();
    }
    if snapshot.is_preserving(tuple.source.mapped(), tuple.source_port, protocol) {
        return by_client();
    }
    if !A::masquerade(snapshot).addresses.is_empty()
        && let Some(elsewhere) = by_pod()
    {
        return Some(elsewhere);
    }
    if snapshot.preserves_sources() && !begins && handovers < 2 { by_client() } else { None }
}

/// The worker to look for the flow of a client, of whose answer an error from outside speaks. Where
/// the client's address is preserved, or the client is a pod, that names it. Else nothing does: the hash that spread
/// the flow's own packets is the NIC's, and the error has other headers. So it goes round, until one has the flow, as
/// often as errors may be sent; one that reports an MTU, whatever others there are.
pub(super) fn of_clients_error<A: Wire, O>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &Frame<'_>,
    error: &Packet<A>,
    request: &Tuple<A>,
    protocol: Protocol,
) -> Option<WorkerId> {
    let selector = cx.snapshot.selector(request.destination.mapped(), request.destination_port, protocol)?;
    if selector.preserves_source != 0 || A::overlay_hop(cx.snapshot, request.source).is_some() {
        return of_endpoint(cx, request.source, request.source_port);
    }
    let handovers = frame.handovers();
    let is_last = handovers.saturating_add(1) >= cx.snapshot.globals.workers;
    let (now, [too_big, others]) = (cx.worker.now, &mut cx.worker.rounds);
    let budget = if A::is_too_big(error.icmp) { too_big } else { others };
    if is_last || handovers == 0 && !budget.take(now) { None } else { Some(next(cx)) }
}

/// The worker whose number is the next one.
pub(super) fn next<O>(cx: &Context<'_, '_, '_, O>) -> WorkerId {
    WorkerId((cx.worker.id.0 + 1) % cx.snapshot.globals.workers)
}
