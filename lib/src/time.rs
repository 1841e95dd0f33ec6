//! Time as the caller tells it: nanoseconds on a monotonic clock that goes on across a restart of
//! the process (on Linux, `CLOCK_BOOTTIME`). The core reads no clock.

use core::ops::{Add, Sub};

/// A point on the caller's clock, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Instant(pub u64);

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Span(pub u64);

impl Instant {
    /// The clock's zero.
    pub const ZERO: Self = Self(0);

    /// The point this many seconds after the clock's zero.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }
}

impl Span {
    /// This many whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// This many milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds.saturating_mul(1_000_000))
    }

    /// Whole seconds, the rest cut off.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }
}

impl Add<Span> for Instant {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Instant {
    type Output = Span;

    fn sub(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// The flow clock's tick, in nanoseconds as a power of two: 2²⁰, about a millisecond.
const TICK_SHIFT: u32 = 20;

/// The tick of a point in time. Ticks wrap after 52 days; only differences matter.
#[must_use]
#[inline]
pub const fn tick(now: Instant) -> u32 {
    (now.0 >> TICK_SHIFT) as u32
}

/// How many ticks so many seconds are, at most half the clock's range: so a wrapped difference is never taken for a
/// small one.
#[must_use]
pub(crate) const fn ticks(seconds: u32) -> u32 {
    let ticks = (seconds as u64 * 1_000_000_000) >> TICK_SHIFT;
    if ticks > (u32::MAX / 2) as u64 { u32::MAX / 2 } else { ticks as u32 }
}

/// How long so many ticks are.
#[must_use]
pub(crate) const fn span(ticks: u32) -> Span {
    Span((ticks as u64) << TICK_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_convert_and_stop_at_the_ends_of_the_clock() {
        assert_eq!(Span::from_secs(3), Span(3_000_000_000));
        assert_eq!(Span::from_millis(3), Span(3_000_000));
        assert_eq!(Instant::from_secs(3), Instant(3_000_000_000));
        assert_eq!([Span(2_999_999_999), Span::from_secs(3)].map(Span::as_secs), [2, 3], "the rest is cut off");
        assert_eq!([Span::from_secs(u64::MAX), Span::from_millis(u64::MAX)], [Span(u64::MAX); 2]);
        let (early, late) = (Instant::from_secs(1), Instant::from_secs(4));
        assert_eq!(late - early, Span::from_secs(3));
        assert_eq!(early - late, Span(0), "a clock that goes back is one that stands");
        assert_eq!(Instant(u64::MAX) + Span(1), Instant(u64::MAX));
    }
}
