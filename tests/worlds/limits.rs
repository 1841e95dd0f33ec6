//! New flows above the configured rate.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{get, preserving, route_clients_through_the_gateway, start_weirgate, status, world};
use weirgate_world::{CLIENT_V4, Host, Options, World};

/// New flows in a second; the burst is a tenth of that.
const PER_SECOND: u64 = 10;
const CLIENTS: usize = 100;

/// Datagrams to the echo service from as many sockets at once; those that an answer came to, and in what time the
/// datagrams were sent.
fn ask_at_once(world: &World) -> (Vec<UdpSocket>, Duration) {
    // The gateway learns the client's link address first; then the limit recovers from that flow.
    assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'));
    thread::sleep(Duration::from_secs(1));
    world.inside(Host::Client, || {
        let sockets: Vec<_> = (0..CLIENTS).map(|_| UdpSocket::bind("0.0.0.0:0").expect("a socket")).collect();
        let begin = Instant::now();
        for socket in &sockets {
            socket.connect("192.0.2.1:30007").expect("a route");
            socket.send(b"hello").expect("a route");
        }
        let took = begin.elapsed();
        // All come in the first of these seconds, if they come at all.
        thread::sleep(Duration::from_secs(2));
        let is_answered = |socket: &UdpSocket| {
            socket.set_nonblocking(true).expect("a socket");
            socket.recv(&mut [0; 64]).is_ok_and(|length| length == 5)
        };
        (sockets.into_iter().filter(is_answered).collect(), took)
    })
}

/// The most flows that may open in this time; a busy machine may handle the last datagram a second later.
fn most(took: Duration) -> u64 {
    PER_SECOND / 10 + ((took.as_secs_f64() + 1.0) * PER_SECOND as f64).ceil() as u64
}

fn limited(config: &str, more: &str) -> String {
    config.replace("[flows]\n", &format!("[flows]\nnew_per_second = {PER_SECOND}\n{more}"))
}

#[test]
fn new_flows_past_the_limit_are_dropped_and_old_ones_continue() {
    let world = world(Options::default());
    let _gateway = start_weirgate(&world, &limited(&world.gateway_config(), ""));
    let (answered, took) = ask_at_once(&world);
    let count = answered.len() as u64;
    assert!((1..=most(took)).contains(&count), "{count} flows opened in {took:?}");
    let dropped = status(&world)["drops"]["new-flow-limit"].as_u64();
    assert_eq!(dropped, Some(CLIENTS as u64 - count));
    // The elapsed time allows another flow, and existing flows have no limit.
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
    let socket = &answered[0];
    socket.set_nonblocking(false).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    for _ in 0..CLIENTS {
        socket.send(b"again").expect("a route");
        assert_eq!(socket.recv(&mut [0; 64]).expect("an answer"), 5);
    }
    assert_eq!(status(&world)["drops"]["new-flow-limit"].as_u64(), dropped);
}

#[test]
fn new_traffic_past_the_limit_is_forwarded_statelessly_where_configured() {
    let world = world(Options::default());
    route_clients_through_the_gateway(&world);
    // Stateless forwarding needs one frontend in a family: the node port.
    let config: String = preserving(&world)
        .lines()
        .filter(|line| !line.starts_with("external_addresses"))
        .fold(String::new(), |config, line| config + line + "\n");
    let _gateway = start_weirgate(&world, &limited(&config, "past_limit = \"stateless\"\n"));
    let (answered, took) = ask_at_once(&world);
    let reported = status(&world);
    assert_eq!(answered.len(), CLIENTS, "sent in {took:?}: {} {}", reported["drops"], reported["counters"]);
    let count = |name: &str| reported["counters"][name].as_u64().expect("a counter");
    // One of them was opened before.
    assert!((2..=most(took) + 1).contains(&count("flows-created")), "{}", reported["counters"]);
    // Each direction is counted.
    assert!(count("forwarded-stateless") >= 2 * (CLIENTS as u64 - most(took)), "{}", reported["counters"]);
    assert_eq!(reported["drops"]["new-flow-limit"], 0);

    // Whole connections, each a SYN at once; the pods see the client itself.
    let seen = world.shell(
        Host::Client,
        "curl -sSfZ --parallel-max 50 --max-time 20 -H 'Connection: close' 'http://192.0.2.1:30080/client?[1-100]'",
    );
    assert_eq!(seen.lines().collect::<Vec<_>>(), [CLIENT_V4; 100]);
    let created = status(&world)["counters"]["flows-created"].as_u64().expect("a counter");
    assert!(created < CLIENTS as u64, "{created} flows for {} clients", 2 * CLIENTS);
}
