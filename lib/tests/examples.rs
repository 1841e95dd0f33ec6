//! The examples, run as they stand.

#[path = "../examples/maglev_failover.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod maglev_failover;
#[path = "../examples/nat_two_hosts.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod nat_two_hosts;
#[path = "../examples/pipeline_pcap.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod pipeline_pcap;
#[path = "../examples/vxlan_roundtrip.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod vxlan_roundtrip;

use std::error::Error;

fn output(example: impl FnOnce(&mut Vec<u8>) -> Result<(), Box<dyn Error>>) -> String {
    let mut out = Vec::new();
    example(&mut out).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(out).unwrap()
}

fn assert_lines(text: &str, lines: &[&str]) {
    let mut rest = text.lines();
    for line in lines {
        assert!(rest.any(|it| it.contains(line)), "no line with {line:?} in this order in:\n{text}");
    }
}

#[test]
fn vxlan_roundtrip() {
    let text = output(vxlan_roundtrip::tell);
    assert_lines(
        &text,
        &[
            "over IPv4: 102 bytes, 50 of them for the tunnel",
            "VXLAN     08 00 00 00 00 00 01 00",
            "the peer opens it: 38 bytes, the same: true",
            "a peer in another network refuses it: vxlan-vni",
            "over IPv6: 122 bytes, 70 of them for the tunnel",
            "the peer opens it: 38 bytes, the same: true",
        ],
    );
}

#[test]
fn nat_two_hosts() {
    let text = output(nat_two_hosts::tell);
    assert_lines(
        &text,
        &[
            "10.0.0.1:40000 > 203.0.113.9:443  is sent on as  192.0.2.1:",
            "10.0.0.2:40000 > 203.0.113.9:443  is sent on as  192.0.2.1:",
            "is for  203.0.113.9:443 > 10.0.0.1:40000  (SYN_RECV)",
            "is for  203.0.113.9:443 > 10.0.0.2:40000  (SYN_RECV)",
            "from a stranger to the same port: no flow",
            "ends nothing at once: SYN_RECV, 2 flows",
            "after a minute 2 flows are forgotten, 0 left",
        ],
    );
}

#[test]
fn maglev_failover() {
    let text = output(maglev_failover::tell);
    assert_lines(
        &text,
        &["five backends", "20.00 %", "fails", "25.00 %", "moved", "the one from before: true", "75.00 %"],
    );
    let percent = text.lines().find_map(|line| line.split_once(" moved: ")?.1.strip_suffix(" %")).unwrap();
    assert!(percent.parse::<f64>().unwrap() < 5.0, "{text}");
}

#[test]
fn pipeline_pcap() {
    let capture = pipeline_pcap::written(&pipeline_pcap::frames());
    let text = output(|out| pipeline_pcap::tell(out, &capture, ([192, 0, 2, 1], 80).into()));
    assert_lines(
        &text,
        &[
            "frame 1: 54 bytes",
            "Service(0)",
            "Selected(",
            "Translated(",
            "sent on port 1: 104 bytes",
            "frame 2",
            "ErrorSent(",
            "sent on port 0",
            "frame 3",
            "Some(Host)",
            "frame 4",
            "Answered",
            "sent on port 0",
            "frame 5",
            "dropped, not-syn: ",
            "frame 6",
            "dropped, truncated: ",
            "flows: 1",
        ],
    );
    let cut = &capture[..capture.len() - 1];
    let refused = pipeline_pcap::tell(&mut Vec::new(), cut, ([192, 0, 2, 1], 80).into()).unwrap_err();
    assert_eq!(refused.to_string(), "a frame ends early");
}
