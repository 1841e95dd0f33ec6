//! What a client sees of the services behind the gateway.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use crate::common::{echo, exercise, get, learned_mtu, start, start_weirgate, status, transfer, world};
use weirgate_world::{Backend, Host, Options, World};

const REQUESTS: usize = 2000;

/// Runs one curl and counts the lines that it prints: pods' names and status codes.
fn count(world: &World, options: &str, host: &str) -> BTreeMap<String, usize> {
    let text = world.shell(
        Host::Client,
        &format!("curl -sS --max-time 60 -w '%{{http_code}}\\n' {options} 'http://{host}/?[1-{REQUESTS}]'"),
    );
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn every_request_is_answered_and_every_pod_gets_its_share() {
    let world = world(Options::default());
    let _gateway = start(&world);
    for host in ["192.0.2.1:30080", "[2001:db8:1::1]:30080", "203.0.113.10", "[2001:db8:113::10]"] {
        // A connection for each request, so each request is one draw from the lookup table. The table gives every one
        // of four equal backends its quarter to within a slot in 65537, so the count is binomial. Five standard
        // deviations in either direction are exceeded by chance once in two million runs.
        let counts = count(&world, "-Z --parallel-max 40 -H 'Connection: close'", host);
        assert_eq!(counts.get("200"), Some(&REQUESTS), "{host}: {counts:?}");
        let spread = 5.0 * (REQUESTS as f64 * 0.25 * 0.75).sqrt();
        let quarter = REQUESTS as f64 / 4.0;
        for pod in Host::pods() {
            let share = counts.get(&pod.name()).copied().unwrap_or(0) as f64;
            assert!((share - quarter).abs() <= spread, "{host}: {counts:?}, but {quarter} ± {spread:.0} expected");
        }
    }
    for host in ["192.0.2.1:30080", "[2001:db8:1::1]:30080"] {
        // One connection for all requests stays with its backend.
        let counts = count(&world, "", host);
        assert_eq!((counts.get("200"), counts.len()), (Some(&REQUESTS), 2), "{host}: {counts:?}");
        // Several connections at once, each with many requests.
        let counts = count(&world, "-Z --parallel-max 40", host);
        assert_eq!(counts.get("200"), Some(&REQUESTS), "{host}: {counts:?}");
    }
}

#[test]
fn large_transfers_arrive_whole_in_both_directions() {
    let world = world(Options::default());
    let _gateway = start(&world);
    transfer(&world, "192.0.2.1:30080", 200);
    transfer(&world, "[2001:db8:1::1]:30080", 40);
}

#[test]
fn every_datagram_length_is_echoed_and_questions_are_answered() {
    let world = world(Options::default());
    let _gateway = start(&world);
    echo(&world, "0.0.0.0:0", "192.0.2.1:30007", 0..=1400);
    // Over IPv6 the overlay's packets are 20 bytes smaller: 1430 less 48 bytes of headers.
    echo(&world, "[::]:0", "[2001:db8:1::1]:30007", 0..=1382);
    for (server, kind, expected) in
        [("192.0.2.1", "A", "10.77."), ("192.0.2.1", "TXT", "\"n"), ("2001:db8:1::1", "AAAA", "fd77:0:0:")]
    {
        for _ in 0..20 {
            let answer =
                world.shell(Host::Client, &format!("dig +short +tries=1 +time=3 @{server} -p 30053 {kind} a.example"));
            assert!(answer.starts_with(expected), "{server} {kind}: {answer}");
        }
    }
}

#[test]
fn a_client_learns_the_mtu_of_the_overlay() {
    let world = world(Options::default());
    let _gateway = start(&world);
    // 1500 bytes less the overhead of VXLAN over IPv4 and over IPv6 (RFC 1191, RFC 8201).
    assert_eq!(learned_mtu(&world, "0.0.0.0:0", "192.0.2.1:30007", 1472), 1450);
    assert_eq!(learned_mtu(&world, "[::]:0", "[2001:db8:1::1]:30007", 1452), 1430);
    // And it can be used.
    echo(&world, "0.0.0.0:0", "192.0.2.1:30007", [1422].into_iter());
    echo(&world, "[::]:0", "[2001:db8:1::1]:30007", [1382].into_iter());
}

#[test]
fn rfc1191_a_senders_segments_that_do_not_fit_the_overlay_get_smaller_and_arrive() {
    let world = world(Options::default());
    let _gateway = start(&world);
    // Pods that announce more than their own link takes: the client sends full frames of its link.
    for host in Host::pods() {
        world.shell(
            host,
            "ip route change $(ip route show default) advmss 1460; ip -6 route change $(ip -6 route show default) advmss 1440",
        );
    }
    for (host, address, mtu) in
        [("192.0.2.1:30080", "192.0.2.1", "mtu 1450"), ("[2001:db8:1::1]:30080", "2001:db8:1::1", "mtu 1430")]
    {
        let learned = || world.shell(Host::Client, &format!("ip route get {address}"));
        assert!(!learned().contains("mtu"), "{}", learned());
        transfer(&world, host, 20);
        assert!(learned().contains(mtu), "the client never met the overlay's MTU: {}", learned());
    }
}

#[test]
fn a_client_that_the_host_cannot_resolve_is_answered_at_once() {
    if crate::common::kernel_chosen() {
        return; // The kernel has to resolve the client first.
    }
    let world = world(Options::default());
    // The client has a static entry for the gateway, and answers no ARP or neighbour solicitation.
    let mac = world.shell(Host::Gateway, "cat /sys/class/net/up0/address");
    world.shell(
        Host::Client,
        &format!(
            "for address in 192.0.2.1 2001:db8:1::1; do
               ip neighbour replace $address lladdr {} dev cl0 nud permanent
             done
             sysctl -qw net.ipv4.conf.all.arp_ignore=8
             nft 'add table ip6 deaf; add chain ip6 deaf in {{ type filter hook input priority 0; }}
                  add rule ip6 deaf in icmpv6 type nd-neighbor-solicit drop'",
            mac.trim()
        ),
    );
    world.shell(Host::Gateway, "ip neighbour flush dev up0; ip -6 neighbour flush dev up0");
    let _gateway = start(&world);
    let resolved = || {
        let known = world.shell(Host::Gateway, "ip neighbour show dev up0");
        known.lines().any(|line| line.contains("lladdr") && (line.contains("192.0.2.10 ") || line.contains("::10 ")))
    };
    assert!(!resolved());
    // Datagrams are not sent again: the first answer has to arrive, and those that follow.
    echo(&world, "0.0.0.0:0", "192.0.2.1:30007", [100; 20].into_iter());
    echo(&world, "[::]:0", "[2001:db8:1::1]:30007", [100; 20].into_iter());
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
    assert!(get(&world, "http://[2001:db8:1::1]:30080/").starts_with('n'));
    assert!(!resolved(), "the host resolved the client after all");
}

#[test]
fn peers_behind_plain_routes_are_reached() {
    let world = world(Options { backend: Backend::HostGw, ..Options::default() });
    let _gateway = start(&world);
    exercise(&world);
}

#[test]
fn one_interface_serves_as_uplink_and_underlay() {
    let world = world(Options { one_interface: true, ..Options::default() });
    let _gateway = start(&world);
    exercise(&world);
}

#[test]
fn two_workers_share_two_queues() {
    let world = world(Options { queues: 2, ..Options::default() });
    let _gateway = start(&world);
    exercise(&world);
}

#[test]
fn all_queues_of_a_driver_that_does_not_report_them_are_served() {
    let world = world(Options { queues: 4, ..Options::default() });
    world.shell(
        Host::Gateway,
        "ip link add link up0 name mv0 numrxqueues 4 numtxqueues 4 type macvlan mode bridge
         ethtool -K mv0 tx off >/dev/null
         ip address flush dev up0
         sysctl -qw net.ipv4.conf.all.arp_ignore=1
         ip address add 192.0.2.1/24 dev mv0
         ip link set mv0 up",
    );
    let configuration = world.gateway_config().replace("interface = \"up0\"", "interface = \"mv0\"");
    let _gateway = start_weirgate(&world, &configuration.replace("workers = 4", "workers = 1"));
    // Each from a port of its own.
    for _ in 0..16 {
        assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
    }
    assert_eq!(status(&world)["counters"]["no-worker"], 0);
}

#[test]
fn operators_can_ping_the_pool_and_the_overlay_address() {
    if crate::common::kernel_chosen() {
        return; // The kernel gateway has no pool.
    }
    let world = world(Options::default());
    let _gateway = start(&world);
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
    for address in ["10.77.200.0", "10.77.200.2", "10.77.200.3", "fd77:0:0:200::2"] {
        for host in [Host::Node(0), Host::Pod(1, 0)] {
            world.shell(host, &format!("ping -c 3 -i 0.2 -W 2 {address}"));
            world.shell(host, &format!("ping -c 2 -i 0.2 -W 2 -s 1300 {address}"));
        }
    }
}

/// Echoes one datagram of each length, sent again where it was lost to a path MTU that was not known yet.
fn echo_in_the_end(world: &World, bind: &str, to: &str, lengths: &[usize]) {
    world.inside(Host::Client, || {
        let socket = UdpSocket::bind(bind).expect("a socket");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
        let mut buffer = vec![0; 1 << 16];
        for &length in lengths {
            let sent: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
            let is_echoed = (0..20).any(|_| {
                let _ = socket.send(&sent);
                socket.recv(&mut buffer).is_ok_and(|received| buffer[..received] == sent[..])
            });
            assert!(is_echoed, "{length} bytes to {to}");
        }
    });
}

#[test]
fn rfc4787_req13_and_req14_datagrams_larger_than_any_link_are_echoed() {
    let world = world(Options::default());
    let _gateway = start(&world);
    // 1473 bytes and more come as fragments of the client's MTU without DF, which are fragmented again for the overlay.
    echo(&world, "0.0.0.0:0", "192.0.2.1:30007", [1473, 4000, 9000, 30_000, 60_000].into_iter());
    // Over IPv6 no router fragments: the first datagrams of both sides get errors with the MTU.
    echo_in_the_end(&world, "[::]:0", "[2001:db8:1::1]:30007", &[1382, 1383, 4000, 9000, 30_000, 60_000]);
}

#[test]
fn rfc4787_req14_fragments_that_come_before_their_first_arrive_at_services_and_the_host() {
    if crate::common::kernel_chosen() {
        return;
    }
    let world = world(Options::default());
    let _gateway = start(&world);
    // A server of the host's own at the address on which node ports answer too.
    let host = world.inside(Host::Gateway, || UdpSocket::bind("192.0.2.1:5300")).expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((length, client)) = host.recv_from(&mut buffer) {
            let _ = host.send_to(&buffer[..length], client);
        }
    });
    // In reverse, as over several paths, and each after a fragment for another receiver.
    let script = r#"
import socket, struct
source, destination = "192.0.2.10", "192.0.2.1"
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind((source, 0))
listener.settimeout(5)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
SERVICE, HOST, IN_ORDER, BACKWARDS = 30007, 5300, False, True
datagrams = [(SERVICE, BACKWARDS), (SERVICE, IN_ORDER), (HOST, BACKWARDS), (SERVICE, BACKWARDS), (HOST, IN_ORDER),
             (SERVICE, BACKWARDS), (HOST, BACKWARDS), (HOST, BACKWARDS)]
for number, (port, backwards) in enumerate(datagrams):
    data = bytes((at * 11 + number) & 0xff for at in range(4000))
    udp = struct.pack("!HHHH", listener.getsockname()[1], port, 8 + len(data), 0) + data
    fragments = []
    for at in range(0, len(udp), 1400):
        more = 0x2000 if at + 1400 < len(udp) else 0
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 7000 + number, more | at // 8, 64, 17, 0,
                           socket.inet_aton(source), socket.inet_aton(destination))
        fragments.append(head + udp[at:at + 1400])
    for fragment in reversed(fragments) if backwards else fragments:
        raw.sendto(fragment, (destination, 0))
    try:
        assert listener.recv(65535) == data, "another answer"
    except TimeoutError:
        raise SystemExit(f"datagram {number} to port {port} is lost")
print("all came back")
"#;
    assert_eq!(world.shell(Host::Client, &format!("python3 -c '{script}'")).trim(), "all came back");
}
