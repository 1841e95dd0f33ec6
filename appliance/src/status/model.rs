//! The report of `weirgate status`: the fields of its JSON, stable by name, and where they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};
use weirgate::counters::Counters;
use weirgate::net::PortId;
use weirgate::snapshot::Encapsulation;
use weirgate::verdict::DropReason;

use super::counters::COUNTERS;
use super::fill;
use crate::control::compile::POOL_PORTS;
use crate::control::follow::{Control, State};
use crate::gateway::{Forwarding, WorkerCounters};
use crate::worker::{Stats, Workers};
use crate::xdp::{Deferral, Mode, Transfer, WAIT_MAX};

/// The state of a running gateway.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Status {
    /// The gateway's version.
    pub version: String,
    /// How long it has been forwarding.
    pub uptime_seconds: u64,
    /// How many workers it has.
    pub workers: u32,
    /// The number of the snapshot that the workers use.
    pub generation: u32,
    /// The size of that snapshot.
    pub snapshot_bytes: usize,
    /// The locked memory of the rings' frames.
    pub ring_bytes: usize,
    /// What keeps the gateway from forwarding, and what is nearly full, one sentence each.
    pub warnings: Vec<String>,
    /// The ports, in the order of their numbers.
    pub ports: Vec<Port>,
    /// The peers' subnets, in the order of the configuration.
    pub peers: Vec<Peer>,
    /// The services, in the order of the configuration.
    pub services: Vec<Service>,
    /// The flow tables.
    pub flows: Vec<FlowTable>,
    /// The memory that they lie in, by worker.
    pub flow_memory: Vec<FlowMemory>,
    /// The addresses of the SNAT pool.
    pub pool: Vec<PoolAddress>,
    /// The masquerade addresses, in the order of the configuration.
    pub masquerade: Vec<MasqueradeAddress>,
    /// Frames dropped, by reason; every reason is listed.
    pub drops: BTreeMap<String, u64>,
    /// The other counters, as docs/counters.md lists them.
    pub counters: BTreeMap<String, u64>,
    /// How long the workers' turns took that moved frames.
    pub burst_times: BurstTimes,
}

/// A port.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Port {
    /// The interface.
    pub interface: String,
    /// `up`, `down` or `gone`.
    pub state: String,
    /// How the steering program is attached: `native` or `generic`.
    pub mode: String,
    /// How frames get to the rings: `zero-copy` or `copy`; `closed` while another process tries to take over.
    pub transfer: String,
    /// How many receive queues the interface has.
    pub queues: u32,
    /// Its MTU.
    pub mtu: u32,
    /// Its link address, where it has one.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether its interrupts are deferred.
    pub interrupts: Interrupts,
    /// Frames received from its rings.
    pub received: Traffic,
    /// Frames put into its rings.
    pub transmitted: Traffic,
}

/// Whether a port's interrupts are deferred, for workers that poll its driver.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Interrupts {
    /// Whether they are.
    pub deferred: bool,
    /// How long a frame waits at most where nobody polls; 0 where they are not deferred.
    pub wait_max_ns: u64,
    /// Why they are or are not.
    pub reason: String,
}

/// Packets or frames, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A peer's subnet, and the path to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Peer {
    /// The pods.
    pub subnet: String,
    /// The peer on the underlay.
    pub public: IpAddr,
    /// `vxlan` or `host-gw`.
    pub backend: String,
    /// The next hop, where the kernel knows one through a port.
    pub next_hop: Option<NextHop>,
}

/// A neighbour on a port's link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct NextHop {
    /// The interface.
    pub interface: String,
    /// The neighbour's network address.
    pub address: IpAddr,
    /// Its link address; `null` while unresolved.
    pub mac: Option<String>,
}

/// A service and its traffic.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where clients reach it.
    pub frontends: Vec<String>,
    /// Its backends.
    pub backends: Vec<String>,
    /// From clients.
    pub original: Traffic,
    /// To clients.
    pub reply: Traffic,
    /// Flows that were created.
    pub flows_created: u64,
}

/// A flow table.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct FlowTable {
    /// The worker that it belongs to.
    pub worker: u32,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// How many flows it holds.
    pub used: u32,
    /// How many of these are half-open.
    pub half_open: u32,
    /// How many it has room for.
    pub capacity: u32,
}

/// An address of the SNAT pool.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct PoolAddress {
    /// The address.
    pub address: IpAddr,
    /// How many flows have it, as of the last few seconds.
    pub flows: u64,
    /// The most that could, spread evenly over all backends: every port towards each of them.
    pub capacity: u64,
}

/// A masquerade address.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct MasqueradeAddress {
    /// The address.
    pub address: IpAddr,
    /// How many flows have it, as of the last few seconds.
    pub flows: u64,
    /// The flows towards the busiest remote endpoint, if each address were chosen as often: never fewer
    /// than its share of them.
    pub busiest: u64,
    /// How many can go to one remote endpoint: its ports.
    pub capacity: u64,
}

/// The memory of a worker's flow tables.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct FlowMemory {
    /// The worker.
    pub worker: u32,
    /// How many bytes it has.
    pub bytes: usize,
    /// Its pages: `small pages`, `transparent huge pages` or `reserved huge pages of N KiB`.
    pub pages: String,
    /// Whether it can never be swapped out.
    pub locked: bool,
    /// The file that outlives the process; `null` where the flows end with it.
    pub file: Option<PathBuf>,
    /// How many flows of an earlier process the worker adopted.
    pub adopted: u32,
    /// How many entries of an earlier process were damaged, and dropped.
    pub damaged: u32,
    /// How many of its flows were dropped because their replies no longer arrive at the worker.
    pub strayed: u32,
}

/// Nanoseconds from when a worker receives a burst from its rings until it has queued the last frame of it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
pub struct BurstTimes {
    /// How many turns moved frames.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_ns: u64,
    /// Nine of ten.
    pub p90_ns: u64,
    /// 99 of a hundred.
    pub p99_ns: u64,
    /// 999 of a thousand.
    pub p999_ns: u64,
    /// All.
    pub max_ns: u64,
}

impl Status {
    /// The state of this gateway, as of now.
    #[must_use]
    pub fn of(control: &Control, forwarding: &Forwarding) -> Self {
        let state = control.state.borrow();
        let stats = forwarding.stats();
        let mut status = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: forwarding.since.elapsed().as_secs(),
            workers: u32::from(control.workers),
            generation: state.generation,
            snapshot_bytes: control.published.load().len(),
            ring_bytes: forwarding.workers().map_or(0, Workers::locked_bytes),
            ports: ports(&state, forwarding, stats),
            peers: peers(&state),
            services: services(control, &state, forwarding),
            flows: flows(control, forwarding),
            flow_memory: flow_memory(forwarding),
            pool: pool(control, forwarding),
            masquerade: masquerade(control, forwarding),
            warnings: Vec::new(),
            drops: drops(forwarding.counters.iter().map(|counters| &counters.core)),
            counters: COUNTERS.iter().map(|counter| (counter.name.to_owned(), counter.read(forwarding))).collect(),
            burst_times: burst_times(stats),
        };
        status.warnings =
            forwarding.idle().map(|reason| format!("this process forwards nothing: {reason}")).into_iter().collect();
        status.warnings.extend(fill::warnings(&status));
        status
    }
}

fn ports(state: &State, forwarding: &Forwarding, stats: &[Stats]) -> Vec<Port> {
    let modes = forwarding.steering.modes();
    let interfaces = forwarding.steering.ports();
    let transfer = match forwarding.workers().map(Workers::transfer) {
        Some(Transfer::ZeroCopy) => "zero-copy",
        Some(Transfer::Copy) => "copy",
        None => "closed",
    };
    let port = |(index, port): (usize, &crate::control::netlink::Port)| {
        let sum = |read: fn(&crate::worker::PortStats) -> (u64, u64)| {
            stats.iter().map(|worker| read(&worker.ports[index])).fold(Traffic::default(), |sum, (packets, bytes)| {
                Traffic { packets: sum.packets + packets, bytes: sum.bytes + bytes }
            })
        };
        Port {
            interface: port.name.clone(),
            state: match (port.present, port.link.up) {
                (false, _) => "gone",
                (true, true) => "up",
                (true, false) => "down",
            }
            .to_owned(),
            mode: match modes.get(index) {
                Some(Mode::Native) => "native",
                Some(Mode::Generic) => "generic",
                None => "detached",
            }
            .to_owned(),
            transfer: transfer.to_owned(),
            queues: interfaces.get(index).map_or(0, crate::xdp::Interface::queues),
            mtu: port.link.mtu,
            mac: port.link.mac.map(|mac| mac.to_string()),
            addresses: port.addresses.iter().copied().collect(),
            interrupts: interrupts(forwarding.workers().and_then(|workers| workers.deferral(index))),
            received: sum(|port| (port.received_frames.load(Relaxed), port.received_bytes.load(Relaxed))),
            transmitted: sum(|port| (port.transmitted_frames.load(Relaxed), port.transmitted_bytes.load(Relaxed))),
        }
    };
    state.model.ports.iter().enumerate().map(port).collect()
}

fn interrupts(deferral: Option<&Deferral>) -> Interrupts {
    let deferred = deferral.is_some_and(Deferral::is_on);
    Interrupts {
        deferred,
        wait_max_ns: if deferred { WAIT_MAX.0 } else { 0 },
        reason: deferral.map_or_else(|| "no worker runs".to_owned(), Deferral::reason),
    }
}

fn peers(state: &State) -> Vec<Peer> {
    let of_peer = |peer: &weirgate::snapshot::Peer| {
        let next_hop = state.model.next_hops.get(&peer.public).map(|hop| NextHop {
            interface: name_of(state, hop.port),
            address: hop.neighbour,
            mac: state.model.neighbour(hop.port, hop.neighbour).mac().map(|mac| mac.to_string()),
        });
        let backend = match peer.encapsulation {
            Encapsulation::Vxlan { .. } => crate::config::Backend::Vxlan,
            Encapsulation::Direct => crate::config::Backend::HostGw,
        };
        Peer { subnet: peer.subnet.to_string(), public: peer.public, backend: backend.name().to_owned(), next_hop }
    };
    state.world.peers().iter().map(of_peer).collect()
}

fn name_of(state: &State, port: PortId) -> String {
    state.model.at(port).map(|port| port.name.clone()).unwrap_or_default()
}

fn services(control: &Control, state: &State, forwarding: &Forwarding) -> Vec<Service> {
    let sum = |index: usize, read: fn(&weirgate::counters::ServiceCounters) -> u64| {
        forwarding.counters.iter().filter_map(|worker| worker.services.get(index)).map(read).sum()
    };
    let service = |(index, service): (usize, &crate::config::Service)| Service {
        name: service.name.clone(),
        protocol: service.protocol.to_string(),
        frontends: state.world.frontends(index).iter().map(ToString::to_string).collect(),
        backends: service.backends.iter().map(ToString::to_string).collect(),
        original: Traffic {
            packets: sum(index, |counters| counters.original.packets.get()),
            bytes: sum(index, |counters| counters.original.bytes.get()),
        },
        reply: Traffic {
            packets: sum(index, |counters| counters.reply.packets.get()),
            bytes: sum(index, |counters| counters.reply.bytes.get()),
        },
        flows_created: sum(index, |counters| counters.flows.get()),
    };
    control.config.services.iter().enumerate().map(service).collect()
}

fn flows(control: &Control, forwarding: &Forwarding) -> Vec<FlowTable> {
    let tables = |(worker, counters): (u32, &WorkerCounters)| {
        let WorkerCounters { flows_v4, flows_v6, half_open_v4, half_open_v6, .. } = counters;
        [
            ("ipv4", flows_v4, half_open_v4, control.config.flows_v4),
            ("ipv6", flows_v6, half_open_v6, control.config.flows_v6),
        ]
        .map(|(family, used, half_open, capacity)| FlowTable {
            worker,
            family: family.to_owned(),
            used: used.load(Relaxed),
            half_open: half_open.load(Relaxed),
            capacity,
        })
    };
    (0..).zip(forwarding.counters.iter().map(|counters| &**counters)).flat_map(tables).collect()
}

fn flow_memory(forwarding: &Forwarding) -> Vec<FlowMemory> {
    let of_worker = |(worker, memory): (u32, &crate::gateway::FlowMemory)| FlowMemory {
        worker,
        bytes: memory.bytes,
        pages: memory.pages.to_string(),
        locked: memory.is_locked,
        file: memory.path.clone(),
        adopted: memory.adopted.map_or(0, |adopted| adopted.flows),
        damaged: memory.adopted.map_or(0, |adopted| adopted.damaged),
        strayed: memory.adopted.map_or(0, |adopted| adopted.strayed),
    };
    (0..).zip(forwarding.memory()).map(of_worker).collect()
}

fn pool(control: &Control, forwarding: &Forwarding) -> Vec<PoolAddress> {
    let config = &control.config;
    let backends: BTreeSet<_> = config
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(|at| (service.protocol.0, at.address, at.port)))
        .collect();
    let mut places = [0; 2];
    let of_address = |&address: &IpAddr| {
        let place = &mut places[usize::from(address.is_ipv6())];
        let count = |counters: &WorkerCounters| {
            let pool = if address.is_ipv4() { &counters.core.pool_v4 } else { &counters.core.pool_v6 };
            pool.get(*place)
        };
        let flows = forwarding.counters.iter().map(|counters| count(counters)).sum();
        *place += 1;
        let backends = backends.iter().map(|&(_, address, _)| address);
        PoolAddress { address, flows, capacity: fill::pool_capacity(address, POOL_PORTS, backends) }
    };
    config.overlay.snat_pool.iter().map(of_address).collect()
}

fn masquerade(control: &Control, forwarding: &Forwarding) -> Vec<MasqueradeAddress> {
    let config = &control.config.masquerade;
    let mut places = [0; 2];
    let of_address = |&address: &IpAddr| {
        let place = &mut places[usize::from(address.is_ipv6())];
        let of_family = config.addresses.iter().filter(|other| other.is_ipv4() == address.is_ipv4()).count() as u64;
        let counters = || forwarding.counters.iter().map(|counters| &counters.core);
        let (flows, busiest): (u64, u64) = if address.is_ipv4() {
            (counters().map(|of| of.masquerade_v4.get(*place)).sum(), counters().map(|of| of.busiest_v4.get()).sum())
        } else {
            (counters().map(|of| of.masquerade_v6.get(*place)).sum(), counters().map(|of| of.busiest_v6.get()).sum())
        };
        *place += 1;
        let busiest = busiest.div_ceil(of_family.max(1)).min(flows);
        MasqueradeAddress { address, flows, busiest, capacity: fill::ports(config.ports) }
    };
    config.addresses.iter().map(of_address).collect()
}

/// Drops by reason, summed over the workers; every reason is there.
pub(super) fn drops<'c>(workers: impl Iterator<Item = &'c Counters> + Clone) -> BTreeMap<String, u64> {
    let sum = |reason: DropReason| workers.clone().map(|counters| counters.drops(reason)).sum();
    DropReason::ALL.iter().map(|&reason| (reason.name().to_owned(), sum(reason))).collect()
}

fn burst_times(stats: &[Stats]) -> BurstTimes {
    let mut all = None;
    for worker in stats {
        let histogram = worker.latency.histogram();
        match &mut all {
            None => all = Some(histogram),
            // Equal bounds, so nothing is out of range.
            Some(all) => all.add(&histogram).expect("all workers' histograms have the same bounds"),
        }
    }
    let Some(all) = all.filter(|all| !all.is_empty()) else { return BurstTimes::default() };
    BurstTimes {
        count: all.len(),
        p50_ns: all.value_at_quantile(0.5),
        p90_ns: all.value_at_quantile(0.9),
        p99_ns: all.value_at_quantile(0.99),
        p999_ns: all.value_at_quantile(0.999),
        max_ns: all.max(),
    }
}
