//! TCP (RFC 9293 §3.1).
//!
//! ```text
//! | source port                       | destination port |
//! | sequence number                                      |
//! | acknowledgement number                               |
//! | offset 4 bits | reserved 4 | flags 8 | window        |
//! | checksum                          | urgent pointer   |
//! | options, to a multiple of four bytes                 |
//! ```

use super::checksum::Delta;
use super::{Layer, ParseError, field};
use core::fmt;

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = 16;

/// The control bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168 §6.1).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168 §6.1).
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut set = f.debug_set();
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 >> bit & 1 == 1 {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}

/// A header on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    fixed: &'a [u8; HEADER_LEN],
    options: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header of a segment; the rest is its data.
    ///
    /// # Errors
    /// [`ParseError::Truncated`], and [`ParseError::BadLength`] where the data offset is less than 20.
    #[inline]
    pub fn parse(segment: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let Some((fixed, rest)) = segment.split_first_chunk::<HEADER_LEN>() else {
            return Err(ParseError::truncated(Layer::Tcp, HEADER_LEN, segment.len()));
        };
        let len = data_offset(fixed);
        match len.checked_sub(HEADER_LEN).map(|count| rest.split_at_checked(count)) {
            Some(Some((options, data))) => Ok((Self { fixed, options }, data)),
            Some(None) => Err(ParseError::truncated(Layer::Tcp, len, segment.len())),
            None => Err(ParseError::length(Layer::Tcp, len)),
        }
    }

    /// The sender's port, in wire order.
    #[inline]
    #[must_use]
    pub const fn source_port(&self) -> [u8; 2] {
        field::<0, 2, _>(self.fixed)
    }

    /// The receiver's port, in wire order.
    #[inline]
    #[must_use]
    pub const fn destination_port(&self) -> [u8; 2] {
        field::<2, 2, _>(self.fixed)
    }

    /// The sequence number of the first byte of data.
    #[inline]
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        u32::from_be_bytes(field::<4, 4, _>(self.fixed))
    }

    /// The next sequence number expected, where [`Flags::ACK`] is set.
    #[inline]
    #[must_use]
    pub const fn acknowledgement(&self) -> u32 {
        u32::from_be_bytes(field::<8, 4, _>(self.fixed))
    }

    /// Bytes of the header with its options: 20 to 60.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        data_offset(self.fixed)
    }

    /// The control bits.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> Flags {
        Flags(self.fixed[13])
    }

    /// The receive window, unscaled.
    #[inline]
    #[must_use]
    pub const fn window(&self) -> u16 {
        u16::from_be_bytes(field::<14, 2, _>(self.fixed))
    }

    /// The checksum.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> [u8; 2] {
        field::<16, 2, _>(self.fixed)
    }

    /// The urgent pointer.
    #[inline]
    #[must_use]
    pub const fn urgent(&self) -> u16 {
        u16::from_be_bytes(field::<18, 2, _>(self.fixed))
    }

    /// The options, in their order.
    #[inline]
    #[must_use]
    pub const fn options(&self) -> Options<'a> {
        Options { rest: self.options, offset: HEADER_LEN }
    }

    /// The maximum segment size option (RFC 9293 §3.7.1), where there is one.
    #[must_use]
    pub fn mss(&self) -> Option<Mss> {
        self.options().find_map(|option| match (option.kind, option.data) {
            (kind::MSS, &[high, low]) => {
                Some(Mss { value: u16::from_be_bytes([high, low]), offset: option.offset + 2 })
            }
            _ => None,
        })
    }
}

#[inline]
pub(crate) const fn data_offset(fixed: &[u8; HEADER_LEN]) -> usize {
    (fixed[12] >> 4) as usize * 4
}

/// The maximum segment size over IPv4 of who announces none (RFC 9293 §3.7.1).
pub const MSS_DEFAULT: u16 = 536;

/// Option kinds.
pub mod kind {
    /// The list ends here.
    pub const END: u8 = 0;
    /// A byte of padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323 §2).
    pub const WINDOW_SCALE: u8 = 3;
    /// Selective acknowledgement permitted (RFC 2018 §2).
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgement (RFC 2018 §3).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323 §3).
    pub const TIMESTAMPS: u8 = 8;
}

/// A maximum segment size and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mss {
    /// Bytes of data in a segment, at most.
    pub value: u16,
    /// Where the two bytes of the value begin, from the start of the header: even or odd.
    pub offset: usize,
}

/// One option with a length byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpOption<'a> {
    /// Its kind.
    pub kind: u8,
    /// What follows its length byte.
    pub data: &'a [u8],
    /// Where its kind byte stands, from the start of the header.
    pub offset: usize,
}

/// The options of a header. Padding is skipped; a list that breaks off ends there.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl Options<'_> {
    /// Whether what is left is the list's end and no option that breaks off.
    const fn is_whole(&self) -> bool {
        matches!(self.rest, [] | [kind::END, ..])
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        while let [kind::NOP, rest @ ..] = self.rest {
            self.rest = rest;
            self.offset += 1;
        }
        let &[kind, len, ..] = self.rest else { return None };
        if kind == kind::END {
            return None;
        }
        let (option, rest) = self.rest.split_at_checked(usize::from(len))?;
        let data = option.get(2..)?;
        let offset = self.offset;
        self.rest = rest;
        self.offset += option.len();
        Some(TcpOption { kind, data, offset })
    }
}

/// Lowers each maximum segment size that a segment announces to `most`, and brings the checksum up to
/// date (RFC 1624 §3): true where there was one to lower.
///
/// A list of options that breaks off is left as it is: what its receiver makes of it nobody knows.
///
/// Work: twice a walk over at most 40 bytes.
pub fn lower_mss(segment: &mut [u8], most: u16) -> bool {
    let Ok((header, _)) = Header::parse(segment) else { return false };
    let mut options = header.options();
    let lowers = |option: &TcpOption<'_>| {
        option.kind == kind::MSS && matches!(option.data, &[high, low] if u16::from_be_bytes([high, low]) > most)
    };
    let found = options.by_ref().filter(lowers).count();
    if found == 0 || !options.is_whole() {
        return false;
    }
    let mut delta = Delta::NONE;
    for _ in 0..found {
        let Ok((header, _)) = Header::parse(segment) else { return false };
        let Some(offset) = header.options().find(lowers).map(|option| option.offset + 2) else { return false };
        let Some(place) = segment.get_mut(offset..).and_then(<[u8]>::first_chunk_mut::<2>) else { return false };
        let (old, new) = (*place, most.to_be_bytes());
        *place = new;
        // A value at an odd place lies across two words of the sum: its bytes count the other way round.
        let turned = |[high, low]: [u8; 2]| if offset % 2 == 0 { [high, low] } else { [low, high] };
        delta = delta.replace2(turned(old), turned(new));
    }
    if let Some(field) = segment.get_mut(CHECKSUM_OFFSET..).and_then(<[u8]>::first_chunk_mut::<2>) {
        *field = delta.apply(*field);
    }
    true
}

/// What a header without options says, to write one. Ports in wire order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    /// The sender's port.
    pub source_port: [u8; 2],
    /// The receiver's port.
    pub destination_port: [u8; 2],
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgement number.
    pub acknowledgement: u32,
    /// The control bits.
    pub flags: Flags,
    /// The receive window.
    pub window: u16,
}

impl Fields {
    /// The header, its checksum still zero.
    #[must_use]
    pub const fn emit(&self) -> [u8; HEADER_LEN] {
        let [sp0, sp1] = self.source_port;
        let [dp0, dp1] = self.destination_port;
        let [s0, s1, s2, s3] = self.sequence.to_be_bytes();
        let [a0, a1, a2, a3] = self.acknowledgement.to_be_bytes();
        let [w0, w1] = self.window.to_be_bytes();
        [sp0, sp1, dp0, dp1, s0, s1, s2, s3, a0, a1, a2, a3, 0x50, self.flags.0, w0, w1, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests;
