//! Network namespaces without names: each ends with the process that made it.
//!
//! A test starts itself again under `unshare --net`, which needs root.

#![allow(dead_code, unreachable_pub)] // Each test file uses some of it.

use std::process::{Child, Command};
use std::time::Duration;
use std::{env, fs, thread};

const INSIDE: &str = "WEIRGATE_TEST_IN_NAMESPACE";

/// Runs this test again inside a fresh namespace; returns whether this is that inner run.
pub fn inside_namespace(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .arg("--net")
        .arg(env::current_exe().expect("the test's own file is known"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux starts");
    assert!(
        output.status.success(),
        "in a fresh network namespace (this test needs root):\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

pub fn ip(command: &str) {
    let output = Command::new("ip").args(command.split(' ')).output().expect("ip of iproute2 starts");
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A second namespace, for the station at the far end. It ends with its process.
pub struct Namespace(pub Child);

impl Namespace {
    pub fn new() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().expect("unshare starts");
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        while namespace(&child.id().to_string()) == namespace("self") {
            thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }

    pub fn ip(&self, command: &str) {
        let process = self.0.id().to_string();
        let output = Command::new("nsenter")
            .args(["--net", "-t", &process, "ip"])
            .args(command.split(' '))
            .output()
            .expect("nsenter of util-linux starts");
        assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
