//! The datagram that an ICMP error quotes: its IP header and, cut short anywhere behind, at least the
//! first eight bytes of its transport header (RFC 792, RFC 4443 §2.4 c).
//!
//! Nothing here says that the bytes behind those eight are there.

use super::packet::{Transport, checksum_offset, icmp_transport};
use super::{Fragment, Layer, ParseError, ipv4, ipv6};
use crate::net::Protocol;

/// Bytes of the transport header that every error quotes.
pub const TRANSPORT_LEN: usize = 8;

/// A quoted datagram, its addresses of type `A`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Quote<A> {
    /// The address that sent the datagram.
    pub source: A,
    /// The address that it was for.
    pub destination: A,
    /// The sender's port, in wire order. An echo has its identifier here and in the other port; what
    /// has no ports has zeroes.
    pub source_port: [u8; 2],
    /// The receiver's port, in wire order; as [`source_port`](Self::source_port).
    pub destination_port: [u8; 2],
    /// Bytes of the datagram before it was cut short, as its header says.
    pub len: u16,
    /// Where the transport header, or a later fragment's data, begins: bytes from the quoted IP
    /// header's start.
    pub transport_offset: u16,
    /// The upper layer's protocol.
    pub protocol: Protocol,
    /// What the upper layer is. [`Transport::IcmpError`] is an error about an error, which nobody
    /// may send (RFC 1122 §3.2.2, RFC 4443 §2.4 e).
    pub transport: Transport,
    /// Where the transport's Internet checksum begins, in bytes from the quoted IP header's start; `None`
    /// where it has been cut off, and for SCTP, which has another.
    pub checksum_offset: Option<u16>,
    /// Which fragment of a datagram the quoted one is.
    pub fragment: Option<Fragment>,
    /// Whether IPv4's header checksum agrees with the quoted header (RFC 5508 §4.1, REQ-3 a); always
    /// so for IPv6, which has none.
    pub header_is_intact: bool,
}

/// Reads what an ICMPv4 error quotes: the bytes behind its header.
///
/// # Errors
/// [`ParseError::Truncated`] where the IP header or the eight bytes behind it have been cut,
/// [`ParseError::BadVersion`], [`ParseError::BadLength`].
pub fn parse_v4(quoted: &[u8]) -> Result<Quote<[u8; 4]>, ParseError> {
    let (header, rest) = ipv4::Header::parse_quoted(quoted)?;
    let mut quote = Quote {
        source: header.source(),
        destination: header.destination(),
        source_port: [0; 2],
        destination_port: [0; 2],
        len: header.total_len(),
        transport_offset: header.header_len() as u16,
        protocol: header.protocol(),
        transport: Transport::LaterFragment,
        checksum_offset: None,
        fragment: header.fragment(),
        header_is_intact: header.checksum_is_valid(),
    };
    quote.read_transport::<false>(rest)?;
    Ok(quote)
}

/// Reads what an ICMPv6 error quotes: the bytes behind its header.
///
/// # Errors
/// [`ParseError::Truncated`] where the IP header, an extension header or the eight bytes behind them
/// have been cut, [`ParseError::BadVersion`], [`ParseError::BadLength`] past 65535 bytes,
/// [`ParseError::ExtensionHeader`], [`ParseError::RoutingHeader`].
pub fn parse_v6(quoted: &[u8]) -> Result<Quote<[u8; 16]>, ParseError> {
    let (header, rest) = ipv6::Header::parse_quoted(quoted)?;
    let upper = ipv6::walk(header.next_header(), rest)?;
    let Some(len) = header.payload_len().checked_add(ipv6::HEADER_LEN as u16) else {
        return Err(ParseError::length(Layer::Ipv6, usize::from(header.payload_len())));
    };
    let mut quote = Quote {
        source: header.source(),
        destination: header.destination(),
        source_port: [0; 2],
        destination_port: [0; 2],
        len,
        // Eight extension headers of at most 2048 bytes.
        transport_offset: (ipv6::HEADER_LEN + upper.offset) as u16,
        protocol: upper.protocol,
        transport: Transport::LaterFragment,
        checksum_offset: None,
        fragment: match upper.fragment {
            Some(header) if header.fragment.more || !header.fragment.is_first() => Some(header.fragment),
            _ => None,
        },
        header_is_intact: true,
    };
    quote.read_transport::<true>(rest.get(upper.offset..).unwrap_or_default())?;
    Ok(quote)
}

impl<A> Quote<A> {
    fn read_transport<const IS_V6: bool>(&mut self, rest: &[u8]) -> Result<(), ParseError> {
        if self.fragment.is_some_and(|fragment| !fragment.is_first()) {
            return Ok(());
        }
        let layer = match self.protocol {
            Protocol::TCP => Layer::Tcp,
            Protocol::UDP => Layer::Udp,
            Protocol::SCTP => Layer::Sctp,
            Protocol::ICMP if !IS_V6 => Layer::Icmpv4,
            Protocol::ICMPV6 if IS_V6 => Layer::Icmpv6,
            _ => {
                self.transport = Transport::Other;
                return Ok(());
            }
        };
        let Some(&[a, b, c, d, i0, i1, ..]) = rest.first_chunk::<TRANSPORT_LEN>() else {
            return Err(ParseError::truncated(layer, TRANSPORT_LEN, rest.len()));
        };
        let (transport, ports) = match layer {
            Layer::Tcp => (Transport::Tcp, [[a, b], [c, d]]),
            Layer::Udp => (Transport::Udp, [[a, b], [c, d]]),
            Layer::Sctp => (Transport::Sctp, [[a, b], [c, d]]),
            _ => match icmp_transport::<IS_V6>(a) {
                echo @ (Transport::EchoRequest | Transport::EchoReply) => (echo, [[i0, i1]; 2]),
                other => (other, [[0; 2]; 2]),
            },
        };
        self.transport = transport;
        [self.source_port, self.destination_port] = ports;
        self.checksum_offset = match checksum_offset(transport) {
            Some(offset) if usize::from(offset) + 2 <= rest.len() => Some(self.transport_offset + offset),
            _ => None,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
