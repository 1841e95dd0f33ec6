//! Files that are generated from the code and committed.

use std::fs;
use std::path::Path;

/// The hash of everything that the vectors have only as a hash.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Compares a committed file with what the code says it holds, or writes it where the environment
/// has `WEIRGATE_UPDATE=1`.
///
/// # Panics
/// Where they differ.
pub(crate) fn compare(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("WEIRGATE_UPDATE").is_some_and(|value| value == "1") {
        fs::write(&file, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let committed = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
    let differs = committed.lines().zip(text.lines()).position(|(old, new)| old != new);
    let line = differs.unwrap_or(committed.lines().count().min(text.lines().count())) + 1;
    assert!(
        committed == text,
        "{path} differs from the code at line {line}: run bindings/update, and look at the change"
    );
}
