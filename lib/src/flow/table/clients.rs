//! How many half-open flows each client has, in a few counters that clients share.
//!
//! A client is an IPv4 address; an IPv6 /64, since whoever has one address of it commonly has all
//! (RFC 6177 §2); a pod's whole address. Its hash, under the table's secret, names a line of counters
//! and two counters of the line, and every half-open flow of its own is counted in both. The lower one
//! is never below the truth, and above it only by the flows of others that share both counters. There
//! are as many counters as entries, so that even a table full of half-open flows puts two in each,
//! on average; and nobody without the secret can tell with whom he shares.
//!
//! A limit on them holds while the table fills, and not before: who forges a client's address could else
//! have it refused where there is room for all.

use super::{Age, Table};
use crate::flow::{Address, Entry, FlowEnd, Mode, Tuple, Worth, raw};
use crate::net::Protocol;

/// The table fills when half-open flows have one part of so many, or all flows all parts but one.
const PARTS: u32 = 4;

/// Counters of a line.
const COUNTERS: usize = 16;

/// Counters that are read together.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(in crate::flow) struct ClientCounts([u32; COUNTERS]);
const _: () = assert!(size_of::<ClientCounts>() == 64);

impl ClientCounts {
    pub(super) const NONE: Self = Self([0; COUNTERS]);

    #[cfg(test)]
    pub(super) const fn all(&self) -> &[u32; COUNTERS] {
        &self.0
    }
}

impl<A: Address> Table<'_, A> {
    pub(super) const fn client_lines(capacity: u32) -> usize {
        (capacity as usize).div_ceil(COUNTERS)
    }

    /// How many half-open flows a client has, or a few more where it shares its counters; `is_pod`:
    /// whether it is inside.
    ///
    /// Work: one cache line.
    #[must_use]
    pub fn half_open_of(&self, client: A, is_pod: bool) -> u32 {
        let (line, counters) = self.place_of(client, is_pod);
        let Some(ClientCounts(line)) = self.clients.get(line) else { return 0 };
        let [one, other] = counters.map(|counter| line[counter]);
        one.min(other)
    }

    /// Whether clients are held to their limit.
    const fn is_filling(&self) -> bool {
        let part = self.capacity() / PARTS;
        self.half_open() >= part || self.len() >= self.capacity() - part
    }

    /// Whether a client may begin another half-open flow, of which `limit` are the most. In a table that fills
    /// one of its own is evicted beyond that, and only the one that has been half-open longest of all is
    /// looked at.
    ///
    /// Work: one cache line, and an entry where the client is at its limit.
    pub(crate) fn may_begin_half_open(&self, client: A, is_pod: bool, limit: u32) -> bool {
        !self.is_filling() || self.half_open_of(client, is_pod) < limit || self.oldest_of(client, is_pod).is_some()
    }

    /// Call this when a half-open flow has begun: one of its client's is evicted if that makes more than
    /// `limit` in a table that fills, and shown to `ended`.
    ///
    /// Work: as of [`may_begin_half_open`](Self::may_begin_half_open) and of removing a flow.
    pub(crate) fn hold_client(
        &mut self,
        begun: u32,
        limit: u32,
        age: Age<'_>,
        ended: &mut impl FnMut(&Entry<A>, FlowEnd),
    ) {
        let Some((client, is_pod)) = self.get(begun).map(Entry::client) else { return };
        if !self.is_filling() || self.half_open_of(client, is_pod) <= limit {
            return;
        }
        if let Some(oldest) = self.oldest_of(client, is_pod).filter(|oldest| *oldest != begun) {
            self.give_way(oldest, age, ended);
        }
    }

    /// The flow that has been half-open longest, if it is this client's.
    fn oldest_of(&self, client: A, is_pod: bool) -> Option<u32> {
        let oldest = self.first_of(Worth::HalfOpen)?;
        let (other, other_is_pod) = self.get(oldest)?.client();
        let is_own = if is_pod { other == client } else { other.site() == client.site() };
        (is_own && is_pod == other_is_pod).then_some(oldest)
    }

    /// Asks for the memory of a client's counts; as [`half_open_of`](Self::half_open_of).
    pub(crate) fn prefetch_client(&self, client: A, is_pod: bool) {
        let (line, _) = self.place_of(client, is_pod);
        if let Some(counts) = self.clients.get(line) {
            raw::prefetch(counts);
        }
    }

    /// Counts the half-open flow at this place, or (`begins` is false) no longer.
    pub(super) fn count_client(&mut self, index: u32, begins: bool) {
        let Some((client, is_pod)) = self.get(index).map(Entry::client) else { return };
        let (line, counters) = self.place_of(client, is_pod);
        let Some(ClientCounts(line)) = self.clients.get_mut(line) else { return };
        for counter in counters {
            // No more than there are entries.
            let count = line[counter];
            line[counter] = if begins { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
    }

    /// A client's line, and its two counters of that.
    pub(super) fn place_of(&self, client: A, is_pod: bool) -> (usize, [usize; 2]) {
        let client = if is_pod { client } else { client.site() };
        let nobody = [0; 2];
        let tuple = Tuple { source: client, destination: client, source_port: nobody, destination_port: nobody };
        let hash = self.hash(&tuple, Protocol(0));
        let line = crate::hash::reduce((hash >> 32) as u32, self.clients.len() as u32);
        let one = hash as usize % COUNTERS;
        let other = (one + 1 + (hash as usize / COUNTERS) % (COUNTERS - 1)) % COUNTERS;
        (line as usize, [one, other])
    }
}

impl<A: Address> Entry<A> {
    /// Who began the flow, and whether that is a pod.
    const fn client(&self) -> (A, bool) {
        (self.original.source, self.mode != Mode::Inward as u8)
    }
}

#[cfg(test)]
mod tests;
