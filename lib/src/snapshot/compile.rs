//! Writing a snapshot: from a description to bytes, in memory of the caller's.

use core::net::IpAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::description::{
    ClientAddress, Description, Encapsulation, Gateway, MssLimit, PastLimit, Peer, Port, RouteTarget, Service,
};
use super::layout::{
    ALIGNMENT, BackendRecord, Extent, FrontendRecord, Globals, Header, HopRecord, KEEP_DSCP, MAGIC, NONE,
    NeighbourRecord, PortRecord, RangeV4, RangeV6, RouteRecord, SECTIONS, SEVERAL, Section, SelectorRecord, VERSION,
};
use super::ranges::{Prefix, Range, flatten, ranges_max};
use super::view::{frontend_place, mapped};
use crate::flow::idle_ticks;
use crate::hash::HashKey;
use crate::maglev::{self, FillError, Member};
use crate::net::{self, Endpoint, Mac, POOL_MAX, PORTS_MAX, PortId, PortRange, Protocol, WORKERS_MAX};
use crate::tunnel::{Carrier, Headers, Link, Tunnel, Vtep};
use crate::wire::ethernet::EtherType;
use crate::wire::{Dscp, tcp};

/// Why a description cannot be compiled. What the memory held is then lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompileError {
    /// The memory is too short, or does not begin at a multiple of 8.
    Memory {
        /// How many bytes there are.
        have: usize,
        /// How many it takes, so aligned.
        need: usize,
    },
    /// More ports than a gateway can have.
    TooManyPorts(usize),
    /// A port that is not among the ports.
    UnknownPort(PortId),
    /// No worker, or more than a gateway can have.
    Workers(u8),
    /// The pool's ports do not give each worker at least one.
    PoolPorts(u16, u16),
    /// More pool addresses of one family than a gateway can have.
    TooManyPoolAddresses(usize),
    /// A pool address that is in none of the gateway's subnets, or the first of one.
    PoolAddress(IpAddr),
    /// An address of a service's in one of the gateway's subnets, where only answers of backends arrive.
    FrontendAddress(IpAddr),
    /// An IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2): write the IPv4 one.
    MappedAddress(IpAddr),
    /// An address that shall stand for pods outside, in a subnet of the gateway's or a peer's.
    MasqueradeAddress(IpAddr),
    /// A VXLAN peer at an address of a family in which the gateway has no VTEP.
    NoVtep(IpAddr),
    /// A link too small for the encapsulation of a peer behind it.
    MtuTooSmall {
        /// The link's MTU.
        mtu: u16,
    },
    /// A maximum segment size below that of who announces none (RFC 9293 §3.7.1).
    MssTooSmall(u16),
    /// Two services listen at the same place.
    DuplicateFrontend(Endpoint, Protocol),
    /// A service that is none of TCP, UDP and SCTP.
    UnknownProtocol(Protocol),
    /// The selector of this service cannot be filled.
    Selector {
        /// The service.
        service: u32,
        /// What is wrong.
        error: FillError,
    },
}

/// The smallest packet that a link to a peer has to carry inside: IPv6's least MTU (RFC 8200 §5) for both families.
const MTU_MIN: u16 = 1280;

/// Below this the MTU of a route for IPv4 is not believed. Hosts take as much (RFC 791 §3.1), and so do segments of
/// connections that have agreed on no size (RFC 9293 §3.7.1).
const ROUTE_MTU_MIN_V4: u16 = 576;

/// What a route of this family takes whose link takes `mtu` bytes, as far as the route itself is believed.
fn mtu_of(route: Option<u16>, mtu: u16, is_v4: bool) -> u16 {
    let least = if is_v4 { ROUTE_MTU_MIN_V4 } else { MTU_MIN };
    route.map_or(mtu, |route| route.max(least).min(mtu))
}

/// Counts that decide the layout.
struct Plan {
    counts: [usize; SECTIONS],
    scratch: usize,
}

fn sized<T>(count: usize) -> usize {
    (size_of::<T>() * count).next_multiple_of(ALIGNMENT)
}

/// The backends of one family, in each service's own order.
fn of_family<'d>(service: &Service<'d>, v4: bool) -> impl Iterator<Item = &'d super::Backend> {
    service.backends.iter().filter(move |backend| backend.endpoint.address.is_ipv4() == v4)
}

/// Whether the service's backends see their clients.
fn keeps_client(service: &Service<'_>) -> bool {
    service.policy.client_address == ClientAddress::Keep
}

/// The gateway's own addresses outside the overlay, in any order and some of them more than once.
fn local<'d>(d: &Description<'d>) -> impl Iterator<Item = IpAddr> + use<'d> {
    let Gateway { local, masquerade, v4, v6, .. } = d.gateway;
    let frontends = d.services.iter().flat_map(|service| service.frontends).map(|frontend| frontend.address);
    let vteps = [v4.map(|vtep| IpAddr::V4(vtep.public)), v6.map(|vtep| IpAddr::V6(vtep.public))];
    local.iter().chain(masquerade.addresses).copied().chain(frontends).chain(vteps.into_iter().flatten())
}

/// The addresses of services at which pings are answered, in any order and some of them more than once.
fn answering<'d>(d: &Description<'d>) -> impl Iterator<Item = IpAddr> + use<'d> {
    let Gateway { local, v4, v6, echo, .. } = d.gateway;
    let is_hosts = move |address: &IpAddr| {
        let is_vtep = match *address {
            IpAddr::V4(address) => v4.is_some_and(|vtep| vtep.public == address),
            IpAddr::V6(address) => v6.is_some_and(|vtep| vtep.public == address),
        };
        is_vtep || local.contains(address)
    };
    let services = if echo.services { d.services } else { &[] };
    let frontends = services.iter().flat_map(|service| service.frontends).map(|frontend| frontend.address);
    frontends.filter(move |address| !is_hosts(address))
}

/// The address, unless half of the gateway would take it for IPv4 and half for IPv6.
fn not_mapped(address: IpAddr) -> Result<IpAddr, CompileError> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(CompileError::MappedAddress(address)),
        address => Ok(address),
    }
}

fn slots_of(service: &Service<'_>, v4: bool) -> usize {
    if of_family(service, v4).any(|backend| backend.weight > 0) { service.table_size as usize } else { 0 }
}

impl Plan {
    fn new(d: &Description<'_>) -> Self {
        let count = |nets: &mut dyn Iterator<Item = &net::Prefix>| {
            nets.fold((0, 0), |(v4, v6), net| if net.is_ipv4() { (v4 + 1, v6) } else { (v4, v6 + 1) })
        };
        let overlay = count(&mut d.peers.iter().map(|peer| &peer.subnet));
        let routes = count(&mut d.routes.iter().map(|route| &route.prefix));
        let subnets = count(&mut d.gateway.subnets.iter());
        let masquerade = &d.gateway.masquerade;
        let masquerade_v4 = masquerade.addresses.iter().filter(|address| address.is_ipv4()).count();
        let exempt = count(&mut masquerade.exempt.iter());
        let pool_v4 = d.gateway.pool.iter().filter(|address| address.is_ipv4()).count();
        let sum = |of: &dyn Fn(&Service<'_>) -> usize| d.services.iter().map(of).sum::<usize>();
        let mut counts = [0; SECTIONS];
        for (section, count) in [
            (Section::Globals, 1),
            (Section::Ports, d.ports.len()),
            (Section::Frontends, 2 * sum(&|service| service.frontends.len()) + 1),
            // One place is always vacant, and another says that there are services of this kind.
            (Section::Kept, {
                let places = |service: &Service<'_>| if keeps_client(service) { 2 * service.backends.len() } else { 0 };
                sum(&places) + 1 + usize::from(d.services.iter().any(keeps_client))
            }),
            (Section::Selectors, 2 * d.services.len()),
            (Section::Backends, sum(&|service| service.backends.len())),
            (Section::Slots, sum(&|service| slots_of(service, true) + slots_of(service, false))),
            (Section::Hops, d.peers.len()),
            (Section::OverlayV4, ranges_max(overlay.0)),
            (Section::OverlayV6, ranges_max(overlay.1)),
            (Section::RoutesV4, ranges_max(routes.0)),
            (Section::RoutesV6, ranges_max(routes.1)),
            (Section::RouteTargets, d.routes.len()),
            (Section::Neighbours, d.neighbours.len()),
            (Section::PoolV4, pool_v4),
            (Section::PoolV6, d.gateway.pool.len() - pool_v4),
            (Section::SubnetsV4, ranges_max(subnets.0)),
            (Section::SubnetsV6, ranges_max(subnets.1)),
            (Section::MasqueradeV4, masquerade_v4),
            (Section::MasqueradeV6, masquerade.addresses.len() - masquerade_v4),
            (Section::ExemptV4, ranges_max(exempt.0)),
            (Section::ExemptV6, ranges_max(exempt.1)),
            (Section::LocalV4, local(d).filter(IpAddr::is_ipv4).count()),
            (Section::LocalV6, local(d).filter(IpAddr::is_ipv6).count()),
            (Section::EchoV4, answering(d).filter(IpAddr::is_ipv4).count()),
            (Section::EchoV6, answering(d).filter(IpAddr::is_ipv6).count()),
        ] {
            counts[section as usize] = count;
        }
        let prefixes = d.peers.len().max(d.routes.len()).max(d.gateway.subnets.len()).max(masquerade.exempt.len());
        let members = d.services.iter().map(|service| service.backends.len()).max().unwrap_or(0);
        Self { counts, scratch: sized::<Prefix>(prefixes).max(sized::<Member>(members)) }
    }

    fn section_bytes(&self, section: usize) -> usize {
        let count = self.counts[section];
        match section {
            s if s == Section::Globals as usize => sized::<Globals>(count),
            s if s == Section::Ports as usize => sized::<PortRecord>(count),
            s if s == Section::Frontends as usize || s == Section::Kept as usize => sized::<FrontendRecord>(count),
            s if s == Section::Selectors as usize => sized::<SelectorRecord>(count),
            s if s == Section::Backends as usize => sized::<BackendRecord>(count),
            s if s == Section::Slots as usize => sized::<u16>(count),
            s if s == Section::Hops as usize => sized::<HopRecord>(count),
            s if s == Section::RouteTargets as usize => sized::<RouteRecord>(count),
            s if s == Section::Neighbours as usize => sized::<NeighbourRecord>(count),
            s if s == Section::PoolV4 as usize
                || s == Section::MasqueradeV4 as usize
                || s == Section::LocalV4 as usize
                || s == Section::EchoV4 as usize =>
            {
                sized::<[u8; 4]>(count)
            }
            s if s == Section::PoolV6 as usize
                || s == Section::MasqueradeV6 as usize
                || s == Section::LocalV6 as usize
                || s == Section::EchoV6 as usize =>
            {
                sized::<[u8; 16]>(count)
            }
            s if s == Section::OverlayV4 as usize
                || s == Section::RoutesV4 as usize
                || s == Section::SubnetsV4 as usize
                || s == Section::ExemptV4 as usize =>
            {
                sized::<RangeV4>(count)
            }
            _ => sized::<RangeV6>(count),
        }
    }

    fn snapshot_bytes(&self) -> usize {
        sized::<Header>(1) + (0..SECTIONS).map(|section| self.section_bytes(section)).sum::<usize>()
    }

    fn bytes(&self) -> usize {
        self.snapshot_bytes() + self.scratch
    }
}

/// How many bytes [`compile`] takes for this description, room to work in included.
#[must_use]
pub fn bytes_required(description: &Description<'_>) -> usize {
    Plan::new(description).bytes()
}

/// Writes the snapshot of `description` to the front of `memory` and returns its length in bytes.
///
/// `memory` begins at a multiple of 8 and has [`bytes_required`] bytes; what lies past the result
/// is free again. Equal descriptions give equal bytes.
///
/// # Errors
/// [`CompileError`] names what cannot be, with the offending value.
pub fn compile(description: &Description<'_>, memory: &mut [u8]) -> Result<usize, CompileError> {
    let plan = Plan::new(description);
    let error = CompileError::Memory { have: memory.len(), need: plan.bytes() };
    if !(memory.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
        return Err(error);
    }
    let memory = memory.get_mut(..plan.bytes()).ok_or(error)?;
    memory.fill(0);
    let (bytes, scratch) = memory.split_at_mut(plan.snapshot_bytes());
    let len = bytes.len();
    let (header, mut rest) = Header::mut_from_prefix(bytes).map_err(|_| error)?;
    *header = Header {
        magic: MAGIC,
        version: VERSION,
        generation: description.generation,
        len: len as u64,
        extents: [Extent::default(); SECTIONS],
    };
    let mut offset = size_of::<Header>();
    let mut parts: [&mut [u8]; SECTIONS] = core::array::from_fn(|_| Default::default());
    for (section, part) in parts.iter_mut().enumerate() {
        let size = plan.section_bytes(section);
        header.extents[section] = Extent { offset: offset as u64, count: plan.counts[section] as u64 };
        offset += size;
        let (front, behind) = rest.split_at_mut_checked(size).ok_or(error)?;
        *part = front;
        rest = behind;
    }
    let mut writer = Writer { d: description, parts, counts: plan.counts, scratch, error };
    writer.globals()?;
    writer.ports()?;
    writer.hops()?;
    writer.overlay()?;
    writer.services()?;
    writer.routes()?;
    writer.neighbours()?;
    writer.pool()?;
    for (extent, count) in header.extents.iter_mut().zip(writer.counts) {
        extent.count = count as u64;
    }
    Ok(len)
}

struct Writer<'d, 'm> {
    d: &'d Description<'d>,
    parts: [&'m mut [u8]; SECTIONS],
    counts: [usize; SECTIONS],
    scratch: &'m mut [u8],
    error: CompileError,
}

impl<'d, 'm> Writer<'d, 'm> {
    /// Takes a section's bytes to write its records.
    fn take<T>(&mut self, section: Section) -> Result<&'m mut [T], CompileError>
    where
        T: FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        let bytes = core::mem::take(&mut self.parts[section as usize]);
        let count = self.counts[section as usize];
        <[T]>::mut_from_prefix_with_elems(bytes, count).map(|(records, _)| records).map_err(|_| self.error)
    }

    fn globals(&mut self) -> Result<(), CompileError> {
        let gateway = &self.d.gateway;
        let masquerade = &gateway.masquerade;
        let Gateway { workers, vni, vxlan_port, v4, v6, pool_ports, node_ports, selector_seed, ref timeouts, .. } =
            self.d.gateway;
        if workers == 0 || usize::from(workers) > WORKERS_MAX {
            return Err(CompileError::Workers(workers));
        }
        for (first, last) in [pool_ports, masquerade.ports] {
            let share = last.checked_sub(first).map_or(0, |ports| (u32::from(ports) + 1) / u32::from(workers));
            if share == 0 || first == 0 {
                return Err(CompileError::PoolPorts(first, last));
            }
        }
        for addresses in [gateway.pool, masquerade.addresses] {
            let families = [true, false].map(|v4| addresses.iter().filter(|address| address.is_ipv4() == v4).count());
            if let Some(count) = families.into_iter().find(|count| *count > POOL_MAX) {
                return Err(CompileError::TooManyPoolAddresses(count));
            }
        }
        if let MssLimit::Bytes(most) = gateway.mss
            && most < tcp::MSS_DEFAULT
        {
            return Err(CompileError::MssTooSmall(most));
        }
        let own = |v4| gateway.subnets.iter().map(net::Prefix::network).find(|address| address.is_ipv4() == v4);
        let record = Globals {
            selector: HashKey::from_seed(selector_seed),
            index: HashKey::from_seed(!selector_seed),
            idle_ticks: idle_ticks(timeouts),
            half_open_per_client: gateway.admission.half_open_per_client,
            new_flow_ns: gateway.admission.new_flow_ns(),
            answer_ns: gateway.echo.answer_ns(),
            vtep_v4: v4.map_or([0; 4], |vtep| vtep.public.octets()),
            vtep_v6: v6.map_or([0; 16], |vtep| vtep.public.octets()),
            mac_v4: v4.map_or(Mac::ZERO, |vtep| vtep.mac),
            mac_v6: v6.map_or(Mac::ZERO, |vtep| vtep.mac),
            vxlan_port: vxlan_port.to_be_bytes(),
            vni: vni.0,
            workers,
            has_v4: v4.is_some().into(),
            has_v6: v6.is_some().into(),
            places: (gateway.admission.past_limit == PastLimit::Place).into(),
            listening: [self.listening(masquerade.addresses, true), self.listening(masquerade.addresses, false)],
            pool_ports: PortRange { first: pool_ports.0, last: pool_ports.1 },
            node_ports: PortRange { first: node_ports.0, last: node_ports.1 },
            masquerade_ports: PortRange { first: masquerade.ports.0, last: masquerade.ports.1 },
            mss_max: if let MssLimit::Bytes(most) = gateway.mss { most } else { u16::MAX },
            mss_of_path: (gateway.mss == MssLimit::Path).into(),
            own_v4: if let Some(IpAddr::V4(own)) = own(true) { own.octets() } else { [0; 4] },
            own_v6: if let Some(IpAddr::V6(own)) = own(false) { own.octets() } else { [0; 16] },
        };
        self.take::<Globals>(Section::Globals)?.fill(record);
        Ok(())
    }

    /// Of these addresses of one family, by place, those at which a service listens.
    fn listening(&self, addresses: &[IpAddr], v4: bool) -> u64 {
        let listens = |address: &IpAddr| {
            self.d.services.iter().flat_map(|service| service.frontends).any(|frontend| frontend.address == *address)
        };
        let pool = addresses.iter().filter(|address| address.is_ipv4() == v4).take(POOL_MAX);
        pool.enumerate().fold(0, |bits, (place, address)| bits | u64::from(listens(address)) << place)
    }

    fn ports(&mut self) -> Result<(), CompileError> {
        if self.d.ports.len() > PORTS_MAX {
            return Err(CompileError::TooManyPorts(self.d.ports.len()));
        }
        let records = self.take::<PortRecord>(Section::Ports)?;
        for (index, (record, port)) in (0..).zip(records.iter_mut().zip(self.d.ports)) {
            *record = self.port_record(PortId(index), port);
        }
        Ok(())
    }

    fn port_record(&self, id: PortId, port: &Port) -> PortRecord {
        let leads_to = |peer: &Peer| peer.next_hop.is_some_and(|hop| hop.port == id);
        PortRecord { mac: port.mac, mtu: port.mtu, underlay: self.d.peers.iter().any(leads_to).into(), reserved: 0 }
    }

    fn port(&self, port: PortId) -> Result<&'d Port, CompileError> {
        self.d.ports.get(usize::from(port.0)).ok_or(CompileError::UnknownPort(port))
    }

    fn hops(&mut self) -> Result<(), CompileError> {
        let records = self.take::<HopRecord>(Section::Hops)?;
        for (record, peer) in records.iter_mut().zip(self.d.peers) {
            *record = self.hop(peer)?;
        }
        Ok(())
    }

    fn hop(&self, peer: &Peer) -> Result<HopRecord, CompileError> {
        let gateway = &self.d.gateway;
        let own = peer.next_hop.map(|next| self.port(next.port)).transpose()?;
        let link = Link {
            destination: peer.next_hop.map_or(Mac::ZERO, |next| next.mac),
            source: own.map_or(Mac::ZERO, |port| port.mac),
        };
        let inner = if peer.subnet.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let tunnel = Tunnel { vni: gateway.vni, port: gateway.vxlan_port, inner, dscp: gateway.outer_dscp };
        let headers = match (peer.encapsulation, peer.public) {
            (Encapsulation::Direct, _) => Headers::direct(link, inner),
            (Encapsulation::Vxlan { mac }, IpAddr::V4(public)) => {
                let own = gateway.v4.ok_or(CompileError::NoVtep(peer.public))?;
                Headers::vxlan_v4(link, own, Vtep { public, mac }, tunnel)
            }
            (Encapsulation::Vxlan { mac }, IpAddr::V6(public)) => {
                let own = gateway.v6.ok_or(CompileError::NoVtep(peer.public))?;
                Headers::vxlan_v6(link, own, Vtep { public, mac }, tunnel)
            }
        };
        let mut hop = HopRecord { headers, port: 0, is_resolved: 0, mtu: 0 };
        let (Some(next), Some(port)) = (peer.next_hop, own) else { return Ok(hop) };
        hop.port = next.port.0;
        hop.is_resolved = 1;
        let room = port.mtu.saturating_sub(headers.overhead());
        let mtu = match gateway.overlay_mtu {
            Some(mtu) if headers.carrier() != Carrier::Direct => mtu.min(room),
            _ => room,
        };
        if mtu < MTU_MIN {
            return Err(CompileError::MtuTooSmall { mtu: port.mtu });
        }
        let inside = next.mtu.map(|route| route.saturating_sub(headers.overhead()));
        hop.mtu = mtu_of(inside, mtu, peer.subnet.is_ipv4());
        Ok(hop)
    }

    fn ranges<'p, R>(
        &mut self,
        section: Section,
        prefixes: impl Iterator<Item = (u32, &'p net::Prefix)>,
    ) -> Result<&'m mut [R], CompileError>
    where
        R: Range + 'static + FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        let out = self.take::<R>(section)?;
        let capacity = self.scratch.len() / size_of::<Prefix>();
        let (scratch, _) = <[Prefix]>::mut_from_prefix_with_elems(self.scratch, capacity).map_err(|_| self.error)?;
        let mut count = 0;
        let family = prefixes.filter(|(_, net)| net.is_ipv4() == (R::BITS == 32));
        for (place, (target, net)) in scratch.iter_mut().zip(family) {
            *place = Prefix::new(net, target);
            count += 1;
        }
        let count = flatten(scratch.get_mut(..count).unwrap_or_default(), out);
        self.counts[section as usize] = count;
        Ok(out.get_mut(..count).unwrap_or_default())
    }

    fn overlay(&mut self) -> Result<(), CompileError> {
        let peers = self.d.peers;
        let prefixes = || (0..).zip(peers.iter().map(|peer| &peer.subnet));
        self.ranges::<RangeV4>(Section::OverlayV4, prefixes())?;
        self.ranges::<RangeV6>(Section::OverlayV6, prefixes())?;
        let subnets = self.d.gateway.subnets;
        self.ranges::<RangeV4>(Section::SubnetsV4, (0..).zip(subnets))?;
        self.ranges::<RangeV6>(Section::SubnetsV6, (0..).zip(subnets))?;
        Ok(())
    }

    fn routes(&mut self) -> Result<(), CompileError> {
        let routes = self.d.routes;
        let records = self.take::<RouteRecord>(Section::RouteTargets)?;
        for (record, route) in records.iter_mut().zip(routes) {
            let (port, via) = match route.target {
                RouteTarget::Link(port) => (port, None),
                RouteTarget::Router(port, via) => (port, Some(via)),
                RouteTarget::Nowhere => continue,
            };
            let own = self.port(port)?;
            *record = RouteRecord {
                via: via.map_or([0; 16], mapped),
                port: port.0,
                is_on_link: via.is_none().into(),
                link: PortRecord {
                    mtu: mtu_of(route.mtu, own.mtu, route.prefix.is_ipv4()),
                    ..self.port_record(port, own)
                },
            };
        }
        let prefixes = || (0..).zip(routes.iter().map(|route| &route.prefix));
        let v4 = self.ranges::<RangeV4>(Section::RoutesV4, prefixes())?;
        let v6 = self.ranges::<RangeV6>(Section::RoutesV6, prefixes())?;
        // Only now: which of equal and nested prefixes counts has been decided whatever they lead to.
        for target in v4.iter_mut().map(|range| &mut range.target).chain(v6.iter_mut().map(|range| &mut range.target)) {
            let route = routes.get(*target as usize);
            if route.is_some_and(|route| route.target == RouteTarget::Nowhere) {
                *target = NONE;
            }
        }
        Ok(())
    }

    fn neighbours(&mut self) -> Result<(), CompileError> {
        let records = self.take::<NeighbourRecord>(Section::Neighbours)?;
        let mut count = 0;
        for neighbour in self.d.neighbours {
            self.port(neighbour.port)?;
            // No station of a link has one; it would be found for an IPv4 address.
            if not_mapped(neighbour.address).is_ok()
                && let Some(record) = records.get_mut(count)
            {
                let address = mapped(neighbour.address);
                *record = NeighbourRecord { address, mac: neighbour.mac, port: neighbour.port.0, reserved: 0 };
                count += 1;
            }
        }
        let records = records.get_mut(..count).unwrap_or_default();
        records.sort_unstable_by_key(|record| (record.key(), record.mac));
        self.counts[Section::Neighbours as usize] = count;
        Ok(())
    }

    fn pool(&mut self) -> Result<(), CompileError> {
        let Gateway { pool, subnets, masquerade, .. } = self.d.gateway;
        for address in pool.iter().chain(masquerade.addresses) {
            not_mapped(*address)?;
        }
        for address in pool {
            let home = subnets.iter().find(|subnet| subnet.contains(*address));
            if home.is_none_or(|subnet| subnet.network() == *address) {
                return Err(CompileError::PoolAddress(*address));
            }
        }
        let inside = |address: &&IpAddr| {
            subnets.iter().chain(self.d.peers.iter().map(|peer| &peer.subnet)).any(|subnet| subnet.contains(**address))
        };
        if let Some(address) = masquerade.addresses.iter().find(inside) {
            return Err(CompileError::MasqueradeAddress(*address));
        }
        self.addresses(pool, Section::PoolV4, Section::PoolV6)?;
        self.addresses(masquerade.addresses, Section::MasqueradeV4, Section::MasqueradeV6)?;
        self.ranges::<RangeV4>(Section::ExemptV4, (0..).zip(masquerade.exempt))?;
        self.ranges::<RangeV6>(Section::ExemptV6, (0..).zip(masquerade.exempt))?;
        self.in_order(local(self.d), Section::LocalV4, Section::LocalV6)?;
        self.in_order(answering(self.d), Section::EchoV4, Section::EchoV6)
    }

    fn in_order(
        &mut self,
        addresses: impl Iterator<Item = IpAddr>,
        v4: Section,
        v6: Section,
    ) -> Result<(), CompileError> {
        let (v4, v6) = (self.take::<[u8; 4]>(v4)?, self.take::<[u8; 16]>(v6)?);
        let (mut v4_left, mut v6_left) = (v4.iter_mut(), v6.iter_mut());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4_left.next().map(|place| *place = address.octets()),
                IpAddr::V6(address) => v6_left.next().map(|place| *place = address.octets()),
            };
        }
        v4.sort_unstable();
        v6.sort_unstable();
        Ok(())
    }

    fn addresses(&mut self, list: &[IpAddr], v4: Section, v6: Section) -> Result<(), CompileError> {
        let of_v4 = list.iter().filter_map(|address| if let IpAddr::V4(a) = address { Some(a.octets()) } else { None });
        let of_v6 = list.iter().filter_map(|address| if let IpAddr::V6(a) = address { Some(a.octets()) } else { None });
        self.take::<[u8; 4]>(v4)?.iter_mut().zip(of_v4).for_each(|(record, address)| *record = address);
        self.take::<[u8; 16]>(v6)?.iter_mut().zip(of_v6).for_each(|(record, address)| *record = address);
        Ok(())
    }

    fn services(&mut self) -> Result<(), CompileError> {
        let frontends = self.take::<FrontendRecord>(Section::Frontends)?;
        let kept = self.take::<FrontendRecord>(Section::Kept)?;
        frontends.iter_mut().chain(kept.iter_mut()).for_each(|record| record.selector = NONE);
        let selectors = self.take::<SelectorRecord>(Section::Selectors)?;
        let backends = self.take::<BackendRecord>(Section::Backends)?;
        let slots = self.take::<u16>(Section::Slots)?;
        let (mut backends_used, mut slots_used) = (0, 0);
        for (index, service) in self.d.services.iter().enumerate() {
            if !matches!(service.protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) {
                return Err(CompileError::UnknownProtocol(service.protocol));
            }
            let backends_at = service.backends.iter().map(|backend| &backend.endpoint);
            for endpoint in service.frontends.iter().chain(backends_at) {
                not_mapped(endpoint.address)?;
            }
            let is_own =
                |frontend: &&Endpoint| self.d.gateway.subnets.iter().any(|subnet| subnet.contains(frontend.address));
            if let Some(frontend) = service.frontends.iter().find(is_own) {
                return Err(CompileError::FrontendAddress(frontend.address));
            }
            self.frontends(service, index, frontends)?;
            if keeps_client(service) {
                self.kept(service, frontends, kept);
            }
            for v4 in [true, false] {
                let list = backends.get_mut(backends_used..).unwrap_or_default();
                let count = self.backends(service, v4, list);
                let list = list.get_mut(..count).unwrap_or_default();
                let table = slots.get_mut(slots_used..).and_then(|rest| rest.get_mut(..slots_of(service, v4)));
                let table = table.unwrap_or_default();
                if let Some(selector) = selectors.get_mut(2 * index + usize::from(!v4)) {
                    *selector = SelectorRecord {
                        service: service.id,
                        backends_first: backends_used as u32,
                        backends: count as u32,
                        slots_first: slots_used as u32,
                        slots: table.len() as u32,
                        keeps_client: keeps_client(service).into(),
                        dscp: service.policy.dscp.map_or(KEEP_DSCP, Dscp::number),
                        reserved: [0; 2],
                    };
                }
                if of_family(service, v4).any(|backend| backend.weight > 0) {
                    let key = HashKey::from_seed(self.d.gateway.selector_seed);
                    self.fill_slots(&key, list, table)
                        .map_err(|error| CompileError::Selector { service: service.id, error })?;
                }
                backends_used += count;
                slots_used += table.len();
            }
        }
        Ok(())
    }

    fn frontends(&self, service: &Service<'_>, index: usize, table: &mut [FrontendRecord]) -> Result<(), CompileError> {
        let key = HashKey::from_seed(!self.d.gateway.selector_seed);
        for frontend in service.frontends {
            let (address, port) = (mapped(frontend.address), frontend.port.to_be_bytes());
            let start = frontend_place(&key, address, port, service.protocol, table.len());
            let place = vacant_or(table, start, |record| {
                record.selector == NONE
                    || (record.address, record.port, record.protocol) == (address, port, service.protocol.0)
            });
            let Some(place) = place.filter(|record| record.selector == NONE) else {
                return Err(CompileError::DuplicateFrontend(*frontend, service.protocol));
            };
            *place = FrontendRecord {
                address,
                selector: (2 * index + usize::from(frontend.address.is_ipv6())) as u32,
                port,
                protocol: service.protocol.0,
                reserved: 0,
            };
        }
        Ok(())
    }

    /// The place of the service's frontend of this family, or [`SEVERAL`].
    fn only_frontend(&self, service: &Service<'_>, v4: bool, table: &[FrontendRecord]) -> u32 {
        let key = HashKey::from_seed(!self.d.gateway.selector_seed);
        let mut of_family = service.frontends.iter().filter(|frontend| frontend.address.is_ipv4() == v4);
        let (Some(frontend), None) = (of_family.next(), of_family.next()) else { return SEVERAL };
        let (address, port) = (mapped(frontend.address), frontend.port.to_be_bytes());
        let start = frontend_place(&key, address, port, service.protocol, table.len());
        let is_it = |record: &FrontendRecord| {
            record.selector != NONE
                && (record.address, record.port, record.protocol) == (address, port, service.protocol.0)
        };
        let place = (start..table.len()).chain(0..start).find(|place| table.get(*place).is_some_and(is_it));
        place.and_then(|place| u32::try_from(place).ok()).unwrap_or(SEVERAL)
    }

    /// Notes the backends of a service that see their clients, each once for all services.
    fn kept(&self, service: &Service<'_>, frontends: &[FrontendRecord], table: &mut [FrontendRecord]) {
        let key = HashKey::from_seed(!self.d.gateway.selector_seed);
        let answers_as = [true, false].map(|v4| self.only_frontend(service, v4, frontends));
        for backend in service.backends {
            let Endpoint { address, port } = backend.endpoint;
            let (address, port, protocol) = (mapped(address), port.to_be_bytes(), service.protocol);
            let start = frontend_place(&key, address, port, protocol, table.len());
            let is_it = |record: &FrontendRecord| {
                record.selector == NONE || (record.address, record.port, record.protocol) == (address, port, protocol.0)
            };
            let frontend = answers_as[usize::from(backend.endpoint.address.is_ipv6())];
            match vacant_or(table, start, is_it) {
                Some(place) if place.selector == NONE => {
                    *place = FrontendRecord { address, selector: frontend, port, protocol: protocol.0, reserved: 0 };
                }
                Some(place) if place.selector != frontend => place.selector = SEVERAL,
                _ => {}
            }
        }
    }

    /// Writes one family's backends in canonical order, by address and port, each once: the order
    /// decides contested slots, so every gateway must have the same.
    fn backends(&self, service: &Service<'_>, v4: bool, list: &mut [BackendRecord]) -> usize {
        let mut count = 0;
        for (record, backend) in list.iter_mut().zip(of_family(service, v4)) {
            *record = BackendRecord {
                address: mapped(backend.endpoint.address),
                port: backend.endpoint.port.to_be_bytes(),
                reserved: [0; 2],
                weight: backend.weight,
            };
            count += 1;
        }
        let list = list.get_mut(..count).unwrap_or_default();
        list.sort_unstable();
        let mut kept = 0;
        for index in 0..list.len() {
            let repeats = index > 0 && { list[index].endpoint() == list[kept - 1].endpoint() };
            if !repeats {
                list[kept] = list[index];
                kept += 1;
            }
        }
        kept
    }

    fn fill_slots(&mut self, key: &HashKey, list: &[BackendRecord], table: &mut [u16]) -> Result<(), FillError> {
        // The plan made room for the members of the largest service.
        let too_many = FillError::TooManyMembers(list.len());
        let (members, _) = <[Member]>::mut_from_prefix_with_elems(self.scratch, list.len()).map_err(|_| too_many)?;
        let size = table.len() as u32;
        if !maglev::is_prime(size) {
            return Err(FillError::NotPrime(table.len()));
        }
        for (member, backend) in members.iter_mut().zip(list) {
            let port = u16::from_be_bytes(backend.port);
            *member = Member::new(key, backend.address, port, backend.weight, size);
        }
        maglev::fill(members, table)
    }
}

/// The first place from `start` on, around the end, that does.
fn vacant_or<T>(table: &mut [T], start: usize, does: impl Fn(&T) -> bool) -> Option<&mut T> {
    let (before, from) = table.split_at_mut_checked(start)?;
    from.iter_mut().chain(before).find(|record| does(record))
}
