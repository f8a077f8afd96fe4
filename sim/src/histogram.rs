//! Times, counted: how many of which length.
//!
//! Log-linear: 64 places for each power of two, so that a quantile is never less than the truth and at most 1/64 more, at any length, in 30 KiB.

use std::time::Duration;

use serde_json::{Value, json};

/// Places of a power of two, as a power of two.
const FINE: u32 = 6;
const PLACES: usize = ((u64::BITS - FINE + 1) as usize) << FINE;
/// What is told of a histogram.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// A histogram of times in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    /// Of all times.
    sum: u128,
    longest: u64,
}

impl Histogram {
    /// One more time.
    pub(crate) fn record(&mut self, time: Duration) {
        self.record_ns(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// One more time, in nanoseconds.
    pub(crate) fn record_ns(&mut self, time: u64) {
        if let Some(count) = self.counts.get_mut(place(time)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += u128::from(time);
        self.longest = self.longest.max(time);
    }

    /// The time that this part (0 to 1) of all does not exceed, in nanoseconds; zero when there are none.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.count as f64 * part).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return last_of(place).min(self.longest);
            }
        }
        self.longest
    }

    /// Count, mean, quantiles and the longest, in microseconds.
    pub(crate) fn to_json(&self) -> Value {
        let us = |ns: f64| (ns / 100.0).round() / 10.0;
        let mut object = json!({
            "count": self.count,
            "mean": us(self.sum as f64 / self.count.max(1) as f64),
            "max": us(self.longest as f64),
        });
        for (name, part) in QUANTILES {
            object[name] = json!(us(self.quantile(part) as f64));
        }
        object
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; PLACES],
            count: 0,
            sum: 0,
            longest: 0,
        }
    }
}

/// The quantiles of [`Histogram::to_json`] in a line for people.
pub(crate) fn line(value: &Value) -> String {
    if value["count"] == 0 {
        return "none".to_owned();
    }
    let of = |name: &str| {
        let us = value[name].as_f64().unwrap_or_default();
        if us < 1000.0 {
            format!("{name} {us:.1} us")
        } else {
            format!("{name} {:.2} ms", us / 1000.0)
        }
    };
    let names = QUANTILES.map(|(name, _)| of(name)).join(", ");
    format!("{names}, {}", of("max"))
}

/// Up to twice the number of fine places one by one; above, as many places for each power of two.
fn place(time: u64) -> usize {
    let shift = (u64::BITS - time.leading_zeros()).saturating_sub(FINE + 1);
    ((shift as usize) << FINE) + (time >> shift) as usize
}

/// The longest time of a place.
fn last_of(place: usize) -> u64 {
    let shift = (place >> FINE).saturating_sub(1);
    let first = (place - (shift << FINE)) as u64;
    (first << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_place_and_places_follow_each_other() {
        let mut next = 0;
        for place in 0..PLACES {
            let last = last_of(place);
            assert_eq!((super::place(next), super::place(last)), (place, place));
            assert!(last - next <= last / 64, "place {place} is too wide");
            next = last.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last place ends with the longest time");
    }

    #[test]
    fn quantiles_are_never_too_small_and_hardly_too_large() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        assert_eq!(line(&histogram.to_json()), "none");
        // From 1 to 1,000,000 us, each once, in an order that does not matter.
        for number in 0..1_000_000_u64 {
            histogram.record(Duration::from_micros(number * 7_919 % 1_000_000 + 1));
        }
        for (_, part) in QUANTILES {
            let (told, exact) = (histogram.quantile(part) as f64, part * 1e9);
            assert!(
                told >= exact && told <= exact * (1.0 + 1.0 / 64.0),
                "{part}: {told}"
            );
        }
        assert_eq!(
            (histogram.count, histogram.quantile(1.0)),
            (1_000_000, 1_000_000_000)
        );
        assert_eq!(histogram.to_json()["mean"], 500_000.5);
    }

    #[test]
    fn one_outlier_is_the_longest_and_nothing_else() {
        let mut histogram = Histogram::default();
        (0..9_999).for_each(|_| histogram.record_ns(1_000));
        histogram.record_ns(u64::MAX);
        assert_eq!(
            (histogram.quantile(0.999), histogram.quantile(1.0)),
            (1_007, u64::MAX)
        );
        let text = line(&histogram.to_json());
        assert!(text.starts_with("p50 1.0 us, "), "{text}");
    }
}
