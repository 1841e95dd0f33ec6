//! Segment sizes and codepoints, with real connections.

use crate::common::{frames, get, kernel_chosen, start_weirgate, transfer, world};
use weirgate_world::{Host, Options, World};

/// Drops errors about the MTU, as many firewalls do.
fn lose_errors(world: &World) {
    let rules = "nft add table inet lost
         nft add chain inet lost in '{ type filter hook input priority 0; }'
         nft add rule inet lost in icmp type destination-unreachable icmp code frag-needed drop
         nft add rule inet lost in icmpv6 type packet-too-big drop";
    for host in Host::pods().into_iter().chain([Host::Client]) {
        world.shell(host, rules);
    }
}

#[test]
fn rfc9293_s3_7_1_connections_do_without_errors_where_segment_sizes_are_lowered() {
    if kernel_chosen() {
        return;
    }
    let world = world(Options::default());
    lose_errors(&world);
    let policy = "\n[policy]\nmss = \"auto\"\ndscp = 46\nouter_dscp = \"copy\"\n";
    let _gateway = start_weirgate(&world, &(world.gateway_config() + policy));
    let capture = world.capture(Host::Switch, "gw0", "udp port 8472");
    for host in ["192.0.2.1:30080", "[2001:db8:1::1]:30080"] {
        assert!(!get(&world, host).is_empty());
        transfer(&world, host, 5);
    }
    let capture = capture.finish();
    // The inner SYN's maximum segment size is what the overlay takes: 1450 and 1430 bytes of packet.
    let text = world.shell(
        Host::Client,
        &format!(
            "tcpdump -nnv -T vxlan -r {} 2>/dev/null | grep -o 'Flags \\[S[.]*\\].*mss [0-9]*'",
            capture.display()
        ),
    );
    let sizes: std::collections::BTreeSet<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    // Towards pods both are lowered; what pods announce is smaller already, or lowered towards the client.
    assert!(sizes.contains("1410") && sizes.contains("1370"), "{text}");
    assert!(!text.lines().any(|line| line.contains("[S]") && line.ends_with("mss 1460")), "{text}");
    // Towards pods every packet is marked inside and outside, and from pods none.
    let from_gateway = "ip src host 10.99.0.50";
    assert!(frames(&world, &capture, from_gateway) > 20);
    assert_eq!(frames(&world, &capture, &format!("{from_gateway} and ip[1] & 0xfc != 0xb8")), 0);
    assert_eq!(frames(&world, &capture, &format!("{from_gateway} and ip[51] & 0xfc != 0xb8")), 0);
    let from_nodes = "ip dst host 10.99.0.50";
    assert!(frames(&world, &capture, from_nodes) > 10);
    assert_eq!(frames(&world, &capture, &format!("{from_nodes} and ip[51] & 0xfc != 0")), 0);
}
