//! How often something may be done: tokens, some at once and then at their pace, and a pacer for what is kept apart.

use crate::time::{Instant, Span};

/// Tokens for what may be done only so often: some a second, and some at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    tokens: u64,
    burst: u64,
    /// Nanoseconds that bring one token.
    token: u64,
    refilled: Instant,
}

impl Budget {
    pub(crate) const fn new(per_second: u64, burst: u64) -> Self {
        Self { tokens: burst, burst, token: Span::from_secs(1).0 / per_second, refilled: Instant::ZERO }
    }

    /// For what the gateway says of its own accord, as Linux has it (`icmp_msgs_per_sec`,
    /// `icmp_msgs_burst`).
    pub(super) const fn icmp() -> Self {
        Self::new(1000, 50)
    }

    /// For what path MTU discovery hangs on. Linux does not limit it; RFC 4443 §2.4 f asks for a limit.
    pub(super) const fn too_big() -> Self {
        Self::new(10_000, 1000)
    }

    fn refill(&mut self, now: Instant) {
        if self.tokens == self.burst {
            self.refilled = now;
            return;
        }
        // What has passed of the next token's time goes on counting.
        let tokens = (now - self.refilled).0 / self.token;
        self.tokens = self.tokens.saturating_add(tokens).min(self.burst);
        self.refilled = self.refilled + Span(tokens * self.token);
    }

    // Subtracting the `bool` that is returned is what rustc 1.95.0 gets wrong: see docs/decisions.md, Compilers.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let Some(left) = self.tokens.checked_sub(1) else { return false };
        self.tokens = left;
        true
    }
}

/// How much of the time that passes a limit lends in advance.
const AT_ONCE: Span = Span::from_millis(100);

/// Keeps things apart by a span on average (the virtual scheduling of ITU-T I.371's generic cell rate
/// algorithm: a token bucket without division).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacer {
    /// When the next one would be due if all came evenly.
    next: Instant,
}

impl Pacer {
    pub(super) const fn new() -> Self {
        Self { next: Instant::ZERO }
    }

    /// Whether one may come now.
    pub(super) fn may_come(&self, now: Instant) -> bool {
        self.next.max(now) - now <= AT_ONCE
    }

    /// One has come; the next is due `apart` later.
    pub(super) fn come(&mut self, now: Instant, apart: Span) {
        self.next = self.next.max(now) + apart;
    }

    /// Whether one may come now; it has come then. `apart` of zero for no limit.
    pub(super) fn take(&mut self, now: Instant, apart: Span) -> bool {
        let may_come = apart == Span(0) || self.may_come(now);
        if may_come {
            self.come(now, apart);
        }
        may_come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_at_once_and_then_comes_at_its_pace_however_often_it_is_asked() {
        for microseconds in [1, 7, 999, 1000, 1001, 1400, 1900, 40_000] {
            let mut budget = Budget::new(1000, 50);
            let mut now = Instant::from_secs(1000);
            let mut spend = |now| (0..1000).take_while(|_| budget.take(now)).count() as u64;
            assert_eq!(spend(now), 50);
            let steps = 1_000_000 / microseconds;
            let spent: u64 = (0..steps)
                .map(|_| {
                    now = now + Span(microseconds * 1000);
                    spend(now)
                })
                .sum();
            assert_eq!(spent, steps * microseconds / 1000, "asked each {microseconds} µs for a second");
            assert_eq!(spend(now + Span::from_secs(3600)), 50, "no more is saved up");
        }
    }

    #[test]
    fn a_pacer_lends_a_tenth_of_a_second_and_then_keeps_the_pace() {
        for (start, apart) in [(Instant::ZERO, 1_000_000), (Instant::from_secs(77), 1_000_000), (Instant(5), 100)] {
            let mut pacer = Pacer::new();
            let mut take = |now| pacer.take(now, Span(apart));
            let at_once = (0..10_000_000).take_while(|_| take(start)).count() as u64;
            assert_eq!(at_once, AT_ONCE.0 / apart + 1);
            // Whatever is refused is not owed.
            let mut taken = 0;
            for step in 1..=1000 {
                let now = start + Span(step * apart / 2);
                taken += u64::from(take(now));
            }
            assert_eq!(taken, 500);
            let later = start + Span::from_secs(1000);
            let at_once = (0..10_000_000).take_while(|_| take(later)).count() as u64;
            assert_eq!(at_once, AT_ONCE.0 / apart + 1, "idle time is not saved up");
        }
    }
}
