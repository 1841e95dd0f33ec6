//! A small cluster round the gateway: two links, peers of every kind, services of every kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use weirgate::net::{Endpoint, Mac, PortId, Prefix, Protocol, Vni};
use weirgate::snapshot::{
    Admission, Backend, ClientAddress, Description, Echo, Encapsulation, Gateway, Masquerade, MssLimit, NODE_PORTS,
    Neighbour, NextHop, OuterDscp, PastLimit, Peer, Policy, Port, Route, RouteTarget, Service, Snapshot, Timeouts,
    Vtep, bytes_required, compile,
};

pub(crate) const WORKERS: usize = 2;
pub(crate) const SERVICES: usize = 5;
/// The snapshots of the first cluster.
pub(crate) const SNAPSHOTS: [usize; 8] = [0, 1, 2, 6, 7, 8, 9, 10];
/// With as many of a cluster with masquerade and preserved sources.
pub(crate) const SNAPSHOTS_OF_BOTH: usize = 2 * SNAPSHOTS.len();

pub(crate) const VXLAN_PORT: u16 = 8472;
pub(crate) const VTEP_V4: [u8; 4] = [10, 99, 0, 50];
pub(crate) const VTEP_V6: [u8; 16] = v6([0xfd99, 0, 0, 0, 0, 0, 0, 0x50]);
pub(crate) const VTEP_MAC_V4: Mac = Mac([0x0a, 0x58, 0, 0, 0, 4]);
pub(crate) const VTEP_MAC_V6: Mac = Mac([0x0a, 0x58, 0, 0, 0, 6]);
pub(crate) const VNI: Vni = Vni([0, 0, 1]);

/// The uplink and the underlay.
const PORTS: [(Mac, u16); 2] = [(Mac([2, 0, 0, 0, 0, 1]), 1500), (Mac([2, 0, 0, 0, 0, 2]), 1400)];
/// A neighbour on either link.
pub(crate) const STATION: Mac = Mac([2, 0, 0, 0, 1, 1]);

pub(crate) const fn v6(groups: [u16; 8]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h] = groups;
    Ipv6Addr::new(a, b, c, d, e, f, g, h).octets()
}

pub(crate) fn port(port: PortId) -> (Mac, u16) {
    PORTS[usize::from(port.0)]
}

/// The port whose link address the frame is for; the first port if there is none.
pub(crate) fn port_of(frame: &[u8]) -> PortId {
    let index = PORTS.iter().position(|(mac, _)| frame.starts_with(&mac.0));
    PortId(index.unwrap_or(0) as u8)
}

/// Addresses that the gateway knows, and some invalid ones.
pub(crate) const ADDRESSES_V4: &[[u8; 4]] = &[
    [198, 51, 100, 1],
    [192, 0, 2, 1],
    [192, 0, 2, 77],
    [203, 0, 113, 10],
    [10, 77, 1, 10],
    [10, 77, 2, 10],
    [10, 77, 3, 10],
    [10, 77, 200, 2],
    [10, 77, 200, 3],
    [10, 77, 200, 9],
    VTEP_V4,
    [10, 99, 0, 11],
    [224, 0, 0, 1],
    [127, 0, 0, 1],
    [255, 255, 255, 255],
    [0, 0, 0, 0],
];

pub(crate) const ADDRESSES_V6: &[[u8; 16]] = &[
    v6([0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1]),
    v6([0x2001, 0xdb8, 1, 0, 0, 0, 0, 1]),
    v6([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x77]),
    v6([0xfd77, 0, 0, 1, 0, 0, 0, 0x10]),
    v6([0xfd77, 0, 0, 2, 0, 0, 0, 0x10]),
    v6([0xfd77, 0, 0, 3, 0, 0, 0, 0x10]),
    v6([0xfd77, 0, 0, 0x200, 0, 0, 0, 2]),
    v6([0xfd77, 0, 0, 0x200, 0, 0, 0, 9]),
    VTEP_V6,
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 1]),
    v6([0xff02, 0, 0, 0, 0, 0, 0, 1]),
    v6([0, 0, 0, 0, 0, 0, 0, 1]),
    v6([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]),
    [0; 16],
];

/// Ports of services, of backends, of clients, of the SNAT pool.
pub(crate) const PORT_NUMBERS: &[u16] =
    &[30080, 80, 30053, 30099, 30081, VXLAN_PORT, 40000, 40001, 40002, 40003, 32768, 32769, 32783, 32784, 0, 53];

/// Snapshots of this cluster at some moments, and of another at as many.
pub(crate) struct World {
    moments: Vec<Moment>,
}

/// A snapshot, and what it was compiled from.
pub(crate) struct Moment {
    compiled: Aligned,
    /// Protocol, frontends and backends of each service.
    pub(crate) services: Vec<(Protocol, Vec<Endpoint>, Vec<Backend>)>,
    pub(crate) peers: [Peer; 6],
    /// The gateway's own subnets.
    pub(crate) subnets: [Prefix; 2],
}

/// Bytes of which those from `skip` on begin at a multiple of 8.
struct Aligned {
    memory: Vec<u8>,
    skip: usize,
}

impl World {
    pub(crate) fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| Self { moments: (0..SNAPSHOTS_OF_BOTH).map(at).collect() })
    }

    pub(crate) fn snapshot(&self, index: usize) -> Snapshot<'_> {
        let Aligned { memory, skip } = &self.moments[index].compiled;
        Snapshot::attach(&memory[*skip..]).expect("a snapshot")
    }

    /// What this snapshot was compiled from.
    pub(crate) fn moment(&self, index: usize) -> &Moment {
        &self.moments[index]
    }

    /// Whether a service of any snapshot listens here.
    pub(crate) fn may_listen(&self, protocol: Protocol, at: Endpoint) -> bool {
        self.moments[0].services.iter().any(|(it, frontends, _)| *it == protocol && frontends.contains(&at))
    }
}

/// What is different at a moment from the first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    /// A node's link address is not known, and a service has no backends.
    Unresolved,
    /// The links' MTUs are smaller.
    Narrow,
    /// Services have lost backends, and have others.
    Backends,
    /// A service is not there, and of others backends take no new flows.
    Gone,
    /// Two nodes have each other's subnets.
    Moved,
    /// The gateway has another subnet, and other pool addresses.
    Pool,
    /// Backends listen at another port, and services have lost frontends.
    Ports,
}

/// Whether a snapshot is of the second cluster, and what is different in it.
fn change_at(index: usize) -> (bool, Change) {
    use Change::{Backends, Gone, Moved, Narrow, None, Pool, Ports, Unresolved};
    let (early, late) = ([None, Unresolved, Narrow], [Backends, Gone, Moved, Pool, Ports]);
    match index.checked_sub(2 * early.len()) {
        Option::None => (index >= early.len(), early[index % early.len()]),
        Some(index) => (index >= late.len(), late[index % late.len()]),
    }
}

fn at(index: usize) -> Moment {
    let (is_other, change) = change_at(index);
    let next_hop = Some(NextHop { port: PortId(1), mac: STATION, mtu: None });
    let peer = |subnet: &str, public: &str, encapsulation| Peer {
        subnet: subnet.parse().expect("a subnet"),
        public: public.parse().expect("an address"),
        encapsulation,
        next_hop,
    };
    let vxlan = |last| Encapsulation::Vxlan { mac: Mac([0x0a, 0x58, 0, 0, 1, last]) };
    let mut peers = [
        peer("10.77.1.0/24", "10.99.0.11", vxlan(1)),
        peer("fd77:0:0:1::/64", "fd99::11", vxlan(2)),
        peer("10.77.2.0/24", "10.99.0.12", Encapsulation::Direct),
        peer("fd77:0:0:2::/64", "fd99::12", Encapsulation::Direct),
        peer("10.77.3.0/24", "fd99::13", vxlan(3)),
        peer("fd77:0:0:3::/64", "10.99.0.13", vxlan(4)),
    ];
    let endpoint = |address: &str, port| Endpoint { address: address.parse().expect("an address"), port };
    let backend = |address: &str, port| Backend { endpoint: endpoint(address, port), weight: 1 };
    let web_frontends = [endpoint("192.0.2.1", 30080), endpoint("203.0.113.10", 80), endpoint("2001:db8:1::1", 30080)];
    let web = [
        backend("10.77.1.10", 80),
        backend("10.77.2.10", 80),
        backend("10.77.3.10", 80),
        backend("fd77:0:0:1::10", 80),
        backend("fd77:0:0:2::10", 80),
        backend("fd77:0:0:3::10", 80),
    ];
    let dns_frontends = [endpoint("192.0.2.1", 30053), endpoint("2001:db8:1::1", 30053)];
    let dns = [backend("10.77.1.10", 53), backend("fd77:0:0:1::10", 53)];
    let empty = [endpoint("192.0.2.1", 30099), endpoint("2001:db8:1::1", 30099)];
    let lost_frontends = [endpoint("192.0.2.1", 30081)];
    let lost = [backend("10.88.0.1", 80)];
    let service = |id, protocol, frontends, backends| Service {
        id,
        protocol,
        frontends,
        backends,
        table_size: 251,
        policy: Policy::default(),
    };
    let mut services = [
        service(0, Protocol::TCP, &web_frontends[..], &web[..]),
        service(1, Protocol::UDP, &dns_frontends, &dns),
        service(2, Protocol::TCP, &empty, &[]),
        service(3, Protocol::TCP, &lost_frontends, &lost),
        service(4, Protocol::SCTP, &web_frontends, &web),
    ];
    let [mut uplink, mut underlay] = PORTS.map(|(mac, mtu)| Port { mac, mtu });
    let mut subnets = ["10.77.200.0/24", "fd77:0:0:200::/64"];
    let mut pool = ["10.77.200.2", "10.77.200.3", "fd77:0:0:200::2"];
    let fewer = [backend("10.77.2.10", 80), backend("10.77.3.10", 80), backend("fd77:0:0:2::10", 80)];
    let other_dns = [backend("10.77.2.10", 53), backend("fd77:0:0:3::10", 53)];
    let mut draining = web;
    (draining[0].weight, draining[3].weight) = (0, 0);
    let moved = web.map(|it| Backend { endpoint: Endpoint { port: 81, ..it.endpoint }, ..it });
    match change {
        Change::None => {}
        Change::Unresolved => {
            peers[0].next_hop = None;
            services[0].backends = &[];
        }
        Change::Narrow => (uplink.mtu, underlay.mtu) = (1400, 1360),
        Change::Backends => {
            services[0].backends = &fewer;
            services[1].backends = &other_dns;
            services[4].backends = &fewer;
        }
        Change::Gone => {
            services[0].backends = &draining;
            services[1].frontends = &[];
            services[4].backends = &draining;
        }
        Change::Moved => {
            let [a, b, c, d] = [0, 1, 4, 5].map(|peer: usize| peers[peer].subnet);
            [peers[0].subnet, peers[1].subnet, peers[4].subnet, peers[5].subnet] = [c, d, a, b];
        }
        Change::Pool => {
            subnets = ["10.77.201.0/24", "fd77:0:0:201::/64"];
            pool = ["10.77.201.2", "10.77.201.3", "fd77:0:0:201::2"];
        }
        Change::Ports => {
            services[0].backends = &moved;
            services[1].frontends = &dns_frontends[..1];
            services[4].frontends = &web_frontends[1..];
        }
    }
    let net = |text: &str| text.parse().expect("a prefix");
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let route = |prefix, via: Option<&str>| {
        let on_link = RouteTarget::Link(PortId(0));
        let target = via.map_or(on_link, |router| RouteTarget::Router(PortId(0), address(router)));
        Route { prefix: net(prefix), target, mtu: None }
    };
    let routes = [
        route("0.0.0.0/0", Some("192.0.2.254")),
        route("192.0.2.0/24", None),
        route("::/0", Some("2001:db8:1::fe")),
        route("2001:db8:1::/64", None),
        Route { prefix: net("198.18.0.0/15"), target: RouteTarget::Nowhere, mtu: None },
    ];
    let neighbours = [Neighbour { port: PortId(0), address: address("192.0.2.254"), mac: STATION }];
    let (subnets, pool) = (subnets.map(net), pool.map(address));
    let stand_for_pods = [address("192.0.2.77"), address("2001:db8:1::77")];
    let exempt = [net("10.77.0.0/16"), net("fd77::/48")];
    let mut masquerade = Masquerade::NONE;
    let admission = match change {
        Change::Unresolved | Change::Narrow if is_other => {
            Admission { half_open_per_client: 4, new_flows_per_second: 20, ..Admission::default() }
        }
        Change::Backends if is_other => {
            Admission { new_flows_per_second: 20, past_limit: PastLimit::Stateless, ..Admission::default() }
        }
        _ => Admission::default(),
    };
    if is_other {
        masquerade = Masquerade { addresses: &stand_for_pods, ports: (32768, 32799), exempt: &exempt };
        services[..2].iter_mut().for_each(|service| service.policy.client_address = ClientAddress::Preserve);
    }
    let description = Description {
        generation: index as u32 + 1,
        gateway: Gateway {
            workers: WORKERS as u8,
            vni: VNI,
            vxlan_port: VXLAN_PORT,
            v4: Some(Vtep { public: Ipv4Addr::from(VTEP_V4), mac: VTEP_MAC_V4 }),
            v6: Some(Vtep { public: Ipv6Addr::from(VTEP_V6), mac: VTEP_MAC_V6 }),
            overlay_mtu: None,
            subnets: &subnets,
            pool: &pool,
            pool_ports: (32768, 32799),
            node_ports: NODE_PORTS,
            local: &[],
            mss: MssLimit::Path,
            outer_dscp: OuterDscp::Copy,
            masquerade,
            selector_seed: 7,
            timeouts: Timeouts::default(),
            admission,
            echo: Echo { per_second: if is_other { 20 } else { 0 }, ..Echo::default() },
        },
        ports: &[uplink, underlay],
        peers: &peers,
        services: &services,
        routes: &routes,
        neighbours: &neighbours,
    };
    let mut memory = vec![0; bytes_required(&description) + 8];
    let skip = memory.as_ptr().align_offset(8);
    compile(&description, &mut memory[skip..]).expect("a description that can be");
    let listing = |it: &Service<'_>| (it.protocol, it.frontends.to_vec(), it.backends.to_vec());
    let services = services.iter().map(listing).collect();
    Moment { compiled: Aligned { memory, skip }, services, peers, subnets }
}
