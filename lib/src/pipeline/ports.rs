//! Which address and port of a SNAT pool a new flow gets: drawn at random, or searched for in order. Searches are
//! limited, and one that finds nothing is remembered.

use super::context::Context;
use super::family::Wire;
use super::worker::Worker;
use crate::flow::Tuple;
use crate::hash::Stream;
use crate::nat::{self, Drawn, Free, Subscriber};
use crate::net::Protocol;
use crate::verdict::DropReason;

/// A reply tuple towards this peer that no flow has but one that is `ended`, for the packet with this hash:
/// at a port at random, or after a search, as often as there may be one, at the last that is free.
pub(super) fn allocate<A: Wire, O>(
    cx: &mut Context<'_, '_, '_, O>,
    hash: u64,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    ended: Option<u32>,
    subscriber: impl Subscriber,
) -> Result<Free<A>, DropReason> {
    let exhausted = &cx.worker.exhausted;
    if exhausted.has_any(cx.worker.now) && is_exhausted(cx.worker, pool, peer, ended, subscriber) {
        return Err(DropReason::PortsExhausted);
    }
    let mut random = cx.worker.random(hash);
    let taken = nat::Taken { flows: cx.worker.flows.of::<A>(), over: ended };
    let drawn = nat::drawn(&taken, cx.snapshot, pool, (cx.worker.id, subscriber), peer, &mut random);
    drawn.map_or_else(|| search(cx, random, pool, peer, ended, subscriber), Ok)
}

/// What [`allocate`] will give a client for whose packet this port was drawn first; `None` where that has to be asked.
#[inline(always)]
pub(super) fn take_up<A: Wire, O>(
    cx: &Context<'_, '_, '_, O>,
    drawn: Drawn,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
) -> Option<Free<A>> {
    if cx.worker.exhausted.has_any(cx.worker.now) {
        return None;
    }
    drawn.free(cx.worker.flows.of::<A>(), pool, peer)
}

/// As [`allocate`], for a pod: others find ports towards a peer to which it has used up its own.
#[cold]
#[inline(never)]
pub(super) fn allocate_for_pod<A: Wire, O>(
    cx: &mut Context<'_, '_, '_, O>,
    hash: u64,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    ended: Option<u32>,
    pod: A,
) -> Result<Free<A>, DropReason> {
    let alone = Tuple { source: pod, destination: pod, source_port: [0; 2], destination_port: [0; 2] };
    let pod = nat::Pod(cx.worker.flows.of::<A>().hash(&alone, Protocol(0)));
    allocate(cx, hash, pool, peer, ended, pod)
}

#[cold]
#[inline(never)]
fn search<A: Wire, O>(
    cx: &mut Context<'_, '_, '_, O>,
    mut random: Stream,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    ended: Option<u32>,
    subscriber: impl Subscriber,
) -> Result<Free<A>, DropReason> {
    let now = cx.worker.now;
    if pool.addresses.is_empty() || !cx.worker.searches.take(now) {
        return Err(DropReason::PortsExhausted);
    }
    let taken = nat::Taken { flows: cx.worker.flows.of::<A>(), over: ended };
    let found = nat::search(&taken, cx.snapshot, pool, (cx.worker.id, subscriber), peer, &mut random);
    if found == Err(nat::Searched::All) {
        let hash = who_asks_whom(cx.worker, pool, peer, subscriber);
        cx.worker.exhausted.note(hash, now);
    }
    found.map_err(|_| DropReason::PortsExhausted)
}

/// Whether a search has just found nothing for those like the subscriber. The port of a flow that is `ended` towards the
/// same peer is free for this one.
#[cold]
#[inline(never)]
fn is_exhausted<A: Wire>(
    worker: &Worker<'_>,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    ended: Option<u32>,
    subscriber: impl Subscriber,
) -> bool {
    let ended = ended.and_then(|ended| worker.flows.of::<A>().get(ended));
    !ended.is_some_and(|entry| peer.answers(entry))
        && worker.exhausted.has(who_asks_whom(worker, pool, peer, subscriber), worker.now)
}

/// A hash of this peer and of those whose ports towards it are used up together.
fn who_asks_whom<A: Wire>(
    worker: &Worker<'_>,
    pool: nat::Pool<'_, A>,
    peer: nat::Peer<A>,
    subscriber: impl Subscriber,
) -> u64 {
    let destination = pool.addresses.first().copied().unwrap_or(peer.address);
    let source_port = peer.port.unwrap_or([0; 2]);
    let tuple = Tuple { source: peer.address, destination, source_port, destination_port: [0; 2] };
    worker.flows.of::<A>().hash(&tuple, peer.protocol) ^ subscriber.hash()
}
