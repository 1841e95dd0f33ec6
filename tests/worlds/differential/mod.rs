//! The same packets through the kernel's own DNAT, masquerade and VXLAN, and through weirgate. The frames that egress
//! are the same but for chosen ports and identifiers, and so are the verdicts but for a list of differences.

mod differences;

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{start_weirgate, world};
use differences::Difference;
use weirgate_world::{Host, Options, World};

/// The one backend, so that both choose the same, and its number.
const POD: (Host, usize) = (Host::Pod(1, 0), 2);

/// Sends the packets of `packets.py` and returns what left the gateway, a line for each distinct frame.
fn frames_of_the_gateway(world: &World) -> BTreeSet<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/worlds/differential/packets.py");
    let mac = |interface: &str| {
        world.shell(Host::Gateway, &format!("cat /sys/class/net/{interface}/address")).trim().to_owned()
    };
    let (uplink_mac, underlay_mac) = (mac("up0"), mac("un0"));
    let uplink = world.capture(Host::Client, "cl0", "");
    let underlay = world.capture(Host::Switch, "gw0", "");
    world.shell(Host::Client, &format!("/usr/bin/python3 {script} send cl0 {uplink_mac}"));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let (uplink, underlay) = (uplink.finish(), underlay.finish());
    let (uplink, underlay) = (uplink.display(), underlay.display());
    let lines = world.shell(
        Host::Client,
        &format!("/usr/bin/python3 {script} show {uplink} {underlay} {uplink_mac} {underlay_mac}"),
    );
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn the_kernel_and_weirgate_send_the_same_frames() {
    let world = world(Options::default());
    // The sockets that the pods answer to do not exist: the client's kernel has to keep quiet about that.
    world.shell(
        Host::Client,
        "nft add table inet quiet; nft add chain inet quiet output '{ type filter hook output priority 0; }'
         nft add rule inet quiet output tcp flags rst drop
         nft add rule inet quiet output icmp type destination-unreachable drop
         nft add rule inet quiet output icmpv6 type destination-unreachable drop
         ping -c 1 192.0.2.1; ping -c 1 2001:db8:1::1",
    );
    // It says what it has to say once.
    world.shell(POD.0, "sysctl -qw net.ipv4.tcp_synack_retries=0");
    let kernel = world.start_kernel_gateway(Some(POD.1)).unwrap_or_else(|error| panic!("{error}"));
    let expected = frames_of_the_gateway(&world);
    drop(kernel);
    assert!(expected.len() > 60, "{expected:#?}");
    let found = if crate::common::kernel_chosen() {
        let _kernel = world.start_kernel_gateway(Some(POD.1)).unwrap_or_else(|error| panic!("{error}"));
        frames_of_the_gateway(&world)
    } else {
        let _gateway = start_weirgate(&world, &world.gateway_config_for(&[POD.0]));
        frames_of_the_gateway(&world)
    };
    let missing: Vec<_> = expected.difference(&found).collect();
    let more: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && more.is_empty(), "only the kernel sends {missing:#?}\nonly weirgate sends {more:#?}");
}

/// Plays `scripts.py` in a mode and returns the outcome of each step: its verdict, and all that arrived.
fn verdicts_of_the_gateway(world: &World, mode: &str) -> BTreeMap<String, (String, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/worlds/differential/scripts.py");
    let mac = |interface: &str| {
        world.shell(Host::Gateway, &format!("cat /sys/class/net/{interface}/address")).trim().to_owned()
    };
    let output = std::process::Command::new("/usr/bin/python3")
        .args([script, &world.namespace(Host::Client), &world.namespace(Host::Switch), &mac("up0"), &mac("un0"), mode])
        .output()
        .expect("python3 is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let mut verdicts = BTreeMap::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [step, kind, all] = columns[..] else { panic!("{line}") };
        let before = verdicts.insert(step.to_owned(), (kind.to_owned(), all.to_owned()));
        assert_eq!(before, None, "two steps are called {step}");
    }
    verdicts
}

/// A world whose hosts keep quiet.
fn quiet_world() -> World {
    let world = world(Options { servers: false, ..Options::default() });
    // The scripts write and read frames in place of client and nodes, whose kernels have to keep quiet: they answer
    // neither for sockets that do not exist, nor for hops that the packets do not take.
    const QUIET: &str = "nft add table inet quiet
         for hook in forward output; do
           nft add chain inet quiet $hook \"{ type filter hook $hook priority 0; policy drop; }\"
         done
         nft add rule inet quiet output icmpv6 type '{ nd-neighbor-solicit, nd-neighbor-advert }' accept";
    for host in [Host::Client, Host::Node(0), Host::Node(1)] {
        world.shell(host, QUIET);
    }
    // What the kernel may say a second is not what is compared.
    world.shell(
        Host::Gateway,
        "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000 \
         net.ipv4.icmp_msgs_burst=100000",
    );
    world
}

/// The configuration of weirgate for these scripts.
fn configuration(world: &World) -> String {
    world.gateway_config_for(&[POD.0]) + &world.sctp_service(&[POD.0])
}

/// Compares what both have made of each step with the differences that are listed.
fn compare(
    expected: &BTreeMap<String, (String, String)>,
    found: &BTreeMap<String, (String, String)>,
    differences: &[&[Difference]],
) {
    assert!(expected.keys().eq(found.keys()), "the scripts do not depend on the gateway");
    let mut problems = Vec::new();
    for (step, kernel) in expected {
        let weirgate = &found[step];
        let listed = differences.iter().copied().flatten().find(|known| known.is_about(step));
        match listed {
            None if kernel != weirgate => problems.push(format!(
                "{step}: not listed\n  kernel   {}: {}\n  weirgate {}: {}",
                kernel.0, kernel.1, weirgate.0, weirgate.1
            )),
            Some(_) if kernel == weirgate => {
                problems.push(format!("{step}: listed, and there is no difference: {}: {}", kernel.0, kernel.1))
            }
            Some(known) if (known.kernel, known.weirgate) != (&*kernel.0, &*weirgate.0) => problems.push(format!(
                "{step}: another difference than listed\n  kernel   {}: {}\n  weirgate {}: {}",
                kernel.0, kernel.1, weirgate.0, weirgate.1
            )),
            _ => {}
        }
    }
    for known in differences.iter().copied().flatten() {
        if !expected.keys().any(|step| known.is_about(step)) {
            problems.push(format!("{:?} is listed, and no such step is played", known.steps));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_kernel_and_weirgate_decide_alike_but_for_listed_differences() {
    let world = quiet_world();
    let kernel = world.start_kernel_gateway(Some(POD.1)).unwrap_or_else(|error| panic!("{error}"));
    let expected = verdicts_of_the_gateway(&world, "clients");
    drop(kernel);
    let gateway = start_weirgate(&world, &configuration(&world));
    let found = verdicts_of_the_gateway(&world, "clients");
    drop(gateway);
    assert!(expected.len() > 800, "{expected:#?}");
    compare(&expected, &found, &[differences::COMMON, differences::CLIENTS]);
}

#[test]
fn they_decide_alike_where_sources_are_preserved() {
    let world = quiet_world();
    let preserve = "ct status dnat accept;";
    let kernel = world.start_kernel_gateway_with(Some(POD.1), preserve).unwrap_or_else(|error| panic!("{error}"));
    let expected = verdicts_of_the_gateway(&world, "preserved");
    drop(kernel);
    let preserve = "[[service]]\nclient_address = \"preserve\"\n";
    let gateway = start_weirgate(&world, &configuration(&world).replace("[[service]]\n", preserve));
    let found = verdicts_of_the_gateway(&world, "preserved");
    drop(gateway);
    assert!(expected.len() > 700, "{expected:#?}");
    compare(&expected, &found, &[differences::COMMON, differences::PRESERVED]);
}

#[test]
fn they_decide_alike_about_pods_own_traffic() {
    const OUT: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];
    let world = quiet_world();
    // The masquerade address is the kernel's own, as weirgate's is weirgate's.
    let [out_v4, out_v6] = OUT;
    world.shell(Host::Gateway, &format!("ip address add {out_v4}/32 dev lo; ip address add {out_v6}/128 dev lo nodad"));
    let masquerade = format!(
        "oifname up0 ip saddr 10.77.0.0/16 snat ip to {out_v4} fully-random;
         oifname up0 ip6 saddr fd77::/48 snat ip6 to {out_v6} fully-random;"
    );
    let kernel = world.start_kernel_gateway_with(Some(POD.1), &masquerade).unwrap_or_else(|error| panic!("{error}"));
    let expected = verdicts_of_the_gateway(&world, "pods");
    drop(kernel);
    world.shell(Host::Gateway, &format!("ip address del {out_v4}/32 dev lo; ip address del {out_v6}/128 dev lo"));
    let masquerade = format!("\n[masquerade]\naddresses = [\"{out_v4}\", \"{out_v6}\"]\n");
    let gateway = start_weirgate(&world, &(configuration(&world) + &masquerade));
    let found = verdicts_of_the_gateway(&world, "pods");
    drop(gateway);
    assert!(expected.len() > 120, "{expected:#?}");
    compare(&expected, &found, &[differences::PODS]);
}
