//! Network namespaces that end with whoever made them.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::WorldError;
use crate::netns::{Reaper, check, require_root};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Some network namespaces with unique names. When this is dropped, and also when its process is killed, every
/// process in them ends and they are removed.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    reaper: Reaper,
}

impl Namespaces {
    /// Makes a namespace for each of these names, with nothing in it that is up. `files` says, by the prefix that the
    /// namespaces' names have, what else is to be removed in the end.
    ///
    /// # Errors
    /// [`WorldError::NotRoot`], or the first command that failed with what it printed.
    pub fn new<N: AsRef<str>>(names: &[N], files: impl FnOnce(&str) -> Vec<PathBuf>) -> Result<Self, WorldError> {
        require_root()?;
        let prefix = format!("wg{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let files = files(&prefix);
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let namespaces: Vec<_> = names.iter().map(|name| format!("{prefix}-{}", name.as_ref())).collect();
        let reaper = Reaper::start(&namespaces, &files)?;
        for namespace in &namespaces {
            check(Command::new("ip").args(["netns", "add", namespace]))?;
        }
        Ok(Self { prefix, reaper })
    }

    /// What the names of all of them begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name under which the system knows a namespace.
    #[must_use]
    pub fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.prefix)
    }

    /// A command that will run in a namespace; the process it starts is the command itself, not a wrapper.
    #[must_use]
    pub fn command(&self, of: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(of), program]);
        command
    }

    /// Runs a command in a namespace to its end and returns what it printed and how it ended.
    ///
    /// # Panics
    /// When it cannot be started at all.
    pub fn run(&self, of: &str, arguments: &[&str]) -> Output {
        let (program, rest) = arguments.split_first().expect("a command has a name");
        self.command(of, program).args(rest).output().expect("ip can be started")
    }

    /// Runs a shell script in a namespace and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with its output.
    pub fn shell(&self, of: &str, script: &str) -> String {
        let output = self.run(of, &["sh", "-ec", script]);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "in {of}: {script}\n{}\n{stdout}{stderr}", output.status);
        stdout
    }

    /// Moves the calling thread into a namespace: its later sockets and processes belong there, until the result is
    /// dropped.
    ///
    /// # Panics
    /// When the namespace cannot be entered.
    #[must_use]
    pub fn enter(&self, of: &str) -> Entered {
        let path = format!("/run/netns/{}", self.name(of));
        let enter = || {
            let before = File::open("/proc/thread-self/ns/net")?;
            set(&File::open(&path)?)?;
            Ok(Entered { before, _thread: PhantomData })
        };
        enter().unwrap_or_else(|error: io::Error| panic!("cannot enter {path}: {error}"))
    }

    /// Calls `work` on a thread of its own whose sockets belong to a namespace.
    ///
    /// # Panics
    /// When the namespace cannot be entered, and when `work` panics.
    pub fn inside<T: Send>(&self, of: &str, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _entered = self.enter(of);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Leaves the namespaces up when this process ends, and returns the shell command that removes them.
    #[must_use]
    pub fn keep(mut self) -> String {
        self.reaper.dismiss();
        self.reaper.removal_command()
    }
}

/// The calling thread is in a namespace while this lives. Dropping it returns to the one before, so that the thread
/// is not ended with the namespace.
#[derive(Debug)]
pub struct Entered {
    before: File,
    /// It can be dropped on the thread only that entered.
    _thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        set(&self.before).expect("a thread can return to a namespace that it comes from");
    }
}

fn set(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call; setns touches no memory of this process.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
