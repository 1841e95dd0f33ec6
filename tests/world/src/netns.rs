//! Processes in namespaces, and the one that removes them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::WorldError;

/// Nobody else makes namespaces.
pub(crate) fn require_root() -> Result<(), WorldError> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } == 0 { Ok(()) } else { Err(WorldError::NotRoot) }
}

/// The right to have a world: beside others, or alone.
#[derive(Debug)]
pub(crate) struct Turn {
    _worlds: File,
}

impl Turn {
    /// Waits until this world may start, and holds its slot until the result is dropped.
    ///
    /// A world that waits to be alone blocks later ones, so that it gets its turn.
    pub(crate) fn wait(alone: bool) -> Result<Self, WorldError> {
        require_root()?;
        let open = |path: &str| {
            let file = File::create(path).map_err(|error| WorldError::io(path, &error))?;
            Ok((file, path.to_owned()))
        };
        let lock = |(file, path): &(File, String), shared: bool| {
            let locked = if shared { file.lock_shared() } else { file.lock() };
            locked.map_err(|error| WorldError::io(path, &error))
        };
        let next = open("/run/weirgate-world.next")?;
        lock(&next, false)?;
        let worlds = open("/run/weirgate-world.lock")?;
        lock(&worlds, !alone)?;
        Ok(Self { _worlds: worlds.0 })
    }
}

/// Runs a command to its end; anything but success is an error that carries its output.
pub(crate) fn check(command: &mut Command) -> Result<String, WorldError> {
    let output = command.output().map_err(|error| WorldError::io(&format!("cannot start {command:?}"), &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(WorldError::Command(format!(
        "{command:?} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )))
}

/// Feeds `script` to `sh -e` inside a namespace.
pub(crate) fn script(namespace: &str, script: &str) -> Result<String, WorldError> {
    check(Command::new("ip").args(["netns", "exec", namespace, "sh", "-ec", script]))
}

/// A process that removes the world when its standard input ends.
///
/// It is a shell in its own process group that ignores signals, so neither ctrl-C nor the death of the process at
/// the other end of the pipe stops it.
#[derive(Debug)]
pub(crate) struct Reaper {
    child: Child,
    input: Option<ChildStdin>,
    removal: String,
}

impl Reaper {
    pub(crate) fn start(namespaces: &[String], directories: &[&Path]) -> Result<Self, WorldError> {
        let names = namespaces.join(" ");
        let directories = directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        let removal = format!(
            "for n in {names}; do ip netns pids $n | xargs -r kill -9; ip netns del $n; done 2>/dev/null; rm -rf {directories}"
        );
        let script = format!("trap '' HUP INT TERM; read -r word; [ \"$word\" = keep ] || {{ {removal}; }}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| WorldError::io("cannot start sh", &error))?;
        let input = child.stdin.take();
        Ok(Self { child, input, removal })
    }

    pub(crate) fn removal_command(&self) -> String {
        self.removal.clone()
    }

    /// Ends the process without removing anything.
    pub(crate) fn dismiss(&mut self) {
        if let Some(mut input) = self.input.take() {
            let _ = input.write_all(b"keep\n");
        }
        let _ = self.child.wait();
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// A process in a world; it is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// How waiting for a [`Process`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It ended.
    Ended(ExitStatus),
    /// It was still running when the time was up.
    Running,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { child: command.stdin(Stdio::null()).spawn()? })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `libc::SIGTERM`.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory preconditions. The child was not waited for, so its id is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Waits for the end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Waited {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Waited::Ended(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                _ => return Waited::Running,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls `done` every 20 ms until it is true or `limit` has passed; says which.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// What a file holds, empty when there is none.
pub(crate) fn read_or_empty(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
