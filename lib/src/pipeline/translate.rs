//! The families' own bytes: translation, echo replies, errors.

use super::family::Wire;
use super::item::{Item, Sorted};
use super::report::Report;
use crate::flow::Tuple;
use crate::net::{Mac, Protocol};
use crate::snapshot::Snapshot;
use crate::verdict::DropReason;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::packet::{self, Packet, PlainUdp, Transport};
use crate::wire::quote::{self, Quote};
use crate::wire::{Dscp, Ecn, ParseError, crc32c, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp};

/// Bytes of a source and a destination port.
const PORTS_LEN: usize = 4;

/// The time to live and hop limit of packets of the gateway's own.
const OWN_TTL: u8 = 64;

impl Wire for [u8; 4] {
    const HEADER_LEN: usize = ipv4::HEADER_LEN;

    const HAS_UDP_CHECKSUM: bool = false;

    /// RFC 1812 §4.3.2.3: as much as fits in 576 bytes.
    const ERROR_LEN_MAX: usize = 576;

    /// Precedence 6, internetwork control (RFC 1812 §4.3.2.5).
    const ERROR_TOS: u8 = 0xc0;

    #[inline(always)]
    fn vtep(snapshot: &Snapshot<'_>) -> (Self, bool) {
        (snapshot.globals.vtep_v4, snapshot.globals.has_v4 != 0)
    }

    #[inline(always)]
    fn vtep_mac<'a>(snapshot: &Snapshot<'a>) -> &'a Mac {
        &snapshot.globals.mac_v4
    }

    #[inline(always)]
    fn parse_plain(ip: &[u8]) -> Result<Option<Packet<Self>>, ParseError> {
        packet::parse_plain_v4(ip)
    }

    #[inline(always)]
    fn is_to(ip: &[u8], address: Self) -> bool {
        ip.first_chunk().is_some_and(|head| ipv4::destination(head) == address)
    }

    #[inline(always)]
    fn is_udp(ip: &[u8]) -> bool {
        ip.first_chunk().is_some_and(|head| ipv4::protocol(head) == Protocol::UDP)
    }

    #[inline(always)]
    fn parse_plain_udp(ip: &[u8]) -> Option<PlainUdp> {
        packet::parse_plain_udp_v4(ip)
    }

    fn parse(ip: &[u8]) -> Result<Packet<Self>, ParseError> {
        packet::parse_v4(ip)
    }

    #[inline(always)]
    fn sorted(item: Item<Self>) -> Sorted {
        Sorted::V4(item)
    }

    #[inline(always)]
    fn translate(ip: &mut [u8], packet: &Packet<Self>, to: &Tuple<Self>, whole_len: u16) -> Result<(), DropReason> {
        let mut header = ipv4::HeaderMut::at_front(ip).ok_or(DropReason::Malformed)?;
        let addresses = header.forward(to.source, to.destination).ok_or(DropReason::TtlExpired)?;
        translate_transport(ip, packet, to, addresses, whole_len)
    }

    fn set_identification(ip: &mut [u8], identification: u16) {
        if let Some(mut header) = ipv4::HeaderMut::at_front(ip) {
            header.set_id(identification);
        }
    }

    fn set_ecn(ip: &mut [u8], ecn: Ecn) {
        if let Some(mut header) = ipv4::HeaderMut::at_front(ip) {
            header.set_ecn(ecn);
        }
    }

    fn set_dscp(ip: &mut [u8], dscp: Dscp) -> Option<()> {
        ipv4::HeaderMut::at_front(ip)?.set_dscp(dscp);
        Some(())
    }

    /// Not unspecified, loopback, a group or broadcast (RFC 1812 §5.3.7), as Linux judges: what else was once
    /// reserved is in use.
    fn may_send(address: Self) -> bool {
        let address = core::net::Ipv4Addr::from(address);
        !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast())
    }

    fn answer_echo(ip: &mut [u8], packet: &Packet<Self>) -> Option<()> {
        if packet.transport == Transport::EchoRequest {
            let message = ip.get_mut(usize::from(packet.transport_offset)..usize::from(packet.len))?;
            icmpv4::answer_echo(message.first_chunk_mut()?);
        }
        let mut header = ipv4::HeaderMut::at_front(ip)?;
        header.set_source(packet.destination);
        header.set_destination(packet.source);
        header.set_ttl(OWN_TTL);
        Some(())
    }

    fn has_source_route(ip: &[u8]) -> bool {
        ipv4::Header::parse(ip).is_ok_and(|(header, _)| header.has_source_route())
    }

    fn write_error(ip: &mut [u8], report: Report, source: Self, destination: Self) -> Option<()> {
        let (kind, code, rest) = match report {
            Report::TimeExceeded => (icmpv4::kind::TIME_EXCEEDED, 0, [0; 4]),
            Report::TooBig { mtu } => {
                let [high, low] = mtu.to_be_bytes();
                (icmpv4::kind::UNREACHABLE, icmpv4::unreachable::FRAGMENTATION_NEEDED, [0, 0, high, low])
            }
            Report::NoBackend => (icmpv4::kind::UNREACHABLE, icmpv4::unreachable::PORT, [0; 4]),
        };
        let fields = ipv4::Fields {
            tos: Self::ERROR_TOS,
            total_len: u16::try_from(ip.len()).ok()?,
            id: 0,
            dont_fragment: false,
            fragment_offset: 0,
            more_fragments: false,
            ttl: OWN_TTL,
            protocol: Protocol::ICMP,
            source,
            destination,
        };
        let (header, message) = ip.split_first_chunk_mut()?;
        *header = fields.emit();
        *message.first_chunk_mut()? = icmpv4::emit(kind, code, rest);
        icmpv4::seal(message).then_some(())
    }

    fn write_reset(ip: &mut [u8], tuple: &Tuple<Self>, sequence: u32) -> Option<()> {
        let fields = ipv4::Fields {
            tos: 0,
            total_len: u16::try_from(ip.len()).ok()?,
            id: 0,
            dont_fragment: true,
            fragment_offset: 0,
            more_fragments: false,
            ttl: OWN_TTL,
            protocol: Protocol::TCP,
            source: tuple.source,
            destination: tuple.destination,
        };
        let (header, segment) = ip.split_first_chunk_mut()?;
        *header = fields.emit();
        let pseudo = Sum::NONE.pseudo_v4(tuple.source, tuple.destination, Protocol::TCP.0, tcp::HEADER_LEN as u16);
        write_reset(segment, tuple, sequence, pseudo)
    }

    fn is_intact(ip: &[u8], packet: &Packet<Self>) -> Option<bool> {
        packet.transport_is_intact(ip)
    }

    fn is_translatable(kind: u8) -> bool {
        kind != icmpv4::kind::REDIRECT && kind != icmpv4::kind::SOURCE_QUENCH
    }

    fn is_too_big(type_and_code: [u8; 2]) -> bool {
        type_and_code == [icmpv4::kind::UNREACHABLE, icmpv4::unreachable::FRAGMENTATION_NEEDED]
    }

    fn quote(quoted: &[u8]) -> Result<Quote<Self>, ParseError> {
        quote::parse_v4(quoted)
    }

    fn translate_error(
        ip: &mut [u8],
        packet: &Packet<Self>,
        quote: &Quote<Self>,
        quoted: &Tuple<Self>,
        (source, destination): (Self, Self),
    ) -> Result<(), DropReason> {
        let mut header = ipv4::HeaderMut::at_front(ip).ok_or(DropReason::Malformed)?;
        let _ = header.forward(source, destination).ok_or(DropReason::TtlExpired)?;
        let message = message_of(ip, packet)?;
        let inner = message.get_mut(icmpv4::HEADER_LEN..).ok_or(DropReason::Malformed)?;
        let mut header = ipv4::HeaderMut::at_front(inner).ok_or(DropReason::Malformed)?;
        header.set_source(quoted.source);
        header.set_destination(quoted.destination);
        let addresses =
            Delta::NONE.replace4(quote.source, quoted.source).replace4(quote.destination, quoted.destination);
        translate_quoted(inner, quote, quoted, addresses)?;
        icmpv4::seal(message).then_some(()).ok_or(DropReason::Malformed)
    }
}

impl Wire for [u8; 16] {
    const HEADER_LEN: usize = ipv6::HEADER_LEN;

    const HAS_UDP_CHECKSUM: bool = true;

    /// RFC 4443 §2.4 c: as much as fits in the least MTU.
    const ERROR_LEN_MAX: usize = 1280;

    const ERROR_TOS: u8 = 0;

    #[inline(always)]
    fn vtep(snapshot: &Snapshot<'_>) -> (Self, bool) {
        (snapshot.globals.vtep_v6, snapshot.globals.has_v6 != 0)
    }

    #[inline(always)]
    fn vtep_mac<'a>(snapshot: &Snapshot<'a>) -> &'a Mac {
        &snapshot.globals.mac_v6
    }

    #[inline(always)]
    fn parse_plain(ip: &[u8]) -> Result<Option<Packet<Self>>, ParseError> {
        packet::parse_plain_v6(ip)
    }

    #[inline(always)]
    fn is_to(_: &[u8], _: Self) -> bool {
        // Its checksum over the whole datagram takes more than all there is to win.
        false
    }

    fn is_udp(_: &[u8]) -> bool {
        false
    }

    fn parse_plain_udp(_: &[u8]) -> Option<PlainUdp> {
        None
    }

    fn parse(ip: &[u8]) -> Result<Packet<Self>, ParseError> {
        packet::parse_v6(ip)
    }

    #[inline(always)]
    fn sorted(item: Item<Self>) -> Sorted {
        Sorted::V6(item)
    }

    #[inline(always)]
    fn translate(ip: &mut [u8], packet: &Packet<Self>, to: &Tuple<Self>, whole_len: u16) -> Result<(), DropReason> {
        let mut header = ipv6::HeaderMut::at_front(ip).ok_or(DropReason::Malformed)?;
        let addresses = header.forward(to.source, to.destination).ok_or(DropReason::TtlExpired)?;
        translate_transport(ip, packet, to, addresses, whole_len)
    }

    /// Those of IPv6 have 32 bits and are random (RFC 7739).
    fn set_identification(_: &mut [u8], _: u16) {}

    fn set_ecn(ip: &mut [u8], ecn: Ecn) {
        if let Some(mut header) = ipv6::HeaderMut::at_front(ip) {
            header.set_ecn(ecn);
        }
    }

    fn set_dscp(ip: &mut [u8], dscp: Dscp) -> Option<()> {
        ipv6::HeaderMut::at_front(ip)?.set_dscp(dscp);
        Some(())
    }

    /// Not unspecified, loopback, link-local or a group (RFC 4291 §2.5).
    fn may_send(address: Self) -> bool {
        let address = core::net::Ipv6Addr::from(address);
        !(address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_unicast_link_local()
            || address.to_ipv4_mapped().is_some())
    }

    fn answer_echo(ip: &mut [u8], packet: &Packet<Self>) -> Option<()> {
        if packet.transport == Transport::EchoRequest {
            let message = ip.get_mut(usize::from(packet.transport_offset)..usize::from(packet.len))?;
            icmpv6::answer_echo(message.first_chunk_mut()?);
        }
        let mut header = ipv6::HeaderMut::at_front(ip)?;
        header.set_source(packet.destination);
        header.set_destination(packet.source);
        header.set_hop_limit(OWN_TTL);
        Some(())
    }

    fn has_source_route(_: &[u8]) -> bool {
        // Routing headers with segments left are not carried (RFC 5095).
        false
    }

    fn write_error(ip: &mut [u8], report: Report, source: Self, destination: Self) -> Option<()> {
        let (kind, code, rest) = match report {
            Report::TimeExceeded => (icmpv6::kind::TIME_EXCEEDED, 0, [0; 4]),
            Report::TooBig { mtu } => (icmpv6::kind::PACKET_TOO_BIG, 0, u32::from(mtu).to_be_bytes()),
            Report::NoBackend => (icmpv6::kind::UNREACHABLE, icmpv6::unreachable::PORT, [0; 4]),
        };
        let fields = ipv6::Fields {
            traffic_class: Self::ERROR_TOS,
            flow_label: 0,
            payload_len: u16::try_from(ip.len().checked_sub(ipv6::HEADER_LEN)?).ok()?,
            next_header: Protocol::ICMPV6.0,
            hop_limit: OWN_TTL,
            source,
            destination,
        };
        let (header, message) = ip.split_first_chunk_mut()?;
        *header = fields.emit();
        *message.first_chunk_mut()? = icmpv6::emit(kind, code, rest);
        icmpv6::seal(message, source, destination).then_some(())
    }

    fn write_reset(ip: &mut [u8], tuple: &Tuple<Self>, sequence: u32) -> Option<()> {
        let fields = ipv6::Fields {
            traffic_class: 0,
            flow_label: 0,
            payload_len: u16::try_from(ip.len().checked_sub(ipv6::HEADER_LEN)?).ok()?,
            next_header: Protocol::TCP.0,
            hop_limit: OWN_TTL,
            source: tuple.source,
            destination: tuple.destination,
        };
        let (header, segment) = ip.split_first_chunk_mut()?;
        *header = fields.emit();
        let pseudo = Sum::NONE.pseudo_v6(tuple.source, tuple.destination, Protocol::TCP.0, tcp::HEADER_LEN as u32);
        write_reset(segment, tuple, sequence, pseudo)
    }

    fn is_intact(ip: &[u8], packet: &Packet<Self>) -> Option<bool> {
        packet.transport_is_intact(ip)
    }

    fn is_translatable(_: u8) -> bool {
        // A redirect of ICMPv6 is no error message (RFC 4861 §4.5), so none comes this far.
        true
    }

    fn is_too_big([kind, _]: [u8; 2]) -> bool {
        kind == icmpv6::kind::PACKET_TOO_BIG
    }

    fn quote(quoted: &[u8]) -> Result<Quote<Self>, ParseError> {
        quote::parse_v6(quoted)
    }

    fn translate_error(
        ip: &mut [u8],
        packet: &Packet<Self>,
        quote: &Quote<Self>,
        quoted: &Tuple<Self>,
        (source, destination): (Self, Self),
    ) -> Result<(), DropReason> {
        let mut header = ipv6::HeaderMut::at_front(ip).ok_or(DropReason::Malformed)?;
        let _ = header.forward(source, destination).ok_or(DropReason::TtlExpired)?;
        let message = message_of(ip, packet)?;
        let inner = message.get_mut(icmpv6::HEADER_LEN..).ok_or(DropReason::Malformed)?;
        let mut header = ipv6::HeaderMut::at_front(inner).ok_or(DropReason::Malformed)?;
        header.set_source(quoted.source);
        header.set_destination(quoted.destination);
        let addresses =
            Delta::NONE.replace16(quote.source, quoted.source).replace16(quote.destination, quoted.destination);
        translate_quoted(inner, quote, quoted, addresses)?;
        icmpv6::seal(message, source, destination).then_some(()).ok_or(DropReason::Malformed)
    }
}

/// The ICMP message of a packet, without the frame's padding.
fn message_of<'i, A>(ip: &'i mut [u8], packet: &Packet<A>) -> Result<&'i mut [u8], DropReason> {
    ip.get_mut(usize::from(packet.transport_offset)..usize::from(packet.len)).ok_or(DropReason::Malformed)
}

/// Replaces the ports of a quoted packet, and brings its transport checksum up to date where the
/// quote reaches that far.
fn translate_quoted<A: Copy>(
    inner: &mut [u8],
    quote: &Quote<A>,
    quoted: &Tuple<A>,
    addresses: Delta,
) -> Result<(), DropReason> {
    if matches!(quote.transport, Transport::EchoRequest | Transport::EchoReply) {
        let message = inner.get_mut(usize::from(quote.transport_offset)..).unwrap_or_default();
        return translate_echo::<A>(message, quote.source_port, quoted.source_port, addresses);
    }
    let ports = inner.get_mut(usize::from(quote.transport_offset)..).and_then(<[u8]>::first_chunk_mut::<4>);
    let ports = ports.ok_or(DropReason::Malformed)?;
    [ports[0], ports[1]] = quoted.source_port;
    [ports[2], ports[3]] = quoted.destination_port;
    let delta = addresses
        .replace2(quote.source_port, quoted.source_port)
        .replace2(quote.destination_port, quoted.destination_port);
    let field = quote.checksum_offset.and_then(|at| inner.get_mut(usize::from(at)..)?.first_chunk_mut::<2>());
    if let Some(field) = field {
        *field = if quote.transport == Transport::Udp { delta.apply_udp(*field) } else { delta.apply(*field) };
    }
    Ok(())
}

/// Replaces the ports and carries all changes into the transport checksum (RFC 1624 §3).
#[inline(always)]
fn translate_transport<A: Copy>(
    ip: &mut [u8],
    packet: &Packet<A>,
    to: &Tuple<A>,
    addresses: Delta,
    whole_len: u16,
) -> Result<(), DropReason> {
    let transport = ip.get_mut(usize::from(packet.transport_offset)..).ok_or(DropReason::Malformed)?;
    match packet.transport {
        Transport::Tcp => {
            let head = transport.first_chunk_mut::<{ tcp::HEADER_LEN }>().ok_or(DropReason::Malformed)?;
            let delta = addresses.replace4(replace_ports(head, to), to.ports());
            let field = &mut head[tcp::CHECKSUM_OFFSET..];
            [field[0], field[1]] = delta.apply([field[0], field[1]]);
        }
        Transport::Udp => {
            let head = transport.first_chunk_mut::<{ udp::HEADER_LEN }>().ok_or(DropReason::Malformed)?;
            let delta = addresses.replace4(replace_ports(head, to), to.ports());
            let field = &mut head[udp::CHECKSUM_OFFSET..];
            [field[0], field[1]] = delta.apply_udp([field[0], field[1]]);
        }
        _ => return translate_aside(transport, packet, to, addresses, whole_len),
    }
    Ok(())
}

/// Replaces both ports at once, and gives what they were.
#[inline(always)]
fn replace_ports<A: Copy, const LEN: usize>(head: &mut [u8; LEN], to: &Tuple<A>) -> [u8; PORTS_LEN] {
    match head.first_chunk_mut() {
        Some(ports) => core::mem::replace(ports, to.ports()),
        None => to.ports(),
    }
}

/// What is off the fast path.
#[cold]
#[inline(never)]
fn translate_aside<A: Copy>(
    transport: &mut [u8],
    packet: &Packet<A>,
    to: &Tuple<A>,
    addresses: Delta,
    whole_len: u16,
) -> Result<(), DropReason> {
    match packet.transport {
        Transport::Sctp => {
            let len = if packet.fragment.is_some() { whole_len } else { packet.len - packet.transport_offset };
            translate_sctp(transport, to.source_port, to.destination_port, len)
        }
        Transport::EchoRequest | Transport::EchoReply => {
            translate_echo::<A>(transport, packet.source_port, to.source_port, addresses)
        }
        // A later fragment has no transport header; nothing else has a flow.
        _ => Ok(()),
    }
}

/// Replaces the ports of an SCTP packet of `len` bytes, of which the first are here. Its checksum covers
/// no addresses, and changes by what the ports change in it (RFC 9260 §6.8).
fn translate_sctp(
    packet: &mut [u8],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    len: u16,
) -> Result<(), DropReason> {
    let (ports, rest) = packet.split_first_chunk_mut::<PORTS_LEN>().ok_or(DropReason::Malformed)?;
    let field = rest.get_mut(sctp::CHECKSUM_OFFSET - PORTS_LEN..).and_then(<[u8]>::first_chunk_mut);
    let (field, behind) = field.zip(len.checked_sub(PORTS_LEN as u16)).ok_or(DropReason::Malformed)?;
    let ([s0, s1], [d0, d1]) = (source_port, destination_port);
    let old = core::mem::replace(ports, [s0, s1, d0, d1]);
    *field = crc32c::Difference::replace4(old, *ports, behind).apply(*field);
    Ok(())
}

/// Replaces the identifier of an echo, where it is behind the ICMP header's first four bytes
/// (RFC 792, RFC 4443 §4.1). ICMPv6 alone has the addresses under its checksum.
fn translate_echo<A>(message: &mut [u8], old: [u8; 2], new: [u8; 2], addresses: Delta) -> Result<(), DropReason> {
    let head = message.first_chunk_mut::<{ icmpv4::HEADER_LEN }>().ok_or(DropReason::Malformed)?;
    let covered = if size_of::<A>() == size_of::<[u8; 16]>() { addresses } else { Delta::NONE };
    [head[2], head[3]] = covered.replace2(old, new).apply([head[2], head[3]]);
    [head[4], head[5]] = new;
    Ok(())
}

/// Writes the segment of a TCP reset; `pseudo` is the sum of its pseudo-header.
fn write_reset<A: Copy>(segment: &mut [u8], tuple: &Tuple<A>, sequence: u32, pseudo: Sum) -> Option<()> {
    let segment: &mut [u8; tcp::HEADER_LEN] = segment.as_mut_array()?;
    let Tuple { source_port, destination_port, .. } = *tuple;
    let reset = tcp::Fields { source_port, destination_port, sequence, flags: tcp::Flags::RST, ..Default::default() };
    *segment = reset.emit();
    let checksum = pseudo.bytes(segment).finish();
    *segment.get_mut(tcp::CHECKSUM_OFFSET..)?.first_chunk_mut()? = checksum;
    Some(())
}
