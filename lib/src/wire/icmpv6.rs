//! ICMP for IPv6 (RFC 4443). Its checksum covers a pseudo-header.
//!
//! ```text
//! | type 8 | code 8 | checksum 16 |
//! | identifier and sequence, MTU, or other, by type |
//! | data, or the datagram that an error quotes      |
//! ```

use super::checksum::{Delta, Sum};
use super::{Layer, ParseError, field};
use crate::net::Protocol;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = 2;

/// Message types. Those below 128 are errors.
pub mod kind {
    /// Error: the datagram could not be delivered.
    pub const UNREACHABLE: u8 = 1;
    /// Error: the datagram is too big for the next hop.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Error: the hop limit ran out.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Error: a header field is wrong.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Asks for an answer.
    pub const ECHO_REQUEST: u8 = 128;
    /// Answer to an echo.
    pub const ECHO_REPLY: u8 = 129;
}

/// Codes of [`kind::UNREACHABLE`].
pub mod unreachable {
    /// No way to the destination.
    pub const NO_ROUTE: u8 = 0;
    /// Forbidden by an administrator.
    pub const PROHIBITED: u8 = 1;
    /// No way to the host.
    pub const ADDRESS: u8 = 3;
    /// Nobody listens at the port.
    pub const PORT: u8 = 4;
}

/// Whether a message of this type quotes the datagram that caused it (RFC 4443 §2.1).
#[inline]
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// A header on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// Reads the header; the rest is data, or the datagram quoted. The checksum is not looked at.
    ///
    /// # Errors
    /// [`ParseError::Truncated`].
    #[inline]
    pub fn parse(message: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        match message.split_first_chunk() {
            Some((head, rest)) => Ok((Self(head), rest)),
            None => Err(ParseError::truncated(Layer::Icmpv6, HEADER_LEN, message.len())),
        }
    }

    /// The message's type, one of [`kind`].
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.0[0]
    }

    /// The code, whose meaning is the type's.
    #[inline]
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.0[1]
    }

    /// The checksum.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> [u8; 2] {
        field::<2, 2, _>(self.0)
    }

    /// Whether the message quotes the datagram that caused it.
    #[inline]
    #[must_use]
    pub const fn is_error(&self) -> bool {
        is_error(self.kind())
    }

    /// The identifier of an echo, in wire order; what stands there in other messages.
    #[inline]
    #[must_use]
    pub const fn identifier(&self) -> [u8; 2] {
        field::<4, 2, _>(self.0)
    }

    /// The sequence number of an echo.
    #[inline]
    #[must_use]
    pub const fn sequence(&self) -> u16 {
        u16::from_be_bytes(field::<6, 2, _>(self.0))
    }

    /// What the next hop takes, where the message is "packet too big" (RFC 4443 §3.2).
    #[inline]
    #[must_use]
    pub const fn mtu(&self) -> Option<u32> {
        match self.kind() {
            kind::PACKET_TOO_BIG => Some(u32::from_be_bytes(field::<4, 4, _>(self.0))),
            _ => None,
        }
    }

    /// Bytes of the quoted datagram before extensions, where the message has any (RFC 4884 §4.4).
    #[inline]
    #[must_use]
    pub const fn quoted_len(&self) -> Option<usize> {
        match (self.kind(), self.0[4]) {
            (kind::UNREACHABLE | kind::TIME_EXCEEDED, words @ 1..) => Some(words as usize * 8),
            _ => None,
        }
    }
}

/// A header with these four bytes behind the checksum, which is still zero: see [`seal`].
#[inline]
#[must_use]
pub const fn emit(kind: u8, code: u8, rest: [u8; 4]) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = rest;
    [kind, code, 0, 0, a, b, c, d]
}

/// Writes the checksum of a whole message between these addresses. `false`, and nothing changed,
/// where it is shorter than a header or longer than a datagram.
#[must_use]
pub fn seal(message: &mut [u8], source: [u8; 16], destination: [u8; 16]) -> bool {
    let Ok(len) = u16::try_from(message.len()) else { return false };
    let Some([_, _, c0, c1, ..]) = message.first_chunk_mut::<HEADER_LEN>() else { return false };
    [*c0, *c1] = [0; 2];
    let pseudo = Sum::NONE.pseudo_v6(source, destination, Protocol::ICMPV6.0, u32::from(len));
    let sum = pseudo.bytes(message).finish();
    if let Some([_, _, c0, c1]) = message.first_chunk_mut() {
        [*c0, *c1] = sum;
    }
    true
}

/// Turns an echo request into its reply (RFC 4443 §4.2). That the addresses change places leaves the
/// checksum as it is.
#[inline]
pub const fn answer_echo(header: &mut [u8; HEADER_LEN]) {
    let code = header[1];
    let delta = Delta::NONE.replace2([header[0], code], [kind::ECHO_REPLY, code]);
    [header[2], header[3]] = delta.apply([header[2], header[3]]);
    header[0] = kind::ECHO_REPLY;
}

#[cfg(test)]
mod tests;
