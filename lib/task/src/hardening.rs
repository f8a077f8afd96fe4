//! What a process gives up before it does anything else. Its user it has from `sit`, which starts it as that one.

use bus::Facility;
use caps::{CapSet, Capability, CapsHashSet};

use crate::protection::{Directories, Protection};
use crate::system_calls;

/// Gives up what `facility` does not need. Returns the protections that could not be switched on, in words; lacking one is no reason not to
/// serve.
pub(crate) fn harden(facility: Facility) -> Vec<String> {
    let mut missing = Vec::new();
    let mut note = |protection: &str, result: Result<(), String>| {
        if let Err(error) = result {
            missing.push(format!("{protection}: {error}"));
        }
    };
    note(
        "core dumps off",
        netio::task::forbid_core_dumps().map_err(|error| error.to_string()),
    );
    note(
        "no new privileges",
        netio::task::forbid_new_privileges().map_err(|error| error.to_string()),
    );
    note(
        "capabilities dropped",
        drop_capabilities(Protection::of(facility).capabilities),
    );
    missing
}

/// Gives up the files and the system calls that `facility` does not need, for good. Must be called before the process has other threads.
pub(crate) fn confine(facility: Facility, directories: Directories<'_>) -> Confinement {
    let mut confinement = Confinement::default();
    let mut missing = |protection: &str, error: String| {
        confinement.missing.push(format!("{protection}: {error}"));
    };
    let places = Protection::of(facility).places(facility, directories);
    match netio::landlock::confine(&places) {
        // What was asked for and what is there are two things.
        Ok(_) if std::fs::read_dir("/").is_ok() => {
            missing(FILES, "the kernel does not enforce it".to_owned())
        }
        Ok(version) => confinement.files = version,
        Err(error) => missing(FILES, error.to_string()),
    }
    let filter = system_calls::filter(facility).and_then(|filter| filter.install());
    if let Err(error) = filter {
        missing("system calls confined", error.to_string());
    }
    confinement
}

/// What [`confine`] came to.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    /// Version of the kernel's interface that confines the files; 0 if nothing does.
    pub files: u32,
    /// The protections that could not be switched on, in words.
    pub missing: Vec<String>,
}

const FILES: &str = "files confined";

fn drop_capabilities(needed: &[Capability]) -> Result<(), String> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(|error| error.to_string())?;
    let keep: CapsHashSet = needed
        .iter()
        .copied()
        .filter(|needed| permitted.contains(needed))
        .collect();
    // The bounding set first: it needs a capability that goes with the others. It matters only for what we might execute, which is
    // nothing, so that to lack the right is no fault.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::runtime::thread_all_supported() {
            caps::drop(None, CapSet::Bounding, capability).map_err(|error| error.to_string())?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(|error| error.to_string())?;
    caps::clear(None, CapSet::Inheritable).map_err(|error| error.to_string())?;
    caps::set(None, CapSet::Effective, &keep).map_err(|error| error.to_string())?;
    caps::set(None, CapSet::Permitted, &keep).map_err(|error| error.to_string())
}
