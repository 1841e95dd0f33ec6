//! Addresses that are the gateway's: of its pools, of its links, and those at which it answers.

use core::net::IpAddr;

use super::{CompileError, Writer, ranges};
use crate::snapshot::description::{Description, Gateway};

/// The gateway's own addresses outside the overlay, in any order and some of them more than once.
pub(super) fn local<'d>(d: &Description<'d>) -> impl Iterator<Item = IpAddr> + use<'d> {
    let Gateway { local, masquerade, v4, v6, .. } = d.gateway;
    let frontends = d.services.iter().flat_map(|service| service.frontends).map(|frontend| frontend.address);
    let vteps = [v4.map(|vtep| IpAddr::V4(vtep.public)), v6.map(|vtep| IpAddr::V6(vtep.public))];
    local.iter().chain(masquerade.addresses).copied().chain(frontends).chain(vteps.into_iter().flatten())
}

/// The addresses of services at which pings are answered, in any order and some of them more than once.
pub(super) fn answering<'d>(d: &Description<'d>) -> impl Iterator<Item = IpAddr> + use<'d> {
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
pub(super) fn not_mapped(address: IpAddr) -> Result<IpAddr, CompileError> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(CompileError::MappedAddress(address)),
        address => Ok(address),
    }
}

impl Writer<'_, '_> {
    /// The addresses of both pools, where no pod's packet goes to, and what the host has.
    pub(super) fn pool(&mut self) -> Result<(), CompileError> {
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
        let Self { out, used, scratch, error, .. } = self;
        by_family(pool.iter().copied(), out.pool_v4, out.pool_v6);
        by_family(masquerade.addresses.iter().copied(), out.masquerade_v4, out.masquerade_v6);
        used.exempt_v4 = ranges(scratch, out.exempt_v4, (0..).zip(masquerade.exempt), *error)?;
        used.exempt_v6 = ranges(scratch, out.exempt_v6, (0..).zip(masquerade.exempt), *error)?;
        in_order(local(self.d), out.local_v4, out.local_v6);
        in_order(answering(self.d), out.echo_v4, out.echo_v6);
        Ok(())
    }
}

/// Writes addresses by family, in order.
fn in_order(addresses: impl Iterator<Item = IpAddr>, v4: &mut [[u8; 4]], v6: &mut [[u8; 16]]) {
    by_family(addresses, v4, v6);
    v4.sort_unstable();
    v6.sort_unstable();
}

/// Writes addresses by family, as they come.
fn by_family(addresses: impl Iterator<Item = IpAddr>, v4: &mut [[u8; 4]], v6: &mut [[u8; 16]]) {
    let (mut v4, mut v6) = (v4.iter_mut(), v6.iter_mut());
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.next().map(|place| *place = address.octets()),
            IpAddr::V6(address) => v6.next().map(|place| *place = address.octets()),
        };
    }
}
