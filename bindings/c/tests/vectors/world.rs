//! The world of the vectors in the core's words. No two of its numbers are equal where one could be taken for the
//! other, so that fields that change places in any language show in the snapshot.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::str::FromStr;

use weirgate::net::{Endpoint, Mac, PortId, Protocol, Vni};
use weirgate::snapshot::{
    Admission, Backend, ClientAddress, Description, Echo, Encapsulation, Gateway, Masquerade, MssLimit, Neighbour,
    NextHop, OuterDscp, PastLimit, Peer, Policy, Port, Route, RouteTarget, Service, Timeouts, Vtep,
};
use weirgate::wire::Dscp;

/// Ports that have no bit in common.
pub(crate) const UPLINK: PortId = PortId(9);
pub(crate) const UNDERLAY: PortId = PortId(6);
/// A port that has nothing but a route and a neighbour.
const OTHER: PortId = PortId(4);
pub(crate) const VXLAN_PORT: u16 = 8472;
pub(crate) const VNI: u32 = 0x01_23_45;
pub(crate) const SERVICES: [u32; 3] = [11, 13, 17];

pub(crate) const fn mac(last: [u8; 2]) -> Mac {
    Mac([2, 0, 0, 0, last[0], last[1]])
}

pub(crate) fn at<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

pub(crate) fn endpoint(text: &str) -> Endpoint {
    let address: SocketAddr = at(text);
    Endpoint { address: address.ip(), port: address.port() }
}

fn backend(text: &str, weight: u32) -> Backend {
    Backend { endpoint: endpoint(text), weight }
}

fn leak<T>(list: impl Into<Vec<T>>) -> &'static [T] {
    list.into().leak()
}

pub(crate) fn describe() -> Description<'static> {
    let vxlan = |subnet: &str, public: &str, node: u8| Peer {
        subnet: at(subnet),
        public: at(public),
        encapsulation: Encapsulation::Vxlan { mac: mac([3, node]) },
        next_hop: Some(NextHop { port: UNDERLAY, mac: mac([2, node]), mtu: None }),
    };
    let direct = |subnet: &str, public: &str, next_hop| Peer {
        subnet: at(subnet),
        public: at(public),
        encapsulation: Encapsulation::Direct,
        next_hop,
    };
    let on_link = |prefix: &str, port| Route { prefix: at(prefix), target: RouteTarget::Link(port), mtu: None };
    let neighbour = |port, address: &str, mac| Neighbour { port, address: at(address), mac };
    let mut ports: Vec<_> = [1423, 1427, 1429, 1433, 1439, 1447, 1499, 1451, 1453, 1511, 1459]
        .into_iter()
        .zip(10..)
        .map(|(mtu, number)| Port { mac: mac([0, number]), mtu })
        .collect();
    ports[usize::from(UPLINK.0)].mac = mac([0, 1]);
    ports[usize::from(UNDERLAY.0)].mac = mac([0, 2]);
    Description {
        generation: 7,
        gateway: Gateway {
            workers: 3,
            vni: Vni::new(VNI).expect("24 bits"),
            vxlan_port: VXLAN_PORT,
            v4: Some(Vtep { public: at("10.99.0.50"), mac: mac([4, 1]) }),
            v6: Some(Vtep { public: at("fd99::50"), mac: mac([4, 2]) }),
            overlay_mtu: Some(1399),
            subnets: leak([at("10.77.200.0/24"), at("fd77:0:0:200::/64"), at("10.77.202.0/24")]),
            pool: leak([at("10.77.200.2"), at("10.77.200.3"), at("fd77:0:0:200::2")]),
            pool_ports: (1031, 64_997),
            node_ports: (30_011, 31_013),
            masquerade: Masquerade {
                addresses: leak([at("198.51.100.20"), at("2001:db8:7::7")]),
                ports: (2003, 59_999),
                exempt: leak([at("10.77.0.0/16"), at("fd77::/48")]),
            },
            local: leak([at("192.0.2.1"), at("2001:db8:1::1")]),
            mss: MssLimit::Bytes(1361),
            outer_dscp: OuterDscp::Fixed(Dscp::new(37).expect("six bits")),
            admission: Admission {
                half_open_per_client: 101,
                new_flows_per_second: 2011,
                past_limit: PastLimit::Stateless,
            },
            echo: Echo { services: true, per_second: 53 },
            selector_seed: 0x0123_4567_89ab_cdef,
            timeouts: Timeouts {
                tcp_syn_sent_seconds: 103,
                tcp_syn_received_seconds: 107,
                tcp_established_seconds: 7451,
                tcp_fin_wait_seconds: 109,
                tcp_close_wait_seconds: 113,
                tcp_last_ack_seconds: 127,
                tcp_time_wait_seconds: 131,
                tcp_reset_seconds: 137,
                tcp_syn_sent2_seconds: 139,
                udp_seconds: 149,
                udp_stream_seconds: 151,
                icmp_seconds: 157,
                sctp_cookie_wait_seconds: 163,
                sctp_cookie_echoed_seconds: 167,
                sctp_established_seconds: 173,
                sctp_shutdown_sent_seconds: 179,
                sctp_shutdown_received_seconds: 181,
                sctp_shutdown_ack_sent_seconds: 191,
                sctp_closed_seconds: 193,
            },
        },
        ports: leak(ports),
        peers: leak([
            vxlan("10.77.74.0/24", "10.99.0.11", 1),
            vxlan("10.77.4.0/24", "fd99::12", 2),
            vxlan("fd77:0:0:74::/64", "fd99::11", 3),
            direct("10.77.9.0/24", "10.99.0.13", None),
            direct("10.77.10.0/24", "10.99.0.14", Some(NextHop { port: UNDERLAY, mac: mac([2, 5]), mtu: None })),
        ]),
        services: leak([
            Service {
                id: SERVICES[0],
                protocol: Protocol::TCP,
                frontends: leak([endpoint("192.0.2.1:30080"), endpoint("[2001:db8:1::1]:30083")]),
                backends: leak([
                    backend("10.77.74.10:8081", 3),
                    backend("10.77.4.10:8083", 5),
                    backend("[fd77:0:0:74::a]:8087", 2),
                ]),
                table_size: 1009,
                policy: Policy::default(),
            },
            Service {
                id: SERVICES[1],
                protocol: Protocol::UDP,
                frontends: leak([endpoint("192.0.2.1:30053"), endpoint("203.0.113.77:5387")]),
                backends: leak([backend("10.77.9.10:5381", 7)]),
                table_size: 251,
                policy: Policy { dscp: Dscp::new(46), ..Policy::default() },
            },
            Service {
                id: SERVICES[2],
                protocol: Protocol::SCTP,
                frontends: leak([endpoint("192.0.2.1:30132")]),
                backends: leak([backend("10.77.74.10:13203", 11)]),
                table_size: 19,
                policy: Policy { client_address: ClientAddress::Preserve, ..Policy::default() },
            },
        ]),
        routes: leak([
            on_link("192.0.2.0/24", UPLINK),
            Route { prefix: at("0.0.0.0/0"), target: RouteTarget::Router(UPLINK, at("192.0.2.254")), mtu: None },
            on_link("2001:db8:1::/64", UPLINK),
            Route { prefix: at("198.18.0.0/15"), target: RouteTarget::Nowhere, mtu: None },
            on_link("203.0.113.0/24", OTHER),
        ]),
        neighbours: leak([
            neighbour(UPLINK, "192.0.2.10", mac([1, 1])),
            neighbour(UPLINK, "2001:db8:1::10", mac([1, 3])),
            neighbour(OTHER, "203.0.113.9", mac([1, 5])),
        ]),
    }
}
