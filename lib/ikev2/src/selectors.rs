//! Traffic selectors (RFC 7296 3.13.1) and their narrowing (RFC 7296 2.9).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One traffic selector: ranges of addresses and ports, both ends included, and a protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrafficSelector {
    /// Lowest address.
    pub start: IpAddr,
    /// Highest address: same family, not below `start`.
    pub end: IpAddr,
    /// IP protocol number, 0 = any.
    pub protocol: u8,
    /// Lowest port, or ICMP type and code.
    pub start_port: u16,
    /// Highest port. `start_port` 65535 with `end_port` 0 is OPAQUE.
    pub end_port: u16,
}

impl TrafficSelector {
    /// Every IPv4 packet.
    pub const ANY_IPV4: Self =
        Self::range(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST));
    /// Every IPv6 packet.
    pub const ANY_IPV6: Self = Self::range(
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    );

    /// All protocols and ports of an address range. Both ends must be of one family.
    pub const fn range(start: IpAddr, end: IpAddr) -> Self {
        Self {
            start,
            end,
            protocol: 0,
            start_port: 0,
            end_port: u16::MAX,
        }
    }

    /// All protocols and ports of one address.
    pub const fn host(address: IpAddr) -> Self {
        Self::range(address, address)
    }

    /// All protocols and ports of `address/length`. A length beyond the family's is taken as a host.
    pub fn prefix(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                let start = address.to_bits() & !host;
                Self::range(
                    Ipv4Addr::from_bits(start).into(),
                    Ipv4Addr::from_bits(start | host).into(),
                )
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                let start = address.to_bits() & !host;
                Self::range(
                    Ipv6Addr::from_bits(start).into(),
                    Ipv6Addr::from_bits(start | host).into(),
                )
            }
        }
    }

    /// True for IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.start.is_ipv4()
    }

    /// True if the ports are OPAQUE: not visible, e.g. in fragments (RFC 7296 3.13.1).
    pub fn is_opaque(&self) -> bool {
        self.start_port == u16::MAX && self.end_port == 0
    }

    /// True if both ends are of one family and not upside down, OPAQUE ports allowed.
    pub fn is_valid(&self) -> bool {
        self.start.is_ipv4() == self.end.is_ipv4()
            && self.start <= self.end
            && (self.start_port <= self.end_port || self.is_opaque())
    }

    /// True if every packet that `other` matches is matched by this one too.
    pub fn contains(&self, other: &Self) -> bool {
        self.intersection(other) == Some(*other)
    }

    /// What both match, or `None` if that is nothing.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.is_ipv4() != other.is_ipv4() {
            return None;
        }
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        let protocol = match (self.protocol, other.protocol) {
            (0, protocol) | (protocol, 0) => protocol,
            (ours, theirs) if ours == theirs => ours,
            _ => return None,
        };
        let (start_port, end_port) = self.common_ports(other)?;
        (start <= end).then_some(Self {
            start,
            end,
            protocol,
            start_port,
            end_port,
        })
    }

    fn common_ports(&self, other: &Self) -> Option<(u16, u16)> {
        const ANY: (u16, u16) = (0, u16::MAX);
        let ours = (self.start_port, self.end_port);
        let theirs = (other.start_port, other.end_port);
        if ours == ANY {
            return Some(theirs);
        }
        if theirs == ANY || ours == theirs {
            return Some(ours);
        }
        if self.is_opaque() || other.is_opaque() {
            return None;
        }
        let common = (ours.0.max(theirs.0), ours.1.min(theirs.1));
        (common.0 <= common.1).then_some(common)
    }
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match prefix_length(self.start, self.end) {
            Some(length) => write!(f, "{}/{length}", self.start)?,
            None => write!(f, "{}-{}", self.start, self.end)?,
        }
        if self.protocol != 0 {
            write!(f, " protocol {}", self.protocol)?;
        }
        if self.is_opaque() {
            return write!(f, " ports opaque");
        }
        match (self.start_port, self.end_port) {
            (0, u16::MAX) => Ok(()),
            (start, end) if start == end => write!(f, " port {start}"),
            (start, end) => write!(f, " ports {start}-{end}"),
        }
    }
}

impl fmt::Debug for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What came of narrowing one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Narrowed {
    /// What is left; never empty, none inside another.
    pub selectors: Vec<TrafficSelector>,
    /// Something acceptable was left out for want of room: ADDITIONAL_TS_POSSIBLE.
    pub more: bool,
}

/// Narrows what the peer offers to what `policy` allows (`None` allows everything), at most `limit` selectors in the
/// order of the offer. `None` if nothing is left: TS_UNACCEPTABLE.
pub(crate) fn narrow(
    offered: &[TrafficSelector],
    policy: Option<&[TrafficSelector]>,
    limit: usize,
) -> Option<Narrowed> {
    let mut found: Vec<TrafficSelector> = Vec::new();
    let mut more = false;
    for offer in offered {
        match policy {
            None => more |= !add(&mut found, *offer, limit),
            Some(policy) => {
                for common in policy.iter().filter_map(|ours| ours.intersection(offer)) {
                    more |= !add(&mut found, common, limit);
                }
            }
        }
    }
    (!found.is_empty()).then_some(Narrowed {
        selectors: found,
        more,
    })
}

/// Adds a selector unless one there contains it, in place of those that it contains. False if there is no room.
fn add(found: &mut Vec<TrafficSelector>, selector: TrafficSelector, limit: usize) -> bool {
    if found.iter().any(|have| have.contains(&selector)) {
        return true;
    }
    found.retain(|have| !selector.contains(have));
    if found.len() >= limit {
        return false;
    }
    found.push(selector);
    true
}

fn prefix_length(start: IpAddr, end: IpAddr) -> Option<u32> {
    let (differing, leading, width) = match (start, end) {
        (IpAddr::V4(start), IpAddr::V4(end)) => {
            let differing = start.to_bits() ^ end.to_bits();
            let hosts = start.to_bits() & differing;
            (
                (u128::from(differing), u128::from(hosts)),
                differing.leading_zeros(),
                32,
            )
        }
        (IpAddr::V6(start), IpAddr::V6(end)) => {
            let differing = start.to_bits() ^ end.to_bits();
            let hosts = start.to_bits() & differing;
            ((differing, hosts), differing.leading_zeros(), 128)
        }
        _ => return None,
    };
    let (differing, hosts) = differing;
    let whole = differing.count_ones() == width - leading && hosts == 0;
    whole.then_some(leading)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> TrafficSelector {
        let (address, length) = text.split_once('/').unwrap();
        TrafficSelector::prefix(address.parse().unwrap(), length.parse().unwrap())
    }

    #[test]
    fn display_is_a_prefix_where_it_is_one() {
        assert_eq!(net("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(net("0.0.0.0/0").to_string(), "0.0.0.0/0");
        assert_eq!(TrafficSelector::ANY_IPV6.to_string(), "::/0");
        assert_eq!(net("2001:db8::1/128").to_string(), "2001:db8::1/128");
        let odd = TrafficSelector::range("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert_eq!(odd.to_string(), "10.0.0.1-10.0.0.2");
        let port = TrafficSelector {
            protocol: 17,
            start_port: 53,
            end_port: 53,
            ..net("10.0.0.0/24")
        };
        assert_eq!(port.to_string(), "10.0.0.0/24 protocol 17 port 53");
    }

    #[test]
    fn narrowing_keeps_the_common_part_in_the_order_of_the_offer() {
        let offered = [net("10.1.0.0/16"), net("192.168.0.0/16")];
        let policy = [net("192.168.7.0/24"), net("10.0.0.0/8")];
        let narrowed = narrow(&offered, Some(&policy), 4).unwrap();
        assert_eq!(narrowed.selectors, [net("10.1.0.0/16"), net("192.168.7.0/24")]);
        assert!(!narrowed.more);
    }

    #[test]
    fn narrowing_drops_what_another_contains() {
        let offered = [net("10.0.0.5/32"), net("10.0.0.0/24"), net("10.0.0.0/24")];
        let narrowed = narrow(&offered, None, 4).unwrap();
        assert_eq!(narrowed.selectors, [net("10.0.0.0/24")]);
    }

    #[test]
    fn narrowing_says_when_there_was_no_room() {
        let offered = [net("10.0.0.0/24"), net("10.0.1.0/24"), net("10.0.2.0/24")];
        let narrowed = narrow(&offered, None, 2).unwrap();
        assert_eq!(narrowed.selectors, offered[..2]);
        assert!(narrowed.more);
    }

    #[test]
    fn nothing_in_common_is_unacceptable() {
        assert_eq!(
            narrow(&[net("10.0.0.0/24")], Some(&[net("10.0.1.0/24")]), 4),
            None
        );
        assert_eq!(
            narrow(&[net("10.0.0.0/24")], Some(&[TrafficSelector::ANY_IPV6]), 4),
            None
        );
        assert_eq!(narrow(&[], None, 4), None);
    }

    #[test]
    fn protocols_and_ports_narrow_too() {
        let dns = TrafficSelector {
            protocol: 17,
            start_port: 53,
            end_port: 53,
            ..TrafficSelector::ANY_IPV4
        };
        assert_eq!(TrafficSelector::ANY_IPV4.intersection(&dns), Some(dns));
        let tcp = TrafficSelector {
            protocol: 6,
            ..TrafficSelector::ANY_IPV4
        };
        assert_eq!(tcp.intersection(&dns), None);
        let opaque = TrafficSelector {
            protocol: 17,
            start_port: u16::MAX,
            end_port: 0,
            ..TrafficSelector::ANY_IPV4
        };
        assert!(opaque.is_valid());
        assert_eq!(opaque.intersection(&dns), None);
        assert_eq!(opaque.intersection(&opaque), Some(opaque));
        assert_eq!(TrafficSelector::ANY_IPV4.intersection(&opaque), Some(opaque));
    }
}
