//! Ports of pool addresses: found while one is free, never taken from another flow, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weirgate::net::{Endpoint, WorkerId};
use weirgate::snapshot::Backend;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::Gateway;
use weirgate_fixture::frames::{Body, FROM_CLIENT, Packet, SYN, framed, from_pod, tunnelled, unframed};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

/// One backend, one pool address, these ports.
fn narrow(ports: (u16, u16)) -> World {
    let mut world = World::new();
    world.pool.truncate(1);
    world.pool_ports = ports;
    world.backends[0].truncate(1);
    // In these tests few clients have many flows.
    world.admission.half_open_per_client = 0;
    world
}

/// The source that the pod sees when this client opens a connection, or the drop.
fn open(gateway: &mut Gateway, client: impl Into<SocketAddr>) -> Result<SocketAddr, DropReason> {
    let request = Packet { source: client.into(), ..Packet::web(1, SYN, b"") };
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes()));
    match out.verdict {
        Verdict::Transmit(UNDERLAY) => Ok(Packet::read(&tunnelled(&out.bytes).inner).source),
        Verdict::Drop(reason) => Err(reason),
        other => panic!("{other:?}"),
    }
}

/// Other gateways looped over a full range for every packet, or gave out a port that was in use.
#[test]
fn regression_all_ports_used_up_harms_no_old_flow_and_the_last_free_port_is_found() {
    const PORTS: u16 = 4096;
    let mut gateway =
        narrow((2000, 1999 + PORTS)).describe(|description| Gateway::with_worker(description, WorkerId(0), 8192));
    let mut seen = BTreeMap::new();
    for client in 1..=PORTS {
        // Sequential searches are rate limited, so a refused client retries a moment later.
        gateway.advance(Span::from_millis(20));
        let port = open(&mut gateway, (world::CLIENT, client)).expect("a port is free").port();
        assert!(seen.insert(port, client).is_none(), "port {port} was in use");
    }
    assert_eq!(seen.len(), usize::from(PORTS), "every port, the last one too");
    for client in 10_000..10_100 {
        assert_eq!(open(&mut gateway, (world::CLIENT, client)), Err(DropReason::PortsExhausted));
    }
    assert_eq!(gateway.counters.drops(DropReason::PortsExhausted), 100);
    assert_eq!(gateway.worker.flows().v4.len(), u32::from(PORTS));
    for (port, client) in &seen {
        assert_eq!(open(&mut gateway, (world::CLIENT, *client)).map(|seen| seen.port()), Ok(*port));
    }
    // The port of an ended flow goes to the next one.
    let ended = (0..8192).find(|index| {
        gateway.worker.flows().v4.get(*index).is_some_and(|entry| entry.original.source_port == 77_u16.to_be_bytes())
    });
    gateway.worker.forget::<[u8; 4]>(ended.expect("the flow of client port 77"));
    gateway.advance(Span::from_secs(1));
    let port = open(&mut gateway, (world::CLIENT, 20_000)).expect("one port is free").port();
    assert_eq!(seen[&port], 77);
}

#[test]
fn rfc7857_s3_one_port_serves_every_backend() {
    let mut world = narrow((2000, 2003));
    world.backends = World::new().backends;
    let mut gateway = world.gateway();
    let opened = (1..=400).filter(|client| {
        gateway.advance(Span::from_millis(20));
        open(&mut gateway, (world::CLIENT, *client)).is_ok()
    });
    assert_eq!(opened.count(), 4 * 4, "four ports towards each of four pods");
}

#[test]
fn rfc6056_ports_are_not_guessed_from_the_last_one() {
    let mut gateway = World::new().gateway();
    let ports: Vec<u16> =
        (1..=500).map(|client| open(&mut gateway, (world::CLIENT, client)).expect("a port is free").port()).collect();
    let near = ports.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 640).count();
    // Within 640 of 64512 by chance in one of fifty.
    assert!(near < 30, "{near} of 499 ports lie beside the last one");
    assert!(ports.iter().any(|port| *port < 10_000) && ports.iter().any(|port| *port > 56_000));
}

#[test]
fn rfc6056_a_client_that_asks_again_is_not_given_the_same_port_each_time() {
    let mut gateway = World::new().gateway();
    let ports: BTreeSet<SocketAddr> = (0..8)
        .map(|_| {
            gateway.advance(Span::from_secs(600));
            open(&mut gateway, (world::CLIENT, 7)).expect("a port is free")
        })
        .collect();
    assert_eq!(gateway.counters.flows_created.get(), 8);
    assert!(ports.len() > 6, "{ports:?}");
}

#[test]
fn masquerade_takes_no_port_of_a_service_at_the_same_address() {
    let [plain, own]: [IpAddr; 2] = [[198, 51, 100, 6].into(), [198, 51, 100, 7].into()];
    let mut world = World { masquerade: vec![plain, own], masquerade_ports: (29_950, 30_010), ..World::new() };
    world.frontends[0].2.push(Endpoint { address: own, port: 30_005 });
    world.frontends[1].2.push(Endpoint { address: own, port: 29_951 });
    world.frontends[0].2.push(Endpoint { address: own, port: 29_952 });
    let mut gateway = world.gateway();
    let mut seen = BTreeSet::new();
    for port in 1..400 {
        gateway.advance(Span::from_millis(120));
        let body = Body::Tcp(SYN, vec![]);
        let request = Packet::new((world::pod(0, 10), port).into(), (world::CLIENT, 443).into(), body);
        let out = gateway.send(UNDERLAY, &from_pod(0, &request.bytes()));
        if out.verdict == Verdict::Transmit(UPLINK) {
            seen.insert(Packet::read(&unframed(&out.bytes).1).source);
        }
    }
    // Masquerade over TCP skips the node ports and the port of a TCP service where services listen, and may use
    // that of a UDP service.
    let at_plain = (29_950..=30_010).map(|port| SocketAddr::new(plain, port));
    let at_own = (29_950..30_000).filter(|port| *port != 29_952).map(|port| SocketAddr::new(own, port));
    assert_eq!(seen, at_plain.chain(at_own).collect());
}

/// RFC 6888 REQ-4: two pods that use all the ports they can get do not reduce the share of a third.
#[test]
fn pods_that_exhaust_their_share_of_ports_do_not_reduce_that_of_others() {
    let mut world = World { masquerade_ports: (2000, 3023), ..narrow((4000, 5023)) };
    world.masquerade = ["198.51.100.7", "2001:db8:7::7"].map(|text| text.parse().unwrap()).into();
    world.pool = ["10.77.200.2", "fd77:0:0:200::2"].map(|text| text.parse().unwrap()).into();
    world.backends[0]
        .push(Backend { weight: 1, endpoint: Endpoint { address: world::pod_v6(1, 10).into(), port: 80 } });
    let outside = |v4: bool| if v4 { (world::CLIENT, 443).into() } else { (world::CLIENT_V6, 443).into() };
    let service =
        |v4: bool| if v4 { Packet::web(1, SYN, b"").destination } else { Packet::web_v6(1, SYN, b"").destination };
    for (v4, to) in [true, false].into_iter().flat_map(|v4| [(v4, outside(v4)), (v4, service(v4))]) {
        let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 8192));
        let mut opened = |pod: u8| {
            let address: IpAddr = if v4 { world::pod(1, pod).into() } else { world::pod_v6(1, pod).into() };
            (1..=1100_u16)
                .filter(|port| {
                    gateway.advance(Span::from_millis(20));
                    let request = Packet::new((address, *port).into(), to, Body::Tcp(SYN, vec![]));
                    let verdict = gateway.send(UNDERLAY, &from_pod(1, &request.bytes())).verdict;
                    assert!(
                        matches!(verdict, Verdict::Transmit(_) | Verdict::Drop(DropReason::PortsExhausted)),
                        "{verdict:?}"
                    );
                    matches!(verdict, Verdict::Transmit(_))
                })
                .count()
        };
        let [first, second, third] = [20, 21, 22].map(&mut opened);
        assert_eq!(first, 256, "a quarter of 1024");
        assert!(second > 128 && third > 80, "{second}, {third}");
    }
}

/// After a search has found no free port, there is no further search for a while.
#[test]
fn used_up_ports_are_remembered_for_a_moment() {
    const PORTS: u16 = 64;
    for v4 in [true, false] {
        let mut world = narrow((2000, 1999 + PORTS));
        let pool: IpAddr = if v4 { "10.77.200.2" } else { "fd77:0:0:200::2" }.parse().unwrap();
        world.pool = vec![pool];
        world.backends = World::new().backends;
        world.backends[0].retain(|it| it.endpoint.address.is_ipv4() == v4);
        world.backends[0].truncate(1);
        let mut gateway = world.gateway();
        let open = |gateway: &mut Gateway, port: u16| {
            let request = if v4 { Packet::web(port, SYN, b"") } else { Packet::web_v6(port, SYN, b"") };
            gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes())).verdict
        };
        for port in 1..=PORTS {
            gateway.advance(Span::from_millis(20));
            assert_eq!(open(&mut gateway, port), Verdict::Transmit(UNDERLAY));
        }
        gateway.advance(Span::from_secs(1));
        assert_eq!(open(&mut gateway, 1000), Verdict::Drop(DropReason::PortsExhausted));
        let forget = if v4 {
            weirgate::pipeline::Worker::forget::<[u8; 4]>
        } else {
            weirgate::pipeline::Worker::forget::<[u8; 16]>
        };
        (0..1024).for_each(|index| forget(&mut gateway.worker, index));
        assert_eq!(open(&mut gateway, 1001), Verdict::Drop(DropReason::PortsExhausted), "no search");
        gateway.advance(Span::from_millis(100));
        assert_eq!(open(&mut gateway, 1001), Verdict::Transmit(UNDERLAY));
    }
}

/// A search covers half of these ports, so the next one may find what the first did not.
#[test]
fn an_incomplete_port_search_is_not_remembered_as_exhaustion() {
    let mut world = World { pool: World::new().pool, ..narrow((2000, 10_191)) };
    world.pool.retain(IpAddr::is_ipv4);
    world.pool.push("10.77.200.3".parse().unwrap());
    world.pool.truncate(2);
    let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 32_768));
    let client =
        |number: u32| -> SocketAddr { ([192, 0, 2, 30 + (number >> 14) as u8], 1 + number as u16 % 16_384).into() };
    let mut next = 0..;
    while gateway.worker.flows().v4.len() < 16_384 {
        gateway.advance(Span::from_millis(20));
        let _ = open(&mut gateway, client(next.next().unwrap()));
        assert!(next.start < 40_000);
    }
    let found = (0..20_u32).filter(|turn| {
        gateway.worker.forget::<[u8; 4]>(turn * 700);
        // After a while without a search, four are allowed at once.
        gateway.advance(Span::from_secs(1));
        let found = (0..4).any(|_| open(&mut gateway, client(next.next().unwrap())).is_ok());
        while gateway.worker.flows().v4.len() < 16_384 {
            gateway.advance(Span::from_millis(120));
            let _ = open(&mut gateway, client(next.next().unwrap()));
        }
        found
    });
    // All but one of sixteen.
    assert!(found.count() >= 17);
}

/// Remembered exhaustion holds for a flow that replaces another, unless that one has a port towards the same peer.
#[test]
fn used_up_ports_are_remembered_for_a_flow_whose_backend_is_gone() {
    const PORTS: u16 = 64;
    for is_gone in [true, false] {
        let mut world = narrow((2000, 1999 + PORTS));
        world.backends = World::new().backends;
        world.backends[1].retain(|it| it.endpoint.address.is_ipv4());
        let query = |port: u16| Packet { source: (world::CLIENT, port).into(), ..Packet::dns(1, b"query") };
        let send = |gateway: &mut Gateway, port: u16| {
            let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &query(port).bytes()));
            match out.verdict {
                Verdict::Transmit(UNDERLAY) => Ok(Packet::read(&tunnelled(&out.bytes).inner).destination.ip()),
                Verdict::Drop(reason) => Err(reason),
                other => panic!("{other:?}"),
            }
        };
        let mut gateway = world.gateway();
        let gone = send(&mut gateway, 1).unwrap();
        let mut later = World { generation: 2, ..world.clone() };
        later.backends[1].retain(|it| (it.endpoint.address == gone) != is_gone);
        later.backends[1].truncate(1);
        gateway.apply(&later);
        // The only backend's ports; all but one are free for the first flow.
        for port in 2..2 + PORTS - u16::from(!is_gone) {
            gateway.advance(Span::from_millis(20));
            assert!(send(&mut gateway, port).is_ok());
        }
        gateway.advance(Span::from_secs(1));
        assert_eq!(send(&mut gateway, 1000), Err(DropReason::PortsExhausted));
        let first = |entry: &weirgate::flow::Entry<[u8; 4]>| entry.original.source_port == 1_u16.to_be_bytes();
        for index in 0..1024 {
            if gateway.worker.flows().v4.get(index).is_some_and(|entry| !first(entry)) {
                gateway.worker.forget::<[u8; 4]>(index);
            }
        }
        let expected = if is_gone { Err(DropReason::PortsExhausted) } else { Ok(gone) };
        assert_eq!(send(&mut gateway, 1), expected);
        gateway.advance(Span::from_millis(100));
        assert!(send(&mut gateway, 1).is_ok());
    }
}

#[test]
fn workers_never_choose_the_same_port() {
    let world = World { workers: 3, ..narrow((2000, 2098)) };
    let mut taken = BTreeMap::new();
    for id in 0..3 {
        let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(id), 256));
        for client in 1..=40 {
            gateway.advance(Span::from_millis(20));
            if let Ok(seen) = open(&mut gateway, (world::CLIENT, client)) {
                assert_eq!(taken.insert(seen.port(), id), None);
            }
        }
    }
    assert_eq!(taken.len(), 99, "33 ports each");
}

#[test]
fn flows_of_each_pool_address_are_counted_as_ageing_comes_round() {
    let mut gateway = World::new().gateway();
    let pool = World::new().pool;
    let mut expected = BTreeMap::<IpAddr, u64>::new();
    for client in 1..=200 {
        *expected.entry(open(&mut gateway, (world::CLIENT, client)).expect("a port is free").ip()).or_default() += 1;
    }
    let counted = |gateway: &Gateway| {
        let v4 = &gateway.counters.pool_v4;
        BTreeMap::from([(pool[0], v4.get(0)), (pool[1], v4.get(1))])
    };
    let age = |gateway: &mut Gateway, budget| {
        let (snapshot, now) = (gateway.snapshot(), gateway.now);
        gateway.worker.age(&snapshot, now, budget);
    };
    age(&mut gateway, 1000);
    assert!(counted(&gateway).values().all(|count| *count == 0), "reported once a round");
    age(&mut gateway, 24);
    assert_eq!(counted(&gateway), expected);
    gateway.advance(Span::from_secs(1000));
    (0..2).for_each(|_| age(&mut gateway, 1024));
    assert!(counted(&gateway).values().all(|count| *count == 0), "they have ended");
    assert_eq!((gateway.counters.pool_v4.get(2), gateway.counters.pool_v6.get(0)), (0, 0));
}

#[test]
fn pods_flows_are_counted_by_masquerade_address_and_busiest_peer() {
    let world = World {
        masquerade: ["198.51.100.7", "198.51.100.8", "2001:db8:7::7"].map(|text| text.parse().unwrap()).into(),
        ..World::new()
    };
    let mut gateway = world.gateway();
    let mut ask = |from: u16, to: [u8; 4], port: u16| {
        let body = Body::Udp(b"query".into());
        let packet = Packet::new((world::pod(0, 10), from).into(), (to, port).into(), body);
        let out = gateway.send(UNDERLAY, &from_pod(0, &packet.bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
    };
    for from in 1..=200 {
        ask(from, world::CLIENT.octets(), 53);
    }
    // Each of the others goes to a peer of its own.
    for port in 1000..1100 {
        ask(7, world::CLIENT.octets(), port);
    }
    for identifier in 1..=40 {
        let ping = Packet::ping(world::pod_v6(0, 10).into(), world::CLIENT_V6.into(), b"");
        let Body::Icmp(kind, code, [.., low], data) = ping.body.clone() else { panic!("a ping") };
        let ping = Packet { body: Body::Icmp(kind, code, [0, identifier, 0, low], data), ..ping };
        assert_eq!(gateway.send(UNDERLAY, &from_pod(0, &ping.bytes())).verdict, Verdict::Transmit(UPLINK));
    }
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now, 4096);
    let c = gateway.counters;
    let [first, second] = [c.masquerade_v4.get(0), c.masquerade_v4.get(1)];
    assert_eq!((first + second, c.masquerade_v4.get(2)), (300, 0));
    assert!(first.abs_diff(second) < 100, "drawn evenly: {first} and {second}");
    // A few of the others may share the same count.
    assert!((200..210).contains(&c.busiest_v4.get()), "{}", c.busiest_v4.get());
    // Echoes between two hosts have one endpoint, whatever their identifiers.
    assert_eq!((c.masquerade_v6.get(0), c.busiest_v6.get()), (40, 40));
    assert_eq!((c.pool_v4.get(0), c.pool_v6.get(0)), (0, 0));
}
