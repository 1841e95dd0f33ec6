//! Requests and their replies across the overlay, or a plain route.

use std::net::{IpAddr, SocketAddr};

use weirgate::net::{Mac, PortId, Protocol, WorkerId};
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, FROM_CLIENT, Link, Packet, SYN, TO_CLIENT, framed, from_node, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, NODE_VTEPS, UNDERLAY, UPLINK, VTEP_V4, VTEP_V6, World};
use weirgate_fixture::{Gateway, Out};

use super::helpers::{dropped, established, from_client, is_pool, to_client, to_pod, transmitted};

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
    assert_eq!(gateway.worker.flows().v4.len(), 1);
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
fn a_backend_that_is_listed_again_gets_no_larger_share_and_the_order_of_the_list_is_nothing() {
    let world = World::new();
    let mut listed = world.clone();
    let again = [listed.backends[0][0], listed.backends[0][1], listed.backends[0][0]];
    listed.backends[0].extend(again);
    listed.backends[0].reverse();
    let [mut one, mut other] = [world, listed].map(|world| world.gateway());
    for port in 1..200 {
        for request in [Packet::web(port, SYN, b""), Packet::web_v6(port, SYN, b"")] {
            let backend = |gateway: &mut Gateway| to_pod(gateway, &request).1.destination;
            assert_eq!(backend(&mut one), backend(&mut other), "{request:?}");
        }
    }
}

#[test]
fn every_gateway_selects_the_same_backend_for_a_client() {
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
fn frames_are_counted_by_their_ports_with_their_bytes() {
    let mut gateway = World::new().gateway();
    let frames: Vec<_> =
        (1..=3).map(|len| (UPLINK, framed(FROM_CLIENT, &Packet::dns(7, &vec![0; 100 * len]).bytes()))).collect();
    let outs = gateway.send_burst(&frames);
    let [uplink, underlay] = [&gateway.counters.ports[0], &gateway.counters.ports[1]];
    let of = |lens: Vec<usize>| lens.iter().sum::<usize>() as u64;
    assert_eq!(uplink.received.bytes.get(), of(frames.iter().map(|(_, frame)| frame.len()).collect()));
    assert_eq!(underlay.transmitted.bytes.get(), of(outs.iter().map(|out| out.bytes.len()).collect()));
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
    assert_eq!(gateway.worker.flows().v4.len(), 2);
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
fn other_protocols_are_dropped_by_name() {
    let mut gateway = World::new().gateway();
    let mut ip = Packet::dns(7, b"").bytes();
    ip[9] = Protocol::ICMPV6.0;
    ip[10..12].fill(0);
    let sum = etherparse::Ipv4Header::from_slice(&ip).unwrap().0.calc_header_checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(dropped(&gateway.send(UPLINK, &framed(FROM_CLIENT, &ip))), DropReason::UnknownProtocol);
}
