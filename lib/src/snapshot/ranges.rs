//! Longest-prefix match as a sorted list of ranges: nested prefixes are flattened when the
//! snapshot is compiled, and a lookup is one binary search.

use core::net::IpAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{NONE, RangeV4, RangeV6};
use crate::net;

/// One prefix on its way into a list of ranges. IPv4 lies in the low 32 bits.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Prefix {
    high: u64,
    low: u64,
    len: u32,
    target: u32,
}

impl Prefix {
    pub(super) fn new(prefix: &net::Prefix, target: u32) -> Self {
        let start = match prefix.network() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        Self { high: (start >> 64) as u64, low: start as u64, len: u32::from(prefix.len()), target }
    }

    fn start(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    fn last(&self, bits: u32) -> u128 {
        self.start() | all_ones(bits.saturating_sub(self.len))
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.high, self.low, self.len) == (other.high, other.low, other.len)
    }
}

/// The largest number of `bits` bits.
const fn all_ones(bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

/// A record that says where a range begins and where it leads.
pub(super) trait Range: Copy {
    /// Address bits of the family.
    const BITS: u32;
    fn new(start: u128, target: u32) -> Self;
    fn start(&self) -> u128;
    fn target(&self) -> u32;
}

impl Range for RangeV4 {
    const BITS: u32 = 32;

    fn new(start: u128, target: u32) -> Self {
        Self { start: start as u32, target }
    }

    fn start(&self) -> u128 {
        u128::from(self.start)
    }

    fn target(&self) -> u32 {
        self.target
    }
}

impl Range for RangeV6 {
    const BITS: u32 = 128;

    fn new(start: u128, target: u32) -> Self {
        Self { high: (start >> 64) as u64, low: start as u64, target, reserved: 0 }
    }

    fn start(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    fn target(&self) -> u32 {
        self.target
    }
}

/// How many ranges `prefixes` prefixes make at the most.
pub(super) const fn ranges_max(prefixes: usize) -> usize {
    2 * prefixes + 1
}

/// Writes the ranges of `prefixes` to the front of `out` and returns how many there are. The last
/// of equal prefixes wins; addresses in none lead to [`NONE`].
pub(super) fn flatten<R: Range>(prefixes: &mut [Prefix], out: &mut [R]) -> usize {
    prefixes.sort_unstable_by_key(|prefix| (prefix.high, prefix.low, prefix.len, prefix.target));
    let mut list = List { out, count: 0 };
    list.push(0, NONE);
    // Prefixes around the place reached, from the widest in: at most one of each length.
    let mut open = [(0, NONE); 129];
    let mut depth = 0;
    let mut rest = &*prefixes;
    while let Some((prefix, after)) = rest.split_first() {
        rest = after;
        if after.first().is_some_and(|next| next.is_same(prefix)) {
            continue;
        }
        depth = list.close(&open, depth, |last| last < prefix.start(), R::BITS);
        list.push(prefix.start(), prefix.target);
        if let Some(place) = open.get_mut(depth) {
            *place = (prefix.last(R::BITS), prefix.target);
            depth += 1;
        }
    }
    list.close(&open, depth, |_| true, R::BITS);
    list.count
}

struct List<'o, R> {
    out: &'o mut [R],
    count: usize,
}

impl<R: Range> List<'_, R> {
    /// Ends the ranges of open prefixes whose last address is `over`; returns the depth left.
    fn close(&mut self, open: &[(u128, u32)], mut depth: usize, over: impl Fn(u128) -> bool, bits: u32) -> usize {
        while let Some((last, _)) = depth.checked_sub(1).and_then(|top| open.get(top))
            && over(*last)
        {
            depth -= 1;
            let outer = depth.checked_sub(1).and_then(|top| open.get(top)).map_or(NONE, |(_, target)| *target);
            if *last < all_ones(bits) {
                self.push(last + 1, outer);
            }
        }
        depth
    }

    fn push(&mut self, start: u128, target: u32) {
        if let Some(index) = self.count.checked_sub(1)
            && let Some(last) = self.out.get_mut(index)
            && last.start() == start
        {
            *last = R::new(start, target);
        } else if let Some(place) = self.out.get_mut(self.count) {
            *place = R::new(start, target);
            self.count += 1;
        }
    }
}

/// Where this address leads. Work: one binary search.
pub(super) fn find<R: Range>(ranges: &[R], address: u128) -> Option<u32> {
    let after = ranges.partition_point(|range| range.start() <= address);
    let target = ranges.get(after.checked_sub(1)?)?.target();
    (target != NONE).then_some(target)
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn longest_match(prefixes: &[net::Prefix], address: IpAddr) -> Option<u32> {
        (0..).zip(prefixes).filter(|(_, p)| p.contains(address)).max_by_key(|(i, p)| (p.len(), *i)).map(|(i, _)| i)
    }

    fn ranges<R: Range>(prefixes: &[net::Prefix]) -> Vec<R> {
        let mut scratch: Vec<_> = (0..).zip(prefixes).map(|(index, prefix)| Prefix::new(prefix, index)).collect();
        let mut out = vec![R::new(0, NONE); ranges_max(prefixes.len())];
        let count = flatten(&mut scratch, &mut out);
        out.truncate(count);
        out
    }

    fn prefix_v4() -> impl Strategy<Value = net::Prefix> {
        // Few networks, so that prefixes nest, touch and repeat.
        (prop::sample::select(vec![0_u32, 0x0a00_0000, 0x0a4d_0000, 0x0a4d_0400, 0xffff_ff00, 0xffff_ffff]), 0..=32_u8)
            .prop_map(|(address, len)| net::Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(address)), len).unwrap())
    }

    proptest! {
        #[test]
        fn a_lookup_is_the_longest_match(prefixes in prop::collection::vec(prefix_v4(), 0..20), noise: u32) {
            let ranges = ranges::<RangeV4>(&prefixes);
            let ends = prefixes.iter().map(|prefix| Prefix::new(prefix, 0)).flat_map(|p| [p.start() as u32, p.last(32) as u32]);
            let edges = ends.flat_map(|end| [end.wrapping_sub(1), end, end.wrapping_add(1)]);
            for address in edges.chain([0, u32::MAX, noise]) {
                let expected = longest_match(&prefixes, IpAddr::V4(Ipv4Addr::from_bits(address)));
                prop_assert_eq!(find(&ranges, u128::from(address)), expected, "{:#x}", address);
            }
        }
    }

    #[test]
    fn a_prefix_may_begin_where_the_one_around_it_ends() {
        let nets = ["10.77.0.0/24", "10.77.0.255/32", "10.0.0.0/8"].map(|text| text.parse().unwrap());
        let ranges = ranges::<RangeV4>(&nets);
        assert_eq!([0x0a4d_00fe, 0x0a4d_00ff, 0x0a4d_0100].map(|at| find(&ranges, at)), [0, 1, 2].map(Some));
    }

    #[test]
    fn the_last_of_very_many_equal_prefixes_goes_on_behind_one_inside() {
        let mut nets: Vec<net::Prefix> = vec!["10.0.0.0/8".parse().unwrap(); 200];
        nets.push("10.1.0.0/16".parse().unwrap());
        let ranges = ranges::<RangeV4>(&nets);
        assert_eq!([0x0a00_0000, 0x0a01_0000, 0x0a02_0000].map(|at| find(&ranges, at)), [199, 200, 199].map(Some));
    }

    #[test]
    fn ipv6_reaches_from_end_to_end() {
        let nets: Vec<net::Prefix> =
            ["::/0", "fd77::/48", "fd77:0:0:4::/64", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"]
                .iter()
                .map(|text| text.parse().unwrap())
                .collect();
        let ranges = ranges::<RangeV6>(&nets);
        for text in
            ["::", "fd77::1", "fd77:0:0:4::9", "fd77:0:0:5::", "fd78::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        {
            let address: core::net::Ipv6Addr = text.parse().unwrap();
            assert_eq!(find(&ranges, address.to_bits()), longest_match(&nets, IpAddr::V6(address)), "{text}");
        }
    }
}
