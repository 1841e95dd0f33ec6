//! The data path: a burst of frames in, a verdict for each, nothing else touched but one worker's
//! own tables. Start reading here.
//!
//! A burst is taken in three passes, so that memory is fetched while other frames are looked at
//! (the frames' own headers before the first):
//!
//! 1. *sort*: read the headers, open VXLAN, hash the tuple, ask for the flow table's bucket;
//! 2. read the bucket, ask for the flow's entry;
//! 3. *act*: find the flow or make one, translate, and send the packet on its way.
//!
//! The second runs a few packets ahead of the third, as a processor waits for only so much memory at once.
//!
//! Fast path: a whole TCP or UDP packet of a flow that exists. Everything else (new flows, pings,
//! errors) leaves the third pass through functions marked cold.

mod act;
mod admit;
mod bind;
mod carry_out;
mod context;
mod decide;
mod decision;
mod echo;
mod egress;
mod error;
mod family;
mod follow;
mod foreseen;
mod fragmentation;
mod fragments;
mod handshake;
mod held;
mod icmp_error;
mod item;
mod limits;
mod masquerade;
mod observe;
mod owner;
mod policy;
mod pool_flows;
mod ports;
mod report;
mod reset;
mod revalidate;
mod sctp;
mod sort;
mod stateless;
mod track;
mod translate;
mod transmit;
mod worker;

use crate::flow::{NO_ENTRY, tick};
use crate::frame::Burst;
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::verdict::Verdict;
use context::{Context, Spares};
use family::Wire;
use foreseen::Foresight;
use item::{Item, Sorted};

pub use observe::{Observer, Step};
pub use worker::{AttachError, InitError, Worker, WorkerConfig};

/// How many frames are sorted before the first of them is acted on.
const CHUNK: usize = 32;

/// How many packets the second pass is ahead of the third, at the least.
const AHEAD: usize = 8;

/// How many packets' buckets, and how many packets' entries, are asked for in a row: what waits for one address
/// to be translated then waits for the others' as well.
const BUCKETS: usize = 8;
const ENTRIES: usize = 4;

/// Gives every frame of the burst a verdict.
///
/// It expects the gateway's frames alone: packets to services, to its overlay subnets and to addresses that stand for
/// pods, VXLAN to its VTEP, pings that it answers, errors about what it sent, and what pods that are reached by a plain route
/// send outside to be masqueraded. Something before it keeps
/// the host's from it, as the appliance's steering program does. It drops what it does not know, and so would drop what
/// a host lives by: frames to group addresses, and with them ARP requests and neighbour solicitations
/// (`not-for-this-link`), all other ICMP and pings of the host (`icmp-unmatched`), other protocols (`unknown-protocol`).
///
/// - `snapshot`: what the control side knows; the same for the whole burst.
/// - `now`: the caller's monotonic clock; must not go backwards.
/// - Work: bounded for each frame, whatever it holds; see [`Table::lookup`](crate::flow::Table::lookup) and the numbers of
///   tries that each file states.
///
/// Counts everything in the worker's counters, drops by their reason. Frames that are handed over
/// or go to the host are as they came, but for congestion marks taken inward (RFC 6040).
pub fn process(worker: &mut Worker<'_>, snapshot: &Snapshot<'_>, now: Instant, burst: &mut Burst<'_, '_>) {
    process_observed(worker, snapshot, now, burst, &mut ());
}

/// As [`process`], and reports each step of each frame, and what becomes of flows, to `observer`. With `()` for an
/// observer nothing of that is compiled.
pub fn process_observed<O: Observer>(
    worker: &mut Worker<'_>,
    snapshot: &Snapshot<'_>,
    now: Instant,
    burst: &mut Burst<'_, '_>,
    observer: &mut O,
) {
    worker.begin(now);
    let Burst { frames, spares, emitted } = burst;
    let mut spares = Spares::new(spares.get_mut(*emitted..).unwrap_or_default(), frames.len());
    let mut cx = Context { worker, snapshot, tick: tick(now), frame_index: 0, observer, foresight: Foresight::new() };
    for frames in frames.chunks_mut(CHUNK) {
        cx.worker.renew_random();
        cx.worker.receive(frames);
        // Made one by one: a constant would be copied whole, and most of an item is not there yet.
        let mut items: [_; CHUNK] = core::array::from_fn(|_| Sorted::Decided(Verdict::Host));
        for (items, frames) in items.chunks_mut(BUCKETS).zip(frames.chunks_mut(BUCKETS)) {
            for (item, frame) in items.iter_mut().zip(frames.iter_mut()) {
                if let Err(reason) = sort::sort(cx.worker, snapshot, frame, item) {
                    *item = Sorted::Decided(Verdict::Drop(reason));
                }
            }
            items.iter_mut().for_each(|item| ask_for_bucket(cx.worker, item));
        }
        for item in items.iter_mut().take(frames.len().min(AHEAD)) {
            ask(&mut cx, item);
        }
        let mut left = items.as_mut_slice();
        for frames in frames.chunks_mut(ENTRIES) {
            let Some((items, later)) = left.split_at_mut_checked(ENTRIES) else { break };
            // Behind the last packet there is nothing to ask for.
            for item in later.get_mut(AHEAD - ENTRIES..AHEAD).unwrap_or_default() {
                ask(&mut cx, item);
            }
            for (frame, item) in frames.iter_mut().zip(items) {
                let verdict = match item {
                    Sorted::V4(item) => act::act(&mut cx, frame, item, &mut spares),
                    Sorted::V6(item) => act::act(&mut cx, frame, item, &mut spares),
                    Sorted::Decided(verdict) => Ok(*verdict),
                };
                let verdict = verdict.unwrap_or_else(Verdict::Drop);
                cx.explain(Step::Decided(verdict));
                frame.decide(verdict);
                cx.frame_index += 1;
            }
            left = later;
        }
        cx.worker.count_verdicts(frames);
    }
    if cx.worker.has_waiting_frames() {
        held::release(&mut cx, &mut spares);
    }
    *emitted += spares.taken();
}

/// The end of the first pass: asks for the memory that tells where the packet's flow is.
#[inline(always)]
fn ask_for_bucket(worker: &Worker<'_>, item: &mut Sorted) {
    match item {
        Sorted::V4(item) => item.likely = worker.flows.v4.prefetch_bucket(item.hash),
        Sorted::V6(item) => item.likely = worker.flows.v6.prefetch_bucket(item.hash),
        Sorted::Decided(_) => {}
    }
}

/// Second pass: asks for the memory of the flow that the packet most likely belongs to.
#[inline(always)]
fn ask<O>(cx: &mut Context<'_, '_, '_, O>, item: &mut Sorted) {
    match item {
        Sorted::V4(item) => ask_for(cx, item),
        Sorted::V6(item) => ask_for(cx, item),
        Sorted::Decided(_) => {}
    }
}

#[inline(always)]
fn ask_for<A: Wire, O>(cx: &mut Context<'_, '_, '_, O>, item: &mut Item<A>) {
    item.likely = cx.worker.flows.of::<A>().prefetch_entry(item.likely, item.hash);
    if item.likely == NO_ENTRY {
        item.likely = bind::foresee(cx, item);
    }
}
