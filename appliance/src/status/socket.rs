//! The Unix socket on which the gateway answers: a client connects, sends its request in one line of
//! JSON, and receives the answer.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{error, fmt, fs, thread};

use async_io::{Async, Timer};
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::starting::{Starting, beside};
use super::{Filter, Status};
use crate::config::CONTROL_SOCKET_BYTES_MAX;

/// How long a client may take to send its request, and to read the next piece of its answer; and how long
/// a client waits for the answer to begin.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to leave the socket alone after it could not accept.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a successor waits for the gateway to let go before it gives up.
const RELEASE: Duration = Duration::from_secs(60);
/// How long a gateway that has let go waits for its successor before it tries to continue itself. Large tables
/// take some seconds to read.
const SUCCESSION: Duration = Duration::from_secs(20);
/// How long the socket of a process that died may still accept connections, and how often it is tried.
const DYING: Duration = Duration::from_secs(1);
const DYING_RETRY: Duration = Duration::from_millis(10);
/// The longest line that a client may send.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// The longest answer that a client reads.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// The suffix of the control socket's name until the gateway forwards.
const WAITING: &str = ".starting";
/// The suffix of the second name that a gateway which has let go keeps for its socket, in case its successor
/// never forwards.
const KEPT: &str = ".kept";
/// The longest path that fits `sockaddr_un` with its closing zero (unix(7)).
const ADDRESS_BYTES_MAX: usize = 107;

const _: () = assert!(CONTROL_SOCKET_BYTES_MAX + WAITING.len() <= ADDRESS_BYTES_MAX);
const _: () = assert!(CONTROL_SOCKET_BYTES_MAX + KEPT.len() <= ADDRESS_BYTES_MAX);

/// A client's request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// The [`Status`], as one JSON document.
    Status,
    /// The flows that match the filter, each as a JSON object on a line of its own.
    Conns(Filter),
    /// To let go of the queues and flow tables for the asking process. The gateway answers `released`
    /// once it has, and ends when it receives `succeeded`. When the connection ends, or after a while
    /// of silence, it continues if it can have them again.
    Handover,
}

/// A gateway's answer when it has let go.
pub(crate) const RELEASED: &str = "released";
/// Its successor's message when it forwards.
pub(crate) const SUCCEEDED: &str = "succeeded";

/// Why the control socket cannot be used, or does not answer.
#[derive(Debug)]
pub enum SocketError {
    /// A running gateway answers there.
    Live(PathBuf),
    /// Another process is starting a gateway there, or removes what one has left.
    Starting(PathBuf),
    /// There is a file at the path that is no socket.
    NotASocket(PathBuf),
    /// The gateway's own socket is no longer at the path.
    Lost(PathBuf),
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
    /// The gateway there did not let go.
    Kept {
        /// The path.
        path: PathBuf,
        /// Its answer.
        cause: String,
    },
    /// Something answers that is no gateway of this version.
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
            Self::Starting(path) => write!(
                f,
                "another process starts a gateway with the control socket {} just now; wait until it runs and look with \
                 `weirgate status`, or set another gateway.control_socket",
                path.display()
            ),
            Self::NotASocket(path) => write!(
                f,
                "{} is there and is no socket; remove it, or set another gateway.control_socket",
                path.display()
            ),
            Self::Lost(path) => {
                write!(f, "{} is not this gateway's control socket any more; restart it", path.display())
            }
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
            Self::Kept { path, cause } => write!(
                f,
                "the gateway behind {} did not let go and continues: {cause}; stop it and start again",
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
/// [`SocketError::Live`], or that the path has another file.
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

/// Removes the control socket that a dead process has left, the remains of a killed start beside it,
/// and the default one's directory if that leaves it empty. Returns whether there was any. The socket of a
/// running gateway stays.
///
/// # Errors
/// [`SocketError::NotASocket`], [`SocketError::Starting`], or the system's refusal.
pub fn remove_stale(path: &Path) -> Result<bool, SocketError> {
    if !path.parent().is_some_and(Path::is_dir) {
        return Ok(false);
    }
    let lock = Starting::take(path)?;
    match refuse_live(path) {
        Ok(()) => {}
        Err(SocketError::Live(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    let mut is_any = false;
    for path in [path, &beside(path, WAITING), &beside(path, KEPT)] {
        is_any |= remove_dead(path)?;
    }
    drop(lock);
    remove_own_directory(path);
    Ok(is_any)
}

/// Removes the socket that a dead process has left here; returns whether there was one. A live one stays.
fn remove_dead(path: &Path) -> Result<bool, SocketError> {
    match refuse_live(path) {
        Ok(()) => {}
        Err(SocketError::Live(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(SocketError::Refused { path: path.to_owned(), cause }),
    }
}

/// Removes the default socket's directory if it is empty.
fn remove_own_directory(path: &Path) {
    let own = Path::new(crate::config::CONTROL_SOCKET);
    if let Some(directory) = own.parent().filter(|_| path == own) {
        let _ = fs::remove_dir(directory);
    }
}

/// The listening end. Dropping it removes the socket, and the directory if it was made for it.
#[derive(Debug)]
pub struct Server {
    /// Keeps others from starting, until this one runs.
    starting: Option<Starting>,
    listener: Async<UnixListener>,
    /// Its path until the gateway forwards.
    waiting: PathBuf,
    /// Its second path while a successor may replace it.
    kept: PathBuf,
    path: PathBuf,
    inode: u64,
    made: Option<PathBuf>,
}

impl Server {
    /// Makes sure of `path` for [`announce`](Self::announce): listens beside it, where nobody looks, so
    /// that whoever finds the socket finds a gateway that forwards. Until then no other process starts there.
    ///
    /// With `takeover` a gateway may run there, which [`announce`](Self::announce) replaces.
    ///
    /// # Errors
    /// A gateway that runs or starts there, something that is no socket, or the system's refusal.
    pub fn bind(path: &Path, takeover: bool) -> Result<Self, SocketError> {
        let directory = path.parent().filter(|directory| !directory.exists());
        let bound = Self::bind_in(directory, path, takeover);
        if let (Some(directory), Err(_)) = (directory, &bound) {
            // Only an empty one is removed, which this has made.
            let _ = fs::remove_dir(directory);
        }
        bound
    }

    /// Binds after making this directory.
    fn bind_in(directory: Option<&Path>, path: &Path, takeover: bool) -> Result<Self, SocketError> {
        let refused = |cause| SocketError::Refused { path: path.to_owned(), cause };
        if let Some(directory) = directory {
            fs::create_dir_all(directory).map_err(refused)?;
        }
        let starting = Starting::take(path)?;
        // With the lock, as another start may have ended just before.
        match refuse_live(path) {
            Err(SocketError::Live(_)) if takeover => {}
            result => result?,
        }
        let (waiting, kept) = (beside(path, WAITING), beside(path, KEPT));
        for left in [&waiting, &kept] {
            remove_dead(left)?;
        }
        let listener = Async::<UnixListener>::bind(&waiting).map_err(refused)?;
        fs::set_permissions(&waiting, fs::Permissions::from_mode(0o600)).map_err(refused)?;
        let inode = fs::symlink_metadata(&waiting).map_err(refused)?.ino();
        let (path, made) = (path.to_owned(), directory.map(Path::to_owned));
        Ok(Self { starting: Some(starting), listener, waiting, kept, path, inode, made })
    }

    /// Moves the socket to where clients look, replacing one that a dead process has left.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn announce(&mut self) -> Result<(), SocketError> {
        let refused = |cause| SocketError::Refused { path: self.path.clone(), cause };
        fs::rename(&self.waiting, &self.path).map_err(refused)?;
        // A process that starts now finds a gateway that runs.
        self.starting = None;
        Ok(())
    }

    /// Keeps a second name of the socket, so that [`announce_again`](Self::announce_again) finds it when a
    /// successor's has replaced it.
    ///
    /// # Errors
    /// Another socket there, or the system's refusal.
    pub fn keep(&self) -> Result<(), SocketError> {
        if !self.is_at(&self.path) {
            return Err(SocketError::Lost(self.path.clone()));
        }
        fs::hard_link(&self.path, &self.kept).map_err(|cause| SocketError::Refused { path: self.kept.clone(), cause })
    }

    /// Moves the socket back to where clients look, after [`keep`](Self::keep). Calling it again changes nothing.
    ///
    /// # Errors
    /// Another gateway that runs there by now or is about to, or the system's refusal.
    pub fn announce_again(&self) -> Result<(), SocketError> {
        let refused = |cause| SocketError::Refused { path: self.path.clone(), cause };
        // To rename one name of a socket to another of its names would do nothing (rename(2)).
        if self.is_at(&self.path) {
            return match fs::remove_file(&self.kept) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => Err(refused(cause)),
                _ => Ok(()),
            };
        }
        let _lock = Starting::take(&self.path)?;
        refuse_live(&self.path)?;
        fs::rename(&self.kept, &self.path).map_err(refused)
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.ino() == self.inode)
    }

    /// The next client that connects; ends only when dropped.
    pub async fn accept(&self) -> Client {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return Client { stream: futures_lite::io::BufReader::new(stream) },
                Err(cause) => {
                    warn!(%cause, "the control socket does not accept");
                    Timer::after(PAUSE).await;
                }
            }
        }
    }

    /// Removes the socket, so that nobody finds it any more.
    pub fn withdraw(&self) {
        for path in [&self.waiting, &self.kept] {
            self.remove_own(path);
        }
        // Another gateway may put its own there between the check and the removal, unless this one has the lock.
        // One that is starting replaces the socket in the end, or removes it when it finds it dead.
        if self.starting.is_none() {
            let lock = Starting::take(&self.path);
            if !matches!(lock, Err(SocketError::Starting(_))) {
                self.remove_own(&self.path);
            }
        }
    }

    fn remove_own(&self, path: &Path) {
        if self.is_at(path) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What a gateway that has let go learns about its successor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Successor {
    /// It forwards.
    Forwards,
    /// Nothing: it does not forward yet, or never will.
    Silent,
    /// It has given up, or died.
    Gone,
}

/// A client that has connected.
#[derive(Debug)]
pub struct Client {
    stream: futures_lite::io::BufReader<Async<UnixStream>>,
}

impl Client {
    /// The client's request.
    ///
    /// # Errors
    /// A client that sends nothing for a while, goes away, or sends something else.
    pub async fn request(&mut self) -> io::Result<Request> {
        let line = self.line(PATIENCE).await?;
        serde_json::from_str(&line).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Sends a piece of the answer.
    ///
    /// # Errors
    /// A client that has gone away, or reads nothing for a while.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within(PATIENCE, self.stream.get_mut().write_all(bytes)).await
    }

    /// Says that this process has let go, and waits for the client to take over.
    pub async fn released(&mut self) -> Successor {
        match self.send(format!("{RELEASED}\n").as_bytes()).await {
            Ok(()) => self.successor().await,
            Err(_) => Successor::Gone,
        }
    }

    /// Waits, or continues to wait, for the client to take over.
    pub async fn successor(&mut self) -> Successor {
        match self.line(SUCCESSION).await {
            Ok(line) if line == SUCCEEDED => Successor::Forwards,
            Err(cause) if cause.kind() == ErrorKind::TimedOut => Successor::Silent,
            _ => Successor::Gone,
        }
    }

    async fn line(&mut self, patience: Duration) -> io::Result<String> {
        let mut line = String::new();
        let mut limited = (&mut self.stream).take(REQUEST_BYTES_MAX);
        within(patience, limited.read_line(&mut line)).await?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.to_owned()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let timeout = async {
        Timer::after(patience).await;
        Err(ErrorKind::TimedOut.into())
    };
    work.or(timeout).await
}

impl Drop for Server {
    fn drop(&mut self) {
        self.withdraw();
        if self.starting.is_some() {
            // Left by a gateway that ended while this one had the lock.
            let _ = remove_dead(&self.path);
        }
        self.starting = None;
        // Left by a gateway that died while this one took over.
        let _ = remove_dead(&self.kept);
        if let Some(directory) = &self.made {
            // Only an empty one is removed.
            let _ = fs::remove_dir(directory);
        }
        // The successor did not make it.
        remove_own_directory(&self.path);
    }
}

/// Connects to the gateway behind `path` and sends a request; the answer is read from the result.
fn connect(path: &Path, request: &Request) -> Result<UnixStream, SocketError> {
    let silent = |cause| SocketError::Silent { path: path.to_owned(), cause };
    let mut stream = UnixStream::connect(path).map_err(silent)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
    let mut line = serde_json::to_string(request).expect("a request is plain data");
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(silent)?;
    Ok(stream)
}

/// Asks the gateway behind `path` for its status.
///
/// # Errors
/// [`SocketError::Silent`] where none answers, [`SocketError::Strange`] where something else does.
pub fn ask(path: &Path) -> Result<Status, SocketError> {
    let mut answer = String::new();
    let stream = connect(path, &Request::Status)?;
    let read = stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer);
    read.map_err(|cause| SocketError::Silent { path: path.to_owned(), cause })?;
    serde_json::from_str(&answer)
        .map_err(|error| SocketError::Strange { path: path.to_owned(), cause: error.to_string() })
}

/// Asks the gateway behind `path` for its flows, one JSON object for each line.
///
/// # Errors
/// [`SocketError::Silent`] where none answers.
pub fn ask_conns(path: &Path, filter: Filter) -> Result<impl BufRead + use<>, SocketError> {
    let stream = connect(path, &Request::Conns(filter))?;
    // A filter may match nothing for long; the gateway itself gives up on a worker that does not answer.
    stream.set_read_timeout(None).map_err(|cause| SocketError::Silent { path: path.to_owned(), cause })?;
    Ok(BufReader::with_capacity(1 << 16, stream))
}

/// The running gateway that this process is to take over from.
#[derive(Debug)]
pub struct Predecessor {
    path: PathBuf,
}

impl Predecessor {
    /// Makes sure that a gateway answers behind `path`.
    ///
    /// # Errors
    /// [`SocketError::Silent`] or [`SocketError::Strange`] where none does.
    pub fn find(path: &Path) -> Result<Self, SocketError> {
        ask(path).map(|_| Self { path: path.to_owned() })
    }

    /// Makes it let go of its queues and flow tables. It takes them back unless [success](Released::succeed)
    /// is reported. `None` where it has died meanwhile: its queues and tables are free.
    ///
    /// # Errors
    /// [`SocketError::Kept`] where it does not; it then continues.
    pub fn release(self) -> Result<Option<Released>, SocketError> {
        match self.ask_to_release() {
            Err(_) if self.is_dead() => {
                warn!("the earlier gateway ended before it let go");
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }

    fn ask_to_release(&self) -> Result<Released, SocketError> {
        let kept = |cause: String| SocketError::Kept { path: self.path.clone(), cause };
        let stream = connect(&self.path, &Request::Handover)?;
        stream.set_read_timeout(Some(RELEASE)).map_err(|cause| kept(cause.to_string()))?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        (&mut reader).take(REQUEST_BYTES_MAX).read_line(&mut line).map_err(|cause| kept(cause.to_string()))?;
        match line.trim_end() {
            RELEASED => Ok(Released { stream: reader.into_inner() }),
            "" => Err(kept("no answer".into())),
            reason => Err(kept(reason.into())),
        }
    }

    /// Whether nobody listens there any more. A dying process closes its connections and its socket one
    /// after the other.
    fn is_dead(&self) -> bool {
        let limit = Instant::now() + DYING;
        loop {
            match refuse_live(&self.path) {
                Ok(()) => return true,
                Err(_) if Instant::now() > limit => return false,
                Err(_) => thread::sleep(DYING_RETRY),
            }
        }
    }
}

/// A gateway that has let go. Dropping this makes it take everything back.
#[derive(Debug)]
pub struct Released {
    stream: UnixStream,
}

impl Released {
    /// Tells it to end.
    pub fn succeed(mut self) {
        if let Err(cause) = self.stream.write_all(format!("{SUCCEEDED}\n").as_bytes()) {
            warn!(%cause, "the earlier gateway ended before it was asked to");
        }
    }
}
