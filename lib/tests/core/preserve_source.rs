//! Services that preserve the source: the destination is translated, and backends see the client's address.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weirgate::net::WorkerId;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Packet, SYN, TO_CLIENT, framed, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, DNS, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, Out};

fn preserving() -> World {
    World::new().preserving(WEB).preserving(DNS)
}

fn from_client(gateway: &mut Gateway, packet: &Packet) -> Out {
    gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()))
}

fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let out = from_client(gateway, packet);
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
    let seen = tunnelled(&out.bytes);
    let node = (0..2).find(|node| seen.link == to_node(*node)).expect("one of the nodes");
    (node, Packet::read(&seen.inner))
}

fn to_client(gateway: &mut Gateway, node: usize, packet: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from_pod(node, &packet.bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
    let (link, ip) = unframed(&out.bytes);
    assert_eq!(link, TO_CLIENT);
    Packet::read(&ip)
}

/// The same request to another frontend of the service.
fn at(packet: &Packet, address: [u8; 4], port: u16) -> Packet {
    Packet { destination: (address, port).into(), ..packet.clone() }
}

fn with_second_frontend(mut world: World) -> World {
    world.frontends[0].2.push(weirgate::net::Endpoint { address: [203, 0, 113, 10].into(), port: 80 });
    world
}

#[test]
fn a_pod_sees_the_client_and_its_answer_comes_from_the_service() {
    for request in [Packet::web(40_000, SYN, b""), Packet::web_v6(40_000, SYN, b""), Packet::dns(40_000, b"query")] {
        let mut gateway = preserving().gateway();
        let (node, inner) = to_pod(&mut gateway, &request);
        assert_eq!(inner, Packet { destination: inner.destination, ..request.clone().after_a_hop() });
        assert_ne!(inner.destination, request.destination);
        let answer = inner.answer(SYN | ACK, b"answer");
        let back = to_client(&mut gateway, node, &answer);
        assert_eq!(back, Packet { source: request.destination, ..answer.after_a_hop() });
        // The rest of the conversation takes the same path.
        let (again, second) = to_pod(&mut gateway, &Packet { ttl: 9, ..request.clone() });
        assert_eq!((again, second.destination), (node, inner.destination));
        assert_eq!(gateway.counters.flows_created.get(), 1);
    }
}

#[test]
fn a_reply_without_a_flow_is_dropped() {
    let mut gateway = preserving().gateway();
    let stray =
        Packet::new((world::pod(0, 10), 80).into(), (world::CLIENT, 40_000).into(), Body::Tcp(SYN | ACK, vec![]));
    let out = gateway.send(UNDERLAY, &from_pod(0, &stray.bytes()));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::NoFlow));
}

#[test]
fn any_worker_names_the_owner_of_either_direction() {
    let world = World { workers: 4, ..preserving() };
    let mut workers: Vec<Gateway> =
        (0..4).map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 256))).collect();
    let mut owners = BTreeSet::new();
    for port in 1..40 {
        for request in [Packet::web(port, SYN, b""), Packet::web_v6(port, SYN, b"")] {
            let frame = framed(FROM_CLIENT, &request.bytes());
            let verdicts: Vec<Out> = workers.iter_mut().map(|worker| worker.send(UPLINK, &frame)).collect();
            let owner = verdicts.iter().position(|out| out.verdict == Verdict::Transmit(UNDERLAY)).expect("an owner");
            let handed = Out { verdict: Verdict::Handover(WorkerId(owner as u8)), bytes: frame };
            assert!(verdicts.iter().enumerate().all(|(id, out)| id == owner || *out == handed));
            owners.insert(owner);

            let seen = tunnelled(&verdicts[owner].bytes);
            let node = usize::from(seen.link == to_node(1));
            let inner = Packet::read(&seen.inner);
            let answer = from_pod(node, &inner.answer(SYN | ACK, b"").bytes());
            // An error from a router among the nodes, and one from a router among the clients.
            let quote = |packet: &Packet| packet.bytes();
            let v4 = request.source.is_ipv4();
            let (kind, code) = if v4 { (3, 1) } else { (1, 0) };
            let told = |to: SocketAddr, about: &Packet| {
                let from: IpAddr = if v4 { [10, 77, 74, 1].into() } else { "fd77:0:0:74::1".parse().unwrap() };
                Packet::new((from, 0).into(), (to.ip(), 0).into(), Body::Icmp(kind, code, [0; 4], quote(about)))
            };
            let inside = from_pod(node, &told(inner.source, &inner).bytes());
            let back = Packet { source: request.destination, destination: request.source, ..request.clone() };
            let outside = framed(FROM_CLIENT, &told(request.destination, &back).bytes());
            for (port, frame, way) in
                [(UNDERLAY, &answer, UPLINK), (UNDERLAY, &inside, UPLINK), (UPLINK, &outside, UNDERLAY)]
            {
                for (id, worker) in workers.iter_mut().enumerate() {
                    let out = worker.send(port, frame);
                    if id == owner {
                        assert_eq!(out.verdict, Verdict::Transmit(way));
                    } else {
                        let handed = Out { verdict: Verdict::Handover(WorkerId(owner as u8)), bytes: frame.clone() };
                        assert_eq!(out, handed);
                    }
                }
            }
        }
    }
    assert_eq!(owners.len(), 4, "every worker owns some");
}

#[test]
fn an_error_about_a_request_reaches_the_client_with_its_own_packet() {
    let mut gateway = preserving().gateway();
    let request = Packet::dns(7, b"query");
    let (node, inner) = to_pod(&mut gateway, &request);
    let body = |about: &Packet| Body::Icmp(3, 3, [0; 4], about.bytes());
    let refused = Packet::new((inner.destination.ip(), 0).into(), (inner.source.ip(), 0).into(), body(&inner));
    let seen = to_client(&mut gateway, node, &refused);
    let own = Packet { ttl: inner.ttl, ..request.clone() };
    assert_eq!(seen.source.ip(), request.destination.ip());
    assert_eq!(seen.body, body(&own));
}

#[test]
fn one_client_port_for_two_frontends_goes_to_two_backends() {
    let mut gateway = with_second_frontend(preserving()).gateway();
    for port in 1..100 {
        let one = Packet::web(port, SYN, b"");
        let other = at(&one, [203, 0, 113, 10], 80);
        let (node, first) = to_pod(&mut gateway, &one);
        let (other_node, second) = to_pod(&mut gateway, &other);
        assert_ne!(first.destination, second.destination, "the two replies would be the same");
        for (node, inner, request) in [(node, first, one), (other_node, second, other)] {
            let back = to_client(&mut gateway, node, &inner.answer(SYN | ACK, b""));
            assert_eq!((back.source, back.destination), (request.destination, request.source));
        }
    }
}

#[test]
fn a_client_port_in_use_towards_every_backend_is_dropped_by_name_until_a_flow_ends() {
    let mut world = with_second_frontend(preserving());
    world.backends[0].truncate(1);
    let mut gateway = world.gateway();
    let one = Packet::web(7, SYN, b"");
    let other = at(&one, [203, 0, 113, 10], 80);
    to_pod(&mut gateway, &one);
    assert_eq!(from_client(&mut gateway, &other).verdict, Verdict::Drop(DropReason::ReplyTaken));
    assert_eq!(gateway.counters.drops(DropReason::ReplyTaken), 1);
    // The first flow is unchanged.
    to_pod(&mut gateway, &one);
    gateway.advance(Span::from_secs(1000));
    to_pod(&mut gateway, &other);
    assert_eq!(gateway.worker.flows().v4.len(), 1);
}

#[test]
fn a_client_with_a_pods_source_address_is_dropped() {
    let mut gateway = preserving().gateway();
    let forged = Packet { source: (world::pod(1, 10), 7).into(), ..Packet::web(7, SYN, b"") };
    assert_eq!(from_client(&mut gateway, &forged).verdict, Verdict::Drop(DropReason::SpoofedSource));
}
