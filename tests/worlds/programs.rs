//! Programs that people use, through the gateway.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::common::{Forwarder, kernel_chosen, start, start_weirgate, status, world};
use serde_json::Value;
use weirgate_world::{Host, Options, Process, World};

/// The pod that alone answers for the services, where a program wants all its connections at one server.
const POD: Host = Host::Pod(1, 0);
/// Its number among the four.
const POD_INDEX: usize = 2;

/// Starts a forwarder that knows one pod only.
fn start_towards_the_pod(world: &World) -> Forwarder<'_> {
    if kernel_chosen() {
        return Forwarder::Kernel(
            world.start_kernel_gateway(Some(POD_INDEX)).unwrap_or_else(|error| panic!("{error}")),
        );
    }
    Forwarder::Weirgate(start_weirgate(world, &world.gateway_config_for(&[POD])))
}

/// Starts a server in the pod and waits until it listens.
fn serve(world: &World, arguments: &[&str], port: u16) -> Process {
    let process = world.spawn(POD, arguments);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !world.shell(POD, "ss -Hlnt").contains(&format!(":{port} ")) {
        assert!(Instant::now() < deadline, "{arguments:?} does not listen on {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
    process
}

/// Runs a script of the client's and parses what it prints.
fn json(world: &World, script: &str) -> Value {
    let text = world.shell(Host::Client, script);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{script}: {error}\n{text}"))
}

/// What iperf3 reports, once its server has ended the test before.
fn iperf3(world: &World, command: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let report = json(world, &format!("{command} || true"));
        let is_busy = report["error"].as_str().is_some_and(|error| error.contains("server is busy"));
        if !is_busy || Instant::now() > deadline {
            assert_eq!(report.get("error"), None, "{command}");
            return report;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn iperf3_measures_both_directions() {
    let world = world(Options { servers: false, alone: true, ..Options::default() });
    let _server = serve(&world, &["iperf3", "--server", "--port", "80", "--logfile", "/dev/null"], 80);
    let _gateway = start_towards_the_pod(&world);
    for target in ["192.0.2.1", "2001:db8:1::1"] {
        for (direction, streams) in [("", 1), ("--reverse", 1), ("", 8), ("--reverse", 8), ("--bidir", 2)] {
            let command = format!(
                "timeout 60 iperf3 --json --client {target} --port 30080 --time 2 --connect-timeout 10000 \
                 --parallel {streams} {direction}"
            );
            let report = iperf3(&world, &command);
            // What the receiving side counted is what came through.
            let sums: &[&str] = if direction == "--bidir" {
                &["sum_received", "sum_received_bidir_reverse"]
            } else {
                &["sum_received"]
            };
            for sum in sums {
                let bytes = report["end"][sum]["bytes"].as_f64().unwrap_or(0.0);
                println!("{command}: {sum}: {bytes} bytes");
                // Eight connections that go on by their timers alone, ten segments every 200 ms, get 1.1 MB through; a
                // machine with eight times as many threads to run as it has cores, 12 MB.
                assert!(bytes > 2e6, "{command}: {sum}: {}", report["end"]);
            }
            let ends = report["end"]["streams"].as_array().map_or(0, Vec::len);
            assert_eq!(ends, if direction == "--bidir" { streams * 2 } else { streams }, "{command}");
        }
    }
}

/// The control connection is TCP, the data UDP, and both are for one port: a service of either protocol.
#[test]
fn iperf3_gets_its_datagrams_through_in_both_directions() {
    const SECONDS: u64 = 2;
    const PER_SECOND: u64 = 100;
    const MAY_BE: [&str; 2] = ["neighbour-unresolved", "no-spare"];
    if kernel_chosen() {
        return; // The kernel's path here has no UDP service beside the TCP one.
    }
    let world = world(Options { servers: false, alone: true, ..Options::default() });
    let _server = serve(&world, &["iperf3", "--server", "--port", "80", "--logfile", "/dev/null"], 80);
    let both = world.gateway_config_for(&[POD]);
    let web = both.split("[[service]]").find(|text| text.contains("name = \"web\"")).expect("the web service");
    let web = web.replace("\"web\"", "\"web-udp\"").replace("\"tcp\"", "\"udp\"");
    let _gateway = start_weirgate(&world, &format!("{both}\n[[service]]{web}"));
    // 4000 bytes are fragmented by the sender. Over IPv6 iperf3 would end at the error with the path MTU.
    for (target, lengths) in [("192.0.2.1", &[64, 1400, 4000][..]), ("2001:db8:1::1", &[64, 1382])] {
        for length in lengths {
            for direction in ["", "--reverse"] {
                // So few that the receiver's socket has room for those of 300 ms in which it does not run.
                let bits = length * 8 * PER_SECOND;
                let command = format!(
                    "timeout 60 iperf3 --udp --json --client {target} --port 30080 --time {SECONDS} \
                     --connect-timeout 10000 --bitrate {bits} --length {length} {direction}"
                );
                let report = iperf3(&world, &command);
                let sum = &report["end"]["sum"];
                let (packets, lost) = (sum["packets"].as_u64().unwrap_or(0), sum["lost_packets"].as_u64());
                println!("{command}: {packets} sent, {lost:?} lost");
                assert!(packets > PER_SECOND * SECONDS / 2, "{command}: {sum}");
                // A machine that is busy with other things loses a few.
                assert!(lost.is_some_and(|lost| lost * 20 <= packets), "{command}: {sum}");
            }
        }
    }
    // Whoever lost some: the gateway has forwarded all that reached it, except the first packets to an unresolved
    // neighbour, and those of a late burst in which more need fragmentation than there are spare buffers.
    let reported = status(&world);
    let drops = reported["drops"].as_object().expect("counters by their names");
    let lost: Vec<_> = drops.iter().filter(|(name, count)| **count != 0 && !MAY_BE.contains(&name.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn wrk_keeps_a_thousand_connections_busy_without_an_error() {
    let world = world(Options { alone: true, ..Options::default() });
    let _gateway = start(&world);
    for host in ["192.0.2.1:30080", "[2001:db8:1::1]:30080"] {
        // What is slow on a busy machine is no error; what is lost for good ends as one.
        let report = world.shell(
            Host::Client,
            &format!("ulimit -n 8192; wrk --threads 2 --connections 1000 --duration 5s --timeout 30s http://{host}/"),
        );
        assert!(!report.contains("Socket errors"), "{host}: {report}");
        assert!(!report.contains("Non-2xx"), "{host}: {report}");
        let requests = report.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse::<u32>().ok());
        println!("{host}: {requests:?} requests");
        // Ten on each connection; with eight times as many threads to run as there are cores it was sixteen.
        assert!(requests.is_some_and(|requests| requests >= 10_000), "{host}: {report}");
    }
}

#[test]
fn curl_reaches_services_over_ipv6() {
    let world = world(Options::default());
    let _gateway = start(&world);
    crate::common::random_file(&world, "six", 5);
    for (address, port) in [("2001:db8:1::1", ":30080"), ("2001:db8:113::10", "")] {
        let url = format!("http://[{address}]{port}");
        let report = world.shell(
            Host::Client,
            &format!(
                "curl -6 -gsS --max-time 60 -o /dev/null {url}/files/six \
                 -w '%{{http_code}} %{{remote_ip}} %{{size_download}}\\n'"
            ),
        );
        assert_eq!(report, format!("200 {address} {}\n", 5 << 20));
        let pods: BTreeSet<String> = world
            .shell(
                Host::Client,
                &format!(
                    "curl -6 -sS --max-time 60 -H 'Connection: close' '{}/?[1-40]'",
                    url.replace('[', "\\[").replace(']', "\\]")
                ),
            )
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(pods.into_iter().collect::<Vec<_>>(), ["n1a", "n1b", "n2a", "n2b"], "{url}");
    }
}

/// Asks for an answer of so many bytes over UDP, so often at most, and returns what dig prints.
fn dig(world: &World, server: &str, length: usize, buffer: usize, tries: u32) -> String {
    world.shell(
        Host::Client,
        &format!(
            "dig +notcp +ignore +tries={tries} +time=10 +bufsize={buffer} @{server} -p 30053 TXT {length}.example"
        ),
    )
}

#[test]
fn dig_gets_answers_of_every_size_that_fits_the_overlay() {
    let world = world(Options::default());
    let _gateway = start(&world);
    for server in ["192.0.2.1", "2001:db8:1::1"] {
        // 1232 is what resolvers have asked for since 2020; 1382 and 1422 fill the overlay's packets.
        for length in [100, 512, 1200, 1232, if server.contains(':') { 1382 } else { 1422 }] {
            let report = dig(&world, server, length, 4096, 1);
            assert!(report.contains(&format!("MSG SIZE  rcvd: {length}\n")), "{server} {length}: {report}");
            assert!(report.contains("status: NOERROR") && !report.contains(" tc "), "{server} {length}: {report}");
        }
        // Whoever says that it takes less gets less (RFC 6891 section 6.2.5).
        let report = dig(&world, server, 1200, 512, 1);
        assert!(report.contains("flags: qr aa tc "), "{server}: {report}");
    }
}

#[test]
fn dig_gets_answers_larger_than_the_overlays_packets() {
    let world = world(Options::default());
    let _gateway = start(&world);
    for server in ["192.0.2.1", "2001:db8:1::1"] {
        // The pod fragments them, and only the first fragment has ports. Over IPv6 a pod's
        // link takes 20 bytes more than its node's VXLAN device, which each of the four pods has to lose one answer to
        // learn (RFC 8201).
        let tries = if server.contains(':') { 5 } else { 1 };
        for length in [1452, 1500, 2900, 4096] {
            let report = dig(&world, server, length, 4096, tries);
            assert!(report.contains(&format!("MSG SIZE  rcvd: {length}\n")), "{server} {length}: {report}");
            assert!(report.contains("status: NOERROR") && !report.contains(" tc "), "{server} {length}: {report}");
        }
    }
}

#[test]
fn ping_loses_nothing() {
    let world = world(Options::default());
    let _gateway = start(&world);
    for target in ["192.0.2.1", "2001:db8:1::1"] {
        for size in [0, 56, 1400] {
            let report = world.shell(Host::Client, &format!("ping -c 10 -i 0.05 -W 10 -s {size} {target} || true"));
            assert!(report.contains(" 10 received, 0% packet loss"), "{target}: {report}");
        }
    }
}

/// What traceroute shows of each hop: the addresses in its line, without repetitions.
fn hops(report: &str) -> Vec<BTreeSet<&str>> {
    let is_address = |word: &&str| word.contains(['.', ':']) && word.parse::<std::net::IpAddr>().is_ok();
    report.lines().skip(1).map(|line| line.split_whitespace().skip(1).filter(is_address).collect()).collect()
}

#[test]
fn traceroute_shows_the_gateway_the_node_and_the_pod_as_the_service() {
    let world = world(Options::default());
    let _gateway = start(&world);
    for target in ["192.0.2.1", "2001:db8:1::1"] {
        for (probe, port) in [("--tcp", 30080), ("--udp", 30007)] {
            // One at a time with patience, so that neither a limit of errors nor a busy machine makes stars.
            let command = format!(
                "traceroute -n {probe} --port={port} --sim-queries=1 --queries=2 --wait=10 --max-hops=6 {target}"
            );
            let report = world.shell(Host::Client, &command);
            // The gateway and the node report the expired time to live, both from the service's address.
            assert_eq!(hops(&report), vec![BTreeSet::from([target]); 3], "{command}\n{report}");
            assert!(!report.contains('*') && !report.contains('!'), "{command}\n{report}");
        }
    }
}

#[test]
fn mtr_finds_every_probe_answered() {
    let world = world(Options::default());
    let _gateway = start(&world);
    for target in ["192.0.2.1", "2001:db8:1::1"] {
        for (probe, port) in [("--tcp", 30080), ("--udp", 30007)] {
            let command = format!(
                "mtr {probe} --port {port} --json --no-dns --report-cycles 5 --timeout 10 --gracetime 10 {target}"
            );
            let report = json(&world, &command);
            let hubs = report["report"]["hubs"].as_array().unwrap_or_else(|| panic!("{command}: {report}"));
            // It stops at the first hop that answers with the target's address, and the gateway has that address.
            assert_eq!(hubs.len(), 1, "{command}: {report}");
            assert_eq!(hubs[0]["host"], target, "{command}: {report}");
            assert_eq!(hubs[0]["Loss%"], 0.0, "{command}: {report}");
        }
    }
}
