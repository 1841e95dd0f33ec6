//! What the third pass works with, and the empty frames that it may fill.

use super::foreseen::Foresight;
use super::observe::{Observer, Step};
use super::worker::Worker;
use crate::flow::{Address, FlowEnd, FlowEvent};
use crate::frame::Frame;
use crate::snapshot::Snapshot;
use crate::verdict::Verdict;

/// What the third pass works with.
pub(super) struct Context<'c, 'm, 's, O> {
    pub(super) worker: &'c mut Worker<'m>,
    pub(super) snapshot: &'c Snapshot<'s>,
    pub(super) tick: u32,
    pub(super) frame_index: usize,
    pub(super) observer: &'c mut O,
    pub(super) foresight: Foresight<'s>,
}

impl<O: Observer> Context<'_, '_, '_, O> {
    #[inline]
    pub(super) fn explain(&mut self, step: Step) {
        self.observer.step(self.frame_index, step);
    }

    /// Forgets the flow at this place.
    #[cold]
    pub(super) fn end_flow<A: Address>(&mut self, index: u32, end: FlowEnd) {
        if let Some(entry) = self.worker.flows.of_mut::<A>().take(index) {
            self.worker.counters.count_end(end, entry.worth());
            self.observer.flow(A::flow(&entry), FlowEvent::Ended(end));
        }
    }

    /// Counts the verdict of a frame of the worker's own, explains it, and gives it to the frame.
    pub(super) fn conclude(&mut self, frame: &mut Frame<'_>, verdict: Verdict) {
        self.explain(Step::Decided(verdict));
        frame.decide(verdict);
        self.worker.count_verdicts(core::slice::from_ref(frame));
    }
}

/// The empty frames that a burst has left.
pub(super) struct Spares<'b, 'a> {
    frames: &'b mut [Frame<'a>],
    taken: usize,
    /// The number by which an observer knows the first of them.
    first: usize,
}

impl<'b, 'a> Spares<'b, 'a> {
    /// - `first`: the number by which an observer knows the first of them.
    pub(super) const fn new(frames: &'b mut [Frame<'a>], first: usize) -> Self {
        Self { frames, taken: 0, first }
    }

    /// How many there are.
    pub(super) const fn left(&self) -> usize {
        self.frames.len()
    }

    /// How many have been taken.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    /// Whether a packet that takes so many should wait for a burst that has more: not where this one has all that any
    /// has.
    pub(super) const fn should_wait_for(&self, needed: usize) -> bool {
        self.taken != 0 && self.frames.len() < needed
    }

    /// The next one, to look at before it is taken.
    pub(super) const fn peek(&mut self) -> Option<&mut Frame<'a>> {
        self.frames.first_mut()
    }

    /// The next one, which has to be given a verdict, and its number for an observer.
    pub(super) fn take(&mut self) -> Option<(&'b mut Frame<'a>, usize)> {
        let (first, rest) = core::mem::take(&mut self.frames).split_first_mut()?;
        self.frames = rest;
        self.taken += 1;
        Some((first, self.first + self.taken - 1))
    }
}
