//! Deferred interrupts: with them, an interface that is busy-polled leaves the processor to the
//! process (Documentation/networking/napi.rst in the kernel).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::Interface;

/// How many times interrupts stay off after an empty poll, and for how many nanoseconds each.
const SETTINGS: [(&str, &str); 2] = [("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "200000")];

/// The interfaces' settings as they were, put back when this is dropped.
///
/// A killed process cannot put them back. So values equal to ours at the start are taken for a
/// leftover and the kernel's default, 0, is what comes back.
#[derive(Debug, Default)]
pub(crate) struct DeferredInterrupts {
    before: Vec<(PathBuf, String)>,
}

impl DeferredInterrupts {
    /// Changes the settings of this interface. Where they cannot be written, polling is only slower.
    pub(crate) fn set(&mut self, interface: &Interface) {
        let name = &interface.name;
        let Some(directory) = interface.directory() else {
            warn!(interface = name, "interrupts not deferred: sysfs does not show this network namespace");
            return;
        };
        for (setting, value) in SETTINGS {
            let path = directory.join(setting);
            match replace(&path, value) {
                Ok(before) => self.before.push((path, before)),
                Err(cause) => warn!(interface = name, setting, %cause, "interrupts not deferred"),
            }
        }
    }
}

impl Drop for DeferredInterrupts {
    fn drop(&mut self) {
        for (path, before) in self.before.drain(..).rev() {
            match fs::write(&path, &before) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %cause, "setting not restored")
                }
                _ => {}
            }
        }
    }
}

/// Gives an interface the kernel's default where it has what a killed process of ours has set; says
/// whether it had.
pub(crate) fn take_back(interface: &Interface) -> bool {
    let mut had = false;
    let Some(directory) = interface.directory() else { return had };
    for (setting, value) in SETTINGS {
        let path = directory.join(setting);
        if fs::read_to_string(&path).is_ok_and(|found| found.trim() == value) {
            match fs::write(&path, "0") {
                Ok(()) => had = true,
                Err(cause) => warn!(path = %path.display(), %cause, "setting not restored"),
            }
        }
    }
    had
}

fn replace(path: &Path, value: &str) -> io::Result<String> {
    let before = fs::read_to_string(path)?;
    fs::write(path, value)?;
    let before = before.trim();
    Ok(if before == value { "0".into() } else { before.into() })
}
