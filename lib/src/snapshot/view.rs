//! Reading a snapshot.

use core::fmt;
use core::net::IpAddr;

use zerocopy::FromBytes;

use super::layout::{
    ALIGNMENT, BackendRecord, FrontendRecord, Globals, Header, HopRecord, MAGIC, NONE, NeighbourRecord, PortRecord,
    RouteRecord, SelectorRecord, VERSION,
};
use super::ranges;
use super::sections::Sections;
use crate::flow::{Address, Entry, IdleTicks, Mode, SnapshotIndex, Tuple};
use crate::hash::{HashKey, reduce};
use crate::maglev;
use crate::nat::{self, Pool};
use crate::net::{PortId, PortRange, Protocol, WorkerId};
use crate::wire::ethernet::EtherType;

/// A compiled description, borrowed from the bytes that hold it. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    generation: u32,
    pub(crate) globals: &'a Globals,
    sections: Sections<'a>,
}

/// Why bytes are not a snapshot that this version can read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// The bytes do not begin at a multiple of 8.
    Misaligned,
    /// The bytes end before the header, or before what the header announces.
    Truncated {
        /// How many bytes there are.
        have: usize,
    },
    /// The first eight bytes are those of something else.
    NotASnapshot,
    /// Another version of the layout.
    Version(u32),
    /// A section does not lie inside the bytes.
    Section(usize),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => f.write_str("the bytes do not begin at a multiple of 8"),
            Self::Truncated { have } => write!(f, "{have} bytes are fewer than the snapshot has"),
            Self::NotASnapshot => f.write_str("the bytes are no snapshot"),
            Self::Version(found) => write!(f, "the snapshot's layout is of version {found}, not {VERSION}"),
            Self::Section(number) => write!(f, "section {number} does not lie inside the snapshot"),
        }
    }
}

impl core::error::Error for AttachError {}

impl<'a> Snapshot<'a> {
    /// Reads the header and finds the sections.
    ///
    /// Work: constant, about a hundred nanoseconds. Call it when the snapshot changes.
    ///
    /// # Errors
    /// [`AttachError`] for bytes that are no snapshot of this version.
    pub fn attach(bytes: &'a [u8]) -> Result<Self, AttachError> {
        if !(bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
            return Err(AttachError::Misaligned);
        }
        let truncated = AttachError::Truncated { have: bytes.len() };
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| truncated)?;
        if header.magic != MAGIC {
            return Err(AttachError::NotASnapshot);
        }
        if header.version != VERSION {
            return Err(AttachError::Version(header.version));
        }
        let bytes = usize::try_from(header.len).ok().and_then(|len| bytes.get(..len)).ok_or(truncated)?;
        let sections = Sections::find(bytes, &header.extents)?;
        let globals = sections.globals.first().ok_or(AttachError::Section(0))?;
        Ok(Self { generation: header.generation, globals, sections })
    }

    /// The number that the description gave it.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// How long flows may idle.
    #[must_use]
    pub const fn idle_ticks(&self) -> &'a IdleTicks {
        &self.globals.idle_ticks
    }

    /// The worker that owns the flows of an endpoint whose address is preserved: see [`nat::owner_of`].
    pub(crate) fn owner_of<A: Address>(&self, address: A, port: [u8; 2]) -> WorkerId {
        nat::owner_of(&self.globals.selector, self.globals.workers, address, port)
    }

    /// The worker that the replies of a flow lead to: the one that may give the flow its port, or that owns the
    /// client's endpoint where that is preserved. `None` where they do not come to the gateway any more, since the
    /// address is no masquerade address any more.
    ///
    /// Two flows that share a reply tuple would both be this worker's, and it alone keeps them apart.
    pub(crate) fn reply_owner<A: Family>(&self, entry: &Entry<A>) -> Option<WorkerId> {
        let Tuple { destination, destination_port, .. } = entry.reply;
        if destination == entry.original.source {
            return Some(self.owner_of(destination, destination_port));
        }
        if entry.mode != Mode::Outward as u8 {
            return Some(A::pool(self).owner(destination_port));
        }
        let pool = A::masquerade(self);
        pool.addresses.contains(&destination).then(|| pool.owner(destination_port))
    }

    /// Whether what stands for whoever began the flow is an address of the gateway's, or of his own.
    pub(crate) fn has_address<A: Family>(&self, entry: &Entry<A>) -> bool {
        let own = entry.reply.destination;
        if entry.mode() == Mode::Outward {
            return A::masquerade(self).addresses.contains(&own);
        }
        own == entry.original.source || A::is_own(self, own)
    }

    #[inline]
    pub(crate) fn port(&self, port: PortId) -> Option<&'a PortRecord> {
        self.sections.ports.get(usize::from(port.0))
    }

    #[inline]
    pub(crate) fn hop(&self, index: u32) -> Option<&'a HopRecord> {
        self.sections.hops.get(index as usize)
    }

    /// The service in one family that listens here.
    pub(crate) fn selector(&self, address: [u8; 16], port: [u8; 2], protocol: Protocol) -> Option<&'a SelectorRecord> {
        let record = self.endpoint(self.sections.frontends, address, port, protocol)?;
        self.sections.selectors.get(record.selector as usize)
    }

    /// The selector of the service that a flow's client has addressed; `None` where no service listens there now.
    pub(crate) fn selector_of<A: Address>(&self, entry: &Entry<A>) -> Option<&'a SelectorRecord> {
        let Tuple { destination, destination_port, .. } = entry.original;
        self.selector(destination.mapped(), destination_port, Protocol(entry.protocol))
    }

    /// The frontend that answers of a backend that sees its clients come from, and its selector; `None`
    /// where more than one would do.
    pub(crate) fn answers_as(
        &self,
        address: [u8; 16],
        port: [u8; 2],
        protocol: Protocol,
    ) -> Option<(&'a FrontendRecord, &'a SelectorRecord)> {
        let place = self.endpoint(self.sections.preserving, address, port, protocol)?.selector;
        let frontend = self.sections.frontends.get(place as usize)?;
        Some((frontend, self.sections.selectors.get(frontend.selector as usize)?))
    }

    /// Whether this is a backend that sees its clients.
    pub(crate) fn is_preserving(&self, address: [u8; 16], port: [u8; 2], protocol: Protocol) -> bool {
        self.endpoint(self.sections.preserving, address, port, protocol).is_some()
    }

    /// Whether there are services whose backends see their clients, be it that they have none now.
    pub(crate) const fn preserves_sources(&self) -> bool {
        self.sections.preserving.len() > 1
    }

    const fn pool<A>(&self, addresses: &'a [A], listening: u64, ports: PortRange) -> Pool<'a, A> {
        let Globals { node_ports, workers, .. } = *self.globals;
        Pool { addresses, listening, ports, node_ports, workers }
    }

    fn endpoint(
        &self,
        table: &'a [FrontendRecord],
        address: [u8; 16],
        port: [u8; 2],
        protocol: Protocol,
    ) -> Option<&'a FrontendRecord> {
        let (_, record) = probe(
            table,
            frontend_place(&self.globals.index, address, port, protocol, table.len()),
            |record| record.selector == NONE,
            |record| (record.address, record.port, record.protocol) == (address, port, protocol.0),
        )?;
        Some(record)
    }

    /// The service that listens where a packet with this tuple goes, and which of its backends it gets: the one
    /// answer to that, whoever asks. `None` where no service listens.
    ///
    /// Work: one lookup of a frontend and one hash. [`Selection::backend`] reads a slot and a backend.
    pub(crate) fn select<A: Address>(&self, original: &Tuple<A>, protocol: Protocol) -> Option<Selection<'a>> {
        let selector = self.selector(original.destination.mapped(), original.destination_port, protocol)?;
        Some(self.selection(selector, original, protocol))
    }

    /// As [`select`](Self::select), of a service that has been found.
    #[inline(always)]
    pub(crate) fn selection<A: Address>(
        &self,
        selector: &'a SelectorRecord,
        original: &Tuple<A>,
        protocol: Protocol,
    ) -> Selection<'a> {
        let slots = self.sections.slots.get(selector.slots_first as usize..);
        let slots = slots.and_then(|slots| slots.get(..selector.slots as usize)).unwrap_or_default();
        let backends = self.backends_of(selector).unwrap_or_default();
        Selection { selector, slots, backends, hash: A::hash(&self.globals.selector, original, protocol) }
    }

    /// Whether this endpoint is one of the backends, whatever its weight.
    pub(crate) fn is_backend(&self, selector: &SelectorRecord, address: [u8; 16], port: [u8; 2]) -> bool {
        let found =
            self.backends_of(selector).map(|it| it.binary_search_by_key(&(address, port), BackendRecord::endpoint));
        matches!(found, Some(Ok(_)))
    }

    /// In the order of their endpoints.
    fn backends_of(&self, selector: &SelectorRecord) -> Option<&'a [BackendRecord]> {
        self.sections.backends.get(selector.backends_first as usize..)?.get(..selector.backends as usize)
    }

    /// The neighbour with this address, if its link address is known, and its index.
    pub(crate) fn neighbour(&self, port: PortId, address: [u8; 16]) -> Option<(u32, &'a NeighbourRecord)> {
        let key = (port.0, address);
        let index = self.sections.neighbours.partition_point(|record| record.key() < key);
        let record = self.sections.neighbours.get(index).filter(|record| record.key() == key)?;
        Some((index as u32, record))
    }

    #[inline]
    pub(crate) fn neighbour_at(&self, place: SnapshotIndex) -> Option<&'a NeighbourRecord> {
        self.sections.neighbours.get(place.index())
    }

    #[inline]
    pub(crate) fn hop_at(&self, place: SnapshotIndex) -> Option<&'a HopRecord> {
        self.sections.hops.get(place.index())
    }
}

/// What [`Snapshot::select`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection<'a> {
    /// The service, in the packet's family.
    pub(crate) selector: &'a SelectorRecord,
    slots: &'a [u16],
    backends: &'a [BackendRecord],
    hash: u64,
}

impl<'a> Selection<'a> {
    /// The backend that the packet gets; `None` where none takes new flows.
    #[inline]
    pub(crate) fn backend(&self) -> Option<&'a BackendRecord> {
        self.backend_after(0)
    }

    /// The backend that it gets when it cannot have those before, from 1 on. One may come twice.
    #[inline]
    pub(crate) fn backend_after(&self, refused: u64) -> Option<&'a BackendRecord> {
        // Steps of the golden ratio fall evenly over the slots.
        let hash = self.hash.wrapping_add(refused.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let member = self.slots.get(maglev::slot(hash, self.slots.len() as u32) as usize)?;
        self.backends.get(usize::from(*member))
    }
}

impl<A: Family> nat::Services<A> for Snapshot<'_> {
    fn listen_at(&self, address: A, port: [u8; 2], protocol: Protocol) -> bool {
        self.selector(address.mapped(), port, protocol).is_some()
    }
}

/// What is looked up by address, for both families.
pub(crate) trait Family: Address {
    /// The index of the overlay hop to a pod.
    fn overlay_hop(snapshot: &Snapshot<'_>, address: Self) -> Option<u32>;
    /// The way back to a client.
    fn route<'a>(snapshot: &Snapshot<'a>, address: Self) -> Option<&'a RouteRecord>;
    /// The addresses that stand for clients.
    fn pool<'a>(snapshot: &Snapshot<'a>) -> Pool<'a, Self>;
    /// The masquerade addresses.
    fn masquerade<'a>(snapshot: &Snapshot<'a>) -> Pool<'a, Self>;
    /// Whether no pod's packet leaves to this address.
    fn is_exempt(snapshot: &Snapshot<'_>, address: Self) -> bool;
    /// What the gateway calls itself towards pods.
    fn own(snapshot: &Snapshot<'_>) -> Self;
    /// Whether an address is one of the gateway's own outside the overlay: of its links, of its services,
    /// or a masquerade address.
    fn is_local(snapshot: &Snapshot<'_>, address: Self) -> bool;
    /// Whether an address is a service's at which pings are answered.
    fn is_pinged(snapshot: &Snapshot<'_>, address: Self) -> bool;
    /// Whether an address is in one of the gateway's own overlay subnets.
    fn is_own(snapshot: &Snapshot<'_>, address: Self) -> bool;
    /// What announces this family in an Ethernet header.
    const ETHERTYPE: EtherType;
}

impl Family for [u8; 4] {
    #[inline]
    fn overlay_hop(snapshot: &Snapshot<'_>, address: Self) -> Option<u32> {
        ranges::find(snapshot.sections.overlay_v4, u128::from(u32::from_be_bytes(address)))
    }

    #[inline]
    fn route<'a>(snapshot: &Snapshot<'a>, address: Self) -> Option<&'a RouteRecord> {
        let target = ranges::find(snapshot.sections.routes_v4, u128::from(u32::from_be_bytes(address)))?;
        snapshot.sections.route_targets.get(target as usize)
    }

    fn pool<'a>(snapshot: &Snapshot<'a>) -> Pool<'a, Self> {
        snapshot.pool(snapshot.sections.pool_v4, 0, snapshot.globals.pool_ports)
    }

    fn masquerade<'a>(snapshot: &Snapshot<'a>) -> Pool<'a, Self> {
        let listening = snapshot.globals.listening[0];
        snapshot.pool(snapshot.sections.masquerade_v4, listening, snapshot.globals.masquerade_ports)
    }

    fn is_exempt(snapshot: &Snapshot<'_>, address: Self) -> bool {
        ranges::find(snapshot.sections.exempt_v4, u128::from(u32::from_be_bytes(address))).is_some()
    }

    fn own(snapshot: &Snapshot<'_>) -> Self {
        snapshot.globals.own_v4
    }

    fn is_local(snapshot: &Snapshot<'_>, address: Self) -> bool {
        snapshot.sections.local_v4.binary_search(&address).is_ok()
    }

    fn is_pinged(snapshot: &Snapshot<'_>, address: Self) -> bool {
        snapshot.sections.echo_v4.binary_search(&address).is_ok()
    }

    #[inline]
    fn is_own(snapshot: &Snapshot<'_>, address: Self) -> bool {
        ranges::find(snapshot.sections.subnets_v4, u128::from(u32::from_be_bytes(address))).is_some()
    }

    const ETHERTYPE: EtherType = EtherType::IPV4;
}

impl Family for [u8; 16] {
    #[inline]
    fn overlay_hop(snapshot: &Snapshot<'_>, address: Self) -> Option<u32> {
        ranges::find(snapshot.sections.overlay_v6, u128::from_be_bytes(address))
    }

    #[inline]
    fn route<'a>(snapshot: &Snapshot<'a>, address: Self) -> Option<&'a RouteRecord> {
        let target = ranges::find(snapshot.sections.routes_v6, u128::from_be_bytes(address))?;
        snapshot.sections.route_targets.get(target as usize)
    }

    fn pool<'a>(snapshot: &Snapshot<'a>) -> Pool<'a, Self> {
        snapshot.pool(snapshot.sections.pool_v6, 0, snapshot.globals.pool_ports)
    }

    fn masquerade<'a>(snapshot: &Snapshot<'a>) -> Pool<'a, Self> {
        let listening = snapshot.globals.listening[1];
        snapshot.pool(snapshot.sections.masquerade_v6, listening, snapshot.globals.masquerade_ports)
    }

    fn is_exempt(snapshot: &Snapshot<'_>, address: Self) -> bool {
        ranges::find(snapshot.sections.exempt_v6, u128::from_be_bytes(address)).is_some()
    }

    fn own(snapshot: &Snapshot<'_>) -> Self {
        snapshot.globals.own_v6
    }

    fn is_local(snapshot: &Snapshot<'_>, address: Self) -> bool {
        snapshot.sections.local_v6.binary_search(&address).is_ok()
    }

    fn is_pinged(snapshot: &Snapshot<'_>, address: Self) -> bool {
        snapshot.sections.echo_v6.binary_search(&address).is_ok()
    }

    #[inline]
    fn is_own(snapshot: &Snapshot<'_>, address: Self) -> bool {
        ranges::find(snapshot.sections.subnets_v6, u128::from_be_bytes(address)).is_some()
    }

    const ETHERTYPE: EtherType = EtherType::IPV6;
}

/// An address in sixteen bytes, IPv4 in mapped form (RFC 4291 §2.5.5.2).
pub(super) fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Where the search for a frontend begins in a table of `len` places.
pub(super) fn frontend_place(key: &HashKey, address: [u8; 16], port: [u8; 2], protocol: Protocol, len: usize) -> usize {
    let hash = key.name(address, u16::from_be_bytes(port), u32::from(protocol.0));
    reduce((hash >> 32) as u32, len as u32) as usize
}

/// Walks an open-addressed table from `start`, around its end, up to a vacant place, and tells where the record
/// is. The compiler of snapshots leaves half of the places vacant.
fn probe<T>(
    table: &[T],
    start: usize,
    is_vacant: impl Fn(&T) -> bool,
    is_it: impl Fn(&T) -> bool,
) -> Option<(usize, &T)> {
    let (before, from) = table.split_at_checked(start)?;
    let places = (start..).zip(from).chain(before.iter().enumerate());
    places.take_while(|(_, record)| !is_vacant(record)).find(|(_, record)| is_it(record))
}
