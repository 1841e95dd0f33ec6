//! Which address and port of a pool stands for somebody else: for a client towards a backend, for a
//! pod towards the outside.
//!
//! A port is free towards a peer's endpoint when no flow has the whole reply tuple: the flow table is
//! the only record. One port serves as many endpoints as there are (RFC 7857 §3).
//!
//! Ports are dealt to workers in turn: port `first + n` belongs to worker `n` modulo the number of
//! workers, so that each has its share of whatever part of the range an address may use.
//!
//! # Examples
//!
//! Two hosts behind one address, to the same server and from the same port of theirs:
//!
//! ```
//! use weirgate::flow::{Age, State, Table, Timeouts, Tuple, idle_ticks};
//! use weirgate::hash::Stream;
//! use weirgate::nat::{self, Client, Peer, Pool};
//! use weirgate::net::{PortRange, Protocol, WorkerId};
//! use weirgate::time::Instant;
//!
//! let mut memory = vec![0_u8; Table::<[u8; 4]>::memory_bytes(64) + 64];
//! let start = memory.as_ptr().align_offset(64);
//! let mut flows = Table::<[u8; 4]>::new(64, [1, 2, 3, 4], &mut memory[start..])?;
//! let idle = idle_ticks(&Timeouts::default());
//! let age = Age::new(Instant::from_secs(1), &idle);
//!
//! let addresses = [[192, 0, 2, 1]];
//! let pool = Pool::new(&addresses, PortRange { first: 1024, last: 65_535 }, 1);
//! let server = Peer::new([203, 0, 113, 9], [0, 53], Protocol::UDP);
//! let mut random = Stream::new([5, 6, 7, 8]);
//! for host in [[10, 0, 0, 1], [10, 0, 0, 2]] {
//!     let asked = Tuple { source: host, destination: server.address, source_port: [0x20, 0], destination_port: [0, 53] };
//!     let reply = nat::allocate(&flows, &(), pool, (WorkerId(0), Client), server, &mut random).expect("a free port");
//!     assert_eq!((reply.source, reply.destination), (server.address, addresses[0]));
//!     flows.begin(asked, reply, Protocol::UDP, State::Udp, age)?;
//! }
//! assert_eq!(flows.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::flow::{Address, Entry, Table, Tuple};
use crate::hash::{HashKey, Stream, reduce};
#[cfg(doc)]
use crate::net::POOL_MAX;
use crate::net::{PortRange, Protocol, WorkerId};
use crate::time::{Instant, Span};

/// The most ports that are tried at random for a new flow.
pub const TRIES: u32 = 128;

/// The most ports that are looked at in a row when those were all taken.
pub const SEARCH: u32 = 8192;

/// Of so many ports in a row, one may be a given pod's (RFC 6888 REQ-4).
const POD_PART: u32 = 4;

/// The fewest ports that are shared out among pods; of less than that, each may use all.
const PARTED_MIN: u32 = 256;

/// Addresses that stand for others, and the ports of theirs that may.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a, A> {
    pub(crate) addresses: &'a [A],
    /// By place, the addresses that services listen at.
    pub(crate) listening: u64,
    pub(crate) ports: PortRange,
    /// Ports that no listening address uses.
    pub(crate) node_ports: PortRange,
    pub(crate) workers: u8,
}

/// Whose ports are looked for.
pub trait Subscriber: Copy {
    /// A hash of who has ports of his own; the same of all who have not.
    fn hash(self) -> u64;

    /// Of so many ports, those that may be his.
    fn count(self, ports: u32) -> u32;

    /// Which of all ports his port of this number is.
    fn number(self, number: u32) -> u32;
}

/// Of all clients, who share all ports.
#[derive(Clone, Copy, Debug)]
pub struct Client;

impl Subscriber for Client {
    #[inline(always)]
    fn hash(self) -> u64 {
        0
    }

    #[inline(always)]
    fn count(self, ports: u32) -> u32 {
        ports
    }

    #[inline(always)]
    fn number(self, number: u32) -> u32 {
        number
    }
}

/// Of a pod, by a hash of its address: two bits tell which port of each four is its own, for each 32 in turn.
#[derive(Clone, Copy, Debug)]
pub struct Pod(pub u64);

impl Subscriber for Pod {
    fn hash(self) -> u64 {
        self.0
    }

    fn count(self, ports: u32) -> u32 {
        ports / POD_PART
    }

    fn number(self, number: u32) -> u32 {
        POD_PART * number + (self.0 >> (number % 32 * 2)) as u32 % POD_PART
    }
}

impl<'a, A: Copy> Pool<'a, A> {
    /// These addresses, and the ports of theirs that may stand for others. More than [`POOL_MAX`] addresses
    /// are a pool as well, as long as no service listens at them.
    ///
    /// - `workers`: how many share the ports, from 1 up.
    #[must_use]
    pub const fn new(addresses: &'a [A], ports: PortRange, workers: u8) -> Self {
        Self { addresses, listening: 0, ports, node_ports: PortRange { first: 1, last: 0 }, workers }
    }

    /// As this pool, and services listen at some of its addresses: ports there that [`Services`] name, and those of
    /// `node_ports`, stand for nobody.
    ///
    /// - `listening`: a bit for each address, the first one's lowest.
    #[must_use]
    pub const fn with_services(self, listening: u64, node_ports: PortRange) -> Self {
        Self { listening, node_ports, ..self }
    }

    /// The addresses.
    #[must_use]
    pub const fn addresses(&self) -> &'a [A] {
        self.addresses
    }

    /// The worker whose flows use this port, in wire order.
    #[must_use]
    #[inline]
    pub fn owner(&self, port: [u8; 2]) -> WorkerId {
        let above = u16::from_be_bytes(port).saturating_sub(self.ports.first);
        // Less than the number of workers.
        WorkerId(above.checked_rem(u16::from(self.workers)).unwrap_or(0) as u8)
    }

    /// The ports of a worker on the address at this place, as far as they may be the subscriber's.
    #[inline(always)]
    fn share<T: Subscriber>(&self, place: u32, worker: WorkerId, subscriber: T) -> Share<T> {
        let step = u32::from(self.workers).max(1);
        let base = u32::from(self.ports.first) + u32::from(worker.0);
        // Ports of this worker below a limit.
        let below = |limit: u32| limit.saturating_sub(base).div_ceil(step);
        let whole = below(u32::from(self.ports.last) + 1);
        let is_listening = self.listening.checked_shr(place).is_some_and(|bits| bits & 1 == 1);
        let gap = if is_listening {
            let PortRange { first, last } = self.node_ports;
            (below(u32::from(first)).min(whole), below(u32::from(last) + 1).min(whole))
        } else {
            (whole, whole)
        };
        let gap_len = gap.1.saturating_sub(gap.0);
        let all = whole - gap_len;
        let subscriber = (all >= PARTED_MIN).then_some(subscriber);
        let count = subscriber.map_or(all, |subscriber| subscriber.count(all));
        Share { base, step, gap_at: gap.0, gap: gap_len, count, subscriber, is_listening }
    }
}

/// One worker's ports on one address, numbered from 0.
struct Share<T> {
    base: u32,
    step: u32,
    /// The number at which the range's hole begins, and how many ports it swallows.
    gap_at: u32,
    gap: u32,
    count: u32,
    /// `None` where there are too few ports to be shared out.
    subscriber: Option<T>,
    is_listening: bool,
}

impl<T: Subscriber> Share<T> {
    #[inline(always)]
    fn port(&self, number: u32) -> [u8; 2] {
        let number = self.subscriber.map_or(number, |subscriber| subscriber.number(number));
        let number = if number < self.gap_at { number } else { number + self.gap };
        // Inside a range of 16-bit ports.
        ((self.base + number * self.step) as u16).to_be_bytes()
    }

    /// Whether a service is asked at this port of the share's address.
    fn listens<A>(&self, services: &impl Services<A>, address: A, port: [u8; 2], protocol: Protocol) -> bool {
        self.is_listening && services.listen_at(address, port, protocol)
    }
}

/// The worker that owns the flows of an endpoint whose address is preserved. Both directions carry that
/// endpoint and nothing else that all workers could agree on, so it alone decides, by a hash that
/// all gateways share: whoever chooses the endpoint can choose the worker, as with the hash of a
/// network card.
///
/// - `key`: of the hash that all share; `workers`: how many there are.
/// - `port`: in wire order.
#[must_use]
pub fn owner_of<A: Address>(key: &HashKey, workers: u8, address: A, port: [u8; 2]) -> WorkerId {
    let endpoint = Tuple { source: address, destination: address, source_port: port, destination_port: port };
    // Fewer than 256.
    WorkerId(reduce((A::hash(key, &endpoint, Protocol(0)) >> 32) as u32, u32::from(workers)) as u8)
}

/// Where services listen on addresses of a pool: a port there stands for nobody else.
pub trait Services<A> {
    /// Whether one listens at this port, in wire order, of this address.
    fn listen_at(&self, address: A, port: [u8; 2], protocol: Protocol) -> bool;
}

/// None listens anywhere.
impl<A> Services<A> for () {
    fn listen_at(&self, _: A, _: [u8; 2], _: Protocol) -> bool {
        false
    }
}

/// Who answers, in what.
#[derive(Clone, Copy, Debug)]
pub struct Peer<A> {
    /// Its address.
    pub address: A,
    /// Its port, in wire order; `None` for a protocol whose answers carry the identifier that they were asked with.
    pub port: Option<[u8; 2]>,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// The reply tuples that flows have.
pub(crate) struct Taken<'t, 'm, A: Address> {
    pub(crate) flows: &'t Table<'m, A>,
    /// A flow whose tuple is free all the same, since it ends when the new one begins.
    pub(crate) over: Option<u32>,
}

impl<A: Address> Taken<'_, '_, A> {
    /// The tuple with its hash, unless a flow has it, or one may whose hash is alike. Reads no entry.
    #[inline(always)]
    fn free_for_certain(&self, reply: Tuple<A>, protocol: Protocol) -> Option<Free<A>> {
        let hash = self.flows.hash(&reply, protocol);
        (!self.flows.may_have(hash)).then_some(Free { reply, hash })
    }

    /// The tuple with its hash, unless a flow has it.
    pub(crate) fn free(&self, reply: Tuple<A>, protocol: Protocol) -> Option<Free<A>> {
        let hash = self.flows.hash(&reply, protocol);
        let found = self.flows.lookup(hash, &reply, protocol).filter(|found| Some(found.index) != self.over);
        found.is_none().then_some(Free { reply, hash })
    }
}

/// A reply tuple that no flow has, and its hash in the flow table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Free<A> {
    pub(crate) reply: Tuple<A>,
    pub(crate) hash: u64,
}

impl<A> Peer<A> {
    /// One that answers from this port, in wire order.
    #[must_use]
    pub const fn new(address: A, port: [u8; 2], protocol: Protocol) -> Self {
        Self { address, port: Some(port), protocol }
    }

    /// One that answers pings, with the identifier that it was asked with.
    #[must_use]
    pub const fn echo(address: A, protocol: Protocol) -> Self {
        Self { address, port: None, protocol }
    }

    /// What it answers in to this endpoint.
    fn reply_to(self, address: A, port: [u8; 2]) -> Tuple<A> {
        let source_port = self.port.unwrap_or(port);
        Tuple { source: self.address, destination: address, source_port, destination_port: port }
    }
}

impl<A: Address> Peer<A> {
    /// Whether this flow's replies come from the peer.
    pub(crate) fn answers(self, entry: &Entry<A>) -> bool {
        let Tuple { source, source_port, .. } = entry.reply;
        (source, entry.protocol) == (self.address, self.protocol.0) && self.port.is_none_or(|port| port == source_port)
    }
}

/// A reply tuple towards `peer` that no flow of `flows` has, at a port of the pool's that is the worker's and may be the
/// subscriber's: at random while there are many (RFC 6056 §3.3.1), else by a search. `None` where none was found.
///
/// - `services`: where services listen on the pool's addresses; `&()` for nowhere.
/// - `random`: from a secret, so that nobody outside foresees the port.
/// - Work: at most [`TRIES`] lookups that read no entry, and [`SEARCH`] that may.
#[must_use]
pub fn allocate<A: Address>(
    flows: &Table<'_, A>,
    services: &impl Services<A>,
    pool: Pool<'_, A>,
    worker: (WorkerId, impl Subscriber),
    peer: Peer<A>,
    random: &mut Stream,
) -> Option<Tuple<A>> {
    let taken = Taken { flows, over: None };
    drawn(&taken, services, pool, worker, peer, random)
        .or_else(|| search(&taken, services, pool, worker, peer, random).ok())
        .map(|free| free.reply)
}

/// Random ports of this worker's (RFC 6056 §3.3.1), on the pool's addresses in turn from a random one on, and
/// whether a service listens there. At most [`TRIES`].
#[inline(always)]
pub(crate) fn draw<'x, 'p, A: Address, S: Services<A>, T: Subscriber>(
    services: &'x S,
    pool: Pool<'p, A>,
    (worker, subscriber): (WorkerId, T),
    protocol: Protocol,
    random: &'x mut Stream,
) -> Draw<'x, 'p, A, S, T> {
    let next = reduce(random.next() as u32, pool.addresses.len() as u32);
    Draw { services, pool, worker, subscriber, protocol, random, next, left: TRIES }
}

/// A port that was drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    /// The place of its address in the pool.
    place: u32,
    /// In wire order.
    port: [u8; 2],
    /// The hash of the reply tuple.
    hash: u64,
}

/// See [`draw`].
pub(crate) struct Draw<'x, 'p, A, S, T> {
    services: &'x S,
    pool: Pool<'p, A>,
    worker: WorkerId,
    subscriber: T,
    protocol: Protocol,
    random: &'x mut Stream,
    /// The place of the next address.
    next: u32,
    left: u32,
}

impl<A: Address, S: Services<A>, T: Subscriber> Iterator for Draw<'_, '_, A, S, T> {
    type Item = (u32, A, [u8; 2], bool);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let Self { services, pool, worker, subscriber, protocol, .. } = *self;
        while self.left != 0 {
            self.left -= 1;
            let place = self.next;
            self.next = if place + 1 < pool.addresses.len() as u32 { place + 1 } else { 0 };
            let address = *pool.addresses.get(place as usize)?;
            let share = pool.share(place, worker, subscriber);
            if share.count != 0 {
                let port = share.port(reduce(self.random.next() as u32, share.count));
                return Some((place, address, port, share.listens(services, address, port, protocol)));
            }
        }
        None
    }
}

/// The first of the reply tuples that [`draw`] gives that no flow has.
#[inline]
pub(crate) fn drawn<A: Address>(
    taken: &Taken<'_, '_, A>,
    services: &impl Services<A>,
    pool: Pool<'_, A>,
    worker: (WorkerId, impl Subscriber),
    peer: Peer<A>,
    random: &mut Stream,
) -> Option<Free<A>> {
    // Of ports at random there are enough to pass by some that only look taken.
    for (_, address, port, listens) in draw(services, pool, worker, peer.protocol, random) {
        if !listens && let Some(free) = taken.free_for_certain(peer.reply_to(address, port), peer.protocol) {
            return Some(free);
        }
    }
    None
}

/// The first port that [`draw`] gives, whether a flow has it or not; `None` where a service listens there.
#[inline(always)]
pub(crate) fn draw_first<A: Address>(
    flows: &Table<'_, A>,
    services: &impl Services<A>,
    pool: Pool<'_, A>,
    worker: (WorkerId, impl Subscriber),
    peer: Peer<A>,
    random: &mut Stream,
) -> Option<Drawn> {
    let (place, address, port, listens) = draw(services, pool, worker, peer.protocol, random).next()?;
    let hash = flows.hash(&peer.reply_to(address, port), peer.protocol);
    (!listens).then_some(Drawn { place, port, hash })
}

impl Drawn {
    /// Asks for all that says whether a flow has it.
    pub(crate) fn prefetch<A: Address>(self, flows: &Table<'_, A>) {
        flows.prefetch_buckets(self.hash);
    }

    /// The reply tuple, where no flow has it for certain: what [`drawn`] gives then.
    #[inline(always)]
    pub(crate) fn free<A: Address>(self, flows: &Table<'_, A>, pool: Pool<'_, A>, peer: Peer<A>) -> Option<Free<A>> {
        let address = *pool.addresses.get(self.place as usize)?;
        (!flows.may_have(self.hash)).then(|| Free { reply: peer.reply_to(address, self.port), hash: self.hash })
    }
}

/// A reply tuple that no flow has, among [`SEARCH`] ports in a row from a random one on: so the last free
/// port is found for certain where the worker has at most [`SEARCH`] ports towards the peer, and otherwise
/// by each attempt with the probability of [`SEARCH`] in the number of ports.
///
/// Work: at most [`SEARCH`] lookups, so ask seldom.
///
/// # Errors
/// [`Searched`], where it has found none.
#[cold]
#[inline(never)]
pub(crate) fn search<A: Address>(
    taken: &Taken<'_, '_, A>,
    services: &impl Services<A>,
    pool: Pool<'_, A>,
    (worker, subscriber): (WorkerId, impl Subscriber),
    peer: Peer<A>,
    random: &mut Stream,
) -> Result<Free<A>, Searched> {
    let addresses = pool.addresses.len() as u32;
    let (mut left, mut searched) = (SEARCH, Searched::All);
    let first = reduce(random.next() as u32, addresses);
    for place in (first..addresses).chain(0..first) {
        let Some(address) = pool.addresses.get(place as usize).copied() else { continue };
        let share = pool.share(place, worker, subscriber);
        let start = reduce(random.next() as u32, share.count);
        let count = share.count.min(left);
        left -= count;
        if count < share.count {
            searched = Searched::Some;
        }
        let ports = (start..share.count).chain(0..start).take(count as usize).map(|number| share.port(number));
        let free = ports
            .filter(|port| !share.listens(services, address, *port, peer.protocol))
            .find_map(|port| taken.free(peer.reply_to(address, port), peer.protocol));
        if let Some(free) = free {
            return Ok(free);
        }
    }
    Err(searched)
}

/// Which ports a search has looked at that has found none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Searched {
    /// All that there are: none is free.
    All,
    /// As many as one search may: another may find one.
    Some,
}

/// How long it is remembered that a search has found nothing.
const REMEMBERED: Span = Span::from_millis(100);

/// Towards whom a search has just found no free port: others who ask for one need not look again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exhausted {
    /// By some bits of a hash of who asks whom, the hash and until when it counts.
    places: [(u64, Instant); Self::PLACES],
    /// Until when any does.
    until: Instant,
}

impl Exhausted {
    const PLACES: usize = 32;

    pub(crate) const NONE: Self = Self { places: [(0, Instant::ZERO); Self::PLACES], until: Instant::ZERO };

    /// Whether there is anything to ask.
    #[inline]
    pub(crate) fn has_any(&self, now: Instant) -> bool {
        now < self.until
    }

    pub(crate) fn has(&self, hash: u64, now: Instant) -> bool {
        self.places.get(Self::place(hash)).is_some_and(|(noted, until)| *noted == hash && now < *until)
    }

    pub(crate) fn note(&mut self, hash: u64, now: Instant) {
        let until = now + REMEMBERED;
        if let Some(place) = self.places.get_mut(Self::place(hash)) {
            *place = (hash, until);
            self.until = until;
        }
    }

    const fn place(hash: u64) -> usize {
        (hash >> 32) as usize % Self::PLACES
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn pool(workers: u8, ports: (u16, u16), listening: u64) -> Pool<'static, [u8; 4]> {
        let range = |(first, last)| PortRange { first, last };
        let addresses: &[[u8; 4]] = &[[10, 77, 200, 2], [10, 77, 200, 3]];
        Pool { addresses, listening, ports: range(ports), node_ports: range((30_000, 32_767)), workers }
    }

    fn all(pool: &Pool<'_, [u8; 4]>, place: u32, worker: u8) -> Vec<u16> {
        all_of(pool, place, worker, Client)
    }

    fn all_of(pool: &Pool<'_, [u8; 4]>, place: u32, worker: u8, subscriber: impl Subscriber) -> Vec<u16> {
        let share = pool.share(place, WorkerId(worker), subscriber);
        (0..share.count).map(|number| u16::from_be_bytes(share.port(number))).collect()
    }

    #[test]
    fn every_port_belongs_to_the_worker_that_may_choose_it_and_to_no_other() {
        for workers in [1, 2, 3, 7, 64] {
            for (ports, listening) in
                [((1024, 65_535), 0b10), ((1, 65_535), 0), ((2000, 2100), 0), ((29_990, 40_000), 3)]
            {
                let pool = pool(workers, ports, listening);
                for place in 0..2 {
                    let mut seen = vec![0_u8; 1 << 16];
                    for worker in 0..workers {
                        for port in all(&pool, place, worker) {
                            seen[usize::from(port)] += 1;
                            assert_eq!(pool.owner(port.to_be_bytes()), WorkerId(worker));
                        }
                    }
                    let is_listening = listening >> place & 1 == 1;
                    for (port, count) in (0..=u16::MAX).zip(seen) {
                        let usable =
                            (ports.0..=ports.1).contains(&port) && !(is_listening && (30_000..=32_767).contains(&port));
                        assert_eq!(count, u8::from(usable), "port {port} of {ports:?}, {workers} workers");
                    }
                }
            }
        }
    }

    #[test]
    fn workers_have_equal_shares_even_where_node_ports_are_kept_out() {
        let pool = pool(64, (1024, 65_535), 1);
        let shares: Vec<usize> = (0..64).map(|worker| all(&pool, 0, worker).len()).collect();
        assert_eq!(shares.iter().sum::<usize>(), 64_512 - 2768);
        assert!(shares.iter().all(|share| share.abs_diff(shares[0]) <= 1), "{shares:?}");
    }

    #[test]
    fn a_pod_may_use_a_quarter_of_each_workers_ports_and_no_two_pods_the_same() {
        for (workers, ports, listening) in [(1, (1024, 65_535), 0), (7, (1024, 65_535), 1), (2, (2000, 2601), 0)] {
            let of_pod = |pod: u64, worker| all_of(&pool(workers, ports, listening), 0, worker, Pod(pod));
            for worker in 0..workers {
                let whole = all(&pool(workers, ports, listening), 0, worker);
                let [first, second] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210].map(|pod| of_pod(pod, worker));
                assert_eq!(first.len(), whole.len() / 4);
                assert!(first.iter().all(|port| whole.contains(port)) && first.is_sorted_by(|a, b| a < b));
                assert!(second.iter().filter(|port| !first.contains(port)).count() > second.len() / 2);
            }
        }
        // Too few to be parted.
        assert_eq!(all_of(&pool(1, (2000, 2254), 0), 0, 0, Pod(77)).len(), 255);
    }
}
