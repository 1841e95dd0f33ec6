use std::vec;
use std::vec::Vec;

use super::*;
use crate::time::Span;

const LIMITS: Limits = Limits { datagrams: 16, held_bytes: 4096, wait: Span::from_secs(2) };

fn memory(limits: &Limits) -> &'static mut [u8] {
    let bytes = vec![0; Fragments::memory_bytes(limits) + 64].leak();
    let skip = bytes.as_ptr().align_offset(64);
    &mut bytes[skip..]
}

fn fragments(limits: &Limits) -> Fragments<'static> {
    Fragments::new(limits, [1, 2, 3, 4], memory(limits)).unwrap()
}

const fn key(id: u32) -> Key {
    Key { source: [1; 16], destination: [2; 16], id, protocol: 17, way: 0, reserved: [0; 2] }
}

const fn part(offset: u16, len: u16, more: bool) -> Extent {
    Extent { offset, len, more }
}

/// Ticks of the time that a fragment waits.
fn wait() -> u32 {
    tick(Instant(LIMITS.wait.0))
}

fn released(fragments: &mut Fragments<'_>) -> Vec<Vec<u8>> {
    core::iter::from_fn(|| fragments.release(|held| held.frame.to_vec())).collect()
}

#[test]
fn limits_out_of_range_and_short_memory_are_refused() {
    let refused = |limits: Limits| Fragments::new(&limits, [0; 4], memory(&LIMITS)).unwrap_err();
    assert_eq!(refused(Limits { datagrams: 15, ..LIMITS }), FragmentsError::Datagrams { asked: 15 });
    assert_eq!(refused(Limits { datagrams: 65_537, ..LIMITS }), FragmentsError::Datagrams { asked: 65_537 });
    assert_eq!(refused(Limits { held_bytes: 4095, ..LIMITS }), FragmentsError::HeldBytes { asked: 4095 });
    assert_eq!(
        refused(Limits { held_bytes: (1 << 30) + 1, ..LIMITS }),
        FragmentsError::HeldBytes { asked: (1 << 30) + 1 }
    );
    for limits in [
        Limits { datagrams: 16, held_bytes: 4096, ..LIMITS },
        Limits { datagrams: 1 << 16, held_bytes: 1 << 30, ..LIMITS },
    ] {
        assert_eq!(Fragments::check(&limits, Fragments::memory_bytes(&limits)), Ok(()));
    }
    let need = Fragments::memory_bytes(&LIMITS);
    assert!(need < 4096 + 16 * 4096, "less than four KiB for a datagram beside what waits: {need}");
    let error = Fragments::new(&LIMITS, [0; 4], &mut memory(&LIMITS)[..need - 1]).unwrap_err();
    assert_eq!(error, FragmentsError::Memory { have: need - 1, need });
}

#[test]
fn rfc4787_req14_parts_wait_for_their_first_and_leave_in_their_order() {
    let mut fragments = fragments(&LIMITS);
    let index = fragments.open(&key(1), 0);
    for (offset, byte) in [(16, 1), (8, 2), (24, 3)] {
        fragments.note(index, part(offset, 8, offset != 24), 0).unwrap();
        assert!(fragments.hold(index, &[byte; 50], PortId(3), 1));
    }
    assert!(!fragments.has_ready());
    fragments.note(index, part(0, 8, true), 5).unwrap();
    let first = First { source_port: [1, 2], destination_port: [3, 4], protocol: 17, id: 9 };
    fragments.decide(index, Fate::Forwarded, first, 5);
    assert!(fragments.has_ready());
    let told = fragments.release(|held| (held.frame.to_vec(), held.port, held.handovers, held.fate, held.first));
    assert_eq!(told, Some((vec![1; 50], PortId(3), 1, Fate::Forwarded, first)));
    assert_eq!(released(&mut fragments), [vec![2; 50], vec![3; 50]]);
    assert_eq!((fragments.len(), fragments.has_ready(), fragments.take_lost()), (0, false, Lost::default()));
}

#[test]
fn a_datagram_is_forgotten_with_its_last_part() {
    let mut fragments = fragments(&LIMITS);
    let index = fragments.open(&key(1), 0);
    fragments.note(index, part(0, 8, true), 0).unwrap();
    fragments.decide(index, Fate::Forwarded, First::default(), 0);
    fragments.finish(index);
    assert_eq!((fragments.len(), fragments.is_empty()), (1, false));
    fragments.note(index, part(8, 3, false), 0).unwrap();
    fragments.finish(index);
    assert_eq!((fragments.len(), fragments.is_empty()), (0, true));
}

#[test]
fn a_datagram_that_may_come_back_is_not_forgotten_before_its_time() {
    let mut fragments = fragments(&LIMITS);
    let index = fragments.open(&key(1), 0);
    fragments.note(index, part(0, 8, true), 0).unwrap();
    fragments.decide(index, Fate::Asked(1), First::default(), 0);
    fragments.note(index, part(8, 8, false), 0).unwrap();
    fragments.decide(index, Fate::Forwarded, First::default(), 0);
    fragments.finish(index);
    let index = fragments.open(&key(1), 1);
    assert_eq!(fragments.get(index).0, Fate::Forwarded);
    fragments.age(wait() + 1, 16);
    assert_eq!(fragments.len(), 0);
}

#[test]
fn parts_that_contradict_others_end_the_datagram() {
    let cases: [(&[Extent], Clash); 8] = [
        (&[part(8, 16, true), part(8, 16, true)], Clash::Repeated),
        (&[part(8, 5, false), part(8, 5, false)], Clash::Repeated),
        (&[part(8, 16, true), part(16, 16, true)], Clash::Overlap),
        (&[part(8, 32, true), part(16, 8, true)], Clash::Overlap),
        // That no fragment reaches further than the last one is no contradiction.
        (&[part(8, 16, true), part(16, 8, false)], Clash::Overlap),
        (&[part(32, 8, true), part(8, 5, false)], Clash::Length),
        (&[part(8, 5, false), part(16, 8, true)], Clash::Length),
        (&[part(8, 8, false), part(16, 8, false)], Clash::Length),
    ];
    for (parts, clash) in cases {
        let mut fragments = fragments(&LIMITS);
        let index = fragments.open(&key(1), 0);
        fragments.note(index, parts[0], 0).unwrap();
        fragments.hold(index, &[1; 40], PortId(0), 0);
        assert_eq!(fragments.note(index, parts[1], 0), Err(clash), "{parts:?}");
        let is_over = clash != Clash::Repeated;
        assert_eq!(fragments.get(index).0, if is_over { Fate::Refused } else { Fate::Waiting });
        assert_eq!(fragments.take_lost().refused, u32::from(is_over));
    }
}

#[test]
fn what_waits_too_long_is_forgotten_even_before_ageing_comes_by() {
    let mut fragments = fragments(&LIMITS);
    let index = fragments.open(&key(1), 10);
    fragments.note(index, part(8, 8, true), 10).unwrap();
    assert!(fragments.hold(index, &[1; 40], PortId(0), 0));
    assert_eq!(fragments.open(&key(1), 10 + wait()), index);
    assert_eq!(fragments.get(index).0, Fate::Waiting);
    fragments.open(&key(1), 11 + wait());
    assert_eq!(fragments.take_lost(), Lost { expired: 1, ..Lost::default() });
    assert_eq!(fragments.len(), 1);
    fragments.age(11 + 2 * wait(), 16);
    assert_eq!(fragments.len(), 1);
    fragments.age(12 + 2 * wait(), 15);
    fragments.age(12 + 2 * wait(), 1);
    assert_eq!(fragments.len(), 0);
}

#[test]
fn a_part_on_its_way_keeps_the_datagram_known() {
    let mut fragments = fragments(&LIMITS);
    let index = fragments.open(&key(1), 0);
    fragments.note(index, part(0, 8, true), 0).unwrap();
    fragments.decide(index, Fate::Forwarded, First::default(), 0);
    for step in 1..5 {
        let index = fragments.open(&key(1), step * wait());
        assert_eq!(fragments.get(index).0, Fate::Forwarded);
        fragments.note(index, part(step as u16 * 8, 8, true), step * wait()).unwrap();
    }
}

#[test]
fn a_full_table_gives_up_what_waits_before_what_is_on_its_way() {
    let mut fragments = fragments(&LIMITS);
    // The first ones are on their way, though they are older.
    for id in 0..4 {
        let index = fragments.open(&key(id), id);
        fragments.note(index, part(0, 8, true), id).unwrap();
        fragments.decide(index, Fate::Forwarded, First::default(), id);
    }
    for id in 4..1000 {
        let index = fragments.open(&key(id), id);
        fragments.note(index, part(8, 8, true), id).unwrap();
        fragments.hold(index, &[1; 8], PortId(0), 0);
    }
    assert!(fragments.len() <= 16);
    let lost = fragments.take_lost();
    assert!(lost.displaced > 900 && lost.expired == 0 && lost.refused == 0, "{lost:?}");
    for id in 0..4 {
        let index = fragments.open(&key(id), 1000);
        assert_eq!(fragments.get(index).0, Fate::Forwarded);
    }
    // The newest is there still.
    let index = fragments.open(&key(999), 1000);
    assert_eq!(fragments.note(index, part(8, 8, true), 1000), Err(Clash::Repeated));
}

#[test]
fn a_full_ring_gives_up_the_oldest_datagrams_whole() {
    let mut fragments = fragments(&Limits { datagrams: 64, ..LIMITS });
    let mut indices = vec![];
    // Two fragments of 500 bytes each: 4096 bytes have room for seven fragments of 544.
    for id in 0..4 {
        let index = fragments.open(&key(id), 0);
        indices.push(index);
        for offset in [8, 16] {
            fragments.note(index, part(offset, 8, true), 0).unwrap();
            assert!(fragments.hold(index, &[id as u8; 500], PortId(0), 0));
        }
    }
    assert_eq!(fragments.take_lost(), Lost { displaced: 2, ..Lost::default() });
    assert_eq!(fragments.get(indices[0]).0, Fate::Refused);
    for (id, index) in (1..).zip(&indices[1..]) {
        fragments.note(*index, part(0, 8, true), 0).unwrap();
        fragments.decide(*index, Fate::Forwarded, First::default(), 0);
        assert_eq!(released(&mut fragments), [vec![id; 500], vec![id; 500]]);
    }
}

#[test]
fn a_frame_larger_than_the_ring_is_given_up() {
    let mut fragments = fragments(&LIMITS);
    let index = fragments.open(&key(1), 0);
    assert!(!fragments.hold(index, &[0; 4097], PortId(0), 0));
    assert_eq!(fragments.get(index).0, Fate::Refused);
}

#[test]
fn a_datagram_that_fills_the_ring_alone_is_given_up() {
    let mut fragments = fragments(&LIMITS);
    let index = fragments.open(&key(1), 0);
    let held = (0..9).take_while(|_| fragments.hold(index, &[0; 500], PortId(0), 0)).count();
    assert_eq!((held, fragments.get(index).0), (7, Fate::Refused));
    assert_eq!(fragments.take_lost().displaced, 7);
}

#[test]
fn a_place_taken_by_another_datagram_while_its_parts_could_leave_releases_nothing_wrong() {
    let mut fragments = fragments(&LIMITS);
    let index = fragments.open(&key(1), 0);
    fragments.hold(index, &[1; 8], PortId(0), 0);
    fragments.decide(index, Fate::Forwarded, First::default(), 0);
    fragments.age(wait() + 1, 16);
    // The same place, by the same key.
    let index = fragments.open(&key(1), wait() + 1);
    fragments.hold(index, &[2; 8], PortId(0), 0);
    assert_eq!(released(&mut fragments), Vec::<Vec<u8>>::new());
    fragments.decide(index, Fate::Forwarded, First::default(), wait() + 1);
    assert_eq!(released(&mut fragments), [vec![2; 8]]);
}

#[test]
fn datagrams_are_spread_over_all_places() {
    let limits = Limits { datagrams: 1024, ..LIMITS };
    let mut fragments = fragments(&limits);
    // Sets of eight places, each with four of these on average.
    (0..512).for_each(|id| _ = fragments.open(&key(id), 0));
    assert!(fragments.len() > 480, "{} of 512", fragments.len());
}

#[test]
fn ageing_goes_round_in_slices() {
    let mut fragments = fragments(&LIMITS);
    (0..8).for_each(|id| _ = fragments.open(&key(id), 0));
    let known = fragments.len();
    // In two laps of 16 places every one is looked at.
    (0..4).for_each(|_| fragments.age(wait(), 8));
    assert_eq!(fragments.len(), known, "none has waited too long");
    (0..4).for_each(|_| fragments.age(wait() + 1, 8));
    assert_eq!(fragments.len(), 0);
}

/// In a set of places: a vacant one, one whose datagram has waited too long, be it on its way, and then one that waits.
#[test]
fn a_datagram_that_has_waited_too_long_is_displaced_before_one_that_waits() {
    // Long after the clock's zero, and where the clock wraps in between.
    for start in [1 << 20, u32::MAX - 10] {
        let mut fragments = fragments(&LIMITS);
        let now = start.wrapping_add(wait() + 1);
        let old = fragments.open(&key(0), start);
        let set = old / PLACES as u32;
        fragments.note(old, part(0, 8, true), start).unwrap();
        fragments.decide(old, Fate::Forwarded, First::default(), start);
        let mut others = (1..).filter(|id| {
            let key = key(*id);
            let hash = HashKey::new([1, 2, 3, 4]).datagram(key.source, key.destination, key.id, key.protocol, key.way);
            reduce((hash >> 32) as u32, 2) == set
        });
        for id in others.by_ref().take(PLACES - 1) {
            assert_ne!(fragments.open(&key(id), now), old, "where another place is vacant");
        }
        assert_eq!(fragments.open(&key(others.next().unwrap()), now), old);
        assert_eq!((fragments.len(), fragments.take_lost()), (PLACES as u32, Lost::default()));
    }
}

#[test]
fn a_fragment_that_has_waited_as_long_as_it_may_is_displaced_and_has_not_expired() {
    for (late, lost) in [(0, Lost { displaced: 1, ..Lost::default() }), (1, Lost { expired: 1, ..Lost::default() })] {
        let mut fragments = fragments(&Limits { held_bytes: 1 << 16, ..LIMITS });
        for id in 0..100 {
            let index = fragments.open(&key(id), 0);
            fragments.note(index, part(8, 8, true), 0).unwrap();
            assert!(fragments.hold(index, &[1; 40], PortId(0), 0));
        }
        let _ = fragments.take_lost();
        assert_eq!(fragments.len(), 2 * PLACES as u32, "all places are taken");
        fragments.open(&key(100), wait() + late);
        assert_eq!(fragments.take_lost(), lost, "{late}");
    }
}
