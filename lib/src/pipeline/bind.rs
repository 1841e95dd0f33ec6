//! A packet of no flow yet: which service, which backend, which SNAT pool address and port.

use super::admit::{admit, comes_from_pod, first_state};
use super::context::Context;
use super::decision::{Beginning, Decision, FlowChange, Forward, endpoint};
use super::egress;
use super::family::Wire;
use super::foreseen::Foreseen;
use super::item::{Ingress, Item};
use super::observe::{Observer, Step};
use super::report::Report;
use super::{masquerade, owner, policy, ports, revalidate, stateless};
use crate::flow::{FlowEnd, Mode, NO_ENTRY, SnapshotIndex, Tuple};
use crate::frame::Frame;
use crate::nat::{self, Free};
use crate::net::Protocol;
use crate::snapshot::{BackendRecord, Selection};
use crate::verdict::DropReason;
use crate::wire::packet::Transport;

/// The most backends that are tried for a client whose address is preserved.
const PRESERVE_TRIES: u64 = 8;

/// Asks for the memory that [`bind`] will read, for a packet whose flow is not where it most likely would be. What
/// is decided for that is kept, and where is told: an entry's index that none has.
#[cold]
#[inline(never)]
pub(super) fn foresee<A: Wire, O>(cx: &mut Context<'_, '_, '_, O>, item: &Item<A>) -> u32 {
    look_ahead(cx, item).map_or(NO_ENTRY, |foreseen| cx.foresight.keep(foreseen))
}

#[inline(always)]
fn look_ahead<'s, A: Wire, O>(cx: &Context<'_, '_, 's, O>, item: &Item<A>) -> Option<Foreseen<'s>> {
    let (worker, snapshot, packet) = (&*cx.worker, cx.snapshot, &item.packet);
    first_state(item).ok()?;
    let selection = snapshot.select(&item.tuple(), packet.protocol)?;
    let (selector, backend) = (selection.selector, selection.backend()?);
    let flows = worker.flows.of::<A>();
    flows.prefetch_client(packet.source, false);
    let (pool, peer) = (A::pool(snapshot), peer_of(backend, packet.protocol));
    let mut random = worker.random(item.hash);
    let drawn = nat::draw_first(flows, snapshot, pool, (worker.id, nat::Client), peer, &mut random)?;
    drawn.prefetch(flows);
    // Of others, what is looked up here may be read later.
    let has_ports = matches!(packet.transport, Transport::Tcp | Transport::Udp) && packet.fragment.is_none();
    has_ports.then_some(Foreseen { selector, backend, drawn })
}

/// What becomes of a packet that belongs to no flow: it begins one to a backend of the service that it is for.
///
/// - `ended`: the flow that the packet's tuple has already, whose connection is over or whose backend is gone. It
///   goes when the new one is there, and stays as it is where none begins.
#[cold]
pub(super) fn bind<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
    ended: Option<u32>,
) -> Result<Decision<'s, A>, DropReason> {
    let snapshot = cx.snapshot;
    let packet = &item.packet;
    if A::is_own(snapshot, packet.destination) {
        if item.ingress == Ingress::Link {
            return Err(DropReason::NoFlow);
        }
        let elsewhere = owner::of_pool::<A, O>(cx, packet.destination_port);
        return elsewhere.map(Decision::Handover).ok_or(DropReason::NoFlow);
    }
    let foreseen = cx.foresight.of(item.likely).copied();
    let selector = foreseen
        .map(|foreseen| foreseen.selector)
        .or_else(|| snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol));
    let Some(selector) = selector else {
        if masquerade::is_outward(cx, item) {
            return masquerade::bind(cx, frame, item, ended);
        }
        if !A::masquerade(snapshot).addresses.contains(&packet.destination) {
            return Ok(Decision::Host);
        }
        let elsewhere = owner::of_masquerade::<A, O>(cx, packet.destination_port);
        return elsewhere.map(Decision::Handover).ok_or(DropReason::NoFlow);
    };
    cx.explain(Step::Service(selector.service));
    let is_pod = comes_from_pod(cx, item)?;
    // A backend would answer a pod directly, from an address that the pod has not asked.
    let preserves_source = selector.preserves_source != 0 && !is_pod;
    if (preserves_source || is_pod)
        && let Some(elsewhere) = owner::of_endpoint(cx, packet.source, packet.source_port)
    {
        return Ok(Decision::Handover(elsewhere));
    }
    if is_pod {
        cx.explain(Step::Hairpin);
    }
    // What goes no further begins nothing.
    if packet.ttl <= 1 {
        return Ok(Decision::Report(Report::TimeExceeded));
    }
    let admitted = first_state(item).and_then(|state| admit(cx, packet.source, is_pod, state));
    let state = match admitted {
        Err(reason @ (DropReason::NewFlowLimit | DropReason::NotSyn)) => {
            let forward = stateless::decide(cx, frame, item, ended).ok_or(reason)?;
            return forward.map(Decision::Forward);
        }
        admitted => admitted?,
    };
    let selection = || snapshot.selection(selector, &item.tuple(), packet.protocol);
    let backend = foreseen.map(|foreseen| foreseen.backend).or_else(|| selection().backend());
    let Some(backend) = backend else { return Ok(Decision::Report(Report::NoBackend)) };
    let (Free { reply, hash }, next_hop) = if preserves_source {
        preserve(cx, (&selection(), backend), &item.tuple(), packet.protocol, ended).ok_or(DropReason::ReplyTaken)?
    } else {
        explain_backend::<A, O>(cx, backend);
        let (pool, peer) = (A::pool(snapshot), peer_of(backend, packet.protocol));
        let free = if is_pod {
            ports::allocate_for_pod(cx, item.hash, pool, peer, ended, packet.source)?
        } else if let Some(free) = foreseen.and_then(|foreseen| ports::take_up(cx, foreseen.drawn, pool, peer)) {
            free
        } else {
            ports::allocate(cx, item.hash, pool, peer, ended, nat::Client)?
        };
        (free, backend.hop)
    };
    let egress = egress::to_peer(snapshot, next_hop)?;
    cx.explain(Step::Bound(endpoint(reply.destination.to_ip(), reply.destination_port)));
    let looks_up_each_time = is_pod || selector.dscp().is_some();
    let beginning = Beginning {
        hash,
        state,
        mode: if is_pod { Mode::Hairpin } else { Mode::Inward },
        service: selector.service,
        is_tunnelled: item.ingress == Ingress::Overlay,
        next_hop: if looks_up_each_time { SnapshotIndex::NONE } else { SnapshotIndex::at(next_hop) },
        tags: 0,
        ended,
    };
    let rewrite = policy::rewrite(cx, frame, item, Some(selector), egress);
    Ok(Decision::Forward(Forward { to: reply.inverted(), egress, rewrite, flow: FlowChange::Begin(beginning) }))
}

/// Who answers where this backend does.
fn peer_of<A: Wire>(backend: &BackendRecord, protocol: Protocol) -> nat::Peer<A> {
    nat::Peer { address: A::unmapped(backend.address), port: Some(backend.port), protocol }
}

fn explain_backend<A: Wire, O: Observer>(cx: &mut Context<'_, '_, '_, O>, backend: &BackendRecord) {
    cx.explain(Step::Selected(endpoint(A::unmapped(backend.address).to_ip(), backend.port)));
}

/// The reply tuple towards a backend that sees the client itself, and the index of the next hop to it.
///
/// The client's port is its own to choose, and nothing keeps it from using one for two frontends of
/// a service. Answers of one backend to both could not be told apart, so the second flow goes to
/// another backend, which the next of a fixed row of hashes names.
///
/// Work: at most [`PRESERVE_TRIES`] lookups. `None` where each of them finds a flow that has not ended.
fn preserve<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    (selection, mut backend): (&Selection<'s>, &'s BackendRecord),
    original: &Tuple<A>,
    protocol: Protocol,
    ended: Option<u32>,
) -> Option<(Free<A>, u32)> {
    for turn in 1..=PRESERVE_TRIES {
        explain_backend::<A, O>(cx, backend);
        let reply = Tuple {
            source: A::unmapped(backend.address),
            destination: original.source,
            source_port: backend.port,
            destination_port: original.source_port,
        };
        let flows = cx.worker.flows.of::<A>();
        let hash = flows.hash(&reply, protocol);
        let free = Free { reply, hash };
        match flows.lookup(hash, &reply, protocol) {
            None => return Some((free, backend.hop)),
            Some(found) if Some(found.index) == ended => return Some((free, backend.hop)),
            Some(found) if revalidate::has_idled(cx.tick, cx.snapshot, flows, found.index) => {
                cx.end_flow::<A>(found.index, FlowEnd::Expired);
                return Some((free, backend.hop));
            }
            Some(_) => {}
        }
        backend = selection.backend_after(turn)?;
    }
    None
}
