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
/// packet's path.
pub const COUNTERS: &[Counter] = &[
    Counter {
        name: "steered",
        meaning: "Frames that the steering program sent to a ring.",
        source: Source::Steering(|counters| counters.steered),
    },
    Counter {
        name: "passed",
        meaning: "Frames that the steering program passed to the kernel, because they are not the gateway's.",
        source: Source::Steering(|counters| counters.passed),
    },
    Counter {
        name: "no-worker",
        meaning: "The gateway's frames that the steering program dropped because no worker served their queue: those \
                  that arrived during a restart.",
        source: Source::Steering(|counters| counters.no_worker),
    },
    Counter {
        name: "no-headroom",
        meaning: "The gateway's frames that the steering program dropped because the driver left too little headroom.",
        source: Source::Steering(|counters| counters.no_headroom),
    },
    Counter {
        name: "early-fragments",
        meaning: "Fragments that came before the first one of their datagram, to an address that services and the host \
                  share: the kernel got them, and a worker got a copy. If the datagram is the host's, the copies are \
                  dropped as `fragment-expired`.",
        source: Source::Steering(|counters| counters.early),
    },
    Counter {
        name: "early-fragments-lost",
        meaning: "Such fragments that could not be copied, because too many came at once.",
        source: Source::Steering(|counters| counters.early_lost),
    },
    Counter {
        name: "receive-ring-full",
        meaning: "Frames that the kernel dropped because a worker was too slow to receive them. Updated once a second.",
        source: Source::Rings(|stats| &stats.receive_ring_full),
    },
    Counter {
        name: "fill-ring-empty",
        meaning: "Times that the kernel found no memory to receive into. Updated once a second.",
        source: Source::Rings(|stats| &stats.fill_ring_empty),
    },
    Counter {
        name: "receive-dropped",
        meaning: "Frames that the kernel dropped because they exceed the rings' frame size: a port's MTU was raised after \
                  the start. Updated once a second.",
        source: Source::Rings(|stats| &stats.receive_dropped),
    },
    Counter {
        name: "invalid-descriptors",
        meaning: "Descriptors that the kernel refused. Anything but 0 is a bug.",
        source: Source::Rings(|stats| &stats.invalid),
    },
    Counter {
        name: "bursts",
        meaning: "Bursts that the pipeline processed.",
        source: Source::Rings(|stats| &stats.bursts),
    },
    Counter {
        name: "sleeps",
        meaning: "Times that a worker went to sleep because no frames came.",
        source: Source::Rings(|stats| &stats.sleeps),
    },
    Counter { name: "host", meaning: "Frames that the pipeline left to the host.", source: Source::Core },
    Counter {
        name: "handovers",
        meaning: "Frames handed over to the worker that owns their flow.",
        source: Source::Core,
    },
    Counter {
        name: "fragments-held",
        meaning: "Fragments that were held: until the first one of their datagram came, or for buffers to be fragmented \
                  into.",
        source: Source::Core,
    },
    Counter {
        name: "fragments-created",
        meaning: "Fragments made of IPv4 packets too large for their egress, without the first of each packet.",
        source: Source::Core,
    },
    Counter { name: "flows-created", meaning: "Flows that were created.", source: Source::Core },
    Counter {
        name: "flows-expired",
        meaning: "Flows removed after their idle timeout, or because their own address is no longer the gateway's.",
        source: Source::Core,
    },
    Counter {
        name: "flows-reopened",
        meaning: "Flows that a new connection between the same ports reopened, after the old one had ended or its backend \
                  was gone.",
        source: Source::Core,
    },
    Counter { name: "flows-reset", meaning: "Flows that ended with a reset before any reply.", source: Source::Core },
    Counter {
        name: "evicted-half-open",
        meaning: "Flows evicted before their handshake was finished: by new flows in a full table, or by flows of the same \
                  client in a table that fills.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-one-way",
        meaning: "Flows evicted by new ones in a full table: UDP and echo requests without a reply.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-closing",
        meaning: "Flows evicted by new ones in a full table: connections that had ended or were about to.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-unassured",
        meaning: "Flows evicted by new ones in a full table: answered, but never assured.",
        source: Source::Core,
    },
    Counter {
        name: "evicted-stream",
        meaning: "Flows evicted by new ones in a full table: UDP that went back and forth.",
        source: Source::Core,
    },
    Counter {
        name: "forwarded-stateless",
        meaning: "Packets forwarded statelessly, in a full table or past the limit on new flows.",
        source: Source::Core,
    },
    Counter {
        name: "echoes-answered",
        meaning: "Pings that the gateway answered itself: of its overlay addresses, of masquerade addresses, of services' \
                  addresses.",
        source: Source::Core,
    },
    Counter {
        name: "errors-translated",
        meaning: "ICMP errors from others about packets of flows, translated and forwarded.",
        source: Source::Core,
    },
    Counter { name: "errors-sent", meaning: "ICMP errors that the gateway itself sent.", source: Source::Core },
    Counter {
        name: "resets-sent",
        meaning: "TCP segments of connections whose backend was removed, answered with a reset: see `removed_backend`.",
        source: Source::Core,
    },
];

const HEAD: &str = "\
# Counters

This page is written from the code; a test compares the two with what `weirgate status` reports.

Counters begin at 0 with the process and only grow. They are read without disturbing a worker: each is exact by itself,
but two of them may be of different moments. `weirgate status` shows drops that happened, `weirgate status --all` every
reason, and `weirgate status --json` everything: `drops` and `counters` are objects with the names below as keys, and
`ports`, `services` and `flows` carry the traffic of each.

## Drops

Every dropped frame has exactly one of these reasons.

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
| `ports[].received` | frames received from the port's rings and their bytes, with Ethernet headers |
| `ports[].transmitted` | frames put into the port's rings and their bytes, with Ethernet headers |
| `services[].original` | IP packets from clients to the service and their bytes |
| `services[].reply` | IP packets from the service to clients and their bytes |
| `services[].flows_created` | flows that were created for the service |
| `flow_memory[].adopted`, `flow_memory[].damaged` | flows that a worker adopted from an earlier process, and entries of that process that were dropped as damaged |
| `flow_memory[].strayed` | flows of that process that were dropped because their replies no longer arrive at this worker: `[masquerade]` has other ports or addresses, or the selector another seed |
| `pool[].flows`, `pool[].capacity` | flows that use an address of the SNAT pool, counted again every few seconds, and the most that could use it if spread evenly over all backends |
| `masquerade[].flows` | pods' flows that use an address of `[masquerade]`, counted again every few seconds |
| `masquerade[].busiest`, `masquerade[].capacity` | of these, the flows towards the busiest remote endpoint (never too few, sometimes a few too many), and the most that one endpoint can have: the address's ports |
| `warnings` | a sentence if the gateway forwards nothing, and one for each flow table, pool address and masquerade address that is at least 90 % full; the log repeats these once a minute |
| `flows[].used`, `flows[].capacity` | flows that a worker's table holds, and flows that it has room for |
| `flows[].half_open` | flows among them whose handshake is not finished |
| `burst_times` | nanoseconds from when a worker receives a burst from its rings until it has queued the last frame of it, to about 3 % |
";
