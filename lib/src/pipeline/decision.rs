//! What a deciding file returns, for `carry_out` to do. Whoever decides writes no packet and moves no
//! flow's state. It may ask limits, draw a port, forget a flow that cannot go on, and note that a flow is valid under this snapshot.

use core::net::IpAddr;

use super::egress::Egress;
use super::report::Report;
use crate::flow::{Direction, Found, Mode, SnapshotIndex, State, Tuple};
use crate::net::{Endpoint, WorkerId};
use crate::wire::Dscp;
use crate::wire::quote::Quote;

/// What becomes of a packet.
pub(super) enum Decision<'s, A> {
    /// It goes on, translated.
    Forward(Forward<'s, A>),
    /// It is a ping, or a later fragment of one, and the gateway answers it.
    Answer(Answer<'s>),
    /// An ICMP error about it goes back to its sender.
    Report(Report),
    /// A TCP reset goes back to its sender.
    Reset,
    /// It is an ICMP error about a flow's packet, and goes on as it reads on the other side.
    ForwardError(ForwardError<'s, A>),
    /// Another worker decides.
    Handover(WorkerId),
    /// It is the host's.
    Host,
    /// It waits.
    Hold(Hold),
}

/// How a packet goes on.
pub(super) struct Forward<'s, A> {
    /// The source and destination that it leaves with.
    pub(super) to: Tuple<A>,
    pub(super) egress: Egress<'s>,
    pub(super) rewrite: Rewrite,
    pub(super) flow: FlowChange,
}

/// What is rewritten beside addresses and ports.
#[derive(Clone, Copy, Default)]
pub(super) struct Rewrite {
    /// The most that the maximum segment size may announce.
    pub(super) mss: Option<u16>,
    pub(super) dscp: Option<Dscp>,
    /// The identification of an IPv4 fragment's datagram.
    pub(super) identification: Option<u16>,
    /// Of the first fragment of an SCTP packet, bytes of the whole: its checksum depends on them.
    pub(super) whole_len: u16,
}

/// What becomes of the packet's flow.
pub(super) enum FlowChange {
    /// It begins.
    Begin(Beginning),
    /// It goes on.
    Update(Update),
    /// There is none, and the packet goes on without. A flow that has `ended` goes.
    Stateless { direction: Direction, ended: Option<u32> },
}

/// What is left to do of a [`Forward`] once its flow is there and everything beside addresses and ports is rewritten.
pub(super) struct Onward<'s, A> {
    pub(super) to: Tuple<A>,
    pub(super) egress: Egress<'s>,
    pub(super) whole_len: u16,
    pub(super) counted: Counted,
}

/// Who counts a packet that goes on.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    /// Its flow, which it changes.
    Flow(Update),
    /// Its service alone.
    Stateless(Direction),
}

/// A flow that begins, with the packet's tuple for its original one, and the inverse of what the packet leaves with
/// for its reply tuple. No flow has either.
pub(super) struct Beginning {
    /// The hash of the reply tuple.
    pub(super) hash: u64,
    pub(super) state: State,
    pub(super) mode: Mode,
    pub(super) service: u32,
    /// Whether its packets are tunnelled, and so come from no client's link.
    pub(super) is_tunnelled: bool,
    pub(super) next_hop: SnapshotIndex,
    /// The SCTP tags that are known.
    pub(super) tags: u32,
    /// The flow that the packet's tuple has already, whose connection has ended. It goes when the new one is there,
    /// and stays as it is where none begins.
    pub(super) ended: Option<u32>,
}

/// What a packet changes in its flow.
#[derive(Clone, Copy)]
pub(super) struct Update {
    pub(super) found: Found,
    /// The next state's byte.
    pub(super) state: u8,
    /// Whether the idle timeout begins anew.
    pub(super) refreshes: bool,
    /// Whether the state may be of another eviction class than the last.
    pub(super) requeues: bool,
    /// Whether the flow ends with this packet.
    pub(super) ends: bool,
    /// The next expected acknowledgement, or SCTP tags.
    pub(super) expected: Option<u32>,
    /// What is kept where the entry has [room](crate::flow::Entry::spare).
    pub(super) spare: Option<[u32; 2]>,
    pub(super) learnt: Learnt,
}

impl Update {
    /// The packet leaves the flow's state and idle time as they are.
    pub(super) const fn none(found: Found, state: u8) -> Self {
        Self {
            found,
            state,
            refreshes: false,
            requeues: true,
            ends: false,
            expected: None,
            spare: None,
            learnt: Learnt::NOTHING,
        }
    }

    /// The packet puts the flow in this state.
    pub(super) const fn to(found: Found, state: u8) -> Self {
        Self { refreshes: true, ..Self::none(found, state) }
    }
}

/// What a flow remembers of a packet, and of the snapshot that it went on under.
#[derive(Clone, Copy)]
pub(super) struct Learnt {
    /// Whether the frame has come from where its client's come from.
    pub(super) client: bool,
    pub(super) next_hop: Option<SnapshotIndex>,
    pub(super) neighbour: Option<SnapshotIndex>,
}

/// How a ping is answered.
pub(super) struct Answer<'s> {
    pub(super) egress: Egress<'s>,
    /// The identification of an IPv4 fragment's datagram.
    pub(super) identification: Option<u16>,
}

impl Learnt {
    pub(super) const NOTHING: Self = Self { client: false, next_hop: None, neighbour: None };
}

/// Somebody's ICMP error about a flow's packet.
pub(super) struct ForwardError<'s, A> {
    pub(super) quote: Quote<A>,
    /// What the quoted packet is on the other side.
    pub(super) quoted: Tuple<A>,
    pub(super) source: A,
    pub(super) destination: A,
    pub(super) egress: Egress<'s>,
}

/// A fragment that waits in its datagram's entry in the log of fragments.
#[derive(Clone, Copy)]
pub(super) enum Hold {
    /// For the first one, or for spare frames.
    Later(u32),
    /// As [`Later`](Self::Later), and with it the datagram may be whole.
    Completing(u32),
    /// The first one, for all others.
    First(u32),
}

/// An address and a port, for an observer.
#[inline]
pub(super) fn endpoint(address: IpAddr, port: [u8; 2]) -> Endpoint {
    Endpoint { address, port: u16::from_be_bytes(port) }
}
