//! Ethernet II, with and without one 802.1Q tag (IEEE 802.3 §3.2, IEEE 802.1Q §9).
//!
//! ```text
//! destination 6 | source 6 | [ 0x8100 2 | priority 3 bits, DEI 1, VLAN 12 | ] EtherType 2 | payload
//! ```

use super::{Layer, ParseError, field, set_field};
use crate::net::{Mac, Origin};

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
    /// The receiver's link address.
    pub destination: Mac,
    /// The sender's link address.
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
        match self.vlan {
            None => *buffer.first_chunk_mut()? = self.with_type(self.ethertype),
            Some(vlan) => {
                let (head, tail) = buffer.first_chunk_mut::<{ HEADER_LEN + TAG_LEN }>()?.split_at_mut(HEADER_LEN);
                let ([c0, c1], [t0, t1]) = (vlan.to_be_bytes(), self.ethertype.0.to_be_bytes());
                head.copy_from_slice(&self.with_type(EtherType::VLAN));
                tail.copy_from_slice(&[c0, c1, t0, t1]);
            }
        }
        Some(self.len())
    }

    /// Writes all but the tag: address by address, which picks no bytes.
    #[inline(always)]
    pub(crate) fn write(&self, head: &mut [u8; HEADER_LEN], ethertype: EtherType) {
        set_field::<0, 6, _>(head, self.destination.0);
        set_field::<6, 6, _>(head, self.source.0);
        set_field::<12, 2, _>(head, ethertype.0.to_be_bytes());
    }

    #[inline]
    fn with_type(&self, ethertype: EtherType) -> [u8; HEADER_LEN] {
        let mut head = [0; HEADER_LEN];
        self.write(&mut head, ethertype);
        head
    }
}

/// Whether a frame is for this link address. Compared as slices, which takes half of what it takes as numbers.
#[inline(always)]
pub(crate) fn is_for(head: &[u8; HEADER_LEN], receiver: &Mac) -> bool {
    head.split_at(6).0 == receiver.0.as_slice()
}

/// As [`is_for`], of an address that begins these eight bytes: it is compared as one number.
#[inline(always)]
pub(crate) const fn is_for_first(head: &[u8; HEADER_LEN], receiver: &[u8; 8]) -> bool {
    let difference = u64::from_le_bytes(field::<0, 8, _>(head)) ^ u64::from_le_bytes(*receiver);
    difference << 16 == 0
}

#[inline(always)]
const fn destination(head: &[u8; HEADER_LEN]) -> Mac {
    Mac(field::<0, 6, _>(head))
}

#[inline(always)]
pub(crate) const fn source(head: &[u8; HEADER_LEN]) -> Mac {
    Mac(field::<6, 6, _>(head))
}

/// Where a frame without a tag came from.
#[inline(always)]
pub(crate) const fn origin(head: &[u8; HEADER_LEN]) -> Origin {
    Origin::untagged(field::<6, 8, _>(head))
}

/// What follows, which is a tag where it says so.
#[inline(always)]
pub(crate) const fn ethertype(head: &[u8; HEADER_LEN]) -> EtherType {
    EtherType(u16::from_be_bytes(field::<12, 2, _>(head)))
}

#[cfg(test)]
mod tests;
