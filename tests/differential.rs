//! The same packets through the kernel's own DNAT, masquerade and VXLAN, and through weirgate: what leaves is the same
//! but for chosen ports and identifiers.

mod common;

use std::collections::BTreeSet;

use common::{start_weirgate, world};
use weirgate_world::{Host, Options, World};

/// Sends the packets of `packets.py` and returns what left the gateway, a line for each distinct frame.
fn frames_of_the_gateway(world: &World) -> BTreeSet<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/packets.py");
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
    // One backend, so that both choose the same; it says what it has to say once.
    const POD: (Host, usize) = (Host::Pod(1, 0), 2);
    world.shell(POD.0, "sysctl -qw net.ipv4.tcp_synack_retries=0");
    let kernel = world.start_kernel_gateway(Some(POD.1)).unwrap_or_else(|error| panic!("{error}"));
    let expected = frames_of_the_gateway(&world);
    drop(kernel);
    assert!(expected.len() > 60, "{expected:#?}");
    let found = if common::kernel_chosen() {
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
