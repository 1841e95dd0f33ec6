//! From configuration and kernel to a description for the core, and to what the steering program
//! sends to the rings.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weirgate::net::{Endpoint, PortId, Prefix, Protocol};
use weirgate::snapshot::{
    Backend, CompileError, Description, Encapsulation, Gateway, Masquerade, Neighbour, NextHop, Peer, Port, Route,
    RouteTarget, Service, Vtep,
};

use super::netlink::{self, Model};
use super::publish::SnapshotMemory;
use crate::config::{self, Config};
pub use crate::xdp::SteerTable;

/// The ports that a translation may use: those that are no system port (RFC 6335 §6).
pub const POOL_PORTS: (u16, u16) = (1024, 65_535);

/// Everything in a description that depends on the kernel. Two equal values compile to equal
/// snapshots, except for the generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct World {
    ports: Vec<Port>,
    peers: Vec<Peer>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
    /// The gateway's own addresses on its links.
    local: Vec<IpAddr>,
    /// The external addresses of services that the host has as well, on any interface.
    shared: BTreeSet<IpAddr>,
    /// All of the host's addresses, where pods that are reached by a plain route are masqueraded.
    host: BTreeSet<IpAddr>,
    /// The frontends of each service, in the order of the configuration.
    frontends: Vec<Vec<Endpoint>>,
}

impl World {
    /// The world that results from this configuration and this state of the kernel.
    #[must_use]
    pub fn new(config: &Config, kernel: &Model) -> Self {
        let ports = kernel.ports.iter().map(|port| Port {
            mac: port.link.mac.unwrap_or_default(),
            mtu: u16::try_from(port.link.mtu).unwrap_or(u16::MAX),
        });
        let routes = kernel.routes.iter().map(|(&prefix, route)| {
            let target = match *route {
                Some(netlink::Route { port, via: Some(router), .. }) => RouteTarget::Router(port, router),
                Some(netlink::Route { port, via: None, .. }) => RouteTarget::Link(port),
                None => RouteTarget::Nowhere,
            };
            Route { prefix: prefix.into(), target, mtu: route.and_then(|route| route.mtu) }
        });
        let neighbours = kernel
            .neighbours
            .iter()
            .filter_map(|(&(port, address), neighbour)| Some(Neighbour { port, address, mac: neighbour.mac()? }));
        Self {
            ports: ports.collect(),
            peers: config.peers.iter().flat_map(|peer| peers(peer, kernel)).collect(),
            routes: routes.collect(),
            neighbours: neighbours.collect(),
            local: local(config, kernel),
            shared: shared(config, kernel),
            host: if masqueraded_pods(config).is_empty() { BTreeSet::new() } else { host(config, kernel).collect() },
            frontends: frontends(config, kernel),
        }
    }

    /// Calls `use_it` with the description of this world.
    pub fn describe<T>(
        &self,
        config: &Config,
        workers: u8,
        generation: u32,
        use_it: impl FnOnce(&Description<'_>) -> T,
    ) -> T {
        let backends: Vec<Vec<Backend>> = config
            .services
            .iter()
            .map(|service| service.backends.iter().map(|&endpoint| Backend { endpoint, weight: 1 }).collect())
            .collect();
        let services: Vec<Service<'_>> = config
            .services
            .iter()
            .zip(&self.frontends)
            .zip(&backends)
            .zip(0..)
            .map(|(((service, frontends), backends), id)| Service {
                id,
                protocol: service.protocol,
                frontends,
                backends,
                table_size: config.table_size,
                policy: service.policy,
            })
            .collect();
        let overlay = &config.overlay;
        let exempt: Vec<Prefix> = config.masquerade.exempt.iter().map(|network| (*network).into()).collect();
        let subnets: Vec<Prefix> = overlay.subnets.iter().map(|subnet| (*subnet).into()).collect();
        use_it(&Description {
            generation,
            gateway: Gateway {
                workers,
                vni: overlay.vni,
                vxlan_port: overlay.port,
                overlay_mtu: overlay.mtu,
                v4: vtep(overlay.public_v4, overlay.vtep_v4),
                v6: vtep(overlay.public_v6, overlay.vtep_v6),
                subnets: &subnets,
                pool: &overlay.snat_pool,
                pool_ports: POOL_PORTS,
                node_ports: config.node_ports,
                masquerade: Masquerade {
                    addresses: &config.masquerade.addresses,
                    ports: config.masquerade.ports,
                    exempt: &exempt,
                },
                local: &self.local,
                mss: config.mss,
                outer_dscp: config.outer_dscp,
                selector_seed: config.seed,
                timeouts: config.timeouts,
                admission: config.admission,
                echo: config.echo,
            },
            ports: &self.ports,
            peers: &self.peers,
            services: &services,
            routes: &self.routes,
            neighbours: &self.neighbours,
        })
    }

    /// The compiled snapshot of this world.
    ///
    /// # Errors
    /// What the core refuses, with the offending value.
    pub fn compile(&self, config: &Config, workers: u8, generation: u32) -> Result<SnapshotMemory, CompileError> {
        self.describe(config, workers, generation, SnapshotMemory::compile)
    }

    /// Where the gateway's services listen, with their protocols.
    pub fn listening<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (IpAddr, u16, Protocol)> + 'a {
        config.services.iter().zip(&self.frontends).flat_map(|(service, frontends)| {
            frontends.iter().map(|frontend| (frontend.address, frontend.port, service.protocol))
        })
    }

    /// The frontends of a service, by its index in the configuration.
    #[must_use]
    pub fn frontends(&self, service: usize) -> &[Endpoint] {
        self.frontends.get(service).map_or(&[], Vec::as_slice)
    }

    /// The routes to the peers' subnets, in the order of the configuration.
    #[must_use]
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }
}

/// What the steering program is to send to the rings.
#[must_use]
pub fn steer_table(config: &Config, world: &World) -> SteerTable {
    let mut frontends: Vec<_> = world.listening(config).collect();
    frontends.sort_unstable_by_key(|&(address, port, protocol)| (address, port, protocol.0));
    let masquerade = config.masquerade.addresses.iter().map(|address| IpNet::from(*address));
    let subnets = config.overlay.subnets.iter().copied().chain(masquerade).collect();
    let mut exclusive: Vec<_> = external(config).filter(|address| !world.shared.contains(address)).collect();
    exclusive.sort_unstable();
    exclusive.dedup();
    let pinged = if config.echo.services { exclusive.clone() } else { Vec::new() };
    let masqueraded = masqueraded_pods(config);
    let exempt = if masqueraded.is_empty() { Vec::new() } else { exempt(config, world) };
    SteerTable { frontends, exclusive, pinged, vteps: vteps(config).collect(), subnets, masqueraded, exempt }
}

/// The pods that are reached by a plain route and whose packets to the outside are masqueraded: of a family without a
/// masquerade address none is.
fn masqueraded_pods(config: &Config) -> Vec<IpNet> {
    let masquerades = |network: &IpNet| {
        config.masquerade.addresses.iter().any(|address| address.is_ipv4() == network.addr().is_ipv4())
    };
    let direct = config.peers.iter().filter(|peer| peer.backend == config::Backend::HostGw);
    direct.flat_map(|peer| &peer.subnets).copied().filter(masquerades).collect()
}

/// What is not outside for those pods: the overlay, what is not masqueraded, the host's addresses and the gateway's,
/// and groups.
fn exempt(config: &Config, world: &World) -> Vec<IpNet> {
    let networks = config.overlay.networks.iter().chain(&config.masquerade.exempt).copied();
    let vteps = vteps(config).map(|(address, _)| address);
    let own = world.host.iter().copied().chain(external(config)).chain(vteps).map(IpNet::from);
    let all: BTreeSet<_> = networks.chain(own).chain(GROUPS).collect();
    all.into_iter().collect()
}

/// Multicast, broadcast and what never leaves a link (RFC 5771, RFC 919, RFC 3927, RFC 4291 §2.5.6 and §2.7).
const GROUPS: [IpNet; 5] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
];

/// The gateway's own VTEPs.
fn vteps(config: &Config) -> impl Iterator<Item = (IpAddr, u16)> {
    let overlay = &config.overlay;
    let public = overlay.public_v4.map(IpAddr::V4).into_iter().chain(overlay.public_v6.map(IpAddr::V6));
    public.map(|address| (address, config.overlay.port))
}

fn vtep<A>(public: Option<A>, mac: Option<weirgate::net::Mac>) -> Option<Vtep<A>> {
    // Without VXLAN there is no inner link address, and none is compared.
    public.map(|public| Vtep { public, mac: mac.unwrap_or_default() })
}

fn peers(peer: &config::Peer, kernel: &Model) -> impl Iterator<Item = Peer> {
    peer.subnets.iter().filter_map(move |subnet| {
        let public = peer.public(subnet)?;
        let encapsulation = match peer.backend {
            config::Backend::Vxlan => Encapsulation::Vxlan { mac: peer.vtep(subnet)? },
            config::Backend::HostGw => Encapsulation::Direct,
        };
        let next_hop = kernel.next_hops.get(&public).and_then(|hop| {
            Some(NextHop { port: hop.port, mac: kernel.neighbour(hop.port, hop.neighbour).mac()?, mtu: hop.mtu })
        });
        Some(Peer { subnet: (*subnet).into(), public, encapsulation, next_hop })
    })
}

/// The gateway's own addresses on its links, in order.
fn local(config: &Config, kernel: &Model) -> Vec<IpAddr> {
    let of_links = kernel.ports.iter().flat_map(|port| &port.addresses).copied();
    let mut all: Vec<IpAddr> = of_links.chain(config.uplink_addresses.iter().flatten().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Where services listen besides node ports.
fn external(config: &Config) -> impl Iterator<Item = IpAddr> {
    config.services.iter().flat_map(|service| service.external.iter().copied())
}

/// All of the host's addresses.
fn host(config: &Config, kernel: &Model) -> impl Iterator<Item = IpAddr> {
    let elsewhere = kernel.elsewhere.iter().map(|&(_, address)| address);
    elsewhere.chain(local(config, kernel))
}

/// The external addresses of services that the host has as well.
fn shared(config: &Config, kernel: &Model) -> BTreeSet<IpAddr> {
    let host: HashSet<_> = host(config, kernel).collect();
    external(config).filter(|address| host.contains(address)).collect()
}

/// The addresses on which node ports answer.
fn node_addresses(config: &Config, kernel: &Model) -> Vec<IpAddr> {
    if let Some(addresses) = &config.uplink_addresses {
        return addresses.clone();
    }
    let uplink = kernel.at(PortId(0)).into_iter().flat_map(|port| &port.addresses).copied();
    let in_overlay = |address: &IpAddr| config.overlay.networks.iter().any(|network: &IpNet| network.contains(address));
    uplink
        .filter(|address| !address.is_loopback() && !in_overlay(address))
        .filter(|address| !config.masquerade.addresses.contains(address))
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect()
}

/// The frontends of each service. Where the interface's own addresses bring two services to the
/// same endpoint, which the check of the file cannot see, it belongs to the first one.
fn frontends(config: &Config, kernel: &Model) -> Vec<Vec<Endpoint>> {
    let node_addresses = node_addresses(config, kernel);
    let vteps: Vec<(IpAddr, u16)> = vteps(config).collect();
    let mut taken = HashSet::new();
    let mut of_service = |service: &config::Service| {
        let node = service
            .node_port
            .into_iter()
            .flat_map(|port| node_addresses.iter().map(move |&address| Endpoint { address, port }));
        let external = service
            .port
            .into_iter()
            .flat_map(|port| service.external.iter().map(move |&address| Endpoint { address, port }));
        let is_vtep = |endpoint: &Endpoint| {
            service.protocol == Protocol::UDP && vteps.contains(&(endpoint.address, endpoint.port))
        };
        let free = external.chain(node).filter(|endpoint| !is_vtep(endpoint));
        free.filter(|&endpoint| taken.insert((endpoint, service.protocol))).collect()
    };
    config.services.iter().map(&mut of_service).collect()
}

#[cfg(test)]
mod tests {
    use weirgate::net::Mac;

    use super::*;
    use crate::config::check;
    use crate::control::netlink::{Event, Hop, KernelRoute, Link, Neighbour};

    const UPLINK: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const NODE: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn config(addresses: &str) -> Config {
        let text = format!(
            "[uplink]\ninterface = \"up0\"\n{addresses}\n[underlay]\ninterface = \"un0\"\n[overlay]\n\
             networks = [\"10.77.0.0/16\"]\nsubnets = [\"10.77.200.0/24\"]\npublic_ip = \"10.99.0.50\"\n\
             vtep_mac = \"0a:58:0a:4d:c8:00\"\nmtu = 1400\n\
             [[peer]]\nsubnets = [\"10.77.74.0/24\"]\npublic_ip = \"10.99.0.11\"\nvtep_mac = \"96:b5:c3:d1:0b:f4\"\n\
             [[peer]]\nsubnets = [\"10.77.4.0/24\"]\npublic_ip = \"10.99.0.12\"\nbackend = \"host-gw\"\n\
             [[service]]\nname = \"web\"\nprotocol = \"tcp\"\nnode_port = 30080\nport = 80\n\
             external_addresses = [\"203.0.113.10\"]\nbackends = [\"10.77.74.10:80\"]\n\
             [[service]]\nname = \"clash\"\nprotocol = \"tcp\"\nport = 30080\n\
             external_addresses = [\"192.0.2.1\"]\nbackends = [\"10.77.4.10:80\"]\n"
        );
        check("test", &text).unwrap_or_else(|refused| panic!("{:#?}", refused.errors)).config
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn kernel() -> Model {
        let link = |name: &str| Link { name: name.into(), mac: Some(UPLINK), mtu: 1500, up: true };
        let mut model = Model::new(&["up0", "un0"], &[(3, link("up0")), (4, link("un0"))]).unwrap();
        for own in ["192.0.2.1", "fe80::1", "10.77.200.0"] {
            model.apply(Event::Address { ifindex: 3, address: address(own) });
        }
        model
    }

    #[test]
    fn node_ports_follow_the_uplink_s_addresses_unless_they_are_named() {
        let kernel = kernel();
        let shown = |world: &World, service| {
            world.frontends(service).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let world = World::new(&config(""), &kernel);
        assert_eq!(shown(&world, 0), "203.0.113.10:80 192.0.2.1:30080");
        assert_eq!(shown(&world, 1), "", "the endpoint belongs to the first service");
        let named = World::new(&config("addresses = [\"198.51.100.7\"]"), &kernel);
        assert_eq!(shown(&named, 0), "203.0.113.10:80 198.51.100.7:30080");
        assert_eq!(shown(&named, 1), "192.0.2.1:30080");
    }

    #[test]
    fn a_peer_is_resolved_once_the_kernel_knows_next_hop_and_link_address() {
        let config = config("");
        let mut kernel = kernel();
        let next_hops =
            |kernel: &Model| World::new(&config, kernel).peers.iter().map(|p| p.next_hop).collect::<Vec<_>>();
        assert_eq!(next_hops(&kernel), [None, None]);
        let hop = |neighbour| Hop { port: PortId(1), neighbour: address(neighbour), mtu: Some(1400) };
        let hops = [(address("10.99.0.11"), hop("10.99.0.1")), (address("10.99.0.12"), hop("10.99.0.12"))];
        kernel.replace_next_hops(hops.into());
        assert_eq!(next_hops(&kernel), [None, None]);
        let mut learn = |neighbour: &str, what| {
            kernel.apply(Event::Neighbour { ifindex: 4, address: address(neighbour), neighbour: what });
            next_hops(&kernel)
        };
        let known = Some(NextHop { port: PortId(1), mac: NODE, mtu: Some(1400) });
        assert_eq!(learn("10.99.0.1", Neighbour::Stale(NODE)), [known, None]);
        assert_eq!(learn("10.99.0.12", Neighbour::Known(NODE)), [known, known]);
        assert_eq!(learn("10.99.0.1", Neighbour::Failed), [None, known]);
    }

    #[test]
    fn the_core_takes_the_world_and_equal_worlds_compile_alike() {
        let config = config("");
        let mut kernel = kernel();
        let client_side = KernelRoute {
            prefix: "0.0.0.0/0".parse().unwrap(),
            metric: 0,
            mtu: Some(1300),
            hops: vec![(3, Some(address("192.0.2.254")))],
        };
        let refused = KernelRoute { prefix: "203.0.113.0/24".parse().unwrap(), metric: 0, mtu: None, hops: vec![] };
        kernel.replace_routes(&[client_side, refused]);
        let world = World::new(&config, &kernel);
        world.describe(&config, 2, 7, |d| {
            assert_eq!((d.generation, d.gateway.workers, d.gateway.overlay_mtu), (7, 2, Some(1400)));
            assert_eq!(d.ports, [Port { mac: UPLINK, mtu: 1500 }; 2]);
            assert_eq!(d.routes[0].target, RouteTarget::Router(PortId(0), address("192.0.2.254")));
            assert_eq!(d.routes[0].mtu, Some(1300));
            assert_eq!(d.routes[1].target, RouteTarget::Nowhere);
            assert_eq!(d.peers[1].encapsulation, Encapsulation::Direct);
            assert_eq!(d.services[1].id, 1);
        });
        let memory = world.compile(&config, 2, 7).unwrap();
        assert_eq!(memory.view().generation(), 7);
        assert_eq!(World::new(&config, &kernel), world);
        kernel.apply(Event::Neighbour { ifindex: 3, address: address("192.0.2.7"), neighbour: Neighbour::Known(NODE) });
        assert_ne!(World::new(&config, &kernel), world);
    }

    #[test]
    fn the_steering_program_gets_frontends_vteps_and_own_subnets() {
        let config = config("");
        let table = steer_table(&config, &World::new(&config, &kernel()));
        assert_eq!(
            table.frontends,
            [(address("192.0.2.1"), 30080, Protocol::TCP), (address("203.0.113.10"), 80, Protocol::TCP)]
        );
        assert_eq!(table.exclusive, [address("203.0.113.10")], "the host has the other");
        assert_eq!(table.pinged, table.exclusive);
        let mut silent = config.clone();
        silent.echo.services = false;
        assert_eq!(steer_table(&silent, &World::new(&silent, &kernel())).pinged, [] as [IpAddr; 0]);
        let mut kernel = kernel();
        kernel.apply(Event::Address { ifindex: 3, address: address("203.0.113.10") });
        assert_eq!(steer_table(&config, &World::new(&config, &kernel)).exclusive, [] as [IpAddr; 0]);
        // On any interface of the host, such as loopback; an address of no service changes nothing.
        let mut kernel = self::kernel();
        let before = World::new(&config, &kernel);
        kernel.apply(Event::Address { ifindex: 1, address: address("198.51.100.1") });
        assert_eq!(World::new(&config, &kernel), before);
        kernel.apply(Event::Address { ifindex: 1, address: address("203.0.113.10") });
        let world = World::new(&config, &kernel);
        assert!(world != before && steer_table(&config, &world).exclusive.is_empty());
        assert_eq!(table.vteps, [(address("10.99.0.50"), 8472)]);
        assert_eq!(table.subnets, ["10.77.200.0/24".parse().unwrap()]);
        assert_eq!((table.masqueraded, table.exempt), (vec![], vec![]));
    }

    #[test]
    fn the_steering_program_gets_what_pods_reached_by_a_plain_route_send_outside_where_it_is_masqueraded() {
        let networks = |of: &[&str]| of.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let mut config = config("");
        config.masquerade.addresses = vec![address("2001:db8::7")];
        let table = |config: &Config| steer_table(config, &World::new(config, &kernel()));
        assert_eq!(table(&config).masqueraded, networks(&[]), "the peer has no IPv6 pods");
        config.masquerade.addresses.push(address("192.0.2.77"));
        config.masquerade.exempt = networks(&["10.0.0.0/8"]);
        let table = table(&config);
        assert_eq!(table.masqueraded, networks(&["10.77.4.0/24"]));
        // The overlay, what is exempt, the addresses of the ports, the VTEP and the service, groups.
        let inside = [
            "10.0.0.0/8",
            "10.77.0.0/16",
            "10.77.200.0/32",
            "10.99.0.50/32",
            "169.254.0.0/16",
            "192.0.2.1/32",
            "203.0.113.10/32",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "fe80::/10",
            "fe80::1/128",
            "ff00::/8",
        ];
        assert_eq!(table.exempt, networks(&inside));
        // And the host's on any other interface.
        let mut kernel = kernel();
        let before = World::new(&config, &kernel);
        kernel.apply(Event::Address { ifindex: 1, address: address("198.51.100.1") });
        let world = World::new(&config, &kernel);
        assert!(world != before && steer_table(&config, &world).exempt.contains(&networks(&["198.51.100.1/32"])[0]));
    }
}
