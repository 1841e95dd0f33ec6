//! Pods' own connections to the outside.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{kernel_chosen, random_file, sha256, start_weirgate, world};
use weirgate_world::{Backend, Host, NODES, Options, World, build_gateway};

const OUT_V4: &str = "198.51.100.7";
const OUT_V6: &str = "2001:db8:7::7";

/// An HTTP server on the client's host: `/` returns the requester's address, `/files/NAME` a file.
const SERVER: &str = "
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path != '/':
            return super().do_GET()
        body = self.client_address[0].removeprefix('::ffff:').encode() + b'\\n'
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
Server(('::', 8000), lambda *a: Handler(*a, directory=sys.argv[1])).serve_forever()
";

/// Ends the server with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(world: &World) -> Server {
    let directory = world.directory().display().to_string();
    let mut command = world.command(Host::Client, "python3");
    let child = command.args(["-c", SERVER, &directory]).stdin(Stdio::null()).spawn().expect("python3 can be started");
    let server = Server(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !String::from_utf8_lossy(&world.run(Host::Client, &["ss", "-Hlnt"]).stdout).contains("*:8000") {
        assert!(Instant::now() < deadline, "the server did not come up");
        std::thread::sleep(Duration::from_millis(100));
    }
    server
}

/// Both addresses have flows, as soon as ageing has come round.
fn ports_are_counted(world: &World) {
    let socket = world.control_socket().display().to_string();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = world.weirgate(build_gateway(), &["status", "--json", "--control-socket", &socket]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let of = |index: usize, field: &str| status["masquerade"][index][field].as_u64().expect("a number");
        if (0..2).all(|index| of(index, "flows") >= 80 && of(index, "busiest") > 0 && of(index, "capacity") == 64_512) {
            return;
        }
        assert!(Instant::now() < deadline, "{status:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn pods_reach_the_outside(options: Options) {
    if kernel_chosen() {
        return; // The kernel's path here has no masquerade addresses.
    }
    let world = world(options);
    for node in 0..NODES.len() {
        world.shell(
            Host::Node(node),
            // As the node reaches the gateway's own subnets: over VXLAN, or by a plain route.
            "set -- $(ip route show 10.77.200.0/24); ip route add 192.0.2.0/24 via $3 dev $5 onlink
             set -- $(ip -6 route show fd77:0:0:200::/64); ip -6 route add 2001:db8:1::/64 via $3 dev $5 onlink",
        );
    }
    world.shell(
        Host::Client,
        &format!("ip route add {OUT_V4}/32 via 192.0.2.1; ip -6 route add {OUT_V6}/128 via 2001:db8:1::1"),
    );
    let masquerade = format!("\n[masquerade]\naddresses = [\"{OUT_V4}\", \"{OUT_V6}\"]\n");
    let _gateway = start_weirgate(&world, &(world.gateway_config() + &masquerade));
    let _server = serve(&world);

    for pod in [Host::Pod(0, 0), Host::Pod(1, 1)] {
        for (server, own) in [("192.0.2.10", OUT_V4), ("[2001:db8:1::10]", OUT_V6)] {
            let seen = world.shell(
                pod,
                &format!(
                    "curl -gsSfZ --parallel-max 8 --max-time 30 -H 'Connection: close' 'http://{server}:8000/' {}",
                    format!("'http://{server}:8000/' ").repeat(39)
                ),
            );
            assert_eq!(seen.lines().collect::<Vec<_>>(), vec![own; 40], "{pod:?} to {server}");
        }
        for client in ["192.0.2.10", "2001:db8:1::10"] {
            // Both sizes at once are two flows with identifiers of their own.
            world.shell(
                pod,
                &format!("ping -c 5 -i 0.2 -W 3 -s 1300 {client} & ping -c 5 -i 0.2 -W 3 {client} && wait $!"),
            );
            // Larger than any link's MTU: fragmented in both directions, over IPv6 once both ends know the path MTU.
            world.shell(pod, &format!("ping -c 4 -i 0.2 -W 1 -s 3000 {client} || true"));
            for size in [3000, 20_000] {
                let report = world.shell(pod, &format!("ping -c 5 -i 0.2 -W 10 -s {size} {client}"));
                assert!(report.contains("5 received"), "{report}");
            }
        }
    }
    ports_are_counted(&world);
    let file = random_file(&world, "out", 20);
    let got = world.shell(Host::Pod(0, 0), "curl -gsSf --max-time 120 http://192.0.2.10:8000/files/out | sha256sum");
    assert_eq!(got, sha256(&world, &file));

    // A trace shows the node, the gateway and the destination.
    for (client, hops) in [
        ("192.0.2.10", ["10.77.74.1", "10.77.200.0", "192.0.2.10"]),
        ("2001:db8:1::10", ["fd77:0:0:74::1", "fd77:0:0:200::", "2001:db8:1::10"]),
    ] {
        let report = world.shell(Host::Pod(0, 0), &format!("mtr -n --report --report-cycles 2 --max-ttl 6 {client}"));
        let seen: Vec<&str> =
            report.lines().filter_map(|line| line.split_once("|--")?.1.split_whitespace().next()).collect();
        assert_eq!(seen, hops, "{report}");
    }
    // The gateway's own answers: operators ping.
    world.shell(Host::Client, &format!("ping -c 2 -i 0.2 -W 3 {OUT_V4} && ping -c 2 -i 0.2 -W 3 {OUT_V6}"));
}

#[test]
fn pods_fetch_ping_and_trace_through_the_gateway() {
    pods_reach_the_outside(Options::default());
}

#[test]
fn pods_that_are_reached_by_a_plain_route_fetch_ping_and_trace_through_the_gateway() {
    pods_reach_the_outside(Options { backend: Backend::HostGw, ..Options::default() });
}

#[test]
fn two_workers_find_the_owner_of_a_pods_flow() {
    pods_reach_the_outside(Options { queues: 2, ..Options::default() });
}
