//! The note beside the control socket: which files are the flow tables, and where else there may be some.
//!
//! Its reader follows it with the rights of a gateway. So a note counts only where nobody else can have written
//! it, and where it names nothing but files that the gateway behind this control socket makes itself.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::worker::effective_user;

/// The note's own version.
const VERSION: u32 = 1;
/// The longest note that is read: more than the longest paths of the most workers need.
const BYTES_MAX: u64 = 4 << 20;

/// What is written beside the control socket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Note {
    version: u32,
    /// The kernel's boot that the tables' times belong to.
    boot: String,
    /// The flows that each table has room for.
    flows_v4: u32,
    flows_v6: u32,
    /// By worker; empty where the memory was private to the process.
    pub(super) tables: Vec<Option<PathBuf>>,
    /// Directories where files of earlier processes may lie that have not been removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) places: Vec<PathBuf>,
}

impl Note {
    /// A note without tables, of this boot, for tables of this capacity.
    pub(super) fn new([flows_v4, flows_v6]: [u32; 2]) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        Self { version: VERSION, boot, flows_v4, flows_v6, tables: Vec::new(), places: Vec::new() }
    }

    /// Why a gateway with so many workers cannot adopt `earlier`'s tables under this note, if so. What the
    /// tables themselves record is checked separately.
    pub(super) fn obstacle(&self, earlier: &Self, workers: usize) -> Option<String> {
        if earlier.version != self.version {
            return Some(format!("the earlier gateway's note is of version {}, not {}", earlier.version, self.version));
        }
        if earlier.boot != self.boot {
            return Some("the host has been booted since".to_owned());
        }
        if earlier.tables.len() != workers {
            let before = earlier.tables.len();
            return Some(format!(
                "there were {before} workers and now are {workers}, which share the ports differently"
            ));
        }
        let capacity = |note: &Self| (note.flows_v4, note.flows_v6);
        if capacity(earlier) != capacity(self) {
            let ((v4, v6), (now_v4, now_v6)) = (capacity(earlier), capacity(self));
            return Some(format!(
                "the capacity was {v4} (IPv4) and {v6} (IPv6) flows and now is {now_v4} and {now_v6}"
            ));
        }
        None
    }

    /// The directories that it names.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        let of_tables = self.tables.iter().flatten().filter_map(|path| path.parent());
        of_tables.chain(self.places.iter().map(PathBuf::as_path))
    }
}

/// Where a gateway's notes lie, and what its tables are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The note of tables that are whole.
    pub(super) note: PathBuf,
    /// The note of a process that has not come so far.
    pub(super) waiting: PathBuf,
    /// The prefix of this gateway's files. Two gateways have different ones, as their control sockets differ.
    pub(super) prefix: String,
}

/// Why a note is ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Unread {
    /// Somebody else may have written it, or it names what is not this gateway's.
    Foreign(String),
    /// It is this gateway's, and cannot be read.
    Useless(String),
}

impl Unread {
    /// What is wrong, and what to do.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Foreign(reason) | Self::Useless(reason) => reason,
        }
    }
}

impl Place {
    /// Beside this control socket; any path to its directory has the same result.
    pub(super) fn beside(control_socket: &Path) -> Self {
        let socket = std::path::absolute(control_socket).unwrap_or_else(|_| control_socket.to_owned());
        let directory = socket.parent().and_then(|directory| directory.canonicalize().ok());
        let socket = match (directory, socket.file_name()) {
            (Some(directory), Some(name)) => directory.join(name),
            _ => socket,
        };
        let ending = |path: &Path, ending: &str| {
            let mut path = OsString::from(path);
            path.push(ending);
            PathBuf::from(path)
        };
        let note = ending(&socket, ".flows");
        // FNV-1a: the input is an operator's own path, which no packet chooses.
        let bytes = note.as_os_str().as_encoded_bytes().iter();
        let hash = bytes
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self { waiting: ending(&note, ".new"), note, prefix: format!("flows-{hash:016x}-") }
    }

    /// The path of a table in `directory`; `stamp` distinguishes it from those of other processes.
    pub(super) fn table(&self, directory: &Path, worker: usize, stamp: u64) -> PathBuf {
        directory.join(format!("{}{worker}-{stamp:x}", self.prefix))
    }

    /// Whether [`table`](Self::table) makes such names.
    pub(super) fn is_table(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        let parts = name.and_then(|name| name.strip_prefix(&self.prefix)).and_then(|rest| rest.split_once('-'));
        parts.is_some_and(|(worker, stamp)| worker.parse::<usize>().is_ok() && u64::from_str_radix(stamp, 16).is_ok())
    }

    /// The note of tables that are whole, and the note of a process that did not come so far, if there are any.
    pub(super) fn read(&self) -> [Result<Option<Note>, Unread>; 2] {
        [&self.note, &self.waiting].map(|path| self.read_at(path))
    }

    fn read_at(&self, path: &Path) -> Result<Option<Note>, Unread> {
        let shown = path.display();
        let useless = |error: &dyn std::fmt::Display| {
            Unread::Useless(format!("{shown} cannot be understood: {error}; remove it if it stays"))
        };
        let foreign = |what: &str| Unread::Foreign(format!("{shown} is ignored: it {what}; remove it"));
        // A link is not followed, and a named pipe not waited for.
        let mut options = File::options();
        let file = match options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) if cause.raw_os_error() == Some(libc::ELOOP) => return Err(foreign("is a symbolic link")),
            Err(cause) => return Err(foreign(&format!("cannot be read ({cause})"))),
        };
        let metadata = file.metadata().map_err(|cause| useless(&cause))?;
        if let Some(what) = writable_by_others(&metadata) {
            return Err(foreign(what));
        }
        let mut text = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut text).map_err(|cause| useless(&cause))?;
        let note: Note = serde_json::from_slice(&text).map_err(|error| useless(&error))?;
        let is_ours = |path: &&PathBuf| self.is_table(path) && is_plain(path);
        if let Some(path) = note.tables.iter().flatten().find(|path| !is_ours(path)) {
            return Err(foreign(&format!("names {}, which is no flow table of this gateway's", path.display())));
        }
        if let Some(path) = note.places.iter().find(|path| !is_plain(path)) {
            return Err(foreign(&format!("names {}, which is no directory's full path", path.display())));
        }
        Ok(Some(note))
    }

    /// Writes the note of a process whose tables are not whole yet, into a file of its own making.
    pub(super) fn write_waiting(&self, note: &Note) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(note).expect("a note is plain data");
        remove(&self.waiting)?;
        let mut options = File::options();
        let mut file =
            options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&self.waiting)?;
        file.write_all(&text)
    }

    /// Writes the note of tables that are whole, all of it or nothing.
    pub(super) fn write(&self, note: &Note) -> io::Result<()> {
        let written = self.write_waiting(note).and_then(|()| fs::rename(&self.waiting, &self.note));
        if written.is_err() {
            let _ = remove(&self.waiting);
        }
        written
    }
}

/// Removes a file; it may be gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// Whether a path is absolute and without `..`.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == std::path::Component::ParentDir)
}

/// How others can have written a file, if so.
fn writable_by_others(metadata: &Metadata) -> Option<&'static str> {
    const OTHERS_WRITE: u32 = 0o022;
    if !metadata.is_file() {
        Some("is no ordinary file")
    } else if metadata.uid() != effective_user() {
        Some("belongs to another user")
    } else if metadata.mode() & OTHERS_WRITE != 0 {
        Some("can be written by other users")
    } else {
        None
    }
}
