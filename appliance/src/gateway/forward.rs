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
use weirgate::time::Instant;
use weirgate::verdict::DropReason;

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
        }
    }
}

self_cell! {
    /// A snapshot attached to its memory, so that this is done once a swap and not once a burst.
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

/// A worker with the place where it finds its snapshot.
pub(super) struct Forwarder<'m> {
    worker: Worker<'m>,
    latest: Cache<Arc<Published>, Arc<SnapshotMemory>>,
    attached: Attached,
    counters: &'m WorkerCounters,
}

impl<'m> Forwarder<'m> {
    pub(super) fn new(worker: Worker<'m>, published: Arc<Published>, counters: &'m WorkerCounters) -> Self {
        let mut latest = Cache::new(published);
        let attached = Attached::to(latest.load());
        Self { worker, latest, attached, counters }
    }

    /// Turns to the latest snapshot, if there is another.
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

    fn age(&mut self, now: Instant, budget: usize) {
        self.refresh();
        self.worker.age(self.attached.borrow_dependent(), now, u32::try_from(budget).unwrap_or(u32::MAX));
        // Relaxed: for people to look at.
        self.counters.flows_v4.store(self.worker.flows_v4().len(), Relaxed);
        self.counters.flows_v6.store(self.worker.flows_v6().len(), Relaxed);
    }

    fn next_unresolved(&mut self) -> Option<(PortId, IpAddr)> {
        self.worker.next_unresolved()
    }
}
