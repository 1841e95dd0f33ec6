//! weirgate as gateway.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::netns::{read_or_empty, wait_until};
use crate::topology::{EXTERNAL_V4, EXTERNAL_V6, GATEWAY, UNDERLAY_V4, UNDERLAY_V6};
use crate::{Backend, Host, NODES, Process, Waited, World, WorldError};
use crate::{DNS_NODE_PORT, ECHO_NODE_PORT, SCTP_NODE_PORT, SCTP_PORT, WEB_NODE_PORT};

/// How long a gateway may take to come up: long, since a busy machine may take 20 seconds to run its first line.
const START_LIMIT: Duration = Duration::from_secs(60);

impl World {
    /// Where a gateway with this world's configuration listens for `weirgate status`.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.directory().join("control.sock")
    }

    /// Where a gateway with this world's configuration keeps its flow tables. Made by the gateway.
    #[must_use]
    pub fn flow_tables(&self) -> PathBuf {
        crate::shared_memory(self.namespaces.prefix())
    }

    /// A configuration file for a gateway of this world: services `web` (TCP), `dns` and `echo` (UDP) over all pods.
    #[must_use]
    pub fn gateway_config(&self) -> String {
        self.gateway_config_for(&Host::pods())
    }

    /// The same with the given pods as backends only.
    ///
    /// # Panics
    /// When one of the hosts is no pod.
    #[must_use]
    pub fn gateway_config_for(&self, pods: &[Host]) -> String {
        let backend = match self.options().backend {
            Backend::Vxlan => "vxlan",
            Backend::HostGw => "host-gw",
        };
        let mut text = format!(
            r#"[gateway]
poll = "adaptive"
workers = {workers}
control_socket = "{socket}"

[flows]
memory = "{tables}"

[uplink]
interface = "{uplink}"
addresses = ["{gateway_v4}", "{gateway_v6}"]

[underlay]
interface = "un0"

[overlay]
backend = "{backend}"
networks = ["10.77.0.0/16", "fd77::/48"]
subnets = ["{subnet_v4}.0/24", "{subnet_v6}::/64"]
vni = 1
port = 8472
public_ip = "{UNDERLAY_V4}"
public_ipv6 = "{UNDERLAY_V6}"
vtep_mac = "{vtep_mac}"
vtep_mac_v6 = "{vtep_mac_v6}"
snat_pool = ["{subnet_v4}.2", "{subnet_v4}.3", "{subnet_v6}::2"]
"#,
            workers = self.options().queues,
            socket = self.control_socket().display(),
            tables = self.flow_tables().display(),
            uplink = self.uplink(),
            gateway_v4 = crate::GATEWAY_V4,
            gateway_v6 = crate::GATEWAY_V6,
            subnet_v4 = GATEWAY.subnet_v4,
            subnet_v6 = GATEWAY.subnet_v6,
            vtep_mac = GATEWAY.vtep_mac,
            vtep_mac_v6 = GATEWAY.vtep_mac_v6,
        );
        for node in NODES {
            let _ = write!(
                text,
                r#"
[[peer]]
subnets = ["{}.0/24", "{}::/64"]
public_ip = "{}"
public_ipv6 = "{}"
vtep_mac = "{}"
vtep_mac_v6 = "{}"
"#,
                node.subnet_v4, node.subnet_v6, node.public_v4, node.public_v6, node.vtep_mac, node.vtep_mac_v6
            );
        }
        for (name, protocol, port, node_port) in
            [("web", "tcp", 80, WEB_NODE_PORT), ("dns", "udp", 53, DNS_NODE_PORT), ("echo", "udp", 7, ECHO_NODE_PORT)]
        {
            text += &service(name, protocol, (port, node_port), pods);
        }
        text
    }

    /// A service `signal` over SCTP, to go behind a configuration of this world's. The world has no servers for it.
    ///
    /// # Panics
    /// When one of the hosts is no pod.
    #[must_use]
    pub fn sctp_service(&self, pods: &[Host]) -> String {
        service("signal", "sctp", (SCTP_PORT, SCTP_NODE_PORT), pods)
    }

    /// Starts `binary run --config FILE` on the gateway host and waits until its control socket answers.
    ///
    /// # Errors
    /// [`WorldError::Gateway`] with its log when it ends, or when it does not answer within a minute.
    pub fn start_gateway(&self, binary: &Path, configuration: &str) -> Result<Gateway, WorldError> {
        let mut gateway = self.spawn_gateway(binary, configuration, "weirgate", &[])?;
        let up = gateway.wait_for(|_| UnixStream::connect(self.control_socket()).is_ok());
        if up { Ok(gateway) } else { Err(gateway.failed("did not answer on its control socket")) }
    }

    /// Starts `binary run --takeover --config FILE` on the gateway host and waits until it says that it has taken over
    /// from the gateway that runs there.
    ///
    /// # Errors
    /// [`WorldError::Gateway`] with its log when it ends, or has not taken over within a minute.
    pub fn take_over(&self, binary: &Path, configuration: &str) -> Result<Gateway, WorldError> {
        let mut gateway = self.begin_takeover(binary, configuration)?;
        let up = gateway.wait_for(|gateway| gateway.log().contains("taken over"));
        if up { Ok(gateway) } else { Err(gateway.failed("did not take over")) }
    }

    /// As [`take_over`](Self::take_over), and does not wait.
    ///
    /// # Errors
    /// [`WorldError`] when it cannot be started.
    pub fn begin_takeover(&self, binary: &Path, configuration: &str) -> Result<Gateway, WorldError> {
        self.spawn_gateway(binary, configuration, "successor", &["--takeover"])
    }

    /// Starts `binary run` with further arguments and does not wait; `name` is that of its files.
    fn spawn_gateway(
        &self,
        binary: &Path,
        configuration: &str,
        name: &str,
        arguments: &[&str],
    ) -> Result<Gateway, WorldError> {
        let io = |error| WorldError::io("cannot prepare the gateway", &error);
        let file = self.directory().join(name).with_extension("toml");
        let log = self.directory().join(name).with_extension("log");
        fs::write(&file, configuration).map_err(io)?;
        let output = fs::File::create(&log).map_err(io)?;
        let mut command = self.command(Host::Gateway, &binary.display().to_string());
        command
            .args(["run", "--config"])
            .arg(&file)
            .args(arguments)
            .stdout(Stdio::from(output.try_clone().map_err(io)?))
            .stderr(Stdio::from(output));
        let process = Process::start(&mut command).map_err(io)?;
        Ok(Gateway { process, binary: binary.to_owned(), file, log })
    }

    /// Runs `binary` with `arguments` on the gateway host to its end.
    ///
    /// # Panics
    /// When it cannot be started at all.
    pub fn weirgate(&self, binary: &Path, arguments: &[&str]) -> Output {
        let program = binary.display().to_string();
        self.command(Host::Gateway, &program).args(arguments).output().expect("ip can be started")
    }
}

/// One service over these pods.
fn service(name: &str, protocol: &str, (port, node_port): (u16, u16), pods: &[Host]) -> String {
    let mut backends = Vec::new();
    for host in pods {
        let Host::Pod(node, pod) = *host else { panic!("{host:?} is no pod") };
        backends.push(format!("\"{}:{port}\"", NODES[node].pod_v4(pod)));
        backends.push(format!("\"[{}]:{port}\"", NODES[node].pod_v6(pod)));
    }
    format!(
        r#"
[[service]]
name = "{name}"
protocol = "{protocol}"
port = {port}
node_port = {node_port}
external_addresses = ["{EXTERNAL_V4}", "{EXTERNAL_V6}"]
backends = [{}]
"#,
        backends.join(", ")
    )
}

/// A running weirgate; dropping it asks it to end, and kills it when it does not within five seconds.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    binary: PathBuf,
    file: PathBuf,
    log: PathBuf,
}

impl Gateway {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The binary it was started from.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Its configuration file.
    #[must_use]
    pub fn configuration_file(&self) -> &Path {
        &self.file
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        read_or_empty(&self.log)
    }

    /// Waits until `done`, at most a minute and as long as it runs.
    fn wait_for(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let mut is_done = false;
        wait_until(START_LIMIT, || {
            let has_ended = !self.is_running();
            is_done = done(self);
            is_done || has_ended
        });
        is_done && self.is_running()
    }

    fn failed(&mut self, what: &str) -> WorldError {
        let how = if self.is_running() { what } else { "ended" };
        WorldError::Gateway(format!("the gateway {how}:\n{}", self.log()))
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Waited {
        self.process.wait(limit)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.wait(Duration::ZERO) == Waited::Running
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(mut self) {
        self.process.signal(libc::SIGKILL);
        self.process.wait(Duration::from_secs(5));
    }

    /// Asks it to end with a signal and says how it did, within ten seconds.
    pub fn stop(mut self, signal: i32) -> Waited {
        self.process.signal(signal);
        self.process.wait(Duration::from_secs(10))
    }

    /// Lets it run on when this process ends.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.is_running() {
            self.process.signal(libc::SIGTERM);
            self.process.wait(Duration::from_secs(5));
        }
    }
}
