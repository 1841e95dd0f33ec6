//! Captures, and what an independent decoder says about them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::netns::{read_or_empty, wait_until};
use crate::{Host, Process, World};

/// A running tcpdump.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
    log: PathBuf,
}

impl Capture {
    pub(crate) fn start(world: &World, host: Host, interface: &str, filter: &str) -> Self {
        let number = fs::read_dir(world.directory()).map_or(0, Iterator::count);
        let stem = world.directory().join(format!("capture-{number}-{}-{interface}", host.name()));
        let (file, log) = (stem.with_extension("pcap"), stem.with_extension("log"));
        let errors = fs::File::create(&log).expect("the world's directory is writable");
        let mut command = world.command(host, "tcpdump");
        command
            .args(["-i", interface, "-U", "-n", "-s", "0", "-B", "131072", "--immediate-mode", "-Z", "root", "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(errors);
        if !filter.is_empty() {
            command.arg(filter);
        }
        let process = Process::start(&mut command).expect("ip can be started");
        let up = wait_until(Duration::from_secs(10), || read_or_empty(&log).contains("listening on"));
        assert!(up, "tcpdump on {} {interface}: {}", host.name(), read_or_empty(&log));
        Self { process, file, log }
    }

    /// Ends the capture and returns its file.
    ///
    /// # Panics
    /// When tcpdump does not end in order, or when the kernel had to drop frames that belong in the file.
    #[must_use]
    pub fn finish(mut self) -> PathBuf {
        // The last frames may not have reached the file yet.
        std::thread::sleep(Duration::from_millis(300));
        self.process.signal(libc::SIGINT);
        self.process.wait(Duration::from_secs(10));
        let log = read_or_empty(&self.log);
        assert!(log.contains("\n0 packets dropped by kernel"), "the capture is not complete: {log}");
        self.file.clone()
    }
}

/// What tshark found when it verified all checksums of a capture, inner and outer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecksumReport {
    /// Frames in the capture.
    pub frames: usize,
    /// Frames with at least one TCP, UDP or ICMP checksum that was verified and right.
    pub verified: usize,
    /// One line for every frame with a wrong checksum.
    pub wrong: Vec<String>,
}

/// Has tshark verify every IPv4, TCP, UDP, ICMP and ICMPv6 checksum of a capture, and those inside VXLAN.
///
/// - `filter`: tshark's display filter that selects frames, such as `eth.src == 02:00:00:00:00:01`; empty for all.
///
/// # Panics
/// When tshark cannot be run.
#[must_use]
pub fn check_checksums(capture: &Path, filter: &str) -> ChecksumReport {
    // Wireshark's values of a checksum's status: 0 is bad, 1 is good, 2 unverified, 3 not present.
    const FIELDS: [&str; 5] = ["ip", "tcp", "udp", "icmp", "icmpv6"];
    let fields: Vec<String> = FIELDS.iter().map(|protocol| format!("{protocol}.checksum.status")).collect();
    let mut arguments = vec!["-Y", if filter.is_empty() { "frame" } else { filter }, "-T", "fields"];
    for field in &fields {
        arguments.extend(["-e", field]);
    }
    arguments.extend(["-e", "icmp.type", "-e", "icmpv6.type"]);
    arguments.extend(["-e", "frame.number", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info"]);
    let mut report = ChecksumReport { frames: 0, verified: 0, wrong: Vec::new() };
    for line in tshark(capture, &arguments).lines() {
        let mut columns: Vec<&str> = line.split('\t').collect();
        // An ICMP error (RFC 792, RFC 4443) quotes the beginning of a segment: not enough to verify its checksum.
        let is_error = |column: &str, errors: &[&str]| column.split(',').any(|value| errors.contains(&value));
        if is_error(columns[FIELDS.len()], &["3", "11", "12"])
            || is_error(columns[FIELDS.len() + 1], &["1", "2", "3", "4"])
        {
            columns[1] = "";
        }
        let has = |columns: &[&str], status: &str| columns.iter().any(|c| c.split(',').any(|value| value == status));
        report.frames += 1;
        report.verified += usize::from(has(&columns[1..FIELDS.len()], "1"));
        if has(&columns[..FIELDS.len()], "0") {
            report.wrong.push(line.replace('\t', " "));
        }
    }
    report
}

/// Runs tshark over a capture with checksum verification on and UDP 8472 decoded as VXLAN.
fn tshark(capture: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(capture)
        .args(["-d", "udp.port==8472,vxlan", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"])
        .args(["-o", "udp.check_checksum:TRUE"])
        .args(arguments)
        .output()
        .expect("tshark is installed");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
