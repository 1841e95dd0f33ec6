//! The vectors that the tests in C and Go read: what the core itself answers in one small world.
//!
//! The world stands here in the core's words, in `world.c` in C's and in `world_test.go` in Go's;
//! the snapshot's hash in the file shows that they are the same.

mod common;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use weirgate::net::{Endpoint, Mac, PortId, Protocol, Vni};
use weirgate::snapshot::{
    Admission, Backend, ClientAddress, Description, Echo, Encapsulation, Gateway, Masquerade, MssLimit, Neighbour,
    NextHop, OuterDscp, PastLimit, Peer, Policy, Port, Route, RouteTarget, Service, Timeouts, Vtep, bytes_required,
    compile,
};
use weirgate::verdict::{DropReason, Verdict};
use weirgate::wire::Dscp;
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Link, Packet, SYN, framed, in_vxlan, tunnelled};
use weirgate_fixture::{Gateway as Bench, leak_aligned};

const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);

const fn mac(last: [u8; 2]) -> Mac {
    Mac([2, 0, 0, 0, last[0], last[1]])
}

fn at<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

fn endpoint(text: &str) -> Endpoint {
    let address: SocketAddr = at(text);
    Endpoint { address: address.ip(), port: address.port() }
}

fn backend(text: &str, weight: u32) -> Backend {
    Backend { endpoint: endpoint(text), weight }
}

fn describe<T>(hear: impl FnOnce(&Description<'_>) -> T) -> T {
    let vxlan = |subnet: &str, public: &str, node: u8| Peer {
        subnet: at(subnet),
        public: at(public),
        encapsulation: Encapsulation::Vxlan { mac: mac([3, node]) },
        next_hop: Some(NextHop { port: PortId(1), mac: mac([2, node]) }),
    };
    let on_link = |prefix: &str| Route { prefix: at(prefix), target: RouteTarget::Link(PortId(0)) };
    let client = |address: &str| Neighbour { port: PortId(0), address: at(address), mac: CLIENT_MAC };
    hear(&Description {
        generation: 7,
        gateway: Gateway {
            workers: 1,
            vni: Vni::new(1).expect("24 bits"),
            vxlan_port: 8472,
            v4: Some(Vtep { public: at("10.99.0.50"), mac: mac([4, 1]) }),
            v6: Some(Vtep { public: at("fd99::50"), mac: mac([4, 2]) }),
            overlay_mtu: Some(1400),
            subnets: &[at("10.77.200.0/24"), at("fd77:0:0:200::/64")],
            pool: &[at("10.77.200.2"), at("10.77.200.3"), at("fd77:0:0:200::2")],
            pool_ports: (1024, 65_535),
            node_ports: (30_000, 31_000),
            masquerade: Masquerade {
                addresses: &[at("198.51.100.20"), at("2001:db8:7::7")],
                ports: (2000, 60_000),
                exempt: &[at("10.77.0.0/16"), at("fd77::/48")],
            },
            local: &[at("192.0.2.1"), at("2001:db8:1::1")],
            mss: MssLimit::Path,
            outer_dscp: OuterDscp::Copy,
            admission: Admission {
                half_open_per_client: 100,
                new_flows_per_second: 2000,
                past_limit: PastLimit::Place,
            },
            echo: Echo { services: true, per_second: 50 },
            selector_seed: 42,
            timeouts: Timeouts {
                tcp_established_seconds: 3600,
                tcp_reset_seconds: 11,
                sctp_closed_seconds: 12,
                ..Timeouts::default()
            },
        },
        ports: &[Port { mac: mac([0, 1]), mtu: 1500 }, Port { mac: mac([0, 2]), mtu: 1500 }],
        peers: &[
            vxlan("10.77.74.0/24", "10.99.0.11", 1),
            vxlan("10.77.4.0/24", "fd99::12", 2),
            vxlan("fd77:0:0:74::/64", "fd99::11", 1),
            Peer {
                subnet: at("10.77.9.0/24"),
                public: at("10.99.0.13"),
                encapsulation: Encapsulation::Direct,
                next_hop: None,
            },
        ],
        services: &[
            Service {
                id: 1,
                protocol: Protocol::TCP,
                frontends: &[endpoint("192.0.2.1:30080"), endpoint("[2001:db8:1::1]:30080")],
                backends: &[
                    backend("10.77.74.10:80", 1),
                    backend("10.77.4.10:80", 2),
                    backend("[fd77:0:0:74::a]:80", 1),
                ],
                table_size: 1009,
                policy: Policy::default(),
            },
            Service {
                id: 2,
                protocol: Protocol::UDP,
                frontends: &[endpoint("192.0.2.1:30053")],
                backends: &[backend("10.77.9.10:53", 1)],
                table_size: 251,
                policy: Policy { dscp: Dscp::new(46), ..Policy::default() },
            },
            Service {
                id: 3,
                protocol: Protocol::SCTP,
                frontends: &[endpoint("192.0.2.1:30132")],
                backends: &[backend("10.77.74.10:132", 1)],
                table_size: 7,
                policy: Policy { client_address: ClientAddress::Keep, dscp: None },
            },
        ],
        routes: &[
            on_link("192.0.2.0/24"),
            Route { prefix: at("0.0.0.0/0"), target: RouteTarget::Router(PortId(0), at("192.0.2.254")) },
            on_link("2001:db8:1::/64"),
            Route { prefix: at("198.18.0.0/15"), target: RouteTarget::Nowhere },
        ],
        neighbours: &[client("192.0.2.10"), client("2001:db8:1::10")],
    })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Runs a burst and writes it down; returns the frames that left.
fn call(text: &mut String, bench: &mut Bench, frames: &[(PortId, Vec<u8>)]) -> Vec<Vec<u8>> {
    let _ = writeln!(text, "\ncall {}", bench.now.0);
    for (port, bytes) in frames {
        let _ = writeln!(text, "in {} {}", port.0, hex(bytes));
    }
    let outs = bench.send_burst(frames);
    for out in &outs {
        let _ = match out.verdict {
            Verdict::Transmit(port) => writeln!(text, "out transmit {} {}", port.0, hex(&out.bytes)),
            Verdict::Host => writeln!(text, "out host - {}", hex(&out.bytes)),
            Verdict::Drop(reason) => writeln!(text, "out drop {} -", reason.name()),
            Verdict::Held => writeln!(text, "out held - -"),
            Verdict::Handover(worker) => writeln!(text, "out handover {} {}", worker.0, hex(&out.bytes)),
        };
    }
    outs.into_iter().filter(|out| matches!(out.verdict, Verdict::Transmit(_))).map(|out| out.bytes).collect()
}

fn client(to: &str, port: u16, body: Body) -> (PortId, Vec<u8>) {
    let to: SocketAddr = at(to);
    let from: IpAddr = at(if to.is_ipv4() { "192.0.2.10" } else { "2001:db8:1::10" });
    (PortId(0), framed(FROM_CLIENT, &Packet::new((from, port).into(), to, body).bytes()))
}

/// The answer of the pod that a VXLAN frame goes to.
fn answer(frame: &[u8], flags: u8, data: &[u8]) -> (PortId, Vec<u8>) {
    let seen = tunnelled(frame);
    let back = |link: Link| Link { destination: link.source, source: link.destination, vlan: None };
    let inner = framed(back(seen.inner_link), &Packet::read(&seen.inner).answer(flags, data).bytes());
    let outer = (
        SocketAddr::new(seen.outer.destination.ip(), 40_000),
        SocketAddr::new(seen.outer.source.ip(), seen.outer.destination.port()),
    );
    (PortId(1), in_vxlan(back(seen.link), outer, 1, &inner))
}

/// The state of everything that counts, after all calls.
fn totals(text: &mut String, bench: &mut Bench) {
    text.push('\n');
    let _ = writeln!(text, "flows {} {}", bench.worker.flows_v4().len(), bench.worker.flows_v6().len());
    while let Some((port, address)) = bench.worker.next_unresolved() {
        let _ = writeln!(text, "unresolved {} {address}", port.0);
    }
    for reason in DropReason::ALL.iter().filter(|reason| bench.counters.drops(**reason) != 0) {
        let _ = writeln!(text, "drops {} {}", reason.name(), bench.counters.drops(*reason));
    }
    for port in [PortId(0), PortId(1)] {
        let port_counters = bench.counters.port(port).expect("a port");
        for (name, traffic) in [("received", &port_counters.received), ("transmitted", &port_counters.transmitted)] {
            let _ = writeln!(text, "port {} {name} {} {}", port.0, traffic.packets.get(), traffic.bytes.get());
        }
    }
    for id in [1_u8, 2] {
        let service = &bench.services[usize::from(id)];
        for (name, traffic) in [("original", &service.original), ("reply", &service.reply)] {
            let _ = writeln!(text, "service {id} {name} {} {}", traffic.packets.get(), traffic.bytes.get());
        }
    }
    for (name, counter) in bench.counters.named() {
        let _ = writeln!(text, "counter {name} {}", counter.get());
    }
}

#[test]
fn the_vectors_are_what_the_core_answers() {
    let mut text = String::from(
        "# What one gateway answers, call by call: written by the core itself (bindings/update), read by every language.\n\
         # snapshot BYTES FNV-1a | call NOW_NS, in PORT FRAME, out VERDICT DETAIL FRAME | totals after all calls, zero drops left out\n\n",
    );
    let snapshot = describe(|description| {
        let memory = leak_aligned(bytes_required(description));
        let len = compile(description, memory).expect("a description that can be compiled");
        &memory[..len]
    });
    let _ = writeln!(text, "snapshot {} {:016x}", snapshot.len(), fnv1a(snapshot));

    let mut bench = describe(Bench::new);
    let web = "192.0.2.1:30080";
    let opened = call(
        &mut text,
        &mut bench,
        &[
            client(web, 40_000, Body::Tcp(SYN, vec![])),
            client(web, 40_001, Body::Tcp(SYN, vec![])),
            client(web, 40_002, Body::Tcp(SYN, vec![])),
            client("[2001:db8:1::1]:30080", 40_000, Body::Tcp(SYN, vec![])),
            client(web, 40_009, Body::Tcp(ACK, b"of no flow".to_vec())),
            client("192.0.2.1:30053", 5353, Body::Udp(b"who is it".to_vec())),
            client("192.0.2.1:22", 40_000, Body::Tcp(SYN, vec![])),
            (
                PortId(0),
                framed(FROM_CLIENT, &Packet::new(at("198.51.100.7:40000"), at(web), Body::Tcp(SYN, vec![])).bytes()),
            ),
        ],
    );
    assert_eq!(opened.len(), 5, "one frame for each SYN");
    let nodes: std::collections::BTreeSet<_> = opened.iter().map(|frame| frame[..6].to_vec()).collect();
    assert_eq!(nodes.len(), 2, "both nodes, and so both families of the underlay");

    bench.advance(weirgate::time::Span::from_millis(5));
    let answers: Vec<_> = opened.iter().map(|frame| answer(frame, SYN | ACK, b"")).collect();
    assert_eq!(call(&mut text, &mut bench, &answers).len(), 5);

    bench.advance(weirgate::time::Span::from_millis(5));
    let data: Vec<u8> = (0..=255).cycle().take(1400).collect();
    call(
        &mut text,
        &mut bench,
        &[
            client(web, 40_000, Body::Tcp(ACK, b"GET / HTTP/1.1\r\n\r\n".to_vec())),
            client(web, 40_001, Body::Tcp(ACK, data)),
            (PortId(0), vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1, 8, 0, 0x45]),
        ],
    );
    // A pod's own connection to the outside, one to a service, and one to where nobody can be reached.
    let pod: SocketAddr = at("10.77.74.10:50000");
    let outer = (at("10.99.0.11:40000"), at("10.99.0.50:8472"));
    let from_pod = |to: &str| {
        let ip = Packet::new(pod, at(to), Body::Tcp(SYN, vec![])).bytes();
        let inner = framed(Link { destination: mac([4, 1]), source: mac([3, 1]), vlan: None }, &ip);
        (PortId(1), in_vxlan(Link { destination: mac([0, 2]), source: mac([2, 1]), vlan: None }, outer, 1, &inner))
    };
    let left = call(&mut text, &mut bench, &["192.0.2.10:443", web, "198.18.0.1:443"].map(from_pod));
    assert_eq!(left.len(), 2, "the third has no way");
    totals(&mut text, &mut bench);
    common::compare("tests/data/vectors/gateway.txt", &text);
}

#[test]
fn the_vector_of_a_selector_is_what_the_core_fills() {
    use weirgate::hash::HashKey;
    use weirgate::maglev::{Member, fill};

    let mut text =
        String::from("# The selector's table of three backends with weights 1, 2 and 0: seed, slots, and the slots.\n");
    let key = HashKey::from_seed(42);
    let mapped = |last: u8| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 74, last];
    let mut members = [(10, 1), (11, 2), (12, 0)].map(|(last, weight)| Member::new(&key, mapped(last), 80, weight, 31));
    let mut table = [0; 31];
    fill(&mut members, &mut table).expect("a prime and a weight");
    let slots = table.map(|slot| slot.to_string()).join(" ");
    let _ = writeln!(text, "maglev 42 31\nslots {slots}");
    common::compare("tests/data/vectors/maglev.txt", &text);
}
