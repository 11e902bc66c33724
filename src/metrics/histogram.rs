//! Histograms of fixed, log-linear buckets, for one thread that counts and any that read.
//!
//! ```text
//!  value   0 ..... 2^low | 1.5*2^low | 2^(low+1) | 1.5*2^(low+1) | .. | 2^high | more
//!  bucket        0       |     1     |     2     |       3       | .. |        | last
//! ```
//!
//! Each bucket holds what is at most its bound and more than the one before it. Counting is two additions, of one in a bucket
//! and of the value to the sum: no lock, no allocation, no search. What a bucket does not tell (where in it a value lies) is
//! at most a half of its bound, or with whole octaves the half that Prometheus interpolates in anyway.

use super::Counter;

/// Which buckets a histogram has, and in what its values are served.
#[derive(Debug)]
pub struct Scale {
    /// The first bound is 2 to the power of this.
    low: u32,
    /// The last bound likewise.
    high: u32,
    /// A bound at one and a half of each power as well.
    halves: bool,
    /// A served unit is so many counted ones: 1,000,000 where microseconds are counted and seconds are served.
    per_unit: u64,
}

/// What the disk takes: microseconds, 16 µs to 17 s.
pub static DISK_US: Scale = Scale { low: 4, high: 24, halves: true, per_unit: 1_000_000 };
/// What a client, a server or a verifier takes: microseconds, 64 µs to 18 minutes.
pub static PHASE_US: Scale = Scale { low: 6, high: 30, halves: false, per_unit: 1_000_000 };
/// From acceptance to the next hop: milliseconds, 1 ms to 6 days.
pub static QUEUE_MS: Scale = Scale { low: 0, high: 29, halves: false, per_unit: 1000 };
/// Octets: 1 KiB to 128 MiB.
pub static OCTETS: Scale = Scale { low: 10, high: 27, halves: false, per_unit: 1 };
/// Things that go together: 1 to 4096.
pub static FEW: Scale = Scale { low: 0, high: 12, halves: false, per_unit: 1 };

impl Scale {
    fn buckets(&self) -> usize {
        ((self.high - self.low) as usize * self.steps()) + 2
    }

    fn steps(&self) -> usize {
        if self.halves { 2 } else { 1 }
    }

    /// The bucket of `value`.
    fn bucket(&self, value: u64) -> usize {
        // A bound belongs to the bucket that it ends.
        let value = value.saturating_sub(1);
        if value >> self.low == 0 {
            return 0;
        }
        let octave = value.ilog2();
        if octave >= self.high {
            return self.buckets() - 1;
        }
        let half = if self.halves && octave > 0 { (value >> (octave - 1)) & 1 } else { 0 };
        (octave - self.low) as usize * self.steps() + half as usize + 1
    }

    /// The bound of a bucket, counted; none: the last one has none.
    fn bound(&self, bucket: usize) -> Option<u64> {
        if bucket + 1 == self.buckets() {
            return None;
        }
        let (octave, half) = (bucket / self.steps(), (bucket % self.steps()) as u64);
        let bound = 1u64 << (self.low as usize + octave);
        Some(bound + half * (bound / 2))
    }

    /// A value as it is served.
    fn served(&self, counted: u64) -> f64 {
        counted as f64 / self.per_unit as f64
    }
}

/// How often what was how large. One thread counts, any thread reads.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    buckets: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// Nothing counted yet.
    pub fn new(scale: &'static Scale) -> Histogram {
        let buckets = (0..scale.buckets()).map(|_| Counter::default()).collect();
        Histogram { scale, buckets, sum: Counter::default() }
    }

    /// Counts a value, in the scale's unit. Only on the set's own thread.
    pub fn count(&self, value: u64) {
        self.buckets[self.scale.bucket(value)].add(1);
        self.sum.add(value);
    }

    /// Counts a time, in microseconds.
    pub fn count_time(&self, time: std::time::Duration) {
        self.count(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Several histograms of one scale as one.
#[derive(Debug)]
pub struct Total {
    scale: &'static Scale,
    buckets: Vec<u64>,
    sum: u64,
}

impl Total {
    /// Of nothing so far.
    pub fn new(scale: &'static Scale) -> Total {
        Total { scale, buckets: vec![0; scale.buckets()], sum: 0 }
    }

    /// Adds one. It must be of the same scale.
    pub fn add(&mut self, histogram: &Histogram) {
        assert!(std::ptr::eq(self.scale, histogram.scale), "one scale for each name");
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.get();
        }
        self.sum = self.sum.wrapping_add(histogram.sum.get());
    }

    /// Each bound as it is served, with how many values are at most that; the last bound is infinite, and its count is of all.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        self.buckets.iter().enumerate().map(move |(bucket, count)| {
            below += count;
            (self.scale.bound(bucket).map_or(f64::INFINITY, |bound| self.scale.served(bound)), below)
        })
    }

    /// The sum of all values, as it is served.
    pub fn sum(&self) -> f64 {
        self.scale.served(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALES: [&Scale; 5] = [&DISK_US, &PHASE_US, &QUEUE_MS, &OCTETS, &FEW];

    #[test]
    fn a_value_is_at_most_its_bucket_s_bound_and_more_than_the_one_before() {
        for scale in SCALES {
            let near = (0..64).flat_map(|octave| {
                let power = 1u64 << octave;
                [power - 1, power, power + 1, power + power / 2, (power + power / 2).saturating_add(1)]
            });
            for value in near.chain(0..5000).chain([u64::MAX]) {
                let bucket = scale.bucket(value);
                assert!(scale.bound(bucket).is_none_or(|bound| value <= bound), "{value} of {scale:?}");
                let before = bucket.checked_sub(1).and_then(|before| scale.bound(before));
                assert!(before.is_none_or(|before| value > before), "{value} of {scale:?}");
            }
        }
    }

    #[test]
    fn bounds_rise_and_end_where_the_scale_says() {
        for scale in SCALES {
            let bounds: Vec<u64> = (0..scale.buckets()).filter_map(|bucket| scale.bound(bucket)).collect();
            assert!(bounds.is_sorted_by(|one, next| one < next), "{bounds:?}");
            assert_eq!((bounds[0], bounds[bounds.len() - 1]), (1 << scale.low, 1 << scale.high));
            assert_eq!(bounds.len() + 1, scale.buckets());
        }
        let halves: Vec<u64> = (0..4).filter_map(|bucket| DISK_US.bound(bucket)).collect();
        assert_eq!(halves, [16, 24, 32, 48]);
    }

    #[test]
    fn a_total_is_over_all_and_counts_upwards() {
        let (one, other) = (Histogram::new(&DISK_US), Histogram::new(&DISK_US));
        [1, 16, 17, 20_000].into_iter().for_each(|value| one.count(value));
        [24, u64::from(u32::MAX)].into_iter().for_each(|value| other.count(value));
        let mut total = Total::new(&DISK_US);
        total.add(&one);
        total.add(&other);
        let seen: Vec<(f64, u64)> = total.cumulative().collect();
        assert_eq!(seen[..3], [(0.000_016, 2), (0.000_024, 4), (0.000_032, 4)]);
        assert_eq!(seen[seen.len() - 2..], [(16.777_216, 5), (f64::INFINITY, 6)]);
        assert_eq!(total.sum(), (1 + 16 + 17 + 20_000 + 24 + u64::from(u32::MAX)) as f64 / 1e6);
    }
}
