//! Ethernet II, with and without one 802.1Q tag (IEEE 802.3 §3.2, IEEE 802.1Q §9).
//!
//! ```text
//! destination 6 | source 6 | [ 0x8100 2 | priority 3 bits, DEI 1, VLAN 12 | ] EtherType 2 | payload
//! ```

use super::{Layer, ParseError, field};
use crate::net::Mac;

/// Bytes of the header without a tag.
pub const HEADER_LEN: usize = 14;
/// Bytes of one tag.
pub const TAG_LEN: usize = 4;

/// What the payload is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: Self = Self(0x0800);
    /// ARP (RFC 826).
    pub const ARP: Self = Self(0x0806);
    /// IPv6 (RFC 2464).
    pub const IPV6: Self = Self(0x86dd);
    /// An 802.1Q customer tag.
    pub const VLAN: Self = Self(0x8100);
    /// An 802.1ad service tag.
    pub const SERVICE_VLAN: Self = Self(0x88a8);
}

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The station it is for.
    pub destination: Mac,
    /// The station it is from.
    pub source: Mac,
    /// The tag's control information, where there is a tag: three bits of priority, one of drop
    /// eligibility, twelve of VLAN.
    pub vlan: Option<u16>,
    /// What follows.
    pub ethertype: EtherType,
}

impl Header {
    /// Reads a frame's header; the rest of the frame is the payload, padding included.
    ///
    /// # Errors
    /// [`ParseError::Truncated`], and [`ParseError::NestedVlan`] for a second tag.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<(Self, &[u8]), ParseError> {
        let Some((head, rest)) = frame.split_first_chunk::<HEADER_LEN>() else {
            return Err(ParseError::truncated(Layer::Ethernet, HEADER_LEN, frame.len()));
        };
        let header =
            Self { destination: destination(head), source: source(head), vlan: None, ethertype: ethertype(head) };
        if header.ethertype == EtherType::VLAN { header.parse_tag(rest) } else { Ok((header, rest)) }
    }

    fn parse_tag(self, rest: &[u8]) -> Result<(Self, &[u8]), ParseError> {
        let Some((&[c0, c1, t0, t1], payload)) = rest.split_first_chunk::<TAG_LEN>() else {
            return Err(ParseError::truncated(Layer::Vlan, TAG_LEN, rest.len()));
        };
        let ethertype = EtherType(u16::from_be_bytes([t0, t1]));
        if ethertype == EtherType::VLAN || ethertype == EtherType::SERVICE_VLAN {
            return Err(ParseError::NestedVlan);
        }
        Ok((Self { vlan: Some(u16::from_be_bytes([c0, c1])), ethertype, ..self }, payload))
    }

    /// Bytes of this header: 14, or 18 with a tag.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        if self.vlan.is_some() { HEADER_LEN + TAG_LEN } else { HEADER_LEN }
    }

    /// Writes the header to the front of `buffer` and gives its length, or `None`, and nothing
    /// written, where the buffer is shorter.
    #[inline]
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let [t0, t1] = self.ethertype.0.to_be_bytes();
        match self.vlan {
            None => *buffer.first_chunk_mut()? = self.with_type([t0, t1]),
            Some(vlan) => {
                let (head, tail) = buffer.first_chunk_mut::<{ HEADER_LEN + TAG_LEN }>()?.split_at_mut(HEADER_LEN);
                let [c0, c1] = vlan.to_be_bytes();
                head.copy_from_slice(&self.with_type(EtherType::VLAN.0.to_be_bytes()));
                tail.copy_from_slice(&[c0, c1, t0, t1]);
            }
        }
        Some(self.len())
    }

    #[inline]
    const fn with_type(&self, [t0, t1]: [u8; 2]) -> [u8; HEADER_LEN] {
        let [d0, d1, d2, d3, d4, d5] = self.destination.0;
        let [s0, s1, s2, s3, s4, s5] = self.source.0;
        [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1]
    }
}

/// Whether a frame is for this station. Compared as slices, which takes half of what it takes as numbers.
#[inline(always)]
pub(crate) fn is_for(head: &[u8; HEADER_LEN], station: &Mac) -> bool {
    head.split_at(6).0 == station.0.as_slice()
}

#[inline(always)]
const fn destination(head: &[u8; HEADER_LEN]) -> Mac {
    Mac(field::<0, 6, _>(head))
}

#[inline(always)]
pub(crate) const fn source(head: &[u8; HEADER_LEN]) -> Mac {
    Mac(field::<6, 6, _>(head))
}

/// What follows, which is a tag where it says so.
#[inline(always)]
pub(crate) const fn ethertype(head: &[u8; HEADER_LEN]) -> EtherType {
    EtherType(u16::from_be_bytes(field::<12, 2, _>(head)))
}

#[cfg(test)]
mod tests;
