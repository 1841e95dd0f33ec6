//! The components that forward: steering program, workers, flow tables; started, handed over and stopped in order.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use tracing::{info, warn};
use weirgate::flow::Adopted;
use weirgate::net::PortId;
use weirgate::pipeline::Worker;

use super::RunError;
use super::forward::{Forwarder, WorkerCounters};
use super::listing::{self, Lister, Listers};
use super::settings;
use super::tables::{Mapped, Tables};
use crate::control::compile::SteerTable;
use crate::control::follow::{Control, DataPath};
use crate::status::{Predecessor, Server};
use crate::worker::{self, Lane, Pages, Stats, Workers};
use crate::xdp::{Attach, Interface, StartError, Steering, ring};

/// The components that forward, as the control side and status see them.
pub struct Forwarding {
    /// The steering program.
    pub steering: Steering,
    /// The workers' threads and rings, and the tables that they use; or why there are none: another process
    /// tries to take over, or this one cannot get its queues and tables back.
    running: Result<Running, String>,
    /// What each worker counts.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// When forwarding began.
    pub since: Instant,
}

/// What exists as long as workers run, ended in this order: their threads hold the locks on the tables.
struct Running {
    workers: Workers,
    tables: Tables,
    memory: Vec<FlowMemory>,
    listers: Vec<Lister>,
}

/// The memory that a worker's flow tables lie in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowMemory {
    /// What kind of pages it lies on.
    pub pages: Pages,
    /// Whether it can never be swapped out.
    pub is_locked: bool,
    /// The file that outlives the process, where there is one.
    pub path: Option<PathBuf>,
    /// How many bytes it has.
    pub bytes: usize,
    /// What came of the flows of an earlier process; `None` where the worker began without flows.
    pub adopted: Option<Adopted>,
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding").field("since", &self.since).finish_non_exhaustive()
    }
}

impl DataPath for Forwarding {
    fn steer(&mut self, table: &SteerTable) -> Result<(), String> {
        self.steering.fill(table).map_err(|error| error.to_string())
    }

    fn unresolved(&mut self) -> Option<(PortId, IpAddr)> {
        self.workers()?.unresolved()
    }

    fn failure(&self) -> Option<String> {
        self.workers()
            .is_some_and(|workers| !workers.are_running())
            .then(|| "a worker has ended by itself; the log above says why, and starting again helps".to_owned())
    }
}

impl Listers for Forwarding {
    fn lister(&mut self, worker: usize) -> Option<&mut Lister> {
        self.running.as_mut().ok()?.listers.get_mut(worker)
    }

    fn wake(&self, worker: usize) {
        if let Some(workers) = self.workers() {
            workers.wake(worker);
        }
    }
}

impl Forwarding {
    /// The workers; `None` while another process tries to take over.
    #[must_use]
    pub fn workers(&self) -> Option<&Workers> {
        self.running.as_ref().ok().map(|running| &running.workers)
    }

    /// Defers the ports' interrupts or not, by what the workers have measured.
    pub(super) fn see_to_interrupts(&mut self) {
        if let Ok(running) = &mut self.running {
            running.workers.see_to_interrupts();
        }
    }

    /// Why nothing is forwarded, if so.
    #[must_use]
    pub fn idle(&self) -> Option<&str> {
        self.running.as_ref().err().map(String::as_str)
    }

    /// What each worker counts about its rings; nothing while another process tries to take over.
    #[must_use]
    pub fn stats(&self) -> &[Stats] {
        self.workers().map_or(&[], Workers::stats)
    }

    /// The memory of the workers' flow tables, by worker.
    #[must_use]
    pub fn memory(&self) -> &[FlowMemory] {
        self.running.as_ref().map_or(&[], |running| &running.memory)
    }

    /// Leaves the flow tables to the next process from now on, however this one ends.
    pub(super) fn settle(&mut self) {
        if let Ok(running) = &mut self.running {
            running.tables.settle();
        }
    }

    /// Restores the ports as they were before the start: with an earlier gateway's steering program
    /// if there was one, which continues to drop its traffic, and otherwise with none. Earlier flow tables
    /// stay.
    pub(super) fn give_back(mut self) {
        if let Ok(running) = self.running {
            running.workers.stop();
        }
        self.steering.give_back();
    }

    /// Lets the workers send what they hold, closes the rings, detaches the program from the ports, and
    /// removes the flow tables.
    ///
    /// While another process tries to take over, ports and tables belong to that process, and stay.
    pub(super) fn end(self) {
        let Ok(Running { workers, tables, .. }) = self.running else { return self.abandon() };
        workers.stop();
        self.steering.detach();
        tables.remove();
    }

    /// Ends because of a failure. The program stays on the ports and drops the gateway's traffic, which
    /// the kernel would answer with resets, until the next gateway adopts the flows.
    pub(super) fn abandon(self) {
        warn!("the steering program and the flow tables stay until the next start, or `weirgate detach`");
        drop(self.running);
    }

    /// Releases queues and flow tables for another process. The steering program stays and drops the
    /// gateway's traffic meanwhile.
    pub(super) fn release(&mut self) {
        self.running = Err("another process takes over".to_owned());
    }

    /// Continues after [`release`](Self::release), where the other process did not. Its program may be on the
    /// ports already; it is replaced once this one's workers run, so that no frame reaches the kernel.
    ///
    /// Refused as long as the other process has a queue or a table; nothing has changed then.
    pub(super) fn resume(&mut self, control: &Control) -> Result<(), RunError> {
        let Self { steering, counters, .. } = self;
        let resumed = start(control, steering, counters, false).and_then(|running| {
            steering.attach_again()?;
            serve_all_queues(control, steering, running, counters, false)
        });
        match resumed {
            Ok(running) => {
                self.running = Ok(running);
                self.settle();
                Ok(())
            }
            Err(error) => {
                self.running = Err(error.to_string());
                Err(error)
            }
        }
    }
}

/// Starts the workers and attaches the steering program; after a refusal neither remains.
pub(super) fn begin(control: &Control, mut steering: Steering) -> Result<Forwarding, RunError> {
    let mut counters = Vec::new();
    let running = start(control, &mut steering, &mut counters, false)?;
    attach(control, steering, running, counters, false)
}

/// As [`begin`], replacing the process that has queues and tables now. After a refusal that one continues; if it
/// dies meanwhile, this one continues with what it has left.
pub(super) fn take_over(
    control: &Control,
    mut steering: Steering,
    predecessor: Predecessor,
    server: &mut Server,
) -> Result<Forwarding, RunError> {
    let tables = look(control);
    if let Some(reason) = tables.obstacle_to_takeover() {
        return Err(RunError::Takeover(reason));
    }
    let mut counters = Vec::new();
    let released = predecessor.release()?;
    let began = Instant::now();
    // Where nobody else would continue the flows, a start without them is better than none.
    let adopt = released.is_some();
    let running = start(control, &mut steering, &mut counters, adopt)?;
    let mut forwarding = attach(control, steering, running, counters, adopt)?;
    info!(gap = ?began.elapsed(), "taken over");
    if let Err(error) = server.announce() {
        forwarding.give_back();
        return Err(error.into());
    }
    forwarding.settle();
    if let Some(released) = released {
        released.succeed();
    }
    Ok(forwarding)
}

fn attach(
    control: &Control,
    mut steering: Steering,
    running: Running,
    mut counters: Vec<Arc<WorkerCounters>>,
    adopt: bool,
) -> Result<Forwarding, RunError> {
    if let Err(error) = steering.attach(Attach::Best) {
        running.workers.stop();
        return Err(error.into());
    }
    let running = match serve_all_queues(control, &mut steering, running, &mut counters, adopt) {
        Ok(running) => running,
        Err(error) => {
            // Rings that are open already are closed first: see `Workers::stop`.
            let ports: Vec<_> = steering.ports().iter().map(|port| (port.name.clone(), port.queues())).collect();
            ring::wait_until_free(&ports);
            steering.give_back();
            return Err(error);
        }
    };
    let config = &control.config;
    info!(workers = counters.len(), services = config.services.len(), peers = config.peers.len(), "forwarding");
    Ok(Forwarding { steering, running: Ok(running), counters, since: Instant::now() })
}

/// Starts the workers again where the ports have other queues now than the ones that they serve: a driver may change
/// them when a program is attached, as virtio_net adds one for each processor. Until then the program drops what comes on
/// the others.
fn serve_all_queues(
    control: &Control,
    steering: &mut Steering,
    running: Running,
    counters: &mut Vec<Arc<WorkerCounters>>,
    adopt: bool,
) -> Result<Running, RunError> {
    let queues: Vec<_> = steering.ports().iter().map(Interface::queues).collect();
    if running.workers.queues() == queues {
        return Ok(running);
    }
    info!(before = ?running.workers.queues(), now = ?queues, "the ports have other queues with the program attached");
    drop(running);
    start(control, steering, counters, adopt)
}

fn look(control: &Control) -> Tables {
    Tables::look(&settings::tables(&control.config, control.workers))
}

/// Opens the rings and starts the workers on the flow tables that an earlier process left, or on empty
/// ones; waits until they have made them theirs. With `adopt`, empty ones are an error.
fn start(
    control: &Control,
    steering: &mut Steering,
    counters: &mut Vec<Arc<WorkerCounters>>,
    adopt: bool,
) -> Result<Running, RunError> {
    let config = &control.config;
    let plan = settings::plan(config, control.workers);
    let mut tables = look(control);
    if let Some(reason) = tables.unusable() {
        warn!(reason, "starting without the flows of the earlier gateway");
    }
    counters.resize_with(control.workers.into(), || Arc::new(WorkerCounters::new(config.services.len())));
    let mut memory = Vec::new();
    let mut listers = Vec::new();
    let mut refusal = None;
    // Ends the start; the caller gets `refusal` instead.
    let mut refuse = |error| {
        refusal = Some(error);
        StartError::System { step: "take the flow tables", name: None, cause: io::ErrorKind::Other.into() }
    };
    let (ready, reports) = channel();
    let workers = worker::start(&plan, steering, |id| {
        let secret = random().map_err(|cause| StartError::System { step: "read random bits", name: None, cause })?;
        let worker = settings::worker(config, control.workers, id, secret);
        let bytes = Worker::memory_bytes(&worker);
        let mapped = tables.map(bytes).map_err(|error| refuse(RunError::Tables(error)))?;
        let Mapped { memory: mapped, mut is_adopted, path } = mapped;
        if adopt && !is_adopted {
            return Err(refuse(RunError::Takeover(format!("the flow tables of worker {} are gone", id.0))));
        }
        if is_adopted && let Err(reason) = Worker::check(&worker, &mapped) {
            if adopt {
                return Err(refuse(RunError::Takeover(reason.to_string())));
            }
            warn!(worker = id.0, %reason, "starting without the flows of the earlier gateway");
            is_adopted = false;
        }
        memory.push(FlowMemory { pages: mapped.pages(), is_locked: mapped.is_locked(), path, bytes, adopted: None });
        let counted = Arc::clone(&counters[usize::from(id.0)]);
        let published = Arc::clone(&control.published);
        let ready = ready.clone();
        let (lister, listed) = listing::connect();
        listers.push(lister);
        Ok(move |lane: &mut Lane| {
            let mut mapped = mapped;
            let services: &[_] = &counted.services;
            let (worker, adopted) = if is_adopted {
                let snapshot = published.load();
                let attached = Worker::attach(&worker, &snapshot.view(), &mut mapped, &counted.core, services);
                let (worker, adopted) = attached.expect("the table has been checked");
                (worker, Some(adopted))
            } else {
                let made = Worker::new(&worker, &mut mapped, &counted.core, services);
                (made.expect("the configuration keeps to the capacities that a table can have"), None)
            };
            // Nobody listens any more where another worker has failed.
            let _ = ready.send((id, adopted));
            drop(ready);
            lane.run(&mut Forwarder::new(worker, published, &counted, listed));
        })
    });
    drop(ready);
    let workers = workers.map_err(|error| refusal.unwrap_or_else(|| error.into()))?;
    for _ in 0..memory.len() {
        let Ok((id, adopted)) = reports.recv() else {
            let cause = io::ErrorKind::BrokenPipe.into();
            return Err(RunError::System { step: "start a worker, which ended at once", cause });
        };
        let place = &mut memory[usize::from(id.0)];
        place.adopted = adopted;
        report(id.0, place);
    }
    Ok(Running { workers, tables, memory, listers })
}

/// Logs what a worker's flow tables are.
fn report(worker: u8, memory: &FlowMemory) {
    let path = memory.path.as_deref().map_or_else(|| "none".into(), |path| path.display().to_string());
    info!(worker, bytes = memory.bytes, pages = %memory.pages, locked = memory.is_locked, file = path, "flow tables");
    if !memory.is_locked {
        warn!(worker, "flow tables not locked into memory; raise `ulimit -l` to have that");
    }
    if let Some(Adopted { flows, damaged, strayed }) = memory.adopted {
        info!(worker, flows, damaged, strayed, "flows of the earlier gateway adopted");
        if damaged > 0 {
            warn!(worker, damaged, "damaged flows dropped");
        }
        if strayed > 0 {
            warn!(
                worker,
                strayed, "flows dropped whose replies do not arrive at this worker under the new configuration"
            );
        }
    }
}

/// Random bits that nobody outside can know.
fn random() -> io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(std::array::from_fn(|word| words.get(word).copied().map_or(0, u64::from_ne_bytes)))
}
