//! A child SA pair as plain data: what `ipsecmgr` writes and `iftask` reads.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{Error, IkeSpi, SecretBytes, Spi};

/// The most selectors a record holds for each side.
pub const MAX_SELECTORS: usize = 4;
/// The widest anti-replay window, in packets.
pub const MAX_REPLAY_WINDOW: u16 = 512;
const MIN_REPLAY_WINDOW: u16 = 32;

/// One child SA pair (RFC 4301 4.4.2), seen from the gateway: "local" is behind us, "remote" is the peer's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSa {
    /// The SPI that we chose and the peer puts in its packets. Its slot and index place the record.
    pub inbound_spi: Spi,
    /// The SPI that the peer chose and we put in our packets (host order).
    pub outbound_spi: u32,
    /// Packets with `inbound_spi` are accepted.
    pub inbound_active: bool,
    /// Packets that match the selectors are sent with `outbound_spi`. False for the old SA of a rekey and for one not yet confirmed.
    pub outbound_active: bool,
    /// Encryption and integrity algorithms, for both directions.
    pub algorithms: Algorithms,
    /// Keys for what we receive.
    pub inbound_keys: SaKeys,
    /// Keys for what we send.
    pub outbound_keys: SaKeys,
    /// Tunnel or transport.
    pub mode: Mode,
    /// 64-bit extended sequence numbers (RFC 4303 2.2.1).
    pub esn: bool,
    /// Protocol 50 or UDP 4500.
    pub encapsulation: Encapsulation,
    /// Our outer address; the port matters for UDP only.
    pub local: SocketAddr,
    /// The peer's outer address as IKE knows it; `iftask` may learn a newer one ([`crate::Hot::learn_peer`]). Same family as `local`.
    pub peer: SocketAddr,
    /// The context (virtual router) of the clear side, which names the TUN; 1 is `local`.
    pub context: u32,
    /// Anti-replay window in packets: 0 = off, otherwise 32 to 512.
    pub replay_window: u16,
    /// Inner addresses behind us. At least one.
    pub local_selectors: Selectors,
    /// Inner addresses behind the peer. At least one.
    pub remote_selectors: Selectors,
    /// Inner packets longer than this are fragmented before encryption, 0 = never.
    pub fragment_mtu: u16,
    /// Inner packets must not be longer than this, 0 = as long as the outer packet allows.
    pub inner_mtu: u16,
    /// The outer packet must not be longer than this many bytes.
    pub outer_mtu: u16,
    /// The DF bit of the outer IPv4 header.
    pub df: DfPolicy,
    /// The DSCP of the outer header.
    pub dscp: DscpPolicy,
    /// Other data planes send to the same peer with the same selectors, by child SAs of their own.
    pub shared: bool,
    /// Our SPI of the IKE SA it belongs to.
    pub ike_sa: IkeSpi,
    /// When it must be rekeyed or deleted.
    pub lifetimes: Lifetimes,
}

/// Algorithms by their IANA numbers, so that this crate needs no cryptography.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithms {
    /// IKEv2 transform type 1 (ENCR): 12 = AES-CBC, 18/19/20 = AES-GCM with 8/12/16 bytes of ICV, 11 = NULL.
    pub encryption: u16,
    /// Key length attribute in bits; 0 when the algorithm has one length only.
    pub key_bits: u16,
    /// IKEv2 transform type 3 (INTEG): 2 = HMAC-SHA1-96, 12/13/14 = HMAC-SHA2-256-128/384-192/512-256; 0 with an AEAD.
    pub integrity: u16,
    /// Length of the integrity check value on the wire, in bytes.
    pub icv_bytes: u8,
}

/// The keys of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaKeys {
    /// Encryption key, without salt.
    pub encryption: SecretBytes<32>,
    /// The implicit part of the nonce of GCM and its like (RFC 4106), otherwise empty.
    pub salt: SecretBytes<4>,
    /// Integrity key; empty with an AEAD.
    pub integrity: SecretBytes<64>,
}

/// IPsec mode (RFC 4301 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The whole inner packet is protected.
    Tunnel,
    /// The payload of the outer packet is protected.
    Transport,
}

/// How ESP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// Protocol 50 (RFC 4303).
    Esp,
    /// In UDP on port 4500 (RFC 3948).
    Udp,
}

/// What the outer header's DF bit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DfPolicy {
    /// As the inner packet's.
    Copy,
    /// Always 1.
    Set,
    /// Always 0.
    Clear,
}

/// What the outer header's DSCP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DscpPolicy {
    /// As the inner packet's (RFC 4301 5.1.2).
    Copy,
    /// This value, below 64.
    Fixed(u8),
}

/// Limits after which the owner rekeys (soft) or deletes (hard) the SA. 0 = no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Seconds until rekeying.
    pub soft_seconds: u32,
    /// Seconds until deletion.
    pub hard_seconds: u32,
    /// Bytes of one direction until rekeying.
    pub soft_bytes: u64,
    /// Bytes of one direction until deletion.
    pub hard_bytes: u64,
}

/// One traffic selector (RFC 7296 3.13.1): ranges, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Lowest address.
    pub start: IpAddr,
    /// Highest address, same family, not below `start`.
    pub end: IpAddr,
    /// IP protocol number, 0 = any.
    pub protocol: u8,
    /// Lowest port, or ICMP type and code.
    pub start_port: u16,
    /// Highest port. `start_port` 65535 with `end_port` 0 is OPAQUE.
    pub end_port: u16,
}

impl Selector {
    /// Everything of one address range.
    pub const fn any_port(start: IpAddr, end: IpAddr) -> Self {
        Self {
            start,
            end,
            protocol: 0,
            start_port: 0,
            end_port: u16::MAX,
        }
    }

    fn is_valid(&self) -> bool {
        self.start.is_ipv4() == self.end.is_ipv4() && self.start <= self.end
    }
}

/// One to four selectors, inline; reads as a slice.
#[derive(Clone, Copy)]
pub struct Selectors {
    length: u8,
    list: [Selector; MAX_SELECTORS],
}

impl Selectors {
    const NONE: Selector = Selector::any_port(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    );

    /// Copies the selectors; [`Error::Invalid`] when there are none, more than four, or one is upside down.
    pub fn new(selectors: &[Selector]) -> Result<Self, Error> {
        let invalid = Error::Invalid {
            field: "selectors",
            expected: "one to four ranges, each of one family, start not above end",
        };
        let mut list = [Self::NONE; MAX_SELECTORS];
        let Some(place) = list.get_mut(..selectors.len()) else {
            return Err(invalid);
        };
        place.copy_from_slice(selectors);
        if selectors.is_empty() || !selectors.iter().all(Selector::is_valid) {
            return Err(invalid);
        }
        let Ok(length) = u8::try_from(selectors.len()) else {
            return Err(invalid);
        };
        Ok(Self { length, list })
    }
}

impl std::ops::Deref for Selectors {
    type Target = [Selector];

    fn deref(&self) -> &[Selector] {
        self.list.get(..usize::from(self.length)).unwrap_or(&self.list)
    }
}

impl PartialEq for Selectors {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Selectors {}

impl std::fmt::Debug for Selectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl ChildSa {
    /// Checks what the types alone do not.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.local.is_ipv4() != self.peer.is_ipv4() {
            return Err(Error::Invalid {
                field: "peer",
                expected: "of the same address family as local",
            });
        }
        if self.replay_window != 0 && !(MIN_REPLAY_WINDOW..=MAX_REPLAY_WINDOW).contains(&self.replay_window) {
            return Err(Error::Invalid {
                field: "replay_window",
                expected: "0 or 32 to 512",
            });
        }
        if matches!(self.dscp, DscpPolicy::Fixed(64..)) {
            return Err(Error::Invalid {
                field: "dscp",
                expected: "below 64",
            });
        }
        Ok(())
    }
}
