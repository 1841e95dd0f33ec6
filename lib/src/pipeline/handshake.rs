//! TCP's handshake: whose address a client has is shown by the number that it acknowledges.
//!
//! Read RFC 9293 §3.4 and §3.10.7.4 first. The sequence number of the answer to a SYN is known to whoever
//! receives that answer. A segment that acknowledges it comes from there; any other was written blindly,
//! and would be that in 65 535 of 65 536 cases (RFC 5961 §1.3 counts such odds).

use super::{Item, Wire};
use crate::flow::{ASSURED, Direction, Entry, Step};
use crate::frame::Frame;
use crate::net::Protocol;
use crate::wire::tcp::{Flags, Header};

/// How far behind the SYN of the other end a client's first acknowledgement may lie: as much as that end
/// may have sent by then. That is the window of the client's own SYN, which is never scaled (RFC 7323 §2.2).
const AHEAD_MAX: u32 = 65_535;

/// The numbers of a segment, as it came.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    sequence: u32,
    acknowledgement: u32,
    flags: Flags,
}

impl Segment {
    /// Reads them; `None` of what is not TCP.
    pub(super) fn read<A: Wire>(frame: &Frame<'_>, item: &Item<A>) -> Option<Self> {
        if item.packet.protocol != Protocol::TCP {
            return None;
        }
        let at = usize::from(item.at) + usize::from(item.packet.transport_offset);
        let (header, _) = Header::parse(frame.bytes().get(at..)?).ok()?;
        Some(Self { sequence: header.sequence(), acknowledgement: header.acknowledgement(), flags: header.flags() })
    }

    /// What is to be done with the segment where the table of transitions says `step`: one that would show
    /// whose address its sender has, and does not acknowledge what was sent there, changes nothing.
    pub(super) fn judged<A: Wire>(self, entry: &Entry<A>, direction: Direction, step: Step) -> Step {
        let would_assure = step.state().is_some_and(|state| state & ASSURED != 0) && !entry.is_assured();
        let acknowledges = self.flags.contains(Flags::ACK) && is_due(entry.proof, self.acknowledgement);
        let is_proof = direction == Direction::Original && acknowledges;
        if would_assure && !is_proof { Step::IGNORE } else { step }
    }

    /// Notes what the other end has sent to a client that has not acknowledged it yet.
    ///
    /// The last SYN counts: an end that has begun anew has another number, and knows nothing of the first. A
    /// later segment tells the same number, or that the SYN that was noted is not the one that counts.
    pub(super) fn note<A: Wire>(self, entry: &mut Entry<A>, direction: Direction) {
        if direction == Direction::Original || entry.is_assured() || self.flags.contains(Flags::RST) {
            return;
        }
        let is_syn = self.flags.contains(Flags::SYN);
        let next = self.sequence.wrapping_add(is_syn.into());
        if is_syn || !is_due(entry.proof, next) {
            entry.proof = next;
        }
    }
}

/// Whether a client that acknowledges this number has seen the SYN whose acknowledgement is due.
const fn is_due(due: u32, number: u32) -> bool {
    number.wrapping_sub(due) <= AHEAD_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
