//! Why there is no table, or no flow, in words.

use core::fmt;

use super::{AttachError, InsertError, TableError};

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity { asked, min, max } => write!(f, "a table has {min} to {max} flows, not {asked}"),
            Self::Memory { have, need } => {
                write!(f, "a table takes {need} bytes that begin at a multiple of 64, and there are {have}")
            }
        }
    }
}

impl core::error::Error for TableError {}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the table has no room for the flow, and none in it is evicted",
            Self::TupleTaken => "another flow has one of the tuples",
        })
    }
}

impl core::error::Error for InsertError {}

impl core::error::Error for AttachError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Table(error) => Some(error),
            _ => None,
        }
    }
}
