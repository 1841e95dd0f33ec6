use super::*;
use crate::snapshot::Admission;

/// A section that is larger than its records would only be waste, which no packet shows.
#[test]
fn a_section_has_the_bytes_of_its_records() {
    let sizes = [
        (Section::Globals, size_of::<Globals>()),
        (Section::Ports, size_of::<PortRecord>()),
        (Section::Frontends, size_of::<FrontendRecord>()),
        (Section::Kept, size_of::<FrontendRecord>()),
        (Section::Selectors, size_of::<SelectorRecord>()),
        (Section::Backends, size_of::<BackendRecord>()),
        (Section::Slots, 2),
        (Section::Hops, size_of::<HopRecord>()),
        (Section::OverlayV4, size_of::<RangeV4>()),
        (Section::OverlayV6, size_of::<RangeV6>()),
        (Section::RoutesV4, size_of::<RangeV4>()),
        (Section::RoutesV6, size_of::<RangeV6>()),
        (Section::RouteTargets, size_of::<RouteRecord>()),
        (Section::Neighbours, size_of::<NeighbourRecord>()),
        (Section::PoolV4, 4),
        (Section::PoolV6, 16),
        (Section::SubnetsV4, size_of::<RangeV4>()),
        (Section::SubnetsV6, size_of::<RangeV6>()),
        (Section::MasqueradeV4, 4),
        (Section::MasqueradeV6, 16),
        (Section::ExemptV4, size_of::<RangeV4>()),
        (Section::ExemptV6, size_of::<RangeV6>()),
        (Section::LocalV4, 4),
        (Section::LocalV6, 16),
        (Section::EchoV4, 4),
        (Section::EchoV6, 16),
    ];
    // As many records as end on the alignment, whatever a record's size.
    let plan = Plan { counts: [8; SECTIONS], scratch: 24 };
    assert!(sizes.iter().map(|(section, _)| *section as usize).eq(0..SECTIONS), "every section, in order");
    for (section, size) in sizes {
        assert_eq!(plan.section_bytes(section as usize), 8 * size, "{section:?}");
    }
    let records: usize = sizes.iter().map(|(_, size)| 8 * size).sum();
    assert_eq!(plan.snapshot_bytes(), size_of::<Header>() + records);
    assert_eq!(plan.bytes(), size_of::<Header>() + records + 24);
}

#[test]
fn a_limit_on_new_flows_is_the_time_between_them() {
    let apart = |new_flows_per_second| Admission { new_flows_per_second, ..Admission::default() }.new_flow_ns();
    let most = Admission::NEW_FLOWS_MAX;
    assert_eq!(
        [0, 1, 3, 1000, most, most + 1, u32::MAX].map(apart),
        [0, 1_000_000_000, 333_333_333, 1_000_000, 100, 100, 100]
    );
}
