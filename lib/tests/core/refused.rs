//! Descriptions that compile to no snapshot.

use std::net::{IpAddr, Ipv4Addr};

use weirgate::maglev::FillError;
use weirgate::net::Endpoint;
use weirgate::snapshot::{Backend, CompileError, Description, Service, bytes_required, compile};
use weirgate_fixture::leak_aligned;
use weirgate_fixture::world::{WEB, World};

fn error(description: &Description<'_>) -> Option<CompileError> {
    let memory = leak_aligned(bytes_required(description));
    compile(description, memory).err()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The gateway takes what is for its own subnets for answers of backends.
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

/// They are IPv4 to one half of the gateway and IPv6 to the other.
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
