//! A device's offloads as ethtool reports them, of a device whose offloads the test switches, in a
//! network namespace of its own. Needs root.

use std::process::Command;

use weirgate_appliance::xdp::interface::find;

use crate::namespace::{Network, ip};

fn switch(feature: &str, state: &str) {
    let output = Command::new("ethtool").args(["-K", "up0", feature, state]).output().expect("ethtool starts");
    assert!(output.status.success(), "{feature} {state}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn each_offload_is_reported_by_itself() {
    let _network = Network::new();
    ip("link add up0 type veth peer name up1");
    let port = find("up0").expect("links are reported").expect("the link is there");
    for (checksums, tags, other) in
        [("on", "on", "on"), ("off", "on", "off"), ("on", "off", "on"), ("off", "off", "on"), ("off", "on", "on")]
    {
        switch("tx", checksums);
        switch("rxvlan", tags);
        // Reported in the same reply as the tags, and not asked for.
        switch("txvlan", other);
        let reported = (port.offloads_checksums(), port.hides_vlan_tags());
        assert_eq!(reported, (checksums == "on", tags == "on"), "with txvlan {other}");
    }
    let loopback = find("lo").expect("links are reported").expect("there always is one");
    assert!(!loopback.hides_vlan_tags());
}
