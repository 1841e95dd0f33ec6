//! Clients on a link, in a VLAN, and behind a router; and addresses that cannot be a client's.

use std::net::{IpAddr, SocketAddr};

use weirgate::net::{Endpoint, Mac, PortId};
use weirgate::snapshot::{Backend, Neighbour, Port, Route, RouteTarget};
use weirgate::verdict::DropReason;
use weirgate_fixture::Gateway;
use weirgate_fixture::frames::{
    ACK, FROM_CLIENT, Link, Packet, SYN, TO_CLIENT, framed, from_node, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, WEB, World};

use super::helpers::{dropped, from_client, to_client, to_pod, transmitted};

#[test]
fn invalid_sources_are_dropped() {
    let mut gateway = World::new().gateway();
    let with_source = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let packet = if address.is_ipv4() { Packet::web(7, SYN, b"") } else { Packet::web_v6(7, SYN, b"") };
        Packet { source: (address, 7).into(), ..packet }
    };
    for martian in [
        "0.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "fe80::1",
        "::ffff:192.0.2.1",
    ] {
        assert_eq!(dropped(&from_client(&mut gateway, &with_source(martian))), DropReason::MartianAddress, "{martian}");
    }
    for spoofed in ["10.77.200.2", "fd77:0:0:200::9"] {
        assert_eq!(dropped(&from_client(&mut gateway, &with_source(spoofed))), DropReason::SpoofedSource);
    }
    assert_eq!(gateway.worker.flows().len(), 0);
}

/// As in Linux's `ip_route_input_slow`: no other source is a martian.
#[test]
fn sources_that_others_call_reserved_are_served() {
    let mut world = World::new();
    world.routes.push(Route {
        prefix: "0.0.0.0/0".parse().unwrap(),
        target: RouteTarget::Router(UPLINK, world::CLIENT.into()),
        mtu: None,
    });
    let mut gateway = world.gateway();
    for client in
        ["240.1.2.3", "255.255.255.254", "0.1.2.3", "169.254.1.1", "126.0.0.1", "128.0.0.1", "223.255.255.255"]
    {
        let source: IpAddr = client.parse().unwrap();
        let request = Packet { source: (source, 7).into(), ..Packet::web(7, SYN, b"") };
        let (node, inner) = to_pod(&mut gateway, &request);
        let back = to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
        assert_eq!(back.destination, request.source);
        // They also get errors.
        let out = from_client(&mut gateway, &Packet { ttl: 1, ..request });
        transmitted(&out, UPLINK);
    }
}

/// IEEE 802-2014 §8.2: a group address is never a source.
#[test]
fn a_group_link_address_neither_sends_nor_receives() {
    let mut world = World::new();
    world.neighbours.clear();
    let mut gateway = world.gateway();
    for request in [
        Packet::web(7, SYN, b""),
        Packet::web_v6(7, SYN, b""),
        Packet::ping(world::CLIENT.into(), world::PUBLIC.into(), b""),
    ] {
        for source in
            [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1]), Mac([0x33, 0x33, 0, 0, 0, 1]), Mac([3, 0, 0, 0, 1, 1])]
        {
            for vlan in [None, Some(7)] {
                let out = gateway.send(UPLINK, &framed(Link { source, vlan, ..FROM_CLIENT }, &request.bytes()));
                assert_eq!(dropped(&out), DropReason::MartianAddress);
                let out = gateway.send(UNDERLAY, &framed(Link { source, vlan, ..from_node(0) }, &request.bytes()));
                assert_eq!(dropped(&out), DropReason::MartianAddress);
            }
        }
    }
    assert_eq!(gateway.worker.flows().len(), 0);
    // Nor does such a frame change the neighbour of an open flow.
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let again = framed(Link { source: Mac::BROADCAST, ..FROM_CLIENT }, &Packet::web(7, SYN, b"").bytes());
    assert_eq!(dropped(&gateway.send(UPLINK, &again)), DropReason::MartianAddress);
    to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
}

#[test]
fn a_client_in_a_vlan_is_answered_in_it() {
    let mut gateway = World::new().gateway();
    let tagged = Link { vlan: Some(0x2064), ..FROM_CLIENT };
    let out = gateway.send(UPLINK, &framed(tagged, &Packet::web(7, SYN, b"").bytes()));
    let seen = tunnelled(transmitted(&out, UNDERLAY));
    let answer = Packet::read(&seen.inner).answer(SYN | ACK, b"");
    let node = usize::from(seen.link == to_node(1));
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
    assert_eq!(unframed(transmitted(&out, UPLINK)).0, Link { vlan: Some(0x2064), ..TO_CLIENT });
}

#[test]
fn a_client_is_answered_where_it_wrote_from_until_its_link_address_is_known() {
    let mut world = World::new();
    world.neighbours.clear();
    let mut gateway = world.gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let answer = inner.answer(SYN | ACK, b"");
    to_client(&mut gateway, node, &answer);
    assert_eq!(gateway.worker.next_unresolved(), Some((UPLINK, world::CLIENT.into())));
    assert_eq!(gateway.worker.next_unresolved(), None);
    // The client moves to another station of its link, with any packet of an open connection.
    for station in [7, 8].map(|last| Mac([2, 0, 0, 0, 1, last])) {
        let moved = Link { source: station, ..FROM_CLIENT };
        let out = gateway.send(UPLINK, &framed(moved, &Packet::web(7, ACK, b"data").bytes()));
        transmitted(&out, UNDERLAY);
        let out = gateway.send(UNDERLAY, &from_pod(node, &inner.answer(ACK, b"data").bytes()));
        assert_eq!(unframed(transmitted(&out, UPLINK)).0, Link { destination: station, ..TO_CLIENT });
        assert!(gateway.worker.next_unresolved().is_some());
    }

    let resolved = Mac([2, 9, 9, 9, 9, 9]);
    world.neighbours = vec![Neighbour { port: UPLINK, address: world::CLIENT.into(), mac: resolved }];
    world.generation += 1;
    gateway.apply(&world);
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
    assert_eq!(unframed(transmitted(&out, UPLINK)).0, Link { destination: resolved, ..TO_CLIENT });
    assert_eq!(gateway.worker.next_unresolved(), None);
}

#[test]
fn a_client_behind_a_router_is_answered_through_it() {
    let router = Mac([2, 0, 0, 0, 1, 9]);
    let mut world = World::new();
    let via: IpAddr = [192, 0, 2, 254].into();
    world.routes.push(Route {
        prefix: "0.0.0.0/0".parse().unwrap(),
        target: RouteTarget::Router(UPLINK, via),
        mtu: None,
    });
    world.neighbours.push(Neighbour { port: UPLINK, address: via, mac: router });
    let mut gateway = world.gateway();
    let far = Packet { source: ([203, 0, 113, 77], 7).into(), ..Packet::web(7, SYN, b"") };
    let (node, inner) = to_pod(&mut gateway, &far);
    let out = gateway.send(UNDERLAY, &from_pod(node, &inner.answer(SYN | ACK, b"").bytes()));
    assert_eq!(unframed(transmitted(&out, UPLINK)).0, Link { destination: router, ..TO_CLIENT });
}

/// What a flow remembers of a snapshot holds for that one only, whichever direction sends first.
#[test]
fn a_connection_follows_the_routes_of_the_current_snapshot() {
    let routers: [IpAddr; 2] = [[192, 0, 2, 254].into(), [192, 0, 2, 253].into()];
    let default =
        |router| Route { prefix: "0.0.0.0/0".parse().unwrap(), target: RouteTarget::Router(UPLINK, router), mtu: None };
    let mac = |last| Mac([2, 0, 0, 0, 1, last]);
    let mut world = World::new();
    world.routes.push(default(routers[0]));
    world.neighbours.push(Neighbour { port: UPLINK, address: routers[0], mac: mac(1) });
    world.neighbours.push(Neighbour { port: UPLINK, address: routers[1], mac: mac(2) });
    let mut gateway = world.gateway();
    let far = Packet { source: ([203, 0, 113, 77], 7).into(), ..Packet::web(7, SYN, b"") };
    let (node, inner) = to_pod(&mut gateway, &far);
    let answer = from_pod(node, &inner.answer(SYN | ACK, b"").bytes());
    let request = framed(FROM_CLIENT, &far.bytes());
    let answered_through = |gateway: &mut Gateway| {
        let out = gateway.send(UNDERLAY, &answer);
        unframed(transmitted(&out, UPLINK)).0.destination
    };
    let sent_to = |gateway: &mut Gateway| tunnelled(transmitted(&gateway.send(UPLINK, &request), UNDERLAY)).link;
    for _ in 0..2 {
        assert_eq!(answered_through(&mut gateway), mac(1));
        assert_eq!(sent_to(&mut gateway), to_node(node));
    }

    world.routes.pop();
    world.routes.push(default(routers[1]));
    // Every next hop gets another index.
    world.peers.reverse();
    world.generation += 1;
    gateway.apply(&world);
    for _ in 0..2 {
        assert_eq!(answered_through(&mut gateway), mac(2));
        assert_eq!(sent_to(&mut gateway), to_node(node));
    }

    world.neighbours.last_mut().unwrap().mac = mac(3);
    world.peers.reverse();
    world.generation += 1;
    gateway.apply(&world);
    for _ in 0..2 {
        assert_eq!(sent_to(&mut gateway), to_node(node));
        assert_eq!(answered_through(&mut gateway), mac(3));
    }
}

#[test]
fn a_client_behind_a_longer_prefix_that_leads_nowhere_is_not_answered_by_the_shorter_one() {
    let router = Mac([2, 0, 0, 0, 1, 9]);
    let routers: [IpAddr; 2] = [[192, 0, 2, 254].into(), "2001:db8:1::fe".parse().unwrap()];
    let net = |text: &str| text.parse().unwrap();
    let mut world = World::new();
    world.routes = vec![
        Route { prefix: net("203.0.113.64/26"), target: RouteTarget::Nowhere, mtu: None },
        Route { prefix: net("0.0.0.0/0"), target: RouteTarget::Router(UPLINK, routers[0]), mtu: None },
        Route { prefix: net("203.0.113.80/28"), target: RouteTarget::Router(UPLINK, routers[0]), mtu: None },
        Route { prefix: net("::/0"), target: RouteTarget::Router(UPLINK, routers[1]), mtu: None },
        Route { prefix: net("2001:db8:7::/48"), target: RouteTarget::Nowhere, mtu: None },
        // Of equal prefixes the last one counts, whatever its next hop.
        Route { prefix: net("198.51.100.0/24"), target: RouteTarget::Nowhere, mtu: None },
        Route { prefix: net("198.51.100.0/24"), target: RouteTarget::Router(UPLINK, routers[0]), mtu: None },
        Route { prefix: net("198.18.0.0/24"), target: RouteTarget::Router(UPLINK, routers[0]), mtu: None },
        Route { prefix: net("198.18.0.0/24"), target: RouteTarget::Nowhere, mtu: None },
    ];
    world.neighbours = routers.map(|address| Neighbour { port: UPLINK, address, mac: router }).into();
    let mut gateway = world.gateway();
    let mut port = 0;
    let mut answer_to = |client: &str| {
        let source = SocketAddr::new(client.parse().unwrap(), 7);
        port += 1;
        let web = if source.is_ipv4() { Packet::web(port, SYN, b"") } else { Packet::web_v6(port, SYN, b"") };
        let (node, inner) = to_pod(&mut gateway, &Packet { source, ..web });
        gateway.send(UNDERLAY, &from_pod(node, &inner.answer(SYN | ACK, b"").bytes()))
    };
    let routed = ["203.0.113.63", "203.0.113.80", "203.0.113.95", "203.0.113.128", "2001:db8:8::1", "198.51.100.9"];
    for client in routed {
        let out = answer_to(client);
        assert_eq!(unframed(transmitted(&out, UPLINK)).0, Link { destination: router, ..TO_CLIENT }, "{client}");
    }
    let lost = ["203.0.113.64", "203.0.113.79", "203.0.113.96", "203.0.113.127", "2001:db8:7::1", "198.18.0.9"];
    for client in lost {
        assert_eq!(dropped(&answer_to(client)), DropReason::NoRoute, "{client}");
    }
    assert_eq!(gateway.counters.drops(DropReason::NoRoute), lost.len() as u64);
    assert_eq!(gateway.worker.next_unresolved(), None, "no neighbour is requested for a route without a next hop");
}

#[test]
fn every_neighbour_that_a_burst_needs_is_requested_once_up_to_the_limit() {
    let mut world = World::new();
    world.neighbours.clear();
    let mut gateway = world.gateway();
    let client = |last: u8| IpAddr::from([192, 0, 2, last]);
    let answers: Vec<_> = (10..40)
        .map(|last| {
            let request = Packet { source: (client(last), 7).into(), ..Packet::web(7, SYN, b"") };
            let (node, inner) = to_pod(&mut gateway, &request);
            (UNDERLAY, from_pod(node, &inner.answer(SYN | ACK, b"").bytes()))
        })
        .collect();
    let asked = |gateway: &mut Gateway| std::iter::from_fn(|| gateway.worker.next_unresolved()).collect::<Vec<_>>();
    let expected = |lasts: std::ops::Range<u8>| lasts.map(|last| (UPLINK, client(last))).collect::<Vec<_>>();
    let twice = [&answers[..3], &answers[..3]].concat();
    gateway.send_burst(&twice);
    assert_eq!(asked(&mut gateway), expected(10..13));
    // A neighbour that found no room is requested with its next packet.
    gateway.send_burst(&answers);
    assert_eq!(asked(&mut gateway), expected(10..26));
    gateway.send_burst(&answers[16..]);
    assert_eq!(asked(&mut gateway), expected(26..40));
}

/// A tag belongs to one link: a return path over another link is not in that VLAN.
#[test]
fn a_client_in_a_vlan_is_answered_without_its_tag_where_the_return_path_is_another_port() {
    const BACK: PortId = PortId(2);
    let mut world = World::new();
    let (own, station) = (Mac([2, 0, 0, 0, 0, 3]), Mac([2, 0, 0, 0, 1, 3]));
    world.ports.push(Port { mac: own, mtu: 1500 });
    world.routes[0].target = RouteTarget::Link(BACK);
    world.neighbours = vec![Neighbour { port: BACK, address: world::CLIENT.into(), mac: station }];
    let mut gateway = world.gateway();
    let tagged = Link { vlan: Some(0x2064), ..FROM_CLIENT };
    let request = framed(tagged, &Packet::web(7, SYN, b"").bytes());
    let seen = tunnelled(transmitted(&gateway.send(UPLINK, &request), UNDERLAY));
    let node = usize::from(seen.link == to_node(1));
    let answer = from_pod(node, &Packet::read(&seen.inner).answer(SYN | ACK, b"").bytes());
    // With the first reply, which looks the path up, and with later ones, which remember it.
    for _ in 0..2 {
        let out = gateway.send(UNDERLAY, &answer);
        let link = Link { destination: station, source: own, vlan: None };
        assert_eq!(unframed(transmitted(&out, BACK)).0, link);
        gateway.send(UPLINK, &request);
    }
}

#[test]
fn a_backend_that_no_node_has_is_no_route_and_gets_no_flow() {
    // Next hop 0 exists, and does not stand in for none.
    let mut world = World::new();
    let service = world.frontends.iter().position(|(service, ..)| *service == WEB).expect("a service");
    let elsewhere = Endpoint { address: "10.77.99.9".parse().unwrap(), port: 8080 };
    world.backends[service] = vec![Backend { endpoint: elsewhere, weight: 1 }];
    let mut gateway = world.gateway();
    assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, SYN, b""))), DropReason::NoRoute);
    assert_eq!(gateway.worker.flows().v4.len(), 0);
}
