//! TCP's numbers, as far as they tell what flags do not: whose address a client has, by the number that it
//! acknowledges, and whether a FIN is the connection's, as the other end acknowledges it.
//!
//! Read RFC 9293 §3.4, §3.6 and §3.10.7.4 first. The sequence number of the answer to a SYN is known to whoever
//! receives that answer. A segment that acknowledges it comes from there; any other was written blindly,
//! and would be that in 65 535 of 65 536 cases (RFC 5961 §1.3 counts such odds). And an end acknowledges a FIN
//! only where its number is the next that it waits for.

use super::family::Wire;
use super::item::Item;
use crate::flow::{ASSURED, Direction, Entry, State, Step, tick};
use crate::frame::Frame;
use crate::net::Protocol;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Header};

/// How far behind the SYN of the other end a client's first acknowledgement may lie: as much as that end
/// may have sent by then. That is the window of the client's own SYN, which is never scaled (RFC 7323 §2.2).
const AHEAD_MAX: u32 = 65_535;

/// How many ticks pass between two challenges of one end: half a second (Linux, `tcp_invalid_ratelimit`).
const CHALLENGED: u32 = tick(Instant(500_000_000));

/// The numbers of a segment, as it came.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    sequence: u32,
    acknowledgement: u32,
    /// Bytes of data; of a fragment, those in it.
    len: u32,
    flags: Flags,
}

impl Segment {
    /// Reads them; `None` of what is not TCP.
    pub(super) fn read<A: Wire>(frame: &Frame<'_>, item: &Item<A>) -> Option<Self> {
        if item.packet.protocol != Protocol::TCP {
            return None;
        }
        let at = usize::from(item.at) + usize::from(item.packet.transport_offset);
        let end = usize::from(item.at) + usize::from(item.packet.len);
        let (header, data) = Header::parse(frame.bytes().get(at..end)?).ok()?;
        Some(Self {
            sequence: header.sequence(),
            acknowledgement: header.acknowledgement(),
            len: u32::try_from(data.len()).ok()?,
            flags: header.flags(),
        })
    }

    /// The sequence number of the reset that answers it (RFC 9293 §3.10.7.1); `None` of one that is not answered so:
    /// a reset, and a segment that acknowledges nothing, which no open connection has.
    pub(super) const fn reset_sequence(self) -> Option<u32> {
        if self.flags.contains(Flags::RST) || !self.flags.contains(Flags::ACK) {
            None
        } else {
            Some(self.acknowledgement)
        }
    }

    /// What is to be done with the segment where the table of transitions says `step`: one that would show
    /// whose address its sender has, and does not acknowledge what was sent there, changes nothing; one that does
    /// not acknowledge the other side's FIN leaves its flow where it is, be it a FIN itself. An end that has
    /// acknowledged a FIN does so with all that it sends after that (RFC 9293 §3.10.7.4).
    pub(super) fn judged<A: Wire>(self, entry: &Entry<A>, direction: Direction, step: Step) -> Step {
        let Some(next) = step.state() else { return step };
        let has_ack = self.flags.contains(Flags::ACK);
        if !entry.is_assured() && next & ASSURED != 0 {
            let is_proof = direction == Direction::Original && has_ack && is_expected(entry, self.acknowledgement);
            if !is_proof {
                return Step::IGNORE;
            }
        }
        let would_close = matches!(
            State::from_byte(next),
            Some(State::TcpCloseWaitOriginal | State::TcpCloseWaitReply | State::TcpLastAck)
        );
        let acknowledges = has_ack && self.acknowledgement == entry.expected;
        if would_close && has_closed(entry, direction.opposite()) && !acknowledges {
            Step::stay(entry.state | next & ASSURED)
        } else {
            step
        }
    }

    /// What is to be done with a SYN where its flow is an open connection to a backend that is gone.
    ///
    /// The first one goes where the connection goes, and is doubted as a reset is: a backend that still lives challenges
    /// it (RFC 5961 §4), at most once in [`CHALLENGED`], and with that the flow is in another state. The same SYN again
    /// after as long a silence begins another connection.
    pub(super) fn doubted<A: Wire>(self, entry: &mut Entry<A>, tick: u32) -> Step {
        let number = self.sequence.wrapping_add(1);
        if entry.state() != Some(State::TcpReset) || entry.expected != number {
            entry.expected = number;
            return Step::stay(State::TcpReset as u8 | ASSURED);
        }
        if entry.idled(tick) >= CHALLENGED.cast_signed() { Step::REOPEN } else { Step::IGNORE }
    }

    /// Notes what the other end has sent to a client that has not acknowledged it yet, and the number that
    /// acknowledges a FIN.
    ///
    /// The last SYN counts: an end that has begun anew has another number, and knows nothing of the first. A
    /// later segment tells the same number, or that the SYN that was noted is not the one that counts. Behind a FIN
    /// nothing is sent that would tell more.
    pub(super) fn note<A: Wire>(self, entry: &mut Entry<A>, direction: Direction) {
        if self.flags.contains(Flags::FIN) && awaits_acknowledgement(entry, direction) {
            entry.expected = self.sequence.wrapping_add(self.len).wrapping_add(1);
        }
        let is_handshake = !entry.is_assured() && entry.state() != Some(State::TcpFinWaitReply);
        if !is_handshake || direction == Direction::Original || self.flags.contains(Flags::RST) {
            return;
        }
        let is_syn = self.flags.contains(Flags::SYN);
        let next = if is_syn { self.sequence.wrapping_add(1) } else { self.sequence };
        if is_syn || !is_due(entry.expected, next) {
            entry.expected = next;
        }
    }
}

/// Whether a FIN of this direction waits to be acknowledged.
const fn awaits_acknowledgement<A: Wire>(entry: &Entry<A>, direction: Direction) -> bool {
    matches!(
        (entry.state(), direction),
        (Some(State::TcpFinWaitOriginal), Direction::Original) | (Some(State::TcpFinWaitReply), Direction::Reply)
    )
}

/// Whether there is a FIN of this direction, and none of the other that is believed.
const fn has_closed<A: Wire>(entry: &Entry<A>, direction: Direction) -> bool {
    awaits_acknowledgement(entry, direction)
        || matches!(
            (entry.state(), direction),
            (Some(State::TcpCloseWaitOriginal), Direction::Original)
                | (Some(State::TcpCloseWaitReply), Direction::Reply)
        )
}

/// Whether this acknowledges something that was sent to a client that is not known yet. Before a FIN the expected
/// acknowledgement is the least, behind it the largest that there can be.
const fn is_expected<A: Wire>(entry: &Entry<A>, number: u32) -> bool {
    match entry.state() {
        Some(State::TcpFinWaitReply) => is_due(number, entry.expected),
        _ => is_due(entry.expected, number),
    }
}

/// Whether a number lies where one may whose first expected acknowledgement is `due`.
const fn is_due(due: u32, number: u32) -> bool {
    number.wrapping_sub(due) <= AHEAD_MAX
}

#[cfg(test)]
mod tests;
