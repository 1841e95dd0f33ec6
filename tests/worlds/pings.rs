//! Pings of the gateway itself: of the host's own addresses, of the overlay's, of services'. Of any size.

use crate::common::{kernel_chosen, route_services_over_the_overlay, start_weirgate, status, world};
use weirgate_world::{Backend, EXTERNAL_V4, EXTERNAL_V6, GATEWAY_V4, GATEWAY_V6, Host, Options, World};

/// All three pings of each size are answered: unfragmented, fragmented, and of the largest size.
fn pings(world: &World, from: Host, to: &str) {
    for size in [56, 3000, 65_500] {
        // Over IPv6 a sender may have to discover the path MTU first, which costs a ping.
        world.run(from, &["ping", "-c", "2", "-i", "0.2", "-W", "1", "-s", &size.to_string(), to]);
        // For the last answer it waits as long as between two questions, or twice the longest time so far.
        let report = world.run(from, &["ping", "-c", "3", "-i", "0.7", "-W", "10", "-s", &size.to_string(), to]);
        let report = String::from_utf8_lossy(&report.stdout);
        assert!(report.contains("3 received"), "{from:?}, {size} bytes to {to}:\n{report}");
    }
}

fn the_gateways_own_addresses_are_answered(options: Options) {
    if kernel_chosen() {
        return; // The kernel's path here has no subnet of its own.
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

/// As [`pings`], and a trace of the path ends at the service.
fn a_service_is_answered(world: &World, from: Host, to: &str) {
    pings(world, from, to);
    let report = world.shell(from, &format!("traceroute -I -n -w 5 -q 1 -m 8 {to}"));
    let last = report.lines().last().expect("a report");
    assert!(last.split_whitespace().nth(1) == Some(to), "{from:?}:\n{report}");
}

fn services_are_answered(options: Options) {
    if kernel_chosen() {
        return; // The kernel's path here has services' addresses only in its rules.
    }
    let world = world(options);
    route_services_over_the_overlay(&world);
    let _gateway = start_weirgate(&world, &world.gateway_config());
    for to in [EXTERNAL_V4, EXTERNAL_V6] {
        for from in [Host::Client, Host::Pod(0, 0)] {
            a_service_is_answered(&world, from, to);
        }
        // Address, length and data of what the gateway has sent are checked by who asked.
        let report = world.shell(Host::Client, &format!("ping -c 50 -i 0.01 -W 10 -p a5c3 -s 1000 {to}"));
        assert!(report.contains(" 0% packet loss") && !report.contains("wrong data"), "{report}");
    }
    let status = status(&world);
    assert!(status["counters"]["echoes-answered"].as_u64() > Some(100), "{status:#}");
    assert_eq!(status["drops"]["echo-limit"], 0, "{status:#}");
}

#[test]
fn pings_of_any_size_to_services_addresses_are_answered() {
    services_are_answered(Options::default());
}

#[test]
fn pings_to_services_are_answered_with_two_workers_of_one_interface() {
    services_are_answered(Options { queues: 2, one_interface: true, ..Options::default() });
}

#[test]
fn pings_to_services_go_to_the_host_where_the_gateway_does_not_answer() {
    if kernel_chosen() {
        return;
    }
    let world = world(Options::default());
    let _gateway = start_weirgate(&world, &(world.gateway_config() + "\n[policy]\necho = \"off\"\n"));
    for to in [EXTERNAL_V4, EXTERNAL_V6] {
        let report = world.run(Host::Client, &["ping", "-c", "2", "-i", "0.2", "-W", "1", to]);
        assert!(String::from_utf8_lossy(&report.stdout).contains(" 0 received"), "{report:?}");
    }
    // As a keepalived would have it.
    world.shell(
        Host::Gateway,
        &format!("ip address add {EXTERNAL_V4}/32 dev lo; ip address add {EXTERNAL_V6}/128 dev lo"),
    );
    for to in [EXTERNAL_V4, EXTERNAL_V6] {
        pings(&world, Host::Client, to);
    }
}
