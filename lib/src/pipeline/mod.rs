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
mod cut;
mod error;
mod explain;
mod handshake;
mod icmp;
mod parts;
mod place;
mod pods;
mod policy;
mod sctp;
mod sort;
mod standing;
mod translate;
mod worker;

use crate::flow::{NO_ENTRY, Table, Tuple, raw, tick};
use crate::frame::{Burst, Frame};
use crate::net::Mac;
use crate::snapshot::{Family, Snapshot};
use crate::time::Instant;
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::Packet;
use crate::wire::quote::Quote;
use crate::wire::{Dscp, Ecn, ParseError};

pub use explain::{Recorder, Step};
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
/// pods, VXLAN to its VTEP, pings that it answers, and errors about what it sent. Something before it keeps
/// the host's from it, as the appliance's steering program does. It drops what it does not know, and so would drop what
/// a host lives by: frames to groups of stations, and with them ARP requests and neighbour solicitations
/// (`not-for-this-link`), all other ICMP and pings of the host (`icmp-unmatched`), other protocols (`unknown-protocol`).
///
/// - `snapshot`: what the control side knows; the same for the whole burst.
/// - `now`: the caller's monotonic clock; must not go backwards.
/// - Work: bounded for each frame, whatever it holds; see [`Table::lookup`] and the numbers of
///   tries that the parts state.
///
/// Counts everything in the worker's counters, drops by their reason. Frames that are handed over
/// or go to the host are as they came, but for congestion marks taken inward (RFC 6040).
pub fn process(worker: &mut Worker<'_>, snapshot: &Snapshot<'_>, now: Instant, burst: &mut Burst<'_, '_>) {
    process_explained(worker, snapshot, now, burst, &mut ());
}

/// As [`process`], and tells `recorder` each step on the way. With `()` for a recorder the telling
/// is not compiled.
pub fn process_explained<R: Recorder>(
    worker: &mut Worker<'_>,
    snapshot: &Snapshot<'_>,
    now: Instant,
    burst: &mut Burst<'_, '_>,
    recorder: &mut R,
) {
    worker.begin(now);
    let Burst { frames, spares, emitted } = burst;
    let mut spares = Spares { frames: spares.get_mut(*emitted..).unwrap_or_default(), taken: 0, first: frames.len() };
    let mut cx = Context {
        worker,
        snapshot,
        tick: tick(now),
        frame_index: 0,
        cut: None,
        whole_len: 0,
        spares_left: usize::MAX,
        recorder,
    };
    for frames in frames.chunks_mut(CHUNK) {
        cx.worker.renew_random();
        for frame in frames.iter() {
            frame.lines().for_each(raw::prefetch);
        }
        cx.worker.count_received(frames);
        // Made one by one: a constant would be copied whole, and most of an item is not there yet.
        let mut items: [_; CHUNK] = core::array::from_fn(|_| Sorted::Decided(Verdict::Host));
        for (items, frames) in items.chunks_mut(BUCKETS).zip(frames.chunks_mut(BUCKETS)) {
            for (item, frame) in items.iter_mut().zip(frames.iter_mut()) {
                if let Err(reason) = sort::sort(cx.worker, snapshot, frame, item) {
                    *item = Sorted::Decided(Verdict::Drop(reason));
                }
            }
            items.iter().for_each(|item| ask_for_bucket(cx.worker, item));
        }
        for item in items.iter_mut().take(frames.len().min(AHEAD)) {
            ask(cx.worker, snapshot, item);
        }
        let mut left = items.as_mut_slice();
        for frames in frames.chunks_mut(ENTRIES) {
            let Some((items, later)) = left.split_at_mut_checked(ENTRIES) else { break };
            // Behind the last packet there is nothing to ask for.
            for item in later.iter_mut().skip(AHEAD - ENTRIES).take(ENTRIES) {
                ask(cx.worker, snapshot, item);
            }
            for (frame, item) in frames.iter_mut().zip(items) {
                let verdict = match item {
                    Sorted::V4(item) => act::act(&mut cx, frame, item),
                    Sorted::V6(item) => act::act(&mut cx, frame, item),
                    Sorted::Decided(verdict) => Ok(*verdict),
                };
                let verdict = verdict.unwrap_or_else(|reason| cut::or_drop(&mut cx, frame, item, reason, &mut spares));
                cx.explain(Step::Decided(verdict));
                frame.decide(verdict);
                cx.frame_index += 1;
            }
            left = later;
        }
        cx.worker.count_verdicts(frames);
    }
    if cx.worker.has_waiting_frames() {
        parts::release(&mut cx, &mut spares);
    }
    *emitted += spares.taken;
}

/// The end of the first pass: asks for the memory that tells where the packet's flow is.
#[inline(always)]
fn ask_for_bucket(worker: &Worker<'_>, item: &Sorted) {
    match item {
        Sorted::V4(item) => worker.v4.prefetch_bucket(item.hash),
        Sorted::V6(item) => worker.v6.prefetch_bucket(item.hash),
        Sorted::Decided(_) => {}
    }
}

/// Second pass: asks for the memory of the flow that the packet most likely belongs to.
#[inline(always)]
fn ask(worker: &Worker<'_>, snapshot: &Snapshot<'_>, item: &mut Sorted) {
    match item {
        Sorted::V4(item) => ask_for(worker, snapshot, item),
        Sorted::V6(item) => ask_for(worker, snapshot, item),
        Sorted::Decided(_) => {}
    }
}

#[inline(always)]
fn ask_for<A: Wire>(worker: &Worker<'_>, snapshot: &Snapshot<'_>, item: &mut Item<A>) {
    item.likely = A::flows_of(worker).prefetch_entry(item.hash);
    if item.likely == NO_ENTRY {
        bind::foresee(worker, snapshot, item);
    }
}

/// Counts the verdict of a frame of the worker's own, tells it, and gives it to the frame.
fn conclude<R: Recorder>(cx: &mut Context<'_, '_, '_, R>, frame: &mut Frame<'_>, verdict: Verdict) {
    cx.explain(Step::Decided(verdict));
    frame.decide(verdict);
    cx.worker.count_verdicts(core::slice::from_ref(frame));
}

/// The empty frames that a burst has left.
struct Spares<'b, 'a> {
    frames: &'b mut [Frame<'a>],
    taken: usize,
    /// The number by which a recorder knows the first of them.
    first: usize,
}

impl<'b, 'a> Spares<'b, 'a> {
    /// The next one, which has to be given a verdict, and its number for a recorder.
    fn take(&mut self) -> Option<(&'b mut Frame<'a>, usize)> {
        let (first, rest) = core::mem::take(&mut self.frames).split_first_mut()?;
        self.frames = rest;
        self.taken += 1;
        Some((first, self.first + self.taken - 1))
    }
}

/// A frame after the first pass. Written in place and never moved: copying what was written field
/// by field a moment ago stalls the processor. Its kind is a byte of its own, quicker told than a niche.
#[repr(u8)]
enum Sorted {
    V4(Item<[u8; 4]>),
    V6(Item<[u8; 16]>),
    Decided(Verdict),
}

/// A packet to act on, and what its frame said around it.
struct Item<A> {
    packet: Packet<A>,
    hash: u64,
    /// The entry in which its flow most likely is.
    likely: u32,
    /// Where the packet begins in the frame.
    at: u16,
    way: Way,
    /// The station that the frame came from.
    station: Mac,
    /// The frame's 802.1Q tag, or zero.
    vlan: [u8; 2],
}

impl<A: Copy> Item<A> {
    fn tuple(&self) -> Tuple<A> {
        tuple_of(&self.packet)
    }
}

const fn tuple_of<A: Copy>(packet: &Packet<A>) -> Tuple<A> {
    Tuple {
        source: packet.source,
        destination: packet.destination,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
    }
}

/// From where a packet reached the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// From a link, as it is.
    Link,
    /// From a link that leads to peers, as it is: from a client, or from a pod of a peer that is
    /// reached without encapsulation.
    Underlay,
    /// Out of VXLAN.
    Overlay,
}

/// What the third pass works with.
struct Context<'c, 'm, 's, R> {
    worker: &'c mut Worker<'m>,
    snapshot: &'c Snapshot<'s>,
    tick: u32,
    frame_index: usize,
    /// With a packet that was dropped for its size alone, after its translation: the way that its
    /// pieces go.
    cut: Option<act::Leave<'s>>,
    /// With the first part of an SCTP packet, bytes of all of it: its checksum depends on them.
    whole_len: u16,
    /// How many spare frames there are, once one has been used.
    spares_left: usize,
    recorder: &'c mut R,
}

impl<R: Recorder> Context<'_, '_, '_, R> {
    #[inline]
    fn explain(&mut self, step: Step) {
        self.recorder.step(self.frame_index, step);
    }
}

/// What differs between the families on the data path.
trait Wire: Family {
    /// The worker's flows of this family, to look at.
    fn flows_of<'w, 'm>(worker: &'w Worker<'m>) -> &'w Table<'m, Self>;

    /// The gateway's end of the overlay over this family, and whether there is one.
    fn vtep(snapshot: &Snapshot<'_>) -> (Self, bool);

    /// The link address of that end.
    fn vtep_mac<'a>(snapshot: &Snapshot<'a>) -> &'a Mac;

    /// The item of a packet of this family.
    fn sorted(item: Item<Self>) -> Sorted;

    /// The worker's flows of this family.
    fn flows<'w, 'm>(worker: &'w mut Worker<'m>) -> &'w mut Table<'m, Self>;

    /// Reads a packet; `None` for one off the fast path.
    fn parse_plain(ip: &[u8]) -> Result<Option<Packet<Self>>, ParseError>;

    /// Reads any packet.
    fn parse(ip: &[u8]) -> Result<Packet<Self>, ParseError>;

    /// Replaces addresses and ports by those of `to`, takes one hop off, keeps all checksums right.
    ///
    /// - `whole_len`: with the first part of an SCTP packet, bytes of all of it.
    fn translate(ip: &mut [u8], packet: &Packet<Self>, to: &Tuple<Self>, whole_len: &u16) -> Result<(), DropReason>;

    /// Replaces the congestion mark.
    fn set_ecn(ip: &mut [u8], ecn: Ecn);

    /// Replaces the differentiated services codepoint.
    fn set_dscp(ip: &mut [u8], dscp: Dscp) -> Option<()>;

    /// Whether a packet from this address may be forwarded.
    fn may_send(address: Self) -> bool;

    /// Makes an echo request its own reply, or a later part of one that of the reply.
    fn answer_echo(ip: &mut [u8], packet: &Packet<Self>) -> Option<()>;

    /// Whether a parsed packet names the stations that it wants to pass by.
    fn has_source_route(ip: &[u8]) -> bool;

    /// Bytes of the family's IP header without options.
    const HEADER_LEN: usize;

    /// Whether every UDP datagram has a checksum (RFC 8200 §8.1).
    const HAS_UDP_CHECKSUM: bool;

    /// The most bytes of an ICMP error, from its IP header on.
    const ERROR_LEN_MAX: usize;

    /// The type of service or traffic class of one of the gateway's own.
    const ERROR_TOS: u8;

    /// Writes the headers of an ICMP error before the packet that it quotes: `ip` begins where the
    /// error's IP header shall.
    fn write_error(ip: &mut [u8], kind: error::Kind, source: Self, destination: Self) -> Option<()>;

    /// Whether the packet's transport checksum is right; `None` where that cannot be told.
    fn is_intact(ip: &[u8], packet: &Packet<Self>) -> Option<bool>;

    /// Whether an ICMP error of this type means anything on the other side of a translation: not a
    /// redirect, which speaks of the link it was sent on, nor source quench (RFC 6633).
    fn is_told_onward(kind: u8) -> bool;

    /// Whether an ICMP error of this type and code tells of an MTU (RFC 1191 §4, RFC 4443 §3.2).
    fn is_too_big(type_and_code: [u8; 2]) -> bool;

    /// Reads what an ICMP error quotes.
    fn quote(quoted: &[u8]) -> Result<Quote<Self>, ParseError>;

    /// Replaces an ICMP error's addresses by those of `to` (source, destination) and those of the
    /// packet that it quotes by `quoted`, takes one hop off, keeps all checksums right.
    fn translate_error(
        ip: &mut [u8],
        packet: &Packet<Self>,
        quote: &Quote<Self>,
        quoted: &Tuple<Self>,
        to: (Self, Self),
    ) -> Result<(), DropReason>;
}
