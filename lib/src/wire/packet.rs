//! All that forwarding has to know about one IP datagram, read in one pass with every length proved.
//!
//! Fast path: TCP or UDP over IPv4 without options, or over IPv6 without extension headers; not a fragment.
//! All else takes a path of its own out of line.

use super::checksum::{self, Sum};
use super::{Fragment, Layer, ParseError, field, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp};
use crate::net::Protocol;

/// What lies behind the IP headers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// An ICMP echo request of the family's.
    EchoRequest,
    /// An ICMP echo reply of the family's.
    EchoReply,
    /// An ICMP error of the family's: it quotes the datagram that caused it.
    IcmpError,
    /// Another ICMP message of the family's.
    IcmpOther,
    /// Another protocol.
    Other,
    /// The data of a fragment that is not the first: the transport header is in another frame.
    LaterFragment,
}

/// One datagram, its addresses of type `A`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Packet<A> {
    /// The sender's address.
    pub source: A,
    /// The receiver's address.
    pub destination: A,
    /// The sender's port, in wire order. An echo has its identifier here and in the other port; what
    /// has no ports has zeroes.
    pub source_port: [u8; 2],
    /// The receiver's port, in wire order; as [`source_port`](Self::source_port).
    pub destination_port: [u8; 2],
    /// Bytes of the datagram. What the frame has behind it is Ethernet's padding.
    pub len: u16,
    /// Where the transport header, or a later fragment's data, begins: bytes from the IP header's start.
    pub transport_offset: u16,
    /// The upper layer's protocol.
    pub protocol: Protocol,
    /// What the upper layer is to us, and how much of it has been proved to be there.
    ///
    /// - `Tcp`: the header and its options. `Udp`: the header, and the data unless this is a fragment.
    /// - `Sctp`: the common header and the first [`sctp::CHUNKS_MAX`] chunks; of a fragment, the first chunk's
    ///   header.
    /// - `EchoRequest`, `EchoReply`, `IcmpError`, `IcmpOther`: the first eight bytes.
    /// - `Other`, `LaterFragment`: nothing.
    pub transport: Transport,
    /// TCP's control bits; SCTP's first chunk, see [`tcp::Flags::of_chunk`]; none for others.
    pub flags: tcp::Flags,
    /// ICMP's type and code; zero for others.
    pub icmp: [u8; 2],
    /// IPv4's time to live or IPv6's hop limit.
    pub ttl: u8,
    /// IPv4's type of service or IPv6's traffic class.
    pub tos: u8,
    /// Whether routers may not cut the datagram: IPv4's flag; always so in IPv6.
    pub dont_fragment: bool,
    /// Which fragment of a datagram this is; `None` for a whole one, an atomic fragment (RFC 6946) included.
    pub fragment: Option<Fragment>,
}

/// An IPv4 datagram.
pub type V4 = Packet<[u8; 4]>;
/// An IPv6 datagram.
pub type V6 = Packet<[u8; 16]>;

/// A datagram of either family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ip {
    /// IPv4.
    V4(V4),
    /// IPv6.
    V6(V6),
}

/// Reads a datagram of either family, by its version field.
///
/// # Errors
/// As [`parse_v4`] and [`parse_v6`]; [`ParseError::BadVersion`] for other versions.
#[inline]
pub fn parse(ip: &[u8]) -> Result<Ip, ParseError> {
    match ip.first() {
        Some(first) => match first >> 4 {
            4 => parse_v4(ip).map(Ip::V4),
            6 => parse_v6(ip).map(Ip::V6),
            version => Err(ParseError::BadVersion { version }),
        },
        None => Err(ParseError::truncated(Layer::Ipv4, 1, 0)),
    }
}

/// Reads an IPv4 datagram. `ip` begins with its header and may have padding behind it.
///
/// # Errors
/// [`ParseError::Truncated`], [`ParseError::BadVersion`], [`ParseError::BadLength`],
/// [`ParseError::BadIpChecksum`], [`ParseError::BadFragment`], [`ParseError::TinyFragment`]. Transport checksums are not verified:
/// a translation carries a wrong one on as wrong.
#[inline]
pub fn parse_v4(ip: &[u8]) -> Result<V4, ParseError> {
    match parse_plain_v4(ip)? {
        Some(packet) => Ok(packet),
        None => aside_v4(ip),
    }
}

/// As [`parse_v4`] for the fast path alone: `None` for a datagram with options or in fragments, and for one that is
/// neither TCP nor UDP.
#[inline(always)]
pub(crate) fn parse_plain_v4(ip: &[u8]) -> Result<Option<V4>, ParseError> {
    let Some(head) = ip.first_chunk::<{ ipv4::HEADER_LEN }>() else {
        return Err(ParseError::truncated(Layer::Ipv4, ipv4::HEADER_LEN, ip.len()));
    };
    let has_ports = matches!(ipv4::protocol(head), Protocol::TCP | Protocol::UDP);
    if head[0] != 0x45 || ipv4::fragment(head).is_some() || !has_ports {
        return Ok(None);
    }
    read_v4(ip, head, ipv4::HEADER_LEN, checksum::sum20(head), None).map(Some)
}

/// What has to be known of a datagram that is only read for the packet in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainUdp {
    /// The receiver's port, in wire order.
    pub(crate) destination_port: [u8; 2],
    /// Where its data end, in bytes from the IP header's start. What is behind it is none of it.
    pub(crate) end: usize,
    /// IPv4's type of service or IPv6's traffic class.
    pub(crate) tos: u8,
}

/// As [`parse_v4`] for a UDP datagram without options or fragments: `None` where anything is wrong, which
/// [`parse_v4`] tells by its name.
#[inline(always)]
pub(crate) fn parse_plain_udp_v4(ip: &[u8]) -> Option<PlainUdp> {
    let both = ip.first_chunk::<{ ipv4::HEADER_LEN + udp::HEADER_LEN }>()?;
    let (head, datagram) = both.split_first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let datagram = datagram.first_chunk::<{ udp::HEADER_LEN }>()?;
    // One by one: together they would be reckoned out before the first of them is asked.
    if head[0] != 0x45 || ipv4::fragment(head).is_some() || head[9] != Protocol::UDP.0 {
        return None;
    }
    if !checksum::sum20(head).is_valid() {
        return None;
    }
    let len = usize::from(u16::from_be_bytes(field::<2, 2, _>(head)));
    let end = ipv4::HEADER_LEN + usize::from(u16::from_be_bytes(field::<4, 2, _>(datagram)));
    if len > ip.len() || end > len || end < both.len() {
        return None;
    }
    Some(PlainUdp { destination_port: field::<2, 2, _>(datagram), end, tos: head[1] })
}

/// IPv4 with options or in fragments, or another upper layer.
#[cold]
#[inline(never)]
fn aside_v4(ip: &[u8]) -> Result<V4, ParseError> {
    let Some(head) = ip.first_chunk::<{ ipv4::HEADER_LEN }>() else {
        return Err(ParseError::truncated(Layer::Ipv4, ipv4::HEADER_LEN, ip.len()));
    };
    let (header, _) = ipv4::Header::parse_quoted(ip)?;
    header.check_options()?;
    let sum = checksum::sum20(head).bytes(header.options());
    with_sctp(read_v4(ip, head, header.header_len(), sum, header.fragment())?, ip)
}

#[inline(always)]
fn read_v4(
    ip: &[u8],
    head: &[u8; ipv4::HEADER_LEN],
    offset: usize,
    sum: Sum,
    fragment: Option<Fragment>,
) -> Result<V4, ParseError> {
    if !sum.is_valid() {
        return Err(ParseError::BadIpChecksum);
    }
    let len = u16::from_be_bytes(field::<2, 2, _>(head));
    let Some(payload) = ip.get(..usize::from(len)).and_then(|datagram| datagram.get(offset..)) else {
        return Err(v4_length(ip, offset, len));
    };
    let mut packet = Packet {
        source: ipv4::source(head),
        destination: ipv4::destination(head),
        source_port: [0; 2],
        destination_port: [0; 2],
        len,
        transport_offset: offset as u16,
        protocol: Protocol(head[9]),
        transport: Transport::Other,
        flags: tcp::Flags(0),
        icmp: [0; 2],
        ttl: head[8],
        tos: head[1],
        dont_fragment: ipv4::dont_fragment(head),
        fragment,
    };
    match fragment {
        None => packet.read_transport::<false>(payload, true)?,
        Some(fragment) => packet.read_fragment::<false>(payload, (offset, payload.len()), fragment)?,
    }
    Ok(packet)
}

/// Reads an IPv6 datagram. `ip` begins with its header and may have padding behind it.
///
/// # Errors
/// [`ParseError::Truncated`], [`ParseError::BadVersion`], [`ParseError::BadLength`] (jumbograms
/// among them), [`ParseError::BadFragment`], [`ParseError::TinyFragment`], [`ParseError::ExtensionHeader`],
/// [`ParseError::RoutingHeader`], [`ParseError::UdpChecksumMissing`]. Transport checksums are not
/// verified otherwise.
#[inline]
pub fn parse_v6(ip: &[u8]) -> Result<V6, ParseError> {
    match parse_plain_v6(ip)? {
        Some(packet) => Ok(packet),
        None => aside_v6(ip),
    }
}

/// As [`parse_v6`] for the fast path alone: `None` for a datagram with extension headers or of
/// another upper layer.
#[inline(always)]
pub(crate) fn parse_plain_v6(ip: &[u8]) -> Result<Option<V6>, ParseError> {
    let (header, payload) = ipv6::Header::parse(ip)?;
    let protocol = Protocol(header.next_header());
    if !matches!(protocol, Protocol::TCP | Protocol::UDP) {
        return Ok(None);
    }
    let mut packet = read_v6(header, payload, protocol, 0, None);
    packet.read_transport::<true>(payload, true)?;
    Ok(Some(packet))
}

/// IPv6 with extension headers, or another upper layer.
#[cold]
#[inline(never)]
fn aside_v6(ip: &[u8]) -> Result<V6, ParseError> {
    let (header, payload) = ipv6::Header::parse(ip)?;
    let walked = ipv6::walk(header.next_header(), payload)?;
    let rest = payload.get(walked.offset..).unwrap_or_default();
    let Some(found) = walked.fragment else {
        let mut packet = read_v6(header, payload, walked.protocol, walked.offset, None);
        packet.read_transport::<true>(rest, true)?;
        return with_sctp(packet, ip);
    };
    // RFC 8200 §4.5 counts a fragment's length from behind its header.
    let len = payload.len() - found.at - ipv6::FRAGMENT_HEADER_LEN;
    let atomic = found.fragment.is_first() && !found.fragment.more;
    let fragment = if atomic { None } else { Some(found.fragment) };
    let mut packet = read_v6(header, payload, walked.protocol, walked.offset, fragment);
    packet.read_fragment::<true>(rest, (found.at, len), found.fragment)?;
    with_sctp(packet, ip)
}

/// What the IPv6 headers say.
#[inline(always)]
fn read_v6(
    header: ipv6::Header<'_>,
    payload: &[u8],
    protocol: Protocol,
    offset: usize,
    fragment: Option<Fragment>,
) -> V6 {
    Packet {
        source: header.source(),
        destination: header.destination(),
        source_port: [0; 2],
        destination_port: [0; 2],
        // The header's parser has proved that it fits, and the offset lies inside the payload.
        len: (ipv6::HEADER_LEN + payload.len()) as u16,
        transport_offset: (ipv6::HEADER_LEN + offset) as u16,
        protocol,
        transport: Transport::Other,
        flags: tcp::Flags(0),
        icmp: [0; 2],
        ttl: header.hop_limit(),
        tos: header.traffic_class(),
        dont_fragment: true,
        fragment,
    }
}

/// The packet, with what its SCTP header says if it has one here.
fn with_sctp<A>(mut packet: Packet<A>, ip: &[u8]) -> Result<Packet<A>, ParseError> {
    if packet.protocol == Protocol::SCTP && packet.transport == Transport::Other {
        packet.read_sctp(ip)?;
    }
    Ok(packet)
}

impl<A> Packet<A> {
    /// Reads the transport header of a datagram that is `whole`, or of the first fragment of one.
    #[inline(always)]
    fn read_transport<const IS_V6: bool>(&mut self, payload: &[u8], whole: bool) -> Result<(), ParseError> {
        match self.protocol {
            Protocol::TCP => {
                let Some(head) = payload.first_chunk::<{ tcp::HEADER_LEN }>() else {
                    return Err(ParseError::truncated(Layer::Tcp, tcp::HEADER_LEN, payload.len()));
                };
                let len = tcp::data_offset(head);
                if len < tcp::HEADER_LEN {
                    return Err(ParseError::length(Layer::Tcp, len));
                }
                if len > payload.len() {
                    return Err(ParseError::truncated(Layer::Tcp, len, payload.len()));
                }
                self.transport = Transport::Tcp;
                self.source_port = field::<0, 2, _>(head);
                self.destination_port = field::<2, 2, _>(head);
                self.flags = tcp::Flags(head[13]);
                Ok(())
            }
            Protocol::UDP => {
                let Some(head) = payload.first_chunk::<{ udp::HEADER_LEN }>() else {
                    return Err(ParseError::truncated(Layer::Udp, udp::HEADER_LEN, payload.len()));
                };
                let len = usize::from(u16::from_be_bytes(field::<4, 2, _>(head)));
                if len < udp::HEADER_LEN {
                    return Err(ParseError::length(Layer::Udp, len));
                }
                if len > payload.len() && whole {
                    return Err(ParseError::truncated(Layer::Udp, len, payload.len()));
                }
                if IS_V6 && field::<6, 2, _>(head) == [0; 2] {
                    let port = u16::from_be_bytes(field::<2, 2, _>(head));
                    return Err(ParseError::UdpChecksumMissing { port });
                }
                self.transport = Transport::Udp;
                self.source_port = field::<0, 2, _>(head);
                self.destination_port = field::<2, 2, _>(head);
                Ok(())
            }
            protocol => {
                let Some(head) = read_icmp::<IS_V6>(protocol, payload)? else { return Ok(()) };
                self.transport = icmp_transport::<IS_V6>(head[0]);
                self.icmp = field::<0, 2, _>(head);
                if matches!(self.transport, Transport::EchoRequest | Transport::EchoReply) {
                    self.source_port = field::<4, 2, _>(head);
                    self.destination_port = self.source_port;
                }
                Ok(())
            }
        }
    }

    /// Reads a fragment, of whose datagram `len` bytes are here behind so many `headers`: the transport
    /// header only where it is the first, or all there is.
    fn read_fragment<const IS_V6: bool>(
        &mut self,
        payload: &[u8],
        (headers, len): (usize, usize),
        fragment: Fragment,
    ) -> Result<(), ParseError> {
        // A fragment inside the header would rewrite what the first one has shown already; nobody
        // honest cuts a TCP header in two (RFC 3128 §3).
        let overlaps = !fragment.is_first() && usize::from(fragment.offset) < tcp::HEADER_LEN;
        if overlaps && self.protocol == Protocol::TCP {
            return Err(ParseError::BadFragment { offset: fragment.offset });
        }
        fragment.check(headers, len)?;
        if fragment.is_first() && fragment.more {
            self.read_transport::<IS_V6>(payload, false).map_err(|error| match error {
                ParseError::Truncated { have, .. } => ParseError::TinyFragment { have },
                error => error,
            })
        } else if fragment.is_first() {
            self.read_transport::<IS_V6>(payload, true)
        } else {
            self.transport = Transport::LaterFragment;
            Ok(())
        }
    }

    /// Reads the SCTP header of a datagram that is whole, or the first fragment of one.
    #[cold]
    fn read_sctp(&mut self, ip: &[u8]) -> Result<(), ParseError> {
        let payload = ip.get(usize::from(self.transport_offset)..usize::from(self.len)).unwrap_or_default();
        let parsed = match self.fragment {
            None => sctp::Header::parse(payload),
            Some(_) => sctp::Header::parse_first(payload),
        };
        let (header, mut chunks) = parsed.map_err(|error| match error {
            ParseError::Truncated { have, .. } if self.fragment.is_some() => ParseError::TinyFragment { have },
            error => error,
        })?;
        self.transport = Transport::Sctp;
        self.source_port = header.source_port();
        self.destination_port = header.destination_port();
        self.flags = tcp::Flags::of_chunk(chunks.next().map_or(0, |chunk| chunk.kind));
        Ok(())
    }

    /// Whether the datagram carries ports, or an identifier in their place.
    #[inline]
    #[must_use]
    pub const fn has_ports(&self) -> bool {
        matches!(
            self.transport,
            Transport::Tcp | Transport::Udp | Transport::Sctp | Transport::EchoRequest | Transport::EchoReply
        )
    }

    /// Where the transport's Internet checksum lies, in bytes from the IP header's start; `None` where the
    /// transport header is not here or not known, or has another sum, as SCTP's.
    #[inline]
    #[must_use]
    pub const fn checksum_offset(&self) -> Option<u16> {
        match checksum_offset(self.transport) {
            Some(offset) => Some(self.transport_offset + offset),
            None => None,
        }
    }

    /// The bytes of a whole datagram from its transport header on.
    fn segment<'a>(&self, ip: &'a [u8]) -> Option<&'a [u8]> {
        if self.fragment.is_some() {
            return None;
        }
        ip.get(usize::from(self.transport_offset)..usize::from(self.len))
    }
}

impl V4 {
    /// Whether the transport checksum of this datagram, whose bytes begin at `ip`, is right or, for
    /// UDP, absent. `None` where it cannot be told from here: a fragment, or a protocol not known.
    ///
    /// - Work: reads the whole datagram.
    #[must_use]
    pub fn transport_is_intact(&self, ip: &[u8]) -> Option<bool> {
        let segment = self.segment(ip)?;
        Some(match self.transport {
            Transport::Tcp => self.pseudo_header(segment.len()).bytes(segment).is_valid(),
            Transport::Udp => {
                let (header, _) = udp::Header::parse(segment).ok()?;
                let covered = segment.get(..usize::from(header.len()))?;
                header.checksum() == [0; 2] || self.pseudo_header(covered.len()).bytes(covered).is_valid()
            }
            Transport::Sctp => return sctp_is_intact(segment),
            Transport::Other | Transport::LaterFragment => return None,
            _ => Sum::NONE.bytes(segment).is_valid(),
        })
    }

    fn pseudo_header(&self, len: usize) -> Sum {
        // `len` is part of a 16-bit total length.
        Sum::NONE.pseudo_v4(self.source, self.destination, self.protocol.0, len as u16)
    }
}

impl V6 {
    /// Whether the transport checksum of this datagram, whose bytes begin at `ip`, is right. `None`
    /// where it cannot be told from here: a fragment, or a protocol not known.
    ///
    /// - Work: reads the whole datagram.
    #[must_use]
    pub fn transport_is_intact(&self, ip: &[u8]) -> Option<bool> {
        let segment = self.segment(ip)?;
        let covered = match self.transport {
            Transport::Udp => segment.get(..usize::from(udp::Header::parse(segment).ok()?.0.len()))?,
            Transport::Sctp => return sctp_is_intact(segment),
            Transport::Other | Transport::LaterFragment => return None,
            _ => segment,
        };
        // The length is part of a 16-bit total length.
        let pseudo = Sum::NONE.pseudo_v6(self.source, self.destination, self.protocol.0, covered.len() as u32);
        Some(pseudo.bytes(covered).is_valid())
    }
}

/// The header of the family's ICMP, or `None` of another protocol.
#[cold]
#[inline(never)]
fn read_icmp<const IS_V6: bool>(
    protocol: Protocol,
    payload: &[u8],
) -> Result<Option<&[u8; icmpv4::HEADER_LEN]>, ParseError> {
    let (icmp, layer) = if IS_V6 { (Protocol::ICMPV6, Layer::Icmpv6) } else { (Protocol::ICMP, Layer::Icmpv4) };
    if protocol != icmp {
        return Ok(None);
    }
    let truncated = ParseError::truncated(layer, icmpv4::HEADER_LEN, payload.len());
    payload.first_chunk().ok_or(truncated).map(Some)
}

/// Whether the CRC32c of an SCTP packet is right.
fn sctp_is_intact(packet: &[u8]) -> Option<bool> {
    let (header, _) = sctp::Header::parse_first(packet).ok()?;
    Some(sctp::checksum(packet)? == header.checksum())
}

#[inline]
pub(crate) const fn checksum_offset(transport: Transport) -> Option<u16> {
    match transport {
        Transport::Tcp => Some(tcp::CHECKSUM_OFFSET as u16),
        Transport::Udp => Some(udp::CHECKSUM_OFFSET as u16),
        Transport::EchoRequest | Transport::EchoReply | Transport::IcmpError | Transport::IcmpOther => {
            Some(icmpv4::CHECKSUM_OFFSET as u16)
        }
        Transport::Sctp | Transport::Other | Transport::LaterFragment => None,
    }
}

#[inline]
pub(crate) const fn icmp_transport<const IS_V6: bool>(kind: u8) -> Transport {
    match (IS_V6, kind) {
        (false, icmpv4::kind::ECHO_REQUEST) | (true, icmpv6::kind::ECHO_REQUEST) => Transport::EchoRequest,
        (false, icmpv4::kind::ECHO_REPLY) | (true, icmpv6::kind::ECHO_REPLY) => Transport::EchoReply,
        (false, kind) if icmpv4::is_error(kind) => Transport::IcmpError,
        (true, kind) if icmpv6::is_error(kind) => Transport::IcmpError,
        _ => Transport::IcmpOther,
    }
}

#[cold]
#[inline(never)]
fn v4_length(ip: &[u8], header_len: usize, len: u16) -> ParseError {
    let len = usize::from(len);
    if len < header_len {
        ParseError::length(Layer::Ipv4, len)
    } else {
        ParseError::truncated(Layer::Ipv4, len, ip.len())
    }
}

#[cfg(test)]
mod tests;
