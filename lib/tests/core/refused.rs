//! Descriptions that compile to no snapshot.

use std::net::{IpAddr, Ipv4Addr};

use weirgate::maglev::FillError;
use weirgate::net::{Endpoint, POOL_MAX, PORTS_MAX, PortId, Protocol, WORKERS_MAX};
use weirgate::snapshot::{Backend, CompileError, Description, Gateway, RouteTarget, Service, bytes_required, compile};
use weirgate::verdict::Verdict;
use weirgate_fixture::frames::{FROM_CLIENT, Packet, SYN, framed};
use weirgate_fixture::leak_aligned;
use weirgate_fixture::world::{CLIENT_V6, NODE_PORT_ADDRESS, NODES, NODES_V6, UNDERLAY, UPLINK, WEB, World};

fn error(description: &Description<'_>) -> Option<CompileError> {
    let memory = leak_aligned(bytes_required(description));
    compile(description, memory).err()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The gateway takes packets to its own subnets for backends' replies.
#[test]
fn a_service_in_the_gateways_own_subnets() {
    for own in ["10.77.200.2", "10.77.200.0", "10.77.200.255", "fd77:0:0:200::2"].map(address) {
        let mut world = World::new();
        world.frontends[0].2.push(Endpoint { address: own, port: 30_080 });
        assert_eq!(world.describe(error), Some(CompileError::FrontendAddress(own)));
    }
    for other in ["10.77.201.2", "198.51.100.7"].map(address) {
        let mut world = World { masquerade: vec![address("198.51.100.7")], ..World::new() };
        world.frontends[0].2.push(Endpoint { address: other, port: 30_080 });
        assert_eq!(world.describe(error), None);
    }
}

#[test]
fn a_table_of_no_slots() {
    World::new().describe(|description| {
        for (table_size, expected) in [(0, Some(0)), (1, Some(1)), (8, Some(8)), (7, None)] {
            let services: Vec<_> = description.services.iter().map(|it| Service { table_size, ..*it }).collect();
            let error = error(&Description { services: &services, ..*description });
            let not_prime = |slots| CompileError::Selector { service: WEB, error: FillError::NotPrime(slots) };
            assert_eq!(error, expected.map(not_prime), "{table_size}");
        }
    });
}

/// One half of the gateway would treat them as IPv4, the other as IPv6.
#[test]
fn ipv4_mapped_endpoints() {
    let mapped = IpAddr::from(Ipv4Addr::new(203, 0, 113, 10).to_ipv6_mapped());
    let endpoint = Endpoint { address: mapped, port: 80 };
    let refused = Some(CompileError::MappedAddress(mapped));
    let mut world = World::new();
    world.frontends[1].2.push(endpoint);
    assert_eq!(world.describe(error), refused);
    let mut world = World::new();
    world.backends[1].push(Backend { endpoint, weight: 0 });
    assert_eq!(world.describe(error), refused);
    let mut world = World::new();
    world.masquerade.push(mapped);
    assert_eq!(world.describe(error), refused);
    let mut world = World::new();
    world.pool.push(mapped);
    assert_eq!(world.describe(error), refused);
}

#[test]
fn each_maximum_compiles_and_one_more_is_refused() {
    let of = |change: fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        world.describe(error)
    };
    assert_eq!(of(|world| world.workers = 0), Some(CompileError::Workers(0)));
    assert_eq!(of(|world| world.workers = WORKERS_MAX as u8), None);
    assert_eq!(of(|world| world.workers = WORKERS_MAX as u8 + 1), Some(CompileError::Workers(WORKERS_MAX as u8 + 1)));

    // Each worker needs at least one port of either range; port 0 is invalid.
    assert_eq!(of(|world| (world.workers, world.pool_ports) = (4, (5000, 5003))), None);
    let few = of(|world| (world.workers, world.pool_ports) = (4, (5000, 5002)));
    assert_eq!(few, Some(CompileError::PoolPorts(5000, 5002)));
    let few = of(|world| (world.workers, world.masquerade_ports) = (4, (5000, 5002)));
    assert_eq!(few, Some(CompileError::PoolPorts(5000, 5002)));
    assert_eq!(of(|world| world.pool_ports = (0, 5000)), Some(CompileError::PoolPorts(0, 5000)));
    assert_eq!(of(|world| world.pool_ports = (5001, 5000)), Some(CompileError::PoolPorts(5001, 5000)));

    for (count, expected) in [(PORTS_MAX, None), (PORTS_MAX + 1, Some(CompileError::TooManyPorts(PORTS_MAX + 1)))] {
        let ports = World::new().ports.iter().cycle().take(count).copied().collect();
        assert_eq!(World { ports, ..World::new() }.describe(error), expected);
    }

    let v4 = |count: usize| (0..count).map(|index| IpAddr::from([10, 77, 200, 2 + index as u8]));
    let v6 = |count: usize| (0..count).map(|index| address(&format!("fd77:0:0:200::{:x}", 2 + index)));
    let masquerade = |count: usize| (0..count).map(|index| IpAddr::from([198, 51, 100, 2 + index as u8]));
    let too_many = Some(CompileError::TooManyPoolAddresses(POOL_MAX + 1));
    let pool: Vec<IpAddr> = v4(POOL_MAX).chain(v6(POOL_MAX)).collect();
    assert_eq!(World { pool, ..World::new() }.describe(error), None);
    let pool: Vec<IpAddr> = v4(POOL_MAX + 1).chain(v6(1)).collect();
    assert_eq!(World { pool, ..World::new() }.describe(error), too_many);
    let pool: Vec<IpAddr> = v4(1).chain(v6(POOL_MAX + 1)).collect();
    assert_eq!(World { pool, ..World::new() }.describe(error), too_many);
    for (count, expected) in [(POOL_MAX, None), (POOL_MAX + 1, too_many)] {
        let world = World { masquerade: masquerade(count).collect(), ..World::new() };
        assert_eq!(world.describe(error), expected);
    }
}

/// Flows to its backends continue, and no new one is opened.
#[test]
fn a_service_whose_backends_all_drain_compiles() {
    let mut world = World::new();
    world.backends[0].iter_mut().for_each(|backend| backend.weight = 0);
    let mut gateway = world.gateway();
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &Packet::web(7, SYN, b"").bytes()));
    assert_ne!(out.verdict, Verdict::Transmit(UNDERLAY));
}

#[test]
fn memory_that_is_short_or_misaligned() {
    World::new().describe(|description| {
        let need = bytes_required(description);
        // Most of it for the lookup tables of two services, in two families.
        assert!(need < 2 * 4 * 1009 * size_of::<u16>(), "{need} bytes");
        let memory = leak_aligned(need + 8);
        for (from, to, fits) in [(0, need, true), (0, need - 1, false), (4, need + 4, false), (8, need + 8, true)] {
            let refused = compile(description, &mut memory[from..to]).err();
            let expected = CompileError::Memory { have: to - from, need };
            assert_eq!(refused, (!fits).then_some(expected), "{from} to {to}");
        }
    });
}

#[test]
fn a_pool_address_outside_of_the_gateways_subnets_or_the_first_of_one() {
    for (text, fits) in [
        ("10.77.200.255", true),
        ("10.77.200.0", false),
        ("10.77.201.2", false),
        ("fd77:0:0:200::1", true),
        ("fd77:0:0:200::", false),
        ("fd77:0:0:201::1", false),
    ] {
        let mut world = World::new();
        world.pool.push(address(text));
        let expected = CompileError::PoolAddress(address(text));
        assert_eq!(world.describe(error), (!fits).then_some(expected), "{text}");
    }
}

/// There, replies would not come back to the gateway's masquerade.
#[test]
fn a_masquerade_address_inside_the_overlay() {
    for (text, fits) in
        [("198.51.100.7", true), ("10.77.200.9", false), ("10.77.74.9", false), ("fd77:0:0:4::9", false)]
    {
        let world = World { masquerade: vec![address("203.0.113.1"), address(text)], ..World::new() };
        let expected = CompileError::MasqueradeAddress(address(text));
        assert_eq!(world.describe(error), (!fits).then_some(expected), "{text}");
    }
}

#[test]
fn a_port_that_is_none_of_the_gateways() {
    for (port, expected) in [(UNDERLAY, None), (PortId(2), Some(CompileError::UnknownPort(PortId(2))))] {
        let of = |change: &dyn Fn(&mut World)| {
            let mut world = World::new();
            change(&mut world);
            world.describe(error)
        };
        assert_eq!(of(&|world| world.peers[1].next_hop.as_mut().unwrap().port = port), expected);
        assert_eq!(of(&|world| world.routes[1].target = RouteTarget::Link(port)), expected);
        assert_eq!(of(&|world| world.routes[1].target = RouteTarget::Router(port, CLIENT_V6.into())), expected);
        assert_eq!(of(&|world| world.neighbours[1].port = port), expected);
    }
}

#[test]
fn a_vxlan_peer_in_a_family_without_a_vtep() {
    for (world, v4, v6) in [
        (World::new(), Some(CompileError::NoVtep(NODES[0].into())), Some(CompileError::NoVtep(NODES_V6[0].into()))),
        (World::new().direct(), None, None),
    ] {
        world.describe(|it| {
            assert_eq!(error(&Description { gateway: Gateway { v4: None, ..it.gateway }, ..*it }), v4);
            assert_eq!(error(&Description { gateway: Gateway { v6: None, ..it.gateway }, ..*it }), v6);
        });
    }
}

#[test]
fn two_services_at_one_place_or_one_of_another_protocol() {
    let mut world = World::new();
    let endpoint = Endpoint { address: NODE_PORT_ADDRESS.into(), port: 30_080 };
    world.frontends[1].2.push(endpoint);
    assert_eq!(world.describe(error), None, "over UDP it is another place");
    world.frontends[2].2.push(endpoint);
    assert_eq!(world.describe(error), Some(CompileError::DuplicateFrontend(endpoint, Protocol::TCP)));

    let mut world = World::new();
    world.frontends[1].1 = Protocol::ICMP;
    assert_eq!(world.describe(error), Some(CompileError::UnknownProtocol(Protocol::ICMP)));
}
