//! RFC 791, 1812 and 8200: duties of a forwarder.

use std::net::SocketAddr;

use weirgate::net::Mac;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Link, Packet, SYN, framed, from_pod, tunnelled, unframed};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

use super::helpers::{
    converse, dropped, from_client, ip_to_pod, seal_v4, to_client, to_pod, transmitted, with_extensions, with_options,
};

#[test]
fn rfc791_s3_1_options_go_along_unchanged() {
    let mut gateway = World::new().gateway();
    // No-operation, an unknown option, end of the list.
    let options = [1, 0x9e, 6, 1, 2, 3, 4, 0];
    let (_, inner) = ip_to_pod(&mut gateway, &with_options(&Packet::web(7, SYN, b"data").bytes(), &options));
    assert_eq!(inner[20..28], options);
    let mut sealed = inner.clone();
    seal_v4(&mut sealed);
    assert_eq!(sealed, inner, "the header checksum covers its options");
    assert_eq!(&inner[inner.len() - 4..], b"data");
}

#[test]
fn rfc791_s3_2_a_datagram_of_68_bytes_passes_unfragmented() {
    let mut gateway = World::new().gateway();
    for dont_fragment in [false, true] {
        let request = Packet { dont_fragment, ..Packet::dns(7, &[0x55; 40]) };
        assert_eq!(request.bytes().len(), 68);
        assert_eq!(to_pod(&mut gateway, &request).1.body, request.body);
    }
}

#[test]
fn rfc1812_s5_2_2_invalid_headers_are_dropped() {
    let mut gateway = World::new().gateway();
    let good = Packet::web(7, SYN, b"").bytes();
    let spoiled = |at: usize, value: u8, sealed: bool| {
        let mut ip = good.clone();
        ip[at] = value;
        if sealed {
            seal_v4(&mut ip);
        }
        ip
    };
    let cases = [
        ("a checksum", spoiled(10, good[10] ^ 1, false), DropReason::BadIpChecksum),
        ("a version", spoiled(0, 0x55, true), DropReason::Malformed),
        ("an invalid header length", spoiled(0, 0x44, false), DropReason::Malformed),
        ("a total length below the header's", spoiled(3, 19, true), DropReason::Malformed),
        ("a frame too short", good[..19].to_vec(), DropReason::Truncated),
    ];
    for (what, ip, reason) in cases {
        let mut frame = framed(FROM_CLIENT, &good[..14]);
        frame.truncate(14);
        frame.extend(ip);
        assert_eq!(dropped(&gateway.send(UPLINK, &frame)), reason, "{what}");
    }
    assert_eq!(gateway.worker.flows().v4.len(), 0);
}

#[test]
fn rfc1812_s5_3_1_the_time_to_live_goes_down_by_one_in_both_directions() {
    let mut gateway = World::new().gateway();
    for ttl in [2, 64, 255] {
        let request = Packet { ttl, ..Packet::web(7, SYN, b"") };
        let (node, inner) = to_pod(&mut gateway, &request);
        let answer = Packet { ttl, ..inner.answer(SYN | ACK, b"") };
        assert_eq!((inner.ttl, to_client(&mut gateway, node, &answer).ttl), (ttl - 1, ttl - 1));
    }
}

#[test]
fn rfc1812_s5_3_4_frames_for_other_link_addresses_are_not_forwarded() {
    let mut gateway = World::new().gateway();
    for to in [Mac([0xff; 6]), Mac([1, 0, 0x5e, 0, 0, 1]), Mac([2, 9, 9, 9, 9, 9])] {
        let link = Link { destination: to, ..FROM_CLIENT };
        let out = gateway.send(UPLINK, &framed(link, &Packet::web(7, SYN, b"").bytes()));
        assert_eq!(dropped(&out), DropReason::NotForThisLink);
    }
}

#[test]
fn rfc8200_s3_the_hop_limit_goes_down_by_one_and_label_and_class_stay() {
    let mut gateway = World::new().gateway();
    let mut ip = Packet { tos: 0xb9, ..Packet::web_v6(7, SYN, b"data") }.bytes();
    ip[1] |= 0x0a;
    ip[2..4].copy_from_slice(&[0xbc, 0xde]);
    let (node, inner) = ip_to_pod(&mut gateway, &ip);
    assert_eq!((&inner[..4], inner[7]), (&ip[..4], 63));
    let mut answer = Packet::read(&inner).answer(SYN | ACK, b"").bytes();
    answer[1..4].copy_from_slice(&[0x07, 0x65, 0x43]);
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer));
    let (_, back) = unframed(transmitted(&out, UPLINK));
    assert_eq!((&back[..4], back[7]), (&answer[..4], 63));
}

#[test]
fn rfc8200_s4_extension_headers_go_along_unchanged() {
    let mut gateway = World::new().gateway();
    // Destination options of an unknown kind, and a routing header with no segments left.
    let extensions = [43, 0, 0x1e, 4, 1, 2, 3, 4, 6, 0, 4, 0, 0, 0, 0, 0];
    let request = Packet::web_v6(7, SYN, b"data").bytes();
    let (node, inner) = ip_to_pod(&mut gateway, &with_extensions(&request, 60, &extensions));
    assert_eq!((inner[6], &inner[40..56]), (60, &extensions[..]));
    // Without these headers the packet's checksum is right.
    let mut plain = [&inner[..40], &inner[56..]].concat();
    plain[6] = 6;
    plain[4..6].copy_from_slice(&24_u16.to_be_bytes());
    let seen = Packet::read(&plain);
    assert_eq!(seen.body, Body::Tcp(SYN, b"data".to_vec()));
    to_client(&mut gateway, node, &seen.answer(SYN | ACK, b""));
}

#[test]
fn rfc5095_s3_a_source_route_is_not_followed() {
    let mut gateway = World::new().gateway();
    let routing = [&[6, 2, 0, 1, 0, 0, 0, 0][..], &world::CLIENT_V6.octets()].concat();
    let ip = with_extensions(&Packet::web_v6(7, SYN, b"").bytes(), 43, &routing);
    assert_eq!(dropped(&from_client(&mut gateway, &ip)), DropReason::ExtensionHeader);
}

#[test]
fn rfc8200_s5_packets_of_1280_bytes_cross_the_overlay_whole() {
    let mut gateway = World::new().gateway();
    let request = Packet::web_v6(7, SYN, &[0x55; 1220]);
    assert_eq!(request.bytes().len(), 1280);
    let out = from_client(&mut gateway, &request.bytes());
    let seen = tunnelled(transmitted(&out, UNDERLAY));
    assert_eq!((seen.inner.len(), Packet::read(&seen.inner).body), (1280, request.body));
}

#[test]
fn rfc9293_s3_1_reserved_bits_urgent_data_and_options_go_along_unchanged() {
    let mut gateway = World::new().gateway();
    let (node, inner) = converse(&mut gateway, &Packet::web(7, SYN, b""));
    // Eight bytes of options: an unknown one, then padding.
    let mut ip = Packet::web(7, ACK, &[0x4c, 6, 1, 2, 3, 4, 1, 1, b'h', b'i']).bytes();
    ip[32] = 0x7e;
    ip[33] |= 0x20;
    ip[38..40].copy_from_slice(&[0x12, 0x34]);
    ip[36..38].fill(0);
    let sum = transport_sum_v4(&ip);
    ip[36..38].copy_from_slice(&sum.to_be_bytes());
    let (_, seen) = ip_to_pod(&mut gateway, &ip);
    assert_eq!(transport_sum_v4(&seen), 0);
    assert_eq!((&seen[24..36], &seen[38..]), (&ip[24..36], &ip[38..]));
    to_client(&mut gateway, node, &inner.answer(ACK, b""));
}

/// The checksum over pseudo-header and transport, the checksum field included.
fn transport_sum_v4(ip: &[u8]) -> u16 {
    let len = (ip.len() - 20) as u16;
    let pseudo = [&ip[12..20], &[0, ip[9]], &len.to_be_bytes(), &ip[20..]].concat();
    let mut sum: u32 = pseudo.chunks(2).map(|it| u32::from(it[0]) << 8 | u32::from(*it.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[test]
fn rfc9293_s3_1_a_wrong_checksum_stays_wrong() {
    let mut gateway = World::new().gateway();
    converse(&mut gateway, &Packet::web(7, SYN, b""));
    let mut ip = Packet::web(7, ACK, b"data").bytes();
    let wrong = 0x1357_u16;
    let field = u16::from_be_bytes([ip[36], ip[37]]) ^ wrong;
    ip[36..38].copy_from_slice(&field.to_be_bytes());
    let before = transport_sum_v4(&ip);
    assert_ne!(before, 0);
    let (_, inner) = ip_to_pod(&mut gateway, &ip);
    assert_eq!(transport_sum_v4(&inner), before, "the receiver sees the same damage");
}

#[test]
fn rfc6864_s4_the_identification_of_a_datagram_stays() {
    let mut gateway = World::new().gateway();
    let mut ip = Packet::dns(7, b"query").bytes();
    ip[4..6].copy_from_slice(&[0xab, 0xcd]);
    seal_v4(&mut ip);
    let (node, inner) = ip_to_pod(&mut gateway, &ip);
    assert_eq!(inner[4..8], ip[4..8]);
    let mut answer = Packet::read(&inner).answer(0, b"answer").bytes();
    answer[4..6].copy_from_slice(&[0x98, 0x76]);
    seal_v4(&mut answer);
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer));
    assert_eq!(unframed(transmitted(&out, UPLINK)).1[4..8], answer[4..8]);
}

#[test]
fn rfc768_a_length_past_the_packet_is_refused_and_data_behind_it_is_carried() {
    let mut gateway = World::new().gateway();
    let mut ip = Packet::dns(7, b"query").bytes();
    ip[25] += 1;
    assert_eq!(from_client(&mut gateway, &ip).verdict, Verdict::Drop(DropReason::Truncated));
    // With a length short of the packet no checksum covers the rest; the receiver decides about that.
    let mut ip = Packet::dns(7, b"query").bytes();
    ip.extend([0xaa; 3]);
    ip[3] += 3;
    seal_v4(&mut ip);
    let (_, inner) = ip_to_pod(&mut gateway, &ip);
    assert_eq!((inner.len(), &inner[28..]), (ip.len(), &ip[28..]));
}

#[test]
fn rfc768_a_source_port_of_zero_is_carried_and_answered() {
    let mut gateway = World::new().gateway();
    let request = Packet::dns(0, b"query");
    let (node, inner) = to_pod(&mut gateway, &request);
    assert_ne!(inner.source.port(), 0, "the pool has no such port");
    let seen = to_client(&mut gateway, node, &inner.answer(0, b"answer"));
    assert_eq!((seen.source, seen.destination), (request.destination, request.source));
}

#[test]
fn rfc791_s3_1_the_type_of_service_and_the_reserved_flag_stay_in_both_directions() {
    let mut gateway = World::new().gateway();
    for tos in [0, 0x10, 0xb8, 0xfc] {
        let (node, inner) = to_pod(&mut gateway, &Packet { tos, ..Packet::dns(7, b"query") });
        assert_eq!(inner.tos, tos);
        let answer = Packet { tos: tos ^ 0x20, ..inner.answer(0, b"answer") };
        assert_eq!(to_client(&mut gateway, node, &answer).tos, tos ^ 0x20);
    }
    let mut ip = Packet::dns(7, b"query").bytes();
    ip[6] |= 0x80;
    seal_v4(&mut ip);
    let (_, inner) = ip_to_pod(&mut gateway, &ip);
    assert_eq!(inner[6] & 0xe0, ip[6] & 0xe0);
}

#[test]
fn rfc1812_s5_3_5_1_a_limited_broadcast_goes_no_further() {
    let mut world = World::new();
    world.masquerade = vec![[198, 51, 100, 7].into()];
    let mut gateway = world.gateway();
    for to in [[255, 255, 255, 255], [224, 0, 0, 251], [127, 0, 0, 1]] {
        let sent = |from: SocketAddr| Packet::new(from, (to, 30_053).into(), Body::Udp(b"query".to_vec())).bytes();
        // A packet for no frontend goes to the host, whose kernel does not forward it either.
        assert_eq!(from_client(&mut gateway, &sent((world::CLIENT, 7).into())).verdict, Verdict::Host);
        let out = gateway.send(UNDERLAY, &from_pod(0, &sent((world::pod(0, 10), 7).into())));
        assert_eq!(dropped(&out), DropReason::MartianAddress, "{to:?}");
    }
}
