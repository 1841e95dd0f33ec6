//! The core's pipeline as a worker runs it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arc_swap::Cache;
use weirgate::counters::{Counters, ServiceCounters};
use weirgate::frame::Burst;
use weirgate::net::PortId;
use weirgate::pipeline::{self, Worker};
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

/// A worker with the place where it finds its snapshot.
pub(super) struct Forwarder<'m> {
    worker: Worker<'m>,
    latest: Cache<Arc<Published>, Arc<SnapshotMemory>>,
    counters: &'m WorkerCounters,
}

impl<'m> Forwarder<'m> {
    pub(super) fn new(worker: Worker<'m>, published: Arc<Published>, counters: &'m WorkerCounters) -> Self {
        Self { worker, latest: Cache::new(published), counters }
    }
}

impl Forward for Forwarder<'_> {
    fn process(&mut self, now: Instant, burst: &mut Burst<'_, '_>) {
        let snapshot = self.latest.load().view();
        pipeline::process(&mut self.worker, &snapshot, now, burst);
    }

    fn count_drop(&mut self, reason: DropReason) {
        self.counters.core.count_drop(reason);
    }

    fn age(&mut self, now: Instant, budget: usize) {
        let snapshot = self.latest.load().view();
        self.worker.age(&snapshot, now, u32::try_from(budget).unwrap_or(u32::MAX));
        // Relaxed: for people to look at.
        self.counters.flows_v4.store(self.worker.flows_v4().len(), Relaxed);
        self.counters.flows_v6.store(self.worker.flows_v6().len(), Relaxed);
    }

    fn next_unresolved(&mut self) -> Option<(PortId, IpAddr)> {
        self.worker.next_unresolved()
    }
}
