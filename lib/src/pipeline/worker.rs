//! One worker's own state: its flows, its counters, what it wants resolved.

use core::fmt;
use core::net::IpAddr;

use super::limits::{Budget, Pacer};
use crate::counters::{Counters, Gauge, PoolFlows, ServiceCounters};
use crate::flow::{self, Adopted, Age, Entry, Mode, Owner, Table, TableError, Tuple, raw, tick};
use crate::fragment::{Fragments, FragmentsError, Limits};
use crate::frame::Frame;
use crate::hash::Stream;
use crate::nat::Exhausted;
use crate::net::{POOL_MAX, PortId, Protocol, WorkerId};
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
    pub(super) v4: Table<'m, [u8; 4]>,
    pub(super) v6: Table<'m, [u8; 16]>,
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
    pool_v4: PoolCount,
    pool_v6: PoolCount,
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
        Ok(Self::with_tables(config, (v4, v6, fragments), counters, services))
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
        Ok((Self::with_tables(config, (v4, v6, fragments), counters, services), adopted))
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
        (v4, v6, fragments): (Table<'m, [u8; 4]>, Table<'m, [u8; 16]>, Fragments<'m>),
        counters: &'m Counters,
        services: &'m [ServiceCounters],
    ) -> Self {
        let [a, b, c, d] = config.secret;
        Self {
            id: config.id,
            v4,
            v6,
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
            pool_v4: PoolCount::new(),
            pool_v6: PoolCount::new(),
            unresolved: [None; UNRESOLVED_MAX],
        }
    }

    /// Forgets flows that idled too long, and fragmented datagrams of which nothing has come for too long, among
    /// the next `budget` of each.
    pub fn age(&mut self, snapshot: &Snapshot<'_>, now: Instant, budget: u32) {
        let Counters { pool_v4, pool_v6, masquerade_v4, masquerade_v6, busiest_v4, busiest_v6, .. } = self.counters;
        self.pool_v4.round(&self.v4, snapshot, [pool_v4, masquerade_v4], busiest_v4, budget);
        self.pool_v6.round(&self.v6, snapshot, [pool_v6, masquerade_v6], busiest_v6, budget);
        let age = Age { tick: tick(now), idle: &snapshot.globals.idle_ticks };
        let expired = self.v4.age(age, budget) + self.v6.age(age, budget);
        if expired != 0 {
            self.counters.flows_expired.add(u64::from(expired));
        }
        self.fragments.age(tick(now), budget);
        self.count_lost_fragments();
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
        self.fragmented_identification = self.fragmented_identification.wrapping_add(1);
        (self.fragmented_identification % (u16::MAX / workers)) * workers + u16::from(self.id.0) % workers
    }

    /// The next neighbour whose link address packets wait for, and its port. Ask the
    /// kernel to resolve it.
    pub fn next_unresolved(&mut self) -> Option<(PortId, IpAddr)> {
        self.unresolved.iter_mut().find_map(Option::take)
    }

    /// The IPv4 flows.
    #[must_use]
    pub const fn flows_v4(&self) -> &Table<'m, [u8; 4]> {
        &self.v4
    }

    /// The IPv6 flows.
    #[must_use]
    pub const fn flows_v6(&self) -> &Table<'m, [u8; 16]> {
        &self.v6
    }

    /// Forgets the IPv4 flow at this place of its table.
    pub fn forget_v4(&mut self, index: u32) {
        self.v4.remove(index);
    }

    /// Forgets the IPv6 flow at this place of its table.
    pub fn forget_v6(&mut self, index: u32) {
        self.v6.remove(index);
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

/// Remote endpoints share this many counts, by their hash.
const REMOTE_COUNTS: usize = 256;

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

    /// Looks at the next `budget` entries, and tells the counts after the last one.
    fn round<A: Family>(
        &mut self,
        flows: &Table<'_, A>,
        snapshot: &Snapshot<'_>,
        told: [&PoolFlows; 2],
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
                told.into_iter().zip(&self.counts).for_each(|(told, counts)| told.set(counts));
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
