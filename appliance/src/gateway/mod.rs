//! `weirgate run`: everything started in an order that leaves the host as it was after a refusal,
//! and taken away again at the end.

mod forward;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use std::{error, fmt};

use async_io::block_on;
use futures_lite::future;
use tracing::{info, warn};
use weirgate::net::{PortId, WORKERS_MAX};
use weirgate::pipeline::{Worker, WorkerConfig};

use crate::config::{self, Config};
use crate::control::compile::SteerTable;
use crate::control::follow::{Control, ControlError, DataPath};
use crate::control::netlink::{Kernel, KernelError};
use crate::control::signals::{Signal, Signals};
use crate::status::{self, Server, SocketError};
use crate::worker::{self, Lane, Memory, Plan, Poll, Workers};
use crate::xdp::{Attach, StartError, Steering};

use forward::Forwarder;
pub use forward::WorkerCounters;

/// Why the gateway did not start, or did not go on.
#[derive(Debug)]
pub enum RunError {
    /// The rings or the steering program.
    Start(StartError),
    /// The control side.
    Control(ControlError),
    /// The control socket.
    Socket(SocketError),
    /// The system refused something else.
    System {
        /// What was being done.
        step: &'static str,
        /// The system's answer.
        cause: io::Error,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
            Self::Socket(error) => error.fmt(f),
            Self::System { step, cause } => write!(f, "cannot {step}: {cause}"),
        }
    }
}

impl error::Error for RunError {}

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<ControlError> for RunError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<KernelError> for RunError {
    fn from(error: KernelError) -> Self {
        Self::Control(error.into())
    }
}

impl From<SocketError> for RunError {
    fn from(error: SocketError) -> Self {
        Self::Socket(error)
    }
}

/// The parts that forward, as the control side and status see them.
pub struct Forwarding {
    /// The steering program.
    pub steering: Steering,
    /// The workers' threads and rings.
    pub workers: Workers,
    /// What each worker counts.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// When forwarding began.
    pub since: Instant,
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
        self.workers.unresolved()
    }

    fn failure(&self) -> Option<String> {
        (!self.workers.are_running())
            .then(|| "a worker has ended by itself; the log above says why, and starting again helps".to_owned())
    }
}

impl Forwarding {
    /// Has the ports be as they were before the start: with an earlier gateway's steering program
    /// where there was one, which goes on dropping its traffic, and else with none.
    fn give_back(mut self) {
        self.steering.give_back();
        self.workers.stop();
    }

    /// Takes the program off the ports, lets the workers send what they hold, closes the rings.
    fn end(self) {
        self.steering.detach();
        self.workers.stop();
    }

    /// Ends for a reason of its own: the program stays on the ports and drops the gateway's traffic,
    /// which the kernel would answer with resets, until the next gateway takes over.
    fn abandon(self) {
        warn!("the steering program stays attached until the next start, or `weirgate detach`");
        self.workers.stop();
    }
}

/// Runs the gateway until a signal asks it to end.
///
/// # Errors
/// One sentence for the operator.
///
/// Of a gateway that did not start nothing is left on the host, and an earlier one's steering program
/// is where it was. Of one that could not go on the steering program stays attached, as the log then
/// says: it drops the gateway's traffic until the next start, or until `weirgate detach`.
pub fn run(config: Config) -> Result<(), RunError> {
    let step = "take signals";
    let signals = Signals::take().map_err(|cause| RunError::System { step, cause })?;
    status::refuse_live(&config.control_socket)?;

    let mut names = vec![config.uplink.as_str()];
    if config.underlay != config.uplink {
        names.push(&config.underlay);
    }
    let mut steering = Steering::load(&names)?;
    let queues = steering.ports().iter().map(crate::xdp::Interface::queues).min().unwrap_or(1).min(WORKERS_MAX as u32);
    let workers = config.workers.map_or(queues, u32::from);

    let (conversation, mut kernel) = Kernel::open()?;
    let mut conversation = Box::pin(conversation);
    let control =
        block_on(future::or(Control::new(config, u8::try_from(workers).unwrap_or(u8::MAX), &mut kernel), async {
            (&mut conversation).await;
            let cause = io::ErrorKind::ConnectionAborted.into();
            Err(KernelError { step: "ask the kernel for its state", cause }.into())
        }))?;
    steering.fill(&control.steering())?;
    // Before anything is attached: a gateway that cannot be asked does not start, and an earlier
    // one's steering program stays as it is.
    let server = Server::bind(&control.config.control_socket)?;
    let forwarding = forward(&control, steering, workers)?;
    if let Err(error) = server.announce() {
        forwarding.give_back();
        return Err(error.into());
    }

    let forwarding = RefCell::new(forwarding);
    let end = block_on(async {
        let signalled = async {
            loop {
                match signals.next().await.map_err(|cause| RunError::System { step: "wait for signals", cause })? {
                    Signal::End(signal) => {
                        info!(signal, "ending");
                        return Ok(());
                    }
                    Signal::Reload => warn!(
                        "SIGHUP changes nothing: the configuration is read at the start only; `weirgate check` the \
                         file, then end this gateway with SIGTERM and start it again"
                    ),
                }
            }
        };
        let follow = async { Err(control.run(conversation, kernel, &forwarding).await.into()) };
        let serve = server.serve(|| status::Status::of(&control, &forwarding.borrow()));
        future::or(signalled, future::or(follow, serve)).await
    });
    drop(server);
    let forwarding = forwarding.into_inner();
    match end {
        Ok(()) => forwarding.end(),
        Err(_) => forwarding.abandon(),
    }
    end
}

/// Starts the workers and attaches the steering program; on a refusal nothing is left of either.
fn forward(control: &Control, mut steering: Steering, workers: u32) -> Result<Forwarding, RunError> {
    let config = &control.config;
    let plan = Plan {
        workers: Some(workers),
        poll: match config.poll {
            config::Poll::Adaptive => Poll::Adaptive,
            config::Poll::Busy => Poll::Busy,
        },
        first_core: config.first_core,
        ..Plan::default()
    };
    let mut counters = Vec::new();
    let workers = worker::start(&plan, &mut steering, |id| {
        let secret = random().map_err(|cause| StartError::System { step: "read random bits", name: None, cause })?;
        let worker = WorkerConfig {
            id,
            workers: u8::try_from(workers).unwrap_or(u8::MAX),
            flows_v4: config.flows_v4,
            flows_v6: config.flows_v6,
            fragments: config.fragments,
            secret,
        };
        let memory = Memory::new(Worker::memory_bytes(&worker)).map_err(|cause| StartError::System {
            step: "get memory for the flows",
            name: None,
            cause,
        })?;
        let counted = Arc::new(WorkerCounters::new(config.services.len()));
        counters.push(Arc::clone(&counted));
        let published = Arc::clone(&control.published);
        Ok(move |lane: &mut Lane| {
            let mut memory = memory;
            let worker = Worker::new(&worker, &mut memory, &counted.core, &counted.services)
                .expect("the configuration keeps to the capacities that a table can have");
            lane.run(&mut Forwarder::new(worker, published, &counted));
        })
    })?;
    if let Err(error) = steering.attach(Attach::Best) {
        workers.stop();
        return Err(error.into());
    }
    info!(workers = counters.len(), services = config.services.len(), peers = config.peers.len(), "forwarding");
    Ok(Forwarding { steering, workers, counters, since: Instant::now() })
}

/// Bits that nobody outside can know.
fn random() -> io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(std::array::from_fn(|word| words.get(word).copied().map_or(0, u64::from_ne_bytes)))
}
