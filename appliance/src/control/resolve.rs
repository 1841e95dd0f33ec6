//! Which neighbours to ask the kernel about, and how often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use weirgate::net::PortId;

use super::netlink::Neighbour;

/// How long to wait before a question is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a stale entry of the kernel's is confirmed. The gateway's frames do not pass the kernel,
/// so without this it would never notice that a neighbour has moved.
const CONFIRM: Duration = Duration::from_secs(30);
/// The most questions remembered. Past it, new ones wait until old ones are forgotten.
const ASKED_MAX: usize = 4096;

/// What has been asked lately.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    asked: HashMap<(PortId, IpAddr), Instant>,
    tidied: Option<Instant>,
}

impl Resolver {
    /// Whether to ask the kernel about this neighbour now; if so, it counts as asked.
    pub(super) fn ask(&mut self, now: Instant, port: PortId, address: IpAddr, neighbour: Neighbour) -> bool {
        let interval = match neighbour {
            Neighbour::Known(_) => return false,
            Neighbour::Stale(_) => CONFIRM,
            Neighbour::Asked | Neighbour::Failed | Neighbour::Gone => AGAIN,
        };
        let key = (port, address);
        if self.asked.get(&key).is_some_and(|last| now.saturating_duration_since(*last) < interval) {
            return false;
        }
        if self.asked.len() >= ASKED_MAX && !self.asked.contains_key(&key) {
            let lately = |last: Instant| now.saturating_duration_since(last) < AGAIN;
            // Checking all of them is work; once a second is enough.
            if !self.tidied.is_some_and(lately) {
                self.asked.retain(|_, last| lately(*last));
                self.tidied = Some(now);
            }
            if self.asked.len() >= ASKED_MAX {
                return false;
            }
        }
        self.asked.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use weirgate::net::Mac;

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_neighbour_is_asked_for_once_a_second_and_confirmed_twice_a_minute() {
        let start = Instant::now();
        let address = IpAddr::from([192, 0, 2, 7]);
        let asked = |neighbour: Neighbour| {
            let mut resolver = Resolver::default();
            let at = |second| start + Duration::from_secs(second);
            (0..60).filter(|second| resolver.ask(at(*second), PortId(0), address, neighbour)).count()
        };
        assert_eq!(asked(Neighbour::Gone), 60);
        assert_eq!(asked(Neighbour::Failed), 60);
        assert_eq!(asked(Neighbour::Stale(MAC)), 2);
        assert_eq!(asked(Neighbour::Known(MAC)), 0);
    }

    #[test]
    fn a_scan_of_addresses_takes_bounded_memory() {
        let start = Instant::now();
        let mut resolver = Resolver::default();
        let mut ask =
            |number: u32, at| resolver.ask(at, PortId(0), IpAddr::from(number.to_be_bytes()), Neighbour::Gone);
        let asked = (0..100_000).filter(|number| ask(*number, start)).count();
        assert_eq!(asked, ASKED_MAX);
        assert!(ask(200_000, start + AGAIN), "later there is room again");
        assert!(resolver.asked.len() <= ASKED_MAX);
    }
}
