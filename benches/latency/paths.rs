//! What is compared: each path between client and pods, started and ended in the same world.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use weirgate_world::{
    ECHO_NODE_PORT, GATEWAY_V4, Gateway, Host, KernelGateway, NODES, POD_SUFFIXES, WEB_NODE_PORT, World, build_gateway,
};

use crate::client::Servants;
use crate::server::{TCP_PORT, UDP_PORT};
use crate::sys;

/// A path for requests and answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Path {
    /// nftables DNAT, masquerade and a VXLAN device.
    Kernel,
    /// AF_XDP and nothing else: clients ask a pod of the first node without a service, and there is no VXLAN.
    Bare,
    /// The gateway, whose worker never sleeps.
    Busy,
    /// The gateway, whose worker sleeps when there is nothing to do.
    Adaptive,
}

impl Path {
    pub(crate) const ALL: [Self; 4] = [Self::Kernel, Self::Bare, Self::Busy, Self::Adaptive];

    /// As settings have it.
    pub(crate) const fn setting(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Bare => "bare",
            Self::Busy => "busy",
            Self::Adaptive => "adaptive",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Bare => "bare AF_XDP",
            Self::Busy => "weirgate, busy",
            Self::Adaptive => "weirgate, adaptive",
        }
    }
}

/// A path in use; dropping it restores the host.
pub(crate) struct Running<'w> {
    world: &'w World,
    forwarder: Forwarder<'w>,
}

enum Forwarder<'w> {
    Kernel { _gateway: KernelGateway<'w> },
    Bare { child: Child },
    Weirgate { gateway: Gateway },
}

impl<'w> Running<'w> {
    /// Starts forwarding; a worker has `core`.
    pub(crate) fn start(world: &'w World, path: Path, core: usize) -> Self {
        let forwarder = match path {
            Path::Kernel => {
                let gateway = world.start_kernel_gateway(None).unwrap_or_else(|error| panic!("{error}"));
                Forwarder::Kernel { _gateway: gateway }
            }
            Path::Bare => start_bare(world, core),
            Path::Busy | Path::Adaptive => {
                let poll = format!("poll = \"{}\"\nfirst_core = {core}", path.setting());
                let configuration = world.gateway_config().replace("poll = \"adaptive\"", &poll);
                let gateway =
                    world.start_gateway(build_gateway(), &configuration).unwrap_or_else(|error| panic!("{error}"));
                Forwarder::Weirgate { gateway }
            }
        };
        Self { world, forwarder }
    }

    /// The client's destinations.
    pub(crate) fn servants(&self) -> Servants {
        let address = |text: &str| text.parse().expect("an IPv4 address");
        match self.forwarder {
            Forwarder::Bare { .. } => Servants {
                addresses: (0..POD_SUFFIXES.len()).map(|pod| address(&NODES[0].pod_v4(pod))).collect(),
                udp: UDP_PORT,
                tcp: TCP_PORT,
            },
            _ => Servants { addresses: vec![address(GATEWAY_V4)], udp: ECHO_NODE_PORT, tcp: WEB_NODE_PORT },
        }
    }

    /// The run time of everything involved: this process with client and servers, the forwarder, and the kernel's
    /// threads for deferred work. What the kernel does between two threads' work is counted as the first one's.
    pub(crate) fn ran(&self) -> Duration {
        let process = match &self.forwarder {
            Forwarder::Kernel { .. } => None,
            Forwarder::Bare { child } => Some(child.id()),
            Forwarder::Weirgate { gateway } => Some(gateway.id()),
        };
        sys::ran() + process.map_or(Duration::ZERO, ran) + leftover()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Forwarder::Bare { child } = &mut self.forwarder {
            drop(child.stdin.take());
            let _ = child.wait();
            self.world.shell(Host::Client, "ip route del 10.77.0.0/16");
        }
    }
}

fn start_bare(world: &World, core: usize) -> Forwarder<'_> {
    world.shell(Host::Client, &format!("ip route add 10.77.0.0/16 via {GATEWAY_V4}"));
    let station =
        |host, interface: &str| world.shell(host, &format!("cat /sys/class/net/{interface}/address")).trim().to_owned();
    let ends = [(Host::Client, "cl0"), (Host::Node(0), "eth0"), (Host::Gateway, "up0"), (Host::Gateway, "un0")];
    let program = std::env::current_exe().expect("this program has a file");
    let mut child = world
        .command(Host::Gateway, &program.display().to_string())
        .args(["--forward", &core.to_string()])
        .args(ends.map(|(host, interface)| station(host, interface)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ip can be started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it can be read");
    assert!(line.starts_with("ready"), "the bare forwarder did not start");
    Forwarder::Bare { child }
}

/// How long all threads of another process have run.
fn ran(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    tasks.filter_map(|task| scheduled(&task.ok()?.path().join("schedstat"))).sum()
}

/// How long the kernel's own threads for network work have run.
fn leftover() -> Duration {
    let processes = fs::read_dir("/proc").expect("/proc is mounted");
    let of_thread = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        name.starts_with("ksoftirqd/").then(|| scheduled(&entry.path().join("schedstat")))?
    };
    processes.filter_map(|entry| of_thread(entry.ok()?)).sum()
}

/// The first number of a thread's scheduler statistics.
fn scheduled(file: &std::path::Path) -> Option<Duration> {
    let text = fs::read_to_string(file).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
