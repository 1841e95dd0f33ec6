use std::fmt;
use std::io;

/// Why a world could not be made.
#[derive(Debug)]
pub enum WorldError {
    /// Namespaces need root.
    NotRoot,
    /// A command failed; the text says which one and what it printed.
    Command(String),
    /// A file or process operation failed.
    Io(String),
    /// The gateway did not come up; the text is what it logged.
    Gateway(String),
    /// A guest did not boot or failed at a task; the text says why, with the end of its console.
    Guest(String),
}

impl WorldError {
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::Io(format!("{what}: {error}"))
    }
}

impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => f.write_str("network namespaces need root: run this as root"),
            Self::Command(text) | Self::Io(text) | Self::Gateway(text) | Self::Guest(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for WorldError {}
