//! A small cluster round the gateway: two links, peers of every kind, services of every kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use weirgate::net::{Endpoint, Mac, PortId, Protocol, Vni};
use weirgate::snapshot::{
    Admission, Backend, ClientAddress, Description, Echo, Encapsulation, Gateway, Masquerade, MssLimit, NODE_PORTS,
    Neighbour, NextHop, OuterDscp, Peer, Policy, Port, Route, RouteTarget, Service, Snapshot, Timeouts, Vtep,
    bytes_required, compile,
};

pub(crate) const WORKERS: usize = 2;
pub(crate) const SERVICES: usize = 5;
pub(crate) const SNAPSHOTS: usize = 3;
/// As many again, of a cluster with masquerade and preserved sources.
pub(crate) const SNAPSHOTS_OF_BOTH: usize = 2 * SNAPSHOTS;

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

/// Snapshots of this cluster at three moments, and of another at three more.
pub(crate) struct World {
    snapshots: Vec<Aligned>,
}

/// Bytes of which those from `skip` on begin at a multiple of 8.
struct Aligned {
    memory: Vec<u8>,
    skip: usize,
}

impl World {
    pub(crate) fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| Self { snapshots: (0..SNAPSHOTS_OF_BOTH as u32).map(compiled).collect() })
    }

    pub(crate) fn snapshot(&self, index: usize) -> Snapshot<'_> {
        let Aligned { memory, skip } = &self.snapshots[index];
        Snapshot::attach(&memory[*skip..]).expect("a snapshot")
    }
}

/// The cluster, then without the route to a node and without a service's backends, then with all of it
/// back and smaller link MTUs.
fn compiled(moment: u32) -> Aligned {
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
    let is_other = moment as usize >= SNAPSHOTS;
    match moment % SNAPSHOTS as u32 {
        0 => {}
        1 => {
            peers[0].next_hop = None;
            services[0].backends = &[];
        }
        _ => (uplink.mtu, underlay.mtu) = (1400, 1360),
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
    let subnets = [net("10.77.200.0/24"), net("fd77:0:0:200::/64")];
    let pool = [address("10.77.200.2"), address("10.77.200.3"), address("fd77:0:0:200::2")];
    let stand_for_pods = [address("192.0.2.77"), address("2001:db8:1::77")];
    let exempt = [net("10.77.0.0/16"), net("fd77::/48")];
    let mut masquerade = Masquerade::NONE;
    let admission = match moment as usize {
        0..=SNAPSHOTS => Admission::default(),
        _ => Admission { half_open_per_client: 4, new_flows_per_second: 20, ..Admission::default() },
    };
    if is_other {
        masquerade = Masquerade { addresses: &stand_for_pods, ports: (32768, 32799), exempt: &exempt };
        services[..2].iter_mut().for_each(|service| service.policy.client_address = ClientAddress::Preserve);
    }
    let description = Description {
        generation: moment + 1,
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
    Aligned { memory, skip }
}
