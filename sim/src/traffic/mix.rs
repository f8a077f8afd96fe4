//! Which sizes packets have, and in which order.

use clap::ValueEnum;

/// What live mobile networks carry: octets of a packet, and how many of them pass in a second. Four published profiles; only the proportions matter here.
const MIXES: [&[(u16, u32)]; 4] = [
    &[
        (114, 27_991),
        (200, 5_841),
        (491, 1_807),
        (1000, 2_488),
        (1428, 6_039),
    ],
    &[
        (120, 16_960),
        (218, 9_161),
        (438, 2_960),
        (1075, 5_619),
        (1398, 56_458),
    ],
    &[
        (113, 14_171),
        (208, 3_255),
        (477, 1_135),
        (994, 2_190),
        (1417, 4_741),
    ],
    &[
        (112, 7_703),
        (221, 3_320),
        (437, 1_527),
        (1034, 3_055),
        (1367, 55_815),
    ],
];

/// A mix of packet sizes seen in mobile networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// Mostly small packets: 370 octets on average
    #[value(name = "1")]
    One,
    /// Mostly large ones: 990
    #[value(name = "2")]
    Two,
    /// As the first, with more large ones: 459
    #[value(name = "3")]
    Three,
    /// As the second, with fewer small ones: 1144
    #[value(name = "4")]
    Four,
}

/// Sizes in an order that keeps their proportions: exactly over a period, and at any moment by less than one packet of each size per size.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// Size, how many of a period, how much it is behind its share.
    sizes: Vec<(u16, i64, i64)>,
    period: i64,
}

impl Mix {
    /// Its number, as it is published.
    pub(crate) fn number(self) -> usize {
        self as usize + 1
    }

    /// By its number.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        [Self::One, Self::Two, Self::Three, Self::Four]
            .into_iter()
            .find(|mix| mix.number() as u64 == number)
    }
}

impl Sizes {
    /// One size.
    pub(crate) fn fixed(size: u16) -> Self {
        Self::new(&[(size, 1)])
    }

    /// Those of a mix.
    pub(crate) fn of(mix: Mix) -> Self {
        Self::new(MIXES[mix as usize])
    }

    fn new(parts: &[(u16, u32)]) -> Self {
        let sizes: Vec<_> = parts
            .iter()
            .map(|(size, count)| (*size, i64::from(*count), 0))
            .collect();
        let period = sizes.iter().map(|(_, count, _)| count).sum();
        Self { sizes, period }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u16 {
        let mut chosen = 0;
        let mut most = i64::MIN;
        for (place, (_, count, behind)) in self.sizes.iter_mut().enumerate() {
            *behind += *count;
            if *behind > most {
                (chosen, most) = (place, *behind);
            }
        }
        self.sizes.get_mut(chosen).map_or(0, |(size, _, behind)| {
            *behind -= self.period;
            *size
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_period_has_exactly_the_published_proportions() {
        for mix in Mix::value_variants() {
            let parts = MIXES[*mix as usize];
            let period: u32 = parts.iter().map(|(_, count)| count).sum();
            let mut sizes = Sizes::of(*mix);
            for _ in 0..2 {
                let mut seen: HashMap<u16, u32> = HashMap::new();
                for sent in 1..=period {
                    *seen.entry(sizes.next()).or_default() += 1;
                    // At any moment each size has had its share, but for a few packets.
                    for (size, count) in parts.iter().filter(|_| sent % 997 == 0) {
                        let share = f64::from(*count) * f64::from(sent) / f64::from(period);
                        let off = f64::from(seen.get(size).copied().unwrap_or_default()) - share;
                        assert!(off.abs() < parts.len() as f64, "{size}: {off}");
                    }
                }
                assert_eq!(seen, parts.iter().copied().collect(), "mix {}", mix.number());
            }
        }
    }

    #[test]
    fn averages_are_those_of_the_help() {
        for (mix, average) in Mix::value_variants().iter().zip([370, 990, 459, 1144]) {
            let parts = MIXES[*mix as usize];
            let (octets, packets) = parts.iter().fold((0, 0), |(octets, packets), (size, count)| {
                (octets + u32::from(*size) * count, packets + count)
            });
            assert_eq!(octets / packets, average);
            assert_eq!(Mix::from_number(mix.number() as u64), Some(*mix));
        }
        assert_eq!(Mix::from_number(0), None);
        assert_eq!(Sizes::fixed(64).next(), 64);
    }
}
