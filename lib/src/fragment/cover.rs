//! Which fragments of one datagram have been seen.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a unit: what every fragment's offset is a multiple of (RFC 791 §3.1, RFC 8200 §4.5).
const UNIT: usize = 8;
/// Units of the longest datagram: 65536 / 8.
const UNITS: usize = 8192;
const WORDS: usize = UNITS / 64;

/// How a fragment stands to those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// Nothing of it has been seen.
    New,
    /// A fragment with the same ends has been seen.
    Before,
    /// Some of it has been seen, in a fragment with other ends.
    Partly,
}

/// Two bits for every unit of a datagram: whether it has been seen, and whether a fragment begins there.
/// All zeroes is a datagram of which nothing has been seen.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Coverage {
    seen: [u64; WORDS],
    begins: [u64; WORDS],
}

impl Coverage {
    pub(super) const NONE: Self = Self { seen: [0; WORDS], begins: [0; WORDS] };

    /// Takes in a fragment, unless anything of it has been seen before.
    ///
    /// - `offset`: a multiple of eight; `len`: not 0. Together at most 65536.
    /// - Work: a word for each 512 bytes of the fragment.
    pub(super) fn add(&mut self, offset: usize, len: usize) -> Seen {
        let (first, end) = (offset / UNIT, (offset + len).div_ceil(UNIT).min(UNITS));
        let (mut is_new, mut is_whole) = (true, true);
        for (word, mask) in masks(first, end) {
            let seen = self.seen.get(word).copied().unwrap_or(0) & mask;
            is_new &= seen == 0;
            is_whole &= seen == mask;
        }
        if is_new {
            for (word, mask) in masks(first, end) {
                if let Some(seen) = self.seen.get_mut(word) {
                    *seen |= mask;
                }
            }
            set(&mut self.begins, first);
            return Seen::New;
        }
        let ends_there = !is_set(&self.seen, end) || is_set(&self.begins, end);
        let begins_inside =
            masks(first + 1, end).any(|(word, mask)| self.begins.get(word).is_some_and(|begins| begins & mask != 0));
        let is_same = is_whole && is_set(&self.begins, first) && ends_there && !begins_inside;
        if is_same { Seen::Before } else { Seen::Partly }
    }
}

/// The words that the units from `first` up to `end` lie in, and which of their bits they are.
fn masks(first: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    (first / 64..end.div_ceil(64)).filter(move |_| first < end).map(move |word| {
        let low = if word == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
        let high = if word == end / 64 { !(u64::MAX << (end % 64)) } else { u64::MAX };
        (word, low & high)
    })
}

fn is_set(words: &[u64; WORDS], unit: usize) -> bool {
    words.get(unit / 64).is_some_and(|word| word >> (unit % 64) & 1 == 1)
}

fn set(words: &mut [u64; WORDS], unit: usize) {
    if let Some(word) = words.get_mut(unit / 64) {
        *word |= 1 << (unit % 64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The same answers as from a list of all fragments so far.
        #[test]
        fn agrees_with_a_list_of_parts(parts in proptest::collection::vec((0_usize..8191, 1_usize..4000), 1..60)) {
            let mut coverage = Coverage::NONE;
            let mut kept = BTreeSet::<(usize, usize)>::new();
            for (unit, len) in parts {
                let offset = unit * 8;
                let len = len.min(65_536 - offset);
                let end = (offset + len).div_ceil(8) * 8;
                let expected = if kept.contains(&(offset, end)) {
                    Seen::Before
                } else if kept.iter().any(|&(from, to)| from < end && offset < to) {
                    Seen::Partly
                } else {
                    kept.insert((offset, end));
                    Seen::New
                };
                prop_assert_eq!(coverage.add(offset, len), expected);
            }
        }
    }
}
