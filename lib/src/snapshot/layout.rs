//! The snapshot's bytes: a header, then sections of plain records found by offset.
//! In which order they lie, [`sections`](super::sections) says.
//!
//! Records are in the machine's byte order, except addresses and ports, which stay in wire order.
//! An index into another section is checked where it is used: a damaged snapshot drops packets and
//! does no worse.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::sections::{Extent, SECTIONS};
use crate::flow::IdleTicks;
use crate::hash::HashKey;
use crate::net::{Mac, PortRange};
use crate::tunnel::Headers;
use crate::wire::Dscp;

/// The first eight bytes of a snapshot.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"WGSNAP\0\0");

/// Grows with every change to the records below.
pub(super) const VERSION: u32 = 9;

/// Alignment of a snapshot and of each section.
pub(super) const ALIGNMENT: usize = 8;

/// Stands for the codepoint that a packet has.
pub(super) const KEEP_DSCP: u8 = u8::MAX;

/// Names no record.
pub(crate) const NONE: u32 = u32::MAX;

/// Names no one record, of several that would do.
pub(super) const SEVERAL: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: u64,
    pub(super) version: u32,
    pub(super) generation: u32,
    /// Bytes of the whole snapshot.
    pub(super) len: u64,
    pub(super) extents: [Extent; SECTIONS],
}

/// What there is one of.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Globals {
    pub(crate) selector: HashKey,
    /// Key of the frontends table, and of the backends that see their clients: only who configures the gateway
    /// chooses what is in them.
    pub(crate) index: HashKey,
    /// By place, the masquerade addresses, of IPv4 and IPv6, that services listen at.
    pub(crate) listening: [u64; 2],
    pub(crate) idle_ticks: IdleTicks,
    /// The most half-open flows of a client; 0 for no limit.
    pub(crate) half_open_per_client: u32,
    /// Nanoseconds from one new flow to the next; 0 for no limit.
    pub(crate) new_flow_ns: u32,
    /// Nanoseconds from one answered ping to the next; 0 for no limit.
    pub(crate) answer_ns: u32,
    pub(crate) vtep_v4: [u8; 4],
    pub(crate) vtep_v6: [u8; 16],
    pub(crate) mac_v4: Mac,
    pub(crate) mac_v6: Mac,
    pub(crate) vxlan_port: [u8; 2],
    pub(crate) vni: [u8; 3],
    pub(crate) workers: u8,
    pub(crate) has_v4: u8,
    pub(crate) has_v6: u8,
    pub(crate) pool_ports: PortRange,
    /// Ports that are kept out on masquerade addresses that services listen at.
    pub(crate) node_ports: PortRange,
    pub(crate) masquerade_ports: PortRange,
    /// The most that a maximum segment size may be.
    pub(crate) mss_max: u16,
    /// Whether it may be no more than its way takes.
    pub(crate) mss_of_path: u8,
    /// Whether packets for which no flow may begin are forwarded statelessly.
    pub(crate) forwards_stateless: u8,
    /// What the gateway calls itself towards pods: the first address of its first subnet.
    pub(crate) own_v4: [u8; 4],
    pub(crate) own_v6: [u8; 16],
}

/// A link of the gateway's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct PortRecord {
    pub(crate) mac: Mac,
    pub(crate) mtu: u16,
    /// Whether peers are reached over this link, so that their packets may arrive unencapsulated.
    pub(crate) underlay: u8,
    pub(super) reserved: u8,
}

/// One place of the open-addressed table of frontends, or of that of backends that see their clients.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FrontendRecord {
    pub(crate) address: [u8; 16],
    /// Index of the selector, or [`NONE`] for a vacant place. Of a backend, the place of the frontend
    /// that its answers come from, or [`SEVERAL`].
    pub(crate) selector: u32,
    pub(crate) port: [u8; 2],
    pub(super) protocol: u8,
    pub(super) reserved: u8,
}

/// One service in one family.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SelectorRecord {
    pub(crate) service: u32,
    pub(crate) backends_first: u32,
    pub(crate) backends: u32,
    pub(crate) slots_first: u32,
    /// 0 where no backend takes new flows.
    pub(crate) slots: u32,
    /// Whether backends see the client's own address.
    pub(crate) preserves_source: u8,
    /// What packets for the backends are marked with, or [`KEEP_DSCP`].
    pub(crate) dscp: u8,
    /// Whether open connections to removed backends are reset.
    pub(crate) resets: u8,
    pub(super) reserved: u8,
}

impl SelectorRecord {
    /// What packets for the backends are marked with.
    #[inline]
    pub(crate) const fn dscp(&self) -> Option<Dscp> {
        Dscp::new(self.dscp)
    }
}

/// One who answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct BackendRecord {
    /// IPv4 in mapped form (RFC 4291 §2.5.5.2).
    pub(crate) address: [u8; 16],
    pub(crate) port: [u8; 2],
    pub(super) reserved: [u8; 2],
    pub(super) weight: u32,
    /// The index of the hop to it, or [`NONE`].
    pub(crate) hop: u32,
}

impl BackendRecord {
    pub(super) const fn endpoint(&self) -> ([u8; 16], [u8; 2]) {
        (self.address, self.port)
    }
}

/// A way to a peer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct HopRecord {
    pub(crate) headers: Headers,
    pub(crate) port: u8,
    /// Whether the next hop's link address is in `headers`.
    pub(crate) is_resolved: u8,
    /// The largest packet that fits.
    pub(crate) mtu: u16,
}

/// Addresses from `start` up to the next record's start.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RangeV4 {
    pub(crate) start: u32,
    /// Index of what they lead to, or [`NONE`].
    pub(crate) target: u32,
}

/// Addresses from `start`, two halves in the machine's order, up to the next record's start.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RangeV6 {
    pub(crate) high: u64,
    pub(crate) low: u64,
    /// Index of what they lead to, or [`NONE`].
    pub(crate) target: u32,
    pub(super) reserved: u32,
}

/// Where a route to clients leads.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RouteRecord {
    /// The router, IPv4 in mapped form; all zero where the destination itself is the next hop.
    pub(crate) via: [u8; 16],
    pub(crate) port: u8,
    pub(crate) is_on_link: u8,
    /// Its link, with the MTU of the route where that is less.
    pub(crate) link: PortRecord,
}

/// A neighbour, in a table in order: a host on the link chooses what is in it, and could make a hash collide.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct NeighbourRecord {
    pub(crate) address: [u8; 16],
    pub(crate) mac: Mac,
    pub(crate) port: u8,
    pub(crate) reserved: u8,
}

impl NeighbourRecord {
    /// What the table is ordered by.
    pub(super) const fn key(&self) -> (u8, [u8; 16]) {
        (self.port, self.address)
    }
}
