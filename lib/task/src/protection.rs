//! What each facility may have of the system: the one table of it, for `sit`, which prepares it, and for the process, which gives up the rest.

use std::path::{Path, PathBuf};

use bus::Facility;
use caps::Capability;
use netio::landlock::FileAccess;

/// What a facility is left with.
#[derive(Debug)]
pub struct Protection {
    /// The capabilities it works with. Everything else it does with descriptors from `sit`.
    pub capabilities: &'static [Capability],
    /// Folders that are its own. `sit` makes them, and nobody else may enter (but who is said to, and readers of statistics).
    pub own: &'static [Place],
    /// What else it may reach.
    pub reaches: &'static [(Place, FileAccess)],
}

/// A file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Of the run directory.
    Run(&'static str),
    /// Of the state directory.
    State(&'static str),
    /// The folder of the boot configuration file.
    Configuration,
    /// Of the system.
    System(&'static str),
}

/// Where the places of a node are.
#[derive(Debug, Clone, Copy)]
pub struct Directories<'a> {
    /// Run directory.
    pub run: &'a Path,
    /// State directory.
    pub state: &'a Path,
    /// Boot configuration file.
    pub boot_config: &'a Path,
}

impl Protection {
    /// That of a facility.
    pub fn of(facility: Facility) -> &'static Self {
        match facility {
            Facility::Sct => &SCT,
            Facility::Rmctrl => &RMCTRL,
            Facility::Vpnmgr => &VPNMGR,
            Facility::Sessmgr => &SESSMGR,
            Facility::Aaamgr => &AAAMGR,
            Facility::Bulkstat => &BULKSTAT,
            Facility::Snmp => &SNMP,
            Facility::Sit | Facility::Ipsecmgr | Facility::Iftask | Facility::Certmgr | Facility::Cli => {
                &NOTHING
            }
        }
    }

    /// The capabilities as the kernel counts them: bit `n` is capability `n`.
    pub fn capability_bits(&self) -> u64 {
        self.capabilities
            .iter()
            .fold(0, |bits, capability| bits | capability.bitmask())
    }

    /// Every place that `facility` may reach with this protection.
    pub(crate) fn places(
        &self,
        facility: Facility,
        directories: Directories<'_>,
    ) -> Vec<(PathBuf, FileAccess)> {
        let own = self.own.iter().map(|place| (*place, FileAccess::Write));
        let counters = directories.counters(facility);
        own.chain(EVERYBODY.iter().chain(self.reaches).copied())
            .map(|(place, access)| (directories.path(place), access))
            .chain([(counters, FileAccess::Write)])
            .collect()
    }
}

impl Directories<'_> {
    /// Where a place is.
    pub fn path(&self, place: Place) -> PathBuf {
        match place {
            Place::Run(name) => self.run.join(name),
            Place::State(name) => self.state.join(name),
            Place::Configuration => self.boot_config.parent().unwrap_or(Path::new("/")).to_owned(),
            Place::System(name) => PathBuf::from(name),
        }
    }

    /// Where a facility has its counter pages. Everybody reads them.
    pub fn counters(&self, facility: Facility) -> PathBuf {
        self.path(COUNTERS).join(facility.name())
    }
}

/// The counter pages.
pub(crate) const COUNTERS: Place = Place::Run("counters");

/// What every process needs.
const EVERYBODY: &[(Place, FileAccess)] = &[
    (Place::Run("bus"), FileAccess::Read),
    (COUNTERS, FileAccess::Read),
    // The time of day in tables and files.
    (Place::System("/etc/localtime"), FileAccess::Read),
    (Place::System("/usr/share/zoneinfo"), FileAccess::Read),
    (Place::System("/dev/null"), FileAccess::Change),
    (Place::System("/dev/urandom"), FileAccess::Read),
];

const NOTHING: Protection = Protection {
    capabilities: &[],
    own: &[],
    reaches: &[],
};

const SCT: Protection = Protection {
    // The boot configuration and its folder are the operator's.
    capabilities: &[Capability::CAP_DAC_OVERRIDE],
    // The running configuration; the master key; saved configurations.
    own: &[
        Place::Run("sct"),
        Place::State("sct"),
        Place::State("flash"),
        Place::State("usb1"),
    ],
    reaches: &[
        (Place::Configuration, FileAccess::Write),
        (Place::State("hd-raid"), FileAccess::Write),
        // Names of users, whatever the system has them in (nsswitch.conf(5)).
        (Place::System("/etc/passwd"), FileAccess::Read),
        (Place::System("/etc/nsswitch.conf"), FileAccess::Read),
        (Place::System("/etc/ld.so.cache"), FileAccess::Read),
        (Place::System("/lib"), FileAccess::Read),
        (Place::System("/lib64"), FileAccess::Read),
        (Place::System("/usr/lib"), FileAccess::Read),
        // Which user of a namespace is which outside.
        (Place::System("/proc"), FileAccess::Read),
    ],
};

const RMCTRL: Protection = Protection {
    // CPU time and memory of the other tasks and of the machine, and which processors share memory.
    reaches: &[
        (Place::System("/proc"), FileAccess::Read),
        (Place::System("/sys/devices/system/node"), FileAccess::Read),
    ],
    ..NOTHING
};

const VPNMGR: Protection = Protection {
    // Addresses and routes, in its own namespace only (netlink checks the caller), and settings below /proc/sys/net. (The rule is about the whole of
    // /proc: what is below it may be another inode tomorrow.)
    capabilities: &[Capability::CAP_NET_ADMIN],
    reaches: &[(Place::System("/proc"), FileAccess::Change)],
    ..NOTHING
};

const SESSMGR: Protection = Protection {
    // The journals of sessions.
    own: &[Place::Run("sessions")],
    ..NOTHING
};

const AAAMGR: Protection = Protection {
    // Accounting records that nobody took yet.
    own: &[Place::State("aaamgr")],
    ..NOTHING
};

const BULKSTAT: Protection = Protection {
    // Records that wait, and finished files.
    own: &[Place::State("bulkstats"), Place::State("hd-raid")],
    // Load and memory of the machine.
    reaches: &[(Place::System("/proc"), FileAccess::Read)],
    ..NOTHING
};

const SNMP: Protection = Protection {
    // How far it has heard.
    own: &[Place::Run("snmp")],
    // How long the node and the machine have been up.
    reaches: &[(Place::System("/proc"), FileAccess::Read)],
    ..NOTHING
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_belongs_to_two() {
        let mut all: Vec<_> = Facility::ALL
            .iter()
            .flat_map(|facility| Protection::of(*facility).own)
            .map(|place| format!("{place:?}"))
            .collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn the_places_of_a_facility_are_its_own_and_what_it_is_granted() {
        let directories = Directories {
            run: Path::new("/run/s"),
            state: Path::new("/var/s"),
            boot_config: Path::new("/etc/s/s.cfg"),
        };
        let places = |facility| Protection::of(facility).places(facility, directories);
        let may = |facility, path: &str, access| {
            places(facility)
                .iter()
                .any(|(place, granted)| place == Path::new(path) && *granted == access)
        };
        assert!(may(Facility::Sct, "/etc/s", FileAccess::Write));
        assert!(may(Facility::Sct, "/var/s/sct", FileAccess::Write));
        assert!(may(Facility::Snmp, "/run/s/counters/snmp", FileAccess::Write));
        assert!(may(Facility::Snmp, "/run/s/counters", FileAccess::Read));
        // Nobody else comes near the master key.
        for facility in Facility::ALL
            .iter()
            .filter(|facility| **facility != Facility::Sct)
        {
            let above = |(place, _): &(PathBuf, FileAccess)| Path::new("/var/s/sct").starts_with(place);
            assert!(!places(*facility).iter().any(above), "{facility}");
        }
    }

    #[test]
    fn capabilities_are_the_kernel_s_bits() {
        assert_eq!(Protection::of(Facility::Vpnmgr).capability_bits(), 1 << 12);
        assert_eq!(Protection::of(Facility::Iftask).capability_bits(), 0);
    }
}
