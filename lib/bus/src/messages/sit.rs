//! System initiation. Messages of the control socket (descriptor 3 of every child); replies may carry descriptors.

use crate::facility::{Address, Facility};
use crate::message::{events, requests};
use crate::messages::rmctrl::SlotMap;

/// Version of the control-socket protocol.
pub const CONTROL_VERSION: u32 = 1;
/// The oldest version that is still spoken: a node that is being upgraded has children of the version before.
pub const OLDEST_CONTROL_VERSION: u32 = 1;

requests! {
    0x0101 idempotent OpenIke => Opened;
    0x0102 idempotent OpenEsp => Opened;
    0x0103 idempotent OpenTun => Opened;
    0x0104 idempotent OpenSlots => Opened;
    0x0105 idempotent OpenRings => Opened;
    0x0106 idempotent OpenUdp => Opened;
    0x0107 once Close => Closed;
    0x0108 once Ready => Closed;
    0x0109 idempotent OpenFile => Opened;
    0x010a idempotent SetSlotMap => KeptSlotMap;
    0x010b idempotent GetKeptSlotMap => KeptSlotMap;
    0x010c idempotent EndLife => Closed;
    0x010d idempotent OpenXdp => Opened;
}

events! {
    0x0180 Welcome;
    0x0181 LinkOpened;
    0x0182 Shutdown;
    0x0183 TaskStarted;
    0x0184 HandOver;
}

/// First message to a child. Its listening sockets of the bus ride on it: requests, then events.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// Version of the control protocol that is spoken here: at most that of the child.
    #[prost(uint32, tag = "1")]
    pub control_version: u32,
    /// Run directory.
    #[prost(string, tag = "2")]
    pub run_dir: String,
    /// State directory.
    #[prost(string, tag = "3")]
    pub state_dir: String,
    /// Number of workers of this node.
    #[prost(uint32, tag = "4")]
    pub workers: u32,
    /// How often this task has been started before since boot of the node: 0 for the first life.
    #[prost(uint32, tag = "5")]
    pub lives: u32,
    /// The context this task belongs to, for tasks that are one per context.
    #[prost(string, tag = "6")]
    pub context: String,
    /// The processor this task should stay on, if any.
    #[prost(uint32, optional, tag = "7")]
    pub processor: Option<u32>,
    /// Protections that are missing here because of lacking privilege, in words.
    #[prost(string, repeated, tag = "8")]
    pub unprotected: Vec<String>,
    /// Boot configuration file (for `sct`).
    #[prost(string, tag = "9")]
    pub boot_config: String,
    /// The processors near its memory, which this task should stay on if it has none of its own. Empty: all.
    #[prost(uint32, repeated, tag = "10")]
    pub near_processors: Vec<u32>,
}

/// IKE sockets of this worker for a local address: UDP 500, then UDP 4500.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenIke {
    /// Context name.
    #[prost(string, tag = "1")]
    pub context: String,
    /// Local address, as text.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// ESP sockets of this worker for a local address: UDP 4500, then raw protocol 50 and raw ICMP for path MTUs (absent without privilege: see
/// `names`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenEsp {
    /// Context name.
    #[prost(string, tag = "1")]
    pub context: String,
    /// Local address, as text.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// The TUN queue of this worker in a context (`vpnmgr` gets none and only has the device made).
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenTun {
    /// Context name.
    #[prost(string, tag = "1")]
    pub context: String,
}

/// Segments of slots: for each slot, keys, hot, counters in this order, as far as the facility may have them (`names` tells).
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSlots {
    /// Slot numbers, at most 16 a request: each may bring four descriptors, and a control message carries 64.
    #[prost(uint32, repeated, tag = "1")]
    pub slots: Vec<u32>,
}

/// Stray rings: for each other worker's `iftask` (if `iftask` asks) and for this worker's other process, which goes by this worker's number, the ring towards
/// it and the ring from it (memory, then eventfd).
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenRings {}

/// A UDP socket bound in a context (SNMP, RADIUS).
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenUdp {
    /// Context name.
    #[prost(string, tag = "1")]
    pub context: String,
    /// Local address, as text; empty for any.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Local port; 0 for any.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// Tells several sockets of the same address and port 0 apart.
    #[prost(uint32, tag = "4")]
    pub number: u32,
}

/// A file that the running configuration names, to read (`certmgr`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenFile {
    /// Its name, as the configuration has it.
    #[prost(string, tag = "1")]
    pub url: String,
}

/// The queues of this worker of a device that is configured for AF_XDP (`iftask`): for each, its socket and the memory of its frames.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenXdp {
    /// Context name.
    #[prost(string, tag = "1")]
    pub context: String,
    /// Name of the device.
    #[prost(string, tag = "2")]
    pub device: String,
    /// The asker takes packets of the clear side, too (not so versions before that was done).
    #[prost(bool, tag = "3")]
    pub takes_clear: bool,
}

/// The descriptors that ride on this message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Opened {
    /// One name for each descriptor, in order: `udp500`, `udp4500`, `esp`, `tun`, `slot-7-keys`, `ring-to-2`, ...
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
    /// Why nothing was opened.
    #[prost(string, tag = "2")]
    pub failure: String,
    /// Interface name of a TUN.
    #[prost(string, tag = "3")]
    pub interface: String,
    /// Of AF_XDP: the device's driver does it, not the kernel in its place.
    #[prost(bool, tag = "4")]
    pub native: bool,
}

/// Keep this version of the slot map, steer by it and give out segments by it (`rmctrl`). Refused when it is older than what is kept, or another one of the same version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSlotMap {
    /// The map.
    #[prost(message, optional, tag = "1")]
    pub map: Option<SlotMap>,
}

/// Which version of the slot map is kept?
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetKeptSlotMap {}

/// The version of the slot map that is kept.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeptSlotMap {
    /// None before the first one.
    #[prost(message, optional, tag = "1")]
    pub map: Option<SlotMap>,
    /// Why the map was refused, or what could not be steered.
    #[prost(string, tag = "2")]
    pub failure: String,
}

/// This life of a task does not do what it must: kill it (`rmctrl`, of the tasks that have slots). A later life is left alone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndLife {
    /// Facility number.
    #[prost(uint32, tag = "1")]
    pub facility: u32,
    /// Instance.
    #[prost(uint32, tag = "2")]
    pub instance: u32,
    /// Lives before the one that is to end.
    #[prost(uint32, tag = "3")]
    pub lives: u32,
}

/// This task no longer needs what it opened for a local address (or a TUN, with an empty address).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Close {
    /// Context name.
    #[prost(string, tag = "1")]
    pub context: String,
    /// Local address, as text.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// Done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Closed {}

/// This task serves: its sockets are bound and its configuration is applied.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ready {
    /// Protections this task could not switch on, in words.
    #[prost(string, repeated, tag = "1")]
    pub unprotected: Vec<String>,
    /// Version of the kernel's interface that confines it to its files (landlock), which it has tried; 0 when it is not confined. No one else can see that.
    #[prost(uint32, tag = "2")]
    pub confined: u32,
}

/// A new private link to another task; the descriptor rides on this message. An older link to the same task is dead.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinkOpened {
    /// Facility of the other end, by number.
    #[prost(uint32, tag = "1")]
    pub facility: u32,
    /// Instance of the other end.
    #[prost(uint32, tag = "2")]
    pub instance: u32,
}

/// Finish within the time given, then exit.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Shutdown {
    /// Milliseconds until the task is killed.
    #[prost(uint32, tag = "1")]
    pub grace: u32,
}

/// End at once and leave everything as it is, for a successor that goes on with it: tunnels, sessions, routes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HandOver {
    /// Milliseconds until the task is killed.
    #[prost(uint32, tag = "1")]
    pub grace: u32,
}

/// A task has started (again): published on the bus by `sit`, so that subscribers and clients reconnect at once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskStarted {
    /// Facility number.
    #[prost(uint32, tag = "1")]
    pub facility: u32,
    /// Instance.
    #[prost(uint32, tag = "2")]
    pub instance: u32,
    /// Process id.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// Lives before this one.
    #[prost(uint32, tag = "4")]
    pub lives: u32,
    /// Context, for tasks that are one per context.
    #[prost(string, tag = "5")]
    pub context: String,
}

impl TaskStarted {
    /// Who has started; `None` for a facility that we do not know.
    pub fn address(&self) -> Option<Address> {
        let facility = Facility::from_number(u8::try_from(self.facility).ok()?)?;
        Some(Address::new(facility, self.instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{self, Header, Kind};
    use crate::message::Message;

    /// Octets of a file of `formats`.
    fn recorded(text: &str) -> Vec<u8> {
        let octets = text.split_whitespace();
        octets
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect()
    }

    /// The first message to a child, as it was recorded when version 1 of the control protocol was the newest: children of any later version are told so.
    #[test]
    fn a_welcome_of_version_1_is_read() {
        let welcome = Welcome {
            control_version: 1,
            run_dir: "/run/starward".into(),
            state_dir: "/var/lib/starward".into(),
            workers: 2,
            lives: 3,
            context: "isp".into(),
            processor: Some(1),
            unprotected: vec!["nothing".into()],
            boot_config: "/etc/starward/starward.cfg".into(),
            near_processors: Vec::new(),
        };
        let header = Header {
            kind: Kind::Event,
            message: Welcome::TYPE,
            sender: Address::only(Facility::Sit),
            correlation: 0,
        };
        let octets = recorded(include_str!("../../formats/welcome-1.hex"));
        let (read, message) = frame::decode(&octets).unwrap();
        assert_eq!(read, header);
        assert_eq!(<Welcome as prost::Message>::decode(message).unwrap(), welcome);
    }

    /// What ends a child of any version without a trace: number and fields never change.
    #[test]
    fn the_end_that_hands_over_is_fixed() {
        use prost::Message as _;
        assert_eq!((HandOver::TYPE, Shutdown::TYPE), (0x0184, 0x0182));
        assert_eq!(HandOver { grace: 3_000 }.encode_to_vec(), [0x08, 0xb8, 0x17]);
    }
}
