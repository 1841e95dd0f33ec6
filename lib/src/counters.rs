//! Counters that one worker writes and anyone may read.
//!
//! Each counter has one writer, so adding is a plain load and store, never a locked instruction.
//! Readers see each counter whole; two counters need not be of the same moment.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::flow::{FlowEnd, Worth};
use crate::net::{POOL_MAX, PORTS_MAX, PortId};
use crate::verdict::DropReason;

/// A number that only grows, written by one thread.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count. Only the owning worker calls this.
    #[inline]
    pub fn add(&self, count: u64) {
        // Relaxed: the value alone matters, it orders nothing.
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets and their bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// How many packets.
    pub packets: Counter,
    /// How many bytes they had.
    pub bytes: Counter,
}

impl Traffic {
    /// Counts `packets` of `bytes` together.
    #[inline]
    pub fn count(&self, packets: u64, bytes: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
    }
}

/// The traffic of one port, as frames with their Ethernet headers.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// What came in.
    pub received: Traffic,
    /// What was given a verdict of transmit.
    pub transmitted: Traffic,
}

/// The traffic of one service, as IP packets on the client's side.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServiceCounters {
    /// From clients.
    pub original: Traffic,
    /// To clients.
    pub reply: Traffic,
    /// Flows that were created.
    pub flows: Counter,
}

/// A number that goes up and down, written by one thread.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Changes the number. Only the owning worker calls this.
    pub(crate) fn set(&self, number: u64) {
        // Relaxed: the value alone matters, it orders nothing.
        self.0.store(number, Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Flows that have each address of one family's pool, by its place among them in the description.
#[derive(Debug)]
#[repr(transparent)]
pub struct PoolFlows([Gauge; POOL_MAX]);

impl Default for PoolFlows {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Gauge::default()))
    }
}

impl PoolFlows {
    /// How many of the worker's flows had this address when ageing last came round: the whole table
    /// is looked at once a round, so the number is as old as a round takes.
    #[must_use]
    pub fn get(&self, place: usize) -> u64 {
        self.0.get(place).map_or(0, Gauge::get)
    }

    pub(crate) fn set(&self, counts: &[u32; POOL_MAX]) {
        self.0.iter().zip(counts).for_each(|(gauge, count)| gauge.set(u64::from(*count)));
    }
}

/// A counter for each reason, in the order of [`DropReason::ALL`].
#[derive(Debug)]
#[repr(transparent)]
struct Drops([Counter; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Counter::default()))
    }
}

/// What one worker counts.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counters {
    /// By port.
    pub ports: [PortCounters; PORTS_MAX],
    /// By reason, in the order of [`DropReason::ALL`].
    drops: Drops,
    /// By IPv4 pool address.
    pub pool_v4: PoolFlows,
    /// By IPv6 pool address.
    pub pool_v6: PoolFlows,
    /// By IPv4 masquerade address.
    pub masquerade_v4: PoolFlows,
    /// By IPv6 masquerade address.
    pub masquerade_v6: PoolFlows,
    /// Pods' IPv4 flows towards the remote endpoint that most go to, at most, when ageing last came
    /// round: each has a port of its own there.
    pub busiest_v4: Gauge,
    /// The same over IPv6.
    pub busiest_v6: Gauge,
    /// Frames that went to the host.
    pub host: Counter,
    /// Frames that went to the worker that owns their flow.
    pub handovers: Counter,
    /// Fragments that have waited, for the first one of their datagram or for spare buffers.
    pub fragments_held: Counter,
    /// Fragments that packets were sent in, but for the first of each.
    pub fragments_created: Counter,
    /// Flows that were created.
    pub flows_created: Counter,
    /// Flows that were forgotten after their idle time, or whose own address is the gateway's no more.
    pub flows_expired: Counter,
    /// Flows whose connection had ended, or whose backend was gone, and that a new one of the same tuple took the
    /// place of.
    pub flows_reopened: Counter,
    /// Flows that ended with a reset before anybody had answered.
    pub flows_reset: Counter,
    /// Half-open flows that were evicted: for new ones in a full table, or for their client's in one that
    /// fills.
    pub evicted_half_open: Counter,
    /// Flows that were evicted for new ones in a full table: UDP and echo requests that nobody had answered.
    pub evicted_one_way: Counter,
    /// As before: connections that had ended or were about to.
    pub evicted_closing: Counter,
    /// As before: answered, but never assured.
    pub evicted_unassured: Counter,
    /// As before: UDP that went back and forth.
    pub evicted_stream: Counter,
    /// Packets that went on without a flow, for want of room or by the limit on new ones.
    pub forwarded_stateless: Counter,
    /// Pings that the gateway answered itself, each counted once however many fragments it came in.
    pub echoes_answered: Counter,
    /// ICMP errors of others about packets of flows, translated and sent on.
    pub errors_translated: Counter,
    /// ICMP errors of the gateway's own.
    pub errors_sent: Counter,
    /// TCP resets of the gateway's own.
    pub resets_sent: Counter,
}

impl Counters {
    /// How many counters have a [name](Self::named).
    pub const NAMED: usize = 18;

    /// Every counter that is counted once for the whole worker, in the order of the packet's way, by the name that
    /// status and documents call it. Those of ports and drops, and the gauges of addresses, are not among them.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, &Counter); Self::NAMED] {
        // A counter that is forgotten below is a variable that is not used.
        let Self {
            ports: _,
            drops: _,
            pool_v4: _,
            pool_v6: _,
            masquerade_v4: _,
            masquerade_v6: _,
            busiest_v4: _,
            busiest_v6: _,
            host,
            handovers,
            fragments_held,
            fragments_created,
            flows_created,
            flows_expired,
            flows_reopened,
            flows_reset,
            evicted_half_open,
            evicted_one_way,
            evicted_closing,
            evicted_unassured,
            evicted_stream,
            forwarded_stateless,
            echoes_answered,
            errors_translated,
            errors_sent,
            resets_sent,
        } = self;
        [
            ("host", host),
            ("handovers", handovers),
            ("fragments-held", fragments_held),
            ("fragments-created", fragments_created),
            ("flows-created", flows_created),
            ("flows-expired", flows_expired),
            ("flows-reopened", flows_reopened),
            ("flows-reset", flows_reset),
            ("evicted-half-open", evicted_half_open),
            ("evicted-one-way", evicted_one_way),
            ("evicted-closing", evicted_closing),
            ("evicted-unassured", evicted_unassured),
            ("evicted-stream", evicted_stream),
            ("forwarded-stateless", forwarded_stateless),
            ("echoes-answered", echoes_answered),
            ("errors-translated", errors_translated),
            ("errors-sent", errors_sent),
            ("resets-sent", resets_sent),
        ]
    }

    /// Flows that ended in one way or another: those that were created (or adopted) and not ended are
    /// in the tables.
    #[must_use]
    pub fn flows_ended(&self) -> u64 {
        [
            &self.flows_expired,
            &self.flows_reopened,
            &self.flows_reset,
            &self.evicted_half_open,
            &self.evicted_one_way,
            &self.evicted_closing,
            &self.evicted_unassured,
            &self.evicted_stream,
        ]
        .into_iter()
        .map(Counter::get)
        .fold(0, u64::wrapping_add)
    }

    /// Counts a flow that ended in this eviction class, if it was in one.
    pub(crate) fn count_end(&self, end: FlowEnd, worth: Option<Worth>) {
        let counter = match (end, worth) {
            (FlowEnd::Expired | FlowEnd::AddressGone, _) | (FlowEnd::Evicted, None) => &self.flows_expired,
            (FlowEnd::Reopened, _) => &self.flows_reopened,
            (FlowEnd::Reset, _) => &self.flows_reset,
            (FlowEnd::Evicted, Some(Worth::HalfOpen)) => &self.evicted_half_open,
            (FlowEnd::Evicted, Some(Worth::OneWay)) => &self.evicted_one_way,
            (FlowEnd::Evicted, Some(Worth::Closing)) => &self.evicted_closing,
            (FlowEnd::Evicted, Some(Worth::Unassured)) => &self.evicted_unassured,
            (FlowEnd::Evicted, Some(Worth::Stream)) => &self.evicted_stream,
        };
        counter.add(1);
    }

    /// Counts a drop.
    #[inline]
    pub fn count_drop(&self, reason: DropReason) {
        self.count_drops(reason, 1);
    }

    /// Counts several drops for one reason.
    #[inline]
    pub fn count_drops(&self, reason: DropReason, frames: u64) {
        if let Some(counter) = self.drops.0.get(reason as usize) {
            counter.add(frames);
        }
    }

    /// How many frames were dropped for this reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.0.get(reason as usize).map_or(0, Counter::get)
    }

    /// The counters of a port.
    #[must_use]
    #[inline]
    pub fn port(&self, port: PortId) -> Option<&PortCounters> {
        self.ports.get(usize::from(port.0))
    }
}
