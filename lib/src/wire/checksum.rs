//! The Internet checksum: sums over bytes (RFC 1071) and updates in place (RFC 1624).
//!
//! A one's complement sum does not mind the order of the bytes in its words as long as all of it
//! keeps to one order (RFC 1071 §2 B), so everything here adds in the machine's own order and never
//! swaps. Checksums are `[u8; 2]` in wire order.

use super::field;

/// A one's complement sum in the making.
///
/// Every part added but the last must have an even number of bytes.
#[derive(Clone, Copy, Default, Debug)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// Nothing added yet.
    pub const NONE: Self = Self(0);

    /// Adds bytes; an odd one at the end counts as if a zero followed.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(add(self.0, sum(bytes)))
    }

    /// Adds two bytes.
    #[inline]
    pub const fn two(self, bytes: [u8; 2]) -> Self {
        Self(add(self.0, u16::from_ne_bytes(bytes) as u64))
    }

    /// Adds four bytes.
    #[inline]
    pub const fn four(self, bytes: [u8; 4]) -> Self {
        Self(add(self.0, u32::from_ne_bytes(bytes) as u64))
    }

    /// Adds sixteen bytes.
    #[inline]
    pub const fn sixteen(self, bytes: [u8; 16]) -> Self {
        let [high, low] = halves(u128::from_ne_bytes(bytes));
        Self(add(add(self.0, high), low))
    }

    /// Adds the pseudo-header that TCP and UDP cover over IPv4 (RFC 9293 §3.1, RFC 768).
    ///
    /// - `len`: bytes of the transport header and what follows it.
    #[inline]
    pub const fn pseudo_v4(self, source: [u8; 4], destination: [u8; 4], protocol: u8, len: u16) -> Self {
        self.four(source).four(destination).two([0, protocol]).two(len.to_be_bytes())
    }

    /// Adds the pseudo-header that every upper layer covers over IPv6 (RFC 8200 §8.1).
    ///
    /// - `len`: bytes of the upper-layer header and what follows it.
    #[inline]
    pub const fn pseudo_v6(self, source: [u8; 16], destination: [u8; 16], protocol: u8, len: u32) -> Self {
        self.sixteen(source).sixteen(destination).four(len.to_be_bytes()).two([0, protocol])
    }

    /// The checksum field's value: the complement of the sum.
    #[inline]
    #[must_use]
    pub const fn finish(self) -> [u8; 2] {
        (!fold(self.0)).to_ne_bytes()
    }

    /// As [`finish`](Self::finish), for UDP: a sum whose complement is zero is sent as all ones,
    /// since zero says that there is none (RFC 768).
    #[inline]
    #[must_use]
    pub const fn finish_udp(self) -> [u8; 2] {
        nonzero(self.finish())
    }

    /// Whether bytes that include their checksum have been received whole.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// The checksum of these bytes.
#[inline]
#[must_use]
pub fn of(bytes: &[u8]) -> [u8; 2] {
    Sum::NONE.bytes(bytes).finish()
}

/// What changed in bytes under a checksum, to bring it up to date without reading the rest
/// (RFC 1624 §3, equation 3).
///
/// What is replaced must begin an even number of bytes after the first byte covered. One delta may
/// serve several checksums, as the addresses of a packet change both its header's and its transport's.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[must_use]
pub struct Delta(u64);

impl Delta {
    /// Nothing changed yet.
    pub const NONE: Self = Self(0);

    /// Two bytes have changed.
    #[inline]
    pub const fn replace2(self, old: [u8; 2], new: [u8; 2]) -> Self {
        Self(add(self.0, !u16::from_ne_bytes(old) as u64 + u16::from_ne_bytes(new) as u64))
    }

    /// Four bytes have changed.
    #[inline]
    pub const fn replace4(self, old: [u8; 4], new: [u8; 4]) -> Self {
        Self(add(self.0, !u32::from_ne_bytes(old) as u64 + u32::from_ne_bytes(new) as u64))
    }

    /// Sixteen bytes have changed.
    #[inline]
    pub const fn replace16(self, old: [u8; 16], new: [u8; 16]) -> Self {
        let [old_high, old_low] = halves(!u128::from_ne_bytes(old));
        let [new_high, new_low] = halves(u128::from_ne_bytes(new));
        Self(add(self.0, add(add(old_high, old_low), add(new_high, new_low))))
    }

    /// The checksum after the change.
    #[inline]
    #[must_use]
    pub const fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        let sum = add(self.0, !u16::from_ne_bytes(checksum) as u64);
        (!fold(sum)).to_ne_bytes()
    }

    /// The checksum of a UDP datagram after the change: none stays none, and a computed zero becomes
    /// all ones (RFC 768). Over IPv6 a datagram without a checksum must not have come this far.
    #[inline]
    #[must_use]
    pub const fn apply_udp(self, checksum: [u8; 2]) -> [u8; 2] {
        if u16::from_ne_bytes(checksum) == 0 { checksum } else { nonzero(self.apply(checksum)) }
    }
}

const fn nonzero(checksum: [u8; 2]) -> [u8; 2] {
    if u16::from_ne_bytes(checksum) == 0 { [0xff; 2] } else { checksum }
}

/// One's complement addition of 64-bit words: 2^64 leaves 1 when divided by 2^16 - 1, so the carry
/// out of the top comes back in at the bottom.
#[inline]
const fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // No second carry: a sum that overflowed is at most 2^64 - 2.
    sum + carry as u64
}

#[inline]
const fn halves(wide: u128) -> [u64; 2] {
    [(wide >> 64) as u64, wide as u64]
}

/// Adds the halves of the halves: the sum of a word and its rotation has the halves' sum in its upper
/// half, with the carry that came out of the lower one.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Sums a header of twenty bytes: IPv4 without options.
#[inline]
pub(crate) const fn sum20(bytes: &[u8; 20]) -> Sum {
    let sum = add(u64::from_ne_bytes(field::<0, 8, 20>(bytes)), u64::from_ne_bytes(field::<8, 8, 20>(bytes)));
    Sum(add(sum, u32::from_ne_bytes(field::<16, 4, 20>(bytes)) as u64))
}

#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    // The upper halves count the carries. Two sums, since each addition waits for the last one to its sum.
    let [mut even, mut odd] = [0u128; 2];
    for block in blocks {
        even += u128::from(u64::from_ne_bytes(field::<0, 8, _>(block)));
        odd += u128::from(u64::from_ne_bytes(field::<8, 8, _>(block)));
        even += u128::from(u64::from_ne_bytes(field::<16, 8, _>(block)));
        odd += u128::from(u64::from_ne_bytes(field::<24, 8, _>(block)));
    }
    let [carries, low] = halves(even + odd);
    let mut total = add(carries, low);
    let (words, mut rest) = rest.as_chunks::<8>();
    for word in words {
        total = add(total, u64::from_ne_bytes(*word));
    }
    if let Some((four, after)) = rest.split_first_chunk() {
        total = add(total, u64::from(u32::from_ne_bytes(*four)));
        rest = after;
    }
    match *rest {
        [a] => add(total, u64::from(u16::from_ne_bytes([a, 0]))),
        [a, b] => add(total, u64::from(u16::from_ne_bytes([a, b]))),
        [a, b, c] => add(total, u64::from(u32::from_ne_bytes([a, b, c, 0]))),
        _ => total,
    }
}

#[cfg(test)]
mod tests;
