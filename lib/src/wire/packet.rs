//! All that forwarding has to know about one IP datagram, read in one pass with every length proved.
//!
//! Fast path: IPv4 without options, or IPv6 whose next header is the upper layer; not a fragment.
//! IPv4 options, extension headers and fragments take a way of their own out of line.

use super::checksum::{self, Sum};
use super::{Fragment, Layer, ParseError, icmpv4, icmpv6, ipv4, ipv6, tcp, udp};
use crate::net::Protocol;

/// What lies behind the IP headers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
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
    /// - `EchoRequest`, `EchoReply`, `IcmpError`, `IcmpOther`: the first eight bytes.
    /// - `Other`, `LaterFragment`: nothing.
    pub transport: Transport,
    /// TCP's control bits; none for others.
    pub flags: tcp::Flags,
    /// ICMP's type and code; zero for others.
    pub icmp: [u8; 2],
    /// IPv4's time to live or IPv6's hop limit.
    pub ttl: u8,
    /// IPv4's type of service or IPv6's traffic class.
    pub tos: u8,
    /// Whether routers may not cut the datagram: IPv4's flag; always so in IPv6.
    pub dont_fragment: bool,
    /// Which part of a datagram this is; `None` for a whole one, an atomic fragment (RFC 6946) included.
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
/// [`ParseError::BadIpChecksum`], [`ParseError::BadFragment`]. Transport checksums are not verified:
/// a translation carries a wrong one on as wrong.
#[inline]
pub fn parse_v4(ip: &[u8]) -> Result<V4, ParseError> {
    let Some(head) = ip.first_chunk::<{ ipv4::HEADER_LEN }>() else {
        return Err(ParseError::truncated(Layer::Ipv4, ipv4::HEADER_LEN, ip.len()));
    };
    let (offset, sum) = if head[0] == 0x45 { (ipv4::HEADER_LEN, checksum::sum20(head)) } else { v4_options(ip)? };
    if !sum.is_valid() {
        return Err(ParseError::BadIpChecksum);
    }
    let len = u16::from_be_bytes([head[2], head[3]]);
    let Some(payload) = ip.get(offset..usize::from(len)) else {
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
        transport: Transport::LaterFragment,
        flags: tcp::Flags(0),
        icmp: [0; 2],
        ttl: head[8],
        tos: head[1],
        dont_fragment: ipv4::dont_fragment(head),
        fragment: ipv4::fragment(head),
    };
    if let Some(fragment) = packet.fragment {
        check_fragment(fragment, packet.protocol, payload.len())?;
        if !fragment.is_first() {
            return Ok(packet);
        }
    }
    packet.read_transport::<false>(payload)?;
    Ok(packet)
}

/// Reads an IPv6 datagram. `ip` begins with its header and may have padding behind it.
///
/// # Errors
/// [`ParseError::Truncated`], [`ParseError::BadVersion`], [`ParseError::BadLength`] (jumbograms
/// among them), [`ParseError::BadFragment`], [`ParseError::ExtensionHeader`],
/// [`ParseError::RoutingHeader`], [`ParseError::UdpChecksumMissing`]. Transport checksums are not
/// verified otherwise.
#[inline]
pub fn parse_v6(ip: &[u8]) -> Result<V6, ParseError> {
    let (header, payload) = ipv6::Header::parse(ip)?;
    let mut packet = Packet {
        source: header.source(),
        destination: header.destination(),
        source_port: [0; 2],
        destination_port: [0; 2],
        // Proved to fit by the header's parser.
        len: (ipv6::HEADER_LEN + payload.len()) as u16,
        transport_offset: ipv6::HEADER_LEN as u16,
        protocol: Protocol(header.next_header()),
        transport: Transport::LaterFragment,
        flags: tcp::Flags(0),
        icmp: [0; 2],
        ttl: header.hop_limit(),
        tos: header.traffic_class(),
        dont_fragment: true,
        fragment: None,
    };
    if matches!(packet.protocol, Protocol::TCP | Protocol::UDP | Protocol::ICMPV6) {
        packet.read_transport::<true>(payload)?;
    } else {
        packet.read_behind_extensions(payload)?;
    }
    Ok(packet)
}

impl<A> Packet<A> {
    /// Whether the datagram carries ports, or an identifier in their place.
    #[inline]
    #[must_use]
    pub const fn has_ports(&self) -> bool {
        matches!(self.transport, Transport::Tcp | Transport::Udp | Transport::EchoRequest | Transport::EchoReply)
    }

    /// Where the transport checksum lies, in bytes from the IP header's start; `None` where the
    /// transport header is not here or not known.
    #[inline]
    #[must_use]
    pub const fn checksum_offset(&self) -> Option<u16> {
        match checksum_offset(self.transport) {
            Some(offset) => Some(self.transport_offset + offset),
            None => None,
        }
    }

    /// Reads the transport header of a whole datagram or a first fragment.
    #[inline(always)]
    fn read_transport<const IS_V6: bool>(&mut self, payload: &[u8]) -> Result<(), ParseError> {
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
                self.source_port = [head[0], head[1]];
                self.destination_port = [head[2], head[3]];
                self.flags = tcp::Flags(head[13]);
            }
            Protocol::UDP => {
                let Some(head) = payload.first_chunk::<{ udp::HEADER_LEN }>() else {
                    return Err(ParseError::truncated(Layer::Udp, udp::HEADER_LEN, payload.len()));
                };
                let len = usize::from(u16::from_be_bytes([head[4], head[5]]));
                if len < udp::HEADER_LEN {
                    return Err(ParseError::length(Layer::Udp, len));
                }
                if len > payload.len() && self.fragment.is_none() {
                    return Err(ParseError::truncated(Layer::Udp, len, payload.len()));
                }
                if IS_V6 && [head[6], head[7]] == [0; 2] {
                    return Err(ParseError::UdpChecksumMissing { port: u16::from_be_bytes([head[2], head[3]]) });
                }
                self.transport = Transport::Udp;
                self.source_port = [head[0], head[1]];
                self.destination_port = [head[2], head[3]];
            }
            Protocol::ICMP if !IS_V6 => self.read_icmp::<false>(payload)?,
            Protocol::ICMPV6 if IS_V6 => self.read_icmp::<true>(payload)?,
            _ => self.transport = Transport::Other,
        }
        Ok(())
    }

    #[inline]
    fn read_icmp<const IS_V6: bool>(&mut self, payload: &[u8]) -> Result<(), ParseError> {
        let Some(head) = payload.first_chunk::<{ icmpv4::HEADER_LEN }>() else {
            let layer = if IS_V6 { Layer::Icmpv6 } else { Layer::Icmpv4 };
            return Err(ParseError::truncated(layer, icmpv4::HEADER_LEN, payload.len()));
        };
        self.transport = icmp_transport::<IS_V6>(head[0]);
        self.icmp = [head[0], head[1]];
        if matches!(self.transport, Transport::EchoRequest | Transport::EchoReply) {
            self.source_port = [head[4], head[5]];
            self.destination_port = self.source_port;
        }
        Ok(())
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
            Transport::Other | Transport::LaterFragment => return None,
            _ => segment,
        };
        // The length is part of a 16-bit total length.
        let pseudo = Sum::NONE.pseudo_v6(self.source, self.destination, self.protocol.0, covered.len() as u32);
        Some(pseudo.bytes(covered).is_valid())
    }

    #[cold]
    #[inline(never)]
    fn read_behind_extensions(&mut self, payload: &[u8]) -> Result<(), ParseError> {
        let upper = ipv6::walk(self.protocol.0, payload)?;
        self.protocol = upper.protocol;
        // The walk stays inside the payload, whose length fits.
        self.transport_offset += upper.offset as u16;
        let rest = payload.get(upper.offset..).unwrap_or_default();
        if let Some(header) = upper.fragment {
            // What follows the fragment header is the fragment: RFC 8200 §4.5 counts from there.
            let len = payload.len() - header.at - ipv6::FRAGMENT_HEADER_LEN;
            check_fragment(header.fragment, upper.protocol, len)?;
            if header.fragment.more || !header.fragment.is_first() {
                self.fragment = Some(header.fragment);
            }
            if !header.fragment.is_first() {
                return Ok(());
            }
        }
        self.read_transport::<true>(rest)
    }
}

impl<A> Packet<A> {
    fn segment<'a>(&self, ip: &'a [u8]) -> Option<&'a [u8]> {
        if self.fragment.is_some() {
            return None;
        }
        ip.get(usize::from(self.transport_offset)..usize::from(self.len))
    }
}

#[inline]
pub(crate) const fn checksum_offset(transport: Transport) -> Option<u16> {
    match transport {
        Transport::Tcp => Some(tcp::CHECKSUM_OFFSET as u16),
        Transport::Udp => Some(udp::CHECKSUM_OFFSET as u16),
        Transport::EchoRequest | Transport::EchoReply | Transport::IcmpError | Transport::IcmpOther => {
            Some(icmpv4::CHECKSUM_OFFSET as u16)
        }
        Transport::Other | Transport::LaterFragment => None,
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
fn v4_options(ip: &[u8]) -> Result<(usize, Sum), ParseError> {
    let (header, _) = ipv4::Header::parse_quoted(ip)?;
    let len = header.header_len();
    Ok((len, Sum::NONE.bytes(ip.get(..len).unwrap_or_default())))
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

#[cold]
#[inline(never)]
fn check_fragment(fragment: Fragment, protocol: Protocol, len: usize) -> Result<(), ParseError> {
    // A fragment at eight bytes would rewrite the ports' neighbours that the first one has shown
    // already; nobody honest cuts a TCP header in two (RFC 3128 §3).
    if protocol == Protocol::TCP && !fragment.is_first() && usize::from(fragment.offset) < tcp::HEADER_LEN {
        return Err(ParseError::BadFragment { offset: fragment.offset });
    }
    fragment.check(len)
}

#[cfg(test)]
mod tests;
