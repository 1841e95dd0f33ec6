//! The gateway in emulated machines, on network cards with real drivers instead of veth.

#[allow(dead_code, reason = "worlds without a guest have more to share")]
#[path = "../worlds/common.rs"]
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use common::{get, random_file, sha256, world};
use serde_json::Value;
use weirgate_world::{Card, Driver, Guest, Host, Kernel, Options, World, build_gateway};

const CONNECTIONS: usize = 20;
/// A lost SYN is sent again after a second.
const NO_SYN_LOST: Duration = Duration::from_millis(900);

/// A gateway in a guest that replaces the world's gateway host.
struct Machine<'w> {
    world: &'w World,
    guest: Guest,
}

impl<'w> Machine<'w> {
    /// Boots with these kinds of cards at uplink and underlay.
    fn boot(world: &'w World, kernel: Kernel, [uplink, underlay]: [Driver; 2]) -> Self {
        let begin = Instant::now();
        let cards = [Card { driver: uplink, interface: "up0" }, Card { driver: underlay, interface: "un0" }];
        let mut guest = world.boot(Host::Gateway, kernel, &cards).unwrap_or_else(|error| panic!("{error}"));
        println!("Linux {} in {:.1?}", guest.shell("uname -r").trim(), begin.elapsed());
        Self { world, guest }
    }

    /// Starts the gateway with its default number of workers and waits for its control socket.
    fn start(&mut self) {
        let configuration = self.world.gateway_config().replace("workers = 1\n", "");
        std::fs::write(self.guest.shared().join("weirgate.toml"), configuration).expect("a shared folder");
        let (binary, socket) = (build_gateway().display(), self.world.control_socket());
        let socket = socket.display();
        self.guest.shell(&format!(
            "rm -f {socket}
             {binary} run --config weirgate.toml >>weirgate.log 2>&1 &
             echo $! >weirgate.pid
             for try in $(seq 300); do
               [ ! -S {socket} ] || exit 0
               kill -0 $(cat weirgate.pid) || break
               sleep 0.1
             done
             cat weirgate.log
             exit 1"
        ));
    }

    /// Ends the gateway, which has to exit cleanly.
    fn stop(&mut self) {
        self.guest.shell(
            "pid=$(cat weirgate.pid)
             kill -TERM $pid
             for try in $(seq 100); do kill -0 $pid 2>/dev/null || exit 0; sleep 0.1; done
             cat weirgate.log
             exit 1",
        );
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.guest.shared().join("weirgate.log")).unwrap_or_default()
    }

    fn status(&mut self) -> Value {
        let socket = self.world.control_socket().display().to_string();
        let binary = build_gateway().display();
        let text = self.guest.shell(&format!("{binary} status --json --control-socket {socket}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Opens connections, one after the other; none may have had a retransmission.
    fn connect(&self) {
        let slow: Vec<String> = self.world.inside(Host::Client, || {
            let open = |number| {
                let begin = Instant::now();
                let stream = connect();
                let (took, again) = (begin.elapsed(), retransmissions(&stream));
                (took > NO_SYN_LOST || again > 0).then(|| format!("{number}: {took:?}, {again} sent again"))
            };
            (0..CONNECTIONS).filter_map(open).collect()
        });
        assert!(slow.is_empty(), "of {CONNECTIONS} connections {} were slow: {slow:#?}\n{}", slow.len(), self.log());
    }

    fn download(&self, megabytes: usize) {
        let file = random_file(self.world, "big", megabytes);
        let hash = sha256(self.world, &file);
        let down =
            self.world.shell(Host::Client, "curl -gsSf --max-time 120 http://192.0.2.1:30080/files/big | sha256sum");
        assert_eq!(down, hash, "{}", self.log());
    }
}

/// A new connection, from the namespace that the caller is in.
fn connect() -> TcpStream {
    let service = "192.0.2.1:30080".parse().expect("an address");
    TcpStream::connect_timeout(&service, Duration::from_secs(20)).expect("a connection")
}

/// How many segments a connection has sent more than once.
fn retransmissions(stream: &TcpStream) -> u32 {
    // SAFETY: all-zero is a valid tcp_info, which is plain numbers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `info`, which is as large.
    let got = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut size)
    };
    assert_eq!(got, 0);
    info.tcpi_total_retrans
}

/// A connection on which the client asks now and then.
struct Session(TcpStream);

impl Session {
    fn open(world: &World) -> Self {
        let stream = world.inside(Host::Client, connect);
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let mut session = Self(stream);
        session.ask();
        session
    }

    fn ask(&mut self) {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n").expect("the connection lives");
        let mut buffer = [0; 4096];
        let length = self.0.read(&mut buffer).expect("the connection lives");
        let answer = String::from_utf8_lossy(&buffer[..length]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// All that has to work on either kernel. `transfer` is how frames get to the rings of both cards there.
fn forwards(kernel: Kernel, cards: [Driver; 2], transfer: &str) {
    let world = world(Options::default());
    let mut machine = Machine::boot(&world, kernel, cards);
    machine.start();

    let status = machine.status();
    assert_eq!(status["workers"], 2, "one for each of the guest's cores: {}", machine.log());
    for (port, card) in status["ports"].as_array().expect("ports").iter().zip(cards) {
        let is_as_wanted = port["transfer"] == transfer && port["mode"] == "native" && port["state"] == "up";
        assert!(is_as_wanted, "{port}\n{}", machine.log());
        // The program adds one for each core to those of virtio_net.
        assert_eq!(port["queues"], if card == Driver::Igb { 2 } else { 4 }, "{port}");
    }
    machine.connect();
    machine.download(20);
    // Drivers that poll have a NAPI id, so a trial has begun whether interrupts are worth deferring.
    for port in machine.status()["ports"].as_array().expect("ports") {
        let (interface, reason) = (&port["interface"], port["interrupts"]["reason"].as_str().expect("a reason"));
        println!("{interface}: {reason}");
        let begins = ["polling found", "too few frames", "on trial"];
        assert!(begins.iter().any(|known| reason.starts_with(known)), "{interface}: {reason}");
    }

    machine.guest.shell("for port in up0 un0; do ip link set $port down; sleep 0.5; ip link set $port up; done");
    let deadline = Instant::now() + Duration::from_secs(15);
    let again =
        "for try in $(seq 10); do curl -gsSf --max-time 1 http://192.0.2.1:30080/ && exit; sleep 0.5; done; exit 1";
    let ran = world.run(Host::Client, &["sh", "-c", again]);
    assert!(ran.status.success() && Instant::now() < deadline, "{ran:?}\n{}", machine.log());
    machine.connect();
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));

    let status = machine.status();
    assert_eq!(status["counters"]["no-worker"], 0, "{status}");

    let mut session = Session::open(&world);
    machine.guest.shell("kill -KILL $(cat weirgate.pid)");
    machine.start();
    session.ask();
    machine.connect();

    machine.stop();
    println!("{}", machine.log());
    let left = machine.guest.shell("ip -d link show up0; ip -d link show un0");
    assert!(!left.contains("prog/xdp"), "{left}");
    let complaints = machine
        .guest
        .shell("dmesg >dmesg.log && { grep -A 30 -E 'WARNING:|BUG:|Oops|blocked for more' dmesg.log || true; }");
    assert!(complaints.is_empty(), "the kernel complains:\n{complaints}");
}

#[test]
fn two_drivers_forward_without_copying() {
    forwards(Kernel::Newest, [Driver::Igb, Driver::VirtioNet(4)], "zero-copy");
}

#[test]
fn the_oldest_kernel_forwards() {
    forwards(Kernel::Oldest, [Driver::VirtioNet(4), Driver::VirtioNet(4)], "copy");
}
