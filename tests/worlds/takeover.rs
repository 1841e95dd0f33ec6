//! Takeovers that are interrupted: one of the two processes dies or falls silent at a chosen point, and the other one
//! goes on with queues, flow tables, steering program and control socket.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{get, start_weirgate, status, world};
use weirgate_world::{Gateway, Host, Options, Process, Waited, World, build_gateway};

/// Longer than anybody waits for the other: the predecessor's patience and some tries to go on.
const LONG: Duration = Duration::from_secs(120);

/// A proxy between a gateway and its successor that decides which of their messages arrive. Only the conversation
/// goes through it: the socket that the successor replaces is the gateway's.
struct Between {
    gateway: UnixStream,
    successor: UnixStream,
}

impl Between {
    /// Starts a successor, and has it ask the gateway to let go.
    fn begin(world: &World) -> (Gateway, Self) {
        let path = world.control_socket();
        let aside = PathBuf::from(format!("{}.aside", path.display()));
        fs::rename(&path, &aside).expect("the gateway's socket");
        let listener = UnixListener::bind(&path).expect("a socket in its place");
        listener.set_nonblocking(true).expect("a socket");
        let mut process =
            world.begin_takeover(build_gateway(), &world.gateway_config()).unwrap_or_else(|error| panic!("{error}"));
        loop {
            let mut client = None;
            until("a successor that asks", &mut process, |_| {
                client = listener.accept().ok();
                client.is_some()
            });
            let (successor, _) = client.expect("a client");
            let request = line(&successor);
            if request == "\"handover\"" {
                fs::rename(&aside, &path).expect("the gateway's socket");
                let mut gateway = UnixStream::connect(&path).expect("the gateway listens");
                writeln!(gateway, "{request}").expect("it reads");
                return (process, Self { gateway, successor });
            }
            // It looks who answers here, and whether anybody listens.
            if !request.is_empty() {
                let mut gateway = UnixStream::connect(&aside).expect("the gateway listens");
                writeln!(gateway, "{request}").expect("it reads");
                gateway.set_read_timeout(Some(LONG)).expect("a timeout");
                let mut answer = Vec::new();
                gateway.read_to_end(&mut answer).expect("an answer");
                (&successor).write_all(&answer).expect("it reads");
            }
        }
    }

    /// Waits until the gateway has released its resources.
    fn let_go(&self) {
        assert_eq!(line(&self.gateway), "released");
    }

    /// Reports to the successor that the gateway has released its resources.
    fn tell_successor(&self) {
        writeln!(&self.successor, "released").expect("it reads");
    }

    /// Waits until the successor says that it forwards.
    fn succeeded(&self) {
        assert_eq!(line(&self.successor), "succeeded");
    }
}

/// What comes next, byte for byte so that nothing is read too much; empty at the end.
fn line(stream: &UnixStream) -> String {
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        match { stream }.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => line.push(byte[0]),
            Err(cause) if cause.kind() == ErrorKind::ConnectionReset => break,
            Err(cause) => panic!("nothing is said: {cause}"),
        }
    }
    String::from_utf8(line).expect("a line").trim_end().to_owned()
}

/// A download that runs for some seconds at least.
fn download(world: &World) -> Process {
    crate::common::random_file(world, "big", 30);
    let url = "http://192.0.2.1:30080/files/big";
    let curl = ["curl", "-gsSf", "--limit-rate", "5M", "-o", "/dev/null", "--max-time", "240", url];
    let download = world.spawn(Host::Client, &curl);
    thread::sleep(Duration::from_secs(1));
    download
}

fn until(what: &str, gateway: &mut Gateway, mut done: impl FnMut(&Gateway) -> bool) {
    let limit = Instant::now() + LONG;
    while !done(gateway) {
        assert!(gateway.is_running(), "{what}: it has ended:\n{}", gateway.log());
        assert!(Instant::now() < limit, "{what}:\n{}", gateway.log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whoever answers on the control socket.
/// The gateway forwards, a connection from before goes on to its end, and status is its own.
fn goes_on(world: &World, gateway: &mut Gateway, download: &mut Process) {
    assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'), "{}", gateway.log());
    assert!(get(world, "http://[2001:db8:1::1]:30080/").starts_with('n'), "{}", gateway.log());
    let before = status(world)["counters"]["steered"].as_u64().expect("a number");
    assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'));
    assert!(status(world)["counters"]["steered"].as_u64() > Some(before), "another program steers: {before}");
    assert!(gateway.is_running(), "{}", gateway.log());
    let end = download.wait(LONG);
    assert!(matches!(end, Waited::Ended(status) if status.success()), "{end:?}\n{}", gateway.log());
}

/// The gateway can be replaced: whatever it has lost by an interrupted takeover, the next one would not find.
fn can_be_replaced(world: &World, mut gateway: Gateway) {
    let next = world.take_over(build_gateway(), &world.gateway_config()).unwrap_or_else(|error| panic!("{error}"));
    let end = gateway.wait(Duration::from_secs(20));
    assert!(matches!(end, Waited::Ended(status) if status.success()), "{end:?}\n{}", gateway.log());
    assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'), "{}", next.log());
    leaves_nothing(world, next);
}

fn leaves_nothing(world: &World, gateway: Gateway) {
    let end = gateway.stop(libc::SIGTERM);
    assert!(matches!(end, Waited::Ended(status) if status.success()), "{end:?}");
    assert_eq!(world.shell(Host::Gateway, "ip -d link").matches("prog/xdp").count(), 0);
    let left = |directory: PathBuf| {
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect::<Vec<_>>()
    };
    assert_eq!(left(world.flow_tables()), [""; 0]);
    let beside: Vec<_> = left(world.directory().to_owned());
    assert!(!beside.iter().any(|name| name.starts_with("control.sock")), "{beside:?}");
}

#[test]
fn a_successor_killed_with_all_resources_returns_them_to_the_earlier_gateway() {
    let world = world(Options { queues: 2, ..Options::default() });
    let mut old = start_weirgate(&world, &world.gateway_config());
    let mut download = download(&world);
    let (successor, between) = Between::begin(&world);
    between.let_go();
    between.tell_successor();
    // It has attached its program and has its socket in place of the other's, and dies before the other hears of it.
    between.succeeded();
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'), "{}", successor.log());
    successor.kill();
    drop(between);
    until("the other died", &mut old, |old| old.log().contains("did not take over; going on"));
    goes_on(&world, &mut old, &mut download);
    can_be_replaced(&world, old);
}

#[test]
fn a_successor_that_cannot_announce_itself_gives_everything_back() {
    let world = world(Options::default());
    let mut old = start_weirgate(&world, &world.gateway_config());
    let mut download = download(&world);
    let (mut successor, between) = Between::begin(&world);
    between.let_go();
    fs::remove_file(format!("{}.starting", world.control_socket().display())).expect("its socket waits there");
    between.tell_successor();
    let end = successor.wait(LONG);
    assert!(matches!(end, Waited::Ended(status) if !status.success()), "{end:?}\n{}", successor.log());
    assert!(successor.log().contains("taken over"), "it had attached: {}", successor.log());
    drop(between);
    until("the other gave up", &mut old, |old| old.log().contains("did not take over; going on"));
    goes_on(&world, &mut old, &mut download);
    can_be_replaced(&world, old);
}

#[test]
fn a_gateway_that_dies_before_it_lets_go_is_succeeded() {
    let world = world(Options::default());
    let old = start_weirgate(&world, &world.gateway_config());
    let mut download = download(&world);
    let (mut successor, between) = Between::begin(&world);
    // What it said is lost with it.
    old.kill();
    drop(between);
    until("the other died", &mut successor, |new| new.log().contains("taken over"));
    goes_on(&world, &mut successor, &mut download);
    leaves_nothing(&world, successor);
}

#[test]
fn a_gateway_that_dies_after_it_has_let_go_is_succeeded() {
    let world = world(Options::default());
    let old = start_weirgate(&world, &world.gateway_config());
    let mut download = download(&world);
    let (mut successor, between) = Between::begin(&world);
    between.let_go();
    old.kill();
    between.tell_successor();
    // Nobody is left to receive the report of success.
    between.successor.shutdown(Shutdown::Read).expect("a connection");
    until("the other died", &mut successor, |new| new.log().contains("taken over"));
    goes_on(&world, &mut successor, &mut download);
    leaves_nothing(&world, successor);
}

#[test]
fn a_gateway_goes_on_without_a_successor_that_is_silent_and_the_successor_then_gives_up() {
    let world = world(Options::default());
    let mut old = start_weirgate(&world, &world.gateway_config());
    let mut download = download(&world);
    let (mut successor, between) = Between::begin(&world);
    between.let_go();
    let began = Instant::now();
    until("nothing was said", &mut old, |old| old.log().contains("did not take over; going on"));
    println!("the gateway went on after {:?}", began.elapsed());
    assert!(successor.is_running(), "{}", successor.log());
    // It hears too late that it may begin. Queues and tables are the other's.
    between.tell_successor();
    let end = successor.wait(LONG);
    assert!(matches!(end, Waited::Ended(status) if !status.success()), "{end:?}\n{}", successor.log());
    assert!(successor.log().contains("another process uses the flow tables"), "{}", successor.log());
    drop(between);
    goes_on(&world, &mut old, &mut download);
    can_be_replaced(&world, old);
}

#[test]
fn a_gateway_that_cannot_take_its_resources_back_says_so_and_retries() {
    let world = world(Options::default());
    let mut old = start_weirgate(&world, &world.gateway_config());
    let mut download = download(&world);
    let (successor, between) = Between::begin(&world);
    between.let_go();
    // As a process would that looks at them.
    let tables: Vec<_> =
        fs::read_dir(world.flow_tables()).expect("a directory").map(|entry| entry.expect("a table")).collect();
    let tables: Vec<_> = tables.iter().map(|table| fs::File::open(table.path()).expect("a table")).collect();
    assert!(!tables.is_empty());
    tables.iter().for_each(|table| table.try_lock().expect("nobody has it"));
    successor.kill();
    drop(between);
    until("the other died", &mut old, |old| old.log().contains("it tries again"));
    let warnings = status(&world)["warnings"].to_string();
    assert!(warnings.contains("forwards nothing") && warnings.contains("uses the flow tables"), "{warnings}");
    drop(tables);
    until("no other user of the tables", &mut old, |old| old.log().contains("did not take over; going on"));
    assert_eq!(status(&world)["warnings"], serde_json::json!([]));
    goes_on(&world, &mut old, &mut download);
    can_be_replaced(&world, old);
}

#[test]
fn a_gateway_whose_successor_has_the_queues_and_says_nothing_waits_for_it() {
    let world = world(Options::default());
    let mut old = start_weirgate(&world, &world.gateway_config());
    let mut download = download(&world);
    let (mut successor, between) = Between::begin(&world);
    between.let_go();
    between.tell_successor();
    between.succeeded();
    // The report is delayed. The other one tries to continue and cannot, and does no harm.
    until("nothing was said", &mut old, |old| old.log().contains("the other process has not said that it forwards"));
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'), "{}", successor.log());
    assert!(old.is_running(), "{}", old.log());
    writeln!(&between.gateway, "succeeded").expect("it reads");
    let end = old.wait(LONG);
    assert!(matches!(end, Waited::Ended(status) if status.success()), "{end:?}\n{}", old.log());
    drop(between);
    goes_on(&world, &mut successor, &mut download);
    leaves_nothing(&world, successor);
}
