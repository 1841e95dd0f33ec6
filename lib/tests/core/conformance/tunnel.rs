//! RFC 6040 and 7348: the overlay.

use std::collections::HashSet;

use weirgate::net::WorkerId;
use weirgate::snapshot::OuterDscp;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::Gateway;
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Link, Packet, SYN, framed, from_node, from_pod, in_vxlan, tunnelled, unframed,
};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

use super::helpers::{converse, dropped, from_client, seal_v4, to_client, to_pod, transmitted};

#[test]
fn rfc7348_s5_the_flag_is_set_and_all_reserved_bits_are_zero_on_transmission() {
    let mut gateway = World::new().gateway();
    for request in [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b"")] {
        let seen = tunnelled(transmitted(&from_client(&mut gateway, &request.bytes()), UNDERLAY));
        assert_eq!(seen.vxlan, [8, 0, 0, 0, 0, 0, 1, 0]);
    }
}

#[test]
fn rfc7348_s5_the_source_port_follows_the_inner_flow() {
    let mut gateway = World::new().gateway();
    let mut port_of = |client: u16| {
        let out = from_client(&mut gateway, &Packet::web(client, SYN, b"").bytes());
        tunnelled(transmitted(&out, UNDERLAY)).outer.source.port()
    };
    let first: Vec<u16> = (1..=64).map(&mut port_of).collect();
    let second: Vec<u16> = (1..=64).map(&mut port_of).collect();
    assert_eq!(first, second, "one flow, one path through the fabric");
    assert!(first.iter().collect::<HashSet<_>>().len() > 56, "flows spread: {first:?}");
}

/// Exactly the range that Linux uses for its own sockets and its VXLAN.
#[test]
fn rfc7348_s5_source_ports_fill_the_range_that_linux_takes_them_from() {
    let mut gateway = World::new().describe(|description| Gateway::with_worker(description, WorkerId(0), 8192));
    for new in [Packet::web as fn(u16, u8, &[u8]) -> Packet, Packet::web_v6] {
        let ports: Vec<u16> = (1..=4000)
            .map(|client| {
                let out = from_client(&mut gateway, &new(client, SYN, b"").bytes());
                tunnelled(transmitted(&out, UNDERLAY)).outer.source.port()
            })
            .collect();
        let (first, last) = (ports.iter().min().unwrap(), ports.iter().max().unwrap());
        // The lowest and highest of 4000 ports lie within a hundred of the ends, except once in a million runs.
        assert!((32_768..32_868).contains(first), "{first}");
        assert!((60_900..=60_999).contains(last), "{last}");
    }
}

#[test]
fn rfc7348_s4_1_the_outer_checksum_is_zero_over_ipv4_and_one_from_a_peer_is_taken() {
    let mut gateway = World::new().gateway();
    let out = from_client(&mut gateway, &Packet::web(7, SYN, b"").bytes());
    assert_eq!(transmitted(&out, UNDERLAY)[40..42], [0, 0]);
    let seen = tunnelled(&out.bytes);
    let node = usize::from(seen.link.destination == world::NODE_MACS[1]);
    let answer = from_pod(node, &Packet::read(&seen.inner).answer(SYN | ACK, b"").bytes());
    assert_ne!(answer[40..42], [0, 0]);
    for sum in [None, Some([0, 0])] {
        let mut frame = answer.clone();
        if let Some(sum) = sum {
            frame[40..42].copy_from_slice(&sum);
        }
        transmitted(&gateway.send(UNDERLAY, &frame), UPLINK);
    }
}

/// As Linux does, which trims a datagram to its UDP length.
#[test]
fn rfc768_bytes_behind_the_end_of_an_outer_datagram_are_ignored() {
    for new in [Packet::web as fn(u16, u8, &[u8]) -> Packet, Packet::web_v6] {
        let mut gateway = World::new().gateway();
        let (node, inner) = converse(&mut gateway, &new(7, SYN, b""));
        let answer = inner.answer(ACK, b"answer");
        let frame = from_pod(node, &answer.bytes());
        let udp = if answer.source.is_ipv4() { 34 } else { 54 };
        let whole = u16::from_be_bytes([frame[udp + 4], frame[udp + 5]]);
        let shortened = |len: u16| {
            let mut frame = frame.clone();
            frame[udp + 4..udp + 6].copy_from_slice(&len.to_be_bytes());
            reseal_outer_udp(&mut frame, udp, len);
            frame
        };
        for len in 8..whole {
            assert!(
                matches!(gateway.send(UNDERLAY, &shortened(len)).verdict, Verdict::Drop(DropReason::Truncated)),
                "{len} of {whole}"
            );
        }
        transmitted(&gateway.send(UNDERLAY, &shortened(whole)), UPLINK);
        // Bytes behind a complete datagram do no harm.
        let mut longer = [&frame[..], &[0xee; 6]].concat();
        let ip_len = if answer.source.is_ipv4() { 16 } else { 18 };
        let len = u16::from_be_bytes([longer[ip_len], longer[ip_len + 1]]) + 6;
        longer[ip_len..ip_len + 2].copy_from_slice(&len.to_be_bytes());
        if answer.source.is_ipv4() {
            seal_v4(&mut longer[14..]);
        }
        let out = gateway.send(UNDERLAY, &longer);
        assert_eq!(Packet::read(&unframed(transmitted(&out, UPLINK)).1).body, answer.body);
    }
}

/// Writes the checksum of the outer datagram, of `len` bytes at `udp`; over IPv4 there is none.
fn reseal_outer_udp(frame: &mut [u8], udp: usize, len: u16) {
    frame[udp + 6..udp + 8].fill(0);
    if udp == 34 {
        return;
    }
    let covered = [&frame[22..54], &[0, 0, 0, 17], &len.to_be_bytes(), &frame[udp..udp + usize::from(len)]].concat();
    let mut sum: u32 = covered.chunks(2).map(|it| u32::from(it[0]) << 8 | u32::from(*it.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    let sum = if sum == 0xffff { 0xffff } else { !(sum as u16) };
    frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn rfc8200_s8_1_a_wrong_outer_checksum_over_ipv6_is_refused() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web_v6(7, SYN, b""));
    let frame = from_pod(node, &inner.answer(ACK, b"answer").bytes());
    transmitted(&gateway.send(UNDERLAY, &frame), UPLINK);
    for (at, bit) in [(60, 1), (61, 0x80), (54, 2), (70, 1), (frame.len() - 1, 1), (38, 4)] {
        let mut wrong = frame.clone();
        wrong[at] ^= bit;
        let expected = if at == 38 { DropReason::IcmpUnmatched } else { DropReason::VxlanChecksum };
        match gateway.send(UNDERLAY, &wrong).verdict {
            // A datagram to another address is not the gateway's VXLAN.
            Verdict::Host if at == 38 => {}
            verdict => assert_eq!(verdict, Verdict::Drop(expected), "byte {at}"),
        }
    }
}

#[test]
fn rfc1812_s4_3_2_5_errors_of_the_gateways_own_have_their_precedence_outside_too() {
    for (outer, new) in [OuterDscp::Copy, OuterDscp::default()]
        .into_iter()
        .flat_map(|it| [(it, Packet::web as fn(u16, u8, &[u8]) -> Packet), (it, Packet::web_v6)])
    {
        let mut gateway = World { outer_dscp: outer, ..World::new() }.gateway();
        let (node, inner) = converse(&mut gateway, &new(7, SYN, b""));
        let dead = Packet { ttl: 1, ..inner.answer(ACK, b"") };
        let out = gateway.send(UNDERLAY, &from_pod(node, &dead.bytes()));
        let seen = tunnelled(transmitted(&out, UNDERLAY));
        let tos = Packet::read(&seen.inner).tos;
        assert_eq!(tos, if dead.source.is_ipv4() { 0xc0 } else { 0 });
        assert_eq!(seen.outer.tos, if outer == OuterDscp::Copy { tos } else { 0 });
    }
}

#[test]
fn rfc7348_s4_3_a_tunnelled_packet_never_exceeds_the_underlay() {
    let mut gateway = World::new().gateway();
    for new in [Packet::web as fn(u16, u8, &[u8]) -> Packet, Packet::web_v6] {
        converse(&mut gateway, &new(7, SYN, b""));
        for len in (1300..1460).step_by(7) {
            let out = from_client(&mut gateway, &new(7, ACK, &vec![0x55; len]).bytes());
            match out.verdict {
                Verdict::Transmit(UNDERLAY) => assert!(out.bytes.len() <= 14 + 1500),
                Verdict::Transmit(UPLINK) => {
                    let error = Packet::read(&unframed(&out.bytes).1);
                    assert!(matches!(error.body, Body::Icmp(3, 4, ..) | Body::Icmp(2, 0, ..)), "{error:?}");
                }
                other => panic!("{len} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn rfc7348_s6_1_an_inner_tag_is_neither_sent_nor_taken() {
    let mut gateway = World::new().gateway();
    let tagged = Link { vlan: Some(100), ..FROM_CLIENT };
    let out = gateway.send(UPLINK, &framed(tagged, &Packet::web(7, SYN, b"").bytes()));
    let seen = tunnelled(transmitted(&out, UNDERLAY));
    assert_eq!((seen.inner_link.vlan, seen.link.vlan), (None, None));

    let node = usize::from(seen.link.destination == world::NODE_MACS[1]);
    let answer = Packet::read(&seen.inner).answer(SYN | ACK, b"").bytes();
    let outer = ((world::NODES[node], 4000).into(), (world::PUBLIC, world::VXLAN_PORT).into());
    let inner_link = Link { destination: world::VTEP_V4, source: world::NODE_VTEPS[node], vlan: Some(100) };
    let frame = in_vxlan(from_node(node), outer, world::VNI, &framed(inner_link, &answer));
    assert_eq!(dropped(&gateway.send(UNDERLAY, &frame)), DropReason::NotIp);
}

#[test]
fn rfc6040_s4_2_a_mark_on_what_cannot_carry_it_is_a_drop_of_its_own() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web(7, SYN, b""));
    let mut frame = from_pod(node, &inner.answer(ACK, b"").bytes());
    let outer = Packet { tos: 3, ..Packet::read(&frame[14..]) };
    frame.splice(14.., outer.bytes());
    assert_eq!(dropped(&gateway.send(UNDERLAY, &frame)), DropReason::EcnNotCapable);
    assert_eq!(gateway.counters.drops(DropReason::EcnNotCapable), 1);
}

#[test]
fn rfc6040_s4_1_the_outer_mark_is_a_copy_whatever_the_code_point() {
    let mut gateway = World::new().gateway();
    for request in [Packet::dns(7, b""), Packet::web_v6(7, SYN, b"")] {
        for tos in 0..=255 {
            let request = Packet { tos, ..request.clone() };
            let seen = tunnelled(transmitted(&from_client(&mut gateway, &request.bytes()), UNDERLAY));
            assert_eq!((seen.outer.tos & 3, Packet::read(&seen.inner).tos & 3), (tos & 3, tos & 3));
        }
    }
    let (node, inner) = to_pod(&mut gateway, &Packet::dns(7, b""));
    to_client(&mut gateway, node, &inner.answer(0, b""));
}
