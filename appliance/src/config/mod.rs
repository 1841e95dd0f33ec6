//! The configuration file: TOML, described field by field in [`fields`], checked as a whole before
//! anything is touched.

pub mod fields;
pub mod kind;
mod problem;
mod read;
mod reference;
mod rules;
mod sections;
mod summary;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::de::DeTable;
use weirgate::fragment::Limits;
use weirgate::net::{Endpoint, Mac, Protocol, Vni};
use weirgate::snapshot::{Admission, Echo, MssLimit, OuterDscp, Policy, Timeouts};

pub use problem::{Position, Problem};
pub use reference::reference;
#[cfg(test)]
pub(crate) use reference::sample;

use problem::{Findings, Place};

/// The control socket's default path.
pub const CONTROL_SOCKET: &str = "/run/weirgate/control.sock";

/// The longest path of a control socket: with the suffix that the socket has until the gateway forwards, it still
/// fits a socket address.
pub const CONTROL_SOCKET_BYTES_MAX: usize = 98;

/// A checked configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Whether the workers sleep.
    pub poll: Poll,
    /// How many workers; `None` for as many as the ports have queues.
    pub workers: Option<u8>,
    /// The core of the first worker.
    pub first_core: usize,
    /// The Unix socket for status.
    pub control_socket: PathBuf,
    /// The interface to the clients.
    pub uplink: String,
    /// The node-port addresses; `None` for the uplink's own.
    pub uplink_addresses: Option<Vec<IpAddr>>,
    /// The interface to the nodes.
    pub underlay: String,
    /// The container network.
    pub overlay: Overlay,
    /// The nodes.
    pub peers: Vec<Peer>,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
    /// The first and last node port of the cluster.
    pub node_ports: (u16, u16),
    /// The limit on maximum segment sizes.
    pub mss: MssLimit,
    /// The codepoint of VXLAN's outer headers.
    pub outer_dscp: OuterDscp,
    /// Pods' own connections to the outside.
    pub masquerade: Masquerade,
    /// Flows over IPv4 for each worker.
    pub flows_v4: u32,
    /// Flows over IPv6 for each worker.
    pub flows_v6: u32,
    /// Each worker's limits on fragmented datagrams.
    pub fragments: Limits,
    /// The directory for flow tables; `None` for the best available one.
    pub flows_memory: Option<PathBuf>,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// The limits on new flows.
    pub admission: Admission,
    /// Which pings of services' addresses are answered, and how many.
    pub echo: Echo,
    /// Slots of each service's lookup table, a prime.
    pub table_size: u32,
    /// Seed of the selection.
    pub seed: u64,
}

/// How pods' own connections are masqueraded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Masquerade {
    /// The masquerade addresses. Without any, no pod's packet leaves.
    pub addresses: Vec<IpAddr>,
    /// The first and last port used on them.
    pub ports: (u16, u16),
    /// Destinations to which no pod's packet leaves.
    pub exempt: Vec<IpNet>,
}

/// How workers wait for frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poll {
    /// Sleep after an idle spell.
    Adaptive,
    /// Never sleep.
    Busy,
}

/// How packets cross the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// In VXLAN.
    Vxlan,
    /// Unencapsulated, by plain route.
    HostGw,
}

impl Backend {
    /// The name that flannel and the configuration file use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        }
    }
}

/// The container network and the gateway's place in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlay {
    /// The backend of peers that name none.
    pub backend: Backend,
    /// The whole network.
    pub networks: Vec<IpNet>,
    /// The gateway's own subnets in it.
    pub subnets: Vec<IpNet>,
    /// The VXLAN network identifier.
    pub vni: Vni,
    /// The UDP port of VXLAN.
    pub port: u16,
    /// The largest packet inside VXLAN, where less than the underlay could carry.
    pub mtu: Option<u16>,
    /// The gateway on the IPv4 underlay.
    pub public_v4: Option<Ipv4Addr>,
    /// The gateway on the IPv6 underlay.
    pub public_v6: Option<Ipv6Addr>,
    /// The gateway's VTEP over IPv4.
    pub vtep_v4: Option<Mac>,
    /// The gateway's VTEP over IPv6.
    pub vtep_v6: Option<Mac>,
    /// The SNAT pool.
    pub snat_pool: Vec<IpAddr>,
}

/// A node of the container network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its pods.
    pub subnets: Vec<IpNet>,
    /// The node on the IPv4 underlay.
    pub public_v4: Option<Ipv4Addr>,
    /// The node on the IPv6 underlay.
    pub public_v6: Option<Ipv6Addr>,
    /// Its VTEP over IPv4.
    pub vtep_v4: Option<Mac>,
    /// Its VTEP over IPv6.
    pub vtep_v6: Option<Mac>,
    /// How packets reach it.
    pub backend: Backend,
}

impl Peer {
    /// The underlay address that packets for a subnet of this family go to.
    #[must_use]
    pub fn public(&self, subnet: &IpNet) -> Option<IpAddr> {
        match subnet {
            IpNet::V4(_) => self.public_v4.map(IpAddr::V4),
            IpNet::V6(_) => self.public_v6.map(IpAddr::V6),
        }
    }

    /// The link address of its VTEP for a subnet of this family.
    #[must_use]
    pub const fn vtep(&self, subnet: &IpNet) -> Option<Mac> {
        match subnet {
            IpNet::V4(_) => self.vtep_v4,
            IpNet::V6(_) => self.vtep_v6,
        }
    }
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// What status and logs call it.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port on external addresses.
    pub port: Option<u16>,
    /// The port on node-port addresses.
    pub node_port: Option<u16>,
    /// Addresses beyond the node-port ones.
    pub external: Vec<IpAddr>,
    /// The policy for its packets.
    pub policy: Policy,
    /// Its backends.
    pub backends: Vec<Endpoint>,
}

/// A configuration without errors, and its warnings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// What works but may not be meant.
    pub warnings: Vec<Problem>,
}

/// Everything found wrong with a configuration; at least one error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// What must change, in the order of the file.
    pub errors: Vec<Problem>,
    /// What works but may not be meant.
    pub warnings: Vec<Problem>,
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// [`Refused`] with every error of the file; where it is no TOML, with the first.
pub fn load(path: &Path) -> Result<Checked, Refused> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => check(&name, &text),
        Err(error) => {
            let text = format!("cannot be read: {error}; name a file that can, such as --config weirgate.toml");
            let errors = vec![Problem { file: name, position: None, field: String::new(), text }];
            Err(Refused { errors, warnings: Vec::new() })
        }
    }
}

/// Checks the content of a file; `name` is what findings call it.
///
/// # Errors
/// [`Refused`] with every error of the file; where it is no TOML, with the first.
pub fn check(name: &str, text: &str) -> Result<Checked, Refused> {
    let mut findings = Findings::new(name, text);
    let config = match DeTable::parse(text) {
        Ok(document) => {
            let sections = sections::read(document.get_ref(), text.len(), &mut findings);
            rules::check(&sections, &mut findings);
            sections.assemble()
        }
        Err(error) => {
            let place = Place { path: String::new(), span: error.span().unwrap_or_default() };
            findings.error(&place, format!("not TOML here: {}", error.message().replace('\n', ", ")));
            None
        }
    };
    let (errors, warnings) = findings.finish();
    match config {
        Some(config) if errors.is_empty() => Ok(Checked { config, warnings }),
        _ => {
            assert!(!errors.is_empty(), "a configuration without errors is whole");
            Err(Refused { errors, warnings })
        }
    }
}
