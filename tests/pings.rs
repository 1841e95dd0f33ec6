//! Pings of the gateway itself: of the host's own addresses, of the overlay's, of services'. Of any size.

mod common;

use common::{kernel_chosen, start_weirgate, world};
use weirgate_world::{Backend, GATEWAY_V4, GATEWAY_V6, Host, Options, World};

/// All pings of three are answered, of every size: in one packet, in parts, in as many as there can be.
fn pings(world: &World, from: Host, to: &str) {
    for size in [56, 3000, 65_500] {
        // A sender may have to learn of the path first (IPv6), which costs it a ping.
        world.run(from, &["ping", "-c", "2", "-i", "0.2", "-W", "1", "-s", &size.to_string(), to]);
        let report = world.run(from, &["ping", "-c", "3", "-i", "0.2", "-W", "10", "-s", &size.to_string(), to]);
        let report = String::from_utf8_lossy(&report.stdout);
        assert!(report.contains("3 received"), "{from:?}, {size} bytes to {to}:\n{report}");
    }
}

fn the_gateways_own_addresses_are_answered(options: Options) {
    if kernel_chosen() {
        return; // The kernel's way here has no subnet of its own.
    }
    let world = world(options);
    let _gateway = start_weirgate(&world, &world.gateway_config());
    // Node ports answer at these, which are the host's: its kernel's pings.
    for to in [GATEWAY_V4, GATEWAY_V6] {
        pings(&world, Host::Client, to);
    }
    for from in [Host::Pod(0, 0), Host::Node(1)] {
        for to in ["10.77.200.0", "10.77.200.2", "fd77:0:0:200::", "fd77:0:0:200::2"] {
            pings(&world, from, to);
        }
    }
}

#[test]
fn pings_of_any_size_to_the_gateways_own_addresses_are_answered() {
    the_gateways_own_addresses_are_answered(Options::default());
}

#[test]
fn pings_of_any_size_are_answered_over_plain_routes_with_two_workers() {
    the_gateways_own_addresses_are_answered(Options { backend: Backend::HostGw, queues: 2, ..Options::default() });
}
