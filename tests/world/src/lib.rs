//! Small worlds of network namespaces: a client, a gateway, nodes with kernel VXLAN devices, pods.
//!
//! ```text
//!                      gateway                     switch
//!  client             ┌───────────────────────┐   ┌─────────┐      node 1 ─┬─ cni0 ─┬─ pod a   10.77.74.10
//!  192.0.2.10 ── cl0 ─┤ up0               un0 ├───┤ br0     ├─ eth0         │        └─ pod b   10.77.74.11
//!  2001:db8:1::10     │ 192.0.2.1  10.99.0.50 │   │         │   10.99.0.11  └─ flannel.1, flannel-v6.1
//!                     └───────────────────────┘   │         ├─ node 2: the same with 10.99.0.12 and 10.77.4.0/24
//!                                                 └─────────┘
//! ```
//!
//! The nodes are configured as by flannel's `vxlan` backend: VNI 1, UDP 8472, no learning, a /32 at the first address of
//! the node's subnet, permanent neighbour and forwarding entries for every other lease, onlink routes, MTU 1450 (1430
//! for IPv6). The gateway's own lease is 10.77.200.0/24 with fd77:0:0:200::/64.
//!
//! Nothing of a world outlives it: a small process waits for the end of a pipe, which comes when the [`World`] is
//! dropped and also when its process is killed. Worlds run side by side and do not see each other;
//! one that measures is [alone](Options::alone), and [`World::new`] waits for its turn.
//!
//! Root is needed, and `ip`, `bridge`, `ethtool`, `nft`, `tcpdump`, `nginx` and `python3` when they are used.

mod binary;
mod capture;
mod error;
mod gateway;
mod guest;
mod kernel;
mod namespaces;
mod netns;
mod pods;
mod topology;

pub use binary::build_gateway;
pub use capture::{Capture, ChecksumReport, check_checksums};
pub use error::WorldError;
pub use gateway::Gateway;
pub use guest::{Card, Driver, Guest, Kernel, Ran};
pub use kernel::KernelGateway;
pub use namespaces::{Entered, Namespaces};
pub use netns::{Process, Waited};
pub use topology::{
    CLIENT_V4, CLIENT_V6, ECHO_NODE_PORT, EXTERNAL_V4, EXTERNAL_V6, GATEWAY_V4, GATEWAY_V6, GATEWAY_VTEP_MAC,
    GATEWAY_VTEP_MAC_V6, SCTP_NODE_PORT, SCTP_PORT, UNDERLAY_V4, WEB_NODE_PORT,
};
pub use topology::{DNS_NODE_PORT, NODES, Node, POD_SUFFIXES, UNDERLAY_V6};

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use netns::Turn;

/// How peers are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// VXLAN devices on every node, as flannel's `vxlan` backend.
    #[default]
    Vxlan,
    /// Plain routes through the nodes' underlay addresses, as flannel's `host-gw` backend.
    HostGw,
}

/// The options of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How peers are reached.
    pub backend: Backend,
    /// Client and nodes share one link, and the gateway has one interface, `un0`, for both.
    pub one_interface: bool,
    /// Receive and transmit queues of the gateway's interfaces and of the other ends of their links.
    pub queues: u32,
    /// Whether nginx and the UDP responder run in the pods. Benches that bring their own traffic need none.
    pub servers: bool,
    /// Whether no other world may exist at the same time on this machine: for benches, and tests under full load.
    pub alone: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { backend: Backend::Vxlan, one_interface: false, queues: 1, servers: true, alone: false }
    }
}

/// One of the machines of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Outside the cluster, on the gateway's uplink.
    Client,
    /// Where the gateway runs.
    Gateway,
    /// The switch between gateway and nodes; its ports see what crosses the underlay.
    Switch,
    /// A node, numbered as in [`NODES`].
    Node(usize),
    /// A pod: its node, and 0 or 1.
    Pod(usize, usize),
}

impl Host {
    /// Every machine there is.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut hosts = vec![Self::Client, Self::Gateway, Self::Switch];
        for node in 0..NODES.len() {
            hosts.push(Self::Node(node));
            hosts.extend((0..POD_SUFFIXES.len()).map(|pod| Self::Pod(node, pod)));
        }
        hosts
    }

    /// The four pods.
    #[must_use]
    pub fn pods() -> Vec<Self> {
        Self::all().into_iter().filter(|host| matches!(host, Self::Pod(..))).collect()
    }

    /// The short name: `client`, `gw`, `sw`, `n1`, `n1a`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Client => "client".into(),
            Self::Gateway => "gw".into(),
            Self::Switch => "sw".into(),
            Self::Node(node) => NODES[node].name.into(),
            Self::Pod(node, pod) => format!("{}{}", NODES[node].name, ["a", "b"][pod]),
        }
    }
}

/// A world. Dropping it ends every process in it and removes its namespaces and files.
#[derive(Debug)]
pub struct World {
    directory: PathBuf,
    options: Options,
    // The order matters: everything has been removed before one that is alone may begin.
    namespaces: Namespaces,
    _turn: Turn,
}

impl World {
    /// Builds a world, after waiting for its turn.
    ///
    /// # Errors
    /// [`WorldError::NotRoot`], or the first command that failed with what it printed.
    pub fn new(options: Options) -> Result<Self, WorldError> {
        let turn = Turn::wait(options.alone)?;
        let names: Vec<String> = Host::all().into_iter().map(Host::name).collect();
        let namespaces = Namespaces::new(&names, |prefix| vec![directory(prefix), shared_memory(prefix)])?;
        let world = Self { directory: directory(namespaces.prefix()), options, namespaces, _turn: turn };
        fs::create_dir_all(&world.directory)
            .map_err(|error| WorldError::io(&format!("cannot create {}", world.directory.display()), &error))?;
        topology::build(&world)?;
        if world.options.servers {
            pods::start(&world)?;
        }
        Ok(world)
    }

    /// The options of this world.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A directory for files that end with the world.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name of a machine's network namespace.
    #[must_use]
    pub fn namespace(&self, host: Host) -> String {
        self.namespaces.name(&host.name())
    }

    /// The gateway's interface towards the client.
    #[must_use]
    pub fn uplink(&self) -> &'static str {
        if self.options.one_interface { "un0" } else { "up0" }
    }

    /// A command that will run on `host`; the process it starts is the command itself, not a wrapper.
    #[must_use]
    pub fn command(&self, host: Host, program: &str) -> Command {
        self.namespaces.command(&host.name(), program)
    }

    /// Runs a command on `host` to its end and returns what it printed and how it ended.
    ///
    /// # Panics
    /// When it cannot be started at all.
    pub fn run(&self, host: Host, arguments: &[&str]) -> Output {
        self.namespaces.run(&host.name(), arguments)
    }

    /// Runs a shell script on `host` and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with its output.
    pub fn shell(&self, host: Host, script: &str) -> String {
        self.namespaces.shell(&host.name(), script)
    }

    /// Starts a command on `host`; it ends when the result is dropped.
    ///
    /// # Panics
    /// When it cannot be started at all.
    pub fn spawn(&self, host: Host, arguments: &[&str]) -> Process {
        let (program, rest) = arguments.split_first().expect("a command has a name");
        let mut command = self.command(host, program);
        command.args(rest);
        Process::start(&mut command).expect("ip can be started")
    }

    /// Calls `work` on a thread of its own whose sockets belong to `host`.
    ///
    /// # Panics
    /// When the namespace cannot be entered, and when `work` panics.
    pub fn inside<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> T {
        self.namespaces.inside(&host.name(), work)
    }

    /// Starts a capture on an interface of `host`; `filter` is tcpdump's expression, empty for everything.
    ///
    /// Frames that egress from the gateway are seen at the other ends of its links: [`Host::Client`] `cl0` and
    /// [`Host::Switch`] `gw0` (and only there, because a transmit from an AF_XDP ring passes no packet tap).
    ///
    /// # Panics
    /// When tcpdump does not start within ten seconds.
    pub fn capture(&self, host: Host, interface: &str, filter: &str) -> Capture {
        Capture::start(self, host, interface, filter)
    }

    /// Leaves the world up when this process ends, and returns the shell command that removes it.
    #[must_use]
    pub fn keep(self) -> String {
        self.namespaces.keep()
    }
}

/// Where a world's files lie.
fn directory(prefix: &str) -> PathBuf {
    Path::new("/tmp").join(prefix)
}

/// Where its gateways' flow tables lie.
fn shared_memory(prefix: &str) -> PathBuf {
    Path::new("/dev/shm").join(prefix)
}
