//! A packet of no flow yet: which service, which backend, which pool address and port.

use super::admit::{admit, begun, comes_from_pod};
use super::error::{self, Kind};
use super::place::{self, Placed};
use super::{Context, Item, Recorder, Step, Way, Wire, Worker, act, pods};
use crate::flow::{Age, Direction, Entry, Found, Gone, Mode, Place, State, Tuple};
use crate::frame::Frame;
use crate::hash::Stream;
use crate::nat::{self, Asker};
use crate::net::Protocol;
use crate::snapshot::{BackendRecord, SelectorRecord, Snapshot};
use crate::verdict::{DropReason, Verdict};

/// The most backends that are tried for a client whose address is kept.
const KEPT_TRIES: u64 = 8;

/// Of so many ports that [`allocate`] may try, the memory is asked for ahead.
const FORESEEN: usize = 2;

/// What came of it.
pub(super) enum Bound<A> {
    /// A flow that did not exist before.
    Flow(Found),
    /// None, and yet it goes on.
    Placed(Placed<A>),
    /// None; this is the frame's end.
    Verdict(Verdict),
}

/// Asks for the memory that [`bind`] will read, for a packet whose flow is not where it most likely would be.
#[cold]
#[inline(never)]
pub(super) fn foresee<A: Wire>(worker: &Worker<'_>, snapshot: &Snapshot<'_>, item: &Item<A>) {
    let packet = &item.packet;
    if act::first_state(item).is_err() {
        return;
    }
    let Some(selector) = snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol)
    else {
        return;
    };
    let hash = A::hash(&snapshot.globals.selector, &item.tuple(), packet.protocol);
    let Some(backend) = snapshot.select(selector, hash) else { return };
    let flows = A::flows_of(worker);
    flows.prefetch_client(packet.source, false);
    let peer = peer_of(backend, packet.protocol);
    let mut random = worker.random(item.hash);
    for (reply, _) in nat::draw(snapshot, A::pool(snapshot), (worker.id, nat::Client), peer, &mut random).take(FORESEEN)
    {
        flows.prefetch_buckets(flows.hash(&reply, packet.protocol));
    }
}

/// Makes a flow for the first packet from a client to a service.
///
/// - `over`: the flow that the packet's tuple has already, whose connection has ended. It goes when the new one
///   is there, and stays as it is where none begins.
#[cold]
pub(super) fn bind<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    over: Option<u32>,
) -> Result<Bound<A>, DropReason> {
    let packet = &item.packet;
    if A::is_own(cx.snapshot, packet.destination) {
        if item.way == Way::Link {
            return Err(DropReason::NoFlow);
        }
        let elsewhere = act::owner_elsewhere::<A, R>(cx, packet.destination_port);
        return elsewhere.map(Bound::Verdict).ok_or(DropReason::NoFlow);
    }
    let Some(selector) = cx.snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol)
    else {
        if pods::is_outward(cx, item) {
            return pods::bind(cx, frame, item, over);
        }
        if !A::masquerade(cx.snapshot).addresses.contains(&packet.destination) {
            return Ok(Bound::Verdict(Verdict::Host));
        }
        let elsewhere = masquerade_elsewhere::<A, R>(cx, packet.destination_port);
        return elsewhere.map(Bound::Verdict).ok_or(DropReason::NoFlow);
    };
    cx.explain(Step::Service(selector.service));
    let is_pod = comes_from_pod(cx, item)?;
    // A backend would answer a pod directly, from an address that the pod has not asked.
    let keeps_client = selector.keeps_client != 0 && !is_pod;
    if (keeps_client || is_pod)
        && let Some(elsewhere) = endpoint_elsewhere(cx, packet.source, packet.source_port)
    {
        return Ok(Bound::Verdict(elsewhere));
    }
    if is_pod {
        cx.explain(Step::Hairpin);
    }
    // What goes no further begins nothing.
    if packet.ttl <= 1 {
        return error::answer(cx, frame, item, Kind::TimeExceeded).map(Bound::Verdict);
    }
    let original = item.tuple();
    let admitted = act::first_state(item).and_then(|state| admit(cx, packet.source, is_pod, state));
    let state = match admitted {
        Err(reason @ (DropReason::NewFlowLimit | DropReason::NotSyn)) => {
            return place::place(cx, &original, packet.protocol, over).map(Bound::Placed).ok_or(reason);
        }
        admitted => admitted?,
    };
    let hash = A::hash(&cx.snapshot.globals.selector, &original, packet.protocol);
    let Some(backend) = cx.snapshot.select(selector, hash) else {
        return error::answer(cx, frame, item, Kind::NoBackend).map(Bound::Verdict);
    };
    let reply = if keeps_client {
        keep(cx, (selector, backend, hash), &original, packet.protocol, over).ok_or(DropReason::ReplyTaken)?
    } else {
        selected::<A, R>(cx, backend);
        let peer = peer_of(backend, packet.protocol);
        let pool = A::pool(cx.snapshot);
        if is_pod {
            allocate_for_pod(cx, item.hash, pool, peer, over, packet.source)?
        } else {
            allocate(cx, item.hash, pool, peer, over, nat::Client)?
        }
    };
    let hop = A::overlay_hop(cx.snapshot, reply.source).ok_or(DropReason::NoRoute)?;
    act::to_peer(cx.snapshot, hop)?;
    cx.explain(Step::Bound(act::endpoint(reply.destination, reply.destination_port)));

    let (tick, generation, way) = (cx.tick, cx.snapshot.generation(), item.way);
    let port = if way == Way::Overlay { pods::UNSEEN.port } else { frame.port().0 };
    let entered = enter(cx, (original, reply), packet.protocol, state, over, |entry| {
        entry.mode = if is_pod { Mode::Hairpin } else { Mode::Inward } as u8;
        entry.port = port;
        entry.seen = tick;
        entry.service = selector.service;
        entry.hop = if is_pod || selector.dscp().is_some() { Place::NONE } else { Place::at(hop) };
        entry.generation = generation;
    });
    let found = match entered {
        Err(DropReason::FlowTableFull) => {
            let placed = place::place(cx, &original, packet.protocol, over);
            return placed.map(Bound::Placed).ok_or(DropReason::FlowTableFull);
        }
        entered => entered?,
    };
    if let Some(service) = cx.worker.services.get(selector.service as usize) {
        service.flows.add(1);
    }
    Ok(Bound::Flow(found))
}

/// Enters a flow whose tuples no other has than the one that is `over`, which it takes the place of. In a
/// full table others give way to it.
pub(super) fn enter<A: Wire, R>(
    cx: &mut Context<'_, '_, '_, R>,
    tuples: (Tuple<A>, Tuple<A>),
    protocol: Protocol,
    state: State,
    over: Option<u32>,
    fill: impl Fn(&mut Entry<A>),
) -> Result<Found, DropReason> {
    let age = Age { tick: cx.tick, idle: &cx.snapshot.globals.idle_ticks };
    let mut gone = Gone::default();
    let flows = A::flows(cx.worker);
    let old = over.and_then(|over| flows.take(over));
    let entered = flows.insert_or_evict(tuples, protocol, state, age, &mut gone, fill);
    if let Some(old) = old
        && entered.is_err()
    {
        flows.put_back(old);
    }
    let limit = cx.snapshot.globals.half_open_per_client;
    if let Ok(index) = entered
        && limit != 0
        && state.is_half_open()
    {
        flows.hold_client(index, limit, age, &mut gone);
    }
    let counters = cx.worker.counters;
    if gone != Gone::default() {
        counters.count_gone(&gone);
    }
    // The tuples were looked up just now, so only a want of room remains.
    let index = entered.map_err(|_| DropReason::FlowTableFull)?;
    counters.flows_created.add(1);
    if over.is_some() {
        counters.flows_reopened.add(1);
    }
    begun(cx);
    Ok(Found { index, direction: Direction::Original })
}

/// A reply tuple towards this peer that no flow has but one that is `over`, for the packet with this hash:
/// at a port at random, or after a search, as often as there may be one, at the last that is free.
pub(super) fn allocate<A: Wire, R>(
    cx: &mut Context<'_, '_, '_, R>,
    hash: u64,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    over: Option<u32>,
    asker: impl Asker,
) -> Result<Tuple<A>, DropReason> {
    let exhausted = &cx.worker.exhausted;
    if exhausted.has_any(cx.worker.now) && is_exhausted(cx.worker, pool, peer, over, asker) {
        return Err(DropReason::PortsExhausted);
    }
    let mut random = cx.worker.random(hash);
    let taken = nat::Taken { flows: A::flows_of(cx.worker), over };
    let drawn = nat::drawn(&taken, cx.snapshot, pool, (cx.worker.id, asker), peer, &mut random);
    drawn.map_or_else(|| search(cx, random, pool, peer, over, asker), Ok)
}

/// As [`allocate`], for a pod: others find ports towards a peer to which it has used up its own.
#[cold]
#[inline(never)]
pub(super) fn allocate_for_pod<A: Wire, R>(
    cx: &mut Context<'_, '_, '_, R>,
    hash: u64,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    over: Option<u32>,
    pod: A,
) -> Result<Tuple<A>, DropReason> {
    let alone = Tuple { source: pod, destination: pod, source_port: [0; 2], destination_port: [0; 2] };
    let pod = nat::Pod(A::flows_of(cx.worker).hash(&alone, Protocol(0)));
    allocate(cx, hash, pool, peer, over, pod)
}

#[cold]
#[inline(never)]
fn search<A: Wire, R>(
    cx: &mut Context<'_, '_, '_, R>,
    mut random: Stream,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    over: Option<u32>,
    asker: impl Asker,
) -> Result<Tuple<A>, DropReason> {
    let now = cx.worker.now;
    if pool.addresses.is_empty() || !cx.worker.searches.take(now) {
        return Err(DropReason::PortsExhausted);
    }
    let taken = nat::Taken { flows: A::flows_of(cx.worker), over };
    let found = nat::search(&taken, cx.snapshot, pool, (cx.worker.id, asker), peer, &mut random);
    if found == Err(nat::Searched::All) {
        let hash = who_asks_whom(cx.worker, pool, peer, asker);
        cx.worker.exhausted.note(hash, now);
    }
    found.map_err(|_| DropReason::PortsExhausted)
}

/// Whether a search has just found nothing for those like the asker. The port of a flow that is `over` towards the
/// same peer is free for this one.
#[cold]
#[inline(never)]
fn is_exhausted<A: Wire>(
    worker: &Worker<'_>,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    over: Option<u32>,
    asker: impl Asker,
) -> bool {
    let over = over.and_then(|over| A::flows_of(worker).get(over));
    !over.is_some_and(|over| peer.answers(over))
        && worker.exhausted.has(who_asks_whom(worker, pool, peer, asker), worker.now)
}

/// A hash of this peer and of those whose ports towards it are used up together.
fn who_asks_whom<A: Wire>(worker: &Worker<'_>, pool: nat::Pool<'_, A>, peer: nat::Peer<A>, asker: impl Asker) -> u64 {
    let destination = pool.addresses.first().copied().unwrap_or(peer.address);
    let source_port = peer.port.unwrap_or([0; 2]);
    let tuple = Tuple { source: peer.address, destination, source_port, destination_port: [0; 2] };
    A::flows_of(worker).hash(&tuple, peer.protocol) ^ asker.hash()
}

/// Who answers where this backend does.
fn peer_of<A: Wire>(backend: &BackendRecord, protocol: Protocol) -> nat::Peer<A> {
    nat::Peer { address: A::unmapped(backend.address), port: Some(backend.port), protocol }
}

/// The backend's address and port.
fn selected<A: Wire, R: Recorder>(cx: &mut Context<'_, '_, '_, R>, backend: &BackendRecord) -> (A, [u8; 2]) {
    let address = A::unmapped(backend.address);
    cx.explain(Step::Selected(act::endpoint(address, backend.port)));
    (address, backend.port)
}

/// The reply tuple towards a backend that sees the client itself.
///
/// The client's port is its own to choose, and nothing keeps it from using one for two frontends of
/// a service. Answers of one backend to both could not be told apart, so the second flow goes to
/// another backend, which the next of a fixed row of hashes names.
///
/// Work: at most [`KEPT_TRIES`] lookups. `None` where each of them finds a flow that is not over.
fn keep<'s, A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, 's, R>,
    (selector, mut backend, hash): (&SelectorRecord, &'s BackendRecord, u64),
    original: &Tuple<A>,
    protocol: Protocol,
    over: Option<u32>,
) -> Option<Tuple<A>> {
    for turn in 1..=KEPT_TRIES {
        let (source, source_port) = selected::<A, R>(cx, backend);
        let reply = Tuple { source, destination: original.source, source_port, destination_port: original.source_port };
        let flows = A::flows(cx.worker);
        let taken = flows.lookup(flows.hash(&reply, protocol), &reply, protocol);
        match taken {
            None => return Some(reply),
            Some(found) if Some(found.index) == over => return Some(reply),
            Some(found) if act::has_idled(cx.tick, cx.snapshot, flows, found.index) => {
                act::expire::<A, R>(cx, found.index);
                return Some(reply);
            }
            Some(_) => {}
        }
        // Steps of the golden ratio fall evenly over the slots.
        backend = cx.snapshot.select(selector, hash.wrapping_add(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)))?;
    }
    None
}

/// The worker that owns what an endpoint outside sends and is sent where its address is kept, if
/// that is another one.
pub(super) fn endpoint_elsewhere<A: Wire, R>(
    cx: &Context<'_, '_, '_, R>,
    address: A,
    port: [u8; 2],
) -> Option<Verdict> {
    let owner = cx.snapshot.owner_of(address, port);
    (owner != cx.worker.id).then_some(Verdict::Handover(owner))
}

/// The worker that owns the flows at this port of the addresses that stand for pods, if that is
/// another one.
pub(super) fn masquerade_elsewhere<A: Wire, R>(cx: &Context<'_, '_, '_, R>, port: [u8; 2]) -> Option<Verdict> {
    let owner = A::masquerade(cx.snapshot).owner(port);
    (owner != cx.worker.id).then_some(Verdict::Handover(owner))
}

/// The worker that owns the flow of a packet with this tuple from a pod to the outside, if that is
/// another one. What a backend sends that sees its clients may be the answer to one, and the client
/// names the owner; of all else, and of what is for a service, it is the pod.
///
/// A backend may be one no more, while its flows go on. So where the pod's worker has no flow, that of
/// the client is asked before it `begins` one.
///
/// - `handovers`: of the frame; at most three.
pub(super) fn inside_elsewhere<A: Wire, R>(
    cx: &Context<'_, '_, '_, R>,
    tuple: &Tuple<A>,
    protocol: Protocol,
    handovers: u8,
    begins: bool,
) -> Option<Verdict> {
    let snapshot = cx.snapshot;
    let by_client = || endpoint_elsewhere(cx, tuple.destination, tuple.destination_port);
    let by_pod = || endpoint_elsewhere(cx, tuple.source, tuple.source_port);
    if snapshot.selector(tuple.destination.mapped(), tuple.destination_port, protocol).is_some() {
        return by_pod();
    }
    if snapshot.is_kept(tuple.source.mapped(), tuple.source_port, protocol) {
        return by_client();
    }
    if !A::masquerade(snapshot).addresses.is_empty()
        && let Some(elsewhere) = by_pod()
    {
        return Some(elsewhere);
    }
    if snapshot.keeps_clients() && !begins && handovers < 2 { by_client() } else { None }
}
