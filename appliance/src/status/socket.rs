//! The Unix socket on which the gateway answers: a client connects and gets one JSON document.

use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{error, fmt, fs};

use async_io::{Async, Timer};
use futures_lite::{AsyncWriteExt, FutureExt};
use tracing::{debug, warn};

use super::Status;

/// How long a client may take to read its answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long to leave the socket alone after it could not accept.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest answer that a client reads.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Why the control socket cannot be had, or does not answer.
#[derive(Debug)]
pub enum SocketError {
    /// A running gateway answers there.
    Live(PathBuf),
    /// Something that is no socket lies there.
    NotASocket(PathBuf),
    /// The system refuses it.
    Refused {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// Nobody answers there.
    Silent {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// What answers there is no gateway of this version.
    Strange {
        /// The path.
        path: PathBuf,
        /// What was wrong with the answer.
        cause: String,
    },
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live(path) => write!(
                f,
                "a gateway is already running with the control socket {}; stop it, or set another gateway.control_socket",
                path.display()
            ),
            Self::NotASocket(path) => write!(
                f,
                "{} is there and is no socket; remove it, or set another gateway.control_socket",
                path.display()
            ),
            Self::Refused { path, cause } => write!(
                f,
                "cannot listen on the control socket {}: {cause}; set gateway.control_socket to a path that can be written",
                path.display()
            ),
            Self::Silent { path, cause } => write!(
                f,
                "no gateway answers on {}: {cause}; start one with `weirgate run`, or name its socket with --control-socket",
                path.display()
            ),
            Self::Strange { path, cause } => write!(
                f,
                "what answers on {} is no gateway of this version ({cause}); name the gateway's socket with --control-socket",
                path.display()
            ),
        }
    }
}

impl error::Error for SocketError {}

/// Makes sure that no running gateway has this control socket. Changes nothing.
///
/// # Errors
/// [`SocketError::Live`], or that something else lies there.
pub fn refuse_live(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
        Err(_) => return Ok(()),
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Live(path.to_owned())),
        Err(cause) if matches!(cause.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        Err(cause) => Err(SocketError::Refused { path: path.to_owned(), cause }),
    }
}

/// Removes the control socket that a dead process has left, and the default one's directory if that
/// leaves it empty. Whether there was one; what a running gateway answers on stays.
///
/// # Errors
/// [`SocketError::NotASocket`], or the system's refusal.
pub fn remove_stale(path: &Path) -> Result<bool, SocketError> {
    match refuse_live(path) {
        Ok(()) => {}
        Err(SocketError::Live(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(SocketError::Refused { path: path.to_owned(), cause }),
    }
    let own = Path::new(crate::config::CONTROL_SOCKET);
    if let Some(directory) = own.parent().filter(|_| path == own) {
        let _ = fs::remove_dir(directory);
    }
    Ok(true)
}

/// The listening end. Dropping it removes the socket, and the directory if it was made for it.
#[derive(Debug)]
pub struct Server {
    listener: Async<UnixListener>,
    /// Where it lies until the gateway forwards.
    waiting: PathBuf,
    path: PathBuf,
    inode: u64,
    made: Option<PathBuf>,
}

impl Server {
    /// Makes sure of `path` for [`announce`](Self::announce): listens beside it, where nobody looks, so
    /// that whoever finds the socket finds a gateway that forwards.
    ///
    /// # Errors
    /// A running gateway there, something that is no socket, or the system's refusal.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        refuse_live(path)?;
        let refused = |cause| SocketError::Refused { path: path.to_owned(), cause };
        let directory = path.parent().filter(|directory| !directory.exists()).map(Path::to_owned);
        if let Some(directory) = &directory {
            fs::create_dir_all(directory).map_err(refused)?;
        }
        let mut waiting = path.as_os_str().to_owned();
        waiting.push(".starting");
        let waiting = PathBuf::from(waiting);
        match fs::remove_file(&waiting) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(refused(cause)),
            _ => {}
        }
        let listener = Async::<UnixListener>::bind(&waiting).map_err(refused)?;
        fs::set_permissions(&waiting, fs::Permissions::from_mode(0o600)).map_err(refused)?;
        let inode = fs::symlink_metadata(&waiting).map_err(refused)?.ino();
        Ok(Self { listener, waiting, path: path.to_owned(), inode, made: directory })
    }

    /// Puts the socket where clients look, in place of one that a dead process has left.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn announce(&self) -> Result<(), SocketError> {
        let refused = |cause| SocketError::Refused { path: self.path.clone(), cause };
        fs::rename(&self.waiting, &self.path).map_err(refused)
    }

    /// Answers whoever connects, one after another; ends only when dropped.
    pub async fn serve<T>(&self, status: impl Fn() -> Status) -> T {
        loop {
            match self.listener.accept().await {
                Ok((mut client, _)) => {
                    let answer = serde_json::to_vec(&status()).expect("status is plain data");
                    let write = async {
                        client.write_all(&answer).await?;
                        client.close().await
                    };
                    let timeout = async {
                        Timer::after(ANSWER).await;
                        Err(ErrorKind::TimedOut.into())
                    };
                    if let Err(cause) = write.or(timeout).await {
                        debug!(%cause, "a client went away without its answer");
                    }
                }
                Err(cause) => {
                    warn!(%cause, "the control socket does not accept");
                    Timer::after(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Another gateway may have its own socket there by now.
        for path in [&self.waiting, &self.path] {
            if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.ino() == self.inode) {
                let _ = fs::remove_file(path);
            }
        }
        if let Some(directory) = &self.made {
            // Only an empty one goes.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Asks the gateway behind `path`.
///
/// # Errors
/// [`SocketError::Silent`] where none answers, [`SocketError::Strange`] where something else does.
pub fn ask(path: &Path) -> Result<Status, SocketError> {
    let silent = |cause| SocketError::Silent { path: path.to_owned(), cause };
    let client = UnixStream::connect(path).map_err(silent)?;
    client.set_read_timeout(Some(ANSWER)).map_err(silent)?;
    let mut answer = String::new();
    client.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(silent)?;
    serde_json::from_str(&answer)
        .map_err(|error| SocketError::Strange { path: path.to_owned(), cause: error.to_string() })
}
