//! A network namespace for one test, and another for the host at the far end.

use std::process::Command;

use weirgate_world::{Entered, Namespaces};

/// The namespaces `host`, which the calling thread is in until this is dropped, and `far`.
pub(crate) struct Network {
    // The order matters: a process that is still in a namespace ends with it.
    _entered: Entered,
    #[allow(dead_code, reason = "not every test has a far end")]
    pub(crate) namespaces: Namespaces,
}

impl Network {
    pub(crate) fn new() -> Self {
        let namespaces = Namespaces::new(&["host", "far"], |_| Vec::new()).unwrap_or_else(|error| panic!("{error}"));
        Self { _entered: namespaces.enter("host"), namespaces }
    }
}

pub(crate) fn ip(command: &str) {
    let output = Command::new("ip").args(command.split(' ')).output().expect("ip of iproute2 starts");
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}
