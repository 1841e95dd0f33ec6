//! The configuration as each component of the gateway needs it. What the core and the steering program need comes
//! from [`control::compile`](crate::control::compile).

use weirgate::net::WorkerId;
use weirgate::pipeline::WorkerConfig;

use super::tables::Wanted;
use crate::config::{self, Config};
use crate::worker::{Plan, Poll};

/// The interfaces that frames come from: the uplink, and the underlay where it is another.
pub(super) fn interfaces(config: &Config) -> Vec<&str> {
    let mut names = vec![config.uplink.as_str()];
    if config.underlay != config.uplink {
        names.push(&config.underlay);
    }
    names
}

/// How many workers there are: as configured, or as the host's queues and cores suggest.
pub(super) fn workers(config: &Config, suggested: u32) -> u32 {
    config.workers.map_or(suggested, u32::from)
}

/// How the workers' threads run.
pub(super) fn plan(config: &Config, workers: u8) -> Plan {
    Plan {
        workers: Some(workers.into()),
        poll: match config.poll {
            config::Poll::Adaptive => Poll::Adaptive,
            config::Poll::Busy => Poll::Busy,
        },
        first_core: config.first_core,
        ..Plan::default()
    }
}

/// The settings of one worker.
pub(super) fn worker(config: &Config, workers: u8, id: WorkerId, secret: [u64; 4]) -> WorkerConfig {
    WorkerConfig {
        id,
        workers,
        flows_v4: config.flows_v4,
        flows_v6: config.flows_v6,
        fragments: config.fragments,
        secret,
    }
}

/// The required properties of the workers' flow tables.
pub(super) fn tables(config: &Config, workers: u8) -> Wanted<'_> {
    Wanted {
        control_socket: &config.control_socket,
        directory: config.flows_memory.as_deref(),
        workers: workers.into(),
        flows: [config.flows_v4, config.flows_v6],
    }
}

#[cfg(test)]
mod tests;
