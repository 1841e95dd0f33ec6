//! The house rule on dependencies between rooms: an arrow that is not listed here is a design change.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Each package with the packages of this workspace that it may build on.
const ARROWS: &[(&str, &[&str])] = &[
    ("lib", &[]),
    ("appliance", &["weirgate"]),
    ("bindings/c", &["weirgate"]),
    ("tests/fixture", &["weirgate"]),
    ("tests/world", &[]),
];

/// What `lib` may build on at all: small crates without `std` and without allocation.
const CORE_MAY_USE: &[&str] = &["ipnet", "zerocopy"];

fn dependencies(package: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    ["dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|section| section.keys().cloned())
        .collect()
}

#[test]
fn rooms_know_only_the_rooms_they_may() {
    for (package, allowed) in ARROWS {
        let ours: BTreeSet<String> =
            dependencies(package).into_iter().filter(|name| name.starts_with("weirgate")).collect();
        let allowed: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        assert!(ours.is_subset(&allowed), "{package} depends on {ours:?}; only {allowed:?} are its neighbours");
    }
}

#[test]
fn the_core_builds_on_small_crates_only() {
    let allowed: BTreeSet<String> = CORE_MAY_USE.iter().map(ToString::to_string).collect();
    let used = dependencies("lib");
    assert!(used.is_subset(&allowed), "lib depends on {used:?}; only {allowed:?} are agreed");
}
