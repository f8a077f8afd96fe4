//! What one `sit` leaves to the next: the format, and the memfd it travels in.
//!
//! | octets | field |
//! |---|---|
//! | 0-7 | magic `SWstate` and a zero |
//! | 8-11 | version of the format, big-endian |
//! | 12-15 | zero, ignored |
//! | 16- | [`NodeState`] as prost encodes it |
//!
//! Descriptors stand in it by number. Tags are never reused and unknown ones are skipped; a field that the successor cannot do without takes a new version, and the
//! reader of the version before stays ([`OLDEST`]).

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use bus::messages::rmctrl::SlotMap;
use bus::{Address, Facility, History};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use prost::Message;

/// Version that is written.
pub(crate) const VERSION: u32 = 1;
/// The oldest version that is read.
pub(crate) const OLDEST: u32 = 1;

const MAGIC: [u8; 8] = *b"SWstate\0";
const HEADER: usize = 16;
/// The state of a large node with all that its bus retains is far below this.
const LONGEST: u64 = 64 << 20;

/// Everything that `sit` holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeState {
    /// Software that wrote this.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Workers of the node.
    #[prost(uint32, tag = "2")]
    pub workers: u32,
    /// Locks of run directory and state directory.
    #[prost(uint32, repeated, tag = "3")]
    pub locks: Vec<u32>,
    /// Users of the processes, if they have their own.
    #[prost(message, optional, tag = "4")]
    pub users: Option<KeptUsers>,
    /// Listening sockets of `sit` on the bus: requests, events.
    #[prost(uint32, repeated, tag = "5")]
    pub bus: Vec<u32>,
    /// What `sit` has published.
    #[prost(message, optional, tag = "6")]
    pub history: Option<History>,
    /// Contexts.
    #[prost(message, repeated, tag = "7")]
    pub contexts: Vec<KeptContext>,
    /// Sockets, devices, segments, rings.
    #[prost(message, optional, tag = "8")]
    pub descriptors: Option<KeptDescriptors>,
    /// Tasks.
    #[prost(message, repeated, tag = "9")]
    pub tasks: Vec<KeptTask>,
    /// Requests that wait for something to become known.
    #[prost(message, repeated, tag = "10")]
    pub deferred: Vec<KeptRequest>,
    /// Executables that processes run.
    #[prost(message, repeated, tag = "11")]
    pub executables: Vec<KeptExecutable>,
    /// Key of the one that wrote this.
    #[prost(uint32, tag = "12")]
    pub running: u32,
    /// Key of the one it is for.
    #[prost(uint32, tag = "13")]
    pub next: u32,
    /// The running configuration as it was last read.
    #[prost(string, tag = "14")]
    pub configuration: String,
    /// The crash list as it stands on disk.
    #[prost(string, tag = "15")]
    pub crashes: String,
    /// Milliseconds since the node started.
    #[prost(uint64, tag = "16")]
    pub uptime: u64,
    /// Protections that are missing, in words.
    #[prost(string, repeated, tag = "17")]
    pub unprotected: Vec<String>,
}

/// See [`crate::users::Users`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptUsers {
    /// Group of all.
    #[prost(uint32, tag = "1")]
    pub group: u32,
    /// Each facility's.
    #[prost(message, repeated, tag = "2")]
    pub facilities: Vec<KeptUser>,
}

/// User and group of a facility.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptUser {
    #[prost(uint32, tag = "1")]
    pub facility: u32,
    #[prost(uint32, tag = "2")]
    pub user: u32,
    #[prost(uint32, tag = "3")]
    pub group: u32,
}

/// See [`crate::contexts::Context`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptContext {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub id: u32,
    #[prost(uint32, tag = "3")]
    pub namespace: u32,
    #[prost(string, optional, tag = "4")]
    pub made: Option<String>,
    #[prost(string, repeated, tag = "5")]
    pub borrowed: Vec<String>,
}

/// See [`crate::descriptors::Descriptors`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptDescriptors {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Who has which slot.
    #[prost(message, optional, tag = "2")]
    pub slot_map: Option<SlotMap>,
    /// All sockets are steered by it.
    #[prost(bool, tag = "9")]
    pub steered: bool,
    #[prost(message, repeated, tag = "3")]
    pub groups: Vec<KeptGroup>,
    #[prost(message, repeated, tag = "4")]
    pub raw: Vec<KeptRaw>,
    #[prost(message, repeated, tag = "5")]
    pub tuns: Vec<KeptTun>,
    #[prost(message, repeated, tag = "6")]
    pub udp: Vec<KeptUdp>,
    #[prost(message, repeated, tag = "7")]
    pub slots: Vec<KeptSlot>,
    #[prost(message, repeated, tag = "8")]
    pub rings: Vec<KeptRing>,
    #[prost(message, repeated, tag = "10")]
    pub xdp: Vec<KeptXdp>,
}

/// UDP sockets of a local address and port.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptGroup {
    #[prost(string, tag = "1")]
    pub context: String,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(uint32, repeated, tag = "3")]
    pub members: Vec<u32>,
    #[prost(uint32, tag = "4")]
    pub control: u32,
    #[prost(message, repeated, tag = "5")]
    pub by: Vec<KeptAddress>,
}

/// Raw sockets of a worker for a local address.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptRaw {
    #[prost(string, tag = "1")]
    pub context: String,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(uint32, tag = "3")]
    pub worker: u32,
    #[prost(uint32, tag = "4")]
    pub esp: u32,
    #[prost(uint32, tag = "5")]
    pub too_big: u32,
    #[prost(message, repeated, tag = "6")]
    pub by: Vec<KeptAddress>,
}

/// The TUN of a context.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptTun {
    #[prost(string, tag = "1")]
    pub context: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint32, repeated, tag = "3")]
    pub queues: Vec<u32>,
    /// 0 none, 1 TCP, 2 TCP and UDP.
    #[prost(uint32, tag = "4")]
    pub offloads: u32,
    /// The table that chooses among the queues.
    #[prost(uint32, optional, tag = "5")]
    pub steering: Option<u32>,
}

/// A device with AF_XDP.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptXdp {
    #[prost(string, tag = "1")]
    pub name: String,
    /// The context it is wanted in.
    #[prost(string, tag = "2")]
    pub context: String,
    /// What is open of it, if anything is.
    #[prost(message, optional, tag = "3")]
    pub port: Option<KeptXdpPort>,
}

/// What is open of a device with AF_XDP.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptXdpPort {
    /// Number of the device.
    #[prost(uint32, tag = "1")]
    pub device: u32,
    #[prost(bool, tag = "2")]
    pub native: bool,
    #[prost(uint32, tag = "3")]
    pub link: u32,
    /// The map of addresses, and what it holds.
    #[prost(uint32, tag = "4")]
    pub addresses: u32,
    #[prost(string, repeated, tag = "5")]
    pub taken: Vec<String>,
    /// By number.
    #[prost(uint32, repeated, tag = "6")]
    pub sockets: Vec<u32>,
    #[prost(uint32, repeated, tag = "7")]
    pub memories: Vec<u32>,
}

/// A UDP socket of a task.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptUdp {
    #[prost(message, optional, tag = "1")]
    pub holder: Option<KeptAddress>,
    #[prost(string, tag = "2")]
    pub context: String,
    #[prost(string, tag = "3")]
    pub address: String,
    #[prost(uint32, tag = "4")]
    pub port: u32,
    #[prost(uint32, tag = "5")]
    pub number: u32,
    #[prost(uint32, tag = "6")]
    pub socket: u32,
}

/// Segments of a slot: keys, hot, counters, IKE.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptSlot {
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    #[prost(uint32, repeated, tag = "2")]
    pub segments: Vec<u32>,
}

/// A stray ring.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptRing {
    /// The facility that writes.
    #[prost(uint32, tag = "1")]
    pub facility: u32,
    #[prost(uint32, tag = "2")]
    pub from: u32,
    #[prost(uint32, tag = "3")]
    pub to: u32,
    #[prost(uint32, tag = "4")]
    pub memory: u32,
    #[prost(uint32, tag = "5")]
    pub event: u32,
}

/// A task's address.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct KeptAddress {
    #[prost(uint32, tag = "1")]
    pub facility: u32,
    #[prost(uint32, tag = "2")]
    pub instance: u32,
}

/// See [`crate::state::Entry`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptTask {
    #[prost(message, optional, tag = "1")]
    pub address: Option<KeptAddress>,
    #[prost(string, tag = "2")]
    pub context: String,
    /// 0 waiting, 1 starting, 2 ready, 3 stopping.
    #[prost(uint32, tag = "3")]
    pub phase: u32,
    #[prost(uint32, tag = "4")]
    pub lives: u32,
    /// Lives that ended because of an upgrade.
    #[prost(uint32, tag = "5")]
    pub replaced: u32,
    /// Milliseconds of the next wait before a start.
    #[prost(uint64, tag = "6")]
    pub backoff: u64,
    #[prost(uint32, tag = "7")]
    pub failed_starts: u32,
    /// Key of the executable it runs.
    #[prost(uint32, tag = "8")]
    pub executable: u32,
    #[prost(message, optional, tag = "9")]
    pub life: Option<KeptLife>,
}

/// See [`crate::state::Life`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptLife {
    #[prost(uint32, tag = "1")]
    pub number: u32,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(uint32, tag = "3")]
    pub pidfd: u32,
    #[prost(uint32, tag = "4")]
    pub control: u32,
    /// Milliseconds since it was started.
    #[prost(uint64, tag = "5")]
    pub age: u64,
    #[prost(uint32, tag = "6")]
    pub confined: u32,
}

/// See [`crate::requests::Deferred`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptRequest {
    #[prost(message, optional, tag = "1")]
    pub address: Option<KeptAddress>,
    #[prost(uint32, tag = "2")]
    pub life: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub frame: Vec<u8>,
    /// Milliseconds for which it may go on waiting.
    #[prost(uint64, tag = "4")]
    pub patience: u64,
}

/// See [`super::executable::Executable`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptExecutable {
    #[prost(uint32, tag = "1")]
    pub key: u32,
    #[prost(uint32, tag = "2")]
    pub file: u32,
    #[prost(string, tag = "3")]
    pub path: String,
    #[prost(string, tag = "4")]
    pub version: String,
    /// The control protocol that its processes speak.
    #[prost(uint32, tag = "5")]
    pub control: u32,
}

impl From<Address> for KeptAddress {
    fn from(address: Address) -> Self {
        Self {
            facility: u32::from(address.facility as u8),
            instance: address.instance,
        }
    }
}

impl KeptAddress {
    pub fn address(&self) -> Result<Address, String> {
        Ok(Address::new(facility(self.facility)?, self.instance))
    }
}

/// The address of a field that must be there.
pub(crate) fn address(kept: Option<&KeptAddress>) -> Result<Address, String> {
    kept.ok_or("a task without an address")?.address()
}

pub(crate) fn facility(number: u32) -> Result<Facility, String> {
    u8::try_from(number)
        .ok()
        .and_then(Facility::from_number)
        .ok_or_else(|| format!("there is no facility {number}"))
}

impl NodeState {
    /// Writes it into a sealed file of memory.
    pub fn write(&self) -> io::Result<File> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create("starward-state", flags)?);
        let mut octets = MAGIC.to_vec();
        octets.extend(VERSION.to_be_bytes());
        octets.resize(HEADER, 0);
        self.encode_raw(&mut octets);
        file.write_all(&octets)?;
        fcntl(
            &file,
            FcntlArg::F_ADD_SEALS(
                SealFlag::F_SEAL_SHRINK
                    | SealFlag::F_SEAL_GROW
                    | SealFlag::F_SEAL_WRITE
                    | SealFlag::F_SEAL_SEAL,
            ),
        )?;
        Ok(file)
    }

    /// Reads it from the beginning of a file.
    ///
    /// # Errors
    /// Why this program cannot, in words.
    pub fn read(file: &mut File) -> Result<Self, String> {
        let mut octets = Vec::new();
        file.rewind()
            .and_then(|()| file.take(LONGEST).read_to_end(&mut octets))
            .map_err(|error| format!("the state cannot be read: {error}"))?;
        let (magic, rest) = octets.split_first_chunk::<8>().ok_or("the state is cut off")?;
        if *magic != MAGIC {
            return Err("this is no state of a node".to_owned());
        }
        let (version, rest) = rest.split_first_chunk::<4>().ok_or("the state is cut off")?;
        let version = u32::from_be_bytes(*version);
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(format!(
                "the state has version {version}, {OLDEST} to {VERSION} can be read"
            ));
        }
        let message = rest.get(HEADER - 12..).ok_or("the state is cut off")?;
        let state = Self::decode(message).map_err(|error| format!("the state cannot be read: {error}"))?;
        state.check()?;
        Ok(state)
    }

    /// Refuses what no `sit` writes: so a successor finds out before it takes anything.
    fn check(&self) -> Result<(), String> {
        if self.locks.len() != 2 || self.bus.len() != 2 || self.descriptors.is_none() {
            return Err("the state is not complete".to_owned());
        }
        for task in &self.tasks {
            let address = address(task.address.as_ref())?;
            if !self.executables.iter().any(|one| one.key == task.executable) {
                return Err(format!("{address} runs an executable that is not there"));
            }
            if task.phase > 3 {
                return Err(format!("{address} is in phase {}", task.phase));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
