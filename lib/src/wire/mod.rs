//! The formats on the wire, one file a protocol.
//!
//! Parsing yields a view whose accessors cannot fail: whoever holds one need not check a length
//! again. Nothing here copies a payload, and no input panics.

pub mod checksum;
pub mod crc32c;
mod error;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod packet;
pub mod quote;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vxlan;

/// The header that was being read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Layer {
    /// Ethernet's fourteen bytes.
    Ethernet,
    /// The 802.1Q tag behind them.
    Vlan,
    /// IPv4, options included.
    Ipv4,
    /// IPv6's forty bytes, or what their payload length announces.
    Ipv6,
    /// An IPv6 extension header.
    Ipv6Extension,
    /// TCP, options included.
    Tcp,
    /// UDP, or what its length announces.
    Udp,
    /// SCTP's common header.
    Sctp,
    /// A chunk of SCTP, or what its length announces.
    SctpChunk,
    /// ICMP for IPv4.
    Icmpv4,
    /// ICMP for IPv6.
    Icmpv6,
    /// VXLAN.
    Vxlan,
}

/// Why bytes are not what they were read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ParseError {
    /// `have` bytes where the header, or the length in it, asks for `need`.
    Truncated {
        /// Which header.
        layer: Layer,
        /// Bytes asked for.
        need: u16,
        /// Bytes there, fewer than `need`.
        have: u16,
    },
    /// The IP version field says `version`, against the EtherType or the field's legal values.
    BadVersion {
        /// The value found.
        version: u8,
    },
    /// A length field whose value cannot be: shorter than its own header, or longer than the gateway takes.
    BadLength {
        /// Which header.
        layer: Layer,
        /// The length found, in bytes.
        len: u16,
    },
    /// The IPv4 header does not sum to zero (RFC 791 §3.1).
    BadIpChecksum,
    /// A second VLAN tag behind the first.
    NestedVlan,
    /// A fragment that cannot be part of a datagram: its end past 65535 bytes, a length that is no
    /// multiple of eight with more to follow, or one that reaches into a TCP header.
    BadFragment {
        /// The fragment's offset, in bytes.
        offset: u16,
    },
    /// The first fragment of a datagram ends before its transport header does (RFC 1858 §3, RFC 8200 §4.5).
    TinyFragment {
        /// Bytes of transport header and data that are there.
        have: u16,
    },
    /// An IPv6 extension header that is not carried: out of place, repeated, unknown, or past the limit.
    ExtensionHeader {
        /// Its protocol number.
        header: u8,
    },
    /// A routing header with segments left: the destination address is not the last one.
    RoutingHeader {
        /// Its routing type.
        kind: u8,
    },
    /// UDP over IPv6 without a checksum (RFC 8200 §8.1).
    UdpChecksumMissing {
        /// The destination port, by which an exempt tunnel is known (RFC 6935 §5).
        port: u16,
    },
    /// VXLAN whose I flag is clear (RFC 7348 §5).
    VniFlagClear,
}

const _: () = assert!(size_of::<ParseError>() <= 8);

impl ParseError {
    #[cold]
    #[inline(never)]
    const fn truncated(layer: Layer, need: usize, have: usize) -> Self {
        // Both fit: what is needed comes from a 16-bit field or a constant, and `have` is less.
        Self::Truncated { layer, need: saturate(need), have: saturate(have) }
    }

    #[cold]
    #[inline(never)]
    const fn length(layer: Layer, len: usize) -> Self {
        Self::BadLength { layer, len: saturate(len) }
    }
}

const fn saturate(count: usize) -> u16 {
    if count > 0xffff { 0xffff } else { count as u16 }
}

/// The `N` bytes at `AT`. That they are there is checked when this is compiled, and they are read at
/// once, which picking them one by one is not.
#[inline(always)]
const fn field<const AT: usize, const N: usize, const LEN: usize>(bytes: &[u8; LEN]) -> [u8; N] {
    const { assert!(AT + N <= LEN) };
    match bytes.split_at(AT).1.first_chunk() {
        Some(field) => *field,
        None => [0; N],
    }
}

/// Writes the `N` bytes at `AT`.
#[inline(always)]
const fn set_field<const AT: usize, const N: usize, const LEN: usize>(bytes: &mut [u8; LEN], new: [u8; N]) {
    const { assert!(AT + N <= LEN) };
    if let Some(field) = bytes.split_at_mut(AT).1.first_chunk_mut() {
        *field = new;
    }
}

/// Explicit congestion notification: the low two bits of the IPv4 type of service and of the IPv6
/// traffic class (RFC 3168 §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not take part.
    #[default]
    NotCapable = 0b00,
    /// Capable, codepoint ECT(1).
    Capable1 = 0b01,
    /// Capable, codepoint ECT(0).
    Capable0 = 0b10,
    /// A router on the way was congested.
    Congested = 0b11,
}

impl Ecn {
    /// The codepoint in the low two bits of `tos`.
    #[inline]
    #[must_use]
    pub const fn of(tos: u8) -> Self {
        match tos & 0b11 {
            0b00 => Self::NotCapable,
            0b01 => Self::Capable1,
            0b10 => Self::Capable0,
            _ => Self::Congested,
        }
    }

    /// `tos` with this codepoint in its low two bits.
    #[inline]
    #[must_use]
    pub const fn mark(self, tos: u8) -> u8 {
        tos & !0b11 | self as u8
    }
}

/// A differentiated services codepoint: the upper six bits of the IPv4 type of service and of the IPv6
/// traffic class (RFC 2474 §3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Dscp(u8);

impl Dscp {
    /// Nothing in particular (RFC 2474 §4.1).
    pub const DEFAULT: Self = Self(0);

    /// The codepoint of this number; `None` past 63.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 64 { Some(Self(number)) } else { None }
    }

    /// The codepoint in the upper six bits of `tos`.
    #[inline]
    #[must_use]
    pub const fn of(tos: u8) -> Self {
        Self(tos >> 2)
    }

    /// Its number, 0 to 63.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// `tos` with this codepoint in its upper six bits.
    #[inline]
    #[must_use]
    pub const fn mark(self, tos: u8) -> u8 {
        self.0 << 2 | tos & 0b11
    }
}

/// What an IP header says of its fragment. A whole datagram has none of this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fragment {
    /// The identification that its siblings share: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Where its data begins in the datagram's, in bytes: a multiple of eight.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
}

impl Fragment {
    /// Whether this one begins the datagram, and so carries the transport header.
    #[inline]
    #[must_use]
    pub const fn is_first(self) -> bool {
        self.offset == 0
    }

    /// Refuses what cannot lie inside a datagram (RFC 791 §3.2, RFC 8200 §4.5).
    ///
    /// - `headers`: bytes before the data that the reassembled datagram's length counts.
    /// - `len`: bytes of this fragment's data.
    pub(crate) const fn check(self, headers: usize, len: usize) -> Result<(), ParseError> {
        let fits = headers + self.offset as usize + len <= 0xffff;
        let is_whole = self.offset == 0 && !self.more;
        if fits && (is_whole || len != 0) && (!self.more || len.is_multiple_of(8)) {
            Ok(())
        } else {
            Err(ParseError::BadFragment { offset: self.offset })
        }
    }
}
