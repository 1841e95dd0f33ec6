//! Services that preserve the source: pods see their clients' own addresses.

use crate::common::{
    echo, kernel_chosen, preserving, route_clients_through_the_gateway, start_weirgate, transfer, world,
};
use weirgate_world::{CLIENT_V4, CLIENT_V6, Host, Options};

fn pods_see_their_clients(options: Options) {
    if kernel_chosen() {
        return; // The kernel's path here masquerades.
    }
    let world = world(options);
    route_clients_through_the_gateway(&world);
    let _gateway = start_weirgate(&world, &preserving(&world));
    for (host, client) in [
        ("192.0.2.1:30080", CLIENT_V4),
        ("[2001:db8:1::1]:30080", CLIENT_V6),
        ("203.0.113.10", CLIENT_V4),
        ("[2001:db8:113::10]", CLIENT_V6),
    ] {
        // Enough connections that every worker is asked for every other's flows.
        let seen = world.shell(
            Host::Client,
            &format!("curl -sSfZ --parallel-max 8 --max-time 20 -H 'Connection: close' 'http://{host}/client?[1-60]'"),
        );
        let seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen, vec![client; 60], "{host}");
    }
    transfer(&world, "192.0.2.1:30080", 20);
    transfer(&world, "[2001:db8:1::1]:30080", 10);
    echo(&world, "0.0.0.0:0", "192.0.2.1:30007", (0..=1400).step_by(100));
    echo(&world, "[::]:0", "[2001:db8:1::1]:30007", (0..=1300).step_by(100));
}

#[test]
fn pods_see_their_clients_and_clients_see_the_service() {
    pods_see_their_clients(Options::default());
}

#[test]
fn two_workers_find_the_owner_of_both_directions() {
    pods_see_their_clients(Options { queues: 2, ..Options::default() });
}
