//! SCTP over the wire: associations of a program of its own, since the kernel may have none.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::common::{start_weirgate, world};
use weirgate_world::{
    EXTERNAL_V4, EXTERNAL_V6, GATEWAY_V4, GATEWAY_V6, Host, NODES, Options, Process, SCTP_NODE_PORT, SCTP_PORT, World,
    build_gateway,
};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/worlds/sctp/association.py");
const OUT: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

fn serve(world: &World, host: Host) -> Process {
    // The output is not read: whoever asks repeats itself until somebody answers.
    world.spawn(host, &["/usr/bin/python3", PROGRAM, "serve", &host.name(), &SCTP_PORT.to_string()])
}

/// Runs one association with `count` messages and returns the names of the servers.
fn ask(world: &World, host: Host, address: &str, port: u16, count: usize, init_bytes: usize) -> String {
    let line = world.shell(host, &format!("/usr/bin/python3 {PROGRAM} ask {address} {port} {count} {init_bytes}"));
    line.split_whitespace().next().expect("a name").to_owned()
}

fn conns(world: &World, state: &str) -> usize {
    let socket = world.control_socket().display().to_string();
    let arguments = ["conns", "--control-socket", &socket, "--protocol", "sctp", "--state", state];
    let output = world.weirgate(build_gateway(), &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with("sctp     132 ")).count()
}

fn associations_cross(options: Options) {
    let world = world(Options { servers: false, ..options });
    let _servers: Vec<_> = Host::pods().into_iter().map(|pod| serve(&world, pod)).collect();
    let mut configuration = world.gateway_config() + &world.sctp_service(&Host::pods());
    let _ = write!(configuration, "\n[masquerade]\naddresses = [\"{}\", \"{}\"]\n", OUT[0], OUT[1]);
    let gateway = start_weirgate(&world, &configuration);

    let mut names = BTreeSet::new();
    for (address, port) in
        [(GATEWAY_V4, SCTP_NODE_PORT), (GATEWAY_V6, SCTP_NODE_PORT), (EXTERNAL_V4, SCTP_PORT), (EXTERNAL_V6, SCTP_PORT)]
    {
        for _ in 0..6 {
            names.insert(ask(&world, Host::Client, address, port, 10, 0));
        }
        // INIT, its answer and the cookie are all larger than any link's MTU: IP fragments them.
        names.insert(ask(&world, Host::Client, address, port, 5, 3000));
    }
    assert!(names.len() > 1, "one pod has got them all: {names:?}");
    assert!(names.iter().all(|name| Host::pods().iter().any(|pod| pod.name() == *name)), "{names:?}");
    assert!(conns(&world, "closed") > 0, "the last ones have just ended");

    // Pods' own, to a server outside.
    for node in 0..NODES.len() {
        world.shell(
            Host::Node(node),
            "ip route add 192.0.2.0/24 via 10.77.200.0 dev flannel.1 onlink
             ip -6 route add 2001:db8:1::/64 via fd77:0:0:200:: dev flannel-v6.1 onlink",
        );
    }
    world.shell(
        Host::Client,
        &format!("ip route add {}/32 via {GATEWAY_V4}; ip -6 route add {}/128 via {GATEWAY_V6}", OUT[0], OUT[1]),
    );
    let _server = serve(&world, Host::Client);
    for address in ["192.0.2.10", "2001:db8:1::10"] {
        for init_bytes in [0, 3000] {
            let name = ask(&world, Host::Pod(1, 0), address, SCTP_PORT, 5, init_bytes);
            assert_eq!(name, Host::Client.name());
        }
    }
    drop(gateway);
}

#[test]
fn associations_are_set_up_used_and_shut_down_over_either_family() {
    associations_cross(Options::default());
}

#[test]
fn two_workers_find_the_owner_of_an_association() {
    associations_cross(Options { queues: 2, ..Options::default() });
}
