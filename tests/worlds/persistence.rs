//! Connections outlive the process that carries them: killed, upgraded, or unsuccessfully replaced.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{get, start_weirgate, status, world};
use weirgate_world::{Host, Options, Waited, World, build_gateway};

/// Large enough for ten seconds at the rate of `/slow/`, which is small enough for a machine that is busy otherwise.
const FILE_BYTES: usize = 120_000;

/// Downloads that run while the test goes on. Each compares every byte, and waits with its last quarter until
/// [`finish`](Downloads::finish): however slow the machine is, none is over before.
struct Downloads<'scope> {
    begun: Arc<AtomicUsize>,
    may_end: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<thread::ScopedJoinHandle<'scope, Result<(), String>>>,
}

impl Drop for Downloads<'_> {
    fn drop(&mut self) {
        // Releases them when a test fails.
        self.may_end.store(true, SeqCst);
    }
}

impl<'scope> Downloads<'scope> {
    /// Begins `count` downloads of one file over both families and waits until data of each has come.
    fn begin(scope: &'scope thread::Scope<'scope, '_>, world: &'scope World, count: usize) -> Self {
        let content: Arc<[u8]> = (0..FILE_BYTES).map(|at| (at * 131 + at / 251) as u8).collect();
        fs::write(world.directory().join("files/slow"), &content).expect("the world's directory is writable");
        let (begun, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let may_end = Arc::new(AtomicBool::new(false));
        let download = |number: usize| {
            let (begun, done, content) = (Arc::clone(&begun), Arc::clone(&done), Arc::clone(&content));
            let may_end = Arc::clone(&may_end);
            let address = if number % 5 == 4 { "[2001:db8:1::1]:30080" } else { "192.0.2.1:30080" };
            let work = move || {
                let mut stream =
                    world.inside(Host::Client, || TcpStream::connect(address)).map_err(|e| e.to_string())?;
                // The outcome of the connection is reported in the end, however slow the machine is.
                stream.set_read_timeout(Some(Duration::from_secs(120))).map_err(|error| error.to_string())?;
                let result = receive(&mut stream, &content, &begun, &may_end);
                done.fetch_add(1, SeqCst);
                result.map_err(|error| format!("download {number}: {error}"))
            };
            thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work).expect("a thread")
        };
        let threads = (0..count).map(download).collect();
        let downloads = Self { begun, may_end, done, threads };
        let deadline = Instant::now() + Duration::from_secs(60);
        while downloads.begun.load(SeqCst) < count {
            assert!(Instant::now() < deadline, "{} of {count} downloads have begun", downloads.begun.load(SeqCst));
            thread::sleep(Duration::from_millis(10));
        }
        downloads
    }

    fn running(&self) -> usize {
        self.threads.len() - self.done.load(SeqCst)
    }

    /// Waits for all, and expects each to have the file's bytes.
    fn finish(mut self) {
        self.may_end.store(true, SeqCst);
        let results = self.threads.drain(..).map(|thread| thread.join().expect("no panic"));
        let broken: Vec<String> = results.filter_map(Result::err).collect();
        assert!(broken.is_empty(), "{} broken: {:?}", broken.len(), &broken[..broken.len().min(5)]);
    }
}

/// Asks for the file and compares what comes.
fn receive(stream: &mut TcpStream, content: &[u8], begun: &AtomicUsize, may_end: &AtomicBool) -> Result<(), String> {
    let ask = "GET /slow/slow HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) => return Err("ended in its head".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let (mut at, mut buffer) = (0, [0; 8192]);
    loop {
        while at >= content.len() / 4 * 3 && !may_end.load(SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        match reader.read(&mut buffer) {
            Ok(0) if at == content.len() => return Ok(()),
            Ok(0) => return Err(format!("ended after {at} bytes")),
            Ok(count) => {
                if at == 0 {
                    begun.fetch_add(1, SeqCst);
                }
                if content.get(at..at + count) != Some(&buffer[..count]) {
                    return Err(format!("other bytes behind {at}"));
                }
                at += count;
            }
            Err(error) => return Err(format!("{error} after {at} bytes")),
        }
    }
}

/// The sum of a number over the workers' flow memory.
fn memory(status: &serde_json::Value, field: &str) -> u64 {
    status["flow_memory"].as_array().expect("workers").iter().filter_map(|memory| memory[field].as_u64()).sum()
}

fn flows_created(status: &serde_json::Value) -> u64 {
    status["counters"]["flows-created"].as_u64().expect("a counter")
}

fn files(world: &World) -> Vec<std::path::PathBuf> {
    fs::read_dir(world.flow_tables()).map_or_else(|_| Vec::new(), |all| all.flatten().map(|file| file.path()).collect())
}

#[test]
fn five_hundred_downloads_outlive_a_gateway_that_is_killed() {
    const COUNT: usize = 500;
    let world = world(Options { queues: 2, ..Options::default() });
    let gateway = start_weirgate(&world, &world.gateway_config());
    thread::scope(|scope| {
        let downloads = Downloads::begin(scope, &world, COUNT);
        assert_eq!(downloads.running(), COUNT, "all are running when it dies");
        gateway.kill();
        assert_eq!(files(&world).len(), 2, "a table for each worker outlives the process");
        let gateway = start_weirgate(&world, &world.gateway_config());
        let status = status(&world);
        println!("{}", gateway.log());
        assert!(memory(&status, "adopted") >= COUNT as u64, "{}", gateway.log());
        assert_eq!(memory(&status, "damaged"), 0, "{}", gateway.log());
        assert!(gateway.log().contains("flows of the earlier gateway adopted"), "{}", gateway.log());
        downloads.finish();
        let after = self::status(&world);
        let drops = after["drops"].as_object().expect("reasons").iter().filter(|(_, count)| **count != 0);
        println!("dropped since: {:?}", drops.collect::<Vec<_>>());
        let created = flows_created(&after);
        assert_eq!(created, 0, "no connection was opened again");
        assert!(matches!(gateway.stop(libc::SIGTERM), Waited::Ended(status) if status.success()));
    });
    assert_eq!(files(&world), Vec::<std::path::PathBuf>::new(), "an orderly end removes every table");
    assert!(!world.directory().join("control.sock.flows").exists());
}

/// Has a gateway carry a flow and kills it; the next one must start with `configuration` and say why it has no flows.
fn starts_empty(world: &World, prepare: impl FnOnce(&World), configuration: &str, why: &str) {
    let gateway = start_weirgate(world, &world.gateway_config());
    assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'));
    gateway.kill();
    prepare(world);
    let gateway = start_weirgate(world, configuration);
    let log = gateway.log();
    let said = log.lines().find(|line| line.contains("starting without the flows of the earlier gateway"));
    assert!(said.is_some_and(|line| line.contains(why)), "no {why:?} in\n{log}");
    assert_eq!(memory(&status(world), "adopted"), 0, "{log}");
    assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'), "it forwards all the same");
    assert_eq!(files(world).len(), 1, "the table of no use is gone");
    assert!(matches!(gateway.stop(libc::SIGTERM), Waited::Ended(status) if status.success()));
}

#[test]
fn a_gateway_that_cannot_use_the_earlier_tables_starts_empty_and_says_why() {
    let world = world(Options::default());
    let config = world.gateway_config();
    // Another version: its number is the second field of a table.
    let other_version = |world: &World| {
        let table = fs::File::options().write(true).open(&files(world)[0]).expect("a table");
        table.write_all_at(&7777_u32.to_le_bytes(), 8).expect("a table can be written");
    };
    starts_empty(&world, other_version, &config, "7777");
    let larger = config.replace("[flows]\n", "[flows]\ncapacity_v4 = 100000\n");
    starts_empty(&world, |_| (), &larger, "capacity");
    let note = |world: &World| world.directory().join("control.sock.flows");
    let garbled = |world: &World| fs::write(note(world), "no note").expect("the note can be written");
    starts_empty(&world, garbled, &config, "cannot be understood");
}

#[test]
fn detach_removes_the_tables_of_a_killed_gateway_and_spares_a_running_one_s() {
    let world = world(Options { servers: false, ..Options::default() });
    let gateway = start_weirgate(&world, &world.gateway_config());
    let socket = world.control_socket().display().to_string();
    let detach = ["detach", "--interface", "lo", "--control-socket", &socket];
    assert!(world.weirgate(build_gateway(), &detach).status.success());
    assert_eq!(files(&world).len(), 1);
    gateway.kill();
    let detached = world.weirgate(build_gateway(), &["detach", "--control-socket", &socket]);
    let said = String::from_utf8_lossy(&detached.stdout).into_owned();
    assert!(detached.status.success() && said.contains(&world.flow_tables().display().to_string()), "{detached:?}");
    assert!(files(&world).is_empty() && !world.directory().join("control.sock.flows").exists());
}

/// Echoes a numbered datagram every few milliseconds, and notes which came back.
struct Stream {
    sent: AtomicU64,
    received: Vec<AtomicBool>,
}

impl Stream {
    const EVERY: Duration = Duration::from_millis(2);

    fn new() -> Self {
        Self { sent: AtomicU64::new(0), received: (0..100_000).map(|_| AtomicBool::new(false)).collect() }
    }

    fn run(&self, world: &World, stop: &AtomicBool) {
        let socket = world.inside(Host::Client, || UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        socket.connect("192.0.2.1:30007").expect("a route");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(SeqCst) && (self.sent.load(SeqCst) as usize) < self.received.len() {
                    socket.send(&self.sent.fetch_add(1, SeqCst).to_be_bytes()).expect("nobody refuses");
                    thread::sleep(Self::EVERY);
                }
            });
            let mut quiet = 0;
            while quiet < 5 {
                let mut bytes = [0; 8];
                match socket.recv(&mut bytes) {
                    Ok(_) => self.received[u64::from_be_bytes(bytes) as usize].store(true, SeqCst),
                    Err(_) if stop.load(SeqCst) => quiet += 1,
                    Err(_) => {}
                }
            }
        });
    }

    fn lost(&self) -> Vec<u64> {
        (0..self.sent.load(SeqCst)).filter(|&number| !self.received[number as usize].load(SeqCst)).collect()
    }
}

#[test]
fn a_takeover_breaks_no_connection_and_loses_only_what_falls_into_its_gap() {
    const COUNT: usize = 100;
    let world = world(Options { queues: 2, alone: true, ..Options::default() });
    let mut old = start_weirgate(&world, &world.gateway_config());
    let (stream, stop) = (Stream::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        let downloads = Downloads::begin(scope, &world, COUNT);
        scope.spawn(|| stream.run(&world, &stop));
        thread::sleep(Duration::from_millis(500));
        let before = stream.sent.load(SeqCst);
        let began = Instant::now();
        let new = world.take_over(build_gateway(), &world.gateway_config()).unwrap_or_else(|error| panic!("{error}"));
        let after = stream.sent.load(SeqCst);
        println!("the takeover took {:?} from the command to its end", began.elapsed());
        match old.wait(Duration::from_secs(20)) {
            Waited::Ended(status) => assert!(status.success(), "{}", old.log()),
            Waited::Running => panic!("the old gateway goes on:\n{}", old.log()),
        }
        assert_eq!(downloads.running(), COUNT, "all were running");
        thread::sleep(Duration::from_millis(500));
        stop.store(true, SeqCst);
        let status = status(&world);
        assert!(memory(&status, "adopted") > COUNT as u64, "{}", new.log());
        downloads.finish();
        assert_eq!(flows_created(&self::status(&world)), 0, "no connection was opened again");

        let gap = new.log().lines().find_map(|line| line.contains("taken over").then(|| line.to_owned()));
        let lost = stream.lost();
        println!("{}", gap.expect("the log says it"));
        let span = lost.first().zip(lost.last()).map_or(0, |(first, last)| last - first + 1);
        println!(
            "lost {} datagrams sent {:?} apart, within {:?}",
            lost.len(),
            Stream::EVERY,
            Stream::EVERY * span as u32
        );
        // Datagrams in flight at either moment may be lost, too.
        let edge = 50;
        assert!(lost.iter().all(|&number| (before.saturating_sub(edge)..after + edge).contains(&number)), "{lost:?}");

        // It is a complete gateway: it can be replaced again, and cleans up at its end.
        let third = world.take_over(build_gateway(), &world.gateway_config()).unwrap_or_else(|error| panic!("{error}"));
        assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
        drop(new);
        assert!(matches!(third.stop(libc::SIGTERM), Waited::Ended(status) if status.success()));
    });
    assert!(files(&world).is_empty() && !world.control_socket().exists());
    assert_eq!(world.shell(Host::Gateway, "ip -d link").matches("prog/xdp").count(), 0);
}

#[test]
fn a_takeover_that_fails_leaves_the_running_gateway_at_work() {
    const COUNT: usize = 20;
    let world = world(Options::default());
    let mut gateway = start_weirgate(&world, &world.gateway_config());
    thread::scope(|scope| {
        let downloads = Downloads::begin(scope, &world, COUNT);
        // Refused before anything is touched.
        let larger = world.gateway_config().replace("[flows]\n", "[flows]\ncapacity_v4 = 100000\n");
        let refusal = world.take_over(build_gateway(), &larger).expect_err("flows would be lost").to_string();
        assert!(refusal.contains("the running gateway continues") && refusal.contains("capacity"), "{refusal}");
        assert!(gateway.is_running());

        // A successor that dies after the gateway has released its resources.
        let mut successor = UnixStream::connect(world.control_socket()).expect("the gateway listens");
        successor.write_all(b"\"handover\"\n").expect("it reads");
        successor.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
        let mut said = String::new();
        BufReader::new(&successor).read_line(&mut said).expect("it answers");
        assert_eq!(said, "released\n");
        drop(successor);

        downloads.finish();
        assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
        assert!(gateway.is_running() && gateway.log().contains("did not take over; going on"), "{}", gateway.log());
        assert!(memory(&status(&world), "adopted") >= COUNT as u64, "{}", gateway.log());
        assert!(matches!(gateway.stop(libc::SIGTERM), Waited::Ended(status) if status.success()));
    });
    // Nobody to take over from.
    let refusal = world.take_over(build_gateway(), &world.gateway_config()).expect_err("nobody is there").to_string();
    assert!(refusal.contains("no gateway answers on"), "{refusal}");
}
