//! Forwards real HTTP through a gateway in a small world of network namespaces, and shows it. Needs root.
//!
//! `make demo` runs this. With `KEEP=1` in the environment the world stays up, and `make demo-down` removes it.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use weirgate_world::{ECHO_NODE_PORT, GATEWAY_V4, Host, Options, World, WorldError, build_gateway};

const URL: &str = "http://192.0.2.1:30080/";
/// The script that removes a world which an earlier run left up.
const DOWN: &str = "/run/weirgate-demo-down.sh";

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), WorldError> {
    remove_earlier();
    let binary = build_gateway();
    heading("The world");
    let begin = Instant::now();
    let world = World::new(Options::default())?;
    println!(
        "  client 192.0.2.10 ── up0 gateway un0 ── switch ─┬─ node n1 10.99.0.11: pods n1a, n1b (10.77.74.10, .11)
                                                  └─ node n2 10.99.0.12: pods n2a, n2b (10.77.4.10, .11)"
    );
    println!("  built in {:.1?}; flannel.1 on node n1, as flannel leaves it:\n", begin.elapsed());
    print(
        &world.shell(
            Host::Node(0),
            "ip -d link show flannel.1; ip route show dev flannel.1; bridge fdb show dev flannel.1",
        ),
    );

    let of_kernel = {
        let _kernel = world.start_kernel_gateway(None)?;
        round_trips(&world)
    };

    heading("The gateway's configuration");
    let configuration = world.gateway_config();
    print(&configuration);
    let gateway = world.start_gateway(binary, &configuration)?;
    heading(&format!("{} run --config {}", name(binary), gateway.configuration_file().display()));
    print(&gateway.log());

    heading(&format!("One request: curl {URL}"));
    let capture = world.capture(Host::Switch, "gw0", "udp dst port 8472 and src host 10.99.0.50");
    let answer = world.shell(Host::Client, &format!("curl -sS --max-time 10 {URL}"));
    println!("  {}\n\n  and its request on the wire between gateway and node, as tcpdump decodes it:\n", answer.trim());
    let file = capture.finish();
    let decoded = format!("tcpdump -nn -v -e -c 1 -r {} 'greater 160' 2>/dev/null", file.display());
    print(&world.shell(Host::Client, &decoded));

    heading("4000 requests, each on a connection of its own, 8 at a time");
    let shares = run_load(&world, 8, 500, "-H 'Connection: close'");
    heading("4000 requests on 8 persistent connections");
    run_load(&world, 8, 500, "");
    heading("4000 requests on one connection");
    run_load(&world, 1, 4000, "");

    heading("Where the 4000 connections of the first run went");
    let total: usize = shares.values().sum();
    for (pod, count) in &shares {
        println!("  pod {pod}  {count:5}  {:5.1} %  {}", percent(*count, total), bar(*count, total / 2));
    }

    heading(&format!("{ROUND_TRIPS} datagrams to a pod's echo and back, each sent after the one before returned"));
    for (gateway, micros) in [("weirgate", round_trips(&world)), ("the kernel", of_kernel)] {
        let at = |quantile| micros.value_at_quantile(quantile);
        println!("  through {gateway:<10}  median {:4} µs, 99 % {:4} µs", at(0.5), at(0.99));
    }
    println!("  The kernel: nftables with DNAT and masquerade, and a VXLAN device, measured earlier in this world.");

    heading("weirgate status");
    let socket = world.control_socket().display().to_string();
    let status = world.weirgate(binary, &["status", "--control-socket", &socket]);
    print(&String::from_utf8_lossy(&status.stdout));
    if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        keep(world, gateway, binary);
    } else {
        drop(gateway);
        drop(world);
        println!("\nEverything is removed. With KEEP=1 the world stays up to look around in.");
    }
    Ok(())
}

const ROUND_TRIPS: usize = 5000;

/// Round-trip times of single datagrams to a pod, in microseconds, with nothing else in flight.
fn round_trips(world: &World) -> Histogram<u64> {
    world.inside(Host::Client, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect((GATEWAY_V4, ECHO_NODE_PORT)).expect("an address");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
        let mut micros = Histogram::new(3).expect("three digits are possible");
        for trip in 0..ROUND_TRIPS + ROUND_TRIPS / 10 {
            let begin = Instant::now();
            socket.send(&[0; 64]).expect("a link that is up");
            // A lost datagram counts with the whole timeout.
            let _ = socket.recv(&mut [0; 64]);
            // The first ones warm up the path.
            if trip >= ROUND_TRIPS / 10 {
                micros.record(begin.elapsed().as_micros() as u64).expect("it grows as needed");
            }
        }
        micros
    })
}

/// Runs `clients` curl processes at once, each of which fetches the page `requests` times in turn. Prints rate and
/// latencies; returns the number of answers from each pod.
fn run_load(world: &World, clients: usize, requests: usize, options: &str) -> BTreeMap<String, usize> {
    let script =
        format!("curl -sS --max-time 60 {options} -w '%{{http_code}} %{{time_total}}\n' '{URL}?[1-{requests}]'");
    let begin = Instant::now();
    let outputs: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = (0..clients).map(|_| scope.spawn(|| world.shell(Host::Client, &script))).collect();
        running.into_iter().map(|client| client.join().expect("curl")).collect()
    });
    let seconds = begin.elapsed().as_secs_f64();
    let mut micros = Histogram::<u64>::new(3).expect("three digits are possible");
    let (mut good, mut shares) = (0, BTreeMap::new());
    for line in outputs.iter().flat_map(|output| output.lines()) {
        match line.split_once(' ') {
            Some((code, time)) => {
                good += usize::from(code == "200");
                let time: f64 = time.parse().unwrap_or(0.0);
                micros.record((time * 1e6) as u64).expect("it grows as needed");
            }
            None => *shares.entry(line.to_owned()).or_insert(0) += 1,
        }
    }
    let total = requests * clients;
    println!("  {good} of {total} answered 200, {:.0} requests/s with curl's own work\n", total as f64 / seconds);
    print_latency(&micros);
    shares
}

/// A bar for every doubling of the latency, and the usual percentiles.
fn print_latency(micros: &Histogram<u64>) {
    let mut from = 0;
    for step in micros.iter_log(64, 2.0) {
        let (upto, count) = (step.value_iterated_to() + 1, step.count_since_last_iteration() as usize);
        if count > 0 {
            println!("  {from:7} – {upto:7} µs  {count:5}  {}", bar(count, micros.len() as usize));
        }
        from = upto;
    }
    let at = |quantile| micros.value_at_quantile(quantile);
    println!("  median {} µs, 90 % {} µs, 99 % {} µs, longest {} µs", at(0.5), at(0.9), at(0.99), micros.max());
}

/// Leaves everything running and says how to reach and to remove it.
fn keep(world: World, gateway: weirgate_world::Gateway, binary: &Path) {
    let (client, host, node) =
        (world.namespace(Host::Client), world.namespace(Host::Gateway), world.namespace(Host::Node(0)));
    let socket = world.control_socket().display().to_string();
    let process = gateway.id();
    gateway.keep();
    let removal = world.keep();
    if let Err(error) = fs::write(DOWN, format!("{removal}\n")) {
        eprintln!("demo: {DOWN}: {error}; remove the world with: {removal}");
    }
    println!(
        "
The world is up, and the gateway runs as process {process}. As root:
  ip netns exec {client} curl {URL}
  ip netns exec {host} {binary} status --control-socket {socket}
  ip netns exec {node} tcpdump -nn -v -i eth0 udp port 8472
  ip netns exec {host} bash
Remove it with: make demo-down",
        binary = binary.display()
    );
}

fn remove_earlier() {
    if Path::new(DOWN).exists() {
        println!("Removing the world that an earlier demo left up.");
        let _ = Command::new("sh").arg(DOWN).status();
        let _ = fs::remove_file(DOWN);
        thread::sleep(Duration::from_millis(200));
    }
}

fn heading(text: &str) {
    println!("\n── {text} {}", "─".repeat(110_usize.saturating_sub(text.chars().count())));
}

fn print(text: &str) {
    for line in text.trim_end().lines() {
        println!("  {line}");
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn percent(count: usize, total: usize) -> f64 {
    count as f64 * 100.0 / total.max(1) as f64
}

fn bar(count: usize, total: usize) -> String {
    "█".repeat((count * 60).div_ceil(total.max(1)).min(60))
}
