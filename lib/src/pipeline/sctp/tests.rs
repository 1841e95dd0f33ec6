use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::flow::{ASSURED, idle_ticks};
use crate::snapshot::Timeouts;

/// The tags that the ends have.
const TAGS: Tags = [0x1111, 0x2222];

/// A packet with a stranger's tag, and one chunk.
fn packet(kind: u8, flags: u8) -> Vec<u8> {
    let tag = if kind == kind::INIT { [0; 4] } else { [6, 6, 6, 7] };
    // The chunk's value begins as that of INIT does, with a tag.
    [&[0, 1, 0, 2][..], &tag, &[0; 4], &[kind, flags, 0, 20], &[6, 6, 6, 8], &[0; 12]].concat()
}

/// Where one side alone can bring a flow whose tags it does not know.
fn worst(from: u8, side: Direction) -> Vec<String> {
    let idle = idle_ticks(&Timeouts::default());
    let left = |byte: u8| idle[usize::from(byte & !ASSURED)];
    let known = Known { tags: TAGS, ..Known::default() };
    let (mut reached, mut at, mut told) = (std::vec![(from, known)], 0, Vec::new());
    while let Some((byte, known)) = reached.get(at).copied() {
        for (kind, flags) in (0..=255).flat_map(|kind| [(kind, 0), (kind, 1)]) {
            let bytes = packet(kind, flags);
            let (header, chunks) = Header::parse_first(&bytes).expect("a packet");
            match advance(byte, known, side, &header, chunks) {
                Ok(Next::Goes(next, known)) => {
                    let is_less = left(next) < left(from);
                    if is_less || next != from && from & ASSURED != 0 || known.tags != TAGS && from & ASSURED != 0 {
                        told.push(format!("{:?}", State::from_byte(next).expect("a state")));
                    }
                    if !reached.contains(&(next, known)) {
                        reached.push((next, known));
                    }
                }
                Ok(Next::Reopens) => told.push(String::from("reopens")),
                Err(_) => {}
            }
        }
        at += 1;
    }
    told.sort();
    told.dedup();
    told
}

#[test]
fn rfc9260_s8_5_one_side_alone_without_a_tag_moves_no_association_but_these() {
    use State::*;
    for state in State::ALL.iter().filter(|state| state.is_of(crate::net::Protocol::SCTP)) {
        for assured in [false, true].into_iter().filter(|assured| state.can_be(*assured)) {
            for side in [Direction::Original, Direction::Reply] {
                let expected: &[&str] = match (state, side) {
                    // It has ended.
                    (SctpClosed, Direction::Original) => &["reopens"],
                    // Before COOKIE ACK the tag is the last COOKIE ECHO's, which a stranger may have written; an ABORT
                    // with that ends three seconds' worth of a flow that is not assured, and an INIT begins another.
                    (SctpCookieWait | SctpCookieEchoed, Direction::Original) => &["reopens"],
                    _ => &[],
                };
                let byte = *state as u8 | if assured { ASSURED } else { 0 };
                assert_eq!(worst(byte, side), expected, "{state:?} {assured} {side:?}");
            }
        }
    }
}
