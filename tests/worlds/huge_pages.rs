//! Flow tables on huge pages that the administrator has reserved.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::common::{get, status, world};
use serde_json::Value;
use weirgate_world::{Gateway, Options, World, build_gateway};

const SETTING: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages beyond those that the machine had, for as long as this lives.
struct Reserved {
    before: usize,
}

impl Reserved {
    fn more(pages: usize) -> Self {
        let reserved = Self { before: Self::count() };
        fs::write(SETTING, (reserved.before + pages).to_string()).expect("root may");
        let count = Self::count();
        assert_eq!(count, reserved.before + pages, "the machine has too little contiguous memory");
        reserved
    }

    fn count() -> usize {
        fs::read_to_string(SETTING).expect("Linux has it").trim().parse().expect("a number")
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = fs::write(SETTING, self.before.to_string());
    }
}

/// The binary behind a script that mounts a hugetlbfs, and shared memory of its own. The mounts are those of the
/// namespace that `ip netns exec` makes for each process, and end with it.
fn with_mounts(world: &World) -> PathBuf {
    let file = world.directory().join("weirgate-with-mounts");
    let script = format!(
        "#!/bin/sh -e\nmount -t hugetlbfs none /mnt\nmount -t tmpfs none /dev/shm\nexec {} \"$@\"\n",
        build_gateway().display()
    );
    fs::write(&file, script).expect("the world's directory is writable");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).expect("it is ours");
    file
}

/// A gateway whose flow tables are in the default directory.
fn start(world: &World) -> Gateway {
    let config = world.gateway_config();
    let memory = format!("memory = \"{}\"\n", world.flow_tables().display());
    assert!(config.contains(&memory), "{config}");
    let config = config.replace(&memory, "capacity_v4 = 1024\ncapacity_v6 = 1024\n");
    world.start_gateway(&with_mounts(world), &config).unwrap_or_else(|error| panic!("{error}"))
}

/// What status says of the only worker's tables, after traffic.
fn tables(world: &World) -> Value {
    assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'));
    assert!(get(world, "'http://[2001:db8:1::1]:30080/'").starts_with('n'));
    status(world)["flow_memory"][0].clone()
}

/// How much memory on reserved huge pages the gateway has.
fn huge_bytes(gateway: &Gateway) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", gateway.id())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("HugetlbPages:")).expect("the kernel reports it");
    line.trim().strip_suffix(" kB").and_then(|count| count.parse::<u64>().ok()).expect("kibibytes") << 10
}

#[test]
fn flow_tables_lie_on_reserved_huge_pages_where_enough_are_free() {
    // Gateways of other worlds would take the reserved pages too.
    let world = world(Options { alone: true, ..Options::default() });
    {
        let _reserved = Reserved::more(16);
        let gateway = start(&world);
        let tables = tables(&world);
        let pages = tables["pages"].as_str().expect("a text");
        assert!(pages.starts_with("reserved huge pages of "), "{tables}\n{}", gateway.log());
        assert!(tables["file"].as_str().is_some_and(|file| !file.starts_with("/dev/shm/")), "{tables}");
        assert_eq!(tables["locked"], true);
        let bytes = tables["bytes"].as_u64().expect("a number");
        assert!(bytes > 1 << 20 && huge_bytes(&gateway) >= bytes, "{tables}, {} on huge pages", huge_bytes(&gateway));
    }
    // One page is too little for a worker's tables.
    let _reserved = Reserved::more(1);
    let gateway = start(&world);
    let tables = tables(&world);
    assert!(tables["file"].as_str().is_some_and(|file| file.starts_with("/dev/shm/weirgate/")), "{tables}");
    assert!(!tables["pages"].as_str().expect("a text").starts_with("reserved"), "{tables}");
    assert_eq!(huge_bytes(&gateway), 0);
}
