//! Frame in, verdict, frame out, and the exact counters.

use std::net::{IpAddr, SocketAddr};

use weirgate::flow::State;
use weirgate::net::{Mac, PortId, Protocol, WorkerId};
use weirgate::snapshot::{Neighbour, Route, RouteTarget};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FIN, FROM_CLIENT, Link, Packet, RST, SYN, TO_CLIENT, Tunnelled, framed, from_node, from_pod, in_vxlan,
    to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, NODE_VTEPS, UNDERLAY, UPLINK, VTEP_V4, VTEP_V6, World};
use weirgate_fixture::{Gateway, Out};

fn transmitted(out: &Out, port: PortId) -> &[u8] {
    assert_eq!(out.verdict, Verdict::Transmit(port));
    &out.bytes
}

fn from_client(gateway: &mut Gateway, packet: &Packet) -> Out {
    gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()))
}

fn dropped(out: &Out) -> DropReason {
    match out.verdict {
        Verdict::Drop(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

/// The packet that a client's packet becomes behind the gateway, and the node it went to.
fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let out = from_client(gateway, packet);
    let Tunnelled { link, inner, .. } = tunnelled(transmitted(&out, UNDERLAY));
    let node = (0..2).find(|node| link == to_node(*node)).expect("one of the nodes");
    (node, Packet::read(&inner))
}

/// The packet that a pod's answer becomes before the gateway.
fn to_client(gateway: &mut Gateway, node: usize, answer: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
    let (link, ip) = unframed(transmitted(&out, UPLINK));
    assert_eq!(link, TO_CLIENT);
    Packet::read(&ip)
}

/// A connection both sides of which have spoken: its node, and the client's last packet there.
fn established(gateway: &mut Gateway, request: &Packet) -> (usize, Packet) {
    let (node, inner) = to_pod(gateway, request);
    to_client(gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(gateway, &Packet { body: Body::Tcp(ACK, vec![]), ..request.clone() })
}

fn is_pool(address: IpAddr) -> bool {
    World::new().pool.contains(&address)
}

#[test]
fn a_request_crosses_vxlan_to_a_pod_and_its_reply_comes_back() {
    for request in [Packet::web(40_000, SYN, b""), Packet::web_v6(40_000, SYN, b"")] {
        let mut gateway = World::new().gateway();
        let out = from_client(&mut gateway, &request);
        let seen = tunnelled(transmitted(&out, UNDERLAY));
        let v4 = request.source.is_ipv4();
        let node = (0..2).find(|node| seen.link == to_node(*node)).expect("one of the nodes");
        let (from, to, vtep): (IpAddr, IpAddr, Mac) = if v4 {
            (world::PUBLIC.into(), world::NODES[node].into(), VTEP_V4)
        } else {
            (world::PUBLIC_V6.into(), world::NODES_V6[node].into(), VTEP_V6)
        };
        assert_eq!((seen.outer.source.ip(), seen.outer.destination.ip()), (from, to));
        assert_eq!((seen.outer.ttl, seen.outer.tos, seen.outer.dont_fragment), (64, 0, !v4));
        assert!((32_768..61_000).contains(&seen.outer.source.port()), "{}", seen.outer.source);
        assert_eq!(seen.vxlan, [8, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(seen.inner_link, Link { destination: NODE_VTEPS[node], source: vtep, vlan: None });
        if v4 {
            assert_eq!(out.bytes[40..42], [0, 0], "the outer UDP checksum is zero over IPv4");
        }

        let inner = Packet::read(&seen.inner);
        assert!(is_pool(inner.source.ip()), "{}", inner.source);
        let pods =
            [10, 11].map(|pod| if v4 { IpAddr::from(world::pod(node, pod)) } else { world::pod_v6(node, pod).into() });
        assert!(pods.contains(&inner.destination.ip()) && inner.destination.port() == 80);
        let expected = Packet { source: inner.source, destination: inner.destination, ..request.clone().after_a_hop() };
        assert_eq!(inner, expected);

        let answer = inner.answer(SYN | ACK, b"");
        let back = to_client(&mut gateway, node, &answer);
        assert_eq!(back, Packet { source: request.destination, destination: request.source, ..answer.after_a_hop() });
        gateway.assert_counted(&[
            ("flows-created", 1),
            ("port0-in", 1),
            ("port1-out", 1),
            ("port1-in", 1),
            ("port0-out", 1),
            ("service1-flows", 1),
            ("service1-original", 1),
            ("service1-reply", 1),
        ]);
    }
}

#[test]
fn a_request_crosses_a_plain_route_and_its_reply_comes_back() {
    for request in [Packet::web(40_000, SYN, b""), Packet::web_v6(40_000, SYN, b"")] {
        let mut gateway = World::new().direct().gateway();
        let out = from_client(&mut gateway, &request);
        let (link, ip) = unframed(transmitted(&out, UNDERLAY));
        let node = (0..2).find(|node| link == to_node(*node)).expect("one of the nodes");
        let inner = Packet::read(&ip);
        assert!(is_pool(inner.source.ip()));
        let answer = inner.answer(SYN | ACK, b"");
        let out = gateway.send(UNDERLAY, &framed(from_node(node), &answer.bytes()));
        let (link, ip) = unframed(transmitted(&out, UPLINK));
        assert_eq!(link, TO_CLIENT);
        let expected = Packet { source: request.destination, destination: request.source, ..answer.after_a_hop() };
        assert_eq!(Packet::read(&ip), expected);
    }
}

#[test]
fn packets_of_either_family_cross_an_underlay_of_the_other() {
    let mut world = World::new();
    for peer in &mut world.peers {
        let node = usize::from(peer.next_hop.unwrap().mac == world::NODE_MACS[1]);
        peer.public = if peer.public.is_ipv4() { world::NODES_V6[node].into() } else { world::NODES[node].into() };
    }
    let mut gateway = world.gateway();
    for request in [Packet::web(1, SYN, b"x"), Packet::web_v6(1, SYN, b"x")] {
        let seen = tunnelled(transmitted(&from_client(&mut gateway, &request), UNDERLAY));
        assert_ne!(seen.outer.source.is_ipv4(), request.source.is_ipv4());
        assert_eq!(Packet::read(&seen.inner).body, request.body);
    }
}

#[test]
fn udp_of_every_length_is_carried_and_returned() {
    let mut gateway = World::new().gateway();
    for len in 0..=1400 {
        let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let request = Packet::dns(5000, &data);
        let (node, inner) = to_pod(&mut gateway, &request);
        assert_eq!(inner.body, request.body);
        let back = to_client(&mut gateway, node, &inner.answer(0, &data));
        assert_eq!((back.source, back.destination, back.body), (request.destination, request.source, request.body));
    }
    assert_eq!(gateway.worker.flows_v4().len(), 1);
}

#[test]
fn rfc768_no_udp_checksum_stays_none() {
    let mut gateway = World::new().gateway();
    let mut ip = Packet::dns(5000, b"query").bytes();
    ip[26..28].fill(0);
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &ip));
    let inner = tunnelled(transmitted(&out, UNDERLAY)).inner;
    assert_eq!(inner[26..28], [0, 0]);
}

#[test]
fn backends_get_their_share_and_a_flow_stays_with_its_own() {
    let mut gateway = World::new().gateway();
    let mut shares = std::collections::BTreeMap::<SocketAddr, u32>::new();
    for port in 1..=1000 {
        let (_, first) = established(&mut gateway, &Packet::web(port, SYN, b""));
        let (_, again) = to_pod(&mut gateway, &Packet::web(port, ACK, b"data"));
        assert_eq!((first.source, first.destination), (again.source, again.destination));
        *shares.entry(first.destination).or_default() += 1;
    }
    // Four equal backends: 250 each, with a deviation of about 14.
    assert!(shares.len() == 4 && shares.values().all(|share| share.abs_diff(250) < 5 * 14), "{shares:?}");
}

#[test]
fn the_same_client_is_given_to_the_same_backend_by_every_gateway() {
    let world = World::new();
    let mut one = world.gateway();
    let mut other = world.describe(|description| Gateway::with_worker(description, WorkerId(0), 64));
    for port in 1..50 {
        let a = to_pod(&mut one, &Packet::web(port, SYN, b"")).1.destination;
        assert_eq!(a, to_pod(&mut other, &Packet::web(port, SYN, b"")).1.destination);
    }
}

#[test]
fn what_is_no_service_goes_to_the_host_untouched() {
    let mut gateway = World::new().gateway();
    let mut ssh = Packet::web(40_000, SYN, b"");
    ssh.destination.set_port(22);
    let ping = Packet::ping(world::CLIENT.into(), world::NODE_PORT_ADDRESS.into(), b"");
    let frame = framed(FROM_CLIENT, &ssh.bytes());
    assert_eq!(gateway.send(UPLINK, &frame), Out { verdict: Verdict::Host, bytes: frame });
    assert_eq!(dropped(&from_client(&mut gateway, &ping)), DropReason::IcmpUnmatched);
    let arp = [&world::UPLINK_MAC.0[..], &world::CLIENT_MAC.0, &[8, 6], &[0; 28]].concat();
    assert_eq!(gateway.send(UPLINK, &arp).verdict, Verdict::Host);
    gateway.assert_counted(&[("host", 2), ("drop-icmp-unmatched", 1), ("port0-in", 3)]);
}

#[test]
fn only_a_bare_syn_begins_a_tcp_flow() {
    let mut gateway = World::new().gateway();
    for flags in [ACK, SYN | ACK, FIN | ACK, RST] {
        assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, flags, b""))), DropReason::NotSyn);
    }
    gateway.assert_counted(&[("drop-not-syn", 4), ("port0-in", 4)]);
}

#[test]
fn rfc9293_s3_6_1_a_syn_after_the_end_begins_a_new_flow() {
    let mut gateway = World::new().gateway();
    let (node, inner) = established(&mut gateway, &Packet::web(7, SYN, b""));
    // Ended by one side only, a connection may still carry the other's data: the SYN goes the old way,
    // and the pod challenges it (RFC 5961 §4).
    to_pod(&mut gateway, &Packet::web(7, FIN | ACK, b""));
    let (_, same) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    assert_eq!((same.source, same.destination), (inner.source, inner.destination));
    to_client(&mut gateway, node, &inner.answer(FIN | ACK, b""));
    to_pod(&mut gateway, &Packet::web(7, ACK, b""));
    let (node, again) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    assert_ne!(again.source, inner.source, "the old port may still be in the pod's TIME-WAIT");
    assert_eq!((gateway.worker.flows_v4().len(), gateway.counters.flows_created.get()), (1, 2));

    to_client(&mut gateway, node, &again.answer(SYN | ACK, b""));
    to_client(&mut gateway, node, &again.answer(RST, b""));
    to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    assert_eq!((gateway.worker.flows_v4().len(), gateway.counters.flows_created.get()), (1, 3));
}

#[test]
fn a_connection_refused_before_any_reply_is_forgotten_at_once() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let refused = to_client(&mut gateway, node, &inner.answer(RST | ACK, b""));
    assert_eq!(refused.body, Body::Tcp(RST | ACK, vec![]));
    assert_eq!(gateway.worker.flows_v4().len(), 0);
    to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    to_pod(&mut gateway, &Packet::web(7, RST, b""));
    assert_eq!(gateway.worker.flows_v4().len(), 0);
}

#[test]
fn what_a_flows_state_does_not_allow_is_dropped_by_name_and_changes_nothing() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    // Nothing but the SYN again, or a reset, before the pod has answered.
    for flags in [ACK, SYN | ACK, FIN | ACK] {
        assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, flags, b""))), DropReason::OutOfState);
    }
    // Flags that no segment has together.
    for flags in [0, FIN, SYN | FIN, SYN | RST, FIN | RST | ACK] {
        assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, flags, b""))), DropReason::TcpFlags);
        let answer = from_pod(node, &inner.answer(flags, b"").bytes());
        assert_eq!(dropped(&gateway.send(UNDERLAY, &answer)), DropReason::TcpFlags);
    }
    assert_eq!(gateway.counters.drops(DropReason::OutOfState), 3);
    assert_eq!(gateway.counters.drops(DropReason::TcpFlags), 10);
    let entry = *gateway.worker.flows_v4().iter().next().expect("the flow").0;
    assert_eq!((entry.state(), entry.is_assured()), (Some(State::TcpSynSent), false));
    established(&mut gateway, &Packet::web(7, SYN, b""));
    let entry = *gateway.worker.flows_v4().iter().next().expect("the flow").0;
    assert_eq!((entry.state(), entry.is_assured()), (Some(State::TcpEstablished), true));
}

#[test]
fn a_syn_sent_again_and_again_does_not_keep_its_flow() {
    let mut gateway = World::new().gateway();
    to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    for _ in 0..2 {
        gateway.advance(Span::from_secs(50));
        to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    }
    gateway.advance(Span::from_secs(21));
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now, 2000);
    assert_eq!((gateway.worker.flows_v4().len(), gateway.counters.flows_created.get()), (0, 1));
}

#[test]
fn an_idle_flow_is_forgotten_even_before_ageing_comes_by() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_secs(119));
    to_client(&mut gateway, node, &inner.answer(0, b""));
    gateway.advance(Span::from_secs(119));
    to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_secs(299));
    to_client(&mut gateway, node, &inner.answer(0, b""));
    gateway.advance(Span::from_secs(301));
    let out = gateway.send(UNDERLAY, &from_pod(node, &inner.answer(0, b"").bytes()));
    assert_eq!(dropped(&out), DropReason::NoFlow);
    assert_eq!(gateway.worker.flows_v4().len(), 0);

    to_pod(&mut gateway, &Packet::dns(7, b""));
    gateway.advance(Span::from_secs(121));
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now, 2000);
    assert_eq!((gateway.worker.flows_v4().len(), gateway.counters.flows_expired.get()), (0, 2));
}

#[test]
fn pings_to_the_gateways_overlay_addresses_are_answered() {
    let mut gateway = World::new().gateway();
    let pings: [(IpAddr, IpAddr); 4] = [
        (world::pod(0, 10).into(), [10, 77, 200, 2].into()),
        (world::pod(1, 0).into(), [10, 77, 200, 0].into()),
        (world::pod_v6(0, 0x10).into(), "fd77:0:0:200::2".parse().unwrap()),
        (world::pod_v6(1, 0).into(), "fd77:0:0:200::".parse().unwrap()),
    ];
    for (index, (from, to)) in pings.into_iter().enumerate() {
        let ping = Packet { ttl: 3, ..Packet::ping(from, to, b"hello") };
        let out = gateway.send(UNDERLAY, &from_pod(index % 2, &ping.bytes()));
        let seen = tunnelled(transmitted(&out, UNDERLAY));
        assert_eq!(seen.link, to_node(index % 2));
        assert_eq!(Packet::read(&seen.inner), ping.answer(0, b""));
    }
    gateway.assert_counted(&[("echoes-answered", 4), ("port1-in", 4), ("port1-out", 4)]);
}

#[test]
fn pings_from_a_nodes_own_address_are_answered_over_a_plain_route() {
    let mut gateway = World::new().direct().gateway();
    let pings: [(IpAddr, IpAddr); 2] = [
        (world::NODES[1].into(), [10, 77, 200, 2].into()),
        (world::NODES_V6[1].into(), "fd77:0:0:200::2".parse().unwrap()),
    ];
    for (from, to) in pings {
        let ping = Packet::ping(from, to, b"hello");
        let out = gateway.send(UNDERLAY, &framed(from_node(1), &ping.bytes()));
        let (link, ip) = unframed(transmitted(&out, UNDERLAY));
        assert_eq!(link, to_node(1));
        assert_eq!(Packet::read(&ip), ping.answer(0, b""));
    }
    gateway.assert_counted(&[("echoes-answered", 2), ("port1-in", 2), ("port1-out", 2)]);
}

#[test]
fn what_the_overlay_sends_without_a_flow_is_dropped_by_name() {
    let mut gateway = World::new().gateway();
    let stray = |to: &str, body: Body| {
        let from: SocketAddr = (world::pod(0, 10), 80).into();
        from_pod(0, &Packet::new(from, to.parse().unwrap(), body).bytes())
    };
    let cases = [
        (stray("10.77.200.2:5000", Body::Tcp(ACK, vec![])), DropReason::NoFlow),
        (stray("10.77.200.0:5000", Body::Udp(vec![])), DropReason::NoFlow),
        (stray("192.0.2.1:30081", Body::Tcp(SYN, vec![])), DropReason::NoFlow),
        (stray("198.51.100.1:53", Body::Udp(vec![])), DropReason::NoFlow),
        (stray("10.77.200.2:0", Body::Icmp(0, 0, [0; 4], vec![])), DropReason::IcmpUnmatched),
    ];
    for (frame, reason) in &cases {
        assert_eq!(dropped(&gateway.send(UNDERLAY, frame)), *reason);
    }
    gateway.assert_counted(&[("drop-no-flow", 4), ("drop-icmp-unmatched", 1), ("port1-in", 5)]);
}

#[test]
fn vxlan_that_is_not_for_the_gateway_is_dropped_by_name() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let good = from_pod(node, &inner.answer(SYN | ACK, b"").bytes());
    let spoiled = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        // The outer UDP checksum is not looked at over IPv4 (RFC 7348 §4.1 leaves it open).
        frame
    };
    const VXLAN: usize = 42;
    let cases = [
        (spoiled(VXLAN, 0), DropReason::VxlanFlags),
        (spoiled(VXLAN + 6, 9), DropReason::VxlanVni),
        (spoiled(VXLAN + 8 + 5, 0x77), DropReason::VxlanInnerAddress),
        (spoiled(VXLAN + 8, 0xff), DropReason::VxlanInnerAddress),
        (spoiled(VXLAN + 8 + 12, 0x12), DropReason::NotIp),
        (spoiled(0, 0x06), DropReason::NotForThisLink),
    ];
    for (frame, reason) in &cases {
        assert_eq!(dropped(&gateway.send(UNDERLAY, frame)), *reason);
    }
    // RFC 7348 §5: reserved bits are ignored on receipt.
    for at in [VXLAN, VXLAN + 1, VXLAN + 2, VXLAN + 3, VXLAN + 7] {
        let out = gateway.send(UNDERLAY, &spoiled(at, 0xff));
        transmitted(&out, UPLINK);
    }
}

#[test]
fn rfc8200_s8_1_vxlan_over_ipv6_needs_a_checksum() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web_v6(7, SYN, b""));
    let mut frame = from_pod(node, &inner.answer(SYN | ACK, b"").bytes());
    frame[60..62].fill(0);
    assert_eq!(dropped(&gateway.send(UNDERLAY, &frame)), DropReason::VxlanChecksum);
}

#[test]
fn rfc6040_congestion_marks_cross_the_tunnel_both_ways() {
    let mut gateway = World::new().gateway();
    for ecn in 0..4 {
        let request = Packet { tos: 0xb8 | ecn, ..Packet::web(7, SYN, b"") };
        let seen = tunnelled(transmitted(&from_client(&mut gateway, &request), UNDERLAY));
        assert_eq!((seen.outer.tos, Packet::read(&seen.inner).tos), (ecn, 0xb8 | ecn));
    }
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    // Figure 4: inner mark, outer mark, what comes out; 4 is a drop.
    for (inner_mark, outcomes) in [[0, 0, 0, 4], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]].iter().enumerate() {
        for (outer_mark, expected) in outcomes.iter().enumerate() {
            let answer = Packet { tos: inner_mark as u8, ..inner.answer(SYN | ACK, b"") };
            let mut frame = from_pod(node, &answer.bytes());
            let outer = Packet { tos: outer_mark as u8, ..Packet::read(&frame[14..]) };
            frame.splice(14.., outer.bytes());
            let out = gateway.send(UNDERLAY, &frame);
            match expected {
                4 => assert_eq!(dropped(&out), DropReason::EcnNotCapable),
                mark => assert_eq!(Packet::read(&unframed(transmitted(&out, UPLINK)).1).tos, *mark),
            }
        }
    }
}

#[test]
fn a_packet_too_big_for_the_overlay_is_answered_with_the_mtu_that_fits() {
    let mut gateway = World::new().gateway();
    let big = vec![0x55; 1460];
    established(&mut gateway, &Packet::web(7, SYN, b""));
    let request = Packet::web(7, ACK, &big);
    let out = from_client(&mut gateway, &request);
    let (link, ip) = unframed(transmitted(&out, UPLINK));
    let error = Packet::read(&ip);
    assert_eq!(link, TO_CLIENT);
    assert_eq!((error.source.ip(), error.destination.ip()), (request.destination.ip(), request.source.ip()));
    let Body::Icmp(3, 4, [0, 0, high, low], quote) = error.body else { panic!("{error:?}") };
    assert_eq!(u16::from_be_bytes([high, low]), 1450);
    assert_eq!((ip.len(), &quote[..]), (576, &request.bytes()[..548]));

    established(&mut gateway, &Packet::web_v6(7, SYN, b""));
    let request = Packet::web_v6(7, ACK, &big[..1440]);
    let out = from_client(&mut gateway, &request);
    let (_, ip) = unframed(transmitted(&out, UPLINK));
    let error = Packet::read(&ip);
    assert_eq!((error.source.ip(), error.destination.ip()), (request.destination.ip(), request.source.ip()));
    let Body::Icmp(2, 0, mtu, quote) = error.body else { panic!("{error:?}") };
    assert_eq!(u32::from_be_bytes(mtu), 1430);
    assert_eq!((ip.len(), &quote[..]), (1280, &request.bytes()[..1232]));

    // Exactly what fits goes through.
    to_pod(&mut gateway, &Packet::web(7, ACK, &big[..1410]));
    to_pod(&mut gateway, &Packet::web_v6(7, ACK, &big[..1370]));
}

#[test]
fn an_answer_too_big_for_the_clients_link_is_told_to_the_pod() {
    let mut world = World::new();
    world.ports[0].mtu = 1300;
    let mut gateway = world.gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let answer = inner.answer(ACK, &[1; 1350]);
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
    let seen = tunnelled(transmitted(&out, UNDERLAY));
    let error = Packet::read(&seen.inner);
    assert_eq!(
        (seen.link, error.source.ip(), error.destination.ip()),
        (to_node(node), answer.destination.ip(), answer.source.ip())
    );
    let Body::Icmp(3, 4, [0, 0, high, low], quote) = error.body else { panic!("{error:?}") };
    assert_eq!((u16::from_be_bytes([high, low]), &quote[..]), (1300, &answer.bytes()[..548]));
}

#[test]
fn a_configured_overlay_mtu_below_the_links_is_kept() {
    let mut gateway = World { overlay_mtu: Some(1400), ..World::new() }.gateway();
    established(&mut gateway, &Packet::web(7, SYN, &[0; 1360]));
    let out = from_client(&mut gateway, &Packet::web(7, ACK, &[0; 1361]));
    let Body::Icmp(3, 4, [0, 0, high, low], _) = Packet::read(&out.bytes[14..]).body else { panic!("{out:?}") };
    assert_eq!(u16::from_be_bytes([high, low]), 1400);
}

#[test]
fn rfc1812_s5_3_1_a_packet_whose_time_ran_out_is_told_of() {
    let mut gateway = World::new().gateway();
    for (request, kind) in [(Packet::web(7, SYN, b""), 11), (Packet::web_v6(7, SYN, b""), 3)] {
        let request = Packet { ttl: 1, ..request };
        let out = from_client(&mut gateway, &request);
        let error = Packet::read(&unframed(transmitted(&out, UPLINK)).1);
        assert_eq!(error.body, Body::Icmp(kind, 0, [0; 4], request.bytes()));
        assert_eq!((error.source.ip(), error.ttl), (request.destination.ip(), 64));
    }
}

#[test]
fn a_service_without_backends_is_refused_as_a_closed_port_is() {
    let mut gateway = World::new().gateway();
    for (mut request, kind, code) in [(Packet::web(7, SYN, b""), 3, 3), (Packet::web_v6(7, SYN, b""), 1, 4)] {
        request.destination.set_port(30_099);
        let out = from_client(&mut gateway, &request);
        let error = Packet::read(&unframed(transmitted(&out, UPLINK)).1);
        assert_eq!(error.body, Body::Icmp(kind, code, [0; 4], request.bytes()));
    }
    gateway.assert_counted(&[("errors-sent", 2), ("port0-in", 2), ("port0-out", 2)]);
}

#[test]
fn errors_of_the_gateways_own_are_rate_limited() {
    let mut gateway = World::new().gateway();
    let mut refused = Packet::web(7, SYN, b"");
    refused.destination.set_port(30_099);
    let mut limited = 0;
    for _ in 0..60 {
        limited +=
            u32::from(from_client(&mut gateway, &refused).verdict == Verdict::Drop(DropReason::ErrorRateLimited));
    }
    assert_eq!(limited, 10);
    gateway.advance(Span::from_millis(5));
    assert_eq!((0..60).filter(|_| from_client(&mut gateway, &refused).verdict == Verdict::Transmit(UPLINK)).count(), 5);
}

#[test]
fn sources_that_cannot_be_are_dropped() {
    let mut gateway = World::new().gateway();
    let with_source = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let packet = if address.is_ipv4() { Packet::web(7, SYN, b"") } else { Packet::web_v6(7, SYN, b"") };
        Packet { source: (address, 7).into(), ..packet }
    };
    for martian in
        ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1", "::", "::1", "ff02::1", "fe80::1"]
    {
        assert_eq!(dropped(&from_client(&mut gateway, &with_source(martian))), DropReason::MartianAddress, "{martian}");
    }
    for spoofed in ["10.77.200.2", "fd77:0:0:200::9"] {
        assert_eq!(dropped(&from_client(&mut gateway, &with_source(spoofed))), DropReason::SpoofedSource);
    }
    assert_eq!(gateway.worker.flows_v4().len() + gateway.worker.flows_v6().len(), 0);
}

#[test]
fn an_answer_that_does_not_come_over_the_overlay_is_not_believed() {
    let mut gateway = World::new().gateway();
    let (_, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let forged = framed(FROM_CLIENT, &inner.answer(SYN | ACK, b"").bytes());
    assert_eq!(dropped(&gateway.send(UPLINK, &forged)), DropReason::SpoofedSource);
    let unknown = Packet { source: ([198, 51, 100, 1], 80).into(), ..inner.answer(ACK, b"") };
    assert_eq!(dropped(&gateway.send(UPLINK, &framed(FROM_CLIENT, &unknown.bytes()))), DropReason::NoFlow);
}

#[test]
fn vxlan_from_a_link_without_peers_is_not_opened() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let forged = from_pod(node, &inner.answer(SYN | ACK, b"").bytes());
    let forged = framed(FROM_CLIENT, &unframed(&forged).1);
    assert_eq!(dropped(&gateway.send(UPLINK, &forged)), DropReason::VxlanLink);
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
    world.routes.push(Route { prefix: "0.0.0.0/0".parse().unwrap(), target: RouteTarget::Router(UPLINK, via) });
    world.neighbours.push(Neighbour { port: UPLINK, address: via, mac: router });
    let mut gateway = world.gateway();
    let far = Packet { source: ([203, 0, 113, 77], 7).into(), ..Packet::web(7, SYN, b"") };
    let (node, inner) = to_pod(&mut gateway, &far);
    let out = gateway.send(UNDERLAY, &from_pod(node, &inner.answer(SYN | ACK, b"").bytes()));
    assert_eq!(unframed(transmitted(&out, UPLINK)).0, Link { destination: router, ..TO_CLIENT });
}

#[test]
fn a_client_behind_a_longer_prefix_that_leads_nowhere_is_not_answered_by_the_shorter_one() {
    let router = Mac([2, 0, 0, 0, 1, 9]);
    let routers: [IpAddr; 2] = [[192, 0, 2, 254].into(), "2001:db8:1::fe".parse().unwrap()];
    let net = |text: &str| text.parse().unwrap();
    let mut world = World::new();
    world.routes = vec![
        Route { prefix: net("203.0.113.64/26"), target: RouteTarget::Nowhere },
        Route { prefix: net("0.0.0.0/0"), target: RouteTarget::Router(UPLINK, routers[0]) },
        Route { prefix: net("203.0.113.80/28"), target: RouteTarget::Router(UPLINK, routers[0]) },
        Route { prefix: net("::/0"), target: RouteTarget::Router(UPLINK, routers[1]) },
        Route { prefix: net("2001:db8:7::/48"), target: RouteTarget::Nowhere },
        // Of equal prefixes the last one counts, whatever they lead to.
        Route { prefix: net("198.51.100.0/24"), target: RouteTarget::Nowhere },
        Route { prefix: net("198.51.100.0/24"), target: RouteTarget::Router(UPLINK, routers[0]) },
        Route { prefix: net("198.18.0.0/24"), target: RouteTarget::Router(UPLINK, routers[0]) },
        Route { prefix: net("198.18.0.0/24"), target: RouteTarget::Nowhere },
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
    assert_eq!(gateway.worker.next_unresolved(), None, "nobody is asked for where it leads nowhere");
}

#[test]
fn a_flow_follows_its_node_to_another_snapshot_and_stops_when_the_node_is_gone() {
    let mut world = World::new();
    let mut gateway = world.gateway();
    let (node, before) = established(&mut gateway, &Packet::web(7, SYN, b""));
    world.peers.reverse();
    world.generation += 1;
    gateway.apply(&world);
    let (same, after) = to_pod(&mut gateway, &Packet::web(7, ACK, b""));
    assert_eq!((node, before.destination), (same, after.destination));

    let subnet = world.peers.iter().position(|peer| peer.subnet.contains(before.destination.ip())).unwrap();
    world.peers[subnet].next_hop = None;
    world.generation += 1;
    gateway.apply(&world);
    assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, ACK, b""))), DropReason::NeighbourUnresolved);
    world.peers.remove(subnet);
    world.generation += 1;
    gateway.apply(&world);
    assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(7, ACK, b""))), DropReason::NoRoute);
}

#[test]
fn a_full_flow_table_drops_the_new_flow_and_no_old_one() {
    let mut gateway = World::new().describe(|description| Gateway::with_worker(description, WorkerId(0), 16));
    for port in 1..=16 {
        established(&mut gateway, &Packet::web(port, SYN, b""));
    }
    assert_eq!(dropped(&from_client(&mut gateway, &Packet::web(17, SYN, b""))), DropReason::FlowTableFull);
    for port in 1..=16 {
        to_pod(&mut gateway, &Packet::web(port, ACK, b""));
    }
    assert_eq!(gateway.counters.drops(DropReason::FlowTableFull), 1);
}

#[test]
fn ports_serve_every_backend_once_and_then_are_exhausted() {
    let mut world = World::new();
    world.pool_ports = (2000, 2003);
    world.pool.truncate(1);
    let mut gateway = world.gateway();
    let mut replies = std::collections::HashSet::new();
    let mut exhausted = 0;
    for port in 1..=200 {
        let out = from_client(&mut gateway, &Packet::web(port, SYN, b""));
        if out.verdict == Verdict::Drop(DropReason::PortsExhausted) {
            exhausted += 1;
        } else {
            let inner = Packet::read(&tunnelled(transmitted(&out, UNDERLAY)).inner);
            assert!((2000..=2003).contains(&inner.source.port()));
            assert!(replies.insert((inner.source, inner.destination)), "two flows share {inner:?}");
        }
    }
    // Four ports for each of four pods; the last port of a pod is found by 128 tries in four.
    assert_eq!((replies.len(), exhausted), (16, 184));
}

#[test]
fn a_reply_that_reaches_another_worker_is_handed_to_its_owner_unchanged() {
    let world = World { workers: 4, ..World::new() };
    let mut workers: Vec<Gateway> =
        (0..4).map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 256))).collect();
    for owner in 0..4 {
        let (node, inner) = to_pod(&mut workers[owner], &Packet::web(100 + owner as u16, SYN, b""));
        let frame = from_pod(node, &inner.answer(SYN | ACK, b"").bytes());
        for (id, worker) in workers.iter_mut().enumerate() {
            let out = worker.send(UNDERLAY, &frame);
            if id == owner {
                transmitted(&out, UPLINK);
            } else {
                assert_eq!(out, Out { verdict: Verdict::Handover(WorkerId(owner as u8)), bytes: frame.clone() });
            }
        }
    }
    assert_eq!(workers[0].counters.handovers.get(), 3);
}

#[test]
fn a_burst_of_one_flows_first_packets_makes_one_flow() {
    let mut gateway = World::new().gateway();
    let syn = (UPLINK, framed(FROM_CLIENT, &Packet::web(7, SYN, b"").bytes()));
    let datagram = (UPLINK, framed(FROM_CLIENT, &Packet::dns(7, b"x").bytes()));
    let burst: Vec<_> = (0..100).map(|n| if n % 2 == 0 { syn.clone() } else { datagram.clone() }).collect();
    let out = gateway.send_burst(&burst);
    assert_eq!(out.len(), 100);
    assert!(out.iter().all(|out| out.verdict == Verdict::Transmit(UNDERLAY)));
    assert_eq!(gateway.worker.flows_v4().len(), 2);
}

#[test]
fn ethernet_padding_goes_no_further() {
    let mut gateway = World::new().gateway();
    let mut frame = framed(FROM_CLIENT, &Packet::dns(7, b"").bytes());
    frame.resize(60, 0xee);
    let out = gateway.send(UPLINK, &frame);
    assert_eq!(transmitted(&out, UNDERLAY).len(), 14 + 20 + 8 + 8 + 14 + 28);
    assert_eq!(tunnelled(&out.bytes).inner.len(), 28);
}

#[test]
fn headroom_that_is_too_short_is_a_named_drop() {
    use weirgate::frame::{Burst, Frame};
    let mut gateway = World::new().gateway();
    let bytes = framed(FROM_CLIENT, &Packet::web(7, SYN, b"").bytes());
    for headroom in 0..=50 {
        let mut buffer = vec![0; headroom + bytes.len()];
        buffer[headroom..].copy_from_slice(&bytes);
        let mut frames = [Frame::new(&mut buffer, headroom, bytes.len(), UPLINK).unwrap()];
        let (snapshot, now) = (gateway.snapshot(), gateway.now);
        weirgate::pipeline::process(&mut gateway.worker, &snapshot, now, &mut Burst::new(&mut frames, &mut []));
        let expected = if headroom < 50 { Verdict::Drop(DropReason::NoRoom) } else { Verdict::Transmit(UNDERLAY) };
        assert_eq!(frames[0].verdict(), Some(expected), "headroom {headroom}");
    }
}

#[test]
fn a_frame_from_a_port_that_is_not_described_is_dropped() {
    let mut gateway = World::new().gateway();
    let out = gateway.send(PortId(9), &framed(FROM_CLIENT, &Packet::web(7, SYN, b"").bytes()));
    assert_eq!(dropped(&out), DropReason::UnknownPort);
}

#[test]
fn other_protocols_have_a_name_to_be_dropped_by() {
    let mut gateway = World::new().gateway();
    let mut ip = Packet::dns(7, b"").bytes();
    ip[9] = Protocol::ICMPV6.0;
    ip[10..12].fill(0);
    let sum = etherparse::Ipv4Header::from_slice(&ip).unwrap().0.calc_header_checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(dropped(&gateway.send(UPLINK, &framed(FROM_CLIENT, &ip))), DropReason::UnknownProtocol);
}

#[test]
fn a_vxlan_datagram_inside_vxlan_is_not_opened_again() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let once = from_pod(node, &inner.answer(ACK, b"").bytes());
    let outer = ((world::NODES[0], 4000).into(), (world::PUBLIC, world::VXLAN_PORT).into());
    let inner_link = Link { destination: VTEP_V4, source: NODE_VTEPS[0], vlan: None };
    let twice = in_vxlan(from_node(0), outer, world::VNI, &framed(inner_link, &once[14..]));
    assert_eq!(dropped(&gateway.send(UNDERLAY, &twice)), DropReason::NoFlow);
}

/// An ICMP error about `about`, as sent by `reporter` to the packet's sender.
fn error_about(about: &Packet, reporter: IpAddr, kind: u8, code: u8, rest: [u8; 4], quoted: usize) -> Packet {
    let bytes = about.bytes();
    let quote = bytes[..quoted.min(bytes.len())].to_vec();
    Packet::new((reporter, 0).into(), (about.source.ip(), 0).into(), Body::Icmp(kind, code, rest, quote))
}

#[test]
fn rfc5508_req5_an_error_from_the_overlay_reaches_the_client_about_its_own_packet() {
    let routers: [IpAddr; 2] = [[10, 77, 74, 1].into(), "fd77:0:0:74::1".parse().unwrap()];
    for (request, router, kind, code, rest) in [
        (Packet::web(7, SYN, b""), routers[0], 3, 1, [0; 4]),
        (Packet::dns(7, b"query"), routers[0], 3, 4, [0, 0, 5, 0]),
        (Packet::web_v6(7, SYN, b""), routers[1], 2, 0, [0, 0, 5, 0]),
    ] {
        for quoted in [28, 48, 1000] {
            let quoted = if request.source.is_ipv6() { quoted + 20 } else { quoted };
            let mut gateway = World::new().gateway();
            let (node, inner) = to_pod(&mut gateway, &request);
            let error = error_about(&inner, router, kind, code, rest, quoted);
            let seen = to_client(&mut gateway, node, &error);
            let expected = error_about(
                &Packet { ttl: inner.ttl, ..request.clone() },
                request.destination.ip(),
                kind,
                code,
                rest,
                quoted,
            );
            assert_eq!(seen, expected.after_a_hop(), "{quoted} bytes quoted");
            let traffic = gateway.worker.flows_v4().iter().map(|(_, traffic)| traffic.packets).next();
            assert!(traffic.is_none_or(|packets| packets == [1, 0]), "an error is not the flow's");
        }
    }
}

#[test]
fn rfc5508_req4_an_error_from_outside_reaches_the_pod_about_its_own_packet() {
    for (request, router) in [
        (Packet::web(7, SYN, b""), "198.51.100.9".parse::<IpAddr>().unwrap()),
        (Packet::dns(7, b"query"), "198.51.100.9".parse().unwrap()),
        (Packet::web_v6(7, SYN, b""), "2001:db8:9::9".parse().unwrap()),
    ] {
        let mut gateway = World::new().gateway();
        let (node, inner) = to_pod(&mut gateway, &request);
        let answer = inner.answer(SYN | ACK, b"much too long for a narrow link");
        let back = to_client(&mut gateway, node, &answer);
        let (kind, code) = if request.source.is_ipv4() { (3, 4) } else { (2, 0) };
        let error = error_about(&back, router, kind, code, [0, 0, 5, 0x14], 1000);
        let (same_node, seen) = to_pod(&mut gateway, &error);
        let expected = error_about(
            &Packet { ttl: back.ttl, ..answer.clone() },
            answer.destination.ip(),
            kind,
            code,
            [0, 0, 5, 0x14],
            1000,
        );
        assert_eq!((same_node, seen), (node, expected.after_a_hop()));
        assert_eq!(gateway.counters.errors_translated.get(), 1);
    }
}

#[test]
fn rfc5508_req3_errors_that_do_not_fit_a_flow_are_dropped() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let router: IpAddr = [10, 77, 74, 1].into();
    let good = error_about(&inner, router, 3, 1, [0; 4], 48);
    let changed = |change: fn(&mut Packet)| {
        let mut packet = good.clone();
        change(&mut packet);
        packet.bytes()
    };
    let quote = |packet: &mut Packet, at: usize, value: u8| {
        let Body::Icmp(.., quote) = &mut packet.body else { panic!("an error") };
        quote[at] = value;
    };
    let bad_sum = {
        let mut bytes = good.bytes();
        bytes[23] ^= 1;
        bytes
    };
    let cases = [
        bad_sum,
        // A redirect, source quench.
        changed(|packet| packet.body = Body::Icmp(5, 1, [0; 4], vec![0x45; 28])),
        changed(|packet| packet.body = Body::Icmp(4, 0, [0; 4], vec![0x45; 28])),
        // Told to another pool address than the quoted packet came from.
        changed(|packet| packet.destination = ([10, 77, 200, 9], 0).into()),
        {
            // A quoted header that does not sum up.
            let mut packet = good.clone();
            quote(&mut packet, 8, 1);
            packet.bytes()
        },
        {
            // An error that quotes an error, and one that quotes a tunnel.
            let nested = error_about(&good, [10, 77, 200, 2].into(), 3, 1, [0; 4], 100);
            Packet { destination: good.destination, source: good.source, ..nested }.bytes()
        },
    ];
    for (index, ip) in cases.iter().enumerate() {
        let out = gateway.send(UNDERLAY, &from_pod(node, ip));
        assert_eq!(dropped(&out), DropReason::IcmpUnmatched, "case {index}");
    }
    let unknown = error_about(&Packet::web(9, SYN, b""), router, 3, 1, [0; 4], 48);
    let unknown = Packet { destination: good.destination, ..unknown };
    assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(node, &unknown.bytes()))), DropReason::IcmpUnmatched);
    // From a client's link, about a packet that only the overlay has seen.
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &good.bytes()));
    assert_eq!(dropped(&out), DropReason::IcmpUnmatched);
    assert_eq!(gateway.counters.errors_translated.get(), 0);
}

#[test]
fn an_error_that_reaches_another_worker_is_handed_to_its_flows_owner() {
    let world = World { workers: 2, ..World::new() };
    let mut workers: Vec<Gateway> =
        (0..2).map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 256))).collect();
    let (node, inner) = to_pod(&mut workers[1], &Packet::web(7, SYN, b""));
    let frame = from_pod(node, &error_about(&inner, [10, 77, 74, 1].into(), 3, 1, [0; 4], 48).bytes());
    assert_eq!(
        workers[0].send(UNDERLAY, &frame),
        Out { verdict: Verdict::Handover(WorkerId(1)), bytes: frame.clone() }
    );
    transmitted(&workers[1].send(UNDERLAY, &frame), UPLINK);
}
