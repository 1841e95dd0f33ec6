//! Helpers of the tests in namespaces. With `WEIRGATE=kernel` in the environment the kernel's own path replaces the
//! gateway where a test allows it: a failure is then a fault of the test or its world.

use std::cell::Cell;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use weirgate_world::{Gateway, Host, KernelGateway, NODES, Options, World, build_gateway};

/// The gateway of a test: weirgate or the kernel.
#[expect(dead_code, reason = "it forwards until it is dropped")]
pub(crate) enum Forwarder<'w> {
    Weirgate(Gateway),
    Kernel(KernelGateway<'w>),
}

pub(crate) fn kernel_chosen() -> bool {
    std::env::var_os("WEIRGATE").is_some_and(|value| value == "kernel")
}

/// A world for a test. From then on the test has [`LIMIT`] to finish.
pub(crate) fn world(options: Options) -> World {
    let world = World::new(options).unwrap_or_else(|error| panic!("{error}"));
    OVER.set(Some(end_after(LIMIT)));
    world
}

/// How long a test may have its world. The longest takes two minutes.
const LIMIT: Duration = Duration::from_secs(600);

thread_local! {
    /// Dropped when the test's thread ends, or gets the next world.
    static OVER: Cell<Option<Sender<()>>> = const { Cell::new(None) };
}

/// Ends the process and so its worlds after this time, unless the result is dropped before: a test that hangs must
/// not block all others.
fn end_after(limit: Duration) -> Sender<()> {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let (over, waiting) = channel();
    std::thread::spawn(move || {
        if waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} has not ended within {limit:?}");
            std::process::abort();
        }
    });
    over
}

/// Starts a gateway with the world's own configuration.
pub(crate) fn start(world: &World) -> Forwarder<'_> {
    if kernel_chosen() {
        return Forwarder::Kernel(world.start_kernel_gateway(None).unwrap_or_else(|error| panic!("{error}")));
    }
    Forwarder::Weirgate(start_weirgate(world, &world.gateway_config()))
}

pub(crate) fn start_weirgate(world: &World, configuration: &str) -> Gateway {
    world.start_gateway(build_gateway(), configuration).unwrap_or_else(|error| panic!("{error}"))
}

/// The status of a running gateway.
pub(crate) fn status(world: &World) -> serde_json::Value {
    let socket = world.control_socket().display().to_string();
    let output = world.weirgate(build_gateway(), &["status", "--json", "--control-socket", &socket]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Routes the services' addresses through the overlay; without it the nodes' default route leads past the overlay.
pub(crate) fn route_services_over_the_overlay(world: &World) {
    for node in 0..NODES.len() {
        world.shell(
            Host::Node(node),
            "for net in 192.0.2.1/32 203.0.113.0/24; do ip route add $net via 10.77.200.0 dev flannel.1 onlink; done
             for net in 2001:db8:1::1/128 2001:db8:113::/48; do
               ip -6 route add $net via fd77:0:0:200:: dev flannel-v6.1 onlink
             done",
        );
    }
}

/// Routes the clients' networks on every node through the overlay to the gateway, as operators configure it.
pub(crate) fn route_clients_through_the_gateway(world: &World) {
    for node in 0..2 {
        world.shell(
            Host::Node(node),
            "ip route add 192.0.2.0/24 via 10.77.200.0 dev flannel.1 onlink
             ip -6 route add 2001:db8:1::/64 via fd77:0:0:200:: dev flannel-v6.1 onlink",
        );
    }
}

/// The world's own configuration with services that preserve the source.
pub(crate) fn preserving(world: &World) -> String {
    world.gateway_config().replace("[[service]]\n", "[[service]]\nclient_address = \"preserve\"\n")
}

/// The body of one request.
pub(crate) fn get(world: &World, url: &str) -> String {
    world.shell(Host::Client, &format!("curl -gsS --max-time 10 {url}")).trim().to_owned()
}

/// SHA-256 of a file, as `sha256sum` prints it.
pub(crate) fn sha256(world: &World, file: &Path) -> String {
    world.shell(Host::Client, &format!("sha256sum < {}", file.display()))
}

/// Creates a file of random bytes that every pod serves as `/files/NAME`.
pub(crate) fn random_file(world: &World, name: &str, megabytes: usize) -> PathBuf {
    let file = world.directory().join("files").join(name);
    world.shell(Host::Client, &format!("head -c {megabytes}M /dev/urandom > {}", file.display()));
    file
}

/// Downloads and uploads a file of random bytes and compares the hashes at both ends.
pub(crate) fn transfer(world: &World, host: &str, megabytes: usize) {
    let file = random_file(world, "big", megabytes);
    let hash = sha256(world, &file);
    let url = format!("http://{host}/files/big");
    let down = world.shell(Host::Client, &format!("curl -gsSf --max-time 120 {url} | sha256sum"));
    assert_eq!(down, hash, "download of {megabytes} MB from {host}");
    let pod = world.shell(
        Host::Client,
        &format!("curl -gsSf --max-time 120 -D - -o /dev/null -T {} http://{host}/upload/up", file.display()),
    );
    let pod = pod.lines().find_map(|line| line.strip_prefix("Pod: ")).expect("the pod names itself").trim();
    let received = world.directory().join(format!("upload-{pod}/up"));
    assert_eq!(sha256(world, &received), hash, "upload of {megabytes} MB to {host}");
    for file in [file, received] {
        std::fs::remove_file(file).expect("our own file");
    }
}

/// Sends one datagram for every length and expects it back unchanged, in turn and without a second try.
pub(crate) fn echo(world: &World, bind: &str, to: &str, lengths: impl Iterator<Item = usize> + Send) {
    echo_from(world, Host::Client, bind, to, lengths);
}

/// As [`echo`], from another host than the client.
pub(crate) fn echo_from(world: &World, host: Host, bind: &str, to: &str, lengths: impl Iterator<Item = usize> + Send) {
    world.inside(host, || {
        let socket = UdpSocket::bind(bind).expect("a socket");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket");
        let mut buffer = vec![0; 1 << 16];
        for length in lengths {
            let sent: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
            socket.send(&sent).unwrap_or_else(|error| panic!("{length} bytes to {to}: {error}"));
            let received = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{length} bytes from {to}: {error}"));
            assert_eq!(&buffer[..received], &sent[..], "{length} bytes to {to}");
        }
    });
}

/// Sends datagrams of a whole uplink MTU that may not be fragmented until the socket has learned the path's MTU.
pub(crate) fn learned_mtu(world: &World, bind: &str, to: &str, length: usize) -> i32 {
    const IP_MTU_DISCOVER: i32 = 10;
    const IP_MTU: i32 = 14;
    const IPV6_MTU_DISCOVER: i32 = 23;
    const IPV6_MTU: i32 = 24;
    const DO: i32 = 2;
    let (level, discover, mtu) = if to.starts_with('[') {
        (libc::IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_MTU)
    } else {
        (libc::IPPROTO_IP, IP_MTU_DISCOVER, IP_MTU)
    };
    world.inside(Host::Client, || {
        let socket = UdpSocket::bind(bind).expect("a socket");
        let mut value = DO;
        let mut size = size_of::<i32>() as libc::socklen_t;
        // SAFETY: the descriptor is open, `value` is an int and `size` its size.
        let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, discover, (&raw const value).cast(), size) };
        assert_eq!(set, 0);
        socket.connect(to).expect("a route");
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            // Refused with EMSGSIZE as soon as the error has come back.
            let refused = socket.send(&vec![0; length]).is_err_and(|e| e.raw_os_error() == Some(libc::EMSGSIZE));
            if refused || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // SAFETY: as above; the kernel writes an int.
        let got = unsafe { libc::getsockopt(socket.as_raw_fd(), level, mtu, (&raw mut value).cast(), &raw mut size) };
        assert_eq!(got, 0);
        value
    })
}

/// How many frames of a capture match a filter of tcpdump.
pub(crate) fn frames(world: &World, capture: &Path, filter: &str) -> usize {
    let text = world.shell(Host::Client, &format!("tcpdump -nn -r {} '{filter}' 2>/dev/null", capture.display()));
    let frames: Vec<_> = text.lines().filter(|line| line.contains(" IP")).collect();
    // For whoever reads why a test failed.
    frames.iter().take(20).for_each(|frame| println!("{frame}"));
    frames.len()
}

/// Everything that a gateway may change on its host: links with their programs, addresses, routes, rules, device settings.
///
/// Waits first until the links of a new world have carrier and addresses of their own, which the kernel sees to in its
/// own time.
pub(crate) fn host_state(world: &World) -> String {
    for _ in 0..100 {
        let settled = "cat /sys/class/net/up0/operstate /sys/class/net/un0/operstate; \
                       ip -6 -oneline address show scope link -tentative | wc -l";
        if world.shell(Host::Gateway, settled).split_whitespace().eq(["up", "up", "2"]) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    world.shell(
        Host::Gateway,
        "ip -d link; ip address; ip route; ip -6 route; nft list ruleset
         cd /sys/class/net; for i in *; do echo $i $(cat $i/napi_defer_hard_irqs $i/gro_flush_timeout $i/threaded); done",
    )
}

/// Asserts that the host is in an earlier state, and names the lines that differ.
pub(crate) fn assert_host_state(world: &World, before: &str, context: &str) {
    let after = host_state(world);
    let lines = |of: &str, not: &str| -> Vec<String> {
        of.lines().filter(|line| !not.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    let (gone, new) = (lines(before, &after), lines(&after, before));
    assert!(after == before, "{context}\nthe host changed; gone: {gone:#?}\nnew: {new:#?}");
}

/// Traffic of several kinds, for worlds of an unusual shape.
pub(crate) fn exercise(world: &World) {
    for host in ["192.0.2.1:30080", "[2001:db8:1::1]:30080", "203.0.113.10", "[2001:db8:113::10]"] {
        let bodies = world.shell(
            Host::Client,
            &format!("curl -sSfZ --parallel-max 8 --max-time 20 -H 'Connection: close' 'http://{host}/?[1-60]'"),
        );
        let pods: std::collections::BTreeSet<&str> = bodies.lines().collect();
        assert_eq!(bodies.lines().count(), 60, "{host}");
        assert_eq!(pods.into_iter().collect::<Vec<_>>(), ["n1a", "n1b", "n2a", "n2b"], "{host}");
    }
    transfer(world, "192.0.2.1:30080", 20);
    transfer(world, "[2001:db8:1::1]:30080", 20);
    echo(world, "0.0.0.0:0", "192.0.2.1:30007", (0..=1400).step_by(100));
    echo(world, "[::]:0", "[2001:db8:1::1]:30007", (0..=1300).step_by(100));
}
