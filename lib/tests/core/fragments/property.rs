//! Any fragmentation, in any order: what arrives is what was sent, or nothing.

use proptest::prelude::*;
use weirgate::verdict::Verdict;
use weirgate_fixture::frames::{FROM_CLIENT, Packet, framed};
use weirgate_fixture::world::{UPLINK, World};

use super::helpers::{at_pod, fragment, fragments, query, query_v6};
use super::sctp;

/// How the property test fragments and sends a datagram.
#[derive(Clone, Debug)]
struct Plan {
    v6: bool,
    /// An SCTP INIT instead of a UDP datagram.
    is_sctp: bool,
    len: usize,
    /// Units of eight bytes in each fragment.
    units: Vec<usize>,
    /// Positions of fragments to swap.
    swaps: Vec<(usize, usize)>,
    /// An additional fragment: its first unit, and how many units it has.
    extra: Option<(usize, usize)>,
    burst: bool,
    overlay_mtu: u16,
}

fn plan() -> impl Strategy<Value = Plan> {
    let fragments = proptest::collection::vec(1_usize..172, 1..20);
    let swaps = proptest::collection::vec((any::<usize>(), any::<usize>()), 0..20);
    let extra = proptest::option::weighted(0.3, (0_usize..2000, 1_usize..150));
    (any::<[bool; 3]>(), 1_usize..40_000, fragments, swaps, extra, 1280_u16..1450).prop_map(
        |([v6, is_sctp, burst], len, units, swaps, extra, mtu)| Plan {
            v6,
            is_sctp,
            len,
            units,
            swaps,
            extra,
            burst,
            overlay_mtu: if v6 { 1450 } else { mtu },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Fragments in any order egress as the translated datagram, each byte once, or incomplete. Without an
    /// additional fragment the datagram is complete.
    #[test]
    fn fragments_in_any_order_become_the_translated_datagram_or_nothing(plan in plan()) {
        let mut gateway = World { overlay_mtu: Some(plan.overlay_mtu), ..World::new().with_sctp() }.gateway();
        let request = match (plan.is_sctp, plan.v6) {
            (false, false) => query(5000, plan.len),
            (false, true) => query_v6(5000, plan.len),
            (true, v6) => sctp::long_init(v6, plan.len),
        };
        let ip = request.bytes();
        let data = ip.len() - if plan.v6 { 40 } else { 20 };
        // No fragment may exceed the MTU of the client's link.
        let least = |place: usize| if place == 0 && plan.is_sctp { 32 } else { 8 };
        let lens = plan.units.iter().enumerate().map(|(place, units)| (units * 8).max(least(place)));
        let lens = lens.chain(std::iter::repeat(1376));
        let mut cut = fragments(&ip, 7, lens);
        prop_assume!(cut.len() > 1);
        for (a, b) in &plan.swaps {
            let count = cut.len();
            cut.swap(a % count, b % count);
        }
        let extra = plan.extra.map(|(unit, units)| (unit * 8, (unit + units) * 8)).filter(|(_, end)| *end < data);
        if let Some((from, end)) = extra {
            cut.insert(cut.len() / 2, fragment(&ip, 7, from, end, true));
        }
        let frames: Vec<_> = cut.iter().map(|fragment| (UPLINK, framed(FROM_CLIENT, fragment))).collect();
        let mut outs = if plan.burst {
            gateway.send_burst(&frames)
        } else {
            frames.iter().flat_map(|frame| gateway.send_burst(std::slice::from_ref(frame))).collect()
        };
        outs.retain(|out| !matches!(out.verdict, Verdict::Drop(_)));
        let whole = at_pod(&outs);
        if let Some((inner, _)) = &whole {
            let expected = Packet { source: inner.source, destination: inner.destination, ..request.after_a_hop() };
            prop_assert_eq!(inner, &expected);
        }
        prop_assert!(whole.is_some() || extra.is_some(), "nothing lost without a reason");
    }
}
