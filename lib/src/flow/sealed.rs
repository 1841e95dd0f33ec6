//! What both families of addresses have, and no other type.

use super::{Address, Entry, Flow, Table, Tables};

/// What differs between the families, for this crate alone.
pub trait Sealed: Sized {
    /// Of both families' tables this one's.
    fn table<'t, 'm>(tables: &'t Tables<'m>) -> &'t Table<'m, Self>
    where
        Self: Address;

    /// As [`table`](Self::table), to change it.
    fn table_mut<'t, 'm>(tables: &'t mut Tables<'m>) -> &'t mut Table<'m, Self>
    where
        Self: Address;

    /// An entry of this family.
    fn flow(entry: &Entry<Self>) -> Flow<'_>
    where
        Self: Address;
}

impl Sealed for [u8; 4] {
    #[inline(always)]
    fn table<'t, 'm>(tables: &'t Tables<'m>) -> &'t Table<'m, Self> {
        &tables.v4
    }

    #[inline(always)]
    fn table_mut<'t, 'm>(tables: &'t mut Tables<'m>) -> &'t mut Table<'m, Self> {
        &mut tables.v4
    }

    fn flow(entry: &Entry<Self>) -> Flow<'_> {
        Flow::V4(entry)
    }
}

impl Sealed for [u8; 16] {
    #[inline(always)]
    fn table<'t, 'm>(tables: &'t Tables<'m>) -> &'t Table<'m, Self> {
        &tables.v6
    }

    #[inline(always)]
    fn table_mut<'t, 'm>(tables: &'t mut Tables<'m>) -> &'t mut Table<'m, Self> {
        &mut tables.v6
    }

    fn flow(entry: &Entry<Self>) -> Flow<'_> {
        Flow::V6(entry)
    }
}
