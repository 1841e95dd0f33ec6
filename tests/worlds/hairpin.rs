//! Pods that reach the gateway's own services.

use std::collections::BTreeSet;

use crate::common::{
    echo_from, kernel_chosen, random_file, route_services_over_the_overlay, sha256, start_weirgate, world,
};
use weirgate_world::{Backend, Host, Options};

const POOL: [&str; 3] = ["10.77.200.2", "10.77.200.3", "fd77:0:0:200::2"];

fn pods_reach_services(options: Options, by_overlay: bool, preserve: bool) {
    if kernel_chosen() {
        return; // The kernel's path here does not masquerade pods.
    }
    let world = world(options);
    for pod in Host::pods() {
        // What the IPv6 overlay takes: a datagram whose sender has to learn of it is lost.
        world.shell(pod, "ip -6 route change $(ip -6 route show default) mtu 1430");
    }
    if by_overlay {
        route_services_over_the_overlay(&world);
    }
    let mut configuration = world.gateway_config();
    if preserve {
        configuration = configuration.replace("[[service]]\n", "[[service]]\nclient_address = \"preserve\"\n");
    }
    let gateway = start_weirgate(&world, &configuration);
    let hosts = ["192.0.2.1:30080", "[2001:db8:1::1]:30080", "203.0.113.10", "[2001:db8:113::10]"];
    for pod in [Host::Pod(0, 0), Host::Pod(1, 1)] {
        for host in hosts {
            // Enough connections that every pod is its own backend once, and every worker is asked for every other's flows.
            let curl = "curl -gsSfZ --parallel-max 8 --max-time 30 -H 'Connection: close'";
            let pods = world.shell(pod, &format!("{curl} {}", requests(host, "", 60)));
            let pods: Vec<&str> = pods.lines().collect();
            assert_eq!(pods.len(), 60, "{pod:?} to {host}");
            assert_eq!(pods.into_iter().collect::<BTreeSet<_>>(), ["n1a", "n1b", "n2a", "n2b"].into(), "{host}");
            let seen = world.shell(pod, &format!("{curl} {}", requests(host, "client", 20)));
            assert_eq!(seen.lines().count(), 20);
            assert!(seen.lines().all(|client| POOL.contains(&client)), "{pod:?} to {host}:\n{seen}");
        }
        echo_from(&world, pod, "0.0.0.0:0", "192.0.2.1:30007", (0..=1400).step_by(100));
        echo_from(&world, pod, "[::]:0", "[2001:db8:1::1]:30007", (0..=1300).step_by(100));
        // Fragmented.
        echo_from(&world, pod, "0.0.0.0:0", "203.0.113.10:7", (2000..=8000).step_by(1500));
        echo_from(&world, pod, "[::]:0", "[2001:db8:113::10]:7", (2000..=8000).step_by(1500));
    }
    let file = random_file(&world, "big", 20);
    let got = world.shell(Host::Pod(0, 0), "curl -gsSf --max-time 120 http://203.0.113.10/files/big | sha256sum");
    assert_eq!(got, sha256(&world, &file), "{}", gateway.log());
}

fn requests(host: &str, path: &str, count: usize) -> String {
    format!("'http://{host}/{path}' ").repeat(count)
}

#[test]
fn rfc4787_req9_pods_reach_services_over_the_overlay() {
    pods_reach_services(Options::default(), true, false);
}

#[test]
fn rfc4787_req9_pods_reach_services_whose_backends_see_their_clients_with_two_workers() {
    pods_reach_services(Options { queues: 2, ..Options::default() }, true, true);
}

#[test]
fn pods_whose_nodes_lead_past_the_overlay_are_answered_there() {
    pods_reach_services(Options::default(), false, false);
}

#[test]
fn pods_behind_plain_routes_reach_services_with_two_workers() {
    pods_reach_services(Options { backend: Backend::HostGw, queues: 2, ..Options::default() }, false, false);
}
