//! What a running process takes of the machine's memory.

use std::fs;

/// From `/proc/PID/status` and `/proc/PID/smaps_rollup`, all in KiB.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Memory {
    /// Resident: pages that are in memory.
    pub(crate) resident: u64,
    /// Locked: pages that the process asked to stay there, which are the flow tables.
    pub(crate) locked: u64,
    /// Resident and shared: the rings' memory, which the kernel pins; `VmLck` leaves it out.
    pub(crate) shared: u64,
    /// Private memory on huge pages.
    pub(crate) huge: u64,
}

impl Memory {
    pub(crate) fn of(process: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
        let status = read("status");
        let maps = read("smaps_rollup");
        Self {
            resident: field(&status, "VmRSS:"),
            locked: field(&status, "VmLck:"),
            shared: field(&status, "RssShmem:"),
            huge: field(&maps, "AnonHugePages:"),
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
