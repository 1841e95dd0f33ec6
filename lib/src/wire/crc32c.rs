//! CRC32c, which SCTP has for a checksum (RFC 9260 §6.8, appendix A): over bytes, and as a difference.
//!
//! But for what it begins and ends with, a CRC is a remainder, and remainders add up: where bytes
//! change, the checksum changes by the CRC of what changed, whatever the other bytes are. So new ports
//! cost the same for any packet, the packet is not read for it, and a checksum that was wrong stays
//! wrong, as with [`Delta`](super::checksum::Delta).
//!
//! Registers have the bits of a polynomial in reverse, the most significant bit for x⁰; checksums are
//! `[u8; 4]` in wire order, the least significant byte first.

/// The polynomial 0x1edc6f41 in reverse.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The remainder 1.
const ONE: u32 = 1 << 31;

/// What a byte in the register's low end becomes when it leaves.
const BYTES: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut register = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            register = times_x(register);
            bit += 1;
        }
        table[byte] = register;
        byte += 1;
    }
    table
};

/// The remainders of x to the power of 8 · index: what that many zero bytes multiply a register by.
const FEW: [u32; 256] = {
    let mut table = [ONE; 256];
    let mut count = 1;
    while count < table.len() {
        table[count] = push(table[count - 1], 0);
        count += 1;
    }
    table
};

/// The same for 256 times as many.
const MANY: [u32; 256] = {
    let once = push(FEW[255], 0);
    let mut table = [ONE; 256];
    let mut count = 1;
    while count < table.len() {
        table[count] = multiply(table[count - 1], once);
        count += 1;
    }
    table
};

const fn times_x(register: u32) -> u32 {
    register >> 1 ^ POLYNOMIAL & (register & 1).wrapping_neg()
}

const fn push(register: u32, byte: u8) -> u32 {
    BYTES[(register as u8 ^ byte) as usize] ^ register >> 8
}

/// The product of two remainders.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit != 0 {
        bit -= 1;
        product ^= b & (a >> bit & 1).wrapping_neg();
        b = times_x(b);
    }
    product
}

/// A CRC32c in the making.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Crc(u32);

impl Crc {
    /// Nothing added yet.
    pub const NONE: Self = Self(u32::MAX);

    /// Adds bytes behind those before. Work: a load for each byte.
    pub const fn bytes(self, bytes: &[u8]) -> Self {
        let (mut register, mut at) = (self.0, 0);
        while at < bytes.len() {
            register = push(register, bytes[at]);
            at += 1;
        }
        Self(register)
    }

    /// The checksum of what was added.
    #[must_use]
    pub const fn finish(self) -> [u8; 4] {
        (!self.0).to_le_bytes()
    }
}

/// The CRC32c of these bytes.
#[must_use]
pub const fn of(bytes: &[u8]) -> [u8; 4] {
    Crc::NONE.bytes(bytes).finish()
}

/// What replacing four bytes changes in a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Difference(u32);

impl Difference {
    /// Four bytes have changed, and so many of those that the checksum covers stand behind them.
    ///
    /// Work: two products of 32 steps each, whatever `behind` is.
    pub const fn replace4(old: [u8; 4], new: [u8; 4], behind: u16) -> Self {
        let changed = Crc(0).bytes(&(u32::from_ne_bytes(old) ^ u32::from_ne_bytes(new)).to_ne_bytes());
        let [many, few] = behind.to_be_bytes();
        Self(multiply(MANY[many as usize], multiply(FEW[few as usize], changed.0)))
    }

    /// The checksum after the change.
    #[must_use]
    pub const fn apply(self, checksum: [u8; 4]) -> [u8; 4] {
        (u32::from_le_bytes(checksum) ^ self.0).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], crc: u32) {
        assert_eq!(of(bytes), crc.to_le_bytes(), "{bytes:x?}");
    }

    /// The examples of RFC 3720 appendix B.4, to which RFC 9260 appendix A owes its CRC.
    #[test]
    fn rfc9260_s6_8_checksum_is_the_crc32c() {
        check(&[0; 32], 0x8a91_36aa);
        check(&[0xff; 32], 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        check(&rising, 0x46dd_794e);
        let falling: Vec<u8> = (0..32).rev().collect();
        check(&falling, 0x113f_db5c);
        let mut read = [0; 48];
        (read[0], read[1]) = (0x01, 0xc0);
        (read[16], read[22], read[27], read[31]) = (0x14, 0x04, 0x14, 0x18);
        (read[32], read[40]) = (0x28, 0x02);
        check(&read, 0xd996_3a56);
        // The name of every CRC in the catalogues.
        check(b"123456789", 0xe306_9283);
        check(b"", 0);
    }

    /// Appendix A divides bit by bit, the polynomial's own way round.
    #[test]
    fn the_table_is_that_of_rfc_9260() {
        for byte in 0..=255_u8 {
            let mut register = u32::from(byte.reverse_bits()) << 24;
            for _ in 0..8 {
                register = register << 1 ^ if register >> 31 == 1 { 0x1edc_6f41 } else { 0 };
            }
            assert_eq!(BYTES[usize::from(byte)], register.reverse_bits());
        }
        assert_eq!(BYTES[1], 0xf26b_8303);
    }

    proptest! {
        /// A difference gives what reading everything again gives.
        #[test]
        fn a_difference_is_as_good_as_a_new_sum(
            mut bytes in proptest::collection::vec(any::<u8>(), 4..3000),
            at in any::<proptest::sample::Index>(),
            new in any::<[u8; 4]>(),
        ) {
            let at = at.index(bytes.len() - 3);
            let before = of(&bytes);
            let old: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            bytes[at..at + 4].copy_from_slice(&new);
            let behind = (bytes.len() - at - 4) as u16;
            prop_assert_eq!(Difference::replace4(old, new, behind).apply(before), of(&bytes));
        }

        /// A checksum that was wrong stays as wrong as it was.
        #[test]
        fn a_difference_keeps_a_wrong_checksum_wrong(
            mut bytes in proptest::collection::vec(any::<u8>(), 4..200),
            wrong in 1..=u32::MAX,
            new in any::<[u8; 4]>(),
        ) {
            let damage = |checksum| (u32::from_le_bytes(checksum) ^ wrong).to_le_bytes();
            let before = damage(of(&bytes));
            let old: [u8; 4] = bytes[..4].try_into().unwrap();
            bytes[..4].copy_from_slice(&new);
            let after = Difference::replace4(old, new, bytes.len() as u16 - 4).apply(before);
            prop_assert_eq!(after, damage(of(&bytes)));
        }
    }

    #[test]
    fn the_longest_packet_is_in_reach() {
        let mut bytes = std::vec![0x5a; 65_535];
        let before = of(&bytes);
        bytes[..4].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(Difference::replace4([0x5a; 4], [1, 2, 3, 4], 65_531).apply(before), of(&bytes));
    }
}
