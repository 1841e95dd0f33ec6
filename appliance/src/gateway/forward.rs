//! The core's pipeline as a worker runs it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arc_swap::Cache;
use self_cell::self_cell;
use weirgate::counters::{Counters, ServiceCounters};
use weirgate::frame::Burst;
use weirgate::net::PortId;
use weirgate::pipeline::{self, Worker};
use weirgate::snapshot::Snapshot;
use weirgate::time::{Instant, Span};
use weirgate::verdict::DropReason;

use super::listing::Listed;
use crate::control::publish::{Published, SnapshotMemory};
use crate::worker::Forward;

/// What one worker of the gateway counts. The worker alone writes, anyone may read.
#[derive(Debug)]
pub struct WorkerCounters {
    /// What the core counts.
    pub core: Counters,
    /// By service, in the order of the configuration.
    pub services: Box<[ServiceCounters]>,
    /// How many IPv4 flows there are.
    pub flows_v4: AtomicU32,
    /// How many IPv6 flows there are.
    pub flows_v6: AtomicU32,
    /// How many IPv4 flows are half-open.
    pub half_open_v4: AtomicU32,
    /// How many IPv6 flows are half-open.
    pub half_open_v6: AtomicU32,
}

impl WorkerCounters {
    /// Counters at zero for so many services.
    #[must_use]
    pub fn new(services: usize) -> Self {
        Self {
            core: Counters::default(),
            services: (0..services).map(|_| ServiceCounters::default()).collect(),
            flows_v4: AtomicU32::new(0),
            flows_v6: AtomicU32::new(0),
            half_open_v4: AtomicU32::new(0),
            half_open_v6: AtomicU32::new(0),
        }
    }
}

self_cell! {
    /// A snapshot attached to its memory, so that this happens once for each swap and not for each burst.
    struct Attached {
        owner: Arc<SnapshotMemory>,
        #[covariant]
        dependent: Snapshot,
    }
}

impl Attached {
    fn to(memory: &Arc<SnapshotMemory>) -> Self {
        Self::new(Arc::clone(memory), |memory| memory.view())
    }
}

/// How long one round of ageing over all flows takes. So the share of each turn depends on the time,
/// not on the number of turns. A flow is removed this much too late at most.
const ROUND: Span = Span::from_secs(8);
/// The fewest entries to look at in one turn.
const SLICE: u32 = 64;

/// Which share of a round over the flows is due.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How many entries a round has.
    entries: u32,
    /// Until when they have been looked at.
    done: Instant,
}

impl Pace {
    /// How many entries to look at now: none until there are enough, and at most `budget`; the rest
    /// stays due.
    fn due(&mut self, now: Instant, budget: u32) -> u32 {
        // More than a round behind counts as one round.
        let late = (now - self.done).0.min(ROUND.0);
        let due = late.saturating_mul(self.entries.into()) / ROUND.0;
        // It fits: no more than there are entries.
        let slice = (due as u32).min(budget);
        if slice < SLICE.min(self.entries).min(budget) || slice == 0 {
            return 0;
        }
        self.done = Instant(now.0 - late + u64::from(slice) * ROUND.0 / u64::from(self.entries));
        slice
    }
}

/// A worker with the reference to its snapshot.
pub(super) struct Forwarder<'m> {
    worker: Worker<'m>,
    latest: Cache<Arc<Published>, Arc<SnapshotMemory>>,
    attached: Attached,
    counters: &'m WorkerCounters,
    listed: Listed,
    pace: Pace,
}

impl<'m> Forwarder<'m> {
    pub(super) fn new(
        worker: Worker<'m>,
        published: Arc<Published>,
        counters: &'m WorkerCounters,
        listed: Listed,
    ) -> Self {
        let mut latest = Cache::new(published);
        let attached = Attached::to(latest.load());
        let entries = worker.flows().v4.capacity().max(worker.flows().v6.capacity());
        Self { worker, latest, attached, counters, listed, pace: Pace { entries, done: Instant::ZERO } }
    }

    /// Switches to the latest snapshot, if there is another.
    fn refresh(&mut self) {
        let latest = self.latest.load();
        if !Arc::ptr_eq(latest, self.attached.borrow_owner()) {
            self.attached = Attached::to(latest);
        }
    }
}

impl Forward for Forwarder<'_> {
    fn process(&mut self, now: Instant, burst: &mut Burst<'_, '_>) {
        self.refresh();
        pipeline::process(&mut self.worker, self.attached.borrow_dependent(), now, burst);
    }

    fn count_drop(&mut self, reason: DropReason) {
        self.counters.core.count_drop(reason);
    }

    fn age(&mut self, now: Instant, budget: u32) {
        let due = self.pace.due(now, budget);
        if due > 0 {
            self.refresh();
            self.worker.age(self.attached.borrow_dependent(), now, due);
        }
        // Relaxed: only people read these.
        self.counters.flows_v4.store(self.worker.flows().v4.len(), Relaxed);
        self.counters.flows_v6.store(self.worker.flows().v6.len(), Relaxed);
        self.counters.half_open_v4.store(self.worker.flows().v4.half_open(), Relaxed);
        self.counters.half_open_v6.store(self.worker.flows().v6.half_open(), Relaxed);
        self.listed.answer(&self.worker, self.attached.borrow_dependent(), now);
    }

    fn has_waiting_frames(&self) -> bool {
        self.worker.has_waiting_frames()
    }

    fn next_unresolved(&mut self) -> Option<(PortId, IpAddr)> {
        self.worker.next_unresolved()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of a loop, each so long after the last, for three rounds; how many entries were looked at.
    fn three_rounds(entries: u32, turn: Span, budget: u32) -> u64 {
        let start = Instant::from_secs(1000);
        let mut pace = Pace { entries, done: start };
        let (mut now, mut looked) = (start, 0);
        while now - start < Span(3 * ROUND.0) {
            now = now + turn;
            let due = pace.due(now, budget);
            assert!(due <= budget, "{due}");
            looked += u64::from(due);
        }
        looked
    }

    #[test]
    fn a_round_takes_as_long_with_many_turns_as_with_few() {
        for entries in [1, 64, 1000, 131_072, 1 << 24] {
            for turn in [Span(20_000), Span(1_000_000), Span(50_000_000)] {
                let looked = three_rounds(entries, turn, u32::MAX);
                let wanted = 3 * u64::from(entries);
                // A slice, what the last turn leaves out, and rounding.
                let off = u64::from(SLICE.min(entries)) + wanted * turn.0 / (3 * ROUND.0) + wanted / 10_000 + 1;
                assert!(looked.abs_diff(wanted) <= off, "{entries} {turn:?}: {looked}");
            }
        }
    }

    #[test]
    fn a_budget_bounds_the_work_and_what_is_left_stays_due() {
        let mut pace = Pace { entries: 1 << 20, done: Instant::ZERO };
        // After a long absence a round is due, and not more.
        let now = Instant::from_secs(1000);
        let mut looked = 0;
        loop {
            match pace.due(now, 1000) {
                0 => break,
                due => looked += due,
            }
            assert!(looked <= 1 << 20);
        }
        assert!(looked > (1 << 20) - 2 * SLICE, "{looked}");
        // Nor does a clock that stands still or goes back bring more.
        assert_eq!((pace.due(now, 1000), pace.due(Instant::from_secs(900), 1000)), (0, 0));
    }
}
