//! Inputs that are known to have broken other gateways, each with the verdict it has here.

use std::net::IpAddr;

use weirgate::net::Protocol;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Packet, SYN, framed, from_pod, in_vxlan, tunnelled, unframed};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

use super::helpers::{
    converse, dropped, error_quoting, from_client, ip_to_pod, seal_v4, send_large, to_client, to_pod, transmitted,
    with_extensions,
};

const GRE: u8 = 47;
const IPIP: u8 = 4;
const IP6_IN_IP: u8 = 41;

/// The first bytes of GRE and IPIP lie where TCP has its ports. A gateway that does not check the
/// protocol takes the error for one about the flow.
#[test]
fn an_icmp_error_that_quotes_gre_or_ipip_is_dropped() {
    for request in [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b"")] {
        let v4 = request.source.is_ipv4();
        let mut gateway = World::new().gateway();
        let (node, inner) = converse(&mut gateway, &request);
        let back = Packet { source: request.destination, destination: request.source, ..request.clone() };
        let kind = if v4 { (3, 1) } else { (1, 0) };
        for protocol in [GRE, IPIP, IP6_IN_IP] {
            let quoted = |packet: &Packet| {
                let mut bytes = packet.bytes();
                if v4 {
                    bytes[9] = protocol;
                    seal_v4(&mut bytes);
                } else {
                    bytes[6] = protocol;
                }
                bytes
            };
            let from_overlay =
                error_quoting(&quoted(&inner), (inner.source.ip(), inner.destination.ip()), kind, [0; 4]);
            let out = gateway.send(UNDERLAY, &from_pod(node, &from_overlay.bytes()));
            assert_eq!(dropped(&out), DropReason::IcmpUnmatched, "protocol {protocol} from the overlay");
            let outside = error_quoting(&quoted(&back), (back.source.ip(), back.destination.ip()), kind, [0; 4]);
            let out = from_client(&mut gateway, &outside.bytes());
            assert_eq!(dropped(&out), DropReason::IcmpUnmatched, "protocol {protocol} from outside");
        }
        assert_eq!(gateway.counters.errors_translated.get(), 0);
        to_client(&mut gateway, node, &inner.answer(ACK, b"goes on"));
    }
}

#[test]
fn all_ports_used_up_drops_new_flows_by_name_and_harms_no_old_one() {
    let mut world = World::new();
    world.pool_ports = (2000, 2003);
    world.pool.truncate(1);
    world.backends[1].truncate(1);
    let life = Span::from_secs(u64::from(world.timeouts.udp_stream_seconds));
    let mut gateway = world.gateway();
    let old: Vec<_> = (1..=4).map(|port| to_pod(&mut gateway, &Packet::dns(port, b"query"))).collect();
    for port in 5..100 {
        let out = from_client(&mut gateway, &Packet::dns(port, b"query").bytes());
        assert_eq!(dropped(&out), DropReason::PortsExhausted);
    }
    assert_eq!(gateway.counters.drops(DropReason::PortsExhausted), 95);
    assert_eq!(gateway.worker.flows().v4.len(), 4);
    for (port, (node, inner)) in (1..).zip(&old) {
        let back = to_client(&mut gateway, *node, &inner.answer(0, b"answer"));
        assert_eq!(back.destination.port(), port);
        assert_eq!(to_pod(&mut gateway, &Packet::dns(port, b"query")).1.source, inner.source);
    }
    // One port becomes free: the next new flow gets it.
    gateway.advance(Span::from_secs(life.0 / 1_000_000_000 / 2 + 1));
    for port in 2..=4 {
        to_pod(&mut gateway, &Packet::dns(port, b"query"));
    }
    gateway.advance(Span::from_secs(life.0 / 1_000_000_000 / 2));
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    gateway.worker.age(&snapshot, now, 4096);
    assert_eq!(to_pod(&mut gateway, &Packet::dns(5, b"query")).1.source, old[0].1.source);
    assert_eq!(dropped(&from_client(&mut gateway, &Packet::dns(6, b"").bytes())), DropReason::PortsExhausted);
}

/// Frames longer than any link's MTU, up to the largest packet there is.
#[test]
fn a_jumbo_frame_is_answered_with_the_size_that_fits() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web(7, SYN, b""));
    let (node_v6, inner_v6) = converse(&mut gateway, &Packet::web_v6(7, SYN, b""));
    for len in [8960, 65_535 - 40] {
        let request = Packet::web(7, ACK, &vec![0x55; len]);
        let out = send_large(&mut gateway, UPLINK, &framed(FROM_CLIENT, &request.bytes()));
        let error = Packet::read(&unframed(transmitted(&out, UPLINK)).1);
        let Body::Icmp(3, 4, [0, 0, high, low], quote) = error.body else { panic!("{error:?}") };
        assert_eq!((u16::from_be_bytes([high, low]), &quote[..]), (1450, &request.bytes()[..548]));
    }
    let request = Packet::web_v6(7, ACK, &vec![0x55; 9000]);
    let out = send_large(&mut gateway, UPLINK, &framed(FROM_CLIENT, &request.bytes()));
    let error = Packet::read(&unframed(transmitted(&out, UPLINK)).1);
    let Body::Icmp(2, 0, mtu, quote) = error.body else { panic!("{error:?}") };
    assert_eq!((u32::from_be_bytes(mtu), &quote[..]), (1430, &request.bytes()[..1232]));

    for (node, inner, kind) in [(node, inner, 3), (node_v6, inner_v6, 2)] {
        let answer = inner.answer(ACK, &[0x55; 9000]);
        let out = send_large(&mut gateway, UNDERLAY, &from_pod(node, &answer.bytes()));
        let error = Packet::read(&tunnelled(transmitted(&out, UNDERLAY)).inner);
        assert!(matches!(error.body, Body::Icmp(seen, ..) if seen == kind), "{error:?}");
        assert_eq!((error.source.ip(), error.destination.ip()), (answer.destination.ip(), answer.source.ip()));
    }
    // The packet's length decides, whatever lies behind it in the frame.
    let mut frame = framed(FROM_CLIENT, &Packet::web(7, ACK, b"small").bytes());
    frame.resize(9014, 0xee);
    let out = send_large(&mut gateway, UPLINK, &frame);
    assert_eq!(Packet::read(&tunnelled(transmitted(&out, UNDERLAY)).inner).body, Body::Tcp(ACK, b"small".to_vec()));
}

#[test]
fn a_zero_length_udp_datagram_over_ipv6_is_carried_and_one_of_length_zero_is_not() {
    let mut gateway = World::new().gateway();
    let to = (world::NODE_PORT_ADDRESS_V6, 30_053).into();
    let empty = Packet::new((world::CLIENT_V6, 7).into(), to, Body::Udp(vec![]));
    let (node, inner) = to_pod(&mut gateway, &empty);
    assert_eq!(inner.body, Body::Udp(vec![]));
    assert_eq!(to_client(&mut gateway, node, &inner.answer(0, b"")).body, Body::Udp(vec![]));
    // RFC 2675 §4: length zero announces a jumbogram, and this is none.
    let mut ip = empty.bytes();
    ip[44..46].fill(0);
    assert_eq!(dropped(&from_client(&mut gateway, &ip)), DropReason::Malformed);
    // Nothing behind the IPv6 header.
    let mut ip = empty.bytes();
    ip[4..6].fill(0);
    assert_eq!(dropped(&from_client(&mut gateway, &ip)), DropReason::Truncated);
}

#[test]
fn ipv6_hop_by_hop_chains_are_walked_once_and_to_a_limit() {
    let (hop_by_hop, destination, tcp) = (0, 60, Protocol::TCP.0);
    let request = Packet::web_v6(7, SYN, b"data").bytes();
    let padding = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let chain = |kinds: &[u8]| {
        let next = kinds.iter().skip(1).chain([&tcp]);
        let headers: Vec<u8> = next.flat_map(|next| padding(*next)).collect();
        with_extensions(&request, kinds[0], &headers)
    };
    let mut gateway = World::new().gateway();
    let longest = [[hop_by_hop].as_slice(), &[destination; 7]].concat();
    for kinds in [&[hop_by_hop][..], &[hop_by_hop, destination], &longest] {
        let ip = chain(kinds);
        let (_, inner) = ip_to_pod(&mut gateway, &ip);
        let upper = 40 + 8 * kinds.len();
        assert_eq!((inner.len(), inner[6], &inner[40..upper]), (ip.len(), ip[6], &ip[40..upper]));
        assert_eq!(inner[upper + 20..], ip[upper + 20..]);
    }
    assert_eq!(gateway.worker.flows().v6.len(), 1, "the ports were found behind the options");

    for kinds in
        [&[hop_by_hop, hop_by_hop][..], &[destination, hop_by_hop], &[[hop_by_hop; 1].as_slice(), &[60; 8]].concat()]
    {
        assert_eq!(dropped(&from_client(&mut gateway, &chain(kinds))), DropReason::ExtensionHeader, "{kinds:?}");
    }
    // A header whose length goes past the packet.
    let mut ip = chain(&[hop_by_hop]);
    ip[41] = 255;
    assert_eq!(dropped(&from_client(&mut gateway, &ip)), DropReason::Truncated);
    // A chain without an upper layer.
    let mut ip = chain(&[hop_by_hop]);
    ip.truncate(48);
    ip[4..6].copy_from_slice(&8_u16.to_be_bytes());
    assert_eq!(dropped(&from_client(&mut gateway, &ip)), DropReason::Truncated);
}

#[test]
fn a_total_length_larger_than_the_frame_is_dropped_in_and_out_of_a_tunnel() {
    let mut gateway = World::new().gateway();
    let mut node_of = 0;
    for request in [Packet::dns(7, b"query"), Packet::web_v6(7, SYN, b"")] {
        let (node, inner) = to_pod(&mut gateway, &request);
        node_of = node;
        let lengthened = |ip: Vec<u8>, by: u16| {
            let mut ip = ip;
            let at = if ip[0] >> 4 == 4 { 2 } else { 4 };
            let len = u16::from_be_bytes([ip[at], ip[at + 1]]).saturating_add(by);
            ip[at..at + 2].copy_from_slice(&len.to_be_bytes());
            if at == 2 {
                seal_v4(&mut ip);
            }
            ip
        };
        for by in [1, 8, 1000, u16::MAX] {
            // A length above IPv6's maximum is malformed before it is compared with the frame.
            let expected =
                if by == u16::MAX && request.source.is_ipv6() { DropReason::Malformed } else { DropReason::Truncated };
            let ip = lengthened(request.bytes(), by);
            assert_eq!(dropped(&from_client(&mut gateway, &ip)), expected, "{by} more");
            let ip = lengthened(inner.answer(SYN | ACK, b"").bytes(), by);
            assert_eq!(dropped(&gateway.send(UNDERLAY, &from_pod(node, &ip))), expected, "{by} more, inside");
        }
    }
    // UDP's own length, past the end of the packet.
    let mut ip = Packet::dns(7, b"query").bytes();
    ip[25] += 1;
    assert_eq!(dropped(&from_client(&mut gateway, &ip)), DropReason::Truncated);
    // The outer packet, past the end of the frame.
    let outer: [(IpAddr, u16); 2] = [(world::NODES[node_of].into(), 4000), (world::PUBLIC.into(), world::VXLAN_PORT)];
    let link = weirgate_fixture::frames::from_node(node_of);
    let mut frame = in_vxlan(link, (outer[0].into(), outer[1].into()), world::VNI, &[0; 60]);
    frame.truncate(60);
    assert_eq!(gateway.send(UNDERLAY, &frame).verdict, Verdict::Drop(DropReason::Truncated));
}
