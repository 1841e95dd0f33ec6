//! One worker's own state: its flows, its counters, what it wants resolved.

use core::fmt;
use core::net::IpAddr;

use super::limits::{Budget, Pacer};
use super::observe::Observer;
use super::pool_flows::PoolCounts;
use crate::counters::{Counters, ServiceCounters};
use crate::flow::{self, Address, Adopted, Age, Entry, FlowEvent, Owner, Table, TableError, Tables, raw, tick};
use crate::fragment::{Fragments, FragmentsError, Limits};
use crate::frame::Frame;
use crate::hash::Stream;
use crate::nat::Exhausted;
use crate::net::{PortId, WorkerId};
use crate::snapshot::{Family, Snapshot};
use crate::time::Instant;
use crate::verdict::{DropReason, Verdict};

/// How many next hops can wait to be asked for; more are asked for by later packets.
const UNRESOLVED_MAX: usize = 16;

/// How often a worker may look for a free port in order: what one look costs, its other packets wait.
const SEARCHES_PER_SECOND: u64 = 50;
const SEARCHES_AT_ONCE: u64 = 4;

/// What a worker is made with.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// Which of the gateway's workers it is.
    pub id: WorkerId,
    /// How many workers the gateway has, as its snapshots say.
    pub workers: u8,
    /// The most IPv4 flows.
    pub flows_v4: u32,
    /// The most IPv6 flows.
    pub flows_v6: u32,
    /// How much it keeps of fragmented datagrams.
    pub fragments: Limits,
    /// Random bits that nobody outside knows: the choice of ports hangs on them, and the hash of
    /// flow tables that are made (one that is adopted keeps its own).
    pub secret: [u64; 4],
}

impl WorkerConfig {
    /// Of one of so many workers, with 65 536 flows of each family and [`Limits::default`]. Set the other fields as
    /// need be.
    #[must_use]
    pub fn new(id: WorkerId, workers: u8, secret: [u64; 4]) -> Self {
        Self { id, workers, flows_v4: 1 << 16, flows_v6: 1 << 16, fragments: Limits::default(), secret }
    }

    const fn owner(&self) -> Owner {
        Owner { worker: self.id, workers: self.workers }
    }
}

/// Why a worker cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitError {
    /// The worker's number is none of so many workers'.
    Id,
    /// The table of IPv4 flows.
    FlowsV4(TableError),
    /// The table of IPv6 flows.
    FlowsV6(TableError),
    /// What is kept of fragmented datagrams.
    Fragments(FragmentsError),
}

/// Why a worker cannot go on with the memory of an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// The table of IPv4 flows.
    FlowsV4(flow::AttachError),
    /// The table of IPv6 flows.
    FlowsV6(flow::AttachError),
    /// What is kept of fragmented datagrams; that starts empty.
    Fragments(FragmentsError),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FlowsV4(error) => write!(f, "table of IPv4 flows: {error}"),
            Self::FlowsV6(error) => write!(f, "table of IPv6 flows: {error}"),
            Self::Fragments(error) => write!(f, "fragmented datagrams: {error}"),
        }
    }
}

impl core::error::Error for AttachError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(match self {
            Self::FlowsV4(error) | Self::FlowsV6(error) => error,
            Self::Fragments(error) => error,
        })
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("the worker's number is none of so many workers'"),
            Self::FlowsV4(error) => write!(f, "table of IPv4 flows: {error}"),
            Self::FlowsV6(error) => write!(f, "table of IPv6 flows: {error}"),
            Self::Fragments(error) => write!(f, "fragmented datagrams: {error}"),
        }
    }
}

impl core::error::Error for InitError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Id => None,
            Self::FlowsV4(error) | Self::FlowsV6(error) => Some(error),
            Self::Fragments(error) => Some(error),
        }
    }
}

/// Everything that one worker changes. Never shared, never locked.
#[derive(Debug)]
pub struct Worker<'m> {
    pub(super) id: WorkerId,
    pub(super) flows: Tables<'m>,
    pub(super) fragments: Fragments<'m>,
    pub(super) counters: &'m Counters,
    pub(super) services: &'m [ServiceCounters],
    random: Stream,
    pub(super) identification: u16,
    /// Counts the fragmented datagrams that got an identification of the gateway's own.
    fragmented_identification: u16,
    /// For errors of the gateway's own, all but those that tell of an MTU.
    pub(super) errors: Budget,
    /// For those, to clients and to pods: neither side can use up the other's.
    pub(super) too_big: [Budget; 2],
    /// For pings that are answered: of overlay addresses, and of all others.
    pub(super) echoes: [Pacer; 2],
    pub(super) searches: Budget,
    pub(super) exhausted: Exhausted,
    /// For errors that look for their flow's worker: those that tell of an MTU, and all others.
    pub(super) rounds: [Budget; 2],
    pub(super) new_flows: Pacer,
    pub(super) now: Instant,
    pools: PoolCounts,
    unresolved: [Option<(PortId, IpAddr)>; UNRESOLVED_MAX],
}

impl<'m> Worker<'m> {
    /// How many bytes of memory a worker takes, to begin at a multiple of 64.
    #[must_use]
    pub const fn memory_bytes(config: &WorkerConfig) -> usize {
        Table::<[u8; 4]>::memory_bytes(config.flows_v4)
            + Table::<[u8; 16]>::memory_bytes(config.flows_v6)
            + Fragments::memory_bytes(&config.fragments)
    }

    /// Makes a worker without flows. Touches all of `memory` once; after this nothing is allocated.
    ///
    /// - `services`: counters by a service's number; a service past the end goes uncounted.
    ///
    /// # Errors
    /// [`InitError`] where the worker's number or a table's capacity is out of range, or the memory does not hold it.
    pub fn new(
        config: &WorkerConfig,
        memory: &'m mut [u8],
        counters: &'m Counters,
        services: &'m [ServiceCounters],
    ) -> Result<Self, InitError> {
        if config.id.0 >= config.workers {
            return Err(InitError::Id);
        }
        let (memory_v4, memory_v6, rest) = Self::split(config, memory);
        let v4 = Table::with_owner(config.flows_v4, config.owner(), config.secret, memory_v4);
        let v6 = Table::with_owner(config.flows_v6, config.owner(), config.secret, memory_v6);
        let (v4, v6) = (v4.map_err(InitError::FlowsV4)?, v6.map_err(InitError::FlowsV6)?);
        let fragments = Self::fragments(config, rest).map_err(InitError::Fragments)?;
        Ok(Self::with_tables(config, (Tables { v4, v6 }, fragments), counters, services))
    }

    /// Whether [`attach`](Self::attach) would go on with this memory. Reads two cache lines.
    ///
    /// # Errors
    /// What keeps it from being adopted; [`new`](Self::new) begins without flows instead.
    pub fn check(config: &WorkerConfig, memory: &[u8]) -> Result<(), AttachError> {
        let split = Table::<[u8; 4]>::memory_bytes(config.flows_v4).min(memory.len());
        let (memory_v4, rest) = memory.split_at(split);
        let split = Table::<[u8; 16]>::memory_bytes(config.flows_v6).min(rest.len());
        let (memory_v6, rest) = rest.split_at(split);
        Table::<[u8; 4]>::check(config.flows_v4, config.owner(), memory_v4).map_err(AttachError::FlowsV4)?;
        Table::<[u8; 16]>::check(config.flows_v6, config.owner(), memory_v6).map_err(AttachError::FlowsV6)?;
        Fragments::check(&config.fragments, rest.len()).map_err(AttachError::Fragments)
    }

    /// Goes on with the flows that an earlier process left in this memory, whatever instruction it
    /// died at. Nobody else may write there any more.
    ///
    /// - `config`: as the tables were made, but for the secret.
    /// - `snapshot`: the one in force. Flows whose replies lead to another worker under it, as its ports or the
    ///   selector's seed are not those that they began under, or to an address that is not the gateway's, are
    ///   [dropped](Adopted::strayed): somebody else may give their ports to others.
    /// - Work: linear in the capacities; see [`Table::attach`].
    ///
    /// # Errors
    /// [`AttachError`], which [`check`](Self::check) tells beforehand; no flow is changed then.
    pub fn attach(
        config: &WorkerConfig,
        snapshot: &Snapshot<'_>,
        memory: &'m mut [u8],
        counters: &'m Counters,
        services: &'m [ServiceCounters],
    ) -> Result<(Self, Adopted), AttachError> {
        Self::check(config, memory)?;
        let (memory_v4, memory_v6, rest) = Self::split(config, memory);
        let (v4, adopted_v4) =
            Self::table(config.flows_v4, config, snapshot, memory_v4).map_err(AttachError::FlowsV4)?;
        let (v6, adopted_v6) =
            Self::table(config.flows_v6, config, snapshot, memory_v6).map_err(AttachError::FlowsV6)?;
        let adopted = Adopted {
            flows: adopted_v4.flows + adopted_v6.flows,
            damaged: adopted_v4.damaged + adopted_v6.damaged,
            strayed: adopted_v4.strayed + adopted_v6.strayed,
        };
        // Fragments that were on their way are sent again.
        let fragments = Self::fragments(config, rest).map_err(AttachError::Fragments)?;
        Ok((Self::with_tables(config, (Tables { v4, v6 }, fragments), counters, services), adopted))
    }

    /// Of an earlier process's table the flows whose replies lead here.
    fn table<A: Family>(
        capacity: u32,
        config: &WorkerConfig,
        snapshot: &Snapshot<'_>,
        memory: &'m mut [u8],
    ) -> Result<(Table<'m, A>, Adopted), flow::AttachError> {
        let is_ours = |entry: &Entry<A>| snapshot.reply_owner(entry) == Some(config.id) && snapshot.has_address(entry);
        // The snapshots to come count up from this one's number.
        let earlier = snapshot.generation().wrapping_sub(1);
        Table::attach(capacity, config.owner(), memory, earlier, is_ours)
    }

    /// The memory of the IPv4 flows, of the IPv6 flows, and the rest.
    fn split(config: &WorkerConfig, memory: &'m mut [u8]) -> (&'m mut [u8], &'m mut [u8], &'m mut [u8]) {
        let split = Table::<[u8; 4]>::memory_bytes(config.flows_v4).min(memory.len());
        let (memory_v4, rest) = memory.split_at_mut(split);
        let split = Table::<[u8; 16]>::memory_bytes(config.flows_v6).min(rest.len());
        let (memory_v6, rest) = rest.split_at_mut(split);
        (memory_v4, memory_v6, rest)
    }

    fn fragments(config: &WorkerConfig, memory: &'m mut [u8]) -> Result<Fragments<'m>, FragmentsError> {
        let [a, b, c, d] = config.secret;
        Fragments::new(&config.fragments, [b, a, d, c], memory)
    }

    fn with_tables(
        config: &WorkerConfig,
        (flows, fragments): (Tables<'m>, Fragments<'m>),
        counters: &'m Counters,
        services: &'m [ServiceCounters],
    ) -> Self {
        let [a, b, c, d] = config.secret;
        Self {
            id: config.id,
            flows,
            fragments,
            counters,
            services,
            random: Stream::new([d, c, b, a]),
            identification: 0,
            // Receivers may still hold fragments that an earlier process numbered.
            fragmented_identification: Stream::new([c, a, d, b]).next() as u16,
            errors: Budget::icmp(),
            too_big: [Budget::too_big(); 2],
            echoes: [Pacer::new(); 2],
            searches: Budget::new(SEARCHES_PER_SECOND, SEARCHES_AT_ONCE),
            exhausted: Exhausted::NONE,
            rounds: [Budget::too_big(), Budget::icmp()],
            new_flows: Pacer::new(),
            now: Instant::ZERO,
            pools: PoolCounts::new(),
            unresolved: [None; UNRESOLVED_MAX],
        }
    }

    /// Forgets flows that idled too long, and fragmented datagrams of which nothing has come for too long, among
    /// the next `budget` of each.
    pub fn age(&mut self, snapshot: &Snapshot<'_>, now: Instant, budget: u32) {
        self.age_observed(snapshot, now, budget, &mut ());
    }

    /// As [`age`](Self::age), and reports each flow that ends to `observer`.
    pub fn age_observed(&mut self, snapshot: &Snapshot<'_>, now: Instant, budget: u32, observer: &mut impl Observer) {
        self.pools.round(&self.flows, snapshot, self.counters, budget);
        let age = Age { tick: tick(now), idle: &snapshot.globals.idle_ticks };
        self.age_family::<[u8; 4]>(age, budget, observer);
        self.age_family::<[u8; 16]>(age, budget, observer);
        self.fragments.age(tick(now), budget);
        self.count_lost_fragments();
    }

    fn age_family<A: Address>(&mut self, age: Age<'_>, budget: u32, observer: &mut impl Observer) {
        let counters = self.counters;
        self.flows.of_mut::<A>().age(age, budget, &mut |entry, end| {
            counters.count_end(end, entry.worth());
            observer.flow(A::flow(entry), FlowEvent::Ended(end));
        });
    }

    /// Whether frames of the worker's own wait for spare buffers. Call the pipeline again, with an
    /// empty burst if need be, and they leave.
    #[must_use]
    #[inline]
    pub const fn has_waiting_frames(&self) -> bool {
        self.fragments.has_ready()
    }

    /// How many fragmented datagrams are known.
    #[must_use]
    pub const fn fragmented_datagrams(&self) -> u32 {
        self.fragments.len()
    }

    /// Counts the fragments that waited in vain.
    pub(super) fn count_lost_fragments(&mut self) {
        let lost = self.fragments.take_lost();
        for (reason, fragments) in [
            (DropReason::FragmentExpired, lost.expired),
            (DropReason::FragmentDisplaced, lost.displaced),
            (DropReason::FragmentRefused, lost.refused),
        ] {
            self.counters.count_drops(reason, fragments.into());
        }
    }

    /// An IPv4 identification that no recent fragmented datagram of the gateway's has. Each worker has numbers of its
    /// own (RFC 6864 §5.3.1).
    pub(super) fn next_identification(&mut self, workers: u8) -> u16 {
        let workers = u16::from(workers.max(1));
        self.fragmented_identification = self.fragmented_identification.wrapping_add(1) % (u16::MAX / workers);
        self.fragmented_identification * workers + u16::from(self.id.0) % workers
    }

    /// The next neighbour whose link address packets wait for, and its port. Ask the
    /// kernel to resolve it.
    pub fn next_unresolved(&mut self) -> Option<(PortId, IpAddr)> {
        self.unresolved.iter_mut().find_map(Option::take)
    }

    /// The flows of both families.
    #[must_use]
    pub const fn flows(&self) -> &Tables<'m> {
        &self.flows
    }

    /// Forgets the flow at this place of its family's table. It is neither counted nor observed.
    pub fn forget<A: Address>(&mut self, index: u32) {
        self.flows.of_mut::<A>().remove(index);
    }

    /// The random numbers for a packet with this hash: the same each time, until they are renewed.
    pub(super) const fn random(&self, hash: u64) -> Stream {
        self.random.branch(hash)
    }

    pub(super) fn renew_random(&mut self) {
        self.random.next();
    }

    pub(super) const fn begin(&mut self, now: Instant) {
        self.now = now;
    }

    #[cold]
    pub(super) fn want_resolved(&mut self, port: PortId, address: IpAddr) {
        let wanted = Some((port, address));
        if !self.unresolved.contains(&wanted)
            && let Some(place) = self.unresolved.iter_mut().find(|place| place.is_none())
        {
            *place = wanted;
        }
    }

    /// Counts frames that have come in, by their port, and asks for the memory of their headers.
    #[inline(always)]
    pub(super) fn receive(&self, frames: &[Frame<'_>]) {
        let mut sum = PortSum::NONE;
        for frame in frames {
            frame.lines().for_each(raw::prefetch);
            if sum.port != frame.port() {
                self.add_received(sum);
                sum = PortSum { port: frame.port(), ..PortSum::NONE };
            }
            sum.add(frame);
        }
        self.add_received(sum);
    }

    /// Counts what has become of frames.
    #[inline(always)]
    pub(super) fn count_verdicts(&self, frames: &[Frame<'_>]) {
        let mut sum = PortSum::NONE;
        for frame in frames {
            match frame.verdict() {
                Some(Verdict::Transmit(port)) => {
                    if sum.port != port {
                        self.add_transmitted(sum);
                        sum = PortSum { port, ..PortSum::NONE };
                    }
                    sum.add(frame);
                }
                Some(verdict) => self.count_unsent(verdict),
                None => {}
            }
        }
        self.add_transmitted(sum);
    }

    fn add_received(&self, sum: PortSum) {
        if let Some(port) = self.counters.port(sum.port) {
            port.received.count(sum.packets, sum.bytes);
        }
    }

    fn add_transmitted(&self, sum: PortSum) {
        if let Some(port) = self.counters.port(sum.port) {
            port.transmitted.count(sum.packets, sum.bytes);
        }
    }

    #[cold]
    fn count_unsent(&self, verdict: Verdict) {
        match verdict {
            Verdict::Transmit(_) => {}
            Verdict::Host => self.counters.host.add(1),
            Verdict::Drop(reason) => self.counters.count_drop(reason),
            Verdict::Handover(_) => self.counters.handovers.add(1),
            Verdict::Held => self.counters.fragments_held.add(1),
        }
    }
}

/// Frames of one port that follow each other, to be counted at once.
#[derive(Clone, Copy)]
struct PortSum {
    port: PortId,
    packets: u64,
    bytes: u64,
}

impl PortSum {
    const NONE: Self = Self { port: PortId(0), packets: 0, bytes: 0 };

    #[inline(always)]
    const fn add(&mut self, frame: &Frame<'_>) {
        self.packets += 1;
        self.bytes += frame.len() as u64;
    }
}

#[cfg(test)]
mod tests;
