//! Fragmented datagrams: which are on their way, where their fragments go, and the fragments that came before
//! their first one.
//!
//! Nothing is reassembled. The first fragment has the ports, and decides; each other fragment follows it, and
//! one that comes early waits in a ring of bytes (RFC 4787 §11, REQ-14). Where the first one itself
//! depends on the length of the whole, all wait until the last has come.
//!
//! Rules when full:
//! - A datagram has eight places that it may take. Where all are taken, it takes the place of one
//!   whose first fragment has not come, or else of one that is on its way: the one that has been silent
//!   longest. What waited of that datagram is dropped.
//! - A fragment that finds no room in the ring takes that of the oldest fragments there, and with each goes
//!   the whole datagram, since the rest of it is of use to nobody.
//!
//! A flood shortens how long others may wait, and stops nobody whose fragments come close together.
//!
//! Times are ticks of 2²⁰ nanoseconds ([`time::tick`](crate::time::tick)); they wrap, and only differences matter.
//!
//! # Examples
//!
//! The second fragment overtakes the first, and waits for it:
//!
//! ```
//! use weirgate::fragment::{Extent, Fate, First, Fragments, Key, Limits};
//! use weirgate::net::{PortId, Protocol};
//! use weirgate::time::{Instant, tick};
//!
//! let limits = Limits { datagrams: 16, held_bytes: 1 << 16, ..Limits::default() };
//! let mut memory = vec![0_u8; Fragments::memory_bytes(&limits) + 64];
//! let start = memory.as_ptr().align_offset(64);
//! let mut fragments = Fragments::new(&limits, [1, 2, 3, 4], &mut memory[start..])?;
//! let now = tick(Instant::from_secs(1));
//!
//! let datagram = fragments.open(&Key::v4([192, 0, 2, 1], [192, 0, 2, 2], 77, Protocol::UDP), now);
//! fragments.note(datagram, Extent { offset: 1480, len: 520, more: false }, now).expect("a new one");
//! assert!(fragments.hold(datagram, b"the second frame", PortId(0), 0));
//! assert_eq!(fragments.get(datagram).0, Fate::Waiting);
//!
//! // The first has the ports, and decides.
//! fragments.note(datagram, Extent { offset: 0, len: 1480, more: true }, now).expect("a new one");
//! let first = First { source_port: [0x9c, 0x40], destination_port: [0, 53], protocol: 17, id: 77 };
//! fragments.decide(datagram, Fate::Forwarded, first, now);
//! let sent = fragments.release(|held| (held.frame.to_vec(), held.first.destination_port));
//! assert_eq!(sent, Some((b"the second frame".to_vec(), [0, 53])));
//! # Ok::<(), weirgate::fragment::FragmentsError>(())
//! ```

mod cover;
mod datagram;
mod limits;
mod log;
#[cfg(test)]
mod tests;

use zerocopy::FromBytes;

use crate::hash::{HashKey, reduce};
use crate::net::PortId;
use crate::time::{Instant, tick};
use cover::{Coverage, Seen};
use datagram::Datagram;
pub use datagram::{Clash, Extent, Fate, First, Key, Lost, Released};
pub use limits::{DATAGRAMS, FragmentsError, HELD_BYTES, Limits};
use log::{GRAIN, Log, NONE, Room};

/// The places that one datagram may take.
const PLACES: usize = 8;

/// The fragmented datagrams that one worker knows, in memory of the caller's.
#[derive(Debug)]
pub struct Fragments<'m> {
    datagrams: &'m mut [Datagram],
    coverage: &'m mut [Coverage],
    log: Log<'m>,
    key: HashKey,
    wait: u32,
    hand: u32,
    live: u32,
    /// The list of datagrams of which fragments can leave.
    ready: (u32, u32),
    lost: Lost,
}

impl<'m> Fragments<'m> {
    /// How many bytes it takes, to begin at a multiple of 64.
    #[must_use]
    pub const fn memory_bytes(limits: &Limits) -> usize {
        let (datagrams, held) = Self::sizes(limits);
        datagrams * (size_of::<Datagram>() + size_of::<Coverage>()) + held
    }

    /// Places for datagrams and bytes for waiting fragments.
    const fn sizes(limits: &Limits) -> (usize, usize) {
        let datagrams = (limits.datagrams as usize).next_multiple_of(PLACES);
        (datagrams, (limits.held_bytes as usize).next_multiple_of(GRAIN))
    }

    /// Whether so many bytes of memory hold so much.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub const fn check(limits: &Limits, have: usize) -> Result<(), FragmentsError> {
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
    ///
    /// - `secret`: keys the hash of datagrams; keep it from everyone who sends packets.
    /// - `memory`: [`memory_bytes`](Self::memory_bytes) of them, to begin at a multiple of 64.
    ///
    /// # Errors
    /// [`FragmentsError`] where a limit is out of range or the memory does not hold so much.
    pub fn new(limits: &Limits, secret: [u64; 4], memory: &'m mut [u8]) -> Result<Self, FragmentsError> {
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
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.live
    }

    /// Whether no datagram is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The place of a datagram, which takes one where it has none.
    ///
    /// Work: reads eight datagrams; gives up at most one, with the fragments that waited of it.
    pub fn open(&mut self, key: &Key, tick: u32) -> u32 {
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

    /// What has been decided about a datagram, and what its first fragment told.
    #[must_use]
    pub fn get(&self, index: u32) -> (Fate, First) {
        self.datagrams
            .get(index as usize)
            .map_or((Fate::Refused, First::default()), |datagram| (datagram.fate(), datagram.first()))
    }

    /// Bytes of the whole datagram's data; `None` while its last fragment has not come.
    #[must_use]
    pub fn total(&self, index: u32) -> Option<u32> {
        self.datagrams.get(index as usize).map(|datagram| datagram.total).filter(|total| *total != 0)
    }

    /// Takes in where a fragment lies. What clashes, but for a repetition, ends the whole datagram.
    ///
    /// Work: a word for each 512 bytes of the fragment.
    ///
    /// # Errors
    /// [`Clash`]: the fragment is to be dropped.
    pub fn note(&mut self, index: u32, part: Extent, tick: u32) -> Result<(), Clash> {
        let place = self.datagrams.get_mut(index as usize).zip(self.coverage.get_mut(index as usize));
        let Some((datagram, coverage)) = place else { return Err(Clash::Length) };
        let end = u32::from(part.offset) + u32::from(part.len);
        let contradicts = match datagram.total {
            0 => !part.more && datagram.reach > end,
            // A fragment that others follow does not end with the datagram.
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

    /// Keeps a copy of a fragment until the first one comes, or until there are spare buffers. `false`, and the datagram
    /// given up, where
    /// the whole ring has no room for it.
    ///
    /// Work: gives up as many old fragments as take the same room, and the rest of their datagrams.
    pub fn hold(&mut self, index: u32, frame: &[u8], port: PortId, handovers: u8) -> bool {
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
            // It was its own oldest fragment that had to go.
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

    /// Keeps the first fragment in front of those that came before it, until the last one comes.
    ///
    /// As [`hold`](Self::hold).
    pub fn hold_first(&mut self, index: u32, frame: &[u8], port: PortId, handovers: u8) -> bool {
        if let Some(datagram) = self.datagrams.get_mut(index as usize) {
            datagram.set_fate(Fate::Headed);
        }
        self.put(index, frame, port, handovers, true)
    }

    /// Lets a datagram go on whose first fragment waits, where the last has come.
    pub fn complete(&mut self, index: u32, tick: u32) {
        if let Some(datagram) = self.datagrams.get_mut(index as usize)
            && datagram.fate() == Fate::Headed
            && datagram.total != 0
        {
            datagram.set_fate(Fate::Whole);
            datagram.seen = tick;
            self.queue(index);
        }
    }

    /// The first fragment has come, and this is where the datagram goes.
    pub fn decide(&mut self, index: u32, fate: Fate, first: First, tick: u32) {
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

    /// Puts a datagram at the end of the list of those of which fragments can leave.
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
    pub fn refuse(&mut self, index: u32) {
        let parts = self.let_go(index);
        self.lost.refused += parts;
        if let Some(datagram) = self.datagrams.get_mut(index as usize) {
            datagram.set_fate(Fate::Refused);
        }
    }

    /// Forgets a datagram of which everything has been sent on.
    pub fn finish(&mut self, index: u32) {
        let is_over = |datagram: &Datagram| {
            let is_complete = datagram.total != 0 && datagram.received == datagram.total;
            let is_decided = datagram.fate() != Fate::Whole;
            is_complete && is_decided && datagram.is_under_way() && datagram.held_first == NONE && datagram.lingers == 0
        };
        if self.datagrams.get(index as usize).is_some_and(is_over) {
            self.vacate(index);
        }
    }

    /// Whether fragments that have waited can leave.
    #[inline]
    #[must_use]
    pub const fn has_ready(&self) -> bool {
        self.ready.0 != NONE
    }

    /// Bytes of the next fragment's frame that can leave; `None` where there is none.
    pub fn next_len(&mut self) -> Option<usize> {
        let (_, at) = self.next_ready()?;
        self.log.note(at).map(|note| note.len as usize)
    }

    /// Gives the next fragment that can leave to `hear`, and forgets it. `None` where there is none.
    pub fn release<T>(&mut self, hear: impl FnOnce(Released<'_>) -> T) -> Option<T> {
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

    /// The datagram of the next fragment that can leave, and the fragment's place. Takes datagrams of which
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
    pub fn age(&mut self, tick: u32, budget: u32) {
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
    #[must_use]
    pub fn take_lost(&mut self) -> Lost {
        core::mem::take(&mut self.lost)
    }

    /// Makes a place vacant; tells how many fragments waited.
    fn vacate(&mut self, index: u32) -> u32 {
        let parts = self.let_go(index);
        if let Some(datagram) = self.datagrams.get_mut(index as usize) {
            let (is_queued, next_ready) = (datagram.is_queued, datagram.next_ready);
            *datagram = Datagram { is_queued, next_ready, ..Datagram::VACANT };
            self.live = self.live.saturating_sub(1);
        }
        parts
    }

    /// Forgets the fragments that wait of a datagram; tells how many.
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
