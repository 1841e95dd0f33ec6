//! The workers: one thread and one core each, a queue of every port, and a loop that receives frames
//! from the rings, has them processed and moves each by its verdict.
//!
//! A [`Forward`] processes the frames. The gateway's is the core's pipeline; [`Bare`] only returns
//! frames, to measure the rings alone.

mod bare;
mod exchange;
mod lane;
mod latency;
#[allow(unsafe_code)]
mod memory;
mod rest;
mod stats;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use tracing::{info, warn};
use weirgate::frame::Burst;
use weirgate::net::{PortId, WORKERS_MAX, WorkerId};
use weirgate::time::Instant;
use weirgate::verdict::DropReason;

use crate::xdp::{Deferral, DeferredInterrupts, Polling, StartError, Steering, Transfer, layout, ring, sys, umem};

pub use bare::Bare;
pub use lane::Lane;
pub use latency::Latency;
pub use memory::{FileSystem, Memory, Pages, effective_user};
pub use stats::{PortStats, Stats};

/// How a worker waits for frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Poll {
    /// It never sleeps. For cores that have nothing else to do.
    Busy,
    /// It yields its core while there is nothing to do, and sleeps after an idle spell, until a frame
    /// comes. For shared machines.
    #[default]
    Adaptive,
}

/// How to run the workers.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many workers, at most the smallest port's number of queues. A port's further queues are
    /// shared out among the workers. `None`: as many as the smallest port has queues.
    pub workers: Option<u32>,
    /// How a worker waits.
    pub poll: Poll,
    /// The core of the first worker; each following worker gets the next core.
    pub first_core: usize,
    /// How many descriptors each ring holds: a power of two.
    pub ring: u32,
    /// Whether to try rings that the driver uses without copying.
    pub zero_copy: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { workers: None, poll: Poll::default(), first_core: 0, ring: 2048, zero_copy: true }
    }
}

/// Processes a worker's frames. Called only from the worker's thread; must not block.
pub trait Forward {
    /// Sets the verdict of every frame of the burst.
    fn process(&mut self, now: Instant, burst: &mut Burst<'_, '_>);

    /// Counts a frame for which a ring had no room after its verdict.
    fn count_drop(&mut self, reason: DropReason);

    /// Ages the entries that are due, at most `budget` of each table. Called once in each turn of the
    /// loop.
    fn age(&mut self, now: Instant, budget: u32) {
        let _ = (now, budget);
    }

    /// Whether frames of its own wait for buffers: it is then called again, even without received frames.
    fn has_waiting_frames(&self) -> bool {
        false
    }

    /// A next hop whose link address the kernel should resolve; each is reported only once in a while.
    fn next_unresolved(&mut self) -> Option<(PortId, IpAddr)> {
        None
    }
}

/// How many next hops can wait to be resolved. Further ones are forgotten; the flow that needs one
/// requests it again.
const UNRESOLVED_MAX: usize = 256;

/// How many frames one receive call may deliver. The kernel polls twice in a call, so this is half
/// of what a turn of the loop processes, and the excess is dropped before it has cost anything.
const POLL_BUDGET: u32 = weirgate::frame::BURST_FRAMES_MAX as u32 / 2;

/// The running workers. Dropping it stops them.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    unresolved: Receiver<(PortId, IpAddr)>,
    transfer: Transfer,
    /// Each port's name and how many of its queues the workers serve.
    ports: Vec<(String, u32)>,
    chunks: usize,
    locked_bytes: usize,
    interrupts: DeferredInterrupts,
}

/// What the workers and everybody else see.
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) stats: Vec<Stats>,
    pub(crate) doorbells: Vec<exchange::Doorbell>,
}

/// Opens the rings on the ports of `steering` and starts the workers. Frames come once
/// [`Steering::attach`] has been called, which the caller does next.
///
/// `make` is called once for each worker, on the calling thread, so that what it allocates can
/// fail; the closure that it returns runs on the worker's thread and calls [`Lane::run`].
///
/// # Errors
/// An MTU that does not fit, too few queues, an occupied queue, no privilege, too little locked
/// memory, or what `make` refused. The host is then as it was.
pub fn start<B>(
    plan: &Plan,
    steering: &mut Steering,
    mut make: impl FnMut(WorkerId) -> Result<B, StartError>,
) -> Result<Workers, StartError>
where
    B: FnOnce(&mut Lane) + Send + 'static,
{
    let ports = steering.ports().to_vec();
    let mut chunk_bytes = 0;
    for port in &ports {
        let needed = umem::chunk_bytes(port.mtu).map_err(|largest| StartError::MtuTooLarge {
            name: port.name.clone(),
            mtu: port.mtu,
            largest,
        })?;
        chunk_bytes = chunk_bytes.max(needed);
    }
    let queues: Vec<_> = ports.iter().map(|port| (port.name.as_str(), port.queues())).collect();
    let fewest = queues.iter().map(|&(_, count)| count).min().unwrap_or(1).min(WORKERS_MAX as u32);
    let workers = plan.workers.unwrap_or(fewest).max(1);
    if let Some(&(name, queues)) = queues.iter().find(|&&(_, count)| count < workers || count > layout::QUEUES_MAX) {
        return Err(StartError::Queues { name: name.into(), queues, workers });
    }

    let bodies = (0..workers).map(|id| make(WorkerId(id as u8))).collect::<Result<Vec<_>, _>>()?;
    let rings = ring::Shape { ports: &queues, workers, ring: plan.ring, chunk_bytes }.open(plan.zero_copy)?;
    info!(transfer = ?rings.transfer, workers, chunk_bytes, "rings open");

    let interrupts = DeferredInterrupts::new(&ports);
    let doorbells = (0..workers)
        .map(|_| exchange::Doorbell::new())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| StartError::system("make an event descriptor", None, cause))?;
    let stats = (0..workers).map(|_| Stats::default()).collect();
    let shared = Arc::new(Shared { stop: AtomicBool::new(false), stats, doorbells });
    let (asked, unresolved) = sync_channel(UNRESOLVED_MAX);
    let per_worker = rings.chunks.first().map_or(0, Vec::len);
    let mut started = Workers {
        threads: Vec::new(),
        shared: Arc::clone(&shared),
        unresolved,
        transfer: rings.transfer,
        ports: queues.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
        chunks: per_worker * workers as usize,
        locked_bytes: rings.area.len(),
        interrupts,
    };

    let mut early = Some(steering.early_fragments()?);
    let exchanges = exchange::connect(workers as usize);
    let parts = rings.queues.into_iter().zip(rings.chunks).zip(exchanges).zip(bodies);
    for (id, (((mut queues, chunks), exchange), body)) in parts.enumerate() {
        for queue in &mut queues {
            steering.plug(queue.port().0.into(), queue.number(), queue.fd())?;
            if let Err(cause) = queue.tune(POLL_BUDGET) {
                warn!(%cause, "no preferred busy polling, which needs Linux 5.11 and CAP_NET_ADMIN");
            }
        }
        let mut lane = Lane::new(lane::Parts {
            id: WorkerId(id as u8),
            ports: ports.len(),
            area: Arc::clone(&rings.area),
            queues,
            chunks,
            chunks_per_worker: per_worker,
            exchange,
            early: early.take(),
            shared: Arc::clone(&shared),
            asked: asked.clone(),
            poll: plan.poll,
        });
        let core = plan.first_core + id;
        let thread = thread::Builder::new().name(format!("weirgate-w{id}")).spawn(move || {
            if let Err(cause) = sys::pin_thread(core) {
                warn!(worker = id, core, %cause, "worker not bound to its core");
            }
            body(&mut lane);
        });
        let thread = thread.map_err(|cause| StartError::system("start a worker", None, cause))?;
        started.threads.push(thread);
    }
    Ok(started)
}

impl Workers {
    /// What each worker counts. Reading disturbs no worker.
    #[must_use]
    pub fn stats(&self) -> &[Stats] {
        &self.shared.stats
    }

    /// A next hop that some worker needs resolved, if any waits.
    #[must_use]
    pub fn unresolved(&self) -> Option<(PortId, IpAddr)> {
        self.unresolved.try_recv().ok()
    }

    /// Makes a worker run another turn, even if it is about to sleep.
    pub(crate) fn wake(&self, worker: usize) {
        if let Some(doorbell) = self.shared.doorbells.get(worker) {
            doorbell.wake();
        }
    }

    /// Decides by the workers' measurements whether the ports' interrupts are deferred. Called once a second.
    pub(crate) fn see_to_interrupts(&mut self) {
        let now = sys::boot_time();
        for port in 0..self.ports.len() {
            let of_worker = |stats: &Stats| stats.ports[port].polling();
            let seen = self.shared.stats.iter().map(of_worker).fold(Polling::default(), Polling::and);
            self.interrupts.see(port, now, &seen);
        }
    }

    /// Whether a port's interrupts are deferred, and why.
    #[must_use]
    pub fn deferral(&self, port: usize) -> Option<&Deferral> {
        self.interrupts.deferral(port)
    }

    /// Whether frames are copied between the driver and the rings.
    #[must_use]
    pub const fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// How many queues of each port the workers serve, in the order of the ports.
    #[must_use]
    pub fn queues(&self) -> Vec<u32> {
        self.ports.iter().map(|&(_, count)| count).collect()
    }

    /// How many bytes of memory the rings' frames have, all locked.
    #[must_use]
    pub const fn locked_bytes(&self) -> usize {
        self.locked_bytes
    }

    /// How many chunks of the rings' memory there are. Each is held by some worker or passes between
    /// two. So the sum of [`Stats::held`] is never more, and equal when nothing moves.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        self.chunks
    }

    /// Whether every worker still runs. One that ended by itself did so by a bug.
    #[must_use]
    pub fn are_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Stops the workers after they have sent what they hold, closes the rings, and waits until the drivers know.
    ///
    /// Only then may the steering program be detached: a driver may remove queues together with it (`virtio_net`),
    /// and then refuses calls about a ring on a queue that it no longer has.
    pub fn stop(mut self) {
        self.halt();
        if self.transfer == Transfer::ZeroCopy {
            ring::wait_until_free(&self.ports);
        }
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for doorbell in &self.shared.doorbells {
            doorbell.wake();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a worker panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.halt();
    }
}
