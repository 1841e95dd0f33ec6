//! Which flow is evicted for a new one when there is no room.
//!
//! By eviction class (see [`State::worth`]): first half-open flows, or UDP and echo requests that nobody has
//! answered, whichever are more; then connections that have ended; then flows that were answered and never assured;
//! then UDP that goes back and forth. Of each class the one that has been in it longest goes. An assured connection
//! is never evicted: where there are no others, the new flow is refused.
//!
//! "No room" is one of two things. Nearly always no entry is vacant, and any other flow is as good as
//! the next. Or there are vacant entries, and no vacant slot in both buckets of a tuple, which chance
//! hardly ever brings about; then only a flow of these buckets is of use, and of those of the first class
//! the one that has idled longest goes.

use super::{Age, InsertError, Table, slots};
use crate::flow::{Address, Entry, FlowEnd, State, Tuple, Worth};
use crate::net::Protocol;

/// How many entries are looked at for flows that have idled too long, before one is refused.
const LAST_LOOK: u32 = 64;

/// How often room is made for one flow: for an entry, and for a slot for each tuple.
const TIMES: u32 = 3;

/// UDP streams leave a sixteenth of the table to the classes that are evicted before them.
const SHARE: u32 = 16;

impl<A: Address> Table<'_, A> {
    /// As [`insert`](Self::insert), and evicts other flows where there is no room, each of which `ended` is shown.
    ///
    /// Work: beyond that of inserting, at most three times the removal of two flows and a look at 64
    /// entries.
    ///
    /// # Errors
    /// As of [`insert`](Self::insert): [`InsertError::Full`] where every flow that is in the way is
    /// assured.
    pub(crate) fn insert_or_evict(
        &mut self,
        (original, reply): (Tuple<A>, Tuple<A>),
        protocol: Protocol,
        state: State,
        age: Age<'_>,
        ended: &mut impl FnMut(&Entry<A>, FlowEnd),
        fill: impl Fn(&mut Entry<A>),
    ) -> Result<u32, InsertError> {
        let tuples = [&original, &reply];
        let hashes = self.vacant_hashes(tuples, protocol)?;
        self.enter_or_evict(tuples, hashes, protocol, state, (age, ended), fill)
    }

    /// As [`insert_or_evict`](Self::insert_or_evict), for tuples with these hashes that no flow has: whoever has just
    /// looked them up need not have it done again.
    ///
    /// # Errors
    /// [`InsertError::Full`].
    #[inline(always)]
    pub(crate) fn enter_or_evict(
        &mut self,
        tuples: [&Tuple<A>; 2],
        hashes: [u64; 2],
        protocol: Protocol,
        state: State,
        (age, ended): (Age<'_>, &mut impl FnMut(&Entry<A>, FlowEnd)),
        fill: impl Fn(&mut Entry<A>),
    ) -> Result<u32, InsertError> {
        let mut left = TIMES;
        loop {
            let entered = self.enter(tuples, hashes, protocol, state, &fill);
            if entered.is_ok() || left == 0 || !self.make_room(hashes, age, ended) {
                return entered;
            }
            left -= 1;
        }
    }

    /// Takes a flow away whose tuples another is to have. Give it [`back`](Self::put_back) where that one is not
    /// inserted.
    #[cold]
    pub(crate) fn take(&mut self, index: u32) -> Option<Entry<A>> {
        let taken = self.get(index).filter(|entry| entry.state != 0).copied();
        self.remove(index);
        taken
    }

    /// Makes a flow that was [taken](Self::take), and whose place is vacant still, what it was, but for its place in
    /// the queue of its class.
    #[cold]
    pub(crate) fn put_back(&mut self, old: Entry<A>) {
        let Some(state) = old.state() else { return };
        let back = self.insert(old.original, old.reply, Protocol(old.protocol), state, |entry| {
            *entry = Entry { state: 0, ..old };
        });
        if let Ok(index) = back
            && let Some(entry) = self.get_mut(index)
        {
            let before = core::mem::replace(&mut entry.state, old.state);
            self.requeue(index, before);
        }
    }

    /// Takes away what is in the way of a flow with tuples of these hashes; `false` where it may not,
    /// and then no live flow was.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, hashes: [u64; 2], age: Age<'_>, ended: &mut impl FnMut(&Entry<A>, FlowEnd)) -> bool {
        let has_entry = self.get(self.vacant).is_some();
        let is_crowded = hashes.map(|hash| self.place(hash).is_none());
        let victims = match is_crowded {
            [false, false] if !has_entry => match self.least() {
                None => {
                    self.age(age, LAST_LOOK, ended);
                    return self.get(self.vacant).is_some();
                }
                first => [first, None],
            },
            [true, false] => [self.least_of_buckets(hashes[0], age), None],
            // Where both have a slot, it is the same one.
            [false, _] => [self.least_of_buckets(hashes[1], age), None],
            [true, true] => match hashes.map(|hash| self.least_of_buckets(hash, age)) {
                [Some(first), second @ Some(_)] => [Some(first), second],
                _ => return false,
            },
        };
        for index in victims.into_iter().flatten() {
            self.give_way(index, age, ended);
        }
        victims[0].is_some()
    }

    /// Takes the flow at this place away, if there still is one.
    pub(super) fn give_way(&mut self, index: u32, age: Age<'_>, ended: &mut impl FnMut(&Entry<A>, FlowEnd)) {
        let Some(entry) = self.get(index).filter(|entry| entry.state != 0) else { return };
        let is_idle = entry.is_idle(age.tick, age.idle);
        ended(entry, if is_idle { FlowEnd::Expired } else { FlowEnd::Evicted });
        self.remove(index);
    }

    /// The flow that is evicted for any other. Of the first two classes it is the fuller one's: a flood of
    /// datagrams would else leave no handshake the time to finish, as each puts out the only one. For the
    /// same reason streams leave some of the table to the others.
    fn least(&self) -> Option<u32> {
        let [half_open, one_way] = [Worth::HalfOpen, Worth::OneWay].map(|worth| self.queued(worth));
        let fuller = if one_way > half_open { Worth::OneWay } else { Worth::HalfOpen };
        let lesser: u32 =
            Worth::ALL.iter().filter(|worth| **worth != Worth::Stream).map(|worth| self.queued(*worth)).sum();
        let first = if lesser < self.capacity() / SHARE { Worth::Stream } else { fuller };
        [first, fuller].into_iter().chain(Worth::ALL).find_map(|worth| self.first_of(worth))
    }

    /// Of the flows with a slot in the buckets of this hash, the one to evict: one that has
    /// idled too long, or of the first class the one that has idled longest.
    fn least_of_buckets(&self, hash: u64, age: Age<'_>) -> Option<u32> {
        let indices = self.bucket_pair(hash).into_iter().flat_map(|bucket| {
            let bucket = self.buckets.get(bucket as usize);
            bucket.into_iter().flat_map(|bucket| slots(!bucket.matches(0)).filter_map(|slot| bucket.entry(slot)))
        });
        let ranked = indices.filter_map(|index| {
            let entry = self.get(index)?;
            let worth = entry.worth();
            let is_idle = entry.is_idle(age.tick, age.idle);
            let idled = entry.idled(age.tick);
            (is_idle || worth.is_some()).then_some((!is_idle, worth, core::cmp::Reverse(idled), index))
        });
        ranked.min().map(|(.., index)| index)
    }
}

#[cfg(test)]
mod tests;
