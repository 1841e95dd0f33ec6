//! What is compared: each path from the uplink to the underlay, started and ended in the same world.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use weirgate_world::{Gateway, Host, KernelGateway, World, build_gateway};

use crate::first;

/// A path for frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Path {
    /// nftables DNAT, masquerade and a VXLAN device, in a kernel thread that polls the uplink.
    Kernel,
    /// AF_XDP and nothing else.
    Bare,
    /// The same without moving the frame to its required start.
    Unmoved,
    /// The gateway.
    Weirgate,
}

impl Path {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Bare => "bare AF_XDP",
            Self::Unmoved => "bare, unmoved",
            Self::Weirgate => "weirgate",
        }
    }
}

/// A path in use; dropping it restores the host.
pub(crate) struct Running<'w> {
    path: Path,
    world: &'w World,
    forwarder: Forwarder<'w>,
    /// Where the kernel says how long the forwarding thread has run.
    clock: PathBuf,
}

enum Forwarder<'w> {
    Kernel { _gateway: KernelGateway<'w> },
    Bare { child: Child },
    Weirgate { gateway: Gateway },
}

impl<'w> Running<'w> {
    /// Starts forwarding on `core`.
    pub(crate) fn start(world: &'w World, path: Path, core: usize) -> Self {
        let (forwarder, clock) = match path {
            Path::Kernel => start_kernel(world, core),
            Path::Bare => start_bare(world, "moved", core),
            Path::Unmoved => start_bare(world, "unmoved", core),
            Path::Weirgate => start_weirgate(world, core),
        };
        Self { path, world, forwarder, clock }
    }

    /// Which one it is.
    pub(crate) const fn path(&self) -> Path {
        self.path
    }

    /// The process that forwards, where it is one.
    pub(crate) fn process(&self) -> Option<u32> {
        match &self.forwarder {
            Forwarder::Kernel { .. } => None,
            Forwarder::Bare { child } => Some(child.id()),
            Forwarder::Weirgate { gateway } => Some(gateway.id()),
        }
    }

    /// How long the forwarding thread has run.
    pub(crate) fn ran(&self) -> Duration {
        let text = fs::read_to_string(&self.clock).expect("the forwarding thread runs");
        let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
        Duration::from_nanos(nanoseconds.expect("its scheduler statistics begin with a number"))
    }

    /// How many flows it knows, where it knows any.
    pub(crate) fn flows(&self) -> Option<u64> {
        match &self.forwarder {
            Forwarder::Kernel { .. } => {
                let text = self.world.shell(Host::Gateway, "cat /proc/sys/net/netfilter/nf_conntrack_count");
                text.trim().parse().ok()
            }
            Forwarder::Bare { .. } => None,
            Forwarder::Weirgate { gateway } => {
                let socket = self.world.control_socket();
                let output = self.world.weirgate(
                    gateway.binary(),
                    &["status", "--json", "--control-socket", &socket.display().to_string()],
                );
                let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
                status["flows"]
                    .as_array()?
                    .iter()
                    .filter_map(|table| table["used"].as_u64())
                    .reduce(|sum, used| sum + used)
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        match &mut self.forwarder {
            Forwarder::Kernel { .. } => {
                self.world.shell(Host::Gateway, "echo 0 > /sys/class/net/up0/threaded; ethtool -K up0 gro off");
            }
            Forwarder::Bare { child } => {
                drop(child.stdin.take());
                let _ = child.wait();
            }
            Forwarder::Weirgate { .. } => {}
        }
    }
}

/// Frames that come as XDP frames need GRO or a program at the receiving end of a veth. With its
/// own thread the uplink's NAPI context stays on the forwarder's core, as with the other paths.
fn start_kernel(world: &World, core: usize) -> (Forwarder<'_>, PathBuf) {
    let gateway = world.start_kernel_gateway(None).unwrap_or_else(|error| panic!("{error}"));
    world.shell(Host::Gateway, "ethtool -K up0 gro on; echo 1 > /sys/class/net/up0/threaded");
    let thread = fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .find(|id| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with("napi/up0-")))
        .expect("a threaded NAPI context has a kernel thread");
    first::pin(thread, core).expect("the core exists");
    first::put_first(thread).expect("root may");
    (Forwarder::Kernel { _gateway: gateway }, format!("/proc/{thread}/schedstat").into())
}

fn start_bare<'w>(world: &'w World, kind: &str, core: usize) -> (Forwarder<'w>, PathBuf) {
    let program = std::env::current_exe().expect("this program has a file");
    let mut child = world
        .command(Host::Gateway, &program.display().to_string())
        .args(["--forward", kind, &core.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ip can be started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it can be read");
    assert!(line.starts_with("ready"), "the bare forwarder did not start");
    let clock = worker_clock(child.id());
    (Forwarder::Bare { child }, clock)
}

fn start_weirgate(world: &World, core: usize) -> (Forwarder<'_>, PathBuf) {
    let configuration =
        world.gateway_config().replace("poll = \"adaptive\"", &format!("poll = \"busy\"\nfirst_core = {core}"));
    let gateway = world.start_gateway(build_gateway(), &configuration).unwrap_or_else(|error| panic!("{error}"));
    let clock = worker_clock(gateway.id());
    (Forwarder::Weirgate { gateway }, clock)
}

/// Where the scheduler's statistics of a process's first worker are.
fn worker_clock(process: u32) -> PathBuf {
    fs::read_dir(format!("/proc/{process}/task"))
        .expect("the process runs")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "weirgate-w0"))
        .expect("a worker's thread has its name")
        .join("schedstat")
}
