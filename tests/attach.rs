//! Flows survive the process that created them, at whatever instruction it died.

use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use weirgate::flow::{Adopted, State};
use weirgate::net::{PortId, WorkerId};
use weirgate::pipeline::{AttachError, Worker, WorkerConfig};
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, FIN, FROM_CLIENT, Packet, RST, SYN, framed, from_pod, tunnelled, unframed};
use weirgate_fixture::world::{UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, Out, worker_config};

/// Memory that processes share.
struct Shared {
    base: *mut u8,
    len: usize,
}

impl Shared {
    fn new(len: usize) -> Self {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { base: base.cast(), len }
    }

    /// The bytes, for a gateway that is no longer used at the next borrow.
    fn lend(&self) -> &'static mut [u8] {
        // SAFETY: the mapping is as long, initialised, and stays until the process ends. Its earlier
        // borrower has been dropped, or was another process that has ended.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len) }
    }

    /// The bytes as they are now, while the other process is stopped.
    fn copy(&self) -> Vec<u8> {
        self.lend().to_vec()
    }
}

fn config(world: &World, flows: u32) -> WorkerConfig {
    world.describe(|description| worker_config(description, WorkerId(0), flows))
}

fn begin(world: &World, config: &WorkerConfig, memory: &Shared) -> Gateway {
    world.describe(|description| Gateway::with_memory(description, config, memory.lend()))
}

fn adopt(world: &World, config: &WorkerConfig, memory: &Shared) -> (Gateway, Adopted) {
    world.describe(|description| Gateway::adopt(description, config, memory.lend()))
}

fn from_client(packet: &Packet) -> (PortId, Vec<u8>) {
    (UPLINK, framed(FROM_CLIENT, &packet.bytes()))
}

fn send(gateway: &mut Gateway, (port, frame): &(PortId, Vec<u8>)) -> Out {
    gateway.send(*port, frame)
}

/// Opens a connection to the web service: the request as the pod sees it.
fn establish(gateway: &mut Gateway, request: &Packet, ack: &Packet) -> Packet {
    let out = send(gateway, &from_client(request));
    let inner = Packet::read(&tunnelled(&out.bytes).inner);
    let out = gateway.send(UNDERLAY, &from_pod(0, &inner.answer(SYN | ACK, b"").bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
    let out = send(gateway, &from_client(ack));
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
    Packet::read(&tunnelled(&out.bytes).inner)
}

#[test]
fn established_connections_go_on_in_the_next_process() {
    let mut world = World::new();
    let config = config(&world, 64);
    let memory = Shared::new(Worker::memory_bytes(&config));
    let mut first = begin(&world, &config, &memory);
    let web = establish(&mut first, &Packet::web(7, SYN, b""), &Packet::web(7, ACK, b""));
    let web_v6 = establish(&mut first, &Packet::web_v6(7, SYN, b""), &Packet::web_v6(7, ACK, b""));

    // Another process has other snapshot, service and next hop indices, and may not know its
    // neighbours yet.
    world.peers.reverse();
    world.frontends[0].0 = WEB + 10;
    world.neighbours.clear();
    let (mut second, adopted) = adopt(&world, &config, &memory);
    assert_eq!(adopted, Adopted { flows: 2, ..Adopted::default() });
    for (seen, request) in [(&web, Packet::web(7, ACK, b"more")), (&web_v6, Packet::web_v6(7, ACK, b"more"))] {
        let out = second.send(UNDERLAY, &from_pod(0, &seen.answer(ACK, b"data").bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
        let (link, ip) = unframed(&out.bytes);
        assert_eq!(link, weirgate_fixture::frames::TO_CLIENT, "the neighbour that the client was seen at");
        assert_eq!(Packet::read(&ip).source, request.destination);
        let out = send(&mut second, &from_client(&request));
        let inner = Packet::read(&tunnelled(&out.bytes).inner);
        assert_eq!((inner.source, inner.destination), (seen.source, seen.destination));
    }
    second.assert_counted(&[
        ("port0-in", 2),
        ("port0-out", 2),
        ("port1-in", 2),
        ("port1-out", 2),
        ("service11-original", 2),
        ("service11-reply", 2),
    ]);
}

#[test]
fn a_removed_service_is_not_counted_and_its_connections_continue() {
    let mut world = World::new();
    let config = config(&world, 64);
    let memory = Shared::new(Worker::memory_bytes(&config));
    let mut first = begin(&world, &config, &memory);
    establish(&mut first, &Packet::web(7, SYN, b""), &Packet::web(7, ACK, b""));

    world.frontends.remove(0);
    world.backends.remove(0);
    let (mut second, _) = adopt(&world, &config, &memory);
    assert_eq!(send(&mut second, &from_client(&Packet::web(7, ACK, b""))).verdict, Verdict::Transmit(UNDERLAY));
    second.assert_counted(&[("port0-in", 1), ("port1-out", 1)]);
}

#[test]
fn another_number_of_workers_starts_without_flows_and_says_why() {
    let world = World::new();
    let config = config(&world, 64);
    let memory = Shared::new(Worker::memory_bytes(&config));
    begin(&world, &config, &memory);
    let more = WorkerConfig { workers: 2, ..config };
    let why = Worker::check(&more, memory.lend()).unwrap_err();
    assert_eq!(why.to_string(), "table of IPv4 flows: it is of worker 0 among 1, not of worker 0 among 2");
    let larger = WorkerConfig { flows_v6: 65, ..config };
    let larger_memory = Shared::new(Worker::memory_bytes(&larger));
    larger_memory.lend()[..memory.len].copy_from_slice(memory.lend());
    let why = Worker::check(&larger, larger_memory.lend()).unwrap_err();
    assert!(matches!(why, AttachError::FlowsV6(_)));
    assert_eq!(why.to_string(), "table of IPv6 flows: it is for 64 flows, not 65");
    assert_eq!(Worker::check(&config, memory.lend()), Ok(()));
}

/// Runs `work` in a child process that stops before it, and again when it is done.
fn fork_stopped(work: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs `work`, which neither allocates nor takes locks, and ends without
    // running what the parent's threads left.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: calls without pointers, in a process of one thread.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
        work();
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    child
}

/// Waits until the child stops; `false` when it has ended.
fn stands_still(child: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: `status` is where the kernel may write.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "{}", std::io::Error::last_os_error());
    libc::WIFSTOPPED(status)
}

/// Frames in a row, one call each, without a single allocation.
struct Script {
    frames: Vec<(PortId, Vec<u8>)>,
    buffer: Box<[u8; weirgate_fixture::BUFFER_BYTES]>,
}

impl Script {
    fn new(frames: Vec<(PortId, Vec<u8>)>) -> Self {
        Self { frames, buffer: Box::new([0; weirgate_fixture::BUFFER_BYTES]) }
    }

    fn run(&mut self, gateway: &mut Gateway) {
        use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
        for (port, bytes) in &self.frames {
            self.buffer[HEADROOM_MAX..HEADROOM_MAX + bytes.len()].copy_from_slice(bytes);
            let frame = Frame::new(&mut self.buffer[..], HEADROOM_MAX, bytes.len(), *port).expect("it fits");
            let (snapshot, now) = (gateway.snapshot(), gateway.now);
            weirgate::pipeline::process(&mut gateway.worker, &snapshot, now, &mut Burst::new(&mut [frame], &mut []));
        }
    }
}

/// The clients' ports of the flows that a table has, with their states.
fn flows(gateway: &Gateway) -> Vec<(u16, State)> {
    let mut flows: Vec<_> = gateway
        .worker
        .flows()
        .v4
        .iter()
        .map(|entry| (u16::from_be_bytes(entry.original.source_port), entry.state().expect("a live flow")))
        .collect();
    flows.sort();
    flows
}

#[test]
fn a_process_that_dies_at_any_instruction_leaves_a_table_that_is_whole() {
    let world = World::new();
    let config = config(&world, 16);
    let memory = Shared::new(Worker::memory_bytes(&config));
    let mut gateway = begin(&world, &config, &memory);
    for client in 1..=5 {
        establish(&mut gateway, &Packet::web(client, SYN, b""), &Packet::web(client, ACK, b""));
    }
    // A connection that ended, so that a SYN reopens it.
    let seen = establish(&mut gateway, &Packet::web(6, SYN, b""), &Packet::web(6, ACK, b""));
    send(&mut gateway, &from_client(&Packet::web(6, FIN | ACK, b"")));
    gateway.send(UNDERLAY, &from_pod(0, &seen.answer(FIN | ACK, b"").bytes()));
    let old = flows(&gateway);
    let mut script = Script::new(vec![
        from_client(&Packet::web(8, SYN, b"")),
        from_client(&Packet::web(6, SYN, b"")),
        from_client(&Packet::web(8, RST, b"")),
    ]);
    let child = fork_stopped(|| script.run(&mut gateway));

    let scratch = Shared::new(memory.len);
    let (mut steps, mut tables, mut before) = (0, 0, Vec::new());
    let mut seen = Vec::new();
    while stands_still(child) {
        let now = memory.copy();
        if now != before {
            scratch.lend().copy_from_slice(&now);
            let (gateway, adopted) = adopt(&world, &config, &scratch);
            assert_eq!(adopted.damaged, 0, "after {steps} instructions");
            let flows = flows(&gateway);
            for flow in &old[..5] {
                assert!(flows.contains(flow), "{flow:?} is lost after {steps} instructions");
            }
            let others: Vec<u16> = flows.iter().map(|(client, _)| *client).filter(|client| *client > 5).collect();
            assert!([&[6][..], &[6, 8], &[8]].contains(&&others[..]), "{others:?} after {steps} instructions");
            if seen.last() != Some(&others) {
                seen.push(others);
            }
            tables += 1;
            before = now;
        }
        steps += 1;
        // SAFETY: the child is stopped and is ours.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) };
        assert_eq!(stepped, 0, "{}", std::io::Error::last_os_error());
    }
    assert!(steps > 1000 && tables > 20, "{steps} instructions left {tables} different tables");
    assert_eq!(seen[..4], [vec![6], vec![6, 8], vec![8], vec![6, 8]], "one flow created, one replaced");
}

#[test]
fn processes_that_are_killed_at_random_lose_no_established_flow() {
    const FLOWS: u32 = 512;
    const STEADY: u16 = 200;
    let world = World::new();
    let config = config(&world, FLOWS);
    let memory = Shared::new(Worker::memory_bytes(&config));
    let mut gateway = begin(&world, &config, &memory);
    let steady: Vec<Packet> = (1..=STEADY)
        .map(|client| establish(&mut gateway, &Packet::web(client, SYN, b""), &Packet::web(client, ACK, b"")))
        .collect();
    // Other flows open, end and reopen over and over, among packets of those that stay.
    let frames = (0..400_u16)
        .flat_map(|n| {
            let client = 1000 + n * 37 % 250;
            let flags = [SYN, SYN, ACK, FIN | ACK, RST, SYN];
            let stays = Packet::web(1 + n % STEADY, ACK, b"x");
            flags.map(|flags| from_client(&Packet::web(client, flags, b""))).into_iter().chain([from_client(&stays)])
        })
        .collect();
    let mut script = Script::new(frames);
    let began = Instant::now();
    for round in 0..120_u64 {
        // SAFETY: the child calls what neither allocates nor locks, until it is killed.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "{}", std::io::Error::last_os_error());
        if child == 0 {
            loop {
                script.run(&mut gateway);
            }
        }
        thread::sleep(Duration::from_micros(200 + round * 7919 % 20_000));
        let mut status = 0;
        // SAFETY: the child is ours, and has not been waited for.
        let ended = unsafe { (libc::kill(child, libc::SIGKILL), libc::waitpid(child, &raw mut status, 0)) };
        assert_eq!(ended, (0, child));
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL, "it ended by itself: {status}");

        let (next, adopted) = adopt(&world, &config, &memory);
        gateway = next;
        assert_eq!(adopted.damaged, 0, "round {round}");
        let alive = flows(&gateway);
        for client in 1..=STEADY {
            assert!(alive.contains(&(client, State::TcpEstablished)), "client {client} after round {round}");
        }
        // Both directions, for some of them.
        for (client, seen) in (1..).zip(&steady).skip(round as usize % 20).step_by(20) {
            let out = gateway.send(UNDERLAY, &from_pod(0, &seen.answer(ACK, b"data").bytes()));
            assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
            assert_eq!(Packet::read(&unframed(&out.bytes).1).destination.port(), client);
        }
        if began.elapsed() > Duration::from_secs(60) {
            assert!(round > 20, "only {round} rounds in a minute");
            break;
        }
    }
    // The other flows only gave the kills something to interrupt.
    assert!(flows(&gateway).len() > usize::from(STEADY));
    let unknown = send(&mut gateway, &from_client(&Packet::web(999, ACK, b"")));
    assert_eq!(unknown.verdict, Verdict::Drop(DropReason::NotSyn));
}
