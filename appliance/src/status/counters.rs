//! The counters beyond drops and traffic: one table for status, its JSON and `docs/counters.md`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use weirgate::verdict::DropReason;

use crate::gateway::Forwarding;
use crate::worker::Stats;
use crate::xdp::SteerCounters;

/// A counter by its name.
#[derive(Debug)]
pub struct Counter {
    /// What status, JSON and documents call it.
    pub name: &'static str,
    /// What it counts, for an operator.
    pub meaning: &'static str,
    pub(super) source: Source,
}

/// Where a counter is read.
#[derive(Debug)]
pub(super) enum Source {
    /// In the steering program.
    Steering(fn(&SteerCounters) -> u64),
    /// In each worker's rings.
    Rings(fn(&Stats) -> &AtomicU64),
    /// In each worker's core, by name.
    Core,
}

impl Counter {
    pub(super) fn read(&self, forwarding: &Forwarding) -> u64 {
        match &self.source {
            Source::Steering(read) => read(&forwarding.steering.counters()),
            Source::Rings(read) => forwarding.stats().iter().map(|stats| read(stats).load(Relaxed)).sum(),
            Source::Core => {
                let named = forwarding.counters.iter().flat_map(|worker| worker.core.named());
                named.filter(|(name, _)| *name == self.name).map(|(_, counter)| counter.get()).sum()
            }
        }
    }
}

/// Every counter that is neither a drop nor the traffic of a port or service, in the order of the
/// packet's way.
pub const COUNTERS: &[Counter] = &[
    Counter {
        name: "steered",
        meaning: "Frames that the steering program sent to a ring.",
        source: Source::Steering(|counters| counters.steered),
    },
    Counter {
        name: "passed",
        meaning: "Frames that the steering program left to the kernel, as none of the gateway's.",
        source: Source::Steering(|counters| counters.passed),
    },
    Counter {
        name: "no-worker",
        meaning: "Frames of the gateway's that the steering program dropped because no worker served their queue: \
                  those that came while the gateway was being started again.",
        source: Source::Steering(|counters| counters.no_worker),
    },
    Counter {
        name: "no-headroom",
        meaning: "Frames of the gateway's that the steering program dropped because the driver left too little room \
                  before them.",
        source: Source::Steering(|counters| counters.no_headroom),
    },
    Counter {
        name: "early-parts",
        meaning: "Parts of datagrams that came before their first one, to an address of services that the host has too: \
                  the kernel got them, and a worker a copy. Of those of the host's the copies are dropped as \
                  `fragment-expired` in the end.",
        source: Source::Steering(|counters| counters.early),
    },
    Counter {
        name: "early-parts-lost",
        meaning: "Such parts of which no copy could be made, as too many came at once.",
        source: Source::Steering(|counters| counters.early_lost),
    },
    Counter {
        name: "receive-ring-full",
        meaning: "Frames that the kernel dropped because a worker was too slow to take them. Renewed once a second.",
        source: Source::Rings(|stats| &stats.receive_ring_full),
    },
    Counter {
        name: "fill-ring-empty",
        meaning: "Times that the kernel found no memory to receive into. Renewed once a second.",
        source: Source::Rings(|stats| &stats.fill_ring_empty),
    },
    Counter {
        name: "receive-dropped",
        meaning: "Frames that the kernel dropped because they are larger than the rings' memory takes: a port's MTU was \
                  raised after the start. Renewed once a second.",
        source: Source::Rings(|stats| &stats.receive_dropped),
    },
    Counter {
        name: "invalid-descriptors",
        meaning: "Descriptors that the kernel refused. Anything but 0 is a bug.",
        source: Source::Rings(|stats| &stats.invalid),
    },
    Counter { name: "bursts", meaning: "Bursts given to the pipeline.", source: Source::Rings(|stats| &stats.bursts) },
    Counter {
        name: "sleeps",
        meaning: "Times that a worker went to sleep for want of frames.",
        source: Source::Rings(|stats| &stats.sleeps),
    },
    Counter { name: "host", meaning: "Frames that the pipeline found to be the host's.", source: Source::Core },
    Counter {
        name: "handovers",
        meaning: "Frames of a flow that another worker owns, given to that one.",
        source: Source::Core,
    },
    Counter {
        name: "fragments-held",
        meaning: "Parts of datagrams that waited: for their first one, or for buffers to be cut into.",
        source: Source::Core,
    },
    Counter {
        name: "pieces-cut",
        meaning: "Pieces that IPv4 packets too large for their way were cut in, but for the first of each.",
        source: Source::Core,
    },
    Counter { name: "flows-created", meaning: "Flows that were created.", source: Source::Core },
    Counter {
        name: "flows-expired",
        meaning: "Flows that were forgotten after their idle time, or whose own address is the gateway's no more.",
        source: Source::Core,
    },
    Counter {
        name: "flows-reopened",
        meaning: "Flows whose connection had ended, or whose backend was gone, and that a new one between the same ports took the place of.",
        source: Source::Core,
    },
    Counter {
        name: "flows-reset",
        meaning: "Flows that ended with a reset before anybody had answered.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-half-open",
        meaning: "Flows that gave way while their handshake was not finished: to new ones in a full table, or to their client's in one that fills.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-one-way",
        meaning: "Flows that gave way to new ones in a full table: UDP and echo requests that nobody had answered.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-closing",
        meaning: "Flows that gave way to new ones in a full table: connections that had ended or were about to.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-unassured",
        meaning: "Flows that gave way to new ones in a full table: answered, but never assured.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-stream",
        meaning: "Flows that gave way to new ones in a full table: UDP that went back and forth.",
        source: Source::Core,
    },
    Counter {
        name: "placed-without-state",
        meaning: "Packets that went on without a flow, for want of room or past the limit on new flows.",
        source: Source::Core,
    },
    Counter {
        name: "echoes-answered",
        meaning: "Pings that the gateway answered itself: of its overlay addresses, of addresses that stand for pods, \
                  of services' addresses.",
        source: Source::Core,
    },
    Counter {
        name: "errors-translated",
        meaning: "ICMP errors of others about packets of flows, translated and sent on.",
        source: Source::Core,
    },
    Counter { name: "errors-sent", meaning: "ICMP errors that the gateway sent of its own.", source: Source::Core },
];

const HEAD: &str = "\
# Counters

This page is written from the code; a test compares the two with what `weirgate status` tells.

Counters begin at 0 with the process, only grow, and are read without disturbing a worker: each is exact by itself, and
two of them need not be of the same moment. `weirgate status` shows drops that happened, `weirgate status --all` every
reason, and `weirgate status --json` everything: `drops` and `counters` are objects with the names below as keys, and
`ports`, `services` and `flows` carry the traffic of each.

## Drops

Every frame that goes no further has exactly one of these reasons.

| `drops` | why |
| --- | --- |
";

/// The page `docs/counters.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    for reason in DropReason::ALL {
        let _ = writeln!(page, "| `{}` | {} |", reason.name(), reason.description());
    }
    page.push_str("\n## Everything else\n\n| `counters` | what it counts |\n| --- | --- |\n");
    for counter in COUNTERS {
        let _ = writeln!(page, "| `{}` | {} |", counter.name, counter.meaning);
    }
    page.push_str(TRAFFIC);
    page
}

const TRAFFIC: &str = "
## Traffic

| field | what it counts |
| --- | --- |
| `ports[].received` | frames taken from the port's rings and their bytes, with Ethernet headers |
| `ports[].transmitted` | frames put into the port's rings and their bytes, with Ethernet headers |
| `services[].original` | IP packets from clients to the service and their bytes |
| `services[].reply` | IP packets from the service to clients and their bytes |
| `services[].flows_created` | flows that were created for the service |
| `flow_memory[].adopted`, `flow_memory[].damaged` | flows of an earlier process that a worker began with, and entries of its that were dropped as damaged |
| `flow_memory[].strayed` | flows of its that were dropped since their answers do not come to the worker any more: `[masquerade]` has other ports or addresses, or the selector another seed |
| `pool[].flows`, `pool[].capacity` | flows that have a pool address, counted anew every few seconds, and those that could have it if they were spread evenly over all backends |
| `masquerade[].flows` | pods' flows that have an address of `[masquerade]`, counted anew every few seconds |
| `masquerade[].busiest`, `masquerade[].capacity` | of these, those towards the remote endpoint that most go to (never told too few, sometimes a few too many), and how many can go to one: its ports |
| `warnings` | a sentence if the gateway forwards nothing, and one for each flow table, pool address and masquerade address that is at least 90 % full; the log has these once a minute |
| `flows[].used`, `flows[].capacity` | flows that a worker's table holds, and those that it has room for |
| `flows[].half_open` | flows among them whose handshake is not finished |
| `burst_times` | nanoseconds that a worker took from taking frames off its rings to having placed the last of them, to about 3 % |
";
