//! Access lists.

use ipnet::IpNet;

/// `ip access-list NAME` or `ipv6 access-list NAME`: the first rule that matches decides; without a match the packet is denied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessList {
    /// The rules in order.
    pub rules: Vec<AccessRule>,
}

/// One line of an access list. Source and destination are those of the packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccessRule {
    /// What happens to a packet that matches.
    pub action: AccessAction,
    /// `log`: matches are logged.
    pub log: bool,
    /// Which protocol.
    pub protocol: AccessProtocol,
    /// Where from; `None` is `any`.
    pub source: Option<IpNet>,
    /// Source ports (TCP and UDP).
    pub source_ports: PortMatch,
    /// Where to; `None` is `any`.
    pub destination: Option<IpNet>,
    /// Destination ports (TCP and UDP).
    pub destination_ports: PortMatch,
}

command::keywords! {
    /// What an access list does with a packet.
    pub enum AccessAction {
        Permit = "permit", "Lets matching packets pass";
        Deny = "deny", "Discards matching packets";
    }
}

impl AccessRule {
    /// The line that configures this rule, in an IPv4 or an IPv6 list.
    pub fn to_line(&self, ipv6: bool) -> String {
        crate::commands::access_list::rule_line(self, ipv6)
    }
}

/// Protocols a rule speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessProtocol {
    /// Every packet; the rule names its source alone.
    Any,
    /// `ip`: every packet; the rule names source and destination.
    Ip,
    /// `icmp` (ICMPv6 in an IPv6 list), with type and code if given.
    Icmp {
        /// ICMP type.
        kind: Option<u8>,
        /// ICMP code.
        code: Option<u8>,
    },
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
}

/// Ports a rule speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PortMatch {
    /// Every port.
    #[default]
    Any,
    /// `eq`.
    Equal(u16),
    /// `neq`.
    NotEqual(u16),
    /// `lt`.
    Below(u16),
    /// `gt`.
    Above(u16),
    /// `range`, both included.
    Range(u16, u16),
}

impl PortMatch {
    /// Does this port match?
    pub fn matches(self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Equal(wanted) => port == wanted,
            Self::NotEqual(other) => port != other,
            Self::Below(limit) => port < limit,
            Self::Above(limit) => port > limit,
            Self::Range(first, last) => (first..=last).contains(&port),
        }
    }
}
