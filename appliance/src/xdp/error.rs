//! Why the appliance cannot start, in sentences for an operator.

use std::{error, fmt, io};

use super::layout;

/// Why the data path did not start. In every case the host is as it was before.
#[derive(Debug)]
pub enum StartError {
    /// No interface of this name.
    NoInterface {
        /// The name asked for.
        name: String,
    },
    /// More ports than [`layout::PORTS_MAX`], or none, or the same interface twice.
    Ports {
        /// How many were asked for.
        count: usize,
    },
    /// The interface is not Ethernet.
    NotEthernet {
        /// The interface.
        name: String,
    },
    /// Frames of this MTU and the headroom do not fit one frame of the rings' memory.
    MtuTooLarge {
        /// The interface.
        name: String,
        /// Its MTU.
        mtu: u32,
        /// The largest that fits.
        largest: u32,
    },
    /// Fewer queues than workers, or more than [`layout::QUEUES_MAX`].
    Queues {
        /// The interface.
        name: String,
        /// How many queues it has.
        queues: u32,
        /// How many workers were asked for.
        workers: u32,
    },
    /// Somebody else's XDP program is attached to the interface.
    ForeignProgram {
        /// The interface.
        name: String,
        /// The program's name, empty where the kernel does not report it.
        program: String,
        /// The program's id in the kernel.
        id: u32,
    },
    /// The process may not do this.
    Privilege {
        /// What was being done.
        step: &'static str,
    },
    /// Another AF_XDP socket holds the queue.
    QueueOccupied {
        /// The interface.
        name: String,
        /// The queue.
        queue: u32,
    },
    /// The process may not lock as much memory as the rings need.
    LockedMemory {
        /// What the rings need, in bytes.
        needed: u64,
    },
    /// More frontends or subnets than the steering program's tables hold.
    TableFull {
        /// Which table.
        table: &'static str,
        /// How many entries it holds.
        limit: u32,
    },
    /// The kernel refused the steering program.
    Program {
        /// What was being done.
        step: &'static str,
        /// The kernel's or the loader's words.
        cause: String,
    },
    /// The system refused something else.
    System {
        /// What was being done.
        step: &'static str,
        /// The interface, where it concerns one.
        name: Option<String>,
        /// The system's answer.
        cause: io::Error,
    },
}

impl StartError {
    /// A refusal by the system, named as closely as its error number allows.
    pub(crate) fn system(step: &'static str, name: Option<&str>, cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege { step },
            _ => Self::System { step, name: name.map(Into::into), cause },
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterface { name } => {
                write!(f, "there is no interface {name:?}; `ip link` lists the existing ones")
            }
            Self::Ports { count } => write!(
                f,
                "the gateway needs between 1 and {} different interfaces, and {count} were named",
                layout::PORTS_MAX
            ),
            Self::NotEthernet { name } => {
                write!(f, "{name} is not an Ethernet interface; name the Ethernet interface below it")
            }
            Self::MtuTooLarge { name, mtu, largest } => write!(
                f,
                "{name} has an MTU of {mtu}, and a frame that large does not fit the rings' memory; lower it with `ip link set {name} mtu {largest}` or less"
            ),
            Self::Queues { name, queues, workers } if queues < workers => write!(
                f,
                "{name} has {queues} queues for {workers} workers; set workers to {queues} or less, or give it more queues with `ethtool -L {name}`"
            ),
            Self::Queues { name, queues, .. } => write!(
                f,
                "{name} has {queues} queues, more than the {} that the gateway serves; lower them with `ethtool -L {name}`",
                layout::QUEUES_MAX
            ),
            Self::ForeignProgram { name, program, id } => write!(
                f,
                "{name} already has an XDP program, {program:?} (id {id}), that is not weirgate's; remove it with its own tool, or with `ip link set {name} xdp off`"
            ),
            Self::Privilege { step } => write!(
                f,
                "not permitted: {step}; run as root, or with the capabilities CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON"
            ),
            Self::QueueOccupied { name, queue } => write!(
                f,
                "queue {queue} of {name} is taken by another AF_XDP socket; stop the program that holds it, perhaps another weirgate"
            ),
            Self::LockedMemory { needed } => write!(
                f,
                "the rings need {} MiB of locked memory, more than this process may lock; raise the limit with `ulimit -l {}` or LimitMEMLOCK=, or grant CAP_IPC_LOCK",
                needed.div_ceil(1 << 20),
                needed.div_ceil(1 << 10)
            ),
            Self::TableFull { table, limit } => {
                write!(f, "the steering program holds at most {limit} {table}; configure fewer")
            }
            Self::Program { step, cause } => write!(
                f,
                "the kernel refused to {step}: {cause}; the gateway needs Linux 6.1 or newer with BPF and AF_XDP sockets"
            ),
            Self::System { step, name: Some(name), cause } => write!(f, "cannot {step} on {name}: {cause}"),
            Self::System { step, name: None, cause } => write!(f, "cannot {step}: {cause}"),
        }
    }
}

impl error::Error for StartError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::System { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
