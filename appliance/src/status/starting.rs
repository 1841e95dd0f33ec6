//! One start at a time for each control socket: a lock beside it, held until the socket is at its path.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::SocketError;

/// The lock (flock(2)), which ends with the process in any case. Dropping it removes its file.
#[derive(Debug)]
pub(super) struct Starting {
    path: PathBuf,
    file: File,
}

impl Starting {
    /// Takes the lock of this control socket, whose directory must be there.
    ///
    /// # Errors
    /// [`SocketError::Starting`] where another process has it, or the system's refusal.
    pub(super) fn take(socket: &Path) -> Result<Self, SocketError> {
        let path = beside(socket, ".lock");
        let refused = |cause: io::Error| SocketError::Refused {
            path: socket.to_owned(),
            cause: io::Error::new(cause.kind(), format!("its lock {}: {cause}", path.display())),
        };
        loop {
            let mut options = File::options();
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            options.create(true).truncate(false).write(true).mode(0o600).custom_flags(flags);
            let file = options.open(&path).map_err(refused)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(SocketError::Starting(socket.to_owned())),
                Err(TryLockError::Error(cause)) => return Err(refused(cause)),
            }
            // Its holder may have removed it between opening and locking; another file is another lock.
            if is_at(&file, &path).map_err(refused)? {
                return Ok(Self { path, file });
            }
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // It is unlocked after that, when the file is closed.
        if is_at(&self.file, &self.path).is_ok_and(|is_there| is_there) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether this file is the one at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) => file.metadata().map(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// The path of a file beside the control socket.
pub(super) fn beside(socket: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(socket);
    path.push(ending);
    path.into()
}
