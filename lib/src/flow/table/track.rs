//! The table by itself: for who follows flows without the pipeline.
//!
//! What the pipeline knows beyond this: TCP's sequence numbers and SCTP's verification tags, which keep others from
//! ending a flow, and limits on half-open flows of one client.

use super::{Age, Found, InsertError, Table};
use crate::flow::{Address, IdleTicks, State, Step, Tuple, step};
use crate::net::Protocol;
use crate::time::{Instant, tick};
use crate::wire::tcp::Flags;

impl<'a> Age<'a> {
    /// The time, and how long flows may idle by then.
    #[must_use]
    pub const fn new(now: Instant, idle: &'a IdleTicks) -> Self {
        Self { tick: tick(now), idle }
    }
}

/// What a packet is to the flow that was found for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Tracked {
    /// It belongs to the flow, which is in this state now.
    Follows(State),
    /// It belongs to the flow, which has ended with it and is forgotten: a connection that was reset before anybody
    /// had answered.
    Ends,
    /// The flow is over, or had idled too long, and is forgotten. The packet may begin another.
    Over,
    /// No such packet belongs to a flow in this state. The flow is as it was.
    Misfit,
}

impl<A: Address> Table<'_, A> {
    /// Begins a flow, in place of others where there is no room: half-open ones first, and never one whose client has
    /// shown that it receives what it is sent.
    ///
    /// - `original`: the tuple as the client sends it; `reply`: that of the answers as they arrive. Where nothing is
    ///   translated, that is `original.inverted()`.
    /// - `state`: see [`State::first`].
    /// - Work: that of four lookups, and at most three times the removal of two flows and a look at 64 entries.
    ///
    /// Returns the entry's place, as [`lookup`](Table::lookup) will.
    ///
    /// # Errors
    /// [`InsertError`]; no flow has begun then.
    pub fn begin(
        &mut self,
        original: Tuple<A>,
        reply: Tuple<A>,
        protocol: Protocol,
        state: State,
        age: Age<'_>,
    ) -> Result<u32, InsertError> {
        self.insert_or_evict((original, reply), protocol, state, age, &mut |_, _| {}, |entry| entry.seen = age.tick)
    }

    /// Has a packet change the state of the flow that was found for it, and how long that has idled.
    ///
    /// - `flags`: TCP's; of SCTP the first chunk, see [`Flags::of_chunk`]; of others they are not looked at.
    /// - Work: a look at one entry, and at five where its eviction class changes.
    #[must_use]
    pub fn track(&mut self, found: Found, flags: Flags, age: Age<'_>) -> Tracked {
        let Some(entry) = self.get_mut(found.index).filter(|entry| entry.state != 0) else { return Tracked::Over };
        if entry.is_idle(age.tick, age.idle) {
            self.remove(found.index);
            return Tracked::Over;
        }
        let before = entry.state;
        let next = match step(before, found.direction, flags) {
            Step::INVALID => return Tracked::Misfit,
            Step::REOPEN => {
                self.remove(found.index);
                return Tracked::Over;
            }
            Step::DELETE => {
                self.remove(found.index);
                return Tracked::Ends;
            }
            step => step.state(),
        };
        if let Some(next) = next {
            (entry.state, entry.seen) = (next, age.tick);
        }
        let state = entry.state();
        self.requeue(found.index, before);
        state.map_or(Tracked::Misfit, Tracked::Follows)
    }

    /// Looks at the next `budget` entries, where the last call ended, and forgets those that have idled too long.
    /// Returns how many. Call it often enough to come round the table in the shortest idle time.
    pub fn forget_idle(&mut self, age: Age<'_>, budget: u32) -> u32 {
        self.age(age, budget, &mut |_, _| {})
    }
}

#[cfg(test)]
mod tests;
