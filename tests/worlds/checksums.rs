//! Every frame that egresses from the gateway, captured at the other ends of its links and verified by tshark.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{echo, get, learned_mtu, start, transfer, world};
use weirgate_world::{Backend, Host, Options, World, check_checksums};

/// Traffic of every kind that makes the gateway send.
fn all_kinds_of_traffic(world: &World) {
    for host in ["192.0.2.1:30080", "[2001:db8:1::1]:30080", "203.0.113.10", "[2001:db8:113::10]"] {
        for _ in 0..10 {
            assert!(get(world, &format!("http://{host}/")).starts_with('n'));
        }
    }
    transfer(world, "192.0.2.1:30080", 2);
    transfer(world, "[2001:db8:1::1]:30080", 2);
    // Odd lengths matter: the last byte is summed alone.
    echo(world, "0.0.0.0:0", "192.0.2.1:30007", (0..64).chain(1390..=1400));
    echo(world, "[::]:0", "[2001:db8:1::1]:30007", (0..64).chain(1372..=1382));
    // A datagram without checksum (RFC 768) stays without one.
    world.shell(
        Host::Client,
        "python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 11, 1) # SO_NO_CHECK
s.connect((\"192.0.2.1\", 30007)); s.settimeout(3)
for n in range(20): s.send(b\"x\" * n); assert s.recv(100) == b\"x\" * n'",
    );
    world.shell(Host::Client, "dig +tries=1 @192.0.2.1 -p 30053 A a.example; ping -c 2 -i 0.2 192.0.2.1");
    learned_mtu(world, "0.0.0.0:0", "192.0.2.1:30007", 1472);
    learned_mtu(world, "[::]:0", "[2001:db8:1::1]:30007", 1452);
    if !crate::common::kernel_chosen() {
        world.shell(
            Host::Node(0),
            "for a in 10.77.200.2 fd77:0:0:200::2; do for s in 0 1 56 57 1300; do ping -c 1 -W 2 -s $s $a; done; done",
        );
    }
}

/// Copies a capture with the last byte of its longest frame inverted.
fn corrupted(capture: &Path) -> PathBuf {
    let mut bytes = fs::read(capture).expect("a capture");
    assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_ne_bytes(), "a pcap file in native byte order");
    let (mut at, mut longest) = (24, (0, 0));
    while at < bytes.len() {
        let length = u32::from_ne_bytes(bytes[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        at += 16 + length;
        longest = longest.max((length, at - 1));
    }
    bytes[longest.1] ^= 0xff;
    let copy = capture.with_extension("corrupted.pcap");
    fs::write(&copy, bytes).expect("the world's directory is writable");
    copy
}

fn verify(options: Options) {
    let world = world(options);
    let _gateway = start(&world);
    let captures =
        [(world.capture(Host::Client, "cl0", ""), world.uplink()), (world.capture(Host::Switch, "gw0", ""), "un0")];
    all_kinds_of_traffic(&world);
    for (capture, interface) in captures {
        let file = capture.finish();
        let mac = world.shell(Host::Gateway, &format!("cat /sys/class/net/{interface}/address"));
        let from_gateway = format!("eth.src == {}", mac.trim());
        let report = check_checksums(&file, &from_gateway);
        assert_eq!(report.wrong, Vec::<String>::new(), "{interface}");
        assert!(report.verified > 1000, "{interface}: only {} of {} frames verified", report.verified, report.frames);
        // The check does detect damage: one wrong byte is one wrong frame.
        assert_eq!(check_checksums(&corrupted(&file), "").wrong.len(), 1, "{interface}");
    }
}

#[test]
fn every_frame_over_vxlan_has_right_checksums() {
    verify(Options::default());
}

#[test]
fn every_frame_over_plain_routes_has_right_checksums() {
    verify(Options { backend: Backend::HostGw, ..Options::default() });
}
