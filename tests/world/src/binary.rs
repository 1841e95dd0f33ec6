use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `weirgate` binary of this source tree in release mode, built if need be, or the one that `WEIRGATE` names.
///
/// # Panics
/// When it cannot be built; cargo has then printed why.
#[must_use]
pub fn build_gateway() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("WEIRGATE") {
            return PathBuf::from(named);
        }
        let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(workspace)
            .args(["build", "--release", "--package", "weirgate-appliance", "--bin", "weirgate"])
            .arg("--message-format=json-render-diagnostics")
            .stderr(std::process::Stdio::inherit())
            .output()
            .expect("cargo can be started");
        assert!(output.status.success(), "the gateway does not build");
        // One JSON object a line; that of the binary names its file.
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let file = messages.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next()).next();
        PathBuf::from(file.expect("cargo names the executable"))
    })
}
