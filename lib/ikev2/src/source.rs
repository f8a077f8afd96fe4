//! Where half-open IKE SAs come from: nobody may have all of them (RFC 8019 4.2).

use std::collections::HashMap;
use std::net::IpAddr;

/// Who is taken for one: an IPv4 address, or an IPv6 /64 network, as a host there has as many addresses as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(u128);

/// Half-open IKE SAs by source. As many entries as there are half-open IKE SAs, at most.
#[derive(Debug, Default)]
pub(crate) struct Sources(HashMap<Source, u32>);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }
}

impl Sources {
    /// One more.
    pub fn add(&mut self, source: Source) {
        *self.0.entry(source).or_default() += 1;
    }

    /// One less.
    pub fn remove(&mut self, source: Source) {
        if let Some(count) = self.0.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&source);
            }
        }
    }

    /// How many there are.
    pub fn of(&self, source: Source) -> u32 {
        self.0.get(&source).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_a_network_and_is_forgotten() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        let mut sources = Sources::default();
        sources.add(source("192.0.2.1"));
        sources.add(source("2001:db8::1"));
        sources.add(source("2001:db8::2"));
        assert_eq!(sources.of(source("192.0.2.1")), 1);
        assert_eq!(sources.of(source("192.0.2.2")), 0);
        assert_eq!(sources.of(source("2001:db8::ffff:3")), 2);
        assert_eq!(sources.of(source("2001:db8:0:1::1")), 0);
        sources.remove(source("192.0.2.1"));
        sources.remove(source("192.0.2.1"));
        sources.remove(source("2001:db8::1"));
        sources.remove(source("2001:db8::1"));
        assert!(sources.0.is_empty());
    }
}
