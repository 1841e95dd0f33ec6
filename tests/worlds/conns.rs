//! `weirgate conns`: its output, its filters, and a list of a million flows during traffic.

use std::fs;
use std::mem::offset_of;
use std::net::UdpSocket;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{get, start_weirgate, world};
use weirgate::counters::Counters;
use weirgate::flow::{Entry, Tuple};
use weirgate::fragment::Limits;
use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
use weirgate::net::WorkerId;
use weirgate::pipeline::{Worker, WorkerConfig, process};
use weirgate::time;
use weirgate_fixture::BUFFER_BYTES;
use weirgate_fixture::frames::{FROM_CLIENT, Packet, framed};
use weirgate_fixture::world::UPLINK;
use weirgate_world::{Host, Options, World, build_gateway};

/// The lines that `weirgate conns` prints with these further arguments.
fn conns(world: &World, arguments: &[&str]) -> Vec<String> {
    let socket = world.control_socket().display().to_string();
    let mut all = vec!["conns", "--control-socket", &socket];
    all.extend(arguments);
    let output = world.weirgate(build_gateway(), &all);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// One datagram to the echo service, and back.
fn echo(world: &World, from: &str, to: &str) {
    world.inside(Host::Client, || {
        let socket = UdpSocket::bind(from).expect("a socket");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket");
        socket.send(b"hello").expect("a route");
        assert_eq!(socket.recv(&mut [0; 64]).expect("an echo"), 5);
    });
}

#[test]
fn conns_shows_what_conntrack_shows_and_picks_by_filter() {
    let world = world(Options { queues: 2, ..Options::default() });
    let _gateway = start_weirgate(&world, &world.gateway_config());
    let open = world.inside(Host::Client, || std::net::TcpStream::connect("192.0.2.1:30080").expect("a pod"));
    let client = open.local_addr().expect("an address");
    echo(&world, "0.0.0.0:0", "192.0.2.1:30007");
    echo(&world, "[::]:0", "[2001:db8:1::1]:30007");
    get(&world, "http://192.0.2.1:30080/");

    let all = conns(&world, &[]);
    assert_eq!(all.len(), 4, "{all:#?}");
    let line = all.iter().find(|line| line.contains(&format!("sport={} ", client.port()))).expect("the connection");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[3]), ("tcp", "6", "ESTABLISHED"), "{line}");
    let left: u32 = words[2].parse().expect("seconds");
    assert!((86_300..=86_400).contains(&left), "{line}");
    let original = format!("src={} dst=192.0.2.1 sport={} dport=30080 packets=2 ", client.ip(), client.port());
    assert!(line.contains(&original), "{line}");
    assert!(line.contains(" dst=10.77.200.") && line.contains(" sport=80 dport="), "{line}");
    assert!(line.contains(" packets=1 bytes=") && line.contains(" [ASSURED] service=web worker="), "{line}");

    let count = |arguments: &[&str]| conns(&world, arguments).len();
    assert_eq!(count(&["--protocol", "tcp"]), 2);
    assert_eq!(count(&["--service", "echo"]), 2);
    assert_eq!(count(&["--state", "established"]), 1);
    assert_eq!(count(&["--client", "2001:db8:1::/64"]), 1);
    assert_eq!(count(&["--client", &client.to_string()]), 1);
    assert_eq!(count(&["--backend", "10.77.0.0/16"]), 3);
    assert_eq!(count(&["--backend", "10.77.0.0/16", "--protocol", "udp"]), 1);
    assert_eq!(count(&["--service", "nobody"]), 0);

    let json = conns(&world, &["--json", "--state", "established"]);
    let flow: serde_json::Value = serde_json::from_str(&json[0]).expect("an object a line");
    assert_eq!(flow["original"]["source_port"], client.port(), "{flow}");
    assert_eq!(flow["reply"]["packets"], 1, "{flow}");
    assert_eq!(flow["assured"], true, "{flow}");

    let refused = world.weirgate(build_gateway(), &["conns", "--client", "nonsense"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("10.77.74.0/24"), "{refused:?}");
}

/// The kernel's clock that the gateway goes by.
fn boot_time() -> time::Instant {
    let uptime = fs::read_to_string("/proc/uptime").expect("the kernel reports it");
    let seconds: f64 = uptime.split(' ').next().and_then(|word| word.parse().ok()).expect("seconds");
    time::Instant((seconds * 1e9) as u64)
}

/// Turns a table with one flow into one with `count`, each with a client of its own; the next process rebuilds the
/// index.
fn multiply(memory: &mut [u8], count: usize) {
    const BYTES: usize = size_of::<Entry<[u8; 4]>>();
    const CLIENT: usize = offset_of!(Entry<[u8; 4]>, original) + offset_of!(Tuple<[u8; 4]>, source);
    const POD: usize = offset_of!(Entry<[u8; 4]>, reply) + offset_of!(Tuple<[u8; 4]>, source);
    let is_flow = |entry: &[u8]| entry[CLIENT..CLIENT + 4] == weirgate_fixture::world::CLIENT.octets();
    let mut offsets = (0..memory.len() - BYTES).step_by(align_of::<Entry<[u8; 4]>>());
    let first = offsets.find(|at| is_flow(&memory[*at..])).expect("the flow");
    let mut entry = memory[first..first + BYTES].to_vec();
    for number in 0..count {
        entry[CLIENT..CLIENT + 4].copy_from_slice(&(0x6440_0000 + number as u32).to_be_bytes());
        entry[POD..POD + 4].copy_from_slice(&(0x6580_0000 + number as u32).to_be_bytes());
        let at = first + number * BYTES;
        memory[at..at + BYTES].copy_from_slice(&entry);
    }
}

/// Sends requests one after another until stopped. Returns their number and the longest time of one.
fn request_on(world: &World, stop: &AtomicBool) -> (usize, Duration) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !stop.load(SeqCst) {
        let began = Instant::now();
        assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'));
        longest = longest.max(began.elapsed());
        count += 1;
    }
    (count, longest)
}

#[test]
fn a_million_flows_are_listed_while_traffic_goes_on() {
    const COUNT: usize = 1_000_000;
    const CAPACITY: u32 = 1 << 20;
    let world = world(Options::default());
    let config = world.gateway_config().replace("[flows]\n", "[flows]\ncapacity_v4 = 1048576\ncapacity_v6 = 1024\n");
    start_weirgate(&world, &config).kill();

    // The killed gateway's table gets a flow of the same core's, and that is multiplied.
    let table = fs::read_dir(world.flow_tables()).expect("a directory").flatten().next().expect("a table").path();
    let file = fs::File::options().read(true).write(true).open(table).expect("a table");
    let fixture = weirgate_fixture::world::World::new();
    let worker = WorkerConfig {
        id: WorkerId(0),
        workers: 1,
        flows_v4: CAPACITY,
        flows_v6: 1024,
        fragments: Limits::default(),
        secret: [1, 2, 3, 4],
    };
    let mut memory = vec![0; Worker::memory_bytes(&worker) + 64];
    let skip = memory.as_ptr().align_offset(64);
    let memory = &mut memory[skip..][..Worker::memory_bytes(&worker)];
    let (counters, snapshot) = (Counters::default(), fixture.describe(weirgate_fixture::snapshot));
    let mut made = Worker::new(&worker, memory, &counters, &[]).expect("the table has such a capacity");
    let packet = framed(FROM_CLIENT, &Packet::dns(1000, b"?").bytes());
    let mut buffer = [0; BUFFER_BYTES];
    buffer[HEADROOM_MAX..][..packet.len()].copy_from_slice(&packet);
    let mut frames = [Frame::new(&mut buffer, HEADROOM_MAX, packet.len(), UPLINK).expect("room for the packet")];
    process(&mut made, &snapshot, boot_time(), &mut Burst::new(&mut frames, &mut []));
    assert_eq!(made.flows().v4.len(), 1);
    multiply(memory, COUNT);
    file.write_all_at(memory, 0).expect("the table takes it");

    // Idle flows have to stay until they have been listed.
    let config = format!("{config}\n[timeouts]\nudp = 86400\n");
    let gateway = start_weirgate(&world, &config);
    assert!(gateway.log().contains(&format!("flows={COUNT} damaged=0")), "{}", gateway.log());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| request_on(&world, &stop));
        let began = Instant::now();
        let listed = conns(&world, &["--protocol", "udp"]);
        let took = began.elapsed();
        stop.store(true, SeqCst);
        let (requests, longest) = traffic.join().expect("every request was answered");
        println!("{} flows in {took:?}, {requests} requests meanwhile, the longest of {longest:?}", listed.len());
        assert_eq!(listed.len(), COUNT);
        // A worker that stopped for the list would answer one request, after all of it.
        let is_often = requests as f64 > took.as_secs_f64();
        assert!(is_often && longest < took.max(Duration::from_secs(20)) / 4, "forwarding did not go on");
        let mut clients: Vec<&str> =
            listed.iter().filter_map(|line| line.split(' ').find(|word| word.starts_with("src="))).collect();
        clients.sort_unstable();
        clients.dedup();
        assert_eq!(clients.len(), COUNT, "each flow once");
    });
    // A filter is applied before anything is sent.
    assert_eq!(conns(&world, &["--client", "100.64.0.0/24"]).len(), 256);
    // A reader that stops early does no harm.
    world.shell(
        Host::Gateway,
        &format!(
            "{} conns --control-socket {} | head -n 1 | grep -q udp",
            build_gateway().display(),
            world.control_socket().display()
        ),
    );
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
}
