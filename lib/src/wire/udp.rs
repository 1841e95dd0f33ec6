//! UDP (RFC 768).
//!
//! ```text
//! | source port | destination port |
//! | length      | checksum         |
//! ```

use super::{Layer, ParseError, field};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = 6;

/// A header on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// Reads the header of a whole datagram; its data ends where its length says, and what the IP
    /// payload has behind that is left out.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] where the length is more than there is, [`ParseError::BadLength`]
    /// where it is less than the header.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let (header, data) = Self::parse_first(payload)?;
        let len = usize::from(header.len());
        match len.checked_sub(HEADER_LEN).map(|count| data.get(..count)) {
            Some(Some(data)) => Ok((header, data)),
            Some(None) => Err(ParseError::truncated(Layer::Udp, len, payload.len())),
            None => Err(ParseError::length(Layer::Udp, len)),
        }
    }

    /// Reads the header at the front of a first fragment, whose length covers the fragments to come.
    ///
    /// # Errors
    /// [`ParseError::Truncated`].
    #[inline]
    pub fn parse_first(payload: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        match payload.split_first_chunk() {
            Some((head, data)) => Ok((Self(head), data)),
            None => Err(ParseError::truncated(Layer::Udp, HEADER_LEN, payload.len())),
        }
    }

    /// The sender's port, in wire order.
    #[inline]
    #[must_use]
    pub const fn source_port(&self) -> [u8; 2] {
        field::<0, 2, _>(self.0)
    }

    /// The receiver's port, in wire order.
    #[inline]
    #[must_use]
    pub const fn destination_port(&self) -> [u8; 2] {
        field::<2, 2, _>(self.0)
    }

    /// Bytes of header and data.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a datagram has a header at least")]
    pub const fn len(&self) -> u16 {
        u16::from_be_bytes(field::<4, 2, _>(self.0))
    }

    /// The checksum; zero says that there is none, which only IPv4 allows.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> [u8; 2] {
        field::<6, 2, _>(self.0)
    }
}

/// A header, ports in wire order; `len` counts header and data.
#[inline]
#[must_use]
pub const fn emit(source_port: [u8; 2], destination_port: [u8; 2], len: u16, checksum: [u8; 2]) -> [u8; HEADER_LEN] {
    let [s0, s1] = source_port;
    let [d0, d1] = destination_port;
    let [l0, l1] = len.to_be_bytes();
    let [c0, c1] = checksum;
    [s0, s1, d0, d1, l0, l1, c0, c1]
}

#[cfg(test)]
mod tests;
