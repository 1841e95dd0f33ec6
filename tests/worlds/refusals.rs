//! When the gateway cannot start it says why in a sentence, exits with a failure and does not change the host.

use std::fs;

use crate::common::{assert_host_state, get, host_state, start_weirgate, world};
use weirgate_world::{Host, Options, World, build_gateway};

/// Runs the gateway behind `wrapper`, expects a refusal, and returns the sentence.
fn refused(world: &World, configuration: &str, wrapper: &[&str]) -> String {
    let file = world.directory().join("refused.toml");
    fs::write(&file, configuration).expect("the world's directory is writable");
    let (binary, file) = (build_gateway().display().to_string(), file.display().to_string());
    let before = host_state(world);
    let mut command = vec!["timeout", "--signal=KILL", "15"];
    command.extend(wrapper);
    command.extend([binary.as_str(), "run", "--config", &file]);
    let output = world.run(Host::Gateway, &command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1..=125)), "{}: {said}", output.status);
    assert_host_state(world, &before, &said);
    assert!(!said.contains("panicked"), "{said}");
    let sentence = said.lines().last().unwrap_or_default().to_owned();
    println!("{sentence}");
    sentence
}

#[test]
fn what_is_missing_is_named_and_the_host_stays_as_it_was() {
    let world = world(Options { servers: false, ..Options::default() });
    let configuration = world.gateway_config();

    let sentence = refused(&world, &configuration.replace("\"up0\"", "\"nope0\""), &[]);
    assert!(sentence.contains("nope0"), "{sentence}");

    let powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let sentence = refused(&world, &configuration, &powerless);
    assert!(sentence.contains("CAP_NET_ADMIN") || sentence.contains("root"), "{sentence}");

    // Without CAP_IPC_LOCK packet memory counts against the limit; without CAP_SYS_RESOURCE it cannot be raised.
    let tight = ["setpriv", "--bounding-set=-ipc_lock,-sys_resource", "prlimit", "--memlock=65536:65536"];
    let sentence = refused(&world, &configuration, &tight);
    assert!(sentence.contains("lock"), "{sentence}");

    world.shell(Host::Client, "ip link set cl0 mtu 9000");
    world.shell(Host::Gateway, "ip link set up0 mtu 9000");
    let sentence = refused(&world, &configuration, &[]);
    assert!(sentence.contains("up0") && sentence.contains("9000"), "{sentence}");
}

/// The ids of the steering programs of uplink and underlay.
fn programs(world: &World) -> Vec<String> {
    let links = world.shell(Host::Gateway, "ip -d link");
    let lines = links.lines().filter_map(|line| line.trim().strip_prefix("prog/xdp id "));
    lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn a_failed_start_does_not_replace_the_killed_gateways_steering_program() {
    let world = world(Options { servers: false, ..Options::default() });
    let configuration = world.gateway_config();
    let socket = world.control_socket().display().to_string();
    let nowhere = configuration.replace(&socket, "/proc/nowhere/weirgate.sock");
    // Where something is mounted at the socket's path, the socket can be made beside it but not moved there.
    let mounted = "python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $0.other; \
                   touch $0; mount --bind $0.other $0; \"$@\"; status=$?; umount $0; rm -f $0 $0.other; exit $status";
    let late = ["unshare", "--mount", "sh", "-c", mounted, &socket];

    assert_eq!(programs(&world).len(), 0);
    for sentence in [refused(&world, &nowhere, &[]), refused(&world, &configuration, &late)] {
        assert!(sentence.contains("control socket") && sentence.contains("gateway.control_socket"), "{sentence}");
    }
    assert_eq!(programs(&world).len(), 0);

    start_weirgate(&world, &configuration).kill();
    let before = programs(&world);
    assert_eq!(before.len(), 2);
    let sentence = refused(&world, &nowhere, &[]);
    assert!(sentence.contains("/proc/nowhere/weirgate.sock"), "{sentence}");
    assert_eq!(programs(&world), before);
    // The killed gateway's deferred interrupts are reset; the rest stays.
    world.shell(
        Host::Gateway,
        "cd /sys/class/net; for i in up0 un0; do echo 0 > $i/napi_defer_hard_irqs; echo 0 > $i/gro_flush_timeout; done",
    );
    std::fs::remove_file(world.control_socket()).expect("the killed gateway's socket");
    let sentence = refused(&world, &configuration, &late);
    assert!(sentence.contains("cannot listen on the control socket"), "{sentence}");
    assert_eq!(programs(&world), before);

    // And the next one takes over from the killed one.
    let next = start_weirgate(&world, &configuration);
    assert!(next.log().contains("replaced=true"), "{}", next.log());
    assert_ne!(programs(&world), before);
}

#[test]
fn a_second_gateway_on_the_same_queue_is_refused_and_the_first_goes_on() {
    let world = world(Options::default());
    let mut first = start_weirgate(&world, &world.gateway_config());
    let socket = world.control_socket().display().to_string();
    let second = world.gateway_config().replace(&socket, &format!("{socket}.second"));
    let sentence = refused(&world, &second, &[]);
    assert!(sentence.contains("up0") || sentence.contains("un0"), "{sentence}");
    // With the same control socket as well.
    refused(&world, &world.gateway_config(), &[]);
    assert!(first.is_running(), "{}", first.log());
    for _ in 0..10 {
        assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
    }
}
