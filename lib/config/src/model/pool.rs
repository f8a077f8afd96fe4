//! Address pools.

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};

/// `ip pool NAME`: IPv4 addresses for peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4Pool {
    /// Which addresses.
    pub addresses: Ipv4Range,
    /// `private`, `public`, `static`, `resource`.
    pub access: PoolAccess,
    /// `group-name`: pools of a group are used as one, in priority order.
    pub group: Option<String>,
    /// `address-hold-timer`: seconds a released address stays with its last user, 0 to 31556926; 0 frees it at once.
    pub hold_timer: u32,
    /// `include-nw-bcast`: hand out the network and the broadcast address too.
    pub include_network_and_broadcast: bool,
    /// `policy allow-static-allocation`: AAA may choose an address of this pool.
    pub allow_static: bool,
}

/// The addresses of a pool as they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Range {
    /// `ADDRESS MASK` or `ADDRESS/LENGTH`.
    Network(Ipv4Net),
    /// `range START END`, both included.
    Range(Ipv4Addr, Ipv4Addr),
}

/// `ipv6 pool NAME`: IPv6 prefixes for peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6Pool {
    /// `prefix`: what /64 prefixes are cut from.
    pub prefix: Ipv6Net,
    /// `private`, `public`, `static`, `resource`.
    pub access: PoolAccess,
    /// `group-name`.
    pub group: Option<String>,
    /// `policy allow-static-allocation`.
    pub allow_static: bool,
}

/// Who may get an address of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolAccess {
    /// Whoever asks for no certain pool; 0 (highest, the default) to 10.
    Public(u8),
    /// Whoever asks for this pool or its group by name; 0 (highest) to 10.
    Private(u8),
    /// Only addresses that AAA or DHCP chose.
    Static,
}

/// Length of the prefixes cut from an IPv6 pool for peers.
pub const PEER_PREFIX_LENGTH: u8 = 64;

impl Default for PoolAccess {
    fn default() -> Self {
        Self::Public(0)
    }
}

impl Ipv4Pool {
    /// First and last address to hand out, both included; `None` when there is none.
    pub fn bounds(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let (first, last) = match self.addresses {
            Ipv4Range::Range(first, last) => (first, last),
            Ipv4Range::Network(network) => {
                let (first, last) = (network.network(), network.broadcast());
                if self.include_network_and_broadcast || network.prefix_len() > 30 {
                    (first, last)
                } else {
                    (
                        Ipv4Addr::from(u32::from(first).saturating_add(1)),
                        Ipv4Addr::from(u32::from(last).saturating_sub(1)),
                    )
                }
            }
        };
        (first <= last).then_some((first, last))
    }
}
