//! Pods' own connections to the outside.

use std::net::{IpAddr, SocketAddr};

use weirgate::net::WorkerId;
use weirgate::snapshot::{Echo, Route, RouteTarget};
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Packet, SYN, TO_CLIENT, framed, from_node, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out};

const OUT_V4: [u8; 4] = [198, 51, 100, 7];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn masquerading() -> World {
    World { masquerade: vec![OUT_V4.into(), address("2001:db8:7::7")], ..World::new() }
}

/// A pod's packets to the client: TCP, UDP and an echo request over either family.
fn requests() -> Vec<Packet> {
    let [v4, v6]: [(IpAddr, IpAddr); 2] =
        [(world::pod(0, 10).into(), world::CLIENT.into()), (world::pod_v6(0, 10).into(), world::CLIENT_V6.into())];
    let mut requests = vec![];
    for (pod, outside) in [v4, v6] {
        let between = |body| Packet::new((pod, 40_000).into(), (outside, 443).into(), body);
        requests.push(between(Body::Tcp(SYN, b"".into())));
        requests.push(between(Body::Udp(b"query".into())));
        requests.push(Packet::ping(pod, outside, b"hello"));
    }
    requests
}

fn identifier(packet: &Packet) -> u16 {
    let Body::Icmp(_, _, [high, low, ..], _) = packet.body else { panic!("no echo: {packet:?}") };
    u16::from_be_bytes([high, low])
}

fn with_identifier(packet: &Packet, identifier: u16) -> Packet {
    let Body::Icmp(kind, code, [_, _, a, b], data) = packet.body.clone() else { return packet.clone() };
    let [high, low] = identifier.to_be_bytes();
    Packet { body: Body::Icmp(kind, code, [high, low, a, b], data), ..packet.clone() }
}

fn sent(gateway: &mut Gateway, packet: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from_pod(0, &packet.bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UPLINK), "{packet:?}");
    let (link, ip) = unframed(&out.bytes);
    assert_eq!(link, TO_CLIENT);
    Packet::read(&ip)
}

fn returned(gateway: &mut Gateway, packet: &Packet) -> Packet {
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY), "{packet:?}");
    let seen = tunnelled(&out.bytes);
    assert_eq!(seen.link, to_node(0));
    Packet::read(&seen.inner)
}

fn from_node_of_pod(is_plain: bool, packet: &Packet) -> Vec<u8> {
    if is_plain { framed(from_node(0), &packet.bytes()) } else { from_pod(0, &packet.bytes()) }
}

fn with_port(address: SocketAddr, port: u16) -> SocketAddr {
    (address.ip(), port).into()
}

#[test]
fn a_pod_reaches_the_outside_from_a_masquerade_address() {
    for request in requests() {
        let mut gateway = masquerading().gateway();
        let seen = sent(&mut gateway, &request);
        let own = masquerading().masquerade[usize::from(request.source.is_ipv6())];
        assert_eq!((seen.source.ip(), seen.destination), (own, request.destination));
        let is_echo = matches!(request.body, Body::Icmp(..));
        let id = if is_echo { identifier(&seen) } else { seen.source.port() };
        assert!((1024..=65_535).contains(&id), "{id}");
        let expected = with_identifier(&request, id).after_a_hop();
        assert_eq!(seen, Packet { source: seen.source, ..expected });

        let answer = seen.answer(SYN | ACK, b"answer");
        let back = returned(&mut gateway, &answer);
        let expected = if is_echo { with_identifier(&answer, identifier(&request)) } else { answer };
        assert_eq!(back, Packet { destination: request.source, ..expected.after_a_hop() });
        // The next packet has the same port or identifier.
        assert_eq!(sent(&mut gateway, &request), seen);
        assert_eq!(gateway.counters.flows_created.get(), 1);
        assert!(gateway.counted().iter().all(|(name, _)| !name.starts_with("drop-")), "{:?}", gateway.counted());
    }
}

#[test]
fn a_pods_conversation_goes_on_and_nobody_joins_it_from_the_other_side() {
    for is_plain in [false, true] {
        let world = if is_plain { masquerading().direct() } else { masquerading() };
        for request in requests() {
            let mut gateway = world.gateway();
            let mut mapping = None;
            for turn in 0..5 {
                let body = match &request.body {
                    Body::Tcp(..) if turn > 0 => Body::Tcp(ACK, b"more".into()),
                    body => body.clone(),
                };
                let next = Packet { body, ..request.clone() };
                let out = gateway.send(UNDERLAY, &from_node_of_pod(is_plain, &next));
                assert_eq!((out.verdict, unframed(&out.bytes).0), (Verdict::Transmit(UPLINK), TO_CLIENT), "{turn}");
                let seen = Packet::read(&unframed(&out.bytes).1);
                assert_eq!((*mapping.get_or_insert(seen.source), seen.destination), (seen.source, next.destination));

                let answer = seen.answer(if turn == 0 { SYN | ACK } else { ACK }, b"answer");
                let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &answer.bytes()));
                let inner = if is_plain { unframed(&out.bytes).1 } else { tunnelled(&out.bytes).inner };
                assert_eq!((out.verdict, unframed(&out.bytes).0), (Verdict::Transmit(UNDERLAY), to_node(0)), "{turn}");
                assert_eq!(Packet::read(&inner).destination, request.source);

                for (port, forged) in
                    [(UPLINK, framed(FROM_CLIENT, &next.bytes())), (UNDERLAY, from_pod(1, &answer.bytes()))]
                {
                    let verdict = gateway.send(port, &forged).verdict;
                    let refused = [DropReason::SpoofedSource, DropReason::IcmpUnmatched].map(Verdict::Drop);
                    assert!(refused.contains(&verdict), "{turn}: {verdict:?} {request:?}");
                }
            }
            assert_eq!(gateway.counters.flows_created.get(), 1);
        }
    }
}

/// Nodes without encapsulation (host-gw, DirectRouting) send and receive plain packets.
#[test]
fn a_pod_that_is_reached_by_a_plain_route_reaches_the_outside_too() {
    let world = World { ..masquerading().direct() };
    for request in requests() {
        let mut gateway = world.gateway();
        let send =
            |gateway: &mut Gateway, packet: &Packet| gateway.send(UNDERLAY, &framed(from_node(0), &packet.bytes()));
        let out = send(&mut gateway, &request);
        assert_eq!(out.verdict, Verdict::Transmit(UPLINK), "{request:?}");
        let seen = Packet::read(&unframed(&out.bytes).1);
        assert_eq!(seen.source.ip(), world.masquerade[usize::from(request.source.is_ipv6())]);
        let answer = seen.answer(SYN | ACK, b"answer");
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &answer.bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
        let (link, ip) = unframed(&out.bytes);
        assert_eq!((link, Packet::read(&ip).destination), (to_node(0), request.source));
        let out = send(&mut gateway, &request);
        assert_eq!(Packet::read(&unframed(&out.bytes).1), seen, "the flow goes on");
        assert_eq!(gateway.counters.flows_created.get(), 1);
        // A trace shows the gateway by its overlay address, as one over VXLAN does.
        let out = send(&mut gateway, &Packet { ttl: 1, ..request.clone() });
        let own = if request.source.is_ipv4() { "10.77.200.0" } else { "fd77:0:0:200::" };
        assert_eq!(Packet::read(&unframed(&out.bytes).1).source.ip(), address(own));
        // The host keeps what the kernel routes between pods, and what is for itself.
        let to =
            |text: &str| Packet { destination: (address(text), request.destination.port()).into(), ..request.clone() };
        if let Body::Tcp(..) | Body::Udp(..) = request.body {
            // The last is of no peer, but is not to be masqueraded.
            let kept = if request.source.is_ipv4() {
                ["10.77.4.10", "10.99.0.50", "10.77.99.9"]
            } else {
                ["fd77:0:0:4::10", "fd99::50", "fd77:0:0:63::9"]
            };
            for destination in kept {
                assert_eq!(send(&mut gateway, &to(destination)).verdict, Verdict::Host, "{destination}");
            }
        }
        // Without a masquerade address the kernel routes it.
        if let Body::Tcp(..) = request.body {
            assert_eq!(send(&mut World::new().direct().gateway(), &request).verdict, Verdict::Host);
        }
        // A pod behind a tunnel does not use this path, nor does anybody at the uplink.
        let mut tunnelling = masquerading().gateway();
        assert!(!matches!(send(&mut tunnelling, &request).verdict, Verdict::Transmit(_)));
        let out = world.gateway().send(UPLINK, &framed(FROM_CLIENT, &request.bytes()));
        assert!(!matches!(out.verdict, Verdict::Transmit(_)), "{:?}", out.verdict);
    }
}

#[test]
fn no_pods_packet_egresses_without_a_masquerade_address_or_to_a_forbidden_destination() {
    let request = &requests()[0];
    let verdict =
        |gateway: &mut Gateway, packet: &Packet| gateway.send(UNDERLAY, &from_pod(0, &packet.bytes())).verdict;
    let mut closed = World::new().gateway();
    assert_eq!(verdict(&mut closed, request), Verdict::Drop(DropReason::NoFlow));

    let mut gateway = masquerading().gateway();
    let to = |text: &str| Packet { destination: (address(text), 443).into(), ..request.clone() };
    let cases = [
        (to("10.77.4.10"), DropReason::NotMasqueraded),
        (to("10.77.200.2"), DropReason::NoFlow),
        (to("198.51.100.7"), DropReason::NoFlow),
        (to("224.0.0.1"), DropReason::MartianAddress),
        (to("203.0.113.9"), DropReason::NoRoute),
        (Packet { source: (address("203.0.113.9"), 1).into(), ..request.clone() }, DropReason::SpoofedSource),
        (Packet { body: Body::Tcp(ACK, vec![]), ..request.clone() }, DropReason::NotSyn),
    ];
    for (packet, reason) in cases {
        assert_eq!(verdict(&mut gateway, &packet), Verdict::Drop(reason), "{packet:?}");
    }
    assert!(gateway.worker.flows().v4.is_empty());
}

/// The verdicts of a pod's packets to these addresses, at a port without a service.
fn to_own(world: &World, destinations: [&str; 2], source: Option<&str>) -> Vec<Out> {
    let mut gateway = world.gateway();
    let mut outs = vec![];
    for mut packet in requests() {
        let to = address(destinations[usize::from(packet.source.is_ipv6())]);
        packet.destination.set_ip(to);
        if let Some(source) = source {
            packet.source.set_ip(address(source));
            if packet.source.is_ipv6() != packet.destination.is_ipv6() {
                continue;
            }
        }
        let frame = from_pod(0, &packet.bytes());
        let out = gateway.send(UNDERLAY, &frame);
        assert!(out.verdict != Verdict::Host || out.bytes == frame, "the host gets the frame unchanged");
        outs.push(out);
    }
    assert!(gateway.worker.flows().is_empty());
    outs
}

#[test]
fn a_pods_packet_to_an_address_of_the_gateway_itself_goes_to_the_host() {
    let routed = |world: World| {
        let by_default = |prefix: &str| Route {
            prefix: prefix.parse().expect("a prefix"),
            target: RouteTarget::Link(UPLINK),
            mtu: None,
        };
        let routes = world.routes.iter().copied().chain([by_default("0.0.0.0/0"), by_default("::/0")]).collect();
        World { routes, echo: Echo { services: false, ..Echo::default() }, ..world.with_external() }
    };
    let own = [
        ["10.99.0.50", "fd99::50"],
        // An address of services, at a port that none of them has.
        ["192.0.2.1", "2001:db8:1::1"],
        ["203.0.113.10", "2001:db8:113::10"],
    ];
    // With and without masquerade, and whatever the routes.
    for world in [routed(World::new()), routed(masquerading()), World { local: vec![], ..routed(masquerading()) }] {
        for destinations in own {
            let outs = to_own(&world, destinations, None);
            assert_eq!(outs.len(), 6);
            assert!(outs.iter().all(|out| out.verdict == Verdict::Host), "{destinations:?}: {outs:?}");
        }
        for nobodys in ["203.0.113.9", "10.77.200.2", "192.0.2.1", "2001:db8:113::9", "fd77:0:0:200::2"] {
            let outs = to_own(&world, own[0], Some(nobodys));
            let refused = |out: &Out| out.verdict == Verdict::Drop(DropReason::SpoofedSource);
            assert!(outs.len() == 3 && outs.iter().all(refused), "{nobodys}: {outs:?}");
        }
    }
}

#[test]
fn rfc4787_req8_only_the_addressed_endpoint_may_reply() {
    let mut gateway = masquerading().gateway();
    for request in requests() {
        let answer = sent(&mut gateway, &request).answer(SYN | ACK, b"");
        let other = if answer.source.is_ipv4() { "192.0.2.11" } else { "2001:db8:1::11" };
        let forged = Packet { source: with_port((address(other), 0).into(), answer.source.port()), ..answer.clone() };
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &forged.bytes()));
        assert!(matches!(out.verdict, Verdict::Drop(DropReason::NoFlow | DropReason::IcmpUnmatched)), "{forged:?}");
        // Nor is a reply taken from the overlay.
        let out = gateway.send(UNDERLAY, &from_pod(1, &answer.bytes()));
        assert!(matches!(out.verdict, Verdict::Drop(_)), "{answer:?}");
    }
    // An echo request is no reply.
    let ping = sent(&mut gateway, &requests()[2]);
    let Body::Icmp(_, _, rest, _) = ping.body else { panic!("an echo") };
    let asked = Packet { body: Body::Icmp(8, 0, rest, vec![]), ..ping.answer(0, b"") };
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &asked.bytes()));
    let (_, ip) = unframed(&out.bytes);
    assert_eq!(Packet::read(&ip), asked.answer(0, b""), "the gateway itself answers pings");
}

#[test]
fn rfc4787_req9_another_pods_mapping_is_closed_to_a_pod_as_to_any_outsider() {
    let mut gateway = masquerading().gateway();
    for request in requests() {
        let mapping = sent(&mut gateway, &request).source;
        let (pod, outsider): (IpAddr, IpAddr) = if mapping.is_ipv4() {
            (world::pod(1, 11).into(), address("192.0.2.11"))
        } else {
            (world::pod_v6(1, 11).into(), address("2001:db8:1::11"))
        };
        let knock = |from: IpAddr| Packet::new((from, 9).into(), mapping, Body::Udp(b"knock".into()));
        let inside = gateway.send(UNDERLAY, &from_pod(1, &knock(pod).bytes())).verdict;
        let outside = gateway.send(UPLINK, &framed(FROM_CLIENT, &knock(outsider).bytes())).verdict;
        assert_eq!([inside, outside], [Verdict::Drop(DropReason::NoFlow); 2]);
    }
}

#[test]
fn any_worker_names_the_owner_of_a_pods_flow_and_of_its_answers() {
    for (is_plain, port) in
        [false, true].into_iter().flat_map(|is_plain| (40_000..40_010).map(move |port| (is_plain, port)))
    {
        let world = World { workers: 4, ..if is_plain { masquerading().direct() } else { masquerading() } };
        let mut workers: Vec<Gateway> = (0..4)
            .map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 256)))
            .collect();
        for request in requests() {
            let request = with_identifier(&Packet { source: with_port(request.source, port), ..request }, port);
            let frame = from_node_of_pod(is_plain, &request);
            let outs: Vec<Out> = workers.iter_mut().map(|worker| worker.send(UNDERLAY, &frame)).collect();
            let owner = outs.iter().position(|out| out.verdict == Verdict::Transmit(UPLINK)).expect("an owner");
            let handed = Verdict::Handover(WorkerId(owner as u8));
            assert!(outs.iter().enumerate().all(|(id, out)| id == owner || out.verdict == handed));
            let seen = Packet::read(&unframed(&outs[owner].bytes).1);
            let answer = framed(FROM_CLIENT, &seen.answer(SYN | ACK, b"").bytes());
            let kind = if seen.source.is_ipv4() { 11 } else { 3 };
            let body = Body::Icmp(kind, 0, [0; 4], seen.bytes());
            let error = Packet::new((seen.destination.ip(), 0).into(), (seen.source.ip(), 0).into(), body);
            let inner = workers[owner].send(UPLINK, &answer).bytes;
            let back = Packet::read(&if is_plain { unframed(&inner).1 } else { tunnelled(&inner).inner });
            let body = Body::Icmp(kind, 0, [0; 4], back.bytes());
            let from_inside = Packet::new((back.destination.ip(), 0).into(), (back.source.ip(), 0).into(), body);
            for (port, out, frame) in [
                (UPLINK, UNDERLAY, answer),
                (UPLINK, UNDERLAY, framed(FROM_CLIENT, &error.bytes())),
                (UNDERLAY, UPLINK, from_node_of_pod(is_plain, &from_inside)),
            ] {
                for (id, worker) in workers.iter_mut().enumerate() {
                    let expected = if id == owner { Verdict::Transmit(out) } else { handed };
                    assert_eq!(worker.send(port, &frame).verdict, expected);
                }
            }
        }
    }
}

#[test]
fn an_echo_reply_that_nobody_asked_for_is_dropped_where_it_comes_in() {
    let world = World { workers: 4, ..masquerading() };
    let reply = |from: IpAddr, to: IpAddr| Packet::ping(to, from, b"").answer(0, b"");
    let strays = [
        (UPLINK, framed(FROM_CLIENT, &reply(world::CLIENT.into(), world::NODE_PORT_ADDRESS.into()).bytes())),
        (UNDERLAY, framed(from_node(0), &reply(world::NODES[0].into(), world::PUBLIC.into()).bytes())),
        (UNDERLAY, from_pod(0, &reply(world::pod(0, 10).into(), OUT_V4.into()).bytes())),
    ];
    for id in 0..4 {
        let mut gateway = world.describe(|it| Gateway::with_worker(it, WorkerId(id), 256));
        for (port, stray) in &strays {
            let out = gateway.send(*port, stray);
            assert_eq!(out.verdict, Verdict::Drop(DropReason::IcmpUnmatched));
        }
    }
}

#[test]
fn a_pod_traces_its_path_through_the_gateway_and_the_routers_behind_it() {
    for request in requests() {
        let mut gateway = masquerading().gateway();
        let v4 = request.source.is_ipv4();
        let kind = if v4 { 11 } else { 3 };
        // The gateway itself is the first hop.
        let dying = Packet { ttl: 1, ..request.clone() };
        let out = gateway.send(UNDERLAY, &from_pod(0, &dying.bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
        let error = Packet::read(&tunnelled(&out.bytes).inner);
        assert_eq!(error.source.ip(), address(if v4 { "10.77.200.0" } else { "fd77:0:0:200::" }));
        assert_eq!(
            (error.destination.ip(), error.body),
            (request.source.ip(), Body::Icmp(kind, 0, [0; 4], dying.bytes()))
        );
        // A router behind it reports with its own address, and quotes the pod's packet.
        let seen = sent(&mut gateway, &request);
        let router = address(if v4 { "192.0.2.254" } else { "2001:db8:1::254" });
        let error_body = |about: &Packet| Body::Icmp(kind, 0, [0; 4], about.bytes());
        let error = Packet::new((router, 0).into(), (seen.source.ip(), 0).into(), error_body(&seen));
        let back = returned(&mut gateway, &error);
        assert_eq!((back.source.ip(), back.destination.ip()), (router, request.source.ip()));
        assert_eq!(back.body, error_body(&request.after_a_hop()));
    }
}

#[test]
fn a_pods_peer_gets_the_overlays_mtu_and_errors_from_inside() {
    for request in requests() {
        let mut gateway = masquerading().gateway();
        let v4 = request.source.is_ipv4();
        let seen = sent(&mut gateway, &request);
        let mut answer = seen.answer(ACK, &[7; 1440]);
        if let Body::Icmp(.., data) = &mut answer.body {
            *data = vec![7; 1440];
        }
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &answer.bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(UPLINK), "{request:?}");
        let error = Packet::read(&unframed(&out.bytes).1);
        assert_eq!((error.source.ip(), error.destination.ip()), (seen.source.ip(), answer.source.ip()));
        let (kind, code, mtu) = if v4 { (3, 4, 1450) } else { (2, 0, 1430_u32) };
        let Body::Icmp(got_kind, got_code, rest, _) = error.body else { panic!("{error:?}") };
        assert_eq!((got_kind, got_code, u32::from_be_bytes(rest)), (kind, code, mtu));

        let back = returned(&mut gateway, &seen.answer(ACK, b""));
        let (kind, code) = if v4 { (3, 1) } else { (1, 0) };
        let error_body = |about: &Packet| Body::Icmp(kind, code, [0; 4], about.bytes());
        let node = address(if v4 { "10.77.74.1" } else { "fd77:0:0:74::1" });
        let error = Packet::new((node, 0).into(), (back.source.ip(), 0).into(), error_body(&back));
        let outside = sent(&mut gateway, &error);
        assert_eq!((outside.source.ip(), outside.destination.ip()), (seen.source.ip(), seen.destination.ip()));
        assert_eq!(outside.body, error_body(&seen.answer(ACK, b"").after_a_hop()));
    }
}

#[test]
fn identifiers_of_echoes_run_out_as_ports_do() {
    let mut gateway = World { masquerade_ports: (2000, 2003), ..masquerading() }.gateway();
    let mut seen = std::collections::BTreeSet::new();
    for identifier in 1..=4 {
        let ping = with_identifier(&requests()[2], identifier);
        assert!(seen.insert(self::identifier(&sent(&mut gateway, &ping))));
    }
    assert_eq!(seen, (2000..=2003).collect());
    let out = gateway.send(UNDERLAY, &from_pod(0, &with_identifier(&requests()[2], 9).bytes()));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::PortsExhausted));
}

/// An error has no identifier: a quoted error does not match a ping with identifier 0.
#[test]
fn an_error_that_quotes_an_error_matches_no_ping() {
    for request in requests().into_iter().filter(|request| matches!(request.body, Body::Icmp(..))) {
        let mut gateway = masquerading().gateway();
        let ping = with_identifier(&request, 0);
        sent(&mut gateway, &ping);
        let kind = if ping.source.is_ipv4() { 3 } else { 1 };
        let about =
            |packet: &Packet| Packet::new(ping.source, ping.destination, Body::Icmp(kind, 1, [0; 4], packet.bytes()));
        sent(&mut gateway, &about(&ping.answer(0, b"")));
        let error = Packet::new(ping.destination, ping.source, Body::Icmp(kind, 1, [0; 4], ping.bytes()));
        let out = gateway.send(UNDERLAY, &from_pod(0, &about(&error).bytes()));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::IcmpUnmatched), "{ping:?}");
    }
}

#[test]
fn nothing_egresses_to_an_exempt_range_whatever_routes_lead_there() {
    for request in requests() {
        let mut world = masquerading();
        world.exempt = if request.source.is_ipv4() {
            vec!["192.0.2.8/29".parse().unwrap()]
        } else {
            vec!["2001:db8:1::10/124".parse().unwrap()]
        };
        let mut gateway = world.gateway();
        let outside = request.destination.ip();
        let next = if outside.is_ipv4() { "192.0.2.16" } else { "2001:db8:1::20" };
        let mut verdict = |to: IpAddr| {
            let packet = Packet { destination: (to, request.destination.port()).into(), ..request.clone() };
            gateway.send(UNDERLAY, &from_pod(0, &packet.bytes())).verdict
        };
        assert_eq!(verdict(outside), Verdict::Drop(DropReason::NotMasqueraded), "{request:?}");
        // The address after the range is not exempt; only its link address is unknown.
        assert_eq!(verdict(address(next)), Verdict::Drop(DropReason::NeighbourUnresolved), "{request:?}");
    }
}
