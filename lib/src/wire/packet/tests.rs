use super::*;
use crate::wire::ipv6::extension;
use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder, TcpHeader};
use proptest::prelude::*;
use std::vec::Vec;

/// A segment as an independent encoder is told to build it.
#[derive(Clone, Debug)]
enum Segment {
    Tcp { ports: [u16; 2], flags: u8, options: Vec<u8> },
    Udp { ports: [u16; 2] },
    Echo { id: u16, reply: bool },
    Unreachable,
}

fn segment() -> impl Strategy<Value = Segment> {
    let options = prop::collection::vec(Just([1u8; 4]), 0..=10).prop_map(|words| words.concat());
    prop_oneof![
        (any::<[u16; 2]>(), any::<u8>(), options).prop_map(|(ports, flags, options)| Segment::Tcp {
            ports,
            flags,
            options
        }),
        any::<[u16; 2]>().prop_map(|ports| Segment::Udp { ports }),
        (any::<u16>(), any::<bool>()).prop_map(|(id, reply)| Segment::Echo { id, reply }),
        Just(Segment::Unreachable),
    ]
}

macro_rules! build {
    ($step:expr, $segment:expr, $data:expr, $icmp:ident, $echo_request:expr, $echo_reply:expr, $unreachable:expr) => {{
        let step = $step;
        let data: &[u8] = $data;
        match $segment {
            Segment::Tcp { ports: [source, destination], flags, options } => {
                let mut header = TcpHeader::new(*source, *destination, 1, 2);
                header.set_options_raw(options).unwrap();
                let bit = |at: u8| flags >> at & 1 == 1;
                (header.fin, header.syn, header.rst, header.psh) = (bit(0), bit(1), bit(2), bit(3));
                (header.ack, header.urg, header.ece, header.cwr) = (bit(4), bit(5), bit(6), bit(7));
                finish!(step.tcp_header(header), data)
            }
            Segment::Udp { ports: [source, destination] } => finish!(step.udp(*source, *destination), data),
            Segment::Echo { id, reply: false } => finish!(step.$icmp($echo_request(*id)), data),
            Segment::Echo { id, reply: true } => finish!(step.$icmp($echo_reply(*id)), data),
            Segment::Unreachable => finish!(step.$icmp($unreachable), data),
        }
    }};
}

macro_rules! finish {
    ($step:expr, $data:expr) => {{
        let step = $step;
        let mut bytes = std::vec![0; step.size($data.len())];
        step.write_to_slice(&mut bytes, $data).unwrap();
        bytes
    }};
}

fn datagram_v4(source: [u8; 4], destination: [u8; 4], ttl: u8, segment: &Segment, data: &[u8]) -> Vec<u8> {
    let echo = |id| IcmpEchoHeader { id, seq: 1 };
    build!(
        PacketBuilder::ipv4(source, destination, ttl),
        segment,
        data,
        icmpv4,
        |id| Icmpv4Type::EchoRequest(echo(id)),
        |id| Icmpv4Type::EchoReply(echo(id)),
        Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port)
    )
}

fn datagram_v6(source: [u8; 16], destination: [u8; 16], ttl: u8, segment: &Segment, data: &[u8]) -> Vec<u8> {
    let echo = |id| IcmpEchoHeader { id, seq: 1 };
    build!(
        PacketBuilder::ipv6(source, destination, ttl),
        segment,
        data,
        icmpv6,
        |id| Icmpv6Type::EchoRequest(echo(id)),
        |id| Icmpv6Type::EchoReply(echo(id)),
        Icmpv6Type::DestinationUnreachable(etherparse::icmpv6::DestUnreachableCode::Port)
    )
}

/// What of a packet follows from its segment alone.
fn expected(segment: &Segment, icmp: [u8; 3]) -> (Transport, [u16; 2], u8, [u8; 2]) {
    let [request, reply, unreachable] = icmp;
    let port_code = if request == 8 { 3 } else { 4 };
    match segment {
        Segment::Tcp { ports, flags, .. } => (Transport::Tcp, *ports, *flags, [0; 2]),
        Segment::Udp { ports } => (Transport::Udp, *ports, 0, [0; 2]),
        Segment::Echo { id, reply: false } => (Transport::EchoRequest, [*id; 2], 0, [request, 0]),
        Segment::Echo { id, reply: true } => (Transport::EchoReply, [*id; 2], 0, [reply, 0]),
        Segment::Unreachable => (Transport::IcmpError, [0; 2], 0, [unreachable, port_code]),
    }
}

fn found<A>(packet: &Packet<A>) -> (Transport, [u16; 2], u8, [u8; 2]) {
    let ports = [packet.source_port, packet.destination_port].map(u16::from_be_bytes);
    (packet.transport, ports, packet.flags.0, packet.icmp)
}

/// An IPv4 datagram in one piece of several: `word` is the field of flags and offset.
fn fragment_v4(protocol: Protocol, word: u16, data: &[u8]) -> Vec<u8> {
    let fields = ipv4::Fields {
        tos: 0,
        total_len: 20 + data.len() as u16,
        id: 77,
        dont_fragment: word & 0x4000 != 0,
        fragment_offset: word << 3,
        more_fragments: word & 0x2000 != 0,
        ttl: 64,
        protocol,
        source: [10, 0, 0, 1],
        destination: [10, 0, 0, 2],
    };
    [&fields.emit()[..], data].concat()
}

fn v6_of(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let fields = ipv6::Fields {
        traffic_class: 0,
        flow_label: 0,
        payload_len: payload.len() as u16,
        next_header,
        hop_limit: 64,
        source: [1; 16],
        destination: [2; 16],
    };
    [&fields.emit()[..], payload].concat()
}

const UDP: [u8; 8] = [0x12, 0x34, 0, 53, 0, 8, 0xab, 0xcd];

#[test]
fn a_packet_fits_a_cache_line() {
    assert_eq!(size_of::<Result<V4, ParseError>>(), 32);
    assert_eq!(size_of::<Result<V6, ParseError>>(), 56);
}

#[test]
fn a_whole_datagram_may_forbid_cutting() {
    let packet = parse_v4(&fragment_v4(Protocol::UDP, 0x4000, &UDP)).unwrap();
    assert_eq!((packet.dont_fragment, packet.fragment), (true, None));
    let packet = parse_v4(&fragment_v4(Protocol::UDP, 0, &UDP)).unwrap();
    assert_eq!((packet.dont_fragment, packet.fragment), (false, None));
}

#[test]
fn a_first_fragment_has_ports_and_a_later_one_has_none() {
    let mut first = UDP;
    [first[4], first[5]] = [5, 220];
    let packet = parse_v4(&fragment_v4(Protocol::UDP, 0x2000, &[&first[..], &[0; 1464]].concat())).unwrap();
    assert_eq!(packet.transport, Transport::Udp);
    assert_eq!((packet.source_port, packet.destination_port), ([0x12, 0x34], [0, 53]));
    assert_eq!(packet.fragment, Some(Fragment { id: 77, offset: 0, more: true }));
    assert_eq!(packet.transport_is_intact(&[]), None);

    let later = fragment_v4(Protocol::UDP, 184, &[0xff; 33]);
    let packet = parse_v4(&later).unwrap();
    assert_eq!(packet.transport, Transport::LaterFragment);
    assert_eq!((packet.source_port, packet.destination_port), ([0; 2], [0; 2]));
    assert_eq!(packet.fragment, Some(Fragment { id: 77, offset: 1472, more: false }));
    assert_eq!((packet.transport_offset, packet.len), (20, 53));
    assert!(!packet.has_ports() && packet.checksum_offset().is_none());
}

#[test]
fn rfc1858_s3_a_first_fragment_holds_the_whole_transport_header() {
    let tcp = tcp::Fields::default().emit();
    let error = parse_v4(&fragment_v4(Protocol::TCP, 0x2000, &tcp[..16])).unwrap_err();
    assert_eq!(error, ParseError::TinyFragment { have: 16 });
    let mut with_options = [&tcp[..], &[1; 4]].concat();
    with_options[12] = 0x70;
    let error = parse_v4(&fragment_v4(Protocol::TCP, 0x2000, &with_options)).unwrap_err();
    assert_eq!(error, ParseError::TinyFragment { have: 24 });
    let whole = parse_v4(&fragment_v4(Protocol::TCP, 0, &tcp[..16])).unwrap_err();
    assert_eq!(whole, ParseError::Truncated { layer: Layer::Tcp, need: 20, have: 16 });
}

#[test]
fn rfc3128_a_fragment_inside_the_tcp_header_is_refused() {
    for offset in [8, 16] {
        let error = parse_v4(&fragment_v4(Protocol::TCP, offset >> 3, &[0; 64])).unwrap_err();
        assert_eq!(error, ParseError::BadFragment { offset });
        let header = [&[6, 0, 0, offset as u8, 0, 0, 0, 1][..], &[0; 64]].concat();
        let error = parse_v6(&v6_of(extension::FRAGMENT, &header)).unwrap_err();
        assert_eq!(error, ParseError::BadFragment { offset });
    }
    parse_v4(&fragment_v4(Protocol::TCP, 3, &[0; 64])).unwrap();
    parse_v4(&fragment_v4(Protocol::UDP, 1, &[0; 64])).unwrap();
}

#[test]
fn rfc8200_s4_5_fragments_that_cannot_be_put_together_are_refused() {
    let uneven = parse_v4(&fragment_v4(Protocol::UDP, 0x2000 | 100, &[0; 12]));
    assert_eq!(uneven, Err(ParseError::BadFragment { offset: 800 }));
    let past_the_end = parse_v4(&fragment_v4(Protocol::UDP, 0x1fff, &[0; 9]));
    assert_eq!(past_the_end, Err(ParseError::BadFragment { offset: 65528 }));
    // RFC 791 §3.1 counts the header in the 65535 bytes.
    let past_the_end = parse_v4(&fragment_v4(Protocol::UDP, 0x1ffd, &[0; 4]));
    assert_eq!(past_the_end, Err(ParseError::BadFragment { offset: 65512 }));
    parse_v4(&fragment_v4(Protocol::UDP, 0x1ffd, &[0; 3])).unwrap();
    for word in [0x2000 | 100, 100] {
        let empty = parse_v4(&fragment_v4(Protocol::UDP, word, &[]));
        assert_eq!(empty, Err(ParseError::BadFragment { offset: 800 }));
    }

    let v6 = |word: u16, data: &[u8]| {
        let [o0, o1] = word.to_be_bytes();
        parse_v6(&v6_of(extension::FRAGMENT, &[&[17, 0, o0, o1, 0, 0, 0, 1][..], data].concat()))
    };
    assert_eq!(v6(800 | 1, &[0; 12]), Err(ParseError::BadFragment { offset: 800 }));
    assert_eq!(v6(65528, &[0; 8]), Err(ParseError::BadFragment { offset: 65528 }));
    v6(65528, &[0; 7]).unwrap();
    v6(800 | 1, &[0; 16]).unwrap();
}

#[test]
fn rfc6946_an_atomic_fragment_is_a_whole_datagram() {
    let payload = [&[17, 0, 0, 0, 0, 0, 0, 1][..], &UDP].concat();
    let packet = parse_v6(&v6_of(extension::FRAGMENT, &payload)).unwrap();
    assert_eq!((packet.transport, packet.fragment), (Transport::Udp, None));
    assert_eq!(packet.transport_offset, 48);
    assert_eq!(packet.protocol, Protocol::UDP);
}

#[test]
fn extension_headers_move_the_transport_header() {
    let payload =
        [&[extension::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 1, 4, 0, 0, 0, 0], &UDP].concat();
    let packet = parse_v6(&v6_of(extension::HOP_BY_HOP, &payload)).unwrap();
    assert_eq!((packet.transport, packet.transport_offset), (Transport::Udp, 56));
    assert_eq!(packet.checksum_offset(), Some(62));
}

#[test]
fn rfc8200_s8_1_udp_over_ipv6_needs_a_checksum() {
    let mut udp = UDP;
    [udp[6], udp[7]] = [0; 2];
    assert_eq!(parse_v6(&v6_of(17, &udp)), Err(ParseError::UdpChecksumMissing { port: 53 }));
    parse_v4(&fragment_v4(Protocol::UDP, 0, &udp)).unwrap();
}

#[test]
fn the_other_familys_icmp_is_just_another_protocol() {
    let packet = parse_v4(&fragment_v4(Protocol::ICMPV6, 0, &[128, 0, 0, 0])).unwrap();
    assert_eq!((packet.transport, packet.icmp), (Transport::Other, [0; 2]));
    let packet = parse_v6(&v6_of(1, &[8, 0, 0, 0])).unwrap();
    assert_eq!((packet.transport, packet.icmp), (Transport::Other, [0; 2]));
}

#[test]
fn ip_options_are_summed_and_stepped_over() {
    let mut datagram = datagram_v4([1; 4], [2; 4], 9, &Segment::Udp { ports: [5, 6] }, b"data");
    datagram.splice(20..20, [7, 3, 4, 0]);
    datagram[0] = 0x46;
    let len = datagram.len() as u16;
    datagram[2..4].copy_from_slice(&len.to_be_bytes());
    [datagram[10], datagram[11]] = [0; 2];
    let sum = checksum::of(&datagram[..24]);
    datagram[10..12].copy_from_slice(&sum);
    let packet = parse_v4(&datagram).unwrap();
    assert_eq!((packet.transport_offset, packet.destination_port), (24, [0, 6]));
    assert_eq!(packet.transport_is_intact(&datagram), Some(true));
    datagram[22] ^= 1;
    assert_eq!(parse_v4(&datagram), Err(ParseError::BadIpChecksum));
}

#[test]
fn a_fragments_length_counts_from_behind_its_header_and_fits_a_datagram() {
    // Eight bytes of options before the fragment header, and so much data behind what came before.
    let of = |offset: u16, len: usize| {
        let [high, low] = offset.to_be_bytes();
        let headers = [[extension::FRAGMENT, 0, 1, 4, 0, 0, 0, 0], [17, 0, high, low, 0, 0, 0, 1]].concat();
        parse_v6(&v6_of(extension::HOP_BY_HOP, &[headers, std::vec![0; len]].concat())).map(|packet| packet.fragment)
    };
    let fits = Ok(Some(Fragment { id: 1, offset: 65_512, more: false }));
    assert_eq!((of(65_512, 8), of(65_512, 15)), (fits, fits));
    assert_eq!(of(65_512, 16), Err(ParseError::BadFragment { offset: 65_512 }));
    for (offset, more, len, fits) in
        [(0, false, 0, true), (0, true, 0, false), (8, false, 0, false), (8, true, 8, true), (8, true, 7, false)]
    {
        let fragment = Fragment { id: 1, offset, more };
        assert_eq!(fragment.check(20, len).is_ok(), fits, "{fragment:?} {len}");
    }
}

#[test]
fn a_first_fragment_holds_the_header_of_sctps_first_chunk() {
    let sctp = [&sctp::emit([0, 7], [0, 9], [1, 2, 3, 4])[..], &sctp::emit_chunk(1, 0, 12)].concat();
    assert_eq!(parse_v4(&fragment_v4(Protocol::SCTP, 0x2000, &sctp[..8])), Err(ParseError::TinyFragment { have: 8 }));
    let packet = parse_v4(&fragment_v4(Protocol::SCTP, 0x2000, &sctp)).unwrap();
    assert_eq!((packet.transport, packet.has_ports()), (Transport::Sctp, true));
}

#[test]
fn a_length_that_no_error_can_name_is_named_as_the_largest() {
    for (len, named) in [(65_534, 65_534), (65_535, 65_535), (65_536, 65_535), (200_000, 65_535)] {
        let error = ParseError::truncated(Layer::Ipv4, len, len);
        assert_eq!(error, ParseError::Truncated { layer: Layer::Ipv4, need: named, have: named });
    }
}

#[test]
fn the_checksum_of_sctp_is_checked_and_that_of_what_is_not_known_is_not() {
    let mut sctp = [&sctp::emit([0, 7], [0, 9], [1, 2, 3, 4])[..], &sctp::emit_chunk(1, 0, 4), &[5; 4]].concat();
    assert!(sctp::seal(&mut sctp));
    for (bit, intact) in [(0, true), (1, false)] {
        sctp[9] ^= bit;
        let (v4, v6) = (fragment_v4(Protocol::SCTP, 0, &sctp), v6_of(Protocol::SCTP.0, &sctp));
        assert_eq!(parse_v4(&v4).unwrap().transport_is_intact(&v4), Some(intact));
        assert_eq!(parse_v6(&v6).unwrap().transport_is_intact(&v6), Some(intact));
    }
    let (v4, v6) = (fragment_v4(Protocol(47), 0, &[0; 20]), v6_of(47, &[0; 20]));
    assert_eq!(parse_v4(&v4).unwrap().transport_is_intact(&v4), None);
    assert_eq!(parse_v6(&v6).unwrap().transport_is_intact(&v6), None);
}

#[test]
fn the_version_field_chooses_the_family() {
    assert!(matches!(parse(&fragment_v4(Protocol::UDP, 0, &UDP)), Ok(Ip::V4(_))));
    assert!(matches!(parse(&v6_of(17, &UDP)), Ok(Ip::V6(_))));
    assert_eq!(parse(&[0x50; 60]), Err(ParseError::BadVersion { version: 5 }));
    assert_eq!(parse(&[]), Err(ParseError::Truncated { layer: Layer::Ipv4, need: 1, have: 0 }));
    assert_eq!(parse_v4(&v6_of(17, &UDP)), Err(ParseError::BadVersion { version: 6 }));
    assert_eq!(parse_v6(&fragment_v4(Protocol::UDP, 0, &[0; 40])), Err(ParseError::BadVersion { version: 4 }));
}

proptest! {
    #[test]
    fn what_an_independent_encoder_builds_over_ipv4_is_read(
        source: [u8; 4], destination: [u8; 4], ttl: u8, segment in segment(), data: Vec<u8>, padding: Vec<u8>,
    ) {
        let mut bytes = datagram_v4(source, destination, ttl, &segment, &data);
        let len = bytes.len();
        bytes.extend_from_slice(&padding);
        let packet = parse_v4(&bytes).unwrap();
        prop_assert_eq!((packet.source, packet.destination, packet.ttl), (source, destination, ttl));
        prop_assert_eq!((usize::from(packet.len), packet.transport_offset), (len, 20));
        prop_assert_eq!(found(&packet), expected(&segment, [8, 0, 3]));
        prop_assert_eq!(packet.transport_is_intact(&bytes), Some(true));
        let at = usize::from(packet.checksum_offset().unwrap());
        bytes[at] ^= 0x10;
        prop_assert_eq!(packet.transport_is_intact(&bytes), Some(false));
        for len in 0..len {
            let truncated = matches!(parse_v4(&bytes[..len]), Err(ParseError::Truncated { .. }));
            prop_assert!(truncated);
        }
    }

    #[test]
    fn what_an_independent_encoder_builds_over_ipv6_is_read(
        source: [u8; 16], destination: [u8; 16], ttl: u8, segment in segment(), data: Vec<u8>, padding: Vec<u8>,
    ) {
        let mut bytes = datagram_v6(source, destination, ttl, &segment, &data);
        let len = bytes.len();
        bytes.extend_from_slice(&padding);
        let packet = parse_v6(&bytes).unwrap();
        prop_assert_eq!((packet.source, packet.destination, packet.ttl), (source, destination, ttl));
        prop_assert_eq!((usize::from(packet.len), packet.transport_offset), (len, 40));
        prop_assert_eq!(found(&packet), expected(&segment, [128, 129, 1]));
        prop_assert_eq!(packet.transport_is_intact(&bytes), Some(true));
        let at = usize::from(packet.checksum_offset().unwrap());
        bytes[at] ^= 0x10;
        prop_assert_eq!(packet.transport_is_intact(&bytes), Some(false));
        for len in 0..len {
            let truncated = matches!(parse_v6(&bytes[..len]), Err(ParseError::Truncated { .. }));
            prop_assert!(truncated);
        }
    }

    #[test]
    fn one_pass_agrees_with_the_views(
        source: [u8; 4], destination: [u8; 4], segment in segment(), data: Vec<u8>, at: prop::sample::Index, bit in 0u8..8,
    ) {
        let mut bytes = datagram_v4(source, destination, 64, &segment, &data);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // The header's sum is set right again, so that the damage gets past it.
        [bytes[10], bytes[11]] = [0; 2];
        if let Some(header) = bytes.get(..usize::from(bytes[0] & 15) * 4).filter(|header| header.len() >= 20) {
            let sum = checksum::of(header);
            bytes[10..12].copy_from_slice(&sum);
        }
        let Ok(packet) = parse_v4(&bytes) else { return Ok(()) };
        let (header, payload) = ipv4::Header::parse(&bytes).unwrap();
        prop_assert!(header.checksum_is_valid());
        prop_assert_eq!(usize::from(packet.transport_offset), header.header_len());
        prop_assert_eq!(packet.fragment, header.fragment());
        match packet.transport {
            Transport::Tcp => {
                let (tcp, _) = tcp::Header::parse(payload).unwrap();
                prop_assert_eq!(packet.source_port, tcp.source_port());
                prop_assert_eq!(packet.flags, tcp.flags());
            }
            Transport::Udp if packet.fragment.is_none() => {
                let (udp, _) = udp::Header::parse(payload).unwrap();
                prop_assert_eq!(packet.destination_port, udp.destination_port());
            }
            Transport::EchoReply | Transport::EchoRequest => {
                let (icmp, _) = icmpv4::Header::parse(payload).unwrap();
                prop_assert_eq!(packet.source_port, icmp.identifier());
            }
            _ => {}
        }
    }

    #[test]
    fn lengths_proved_are_inside_the_datagram(family: bool, next in prop::sample::select(&[0u8, 1, 6, 17, 43, 44, 58, 60][..]),
                                              mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        // Noise that gets past the first checks.
        let len = bytes.len();
        if family && len >= 20 {
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            [bytes[6], bytes[7], bytes[9]] = [bytes[6] & 0x20, bytes[7] & 1, next];
            [bytes[10], bytes[11]] = [0; 2];
            let sum = checksum::of(&bytes[..20]);
            bytes[10..12].copy_from_slice(&sum);
        } else if len >= 40 {
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
            bytes[6] = next;
        }
        let (offset, total, transport, fragment) = match parse(&bytes) {
            Ok(Ip::V4(packet)) => (packet.transport_offset, packet.len, packet.transport, packet.fragment),
            Ok(Ip::V6(packet)) => (packet.transport_offset, packet.len, packet.transport, packet.fragment),
            Err(_) => return Ok(()),
        };
        prop_assert!(usize::from(total) <= len && offset <= total);
        let proved = match transport {
            Transport::Tcp => 20,
            Transport::Other | Transport::LaterFragment => 0,
            _ => 8,
        };
        prop_assert!(offset + proved <= total);
        prop_assert_eq!(transport == Transport::LaterFragment, fragment.is_some_and(|f| f.offset != 0));
    }

    #[test]
    fn noise_never_panics(bytes: Vec<u8>) {
        let _ = parse(&bytes);
        let _ = parse_v4(&bytes);
        let _ = parse_v6(&bytes);
    }
}
