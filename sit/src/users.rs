//! The users that processes run as: one for each facility, so that none reaches the files, the memory or the signals of another.
//!
//! They are the accounts `starward-FACILITY` with the group `starward` if the system has all of them (the packaging makes them), otherwise numbers from
//! a range that needs no accounts: the first is the group's, the following ones, by the numbers of the facilities, are user and group of each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bus::Facility;
use caps::{CapSet, Capability};
use netio::Identity;
use nix::unistd::{Group, User};
use task::Protection;

use crate::upgrade::state::{KeptUser, KeptUsers};

/// Name of the group of all processes, and beginning of the names of the users.
const NAME: &str = "starward";

/// What `sit` needs to start processes as others, to hand them their folders, and to end them.
const NEEDED: [Capability; 5] = [
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_KILL,
];

/// The users of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Users {
    /// The group that may enter the bus.
    pub group: u32,
    /// User and group of each facility, in the order of [`Facility::ALL`].
    facilities: Vec<(u32, u32)>,
}

impl Users {
    /// Finds them; in `directories` (and in nothing above them) they can be given folders.
    ///
    /// # Errors
    /// Why processes cannot have users of their own here, in words.
    pub fn find(first: u32, directories: &[&Path]) -> Result<Self, String> {
        let held = caps::read(None, CapSet::Effective).map_err(|error| error.to_string())?;
        if let Some(lacking) = NEEDED.iter().find(|capability| !held.contains(capability)) {
            return Err(format!("the node lacks {lacking}"));
        }
        for directory in directories {
            for above in directory.ancestors().skip(1) {
                is_open(above, "go through")?;
            }
        }
        is_open(Path::new("/proc/self/exe"), "execute")?;
        let users = Self::accounts().unwrap_or_else(|| Self::numbers(first));
        let numbers = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let (uids, gids) = (numbers("uid_map"), numbers("gid_map"));
        let exist = |&(user, group): &(u32, u32)| exists(&uids, user) && exists(&gids, group);
        if numbers("setgroups").trim() != "allow"
            || !exists(&gids, users.group)
            || !users.facilities.iter().all(exist)
        {
            return Err("the user namespace of the node has too few users".to_owned());
        }
        Ok(users)
    }

    /// User and group of a facility.
    pub fn of(&self, facility: Facility) -> Option<(u32, u32)> {
        let place = Facility::ALL.iter().position(|one| *one == facility)?;
        self.facilities.get(place).copied()
    }

    /// Who a process of this facility is.
    pub fn identity(&self, facility: Facility) -> Option<Identity> {
        let (user, group) = self.of(facility)?;
        Some(Identity {
            user,
            group,
            groups: vec![self.group],
            capabilities: Protection::of(facility).capability_bits(),
        })
    }

    /// Them all, for the next program: those of a running node stay, also when the system has accounts meanwhile.
    pub fn save(&self) -> KeptUsers {
        let users = Facility::ALL.iter().zip(&self.facilities);
        KeptUsers {
            group: self.group,
            facilities: users
                .map(|(facility, &(user, group))| KeptUser {
                    facility: u32::from(*facility as u8),
                    user,
                    group,
                })
                .collect(),
        }
    }

    /// Those of the node. A facility that the last program did not know gets its number from the range that begins with `first`.
    pub fn restore(kept: &KeptUsers, first: u32) -> Self {
        let mut users = Self::numbers(first);
        users.group = kept.group;
        for (facility, place) in Facility::ALL.iter().zip(&mut users.facilities) {
            let number = u32::from(*facility as u8);
            if let Some(one) = kept.facilities.iter().find(|one| one.facility == number) {
                *place = (one.user, one.group);
            }
        }
        users
    }

    fn accounts() -> Option<Self> {
        let group = Group::from_name(NAME).ok()??.gid.as_raw();
        let account = |facility: &Facility| {
            let user = User::from_name(&format!("{NAME}-{facility}")).ok()??;
            Some((user.uid.as_raw(), user.gid.as_raw()))
        };
        let children = |facility: &&Facility| !matches!(facility, Facility::Sit | Facility::Cli);
        // The parent and the shells are whoever started them: they have none.
        let found: Option<Vec<_>> = Facility::ALL.iter().filter(children).map(account).collect();
        let mut found = found?.into_iter();
        let facilities = Facility::ALL
            .iter()
            .map(|facility| match children(&facility) {
                true => found.next().unwrap_or_default(),
                false => (0, 0),
            })
            .collect();
        Some(Self { group, facilities })
    }

    fn numbers(first: u32) -> Self {
        let number = |facility: &Facility| {
            let number = first.saturating_add(u32::from(*facility as u8));
            (number, number)
        };
        Self {
            group: first,
            facilities: Facility::ALL.iter().map(number).collect(),
        }
    }
}

/// Whether all users may execute a file, or go through a directory.
fn is_open(path: &Path, doing: &str) -> Result<(), String> {
    let wrong =
        |why: &dyn std::fmt::Display| format!("other users may not {doing} {}: {why}", path.display());
    let metadata = fs::metadata(path).map_err(|error| wrong(&error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o001 == 0 {
        return Err(wrong(&format!("its mode is {mode:o}")));
    }
    Ok(())
}

/// Whether a user namespace with this map (user_namespaces(7)) has a user or group of this number.
fn exists(map: &str, number: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        number.checked_sub(inside).is_some_and(|offset| offset < count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_facility_has_a_number_of_its_own() {
        let users = Users::numbers(60_700);
        assert_eq!(users.group, 60_700);
        let mut all: Vec<u32> = Facility::ALL
            .iter()
            .map(|facility| users.of(*facility).unwrap().0)
            .collect();
        assert!(!all.contains(&users.group));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Facility::ALL.len());
        let vpnmgr = users.identity(Facility::Vpnmgr).unwrap();
        assert_eq!((vpnmgr.user, vpnmgr.groups), (60_704, vec![60_700]));
        assert_eq!(vpnmgr.capabilities, Capability::CAP_NET_ADMIN.bitmask());
    }

    #[test]
    fn users_stay_with_a_node() {
        let users = Users {
            group: 900,
            facilities: Facility::ALL
                .iter()
                .map(|one| (1_000 + *one as u32, 77))
                .collect(),
        };
        assert_eq!(Users::restore(&users.save(), 60_700), users);
        let mut older = users.save();
        older
            .facilities
            .retain(|one| one.facility != Facility::Snmp as u32);
        let again = Users::restore(&older, 60_700);
        assert_eq!(again.of(Facility::Snmp).unwrap().0, 60_711);
        assert_eq!(again.of(Facility::Sct), users.of(Facility::Sct));
    }

    #[test]
    fn a_namespace_of_one_has_no_others() {
        assert!(exists("         0          0 4294967295\n", 60_700));
        assert!(!exists("0 1000 1\n", 60_700));
        assert!(exists("0 1000 1\n1 100000 65536\n", 60_700));
        assert!(!exists("", 0));
    }

    #[test]
    fn a_closed_directory_is_named() {
        let folder = std::env::temp_dir().join(format!("sit-closed-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        let error = is_open(&folder, "go through").unwrap_err();
        assert!(error.ends_with("its mode is 750"), "{error}");
        assert!(is_open(Path::new("/"), "go through").is_ok());
        fs::remove_dir(folder).unwrap();
    }
}
