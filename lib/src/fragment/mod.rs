//! Datagrams in parts: which are on their way, where their parts go, and the parts that came before
//! their first one.
//!
//! Nothing is reassembled. The first part has the ports, and decides; each other part follows it, and
//! one that comes early waits in a ring of bytes (RFC 4787 §11, REQ-14). Where the first one itself
//! depends on the length of the whole, all wait until the last has come.
//!
//! Rules when full:
//! - A datagram has eight places that it may take. Where all are taken, it takes the place of one
//!   whose first part has not come, or else of one that is on its way: the one that has been silent
//!   longest. What waited of that datagram is dropped.
//! - A part that finds no room in the ring takes that of the oldest parts there, and with each goes
//!   the whole datagram, since the rest of it is of use to nobody.
//!
//! A flood shortens how long others may wait, and stops nobody whose parts come close together.

mod cover;
mod log;
#[cfg(test)]
mod tests;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::hash::{HashKey, reduce};
use crate::net::PortId;
use crate::time::{Instant, Span, tick};
use cover::{Coverage, Seen};
use log::{GRAIN, Log, NONE, Room};

/// The fewest and the most datagrams in parts that a worker can know at a time.
pub const DATAGRAMS: (u32, u32) = (16, 1 << 16);
/// The fewest and the most bytes for parts that wait.
pub const HELD_BYTES: (u32, u32) = (1 << 12, 1 << 30);

/// The places that one datagram may take.
const PLACES: usize = 8;

/// How much of datagrams in parts a worker keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The most datagrams that are on their way at a time; rounded up to a multiple of eight.
    pub datagrams: u32,
    /// The most bytes of frames that wait for their datagram's first part; rounded up to a multiple of 32.
    pub held_bytes: u32,
    /// How long a part waits for its first one, and how long a datagram is known after its last part.
    pub wait: Span,
}

impl Default for Limits {
    /// 1024 datagrams, a mebibyte, two seconds.
    fn default() -> Self {
        Self { datagrams: 1024, held_bytes: 1 << 20, wait: Span::from_secs(2) }
    }
}

/// Why memory cannot hold datagrams in parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FragmentsError {
    /// Fewer or more datagrams than [`DATAGRAMS`].
    Datagrams {
        /// What was asked for.
        asked: u32,
    },
    /// Fewer or more bytes than [`HELD_BYTES`].
    HeldBytes {
        /// What was asked for.
        asked: u32,
    },
    /// The memory is too short, or does not begin at a multiple of 64.
    Memory {
        /// How many bytes there are.
        have: usize,
        /// How many it takes.
        need: usize,
    },
}

/// What makes parts parts of one datagram (RFC 791 §3.2, RFC 8200 §4.5), IPv4 addresses mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Key {
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
    pub(crate) id: u32,
    /// IPv4's; 0 for IPv6, where it is no part of the key.
    pub(crate) protocol: u8,
    /// By which way the parts come in: what one sends over the overlay, nobody outside completes.
    pub(crate) way: u8,
    pub(crate) reserved: [u8; 2],
}

/// What has been decided about a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Nothing: the first part has not come.
    Waiting,
    /// Nothing: the first part has come, and waits in front of the others for the last.
    Headed,
    /// Nothing: the first part has waited, and can decide now.
    Whole,
    /// It is translated, as its ports say.
    Forwarded,
    /// It is a ping of the gateway itself, which is answered.
    Answered,
    /// It is the host's.
    Host,
    /// It is this worker's to carry.
    Handed(u8),
    /// This worker is asked next whether it is its own; it may come back here.
    Asked(u8),
    /// It is dropped.
    Refused,
}

/// What the first part told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct First {
    pub(crate) source_port: [u8; 2],
    pub(crate) destination_port: [u8; 2],
    /// The upper layer, which an IPv6 part itself may not name.
    pub(crate) protocol: u8,
    /// The identification that the parts leave with, in IPv4.
    pub(crate) id: u16,
}

/// Where a part lies in its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// In bytes, a multiple of eight.
    pub(crate) offset: u16,
    pub(crate) len: u16,
    pub(crate) more: bool,
}

/// What is wrong with a part beside those that came before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clash {
    /// It has been here before.
    Repeated,
    /// It overlaps another (RFC 5722 §4 for IPv6; in IPv4 only attacks do, RFC 1858 §4).
    Overlap,
    /// It says another length of the datagram than one before.
    Length,
}

/// Parts that waited in vain, by the reason, since this was last asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lost {
    pub(crate) expired: u32,
    pub(crate) displaced: u32,
    pub(crate) refused: u32,
}

/// One datagram. All zeroes is a vacant place.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Datagram {
    key: Key,
    /// The tick of its last part; while waiting, of the earliest.
    seen: u32,
    /// Bytes of the whole, 0 while unknown.
    total: u32,
    /// Where the part nearest to the end ends.
    reach: u32,
    /// Bytes seen so far.
    received: u32,
    /// Its earliest and latest part in the log.
    held_first: u32,
    held_last: u32,
    /// The next datagram of which parts can leave.
    next_ready: u32,
    source_port: [u8; 2],
    destination_port: [u8; 2],
    id: u16,
    protocol: u8,
    fate: u8,
    worker: u8,
    /// Whether it is in the list of those of which parts can leave, whoever has the place by now.
    is_queued: u8,
    /// Whether parts that have been here may come back, so that it is not over with the last one.
    lingers: u8,
    reserved: u8,
}

impl Datagram {
    const VACANT: Self = Self {
        key: Key { source: [0; 16], destination: [0; 16], id: 0, protocol: 0, way: 0, reserved: [0; 2] },
        seen: 0,
        total: 0,
        reach: 0,
        received: 0,
        held_first: NONE,
        held_last: NONE,
        next_ready: NONE,
        source_port: [0; 2],
        destination_port: [0; 2],
        id: 0,
        protocol: 0,
        fate: 0,
        worker: 0,
        is_queued: 0,
        lingers: 0,
        reserved: 0,
    };

    const fn is_vacant(&self) -> bool {
        self.fate == 0
    }

    const fn fate(&self) -> Fate {
        match self.fate {
            1 => Fate::Waiting,
            2 => Fate::Forwarded,
            3 => Fate::Host,
            4 => Fate::Handed(self.worker),
            6 => Fate::Asked(self.worker),
            7 => Fate::Headed,
            8 => Fate::Whole,
            9 => Fate::Answered,
            _ => Fate::Refused,
        }
    }

    const fn set_fate(&mut self, fate: Fate) {
        (self.fate, self.worker) = match fate {
            Fate::Waiting => (1, 0),
            Fate::Forwarded => (2, 0),
            Fate::Host => (3, 0),
            Fate::Handed(worker) => (4, worker),
            Fate::Refused => (5, 0),
            Fate::Asked(worker) => (6, worker),
            Fate::Headed => (7, 0),
            Fate::Whole => (8, 0),
            Fate::Answered => (9, 0),
        };
        self.lingers |= matches!(fate, Fate::Asked(_)) as u8;
    }

    const fn first(&self) -> First {
        First {
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.protocol,
            id: self.id,
        }
    }

    /// Whether its parts go somewhere, or are about to.
    const fn is_under_way(&self) -> bool {
        !matches!(self.fate(), Fate::Waiting | Fate::Headed | Fate::Refused)
    }
}

/// A part that has waited and can leave now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Released<'f> {
    /// The place of its datagram.
    pub(crate) index: u32,
    pub(crate) frame: &'f [u8],
    pub(crate) port: PortId,
    pub(crate) handovers: u8,
    pub(crate) fate: Fate,
    pub(crate) first: First,
}

/// The datagrams in parts that one worker knows, in memory of the caller's.
#[derive(Debug)]
pub(crate) struct Fragments<'m> {
    datagrams: &'m mut [Datagram],
    coverage: &'m mut [Coverage],
    log: Log<'m>,
    key: HashKey,
    wait: u32,
    hand: u32,
    live: u32,
    /// The list of datagrams of which parts can leave.
    ready: (u32, u32),
    lost: Lost,
}

impl<'m> Fragments<'m> {
    /// How many bytes it takes, to begin at a multiple of 64.
    pub(crate) const fn memory_bytes(limits: &Limits) -> usize {
        let (datagrams, held) = Self::sizes(limits);
        datagrams * (size_of::<Datagram>() + size_of::<Coverage>()) + held
    }

    /// Places for datagrams and bytes for waiting parts.
    const fn sizes(limits: &Limits) -> (usize, usize) {
        let datagrams = (limits.datagrams as usize).next_multiple_of(PLACES);
        (datagrams, (limits.held_bytes as usize).next_multiple_of(GRAIN))
    }

    /// Whether so many bytes of memory hold so much.
    pub(crate) const fn check(limits: &Limits, have: usize) -> Result<(), FragmentsError> {
        if limits.datagrams < DATAGRAMS.0 || limits.datagrams > DATAGRAMS.1 {
            return Err(FragmentsError::Datagrams { asked: limits.datagrams });
        }
        if limits.held_bytes < HELD_BYTES.0 || limits.held_bytes > HELD_BYTES.1 {
            return Err(FragmentsError::HeldBytes { asked: limits.held_bytes });
        }
        let need = Self::memory_bytes(limits);
        if have < need { Err(FragmentsError::Memory { have, need }) } else { Ok(()) }
    }

    /// Begins without datagrams. Touches what it keeps of datagrams once.
    pub(crate) fn new(limits: &Limits, secret: [u64; 4], memory: &'m mut [u8]) -> Result<Self, FragmentsError> {
        Self::check(limits, memory.len())?;
        let error = FragmentsError::Memory { have: memory.len(), need: Self::memory_bytes(limits) };
        let (places, held) = Self::sizes(limits);
        let (coverage, rest) = <[Coverage]>::mut_from_prefix_with_elems(memory, places).map_err(|_| error)?;
        let (datagrams, rest) = <[Datagram]>::mut_from_prefix_with_elems(rest, places).map_err(|_| error)?;
        let log = rest.get_mut(..held).ok_or(error)?;
        datagrams.fill(Datagram::VACANT);
        Ok(Self {
            datagrams,
            coverage,
            log: Log::new(log),
            key: HashKey::new(secret),
            wait: tick(Instant(limits.wait.0)),
            hand: 0,
            live: 0,
            ready: (NONE, NONE),
            lost: Lost::default(),
        })
    }

    /// How many datagrams are known.
    pub(crate) const fn len(&self) -> u32 {
        self.live
    }

    /// The place of a datagram, which takes one where it has none.
    ///
    /// Work: reads [`PLACES`] datagrams; gives up at most one, with the parts that waited of it.
    pub(crate) fn open(&mut self, key: &Key, tick: u32) -> u32 {
        let sets = (self.datagrams.len() / PLACES) as u32;
        let hash = self.key.datagram(key.source, key.destination, key.id, key.protocol, key.way);
        let from = reduce((hash >> 32) as u32, sets) as usize * PLACES;
        let mut best = (from, 0_u64);
        for place in from..from + PLACES {
            let Some(datagram) = self.datagrams.get(place) else { continue };
            let silent = tick.wrapping_sub(datagram.seen);
            let is_over = silent > self.wait;
            let is_it = !datagram.is_vacant() && datagram.key == *key;
            if is_it && !is_over {
                return place as u32;
            }
            // The rank decides, then the silence. A datagram has one place, so its own comes first.
            let rank = match datagram.fate() {
                _ if is_it => 5_u64,
                _ if datagram.is_vacant() => 4,
                _ if is_over => 3,
                Fate::Waiting | Fate::Headed | Fate::Refused => 2,
                _ => 1,
            };
            best = best.max_by_rank((place, rank << 32 | u64::from(silent)));
        }
        let index = best.0 as u32;
        if let Some(datagram) = self.datagrams.get(best.0)
            && !datagram.is_vacant()
        {
            let is_over = tick.wrapping_sub(datagram.seen) > self.wait;
            let parts = self.vacate(index);
            *if is_over { &mut self.lost.expired } else { &mut self.lost.displaced } += parts;
        }
        if let (Some(datagram), Some(coverage)) = (self.datagrams.get_mut(best.0), self.coverage.get_mut(best.0)) {
            let (is_queued, next_ready) = (datagram.is_queued, datagram.next_ready);
            *datagram = Datagram { key: *key, seen: tick, is_queued, next_ready, ..Datagram::VACANT };
            datagram.set_fate(Fate::Waiting);
            *coverage = Coverage::NONE;
            self.live += 1;
        }
        index
    }

    /// What has been decided about a datagram, and what its first part told.
    pub(crate) fn get(&self, index: u32) -> (Fate, First) {
        self.datagrams
            .get(index as usize)
            .map_or((Fate::Refused, First::default()), |datagram| (datagram.fate(), datagram.first()))
    }

    /// Bytes of the whole datagram's data; `None` while its last part has not come.
    pub(crate) fn total(&self, index: u32) -> Option<u32> {
        self.datagrams.get(index as usize).map(|datagram| datagram.total).filter(|total| *total != 0)
    }

    /// Takes in where a part lies. What clashes, but for a repetition, ends the whole datagram.
    pub(crate) fn note(&mut self, index: u32, part: Part, tick: u32) -> Result<(), Clash> {
        let place = self.datagrams.get_mut(index as usize).zip(self.coverage.get_mut(index as usize));
        let Some((datagram, coverage)) = place else { return Err(Clash::Length) };
        let end = u32::from(part.offset) + u32::from(part.len);
        let contradicts = match datagram.total {
            0 => !part.more && datagram.reach > end,
            // A part that others follow does not end with the datagram.
            total => end > total || (end == total) == part.more,
        };
        let clash = if contradicts {
            Some(Clash::Length)
        } else {
            match coverage.add(part.offset.into(), part.len.into()) {
                Seen::New => None,
                Seen::Before => Some(Clash::Repeated),
                Seen::Partly => Some(Clash::Overlap),
            }
        };
        match clash {
            None => {
                datagram.received += u32::from(part.len);
                datagram.reach = datagram.reach.max(end);
                if !part.more {
                    datagram.total = end;
                }
                if datagram.is_under_way() {
                    datagram.seen = tick;
                }
                Ok(())
            }
            Some(Clash::Repeated) => Err(Clash::Repeated),
            Some(clash) => {
                self.refuse(index);
                Err(clash)
            }
        }
    }

    /// Keeps a copy of a part until the first one comes, or until there are spare buffers. `false`, and the datagram given up, where
    /// the whole ring has no room for it.
    ///
    /// Work: gives up as many old parts as take the same room, and the rest of their datagrams.
    pub(crate) fn hold(&mut self, index: u32, frame: &[u8], port: PortId, handovers: u8) -> bool {
        self.put(index, frame, port, handovers, false)
    }

    fn put(&mut self, index: u32, frame: &[u8], port: PortId, handovers: u8, is_first: bool) -> bool {
        let at = loop {
            match self.log.make_room(frame.len()) {
                Room::At(at) => break at,
                Room::GaveUp(datagram) => {
                    let parts = self.let_go(datagram);
                    self.lost.displaced += parts;
                    if let Some(datagram) = self.datagrams.get_mut(datagram as usize) {
                        datagram.set_fate(Fate::Refused);
                    }
                }
                Room::Never => {
                    self.refuse(index);
                    return false;
                }
            }
        };
        let Some(datagram) = self.datagrams.get_mut(index as usize) else { return false };
        if datagram.fate() == Fate::Refused {
            // It was its own oldest part that had to go.
            return false;
        }
        self.log.append(at, frame, index, port.0, handovers);
        if datagram.held_first == NONE {
            (datagram.held_first, datagram.held_last) = (at, at);
        } else if is_first {
            self.log.link(at, datagram.held_first);
            datagram.held_first = at;
        } else {
            self.log.link(datagram.held_last, at);
            datagram.held_last = at;
        }
        if datagram.is_under_way() {
            self.queue(index);
        }
        true
    }

    /// Keeps the first part in front of those that came before it, until the last one comes.
    ///
    /// As [`hold`](Self::hold).
    pub(crate) fn hold_first(&mut self, index: u32, frame: &[u8], port: PortId, handovers: u8) -> bool {
        if let Some(datagram) = self.datagrams.get_mut(index as usize) {
            datagram.set_fate(Fate::Headed);
        }
        self.put(index, frame, port, handovers, true)
    }

    /// Lets a datagram go on whose first part waits, where the last has come.
    pub(crate) fn complete(&mut self, index: u32, tick: u32) {
        if let Some(datagram) = self.datagrams.get_mut(index as usize)
            && datagram.fate() == Fate::Headed
            && datagram.total != 0
        {
            datagram.set_fate(Fate::Whole);
            datagram.seen = tick;
            self.queue(index);
        }
    }

    /// The first part has come, and this is where the datagram goes.
    pub(crate) fn decide(&mut self, index: u32, fate: Fate, first: First, tick: u32) {
        let Some(datagram) = self.datagrams.get_mut(index as usize) else { return };
        datagram.set_fate(fate);
        datagram.seen = tick;
        datagram.source_port = first.source_port;
        datagram.destination_port = first.destination_port;
        datagram.protocol = first.protocol;
        datagram.id = first.id;
        if fate == Fate::Refused {
            self.refuse(index);
        } else if datagram.held_first != NONE {
            self.queue(index);
        }
    }

    /// Puts a datagram at the end of the list of those of which parts can leave.
    fn queue(&mut self, index: u32) {
        let Some(datagram) = self.datagrams.get_mut(index as usize) else { return };
        if datagram.is_queued != 0 {
            return;
        }
        datagram.is_queued = 1;
        datagram.next_ready = NONE;
        match self.datagrams.get_mut(self.ready.1 as usize) {
            Some(last) => last.next_ready = index,
            None => self.ready.0 = index,
        }
        self.ready.1 = index;
    }

    /// Drops what waits of a datagram, and all that will come.
    pub(crate) fn refuse(&mut self, index: u32) {
        let parts = self.let_go(index);
        self.lost.refused += parts;
        if let Some(datagram) = self.datagrams.get_mut(index as usize) {
            datagram.set_fate(Fate::Refused);
        }
    }

    /// Forgets a datagram of which everything has been sent on.
    pub(crate) fn finish(&mut self, index: u32) {
        let is_over = |datagram: &Datagram| {
            let is_complete = datagram.total != 0 && datagram.received == datagram.total;
            let is_decided = datagram.fate() != Fate::Whole;
            is_complete && is_decided && datagram.is_under_way() && datagram.held_first == NONE && datagram.lingers == 0
        };
        if self.datagrams.get(index as usize).is_some_and(is_over) {
            self.vacate(index);
        }
    }

    /// Whether parts that have waited can leave.
    #[inline]
    pub(crate) const fn has_ready(&self) -> bool {
        self.ready.0 != NONE
    }

    /// Bytes of the next part's frame that can leave; `None` where there is none.
    pub(crate) fn next_len(&mut self) -> Option<usize> {
        let (_, at) = self.next_ready()?;
        self.log.note(at).map(|note| note.len as usize)
    }

    /// Gives the next part that can leave to `hear`, and forgets it. `None` where there is none.
    pub(crate) fn release<T>(&mut self, hear: impl FnOnce(Released<'_>) -> T) -> Option<T> {
        let (index, at) = self.next_ready()?;
        let datagram = self.datagrams.get_mut(index as usize)?;
        let (fate, first) = (datagram.fate(), datagram.first());
        let note = self.log.note(at);
        datagram.held_first = note.map_or(NONE, |note| note.next);
        let (note, frame) = note.zip(self.log.frame(at))?;
        let heard = hear(Released { index, frame, port: PortId(note.port), handovers: note.handovers, fate, first });
        self.log.vacate(at);
        // The datagram may have been waiting for this one alone.
        self.next_ready();
        Some(heard)
    }

    /// The datagram of the next part that can leave, and the part's place. Takes datagrams of which
    /// none is left out of the list.
    fn next_ready(&mut self) -> Option<(u32, u32)> {
        loop {
            let index = self.ready.0;
            let datagram = self.datagrams.get_mut(index as usize)?;
            if datagram.held_first != NONE && datagram.is_under_way() {
                return Some((index, datagram.held_first));
            }
            datagram.is_queued = 0;
            self.ready.0 = datagram.next_ready;
            if self.ready.0 == NONE {
                self.ready.1 = NONE;
            }
            self.finish(index);
        }
    }

    /// Looks at the next `budget` places and forgets datagrams that have been silent too long.
    pub(crate) fn age(&mut self, tick: u32, budget: u32) {
        if self.live == 0 {
            return;
        }
        let places = self.datagrams.len() as u32;
        for _ in 0..budget.min(places) {
            let index = self.hand;
            self.hand = if index + 1 < places { index + 1 } else { 0 };
            let is_over = |datagram: &Datagram| tick.wrapping_sub(datagram.seen) > self.wait && !datagram.is_vacant();
            if self.datagrams.get(index as usize).is_some_and(is_over) {
                let parts = self.vacate(index);
                self.lost.expired += parts;
            }
        }
    }

    /// What was lost since this was last asked for.
    pub(crate) fn take_lost(&mut self) -> Lost {
        core::mem::take(&mut self.lost)
    }

    /// Makes a place vacant; tells how many parts waited.
    fn vacate(&mut self, index: u32) -> u32 {
        let parts = self.let_go(index);
        if let Some(datagram) = self.datagrams.get_mut(index as usize) {
            let (is_queued, next_ready) = (datagram.is_queued, datagram.next_ready);
            *datagram = Datagram { is_queued, next_ready, ..Datagram::VACANT };
            self.live = self.live.saturating_sub(1);
        }
        parts
    }

    /// Forgets the parts that wait of a datagram; tells how many.
    fn let_go(&mut self, index: u32) -> u32 {
        let Some(datagram) = self.datagrams.get_mut(index as usize) else { return 0 };
        let mut at = core::mem::replace(&mut datagram.held_first, NONE);
        datagram.held_last = NONE;
        let mut parts = 0;
        while let Some(note) = self.log.note(at).filter(|note| note.datagram == index) {
            self.log.vacate(at);
            parts += 1;
            at = note.next;
        }
        parts
    }
}

/// Keeps the pair whose second is larger.
trait Best {
    fn max_by_rank(self, other: Self) -> Self;
}

impl Best for (usize, u64) {
    fn max_by_rank(self, other: Self) -> Self {
        if other.1 > self.1 { other } else { self }
    }
}
