//! What a worker does between two turns.

use weirgate::time::{Instant, Span};

use super::Poll;

/// How long there must be nothing to do before an adaptive worker sleeps.
const IDLE_SPELL: Span = Span(300_000);
/// A thread that keeps a yielded core for longer than this has work of its own, and does not just answer what the
/// worker has sent.
const LONG_AWAY: Span = Span(500_000);
/// For how long the core then counts as wanted by others: the first time, and at most.
const CROWDED: Span = Span::from_millis(50);
const CROWDED_MAX: Span = Span::from_secs(2);

/// What comes after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// The next turn.
    Turn,
    /// Yield the core, then the next turn.
    Yield,
    /// Sleep until a frame comes.
    Sleep,
}

/// A worker's spells with nothing to do.
///
/// To wake up takes long, so an adaptive worker keeps polling for a while. Meanwhile the client or server whose next
/// frame it waits for may wait for its core. So it yields the core between two polls, and after each turn that moved
/// frames; otherwise the slowest answers would wait for the scheduler's next tick. On a core that others want for
/// long, each yield can cost one of the scheduler's time slices, some milliseconds. There the worker sleeps at once,
/// since the scheduler prefers a thread that has slept. If the same happens at its next yield, it waits twice as long
/// before the one after that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    poll: Poll,
    last_moved: Instant,
    crowded_until: Instant,
    crowded: Span,
}

impl Rest {
    pub(super) const fn new(poll: Poll, now: Instant) -> Self {
        Self { poll, last_moved: now, crowded_until: Instant::ZERO, crowded: CROWDED }
    }

    /// What follows a turn that ended now, by whether it moved frames.
    pub(super) fn next(&mut self, now: Instant, has_moved: bool) -> Next {
        if has_moved {
            self.last_moved = now;
        }
        let is_crowded = now < self.crowded_until;
        match self.poll {
            Poll::Adaptive if has_moved && is_crowded => Next::Turn,
            Poll::Adaptive if is_crowded || now - self.last_moved > IDLE_SPELL => Next::Sleep,
            Poll::Adaptive => Next::Yield,
            Poll::Busy => Next::Turn,
        }
    }

    /// The core was yielded from the first to the second of these.
    pub(super) fn yielded(&mut self, from: Instant, back: Instant) {
        if back - from > LONG_AWAY {
            let is_again = back - self.crowded_until < self.crowded;
            self.crowded = if is_again { Span((2 * self.crowded.0).min(CROWDED_MAX.0)) } else { CROWDED };
            self.crowded_until = back + self.crowded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(100);

    #[test]
    fn a_busy_worker_never_rests() {
        let mut rest = Rest::new(Poll::Busy, NOW);
        rest.yielded(NOW, NOW + Span::from_secs(5));
        for has_moved in [true, false] {
            assert_eq!(rest.next(NOW + Span::from_secs(5), has_moved), Next::Turn);
        }
    }

    #[test]
    fn an_adaptive_worker_offers_its_core_for_a_while_and_then_sleeps() {
        let mut rest = Rest::new(Poll::Adaptive, NOW);
        assert_eq!(rest.next(NOW, true), Next::Yield);
        assert_eq!(rest.next(NOW + IDLE_SPELL, false), Next::Yield);
        assert_eq!(rest.next(NOW + IDLE_SPELL + Span(1), false), Next::Sleep);
        assert_eq!(rest.next(NOW + IDLE_SPELL + Span(1), true), Next::Yield);
        assert_eq!(rest.next(NOW + IDLE_SPELL + Span(2), false), Next::Yield);
    }

    #[test]
    fn a_core_that_others_keep_is_not_offered_again_for_a_while() {
        let mut rest = Rest::new(Poll::Adaptive, NOW);
        rest.yielded(NOW, NOW + LONG_AWAY);
        assert_eq!(rest.next(NOW + LONG_AWAY, true), Next::Yield, "an answer is made that quickly");
        let back = NOW + LONG_AWAY + Span(1);
        rest.yielded(NOW, back);
        let later = back + CROWDED;
        for now in [back, Instant(later.0 - 1)] {
            assert_eq!(rest.next(now, true), Next::Turn, "there may be more");
            assert_eq!(rest.next(now, false), Next::Sleep);
        }
        assert_eq!(rest.next(later, true), Next::Yield);
        assert_eq!(rest.next(later, false), Next::Yield);
    }

    #[test]
    fn where_it_happens_again_and_again_the_core_is_offered_less_and_less_often() {
        let away = |rest: &mut Rest, from: Instant| {
            let back = from + LONG_AWAY + Span(1);
            rest.yielded(from, back);
            Span(rest.crowded_until.0 - back.0)
        };
        let mut rest = Rest::new(Poll::Adaptive, NOW);
        let mut lengths = Vec::new();
        for _ in 0..7 {
            let from = rest.crowded_until.max(NOW);
            lengths.push(away(&mut rest, from).0 / 1_000_000);
        }
        assert_eq!(lengths, [50, 100, 200, 400, 800, 1600, 2000]);
        let after_a_quiet_spell = rest.crowded_until + CROWDED_MAX;
        assert_eq!(away(&mut rest, after_a_quiet_spell), CROWDED);
    }
}
