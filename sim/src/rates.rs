//! How fast something grows, over a window of time.

use std::collections::VecDeque;

/// Seconds that a rate is taken over.
const WINDOW: f64 = 1.0;
/// Seconds that are too short to say anything.
const SHORTEST: f64 = 0.2;

/// Samples of the latest second: seconds and octets, packets. The time is that of whoever counted, so that it does not matter when a sample is heard.
#[derive(Debug, Default)]
pub(crate) struct Rates(VecDeque<(f64, [u64; 2])>);

impl Rates {
    /// One more sample; the same again changes nothing.
    pub(crate) fn push(&mut self, seconds: f64, counts: [u64; 2]) {
        let is_older = |(other, _): &(f64, _)| *other >= seconds;
        while self.0.back().is_some_and(is_older) {
            self.0.pop_back();
        }
        self.0.push_back((seconds, counts));
        // The last that is a window old stays: the rate is taken from there.
        while self
            .0
            .get(1)
            .is_some_and(|(second, _)| seconds - second >= WINDOW)
        {
            self.0.pop_front();
        }
    }

    /// Growth in a second; zero as long as nothing can be said.
    pub(crate) fn per_second(&self) -> [f64; 2] {
        let (Some((start, before)), Some((end, after))) = (self.0.front(), self.0.back()) else {
            return [0.0; 2];
        };
        let seconds = end - start;
        if seconds < SHORTEST {
            return [0.0; 2];
        }
        let [octets, packets] = [0, 1].map(|n| after[n].saturating_sub(before[n]) as f64 / seconds);
        [octets, packets]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_latest_second() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), [0.0; 2]);
        // Set-up: nothing flows, and no time passes.
        rates.push(0.0, [0, 0]);
        rates.push(0.0, [0, 0]);
        assert_eq!(rates.per_second(), [0.0; 2]);
        for quarter in 1..=8_u64 {
            rates.push(quarter as f64 / 4.0, [quarter * 250, quarter * 25]);
            assert_eq!(rates.per_second(), [1000.0, 100.0]);
        }
        // It gets slower, and after a second nothing of before is seen any more.
        for quarter in 1..=4_u64 {
            rates.push(2.0 + quarter as f64 / 4.0, [2000 + quarter, 200]);
        }
        assert_eq!(rates.per_second(), [4.0, 0.0]);
    }

    #[test]
    fn samples_close_to_each_other_do_no_harm() {
        let mut rates = Rates::default();
        rates.push(0.0, [0, 0]);
        rates.push(0.001, [1_000_000, 1000]);
        assert_eq!(rates.per_second(), [0.0; 2]);
        rates.push(1.0, [2_000_000, 2000]);
        rates.push(1.0, [2_000_000, 2000]);
        rates.push(1.001, [2_002_000, 2002]);
        let [octets, packets] = rates.per_second();
        assert!((1_000_000.0..2_010_000.0).contains(&octets), "{octets}");
        assert!((1000.0..2010.0).contains(&packets), "{packets}");
        // The last word may correct what was said of the same moment.
        rates.push(1.001, [2_102_000, 2102]);
        assert!(rates.per_second()[0] > octets);
    }

    #[test]
    fn a_long_silence_is_averaged() {
        let mut rates = Rates::default();
        rates.push(0.0, [0, 0]);
        rates.push(0.5, [100, 10]);
        rates.push(10.5, [1100, 110]);
        assert_eq!(rates.per_second(), [100.0, 10.0]);
    }
}
