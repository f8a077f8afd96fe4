//! What is carried: sizes, headers, chance.

use std::net::Ipv4Addr;

use clap::ValueEnum;
use esp::Checksum;

/// Room for a packet with all that is around it.
pub const ROOM: usize = 2048;
/// Without options.
pub const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const DONT_FRAGMENT: u16 = 0x4000;
/// Of both ends.
const PORT: u16 = 2152;

/// How long the inner packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sizes {
    /// 1400 octets
    Long,
    /// 64 octets
    Short,
    /// What a mobile network carries
    Mobile,
}

impl Sizes {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Long, Self::Short, Self::Mobile];

    /// Lengths in octets, and packets a second of each. The mobile mix is one that was published of a live network.
    fn shares(self) -> &'static [(usize, u64)] {
        match self {
            Self::Long => &[(1400, 1)],
            Self::Short => &[(64, 1)],
            Self::Mobile => &[(114, 27991), (200, 5841), (491, 1807), (1000, 2488), (1428, 6039)],
        }
    }

    /// For people and machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Long => "1400",
            Self::Short => "64",
            Self::Mobile => "mobile",
        }
    }

    /// The mean length in octets.
    pub fn mean(self) -> f64 {
        let all: u64 = self.shares().iter().map(|(_, share)| share).sum();
        let octets: u64 = self
            .shares()
            .iter()
            .map(|(length, share)| *length as u64 * share)
            .sum();
        octets as f64 / all as f64
    }

    /// The length of one packet.
    pub fn pick(self, chance: &mut Chance) -> usize {
        let all = self.shares().iter().map(|(_, share)| share).sum();
        let mut left = chance.below(all);
        for (length, share) in self.shares() {
            if left < *share {
                return *length;
            }
            left -= share;
        }
        0
    }
}

/// The same numbers in every run (xorshift).
pub struct Chance(u64);

impl Chance {
    /// `seed` must not be 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

/// Writes a UDP packet that fills `out`, at least 28 octets, with both checksums.
pub fn write_udp(out: &mut [u8], source: Ipv4Addr, destination: Ipv4Addr) {
    let length = out.len() as u16;
    let upper = length - IPV4_HEADER as u16;
    let (ip, udp) = out.split_at_mut(IPV4_HEADER);
    let (header, payload) = udp.split_at_mut(UDP_HEADER);
    payload.fill(7);
    let addresses = [source.octets(), destination.octets()].concat();
    let put = |place: &mut [u8], words: &[u16]| {
        for (place, word) in place.chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    };
    let protocol = u16::from(UDP);
    put(ip, &[0x4500, length, 0, DONT_FRAGMENT, 64 << 8 | protocol, 0]);
    ip.iter_mut()
        .skip(12)
        .zip(&addresses)
        .for_each(|(to, from)| *to = *from);
    let sum = Checksum::new().with(ip).finish();
    put(&mut ip[10..], &[u16::from_be_bytes(sum)]);
    put(header, &[PORT, PORT, upper, 0]);
    let sum = Checksum::new()
        .with(&addresses)
        .with_word(protocol)
        .with_word(upper)
        .with(udp)
        .finish();
    put(&mut udp[6..], &[u16::from_be_bytes(sum)]);
}
