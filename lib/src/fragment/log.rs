//! Frames that wait, in a ring of bytes: appended in front, given up from behind.
//!
//! Invariants:
//! - Everything lies in records of whole [`GRAIN`]s, each with a [`Note`] before its frame; a record
//!   never crosses the ring's end, a vacant one fills what is left there.
//! - From `tail` on, `used` bytes are records, oldest first.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What every record is a multiple of.
pub(super) const GRAIN: usize = size_of::<Note>();

/// Names no record and no datagram.
pub(super) const NONE: u32 = u32::MAX;

/// What stands before a frame that waits.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Note {
    /// Bytes of the whole record.
    size: u32,
    /// Bytes of the frame.
    pub(super) len: u32,
    /// The datagram whose fragment it is; [`NONE`] for a vacant record.
    pub(super) datagram: u32,
    /// The datagram's next record.
    pub(super) next: u32,
    /// The port that the frame came in on.
    pub(super) port: u8,
    /// How many workers have handed it over.
    pub(super) handovers: u8,
    reserved: [u8; 14],
}
const _: () = assert!(size_of::<Note>() == 32);

/// What [`Log::make_room`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    /// There is room now, at this place.
    At(u32),
    /// The oldest record had to go, a fragment of this datagram. Ask again.
    GaveUp(u32),
    /// Not even the whole ring would do.
    Never,
}

/// The ring.
#[derive(Debug)]
pub(super) struct Log<'m> {
    bytes: &'m mut [u8],
    tail: usize,
    used: usize,
}

impl<'m> Log<'m> {
    /// A ring over `bytes`, whose length is a multiple of [`GRAIN`], aligned for a [`Note`].
    pub(super) const fn new(bytes: &'m mut [u8]) -> Self {
        Self { bytes, tail: 0, used: 0 }
    }

    /// Looks for room for a frame of `len` bytes behind the newest record.
    ///
    /// Work: gives up at most one record that is not vacant, and as many vacant ones as lie before it.
    pub(super) fn make_room(&mut self, len: usize) -> Room {
        let size = record(len);
        if size > self.bytes.len() {
            return Room::Never;
        }
        loop {
            if self.used == 0 {
                self.tail = 0;
            }
            let end = self.tail + self.used;
            let is_wrapped = end >= self.bytes.len() && self.used != 0;
            let (head, free) = if is_wrapped {
                (end - self.bytes.len(), self.bytes.len() - self.used)
            } else {
                (end, self.bytes.len() - end)
            };
            if size <= free {
                return Room::At(head as u32);
            }
            if !is_wrapped && self.tail != 0 {
                // What is left at the end is too short: it becomes a vacant record.
                self.put(head, Note { size: free as u32, ..Note::VACANT });
                self.used += free;
                continue;
            }
            let Some(note) = self.note(self.tail as u32) else {
                // Not a record: the ring is damaged, and begins anew.
                self.used = 0;
                continue;
            };
            self.used = self.used.saturating_sub(note.size as usize);
            self.tail = (self.tail + note.size as usize) % self.bytes.len();
            if note.datagram != NONE {
                return Room::GaveUp(note.datagram);
            }
        }
    }

    /// Puts a frame where [`make_room`](Self::make_room) has found room for it.
    pub(super) fn append(&mut self, at: u32, frame: &[u8], datagram: u32, port: u8, handovers: u8) {
        let size = record(frame.len());
        let note = Note { size: size as u32, len: frame.len() as u32, datagram, port, handovers, ..Note::VACANT };
        self.put(at as usize, note);
        self.used += size;
        let from = at as usize + GRAIN;
        if let Some(place) = self.bytes.get_mut(from..from + frame.len()) {
            place.copy_from_slice(frame);
        }
    }

    /// What stands before the frame at this place.
    pub(super) fn note(&self, at: u32) -> Option<Note> {
        let (note, _) = Note::read_from_prefix(self.bytes.get(at as usize..)?).ok()?;
        (note.size != 0).then_some(note)
    }

    /// The frame at this place.
    pub(super) fn frame(&self, at: u32) -> Option<&[u8]> {
        let note = self.note(at)?;
        self.bytes.get(at as usize + GRAIN..)?.get(..note.len as usize)
    }

    /// Names the datagram's next record.
    pub(super) fn link(&mut self, at: u32, next: u32) {
        if let Some(note) = self.note(at) {
            self.put(at as usize, Note { next, ..note });
        }
    }

    /// Makes a record vacant, whose room comes back when it is the oldest.
    pub(super) fn vacate(&mut self, at: u32) {
        if let Some(note) = self.note(at) {
            self.put(at as usize, Note { datagram: NONE, ..note });
        }
    }

    fn put(&mut self, at: usize, note: Note) {
        if let Some(place) = self.bytes.get_mut(at..) {
            let _ = note.write_to_prefix(place);
        }
    }
}

impl Note {
    const VACANT: Self = Self { size: 0, len: 0, datagram: NONE, next: NONE, port: 0, handovers: 0, reserved: [0; 14] };
}

/// Bytes of the record for a frame of so many.
const fn record(len: usize) -> usize {
    GRAIN + len.div_ceil(GRAIN) * GRAIN
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a queue of frames: what is not given up is found again, byte for byte, and only
        /// the oldest are given up.
        #[test]
        fn keeps_the_newest_frames(lens in proptest::collection::vec((0_usize..700, any::<bool>()), 1..200)) {
            let mut bytes = vec![0; 2048];
            let mut log = Log::new(&mut bytes);
            let mut model = VecDeque::<(u32, u32, Vec<u8>)>::new();
            for (number, (len, vacate)) in (0..).zip(lens) {
                let at = loop {
                    match log.make_room(len) {
                        Room::At(at) => break at,
                        Room::GaveUp(datagram) => prop_assert_eq!(model.pop_front().map(|(_, oldest, _)| oldest), Some(datagram)),
                        Room::Never => prop_assert!(false, "{} bytes would fit", len),
                    }
                };
                let frame = vec![number as u8; len];
                log.append(at, &frame, number, 3, 1);
                model.push_back((at, number, frame));
                if vacate && model.len() > 1 {
                    let (at, ..) = model.remove(1).unwrap();
                    log.vacate(at);
                }
                for (at, datagram, frame) in &model {
                    prop_assert_eq!(log.frame(*at), Some(&frame[..]));
                    prop_assert_eq!(log.note(*at).map(|note| note.datagram), Some(*datagram));
                }
            }
        }
    }

    #[test]
    fn what_is_larger_than_the_ring_never_fits() {
        let mut bytes = vec![0; 128];
        let mut log = Log::new(&mut bytes);
        assert_eq!(log.make_room(97), Room::Never);
        assert_eq!(log.make_room(96), Room::At(0));
    }
}
