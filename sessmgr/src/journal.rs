//! Sessions and blocks on file, so that a restarted `sessmgr` goes on where the last one ended: no session forgotten, no address given
//! twice, no accounting record without its stop.
//!
//! The file lies in the run directory and lives as long as the node. It is a log of snapshots: what a session looks like after a change,
//! or that it is gone; and all blocks after one came or went. Reading it from the beginning gives the state. When it has grown far beyond
//! what there is, it is written anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ikev2::{Identity, IdentityKind, UserName};
use prost::Message;

use crate::admission::{address, octets};
use crate::blocks::Lease;
use crate::policy::{Policy, PoolKey, Service};
use crate::session::{Assigned, Authorized, Phase, Session, Source, Usage};
use crate::state::State;

/// The file.
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// It cannot be written; told once.
    broken: bool,
}

/// What the file says.
#[derive(Debug, Default)]
pub struct Past {
    sessions: std::collections::BTreeMap<u64, SessionRecord>,
    blocks: Vec<BlockRecord>,
}

impl Journal {
    /// Opens the file of a worker. In the first life of a node there is nothing to go on with.
    pub fn open(run_dir: &Path, worker: u32, lives: u32) -> io::Result<(Self, Past)> {
        let directory = run_dir.join("sessions");
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(format!("sessmgr-{worker}"));
        if lives == 0 {
            File::create(&path)?;
        }
        let mut file = options().open(&path)?;
        let mut octets = Vec::new();
        (&mut file).take(LONGEST_FILE).read_to_end(&mut octets)?;
        let length = octets.len() as u64;
        Ok((
            Self {
                path,
                file,
                length,
                broken: false,
            },
            replay(&octets),
        ))
    }

    /// Writes what has changed since the last time.
    pub fn write(&mut self, state: &mut State) {
        let changed = state.take_changed();
        if changed.sessions.is_empty() && !changed.blocks {
            return;
        }
        let mut octets = Vec::new();
        for ike_spi in changed.sessions {
            match state.sessions.get(ike_spi) {
                Some(session) => append(&mut octets, SESSION, ike_spi, &snapshot(session).encode_to_vec()),
                None => append(&mut octets, GONE, ike_spi, &[]),
            }
        }
        if changed.blocks {
            append(&mut octets, BLOCKS, 0, &blocks(state).encode_to_vec());
        }
        let mut result = self.file.write_all(&octets);
        self.length += octets.len() as u64;
        if result.is_ok()
            && self.length > COMPACT_FROM
            && self.length / ROUGH_SESSION > 4 * state.sessions.len() as u64
        {
            result = self.compact(state);
        }
        match result {
            Ok(()) => self.broken = false,
            Err(error) if !self.broken => {
                self.broken = true;
                tracing::error!(
                    "sessions will not survive a restart of sessmgr: {}: {error}",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }

    fn compact(&mut self, state: &State) -> io::Result<()> {
        let mut octets = Vec::new();
        for (ike_spi, session) in state.sessions.after(None) {
            append(&mut octets, SESSION, ike_spi, &snapshot(session).encode_to_vec());
        }
        append(&mut octets, BLOCKS, 0, &blocks(state).encode_to_vec());
        let new = self.path.with_extension("new");
        File::create(&new)?.write_all(&octets)?;
        std::fs::rename(&new, &self.path)?;
        self.file = options().open(&self.path)?;
        self.length = octets.len() as u64;
        Ok(())
    }
}

impl Past {
    /// Sessions in it.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The blocks that were leased.
    pub fn blocks(&self) -> impl Iterator<Item = (PoolKey, Lease)> + '_ {
        self.blocks.iter().filter_map(|record| {
            let prefix_length = u8::try_from(record.prefix_length).ok()?;
            let lease = Lease {
                first: address(&record.first)?,
                count: record.count,
                prefix_length,
            };
            Some((
                PoolKey {
                    context: record.context,
                    name: record.pool.as_str().into(),
                },
                lease,
            ))
        })
    }

    /// The sessions there were, with the services of today.
    pub fn sessions<'a>(
        &'a self,
        policy: &'a Policy,
        now: Instant,
    ) -> impl Iterator<Item = (u64, Box<Session>)> + 'a {
        self.sessions
            .iter()
            .filter_map(move |(ike_spi, record)| Some((*ike_spi, session(record, policy, now)?)))
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options
}

/// One entry: kind, IKE SPI, length, octets.
fn append(octets: &mut Vec<u8>, kind: u8, ike_spi: u64, payload: &[u8]) {
    octets.push(kind);
    octets.extend(ike_spi.to_be_bytes());
    octets.extend((payload.len() as u32).to_be_bytes());
    octets.extend_from_slice(payload);
}

fn replay(octets: &[u8]) -> Past {
    let mut past = Past::default();
    let mut rest = octets;
    while let Some((kind, ike_spi, payload, next)) = entry(rest) {
        rest = next;
        match kind {
            SESSION => match SessionRecord::decode(payload) {
                Ok(record) => drop(past.sessions.insert(ike_spi, record)),
                Err(_) => break,
            },
            GONE => drop(past.sessions.remove(&ike_spi)),
            BLOCKS => match BlockRecords::decode(payload) {
                Ok(records) => past.blocks = records.blocks,
                Err(_) => break,
            },
            // A later version wrote it, to which it means something.
            _ => {}
        }
    }
    past
}

fn entry(octets: &[u8]) -> Option<(u8, u64, &[u8], &[u8])> {
    let (&kind, rest) = octets.split_first()?;
    let (ike_spi, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((kind, u64::from_be_bytes(*ike_spi), payload, rest))
}

fn blocks(state: &State) -> BlockRecords {
    let block = |(key, lease): (&PoolKey, &Lease)| BlockRecord {
        context: key.context,
        pool: key.name.to_string(),
        first: octets(lease.first),
        count: lease.count,
        prefix_length: lease.prefix_length.into(),
    };
    BlockRecords {
        blocks: state.blocks.iter().map(block).collect(),
    }
}

fn snapshot(session: &Session) -> SessionRecord {
    let assigned = |given: &Option<Box<Assigned>>| {
        given.as_ref().map(|given| AddressRecord {
            address: octets(given.address),
            prefix_length: given.prefix_length.into(),
            context: match &given.source {
                Source::Block(key) => key.context,
                Source::Single(context) => *context,
            },
            pool: match &given.source {
                Source::Block(key) => key.name.to_string(),
                Source::Single(_) => String::new(),
            },
        })
    };
    let nothing = Authorized::default();
    let authorized = session.authorized.as_deref().unwrap_or(&nothing);
    SessionRecord {
        context: session.service.context.to_string(),
        service: session.service.name.to_string(),
        identity_type: session.identity.kind() as u32,
        identity: session.identity.data().to_vec(),
        user: session
            .user
            .as_ref()
            .map_or_else(Vec::new, |user| user.as_bytes().to_vec()),
        peer: octets(session.peer),
        ipv4: assigned(&session.ipv4),
        ipv6: assigned(&session.ipv6),
        dns: authorized.dns.iter().map(|server| octets(*server)).collect(),
        call: session.call,
        began: session.began,
        connected: session.connected.map_or(0, unix_milliseconds),
        class: authorized.class.clone(),
        session_timeout: authorized.session_timeout,
        idle_timeout: authorized.idle_timeout,
        interim_interval: authorized.interim_interval,
        spis: session.spis.to_vec(),
        past: vec![
            session.past.bytes_in,
            session.past.bytes_out,
            session.past.packets_in,
            session.past.packets_out,
        ],
        tenure: session.tenure,
        displaced: session.displaced.map(NonZeroU64::get),
    }
}

fn session(record: &SessionRecord, policy: &Policy, now: Instant) -> Option<Box<Session>> {
    let kind = u8::try_from(record.identity_type)
        .ok()
        .and_then(IdentityKind::from_u8)?;
    let assigned = |record: &Option<AddressRecord>| {
        let record = record.as_ref()?;
        let source = match record.pool.as_str() {
            "" => Source::Single(record.context),
            pool => Source::Block(PoolKey {
                context: record.context,
                name: pool.into(),
            }),
        };
        let prefix_length = u8::try_from(record.prefix_length).ok()?;
        Some(Box::new(Assigned {
            address: address(&record.address)?,
            prefix_length,
            source,
        }))
    };
    let connected = (record.connected != 0).then(|| instant(record.connected, now));
    let past = match record.past.as_slice() {
        &[bytes_in, bytes_out, packets_in, packets_out] => Usage {
            bytes_in,
            bytes_out,
            packets_in,
            packets_out,
        },
        _ => Usage::default(),
    };
    let authorized = Authorized {
        class: record.class.clone(),
        session_timeout: record.session_timeout,
        idle_timeout: record.idle_timeout,
        interim_interval: record.interim_interval,
        dns: record.dns.iter().filter_map(|server| address(server)).collect(),
    };
    let service = policy.find(&record.context, &record.service).cloned();
    Some(Box::new(Session {
        // A service that was removed meanwhile gives its last sessions nothing more.
        service: service.unwrap_or_else(|| Service::gone(&record.context, &record.service).into()),
        user: UserName::new(&record.user),
        identity: Identity::new(kind, &record.identity)?,
        peer: address(&record.peer).unwrap_or(IpAddr::from([0; 4])),
        ipv4: assigned(&record.ipv4),
        ipv6: assigned(&record.ipv6),
        phase: if connected.is_some() {
            Phase::Connected
        } else {
            Phase::Arrived
        },
        ending: None,
        call: record.call,
        began: record.began,
        connected,
        authorized: (authorized != Authorized::default()).then(|| Box::new(authorized)),
        spis: record.spis.iter().copied().collect(),
        past,
        usage: past,
        restored: true,
        active: now,
        accounted: connected.map(|_| now),
        tenure: record.tenure,
        displaced: record.displaced.and_then(NonZeroU64::new),
    }))
}

/// A moment of the monotonic clock as milliseconds since the Unix epoch: the only clock that both lives of a task share.
fn unix_milliseconds(moment: Instant) -> u64 {
    let ago = Instant::now().saturating_duration_since(moment);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(ago);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The opposite.
fn instant(milliseconds: u64, now: Instant) -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = since.saturating_sub(Duration::from_millis(milliseconds));
    now.checked_sub(ago).unwrap_or(now)
}

/// A session.
#[derive(Clone, PartialEq, prost::Message)]
struct SessionRecord {
    #[prost(string, tag = "1")]
    context: String,
    #[prost(string, tag = "2")]
    service: String,
    #[prost(uint32, tag = "3")]
    identity_type: u32,
    #[prost(bytes = "vec", tag = "4")]
    identity: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    peer: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    ipv4: Option<AddressRecord>,
    #[prost(message, optional, tag = "8")]
    ipv6: Option<AddressRecord>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    dns: Vec<Vec<u8>>,
    #[prost(fixed64, tag = "10")]
    call: u64,
    #[prost(fixed64, tag = "11")]
    began: u64,
    /// Milliseconds since the Unix epoch; 0: not connected.
    #[prost(uint64, tag = "12")]
    connected: u64,
    #[prost(bytes = "vec", repeated, tag = "13")]
    class: Vec<Vec<u8>>,
    #[prost(uint32, optional, tag = "14")]
    session_timeout: Option<u32>,
    #[prost(uint32, optional, tag = "15")]
    idle_timeout: Option<u32>,
    #[prost(uint32, optional, tag = "16")]
    interim_interval: Option<u32>,
    #[prost(uint32, repeated, tag = "17")]
    spis: Vec<u32>,
    /// Octets in, octets out, packets in, packets out of child SAs that are gone.
    #[prost(uint64, repeated, tag = "18")]
    past: Vec<u64>,
    #[prost(fixed64, optional, tag = "20")]
    displaced: Option<u64>,
    /// By which tenure the `ipsecmgr` that named it last has its slot.
    #[prost(uint64, tag = "21")]
    tenure: u64,
}

/// An address given to a peer.
#[derive(Clone, PartialEq, prost::Message)]
struct AddressRecord {
    #[prost(bytes = "vec", tag = "1")]
    address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    prefix_length: u32,
    #[prost(uint32, tag = "3")]
    context: u32,
    /// Empty for a single address.
    #[prost(string, tag = "4")]
    pool: String,
}

/// All blocks.
#[derive(Clone, PartialEq, prost::Message)]
struct BlockRecords {
    #[prost(message, repeated, tag = "1")]
    blocks: Vec<BlockRecord>,
}

/// A block.
#[derive(Clone, PartialEq, prost::Message)]
struct BlockRecord {
    #[prost(uint32, tag = "1")]
    context: u32,
    #[prost(string, tag = "2")]
    pool: String,
    #[prost(bytes = "vec", tag = "3")]
    first: Vec<u8>,
    #[prost(uint32, tag = "4")]
    count: u32,
    #[prost(uint32, tag = "5")]
    prefix_length: u32,
}

/// A session as it is now.
const SESSION: u8 = b'S';
/// A session is gone.
const GONE: u8 = b'G';
/// All blocks as they are now.
const BLOCKS: u8 = b'B';
/// A shorter file is left as it is.
const COMPACT_FROM: u64 = 1 << 20;
/// Octets of a session in the file, roughly.
const ROUGH_SESSION: u64 = 256;
/// What is read of a file at most.
const LONGEST_FILE: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Octets of a file of `formats`.
    fn recorded(text: &str) -> Vec<u8> {
        let octets = text.split_whitespace();
        octets
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect()
    }

    /// A journal as it was recorded once, with an entry of a kind that nobody knows: what a `sessmgr` of another version may find.
    #[test]
    fn a_recorded_journal_is_read() {
        let address = |pool: &str| AddressRecord {
            address: vec![10, 0, 0, 7],
            prefix_length: 32,
            context: 2,
            pool: pool.into(),
        };
        let session = SessionRecord {
            context: "isp".into(),
            service: "enb".into(),
            identity_type: 2,
            identity: b"enb1.example".to_vec(),
            user: b"enb1".to_vec(),
            peer: vec![192, 0, 2, 7],
            ipv4: Some(address("pool1")),
            ipv6: Some(address("")),
            dns: vec![vec![10, 0, 0, 53]],
            call: 42,
            began: 1_700_000_000_000,
            connected: 1_700_000_000_500,
            class: vec![b"gold".to_vec()],
            session_timeout: Some(86_400),
            idle_timeout: Some(600),
            interim_interval: Some(300),
            spis: vec![0x0700_4001],
            past: vec![1, 2, 3, 4],
            tenure: 5,
            displaced: Some(6),
        };
        let blocks = BlockRecords {
            blocks: vec![BlockRecord {
                context: 2,
                pool: "pool1".into(),
                first: vec![10, 0, 0, 0],
                count: 64,
                prefix_length: 32,
            }],
        };
        let past = replay(&recorded(include_str!("../formats/journal.hex")));
        assert_eq!(past.sessions.into_iter().collect::<Vec<_>>(), [(2, session)]);
        assert_eq!(past.blocks, blocks.blocks);
    }

    proptest! {
        #[test]
        fn any_file_can_be_replayed(octets in prop::collection::vec(any::<u8>(), 0..400)) {
            replay(&octets);
        }
    }
}
