//! The loop. Start reading at [`Lane::run`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use arrayvec::ArrayVec;
use weirgate::frame::{BURST_FRAMES_MAX, Burst, Frame};
use weirgate::net::{PortId, WorkerId};
use weirgate::time::{Instant, Span};
use weirgate::verdict::{DropReason, Verdict};

use super::exchange::{Exchange, Handed, Origin};
use super::rest::{Next, Rest};
use super::stats::add;
use super::{Forward, Poll, Shared, Stats};
use crate::xdp::Polling;
use crate::xdp::layout::ADJUST;
use crate::xdp::ring::{Batch, Queue, RingCounters};
use crate::xdp::sys::{self, Waiter};
use crate::xdp::umem::{Area, Chunk};
use crate::xdp::{EarlyFragment, EarlyFragments};

/// Spare buffers for frames that the pipeline makes, in one burst.
const SPARES: usize = 16;
/// How many times in a turn the pipeline is called only for frames that it makes itself: enough for the
/// longest datagram in fragments of one Ethernet frame each.
const WAITING_ROUNDS: usize = 8;
/// The shortest frame that a driver takes: an Ethernet header.
const FRAME_MIN: usize = 14;
/// How long it sleeps at most, so that ageing continues.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// How long it sleeps at most while the TX ring does not empty, as on an interface that is down, or
/// while chunks wait to be returned to their owners.
const SLEEP_UNSENT: Duration = Duration::from_millis(1);
/// How many entries are aged at most in a turn that moved frames, and in one that did not.
const AGE_BUDGET: u32 = 512;
const AGE_BUDGET_IDLE: u32 = 16_384;
/// How often the kernel's counters are read.
const COUNTERS_EVERY: Span = Span(1_000_000_000);
/// How many next hops may be requested in one turn, and how many turns apart.
const ASK_BUDGET: usize = 8;
const ASK_EVERY: Span = Span(1_000_000);
/// How long a worker continues to transmit after it was asked to stop.
const DRAIN: Span = Span(100_000_000);

/// One worker's rings and chunks, on its thread.
pub struct Lane {
    id: WorkerId,
    area: Arc<Area>,
    queues: Vec<Queue>,
    /// By port, the queue to transmit on.
    outlets: Vec<usize>,
    /// By port, the frames to transmit at the end of the turn.
    staged: Vec<Batch>,
    /// Chunks with nothing in them.
    free: Vec<Chunk>,
    spares: ArrayVec<Chunk, SPARES>,
    /// By worker, its chunks for which the return ring had no room yet.
    strays: Vec<Vec<Chunk>>,
    chunks_per_worker: usize,
    /// How many chunks should be here; hand-overs change it.
    entrusted: usize,
    exchange: Exchange,
    /// Fragments that came before their first one: one worker reads them for all.
    early: Option<EarlyFragments>,
    shared: Arc<Shared>,
    asked: SyncSender<(PortId, IpAddr)>,
    rest: Rest,
    /// When the kernel's counters were read, and next hops were requested.
    last_counted: Instant,
    last_asked: Instant,
    waiters: Vec<Waiter>,
}

/// What a lane is made of.
pub(super) struct Parts {
    pub(super) id: WorkerId,
    pub(super) ports: usize,
    pub(super) area: Arc<Area>,
    pub(super) queues: Vec<Queue>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) chunks_per_worker: usize,
    pub(super) exchange: Exchange,
    pub(super) early: Option<EarlyFragments>,
    pub(super) shared: Arc<Shared>,
    pub(super) asked: SyncSender<(PortId, IpAddr)>,
    pub(super) poll: Poll,
}

impl Lane {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { id, ports, area, queues, chunks, chunks_per_worker, exchange, early, shared, asked, poll } = parts;
        let outlets = (0..ports)
            .map(|port| {
                let serves = |queue: &Queue| usize::from(queue.port().0) == port;
                queues.iter().position(serves).expect("each worker has a queue of each port")
            })
            .collect();
        let mut waiters: Vec<_> = queues.iter().map(|queue| Waiter::new(queue.fd())).collect();
        waiters.push(Waiter::new(shared.doorbells[usize::from(id.0)].fd()));
        waiters.extend(early.as_ref().map(|early| Waiter::new(early.fd())));
        // Room for every chunk there is, so that nothing ever grows in the loop.
        let all = chunks_per_worker * shared.stats.len();
        let mut free = Vec::with_capacity(all);
        free.extend(chunks);
        let mut lane = Self {
            id,
            outlets,
            staged: (0..ports).map(|_| Batch::new()).collect(),
            spares: ArrayVec::new(),
            strays: shared.stats.iter().map(|_| Vec::with_capacity(chunks_per_worker)).collect(),
            entrusted: free.len(),
            free,
            area,
            queues,
            chunks_per_worker,
            exchange,
            early,
            shared,
            asked,
            rest: Rest::new(poll, sys::boot_time()),
            last_counted: Instant::ZERO,
            last_asked: Instant::ZERO,
            waiters,
        };
        // From here on the kernel can receive, and frames wait for the thread to start.
        lane.supply();
        lane
    }

    /// Which worker this is.
    #[must_use]
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    /// Moves frames until the workers are stopped.
    pub fn run(&mut self, forward: &mut impl Forward) {
        let mut now = sys::boot_time();
        let mut batch = Batch::new();
        while !self.shared.stop.load(Relaxed) {
            self.reclaim();
            let mut frames = self.take_over(&mut batch, now, forward);
            for queue in 0..self.queues.len() {
                frames += self.receive(queue, &mut batch, now, forward);
            }
            frames += self.take_early(&mut batch, now, forward);
            self.send_waiting(&mut batch, now, forward);
            self.send(forward);
            self.supply();
            forward.age(now, if frames > 0 { AGE_BUDGET } else { AGE_BUDGET_IDLE });
            self.ask(now, forward);
            now = self.finish_turn(now, frames);
            now = self.pause(now, frames > 0, forward);
        }
        self.drain(forward);
    }

    /// Takes back the chunks of frames that have been transmitted, here or by other workers.
    fn reclaim(&mut self) {
        let first = self.free.len();
        for queue in &mut self.queues {
            queue.reap(&mut self.free);
        }
        if self.shared.stats.len() > 1 {
            self.part_strays(first);
            self.send_home();
            for peer in self.exchange.peers.iter_mut().flatten() {
                while let Ok(chunk) = peer.chunks_from.pop() {
                    self.free.push(chunk);
                    self.entrusted += 1;
                }
            }
        }
    }

    /// Takes back a chunk whose frame was dropped; another worker's will be returned to it.
    fn release(&mut self, chunk: Chunk) {
        let home = self.home(&chunk);
        if home == usize::from(self.id.0) {
            self.free.push(chunk);
        } else {
            self.strays[home].push(chunk);
        }
    }

    /// Takes other workers' chunks out of the free ones, from `first` on.
    fn part_strays(&mut self, first: usize) {
        let mut at = first;
        while let Some(chunk) = self.free.get(at) {
            let home = self.home(chunk);
            if home == usize::from(self.id.0) {
                at += 1;
            } else {
                let stray = self.free.swap_remove(at);
                self.strays[home].push(stray);
            }
        }
    }

    /// Returns other workers' chunks to their homes, as many as the ring of each has room for.
    fn send_home(&mut self) {
        for (home, strays) in self.strays.iter_mut().enumerate() {
            let Some(peer) = self.exchange.peers[home].as_mut() else { continue };
            let sent = strays.len().min(peer.chunks_to.slots());
            if sent == 0 {
                continue;
            }
            for chunk in strays.drain(strays.len() - sent..) {
                peer.chunks_to.push(chunk).expect("this worker alone fills the ring");
            }
            self.entrusted -= sent;
            self.shared.doorbells[home].ring();
        }
    }

    fn home(&self, chunk: &Chunk) -> usize {
        self.area.number(chunk) / self.chunks_per_worker
    }

    /// Processes frames that other workers have handed over.
    fn take_over(&mut self, batch: &mut Batch, now: Instant, forward: &mut impl Forward) -> usize {
        let mut total = 0;
        for peer in 0..self.exchange.peers.len() {
            let Some(from) = self.exchange.peers[peer].as_mut() else { continue };
            let mut origins = [Origin::port(PortId(0)); BURST_FRAMES_MAX];
            while !batch.is_full()
                && let Ok((chunk, origin)) = from.frames_from.pop()
            {
                origins[batch.len()] = origin;
                batch.push(chunk);
            }
            if !batch.is_empty() {
                total += batch.len();
                self.entrusted += batch.len();
                add(&self.stats().taken_over, batch.len() as u64);
                self.forward(batch, &origins, now, forward);
            }
        }
        total
    }

    /// Processes what one queue has received.
    fn receive(&mut self, queue: usize, batch: &mut Batch, now: Instant, forward: &mut impl Forward) -> usize {
        self.queues[queue].receive(batch, &self.area);
        if batch.is_empty() {
            return 0;
        }
        let port = self.queues[queue].port();
        let frames = batch.len();
        let bytes: usize = batch.iter().map(|chunk| chunk.len().saturating_sub(ADJUST)).sum();
        let stats = &self.stats().ports[usize::from(port.0)];
        add(&stats.received_frames, frames as u64);
        add(&stats.received_bytes, bytes as u64);
        self.forward(batch, &[Origin::port(port); BURST_FRAMES_MAX], now, forward);
        frames
    }

    /// Processes copies of fragments that came before their first one, each by the worker that serves the queue on
    /// which the first one will arrive.
    fn take_early(&mut self, batch: &mut Batch, now: Instant, forward: &mut impl Forward) -> usize {
        let Some(mut early) = self.early.take() else { return 0 };
        let mut origins = [Origin::port(PortId(0)); BURST_FRAMES_MAX];
        let mut total = 0;
        while total < BURST_FRAMES_MAX
            && let Some(mut chunk) = self.free.pop()
        {
            let copied = early.next(|part| {
                let EarlyFragment { port, queue, frame } = part;
                (self.area.write(&mut chunk, frame), Origin::port(port), queue as usize % self.shared.stats.len())
            });
            match copied {
                None => {
                    self.free.push(chunk);
                    break;
                }
                Some((false, ..)) => {
                    forward.count_drop(DropReason::NoRoom);
                    self.free.push(chunk);
                }
                Some((true, origin, worker)) if worker == usize::from(self.id.0) => {
                    origins[batch.len()] = origin;
                    batch.push(chunk);
                }
                // It fits: there are no more workers than numbers for them.
                Some((true, origin, worker)) => self.hand_over(WorkerId(worker as u8), (chunk, origin), forward),
            }
            total += 1;
        }
        if !batch.is_empty() {
            self.forward(batch, &origins, now, forward);
        }
        self.early = Some(early);
        total
    }

    /// Provides buffers for frames that were held, can leave now, and found none in their burst.
    fn send_waiting(&mut self, batch: &mut Batch, now: Instant, forward: &mut impl Forward) {
        for _ in 0..WAITING_ROUNDS {
            if !forward.has_waiting_frames() {
                return;
            }
            self.forward(batch, &[], now, forward);
        }
    }

    /// Has a burst processed, and moves each frame by its verdict. Leaves `batch` empty.
    fn forward(&mut self, batch: &mut Batch, origins: &[Origin], now: Instant, forward: &mut impl Forward) {
        while !self.spares.is_full()
            && let Some(chunk) = self.free.pop()
        {
            self.spares.push(chunk);
        }
        let mut outcomes = ArrayVec::<Outcome, BURST_FRAMES_MAX>::new();
        let mut made = ArrayVec::<Outcome, SPARES>::new();
        {
            let area = &*self.area;
            let mut frames: ArrayVec<Frame<'_>, BURST_FRAMES_MAX> =
                batch.iter_mut().zip(origins).map(|(chunk, &origin)| received(area, chunk, origin)).collect();
            let mut spares: ArrayVec<Frame<'_>, SPARES> =
                self.spares.iter_mut().map(|chunk| spare(area, chunk)).collect();
            let mut burst = Burst::new(&mut frames, &mut spares);
            forward.process(now, &mut burst);
            let emitted = burst.emitted;
            outcomes.extend(frames.iter().map(Outcome::of));
            made.extend(spares.iter().take(emitted).map(Outcome::of));
        }
        add(&self.stats().bursts, 1);
        for (chunk, outcome) in batch.drain(..).zip(outcomes) {
            self.place(chunk, outcome, forward);
        }
        let emitted: ArrayVec<Chunk, SPARES> = self.spares.drain(..made.len()).collect();
        for (chunk, outcome) in emitted.into_iter().zip(made) {
            self.place(chunk, outcome, forward);
        }
    }

    /// Moves a frame to exactly one of: a TX ring, another worker, the free chunks.
    fn place(&mut self, mut chunk: Chunk, outcome: Outcome, forward: &mut impl Forward) {
        match outcome.verdict {
            Some(Verdict::Transmit(out)) if usize::from(out.0) < self.staged.len() && outcome.length >= FRAME_MIN => {
                if !self.area.settle(&mut chunk, outcome.start, outcome.length) {
                    forward.count_drop(DropReason::NoRoom);
                    self.release(chunk);
                    return;
                }
                if self.staged[usize::from(out.0)].is_full() {
                    self.flush(usize::from(out.0), forward);
                }
                self.staged[usize::from(out.0)].push(chunk);
            }
            Some(Verdict::Handover(worker)) => {
                // As if it came from a ring, even if it is one that was held.
                let start = outcome.start.checked_sub(ADJUST);
                if start.is_none_or(|start| !self.area.settle(&mut chunk, start, ADJUST + outcome.length)) {
                    forward.count_drop(DropReason::NoRoom);
                    self.release(chunk);
                    return;
                }
                let Origin { port, handovers } = outcome.origin;
                let origin = Origin { port, handovers: handovers.saturating_add(1) };
                self.hand_over(worker, (chunk, origin), forward);
            }
            Some(Verdict::Host) => {
                forward.count_drop(DropReason::HostFull);
                self.release(chunk);
            }
            Some(Verdict::Transmit(_)) => {
                forward.count_drop(DropReason::UnknownPort);
                self.release(chunk);
            }
            Some(Verdict::Drop(_) | Verdict::Held) | None => self.release(chunk),
        }
    }

    fn hand_over(&mut self, worker: WorkerId, frame: Handed, forward: &mut impl Forward) {
        let to = usize::from(worker.0);
        let peer = self.exchange.peers.get_mut(to).and_then(Option::as_mut);
        let refused = match peer {
            Some(peer) => match peer.frames_to.push(frame) {
                Ok(()) => None,
                Err(rtrb::PushError::Full(frame)) => Some(frame),
            },
            None => Some(frame),
        };
        match refused {
            None => {
                self.entrusted -= 1;
                add(&self.stats().handed_over, 1);
                self.shared.doorbells[to].ring();
            }
            Some((chunk, _)) => {
                forward.count_drop(DropReason::HandoverFull);
                self.release(chunk);
            }
        }
    }

    /// Moves what is staged into the TX rings and makes the kernel work on all rings.
    fn send(&mut self, forward: &mut impl Forward) {
        for port in 0..self.staged.len() {
            if !self.staged[port].is_empty() {
                self.flush(port, forward);
            }
        }
        for queue in &mut self.queues {
            queue.kick();
        }
    }

    /// Moves one port's staged frames into its TX ring, and drops those for which there is no room
    /// even after the kernel has been made to send.
    fn flush(&mut self, port: usize, forward: &mut impl Forward) {
        let first = self.free.len();
        let staged = &mut self.staged[port];
        let queue = &mut self.queues[self.outlets[port]];
        let before = staged.len();
        let bytes = staged.iter().map(Chunk::len).sum::<usize>();
        queue.transmit(staged);
        if !staged.is_empty() {
            queue.kick();
            queue.reap(&mut self.free);
            queue.transmit(staged);
        }
        let dropped = staged.len();
        let dropped_bytes = staged.iter().map(Chunk::len).sum::<usize>();
        self.free.extend(staged.drain(..));
        self.part_strays(first);
        for _ in 0..dropped {
            forward.count_drop(DropReason::TransmitFull);
        }
        let stats = &self.stats().ports[port];
        add(&stats.transmitted_frames, (before - dropped) as u64);
        add(&stats.transmitted_bytes, (bytes - dropped_bytes) as u64);
    }

    /// Gives the kernel chunks to receive into.
    fn supply(&mut self) {
        for queue in &mut self.queues {
            queue.supply(&mut self.free);
        }
    }

    /// Reports which next hops the kernel should resolve, at a limited rate.
    fn ask(&mut self, now: Instant, forward: &mut impl Forward) {
        if now - self.last_asked < ASK_EVERY {
            return;
        }
        self.last_asked = now;
        for _ in 0..ASK_BUDGET {
            let Some(hop) = forward.next_unresolved() else { break };
            // When the control side is behind, the next packet requests it again.
            let _ = self.asked.try_send(hop);
        }
    }

    fn finish_turn(&mut self, began: Instant, frames: usize) -> Instant {
        debug_assert_eq!(self.held(), self.entrusted, "every chunk has one owner");
        let now = sys::boot_time();
        if frames > 0 {
            self.stats().latency.record((now - began).0);
        }
        if now - self.last_counted > COUNTERS_EVERY {
            self.last_counted = now;
            self.publish();
        }
        now
    }

    /// Every chunk in this worker's hands or in the kernel's on its behalf.
    fn held(&self) -> usize {
        let in_rings: u32 = self.queues.iter().map(Queue::held).sum();
        let staged: usize = self.staged.iter().map(ArrayVec::len).sum();
        let strays: usize = self.strays.iter().map(Vec::len).sum();
        in_rings as usize + staged + self.free.len() + self.spares.len() + strays
    }

    fn publish(&mut self) {
        self.queues.iter_mut().for_each(Queue::look);
        let stats = self.stats();
        for (port, stats) in stats.ports.iter().enumerate().take(self.outlets.len()) {
            let own = self.queues.iter().filter(|queue| usize::from(queue.port().0) == port);
            stats.set_polling(&own.map(Queue::polling).fold(Polling::default(), Polling::and));
        }
        stats.held.store(self.held() as u64, Relaxed);
        let counted = self.queues.iter().map(Queue::counters).fold(RingCounters::default(), RingCounters::and);
        stats.receive_ring_full.store(counted.receive_ring_full, Relaxed);
        stats.fill_ring_empty.store(counted.fill_ring_empty, Relaxed);
        stats.receive_dropped.store(counted.dropped, Relaxed);
        stats.invalid.store(counted.invalid, Relaxed);
    }

    /// Waits after a turn; returns the time after that.
    fn pause(&mut self, now: Instant, has_moved: bool, forward: &impl Forward) -> Instant {
        match self.rest.next(now, has_moved) {
            Next::Turn => now,
            Next::Yield => {
                thread::yield_now();
                let back = sys::boot_time();
                self.rest.yielded(now, back);
                back
            }
            Next::Sleep => {
                self.sleep(forward);
                sys::boot_time()
            }
        }
    }

    /// Sleeps until a frame comes, unless one has come in the meantime.
    fn sleep(&mut self, forward: &impl Forward) {
        let doorbell = usize::from(self.id.0);
        self.shared.doorbells[doorbell].lie_down();
        let is_waiting = forward.has_waiting_frames()
            || self.exchange.has_waiting()
            || self.queues.iter_mut().any(Queue::has_received);
        let mut has_rung = false;
        if !is_waiting && !self.shared.stop.load(Relaxed) {
            let is_unsent =
                self.queues.iter_mut().any(Queue::has_unsent) || self.strays.iter().any(|at| !at.is_empty());
            add(&self.stats().sleeps, 1);
            sys::wait(&mut self.waiters, if is_unsent { SLEEP_UNSENT } else { SLEEP_MAX });
            has_rung = self.waiters[self.queues.len()].is_ready();
            self.queues.iter_mut().for_each(Queue::slept);
        }
        self.shared.doorbells[doorbell].get_up(has_rung);
        for (queue, waiter) in self.queues.iter_mut().zip(&mut self.waiters) {
            if waiter.is_broken() {
                // The interface has gone. It would be ready for ever.
                waiter.forget();
                queue.bury();
            }
        }
    }

    /// Sends what is still in the TX rings.
    fn drain(&mut self, forward: &mut impl Forward) {
        let began = sys::boot_time();
        self.send(forward);
        while self.queues.iter_mut().any(Queue::has_unsent) && sys::boot_time() - began < DRAIN {
            self.queues.iter_mut().for_each(Queue::kick);
            self.reclaim();
        }
        self.reclaim();
        self.publish();
    }

    fn stats(&self) -> &Stats {
        &self.shared.stats[usize::from(self.id.0)]
    }
}

/// The pipeline's result for a frame.
#[derive(Clone, Copy)]
struct Outcome {
    verdict: Option<Verdict>,
    start: usize,
    length: usize,
    origin: Origin,
}

impl Outcome {
    fn of(frame: &Frame<'_>) -> Self {
        let origin = Origin { port: frame.port(), handovers: frame.handovers() };
        Self { verdict: frame.verdict(), start: frame.start(), length: frame.len(), origin }
    }
}

/// The frame in a chunk that came from an RX ring. The steering program has moved its start by
/// [`ADJUST`]; a shorter frame did not come from it, and becomes an empty one.
fn received<'a>(area: &'a Area, chunk: &'a mut Chunk, origin: Origin) -> Frame<'a> {
    let length = chunk.len().saturating_sub(ADJUST);
    let offset = area.offset(chunk);
    let buffer = area.bytes(chunk);
    let start = (offset + ADJUST).min(buffer.len());
    let length = length.min(buffer.len() - start);
    let frame = Frame::new(buffer, start, length, origin.port).expect("start and length lie in the buffer");
    frame.handed_over(origin.handovers)
}

/// An empty frame in a chunk, with the room in front that received ones have.
fn spare<'a>(area: &'a Area, chunk: &'a mut Chunk) -> Frame<'a> {
    let offset = area.offset(chunk);
    let buffer = area.bytes(chunk);
    let start = (offset + ADJUST).min(buffer.len());
    Frame::new(buffer, start, 0, PortId(0)).expect("the start lies in the buffer")
}
