//! Writing a snapshot: from a description to bytes, in memory of the caller's.

mod addresses;
mod error;
mod links;
mod plan;
mod services;

use core::net::IpAddr;

use zerocopy::FromBytes;

use super::description::{Description, Gateway, MssLimit, PastLimit};
use super::layout::{ALIGNMENT, Globals, Header, MAGIC, VERSION};
use super::ranges::{Prefix, Range, flatten};
use super::sections::{Counts, SectionsMut};
use crate::flow::idle_ticks;
use crate::hash::HashKey;
use crate::net::{self, Mac, POOL_MAX, PortRange, WORKERS_MAX};
use crate::wire::tcp;
pub use error::CompileError;
use plan::Plan;

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
    let (header, rest) = Header::mut_from_prefix(bytes).map_err(|_| error)?;
    let counts = plan.counts;
    let out = SectionsMut::split(&counts, rest).ok_or(error)?;
    let mut writer = Writer { d: description, out, used: counts, scratch, error };
    writer.globals()?;
    writer.ports()?;
    writer.hops()?;
    writer.overlay()?;
    writer.services()?;
    writer.routes()?;
    writer.neighbours()?;
    writer.pool()?;
    *header = Header {
        magic: MAGIC,
        version: VERSION,
        generation: description.generation,
        len: len as u64,
        extents: counts.extents(&writer.used, size_of::<Header>()),
    };
    Ok(len)
}

/// Writes the sections, each kind of them in a file of its own.
struct Writer<'d, 'm> {
    d: &'d Description<'d>,
    out: SectionsMut<'m>,
    /// How many records each section has come to have.
    used: Counts,
    scratch: &'m mut [u8],
    /// What is wrong where memory does not suffice after all.
    error: CompileError,
}

impl Writer<'_, '_> {
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
            forwards_stateless: (gateway.admission.past_limit == PastLimit::Stateless).into(),
            listening: [self.listening(masquerade.addresses, true), self.listening(masquerade.addresses, false)],
            pool_ports: PortRange { first: pool_ports.0, last: pool_ports.1 },
            node_ports: PortRange { first: node_ports.0, last: node_ports.1 },
            masquerade_ports: PortRange { first: masquerade.ports.0, last: masquerade.ports.1 },
            mss_max: if let MssLimit::Bytes(most) = gateway.mss { most } else { u16::MAX },
            mss_of_path: (gateway.mss == MssLimit::Path).into(),
            own_v4: if let Some(IpAddr::V4(own)) = own(true) { own.octets() } else { [0; 4] },
            own_v6: if let Some(IpAddr::V6(own)) = own(false) { own.octets() } else { [0; 16] },
        };
        self.out.globals.fill(record);
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
}

/// Writes the ranges of the prefixes of one family to the front of `out` and tells how many there are.
fn ranges<'p, R: Range>(
    scratch: &mut [u8],
    out: &mut [R],
    prefixes: impl Iterator<Item = (u32, &'p net::Prefix)>,
    error: CompileError,
) -> Result<usize, CompileError> {
    let capacity = scratch.len() / size_of::<Prefix>();
    let (scratch, _) = <[Prefix]>::mut_from_prefix_with_elems(scratch, capacity).map_err(|_| error)?;
    let mut count = 0;
    let family = prefixes.filter(|(_, net)| net.is_ipv4() == (R::BITS == 32));
    for (place, (target, net)) in scratch.iter_mut().zip(family) {
        *place = Prefix::new(net, target);
        count += 1;
    }
    Ok(flatten(scratch.get_mut(..count).unwrap_or_default(), out))
}
