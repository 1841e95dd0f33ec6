//! The overlay's own packets: which are decapsulated, answered, and marked.

use std::net::{IpAddr, SocketAddr};

use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Link, Packet, SYN, framed, from_node, from_pod, in_vxlan, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, NODE_VTEPS, UNDERLAY, UPLINK, VTEP_V4, World};

use super::helpers::{dropped, established, from_client, to_client, to_pod, transmitted};

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
        (stray("198.51.100.1:53", Body::Udp(vec![])), DropReason::NoFlow),
        (stray("10.77.200.2:0", Body::Icmp(0, 0, [0; 4], vec![])), DropReason::IcmpUnmatched),
    ];
    for (frame, reason) in &cases {
        assert_eq!(dropped(&gateway.send(UNDERLAY, frame)), *reason);
    }
    gateway.assert_counted(&[("drop-no-flow", 3), ("drop-icmp-unmatched", 1), ("port1-in", 4)]);
}

#[test]
fn vxlan_that_is_not_for_the_gateway_is_dropped_by_name() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let good = from_pod(node, &inner.answer(SYN | ACK, b"").bytes());
    let spoiled = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        // Over IPv4 the outer UDP checksum is not verified (RFC 7348 §4.1 permits both).
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
    // To another address, or another port, it is no VXLAN.
    let outer = Packet::read(&good[14..]);
    let elsewhere = [world::NODE_PORT_ADDRESS, world::PUBLIC].into_iter().zip([world::VXLAN_PORT, 4789]);
    for (address, port) in elsewhere {
        let datagram = Packet { destination: (address, port).into(), ..outer.clone() };
        let out = gateway.send(UNDERLAY, &framed(from_node(node), &datagram.bytes()));
        assert_eq!(out.verdict, Verdict::Host, "{address}:{port}");
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
    // To another port it is a datagram like any other.
    frame[56..58].copy_from_slice(&4789_u16.to_be_bytes());
    assert_eq!(dropped(&gateway.send(UNDERLAY, &frame)), DropReason::Malformed);
}

#[test]
fn rfc6040_congestion_marks_cross_the_tunnel_in_both_directions() {
    let mut gateway = World::new().gateway();
    for ecn in 0..4 {
        let request = Packet { tos: 0xb8 | ecn, ..Packet::web(7, SYN, b"") };
        let seen = tunnelled(transmitted(&from_client(&mut gateway, &request), UNDERLAY));
        assert_eq!((seen.outer.tos, Packet::read(&seen.inner).tos), (ecn, 0xb8 | ecn));
    }
    // What is off the fast path takes the mark in as well.
    let ping = Packet { tos: 2, ..Packet::ping(world::pod(0, 10).into(), [10, 77, 200, 2].into(), b"hello") };
    let mut frame = from_pod(0, &ping.bytes());
    let outer = Packet { tos: 3, ..Packet::read(&frame[14..]) };
    frame.splice(14.., outer.bytes());
    let seen = tunnelled(transmitted(&gateway.send(UNDERLAY, &frame), UNDERLAY));
    assert_eq!((seen.outer.tos, Packet::read(&seen.inner).tos), (3, 3));
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
fn an_answer_that_does_not_come_over_the_overlay_is_not_believed() {
    let mut gateway = World::new().gateway();
    let (_, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let forged = framed(FROM_CLIENT, &inner.answer(SYN | ACK, b"").bytes());
    assert_eq!(dropped(&gateway.send(UPLINK, &forged)), DropReason::SpoofedSource);
    let unknown = Packet { source: ([198, 51, 100, 1], 80).into(), ..inner.answer(ACK, b"") };
    assert_eq!(dropped(&gateway.send(UPLINK, &framed(FROM_CLIENT, &unknown.bytes()))), DropReason::NoFlow);
}

/// What a flow remembers of its next hop and neighbour holds for each side alone.
#[test]
fn neither_side_of_an_open_connection_is_believed_where_the_other_is() {
    for request in [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b"")] {
        let mut gateway = World::new().gateway();
        let (node, inner) = established(&mut gateway, &request);
        let data = Packet { body: Body::Tcp(ACK, b"data".into()), ..request };
        let answer = inner.answer(ACK, b"data");
        for _ in 0..2 {
            to_pod(&mut gateway, &data);
            to_client(&mut gateway, node, &answer);
            let forged = gateway.send(UPLINK, &framed(FROM_CLIENT, &answer.bytes()));
            assert_eq!(dropped(&forged), DropReason::SpoofedSource);
            let forged = gateway.send(UNDERLAY, &from_pod(node, &data.bytes()));
            assert_eq!(dropped(&forged), DropReason::SpoofedSource);
        }
    }
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
fn a_vxlan_datagram_inside_vxlan_is_not_opened_again() {
    let mut gateway = World::new().gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let once = from_pod(node, &inner.answer(ACK, b"").bytes());
    let outer = ((world::NODES[0], 4000).into(), (world::PUBLIC, world::VXLAN_PORT).into());
    let inner_link = Link { destination: VTEP_V4, source: NODE_VTEPS[0], vlan: None };
    let twice = in_vxlan(from_node(0), outer, world::VNI, &framed(inner_link, &once[14..]));
    // It is a datagram to the gateway itself, from a node's address outside the overlay.
    assert_eq!(dropped(&gateway.send(UNDERLAY, &twice)), DropReason::SpoofedSource);
}
