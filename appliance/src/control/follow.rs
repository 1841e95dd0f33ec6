//! The control loop: keeps the published snapshot and the steering program in step with the kernel.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::{FutureExt, future};
use tracing::{debug, error, info, warn};
use weirgate::net::PortId;
use weirgate::snapshot::CompileError;

use super::compile::{SteerTable, World, steer_table};
use super::netlink::{Effect, Event, Kernel, KernelError, Link, Model, Neighbour, NoSuchPort};
use super::pace::Pace;
use super::publish::{Published, SnapshotMemory};
use super::resolve::Resolver;
use crate::config::Config;

/// The least time between two snapshots: at most 20 a second.
const COMPILE_INTERVAL: Duration = Duration::from_millis(50);
/// Compiling takes at most this share of the time, however large the snapshot: one fifth.
const COMPILE_SHARE: u32 = 4;
/// The least time between two dumps of all routes.
const ROUTES_INTERVAL: Duration = Duration::from_millis(50);
/// Dumping all routes takes at most this share of the time, however many there are: one in eleven.
const ROUTES_SHARE: u32 = 10;
/// How often workers are asked which link addresses they need.
const TICK: Duration = Duration::from_millis(50);
/// How often the neighbours that peers and routes need are checked, and a refused steering table is tried again.
const NEEDED_INTERVAL: Duration = Duration::from_secs(1);
/// The most neighbours that the kernel is asked about in one tick.
const QUESTIONS_MAX: usize = 64;
/// How long the start waits at most for the kernel to resolve the neighbours that peers and routes need: a
/// lost solicitation is sent again after a second (RFC 4861 section 10, `retrans_time_ms`).
const FIRST_ANSWERS: Duration = Duration::from_millis(1500);
/// How long to wait before connecting to the kernel again after the conversation broke off.
const RECONNECT: Duration = Duration::from_secs(1);

/// Where the control loop's results go, and where its questions come from.
pub trait DataPath {
    /// Has the steering program send exactly this to the rings.
    ///
    /// # Errors
    /// A sentence for the log.
    fn steer(&mut self, table: &SteerTable) -> Result<(), String>;

    /// A neighbour whose link address some worker needs.
    fn unresolved(&mut self) -> Option<(PortId, IpAddr)>;

    /// Why the data path cannot continue, if so.
    fn failure(&self) -> Option<String>;
}

/// What the control side knows.
#[derive(Debug)]
pub struct State {
    /// The kernel's state.
    pub model: Model,
    /// What the latest snapshot was made of.
    pub world: World,
    /// The number of the latest snapshot.
    pub generation: u32,
    steering: SteerTable,
    /// The kernel has refused a table, and its present one is not the world's.
    is_steering_behind: bool,
}

/// The control loop's state and its outlets. Runs on one thread; status is asked on the same one.
#[derive(Debug)]
pub struct Control {
    /// The configuration.
    pub config: Config,
    /// How many workers there are.
    pub workers: u8,
    /// Where the workers find their snapshot.
    pub published: Arc<Published>,
    /// What is known.
    pub state: RefCell<State>,
    peers: BTreeSet<IpAddr>,
    ports: Vec<u32>,
}

/// Why the control side could not start, or not continue.
#[derive(Debug)]
pub enum ControlError {
    /// The kernel could not be asked.
    Kernel(KernelError),
    /// An interface of the configuration does not exist.
    NoSuchPort(String),
    /// The core refused the combination of configuration and kernel state.
    Compile(CompileError),
    /// The data path has ended by itself.
    DataPath(String),
}

impl std::fmt::Display for ControlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kernel(error) => error.fmt(f),
            Self::NoSuchPort(name) => {
                write!(f, "there is no interface {name:?}; `ip link` lists the existing ones")
            }
            Self::Compile(CompileError::MtuTooSmall { mtu }) => write!(
                f,
                "an MTU of {mtu} leaves no room for packets of 1280 bytes in VXLAN; raise the underlay's MTU with `ip link \
                 set dev INTERFACE mtu 1500`"
            ),
            Self::Compile(error) => {
                write!(f, "the configuration does not fit the host's state: {error:?}; compare the two")
            }
            Self::DataPath(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for ControlError {}

impl From<KernelError> for ControlError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl From<NoSuchPort> for ControlError {
    fn from(NoSuchPort(name): NoSuchPort) -> Self {
        Self::NoSuchPort(name)
    }
}

impl Control {
    /// Asks the kernel for its state and compiles the first snapshot. Before that the kernel gets a
    /// moment to resolve link addresses, so that the first packet can be forwarded.
    ///
    /// # Errors
    /// A missing interface, a kernel that does not answer, or what the core refuses.
    pub async fn new(config: Config, workers: u8, kernel: &mut Kernel) -> Result<Self, ControlError> {
        let links = kernel.links().await?;
        let mut model = Model::new(&[&config.uplink, &config.underlay], &links)?;
        let ports: Vec<u32> = model.ports.iter().map(|port| port.ifindex).collect();
        let peers: BTreeSet<IpAddr> =
            config.peers.iter().flat_map(|peer| peer.subnets.iter().filter_map(|subnet| peer.public(subnet))).collect();
        for event in kernel.state().await? {
            model.apply(event);
        }
        model.replace_routes(&kernel.routes().await?);
        model.replace_next_hops(kernel.next_hops(&ports, &peers).await?);
        let meanwhile = await_neighbours(&mut model, kernel).await;
        if meanwhile.all {
            for event in kernel.state().await? {
                model.apply(event);
            }
        }
        if meanwhile.routes || meanwhile.all {
            model.replace_routes(&kernel.routes().await?);
            model.replace_next_hops(kernel.next_hops(&ports, &peers).await?);
        }
        let world = World::new(&config, &model);
        let first = world.compile(&config, workers, 1).map_err(ControlError::Compile)?;
        let steering = steer_table(&config, &world);
        Ok(Self {
            workers,
            published: Arc::new(Published::from_pointee(first)),
            state: RefCell::new(State { model, world, generation: 1, steering, is_steering_behind: false }),
            peers,
            ports,
            config,
        })
    }

    /// What the steering program is to send to the rings.
    #[must_use]
    pub fn steering(&self) -> SteerTable {
        self.state.borrow().steering.clone()
    }

    /// Follows the kernel until the data path fails; the caller drops it to stop.
    ///
    /// `conversation` and `kernel` are those of [`Kernel::open`]. A conversation that breaks off is opened again.
    pub async fn run<D: DataPath>(
        &self,
        mut conversation: impl Future<Output = ()> + Unpin,
        mut kernel: Kernel,
        data_path: &RefCell<D>,
    ) -> ControlError {
        // Events since the first questions are still to be read; nothing is lost.
        let broken = async {
            (&mut conversation).await;
            Ok(())
        };
        let mut end = future::or(broken, async { Err(self.follow(&mut kernel, data_path, false).await) }).await;
        loop {
            match end {
                Err(ControlError::Kernel(error)) => warn!(%error, "asking the kernel again"),
                Err(error) => return error,
                Ok(()) => warn!("the conversation with the kernel broke off; opening it again"),
            }
            Timer::after(RECONNECT).await;
            end = match Kernel::open() {
                Ok((conversation, mut kernel)) => {
                    let broken = async {
                        conversation.await;
                        Ok(())
                    };
                    future::or(broken, async { Err(self.follow(&mut kernel, data_path, true).await) }).await
                }
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Follows one conversation; returns why it cannot continue.
    async fn follow<D: DataPath>(&self, kernel: &mut Kernel, data_path: &RefCell<D>, afresh: bool) -> ControlError {
        let mut compile = Pace::new(COMPILE_INTERVAL);
        let mut routes = Pace::new(ROUTES_INTERVAL);
        let mut needed = Pace::new(NEEDED_INTERVAL);
        let mut all = Pace::new(ROUTES_INTERVAL);
        let mut tick = Pace::new(TICK);
        let mut resolver = Resolver::default();
        if afresh {
            all.request();
        }
        loop {
            let now = Instant::now();
            if all.take(now) {
                info!("asking the kernel for everything");
                match kernel.state().await {
                    Ok(events) => self.begin_anew(events),
                    Err(error) => return error.into(),
                }
                routes.request();
                compile.request();
            }
            if routes.take(now) {
                match self.ask_routes(kernel).await {
                    Ok(true) => compile.request(),
                    Ok(false) => {}
                    Err(error) => return error.into(),
                }
                routes.rest(Instant::now(), now.elapsed() * ROUTES_SHARE);
            }
            if compile.take(now) {
                let began = Instant::now();
                self.publish(data_path);
                compile.rest(Instant::now(), began.elapsed() * COMPILE_SHARE);
            }
            needed.request();
            if needed.take(now) {
                self.steer_again(data_path);
                self.resolve(kernel, &mut resolver, self.needed()).await;
            }
            tick.request();
            if tick.take(now) {
                if let Some(cause) = data_path.borrow().failure() {
                    return ControlError::DataPath(cause);
                }
                let missed: Vec<_> = std::iter::from_fn(|| data_path.borrow_mut().unresolved()).take(256).collect();
                self.resolve(kernel, &mut resolver, missed).await;
            }
            tick.request();
            let now = Instant::now();
            let deadline = [&compile, &routes, &all, &tick].into_iter().filter_map(|pace| pace.deadline(now)).min();
            let timeout = async {
                Timer::at(deadline.unwrap_or(now + TICK)).await;
                Some(Vec::new())
            };
            let Some(events) = kernel.next().or(timeout).await else {
                let cause = io::Error::from(io::ErrorKind::ConnectionAborted);
                return KernelError { step: "follow the kernel", cause }.into();
            };
            let effect = self.apply(events);
            if effect.snapshot {
                compile.request();
            }
            if effect.routes {
                routes.request();
            }
            if effect.all {
                warn!("messages of the kernel's were lost");
                all.request();
            }
        }
    }

    fn apply(&self, events: Vec<Event>) -> Effect {
        let mut state = self.state.borrow_mut();
        let before: Vec<(bool, Link)> =
            state.model.ports.iter().map(|port| (port.present, port.link.clone())).collect();
        let effect = events.into_iter().map(|event| state.model.apply(event)).fold(Effect::default(), Effect::and);
        for (port, (was_present, before)) in state.model.ports.iter().zip(before) {
            report(&port.name, was_present.then_some(&before), port.present.then_some(&port.link));
        }
        effect
    }

    fn begin_anew(&self, events: Vec<Event>) {
        self.state.borrow_mut().model.forget();
        self.apply(events);
    }

    /// Reads routes and next hops again; returns whether any differs.
    async fn ask_routes(&self, kernel: &Kernel) -> Result<bool, KernelError> {
        let routes = kernel.routes().await?;
        let hops = kernel.next_hops(&self.ports, &self.peers).await?;
        let mut state = self.state.borrow_mut();
        let changed = state.model.replace_routes(&routes);
        Ok(state.model.replace_next_hops(hops) | changed)
    }

    /// Has the steering program follow this world.
    fn steer<D: DataPath>(&self, state: &mut State, world: &World, data_path: &RefCell<D>) {
        let steering = steer_table(&self.config, world);
        // A refused table may have been written in part.
        if steering == state.steering && !state.is_steering_behind {
            return;
        }
        match data_path.borrow_mut().steer(&steering) {
            Ok(()) => (state.steering, state.is_steering_behind) = (steering, false),
            Err(cause) => {
                error!(cause, "the steering program stays behind, and will be changed again");
                state.is_steering_behind = true;
            }
        }
    }

    /// Retries what the kernel has refused.
    fn steer_again<D: DataPath>(&self, data_path: &RefCell<D>) {
        let state = &mut *self.state.borrow_mut();
        if state.is_steering_behind {
            let world = state.world.clone();
            self.steer(state, &world, data_path);
        }
    }

    /// Compiles and publishes the world as it is now, if it differs from the latest one.
    fn publish<D: DataPath>(&self, data_path: &RefCell<D>) {
        let state = &mut *self.state.borrow_mut();
        let world = World::new(&self.config, &state.model);
        if world == state.world {
            return;
        }
        self.steer(state, &world, data_path);
        let generation = state.generation.wrapping_add(1);
        match world.compile(&self.config, self.workers, generation) {
            Ok(memory) => self.store(memory, generation),
            Err(error) => {
                error!(?error, "the snapshot stays as it was");
                return;
            }
        }
        (state.world, state.generation) = (world, generation);
    }

    fn store(&self, memory: SnapshotMemory, generation: u32) {
        debug!(generation, bytes = memory.len(), "snapshot published");
        self.published.store(Arc::new(memory));
    }

    fn needed(&self) -> Vec<(PortId, IpAddr)> {
        self.state.borrow().model.neighbours_needed().collect()
    }

    async fn resolve(&self, kernel: &Kernel, resolver: &mut Resolver, neighbours: Vec<(PortId, IpAddr)>) {
        let now = Instant::now();
        let mut questions = Vec::new();
        for (port, address) in neighbours {
            let state = self.state.borrow();
            let Some(at) = state.model.at(port).filter(|port| port.present && port.link.up) else { continue };
            let neighbour = state.model.neighbour(port, address);
            if questions.len() < QUESTIONS_MAX && resolver.ask(now, port, address, neighbour) {
                debug!(interface = at.name, %address, is_stale = matches!(neighbour, Neighbour::Stale(_)), "asking for a link address");
                questions.push((at.ifindex, address));
            }
        }
        for (ifindex, address) in questions {
            if let Err(error) = kernel.resolve(ifindex, address).await {
                debug!(%address, %error, "the kernel does not resolve it");
            }
        }
    }
}

/// Has the kernel resolve the neighbours that peers and routes need, and follows its events for a moment.
async fn await_neighbours(model: &mut Model, kernel: &mut Kernel) -> Effect {
    let deadline = Instant::now() + FIRST_ANSWERS;
    let is_open = |neighbour: Neighbour| matches!(neighbour, Neighbour::Gone | Neighbour::Asked);
    let mut open: Vec<_> = model.neighbours_needed().collect();
    open.retain(|&(port, address)| is_open(model.neighbour(port, address)));
    open.truncate(QUESTIONS_MAX);
    for &(port, address) in &open {
        let Some(port) = model.at(port).filter(|port| port.link.up) else { continue };
        // A refusal shows as a neighbour that stays unknown.
        let _ = kernel.resolve(port.ifindex, address).await;
    }
    let mut effect = Effect::default();
    while open.iter().any(|&(port, address)| is_open(model.neighbour(port, address))) {
        let timeout = async {
            Timer::at(deadline).await;
            None
        };
        let Some(events) = kernel.next().or(timeout).await else { break };
        effect = events.into_iter().map(|event| model.apply(event)).fold(effect, Effect::and);
    }
    effect
}

/// Logs a port's change.
fn report(name: &str, before: Option<&Link>, after: Option<&Link>) {
    match (before, after) {
        (Some(_), None) => {
            warn!(interface = name, "the interface is gone; once it is back, start the gateway again");
        }
        (Some(before), Some(after)) if before.up != after.up => {
            if after.up {
                info!(interface = name, "the link is up");
            } else {
                warn!(interface = name, "the link is down");
            }
        }
        (Some(before), Some(after)) if before != after => {
            info!(interface = name, mtu = after.mtu, mac = ?after.mac, "the link has changed");
        }
        _ => {}
    }
}
