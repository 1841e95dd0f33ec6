//! What the gateway reports to a packet's sender.

use crate::verdict::DropReason;

/// What is wrong with a packet whose sender is to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Report {
    /// Its time to live or hop limit ran out here (RFC 1812 §5.3.1, RFC 4443 §3.3).
    TimeExceeded,
    /// It is larger than its egress takes, and may not be fragmented (RFC 1191 §4, RFC 4443 §3.2).
    TooBig {
        /// What the egress takes.
        mtu: u16,
    },
    /// No backend answers for its service: as from a port where nobody listens.
    NoBackend,
}

impl Report {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TimeExceeded => "time exceeded",
            Self::TooBig { .. } => "too big",
            Self::NoBackend => "port unreachable",
        }
    }

    /// The drop that this is where no error may be sent.
    pub(super) const fn reason(self) -> DropReason {
        match self {
            Self::TimeExceeded => DropReason::TtlExpired,
            Self::TooBig { .. } => DropReason::TooBig,
            Self::NoBackend => DropReason::NoBackend,
        }
    }
}
