//! Stateless forwarding: packets that may not open a flow are forwarded where their replies can be reversed.

use std::net::{IpAddr, SocketAddr};

use weirgate::net::{Endpoint, Protocol, WorkerId};
use weirgate::snapshot::{Admission, Neighbour, PastLimit, Route, RouteTarget};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FIN, FROM_CLIENT, Packet, RST, SYN, TO_CLIENT, framed, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, DNS, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, Out};

/// One new flow a second.
const ONE: Admission =
    Admission { half_open_per_client: 4096, new_flows_per_second: 1, past_limit: PastLimit::Stateless };

fn stateless() -> World {
    World { admission: ONE, ..World::new().preserving(WEB).preserving(DNS) }
}

fn from_client(gateway: &mut Gateway, packet: &Packet) -> Out {
    gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()))
}

/// A client's packet as the pod sees it, and the pod's node.
fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let out = from_client(gateway, packet);
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY), "{packet:?}");
    let seen = tunnelled(&out.bytes);
    let node = (0..2).find(|node| seen.link == to_node(*node)).expect("one of the nodes");
    (node, Packet::read(&seen.inner))
}

fn to_client(gateway: &mut Gateway, node: usize, packet: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from_pod(node, &packet.bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UPLINK), "{packet:?}");
    let (link, ip) = unframed(&out.bytes);
    assert_eq!(link, TO_CLIENT);
    Packet::read(&ip)
}

fn with_flags(packet: &Packet, flags: u8) -> Packet {
    match packet.body {
        Body::Tcp(..) => Packet { body: Body::Tcp(flags, b"data".to_vec()), ..packet.clone() },
        _ => packet.clone(),
    }
}

/// Uses up what the limit allows at this instant.
fn exhaust(gateway: &mut Gateway) {
    to_pod(gateway, &Packet::web(1, SYN, b""));
}

fn reason(out: &Out) -> DropReason {
    match out.verdict {
        Verdict::Drop(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

#[test]
fn past_the_limit_a_conversation_is_forwarded_statelessly_as_it_would_be_with_a_flow() {
    for port in 2..60 {
        for request in [Packet::web(port, SYN, b""), Packet::web_v6(port, SYN, b""), Packet::dns(port, b"query")] {
            let mut free = stateless();
            free.admission.new_flows_per_second = 0;
            let (expected_node, expected) = to_pod(&mut free.gateway(), &request);

            let mut gateway = stateless().gateway();
            exhaust(&mut gateway);
            let (node, inner) = to_pod(&mut gateway, &request);
            assert_eq!((node, &inner), (expected_node, &expected), "the same backend, the same packet");
            let answer = inner.answer(SYN | ACK, b"answer");
            let back = to_client(&mut gateway, node, &answer);
            assert_eq!(back, Packet { source: request.destination, ..answer.after_a_hop() });
            for flags in [ACK, FIN | ACK, RST] {
                let (again, inner) = to_pod(&mut gateway, &with_flags(&request, flags));
                assert_eq!((again, inner.destination), (node, expected.destination));
                to_client(&mut gateway, node, &inner.answer(flags, b"more"));
            }
            assert_eq!(gateway.counters.forwarded_stateless.get(), 8);
            assert_eq!((gateway.counters.flows_created.get(), gateway.counters.flows_ended()), (1, 0));
            let service = if matches!(request.body, Body::Udp(_)) { DNS } else { WEB };
            let counted = &gateway.services[service as usize];
            let others = u64::from(service == WEB);
            assert_eq!((counted.original.packets.get(), counted.reply.packets.get()), (4 + others, 4));
        }
    }
}

#[test]
fn a_full_table_of_assured_flows_forwards_new_traffic_statelessly() {
    let mut world = stateless();
    world.admission.new_flows_per_second = 0;
    let mut gateway = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 16));
    for port in 1..=16 {
        let (node, inner) = to_pod(&mut gateway, &Packet::web(port, SYN, b""));
        to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
        to_pod(&mut gateway, &Packet::web(port, ACK, b""));
    }
    for port in 17..100 {
        let (node, inner) = to_pod(&mut gateway, &Packet::web(port, SYN, b""));
        to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
        to_pod(&mut gateway, &Packet::web(port, ACK, b"request"));
    }
    gateway.assert_counted(&[
        ("flows-created", 16),
        ("forwarded-stateless", 3 * 83),
        ("port0-in", 2 * 99),
        ("port0-out", 99),
        ("port1-in", 99),
        ("port1-out", 2 * 99),
        ("service1-original", 2 * 99),
        ("service1-reply", 99),
        ("service1-flows", 16),
    ]);
}

#[test]
fn a_datagram_gets_its_flow_when_the_limit_allows_and_the_same_backend() {
    let mut gateway = stateless().gateway();
    exhaust(&mut gateway);
    let (node, inner) = to_pod(&mut gateway, &Packet::dns(7, b"query"));
    assert_eq!(gateway.worker.flows().v4.len(), 1);
    gateway.advance(Span::from_secs(1));
    assert_eq!(to_pod(&mut gateway, &Packet::dns(7, b"query")), (node, inner.clone()));
    assert_eq!((gateway.worker.flows().v4.len(), gateway.counters.forwarded_stateless.get()), (2, 1));
    to_client(&mut gateway, node, &inner.answer(0, b"answer"));
    assert_eq!(gateway.counters.forwarded_stateless.get(), 1);
}

#[test]
fn a_late_repeated_syn_does_not_stop_a_connection_that_is_forwarded_statelessly() {
    let mut gateway = stateless().gateway();
    exhaust(&mut gateway);
    let request = Packet::web(7, SYN, b"");
    let (node, inner) = to_pod(&mut gateway, &request);
    to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(&mut gateway, &with_flags(&request, ACK));
    // Now a flow is allowed, and the network delivers the SYN again.
    gateway.advance(Span::from_secs(1));
    assert_eq!(to_pod(&mut gateway, &request), (node, inner.clone()));
    assert_eq!(gateway.worker.flows().v4.len(), 2);
    to_client(&mut gateway, node, &inner.answer(ACK, b"challenged"));
    for flags in [ACK, FIN | ACK] {
        assert_eq!(to_pod(&mut gateway, &with_flags(&request, flags)).0, node);
        to_client(&mut gateway, node, &inner.answer(flags, b"data"));
    }
    assert_eq!(gateway.worker.flows().v4.half_open(), 2, "the flow's state did not change");
    // A segment with invalid flags belongs to no connection.
    assert_eq!(reason(&from_client(&mut gateway, &with_flags(&request, SYN | FIN))), DropReason::TcpFlags);
    // Without stateless forwarding, a segment that does not fit is dropped as before.
    let mut world = stateless();
    world.admission = Admission::default();
    let mut gateway = world.gateway();
    to_pod(&mut gateway, &request);
    assert_eq!(reason(&from_client(&mut gateway, &with_flags(&request, ACK))), DropReason::OutOfState);
}

/// Asserts that this world drops the request past the limit.
fn assert_not_stateless(world: &World, request: &Packet) {
    let mut gateway = world.gateway();
    exhaust(&mut gateway);
    assert_eq!(reason(&from_client(&mut gateway, request)), DropReason::NewFlowLimit);
    if matches!(request.body, Body::Tcp(..)) {
        assert_eq!(reason(&from_client(&mut gateway, &with_flags(request, ACK))), DropReason::NotSyn);
    }
    assert_eq!(gateway.counters.forwarded_stateless.get(), 0);
}

#[test]
fn what_stateless_forwarding_could_not_reverse_is_dropped_by_name() {
    let request = Packet::web(7, SYN, b"");
    let mut gateway = stateless().gateway();
    exhaust(&mut gateway);
    to_pod(&mut gateway, &request);

    // Stateless forwarding is off.
    let mut world = stateless();
    world.admission.past_limit = PastLimit::Drop;
    assert_not_stateless(&world, &request);
    // The service does not preserve the source.
    let world = World { admission: ONE, ..World::new().preserving(DNS) };
    assert_not_stateless(&world, &request);
    // The reply could be from either frontend.
    let mut world = stateless();
    world.frontends[0].2.push(Endpoint { address: [203, 0, 113, 10].into(), port: 80 });
    assert_not_stateless(&world, &request);
    // The backend belongs to two services.
    let mut world = stateless().preserving(9);
    world.frontends.push((9, Protocol::TCP, vec![Endpoint { address: [203, 0, 113, 10].into(), port: 80 }]));
    world.backends.push(world.backends[0].clone());
    assert_not_stateless(&world, &request);
    assert_not_stateless(&world, &Packet { destination: ([203, 0, 113, 10], 80).into(), ..request.clone() });
    // A service of the same port but another protocol does not matter.
    world.frontends.last_mut().expect("the one above").1 = Protocol::UDP;
    let mut gateway = world.gateway();
    exhaust(&mut gateway);
    to_pod(&mut gateway, &request);
    // Nor does a backend that its service has twice.
    let mut world = stateless();
    world.backends[0].extend_from_within(..);
    let mut gateway = world.gateway();
    exhaust(&mut gateway);
    to_pod(&mut gateway, &request);
}

#[test]
fn a_pods_own_connection_and_a_reply_of_another_flow_are_no_stateless_replies() {
    let mut gateway = stateless().gateway();
    let request = Packet::web(7, SYN, b"");
    let (_, inner) = to_pod(&mut gateway, &request);
    let pods: Vec<(usize, SocketAddr)> = [0, 1]
        .into_iter()
        .flat_map(|node| [10, 11].map(|number| (node, SocketAddr::from((world::pod(node, number), 80)))))
        .collect();
    for (node, pod) in pods {
        let answer = Packet { source: pod, ..inner.answer(ACK, b"") };
        let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
        // The client has a flow, to another backend.
        if pod != inner.destination {
            assert_eq!(reason(&out), DropReason::NoFlow, "{pod}");
        }
        let to_other = Packet { destination: (world::CLIENT, 99).into(), ..answer };
        let opens = with_flags(&to_other, SYN);
        assert_eq!(reason(&gateway.send(UNDERLAY, &from_pod(node, &opens.bytes()))), DropReason::NoFlow);
        let back = to_client(&mut gateway, node, &to_other);
        assert_eq!(back.source, request.destination);
        let elsewhere = Packet { source: SocketAddr::new(pod.ip(), 8080), ..to_other };
        assert_eq!(reason(&gateway.send(UNDERLAY, &from_pod(node, &elsewhere.bytes()))), DropReason::NoFlow);
    }
}

#[test]
fn a_pods_request_to_a_service_is_not_forwarded_statelessly() {
    let mut gateway = stateless().gateway();
    exhaust(&mut gateway);
    let request = Packet { source: (world::pod(0, 9), 7).into(), ..Packet::web(7, SYN, b"") };
    let out = gateway.send(UNDERLAY, &from_pod(0, &request.bytes()));
    assert_eq!(reason(&out), DropReason::NewFlowLimit);
    let out = gateway.send(UNDERLAY, &from_pod(0, &with_flags(&request, ACK).bytes()));
    assert_eq!(reason(&out), DropReason::NotSyn);
}

#[test]
fn invalid_flags_are_not_forwarded_statelessly_in_either_direction() {
    let mut gateway = stateless().gateway();
    exhaust(&mut gateway);
    let request = Packet::web(7, SYN, b"");
    let (node, inner) = to_pod(&mut gateway, &request);
    let illegal = [0, FIN, SYN | FIN, SYN | RST, SYN | FIN | ACK, SYN | RST | ACK, RST | FIN | ACK, 0x3f];
    for flags in illegal {
        assert_eq!(
            reason(&from_client(&mut gateway, &with_flags(&request, flags))),
            DropReason::TcpFlags,
            "{flags:#x}"
        );
        let answer = from_pod(node, &inner.answer(flags, b"data").bytes());
        assert_eq!(reason(&gateway.send(UNDERLAY, &answer)), DropReason::TcpFlags, "{flags:#x}");
    }
    assert_eq!(gateway.counters.forwarded_stateless.get(), 1);
}

#[test]
fn errors_about_stateless_packets_are_translated() {
    let mut gateway = stateless().gateway();
    exhaust(&mut gateway);
    for request in [Packet::dns(7, b"query"), Packet::web(7, SYN, b"")] {
        let (node, inner) = to_pod(&mut gateway, &request);
        let body = |about: &Packet| Body::Icmp(3, 3, [0; 4], about.bytes());
        let refused = Packet::new((inner.destination.ip(), 0).into(), (inner.source.ip(), 0).into(), body(&inner));
        let seen = to_client(&mut gateway, node, &refused);
        assert_eq!(seen.source.ip(), request.destination.ip());
        assert_eq!(seen.body, body(&Packet { ttl: inner.ttl, ..request.clone() }));

        let answer = inner.answer(SYN | ACK, b"answer");
        let back = to_client(&mut gateway, node, &answer);
        let router: IpAddr = [198, 51, 100, 1].into();
        let error = Packet::new((router, 0).into(), (back.source.ip(), 0).into(), body(&back));
        let (to, seen) = to_pod(&mut gateway, &error);
        assert_eq!((to, seen.destination.ip()), (node, inner.destination.ip()));
        assert_eq!(seen.body, body(&Packet { ttl: back.ttl, ..answer }));
    }
}

#[test]
fn only_the_owner_forwards_statelessly_and_the_others_hand_over() {
    let world = World { workers: 4, ..stateless() };
    let mut workers: Vec<Gateway> =
        (0..4).map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 64))).collect();
    for port in 1..200 {
        let frame = framed(FROM_CLIENT, &Packet::web(port, SYN, b"").bytes());
        let verdicts: Vec<Out> = workers.iter_mut().map(|worker| worker.send(UPLINK, &frame)).collect();
        let owner = verdicts.iter().position(|out| out.verdict == Verdict::Transmit(UNDERLAY)).expect("an owner");
        let handed = Verdict::Handover(WorkerId(owner as u8));
        assert!(verdicts.iter().enumerate().all(|(id, out)| id == owner || out.verdict == handed));
        let seen = tunnelled(&verdicts[owner].bytes);
        let node = usize::from(seen.link == to_node(1));
        let answer = from_pod(node, &Packet::read(&seen.inner).answer(SYN | ACK, b"").bytes());
        for (id, worker) in workers.iter_mut().enumerate() {
            let verdict = worker.send(UNDERLAY, &answer).verdict;
            assert_eq!(verdict, if id == owner { Verdict::Transmit(UPLINK) } else { handed });
        }
    }
    let stateless: u64 = workers.iter().map(|worker| worker.counters.forwarded_stateless.get()).sum();
    let created: u64 = workers.iter().map(|worker| worker.counters.flows_created.get()).sum();
    assert_eq!((created, stateless), (4, 2 * (199 - 4)));
}

/// RFC 1122 §3.2.1.3: a group address is no client. Without a flow only the packet itself names the client.
#[test]
fn rfc1122_s3_2_1_3_nothing_is_forwarded_statelessly_for_an_invalid_client() {
    let mut world = stateless();
    world.routes = vec![
        Route { prefix: "0.0.0.0/0".parse().unwrap(), target: RouteTarget::Link(UPLINK), mtu: None },
        Route { prefix: "::/0".parse().unwrap(), target: RouteTarget::Link(UPLINK), mtu: None },
    ];
    let clients: [IpAddr; 6] =
        ["224.0.0.1", "255.255.255.255", "127.0.0.1", "ff02::1", "::1", "203.0.113.9"].map(|it| it.parse().unwrap());
    world.neighbours.extend(clients.map(|address| Neighbour { port: UPLINK, address, mac: world::CLIENT_MAC }));
    let mut gateway = world.gateway();
    exhaust(&mut gateway);
    for client in clients {
        let pod: IpAddr = if client.is_ipv4() { world::pod(0, 10).into() } else { world::pod_v6(0, 10).into() };
        for (port, body) in [(80, Body::Tcp(ACK, b"data".to_vec())), (53, Body::Udp(b"data".to_vec()))] {
            let packet = Packet::new((pod, port).into(), (client, 7).into(), body);
            let egresses = gateway.send(UNDERLAY, &from_pod(0, &packet.bytes())).verdict == Verdict::Transmit(UPLINK);
            assert_eq!(egresses, client == clients[5], "{packet:?}");
        }
    }
    assert_eq!(gateway.counters.forwarded_stateless.get(), 2);
}
