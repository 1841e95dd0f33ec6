//! What is known of one datagram, and of one fragment.

use core::fmt;
use core::net::Ipv4Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::log::NONE;
use crate::net::{PortId, Protocol};

/// What makes fragments those of one datagram (RFC 791 §3.2, RFC 8200 §4.5), IPv4 addresses mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Key {
    /// Who sends it.
    pub source: [u8; 16],
    /// Who receives it.
    pub destination: [u8; 16],
    /// The identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// IPv4's; 0 for IPv6, where it is not of the key.
    pub protocol: u8,
    /// By which ingress the fragments come: what one sends over the overlay, nobody outside completes.
    pub way: u8,
    pub(crate) reserved: [u8; 2],
}

impl Key {
    /// Of IPv4: addresses in wire order, and the identification of the header.
    #[must_use]
    pub fn v4(source: [u8; 4], destination: [u8; 4], id: u16, protocol: Protocol) -> Self {
        let [source, destination] = [source, destination].map(|it| Ipv4Addr::from(it).to_ipv6_mapped().octets());
        Self { source, destination, id: id.into(), protocol: protocol.0, way: 0, reserved: [0; 2] }
    }

    /// Of IPv6: addresses in wire order, and the identification of the fragment header.
    #[must_use]
    pub const fn v6(source: [u8; 16], destination: [u8; 16], id: u32) -> Self {
        Self { source, destination, id, protocol: 0, way: 0, reserved: [0; 2] }
    }
}

/// What has been decided about a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nothing: the first fragment has not come.
    Waiting,
    /// Nothing: the first fragment has come, and waits in front of the others for the last.
    Headed,
    /// Nothing: the first fragment has waited, and can decide now.
    Whole,
    /// It is translated, as its ports say.
    Forwarded,
    /// It is a ping of the gateway itself, which is answered.
    Answered,
    /// It is the host's.
    Host,
    /// It is this worker's to carry.
    Handed(u8),
    /// This worker is asked next whether it is its own; it may come back here.
    Asked(u8),
    /// It is dropped.
    Refused,
}

/// What the first fragment said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct First {
    /// The sender's port, in wire order.
    pub source_port: [u8; 2],
    /// The receiver's port, in wire order.
    pub destination_port: [u8; 2],
    /// The upper layer, which an IPv6 fragment itself may not name.
    pub protocol: u8,
    /// The identification that the fragments are sent on with, in IPv4.
    pub id: u16,
}

/// Where a fragment lies in its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// In bytes, a multiple of eight.
    pub offset: u16,
    /// In bytes, not 0.
    pub len: u16,
    /// Whether others follow.
    pub more: bool,
}

/// What is wrong with a fragment beside those that came before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clash {
    /// It has been here before.
    Repeated,
    /// It overlaps another (RFC 5722 §4 for IPv6; in IPv4 only attacks do, RFC 1858 §4).
    Overlap,
    /// It says another length of the datagram than one before.
    Length,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repeated => "the fragment has been here before",
            Self::Overlap => "the fragment overlaps another",
            Self::Length => "the fragment says another length of its datagram than one before",
        })
    }
}

impl core::error::Error for Clash {}

/// Fragments that waited in vain, by the reason, since this was last asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// Their first fragment has not come in time.
    pub expired: u32,
    /// They made room for others.
    pub displaced: u32,
    /// Another fragment of their datagram was refused.
    pub refused: u32,
}

/// A fragment that has waited and can leave now.
#[derive(Clone, Copy, Debug)]
pub struct Released<'f> {
    /// The index of its datagram.
    pub index: u32,
    /// The bytes that [`hold`](super::Fragments::hold) was given.
    pub frame: &'f [u8],
    /// The port that it came in on.
    pub port: PortId,
    /// How many workers have handed it over.
    pub handovers: u8,
    /// What has been decided about its datagram.
    pub fate: Fate,
    /// What the first fragment said.
    pub first: First,
}

/// One datagram. All zeroes is a vacant place.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Datagram {
    pub(super) key: Key,
    /// The tick of its last fragment; while waiting, of the earliest.
    pub(super) seen: u32,
    /// Bytes of the whole, 0 while unknown.
    pub(super) total: u32,
    /// Where the fragment nearest to the end ends.
    pub(super) reach: u32,
    /// Bytes seen so far.
    pub(super) received: u32,
    /// Its earliest and latest fragment in the log.
    pub(super) held_first: u32,
    pub(super) held_last: u32,
    /// The next datagram of which fragments can leave.
    pub(super) next_ready: u32,
    pub(super) source_port: [u8; 2],
    pub(super) destination_port: [u8; 2],
    pub(super) id: u16,
    pub(super) protocol: u8,
    pub(super) fate: u8,
    pub(super) worker: u8,
    /// Whether it is in the list of those of which fragments can leave, whoever has the place by now.
    pub(super) is_queued: u8,
    /// Whether fragments that have been here may come back, so that it is not over with the last one.
    pub(super) lingers: u8,
    pub(super) reserved: u8,
}

impl Datagram {
    pub(super) const VACANT: Self = Self {
        key: Key { source: [0; 16], destination: [0; 16], id: 0, protocol: 0, way: 0, reserved: [0; 2] },
        seen: 0,
        total: 0,
        reach: 0,
        received: 0,
        held_first: NONE,
        held_last: NONE,
        next_ready: NONE,
        source_port: [0; 2],
        destination_port: [0; 2],
        id: 0,
        protocol: 0,
        fate: 0,
        worker: 0,
        is_queued: 0,
        lingers: 0,
        reserved: 0,
    };

    pub(super) const fn is_vacant(&self) -> bool {
        self.fate == 0
    }

    pub(super) const fn fate(&self) -> Fate {
        match self.fate {
            1 => Fate::Waiting,
            2 => Fate::Forwarded,
            3 => Fate::Host,
            4 => Fate::Handed(self.worker),
            6 => Fate::Asked(self.worker),
            7 => Fate::Headed,
            8 => Fate::Whole,
            9 => Fate::Answered,
            _ => Fate::Refused,
        }
    }

    pub(super) const fn set_fate(&mut self, fate: Fate) {
        (self.fate, self.worker) = match fate {
            Fate::Waiting => (1, 0),
            Fate::Forwarded => (2, 0),
            Fate::Host => (3, 0),
            Fate::Handed(worker) => (4, worker),
            Fate::Refused => (5, 0),
            Fate::Asked(worker) => (6, worker),
            Fate::Headed => (7, 0),
            Fate::Whole => (8, 0),
            Fate::Answered => (9, 0),
        };
        self.lingers |= matches!(fate, Fate::Asked(_)) as u8;
    }

    pub(super) const fn first(&self) -> First {
        First {
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.protocol,
            id: self.id,
        }
    }

    /// Whether its fragments go somewhere, or are about to.
    pub(super) const fn is_under_way(&self) -> bool {
        !matches!(self.fate(), Fate::Waiting | Fate::Headed | Fate::Refused)
    }
}
