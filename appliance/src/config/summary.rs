//! A configuration in a few lines, for people.

use std::fmt::Write;

use super::{Config, Poll};

/// "1 peer", "2 peers".
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Config {
    /// What the file says, in a few lines.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let poll = match self.poll {
            Poll::Adaptive => "adaptive",
            Poll::Busy => "busy",
        };
        let workers = self
            .workers
            .map_or_else(|| "a worker for each queue or core".into(), |n| counted(usize::from(n), "worker"));
        let addresses = self.uplink_addresses.as_ref().map_or_else(|| "its own addresses".into(), |a| joined(a));
        let _ = writeln!(text, "uplink    {} at {addresses}", self.uplink);
        let _ = writeln!(text, "underlay  {}; {workers} from core {}, polling {poll}", self.underlay, self.first_core);
        let overlay = &self.overlay;
        let _ = writeln!(
            text,
            "overlay   {} of {}; {}, VNI {}, port {}",
            joined(&overlay.subnets),
            joined(&overlay.networks),
            overlay.backend.name(),
            overlay.vni.get(),
            overlay.port
        );
        let subnets = self.peers.iter().map(|peer| peer.subnets.len()).sum();
        let _ = writeln!(text, "peers     {} with {}", self.peers.len(), counted(subnets, "subnet"));
        let backends = self.services.iter().map(|service| service.backends.len()).sum();
        let _ = writeln!(text, "services  {} with {}", self.services.len(), counted(backends, "backend"));
        let _ = writeln!(
            text,
            "flows     {} over IPv4 and {} over IPv6 for each worker; {} in the SNAT pool",
            self.flows_v4,
            self.flows_v6,
            if overlay.snat_pool.len() == 1 {
                "1 address".into()
            } else {
                format!("{} addresses", overlay.snat_pool.len())
            }
        );
        text
    }
}
