//! The rules that lead to the table of the tunnels.
//!
//! What leads to peers is in a table of its own, because the packets that carry tunnels must not see it: a peer may have any address
//! behind it, its own outer one to begin with. `sit` marks the node's own sockets ([`task::NODE_MARK`]), and the rules pass by them.
//!
//! | priority | rule | why |
//! |---|---|---|
//! | 0 | the kernel's: local table | our own addresses are ours whatever a peer says |
//! | 4500 | not marked: the tunnels, but no default route | what is behind peers comes before what the main table has |
//! | 32766 | the kernel's: main table | connected networks, configured routes |
//! | 45000 | not marked: the tunnels | a peer that has everything behind it gets what nobody else has a route for |
//!
//! So that a short prefix behind a peer does not take longer ones away from the main table, the networks that are our own (connected and
//! configured) stand in the table of the tunnels as routes of kind `throw`: the search goes on in the main table.

use std::fmt;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use task::NODE_MARK;

use crate::kernel::PROTOCOL_CONFIGURED;

/// One of our rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    ipv6: bool,
    /// After the main table, where default routes count as well.
    last: bool,
}

/// All of our rules.
pub fn all() -> [Rule; 4] {
    [(false, false), (false, true), (true, false), (true, true)].map(|(ipv6, last)| Rule { ipv6, last })
}

/// A rule in the kernel's terms.
pub fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match rule.ipv6 {
        false => AddressFamily::Inet,
        true => AddressFamily::Inet6,
    };
    message.header.action = RuleAction::ToTable;
    message.header.flags = RuleFlags::Invert;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority()),
        RuleAttribute::FwMark(NODE_MARK),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL_CONFIGURED)),
    ];
    if !rule.last {
        message.attributes.push(RuleAttribute::SuppressPrefixLen(0));
    }
    message
}

impl Rule {
    fn priority(&self) -> u32 {
        if self.last { LAST } else { FIRST }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let priority = self.priority();
        write!(f, "not fwmark {NODE_MARK} lookup {TABLE} priority {priority}")
    }
}

/// Number of the table of the tunnels.
pub const TABLE: u32 = NODE_MARK;
/// Priority of the rule for all but default routes. Rules of an operator may come before it.
const FIRST: u32 = 4_500;
/// Priority of the rule for default routes: behind the main table and the one called default.
const LAST: u32 = 45_000;
