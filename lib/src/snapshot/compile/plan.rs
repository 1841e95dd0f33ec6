//! How many records each section may have, and how much room it takes to work.

use super::addresses::{answering, local};
use super::services::{preserves_source, slots_of};
use crate::maglev::Member;
use crate::net;
use crate::snapshot::description::{Description, Service};
use crate::snapshot::layout::Header;
use crate::snapshot::ranges::{Prefix, ranges_max};
use crate::snapshot::sections::{Counts, sized};

/// Counts that decide the layout. Some sections come to have fewer.
pub(super) struct Plan {
    pub(super) counts: Counts,
    /// Bytes to work in.
    scratch: usize,
}

/// Of both families, what there is of each.
fn by_family(are_v4: impl Iterator<Item = bool>) -> (usize, usize) {
    are_v4.fold((0, 0), |(v4, v6), is_v4| if is_v4 { (v4 + 1, v6) } else { (v4, v6 + 1) })
}

impl Plan {
    pub(super) fn new(d: &Description<'_>) -> Self {
        let masquerade = &d.gateway.masquerade;
        let overlay = by_family(d.peers.iter().map(|peer| peer.subnet.is_ipv4()));
        let routes = by_family(d.routes.iter().map(|route| route.prefix.is_ipv4()));
        let subnets = by_family(d.gateway.subnets.iter().map(net::Prefix::is_ipv4));
        let exempt = by_family(masquerade.exempt.iter().map(net::Prefix::is_ipv4));
        let pool = by_family(d.gateway.pool.iter().map(|address| address.is_ipv4()));
        let stand_for_pods = by_family(masquerade.addresses.iter().map(|address| address.is_ipv4()));
        let local = by_family(local(d).map(|address| address.is_ipv4()));
        let echo = by_family(answering(d).map(|address| address.is_ipv4()));
        let sum = |of: &dyn Fn(&Service<'_>) -> usize| d.services.iter().map(of).sum::<usize>();
        let counts = Counts {
            globals: 1,
            ports: d.ports.len(),
            // A half of both tables is always vacant, and of the second one record more says that there are services
            // of this kind.
            frontends: 2 * sum(&|service| service.frontends.len()) + 1,
            preserving: sum(&|service| if preserves_source(service) { 2 * service.backends.len() } else { 0 })
                + 1
                + usize::from(d.services.iter().any(preserves_source)),
            selectors: 2 * d.services.len(),
            backends: sum(&|service| service.backends.len()),
            slots: sum(&|service| slots_of(service, true) + slots_of(service, false)),
            hops: d.peers.len(),
            overlay_v4: ranges_max(overlay.0),
            overlay_v6: ranges_max(overlay.1),
            routes_v4: ranges_max(routes.0),
            routes_v6: ranges_max(routes.1),
            route_targets: d.routes.len(),
            neighbours: d.neighbours.len(),
            pool_v4: pool.0,
            pool_v6: pool.1,
            subnets_v4: ranges_max(subnets.0),
            subnets_v6: ranges_max(subnets.1),
            masquerade_v4: stand_for_pods.0,
            masquerade_v6: stand_for_pods.1,
            exempt_v4: ranges_max(exempt.0),
            exempt_v6: ranges_max(exempt.1),
            local_v4: local.0,
            local_v6: local.1,
            echo_v4: echo.0,
            echo_v6: echo.1,
        };
        let prefixes = d.peers.len().max(d.routes.len()).max(d.gateway.subnets.len()).max(masquerade.exempt.len());
        let members = d.services.iter().map(|service| service.backends.len()).max().unwrap_or(0);
        Self { counts, scratch: sized::<Prefix>(prefixes).max(sized::<Member>(members)) }
    }

    pub(super) const fn snapshot_bytes(&self) -> usize {
        sized::<Header>(1) + self.counts.bytes()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.snapshot_bytes() + self.scratch
    }
}
