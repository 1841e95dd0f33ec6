//! `weirgate run`: starts everything in an order that leaves the host as it was after a refusal,
//! and removes it again at the end.

mod forward;
mod forwarding;
mod listing;
mod serve;
mod settings;
mod tables;

use std::cell::RefCell;
use std::{error, fmt, io, thread};

use async_io::block_on;
use futures_lite::future;
use tracing::{info, warn};
use weirgate::net::WORKERS_MAX;

use crate::config::Config;
use crate::control::follow::{Control, ControlError};
use crate::control::netlink::{Kernel, KernelError};
use crate::control::signals::{Signal, Signals};
use crate::status::{self, Predecessor, Server, SocketError};
use crate::xdp::{Interface, StartError, Steering};

pub use forward::WorkerCounters;
pub use forwarding::{FlowMemory, Forwarding};
pub use tables::{TablesError, remove_stale as remove_stale_tables};

/// Why the gateway did not start, or did not continue.
#[derive(Debug)]
pub enum RunError {
    /// The rings or the steering program.
    Start(StartError),
    /// The control side.
    Control(ControlError),
    /// The control socket.
    Socket(SocketError),
    /// The memory of the flow tables.
    Tables(TablesError),
    /// The flows of the running gateway could not be taken over, so it continues.
    Takeover(String),
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
            Self::Tables(error) => error.fmt(f),
            Self::Takeover(reason) => write!(
                f,
                "a takeover would end every connection, so the running gateway continues: {reason}; to begin without \
                 flows, stop it and start again"
            ),
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

impl From<TablesError> for RunError {
    fn from(error: TablesError) -> Self {
        Self::Tables(error)
    }
}

/// How the gateway was asked to end.
enum End {
    /// By a signal.
    Signalled,
    /// Its successor forwards, or another gateway.
    Succeeded,
}

/// A worker for each queue that every port has, or for each core where those are fewer.
///
/// The number has to be the same at the next start, or that cannot adopt the flows. By then virtio_net may have more
/// queues, one for each core, because an earlier gateway's program is attached.
fn default_workers(steering: &Steering) -> u32 {
    let queues = steering.ports().iter().map(Interface::queues).min().unwrap_or(1);
    let cores =
        thread::available_parallelism().map_or(u32::MAX, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    queues.min(cores).min(WORKERS_MAX as u32)
}

/// Runs the gateway until a signal asks it to end, or a successor takes over.
///
/// With `takeover` it is such a successor itself. It prepares everything beside the running gateway,
/// which then releases its queues and flow tables; this one takes both and replaces the other's
/// steering program. Until that is done, a failure here lets the other continue.
///
/// # Errors
/// One sentence for the operator.
///
/// A gateway that did not start leaves nothing on the host, and an earlier one's steering program
/// and flow tables stay. One that could not continue leaves its own program and tables, as the log then
/// says: the program drops the gateway's traffic until the next start, or until `weirgate detach`.
pub fn run(config: Config, takeover: bool) -> Result<(), RunError> {
    let step = "take signals";
    let signals = Signals::take().map_err(|cause| RunError::System { step, cause })?;
    let predecessor = if takeover {
        Some(Predecessor::find(&config.control_socket)?)
    } else {
        status::refuse_live(&config.control_socket)?;
        None
    };

    let mut steering = Steering::load(&settings::interfaces(&config))?;
    let workers = settings::workers(&config, default_workers(&steering));

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
    let mut server = Server::bind(&control.config.control_socket, takeover)?;
    let forwarding = match predecessor {
        Some(predecessor) => forwarding::take_over(&control, steering, predecessor, &mut server)?,
        None => {
            let mut forwarding = forwarding::begin(&control, steering)?;
            if let Err(error) = server.announce() {
                forwarding.give_back();
                return Err(error.into());
            }
            forwarding.settle();
            forwarding
        }
    };

    let forwarding = RefCell::new(forwarding);
    let end = block_on(async {
        let signalled = async {
            loop {
                match signals.next().await.map_err(|cause| RunError::System { step: "wait for signals", cause })? {
                    Signal::End(signal) => {
                        info!(signal, "ending");
                        return Ok(End::Signalled);
                    }
                    Signal::Reload => warn!(
                        "SIGHUP changes nothing: the configuration is read at the start only; `weirgate check` the \
                         file, then start a gateway with it beside this one: `weirgate run --takeover`"
                    ),
                }
            }
        };
        let follow = async { Err(control.run(conversation, kernel, &forwarding).await.into()) };
        let serve = async { Ok(serve::serve(&server, &control, &forwarding).await) };
        let serve = future::or(serve, serve::watch(&control, &forwarding));
        let serve = future::or(serve, serve::see_to_interrupts(&forwarding));
        future::or(signalled, future::or(follow, serve)).await
    });
    server.withdraw();
    let forwarding = forwarding.into_inner();
    match end {
        Ok(End::Signalled) => forwarding.end(),
        Ok(End::Succeeded) => info!("another process has taken over"),
        Err(_) => forwarding.abandon(),
    }
    drop(server);
    end.map(drop)
}
