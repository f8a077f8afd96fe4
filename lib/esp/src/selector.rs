//! Traffic selectors: which inner packets an SA carries (RFC 4301 4.4.1).

use std::net::IpAddr;

use sadb::Selector;

use crate::packet::{Addresses, Packet};

/// Both sides' selectors of an SA, as numbers to compare. One IPv4 range a side lies inline, as most SAs have it.
#[derive(Clone, Debug)]
pub struct Policy {
    local: Side,
    remote: Side,
}

impl Policy {
    /// `local` is behind us, `remote` behind the peer; any local one may go with any remote one (RFC 7296 2.9).
    pub fn new(local: &[Selector], remote: &[Selector]) -> Self {
        Self {
            local: Side::new(local),
            remote: Side::new(remote),
        }
    }

    /// May this packet have come out of the tunnel?
    pub fn permits_inbound(&self, packet: &Packet) -> bool {
        self.permits(packet, false)
    }

    /// May this packet go into the tunnel?
    pub fn permits_outbound(&self, packet: &Packet) -> bool {
        self.permits(packet, true)
    }

    fn permits(&self, packet: &Packet, source_is_local: bool) -> bool {
        let (source, destination) = match packet.ports {
            Some((source, destination)) => (Some(source), Some(destination)),
            None => (None, None),
        };
        let (source_side, destination_side) = if source_is_local {
            (&self.local, &self.remote)
        } else {
            (&self.remote, &self.local)
        };
        match packet.addresses {
            Addresses::V4 {
                source: from,
                destination: to,
            } => {
                source_side.any_v4(from, packet.protocol, source)
                    && destination_side.any_v4(to, packet.protocol, destination)
            }
            Addresses::V6 {
                source: from,
                destination: to,
            } => {
                source_side.any_v6(from, packet.protocol, source)
                    && destination_side.any_v6(to, packet.protocol, destination)
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Side {
    One(Rule<u32>),
    Many(Box<Rules>),
}

#[derive(Clone, Debug)]
struct Rules {
    v4: Box<[Rule<u32>]>,
    v6: Box<[Rule<u128>]>,
}

impl Side {
    fn new(selectors: &[Selector]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for selector in selectors {
            match (selector.start, selector.end) {
                (IpAddr::V4(start), IpAddr::V4(end)) => {
                    v4.push(Rule::new(start.into(), end.into(), selector));
                }
                (IpAddr::V6(start), IpAddr::V6(end)) => {
                    v6.push(Rule::new(start.into(), end.into(), selector));
                }
                // Of two families, which records do not allow: matches nothing.
                _ => {}
            }
        }
        match (v4.as_slice(), v6.as_slice()) {
            ([one], []) => Self::One(*one),
            _ => Self::Many(Box::new(Rules {
                v4: v4.into(),
                v6: v6.into(),
            })),
        }
    }

    fn any_v4(&self, address: u32, protocol: u8, port: Option<u16>) -> bool {
        match self {
            Self::One(rule) => rule.permits(address, protocol, port),
            Self::Many(rules) => rules.v4.iter().any(|rule| rule.permits(address, protocol, port)),
        }
    }

    fn any_v6(&self, address: u128, protocol: u8, port: Option<u16>) -> bool {
        match self {
            Self::One(_) => false,
            Self::Many(rules) => rules.v6.iter().any(|rule| rule.permits(address, protocol, port)),
        }
    }
}

/// A range of addresses of one family.
#[derive(Clone, Copy, Debug)]
struct Rule<A> {
    start: A,
    end: A,
    /// [`ANY`] = whatever they are, also when they cannot be seen; [`OPAQUE`] = only when they cannot be seen.
    ports: (u16, u16),
    /// 0 = all.
    protocol: u8,
}

/// RFC 7296 3.13.1.
const ANY: (u16, u16) = (0, u16::MAX);
const OPAQUE: (u16, u16) = (u16::MAX, 0);

impl<A: Copy + PartialOrd> Rule<A> {
    fn new(start: A, end: A, selector: &Selector) -> Self {
        Self {
            start,
            end,
            ports: (selector.start_port, selector.end_port),
            protocol: selector.protocol,
        }
    }

    fn permits(&self, address: A, protocol: u8, port: Option<u16>) -> bool {
        self.start <= address
            && address <= self.end
            && (self.protocol == 0 || self.protocol == protocol)
            && self.has_port(port)
    }

    fn has_port(&self, port: Option<u16>) -> bool {
        match port {
            _ if self.ports == ANY => true,
            None => self.ports == OPAQUE,
            Some(port) => (self.ports.0..=self.ports.1).contains(&port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{ipv4, ipv6};
    use crate::packet::{ICMP, TCP, UDP};

    fn selector(start: &str, end: &str, protocol: u8, ports: (u16, u16)) -> Selector {
        Selector {
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
            protocol,
            start_port: ports.0,
            end_port: ports.1,
        }
    }

    fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Packet {
        let payload = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), [0, 8], [0, 0]].concat();
        Packet::parse(&ipv4(UDP, source, destination, &payload)).unwrap()
    }

    #[test]
    fn direction_decides_which_side_is_compared() {
        let policy = Policy::new(
            &[selector("10.1.0.0", "10.1.255.255", 0, ANY)],
            &[selector("192.0.2.5", "192.0.2.5", 0, ANY)],
        );
        let out = udp([10, 1, 2, 3], [192, 0, 2, 5], (1, 2));
        let back = udp([192, 0, 2, 5], [10, 1, 2, 3], (2, 1));
        assert!(policy.permits_outbound(&out) && !policy.permits_inbound(&out));
        assert!(policy.permits_inbound(&back) && !policy.permits_outbound(&back));
        assert!(!policy.permits_outbound(&udp([10, 2, 0, 0], [192, 0, 2, 5], (1, 2))));
        assert!(!policy.permits_outbound(&udp([10, 1, 0, 0], [192, 0, 2, 6], (1, 2))));
    }

    #[test]
    fn protocol_and_ports() {
        let policy = Policy::new(
            &[selector("0.0.0.0", "255.255.255.255", UDP, (2152, 2152))],
            &[selector("0.0.0.0", "255.255.255.255", 0, ANY)],
        );
        assert!(policy.permits_outbound(&udp([1, 1, 1, 1], [2, 2, 2, 2], (2152, 9))));
        assert!(!policy.permits_outbound(&udp([1, 1, 1, 1], [2, 2, 2, 2], (2153, 9))));
        assert!(policy.permits_inbound(&udp([1, 1, 1, 1], [2, 2, 2, 2], (9, 2152))));
        let tcp = Packet {
            protocol: TCP,
            ..udp([1, 1, 1, 1], [2, 2, 2, 2], (2152, 9))
        };
        assert!(!policy.permits_outbound(&tcp));
        // RFC 4301 7.2: a later fragment does not match a rule with ports.
        let fragment = Packet {
            ports: None,
            is_fragment: true,
            ..udp([1, 1, 1, 1], [2, 2, 2, 2], (2152, 9))
        };
        assert!(!policy.permits_outbound(&fragment));
    }

    #[test]
    fn opaque_is_for_what_cannot_be_seen() {
        let any = selector("0.0.0.0", "255.255.255.255", 0, ANY);
        let opaque = selector("0.0.0.0", "255.255.255.255", UDP, (u16::MAX, 0));
        let whole = udp([1, 1, 1, 1], [2, 2, 2, 2], (5, 6));
        let fragment = Packet { ports: None, ..whole };
        let only_opaque = Policy::new(&[opaque], &[any]);
        assert!(only_opaque.permits_outbound(&fragment) && !only_opaque.permits_outbound(&whole));
        let both = Policy::new(&[opaque, selector("1.1.1.1", "1.1.1.1", UDP, (5, 5))], &[any]);
        assert!(both.permits_outbound(&fragment) && both.permits_outbound(&whole));
    }

    #[test]
    fn icmp_type_and_code_are_compared_on_both_sides() {
        let echo = Packet::parse(&ipv4(ICMP, [1, 1, 1, 1], [2, 2, 2, 2], &[8, 0, 0, 0])).unwrap();
        let any = selector("0.0.0.0", "255.255.255.255", 0, ANY);
        let requests = selector("0.0.0.0", "255.255.255.255", ICMP, (0x0800, 0x08ff));
        let policy = Policy::new(&[requests], &[any]);
        assert!(policy.permits_outbound(&echo) && policy.permits_inbound(&echo));
        let reply = Packet {
            ports: Some((0, 0)),
            ..echo
        };
        assert!(!policy.permits_outbound(&reply) && !policy.permits_inbound(&reply));
    }

    #[test]
    fn families_do_not_mix() {
        let v6 = selector("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0, ANY);
        let v4 = selector("0.0.0.0", "255.255.255.255", 0, ANY);
        let packet = Packet::parse(&ipv6(UDP, &[0; 8])).unwrap();
        assert!(Policy::new(&[v6], &[v6]).permits_outbound(&packet));
        assert!(Policy::new(&[v4, v6], &[v6, v4]).permits_inbound(&packet));
        assert!(!Policy::new(&[v4], &[v6]).permits_outbound(&packet));
        assert!(!Policy::new(&[v6], &[v6]).permits_outbound(&udp([0; 4], [0; 4], (0, 0))));
    }
}
