//! A keyed hash of packet tuples: multilinear over 32-bit words, then one multiply-and-fold.
//!
//! Clients choose the tuples, so the key decides. For two different tuples that were chosen
//! without knowledge of the key, the upper half of the multilinear sum collides with probability
//! 2⁻³² (strong universality: Lemire and Kaser, "Strongly universal string hashing is fast", 2014).
//! The fold then spreads what is left of linear structure, such as rising ports, over all 64 bits.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::net::Protocol;

/// Words of the longest input: two IPv6 addresses, the ports, the protocol.
const WORDS_MAX: usize = 10;

/// The secret of one hash: plain data, so that it can lie in a table or a snapshot.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HashKey {
    offset: u64,
    factors: [u64; WORDS_MAX],
    fold: u64,
}

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

impl HashKey {
    /// Expands 256 bits into a key. Equal secrets give equal keys on every machine.
    #[must_use]
    pub fn new(secret: [u64; 4]) -> Self {
        let mut stream = Stream::new(secret);
        let mut key = Self { offset: stream.next(), factors: [0; WORDS_MAX], fold: 0 };
        for factor in &mut key.factors {
            *factor = stream.next();
        }
        key.fold = stream.next() | 1;
        key
    }

    /// Expands a public seed, for hashes that several gateways have to agree on.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::new([seed, 0, 0, 0])
    }

    /// Hashes an IPv4 tuple, all parts in wire order.
    #[must_use]
    #[inline(always)]
    pub fn tuple_v4(
        &self,
        source: [u8; 4],
        destination: [u8; 4],
        source_port: [u8; 2],
        destination_port: [u8; 2],
        protocol: Protocol,
    ) -> u64 {
        let words = [
            u32::from_le_bytes(source),
            u32::from_le_bytes(destination),
            ports_word(source_port, destination_port),
            u32::from(protocol.0),
        ];
        self.words(&words)
    }

    /// Hashes an IPv6 tuple, all parts in wire order.
    #[must_use]
    #[inline(always)]
    pub fn tuple_v6(
        &self,
        source: [u8; 16],
        destination: [u8; 16],
        source_port: [u8; 2],
        destination_port: [u8; 2],
        protocol: Protocol,
    ) -> u64 {
        let mut words = [0; WORDS_MAX];
        for (word, bytes) in words.iter_mut().zip(source.as_chunks().0.iter().chain(destination.as_chunks().0)) {
            *word = u32::from_le_bytes(*bytes);
        }
        words[8] = ports_word(source_port, destination_port);
        words[9] = u32::from(protocol.0);
        self.words(&words)
    }

    /// Hashes an address and a port with two different domains, for names of backends.
    #[must_use]
    pub fn name(&self, address: [u8; 16], port: u16, domain: u32) -> u64 {
        let mut words = [0; 6];
        for (word, bytes) in words.iter_mut().zip(address.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        words[4] = u32::from(port);
        words[5] = domain;
        self.words(&words)
    }

    /// Hashes what the parts of a datagram have in common, for the table of such datagrams.
    #[must_use]
    pub(crate) fn datagram(&self, source: [u8; 16], destination: [u8; 16], id: u32, protocol: u8, way: u8) -> u64 {
        let mut words = [0; WORDS_MAX];
        for (word, bytes) in words.iter_mut().zip(source.as_chunks().0.iter().chain(destination.as_chunks().0)) {
            *word = u32::from_le_bytes(*bytes);
        }
        words[8] = id;
        words[9] = u32::from_le_bytes([protocol, way, 0, 0]);
        self.words(&words)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, words: &[u32; N]) -> u64 {
        const { assert!(N <= WORDS_MAX) };
        let sum = words
            .iter()
            .zip(&self.factors)
            .fold(self.offset, |sum, (word, factor)| sum.wrapping_add(factor.wrapping_mul(u64::from(*word))));
        let product = u128::from(sum ^ (sum >> 32)) * u128::from(self.fold);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

#[inline]
fn ports_word(source: [u8; 2], destination: [u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(source)) | u32::from(u16::from_le_bytes(destination)) << 16
}

/// Maps a hash evenly onto `0..len`, from its upper bits.
#[must_use]
#[inline]
pub const fn reduce(hash: u32, len: u32) -> u32 {
    ((hash as u64 * len as u64) >> 32) as u32
}

/// An endless stream of numbers from a secret, for keys and for port choice.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    state: [u64; 4],
}

impl Stream {
    /// The stream of this secret.
    #[must_use]
    pub const fn new(secret: [u64; 4]) -> Self {
        Self { state: secret }
    }

    /// A stream of its own for whatever has this hash; another one after each [`next`](Self::next).
    #[must_use]
    pub(crate) const fn branch(self, hash: u64) -> Self {
        let [counter, a, b, c] = self.state;
        Self { state: [counter ^ hash, a, b, c] }
    }

    /// The next number: a counter run through two keyed multiply-and-fold rounds.
    #[expect(clippy::should_implement_trait, reason = "endless, so no Option to iterate over")]
    pub fn next(&mut self) -> u64 {
        let [counter, a, b, c] = &mut self.state;
        *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let first = fold(*counter ^ *a, *b ^ 0xd6e8_feb8_6659_fd93);
        fold(first ^ *c, counter.rotate_left(32) ^ 0xa076_1d64_78bd_642f) ^ first
    }
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u64) -> HashKey {
        HashKey::new([seed, !seed, seed.rotate_left(17), 7])
    }

    fn port_hash(key: &HashKey, port: u16) -> u64 {
        key.tuple_v4([192, 0, 2, 1], [198, 51, 100, 1], port.to_be_bytes(), [0, 80], Protocol::TCP)
    }

    #[test]
    fn rising_ports_fill_buckets_evenly_under_any_key() {
        for seed in 0..200 {
            let key = key(seed * 0x1234_5677 + 1);
            let mut load = [0_u32; 1024];
            for port in 0..u16::MAX {
                load[reduce((port_hash(&key, port) >> 32) as u32, 1024) as usize] += 1;
            }
            let worst = load.iter().max().unwrap();
            assert!(*worst < 64 + 64, "seed {seed}: {worst} of 65535 tuples in one of 1024 buckets");
        }
    }

    #[test]
    fn every_part_of_a_tuple_counts() {
        let key = key(1);
        let base = key.tuple_v6([1; 16], [2; 16], [3, 4], [5, 6], Protocol::UDP);
        for bit in 0..128 {
            let mut address = [1; 16];
            address[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(base, key.tuple_v6(address, [2; 16], [3, 4], [5, 6], Protocol::UDP));
            let mut address = [2; 16];
            address[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(base, key.tuple_v6([1; 16], address, [3, 4], [5, 6], Protocol::UDP));
        }
        assert_ne!(base, key.tuple_v6([1; 16], [2; 16], [3, 5], [5, 6], Protocol::UDP));
        assert_ne!(base, key.tuple_v6([1; 16], [2; 16], [3, 4], [5, 7], Protocol::UDP));
        assert_ne!(base, key.tuple_v6([1; 16], [2; 16], [3, 4], [5, 6], Protocol::TCP));
    }

    #[test]
    fn another_secret_is_another_hash() {
        assert_ne!(port_hash(&key(1), 80), port_hash(&key(2), 80));
        assert_eq!(port_hash(&key(1), 80), port_hash(&key(1), 80));
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        // Gateways of one cluster must agree on the selector's hash.
        let key = HashKey::from_seed(0);
        let v4 = key.tuple_v4([10, 0, 0, 1], [10, 0, 0, 2], [0, 80], [1, 2], Protocol::TCP);
        let v6 = key.tuple_v6([1; 16], [2; 16], [0, 80], [1, 2], Protocol::TCP);
        assert_eq!((v4, v6), (PINNED_V4, PINNED_V6));
        let name = HashKey::from_seed(7).name(core::array::from_fn(|place| place as u8), 8080, 1);
        assert_eq!(name, PINNED_NAME);
        // A table outlives its process; whoever adopts it has to make the same key of its secret.
        let secret = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x0f1e_2d3c_4b5a_6978, 0x8796_a5b4_c3d2_e1f0];
        let v4 = HashKey::new(secret).tuple_v4([10, 0, 0, 1], [10, 0, 0, 2], [0, 80], [1, 2], Protocol::TCP);
        assert_eq!(v4, PINNED_SECRET);
    }

    #[test]
    fn every_part_of_a_fragmented_datagrams_name_counts() {
        let key = key(1);
        let hashes = [
            key.datagram([1; 16], [2; 16], 3, 4, 5),
            key.datagram([9; 16], [2; 16], 3, 4, 5),
            key.datagram([1; 16], [9; 16], 3, 4, 5),
            key.datagram([1; 16], [2; 16], 9, 4, 5),
            key.datagram([1; 16], [2; 16], 3, 9, 5),
            key.datagram([1; 16], [2; 16], 3, 4, 9),
        ];
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash), "{at}");
        }
    }

    #[test]
    fn every_hash_has_a_stream_of_its_own() {
        for counter in [0, u64::MAX, 0x5555_5555_5555_5555] {
            let stream = Stream::new([counter, 1, 2, 3]);
            let numbers: std::vec::Vec<u64> = (0..64).map(|bit| stream.branch(1 << bit).next()).collect();
            assert!((0..64).all(|at| !numbers[..at].contains(&numbers[at])), "{counter:#x}");
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(std::format!("{:?}", key(1)), "HashKey(secret)");
    }

    // By another program, from the description of the hash.
    const PINNED_NAME: u64 = 8_170_221_510_648_374_426;
    const PINNED_SECRET: u64 = 2_763_197_654_046_506_738;
    const PINNED_V4: u64 = 12_317_094_750_711_705_861;
    const PINNED_V6: u64 = 11_427_079_114_467_861_084;
}
