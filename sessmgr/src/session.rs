//! Sessions: one for each tunnel of this worker. A session begins when `ipsecmgr` asks for admission and ends when it says so.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ikev2::{Identity, UserName};
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
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its service, as it was configured when the session began.
    pub service: Arc<Service>,
    /// IKE identity of the peer.
    pub identity: Identity,
    /// Who AAA says it is; the IKE identity where nobody was asked.
    pub user: UserName,
    /// Outer address of the peer.
    pub peer: IpAddr,
    /// IPv4 address given to it.
    pub ipv4: Option<Assigned>,
    /// IPv6 address given to it.
    pub ipv6: Option<Assigned>,
    /// How far it has come.
    pub phase: Phase,
    /// Why we have asked `ipsecmgr` to end it.
    pub ending: Option<DisconnectReason>,
    /// Number of the call: names it in accounting and in `show`.
    pub call: u64,
    /// When it began: nanoseconds since the Unix epoch.
    pub began: u64,
    /// Name servers for the peer.
    pub dns: Vec<IpAddr>,
    /// When its first child SA was installed.
    pub connected: Option<Instant>,
    /// What AAA said.
    pub authorized: Authorized,
    /// Inbound SPIs of its child SAs.
    pub spis: Vec<u32>,
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
    /// The life of `ipsecmgr` that named it last.
    pub life: u32,
    /// The older session of the same identity that has to go. Kept until this one is connected: `ipsecmgr` may ask for the verdict again.
    pub displaced: Option<u64>,
}

/// All sessions of this worker by our IKE SPI, and by identity.
#[derive(Debug, Default)]
pub struct Sessions {
    by_spi: BTreeMap<u64, Session>,
    /// From the oldest to the newest.
    by_identity: HashMap<(Arc<str>, Arc<str>, Identity), Vec<u64>>,
}

impl Sessions {
    /// Adds a session. Returns it, and the IKE SPI of the session of the same identity in the same service that was there before.
    pub fn add(&mut self, ike_spi: u64, session: Session) -> (&mut Session, Option<u64>) {
        let of_identity = self.by_identity.entry(session.name()).or_default();
        of_identity.retain(|&other| other != ike_spi);
        let older = of_identity.last().copied();
        of_identity.push(ike_spi);
        let entry = self.by_spi.entry(ike_spi).insert_entry(session);
        (entry.into_mut(), older)
    }

    /// Removes a session.
    pub fn remove(&mut self, ike_spi: u64) -> Option<Session> {
        let session = self.by_spi.remove(&ike_spi)?;
        if let Entry::Occupied(mut of_identity) = self.by_identity.entry(session.name()) {
            of_identity.get_mut().retain(|&other| other != ike_spi);
            if of_identity.get().is_empty() {
                of_identity.remove();
            }
        }
        Some(session)
    }

    /// The IKE SA of a session was rekeyed.
    pub fn rename(&mut self, was: u64, now: u64) {
        if let Some(session) = self.by_spi.remove(&was) {
            let of_identity = self.by_identity.get_mut(&session.name());
            for ike_spi in of_identity.into_iter().flatten().filter(|spi| **spi == was) {
                *ike_spi = now;
            }
            self.by_spi.insert(now, session);
        }
    }

    /// A session.
    pub fn get(&self, ike_spi: u64) -> Option<&Session> {
        self.by_spi.get(&ike_spi)
    }

    /// A session, to be changed. Its service and identity stay.
    pub fn get_mut(&mut self, ike_spi: u64) -> Option<&mut Session> {
        self.by_spi.get_mut(&ike_spi)
    }

    /// The sessions of an identity in a service, from the oldest to the newest.
    pub fn of(&self, context: &str, service: &str, identity: &Identity) -> &[u64] {
        self.by_identity
            .get(&(context.into(), service.into(), identity.clone()))
            .map_or(&[], Vec::as_slice)
    }

    /// IKE SPIs after `cursor`, in order.
    pub fn after(&self, cursor: Option<u64>) -> impl Iterator<Item = (u64, &Session)> {
        let start = cursor.map_or(0, |cursor| cursor.saturating_add(1));
        self.by_spi
            .range(start..)
            .map(|(&ike_spi, session)| (ike_spi, session))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_spi.len()
    }
}

impl Session {
    fn name(&self) -> (Arc<str>, Arc<str>, Identity) {
        (
            self.service.context.clone(),
            self.service.name.clone(),
            self.identity.clone(),
        )
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
