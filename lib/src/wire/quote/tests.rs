use super::*;
use crate::wire::{checksum, icmpv4, icmpv6, packet, tcp};
use etherparse::PacketBuilder;
use proptest::prelude::*;
use std::vec::Vec;

fn udp_v4(data: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4([10, 77, 4, 10], [192, 0, 2, 1], 63).udp(8080, 40000);
    let mut bytes = std::vec![0; builder.size(data.len())];
    builder.write_to_slice(&mut bytes, data).unwrap();
    bytes
}

fn tcp_v6(data: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv6([0xfd; 16], [0x20; 16], 63).tcp(443, 40000, 7, 1000);
    let mut bytes = std::vec![0; builder.size(data.len())];
    builder.write_to_slice(&mut bytes, data).unwrap();
    bytes
}

#[test]
fn rfc792_header_and_eight_bytes_name_the_flow() {
    let whole = udp_v4(&[0; 1400]);
    let quote = parse_v4(&whole[..28]).unwrap();
    assert_eq!((quote.source, quote.destination), ([10, 77, 4, 10], [192, 0, 2, 1]));
    assert_eq!((quote.source_port, quote.destination_port), (8080u16.to_be_bytes(), 40000u16.to_be_bytes()));
    assert_eq!((quote.transport, quote.transport_offset, quote.len), (Transport::Udp, 20, 1428));
    assert_eq!(quote.checksum_offset, Some(26));
    assert!(quote.header_is_intact && quote.fragment.is_none());
}

#[test]
fn a_tcp_checksum_is_in_reach_only_where_it_was_quoted() {
    let whole = tcp_v6(&[0; 100]);
    assert_eq!(parse_v6(&whole[..48]).unwrap().checksum_offset, None);
    assert_eq!(parse_v6(&whole[..57]).unwrap().checksum_offset, None);
    assert_eq!(parse_v6(&whole[..58]).unwrap().checksum_offset, Some(56));
}

#[test]
fn rfc5508_req3_a_changed_quoted_header_is_seen() {
    let mut whole = udp_v4(&[]);
    whole[8] -= 1;
    assert!(!parse_v4(&whole).unwrap().header_is_intact);
}

#[test]
fn rfc1122_s3_2_2_an_error_about_an_error_is_seen() {
    let mut inner = icmpv4::emit(icmpv4::kind::UNREACHABLE, 3, [0; 4]).to_vec();
    assert!(icmpv4::seal(&mut inner));
    let fields = ipv4::Fields {
        tos: 0,
        total_len: 28,
        id: 0,
        dont_fragment: false,
        fragment_offset: 0,
        more_fragments: false,
        ttl: 1,
        protocol: Protocol::ICMP,
        source: [1; 4],
        destination: [2; 4],
    };
    let quote = parse_v4(&[&fields.emit()[..], &inner].concat()).unwrap();
    assert_eq!(quote.transport, Transport::IcmpError);

    let fields = ipv6::Fields {
        traffic_class: 0,
        flow_label: 0,
        payload_len: 8,
        next_header: Protocol::ICMPV6.0,
        hop_limit: 1,
        source: [1; 16],
        destination: [2; 16],
    };
    let echo = [&fields.emit()[..], &icmpv6::emit(128, 0, [0xab, 0xcd, 0, 1])].concat();
    let quote = parse_v6(&echo).unwrap();
    assert_eq!((quote.transport, quote.source_port), (Transport::EchoRequest, [0xab, 0xcd]));
    assert_eq!(quote.destination_port, [0xab, 0xcd]);
    assert_eq!(quote.checksum_offset, Some(42));
    let error = [&fields.emit()[..], &icmpv6::emit(3, 0, [0; 4])].concat();
    assert_eq!(parse_v6(&error).unwrap().transport, Transport::IcmpError);
}

#[test]
fn a_quoted_later_fragment_has_no_ports() {
    let mut bytes = udp_v4(&[0; 64]);
    [bytes[6], bytes[7]] = [0, 185];
    let quote = parse_v4(&bytes[..24]).unwrap();
    assert_eq!((quote.transport, quote.source_port), (Transport::LaterFragment, [0; 2]));
    assert_eq!(quote.fragment, Some(Fragment { id: 0, offset: 1480, more: false }));
    assert_eq!(quote.checksum_offset, None);
}

#[test]
fn a_quoted_fragment_header_is_walked_over() {
    let tcp = tcp::Fields { source_port: [1, 187], destination_port: [0x9c, 0x40], ..Default::default() }.emit();
    let fields = ipv6::Fields {
        traffic_class: 0,
        flow_label: 0,
        payload_len: 1232,
        next_header: ipv6::extension::FRAGMENT,
        hop_limit: 1,
        source: [1; 16],
        destination: [2; 16],
    };
    let bytes = [&fields.emit()[..], &[6, 0, 0, 1, 0, 0, 0, 5], &tcp[..8]].concat();
    let quote = parse_v6(&bytes).unwrap();
    assert_eq!((quote.transport_offset, quote.source_port), (48, [1, 187]));
    assert_eq!(quote.fragment, Some(Fragment { id: 5, offset: 0, more: true }));
    assert_eq!(quote.len, 1272);

    // The last one has no ports; one that is alone is a whole datagram (RFC 6946).
    let last = [&fields.emit()[..], &[6, 0, 4, 0xd0, 0, 0, 0, 5], &tcp[..8]].concat();
    let quote = parse_v6(&last).unwrap();
    assert_eq!(quote.fragment, Some(Fragment { id: 5, offset: 1232, more: false }));
    assert_eq!((quote.transport, quote.source_port), (Transport::LaterFragment, [0; 2]));
    let alone = [&fields.emit()[..], &[6, 0, 0, 0, 0, 0, 0, 5], &tcp[..8]].concat();
    let quote = parse_v6(&alone).unwrap();
    assert_eq!((quote.fragment, quote.transport, quote.source_port), (None, Transport::Tcp, [1, 187]));
}

#[test]
fn the_other_familys_icmp_is_quoted_as_just_another_protocol() {
    let mut bytes = udp_v4(&[]);
    bytes[9] = Protocol::ICMPV6.0;
    assert_eq!(parse_v4(&bytes).unwrap().transport, Transport::Other);
    let mut bytes = tcp_v6(&[]);
    bytes[6] = Protocol::ICMP.0;
    assert_eq!(parse_v6(&bytes).unwrap().transport, Transport::Other);
}

proptest! {
    #[test]
    fn every_cut_reads_as_the_whole_or_not_at_all(data: Vec<u8>) {
        for whole in [udp_v4(&data), tcp_v6(&data)] {
            let v4 = whole[0] >> 4 == 4;
            let least = if v4 { 28 } else { 48 };
            for len in 0..whole.len() {
                let cut = &whole[..len];
                if len < least {
                    let truncated = if v4 { parse_v4(cut).map(drop) } else { parse_v6(cut).map(drop) };
                    let truncated = matches!(truncated, Err(ParseError::Truncated { .. }));
                    prop_assert!(truncated);
                    continue;
                }
                match packet::parse(&whole).unwrap() {
                    packet::Ip::V4(packet) => {
                        let quote = parse_v4(cut).unwrap();
                        prop_assert_eq!((quote.source, quote.destination), (packet.source, packet.destination));
                        prop_assert_eq!((quote.source_port, quote.destination_port), (packet.source_port, packet.destination_port));
                        prop_assert_eq!((quote.len, quote.transport), (packet.len, packet.transport));
                    }
                    packet::Ip::V6(packet) => {
                        let quote = parse_v6(cut).unwrap();
                        prop_assert_eq!((quote.source, quote.destination), (packet.source, packet.destination));
                        prop_assert_eq!((quote.source_port, quote.destination_port), (packet.source_port, packet.destination_port));
                        prop_assert_eq!((quote.len, quote.transport), (packet.len, packet.transport));
                        prop_assert!(quote.checksum_offset.is_none_or(|at| usize::from(at) + 2 <= len));
                    }
                }
            }
        }
    }

    #[test]
    fn noise_never_panics(mut bytes: Vec<u8>, next in prop::sample::select(&[0u8, 1, 6, 17, 43, 44, 58, 60][..])) {
        let _ = (parse_v4(&bytes), parse_v6(&bytes));
        for first in [0x45, 0x60] {
            if let Some(head) = bytes.first_chunk_mut::<20>() {
                [head[0], head[6], head[9]] = [first, if first == 0x60 { next } else { head[6] }, next];
            }
            if let Ok(quote) = parse_v4(&bytes) {
                prop_assert!(quote.checksum_offset.is_none_or(|at| usize::from(at) + 2 <= bytes.len()));
                prop_assert_eq!(quote.header_is_intact, checksum::of(&bytes[..usize::from(quote.transport_offset)]) == [0; 2]);
            }
            if let Ok(quote) = parse_v6(&bytes) {
                prop_assert!(quote.checksum_offset.is_none_or(|at| usize::from(at) + 2 <= bytes.len()));
            }
        }
    }
}
