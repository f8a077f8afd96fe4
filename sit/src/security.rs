//! `show process security`: which protections are in force for each process, as the kernel says.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;

use bus::Address;
use bus::messages::common::Output;
use caps::Capability;

use crate::manager::{Manager, SIT};

/// What the kernel says about a process (proc_pid_status(5), proc_pid_limits(5)).
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    /// Effective user.
    user: u32,
    /// Effective capabilities: bit `n` is capability `n`.
    capabilities: u64,
    no_new_privileges: bool,
    /// Filters of system calls.
    filters: u32,
    /// Neither a core dump nor a debugger gets at its memory.
    undumpable: bool,
}

/// `show process security`: heading, lines, and what is missing on this node.
pub(crate) fn process_security(manager: &Manager, facility: Option<&str>) -> Output {
    let own = (SIT, Some(std::process::id()), 0);
    let others = manager.tasks.values().map(|entry| {
        let confined = entry.life.as_ref().map_or(0, |life| life.confined);
        (entry.address, entry.pid(), confined)
    });
    let mut text = String::new();
    for (address, pid, confined) in std::iter::once(own).chain(others) {
        if facility.is_some_and(|facility| !facility.eq_ignore_ascii_case(address.facility.name())) {
            continue;
        }
        let facts = pid.and_then(facts);
        let _ = writeln!(text, "{}", line(address, pid, confined, facts.as_ref()));
    }
    for protection in manager.unprotected() {
        let _ = writeln!(text, "Missing: {protection}");
    }
    Output {
        heading: HEADING.to_owned(),
        text,
        ..Output::default()
    }
}

/// One line. A process that is gone has dashes.
fn line(address: Address, pid: Option<u32>, confined: u32, facts: Option<&Facts>) -> String {
    let dash = || "-".to_owned();
    let on = |is: bool, words: &str| if is { words.to_owned() } else { "-".to_owned() };
    let [user, capabilities, gains, calls, core] = match facts {
        None => [(); 5].map(|()| dash()),
        Some(facts) => [
            facts.user.to_string(),
            names(facts.capabilities),
            on(facts.no_new_privileges, "never"),
            on(facts.filters > 0, "filter"),
            on(facts.undumpable, "off"),
        ],
    };
    let files = on(confined > 0, &format!("abi {confined}"));
    let pid = pid.map_or_else(dash, |pid| pid.to_string());
    format!(
        " 1/0 {:<10} {:>5} {user:>6} {capabilities:<16} {gains:<6} {calls:<6} {files:<6} {core:<5} {pid:>7}",
        address.facility.name(),
        address.instance,
    )
}

/// Capabilities in words: their number if there are more than a column has room for.
fn names(capabilities: u64) -> String {
    let held: Vec<String> = caps::all()
        .into_iter()
        .filter(|capability: &Capability| capabilities & capability.bitmask() != 0)
        .map(|capability| capability.to_string().trim_start_matches("CAP_").to_lowercase())
        .collect();
    match held.as_slice() {
        [] => "-".to_owned(),
        [one] => one.clone(),
        many => format!("{} of them", many.len()),
    }
}

/// Asks the kernel. `None` when there is no such process any more.
fn facts(pid: u32) -> Option<Facts> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let owner = fs::metadata(format!("/proc/{pid}/status")).ok()?.uid();
    parse(&read("status")?, &read("limits")?, owner)
}

/// The facts in the texts of `status` and `limits`, and in who owns those files: root, unless the process may be dumped (proc_pid(5)).
fn parse(status: &str, limits: &str, owner: u32) -> Option<Facts> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(':').trim())
    };
    let user: u32 = field("Uid")?.split_whitespace().nth(1)?.parse().ok()?;
    let cores = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let no_cores = cores?.split_whitespace().take(2).eq(["0", "0"]);
    Some(Facts {
        user,
        capabilities: u64::from_str_radix(field("CapEff")?, 16).ok()?,
        no_new_privileges: field("NoNewPrivs") == Some("1"),
        // Kernels before 5.10 do not count them.
        filters: match (field("Seccomp")?, field("Seccomp_filters")) {
            ("2", Some(count)) => count.parse().ok()?,
            ("2", None) => 1,
            _ => 0,
        },
        undumpable: no_cores && owner == 0,
    })
}

const HEADING: &str = concat!(
    "     task                                         new    system        core\n",
    " cpu facility    inst   user capabilities     rights calls  files  dumps     pid\n",
    "---- ---------- ----- ------ ---------------- ------ ------ ------ ----- -------\n",
);

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tvpnmgr-1\nUmask:\t0022\nUid:\t60704\t60704\t60704\t60704\nCapEff:\t0000000000001000\nCapBnd:\t0000000000000000\n\
                          NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nSpeculation_Store_Bypass:\tvulnerable\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max core file size        0                    0                    bytes     \n";

    #[test]
    fn the_kernel_s_words_are_understood() {
        let facts = parse(STATUS, LIMITS, 0).unwrap();
        let expected = Facts {
            user: 60_704,
            capabilities: 1 << 12,
            no_new_privileges: true,
            filters: 1,
            undumpable: true,
        };
        assert_eq!(facts, expected);
        // Whoever may be dumped owns his files; a limit that can be raised is none.
        assert!(!parse(STATUS, LIMITS, 60_704).unwrap().undumpable);
        let raised = LIMITS.replace("0                    bytes", "unlimited            bytes");
        assert!(!parse(STATUS, &raised, 0).unwrap().undumpable);
        let open = STATUS.replace("Seccomp:\t2", "Seccomp:\t0");
        assert_eq!(parse(&open, LIMITS, 0).unwrap().filters, 0);
        assert_eq!(parse("", "", 0), None);
    }

    #[test]
    fn the_table_fits_a_terminal() {
        let facts = parse(STATUS, LIMITS, 0);
        let line = line(
            Address::new(bus::Facility::Vpnmgr, 12),
            Some(4_194_304),
            7,
            facts.as_ref(),
        );
        assert_eq!(
            line,
            " 1/0 vpnmgr        12  60704 net_admin        never  filter abi 7  off   4194304"
        );
        let heading: Vec<&str> = HEADING.lines().collect();
        assert_eq!([heading[1].len(), heading[2].len()], [line.len(); 2]);
        assert!(line.len() <= 80);
        for (place, _) in heading[2].match_indices(' ') {
            assert_eq!(line.as_bytes()[place], b' ', "{line}");
        }
    }

    #[test]
    fn several_capabilities_are_counted() {
        assert_eq!(names(0), "-");
        assert_eq!(names(0b11), "2 of them");
    }

    #[test]
    fn we_are_a_process() {
        assert_eq!(
            facts(std::process::id()).unwrap().user,
            nix::unistd::geteuid().as_raw()
        );
        assert_eq!(facts(u32::MAX), None);
    }
}
