use super::*;
use crate::net::Vni;
use crate::snapshot::{Admission, Backend, Echo, Masquerade, NODE_PORTS, OuterDscp, Policy, Snapshot, Timeouts};

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

/// What a snapshot says of these services, at a gateway of nothing but these masquerade addresses.
fn of_services<T>(addresses: &[IpAddr], services: &[Service<'_>], hear: impl FnOnce(&Snapshot<'_>) -> T) -> T {
    let gateway = Gateway {
        workers: 1,
        vni: Vni::default(),
        vxlan_port: 8472,
        v4: None,
        v6: None,
        overlay_mtu: None,
        subnets: &[],
        pool: &[],
        pool_ports: (1024, 65_535),
        node_ports: NODE_PORTS,
        masquerade: Masquerade { addresses, ..Masquerade::NONE },
        local: &[],
        mss: MssLimit::Off,
        outer_dscp: OuterDscp::default(),
        selector_seed: 0,
        timeouts: Timeouts::default(),
        admission: Admission::default(),
        echo: Echo::default(),
    };
    let d = Description { generation: 1, gateway, ports: &[], peers: &[], services, routes: &[], neighbours: &[] };
    let mut memory = std::vec![0_u64; bytes_required(&d) / 8];
    let memory = memory.as_mut_bytes();
    let len = compile(&d, memory).unwrap();
    hear(&Snapshot::attach(&memory[..len]).unwrap())
}

const fn service<'a>(frontends: &'a [Endpoint], backends: &'a [Backend], client_address: ClientAddress) -> Service<'a> {
    let policy = Policy { client_address, dscp: None };
    Service { id: 1, protocol: Protocol::TCP, frontends, backends, table_size: 7, policy }
}

fn at(address: &str, port: u16) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), port }
}

#[test]
fn masquerade_addresses_that_services_listen_at_are_marked_by_their_index_in_their_family() {
    let all = ["198.51.100.1", "2001:db8::1", "198.51.100.2", "2001:db8::2", "198.51.100.3"];
    let listening = |frontends: &[Endpoint]| {
        let addresses = all.map(|address| at(address, 0).address);
        let service = service(frontends, &[], ClientAddress::default());
        of_services(&addresses, &[service], |snapshot| snapshot.globals.listening)
    };
    assert_eq!((listening(&[]), listening(&[at("203.0.113.10", 80)])), ([0, 0], [0, 0]));
    for (address, expected) in all.into_iter().zip([[1, 0], [0, 1], [2, 0], [0, 2], [4, 0]]) {
        assert_eq!(listening(&[at(address, 80)]), expected, "{address}");
    }
    assert_eq!(listening(&all.map(|address| at(address, 80))), [7, 3]);
}

#[test]
fn a_backend_that_sees_its_clients_answers_as_the_one_frontend_that_leads_to_it() {
    let (one, other) = ([at("203.0.113.10", 80)], [at("203.0.113.11", 80)]);
    let backend = |address| Backend { endpoint: at(address, 8080), weight: 1 };
    let (shared, twice, lone) = (backend("10.1.0.1"), backend("10.1.0.2"), backend("10.1.0.3"));
    let (first, second) = ([shared, twice, twice], [shared, lone]);
    let keep = ClientAddress::Keep;
    let services = [service(&one, &first, keep), Service { id: 2, ..service(&other, &second, keep) }];
    of_services(&[], &services, |snapshot| {
        let of = |backend: Backend| (mapped(backend.endpoint.address), 8080_u16.to_be_bytes(), Protocol::TCP);
        let answers_as = |backend| {
            let (address, port, protocol) = of(backend);
            snapshot.answers_as(address, port, protocol).map(|(frontend, _)| frontend.address)
        };
        assert_eq!(answers_as(twice), Some(mapped(one[0].address)));
        assert_eq!(answers_as(lone), Some(mapped(other[0].address)));
        assert_eq!(answers_as(shared), None, "of two");
        let is_kept = |backend| {
            let (address, port, protocol) = of(backend);
            snapshot.is_kept(address, port, protocol)
        };
        assert_eq!([twice, lone, shared].map(is_kept), [true; 3]);
        assert!(!is_kept(backend("10.1.0.4")) && snapshot.keeps_clients());
    });
    let translated = [service(&one, &first, ClientAddress::Translate)];
    assert!(!of_services(&[], &translated, |snapshot| snapshot.keeps_clients()));
}
