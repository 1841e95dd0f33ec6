//! A cluster that changes, and what its snapshots say.

use std::net::{IpAddr, SocketAddr};

use weirgate::net::{Endpoint, Prefix, Protocol};
use weirgate::snapshot::{Admission, Backend, ClientAddress, Description, PastLimit};
use weirgate_fixture::world::{self, DNS, EMPTY, SIGNAL, WEB, World};

pub(super) const SERVICES: usize = 4;
/// The one of UDP, and that of SCTP.
pub(super) const DNS_SERVICE: usize = 2;
pub(super) const SCTP_SERVICE: usize = 3;
/// Pods that may be a service's backends.
pub(super) const PODS: usize = 8;

/// The SNAT pools: of one subnet, a part of it, and of another subnet.
pub(super) const POOLS: [(&[&str], &[&str]); 3] = [
    (&["10.77.200.0/24", "fd77:0:0:200::/64"], &["10.77.200.2", "10.77.200.3", "fd77:0:0:200::2"]),
    (&["10.77.200.0/24", "fd77:0:0:200::/64"], &["10.77.200.3", "fd77:0:0:200::3"]),
    (&["10.77.201.0/24", "fd77:0:0:201::/64"], &["10.77.201.2", "fd77:0:0:201::2"]),
];

pub(super) const MASQUERADES: [&[&str]; 3] =
    [&["198.51.100.7", "2001:db8:7::7"], &["198.51.100.8", "2001:db8:7::8"], &[]];

/// What another snapshot says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// A pod is a backend of the service, or is it no more.
    Backend(usize, usize),
    /// It gets no new flows, or gets them again.
    Weight(usize, usize),
    /// It listens at another port.
    Port(usize, usize),
    /// The service loses all backends, or has those again.
    Backends(usize),
    /// The service has a frontend less, or again.
    Frontend(usize, usize),
    /// The service is there no more, or again.
    Service(usize),
    /// The service preserves the source, or not.
    Preserve(usize),
    /// Two services have each other's frontends.
    Frontends,
    /// A node is gone, or is back.
    Node(usize),
    /// The nodes have each other's subnets, and so each other's pods' addresses.
    Nodes,
    Pool(usize),
    Masquerade(usize),
    /// Packets past the limit of new flows are dropped, or are forwarded statelessly.
    Stateless,
}

#[derive(Clone, Debug)]
struct Service {
    number: u32,
    protocol: Protocol,
    ports: [u16; 2],
    is_there: bool,
    has_backends: bool,
    preserves: bool,
    /// Which of its frontends it has.
    frontends: [bool; 4],
    /// Whether it has a pod, with which port and which weight.
    pods: [(bool, u16, u32); PODS],
}

#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) generation: u32,
    services: Vec<Service>,
    are_swapped: bool,
    nodes: [bool; 2],
    nodes_are_swapped: bool,
    pool: usize,
    masquerade: usize,
    is_stateless: bool,
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|text| text.parse().expect("an address")).collect()
}

/// The address of a pod.
fn pod(number: usize) -> IpAddr {
    let (node, last) = (number >> 1 & 1, 10 + (number >> 2 & 1) as u8);
    if number & 1 == 0 { world::pod(node, last).into() } else { world::pod_v6(node, last).into() }
}

/// The frontends of a service with this node port and this port at its external addresses.
fn frontends([node_port, port]: [u16; 2]) -> [Endpoint; 4] {
    [
        Endpoint { address: world::NODE_PORT_ADDRESS.into(), port: node_port },
        Endpoint { address: world::NODE_PORT_ADDRESS_V6.into(), port: node_port },
        Endpoint { address: world::EXTERNAL.into(), port },
        Endpoint { address: world::EXTERNAL_V6.into(), port },
    ]
}

/// What a snapshot says of who listens at a frontend.
pub(super) struct Listener {
    pub(super) number: u32,
    pub(super) preserves: bool,
    backends: Vec<Backend>,
}

impl Listener {
    /// The weight of a backend, if the service has it.
    pub(super) fn weight(&self, backend: SocketAddr) -> Option<u32> {
        let is_it = |it: &&Backend| (it.endpoint.address, it.endpoint.port) == (backend.ip(), backend.port());
        self.backends.iter().find(is_it).map(|backend| backend.weight)
    }

    pub(super) fn has_at(&self, address: IpAddr) -> bool {
        self.backends.iter().any(|backend| backend.endpoint.address == address)
    }
}

impl Cluster {
    pub(super) fn new() -> Self {
        let service = |number, protocol, ports, listens, (preserves, is_external)| Service {
            number,
            protocol,
            ports,
            is_there: true,
            has_backends: true,
            preserves,
            frontends: [true, true, is_external, is_external],
            pods: [(true, listens, 1); PODS],
        };
        Self {
            generation: 1,
            services: vec![
                service(WEB, Protocol::TCP, [30_080, 80], 80, (false, true)),
                // Has the same backends.
                service(EMPTY, Protocol::TCP, [30_099, 99], 80, (true, true)),
                service(DNS, Protocol::UDP, [30_053, 53], 53, (true, false)),
                service(SIGNAL, Protocol::SCTP, [30_038, 38], 38_412, (false, true)),
            ],
            are_swapped: false,
            nodes: [true; 2],
            nodes_are_swapped: false,
            pool: 0,
            masquerade: 0,
            is_stateless: false,
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Backend(service, pod) => self.services[service].pods[pod].0 ^= true,
            Change::Weight(service, pod) => self.services[service].pods[pod].2 ^= 1,
            Change::Port(service, pod) => self.services[service].pods[pod].1 ^= 1,
            Change::Backends(service) => self.services[service].has_backends ^= true,
            Change::Frontend(service, frontend) => self.services[service].frontends[frontend] ^= true,
            Change::Service(service) => self.services[service].is_there ^= true,
            Change::Preserve(service) => self.services[service].preserves ^= true,
            Change::Frontends => self.are_swapped ^= true,
            Change::Node(node) => self.nodes[node] ^= true,
            Change::Nodes => self.nodes_are_swapped ^= true,
            Change::Pool(pool) => self.pool = pool,
            Change::Masquerade(masquerade) => self.masquerade = masquerade,
            Change::Stateless => self.is_stateless ^= true,
        }
    }

    /// Where clients reach a service, be it there or not.
    pub(super) fn frontend(&self, service: usize, external: bool, v6: bool) -> (Protocol, SocketAddr) {
        let Service { protocol, ports, .. } = self.services[service];
        let Endpoint { address, port } = frontends(ports)[2 * usize::from(external) + usize::from(v6)];
        (protocol, (address, port).into())
    }

    /// Whether any snapshot may have a service here.
    pub(super) fn may_listen(&self, protocol: Protocol, at: SocketAddr) -> bool {
        let here = Endpoint { address: at.ip(), port: at.port() };
        self.services.iter().any(|service| service.protocol == protocol && frontends(service.ports).contains(&here))
    }

    /// The changes of one kind that concern a pod at this address, in every service over this protocol.
    pub(super) fn changes_of(&self, protocol: Protocol, address: IpAddr, kind: u8) -> Vec<Change> {
        let services = (0..SERVICES).filter(|service| self.services[*service].protocol == protocol);
        let Some(pod) = (0..PODS).find(|number| pod(*number) == address) else { return vec![] };
        let change = |service| match kind % 3 {
            0 => Change::Backend(service, pod),
            1 => Change::Weight(service, pod),
            _ => Change::Port(service, pod),
        };
        services.map(change).collect()
    }

    /// The frontends that a service has, and the service.
    fn listening(&self) -> impl Iterator<Item = (Vec<Endpoint>, &Service)> {
        let swapped = |index: usize| if self.are_swapped && index < 2 { 1 - index } else { index };
        self.services.iter().enumerate().filter(|(_, service)| service.is_there).map(move |(index, service)| {
            let all = frontends(self.services[swapped(index)].ports).into_iter().zip(service.frontends);
            (all.filter_map(|(frontend, is_there)| is_there.then_some(frontend)).collect(), service)
        })
    }

    fn backends(service: &Service) -> Vec<Backend> {
        let pods = service.pods.iter().enumerate().filter(|(_, (is_backend, ..))| *is_backend && service.has_backends);
        let backend =
            |(number, &(_, port, weight))| Backend { endpoint: Endpoint { address: pod(number), port }, weight };
        pods.map(backend).collect()
    }

    /// Who listens here.
    pub(super) fn listener(&self, protocol: Protocol, at: SocketAddr) -> Option<Listener> {
        let here = Endpoint { address: at.ip(), port: at.port() };
        let is_it = |(frontends, service): &(Vec<Endpoint>, &Service)| {
            service.protocol == protocol && frontends.contains(&here)
        };
        let (_, service) = self.listening().find(is_it)?;
        let Service { number, preserves, .. } = *service;
        Some(Listener { number, preserves, backends: Self::backends(service) })
    }

    /// Whether a service that preserves the source has this backend.
    pub(super) fn is_preserving(&self, protocol: Protocol, backend: SocketAddr) -> bool {
        let endpoint = Endpoint { address: backend.ip(), port: backend.port() };
        self.services.iter().any(|service| {
            let has = || Self::backends(service).iter().any(|backend| backend.endpoint == endpoint);
            service.is_there && service.preserves && service.protocol == protocol && has()
        })
    }

    /// The node that has a pod's address.
    pub(super) fn node_of(&self, address: IpAddr) -> Option<usize> {
        let (subnet, is_pod) = match address {
            IpAddr::V4(v4) => (usize::from(v4.octets()[2] != 74), matches!(v4.octets(), [10, 77, 74 | 4, _])),
            IpAddr::V6(v6) => {
                (usize::from(v6.segments()[3] != 0x74), matches!(v6.segments(), [0xfd77, 0, 0, 0x74 | 4, ..]))
            }
        };
        let node = if self.nodes_are_swapped { 1 - subnet } else { subnet };
        (is_pod && self.nodes[node]).then_some(node)
    }

    fn subnets(&self) -> Vec<Prefix> {
        POOLS[self.pool].0.iter().map(|text| text.parse().expect("a subnet")).collect()
    }

    pub(super) fn pool(&self) -> Vec<IpAddr> {
        addresses(POOLS[self.pool].1)
    }

    /// Whether an address is the gateway's own inside the overlay.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.subnets().iter().any(|subnet| subnet.contains(address))
    }

    pub(super) fn masquerade(&self) -> Vec<IpAddr> {
        addresses(MASQUERADES[self.masquerade])
    }

    pub(super) const fn is_stateless(&self) -> bool {
        self.is_stateless
    }

    /// Passes what the snapshot is compiled from to `hear`: with small tables, which are quick to fill.
    pub(super) fn describe<T>(&self, hear: impl FnOnce(&Description<'_>) -> T) -> T {
        self.world().describe(|description| {
            let mut services = description.services.to_vec();
            services.iter_mut().for_each(|service| service.table_size = 31);
            hear(&Description { services: &services, ..*description })
        })
    }

    fn world(&self) -> World {
        let mut world = World { generation: self.generation, ..World::new() };
        (world.subnets, world.pool, world.masquerade) = (self.subnets(), self.pool(), self.masquerade());
        if self.nodes_are_swapped {
            let [a, b, c, d] = [0, 1, 2, 3].map(|peer| world.peers[peer].subnet);
            world.peers.iter_mut().zip([b, a, d, c]).for_each(|(peer, subnet)| peer.subnet = subnet);
        }
        let mut number = 0;
        world.peers.retain(|_| {
            number += 1;
            self.nodes[(number - 1) % 2]
        });
        (world.frontends, world.backends) = (vec![], vec![]);
        for (frontends, service) in self.listening() {
            world.frontends.push((service.number, service.protocol, frontends));
            world.backends.push(Self::backends(service));
            if service.preserves {
                world.policies.entry(service.number).or_default().client_address = ClientAddress::Preserve;
            }
        }
        if self.is_stateless {
            world.admission =
                Admission { new_flows_per_second: 1, past_limit: PastLimit::Stateless, ..Admission::default() };
        }
        world
    }
}
