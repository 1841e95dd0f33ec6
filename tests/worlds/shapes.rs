//! The test world itself, with the kernel as gateway: what the other tests stand on.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{get, world};
use weirgate_world::{Host, Options, check_checksums};

#[test]
fn the_kernel_gateway_forwards_to_every_pod_with_right_checksums() {
    let world = world(Options::default());
    let uplink = world.capture(Host::Client, "cl0", "");
    let underlay = world.capture(Host::Switch, "gw0", "");
    for (index, name) in ["n1a", "n1b", "n2a", "n2b"].iter().enumerate() {
        let _kernel = world.start_kernel_gateway(Some(index)).expect("a kernel gateway");
        assert_eq!(get(&world, "http://192.0.2.1:30080/"), *name);
        assert_eq!(get(&world, "http://[2001:db8:1::1]:30080/"), *name);
        let answer = world.shell(Host::Client, "dig +short +tries=1 @192.0.2.1 -p 30053 TXT who.example");
        assert_eq!(answer, format!("\"{name}\"\n"));
    }
    for capture in [uplink.finish(), underlay.finish()] {
        let report = check_checksums(&capture, "");
        assert_eq!(report.wrong, Vec::<String>::new());
        assert!(report.verified > 50, "{report:?}");
    }
}

/// The namespaces of the world that `client` belongs to.
fn namespaces_of(client: &str) -> Vec<String> {
    let listed = Command::new("ip").args(["netns", "list"]).output().expect("ip").stdout;
    let prefix = client.trim_end_matches("client");
    String::from_utf8_lossy(&listed).lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

#[test]
fn a_world_leaves_nothing_behind() {
    let world = world(Options { servers: false, ..Options::default() });
    let directory = world.directory().to_owned();
    let client = world.namespace(Host::Client);
    let _sleeper = world.spawn(Host::Client, &["sleep", "1000"]);
    assert_eq!(namespaces_of(&client).len(), Host::all().len());
    drop(world);
    assert!(!directory.exists());
    assert_eq!(namespaces_of(&client), Vec::<String>::new());
}

#[test]
fn a_killed_process_leaves_no_world_behind() {
    const HOLD: &str = "WEIRGATE_TEST_HOLDS_A_WORLD";
    const NAME: &str = "shapes::a_killed_process_leaves_no_world_behind";
    if std::env::var_os(HOLD).is_some() {
        // This is the process that will be killed.
        let world = world(Options { servers: false, ..Options::default() });
        println!("\nclient={}", world.namespace(Host::Client));
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut holder = Command::new(std::env::current_exe().expect("this test has a file"))
        .args([NAME, "--exact", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test can be started");
    let output = BufReader::new(holder.stdout.take().expect("a pipe"));
    let client = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("client=").map(str::to_owned))
        .expect("it names its world");
    assert_eq!(namespaces_of(&client).len(), Host::all().len());
    holder.kill().expect("it runs");
    holder.wait().expect("it ends");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !namespaces_of(&client).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", namespaces_of(&client));
        std::thread::sleep(Duration::from_millis(50));
    }
}
