//! Sessions: one for each tunnel of this worker. A session begins when `ipsecmgr` asks for admission and ends when it says so.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use ikev2::{Identity, UserName};
use sadb::Spis;
use services::DisconnectReason;

use crate::policy::{PoolKey, Service};

/// Where an address of a session comes from, and goes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A unit of a block of ours.
    Block(PoolKey),
    /// Leased by itself from the `vpnmgr` of this context, because AAA chose it.
    Single(u32),
}

/// An address given to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The address; of a prefix, the one that the peer is told.
    pub address: IpAddr,
    /// Prefix length.
    pub prefix_length: u8,
    /// Where it comes from.
    pub source: Source,
}

/// Packets and octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Octets from the peer.
    pub bytes_in: u64,
    /// Octets to the peer.
    pub bytes_out: u64,
    /// Packets from the peer.
    pub packets_in: u64,
    /// Packets to the peer.
    pub packets_out: u64,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Admitted; its first child SA is not installed yet.
    Arrived,
    /// Packets may flow.
    Connected,
    /// We have asked `ipsecmgr` to end it.
    Disconnecting,
}

/// What AAA said about the user of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authorized {
    /// Class attributes.
    pub class: Vec<Vec<u8>>,
    /// Session-Timeout in seconds.
    pub session_timeout: Option<u32>,
    /// Idle-Timeout in seconds.
    pub idle_timeout: Option<u32>,
    /// Acct-Interim-Interval in seconds.
    pub interim_interval: Option<u32>,
    /// Name servers for the peer; empty: those of the service.
    pub dns: Vec<IpAddr>,
}

/// A session. There may be a million of them: what few have is boxed.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its service, as it was configured when the session began.
    pub service: Arc<Service>,
    /// IKE identity of the peer.
    pub identity: Identity,
    /// Who AAA says it is, if that was asked.
    pub user: Option<UserName>,
    /// Outer address of the peer.
    pub peer: IpAddr,
    /// IPv4 address given to it.
    pub ipv4: Option<Box<Assigned>>,
    /// IPv6 address given to it.
    pub ipv6: Option<Box<Assigned>>,
    /// How far it has come.
    pub phase: Phase,
    /// Why we have asked `ipsecmgr` to end it.
    pub ending: Option<DisconnectReason>,
    /// Number of the call: names it in accounting and in `show`. Later calls have higher numbers.
    pub call: u64,
    /// When it began: nanoseconds since the Unix epoch.
    pub began: u64,
    /// When its first child SA was installed.
    pub connected: Option<Instant>,
    /// What AAA said, if that was asked.
    pub authorized: Option<Box<Authorized>>,
    /// Inbound SPIs of its child SAs.
    pub spis: Spis,
    /// Traffic of child SAs that are gone.
    pub past: Usage,
    /// All traffic, as last seen.
    pub usage: Usage,
    /// It comes from an earlier life of this task and its traffic has not been looked at since.
    pub restored: bool,
    /// When the traffic last grew.
    pub active: Instant,
    /// When the last accounting record was made.
    pub accounted: Option<Instant>,
    /// By which tenure the `ipsecmgr` that named it last has its slot.
    pub tenure: u64,
    /// The older session of the same identity that has to go. Kept until this one is connected: `ipsecmgr` may ask for the verdict again.
    pub displaced: Option<NonZeroU64>,
}

/// All sessions of this worker by our IKE SPI, and by identity.
#[derive(Debug, Default)]
pub struct Sessions {
    by_spi: BTreeMap<u64, Box<Session>>,
    /// Hash of service and identity, number of the call, IKE SPI: of each identity from the oldest to the newest.
    by_identity: BTreeSet<(u64, u64, u64)>,
    hasher: RandomState,
}

impl Sessions {
    /// Adds a session. Returns it, and the IKE SPI of the session of the same identity in the same service that was there before.
    pub fn add(&mut self, ike_spi: u64, session: Box<Session>) -> (&mut Session, Option<u64>) {
        self.remove(ike_spi);
        let service = &session.service;
        let older = self
            .of(&service.context, &service.name, &session.identity)
            .next_back();
        self.by_identity.insert(self.key(ike_spi, &session));
        let entry = self.by_spi.entry(ike_spi).insert_entry(session);
        (entry.into_mut(), older)
    }

    /// Removes a session.
    pub fn remove(&mut self, ike_spi: u64) -> Option<Box<Session>> {
        let session = self.by_spi.remove(&ike_spi)?;
        self.by_identity.remove(&self.key(ike_spi, &session));
        Some(session)
    }

    /// The IKE SA of a session was rekeyed.
    pub fn rename(&mut self, was: u64, now: u64) {
        if let Some(session) = self.remove(was) {
            self.add(now, session);
        }
    }

    /// A session.
    pub fn get(&self, ike_spi: u64) -> Option<&Session> {
        self.by_spi.get(&ike_spi).map(Box::as_ref)
    }

    /// A session, to be changed. Its service, identity and call stay.
    pub fn get_mut(&mut self, ike_spi: u64) -> Option<&mut Session> {
        self.by_spi.get_mut(&ike_spi).map(Box::as_mut)
    }

    /// The sessions of an identity in a service, from the oldest to the newest.
    pub fn of(
        &self,
        context: &str,
        service: &str,
        identity: &Identity,
    ) -> impl DoubleEndedIterator<Item = u64> {
        let hash = self.hash(context, service, identity);
        let same = move |ike_spi: &u64| {
            self.get(*ike_spi).is_some_and(|session| {
                session.identity == *identity
                    && *session.service.name == *service
                    && *session.service.context == *context
            })
        };
        self.by_identity
            .range((hash, 0, 0)..=(hash, u64::MAX, u64::MAX))
            .map(|(_, _, ike_spi)| *ike_spi)
            .filter(same)
    }

    /// IKE SPIs after `cursor`, in order.
    pub fn after(&self, cursor: Option<u64>) -> impl Iterator<Item = (u64, &Session)> {
        let start = cursor.map_or(0, |cursor| cursor.saturating_add(1));
        self.by_spi
            .range(start..)
            .map(|(&ike_spi, session)| (ike_spi, session.as_ref()))
    }

    /// Those in a slot.
    pub fn in_slot(&self, slot: u8) -> impl Iterator<Item = (u64, &Session)> {
        let first = u64::from(slot) << 56;
        self.by_spi
            .range(first..=first | (u64::MAX >> 8))
            .map(|(&ike_spi, session)| (ike_spi, session.as_ref()))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_spi.len()
    }

    fn key(&self, ike_spi: u64, session: &Session) -> (u64, u64, u64) {
        let service = &session.service;
        let hash = self.hash(&service.context, &service.name, &session.identity);
        (hash, session.call, ike_spi)
    }

    fn hash(&self, context: &str, service: &str, identity: &Identity) -> u64 {
        self.hasher.hash_one((context, service, identity))
    }
}

impl Session {
    /// Who the peer is to AAA.
    pub fn user(&self) -> Cow<'_, UserName> {
        match &self.user {
            Some(user) => Cow::Borrowed(user),
            None => Cow::Owned(self.identity.user_name()),
        }
    }

    /// Name servers for the peer. What AAA says goes before what the service says.
    pub fn dns(&self) -> &[IpAddr] {
        match &self.authorized {
            Some(said) if !said.dns.is_empty() => &said.dns,
            _ => &self.service.dns,
        }
    }

    /// A time limit or interval in seconds: what AAA says goes before what the service says.
    pub fn limit(
        &self,
        authorized: impl Fn(&Authorized) -> Option<u32>,
        service: impl Fn(&Service) -> Option<u32>,
    ) -> Option<u32> {
        let said = self.authorized.as_deref().and_then(authorized);
        said.or_else(|| service(&self.service))
    }

    /// Acct-Session-Id.
    pub fn accounting_id(&self) -> String {
        format!("{:016X}", self.call)
    }
}

impl Usage {
    /// Field by field.
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.wrapping_add(other.bytes_in),
            bytes_out: self.bytes_out.wrapping_add(other.bytes_out),
            packets_in: self.packets_in.wrapping_add(other.packets_in),
            packets_out: self.packets_out.wrapping_add(other.packets_out),
        }
    }

    /// What came on top of `before`, field by field; nothing where it did not grow.
    pub fn since(self, before: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            packets_in: self.packets_in.saturating_sub(before.packets_in),
            packets_out: self.packets_out.saturating_sub(before.packets_out),
        }
    }

    /// The larger one, field by field.
    pub fn max(self, other: Self) -> Self {
        other.plus(self.since(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With its allocation, its place in the tree, its identity and one SPI, a session takes some 370 octets.
    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 280, "{}", size_of::<Session>());
    }
}
