//! What becomes of flows, for who follows them: a log of connections, a replica of the table.

use super::{Address, Direction, Entry, FlowTraffic, State, Tuple};
use crate::net::{Endpoint, Protocol};

/// A flow of either family.
#[derive(Clone, Copy, Debug)]
pub enum Flow<'a> {
    /// Over IPv4.
    V4(&'a Entry<[u8; 4]>),
    /// Over IPv6.
    V6(&'a Entry<[u8; 16]>),
}

/// Reads the same field of an entry of either family.
macro_rules! entry {
    ($flow:expr, $entry:ident => $read:expr) => {
        match $flow {
            Flow::V4($entry) => $read,
            Flow::V6($entry) => $read,
        }
    };
}

impl Flow<'_> {
    /// The transport protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        entry!(self, entry => Protocol(entry.protocol))
    }

    /// The source and destination of the packets of a direction as they arrive; of an echo both ports are its
    /// identifier.
    #[must_use]
    pub fn endpoints(&self, direction: Direction) -> [Endpoint; 2] {
        entry!(self, entry => match direction {
            Direction::Original => endpoints(&entry.original),
            Direction::Reply => endpoints(&entry.reply),
        })
    }

    /// As [`Entry::backend`].
    #[must_use]
    pub fn backend(&self) -> Option<Endpoint> {
        entry!(self, entry => entry.backend())
    }

    /// As [`Entry::service`].
    #[must_use]
    pub const fn service(&self) -> Option<u32> {
        entry!(self, entry => entry.service())
    }

    /// As [`Entry::state`].
    #[must_use]
    pub const fn state(&self) -> Option<State> {
        entry!(self, entry => entry.state())
    }

    /// As [`Entry::is_assured`].
    #[must_use]
    pub const fn is_assured(&self) -> bool {
        entry!(self, entry => entry.is_assured())
    }

    /// What it has carried.
    #[must_use]
    pub const fn traffic(&self) -> FlowTraffic {
        entry!(self, entry => entry.traffic)
    }
}

fn endpoints<A: Address>(tuple: &Tuple<A>) -> [Endpoint; 2] {
    [(tuple.source, tuple.source_port), (tuple.destination, tuple.destination_port)]
        .map(|(address, port)| Endpoint { address: address.to_ip(), port: u16::from_be_bytes(port) })
}

/// What became of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FlowEvent {
    /// It has begun. The packet that begins it is not counted yet.
    Begun,
    /// It had this state, and has another now, or is [assured](Entry::is_assured) now and was not.
    Changed(State),
    /// It ended, and is as it was last.
    Ended(FlowEnd),
}

/// Why a flow ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FlowEnd {
    /// No packet came for too long.
    Expired,
    /// It was evicted for another flow, in a table that was full; or one of many half-open flows of a client, in one that
    /// was nearly full.
    Evicted,
    /// It was reset before anybody had answered.
    Reset,
    /// Its connection had ended or its backend was gone, and another began between the same endpoints.
    Reopened,
    /// The address that the gateway gave it is the gateway's no longer.
    AddressGone,
}
