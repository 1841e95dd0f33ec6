//! The flows that may be evicted, in a queue for each eviction class, threaded
//! through the entries: whoever has been in its class longest is the first. A flow changes its class a
//! few times in its life at most, and the state table tells when.

use super::{NONE, Table};
use crate::flow::{Address, Entry, Worth};

/// One class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    first: u32,
    last: u32,
    len: u32,
}

impl Queue {
    /// No flows in any class.
    pub(super) const NONE: [Self; Worth::COUNT] = [Self { first: NONE, last: NONE, len: 0 }; Worth::COUNT];
}

/// The links of an entry, by their place.
const BEFORE: usize = 0;
const BEHIND: usize = 1;

impl<A: Address> Table<'_, A> {
    /// The flow that has been in this class longest.
    pub(super) const fn first_of(&self, worth: Worth) -> Option<u32> {
        let first = self.queues[worth as usize].first;
        if first == NONE { None } else { Some(first) }
    }

    /// How many flows are in a handshake that is not finished.
    #[must_use]
    pub const fn half_open(&self) -> u32 {
        self.queued(Worth::HalfOpen)
    }

    /// How many flows are in this class.
    pub(super) const fn queued(&self, worth: Worth) -> u32 {
        self.queues[worth as usize].len
    }

    /// Puts a flow that stands in no queue last in that of its state.
    ///
    /// Work: two entries, and the count of a client.
    pub(super) fn enqueue(&mut self, index: u32) {
        let Some(queue) = self.enter_queue(index) else { return };
        let before = core::mem::replace(&mut queue.last, index);
        if before == NONE {
            queue.first = index;
        }
        self.link(index, before, NONE);
        self.set_link(before, BEHIND, index);
    }

    /// Puts a flow that stands in no queue first in that of its state.
    pub(super) fn enqueue_first(&mut self, index: u32) {
        let Some(queue) = self.enter_queue(index) else { return };
        let behind = core::mem::replace(&mut queue.first, index);
        if behind == NONE {
            queue.last = index;
        }
        self.link(index, NONE, behind);
        self.set_link(behind, BEFORE, index);
    }

    /// Takes a flow out of the queue of this state's byte.
    ///
    /// Work: three entries.
    pub(super) fn dequeue(&mut self, index: u32, state: u8) {
        let Some(worth) = Worth::of(state) else { return };
        let Some([before, behind]) = self.get(index).map(|entry| entry.queued) else { return };
        if worth == Worth::HalfOpen {
            self.count_client(index, false);
        }
        let queue = &mut self.queues[worth as usize];
        queue.len -= 1;
        if before == NONE {
            queue.first = behind;
        }
        if behind == NONE {
            queue.last = before;
        }
        self.set_link(before, BEHIND, behind);
        self.set_link(behind, BEFORE, before);
    }

    /// Call this when a flow's state has changed, with what its byte was: puts it in the queue of what
    /// it is worth now.
    ///
    /// Work: five entries.
    pub(crate) fn requeue(&mut self, index: u32, before: u8) {
        let now = self.get(index).map_or(0, |entry| entry.state);
        if now != 0 && Worth::of(before) != Worth::of(now) {
            self.dequeue(index, before);
            self.enqueue(index);
        }
    }

    /// The queue of what a flow is worth, one longer than before.
    fn enter_queue(&mut self, index: u32) -> Option<&mut Queue> {
        let worth = self.get(index).and_then(Entry::worth)?;
        if worth == Worth::HalfOpen {
            self.count_client(index, true);
        }
        let queue = &mut self.queues[worth as usize];
        queue.len += 1;
        Some(queue)
    }

    fn link(&mut self, index: u32, before: u32, behind: u32) {
        if let Some(entry) = self.get_mut(index) {
            entry.queued = [before, behind];
        }
    }

    fn set_link(&mut self, index: u32, side: usize, to: u32) {
        if let Some(entry) = self.get_mut(index) {
            entry.queued[side] = to;
        }
    }
}

impl<A: Address> Entry<A> {
    /// The flow's eviction class; `None` where it is never evicted.
    pub(crate) const fn worth(&self) -> Option<Worth> {
        Worth::of(self.state)
    }
}
