//! ICMP for IPv4 (RFC 792).
//!
//! ```text
//! | type 8 | code 8 | checksum 16 |
//! | identifier and sequence, next-hop MTU, or other, by type |
//! | data, or the datagram that an error quotes               |
//! ```

use super::checksum::{self, Delta};
use super::{Layer, ParseError, field};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = 2;

/// Message types.
pub mod kind {
    /// Answer to an echo.
    pub const ECHO_REPLY: u8 = 0;
    /// Error: the datagram could not be delivered.
    pub const UNREACHABLE: u8 = 3;
    /// Error: slow down (deprecated by RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Error: there is a better first hop.
    pub const REDIRECT: u8 = 5;
    /// Asks for an answer.
    pub const ECHO_REQUEST: u8 = 8;
    /// Error: the time to live ran out.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Error: a header field is wrong.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of [`kind::UNREACHABLE`].
pub mod unreachable {
    /// No way to the network.
    pub const NET: u8 = 0;
    /// No way to the host.
    pub const HOST: u8 = 1;
    /// The host does not speak the protocol.
    pub const PROTOCOL: u8 = 2;
    /// Nobody listens at the port.
    pub const PORT: u8 = 3;
    /// The datagram is too big for the next hop and may not be cut (RFC 1191 §4).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Forbidden by an administrator (RFC 1812 §5.2.7.1).
    pub const PROHIBITED: u8 = 13;
}

/// Whether a message of this type quotes the datagram that caused it.
#[inline]
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    matches!(
        kind,
        kind::UNREACHABLE | kind::SOURCE_QUENCH | kind::REDIRECT | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM
    )
}

/// A header on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// Reads the header; the rest is data, or the datagram quoted. The checksum is not looked at:
    /// [`checksum::of`] the message is zero where it is right.
    ///
    /// # Errors
    /// [`ParseError::Truncated`].
    #[inline]
    pub fn parse(message: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        match message.split_first_chunk() {
            Some((head, rest)) => Ok((Self(head), rest)),
            None => Err(ParseError::truncated(Layer::Icmpv4, HEADER_LEN, message.len())),
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

    /// What the next hop takes, where the message is "fragmentation needed"; zero from routers that
    /// do not say (RFC 1191 §4).
    #[inline]
    #[must_use]
    pub const fn next_hop_mtu(&self) -> Option<u16> {
        match (self.kind(), self.code()) {
            (kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => {
                Some(u16::from_be_bytes(field::<6, 2, _>(self.0)))
            }
            _ => None,
        }
    }

    /// Bytes of the quoted datagram before extensions, where the message has any (RFC 4884 §4.1).
    #[inline]
    #[must_use]
    pub const fn quoted_len(&self) -> Option<usize> {
        match (self.kind(), self.0[5]) {
            (kind::UNREACHABLE | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM, words @ 1..) => {
                Some(words as usize * 4)
            }
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

/// Writes the checksum of a whole message. `false`, and nothing changed, where it is shorter than a header.
#[must_use]
pub fn seal(message: &mut [u8]) -> bool {
    let Some([_, _, c0, c1, ..]) = message.first_chunk_mut::<HEADER_LEN>() else { return false };
    [*c0, *c1] = [0; 2];
    let sum = checksum::of(message);
    if let Some([_, _, c0, c1]) = message.first_chunk_mut() {
        [*c0, *c1] = sum;
    }
    true
}

/// Turns an echo request into its reply (RFC 792, "Echo or Echo Reply Message").
#[inline]
pub const fn answer_echo(header: &mut [u8; HEADER_LEN]) {
    let code = header[1];
    let delta = Delta::NONE.replace2([header[0], code], [kind::ECHO_REPLY, code]);
    [header[2], header[3]] = delta.apply([header[2], header[3]]);
    header[0] = kind::ECHO_REPLY;
}

#[cfg(test)]
mod tests;
