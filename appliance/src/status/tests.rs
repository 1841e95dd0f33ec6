use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use futures_lite::future;
use weirgate::counters::Counters;
use weirgate::verdict::DropReason;

use super::counters::Source;
use super::*;
use crate::config;

fn sample() -> Status {
    let counters = Counters::default();
    counters.count_drop(DropReason::NoRoute);
    Status {
        version: "0.1.0".into(),
        uptime_seconds: 3725,
        workers: 1,
        generation: 12,
        snapshot_bytes: 789_606,
        ring_bytes: 18 << 20,
        ports: vec![Port {
            interface: "up0".into(),
            state: "up".into(),
            mode: "native".into(),
            transfer: "copy".into(),
            queues: 1,
            mtu: 1500,
            mac: Some("02:00:00:00:00:01".into()),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            interrupts: Interrupts {
                deferred: true,
                wait_max_ns: 50_000,
                reason: "polling found 99 % of what came".into(),
            },
            received: Traffic { packets: 10, bytes: 1500 },
            transmitted: Traffic { packets: 9, bytes: 900 },
        }],
        peers: vec![
            Peer {
                subnet: "10.77.74.0/24".into(),
                public: "10.99.0.11".parse().unwrap(),
                backend: "vxlan".into(),
                next_hop: Some(NextHop {
                    interface: "un0".into(),
                    address: "10.99.0.1".parse().unwrap(),
                    mac: Some("02:00:00:00:00:02".into()),
                }),
            },
            Peer {
                subnet: "10.77.4.0/24".into(),
                public: "10.99.0.12".parse().unwrap(),
                backend: "host-gw".into(),
                next_hop: None,
            },
        ],
        services: vec![Service {
            name: "web".into(),
            protocol: "tcp".into(),
            frontends: vec!["192.0.2.1:30080".into(), "203.0.113.10:80".into(), "[2001:db8::1]:80".into()],
            backends: vec!["10.77.74.10:80".into()],
            original: Traffic { packets: 7, bytes: 700 },
            reply: Traffic { packets: 6, bytes: 60_000_000 },
            flows_created: 2,
        }],
        flows: vec![FlowTable { worker: 0, family: "ipv4".into(), used: 2, half_open: 1, capacity: 65_536 }],
        flow_memory: vec![FlowMemory {
            worker: 0,
            bytes: 14 << 20,
            pages: "transparent huge pages".into(),
            locked: true,
            file: Some("/dev/shm/weirgate/flows-1".into()),
            adopted: 2,
            damaged: 0,
            strayed: 0,
        }],
        warnings: Vec::new(),
        pool: vec![PoolAddress { address: "10.77.200.2".parse().unwrap(), flows: 2, capacity: 64_512 }],
        masquerade: vec![MasqueradeAddress {
            address: "198.51.100.7".parse().unwrap(),
            flows: 12,
            busiest: 7,
            capacity: 64_512,
        }],
        drops: model::drops([&counters].into_iter()),
        counters: COUNTERS.iter().map(|counter| (counter.name.into(), u64::from(counter.name == "steered"))).collect(),
        burst_times: BurstTimes {
            count: 5,
            p50_ns: 812,
            p90_ns: 21_000,
            p99_ns: 31_000,
            p999_ns: 31_000,
            max_ns: 12_000_000,
        },
    }
}

#[test]
fn the_tables_are_aligned_and_show_what_is_not_zero() {
    let expected = "\
weirgate 0.1.0, up 1 h 2 min, 1 worker, snapshot 12 of 771.1 KiB, 18.0 MiB locked for frames

PORT  STATE  XDP     RINGS  QUEUES   MTU  MAC                FRAMES IN  BYTES IN  FRAMES OUT  BYTES OUT
up0   up     native  copy        1  1500  02:00:00:00:00:01         10   1.5 KiB           9      900 B

INTERRUPTS  DEFERRED       WHY
up0         up to 50.0 µs  polling found 99 % of what came

PEER SUBNET    PUBLIC ADDRESS  BACKEND  NEXT HOP   THROUGH  MAC
10.77.74.0/24  10.99.0.11      vxlan    10.99.0.1  un0      02:00:00:00:00:02
10.77.4.0/24   10.99.0.12      host-gw  no route   none     unresolved

SERVICE  PROTOCOL  FRONTENDS                                    BACKENDS        FLOWS  PACKETS IN  BYTES IN  PACKETS OUT  BYTES OUT
web      tcp       192.0.2.1:30080, 203.0.113.10:80 and 1 more  10.77.74.10:80      2           7     700 B            6   57.2 MiB

FLOW TABLE  WORKER  USED  HALF-OPEN  CAPACITY  FILL
ipv4             0     2          1     65536   0 %

FLOW MEMORY                 SIZE  LOCKED  ADOPTED  DAMAGED  STRAYED  FILE
transparent huge pages  14.0 MiB  yes           2        0        0  /dev/shm/weirgate/flows-1

POOL ADDRESS  FLOWS  CAPACITY  FILL
10.77.200.2       2     64512   0 %

MASQUERADE ADDRESS  FLOWS  BUSIEST  CAPACITY  FILL
198.51.100.7           12        7     64512   0 %

DROPPED   FRAMES  WHY
no-route       1  No route: over the overlay to the backend, or out of a port to the client.

COUNTER  VALUE  WHAT IT COUNTS
steered      1  Frames that the steering program sent to a ring.

BURST TIMES  COUNT     p50      p90      p99    p99.9      MAX
                 5  812 ns  21.0 µs  31.0 µs  31.0 µs  12.0 ms
";
    assert_eq!(sample().tables(false), expected);
    let all = sample().tables(true);
    for reason in DropReason::ALL {
        assert!(all.contains(&format!("\n{}", reason.name())), "{} is not shown", reason.name());
    }
    for counter in COUNTERS {
        assert!(all.contains(&format!("\n{}", counter.name)), "{} is not shown", counter.name);
    }
    assert!(all.contains("[2001:db8::1]:80"), "long lists are shown");
}

/// Programs depend on these names: changing one is a break of the interface.
#[test]
fn the_json_has_these_fields() {
    let json = serde_json::to_value(sample()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&json),
        "burst_times counters drops flow_memory flows generation masquerade peers pool ports ring_bytes services snapshot_bytes \
         uptime_seconds version warnings workers"
    );
    assert_eq!(
        keys(&json["ports"][0]),
        "addresses interface interrupts mac mode mtu queues received state transfer transmitted"
    );
    assert_eq!(keys(&json["ports"][0]["interrupts"]), "deferred reason wait_max_ns");
    assert_eq!(keys(&json["ports"][0]["received"]), "bytes packets");
    assert_eq!(keys(&json["peers"][0]), "backend next_hop public subnet");
    assert_eq!(keys(&json["peers"][0]["next_hop"]), "address interface mac");
    assert_eq!(keys(&json["services"][0]), "backends flows_created frontends name original protocol reply");
    assert_eq!(keys(&json["flows"][0]), "capacity family half_open used worker");
    assert_eq!(keys(&json["pool"][0]), "address capacity flows");
    assert_eq!(keys(&json["masquerade"][0]), "address busiest capacity flows");
    assert_eq!(keys(&json["flow_memory"][0]), "adopted bytes damaged file locked pages strayed worker");
    assert_eq!(keys(&json["burst_times"]), "count max_ns p50_ns p90_ns p999_ns p99_ns");
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), sample());
}

#[test]
fn what_is_nearly_full_is_warned_of_in_status_at_once_and_in_the_log_once_a_minute() {
    let mut status = sample();
    let start = std::time::Instant::now();
    let seconds = |seconds| start + std::time::Duration::from_secs(seconds);
    let mut watch = Watch::default();
    status.flows[0].used = 58_982; // One flow less than 90 % of the capacity.
    assert!(fill::warnings(&status).is_empty() && watch.due(start, &status).is_empty());

    status.flows[0].used += 1;
    status.pool[0].flows = 60_000;
    // Many flows are no matter, many towards one endpoint are.
    status.masquerade[0].flows = 500_000;
    assert_eq!(fill::warnings(&status).len(), 2);
    status.masquerade[0].busiest = 58_061;
    let sentences = [
        "the ipv4 flow table of worker 0 has 58983 of 65536 flows; raise flows.capacity_v4",
        "pool address 10.77.200.2 has 60000 of 64512 flows; add addresses to overlay.snat_pool",
        "masquerade address 198.51.100.7 has 58061 of 64512 flows towards one remote endpoint; add addresses to \
         masquerade.addresses",
    ];
    assert_eq!(fill::warnings(&status), sentences);
    status.warnings = fill::warnings(&status);
    assert!(status.tables(false).contains(&format!("\nWARNING  {}\n", sentences.join("\nWARNING  "))));
    assert_eq!(watch.due(start, &status), sentences);
    // It goes on, moves a little, falls and rises again: the log is not flooded.
    status.flows[0].used += 100;
    assert!(watch.due(seconds(1), &status).is_empty());
    status.flows[0].used = 0;
    assert!(watch.due(seconds(2), &status).is_empty());
    status.flows[0].used = 65_536;
    assert!(watch.due(seconds(3), &status).is_empty());
    assert!(watch.due(seconds(59), &status).is_empty());
    assert_eq!(watch.due(seconds(61), &status).len(), 3);
    status.flows[0].family = "ipv6".into();
    let sentence = "the ipv6 flow table of worker 0 has 65536 of 65536 flows; raise flows.capacity_v6";
    assert_eq!(watch.due(seconds(62), &status), [sentence], "another table");
}

#[test]
fn an_address_has_room_for_every_port_towards_every_backend_of_its_family() {
    let [v4, v6] = ["10.77.200.2", "fd77:0:0:200::2"].map(|address| address.parse::<IpAddr>().unwrap());
    let backends = ["10.77.74.10", "10.77.4.10", "fd77:0:0:74::10"].map(|address| address.parse::<IpAddr>().unwrap());
    assert_eq!(fill::pool_capacity(v4, (1024, 65_535), backends.into_iter()), 2 * 64_512);
    assert_eq!(fill::pool_capacity(v6, (1024, 65_535), backends.into_iter()), 64_512);
    assert_eq!((fill::ports((2000, 2099)), fill::ports((7, 7))), (100, 1));
}

/// The names in the first column of a table of the page, which begins with a heading.
fn documented(page: &str, heading: &str) -> Vec<String> {
    let table = page.split(heading).nth(1).unwrap_or_else(|| panic!("docs/counters.md has no table {heading:?}"));
    let rows = table.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    rows.take_while(|line| line.starts_with("| `"))
        .map(|line| line.split('`').nth(1).unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn enum_page_and_status_list_the_same_counters() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/counters.md"));
    if std::env::var_os("WEIRGATE_WRITE_DOCS").is_some() {
        fs::write(path, reference()).unwrap();
    }
    let page = fs::read_to_string(path).unwrap();
    let status = sample();

    let reasons: Vec<String> = DropReason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    assert_eq!(documented(&page, "| `drops` |"), reasons);
    assert_eq!(status.drops.keys().collect::<BTreeSet<_>>(), reasons.iter().collect());

    let of_core = COUNTERS.iter().filter(|counter| matches!(counter.source, Source::Core));
    assert_eq!(
        of_core.map(|counter| counter.name).collect::<Vec<_>>(),
        Counters::default().named().map(|(name, _)| name)
    );
    let counters: Vec<String> = COUNTERS.iter().map(|counter| counter.name.to_owned()).collect();
    assert_eq!(documented(&page, "| `counters` |"), counters);
    assert_eq!(status.counters.keys().collect::<BTreeSet<_>>(), counters.iter().collect());

    assert!(page == reference(), "docs/counters.md is out of date: run this test with WEIRGATE_WRITE_DOCS=1");
}

/// A directory of the test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weirgate-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_client_gets_the_status_and_nothing_is_left_of_the_socket() {
    let directory = Directory::new("answer");
    let path = directory.0.join("run/control.sock");
    let mut server = Server::bind(&path, false).unwrap();
    server.announce().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let asked = path.clone();
    let client = std::thread::spawn(move || ask(&asked));
    let serve = async {
        let mut client = server.accept().await;
        assert_eq!(client.request().await.unwrap(), Request::Status);
        client.send(&serde_json::to_vec(&sample()).unwrap()).await.unwrap();
        drop(client);
        future::pending().await
    };
    let served = async_io::block_on(future::or(serve, async {
        while !client.is_finished() {
            async_io::Timer::after(std::time::Duration::from_millis(5)).await;
        }
        client
    }));
    assert_eq!(served.join().unwrap().unwrap(), sample());

    let refused = Server::bind(&path, false).unwrap_err().to_string();
    let expected = format!(
        "a gateway is already running with the control socket {}; stop it, or set another gateway.control_socket",
        path.display()
    );
    assert_eq!(refused, expected);
    drop(server);
    assert!(!directory.0.join("run").exists(), "socket and directory are gone");
}

#[test]
fn a_dead_process_s_socket_is_replaced_and_other_files_are_not() {
    let directory = Directory::new("stale");
    let path = directory.0.join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a closed socket leaves its file");
    let mut server = Server::bind(&path, false).unwrap();
    assert!(ask(&path).is_err(), "nobody answers before the gateway forwards");
    server.announce().unwrap();
    drop(server);
    assert!(!path.exists());

    drop(UnixListener::bind(&path).unwrap());
    assert!(remove_stale(&path).unwrap() && !path.exists());
    assert!(!remove_stale(&path).unwrap(), "there is none any more");

    fs::write(&path, "precious").unwrap();
    let refused = Server::bind(&path, false).unwrap_err().to_string();
    let expected =
        format!("{} is there and is no socket; remove it, or set another gateway.control_socket", path.display());
    assert_eq!(refused, expected);
    assert!(remove_stale(&path).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn of_starts_at_one_moment_one_wins_and_the_others_say_why_they_do_not() {
    const STARTS: usize = 4;
    let directory = Directory::new("starts");
    let path = directory.0.join("control.sock");
    let running = format!("a gateway is already running with the control socket {};", path.display());
    let starting = format!("another process starts a gateway with the control socket {} just now;", path.display());
    for round in 0..200 {
        if round % 2 == 1 {
            // What a process leaves that is killed while it starts.
            drop(UnixListener::bind(directory.0.join("control.sock.starting")).unwrap());
            fs::write(directory.0.join("control.sock.lock"), "").unwrap();
        }
        let barrier = std::sync::Barrier::new(STARTS);
        let start = || {
            barrier.wait();
            let mut server = Server::bind(&path, false)?;
            server.announce()?;
            Ok::<_, SocketError>(server)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..STARTS).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        for refusal in results.iter().filter_map(|result| result.as_ref().err()) {
            let said = refusal.to_string();
            assert!(said.starts_with(&running) || said.starts_with(&starting), "{said}");
            assert!(said.ends_with("or set another gateway.control_socket"), "{said}");
        }
        // Who finds the socket finds the one that won.
        let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let accepted = async { Some(won[0].accept().await) };
        let limit = async {
            async_io::Timer::after(std::time::Duration::from_secs(20)).await;
            None
        };
        assert!(async_io::block_on(future::or(accepted, limit)).is_some());
        drop((client, results));
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0, "nothing is left");
    }
}

#[test]
fn a_gateway_that_starts_is_neither_overtaken_nor_swept_away() {
    let directory = Directory::new("starting");
    let path = directory.0.join("control.sock");
    let mut first = Server::bind(&path, false).unwrap();
    for takeover in [false, true] {
        assert!(matches!(Server::bind(&path, takeover), Err(SocketError::Starting(at)) if at == path));
    }
    assert!(matches!(remove_stale(&path), Err(SocketError::Starting(_))));
    first.announce().unwrap();
    assert!(matches!(Server::bind(&path, false), Err(SocketError::Live(_))));
    // A successor that does not come to its end leaves the other in its place.
    drop(Server::bind(&path, true).unwrap());
    assert!(!remove_stale(&path).unwrap());
    assert!(matches!(refuse_live(&path), Err(SocketError::Live(_))));
    let mut second = Server::bind(&path, true).unwrap();
    second.announce().unwrap();
    drop(first);
    assert!(matches!(refuse_live(&path), Err(SocketError::Live(_))), "the second one's socket stays");
    drop(second);

    drop(UnixListener::bind(directory.0.join("control.sock.starting")).unwrap());
    assert!(remove_stale(&path).unwrap());
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_gateway_that_ends_while_another_takes_its_place_takes_away_only_its_own_socket() {
    let directory = Directory::new("ending");
    let path = directory.0.join("control.sock");
    let is_live = || matches!(refuse_live(&path), Err(SocketError::Live(_)));
    for round in 0..500 {
        let mut first = Server::bind(&path, false).unwrap();
        first.announce().unwrap();
        let mut second = Server::bind(&path, true).unwrap();
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                first.withdraw();
            });
            barrier.wait();
            second.announce().unwrap();
        });
        assert!(is_live(), "round {round}: nobody finds the second one");
        drop(first);
        assert!(is_live(), "round {round}: nobody finds the second one");
        drop(second);
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0, "nothing is left");
    }
    // Nor is a socket left if the other one does not come so far.
    let mut first = Server::bind(&path, false).unwrap();
    first.announce().unwrap();
    let second = Server::bind(&path, true).unwrap();
    drop(first);
    drop(second);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_start_that_is_refused_follows_no_link_and_leaves_nothing() {
    let directory = Directory::new("lock");
    let (path, precious) = (directory.0.join("control.sock"), directory.0.join("precious"));
    std::os::unix::fs::symlink(&precious, directory.0.join("control.sock.lock")).unwrap();
    let refused = Server::bind(&path, false).unwrap_err().to_string();
    assert!(refused.contains("control.sock.lock") && refused.contains("set gateway.control_socket"), "{refused}");
    assert!(!precious.exists());

    // A start that is refused leaves no directory that it has made.
    let endless = directory.0.join("run").join("x".repeat(200));
    assert!(matches!(Server::bind(&endless, false), Err(SocketError::Refused { .. })));
    assert!(!directory.0.join("run").exists());
}

/// What a successor leaves that dies when it has put its socket in place of the other's.
fn announce_and_die(path: &Path) {
    let mut waiting = path.as_os_str().to_owned();
    waiting.push(".starting");
    drop(UnixListener::bind(&waiting).unwrap());
    fs::rename(&waiting, path).unwrap();
}

#[test]
fn a_gateway_that_has_let_go_finds_its_socket_again_and_a_dead_successor_s_goes() {
    let directory = Directory::new("kept");
    let path = directory.0.join("control.sock");
    let names = || {
        let entries = fs::read_dir(&directory.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let leave = || {
        for left in ["control.sock.starting", "control.sock.kept"] {
            drop(UnixListener::bind(directory.0.join(left)).unwrap());
        }
    };
    let inode = || fs::metadata(&path).unwrap().ino();
    let mut server = Server::bind(&path, false).unwrap();
    server.announce().unwrap();
    let own = inode();

    // A successor that gave up before it came so far, and one that died when it had announced itself.
    server.keep().unwrap();
    server.announce_again().unwrap();
    assert_eq!((inode(), names()), (own, vec!["control.sock".to_owned()]));
    server.keep().unwrap();
    announce_and_die(&path);
    assert_ne!(inode(), own);
    for _ in 0..2 {
        server.announce_again().unwrap();
        assert_eq!((inode(), names()), (own, vec!["control.sock".to_owned()]));
    }
    // One that lives stays where it is, and while one starts nobody comes before it.
    server.keep().unwrap();
    let mut successor = Server::bind(&path, true).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(server.announce_again(), Err(SocketError::Starting(_))));
    successor.announce().unwrap();
    assert!(matches!(server.announce_again(), Err(SocketError::Live(_))));
    drop(successor);
    server.announce_again().unwrap();
    assert_eq!((inode(), names()), (own, vec!["control.sock".to_owned()]));

    // What dead ones left beside it goes at the next start, and by hand.
    leave();
    drop(Server::bind(&path, true).unwrap());
    assert_eq!(names(), ["control.sock"]);
    // Without a socket to keep nothing is handed over.
    fs::remove_file(&path).unwrap();
    assert!(matches!(server.keep(), Err(SocketError::Lost(_))));
    drop(server);
    assert_eq!(names(), [""; 0]);
    leave();
    assert!(remove_stale(&path).unwrap());
    assert_eq!(names(), [""; 0]);
}

#[test]
fn a_path_that_check_takes_is_one_that_a_gateway_can_start_and_hand_over_on() {
    let directory = Directory::new("long");
    let fixed = directory.0.as_os_str().len() + 1;
    let is_taken = |path: &Path| {
        let file = format!("[gateway]\ncontrol_socket = \"{}\"\n", path.display());
        let refused = config::check("w.toml", &file).unwrap_err();
        refused.errors.iter().all(|error| error.field != "gateway.control_socket")
    };
    let of_bytes = |bytes: usize| directory.0.join("x".repeat(bytes.checked_sub(fixed).expect("a short directory")));
    let path = (fixed + 1..200).map(of_bytes).take_while(|path| is_taken(path)).last().expect("a path is taken");
    assert_eq!(path.as_os_str().len(), config::CONTROL_SOCKET_BYTES_MAX);

    let mut server = Server::bind(&path, false).unwrap();
    server.announce().unwrap();
    server.keep().unwrap();
    // One that gives up, and one that dies.
    drop(Server::bind(&path, true).unwrap());
    announce_and_die(&path);
    server.announce_again().unwrap();
    drop(server);
    assert!(!remove_stale(&path).unwrap());
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0, "nothing is left");
}

#[test]
fn no_gateway_is_one_sentence() {
    let error = ask(Path::new("/nonexistent/control.sock")).unwrap_err().to_string();
    assert_eq!(
        error,
        "no gateway answers on /nonexistent/control.sock: No such file or directory (os error 2); start one with \
         `weirgate run`, or name its socket with --control-socket"
    );
}
