//! The workers' flow tables on this host: memory-backed files that outlive the process, so that the next
//! one continues their flows.
//!
//! Beside the control socket lies a [note](note::Note) of which files those are, written once all tables are whole.
//! Without it a gateway starts without flows. Until then a waiting note says where files are being made, so that
//! those of a process that is killed meanwhile are found and removed. The tables themselves record their layout,
//! capacity and owner, which is checked as well ([`Worker::check`](weirgate::pipeline::Worker::check)).

mod note;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{error, fmt, thread};

use tracing::{debug, info, warn};

use self::note::{Note, Place, Unread};
use crate::worker::{FileSystem, Memory, effective_user};
use crate::xdp::sys::boot_time;

/// The default directory of the tables where no huge pages are reserved.
const SHARED_MEMORY: &str = "/dev/shm";
/// The directory to create in a file system of memory.
const DIRECTORY: &str = "weirgate";
/// How long to wait for a table that a dying process still locks, and how often to check.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(5);

/// Why the flow tables cannot be had.
#[derive(Debug)]
pub enum TablesError {
    /// Another process has them.
    InUse(PathBuf),
    /// The configured directory cannot hold them.
    Refused {
        /// The directory or file.
        path: PathBuf,
        /// How many bytes a worker's tables take.
        bytes: usize,
        /// The system's answer.
        cause: io::Error,
    },
    /// What a dead process has left cannot be removed.
    Stays {
        /// The file.
        path: PathBuf,
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
            Self::Stays { path, cause } => write!(f, "cannot remove {}: {cause}; remove it by hand", path.display()),
            Self::Memory { bytes, cause } => write!(
                f,
                "no memory for {bytes} bytes of flow tables: {cause}; set smaller flows.capacity_v4 and flows.capacity_v6"
            ),
        }
    }
}

impl error::Error for TablesError {}

/// The required properties of a gateway's tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted<'c> {
    /// The gateway's control socket, beside which the note lies.
    pub(super) control_socket: &'c Path,
    /// Where the configuration wants the tables.
    pub(super) directory: Option<&'c Path>,
    /// How many workers there are.
    pub(super) workers: usize,
    /// The capacity of each table, in flows.
    pub(super) flows: [u32; 2],
}

/// The tables of a gateway that starts or runs. Dropping it removes what it has made, unless the gateway
/// has [settled](Self::settle).
#[derive(Debug)]
pub(super) struct Tables {
    place: Place,
    next: Note,
    directory: Option<PathBuf>,
    /// What an earlier process left, where that can be adopted.
    earlier: Option<Note>,
    /// Why an earlier process left nothing to adopt, if there was one.
    unusable: Option<String>,
    waiting: Waiting,
    made: Vec<PathBuf>,
    is_settled: bool,
}

/// The note of tables that are not whole yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    None,
    /// An earlier process's note exists, or one with at least its content.
    Earlier,
    /// This process has made it.
    Own,
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
        let place = Place::beside(wanted.control_socket);
        let mut next = Note::new(wanted.flows);
        let [whole, waiting] = place.read();
        // Even if the flows are not adopted, their files are not to stay.
        next.places = directories([&whole, &waiting]);
        if let Err(unread) = &waiting {
            warn!("{}", unread.reason());
        }
        let (earlier, unusable) = match whole {
            Ok(None) => (None, None),
            Ok(Some(earlier)) => match next.obstacle(&earlier, wanted.workers) {
                None => (Some(earlier), None),
                Some(reason) => (None, Some(reason)),
            },
            Err(unread) => (None, Some(unread.reason().to_owned())),
        };
        let waiting = if matches!(waiting, Ok(None)) { Waiting::None } else { Waiting::Earlier };
        let directory = wanted.directory.map(Path::to_owned);
        Self { place, next, directory, earlier, unusable, waiting, made: Vec::new(), is_settled: false }
    }

    /// Why an earlier process's tables cannot be adopted, if there are any.
    #[must_use]
    pub(super) fn unusable(&self) -> Option<&str> {
        self.unusable.as_deref()
    }

    /// Why a takeover would begin without flows, if so.
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
        let path = self.place.table(directory, worker, boot_time().0);
        if !self.next.places.iter().any(|place| place == directory) {
            self.next.places.push(directory.to_owned());
            // Before there is any file to find.
            if let Err(cause) = self.place.write_waiting(&self.next) {
                debug!(path = %self.place.waiting.display(), %cause, "not noted");
            } else if self.waiting == Waiting::None {
                self.waiting = Waiting::Own;
            }
        }
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

    /// Notes for the next process that all tables are whole, and removes those of earlier ones that are
    /// no longer useful.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
        let places = self.next.places.drain(..).chain(self.directory.clone()).chain(default_directories());
        let mut useless = tables_in(&self.place, places);
        useless.retain(|path| !self.next.tables.iter().flatten().any(|kept| kept == path));
        // If this process does not remove them, the next one does.
        self.next.places = useless.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
        self.next.places.dedup();
        if let Err(cause) = self.place.write(&self.next) {
            let path = self.place.note.display();
            warn!(%path, %cause, "flow tables not noted: they will end with this process");
        }
        for path in useless {
            match remove_unused(&path) {
                Ok(true) => info!(path = %path.display(), "removed a flow table of an earlier process"),
                Ok(false) => {}
                Err(cause) => warn!(path = %path.display(), %cause, "a flow table of an earlier process stays"),
            }
        }
    }

    /// Removes note and tables, at an orderly end. The workers must have ended.
    pub(super) fn remove(self) {
        if let Err(cause) = note::remove(&self.place.note) {
            warn!(path = %self.place.note.display(), %cause, "not removed");
        }
        for path in self.next.tables.iter().flatten() {
            if let Err(cause) = remove(path) {
                warn!(path = %path.display(), %cause, "not removed");
            }
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        for path in &self.made {
            let _ = remove(path);
        }
        if self.waiting == Waiting::Own {
            let _ = note::remove(&self.place.waiting);
        }
    }
}

/// Removes the tables that a dead gateway with this control socket has left, and their notes; returns the
/// files. Tables in use stay, and so do files that others may have put there, which are logged.
///
/// # Errors
/// The first refusal of the system's, with its path.
pub fn remove_stale(control_socket: &Path) -> Result<Vec<PathBuf>, TablesError> {
    let place = Place::beside(control_socket);
    let notes = place.read();
    for unread in notes.iter().filter_map(|note| note.as_ref().err()) {
        warn!("{}", unread.reason());
    }
    let all = tables_in(&place, directories(notes.each_ref()).into_iter().chain(default_directories()));
    let is_used = all.iter().any(|path| matches!(lock_once(path), Err(cause) if cause.kind() == ErrorKind::WouldBlock));
    if is_used {
        return Ok(Vec::new());
    }
    let mut removed = Vec::new();
    // Tables first: if this is interrupted, the notes still say where the others lie.
    for path in all {
        match remove_unused(&path) {
            Ok(true) => removed.push(path),
            Ok(false) => {}
            Err(cause) if cause.kind() == ErrorKind::PermissionDenied => {
                warn!(path = %path.display(), %cause, "not removed");
            }
            Err(cause) => return Err(TablesError::Stays { path, cause }),
        }
    }
    for (note, path) in notes.into_iter().zip([place.note, place.waiting]) {
        if matches!(note, Ok(Some(_)) | Err(Unread::Useless(_))) {
            note::remove(&path).map_err(|cause| TablesError::Stays { path: path.clone(), cause })?;
            removed.push(path);
        }
    }
    Ok(removed)
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

/// Every directory that these notes name; sorted.
fn directories(notes: [&Result<Option<Note>, Unread>; 2]) -> Vec<PathBuf> {
    let notes = notes.into_iter().filter_map(|note| note.as_ref().ok()?.as_ref());
    let mut directories: Vec<_> = notes.flat_map(Note::directories).map(Path::to_owned).collect();
    directories.sort();
    directories.dedup();
    directories
}

/// The files of this gateway, of any process, in these directories; sorted.
fn tables_in(place: &Place, directories: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let entries = directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| place.is_table(path)).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Opens a table and locks it against other processes; waits a moment for one whose process is ending.
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
    let file = match File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
    {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    // A lock on a file that others have put here proves nothing.
    ours_alone(path.parent().unwrap_or(path), &file)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => ErrorKind::WouldBlock.into(),
        TryLockError::Error(cause) => cause,
    })?;
    // Its owner may have removed it between opening and locking.
    let is_there = fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino()));
    Ok(is_there.then_some(file))
}

/// Makes sure that nobody else can have put this file here or replaced it: anybody can write to shared
/// memory, and flows are adopted from it.
fn ours_alone(directory: &Path, file: &File) -> io::Result<()> {
    const OTHERS_ANY: u32 = 0o077;
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let (file, directory) = (file.metadata()?, fs::symlink_metadata(directory)?);
    let us = effective_user();
    let is_safe = directory.is_dir()
        && file.is_file()
        && directory.uid() == us
        && file.uid() == us
        && (directory.mode() & OTHERS_WRITE == 0 || directory.mode() & STICKY != 0)
        && file.mode() & OTHERS_ANY == 0;
    if is_safe { Ok(()) } else { Err(io::Error::new(ErrorKind::PermissionDenied, "others may write there")) }
}

/// Removes a table that no process uses; returns whether there was one.
///
/// # Errors
/// That a process uses it, that others may have put it there, or the system's refusal.
fn remove_unused(path: &Path) -> io::Result<bool> {
    let Some(_lock) = lock_once(path)? else { return Ok(false) };
    remove(path).map(|()| true)
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
