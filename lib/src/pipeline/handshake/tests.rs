use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::flow::{Address, Worth, are_legal, idle_ticks, step};
use crate::snapshot::Timeouts;

#[test]
fn a_number_is_due_in_a_window_that_may_wrap() {
    for due in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 65_535, u32::MAX - 1, u32::MAX] {
        for (ahead, expected) in
            [(0, true), (1, true), (65_535, true), (65_536, false), (1 << 31, false), (u32::MAX, false)]
        {
            assert_eq!(is_due(due, due.wrapping_add(ahead)), expected, "{due} {ahead}");
        }
    }
}

/// What the other end's segment expects.
const EXPECTED: u32 = 0x2000_0000;

/// The state's byte.
const fn byte_of(state: State, assured: bool) -> u8 {
    state as u8 | if assured { ASSURED } else { 0 }
}

/// A flow in this state that expects [`EXPECTED`].
fn flow(byte: u8) -> Entry<[u8; 4]> {
    let mut entry = <[u8; 4]>::VACANT;
    (entry.protocol, entry.state, entry.expected) = (Protocol::TCP.0, byte, EXPECTED);
    entry
}

/// What a segment of this side does, and what the flow expects after that.
fn takes(byte: u8, side: Direction, segment: Segment) -> (Step, u32) {
    let mut entry = flow(byte);
    let table = step(byte, side, segment.flags);
    let judged = if table.plain().is_some() { table } else { segment.judged(&entry, side, table) };
    entry.state = judged.state().unwrap_or(byte);
    if table.plain().is_none() {
        segment.note(&mut entry, side);
    }
    (judged, entry.expected)
}

/// Every segment that a stranger may write who knows no number: all flags, and numbers that are near, and far.
fn blind() -> impl Iterator<Item = Segment> {
    let numbers = [0x1000_0000, 0x3000_0000, 0xa000_0000, EXPECTED - 100_000, EXPECTED + 100_000];
    let flags = (0..64).map(Flags).filter(|flags| are_legal(*flags));
    flags.flat_map(move |flags| {
        numbers.map(|acknowledgement| Segment { sequence: EXPECTED - 1, acknowledgement, len: 0, flags })
    })
}

/// What one side alone can make of a flow without a number that is expected: whether another begins in its place,
/// or it is forgotten, or it comes to a state in which it may idle less than it might, and less than a half-closed
/// one, or in which it may be evicted where it might not.
fn worst(from: u8, side: Direction) -> Vec<String> {
    let idle = idle_ticks(&Timeouts::default());
    let left = |byte: u8| idle[usize::from(byte & !ASSURED)];
    let half_closed = left(State::TcpCloseWaitOriginal as u8);
    let is_worse =
        |byte: u8| left(byte) < left(from).min(half_closed) || Worth::of(from).is_none() && Worth::of(byte).is_some();
    let (mut reached, mut at, mut told) = (std::vec![from], 0, Vec::new());
    while let Some(byte) = reached.get(at).copied() {
        for segment in blind() {
            let (step, _) = takes(byte, side, segment);
            match step {
                Step::REOPEN => told.push(String::from("reopens")),
                Step::DELETE => told.push(String::from("is forgotten")),
                _ => {}
            }
            if let Some(next) = step.state().filter(|next| !reached.contains(next)) {
                if is_worse(next) {
                    told.push(format!("{:?}", State::from_byte(next).expect("a state")));
                }
                reached.push(next);
            }
        }
        at += 1;
    }
    told.sort();
    told.dedup();
    told
}

#[test]
fn rfc7857_s2_1_one_side_alone_without_a_number_neither_shortens_nor_moves_a_flow_but_these() {
    use State::*;
    for state in State::ALL.iter().filter(|state| state.is_of(Protocol::TCP)) {
        for assured in [false, true].into_iter().filter(|assured| state.can_be(*assured)) {
            for side in [Direction::Original, Direction::Reply] {
                let expected: &[&str] = match (state, side) {
                    // Nobody has answered: there is nothing to lose yet (RFC 9293 §3.10.7.3).
                    (TcpSynSent, Direction::Original) => &["is forgotten"],
                    // That it is answered shortens the handshake's time, which a client that exists needs a round
                    // trip of.
                    (TcpSynSent, Direction::Reply) => &["TcpSynReceived", "is forgotten"],
                    (TcpSynSent2, _) => &["TcpSynReceived"],
                    // Both FINs were acknowledged, or the first was by the second (RFC 9293 §3.6.1).
                    (TcpLastAck, Direction::Original) => &["TcpTimeWait", "reopens"],
                    (TcpLastAck, Direction::Reply) => &["TcpTimeWait"],
                    (TcpTimeWait, Direction::Original) => &["reopens"],
                    // A reset is doubted for four minutes (RFC 7857 §2.2).
                    (
                        TcpEstablished | TcpFinWaitOriginal | TcpFinWaitReply | TcpCloseWaitOriginal
                        | TcpCloseWaitReply,
                        side,
                    ) => match (assured, side) {
                        (false, _) => &[],
                        (true, Direction::Original) => &["TcpReset", "TcpResetOriginal"],
                        (true, Direction::Reply) => &["TcpReset", "TcpResetReply"],
                    },
                    _ => &[],
                };
                let can = worst(byte_of(*state, assured), side);
                assert_eq!(can, expected, "{state:?} {assured} {side:?}");
            }
        }
    }
}

#[test]
fn only_who_acknowledges_a_fin_closes_behind_it() {
    use Direction::{Original, Reply};
    use State::*;
    for (from, side, acknowledged) in [
        (TcpFinWaitOriginal, Reply, TcpCloseWaitOriginal),
        (TcpFinWaitReply, Original, TcpCloseWaitReply),
        (TcpCloseWaitOriginal, Reply, TcpCloseWaitOriginal),
        (TcpCloseWaitReply, Original, TcpCloseWaitReply),
    ] {
        for (flags, closed) in [(Flags::ACK, acknowledged), (Flags::FIN.union(Flags::ACK), TcpLastAck)] {
            for (ahead, expected) in [(0, closed), (1, from), (u32::MAX, from), (1 << 31, from)] {
                let acknowledgement = EXPECTED.wrapping_add(ahead);
                let segment = Segment { sequence: 7, acknowledgement, len: 0, flags };
                let (step, number) = takes(byte_of(from, true), side, segment);
                assert_eq!(step.state(), Some(byte_of(expected, true)), "{from:?} {side:?} {flags:?} {ahead:#x}");
                // That of the end that closed first stays.
                assert_eq!(number, EXPECTED);
            }
        }
    }
}

#[test]
fn the_number_of_a_fin_counts_its_data_and_the_last_one_counts() {
    use Direction::{Original, Reply};
    use State::*;
    let fin = |sequence, len| Segment {
        sequence,
        acknowledgement: EXPECTED - 100_000,
        len,
        flags: Flags::FIN.union(Flags::ACK),
    };
    for (from, side, is_noted) in [
        (TcpEstablished, Original, true),
        (TcpEstablished, Reply, true),
        (TcpFinWaitOriginal, Original, true),
        (TcpFinWaitReply, Reply, true),
        (TcpFinWaitOriginal, Reply, false),
        (TcpFinWaitReply, Original, false),
        (TcpCloseWaitOriginal, Original, false),
        (TcpCloseWaitOriginal, Reply, false),
        (TcpCloseWaitReply, Original, false),
        (TcpCloseWaitReply, Reply, false),
    ] {
        for (sequence, len, expected) in [(41, 0, 42), (41, 1448, 1490), (u32::MAX, 0, 0), (u32::MAX - 1, 3, 2)] {
            let (_, number) = takes(byte_of(from, true), side, fin(sequence, len));
            assert_eq!(number, if is_noted { expected } else { EXPECTED }, "{from:?} {side:?}");
        }
    }
    // Of a flow whose client is not known yet, the server's.
    for from in [TcpSynReceived, TcpFinWaitReply] {
        assert_eq!(takes(byte_of(from, false), Reply, fin(41, 5)).1, 47);
    }
}

#[test]
fn behind_a_fin_of_the_server_its_client_is_known_by_what_it_acknowledges_up_to_that() {
    use State::*;
    let flags = [Flags::ACK, Flags::FIN.union(Flags::ACK)];
    let waits = byte_of(TcpFinWaitReply, false);
    for (flags, closed) in flags.into_iter().zip([TcpCloseWaitReply, TcpLastAck]) {
        for (behind, expected) in [
            (0, Some(closed)),
            (1, Some(TcpFinWaitReply)),
            (65_535, Some(TcpFinWaitReply)),
            (65_536, None),
            (u32::MAX, None),
        ] {
            let acknowledgement = EXPECTED.wrapping_sub(behind);
            let segment = Segment { sequence: 7, acknowledgement, len: 0, flags };
            let (step, number) = takes(waits, Direction::Original, segment);
            let wanted = expected.map_or(Step::IGNORE.state(), |state| Some(byte_of(state, true)));
            assert_eq!(step.state(), wanted, "{flags:?} {behind}");
            assert_eq!(number, EXPECTED);
        }
    }
    // What it had sent before comes again.
    for flags in [Flags::ACK, Flags::SYN.union(Flags::ACK)] {
        let segment = Segment { sequence: EXPECTED - 5, acknowledgement: 7, len: 4, flags };
        assert_eq!(takes(waits, Direction::Reply, segment).1, EXPECTED);
    }
}
