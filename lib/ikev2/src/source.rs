//! Where half-open IKE SAs come from: nobody may have all of them (RFC 8019 4.2).

use std::collections::HashMap;
use std::net::IpAddr;

use crate::output::Path;

/// Who is taken for one: an IPv4 address, or an IPv6 /64 network, as a host there has as many addresses as it likes. Who calls another
/// address of ours is another one: it may be in another context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    local: IpAddr,
    remote: u128,
}

/// Half-open IKE SAs by source. As many entries as there are half-open IKE SAs, at most.
#[derive(Debug, Default)]
pub(crate) struct Sources(HashMap<Source, u32>);

impl From<Path> for Source {
    fn from(path: Path) -> Self {
        Self {
            local: path.local.ip(),
            remote: match path.remote.ip() {
                IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
                IpAddr::V6(address) => address.to_bits() >> 64 << 64,
            },
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
        let calls = |local: &str, remote: &str| {
            let end = |address: &str| std::net::SocketAddr::new(address.parse().unwrap(), 500);
            Source::from(Path {
                local: end(local),
                remote: end(remote),
            })
        };
        let source = |remote: &str| calls("192.0.2.9", remote);
        let mut sources = Sources::default();
        sources.add(source("192.0.2.1"));
        sources.add(source("2001:db8::1"));
        sources.add(source("2001:db8::2"));
        assert_eq!(sources.of(source("192.0.2.1")), 1);
        assert_eq!(sources.of(source("192.0.2.2")), 0);
        assert_eq!(sources.of(calls("192.0.2.8", "192.0.2.1")), 0);
        assert_eq!(sources.of(source("2001:db8::ffff:3")), 2);
        assert_eq!(sources.of(source("2001:db8:0:1::1")), 0);
        sources.remove(source("192.0.2.1"));
        sources.remove(source("192.0.2.1"));
        sources.remove(source("2001:db8::1"));
        sources.remove(source("2001:db8::1"));
        assert!(sources.0.is_empty());
    }
}
