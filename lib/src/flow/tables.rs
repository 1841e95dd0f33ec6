//! The flows of both families together.

use super::{Address, Table};

/// A worker's flows: a table for each family.
#[derive(Debug)]
pub struct Tables<'m> {
    /// The IPv4 flows.
    pub v4: Table<'m, [u8; 4]>,
    /// The IPv6 flows.
    pub v6: Table<'m, [u8; 16]>,
}

impl<'m> Tables<'m> {
    /// The flows of a family.
    #[must_use]
    #[inline(always)]
    pub fn of<A: Address>(&self) -> &Table<'m, A> {
        A::table(self)
    }

    /// As [`of`](Self::of), to change them.
    #[inline(always)]
    pub(crate) fn of_mut<A: Address>(&mut self) -> &mut Table<'m, A> {
        A::table_mut(self)
    }

    /// How many flows there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is no flow.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
