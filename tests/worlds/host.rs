//! The host's own traffic: its servers, ping and ARP work as without the gateway.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{get, start, world};
use weirgate_world::{Host, Options, World};

const LOAD_SECONDS: u64 = 10;

/// Loads the gateway as far as two cores can, and returns wrk's report.
fn full_load(world: &World, host: &str) -> String {
    world.shell(Host::Client, &format!("wrk -t1 -c32 -d{LOAD_SECONDS}s http://{host}/"))
}

/// An interactive session with a server of the host, as ssh would be: short lines, each answered before the next.
/// Returns the number of answered lines and the longest wait.
fn session(world: &World, until: &AtomicBool) -> (usize, Duration) {
    let mut client = world.inside(Host::Client, || TcpStream::connect("192.0.2.1:2222")).expect("a connection");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    client.set_nodelay(true).expect("a socket");
    let (mut lines, mut longest) = (0, Duration::ZERO);
    while !until.load(Ordering::Relaxed) {
        let line = format!("line {lines}\n");
        let begin = Instant::now();
        client.write_all(line.as_bytes()).expect("the session lives");
        let mut answer = vec![0; line.len()];
        client.read_exact(&mut answer).expect("the session lives");
        assert_eq!(answer, line.as_bytes());
        longest = longest.max(begin.elapsed());
        lines += 1;
        thread::sleep(Duration::from_millis(10));
    }
    (lines, longest)
}

#[test]
fn traffic_of_the_host_is_unaffected_under_full_load() {
    let world = world(Options { alone: true, ..Options::default() });
    let _gateway = start(&world);
    let page = world.directory().join("host.txt");
    std::fs::write(&page, "the host itself\n").expect("the world's directory is writable");
    let directory = world.directory().display().to_string();
    let mut server = world.command(Host::Gateway, "python3");
    server.args(["-m", "http.server", "--bind", "::", "--directory", &directory, "8080"]);
    let mut server =
        server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("ip");
    let listener = world.inside(Host::Gateway, || TcpListener::bind("0.0.0.0:2222")).expect("a socket");
    thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a peer");
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = peer.read(&mut buffer) {
            peer.write_all(&buffer[..length]).expect("the session lives");
        }
    });
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
    world.shell(
        Host::Client,
        "for i in 1 2 3 4 5 6 7 8 9; do curl -s http://192.0.2.1:8080/ >/dev/null && exit; sleep 0.3; done",
    );

    let over = AtomicBool::new(false);
    let (load, session, pings) = thread::scope(|scope| {
        let load = scope.spawn(|| full_load(&world, "192.0.2.1:30080"));
        let session = scope.spawn(|| session(&world, &over));
        let pings = scope.spawn(|| {
            world
                .shell(Host::Client, "ping -q -i 0.02 -c 300 -W 2 192.0.2.1; ping -q -i 0.02 -c 100 -W 2 2001:db8:1::1")
        });
        let deadline = Instant::now() + Duration::from_secs(LOAD_SECONDS - 2);
        while Instant::now() < deadline {
            assert_eq!(get(&world, "http://192.0.2.1:8080/host.txt"), "the host itself");
            assert_eq!(get(&world, "http://[2001:db8:1::1]:8080/host.txt"), "the host itself");
            // The client resolves the gateway's link address again. An entry that is being resolved stays: the kernel
            // would report the host as unreachable to the packets that wait for it.
            world.shell(
                Host::Client,
                "for f in -4 -6; do ip $f neighbour flush dev cl0 nud reachable nud stale nud delay nud probe; done",
            );
        }
        let load = load.join().expect("the load");
        over.store(true, Ordering::Relaxed);
        (load, session.join().expect("the session"), pings.join().expect("the pings"))
    });
    let _ = server.kill();
    let _ = server.wait();
    println!("{load}\n{pings}\nsession: {} lines, longest wait {:?}", session.0, session.1);
    assert_eq!(pings.matches(" 0% packet loss").count(), 2, "{pings}");
    assert!(session.0 > 100, "only {} lines were answered", session.0);
    assert!(session.1 < Duration::from_secs(1), "a line waited {:?} for its answer", session.1);
    assert!(!load.contains("Socket errors") && !load.contains("Non-2xx"), "{load}");
}
