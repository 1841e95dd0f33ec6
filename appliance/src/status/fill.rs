//! How full tables and pools are, and warnings before one is full.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Status;

/// The fill from which on there is a warning, in hundredths.
const HIGH: u64 = 90;
/// How often the same warning is logged.
const AGAIN: Duration = Duration::from_secs(60);

/// How full something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fill {
    used: u64,
    capacity: u64,
}

impl Fill {
    pub(super) const fn new(used: u64, capacity: u64) -> Self {
        Self { used, capacity }
    }

    /// In hundredths, rounded down; 0 where the capacity is 0.
    pub(super) fn percent(self) -> u64 {
        self.used.saturating_mul(100).checked_div(self.capacity).unwrap_or(0)
    }

    fn is_high(self) -> bool {
        self.percent() >= HIGH
    }
}

/// How many flows a pool address can have towards these backends: every port towards each of them.
pub(super) fn pool_capacity(address: IpAddr, ports: (u16, u16), backends: impl Iterator<Item = IpAddr>) -> u64 {
    self::ports(ports) * backends.filter(|backend| backend.is_ipv4() == address.is_ipv4()).count() as u64
}

/// How many flows a masquerade address can have towards one remote endpoint: its ports.
pub(super) fn ports((first, last): (u16, u16)) -> u64 {
    u64::from(last.saturating_sub(first)) + 1
}

/// What an operator should know before something is full: a name that stays the same, and a sentence.
fn high(status: &Status) -> Vec<(String, String)> {
    let tables = status.flows.iter().filter(|table| Fill::new(table.used.into(), table.capacity.into()).is_high());
    let tables = tables.map(|table| {
        let (worker, used, capacity) = (table.worker, table.used, table.capacity);
        let field = if table.family == "ipv4" { "capacity_v4" } else { "capacity_v6" };
        let what = format!("the {} flow table of worker {worker}", table.family);
        let sentence = format!("{what} has {used} of {capacity} flows; raise flows.{field}");
        (what, sentence)
    });
    let pools = status.pool.iter().filter(|pool| Fill::new(pool.flows, pool.capacity).is_high());
    let pools = pools.map(|pool| {
        let what = format!("pool address {}", pool.address);
        let sentence =
            format!("{what} has {} of {} flows; add addresses to overlay.snat_pool", pool.flows, pool.capacity);
        (what, sentence)
    });
    let masquerade = status.masquerade.iter().filter(|own| Fill::new(own.busiest, own.capacity).is_high());
    let masquerade = masquerade.map(|own| {
        let what = format!("masquerade address {}", own.address);
        let sentence = format!(
            "{what} has {} of {} flows towards one remote endpoint; add addresses to masquerade.addresses",
            own.busiest, own.capacity
        );
        (what, sentence)
    });
    tables.chain(pools).chain(masquerade).collect()
}

/// The warnings that status shows.
pub(super) fn warnings(status: &Status) -> Vec<String> {
    high(status).into_iter().map(|(_, sentence)| sentence).collect()
}

/// Which warnings the log has had.
#[derive(Debug, Default)]
pub struct Watch {
    told: HashMap<String, Instant>,
}

impl Watch {
    /// The warnings to log now: each when it first applies, and again after a minute.
    pub fn due(&mut self, now: Instant, status: &Status) -> Vec<String> {
        self.told.retain(|_, told| now - *told < AGAIN);
        let mut due = high(status);
        due.retain(|(name, _)| !self.told.contains_key(name));
        self.told.extend(due.iter().map(|(name, _)| (name.clone(), now)));
        due.into_iter().map(|(_, sentence)| sentence).collect()
    }
}
