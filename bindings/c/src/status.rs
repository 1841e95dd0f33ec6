//! What every call answers.

use std::ffi::CStr;

use weirgate::flow::TableError;
use weirgate::fragment::FragmentsError;
use weirgate::maglev::FillError;
use weirgate::net::POOL_MAX;
use weirgate::pipeline::InitError;
use weirgate::snapshot::{AttachError, CompileError};
use weirgate::wire::ParseError;

/// The result of a call. A number keeps its meaning for ever and is never reused.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A pointer is null that may not be.
    NullPointer = 1,
    /// A pointer is misaligned for its type.
    Misaligned = 2,
    /// The memory is shorter than the size that the library reports for it.
    TooShort = 3,
    /// The memory does not hold a worker.
    NotAWorker = 4,
    /// Another call is at work on this worker.
    Busy = 5,
    /// More frames or spares than one burst may have.
    BurstTooLong = 6,
    /// A frame does not lie inside its buffer.
    FrameOutsideBuffer = 7,
    /// There is no result. Not an error.
    Empty = 8,
    /// A number is past the end of what it counts.
    OutOfRange = 9,
    /// The memory does not hold a snapshot.
    NotASnapshot = 10,
    /// The snapshot has another version of the layout.
    SnapshotVersion = 11,
    /// The snapshot's sections do not lie inside it.
    SnapshotDamaged = 12,
    /// A flow table cannot have this many flows.
    FlowCapacity = 13,
    /// A gateway cannot have this worker, or this many.
    Workers = 14,
    /// An address family other than 4 and 6, or one where none may be missing.
    AddressFamily = 15,
    /// A prefix longer than its address.
    PrefixLength = 16,
    /// A VXLAN network identifier past 24 bits.
    Vni = 17,
    /// An encapsulation that is not known.
    Encapsulation = 18,
    /// A flag that is neither 0 nor 1.
    Flag = 19,
    /// More ports than a gateway can have.
    TooManyPorts = 20,
    /// A port that is not among the ports.
    UnknownPort = 21,
    /// The pool has too few ports for each worker to have one.
    PoolPorts = 22,
    /// A pool address that is in none of the gateway's subnets, or the first of one.
    PoolAddress = 23,
    /// A VXLAN peer at an address of a family in which the gateway has no VTEP.
    NoVtep = 24,
    /// A link too small for the encapsulation of a peer behind it.
    MtuTooSmall = 25,
    /// Two services listen at the same endpoint.
    DuplicateFrontend = 26,
    /// A service that is neither TCP nor UDP.
    UnknownProtocol = 27,
    /// No member of the selector has a weight above 0.
    NoWeight = 28,
    /// The selector's number of slots is not a prime that it may have.
    NotPrime = 29,
    /// More members than a selector can distinguish.
    TooManyMembers = 30,
    /// VXLAN without the flag that says its VNI is valid.
    VxlanFlags = 31,
    /// A maximum segment size below the default of hosts that announce none.
    MssTooSmall = 32,
    /// A differentiated services codepoint past 63.
    Dscp = 33,
    /// The memory holds no worker of this configuration and version.
    NotAdopted = 34,
    /// An address of a service's in one of the gateway's own subnets.
    FrontendAddress = 35,
}

impl Status {
    /// Every status, in the order of its number.
    pub const ALL: &[Self] = &[
        Self::Ok,
        Self::NullPointer,
        Self::Misaligned,
        Self::TooShort,
        Self::NotAWorker,
        Self::Busy,
        Self::BurstTooLong,
        Self::FrameOutsideBuffer,
        Self::Empty,
        Self::OutOfRange,
        Self::NotASnapshot,
        Self::SnapshotVersion,
        Self::SnapshotDamaged,
        Self::FlowCapacity,
        Self::Workers,
        Self::AddressFamily,
        Self::PrefixLength,
        Self::Vni,
        Self::Encapsulation,
        Self::Flag,
        Self::TooManyPorts,
        Self::UnknownPort,
        Self::PoolPorts,
        Self::PoolAddress,
        Self::NoVtep,
        Self::MtuTooSmall,
        Self::DuplicateFrontend,
        Self::UnknownProtocol,
        Self::NoWeight,
        Self::NotPrime,
        Self::TooManyMembers,
        Self::VxlanFlags,
        Self::MssTooSmall,
        Self::Dscp,
        Self::NotAdopted,
        Self::FrontendAddress,
    ];

    /// A few words for a log, without an offending value.
    #[must_use]
    pub const fn text(self) -> &'static CStr {
        match self {
            Self::Ok => c"done",
            Self::NullPointer => c"a pointer is null that may not be",
            Self::Misaligned => c"a pointer is not aligned",
            Self::TooShort => c"the memory is too short",
            Self::NotAWorker => c"the memory does not hold a worker",
            Self::Busy => c"another call is at work on this worker",
            Self::BurstTooLong => c"more frames than one burst may have",
            Self::FrameOutsideBuffer => c"a frame does not lie inside its buffer",
            Self::Empty => c"there is no result",
            Self::OutOfRange => c"a number is past the end of what it counts",
            Self::NotASnapshot => c"the memory does not hold a snapshot",
            Self::SnapshotVersion => c"the snapshot has another version of the layout",
            Self::SnapshotDamaged => c"the snapshot's sections do not lie inside it",
            Self::FlowCapacity => c"a flow table cannot have this many flows",
            Self::Workers => c"a gateway cannot have this worker, or this many",
            Self::AddressFamily => c"an address family other than 4 and 6, or an address missing",
            Self::PrefixLength => c"a prefix longer than its address",
            Self::Vni => c"a VXLAN network identifier past 24 bits",
            Self::Encapsulation => c"an encapsulation that is not known",
            Self::Flag => c"a flag that is neither 0 nor 1",
            Self::TooManyPorts => c"more ports than a gateway can have",
            Self::UnknownPort => c"a port that is not among the ports",
            Self::PoolPorts => c"the pool's ports do not give each worker at least one",
            Self::PoolAddress => c"a pool address in none of the gateway's subnets, or the first of one",
            Self::NoVtep => c"a VXLAN peer of a family in which the gateway has no VTEP",
            Self::MtuTooSmall => c"a link too small for the encapsulation of a peer behind it",
            Self::DuplicateFrontend => c"two services listen at the same place",
            Self::UnknownProtocol => c"a service that is none of TCP, UDP and SCTP",
            Self::NoWeight => c"no member of the selector has a weight above 0",
            Self::NotPrime => c"the selector's number of slots is not a prime that it may have",
            Self::TooManyMembers => c"more members than a selector can distinguish",
            Self::VxlanFlags => c"VXLAN without the flag that says its VNI is valid",
            Self::MssTooSmall => c"a maximum segment size is below that of who announces none",
            Self::Dscp => c"a differentiated services codepoint is past 63",
            Self::NotAdopted => c"the memory holds no worker of this configuration and version",
            Self::FrontendAddress => c"an address of a service's in one of the gateway's own subnets",
        }
    }
}

impl From<InitError> for Status {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Id => Self::Workers,
            InitError::FlowsV4(error) | InitError::FlowsV6(error) => match error {
                TableError::Capacity { .. } => Self::FlowCapacity,
                TableError::Memory { .. } => Self::TooShort,
            },
            InitError::Fragments(error) => match error {
                FragmentsError::Datagrams { .. } | FragmentsError::HeldBytes { .. } => Self::OutOfRange,
                FragmentsError::Memory { .. } => Self::TooShort,
            },
        }
    }
}

impl From<AttachError> for Status {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Misaligned => Self::Misaligned,
            AttachError::Truncated { .. } => Self::TooShort,
            AttachError::NotASnapshot => Self::NotASnapshot,
            AttachError::Version(_) => Self::SnapshotVersion,
            AttachError::Section(_) => Self::SnapshotDamaged,
        }
    }
}

impl From<FillError> for Status {
    fn from(error: FillError) -> Self {
        match error {
            FillError::TooManyMembers(_) => Self::TooManyMembers,
            FillError::NoWeight => Self::NoWeight,
            FillError::NotPrime(_) => Self::NotPrime,
        }
    }
}

impl From<ParseError> for Status {
    /// Of what reading a VXLAN header can answer.
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::VniFlagClear => Self::VxlanFlags,
            _ => Self::TooShort,
        }
    }
}

/// A status, and a sentence with the offending value.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn new(status: Status, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// Says where in the description it is.
    pub(crate) fn within(mut self, place: impl std::fmt::Display) -> Self {
        self.text = format!("{place}: {}", self.text);
        self
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Self::new(status, status.text().to_string_lossy())
    }
}

impl From<CompileError> for Problem {
    fn from(error: CompileError) -> Self {
        let (status, text) = match error {
            CompileError::Memory { have, need } => {
                (Status::TooShort, format!("the memory has {have} bytes and takes {need}, at a multiple of 8"))
            }
            CompileError::TooManyPorts(count) => (
                Status::TooManyPorts,
                format!("{count} ports; a gateway can have {} at most", weirgate::net::PORTS_MAX),
            ),
            CompileError::UnknownPort(port) => (Status::UnknownPort, format!("port {} is not among the ports", port.0)),
            CompileError::Workers(workers) => {
                (Status::Workers, format!("{workers} workers; a gateway can have 1 to {}", weirgate::net::WORKERS_MAX))
            }
            CompileError::PoolPorts(first, last) => {
                (Status::PoolPorts, format!("pool ports {first} to {last} do not give each worker at least one"))
            }
            CompileError::MasqueradeAddress(address) => {
                (Status::PoolAddress, format!("{address} is a masquerade address, and is in a subnet of the overlay"))
            }
            CompileError::FrontendAddress(address) => (
                Status::FrontendAddress,
                format!("{address} is in one of the gateway's own subnets, where no service can listen"),
            ),
            CompileError::MappedAddress(address) => {
                (Status::AddressFamily, format!("{address} is an IPv4 address written as IPv6; give it the family 4"))
            }
            CompileError::TooManyPoolAddresses(count) => {
                (Status::PoolAddress, format!("{count} pool addresses of one family are too many, {POOL_MAX} the most"))
            }
            CompileError::PoolAddress(address) => (
                Status::PoolAddress,
                format!("pool address {address} is in none of the gateway's subnets, or the first of one"),
            ),
            CompileError::NoVtep(public) => {
                (Status::NoVtep, format!("VXLAN peer {public} is of a family in which the gateway has no VTEP"))
            }
            CompileError::MtuTooSmall { mtu } => {
                (Status::MtuTooSmall, format!("MTU {mtu} is too small for the encapsulation of a peer behind it"))
            }
            CompileError::MssTooSmall(most) => (
                Status::MssTooSmall,
                format!("maximum segment size {most}; it takes {} or more", weirgate::wire::tcp::MSS_DEFAULT),
            ),
            CompileError::DuplicateFrontend(endpoint, protocol) => {
                (Status::DuplicateFrontend, format!("two services listen at {endpoint} over {protocol}"))
            }
            CompileError::UnknownProtocol(protocol) => (
                Status::UnknownProtocol,
                format!("{protocol} cannot be the protocol of a service, only TCP, UDP and SCTP"),
            ),
            CompileError::Selector { service, error } => {
                let text = match error {
                    FillError::TooManyMembers(members) => {
                        format!("{members} backends; at most {} fit", weirgate::maglev::MEMBERS_MAX)
                    }
                    FillError::NoWeight => "no backend has a weight above 0".to_string(),
                    FillError::NotPrime(slots) => not_prime(slots),
                };
                (error.into(), format!("service {service}: {text}"))
            }
        };
        Self { status, text }
    }
}

/// What is wrong with a table of this many slots.
pub(crate) fn not_prime(slots: usize) -> String {
    format!("{slots} slots; it takes a prime up to {}, such as 65537", weirgate::maglev::TABLE_SIZE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_status_at_its_number() {
        for (number, status) in (0..).zip(Status::ALL) {
            assert_eq!(*status as u32, number, "{status:?}");
            assert!(!status.text().is_empty());
        }
    }
}
