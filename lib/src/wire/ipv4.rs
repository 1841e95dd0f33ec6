//! IPv4 (RFC 791 §3.1).
//!
//! ```text
//! | version 4 | IHL 4 | type of service | total length             |
//! | identification                    | 0 | DF | MF | offset 13   |
//! | time to live      | protocol      | header checksum            |
//! | source                                                         |
//! | destination                                                    |
//! | options, to a multiple of four bytes                           |
//! ```

use super::checksum::{self, Delta};
use super::{Dscp, Ecn, Fragment, Layer, ParseError, field, set_field};
use crate::net::Protocol;

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const HEADER_LEN_MAX: usize = 60;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// A header on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    fixed: &'a [u8; HEADER_LEN],
    options: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header of a datagram; the rest is its payload, without what Ethernet padded it with.
    /// The checksum is not looked at: see [`checksum_is_valid`](Self::checksum_is_valid).
    ///
    /// # Errors
    /// [`ParseError::Truncated`], [`ParseError::BadVersion`], and [`ParseError::BadLength`] where the
    /// header's length is less than 20 or the total length less than the header's.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let (header, rest) = Self::parse_quoted(datagram)?;
        let total = usize::from(header.total_len());
        match total.checked_sub(header.header_len()).map(|count| rest.get(..count)) {
            Some(Some(payload)) => Ok((header, payload)),
            Some(None) => Err(ParseError::truncated(Layer::Ipv4, total, datagram.len())),
            None => Err(ParseError::length(Layer::Ipv4, total)),
        }
    }

    /// Reads the header of a datagram that has been cut short behind its header, as an ICMP error
    /// quotes it; the rest is what is left of the payload, which may be more than the total length says.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), the total length not looked at.
    #[inline]
    pub fn parse_quoted(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let Some((fixed, rest)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(ParseError::truncated(Layer::Ipv4, HEADER_LEN, datagram.len()));
        };
        let version = fixed[0] >> 4;
        if version != 4 {
            return Err(ParseError::BadVersion { version });
        }
        let len = header_len(fixed);
        match len.checked_sub(HEADER_LEN).map(|count| rest.split_at_checked(count)) {
            Some(Some((options, payload))) => Ok((Self { fixed, options }, payload)),
            Some(None) => Err(ParseError::truncated(Layer::Ipv4, len, datagram.len())),
            None => Err(ParseError::length(Layer::Ipv4, len)),
        }
    }

    /// Bytes of the header with its options: 20 to 60.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        header_len(self.fixed)
    }

    /// The options, padding included.
    #[inline]
    #[must_use]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// Whether every option's length lies inside the options (RFC 791 §3.1).
    ///
    /// # Errors
    /// [`ParseError::BadLength`] with the length of one that does not.
    pub fn check_options(&self) -> Result<(), ParseError> {
        self.each_option().try_for_each(|option| option.map(|_| ()))
    }

    /// The options up to the end of their list, each from its kind on. One that does not end inside it is the
    /// last, and an error.
    fn each_option(&self) -> impl Iterator<Item = Result<&'a [u8], ParseError>> + use<'a> {
        let mut rest = self.options;
        core::iter::from_fn(move || {
            let (least, len) = match *rest {
                [] | [option::END, ..] => return None,
                [option::NONE, ..] => (1, 1),
                [_, len, ..] => (2, usize::from(len)),
                [_] => (2, 1),
            };
            let (option, behind) = match rest.split_at_checked(len) {
                Some((option, behind)) if len >= least => (Ok(option), behind),
                _ => (Err(ParseError::length(Layer::Ipv4, len)), Default::default()),
            };
            rest = behind;
            Some(option)
        })
    }

    /// Whether an option is a source route, loose or strict (RFC 791
    /// §3.1).
    #[must_use]
    pub fn has_source_route(&self) -> bool {
        let is_route = |kind: &u8| matches!(*kind, option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE);
        self.each_option().any(|option| option.is_ok_and(|option| option.first().is_some_and(is_route)))
    }

    /// The type of service: six bits of differentiated services code point, two of [`Ecn`].
    #[inline]
    #[must_use]
    pub const fn tos(&self) -> u8 {
        self.fixed[1]
    }

    /// The congestion codepoint.
    #[inline]
    #[must_use]
    pub const fn ecn(&self) -> Ecn {
        Ecn::of(self.tos())
    }

    /// Bytes of header and payload.
    #[inline]
    #[must_use]
    pub const fn total_len(&self) -> u16 {
        u16::from_be_bytes(field::<2, 2, _>(self.fixed))
    }

    /// The identification, which the fragments of a datagram share.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> u16 {
        u16::from_be_bytes(field::<4, 2, _>(self.fixed))
    }

    /// Whether routers may not cut the datagram.
    #[inline]
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        fragment_word(self.fixed) & DONT_FRAGMENT != 0
    }

    /// Which fragment of a datagram this is, or `None` for a whole one.
    #[inline]
    #[must_use]
    pub const fn fragment(&self) -> Option<Fragment> {
        fragment(self.fixed)
    }

    /// Hops left.
    #[inline]
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        self.fixed[8]
    }

    /// What the payload is.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        Protocol(self.fixed[9])
    }

    /// The header's checksum.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> [u8; 2] {
        field::<10, 2, _>(self.fixed)
    }

    /// Whether the header and its checksum agree.
    #[inline]
    #[must_use]
    pub fn checksum_is_valid(&self) -> bool {
        checksum::sum20(self.fixed).bytes(self.options).is_valid()
    }

    /// The sender's address.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> [u8; 4] {
        source(self.fixed)
    }

    /// The receiver's address.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> [u8; 4] {
        destination(self.fixed)
    }
}

#[inline]
pub(crate) const fn header_len(fixed: &[u8; HEADER_LEN]) -> usize {
    (fixed[0] & 0x0f) as usize * 4
}

#[inline]
pub(crate) const fn fragment_word(fixed: &[u8; HEADER_LEN]) -> u16 {
    u16::from_be_bytes(field::<6, 2, _>(fixed))
}

#[inline]
pub(crate) const fn dont_fragment(fixed: &[u8; HEADER_LEN]) -> bool {
    fragment_word(fixed) & DONT_FRAGMENT != 0
}

#[inline]
pub(crate) const fn fragment(fixed: &[u8; HEADER_LEN]) -> Option<Fragment> {
    let word = fragment_word(fixed);
    if word & (MORE_FRAGMENTS | OFFSET_MASK) == 0 {
        return None;
    }
    Some(Fragment {
        id: u16::from_be_bytes(field::<4, 2, _>(fixed)) as u32,
        offset: (word & OFFSET_MASK) << 3,
        more: word & MORE_FRAGMENTS != 0,
    })
}

#[inline]
pub(crate) const fn protocol(fixed: &[u8; HEADER_LEN]) -> Protocol {
    Protocol(fixed[9])
}

#[inline]
pub(crate) const fn source(fixed: &[u8; HEADER_LEN]) -> [u8; 4] {
    field::<12, 4, _>(fixed)
}

#[inline]
pub(crate) const fn destination(fixed: &[u8; HEADER_LEN]) -> [u8; 4] {
    field::<16, 4, _>(fixed)
}

/// What a header without options says, to write one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// The type of service.
    pub tos: u8,
    /// Bytes of header and payload.
    pub total_len: u16,
    /// The identification.
    pub id: u16,
    /// Whether routers may not cut the datagram.
    pub dont_fragment: bool,
    /// Where this fragment's data begins, in bytes: a multiple of eight. Zero for a whole datagram.
    pub fragment_offset: u16,
    /// Whether other fragments follow.
    pub more_fragments: bool,
    /// Hops left.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: Protocol,
    /// The sender's address.
    pub source: [u8; 4],
    /// The receiver's address.
    pub destination: [u8; 4],
}

impl Fields {
    /// The header, with its checksum.
    #[inline]
    #[must_use]
    pub const fn emit(&self) -> [u8; HEADER_LEN] {
        let [l0, l1] = self.total_len.to_be_bytes();
        let [i0, i1] = self.id.to_be_bytes();
        let mut word = self.fragment_offset >> 3;
        if self.dont_fragment {
            word |= DONT_FRAGMENT;
        }
        if self.more_fragments {
            word |= MORE_FRAGMENTS;
        }
        let [f0, f1] = word.to_be_bytes();
        let [s0, s1, s2, s3] = self.source;
        let [d0, d1, d2, d3] = self.destination;
        let [ttl, protocol] = [self.ttl, self.protocol.0];
        let mut bytes = [0x45, self.tos, l0, l1, i0, i1, f0, f1, ttl, protocol, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3];
        [bytes[10], bytes[11]] = checksum::sum20(&bytes).finish();
        bytes
    }
}

/// A header to change in place; its checksum follows every change (RFC 1624 §3).
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
    pub fn set_source(&mut self, new: [u8; 4]) {
        self.update(Delta::NONE.replace4(source(self.0), new));
        set_field::<12, 4, _>(self.0, new);
    }

    /// Replaces the receiver's address.
    #[inline]
    pub fn set_destination(&mut self, new: [u8; 4]) {
        self.update(Delta::NONE.replace4(destination(self.0), new));
        set_field::<16, 4, _>(self.0, new);
    }

    /// Replaces both addresses and takes one hop off, with one update of the checksum: what forwarding
    /// with translation does to every packet. Gives the addresses' change, which a transport checksum
    /// has to follow; `None`, and nothing changed, where no hop would be left.
    #[inline]
    #[must_use]
    pub fn forward(&mut self, new_source: [u8; 4], new_destination: [u8; 4]) -> Option<Delta> {
        let ttl = self.0[8];
        if ttl <= 1 {
            return None;
        }
        let addresses = Delta::NONE.replace4(source(self.0), new_source).replace4(destination(self.0), new_destination);
        // One less, whatever the byte beside it is.
        self.update(addresses.replace2([1, 0], [0, 0]));
        self.0[8] = ttl - 1;
        set_field::<12, 4, _>(self.0, new_source);
        set_field::<16, 4, _>(self.0, new_destination);
        Some(addresses)
    }

    /// Takes one hop off. `false`, and nothing changed, where none would be left (RFC 1812 §5.3.1).
    #[inline]
    #[must_use]
    pub fn decrement_ttl(&mut self) -> bool {
        let [ttl, protocol] = [self.0[8], self.0[9]];
        if ttl <= 1 {
            return false;
        }
        self.update(Delta::NONE.replace2([ttl, protocol], [ttl - 1, protocol]));
        self.0[8] = ttl - 1;
        true
    }

    /// Replaces the identification.
    #[inline]
    pub fn set_id(&mut self, new: u16) {
        let new = new.to_be_bytes();
        self.update(Delta::NONE.replace2(field::<4, 2, _>(self.0), new));
        set_field::<4, 2, _>(self.0, new);
    }

    /// Replaces the time to live.
    #[inline]
    pub fn set_ttl(&mut self, new: u8) {
        let [old, protocol] = [self.0[8], self.0[9]];
        self.update(Delta::NONE.replace2([old, protocol], [new, protocol]));
        self.0[8] = new;
    }

    /// Replaces the congestion codepoint.
    #[inline]
    pub fn set_ecn(&mut self, ecn: Ecn) {
        let [first, tos] = [self.0[0], self.0[1]];
        let new = ecn.mark(tos);
        self.update(Delta::NONE.replace2([first, tos], [first, new]));
        self.0[1] = new;
    }

    /// Replaces the differentiated services codepoint.
    pub fn set_dscp(&mut self, dscp: Dscp) {
        let [first, tos] = [self.0[0], self.0[1]];
        let new = dscp.mark(tos);
        self.update(Delta::NONE.replace2([first, tos], [first, new]));
        self.0[1] = new;
    }

    #[inline]
    const fn update(&mut self, delta: Delta) {
        let checksum = delta.apply(field::<10, 2, _>(self.0));
        set_field::<10, 2, _>(self.0, checksum);
    }
}

/// A header with options, rewritten for a fragment of its datagram.
#[derive(Clone, Copy, Debug)]
pub struct FragmentHeader {
    bytes: [u8; HEADER_LEN_MAX],
    len: usize,
}

impl FragmentHeader {
    /// A copy of `header`, which has been parsed before, with its options.
    ///
    /// - `is_first`: whether the fragment begins with the datagram's first byte. Any other has only those
    ///   options whose flag says that they are in every fragment (RFC 791 §3.1, §3.2).
    ///
    /// `None` where an option does not end within the header.
    #[must_use]
    pub fn copy(header: &Header<'_>, is_first: bool) -> Option<Self> {
        let mut copy = Self { bytes: [0; HEADER_LEN_MAX], len: HEADER_LEN };
        copy.bytes.first_chunk_mut::<HEADER_LEN>()?.copy_from_slice(header.fixed);
        let mut options = header.options;
        while let Some((&kind, rest)) = options.split_first() {
            let len = match kind {
                option::END => break,
                option::NONE => 1,
                _ => usize::from(*rest.first()?).max(2),
            };
            let (this, rest) = options.split_at_checked(len)?;
            if is_first || kind & option::COPIED != 0 {
                copy.bytes.get_mut(copy.len..copy.len + len)?.copy_from_slice(this);
                copy.len += len;
            }
            options = rest;
        }
        // Filled up with what ends the options.
        copy.len = copy.len.next_multiple_of(4);
        copy.bytes[0] = 0x40 | (copy.len / 4) as u8;
        Some(copy)
    }

    /// Bytes of the header.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The header of a fragment with so many bytes of data, its checksum right. It may be fragmented again.
    #[must_use]
    pub fn emit(&mut self, data_len: u16, fragment: Fragment) -> &[u8] {
        let more = if fragment.more { MORE_FRAGMENTS } else { 0 };
        let [l0, l1] = (self.len as u16).wrapping_add(data_len).to_be_bytes();
        let [i0, i1] = (fragment.id as u16).to_be_bytes();
        let [f0, f1] = (fragment.offset >> 3 | more).to_be_bytes();
        if let Some(fields) = self.bytes.get_mut(2..12) {
            let [ttl, protocol] = [fields[6], fields[7]];
            fields.copy_from_slice(&[l0, l1, i0, i1, f0, f1, ttl, protocol, 0, 0]);
        }
        let header = self.bytes.get_mut(..self.len).unwrap_or_default();
        let sum = checksum::Sum::NONE.bytes(header).finish();
        if let Some(field) = header.get_mut(10..12) {
            field.copy_from_slice(&sum);
        }
        header
    }
}

/// Numbers of options (RFC 791 §3.1).
mod option {
    /// The bit of an option that is in every fragment.
    pub(super) const COPIED: u8 = 0x80;
    /// Nothing follows.
    pub(super) const END: u8 = 0;
    /// One byte of nothing.
    pub(super) const NONE: u8 = 1;
    /// Loose source route.
    pub(super) const LOOSE_SOURCE_ROUTE: u8 = 131;
    /// Strict source route.
    pub(super) const STRICT_SOURCE_ROUTE: u8 = 137;
}

#[cfg(test)]
mod tests;
