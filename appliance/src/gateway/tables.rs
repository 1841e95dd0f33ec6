//! The workers' flow tables on this host: files of memory that outlive the process, so that the next
//! one goes on with their flows.
//!
//! Beside the control socket lies a note of which files those are, written once all tables are whole.
//! Without it a gateway starts without flows. What the tables themselves say of their layout, capacity and
//! owner comes on top ([`Worker::check`](weirgate::pipeline::Worker::check)).

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{error, fmt, thread};

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use crate::worker::{FileSystem, Memory, effective_user};
use crate::xdp::sys::boot_time;

/// Where the tables lie where no huge pages are reserved, unless the configuration says otherwise.
const SHARED_MEMORY: &str = "/dev/shm";
/// The directory made in a file system of memory.
const DIRECTORY: &str = "weirgate";
/// How long a table is waited for that a dying process still has, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(5);
/// The note's own version.
const NOTE_VERSION: u32 = 1;

/// What is written beside the control socket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Note {
    version: u32,
    /// The kernel's boot that the tables' times belong to.
    boot: String,
    /// The flows that each table has room for.
    flows_v4: u32,
    flows_v6: u32,
    /// By worker; none where the memory was the process's alone.
    tables: Vec<Option<PathBuf>>,
}

/// Why the flow tables cannot be had.
#[derive(Debug)]
pub enum TablesError {
    /// Another process has them.
    InUse(PathBuf),
    /// The directory of the configuration does not take them.
    Refused {
        /// The directory or file.
        path: PathBuf,
        /// How many bytes a worker's tables take.
        bytes: usize,
        /// The system's answer.
        cause: io::Error,
    },
    /// There is no memory for them at all.
    Memory {
        /// How many bytes a worker's tables take.
        bytes: usize,
        /// The system's answer.
        cause: io::Error,
    },
}

impl fmt::Display for TablesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "another process uses the flow tables in {}; stop it, or set another gateway.control_socket",
                path.display()
            ),
            Self::Refused { path, bytes, cause } => write!(
                f,
                "cannot keep {bytes} bytes of flow tables in {}: {cause}; set flows.memory to a directory in a tmpfs or \
                 hugetlbfs with that much room",
                path.display()
            ),
            Self::Memory { bytes, cause } => write!(
                f,
                "no memory for {bytes} bytes of flow tables: {cause}; set smaller flows.capacity_v4 and flows.capacity_v6"
            ),
        }
    }
}

impl error::Error for TablesError {}

/// What a gateway's tables must be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted<'c> {
    /// The gateway's control socket, beside which the note lies.
    pub(super) control_socket: &'c Path,
    /// Where the configuration wants the tables.
    pub(super) directory: Option<&'c Path>,
    /// How many workers there are.
    pub(super) workers: usize,
    /// The flows that each table is to have room for.
    pub(super) flows: [u32; 2],
}

/// The tables of a gateway that starts or runs. Dropping it removes what it has made, unless the gateway
/// has [settled](Self::settle).
#[derive(Debug)]
pub(super) struct Tables {
    note: PathBuf,
    next: Note,
    directory: Option<PathBuf>,
    /// What an earlier process left, where that can be adopted.
    earlier: Option<Note>,
    /// Why a process before this one left nothing to adopt, where there was one.
    unusable: Option<String>,
    made: Vec<PathBuf>,
    is_settled: bool,
}

/// One worker's memory.
#[derive(Debug)]
pub(super) struct Mapped {
    /// The memory, all zero unless `is_adopted`.
    pub(super) memory: Memory,
    /// Whether an earlier process's tables may be in it.
    pub(super) is_adopted: bool,
    /// The file; `None` where the memory ends with the process.
    pub(super) path: Option<PathBuf>,
}

impl Tables {
    /// Looks at what an earlier process has left. Changes nothing.
    #[must_use]
    pub(super) fn look(wanted: &Wanted<'_>) -> Self {
        let note = note_path(wanted.control_socket);
        let next = Note {
            version: NOTE_VERSION,
            boot: boot_id(),
            flows_v4: wanted.flows[0],
            flows_v6: wanted.flows[1],
            tables: Vec::new(),
        };
        let (earlier, unusable) = match read(&note) {
            Ok(None) => (None, None),
            Ok(Some(earlier)) => match obstacle(&earlier, &next, wanted.workers) {
                None => (Some(earlier), None),
                Some(reason) => (None, Some(reason)),
            },
            Err(reason) => (None, Some(reason)),
        };
        let directory = wanted.directory.map(Path::to_owned);
        Self { note, next, directory, earlier, unusable, made: Vec::new(), is_settled: false }
    }

    /// Why what an earlier process left cannot be adopted, where there is anything.
    #[must_use]
    pub(super) fn unusable(&self) -> Option<&str> {
        self.unusable.as_deref()
    }

    /// Why a takeover would begin without flows, where it would.
    #[must_use]
    pub(super) fn obstacle_to_takeover(&self) -> Option<String> {
        let is_whole = self.earlier.as_ref().is_some_and(|earlier| earlier.tables.iter().all(Option::is_some));
        let own = || (!is_whole).then(|| "its flow tables are in memory of its own".to_owned());
        self.unusable.clone().or_else(own)
    }

    /// Maps the memory of the next worker, of `bytes`: the earlier process's where there is one, otherwise
    /// a new file's, or as the last resort memory of this process alone.
    ///
    /// # Errors
    /// Another process that uses the tables, or no room.
    pub(super) fn map(&mut self, bytes: usize) -> Result<Mapped, TablesError> {
        let worker = self.next.tables.len();
        if let Some(path) = self.earlier.as_ref().and_then(|earlier| earlier.tables.get(worker)?.clone()) {
            match open_locked(&path) {
                Ok(Some(file)) => {
                    let memory = Memory::of_file(file, bytes).map_err(|cause| TablesError::Refused {
                        path: path.clone(),
                        bytes,
                        cause,
                    })?;
                    self.next.tables.push(Some(path.clone()));
                    return Ok(Mapped { memory, is_adopted: true, path: Some(path) });
                }
                Ok(None) => warn!(worker, path = %path.display(), "the flow table of an earlier process is gone"),
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Err(TablesError::InUse(path)),
                Err(cause) => return Err(TablesError::Refused { path, bytes, cause }),
            }
        }
        let places = match &self.directory {
            Some(directory) => vec![directory.clone()],
            None => default_directories(),
        };
        let mut refusal = None;
        for directory in places {
            match self.make(&directory, worker, bytes) {
                Ok(mapped) => return Ok(mapped),
                Err(cause) => {
                    debug!(directory = %directory.display(), %cause, "no flow tables here");
                    refusal = Some((directory, cause));
                }
            }
        }
        if let (Some(_), Some((path, cause))) = (&self.directory, refusal) {
            return Err(TablesError::Refused { path, bytes, cause });
        }
        warn!(worker, "no file for the flow table: its connections will end with this process");
        let memory = Memory::new(bytes).map_err(|cause| TablesError::Memory { bytes, cause })?;
        self.next.tables.push(None);
        Ok(Mapped { memory, is_adopted: false, path: None })
    }

    /// Makes a new file in `directory` and maps it.
    fn make(&mut self, directory: &Path, worker: usize, bytes: usize) -> io::Result<Mapped> {
        let is_new = !directory.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(format!("{}{worker}-{:x}", self.prefix(), boot_time().0));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let mapped = file.try_lock().map_err(io::Error::from).and_then(|()| {
            ours_alone(directory, &file)?;
            if FileSystem::of(&file)? == FileSystem::Other {
                warn!(path = %path.display(), "flow tables lie on a disk, which slows it; set flows.memory to a tmpfs");
            }
            Memory::of_file(file, bytes)
        });
        match mapped {
            Ok(memory) => {
                self.made.push(path.clone());
                self.next.tables.push(Some(path.clone()));
                Ok(Mapped { memory, is_adopted: false, path: Some(path) })
            }
            Err(cause) => {
                let _ = fs::remove_file(&path);
                if is_new {
                    let _ = fs::remove_dir(directory);
                }
                Err(cause)
            }
        }
    }

    /// Notes that all tables are whole, for the next process, and removes those of earlier ones that are
    /// of no use any more.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
        let text = serde_json::to_vec_pretty(&self.next).expect("a note is plain data");
        let mut waiting = self.note.as_os_str().to_owned();
        waiting.push(".new");
        let written = fs::write(&waiting, text).and_then(|()| fs::rename(&waiting, &self.note));
        if let Err(cause) = written {
            let _ = fs::remove_file(&waiting);
            warn!(path = %self.note.display(), %cause, "flow tables not noted: they will end with this process");
        }
        let keep = &self.next.tables;
        for path in self.siblings() {
            if !keep.iter().flatten().any(|kept| *kept == path) && remove_unused(&path) {
                info!(path = %path.display(), "removed a flow table of an earlier process");
            }
        }
    }

    /// Removes note and tables, at an orderly end. The workers must have ended.
    pub(super) fn remove(self) {
        if let Err(cause) = remove_note(&self.note) {
            warn!(path = %self.note.display(), %cause, "not removed");
        }
        for path in self.next.tables.iter().flatten() {
            if let Err(cause) = remove(path) {
                warn!(path = %path.display(), %cause, "not removed");
            }
        }
    }

    /// What this gateway's files begin with: two gateways have different ones, as their control sockets
    /// differ.
    fn prefix(&self) -> String {
        prefix(&self.note)
    }

    /// This gateway's files, of whatever process, wherever tables may lie.
    fn siblings(&self) -> Vec<PathBuf> {
        let places = self.directory.clone().into_iter().chain(default_directories());
        files_of(&self.prefix(), places)
    }
}

fn remove_note(note: &Path) -> io::Result<()> {
    match fs::remove_file(note) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        if !self.is_settled {
            for path in &self.made {
                let _ = remove(path);
            }
        }
    }
}

/// Removes the tables that a dead gateway with this control socket has left, and their note; says which
/// files those were. What a running process uses stays.
///
/// # Errors
/// The first refusal of the system's, with its path.
pub fn remove_stale(control_socket: &Path) -> Result<Vec<PathBuf>, TablesError> {
    let note = note_path(control_socket);
    let tables: Vec<PathBuf> = match read(&note) {
        Ok(Some(note)) => note.tables.into_iter().flatten().collect(),
        _ => Vec::new(),
    };
    let places = tables.iter().filter_map(|path| path.parent()).map(Path::to_owned);
    let mut all = files_of(&prefix(&note), places.chain(default_directories()));
    all.extend(tables);
    all.sort();
    all.dedup();
    let is_used = all.iter().any(|path| matches!(lock_once(path), Err(cause) if cause.kind() == ErrorKind::WouldBlock));
    if is_used {
        return Ok(Vec::new());
    }
    let mut removed = Vec::new();
    for path in std::iter::once(note).chain(all) {
        match remove(&path) {
            Ok(()) => removed.push(path),
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => return Err(TablesError::Refused { path, bytes: 0, cause }),
        }
    }
    Ok(removed)
}

/// Why these tables cannot be adopted, where they cannot; what the tables themselves say comes on top.
fn obstacle(earlier: &Note, next: &Note, workers: usize) -> Option<String> {
    if earlier.version != next.version {
        return Some(format!("the earlier gateway's note is of version {}, not {}", earlier.version, next.version));
    }
    if earlier.boot != next.boot {
        return Some("the host has been booted since".to_owned());
    }
    if earlier.tables.len() != workers {
        let before = earlier.tables.len();
        return Some(format!(
            "there were {before} workers and now are {workers}, which share the ports in another way"
        ));
    }
    let capacity = |note: &Note| (note.flows_v4, note.flows_v6);
    if capacity(earlier) != capacity(next) {
        let ((v4, v6), (now_v4, now_v6)) = (capacity(earlier), capacity(next));
        return Some(format!("the capacity was {v4} (IPv4) and {v6} (IPv6) flows and now is {now_v4} and {now_v6}"));
    }
    None
}

fn note_path(control_socket: &Path) -> PathBuf {
    let mut path = OsString::from(control_socket.as_os_str());
    path.push(".flows");
    path.into()
}

/// FNV-1a: what is hashed is an operator's own path, not anything that a packet chooses.
fn prefix(note: &Path) -> String {
    let bytes = note.as_os_str().as_encoded_bytes().iter();
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("flows-{hash:016x}-")
}

fn read(note: &Path) -> Result<Option<Note>, String> {
    match fs::read(note) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| format!("{} cannot be understood: {error}", note.display())),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(format!("{} cannot be read: {cause}", note.display())),
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Where tables lie by default, best first: on reserved huge pages, and in shared memory.
fn default_directories() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let huge = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        (kind == "hugetlbfs").then(|| Path::new(path).join(DIRECTORY))
    });
    huge.chain([Path::new(SHARED_MEMORY).join(DIRECTORY)]).collect()
}

/// The files in these directories whose names begin so.
fn files_of(prefix: &str, directories: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let entries = directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).map(|entry| entry.path()).collect()
}

/// Opens a table and locks it against other processes; waits a moment for one that is being ended.
/// `None` where there is no such file.
fn open_locked(path: &Path) -> io::Result<Option<File>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lock_once(path) {
            Err(cause) if cause.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => thread::sleep(RETRY),
            result => return result,
        }
    }
}

fn lock_once(path: &Path) -> io::Result<Option<File>> {
    let file = match File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => ErrorKind::WouldBlock.into(),
        TryLockError::Error(cause) => cause,
    })?;
    ours_alone(path.parent().unwrap_or(path), &file)?;
    // Between opening and locking it the one who had it may have removed it.
    let is_there = fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino()));
    Ok(is_there.then_some(file))
}

/// Makes sure that nobody else can have put this file here, or put another in its place: shared memory is
/// anybody's, and flows are adopted from it.
fn ours_alone(directory: &Path, file: &File) -> io::Result<()> {
    const OTHERS_ANY: u32 = 0o077;
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let (file, directory) = (file.metadata()?, fs::symlink_metadata(directory)?);
    let us = effective_user();
    let is_safe = directory.is_dir()
        && directory.uid() == us
        && file.uid() == us
        && (directory.mode() & OTHERS_WRITE == 0 || directory.mode() & STICKY != 0)
        && file.mode() & OTHERS_ANY == 0;
    if is_safe { Ok(()) } else { Err(io::Error::new(ErrorKind::PermissionDenied, "others may write there")) }
}

/// Removes a table that no process uses; says whether it did.
fn remove_unused(path: &Path) -> bool {
    matches!(lock_once(path), Ok(Some(_lock)) if remove(path).is_ok())
}

/// Removes a file, and its directory if it was made for tables and is empty now.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    if let Some(directory) = path.parent().filter(|parent| default_directories().iter().any(|own| own == parent)) {
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
