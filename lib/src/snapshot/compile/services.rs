//! Services: where they listen, who answers, and the table that chooses among those.

use core::mem::take;
use core::net::IpAddr;

use zerocopy::FromBytes;

use super::addresses::not_mapped;
use super::{CompileError, Writer};
use crate::hash::HashKey;
use crate::maglev::{self, FillError, Member};
use crate::net::{Endpoint, Protocol};
use crate::snapshot::description::{Backend, ClientAddress, RemovedBackend, Service};
use crate::snapshot::layout::{BackendRecord, FrontendRecord, KEEP_DSCP, NONE, SEVERAL, SelectorRecord};
use crate::snapshot::ranges;
use crate::snapshot::view::{frontend_place, mapped};
use crate::wire::Dscp;

/// The backends of one family, in each service's own order.
fn of_family<'d>(service: &Service<'d>, v4: bool) -> impl Iterator<Item = &'d Backend> {
    service.backends.iter().filter(move |backend| backend.endpoint.address.is_ipv4() == v4)
}

/// Whether the service preserves its clients' addresses towards its backends.
pub(super) fn preserves_source(service: &Service<'_>) -> bool {
    service.policy.client_address == ClientAddress::Preserve
}

/// Slots of the service's table for one family.
pub(super) fn slots_of(service: &Service<'_>, v4: bool) -> usize {
    if of_family(service, v4).any(|backend| backend.weight > 0) { service.table_size as usize } else { 0 }
}

impl Writer<'_, '_> {
    pub(super) fn services(&mut self) -> Result<(), CompileError> {
        let frontends = take(&mut self.out.frontends);
        let preserving = take(&mut self.out.preserving);
        frontends.iter_mut().chain(preserving.iter_mut()).for_each(|record| record.selector = NONE);
        let selectors = take(&mut self.out.selectors);
        let backends = take(&mut self.out.backends);
        let slots = take(&mut self.out.slots);
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
            if preserves_source(service) {
                self.preserving(service, frontends, preserving);
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
                        preserves_source: preserves_source(service).into(),
                        dscp: service.policy.dscp.map_or(KEEP_DSCP, Dscp::number),
                        resets: (service.policy.removed_backend == RemovedBackend::Reset).into(),
                        reserved: 0,
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

    /// Notes the backends of a service that preserves the source, each once for all services.
    fn preserving(&self, service: &Service<'_>, frontends: &[FrontendRecord], table: &mut [FrontendRecord]) {
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
                hop: self.hop_to(backend.endpoint.address),
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

    /// The index of the hop that leads to a backend, or [`NONE`].
    fn hop_to(&self, address: IpAddr) -> u32 {
        let hop = match address {
            IpAddr::V4(address) => {
                let ranges = self.out.overlay_v4.get(..self.used.overlay_v4).unwrap_or_default();
                ranges::find(ranges, u128::from(address.to_bits()))
            }
            IpAddr::V6(address) => {
                let ranges = self.out.overlay_v6.get(..self.used.overlay_v6).unwrap_or_default();
                ranges::find(ranges, address.to_bits())
            }
        };
        hop.unwrap_or(NONE)
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
