//! Pods that reach the gateway's own services: RFC 4787 §6, RFC 5382 §7.2, RFC 5508 §5.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weirgate::net::{Endpoint, WorkerId};
use weirgate::pipeline::{Step, Worker};
use weirgate::snapshot::Encapsulation;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Packet, SYN, framed, from_node, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, DNS, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, Out, leak_aligned, worker_config};

/// Requests of the first node's first pod to a service.
fn requests(port: u16) -> [Packet; 3] {
    let as_pod = |packet: Packet| {
        let pod: IpAddr = if packet.source.is_ipv4() { world::pod(0, 10).into() } else { world::pod_v6(0, 10).into() };
        Packet { source: (pod, port).into(), ..packet }
    };
    [Packet::web(0, SYN, b""), Packet::web_v6(0, SYN, b""), Packet::dns(0, b"query")].map(as_pod)
}

/// How packets travel between pods and the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    Tunnel,
    Plain,
}

impl Route {
    fn frame(self, node: usize, packet: &Packet) -> Vec<u8> {
        match self {
            Self::Tunnel => from_pod(node, &packet.bytes()),
            Self::Plain => framed(from_node(node), &packet.bytes()),
        }
    }

    /// The node that a frame goes to, and the packet inside it.
    fn arrived(self, out: &Out) -> (usize, Packet) {
        assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
        let (link, ip) = match self {
            Self::Tunnel => {
                let seen = tunnelled(&out.bytes);
                (seen.link, seen.inner)
            }
            Self::Plain => unframed(&out.bytes),
        };
        ((0..2).find(|node| link == to_node(*node)).expect("one of the nodes"), Packet::read(&ip))
    }
}

fn is_pool(address: IpAddr) -> bool {
    World::new().pool.contains(&address)
}

fn node_of(pod: IpAddr) -> usize {
    usize::from(pod == IpAddr::from(world::pod(1, 10)) || pod == IpAddr::from(world::pod(1, 11)))
        | usize::from(pod == IpAddr::from(world::pod_v6(1, 10)) || pod == IpAddr::from(world::pod_v6(1, 11)))
}

fn dropped(out: &Out) -> DropReason {
    match out.verdict {
        Verdict::Drop(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

/// A request as its backend sees it.
fn asked(gateway: &mut Gateway, (from, to): (Route, Route), request: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from.frame(0, request));
    let (node, inner) = to.arrived(&out);
    assert_eq!(node, node_of(inner.destination.ip()));
    assert!(is_pool(inner.source.ip()), "the backend sees {}", inner.source);
    assert_eq!(inner, Packet { source: inner.source, destination: inner.destination, ..request.clone().after_a_hop() });
    inner
}

/// The backend's reply, as the pod sees it.
fn answered(gateway: &mut Gateway, (from, to): (Route, Route), request: &Packet, inner: &Packet, flags: u8) {
    let answer = inner.answer(flags, b"answer");
    let out = gateway.send(UNDERLAY, &to.frame(node_of(answer.source.ip()), &answer));
    let (node, back) = from.arrived(&out);
    assert_eq!(node, 0);
    let expected = Packet { source: request.destination, destination: request.source, ..answer.after_a_hop() };
    assert_eq!(back, expected, "the reply comes from the address that the pod asked");
}

#[test]
fn rfc4787_req9_hairpin_presents_the_external_source() {
    // A node of a VXLAN overlay whose route to the service bypasses the overlay. The reply has to come
    // the same path as the request left by (RFC 3704).
    let worlds = [
        (World::new(), (Route::Tunnel, Route::Tunnel)),
        (World::new(), (Route::Plain, Route::Tunnel)),
        (World::new().direct(), (Route::Plain, Route::Plain)),
    ];
    for (world, routes) in worlds {
        for preserve in [false, true] {
            let world = if preserve { world.clone().preserving(WEB).preserving(DNS) } else { world.clone() };
            for request in requests(40_000) {
                let mut gateway = world.gateway();
                let inner = asked(&mut gateway, routes, &request);
                answered(&mut gateway, routes, &request, &inner, SYN | ACK);
                let next = Packet {
                    body: match &request.body {
                        Body::Tcp(..) => Body::Tcp(ACK, b"more".into()),
                        body => body.clone(),
                    },
                    ..request.clone()
                };
                let again = asked(&mut gateway, routes, &next);
                assert_eq!((again.source, again.destination), (inner.source, inner.destination));
                answered(&mut gateway, routes, &request, &inner, ACK);
                let service = if matches!(request.body, Body::Udp(_)) { DNS } else { WEB };
                let of_service = |what: &str| format!("service{service}-{what}");
                gateway.assert_counted(&[
                    ("flows-created", 1),
                    ("port1-in", 4),
                    ("port1-out", 4),
                    (&of_service("flows"), 1),
                    (&of_service("original"), 2),
                    (&of_service("reply"), 2),
                ]);
            }
        }
    }
}

#[test]
fn a_pod_behind_a_tunnel_and_a_backend_behind_a_plain_route_converse() {
    let mut world = World::new();
    for peer in world.peers.iter_mut().filter(|peer| peer.next_hop.is_some_and(|hop| hop.mac == world::NODE_MACS[1])) {
        peer.encapsulation = Encapsulation::Direct;
    }
    let routes = (Route::Tunnel, Route::Plain);
    for request in (40_000..40_010).flat_map(requests) {
        let mut gateway = world.gateway();
        let out = gateway.send(UNDERLAY, &from_pod(0, &request.bytes()));
        if unframed(&out.bytes).0 == to_node(0) {
            continue;
        }
        let (_, inner) = Route::Plain.arrived(&out);
        answered(&mut gateway, routes, &request, &inner, SYN | ACK);
        let data = Packet { body: inner.answer(ACK, b"data").body, ..request.clone() };
        for _ in 0..3 {
            asked(&mut gateway, routes, &data);
            answered(&mut gateway, routes, &request, &inner, ACK);
        }
    }
}

#[test]
fn rfc6040_s4_1_a_hairpin_copies_the_decapsulated_congestion_mark_to_its_outer_header() {
    for request in requests(40_000) {
        for ecn in [1, 2, 3] {
            let mut gateway = World::new().gateway();
            let request = Packet { tos: 0xb8 | ecn, ..request.clone() };
            let mut frame = from_pod(0, &request.bytes());
            let congested = Packet { tos: 3, ..Packet::read(&frame[14..]) };
            let header = congested.bytes();
            let len = if request.source.is_ipv4() { 20 } else { 40 };
            frame[14..14 + len].copy_from_slice(&header[..len]);
            let out = gateway.send(UNDERLAY, &frame);
            assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY), "{request:?}");
            let seen = tunnelled(&out.bytes);
            assert_eq!((Packet::read(&seen.inner).tos, seen.outer.tos), (0xb8 | 3, 3), "{request:?}");
        }
    }
}

#[test]
fn rfc5382_req8_a_pod_that_is_its_own_backend_is_answered_through_the_gateway() {
    let mut gateway = World::new().gateway();
    let mut given = BTreeSet::new();
    for port in 1..100 {
        for request in requests(port) {
            let routes = (Route::Tunnel, Route::Tunnel);
            let inner = asked(&mut gateway, routes, &request);
            given.insert((inner.destination, inner.destination.ip() == request.source.ip()));
            answered(&mut gateway, routes, &request, &inner, SYN | ACK);
        }
    }
    // Four backends for each request, and one of them is the pod itself.
    assert_eq!(given.len(), 12);
    assert_eq!(given.iter().filter(|(_, is_itself)| *is_itself).count(), 3);
}

#[test]
fn rfc5508_req7_errors_between_a_pod_and_its_backend_are_about_their_own_packets() {
    for preserve in [false, true] {
        let world = if preserve { World::new().preserving(WEB).preserving(DNS) } else { World::new() };
        for routes in [(Route::Tunnel, Route::Tunnel), (Route::Plain, Route::Tunnel)] {
            for request in requests(40_000) {
                let mut gateway = world.gateway();
                let inner = asked(&mut gateway, routes, &request);
                answered(&mut gateway, routes, &request, &inner, SYN | ACK);
                let v4 = request.source.is_ipv4();
                let (kind, code) = if v4 { (3, 1) } else { (1, 0) };
                let error_body = |about: &Packet| Body::Icmp(kind, code, [0; 4], about.bytes());
                // From a router of the backend's node, about the request.
                let router: IpAddr = if v4 { [10, 77, 4, 1].into() } else { "fd77:0:0:4::1".parse().unwrap() };
                let error = Packet::new((router, 0).into(), (inner.source.ip(), 0).into(), error_body(&inner));
                let out = gateway.send(UNDERLAY, &routes.1.frame(1, &error));
                let (node, seen) = routes.0.arrived(&out);
                assert_eq!(node, 0);
                let at = |address: SocketAddr| SocketAddr::from((address.ip(), 0));
                assert_eq!((seen.source, seen.destination), (at(request.destination), at(request.source)));
                assert_eq!(seen.body, error_body(&request.clone().after_a_hop()));
                // From a router of the pod's node, about the reply.
                let answer = inner.answer(ACK, b"too late");
                let out = gateway.send(UNDERLAY, &routes.1.frame(node_of(answer.source.ip()), &answer));
                let (_, back) = routes.0.arrived(&out);
                let router: IpAddr = if v4 { [10, 77, 74, 1].into() } else { "fd77:0:0:74::1".parse().unwrap() };
                let error = Packet::new((router, 0).into(), at(back.source), error_body(&back));
                let out = gateway.send(UNDERLAY, &routes.0.frame(0, &error));
                let (node, seen) = routes.1.arrived(&out);
                assert_eq!(node, node_of(inner.destination.ip()));
                assert_eq!((seen.source, seen.destination), (at(inner.source), at(inner.destination)));
                assert_eq!(seen.body, error_body(&answer.after_a_hop()));
                // Nobody at the uplink has seen either packet.
                let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &error.bytes()));
                assert_eq!(dropped(&out), DropReason::IcmpUnmatched);
            }
        }
    }
}

#[test]
fn any_worker_names_the_owner_of_a_hairpin_of_its_answers_and_of_errors_about_them() {
    for (world, routes) in [
        (World::new(), (Route::Tunnel, Route::Tunnel)),
        (World::new().preserving(WEB).preserving(DNS), (Route::Tunnel, Route::Tunnel)),
        (World::new(), (Route::Plain, Route::Tunnel)),
    ] {
        let world = World { workers: 4, ..world };
        let mut workers: Vec<Gateway> = (0..4)
            .map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 256)))
            .collect();
        let mut owners = BTreeSet::new();
        // At port 80 the pod itself is a backend that answers clients by their own address.
        for port in (40_000..40_010).chain([80]) {
            for request in requests(port) {
                let mut all = |frame: &[u8]| -> (usize, Out) {
                    let outs: Vec<Out> = workers.iter_mut().map(|worker| worker.send(UNDERLAY, frame)).collect();
                    let owner = outs.iter().position(|out| matches!(out.verdict, Verdict::Transmit(_)));
                    let owner = owner.unwrap_or_else(|| panic!("nobody's: {outs:?}"));
                    let handed = Out { verdict: Verdict::Handover(WorkerId(owner as u8)), bytes: frame.to_vec() };
                    assert!(outs.iter().enumerate().all(|(id, out)| id == owner || *out == handed), "{outs:?}");
                    (owner, outs[owner].clone())
                };
                let (owner, out) = all(&routes.0.frame(0, &request));
                let (_, inner) = routes.1.arrived(&out);
                let answer = inner.answer(SYN | ACK, b"");
                let (answers_owner, out) = all(&routes.1.frame(node_of(answer.source.ip()), &answer));
                let (_, back) = routes.0.arrived(&out);
                let (kind, code) = if request.source.is_ipv4() { (3, 1) } else { (1, 0) };
                let error = |about: &Packet| {
                    let body = Body::Icmp(kind, code, [0; 4], about.bytes());
                    Packet::new((about.destination.ip(), 0).into(), (about.source.ip(), 0).into(), body)
                };
                let (inside, _) = all(&routes.1.frame(1, &error(&inner)));
                let (outside, _) = all(&routes.0.frame(0, &error(&back)));
                assert_eq!([answers_owner, inside, outside], [owner; 3]);
                owners.insert(owner);
            }
        }
        assert_eq!(owners.len(), 4, "every worker owns some");
    }
}

#[test]
fn a_spoofed_pod_address_reaches_no_service() {
    for request in requests(40_000) {
        let mut gateway = World::new().gateway();
        // From the uplink, with and without such a flow.
        let forged = framed(FROM_CLIENT, &request.bytes());
        assert_eq!(dropped(&gateway.send(UPLINK, &forged)), DropReason::SpoofedSource);
        let inner = asked(&mut gateway, (Route::Tunnel, Route::Tunnel), &request);
        assert_eq!(dropped(&gateway.send(UPLINK, &forged)), DropReason::SpoofedSource);
        // By another path than the pod's own, and a reply that does not come from the overlay.
        assert_eq!(dropped(&gateway.send(UNDERLAY, &Route::Plain.frame(0, &request))), DropReason::SpoofedSource);
        let answer = framed(FROM_CLIENT, &inner.answer(SYN | ACK, b"").bytes());
        assert_eq!(dropped(&gateway.send(UPLINK, &answer)), DropReason::SpoofedSource);
        // From the overlay, with an address that is not in it.
        let outsider: IpAddr = if request.source.is_ipv4() { world::CLIENT.into() } else { world::CLIENT_V6.into() };
        let forged = Packet { source: (outsider, 7).into(), ..request.clone() };
        assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(0, &forged.bytes()))), DropReason::SpoofedSource);
        answered(&mut gateway, (Route::Tunnel, Route::Tunnel), &request, &inner, SYN | ACK);
        // The other way about, once the flow remembers its next hops.
        let mut gateway = World::new().gateway();
        let routes = (Route::Plain, Route::Tunnel);
        let inner = asked(&mut gateway, routes, &request);
        answered(&mut gateway, routes, &request, &inner, SYN | ACK);
        let data = Packet { body: inner.answer(ACK, b"data").body, ..request.clone() };
        for _ in 0..2 {
            asked(&mut gateway, routes, &data);
            answered(&mut gateway, routes, &request, &inner, ACK);
            assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(0, &data.bytes()))), DropReason::SpoofedSource);
        }
    }
}

#[test]
fn a_pod_gets_the_same_errors_as_a_client_from_the_same_address() {
    let mut gateway = World::new().gateway();
    let [request, ..] = requests(40_000);
    let mut error = |packet: &Packet| {
        let out = gateway.send(UNDERLAY, &from_pod(0, &packet.bytes()));
        let (node, error) = Route::Tunnel.arrived(&out);
        assert_eq!((node, error.destination.ip()), (0, packet.source.ip()));
        let Body::Icmp(kind, code, _, quoted) = error.body else { panic!("no error: {error:?}") };
        assert_eq!(quoted, packet.bytes());
        (error.source.ip(), kind, code)
    };
    // No backend: the same error as from a host with a closed port.
    let refused = Packet { destination: (world::NODE_PORT_ADDRESS, 30_099).into(), ..request.clone() };
    assert_eq!(error(&refused), (world::NODE_PORT_ADDRESS.into(), 3, 3));
    assert_eq!(error(&Packet { ttl: 1, ..request }), (world::NODE_PORT_ADDRESS.into(), 11, 0));
}

#[test]
fn a_hairpin_survives_a_change_of_snapshot_and_of_process() {
    let world = World::new();
    let routes = (Route::Tunnel, Route::Tunnel);
    for request in requests(40_000) {
        let (config, memory) = world.describe(|description| {
            let config = worker_config(description, WorkerId(0), 64);
            (config, leak_aligned(Worker::memory_bytes(&config)))
        });
        // The second process takes the memory over once the first has ended.
        let (start, len) = (memory.as_mut_ptr(), memory.len());
        let mut first = world.describe(|description| Gateway::with_memory(description, &config, memory));
        let inner = asked(&mut first, routes, &request);
        // Service indices change; the service is removed and added again.
        let mut renumbered = world.clone();
        renumbered.generation = 2;
        renumbered.frontends.iter_mut().for_each(|(id, ..)| *id += 10);
        first.apply(&renumbered);
        assert_eq!(asked(&mut first, routes, &request).source, inner.source);
        let number = if matches!(request.body, Body::Udp(_)) { DNS + 10 } else { WEB + 10 };
        assert_eq!(first.services[number as usize].original.packets.get(), 1);
        // SAFETY: nothing uses the first gateway after this, so this is the only live reference.
        let memory = unsafe { std::slice::from_raw_parts_mut(start, len) };
        let (mut second, adopted) = world.describe(|description| Gateway::adopt(description, &config, memory));
        assert_eq!((adopted.flows, adopted.damaged), (1, 0));
        answered(&mut second, routes, &request, &inner, SYN | ACK);
        assert_eq!(asked(&mut second, routes, &request).source, inner.source);
        assert_eq!(second.services[number as usize - 10].original.packets.get(), 1);
    }
}

#[test]
fn the_tracer_reports_that_the_client_is_inside() {
    let mut gateway = World::new().preserving(WEB).gateway();
    let [request, ..] = requests(40_000);
    let seen = gateway.steps(UNDERLAY, &from_pod(0, &request.bytes()));
    let [Step::Service(WEB), Step::Hairpin, Step::Selected(_), Step::Bound(Endpoint { address, .. }), ..] = seen[..]
    else {
        panic!("{seen:?}");
    };
    assert!(is_pool(address));
    let seen = gateway.steps(UPLINK, &framed(FROM_CLIENT, &Packet::web(7, SYN, b"").bytes()));
    assert!(!seen.contains(&Step::Hairpin), "{seen:?}");
}
