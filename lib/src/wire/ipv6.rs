//! IPv6 and its extension headers (RFC 8200 §3, §4).
//!
//! ```text
//! | version 4 | traffic class 8 | flow label 20 |
//! | payload length 16  | next header | hop limit |
//! | source 128                                   |
//! | destination 128                              |
//! ```

use super::checksum::Delta;
use super::{Dscp, Ecn, Fragment, Layer, ParseError, field, set_field};
use crate::net::Protocol;

/// Bytes of the header.
pub const HEADER_LEN: usize = 40;
/// Bytes of the fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;
/// The most extension headers that are walked over before an upper layer.
pub const EXTENSIONS_MAX: usize = 8;

/// Numbers of the extension headers.
pub mod extension {
    /// Hop-by-hop options, only right behind the IPv6 header (RFC 8200 §4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing (RFC 8200 §4.4).
    pub const ROUTING: u8 = 43;
    /// Fragment (RFC 8200 §4.5).
    pub const FRAGMENT: u8 = 44;
    /// Authentication (RFC 4302): covers the addresses, so it cannot cross a translation.
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options (RFC 8200 §4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// Host identity (RFC 7401).
    pub const HOST_IDENTITY: u8 = 139;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 140;
}

/// A header on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// Reads the header of a datagram; the rest is its payload, extension headers included and
    /// Ethernet's padding left out.
    ///
    /// # Errors
    /// [`ParseError::Truncated`], [`ParseError::BadVersion`], and [`ParseError::BadLength`] for a
    /// jumbogram (RFC 2675) or a datagram of more than 65535 bytes with its header.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let (header, rest) = Self::parse_quoted(datagram)?;
        let len = usize::from(header.payload_len());
        if len == 0 && header.next_header() == extension::HOP_BY_HOP {
            return Err(ParseError::length(Layer::Ipv6, 0));
        }
        let total = HEADER_LEN + len;
        if total > 0xffff {
            return Err(ParseError::length(Layer::Ipv6, len));
        }
        match rest.get(..len) {
            Some(payload) => Ok((header, payload)),
            None => Err(ParseError::truncated(Layer::Ipv6, total, datagram.len())),
        }
    }

    /// Reads the header of a datagram that has been cut short behind its header, as an ICMP error
    /// quotes it; the rest is what is left of the payload.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), the payload length not looked at.
    #[inline]
    pub fn parse_quoted(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let Some((fixed, rest)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(ParseError::truncated(Layer::Ipv6, HEADER_LEN, datagram.len()));
        };
        let version = fixed[0] >> 4;
        if version != 6 {
            return Err(ParseError::BadVersion { version });
        }
        Ok((Self(fixed), rest))
    }

    /// The traffic class: six bits of differentiated services code point, two of [`Ecn`].
    #[inline]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.0[0] << 4 | self.0[1] >> 4
    }

    /// The congestion codepoint.
    #[inline]
    #[must_use]
    pub const fn ecn(&self) -> Ecn {
        Ecn::of(self.traffic_class())
    }

    /// The flow label: twenty bits (RFC 6437).
    #[inline]
    #[must_use]
    pub const fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.0[1] & 0x0f, self.0[2], self.0[3]])
    }

    /// Bytes of what follows the header.
    #[inline]
    #[must_use]
    pub const fn payload_len(&self) -> u16 {
        u16::from_be_bytes(field::<4, 2, _>(self.0))
    }

    /// The protocol of what follows: an extension header's or the upper layer's.
    #[inline]
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.0[6]
    }

    /// Hops left.
    #[inline]
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        self.0[7]
    }

    /// The sender's address.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> [u8; 16] {
        source(self.0)
    }

    /// The receiver's address.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> [u8; 16] {
        destination(self.0)
    }
}

#[inline]
pub(crate) const fn source(fixed: &[u8; HEADER_LEN]) -> [u8; 16] {
    field::<8, 16, _>(fixed)
}

#[inline]
pub(crate) const fn destination(fixed: &[u8; HEADER_LEN]) -> [u8; 16] {
    field::<24, 16, _>(fixed)
}

/// Where the walk over the extension headers came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// The upper layer's protocol. Behind a fragment that is not the first, the protocol that the
    /// fragment header names, which may be an extension header's.
    pub protocol: Protocol,
    /// Where the upper layer begins in the payload that was walked over, in bytes.
    pub offset: usize,
    /// What the fragment header says, where there is one. Offset zero and no more to follow is an
    /// atomic fragment (RFC 6946): a whole datagram.
    pub fragment: Option<FragmentHeader>,
}

/// A fragment header and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentHeader {
    /// What it says.
    pub fragment: Fragment,
    /// Where it begins in the payload, in bytes.
    pub at: usize,
}

/// Walks over the extension headers of `payload` to the upper layer, or to a later fragment's data.
///
/// - `next_header`: the IPv6 header's.
/// - Work: at most [`EXTENSIONS_MAX`] headers. Options are not read.
///
/// # Errors
/// [`ParseError::Truncated`] where a header ends past the payload, [`ParseError::ExtensionHeader`]
/// for one that is out of place, repeated, not carried or past the limit, and
/// [`ParseError::RoutingHeader`] where the destination is not yet the last one: the upper layer's
/// checksum covers another address then (RFC 8200 §8.1; type 0 is forbidden altogether, RFC 5095 §3).
pub fn walk(next_header: u8, payload: &[u8]) -> Result<Upper, ParseError> {
    let mut next = next_header;
    let mut offset = 0;
    let mut fragment = None;
    for position in 0..=EXTENSIONS_MAX {
        let refused = Err(ParseError::ExtensionHeader { header: next });
        match next {
            extension::HOP_BY_HOP if position != 0 => return refused,
            extension::FRAGMENT if fragment.is_some() => return refused,
            extension::HOP_BY_HOP | extension::ROUTING | extension::FRAGMENT | extension::DESTINATION_OPTIONS => {}
            extension::AUTHENTICATION | extension::MOBILITY | extension::HOST_IDENTITY | extension::SHIM6 => {
                return refused;
            }
            upper => return Ok(Upper { protocol: Protocol(upper), offset, fragment }),
        }
        if position == EXTENSIONS_MAX {
            return refused;
        }
        let rest = payload.get(offset..).unwrap_or_default();
        let Some(&[following, units, kind, left, i0, i1, i2, i3]) = rest.first_chunk() else {
            return Err(ParseError::truncated(Layer::Ipv6Extension, 8, rest.len()));
        };
        let len = if next == extension::FRAGMENT { FRAGMENT_HEADER_LEN } else { (usize::from(units) + 1) * 8 };
        if rest.len() < len {
            return Err(ParseError::truncated(Layer::Ipv6Extension, len, rest.len()));
        }
        if next == extension::ROUTING && left != 0 {
            return Err(ParseError::RoutingHeader { kind });
        }
        let at = offset;
        offset += len;
        if next == extension::FRAGMENT {
            let word = u16::from_be_bytes([kind, left]);
            let found =
                Fragment { id: u32::from_be_bytes([i0, i1, i2, i3]), offset: word & !0b111, more: word & 1 == 1 };
            fragment = Some(FragmentHeader { fragment: found, at });
            if !found.is_first() {
                return Ok(Upper { protocol: Protocol(following), offset, fragment });
            }
        }
        next = following;
    }
    // The loop ends at the limit above.
    Err(ParseError::ExtensionHeader { header: next })
}

/// What a header says, to write one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// The traffic class.
    pub traffic_class: u8,
    /// The flow label; bits past twenty are left out.
    pub flow_label: u32,
    /// Bytes of what follows the header.
    pub payload_len: u16,
    /// The protocol of what follows.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// The sender's address.
    pub source: [u8; 16],
    /// The receiver's address.
    pub destination: [u8; 16],
}

impl Fields {
    /// The header.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        let mut bytes = [0; HEADER_LEN];
        let (head, addresses) = bytes.split_at_mut(8);
        let (source, destination) = addresses.split_at_mut(16);
        let [f0, f1, f2, f3] = first.to_be_bytes();
        let [l0, l1] = self.payload_len.to_be_bytes();
        head.copy_from_slice(&[f0, f1, f2, f3, l0, l1, self.next_header, self.hop_limit]);
        source.copy_from_slice(&self.source);
        destination.copy_from_slice(&self.destination);
        bytes
    }
}

/// A header to change in place.
#[derive(Debug)]
pub struct HeaderMut<'a>(&'a mut [u8; HEADER_LEN]);

impl<'a> HeaderMut<'a> {
    /// A header that has been parsed before.
    #[inline]
    #[must_use]
    pub const fn new(fixed: &'a mut [u8; HEADER_LEN]) -> Self {
        Self(fixed)
    }

    /// The header at the front of a datagram that has been parsed before; `None` where it is shorter
    /// than one.
    #[inline]
    #[must_use]
    pub const fn at_front(datagram: &'a mut [u8]) -> Option<Self> {
        match datagram.first_chunk_mut() {
            Some(fixed) => Some(Self(fixed)),
            None => None,
        }
    }

    /// Replaces the sender's address.
    #[inline]
    pub fn set_source(&mut self, new: [u8; 16]) {
        set_field::<8, 16, _>(self.0, new);
    }

    /// Replaces the receiver's address.
    #[inline]
    pub fn set_destination(&mut self, new: [u8; 16]) {
        set_field::<24, 16, _>(self.0, new);
    }

    /// Replaces both addresses and takes one hop off. Gives the addresses' change, which an upper-layer
    /// checksum has to follow; `None`, and nothing changed, where no hop would be left.
    #[inline]
    #[must_use]
    pub fn forward(&mut self, new_source: [u8; 16], new_destination: [u8; 16]) -> Option<Delta> {
        if !self.decrement_hop_limit() {
            return None;
        }
        let header = Header(self.0);
        let addresses =
            Delta::NONE.replace16(header.source(), new_source).replace16(header.destination(), new_destination);
        self.set_source(new_source);
        self.set_destination(new_destination);
        Some(addresses)
    }

    /// Takes one hop off. `false`, and nothing changed, where none would be left (RFC 8200 §3).
    #[inline]
    #[must_use]
    pub const fn decrement_hop_limit(&mut self) -> bool {
        let hops = self.0[7];
        if hops <= 1 {
            return false;
        }
        self.0[7] = hops - 1;
        true
    }

    /// Replaces the hop limit.
    #[inline]
    pub const fn set_hop_limit(&mut self, new: u8) {
        self.0[7] = new;
    }

    /// Replaces the congestion codepoint.
    #[inline]
    pub const fn set_ecn(&mut self, ecn: Ecn) {
        self.0[1] = self.0[1] & 0b1100_1111 | (ecn as u8) << 4;
    }

    /// Replaces the differentiated services codepoint.
    pub const fn set_dscp(&mut self, dscp: Dscp) {
        self.0[0] = self.0[0] & 0xf0 | dscp.number() >> 2;
        self.0[1] = self.0[1] & 0x3f | dscp.number() << 6;
    }
}

#[cfg(test)]
mod tests;
