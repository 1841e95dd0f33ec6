//! The test world itself, with the kernel as gateway: what the other tests stand on.

use std::process::Command;

use weirgate_world::{Host, Options, World, check_checksums};

fn curl(world: &World, url: &str) -> String {
    world.shell(Host::Client, &format!("curl -gsS --max-time 5 {url}"))
}

#[test]
fn the_kernel_gateway_forwards_to_every_pod_with_right_checksums() {
    let world = World::new(Options::default()).expect("a world");
    let uplink = world.capture(Host::Client, "cl0", "");
    let underlay = world.capture(Host::Switch, "gw0", "");
    for (index, name) in ["n1a", "n1b", "n2a", "n2b"].iter().enumerate() {
        let _kernel = world.start_kernel_gateway(Some(index)).expect("a kernel gateway");
        assert_eq!(curl(&world, "http://192.0.2.1:30080/"), format!("{name}\n"));
        assert_eq!(curl(&world, "http://[2001:db8:1::1]:30080/"), format!("{name}\n"));
        let answer = world.shell(Host::Client, "dig +short +tries=1 @192.0.2.1 -p 30053 TXT who.example");
        assert_eq!(answer, format!("\"{name}\"\n"));
    }
    for capture in [uplink.finish(), underlay.finish()] {
        let report = check_checksums(&capture, "");
        assert_eq!(report.wrong, Vec::<String>::new());
        assert!(report.verified > 50, "{report:?}");
    }
}

#[test]
fn a_world_leaves_nothing_behind() {
    let world = World::new(Options { servers: false, ..Options::default() }).expect("a world");
    let directory = world.directory().to_owned();
    let prefix = world.namespace(Host::Client).replace("client", "");
    let _sleeper = world.spawn(Host::Client, &["sleep", "1000"]);
    drop(world);
    assert!(!directory.exists());
    let namespaces = Command::new("ip").args(["netns", "list"]).output().expect("ip").stdout;
    let namespaces = String::from_utf8_lossy(&namespaces);
    assert!(!namespaces.contains(&prefix), "{namespaces}");
}
