//! Maglev: a consistent hash as a lookup table (Eisenbud et al., "Maglev: A Fast and Reliable
//! Software Network Load Balancer", NSDI 2016, §3.4).
//!
//! Every backend has a permutation of the table's slots. In turn each takes the first slot of its
//! permutation that is still free, until all are taken. Shares of equal weights differ by at most
//! one slot, and few slots change owner when a backend comes or goes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::hash::{HashKey, reduce};

/// The default number of slots.
pub const TABLE_SIZE: u32 = 65_537;

/// The largest number of slots.
pub const TABLE_SIZE_MAX: u32 = 655_373;

/// The most backends of one table.
pub const MEMBERS_MAX: usize = u16::MAX as usize;

/// A slot that no backend has taken.
const FREE: u16 = u16::MAX;

/// One backend while a table is being filled.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Member {
    position: u32,
    skip: u32,
    weight: u32,
    credit: u32,
}

impl Member {
    /// A backend by its name: address (IPv4 mapped) and port. The same name has the same
    /// permutation on every gateway that shares `key`, whatever its place among the others.
    ///
    /// `table_size` is a prime from 2 up.
    #[must_use]
    pub fn new(key: &HashKey, address: [u8; 16], port: u16, weight: u32, table_size: u32) -> Self {
        let offset = reduce((key.name(address, port, 0) >> 32) as u32, table_size);
        let skip = reduce((key.name(address, port, 1) >> 32) as u32, table_size - 1) + 1;
        Self { position: offset, skip, weight, credit: 0 }
    }
}

/// Why a table cannot be filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FillError {
    /// More members than a slot can name.
    TooManyMembers(usize),
    /// No member of weight above 0.
    NoWeight,
    /// The number of slots is not a prime between 2 and [`TABLE_SIZE_MAX`].
    NotPrime(usize),
}

/// Fills `table` with indices into `members`, in their order.
///
/// A member's turn comes once a round, and it takes a slot when its weights have added up to the
/// largest weight: slots are shared in proportion to weights. Weight 0 gets none.
///
/// Work: about *m* ln *m* steps for *m* slots.
///
/// # Errors
/// [`FillError`]; the table's content is then undefined.
pub fn fill(members: &mut [Member], table: &mut [u16]) -> Result<(), FillError> {
    if members.len() > MEMBERS_MAX {
        return Err(FillError::TooManyMembers(members.len()));
    }
    let size = u32::try_from(table.len()).ok().filter(|size| *size <= TABLE_SIZE_MAX && is_prime(*size));
    let Some(size) = size else { return Err(FillError::NotPrime(table.len())) };
    let heaviest = members.iter().map(|member| member.weight).max().unwrap_or(0);
    if heaviest == 0 {
        return Err(FillError::NoWeight);
    }
    table.fill(FREE);
    let mut left = size;
    loop {
        for (index, member) in (0_u16..).zip(members.iter_mut()) {
            let credit = u64::from(member.credit) + u64::from(member.weight);
            if credit < u64::from(heaviest) {
                member.credit = credit as u32;
                continue;
            }
            member.credit = (credit - u64::from(heaviest)) as u32;
            take_slot(member, index, table, size);
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

/// Advances along the member's permutation to the first free slot. As the size is prime, the
/// permutation passes every slot, and the caller knows that one is free.
#[inline]
fn take_slot(member: &mut Member, index: u16, table: &mut [u16], size: u32) {
    while let Some(slot) = table.get_mut(member.position as usize) {
        member.position += member.skip;
        if member.position >= size {
            member.position -= size;
        }
        if *slot == FREE {
            *slot = index;
            return;
        }
    }
}

/// Where a hash falls in a table of `len` slots.
#[must_use]
#[inline]
pub const fn slot(hash: u64, len: u32) -> u32 {
    reduce((hash >> 32) as u32, len)
}

/// Whether a table may have this many slots.
#[must_use]
pub const fn is_prime(number: u32) -> bool {
    if number < 2 {
        return false;
    }
    let mut divisor = 2;
    while divisor <= number / divisor {
        if number.is_multiple_of(divisor) {
            return false;
        }
        divisor += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn address(index: usize) -> [u8; 16] {
        let mut address = [0; 16];
        address[12..].copy_from_slice(&(index as u32 + 0x0a4d_0000).to_be_bytes());
        address
    }

    fn members(weights: &[u32], size: u32) -> Vec<Member> {
        let key = HashKey::from_seed(42);
        weights.iter().enumerate().map(|(i, w)| Member::new(&key, address(i), 80, *w, size)).collect()
    }

    fn shares(table: &[u16], members: usize) -> Vec<usize> {
        let mut shares = vec![0; members];
        table.iter().for_each(|slot| shares[usize::from(*slot)] += 1);
        shares
    }

    /// The pseudo-code of the paper, as it stands there.
    fn papers_populate(permutations: &[Vec<usize>], size: usize) -> Vec<u16> {
        let mut next = vec![0; permutations.len()];
        let mut entry = vec![FREE; size];
        let mut n = 0;
        loop {
            for i in 0..permutations.len() {
                let mut c = permutations[i][next[i]];
                while entry[c] != FREE {
                    next[i] += 1;
                    c = permutations[i][next[i]];
                }
                entry[c] = i as u16;
                next[i] += 1;
                n += 1;
                if n == size {
                    return entry;
                }
            }
        }
    }

    #[test]
    fn the_papers_example_comes_out_as_printed() {
        let member = |position, skip| Member { position, skip, weight: 1, credit: 0 };
        let mut table = [0; 7];
        fill(&mut [member(3, 4), member(0, 2), member(3, 1)], &mut table).unwrap();
        assert_eq!(table, [1, 0, 1, 0, 2, 2, 0]);
        fill(&mut [member(3, 4), Member { weight: 0, ..member(0, 2) }, member(3, 1)], &mut table).unwrap();
        assert_eq!(table, [0, 0, 0, 0, 2, 2, 2]);
    }

    #[test]
    fn agrees_with_the_papers_pseudo_code() {
        for count in [1, 2, 3, 10, 97, 500] {
            let size = 1009;
            let mut list = members(&vec![1; count], size);
            let permutations: Vec<Vec<usize>> = list
                .iter()
                .map(|m| {
                    (0..u64::from(size))
                        .map(|j| ((u64::from(m.position) + j * u64::from(m.skip)) % u64::from(size)) as usize)
                        .collect()
                })
                .collect();
            let mut table = vec![0; size as usize];
            fill(&mut list, &mut table).unwrap();
            assert_eq!(table, papers_populate(&permutations, size as usize), "{count} members");
        }
    }

    #[test]
    fn equal_weights_differ_by_at_most_one_slot() {
        for count in [1, 2, 3, 7, 100, 1000] {
            let mut table = vec![0; TABLE_SIZE as usize];
            fill(&mut members(&vec![3; count], TABLE_SIZE), &mut table).unwrap();
            let shares = shares(&table, count);
            let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
            assert!(spread <= 1, "{count} members: spread {spread}");
        }
    }

    #[test]
    fn slots_follow_weights_and_weight_nothing_gets_nothing() {
        let mut table = vec![0; TABLE_SIZE as usize];
        fill(&mut members(&[4, 2, 1, 0], TABLE_SIZE), &mut table).unwrap();
        let shares = shares(&table, 4);
        let unit = TABLE_SIZE as usize / 7;
        assert!(shares[0].abs_diff(4 * unit) <= 4 && shares[1].abs_diff(2 * unit) <= 4, "{shares:?}");
        assert!(shares[2].abs_diff(unit) <= 4, "{shares:?}");
        assert_eq!(shares[3], 0);
    }

    #[test]
    fn few_survivors_move_when_one_backend_leaves() {
        let before = {
            let mut table = vec![0; TABLE_SIZE as usize];
            fill(&mut members(&[1; 100], TABLE_SIZE), &mut table).unwrap();
            table
        };
        let mut weights = [1; 100];
        weights[37] = 0;
        let mut after = vec![0; TABLE_SIZE as usize];
        fill(&mut members(&weights, TABLE_SIZE), &mut after).unwrap();
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != 37 && a != b).count();
        assert!(moved < TABLE_SIZE as usize / 50, "{moved} slots of surviving backends moved");
        assert!(after.iter().collect::<HashSet<_>>().len() == 99);
    }

    #[test]
    fn refuses_what_cannot_be_filled() {
        assert_eq!(fill(&mut [], &mut [0; 7]), Err(FillError::NoWeight));
        assert_eq!(fill(&mut members(&[0, 0], 7), &mut [0; 7]), Err(FillError::NoWeight));
        assert_eq!(fill(&mut members(&[1], 7), &mut [0; 8]), Err(FillError::NotPrime(8)));
        let many = vec![members(&[1], 7)[0]; MEMBERS_MAX + 1];
        assert_eq!(fill(&mut many.clone(), &mut [0; 7]), Err(FillError::TooManyMembers(MEMBERS_MAX + 1)));
    }

    #[test]
    fn primes_are_told_up_to_the_largest_number() {
        let small: Vec<u32> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(small, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(TABLE_SIZE) && is_prime(TABLE_SIZE_MAX) && !is_prime(65_535));
        assert!(is_prime(4_294_967_291) && !is_prime(u32::MAX));
    }

    #[test]
    fn heavy_weights_do_not_overflow() {
        let mut table = vec![0; 1009];
        fill(&mut members(&[u32::MAX, u32::MAX, 1], 1009), &mut table).unwrap();
        let shares = shares(&table, 3);
        assert!(shares[2] <= 1 && shares[0].abs_diff(shares[1]) <= 1, "{shares:?}");
    }
}
