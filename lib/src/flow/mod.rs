//! Flows: what the gateway remembers of a conversation, found by the tuple of either direction.
//!
//! # Examples
//!
//! A table by itself, as a firewall would use it, that translates nothing:
//!
//! ```
//! use weirgate::flow::{Age, Direction, State, Table, Timeouts, Tracked, Tuple, idle_ticks};
//! use weirgate::net::Protocol;
//! use weirgate::time::Instant;
//! use weirgate::wire::tcp::Flags;
//!
//! // Memory is the caller's, once, at a multiple of 64.
//! let mut memory = vec![0_u8; Table::<[u8; 4]>::memory_bytes(1024) + 64];
//! let start = memory.as_ptr().align_offset(64);
//! let mut flows = Table::<[u8; 4]>::new(1024, [1, 2, 3, 4], &mut memory[start..])?;
//! let idle = idle_ticks(&Timeouts::default());
//! let at = |seconds| Age::new(Instant::from_secs(seconds), &idle);
//!
//! // A client's SYN begins a flow. Addresses and ports are in wire order.
//! let client = Tuple { source: [192, 0, 2, 7], destination: [203, 0, 113, 9], source_port: [0x9c, 0x40], destination_port: [0, 80] };
//! let state = State::first(Protocol::TCP, Flags::SYN).expect("a SYN begins one");
//! flows.begin(client, client.inverted(), Protocol::TCP, state, at(0))?;
//!
//! // The answer finds it by its own tuple.
//! let answer = client.inverted();
//! let found = flows.lookup(flows.hash(&answer, Protocol::TCP), &answer, Protocol::TCP).expect("the flow");
//! assert_eq!(found.direction, Direction::Reply);
//! let syn_ack = Flags(Flags::SYN.0 | Flags::ACK.0);
//! assert_eq!(flows.track(found, syn_ack, at(1)), Tracked::Follows(State::TcpSynReceived));
//!
//! // Nobody finishes the handshake: a minute later the flow is forgotten.
//! assert_eq!(flows.forget_idle(at(62), flows.capacity()), 1);
//! assert!(flows.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod event;
pub(crate) mod raw;
mod sealed;
mod state;
mod table;
mod tables;
mod timeouts;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hash::HashKey;
use crate::net::{Endpoint, Origin, Protocol};
use crate::time::{Instant, Span, span};

pub(crate) use crate::time::tick;
pub use event::{Flow, FlowEnd, FlowEvent};
pub(crate) use state::{ASSURED, Step, Worth, are_legal, step};
pub use state::{Direction, IdleTicks, State, idle_ticks};
pub(crate) use table::NONE as NO_ENTRY;
pub use table::{Adopted, Age, AttachError, CAPACITY_MAX, Found, InsertError, Owner, Table, TableError, Tracked};
pub use tables::Tables;
pub use timeouts::Timeouts;

/// A network address in wire order: `[u8; 4]` or `[u8; 16]`.
pub trait Address: Copy + Eq + core::fmt::Debug + sealed::Sealed + 'static {
    /// A vacant entry.
    const VACANT: Entry<Self>;

    /// Hashes a tuple of this family.
    fn hash(key: &HashKey, tuple: &Tuple<Self>, protocol: Protocol) -> u64;

    /// The address in the standard library's form.
    fn to_ip(self) -> IpAddr;

    /// What stands for whoever has the address outside: itself, or the first of its /64.
    #[must_use]
    fn site(self) -> Self;

    /// The address in sixteen bytes, IPv4 in mapped form (RFC 4291 §2.5.5.2).
    fn mapped(self) -> [u8; 16];

    /// The address from such bytes.
    fn unmapped(bytes: [u8; 16]) -> Self;
}

impl Address for [u8; 4] {
    const VACANT: Entry<Self> = Entry::vacant([0; 4]);

    #[inline(always)]
    fn hash(key: &HashKey, tuple: &Tuple<Self>, protocol: Protocol) -> u64 {
        key.tuple_v4(tuple.source, tuple.destination, tuple.source_port, tuple.destination_port, protocol)
    }

    fn to_ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self))
    }

    fn site(self) -> Self {
        self
    }

    #[inline]
    fn mapped(self) -> [u8; 16] {
        let [a, b, c, d] = self;
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
    }

    #[inline]
    fn unmapped(bytes: [u8; 16]) -> Self {
        let [.., a, b, c, d] = bytes;
        [a, b, c, d]
    }
}

impl Address for [u8; 16] {
    const VACANT: Entry<Self> = Entry::vacant([0; 16]);

    #[inline(always)]
    fn hash(key: &HashKey, tuple: &Tuple<Self>, protocol: Protocol) -> u64 {
        key.tuple_v6(tuple.source, tuple.destination, tuple.source_port, tuple.destination_port, protocol)
    }

    fn to_ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self))
    }

    fn site(self) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = self;
        [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    #[inline]
    fn mapped(self) -> [u8; 16] {
        self
    }

    #[inline]
    fn unmapped(bytes: [u8; 16]) -> Self {
        bytes
    }
}

/// Who sends to whom, in wire order. The protocol stands beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Tuple<A> {
    /// The sender's address.
    pub source: A,
    /// The receiver's address.
    pub destination: A,
    /// The sender's port.
    pub source_port: [u8; 2],
    /// The receiver's port.
    pub destination_port: [u8; 2],
}

impl<A: Copy> Tuple<A> {
    /// Both ports, the sender's first.
    #[inline(always)]
    pub(crate) const fn ports(&self) -> [u8; 4] {
        let (source, destination) = (u16::from_le_bytes(self.source_port), u16::from_le_bytes(self.destination_port));
        (source as u32 | (destination as u32) << 16).to_le_bytes()
    }

    /// The tuple of an answer.
    #[must_use]
    #[inline]
    pub const fn inverted(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// Packets and bytes of a flow, by direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FlowTraffic {
    /// Packets of the original and of the reply direction.
    pub packets: [u64; 2],
    /// Their bytes, as IP packets on the client's side.
    pub bytes: [u64; 2],
}

impl FlowTraffic {
    const NONE: Self = Self { packets: [0; 2], bytes: [0; 2] };
}

/// One flow, both directions. Plain data; all zeroes is vacant.
///
/// A packet of the original direction carries `original` and leaves as the inverse of `reply`; a
/// packet of the reply direction carries `reply` and leaves as the inverse of `original`.
#[derive(Clone, Copy, Debug)]
///
/// So aligned, an IPv4 entry begins at a cache line or in its middle and takes two of them, an IPv6 entry
/// three, wherever it begins: as many as it has bytes for.
#[repr(C, align(16))]
pub struct Entry<A: Address> {
    /// The tuple before translation, as the client sends it.
    pub original: Tuple<A>,
    /// The tuple of the backend's answers, before they are translated back.
    pub reply: Tuple<A>,
    /// The transport protocol.
    pub protocol: u8,
    /// The number of the flow's [`State`], and whether it is [`ASSURED`]; 0 is no flow.
    pub(crate) state: u8,
    /// The port that the client's packets come in on.
    pub(crate) port: u8,
    /// The number of the flow's [`Mode`].
    pub(crate) mode: u8,
    /// The tick of the last packet; in a vacant entry, the next vacant one.
    pub(crate) seen: u32,
    /// Where on that port's link the client's packets come from.
    pub(crate) origin: Origin,
    /// The service's number.
    pub(crate) service: u32,
    /// The overlay hop to the backend, as of `generation`.
    pub(crate) hop: SnapshotIndex,
    /// The neighbour towards whom is outside, or of a hairpin the next hop back to the pod, as of `generation`.
    pub(crate) neighbour: SnapshotIndex,
    /// The snapshot that `hop` and `neighbour` belong to.
    pub(crate) generation: u32,
    /// In a flow that may be evicted, the one before it and the one behind it in its queue; see
    /// [`spare`](Self::spare).
    queued: [u32; 2],
    /// What shows that a packet is of one of the two ends: of SCTP what `pipeline::sctp` keeps of both
    /// verification tags, of TCP the number that a client has to acknowledge before its flow is assured.
    pub(crate) expected: u32,
    /// What it has carried.
    pub traffic: FlowTraffic,
}

/// Who begins a flow, for whom. The numbers lie in tables that outlive a process: never
/// reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Mode {
    /// A client outside, for a backend inside.
    Inward = 0,
    /// A pod, for somebody outside.
    Outward = 1,
    /// A pod, for a backend inside, by way of a service.
    Hairpin = 2,
}

impl Mode {
    /// The mode with this number; every other number is that of the first.
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Outward,
            2 => Self::Hairpin,
            _ => Self::Inward,
        }
    }
}

/// Where a record lies in a section of a snapshot, for a flow to remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct SnapshotIndex(u16);

impl SnapshotIndex {
    /// Of a record that has to be looked up.
    pub(crate) const NONE: Self = Self(0);

    /// The place at this index. Those past the first 65 535 are looked up each time.
    pub(crate) fn at(index: u32) -> Self {
        Self(index.checked_add(1).and_then(|place| u16::try_from(place).ok()).unwrap_or(0))
    }

    /// The index, which is in no section for a record that has to be looked up.
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        (self.0 as usize).wrapping_sub(1)
    }
}

/// The number of no service: one that the snapshot no longer has.
pub(crate) const NO_SERVICE: u32 = u32::MAX;

/// The bytes of the fields that are the same in both families.
const COMMON: usize = 4 + 4 + 8 + 4 + 4 + 4 + 8 + 4 + size_of::<FlowTraffic>();
const _: () = assert!(size_of::<Entry<[u8; 4]>>() == 96 && 2 * size_of::<Tuple<[u8; 4]>>() + COMMON == 96);
const _: () = assert!(size_of::<Entry<[u8; 16]>>() == 144 && 2 * size_of::<Tuple<[u8; 16]>>() + COMMON == 144);

impl<A: Address> Entry<A> {
    const fn vacant(address: A) -> Self {
        let none = Tuple { source: address, destination: address, source_port: [0; 2], destination_port: [0; 2] };
        Self {
            original: none,
            reply: none,
            protocol: 0,
            state: 0,
            port: 0,
            mode: 0,
            seen: 0,
            origin: Origin::NONE,
            service: 0,
            hop: SnapshotIndex::NONE,
            neighbour: SnapshotIndex::NONE,
            generation: 0,
            queued: [0; 2],
            expected: 0,
            traffic: FlowTraffic::NONE,
        }
    }

    /// How far the flow has come; `None` for a vacant entry.
    #[must_use]
    #[inline]
    pub const fn state(&self) -> Option<State> {
        State::from_number(self.state & !ASSURED)
    }

    /// Whether the client has shown that it receives what is sent to its address. An assured flow
    /// is never evicted.
    #[must_use]
    pub const fn is_assured(&self) -> bool {
        self.state & ASSURED != 0
    }

    /// Who began the flow, for whom.
    pub(crate) const fn mode(&self) -> Mode {
        Mode::from_number(self.mode)
    }

    /// The service's number, as of the flow's last packet; `None` where the flow is not a service's, or the snapshot has
    /// the service no longer, and before the first packet of a flow that was adopted.
    #[must_use]
    pub const fn service(&self) -> Option<u32> {
        if self.service == NO_SERVICE { None } else { Some(self.service) }
    }

    /// The backend that the service's selector gave the flow; `None` where a pod began it to somebody outside.
    #[must_use]
    pub fn backend(&self) -> Option<Endpoint> {
        let (address, port) = (self.reply.source.to_ip(), u16::from_be_bytes(self.reply.source_port));
        (self.mode != Mode::Outward as u8).then_some(Endpoint { address, port })
    }

    /// Room for two numbers in a flow that is never evicted, which stands in no queue; `None` in any other. What
    /// is there when a flow becomes one means nothing.
    pub(crate) const fn spare(&mut self) -> Option<&mut [u32; 2]> {
        if Worth::of(self.state).is_none() { Some(&mut self.queued) } else { None }
    }

    /// Forgets what is remembered of another snapshot than this one.
    pub(crate) fn renew(&mut self, generation: u32) {
        if self.generation != generation {
            (self.hop, self.neighbour, self.generation) = (SnapshotIndex::NONE, SnapshotIndex::NONE, generation);
        }
    }

    /// How long the flow is still remembered if no packet comes.
    #[must_use]
    pub fn idle_left(&self, idle: &IdleTicks, now: Instant) -> Span {
        let idle = idle.get(usize::from(self.state & !ASSURED)).copied().unwrap_or(0);
        span(idle.saturating_sub(u32::try_from(self.idled(tick(now))).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_its_service() {
        assert_eq!(Entry { service: 7, ..<[u8; 4]>::VACANT }.service(), Some(7));
        assert_eq!(Entry { service: NO_SERVICE, ..<[u8; 4]>::VACANT }.service(), None);
    }

    #[test]
    fn an_entry_names_its_backend() {
        let vacant = <[u8; 4]>::VACANT;
        let reply = Tuple { source: [10, 77, 1, 10], source_port: [0x1f, 0x90], ..vacant.reply };
        let backend = |mode: Mode| Entry { reply, mode: mode as u8, ..vacant }.backend();
        let named = Some(Endpoint { address: IpAddr::from([10, 77, 1, 10]), port: 8080 });
        assert_eq!([Mode::Inward, Mode::Hairpin, Mode::Outward].map(backend), [named, named, None]);
    }

    #[test]
    fn a_place_is_the_index_or_in_no_section() {
        for index in [0, 1, 65_533, 65_534] {
            assert_eq!(SnapshotIndex::at(index).index(), index as usize);
        }
        for index in [65_535, 65_536, u32::MAX] {
            assert_eq!(SnapshotIndex::at(index), SnapshotIndex::NONE);
        }
        assert_eq!(SnapshotIndex::NONE.index(), usize::MAX);
    }
}
