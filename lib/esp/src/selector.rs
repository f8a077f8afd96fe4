//! Traffic selectors: which inner packets an SA carries (RFC 4301 4.4.1).

use std::net::IpAddr;

use sadb::Selector;

use crate::packet::{Addresses, Packet};

/// Both sides' selectors of an SA, as numbers to compare. The first of each side lies inline, as most SAs have one.
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
                source_side.any(packet.protocol, source, |range| range.has_v4(from))
                    && destination_side.any(packet.protocol, destination, |range| range.has_v4(to))
            }
            Addresses::V6 {
                source: from,
                destination: to,
            } => {
                source_side.any(packet.protocol, source, |range| range.has_v6(from))
                    && destination_side.any(packet.protocol, destination, |range| range.has_v6(to))
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Side {
    first: Option<Rule>,
    more: Box<[Rule]>,
}

impl Side {
    fn new(selectors: &[Selector]) -> Self {
        let mut rules = selectors.iter().map(Rule::new);
        Self {
            first: rules.next(),
            more: rules.collect(),
        }
    }

    fn any(&self, protocol: u8, port: Option<u16>, address: impl Fn(&Range) -> bool) -> bool {
        self.first
            .iter()
            .chain(self.more.iter())
            .any(|rule| address(&rule.range) && rule.has_protocol(protocol) && rule.has_port(port))
    }
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    range: Range,
    protocol: u8,
    ports: Ports,
}

#[derive(Clone, Copy, Debug)]
enum Range {
    V4 { start: u32, end: u32 },
    V6 { start: u128, end: u128 },
}

#[derive(Clone, Copy, Debug)]
enum Ports {
    /// Whatever they are, also when they cannot be seen.
    Any,
    /// Only when they cannot be seen (RFC 4301: OPAQUE).
    Opaque,
    Between {
        start: u16,
        end: u16,
    },
}

impl Rule {
    fn new(selector: &Selector) -> Self {
        let range = match (selector.start, selector.end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => Range::V4 {
                start: start.into(),
                end: end.into(),
            },
            (IpAddr::V6(start), IpAddr::V6(end)) => Range::V6 {
                start: start.into(),
                end: end.into(),
            },
            // Of two families, which records do not allow: matches nothing.
            _ => Range::V4 { start: 1, end: 0 },
        };
        let ports = match (selector.start_port, selector.end_port) {
            (0, u16::MAX) => Ports::Any,
            (u16::MAX, 0) => Ports::Opaque,
            (start, end) => Ports::Between { start, end },
        };
        Self {
            range,
            protocol: selector.protocol,
            ports,
        }
    }

    fn has_protocol(&self, protocol: u8) -> bool {
        self.protocol == 0 || self.protocol == protocol
    }

    fn has_port(&self, port: Option<u16>) -> bool {
        match (self.ports, port) {
            (Ports::Any, _) | (Ports::Opaque, None) => true,
            (Ports::Between { start, end }, Some(port)) => (start..=end).contains(&port),
            (Ports::Opaque, Some(_)) | (Ports::Between { .. }, None) => false,
        }
    }
}

impl Range {
    fn has_v4(&self, address: u32) -> bool {
        matches!(*self, Self::V4 { start, end } if (start..=end).contains(&address))
    }

    fn has_v6(&self, address: u128) -> bool {
        matches!(*self, Self::V6 { start, end } if (start..=end).contains(&address))
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

    const ANY: (u16, u16) = (0, u16::MAX);

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
