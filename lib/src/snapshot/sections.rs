//! The sections of a snapshot, declared once: their order in the bytes, their records, and how they are found and
//! written.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{
    ALIGNMENT, BackendRecord, FrontendRecord, Globals, HopRecord, NeighbourRecord, PortRecord, RangeV4, RangeV6,
    RouteRecord, SelectorRecord,
};
use super::view::AttachError;

/// Where a section lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Extent {
    /// Bytes from the start of the snapshot.
    pub(super) offset: u64,
    /// Records.
    pub(super) count: u64,
}

macro_rules! sections {
    ($($(#[doc = $doc:literal])* $section:ident: $record:ty,)+) => {
        /// How many sections there are.
        pub(super) const SECTIONS: usize = [$(stringify!($section)),+].len();

        /// How many records each section has.
        #[derive(Clone, Copy, Debug)]
        pub(super) struct Counts {
            $($(#[doc = $doc])* pub(super) $section: usize,)+
        }

        impl Counts {
            /// Bytes of all sections.
            pub(super) const fn bytes(&self) -> usize {
                0 $(+ sized::<$record>(self.$section))+
            }

            /// Where sections of so many records begin, the first of them at `offset`, and how many records of each
            /// are in `used`.
            pub(super) fn extents(&self, used: &Self, mut offset: usize) -> [Extent; SECTIONS] {
                [$((sized::<$record>(self.$section), used.$section)),+].map(|(bytes, count)| {
                    let extent = Extent { offset: offset as u64, count: count as u64 };
                    offset += bytes;
                    extent
                })
            }
        }

        /// The records of each section.
        #[derive(Clone, Copy, Debug)]
        pub(super) struct Sections<'a> {
            $($(#[doc = $doc])* pub(super) $section: &'a [$record],)+
        }

        impl<'a> Sections<'a> {
            /// Finds the sections in a snapshot's bytes.
            pub(super) fn find(bytes: &'a [u8], extents: &[Extent; SECTIONS]) -> Result<Self, AttachError> {
                let mut extents = extents.iter().copied().enumerate();
                Ok(Self { $($section: records::<$record>(bytes, extents.next())?,)+ })
            }
        }

        /// The records of each section, to be written.
        pub(super) struct SectionsMut<'m> {
            $($(#[doc = $doc])* pub(super) $section: &'m mut [$record],)+
        }

        impl<'m> SectionsMut<'m> {
            /// Splits bytes into sections of so many records; `None` where there are too few.
            pub(super) fn split(counts: &Counts, bytes: &'m mut [u8]) -> Option<Self> {
                $(let ($section, bytes) = split::<$record>(bytes, counts.$section)?;)+
                let _ = bytes;
                Some(Self { $($section,)+ })
            }
        }
    };
}

sections! {
    /// What there is one of.
    globals: Globals,
    ports: PortRecord,
    frontends: FrontendRecord,
    /// Backends of services that preserve the source, in the form of frontends.
    preserving: FrontendRecord,
    selectors: SelectorRecord,
    backends: BackendRecord,
    slots: u16,
    hops: HopRecord,
    overlay_v4: RangeV4,
    overlay_v6: RangeV6,
    routes_v4: RangeV4,
    routes_v6: RangeV6,
    route_targets: RouteRecord,
    /// In order.
    neighbours: NeighbourRecord,
    pool_v4: [u8; 4],
    pool_v6: [u8; 16],
    subnets_v4: RangeV4,
    subnets_v6: RangeV6,
    masquerade_v4: [u8; 4],
    masquerade_v6: [u8; 16],
    /// Where no pod's packet goes to.
    exempt_v4: RangeV4,
    exempt_v6: RangeV6,
    /// The gateway's own addresses outside the overlay, in order.
    local_v4: [u8; 4],
    local_v6: [u8; 16],
    /// The addresses of services at which pings are answered, in order.
    echo_v4: [u8; 4],
    echo_v6: [u8; 16],
}

/// Bytes of so many records, so that what follows is aligned.
pub(super) const fn sized<T>(count: usize) -> usize {
    (size_of::<T>() * count).next_multiple_of(ALIGNMENT)
}

/// The records at an extent: the section's number, and where it says that they lie.
fn records<T>(bytes: &[u8], extent: Option<(usize, Extent)>) -> Result<&[T], AttachError>
where
    T: FromBytes + Immutable + KnownLayout,
{
    let (number, Extent { offset, count }) = extent.unwrap_or_default();
    let error = AttachError::Section(number);
    let offset = usize::try_from(offset).map_err(|_| error)?;
    let count = usize::try_from(count).map_err(|_| error)?;
    let bytes = bytes.get(offset..).ok_or(error)?;
    <[T]>::ref_from_prefix_with_elems(bytes, count).map(|(records, _)| records).map_err(|_| error)
}

/// Splits `count` records off the front.
fn split<T>(bytes: &mut [u8], count: usize) -> Option<(&mut [T], &mut [u8])>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout,
{
    let (front, rest) = bytes.split_at_mut_checked(sized::<T>(count))?;
    let (records, _) = <[T]>::mut_from_prefix_with_elems(front, count).ok()?;
    Some((records, rest))
}
