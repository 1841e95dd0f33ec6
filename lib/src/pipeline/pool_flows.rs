//! How many flows each address of the SNAT pool and of masquerade has.

use crate::counters::{Counters, Gauge, PoolFlows};
use crate::flow::{Mode, Table, Tables, Tuple};
use crate::net::{POOL_MAX, Protocol};
use crate::snapshot::{Family, Snapshot};

/// Remote endpoints share this many counts, by their hash.
const REMOTE_COUNTS: usize = 256;

/// Counts them, of both families.
#[derive(Debug)]
pub(super) struct PoolCounts {
    v4: PoolCount,
    v6: PoolCount,
}

impl PoolCounts {
    pub(super) const fn new() -> Self {
        Self { v4: PoolCount::new(), v6: PoolCount::new() }
    }

    /// Looks at the next `budget` entries of each family, and sets the counts after the last one.
    pub(super) fn round(&mut self, flows: &Tables<'_>, snapshot: &Snapshot<'_>, counters: &Counters, budget: u32) {
        let Counters { pool_v4, pool_v6, masquerade_v4, masquerade_v6, busiest_v4, busiest_v6, .. } = counters;
        self.v4.round(&flows.v4, snapshot, [pool_v4, masquerade_v4], busiest_v4, budget);
        self.v6.round(&flows.v6, snapshot, [pool_v6, masquerade_v6], busiest_v6, budget);
    }
}

/// Counts the flows of each pool address and of each masquerade address, the entries that ageing is
/// about to look at at a time.
#[derive(Clone, Copy, Debug)]
struct PoolCount {
    next: u32,
    counts: [[u32; POOL_MAX]; 2],
    /// Pods' flows by the endpoint that they go to: never fewer than go there.
    remotes: [u32; REMOTE_COUNTS],
}

impl PoolCount {
    const fn new() -> Self {
        Self { next: 0, counts: [[0; POOL_MAX]; 2], remotes: [0; REMOTE_COUNTS] }
    }

    /// As [`PoolCounts::round`].
    fn round<A: Family>(
        &mut self,
        flows: &Table<'_, A>,
        snapshot: &Snapshot<'_>,
        gauges: [&PoolFlows; 2],
        busiest: &Gauge,
        budget: u32,
    ) {
        let pools = [A::pool(snapshot).addresses, A::masquerade(snapshot).addresses];
        for _ in 0..budget.min(flows.capacity()) {
            if let Some(entry) = flows.get(self.next).filter(|entry| entry.state().is_some()) {
                let own = entry.reply.destination;
                for (addresses, counts) in pools.iter().zip(&mut self.counts) {
                    let place = addresses.iter().position(|address| *address == own);
                    if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                        *count += 1;
                    }
                }
                if entry.mode == Mode::Outward as u8 {
                    let bucket = remote_hash(flows, &entry.reply, Protocol(entry.protocol)) >> 56;
                    if let Some(count) = self.remotes.get_mut(bucket as usize) {
                        *count += 1;
                    }
                }
            }
            self.next += 1;
            if self.next >= flows.capacity() {
                gauges.into_iter().zip(&self.counts).for_each(|(gauge, counts)| gauge.set(counts));
                busiest.set(self.remotes.iter().copied().max().unwrap_or(0).into());
                *self = Self::new();
            }
        }
    }
}

/// A hash of who answers. An echo's identifier is its sender's, and every one is a port of its own.
fn remote_hash<A: Family>(flows: &Table<'_, A>, reply: &Tuple<A>, protocol: Protocol) -> u64 {
    let is_echo = protocol == Protocol::ICMP || protocol == Protocol::ICMPV6;
    let port = if is_echo { [0; 2] } else { reply.source_port };
    let tuple = Tuple { destination: reply.source, source_port: port, destination_port: port, ..*reply };
    flows.hash(&tuple, protocol)
}
