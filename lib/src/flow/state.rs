//! How far a flow has come: one table of transitions; how long it may idle, as data.

mod transitions;

use super::Timeouts;
use crate::net::Protocol;
use crate::time::ticks;
use crate::wire::tcp::Flags;

pub(crate) use transitions::{Step, are_legal, step};

/// The way a packet goes, seen from the flow's first packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// As the first packet went.
    Original,
    /// The other way.
    Reply,
}

impl Direction {
    /// That of the answer.
    #[must_use]
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

macro_rules! states {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// How far a flow has come. The numbers lie in tables that outlive a process: never reuse one
        /// (3 was a TCP connection in any state after its first FIN or RST, 7 one after a FIN of either side, 8 one
        /// after its acknowledgement, 11 one after a RST that was believed outright).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum State { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl State {
            /// Every state.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The state with this number.
            #[must_use]
            #[inline]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The name by which `conntrack` calls this state; the empty one for a protocol that it
            /// tells no states of.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

states! {
    /// TCP whose client has sent a SYN.
    TcpSynSent = 1, "SYN_SENT";
    /// TCP whose client has acknowledged the answer to its SYN: its address is its own.
    TcpEstablished = 2, "ESTABLISHED";
    /// UDP of which one side has spoken.
    Udp = 4, "";
    /// UDP that was answered, and whose client has spoken again.
    UdpStream = 5, "";
    /// TCP whose SYN was answered. A forged source comes this far.
    TcpSynReceived = 6, "SYN_RECV";
    /// TCP of which both sides have sent a FIN.
    TcpLastAck = 9, "LAST_ACK";
    /// TCP that has ended on both sides.
    TcpTimeWait = 10, "TIME_WAIT";
    /// TCP that both sides have begun with a SYN.
    TcpSynSent2 = 12, "SYN_SENT2";
    /// UDP that was answered, and whose client has not spoken since.
    UdpAnswered = 13, "";
    /// An echo request.
    IcmpEcho = 14, "";
    /// An echo request that was answered.
    IcmpEchoAnswered = 15, "";
    /// SCTP whose client has sent INIT.
    SctpCookieWait = 16, "COOKIE_WAIT";
    /// SCTP whose client has sent its cookie back: its address is its own.
    SctpCookieEchoed = 17, "COOKIE_ECHOED";
    /// SCTP while open.
    SctpEstablished = 18, "ESTABLISHED";
    /// SCTP that the client shuts down.
    SctpShutdownSent = 19, "SHUTDOWN_SENT";
    /// SCTP that the server shuts down.
    SctpShutdownReceived = 20, "SHUTDOWN_RECD";
    /// SCTP whose shutdown was acknowledged.
    SctpShutdownAckSent = 21, "SHUTDOWN_ACK_SENT";
    /// SCTP that has ended.
    SctpClosed = 22, "CLOSED";
    /// TCP that somebody has reset. Whether the two ends believe it, what both say next shows.
    TcpReset = 23, "RESET";
    /// TCP with a FIN in its client's name, which the other side has not acknowledged.
    TcpFinWaitOriginal = 24, "FIN_WAIT";
    /// TCP with a FIN of the server, which the client has not acknowledged.
    TcpFinWaitReply = 25, "FIN_WAIT";
    /// TCP that is closed from its client's side: its FIN was acknowledged.
    TcpCloseWaitOriginal = 26, "CLOSE_WAIT";
    /// TCP that is closed from the server's side.
    TcpCloseWaitReply = 27, "CLOSE_WAIT";
    /// TCP that somebody has reset, and whose client's side has spoken since.
    TcpResetOriginal = 28, "RESET";
    /// TCP that somebody has reset, and whose server has spoken since.
    TcpResetReply = 29, "RESET";
}

/// The bit beside a state's number that says the flow is assured: its client has shown that it
/// receives what is sent to its address.
pub(crate) const ASSURED: u8 = 0x20;

/// The bits of a state's number.
const NUMBER: u8 = 0x1f;

impl State {
    /// How many numbers there can be, 0 (no flow) included.
    pub const COUNT: usize = NUMBER as usize + 1;

    /// The state whose number, perhaps with [`ASSURED`] beside it, this is.
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        Self::from_number(byte & !ASSURED)
    }

    /// Whether flows of this protocol have this state.
    #[must_use]
    pub const fn is_of(self, protocol: Protocol) -> bool {
        match self {
            Self::Udp | Self::UdpAnswered | Self::UdpStream => protocol.0 == Protocol::UDP.0,
            Self::IcmpEcho | Self::IcmpEchoAnswered => {
                protocol.0 == Protocol::ICMP.0 || protocol.0 == Protocol::ICMPV6.0
            }
            Self::SctpCookieWait
            | Self::SctpCookieEchoed
            | Self::SctpEstablished
            | Self::SctpShutdownSent
            | Self::SctpShutdownReceived
            | Self::SctpShutdownAckSent
            | Self::SctpClosed => protocol.0 == Protocol::SCTP.0,
            _ => protocol.0 == Protocol::TCP.0,
        }
    }

    /// The state of a flow that this packet begins; `None` where such a packet begins none: TCP
    /// begins with a SYN alone (RFC 9293 §3.5), SCTP with INIT (RFC 9260 §5.1). Of ICMP, ask for
    /// echo requests alone.
    ///
    /// `flags`: for SCTP the type of the first chunk, see [`Flags::of_chunk`].
    #[must_use]
    pub const fn first(protocol: Protocol, flags: Flags) -> Option<Self> {
        match protocol {
            Protocol::TCP if transitions::is_bare_syn(flags) => Some(Self::TcpSynSent),
            Protocol::UDP => Some(Self::Udp),
            Protocol::ICMP | Protocol::ICMPV6 => Some(Self::IcmpEcho),
            Protocol::SCTP if flags.0 == transitions::chunk::INIT => Some(Self::SctpCookieWait),
            _ => None,
        }
    }

    /// Whether a flow in this state can be assured or not, as asked.
    pub(crate) const fn can_be(self, assured: bool) -> bool {
        match self {
            Self::TcpEstablished
            | Self::TcpFinWaitOriginal
            | Self::TcpCloseWaitOriginal
            | Self::TcpCloseWaitReply
            | Self::TcpLastAck
            | Self::TcpTimeWait
            | Self::TcpReset
            | Self::TcpResetOriginal
            | Self::TcpResetReply
            | Self::UdpStream
            | Self::SctpEstablished => assured,
            Self::TcpSynSent
            | Self::TcpSynReceived
            | Self::TcpSynSent2
            | Self::Udp
            | Self::UdpAnswered
            | Self::IcmpEcho
            | Self::IcmpEchoAnswered
            | Self::SctpCookieWait
            | Self::SctpCookieEchoed => !assured,
            _ => true,
        }
    }

    /// The eviction class of a flow in this state; `None`: it is never evicted,
    /// as long as it has not idled too long.
    ///
    /// A connection of which one side has sent its FIN is open the other way, and what was sent
    /// before both FINs may have to be sent again: once assured, it counts as live until the last of
    /// them is acknowledged.
    #[must_use]
    pub(crate) const fn worth(self, assured: bool) -> Option<Worth> {
        Some(match self {
            Self::TcpSynSent
            | Self::TcpSynSent2
            | Self::TcpSynReceived
            | Self::SctpCookieWait
            | Self::SctpCookieEchoed => Worth::HalfOpen,
            Self::Udp | Self::IcmpEcho => Worth::OneWay,
            Self::UdpStream => Worth::Stream,
            Self::TcpTimeWait
            | Self::TcpReset
            | Self::TcpResetOriginal
            | Self::TcpResetReply
            | Self::SctpShutdownAckSent
            | Self::SctpClosed => Worth::Closing,
            _ if assured => return None,
            Self::TcpFinWaitReply => Worth::Closing,
            _ => Worth::Unassured,
        })
    }
}

impl State {
    /// Whether this is a handshake that is not finished.
    pub(crate) const fn is_half_open(self) -> bool {
        matches!(self.worth(false), Some(Worth::HalfOpen))
    }
}

/// The eviction class of a flow: which ones go first where there is no room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(usize)]
pub(crate) enum Worth {
    /// A handshake that is not finished: whoever began it may have used another's address.
    HalfOpen,
    /// UDP or an echo request that nobody has answered.
    OneWay,
    /// A connection that has ended, or that ends and was never assured.
    Closing,
    /// Answered, but never assured.
    Unassured,
    /// UDP that goes back and forth. Nothing in it shows that the client receives what it is sent.
    Stream,
}

impl Worth {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Stream as usize + 1;

    /// Every class, in the order of eviction.
    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::HalfOpen, Self::OneWay, Self::Closing, Self::Unassured, Self::Stream];

    /// The class of a flow whose state's byte this is; `None` where it is never evicted.
    pub(crate) const fn of(byte: u8) -> Option<Self> {
        match State::from_number(byte & NUMBER) {
            Some(state) => state.worth(byte & ASSURED != 0),
            None => None,
        }
    }

    /// As [`of`](Self::of), as a number.
    const fn index_of(byte: u8) -> usize {
        match Self::of(byte) {
            Some(worth) => worth as usize,
            None => Self::COUNT,
        }
    }
}

impl Flags {
    /// The type of an SCTP packet's first chunk, in the place of TCP's flags. Types that the
    /// transitions do not know are one.
    #[must_use]
    pub const fn of_chunk(kind: u8) -> Self {
        Self(if kind < transitions::OTHER_CHUNK { kind } else { transitions::OTHER_CHUNK })
    }
}

/// How long a flow may idle, in ticks of 2²⁰ nanoseconds, by its state's number.
pub type IdleTicks = [u32; State::COUNT];

/// Idle times in ticks.
#[must_use]
pub const fn idle_ticks(timeouts: &Timeouts) -> IdleTicks {
    let mut idle = [0; State::COUNT];
    let mut index = 0;
    while index < State::ALL.len() {
        let state = State::ALL[index];
        let seconds = match state {
            State::TcpSynSent => timeouts.tcp_syn_sent_seconds,
            State::TcpSynReceived => timeouts.tcp_syn_received_seconds,
            State::TcpEstablished => timeouts.tcp_established_seconds,
            State::TcpFinWaitOriginal | State::TcpFinWaitReply => timeouts.fin_wait_seconds(),
            State::TcpCloseWaitOriginal | State::TcpCloseWaitReply => timeouts.tcp_close_wait_seconds,
            State::TcpLastAck => timeouts.tcp_last_ack_seconds,
            State::TcpTimeWait => timeouts.tcp_time_wait_seconds,
            State::TcpReset | State::TcpResetOriginal | State::TcpResetReply => timeouts.tcp_reset_seconds,
            State::TcpSynSent2 => timeouts.tcp_syn_sent2_seconds,
            State::Udp | State::UdpAnswered => timeouts.udp_seconds,
            State::UdpStream => timeouts.udp_stream_seconds,
            State::IcmpEcho | State::IcmpEchoAnswered => timeouts.icmp_seconds,
            State::SctpCookieWait => timeouts.sctp_cookie_wait_seconds,
            State::SctpCookieEchoed => timeouts.sctp_cookie_echoed_seconds,
            State::SctpEstablished => timeouts.sctp_established_seconds,
            State::SctpShutdownSent => timeouts.sctp_shutdown_sent_seconds,
            State::SctpShutdownReceived => timeouts.sctp_shutdown_received_seconds,
            State::SctpShutdownAckSent => timeouts.sctp_shutdown_ack_sent_seconds,
            State::SctpClosed => timeouts.sctp_closed_seconds,
        };
        idle[state as usize] = ticks(seconds);
        index += 1;
    }
    idle
}

#[cfg(test)]
mod tests;
