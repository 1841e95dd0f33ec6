//! Maglev: a consistent hash as a lookup table (Eisenbud et al., "Maglev: A Fast and Reliable
//! Software Network Load Balancer", NSDI 2016, §3.4).
//!
//! Every backend has a permutation of the table's slots. In turn each takes the first slot of its
//! permutation that is still free, until all are taken. Shares of equal weights differ by at most
//! one slot, and few slots change owner when a backend comes or goes.

use core::fmt;

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

/// How many free slots are so few that to compare them all is less work than to step along a permutation
/// until it meets one: about the square root of the table's size.
const FEW: usize = 384;

/// One backend while a table is being filled.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Member {
    offset: u32,
    skip: u32,
    weight: u32,
    // What follows is written by `fill` before it is read.
    position: u32,
    credit: u32,
    /// Not of this member, but of this place among the turns, see [`Turns`]: the lower half of a [`Turn`], then the upper.
    turn: [u32; 2],
}

/// The round of a turn in the upper half, and below it the index of the member whose it is.
type Turn = u64;

const NO_TURN: Turn = u64::MAX;

const fn turn(round: u32, index: u32) -> Turn {
    (round as u64) << 32 | index as u64
}

const fn round_of(turn: Turn) -> u32 {
    (turn >> 32) as u32
}

const fn member_of(turn: Turn) -> u32 {
    turn as u32
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
        Self { offset, skip, weight, position: 0, credit: 0, turn: [0; 2] }
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

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyMembers(members) => write!(f, "{members} members; a table has at most {MEMBERS_MAX}"),
            Self::NoWeight => f.write_str("no member has a weight above 0"),
            Self::NotPrime(slots) => {
                write!(f, "{slots} slots; a table has a prime number of them, at most {TABLE_SIZE_MAX}")
            }
        }
    }
}

impl core::error::Error for FillError {}

/// Fills `table` with indices into `members`, in their order. The same members give the same table again.
///
/// A member's turn comes once a round, and it takes a slot when its weights have added up to the
/// largest weight: slots are shared in proportion to weights. Weight 0 gets none.
///
/// Work: about *m* ln (*m* / 384) steps for *m* slots, and 384² / 2 comparisons; where weights differ,
/// *m* log₂ *n* steps more for *n* members.
///
/// # Errors
/// [`FillError`]; the table's content is then undefined.
pub fn fill(members: &mut [Member], table: &mut [u16]) -> Result<(), FillError> {
    if members.len() > MEMBERS_MAX {
        return Err(FillError::TooManyMembers(members.len()));
    }
    let size = u32::try_from(table.len()).ok().filter(|size| *size <= TABLE_SIZE_MAX && is_prime(*size));
    let Some(size) = size else { return Err(FillError::NotPrime(table.len())) };
    let mut turns = Turns::new(members, size).ok_or(FillError::NoWeight)?;
    table.fill(FREE);
    for _ in FEW..table.len() {
        let Some((index, member)) = turns.next() else { break };
        member.take_first(table, size, index);
    }
    let mut free = Free::of(table);
    while let Some((index, member)) = turns.next()
        && let Some(slot) = free.take_first(member, size)
    {
        if let Some(slot) = table.get_mut(slot as usize) {
            *slot = index;
        }
    }
    Ok(())
}

/// Whose turn it is, without end.
///
/// Where weights differ, a tree of losers: the members are its leaves, in their order behind as many inner places, and
/// each inner place but the first has the later of the two turns that met there, in the record of the member
/// of that number. The earliest of all stands beside it. One turn's successor plays against those on its way up only,
/// and whichever wins is known without a branch.
struct Turns<'m> {
    members: &'m mut [Member],
    heaviest: u32,
    earliest: Turn,
    /// Where all weights are equal, the members that have any, by their records, are a list in their order: how many
    /// they are, and the place of the next one.
    equal: Option<(usize, usize)>,
}

impl<'m> Turns<'m> {
    /// `None` where nobody has any.
    fn new(members: &'m mut [Member], size: u32) -> Option<Self> {
        let heaviest = members.iter().map(|member| member.weight).max().filter(|heaviest| *heaviest != 0)?;
        let (mut count, mut is_equal) = (0, true);
        for index in 0..members.len() {
            let member = members.get_mut(index)?;
            // Those that were made for another size, too, then have a permutation of this one.
            member.position = member.offset % size;
            member.skip = member.skip.wrapping_sub(1) % (size - 1) + 1;
            member.credit = 0;
            if member.weight != 0 {
                is_equal &= member.weight == heaviest;
                members.get_mut(count)?.set_turn(turn(1, index as u32));
                count += 1;
            }
        }
        let mut turns = Self { members, heaviest, earliest: NO_TURN, equal: is_equal.then_some((count, 0)) };
        if !is_equal {
            turns.members.iter_mut().for_each(|member| member.set_turn(NO_TURN));
            for index in 0..turns.members.len() as u32 {
                turns.enter(index);
            }
        }
        Some(turns)
    }

    /// The first turn of a member, up to where nobody has come to yet.
    fn enter(&mut self, index: u32) {
        let Some(round) = self.members.get_mut(index as usize).map(|member| member.rounds_to_turn(self.heaviest))
        else {
            return;
        };
        let mut best = turn(round, index);
        let mut place = (self.members.len() + index as usize) / 2;
        while place != 0 {
            let Some(member) = self.members.get_mut(place) else { return };
            if member.turn() == NO_TURN {
                return member.set_turn(best);
            }
            best = member.play(best);
            place /= 2;
        }
        self.earliest = best;
    }

    #[inline]
    fn next(&mut self) -> Option<(u16, &mut Member)> {
        let Some((count, place)) = self.equal else { return self.next_by_weight() };
        let index = member_of(self.members.get(place)?.turn());
        self.equal = Some((count, if place + 1 < count { place + 1 } else { 0 }));
        self.members.get_mut(index as usize).map(|member| (index as u16, member))
    }

    fn next_by_weight(&mut self) -> Option<(u16, &mut Member)> {
        let index = member_of(self.earliest);
        let rounds = self.members.get_mut(index as usize)?.rounds_to_turn(self.heaviest);
        // No table has as many slots as there would have to be for a turn so late.
        let mut best = turn(round_of(self.earliest).saturating_add(rounds), index);
        let mut place = (self.members.len() + index as usize) / 2;
        while let Some(member) = self.members.get_mut(place).filter(|_| place != 0) {
            best = member.play(best);
            place /= 2;
        }
        self.earliest = best;
        self.members.get_mut(index as usize).map(|member| (index as u16, member))
    }
}

impl Member {
    #[inline(always)]
    const fn turn(&self) -> Turn {
        let [low, high] = self.turn;
        turn(high, low)
    }

    #[inline(always)]
    const fn set_turn(&mut self, turn: Turn) {
        self.turn = [member_of(turn), round_of(turn)];
    }

    /// Leaves the later of two turns here, and gives the earlier.
    #[inline(always)]
    fn play(&mut self, other: Turn) -> Turn {
        let own = self.turn();
        self.set_turn(own.max(other));
        own.min(other)
    }

    /// In how many rounds its weights have added up to the heaviest; its credit is then what is left over. Never,
    /// which is later than any table has slots for, without a weight.
    fn rounds_to_turn(&mut self, heaviest: u32) -> u32 {
        let Some(rounds) = heaviest.checked_div(self.weight) else { return u32::MAX };
        // The credit is less than the weight, so that it saves a round or not.
        let rest = heaviest % self.weight;
        let is_saved = self.credit >= rest;
        self.credit = if is_saved { self.credit - rest } else { self.credit + (self.weight - rest) };
        rounds.saturating_add(u32::from(!is_saved))
    }
}

impl Member {
    /// Takes the first free slot from here on along the permutation. As the size is prime, the permutation
    /// passes every slot, and the caller knows that one is free.
    #[inline]
    fn take_first(&mut self, table: &mut [u16], size: u32, index: u16) {
        let (skip, mut at) = (self.skip, self.position);
        while let Some(slot) = table.get_mut(at as usize) {
            at = advance(at, skip, size);
            if *slot == FREE {
                *slot = index;
                break;
            }
        }
        self.position = at;
    }
}

/// The slot that lies `by` slots after `slot`.
#[inline]
const fn advance(slot: u32, by: u32, size: u32) -> u32 {
    let sum = slot + by;
    if sum < size { sum } else { sum - size }
}

/// The last free slots of a table, in no order.
struct Free {
    slots: [u32; FEW],
    count: usize,
}

impl Free {
    fn of(table: &[u16]) -> Self {
        let mut free = Self { slots: [0; FEW], count: 0 };
        let slots = (0_u32..).zip(table).filter(|(_, owner)| **owner == FREE);
        for (place, (slot, _)) in free.slots.iter_mut().zip(slots) {
            *place = slot;
            free.count += 1;
        }
        free
    }

    /// Takes the one that `member` would meet first.
    fn take_first(&mut self, member: &mut Member, size: u32) -> Option<u32> {
        // Slot position + n * skip is n steps away, so that n is the difference over skip, modulo the size.
        let per_skip = u64::from(inverse(member.skip, size));
        let barrett = u64::MAX / u64::from(size);
        let steps = |slot: u32| {
            let difference = advance(slot, size - member.position, size);
            let product = u64::from(difference) * per_skip;
            let quotient = ((u128::from(product) * u128::from(barrett)) >> 64) as u64;
            let rest = product - quotient * u64::from(size);
            if rest < u64::from(size) { rest } else { rest - u64::from(size) }
        };
        let free = self.slots.get_mut(..self.count)?;
        let nearest = (0_u64..).zip(free.iter()).map(|(at, slot)| steps(*slot) << 32 | at).min()?;
        let last = free.len() - 1;
        free.swap(nearest as u32 as usize, last);
        self.count = last;
        let slot = *free.last()?;
        member.position = advance(slot, member.skip, size);
        Some(slot)
    }
}

/// The number that times `number` is 1 modulo the prime `size`: Euclid's algorithm.
fn inverse(number: u32, size: u32) -> u32 {
    let (mut rest, mut next) = (size as i32, number as i32);
    let (mut factor, mut next_factor) = (0_i32, 1_i32);
    while next != 0 {
        let quotient = rest / next;
        (rest, next) = (next, rest - quotient * next);
        (factor, next_factor) = (next_factor, factor - quotient * next_factor);
    }
    factor.rem_euclid(size as i32) as u32
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
        let member = |offset, skip| Member { offset, skip, ..Member::new(&HashKey::from_seed(0), [0; 16], 0, 1, 7) };
        let mut table = [0; 7];
        fill(&mut [member(3, 4), member(0, 2), member(3, 1)], &mut table).unwrap();
        assert_eq!(table, [1, 0, 1, 0, 2, 2, 0]);
        fill(&mut [member(3, 4), Member { weight: 0, ..member(0, 2) }, member(3, 1)], &mut table).unwrap();
        assert_eq!(table, [0, 0, 0, 0, 2, 2, 2]);
    }

    #[test]
    fn agrees_with_the_papers_pseudo_code() {
        for (count, size) in [(1, 1009), (2, 7), (3, 2), (10, 1009), (97, 65_537), (500, 1009)] {
            let mut list = members(&vec![1; count], size);
            let permutations: Vec<Vec<usize>> = list
                .iter()
                .map(|m| {
                    (0..u64::from(size))
                        .map(|j| ((u64::from(m.offset) + j * u64::from(m.skip)) % u64::from(size)) as usize)
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
    fn members_of_any_bytes_fill_a_table() {
        for (offset, skip) in [(0, 0), (u32::MAX, u32::MAX), (1 << 31, 1009), (1009, 2018)] {
            let mut table = vec![0; 1009];
            let member = Member { offset, skip, weight: 1, position: offset, credit: u32::MAX, turn: [u32::MAX; 2] };
            fill(&mut [member, Member { offset: 7, ..member }], &mut table).unwrap();
            assert_eq!(shares(&table, 2).iter().sum::<usize>(), 1009);
        }
    }

    /// Round by round, as `fill` is described.
    fn weighted(members: &[Member], size: u32) -> Vec<u16> {
        let size = size as usize;
        let heaviest = u64::from(members.iter().map(|member| member.weight).max().unwrap());
        let (mut table, mut free) = (vec![FREE; size], size);
        let mut at: Vec<(usize, u64)> = members.iter().map(|member| (member.offset as usize, 0)).collect();
        while free != 0 {
            for (index, (member, (position, credit))) in members.iter().zip(&mut at).enumerate() {
                *credit += u64::from(member.weight);
                if *credit < heaviest || free == 0 {
                    continue;
                }
                *credit -= heaviest;
                while table[*position] != FREE {
                    *position = (*position + member.skip as usize) % size;
                }
                table[*position] = index as u16;
                free -= 1;
            }
        }
        table
    }

    #[test]
    fn members_of_any_weights_take_turns_as_described_and_fill_the_same_table_again() {
        let mut random = crate::hash::Stream::new([1, 2, 3, 4]);
        for (count, size) in [(1, 2), (3, 7), (10, 1009), (100, 1009), (2000, 1009), (500, 10_007)] {
            for most in [1, 2, 3, 1000, 1 << 16, u32::MAX] {
                let mut weights: Vec<u32> =
                    (0..count).map(|_| (random.next() as u32 % most).wrapping_mul(random.next() as u32 & 1)).collect();
                weights[count / 2] = most;
                let mut list = members(&weights, size);
                let mut tables = [vec![0; size as usize], vec![0; size as usize]];
                tables.iter_mut().for_each(|table| fill(&mut list, table).unwrap());
                let [first, second] = tables;
                assert_eq!(first, second, "{count} members, again");
                assert_eq!(first, weighted(&list, size), "{count} members of up to {most}");
            }
        }
    }

    /// Counted in turns looked at, the work of an early version was proportional to the members of no weight.
    #[test]
    fn members_of_little_weight_or_none_cost_nothing() {
        let mut list = members(&vec![0; 10_000], TABLE_SIZE);
        list[7777].weight = 1;
        list[9].weight = 1;
        let mut table = vec![0; TABLE_SIZE as usize];
        let turns = Turns::new(&mut list, TABLE_SIZE).unwrap();
        assert_eq!(turns.equal, Some((2, 0)));
        fill(&mut list, &mut table).unwrap();
        assert_eq!(shares(&table, 10_000)[7777].abs_diff(shares(&table, 10_000)[9]), 1);
    }

    #[test]
    fn refuses_what_cannot_be_filled() {
        assert_eq!(fill(&mut [], &mut [0; 7]), Err(FillError::NoWeight));
        assert_eq!(fill(&mut members(&[0, 0], 7), &mut [0; 7]), Err(FillError::NoWeight));
        assert_eq!(fill(&mut members(&[1], 7), &mut [0; 8]), Err(FillError::NotPrime(8)));
        let many = vec![members(&[1], 7)[0]; MEMBERS_MAX + 1];
        assert_eq!(fill(&mut many.clone(), &mut [0; 7]), Err(FillError::TooManyMembers(MEMBERS_MAX + 1)));
        assert_eq!(fill(&mut many[1..].to_vec(), &mut [0; 7]), Ok(()));
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
