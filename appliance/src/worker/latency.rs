use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;

/// Sub-buckets of each power of two: values are exact to 1/32.
const FINE_BITS: u32 = 5;
/// Values of 2^36 ns, about 69 s, and more are counted as the largest below.
const VALUE_BITS: u32 = 36;
const BUCKETS: usize = ((VALUE_BITS - FINE_BITS + 1) << FINE_BITS) as usize;

/// How long turns of a worker's loop took that moved frames. One thread writes, any may read.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Latency {
    /// Counts one value, in nanoseconds. Only from the one thread that writes.
    pub(crate) fn record(&self, nanoseconds: u64) {
        let bucket = &self.buckets[bucket_of(nanoseconds)];
        bucket.store(bucket.load(Relaxed) + 1, Relaxed);
    }

    /// The values so far, in nanoseconds, to about 3 %.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1 << VALUE_BITS, 2).expect("the bounds are in order");
        for (bucket, count) in self.buckets.iter().enumerate() {
            let count = count.load(Relaxed);
            // Even a count of 0 would raise the maximum.
            if count > 0 {
                histogram.saturating_record_n(lowest_of(bucket).max(1), count);
            }
        }
        histogram
    }
}

/// Values below 2^`FINE_BITS` have a bucket each; above, each power of two has 2^`FINE_BITS`.
fn bucket_of(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(FINE_BITS + 1);
    ((u64::from(shift) << FINE_BITS) + (value >> shift)) as usize
}

fn lowest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> FINE_BITS).saturating_sub(1);
    (bucket - (shift << FINE_BITS)) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_lowest_value_and_none_below() {
        for bucket in 0..BUCKETS {
            let lowest = lowest_of(bucket);
            assert_eq!(bucket_of(lowest), bucket);
            assert!(bucket == 0 || bucket_of(lowest - 1) == bucket - 1);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_three_percent() {
        let latency = Latency::default();
        for value in 1..=100_000 {
            latency.record(value);
        }
        let histogram = latency.histogram();
        assert_eq!(histogram.len(), 100_000);
        let median = histogram.value_at_quantile(0.5) as f64;
        assert!((median / 50_000.0 - 1.0).abs() < 0.04, "{median}");
        assert!((histogram.max() as f64 / 100_000.0 - 1.0).abs() < 0.04, "{}", histogram.max());
    }
}
