//! Ends of the gateway, wanted and unwanted.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::{assert_host_state, frames, get, host_state, random_file, start_weirgate, status, world};
use weirgate_world::{Host, Options, Process, Waited, World, build_gateway};

/// Resets that the gateway's addresses send.
const RESETS: &str =
    "(src host 192.0.2.1 and tcp[13] & 4 != 0) or (ip6 proto 6 and src host 2001:db8:1::1 and ip6[53] & 4 != 0)";

/// Any reset and any FIN, whoever sends it.
const ANY_END: &str = "tcp[13] & 5 != 0 or (ip6 proto 6 and ip6[53] & 5 != 0)";

/// The resets of a capture that end a connection. One that comes after its sender's FIN ends none: late segments of a
/// connection that is over are answered so, and on a busy machine one worker's frames may be late.
fn resets_of_open_connections(world: &World, capture: &Path) -> Vec<String> {
    let print = format!("tcpdump -nn -r {} '(tcp or ip6 proto 6) and not src port 1' 2>/dev/null", capture.display());
    let mut over = BTreeSet::new();
    let mut resets = Vec::new();
    for line in world.shell(Host::Client, &print).lines() {
        let Some((_, packet)) = line.split_once(" IP") else { continue };
        let (endpoints, rest) = packet.split_once(": Flags [").expect("a TCP segment");
        let flags = rest.split(']').next().unwrap_or_default();
        let is_clients =
            endpoints.split(" > ").next().is_some_and(|from| from.contains("192.0.2.10.") || from.contains("::10."));
        if flags.contains('F') {
            over.insert(endpoints.to_owned());
        } else if flags.contains('R') && !is_clients && !over.contains(endpoints) {
            resets.push(line.to_owned());
        }
    }
    resets
}

fn curl_exit_code(world: &World, url: &str) -> Option<i32> {
    world.run(Host::Client, &["curl", "-gsS", "-o", "/dev/null", "--max-time", "2", url]).status.code()
}

fn programs(world: &World) -> usize {
    world.shell(Host::Gateway, "ip -d link").matches("prog/xdp").count()
}

/// How many frames the workers have handed to each other.
fn handed_over(world: &World) -> u64 {
    status(world)["counters"]["handovers"].as_u64().expect("a number")
}

#[test]
fn a_killed_gateway_resets_nobody_and_the_next_one_takes_over() {
    kill_and_replace(&world(Options::default()));
}

#[test]
fn two_workers_killed_while_frames_cross_between_them_reset_nobody() {
    kill_and_replace(&world(Options { queues: 2, ..Options::default() }));
}

fn kill_and_replace(world: &World) {
    let gateway = start_weirgate(world, &world.gateway_config());
    random_file(world, "big", 200);
    assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'));
    // All of the transfers would be more than a capture takes.
    let at_client = world.capture(Host::Client, "cl0", &format!("{ANY_END} or icmp or icmp6"));
    let what_the_kernel_gets = || {
        [
            world.capture(Host::Gateway, "up0", "port 30080 or port 30007 or port 30053"),
            world.capture(Host::Gateway, "un0", "udp port 8472"),
        ]
    };
    let to_kernel = what_the_kernel_gets();

    // Transfers of both families are running when it dies.
    let mut transfers: Vec<Process> = ["192.0.2.1", "[2001:db8:1::1]"]
        .iter()
        .map(|host| {
            let url = format!("http://{host}:30080/files/big");
            world.spawn(Host::Client, &["curl", "-gsSf", "--limit-rate", "20M", "-o", "/dev/null", &url])
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    if world.options().queues > 1 {
        // Replies come in on a queue that the outer header's hash chooses, so some belong to the other worker: with
        // this many connections all but certainly.
        let ten = "curl -sS --max-time 10 -H 'Connection: close' 'http://192.0.2.1:30080/?[1-10]'";
        world.shell(Host::Client, ten);
        let before = handed_over(world);
        assert!(before > 0, "no frame crossed");
        world.shell(Host::Client, ten);
        assert!(handed_over(world) > before);
    }
    gateway.kill();

    // While nobody forwards, nobody answers either: requests time out (curl's 28), they are not refused (7).
    const TIMED_OUT: Option<i32> = Some(28);
    assert_eq!(curl_exit_code(world, "http://192.0.2.1:30080/"), TIMED_OUT);
    assert_eq!(curl_exit_code(world, "http://[2001:db8:1::1]:30080/"), TIMED_OUT);
    world.inside(Host::Client, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect("192.0.2.1:30007").expect("a route");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
        socket.send(b"anybody there?").expect("no error was received before");
        assert_eq!(socket.recv(&mut [0; 64]).expect_err("nobody is there").kind(), ErrorKind::WouldBlock);
    });

    let gateway = start_weirgate(world, &world.gateway_config());
    for _ in 0..20 {
        assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'));
        assert!(get(world, "http://[2001:db8:1::1]:30080/").starts_with('n'));
    }
    // The old transfers try again after a while, and go on to their end.
    for transfer in &mut transfers {
        let end = transfer.wait(Duration::from_secs(120));
        assert!(matches!(end, Waited::Ended(status) if status.success()), "{end:?}");
    }

    for capture in to_kernel {
        let file = capture.finish();
        assert_eq!(frames(world, &file, ""), 0, "the host's kernel saw the gateway's traffic in {}", file.display());
    }
    // The capture can see a reset: a closed port of the host sends one.
    assert_eq!(curl_exit_code(world, "http://192.0.2.1:1/"), Some(7));
    let file = at_client.finish();
    assert_eq!(resets_of_open_connections(world, &file), Vec::<String>::new());
    assert_eq!(frames(world, &file, &format!("({RESETS}) and src port 1")), 1);
    assert_eq!(
        frames(world, &file, "(icmp[0] == 3 and icmp[1] == 3) or (icmp6 and ip6[40] == 1)"),
        0,
        "no port is unreachable"
    );

    // Such captures can see what the kernel gets: without a gateway it gets a request and a tunnelled frame.
    assert!(matches!(gateway.stop(libc::SIGTERM), Waited::Ended(_)));
    let to_kernel = what_the_kernel_gets();
    assert_eq!(curl_exit_code(world, "http://192.0.2.1:30080/"), Some(7));
    world.inside(Host::Node(0), || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.send_to(b"as good as a frame", "10.99.0.50:8472").expect("a route");
    });
    for capture in to_kernel {
        let file = capture.finish();
        assert!(frames(world, &file, "") > 0, "{} shows nothing at all", file.display());
    }
}

/// `napi_defer_hard_irqs` and `gro_flush_timeout` of an interface.
fn interrupt_settings(world: &World, interface: &str) -> String {
    let script = format!("cd /sys/class/net/{interface}; echo $(cat napi_defer_hard_irqs gro_flush_timeout)");
    world.shell(Host::Gateway, &script).trim().to_owned()
}

/// Sets them as weirgate does on up0, and as nobody but an administrator would on un0.
fn set_interrupts(world: &World) {
    world.shell(
        Host::Gateway,
        "cd /sys/class/net; echo 2 > up0/napi_defer_hard_irqs; echo 50000 > up0/gro_flush_timeout
         echo 1 > un0/napi_defer_hard_irqs; echo 20000 > un0/gro_flush_timeout",
    );
}

#[test]
fn status_reports_interrupt_settings_and_those_of_a_killed_gateway_are_reset() {
    let world = world(Options::default());
    let gateway = start_weirgate(&world, &world.gateway_config());
    get(&world, "http://192.0.2.1:30080/");
    // Twice as long as the workers take to report, and the control side to decide.
    thread::sleep(Duration::from_secs(4));
    for port in status(&world)["ports"].as_array().expect("a list") {
        let name = port["interface"].as_str().expect("a name");
        let reported = &port["interrupts"];
        let is_deferred = interrupt_settings(&world, name) == "2 50000";
        assert!(is_deferred || interrupt_settings(&world, name) == "0 0", "{name} {reported}");
        assert_eq!(reported["deferred"], is_deferred, "{name} {reported}");
        assert_eq!(reported["wait_max_ns"], if is_deferred { 50_000 } else { 0 }, "{name} {reported}");
        // Whether a veth device can be polled depends on the kernel's version.
        let reason = reported["reason"].as_str().expect("a sentence");
        assert!(is_deferred || reason.contains("NAPI id"), "{name} {reported}");
    }
    gateway.kill();
    set_interrupts(&world);
    let gateway = start_weirgate(&world, &world.gateway_config());
    assert_eq!([interrupt_settings(&world, "up0"), interrupt_settings(&world, "un0")], ["0 0", "1 20000"]);
    gateway.kill();
    set_interrupts(&world);
    let socket = world.control_socket().display().to_string();
    let detached = world.weirgate(build_gateway(), &["detach", "--control-socket", &socket]);
    assert!(detached.status.success(), "{detached:?}");
    assert_eq!([interrupt_settings(&world, "up0"), interrupt_settings(&world, "un0")], ["0 0", "1 20000"]);
}

#[test]
fn an_orderly_end_restores_the_host() {
    let world = world(Options::default());
    let before = host_state(&world);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let gateway = start_weirgate(&world, &world.gateway_config());
        assert_eq!(programs(&world), 2, "{}", gateway.log());
        assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
        match gateway.stop(signal) {
            Waited::Ended(status) => assert!(status.success(), "{status}"),
            Waited::Running => panic!("signal {signal} did not end it"),
        }
        assert_host_state(&world, &before, &format!("after signal {signal}"));
        assert!(!world.control_socket().exists());
    }
}

#[test]
fn a_hangup_is_answered_in_the_log_and_changes_nothing() {
    let world = world(Options::default());
    let mut gateway = start_weirgate(&world, &world.gateway_config());
    for said in 1..=2 {
        // SAFETY: kill has no memory preconditions; the process is ours.
        assert_eq!(unsafe { libc::kill(gateway.id().cast_signed(), libc::SIGHUP) }, 0);
        let lines = || gateway.log().lines().filter(|line| line.contains("SIGHUP")).count();
        for _ in 0..100 {
            if lines() == said {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(lines(), said, "{}", gateway.log());
    }
    assert!(gateway.log().contains("read at the start only"), "{}", gateway.log());
    assert!(gateway.is_running(), "{}", gateway.log());
    assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
    assert_eq!(programs(&world), 2);
}

#[test]
fn detach_removes_what_a_killed_gateway_left() {
    let world = world(Options::default());
    let before = host_state(&world);
    start_weirgate(&world, &world.gateway_config()).kill();
    assert_eq!(programs(&world), 2);
    let socket = world.control_socket();
    assert!(socket.exists(), "a killed process cannot remove its socket");
    let socket = socket.display().to_string();
    let detached = world.weirgate(build_gateway(), &["detach", "--control-socket", &socket]);
    let said = String::from_utf8_lossy(&detached.stdout).into_owned();
    assert!(detached.status.success(), "{detached:?}");
    assert!(said.contains("up0") && said.contains("un0"), "it says what it removed: {said}");
    assert!(said.contains(&socket) && !world.control_socket().exists(), "the socket goes, too: {said}");
    assert_eq!(programs(&world), 0);
    assert_host_state(&world, &before, &said);
    // Nothing is left to remove, and that is no failure.
    assert!(world.weirgate(build_gateway(), &["detach"]).status.success());
}

#[test]
fn status_reports_what_was_forwarded_as_text_and_json() {
    let world = world(Options::default());
    let _gateway = start_weirgate(&world, &world.gateway_config());
    for _ in 0..40 {
        assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
    }
    let socket = world.control_socket().display().to_string();
    let people = world.weirgate(build_gateway(), &["status", "--control-socket", &socket]);
    assert!(people.status.success(), "{people:?}");
    let people = String::from_utf8_lossy(&people.stdout).into_owned();
    for word in ["up0", "un0", "10.77.74.0/24", "web", "echo"] {
        assert!(people.contains(word), "no {word} in\n{people}");
    }
    let status = status(&world);
    let web = status["services"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "web"));
    let web = web.expect("the service web");
    assert_eq!(web["flows_created"], 40, "{web}");
    // A connection with one request takes each side at least four packets.
    for direction in ["original", "reply"] {
        assert!(web[direction]["packets"].as_u64() >= Some(160), "{web}");
    }
    let peers = status["peers"].as_array().expect("peers");
    assert_eq!(peers.len(), 4);
    // Those that the requests went to; the kernel may still be asking for the others.
    let used = peers.iter().filter(|peer| peer["public"].as_str().is_some_and(|public| public.contains('.')));
    assert_eq!(used.filter(|peer| peer["next_hop"]["mac"].is_string()).count(), 2, "{peers:?}");
    // A reader that stops early is no reason to panic.
    let mut child = Command::new("ip")
        .args(["netns", "exec", &world.namespace(Host::Gateway)])
        .arg(build_gateway())
        .args(["status", "--control-socket", &socket])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ip");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("an end");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
}
