//! What the second pass has decided of packets that most likely begin flows, kept for the third.

use crate::flow::NO_ENTRY;
use crate::nat::Drawn;
use crate::snapshot::{BackendRecord, SelectorRecord};

/// More than there are packets between both passes.
const SLOTS: usize = 16;
const _: () = assert!(SLOTS.is_power_of_two() && SLOTS >= super::AHEAD + super::ENTRIES);

/// Stands for the first slot where an entry's index would: above all of them.
const FIRST: u32 = NO_ENTRY - SLOTS as u32;

/// The service that a packet asks, the backend that it gets, and the port that is drawn first.
#[derive(Clone, Copy)]
pub(super) struct Foreseen<'s> {
    pub(super) selector: &'s SelectorRecord,
    pub(super) backend: &'s BackendRecord,
    pub(super) drawn: Drawn,
}

/// The last ones that were foreseen.
pub(super) struct Foresight<'s> {
    slots: [Option<Foreseen<'s>>; SLOTS],
    next: usize,
}

impl<'s> Foresight<'s> {
    pub(super) const fn new() -> Self {
        Self { slots: [const { None }; SLOTS], next: 0 }
    }

    /// Keeps it, and returns the number to ask [`of`](Self::of) with.
    pub(super) fn keep(&mut self, foreseen: Foreseen<'s>) -> u32 {
        let slot = self.next % SLOTS;
        self.next = slot + 1;
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(foreseen);
        }
        FIRST + slot as u32
    }

    /// What was foreseen of a packet whose flow is most likely in this entry.
    pub(super) fn of(&self, likely: u32) -> Option<&Foreseen<'s>> {
        self.slots.get(likely.wrapping_sub(FIRST) as usize)?.as_ref()
    }
}
