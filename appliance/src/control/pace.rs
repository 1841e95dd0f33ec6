//! How often things are done: at once after a quiet spell, and at a limited rate in a storm.

use std::time::{Duration, Instant};

/// Work that is requested many times and done once for all requests.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    not_before: Option<Instant>,
    is_due: bool,
}

impl Pace {
    /// Work that is done at most once in an interval.
    pub(super) const fn new(interval: Duration) -> Self {
        Self { interval, not_before: None, is_due: false }
    }

    /// Requests the work.
    pub(super) const fn request(&mut self) {
        self.is_due = true;
    }

    /// Whether to do the work now; clears the request.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let ready = self.is_due && self.not_before.is_none_or(|not_before| not_before <= now);
        if ready {
            self.is_due = false;
            self.not_before = Some(now + self.interval);
        }
        ready
    }

    /// Defers the work for at least this long.
    pub(super) fn rest(&mut self, now: Instant, span: Duration) {
        self.not_before = Some(now + span.max(self.interval));
    }

    /// When the requested work is to be done, if any is requested.
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
