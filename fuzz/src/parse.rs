//! Reads bytes as every format, and checks that the formats agree with each other.

use weirgate::wire::checksum::{self, Sum};
use weirgate::wire::packet::{self, Ip, Packet, Transport};
use weirgate::wire::{Ecn, ethernet, icmpv4, icmpv6, ipv4, ipv6, quote, sctp, tcp, udp, vxlan};

pub(crate) fn run(data: &[u8]) {
    if let Ok((header, payload)) = ethernet::Header::parse(data) {
        let mut emitted = [0; ethernet::HEADER_LEN + ethernet::TAG_LEN];
        let len = header.emit(&mut emitted).expect("room for a header");
        assert_eq!(&emitted[..len], &data[..len]);
        assert_eq!(payload, &data[len..]);
        read_ip(payload);
        let _ = vxlan::Header::parse(payload).map(|(header, inner)| (header.vni(), inner.len()));
    }
    read_ip(data);
    read_transport(data);
    read_quotes(data);
    // Arbitrary bytes hardly ever have a right checksum; with one, parsing gets further.
    let mut sealed = data.to_vec();
    if seal_v4(&mut sealed) {
        read_ip(&sealed);
        read_quotes(&sealed);
    }
    if let Some((first, rest)) = data.split_first()
        && let Ok(upper) = ipv6::walk(*first, rest)
    {
        assert!(upper.offset <= rest.len());
    }
}

/// Writes the checksum that an IPv4 header of the length in its first byte would have.
fn seal_v4(bytes: &mut [u8]) -> bool {
    let len = bytes.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    let Some(header) = bytes.get_mut(..len).filter(|header| header.len() >= ipv4::HEADER_LEN) else { return false };
    header[0] = 0x40 | header[0] & 0x0f;
    header[10..12].fill(0);
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum);
    true
}

fn read_ip(bytes: &[u8]) {
    let either = packet::parse(bytes);
    match either {
        Ok(Ip::V4(packet)) => {
            assert_eq!(packet::parse_v4(bytes), Ok(packet));
            check(&packet, bytes);
            let (header, payload) = ipv4::Header::parse(bytes).expect("a view of what was read");
            assert!(header.checksum_is_valid());
            assert_eq!((header.source(), header.destination()), (packet.source, packet.destination));
            assert_eq!(header.fragment(), packet.fragment);
            assert_eq!(header.header_len() + payload.len(), usize::from(packet.len));
            let _ = packet.transport_is_intact(bytes);
            mutate_v4(bytes);
        }
        Ok(Ip::V6(packet)) => {
            assert_eq!(packet::parse_v6(bytes), Ok(packet));
            check(&packet, bytes);
            let (header, payload) = ipv6::Header::parse(bytes).expect("a view of what was read");
            assert_eq!((header.source(), header.destination()), (packet.source, packet.destination));
            let upper = ipv6::walk(header.next_header(), payload).expect("a walk that was made");
            assert_eq!(upper.offset + ipv6::HEADER_LEN, usize::from(packet.transport_offset));
            let _ = packet.transport_is_intact(bytes);
        }
        Err(_) => {}
    }
}

/// What parsing has verified about a packet.
fn check<A>(packet: &Packet<A>, bytes: &[u8]) {
    let datagram = &bytes[..usize::from(packet.len)];
    let segment = &datagram[usize::from(packet.transport_offset)..];
    match packet.transport {
        Transport::Tcp => {
            let (header, _) = tcp::Header::parse(segment).expect("a TCP header");
            assert_eq!((header.source_port(), header.flags()), (packet.source_port, packet.flags));
            assert!(header.mss().is_none_or(|mss| mss.offset + 2 <= header.header_len()));
        }
        Transport::Udp => {
            let (header, _) = udp::Header::parse_first(segment).expect("a UDP header");
            assert_eq!(header.destination_port(), packet.destination_port);
            assert!(packet.fragment.is_some() || udp::Header::parse(segment).is_ok());
        }
        Transport::Sctp => {
            let (header, mut chunks) = sctp::Header::parse_first(segment).expect("an SCTP header");
            assert_eq!(header.destination_port(), packet.destination_port);
            assert_eq!(chunks.next().map(|chunk| tcp::Flags::of_chunk(chunk.kind)), Some(packet.flags));
            assert!(packet.fragment.is_some() || sctp::Header::parse(segment).is_ok());
        }
        Transport::EchoRequest | Transport::EchoReply | Transport::IcmpError | Transport::IcmpOther => {
            assert_eq!(segment[..2], packet.icmp);
            assert!(segment.len() >= icmpv4::HEADER_LEN);
        }
        Transport::Other | Transport::LaterFragment => assert!(!packet.has_ports()),
    }
    if let Some(at) = packet.checksum_offset() {
        assert!(usize::from(at) + 2 <= datagram.len());
    }
    assert_eq!(packet.transport == Transport::LaterFragment, packet.fragment.is_some_and(|it| !it.is_first()));
}

fn mutate_v4(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let mut header = ipv4::HeaderMut::at_front(&mut bytes).expect("a header");
    let forwarded = header.forward([192, 0, 2, 1], [10, 77, 0, 1]);
    header.set_ecn(Ecn::Congested);
    let (header, _) = ipv4::Header::parse(&bytes).expect("still a header");
    assert!(header.checksum_is_valid());
    assert!(forwarded.is_none() || header.source() == [192, 0, 2, 1]);
}

fn read_transport(bytes: &[u8]) {
    if let Ok((header, data)) = tcp::Header::parse(bytes) {
        assert_eq!(header.header_len() + data.len(), bytes.len());
        for option in header.options() {
            assert_eq!(bytes[option.offset], option.kind);
        }
    }
    if let Ok((header, data)) = udp::Header::parse(bytes) {
        assert_eq!(usize::from(header.len()), udp::HEADER_LEN + data.len());
    }
    if let Ok((_, chunks)) = sctp::Header::parse(bytes) {
        let lens: Vec<_> =
            chunks.map(|chunk| (sctp::CHUNK_HEADER_LEN + chunk.value.len()).next_multiple_of(4)).collect();
        let len = (sctp::HEADER_LEN + lens.iter().sum::<usize>()).next_multiple_of(4);
        match lens.len() {
            0..sctp::CHUNKS_MAX => assert_eq!(len, bytes.len().next_multiple_of(4)),
            count => assert!(count == sctp::CHUNKS_MAX && len <= bytes.len().next_multiple_of(4)),
        }
        let mut packet = bytes.to_vec();
        assert!(sctp::seal(&mut packet));
        assert_eq!(sctp::checksum(&packet).as_ref().map(|sum| &sum[..]), packet.get(8..12));
    }
    if let Ok((header, _)) = icmpv4::Header::parse(bytes) {
        let _ = (header.next_hop_mtu(), header.quoted_len());
        let mut message = bytes.to_vec();
        assert!(icmpv4::seal(&mut message));
        assert!(Sum::NONE.bytes(&message).is_valid());
    }
    if let Ok((header, _)) = icmpv6::Header::parse(bytes) {
        let _ = (header.mtu(), header.quoted_len());
    }
}

fn read_quotes(bytes: &[u8]) {
    if let Ok(quote) = quote::parse_v4(bytes) {
        assert!(quote.checksum_offset.is_none_or(|at| usize::from(at) + 2 <= bytes.len()));
        assert!(usize::from(quote.transport_offset) <= bytes.len());
    }
    if let Ok(quote) = quote::parse_v6(bytes) {
        assert!(quote.checksum_offset.is_none_or(|at| usize::from(at) + 2 <= bytes.len()));
        assert!(usize::from(quote.transport_offset) <= bytes.len());
    }
}
