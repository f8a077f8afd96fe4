//! A running node keeps what `show process security` says: asked of the kernel here, for every process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/node.rs"]
mod running;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bus::Facility;
use netio::{Pid, Signal};
use task::Protection;

use common::eventually;
use running::Node;

/// A field of `/proc/PID/status`.
fn field(pid: i32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Has the node users of their own for its processes?
fn has_users(node: &Node) -> bool {
    !node.log().contains("without a protection: own users")
}

#[test]
fn the_kernel_confirms_what_is_shown() {
    let node = Node::start("security");
    node.is_ready();
    let own_users = has_users(&node);
    if nix::unistd::geteuid().is_root()
        && std::fs::read_to_string("/proc/self/setgroups").unwrap() == "allow\n"
    {
        assert!(own_users, "{}", node.log());
    }
    let text = node.show("show process security");
    assert_eq!(text.contains("Missing: own users"), !own_users, "{text}");
    let lines: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with(" 1/0 "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let tasks = node.tasks();
    assert_eq!(lines.len(), tasks.len() + 1, "{text}");
    let mut users: BTreeMap<String, Facility> = BTreeMap::new();
    for task in &tasks {
        let facility: Facility = task.facility.parse().unwrap();
        let pid = task.pid.unwrap();
        let line = lines
            .iter()
            .find(|line| line.last().is_some_and(|last| *last == pid.to_string()))
            .unwrap();
        // Privileges.
        let needed = Protection::of(facility).capability_bits();
        let set = |name| u64::from_str_radix(&field(pid, name), 16).unwrap();
        assert_eq!((set("CapEff"), set("CapPrm")), (needed, needed), "{facility}");
        assert_eq!(
            (set("CapBnd"), set("CapInh"), set("CapAmb")),
            (0, 0, 0),
            "{facility}"
        );
        assert_eq!(field(pid, "NoNewPrivs"), "1", "{facility}");
        // System calls, for every thread.
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert!(status.contains("\nSeccomp:\t2\n"), "{facility}: {status}");
        }
        // Core dumps and debuggers.
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let cores = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert!(cores.split_whitespace().skip(4).take(2).eq(["0", "0"]), "{cores}");
        // User and groups.
        let uid = field(pid, "Uid");
        let ids: Vec<&str> = uid.split(' ').collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{facility}: {uid}");
        assert_eq!(line[3], ids[0], "{line:?}");
        if own_users {
            assert_ne!(ids[0], "0", "{facility}");
            let other = users.insert(ids[0].to_owned(), facility);
            assert!(
                other.is_none_or(|other| other == facility),
                "{facility} is {other:?}"
            );
            assert_eq!(field(pid, "Groups").split(' ').count(), 1, "{facility}");
            // Not dumpable, or it would own its files there.
            assert_eq!(
                std::fs::metadata(format!("/proc/{pid}/status")).unwrap().uid(),
                0,
                "{facility}"
            );
        }
        assert_eq!(line[5..7], ["never", "filter"], "{line:?}");
        let confined = if text.contains("Missing: files confined") {
            &line[7..9]
        } else {
            &line[8..10]
        };
        assert_eq!(confined[1], "off", "{line:?}");
    }
    // One kind of process alone, and no other.
    let sct = node.execute("show process security", &[("facility", "sct")]);
    let sct: Vec<&str> = sct.lines().filter(|line| line.starts_with(" 1/0 ")).collect();
    assert!(sct.len() == 1 && sct[0].contains(" sct "), "{sct:?}");
}

#[test]
fn nobody_reaches_the_files_of_another() {
    let node = Node::start("folders");
    node.is_ready();
    if !has_users(&node) {
        return;
    }
    let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
    let user = |facility: &str| -> u32 {
        let tasks = node.tasks();
        let task = tasks.iter().find(|task| task.facility == facility).unwrap();
        field(task.pid.unwrap(), "Uid")
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let folder = &node.folder;
    for (path, facility) in [
        ("state/sct/master.key", "sct"),
        ("state/aaamgr/accounting", "aaamgr"),
        ("state/hd-raid", "bulkstat"),
        ("run/sct", "sct"),
        ("run/sessions", "sessmgr"),
        ("run/counters/snmp", "snmp"),
    ] {
        let path = folder.join(path);
        assert_eq!(owner(&path), user(facility), "{}", path.display());
        if !path.starts_with(folder.join("run/counters")) {
            let mode = std::fs::metadata(&path).unwrap().mode();
            assert_eq!(mode & 0o007, 0, "{}", path.display());
        }
    }
    // Names on the bus are the parent's to make.
    let bus = std::fs::metadata(folder.join("run/bus")).unwrap();
    assert_eq!((bus.uid(), bus.mode() & 0o777), (0, 0o750));
    for socket in std::fs::read_dir(folder.join("run/bus")).unwrap() {
        let socket = socket.unwrap().metadata().unwrap();
        assert_eq!(
            (socket.uid(), socket.gid(), socket.mode() & 0o777),
            (0, bus.gid(), 0o660)
        );
    }
}

#[test]
fn a_forbidden_system_call_is_in_the_crash_list() {
    let node = Node::start("sigsys");
    node.is_ready();
    let find = || {
        let tasks = node.tasks();
        let snmp = tasks.iter().find(|task| task.facility == "snmp").unwrap();
        snmp.pid
    };
    let old = find().unwrap();
    nix::sys::signal::kill(Pid::from_raw(old), Signal::SIGSYS).unwrap();
    eventually("another snmp", || find().is_some_and(|pid| pid != old));
    let crashes = node.show("show crash list");
    let line = crashes
        .lines()
        .find(|line| line.contains(&format!("/{old:05} ")))
        .unwrap();
    assert!(
        line.contains("killed by signal 31 (SIGSYS): a forbidden system call"),
        "{line}"
    );
}
