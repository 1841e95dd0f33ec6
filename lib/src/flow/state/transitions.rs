//! What a packet makes of its flow's state: one row for each direction and class of packet, one
//! column for each state. The rows are unrolled into one array when compiled, so that a packet costs
//! one load.
//!
//! TCP is followed as the kernel's connection tracking follows it, without its windows: a gateway
//! that sees one direction only could not tell. Read RFC 9293 §3.3.2 and §3.6 first; for SCTP, RFC
//! 9260 §4 and §5.

use super::{ASSURED, Direction, NUMBER, State, Worth};
use crate::net::Protocol;
pub(super) use crate::wire::sctp::kind as chunk;
use crate::wire::tcp::Flags;

/// Every type of SCTP chunk that has no place in six bits.
pub(super) const OTHER_CHUNK: u8 = 63;

/// What is to be done with a packet and its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step(u8);

impl Step {
    /// From here on, more than a state to write.
    const ASIDE: u8 = 0x40;

    /// No packet of this kind belongs to a flow in this state: it goes no further.
    pub(crate) const INVALID: Self = Self(0x40);
    /// The flow is over: the packet begins another.
    pub(crate) const REOPEN: Self = Self(0x41);
    /// The packet goes on, and the flow ends with it.
    pub(crate) const DELETE: Self = Self(0x42);
    /// The packet goes on and changes nothing, not even how long the flow has idled.
    pub(crate) const IGNORE: Self = Self(0x43);

    /// Beside a state to write, there is more to do: the flow is worth more, or less, than before, or a number of
    /// the segment tells something.
    const BESIDE: u8 = 0x80;

    /// The packet goes on, and the flow stays in this state.
    pub(crate) const fn stay(byte: u8) -> Self {
        Self(byte & (NUMBER | ASSURED) | Self::BESIDE)
    }

    /// The state to write, where that is all.
    #[inline(always)]
    pub(crate) const fn plain(self) -> Option<u8> {
        if self.0 < Self::ASIDE { Some(self.0) } else { None }
    }

    /// The state to write, where there is one. Where it is not [`plain`](Self::plain), the flow has to be
    /// requeued after that ([`Table::requeue`](crate::flow::Table::requeue)).
    pub(crate) const fn state(self) -> Option<u8> {
        let state = self.0 & !Self::BESIDE;
        if state < Self::ASIDE { Some(state) } else { None }
    }
}

/// The kinds of TCP segments, as far as states go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    /// Flags that no segment has together.
    None,
}

impl Class {
    /// The class of these flags. PSH says nothing of a state; ECE and CWR lie outside the six bits.
    pub(super) const fn of(flags: u8) -> Self {
        const FIN: u8 = Flags::FIN.0;
        const SYN: u8 = Flags::SYN.0;
        const RST: u8 = Flags::RST.0;
        const ACK: u8 = Flags::ACK.0;
        const URG: u8 = Flags::URG.0;
        const SYN_URG: u8 = SYN | URG;
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        const FIN_ACK_URG: u8 = FIN | ACK | URG;
        const ACK_URG: u8 = ACK | URG;
        match flags & 0x3f & !Flags::PSH.0 {
            SYN | SYN_URG => Self::Syn,
            SYN_ACK => Self::SynAck,
            FIN_ACK | FIN_ACK_URG => Self::Fin,
            ACK | ACK_URG => Self::Ack,
            RST | RST_ACK => Self::Rst,
            _ => Self::None,
        }
    }
}

/// Whether these flags may stand together in a TCP segment.
pub(crate) const fn are_legal(flags: Flags) -> bool {
    !matches!(Class::of(flags.0), Class::None)
}

pub(super) const fn is_bare_syn(flags: Flags) -> bool {
    matches!(Class::of(flags.0), Class::Syn)
}

const IV: u8 = Step::INVALID.0;
const NW: u8 = Step::REOPEN.0;
const DL: u8 = Step::DELETE.0;
const IG: u8 = Step::IGNORE.0;

/// TCP's states in the order of the columns below.
const TCP: [State; 13] = [
    State::TcpSynSent,
    State::TcpSynReceived,
    State::TcpEstablished,
    State::TcpFinWaitOriginal,
    State::TcpFinWaitReply,
    State::TcpCloseWaitOriginal,
    State::TcpCloseWaitReply,
    State::TcpLastAck,
    State::TcpTimeWait,
    State::TcpReset,
    State::TcpResetOriginal,
    State::TcpResetReply,
    State::TcpSynSent2,
];

#[rustfmt::skip]
const fn tcp(direction: Direction, class: Class) -> [u8; 13] {
    use Class::{Ack, Fin, None, Rst, Syn, SynAck};
    use Direction::{Original, Reply};
    const SR: u8 = State::TcpSynReceived as u8;
    // Its client has acknowledged what was sent to its address: whether it has, its number tells
    // (`pipeline::handshake`).
    const ES: u8 = State::TcpEstablished as u8 | ASSURED;
    // A FIN of one side: it shortens nothing before the other side has acknowledged its number, which
    // `pipeline::handshake` tells as well, or has sent its own (RFC 7857 §2.1, RFC 6146 §3.5.2.2).
    const FO: u8 = State::TcpFinWaitOriginal as u8;
    const FA: u8 = FO | ASSURED;
    const FR: u8 = State::TcpFinWaitReply as u8;
    const CO: u8 = State::TcpCloseWaitOriginal as u8;
    const CR: u8 = State::TcpCloseWaitReply as u8;
    const CA: u8 = CR | ASSURED;
    // Both sides' FINs: the second counts where it acknowledges the first, which `pipeline::handshake` tells.
    const LA: u8 = State::TcpLastAck as u8;
    const LB: u8 = LA | ASSURED;
    const TW: u8 = State::TcpTimeWait as u8;
    // As established: of a flow whose client is not known a reset makes nothing. What one side says after it
    // may have been on its way; only both show that the connection goes on.
    const RS: u8 = State::TcpReset as u8 | ASSURED;
    const RO: u8 = State::TcpResetOriginal as u8 | ASSURED;
    const RR: u8 = State::TcpResetReply as u8 | ASSURED;
    const S2: u8 = State::TcpSynSent2 as u8;
    match (direction, class) {
        //                   SS  SR  ES  FO  FR  CO  CR  LA  TW  RS  RO  RR  S2
        // After both sides' FINs a SYN is another connection's. After a reset it may be anybody's, as the
        // reset may: its receiver tells.
        (Original, Syn) =>    [IG, IG, IG, IG, IG, IG, IG, NW, NW, IG, IG, IG, S2],
        (Original, SynAck) => [IV, SR, IV, IV, IV, IV, IV, IV, IV, IV, IV, IV, SR],
        (Original, Fin) =>    [IV, FA, FO, FO, LB, CO, LA, LA, TW, RO, RO, FO, IV],
        (Original, Ack) =>    [IV, ES, ES, FO, CA, CO, CR, TW, TW, RO, RO, ES, IV],
        (Original, Rst) =>    [DL, IG, RS, RS, RS, RS, RS, IG, IG, IG, RS, RS, IG],
        (Reply, Syn) =>       [S2, IV, IV, IV, IV, IV, IV, IV, IV, IV, IV, IV, S2],
        // After a reset it may be the answer to another connection's SYN: what its client said before that
        // says nothing of this one.
        (Reply, SynAck) =>    [SR, IG, IG, IG, IG, IG, IG, IG, IG, RR, RR, RR, SR],
        (Reply, Fin) =>       [IV, FR, FR, LA, FR, LA, CR, LA, TW, RR, FR, RR, IV],
        (Reply, Ack) =>       [IG, SR, ES, CO, FR, CO, CR, TW, TW, RR, ES, RR, IG],
        (Reply, Rst) =>       [DL, IG, RS, RS, RS, RS, RS, IG, IG, IG, RS, RS, IG],
        (_, None) =>          [IV; 13],
    }
}

/// SCTP's states in the order of the columns below.
const SCTP: [State; 7] = [
    State::SctpCookieWait,
    State::SctpCookieEchoed,
    State::SctpEstablished,
    State::SctpShutdownSent,
    State::SctpShutdownReceived,
    State::SctpShutdownAckSent,
    State::SctpClosed,
];

#[rustfmt::skip]
const fn sctp(direction: Direction, kind: u8) -> [u8; 7] {
    use Direction::{Original, Reply};
    const CW: u8 = State::SctpCookieWait as u8;
    const CE: u8 = State::SctpCookieEchoed as u8;
    // Its client has sent back a cookie that was sent to its address.
    const ES: u8 = State::SctpEstablished as u8 | ASSURED;
    const SS: u8 = State::SctpShutdownSent as u8;
    const SR: u8 = State::SctpShutdownReceived as u8;
    const SA: u8 = State::SctpShutdownAckSent as u8;
    const CL: u8 = State::SctpClosed as u8;
    match (direction, kind) {
        //                                CW  CE  ES  SS  SR  SA  CL
        (Original, chunk::INIT) =>        [CW, CE, ES, SS, SR, SA, NW],
        (Original, chunk::COOKIE_ECHO) => [CE, CE, ES, SS, SR, SA, CL],
        (Original, chunk::SHUTDOWN) =>    [CW, CE, SS, SS, SR, SA, CL],
        (Reply, chunk::COOKIE_ACK) =>     [CW, ES, ES, SS, SR, SA, CL],
        // The cookie was stale.
        (Reply, chunk::ERROR) =>          [CW, CL, ES, SS, SR, SA, CL],
        (Reply, chunk::SHUTDOWN) =>       [CW, CE, SR, SS, SR, SA, CL],
        (_, chunk::SHUTDOWN_ACK) =>       [CW, CE, ES, SA, SA, SA, CL],
        (_, chunk::SHUTDOWN_COMPLETE) =>  [CW, CE, ES, SS, SR, CL, CL],
        (_, chunk::ABORT) =>              [CL, CL, CL, CL, CL, CL, CL],
        _ =>                              [CW, CE, ES, SS, SR, SA, CL],
    }
}

/// UDP and echo requests. Their answers prove nothing of the client; that it speaks again shows a
/// conversation, if not whose.
const fn datagram(state: State, direction: Direction) -> u8 {
    use Direction::{Original, Reply};
    match (state, direction) {
        (State::Udp, Reply) => State::UdpAnswered as u8,
        (State::UdpAnswered | State::UdpStream, Original) | (State::UdpStream, Reply) => {
            State::UdpStream as u8 | ASSURED
        }
        (State::IcmpEcho, Reply) => State::IcmpEchoAnswered as u8,
        (state, _) => state as u8,
    }
}

/// What a packet makes of one state, by the table that is the protocol's.
const fn transition(state: State, direction: Direction, flags: u8) -> u8 {
    let mut column = 0;
    while column < TCP.len() {
        if state as u8 == TCP[column] as u8 {
            return tcp(direction, Class::of(flags))[column];
        }
        column += 1;
    }
    column = 0;
    while column < SCTP.len() {
        if state as u8 == SCTP[column] as u8 {
            return sctp(direction, flags)[column];
        }
        column += 1;
    }
    datagram(state, direction)
}

/// Whether a number of this segment tells something of its flow, see `pipeline::handshake`.
const fn has_number(state: State, direction: Direction, flags: u8) -> bool {
    use Direction::{Original, Reply};
    state.is_of(Protocol::TCP)
        && match (state, direction) {
            _ if flags & Flags::SYN.0 != 0 => true,
            (State::TcpSynReceived | State::TcpFinWaitReply, Original) => true,
            (State::TcpSynReceived | State::TcpFinWaitOriginal, Reply) => true,
            (
                State::TcpEstablished | State::TcpFinWaitOriginal | State::TcpCloseWaitReply | State::TcpResetReply,
                Original,
            )
            | (
                State::TcpEstablished | State::TcpFinWaitReply | State::TcpCloseWaitOriginal | State::TcpResetOriginal,
                Reply,
            ) => flags & Flags::FIN.0 != 0,
            _ => false,
        }
}

/// By the state's byte (number and assured bit), direction and six bits of flags.
const STEPS: [u8; 64 * 2 * 64] = {
    let mut steps = [IV; 64 * 2 * 64];
    let mut index = 0;
    while index < steps.len() {
        let byte = (index >> 7) as u8;
        let direction = if index >> 6 & 1 == 0 { Direction::Original } else { Direction::Reply };
        if let Some(state) = State::from_number(byte & NUMBER) {
            let next = transition(state, direction, index as u8 & 0x3f);
            steps[index] = if next < Step::ASIDE {
                // Once assured, always.
                let next = next | byte & ASSURED;
                let is_worth_the_same = Worth::index_of(byte) == Worth::index_of(next);
                // That a client is known its number shows.
                let is_known = next & ASSURED == byte & ASSURED;
                let has_number = !is_known || has_number(state, direction, index as u8 & 0x3f);
                if is_worth_the_same && !has_number { next } else { next | Step::BESIDE }
            } else {
                next
            };
        }
        index += 1;
    }
    steps
};

/// What a packet of this direction with these flags makes of a flow whose state's byte is `byte`.
#[inline(always)]
pub(crate) fn step(byte: u8, direction: Direction, flags: Flags) -> Step {
    let index = usize::from(byte & (NUMBER | ASSURED)) << 7 | (direction as usize) << 6 | usize::from(flags.0 & 0x3f);
    Step(STEPS[index])
}
