//! Address ranges of selectors as networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sadb::Selector;

/// The fewest networks that cover the selectors' ranges exactly, without repetitions. At most 254 for each.
pub(crate) fn networks(selectors: &[Selector]) -> Vec<IpNet> {
    let mut all = Vec::new();
    for selector in selectors {
        match (selector.start, selector.end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => {
                cover(
                    u32::from(start).into(),
                    u32::from(end).into(),
                    32,
                    |bits, length| {
                        if let Ok(net) = Ipv4Net::new(Ipv4Addr::from(bits as u32), length) {
                            all.push(IpNet::V4(net));
                        }
                    },
                );
            }
            (IpAddr::V6(start), IpAddr::V6(end)) => cover(start.into(), end.into(), 128, |bits, length| {
                if let Ok(net) = Ipv6Net::new(Ipv6Addr::from(bits), length) {
                    all.push(IpNet::V6(net));
                }
            }),
            _ => {}
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Takes the largest aligned block that begins at `start` and does not go beyond `end`, again and again.
fn cover(mut start: u128, end: u128, width: u32, mut network: impl FnMut(u128, u8)) {
    while start <= end {
        let aligned = start.trailing_zeros().min(width);
        // Bits of the longest block that still fits: 2^n - 1 addresses beyond the first.
        let span = end - start;
        let fits = match span.checked_add(1) {
            Some(count) => count.ilog2(),
            None => 128,
        };
        let bits = aligned.min(fits).min(width);
        network(start, (width - bits) as u8);
        let Some(next) = 1u128.checked_shl(bits).and_then(|count| start.checked_add(count)) else {
            return;
        };
        start = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(start: &str, end: &str) -> Vec<String> {
        let selector = Selector::any_port(start.parse().unwrap(), end.parse().unwrap());
        networks(&[selector]).iter().map(|net| net.to_string()).collect()
    }

    #[test]
    fn ranges_become_the_fewest_networks() {
        assert_eq!(of("10.1.0.0", "10.1.255.255"), ["10.1.0.0/16"]);
        assert_eq!(of("10.0.0.7", "10.0.0.7"), ["10.0.0.7/32"]);
        assert_eq!(
            of("10.0.0.1", "10.0.0.4"),
            ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]
        );
        assert_eq!(of("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(of("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ["::/0"]);
        assert_eq!(of("2001:db8::", "2001:db8::ffff"), ["2001:db8::/112"]);
        assert_eq!(of("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe").len(), 254);
    }

    proptest! {
        #[test]
        fn they_cover_the_range_and_nothing_else(one: u32, two: u32) {
            let (start, end) = (one.min(two), one.max(two));
            let selector = Selector::any_port(Ipv4Addr::from(start).into(), Ipv4Addr::from(end).into());
            let mut next = u64::from(start);
            for net in networks(&[selector]) {
                let IpNet::V4(net) = net else { panic!("family") };
                prop_assert_eq!(u64::from(u32::from(net.network())), next);
                next = u64::from(u32::from(net.broadcast())) + 1;
            }
            prop_assert_eq!(next, u64::from(end) + 1);
        }
    }
}
