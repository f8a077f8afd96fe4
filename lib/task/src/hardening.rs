//! What a process gives up before it does anything else.

use bus::Facility;
use caps::{CapSet, Capability, CapsHashSet};

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
    note("capabilities dropped", drop_capabilities(needed(facility)));
    missing
}

/// The capabilities a facility works with. Everything else it does with descriptors from `sit`.
fn needed(facility: Facility) -> &'static [Capability] {
    match facility {
        // Addresses and routes, in its own namespace only (netlink checks the caller).
        Facility::Vpnmgr => &[Capability::CAP_NET_ADMIN],
        // Files that the operator names and owns: the configuration, statistics.
        Facility::Sct | Facility::Bulkstat => &[Capability::CAP_DAC_OVERRIDE],
        // Keys and certificates that another user may own.
        Facility::Certmgr => &[Capability::CAP_DAC_READ_SEARCH],
        // CPU time and open files of the other tasks.
        Facility::Rmctrl => &[Capability::CAP_SYS_PTRACE],
        _ => &[],
    }
}

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
