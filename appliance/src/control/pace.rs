//! How often things are done: at once after a quiet spell, and no more often than agreed in a storm.

use std::time::{Duration, Instant};

/// Work that requests come in for, done for all of them together.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    not_before: Option<Instant>,
    is_due: bool,
}

impl Pace {
    /// Work that is done once an interval at most.
    pub(super) const fn new(interval: Duration) -> Self {
        Self { interval, not_before: None, is_due: false }
    }

    /// Asks for the work to be done.
    pub(super) const fn request(&mut self) {
        self.is_due = true;
    }

    /// Whether to do the work now, which takes the request away.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let ready = self.is_due && self.not_before.is_none_or(|not_before| not_before <= now);
        if ready {
            self.is_due = false;
            self.not_before = Some(now + self.interval);
        }
        ready
    }

    /// Leaves the work at least this long alone.
    pub(super) fn rest(&mut self, now: Instant, span: Duration) {
        self.not_before = Some(now + span.max(self.interval));
    }

    /// When there is something to do, where something is asked for.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.is_due.then(|| self.not_before.map_or(now, |not_before| not_before.max(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_is_met_at_once_and_a_storm_once_an_interval() {
        let start = Instant::now();
        let interval = Duration::from_millis(50);
        let mut pace = Pace::new(interval);
        assert!(!pace.take(start));
        assert_eq!(pace.deadline(start), None);
        let mut done = 0;
        for millisecond in 0..1000 {
            pace.request();
            done += u32::from(pace.take(start + Duration::from_millis(millisecond)));
        }
        assert_eq!(done, 20);
        pace.request();
        assert_eq!(pace.deadline(start), Some(start + Duration::from_millis(1000)));
    }

    #[test]
    fn work_that_took_long_is_left_alone_for_long() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(50));
        pace.request();
        assert!(pace.take(start));
        pace.rest(start, Duration::from_secs(10));
        pace.request();
        assert!(!pace.take(start + Duration::from_secs(9)));
        assert!(pace.take(start + Duration::from_secs(10)));
    }
}
