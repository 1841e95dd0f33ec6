//! How far a flow has come, as one pure function; how long it may idle, as data.

use crate::net::Protocol;
use crate::snapshot::Timeouts;
use crate::wire::tcp::Flags;

/// Flags that end a connection.
const ENDING: Flags = Flags::FIN.union(Flags::RST);

/// The way a packet goes, seen from the flow's first packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// As the first packet went.
    Original,
    /// The other way.
    Reply,
}

/// How far a flow has come. The numbers lie in tables that outlive a process: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum State {
    /// TCP of which one side has spoken.
    TcpOpening = 1,
    /// TCP whose client has acknowledged an answer: its address is its own.
    TcpEstablished = 2,
    /// TCP that one side has ended.
    TcpClosing = 3,
    /// UDP of which one side has spoken.
    Udp = 4,
    /// UDP of which both sides have spoken.
    UdpStream = 5,
    /// TCP that was answered, and whose client has not acknowledged it: a forged source comes this
    /// far, so it may idle no longer than an unanswered one.
    TcpAnswered = 6,
    /// An echo request.
    IcmpEcho = 14,
}

impl State {
    /// How many numbers there are, 0 (no flow) included.
    pub const COUNT: usize = 15;

    /// The state with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::TcpOpening,
            2 => Self::TcpEstablished,
            3 => Self::TcpClosing,
            4 => Self::Udp,
            5 => Self::UdpStream,
            6 => Self::TcpAnswered,
            14 => Self::IcmpEcho,
            _ => return None,
        })
    }

    /// Whether flows of this protocol have this state.
    #[must_use]
    pub const fn is_of(self, protocol: Protocol) -> bool {
        match self {
            Self::TcpOpening | Self::TcpAnswered | Self::TcpEstablished | Self::TcpClosing => {
                protocol.0 == Protocol::TCP.0
            }
            Self::Udp | Self::UdpStream => protocol.0 == Protocol::UDP.0,
            Self::IcmpEcho => protocol.0 == Protocol::ICMP.0 || protocol.0 == Protocol::ICMPV6.0,
        }
    }

    /// The state of a flow that this packet begins; `None` where such a packet begins none: TCP
    /// begins with a SYN alone (RFC 9293 §3.5).
    #[must_use]
    pub const fn first(protocol: Protocol, flags: Flags) -> Option<Self> {
        match protocol {
            Protocol::TCP if is_bare_syn(flags) => Some(Self::TcpOpening),
            Protocol::UDP => Some(Self::Udp),
            Protocol::ICMP | Protocol::ICMPV6 => Some(Self::IcmpEcho),
            _ => None,
        }
    }

    /// The state after a packet of this direction.
    #[must_use]
    #[inline]
    pub const fn next(self, direction: Direction, flags: Flags) -> Self {
        match (self, direction) {
            (Self::TcpClosing, _) => self,
            (Self::TcpOpening | Self::TcpAnswered | Self::TcpEstablished, _) if flags.intersects(ENDING) => {
                Self::TcpClosing
            }
            (Self::TcpOpening, Direction::Reply) => Self::TcpAnswered,
            (Self::TcpAnswered, Direction::Original) if flags.contains(Flags::ACK) => Self::TcpEstablished,
            (Self::TcpAnswered, _) => self,
            (Self::Udp, Direction::Reply) => Self::UdpStream,
            (Self::TcpOpening | Self::Udp, Direction::Original)
            | (Self::TcpEstablished | Self::UdpStream | Self::IcmpEcho, _) => self,
        }
    }

    /// Whether this packet begins a new flow in place of one in this state: a SYN after the end
    /// (RFC 9293 §3.6.1 lets a connection be opened anew).
    #[must_use]
    #[inline]
    pub const fn is_reopened(self, direction: Direction, flags: Flags) -> bool {
        matches!((self, direction), (Self::TcpClosing, Direction::Original)) && is_bare_syn(flags)
    }
}

const fn is_bare_syn(flags: Flags) -> bool {
    flags.contains(Flags::SYN) && !flags.intersects(Flags::ACK.union(ENDING))
}

/// One tick of a flow's clock, in nanoseconds: 2²⁰, about a millisecond.
const TICK_SHIFT: u32 = 20;

/// The tick of a point in time. Ticks wrap after 52 days; only differences matter.
#[must_use]
#[inline]
pub(crate) const fn tick(now: crate::time::Instant) -> u32 {
    (now.0 >> TICK_SHIFT) as u32
}

/// Idle times in ticks, by the state's number.
pub(crate) const fn idle_ticks(timeouts: &Timeouts) -> [u32; State::COUNT] {
    const fn ticks(seconds: u32) -> u32 {
        let ticks = (seconds as u64 * 1_000_000_000) >> TICK_SHIFT;
        // Half the clock's range, so that a wrapped difference is never taken for a small one.
        if ticks > (u32::MAX / 2) as u64 { u32::MAX / 2 } else { ticks as u32 }
    }
    [
        0,
        ticks(timeouts.tcp_opening_seconds),
        ticks(timeouts.tcp_established_seconds),
        ticks(timeouts.tcp_closing_seconds),
        ticks(timeouts.udp_seconds),
        ticks(timeouts.udp_stream_seconds),
        ticks(timeouts.tcp_opening_seconds),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        ticks(timeouts.icmp_seconds),
    ]
}

#[cfg(test)]
mod tests {
    use super::Direction::{Original, Reply};
    use super::State::{TcpAnswered, TcpClosing, TcpEstablished, TcpOpening, Udp, UdpStream};
    use super::*;

    #[test]
    fn every_state_direction_and_kind_of_packet() {
        const SYN_ACK: Flags = Flags::SYN.union(Flags::ACK);
        const FIN_ACK: Flags = Flags::FIN.union(Flags::ACK);
        const PACKETS: [Flags; 5] = [Flags::SYN, SYN_ACK, Flags::ACK, FIN_ACK, Flags::RST];
        let tcp = [
            (TcpOpening, [TcpOpening, TcpOpening, TcpOpening], [TcpAnswered, TcpAnswered, TcpAnswered]),
            (TcpAnswered, [TcpAnswered, TcpEstablished, TcpEstablished], [TcpAnswered, TcpAnswered, TcpAnswered]),
            (TcpEstablished, [TcpEstablished; 3], [TcpEstablished; 3]),
            (TcpClosing, [TcpClosing; 3], [TcpClosing; 3]),
        ];
        for (state, original, reply) in tcp {
            for (index, flags) in PACKETS.into_iter().enumerate() {
                // FIN and RST end a connection wherever it stands.
                let expected = |row: [State; 3]| row.get(index).copied().unwrap_or(TcpClosing);
                assert_eq!(state.next(Original, flags), expected(original), "{state:?} original {flags:?}");
                assert_eq!(state.next(Reply, flags), expected(reply), "{state:?} reply {flags:?}");
            }
        }
        for (state, original, reply) in [(Udp, Udp, UdpStream), (UdpStream, UdpStream, UdpStream)] {
            assert_eq!((state.next(Original, Flags(0)), state.next(Reply, Flags(0))), (original, reply));
        }
        for state in [TcpOpening, TcpAnswered, TcpEstablished, TcpClosing, Udp, UdpStream] {
            assert_eq!(State::from_number(state as u8), Some(state));
        }
        assert_eq!((State::from_number(0), State::from_number(State::COUNT as u8)), (None, None));
    }

    #[test]
    fn a_forged_syn_that_a_pod_answers_may_idle_no_longer_than_an_unanswered_one() {
        let idle = idle_ticks(&Timeouts::default());
        let answered = TcpOpening.next(Reply, Flags::SYN.union(Flags::ACK));
        assert_eq!(idle[answered as usize], idle[TcpOpening as usize]);
        assert!(idle[answered.next(Original, Flags::ACK) as usize] > idle[answered as usize]);
    }

    #[test]
    fn rfc9293_s3_5_only_a_bare_syn_begins_a_flow() {
        for flags in (0..=0x3f).map(Flags) {
            let bare = flags.0 & 0x17 == 0x02;
            assert_eq!(State::first(Protocol::TCP, flags), bare.then_some(TcpOpening), "{flags:?}");
            assert_eq!(TcpClosing.is_reopened(Original, flags), bare);
            assert!(!TcpEstablished.is_reopened(Original, flags) && !TcpClosing.is_reopened(Reply, flags));
        }
        assert_eq!(State::first(Protocol::UDP, Flags(0)), Some(Udp));
        assert_eq!(State::first(Protocol::ICMP, Flags(0)), Some(State::IcmpEcho));
    }

    #[test]
    fn no_timeout_outgrows_the_clock() {
        let timeouts = Timeouts { tcp_established_seconds: u32::MAX, ..Timeouts::default() };
        assert_eq!(idle_ticks(&timeouts)[TcpEstablished as usize], u32::MAX / 2);
        assert_eq!(idle_ticks(&timeouts)[Udp as usize], 114_440);
    }
}
