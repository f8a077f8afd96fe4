//! What a node must do when its software is replaced.

use std::path::PathBuf;

use bus::messages::common::Notice;
use bus::{Address, Facility, Heard};

use crate::ground::{AAAMGR, Node, SCT, SIT, eventually, iftask, ipsecmgr};

pub const ALL: &[(&str, fn())] = &[
    ("an_upgrade_is_not_noticed", an_upgrade_is_not_noticed),
    (
        "what_cannot_take_over_is_refused",
        what_cannot_take_over_is_refused,
    ),
    (
        "who_cannot_take_over_lets_the_one_before_go_on",
        who_cannot_take_over_lets_the_one_before_go_on,
    ),
    (
        "a_task_that_does_not_get_ready_stops_an_upgrade",
        a_task_that_does_not_get_ready_stops_an_upgrade,
    ),
    (
        "a_signal_upgrades_to_the_file_in_place",
        a_signal_upgrades_to_the_file_in_place,
    ),
];

const TWO_CONTEXTS: &str = "config\n  context local\n  #exit\n  context isp\n  #exit\nend\n";

const TASKS: [Address; 9] = [
    SCT,
    Address::only(Facility::Rmctrl),
    ipsecmgr(1),
    ipsecmgr(2),
    iftask(1),
    iftask(2),
    AAAMGR,
    Address::only(Facility::Sessmgr),
    Address::new(Facility::Vpnmgr, 2),
];

/// A copy of this executable with another name.
fn copy(node: &Node, name: &str) -> PathBuf {
    let folder = node.folder().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    path
}

fn upgrade(node: &Node, path: &std::path::Path) -> Result<String, String> {
    node.execute(SIT, "upgrade online", &[("file", path.to_str().unwrap())])
}

fn pids(node: &Node) -> Vec<i32> {
    let pid = |task: &Address| node.pid(*task).unwrap_or_else(|| panic!("{task} has no process"));
    TASKS.iter().map(pid).collect()
}

fn executable(pid: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

/// `show upgrade` as soon as it says `word`. (For a moment nobody answers.)
fn upgraded(node: &Node, word: &str) -> String {
    let mut text = String::new();
    eventually(&format!("the upgrade to be {word}"), || {
        text = node.ask(SIT, "show upgrade", "").unwrap_or_default();
        text.contains(&format!(": {word}\n"))
    });
    text
}

fn security(node: &Node) -> Vec<String> {
    let table = node.show("show process security");
    // All but the process ids.
    table
        .lines()
        .map(|line| line.chars().take(72).collect())
        .collect()
}

fn an_upgrade_is_not_noticed() {
    let node = Node::start("upgrade", "full", TWO_CONTEXTS);
    node.replaced(TASKS[8], 0);
    let (sit, before) = (node.pid(SIT).unwrap(), pids(&node));
    let protected = security(&node);
    assert_eq!(node.ask(iftask(1), "tun", "isp").unwrap(), "starward2 queue=true");
    let port = node.ask(AAAMGR, "udp", "").unwrap();
    assert_eq!(node.ask(ipsecmgr(1), "slots", "1").unwrap(), "owner");
    assert_eq!(node.ask(iftask(1), "rings", "").unwrap(), "[1, 2]");
    let network = node.ask(TASKS[8], "netns", "").unwrap();
    let mut notices = node.runtime.block_on(async { node.bus.subscribe::<Notice>() });
    let inside = node.runtime.enter();
    notices.follow(SIT);
    drop(inside);

    let new = copy(&node, "starward-new");
    let said = upgrade(&node, &new).unwrap();
    assert!(said.contains("takes over"), "{said}");
    let status = upgraded(&node, "Complete");
    assert!(status.contains("Tasks On This Version: 9 of 9\n"), "{status}");
    assert_eq!(node.pid(SIT), Some(sit));
    assert_eq!(executable(sit), new);
    let after = pids(&node);
    for (task, (old, now)) in TASKS.iter().zip(before.iter().zip(&after)) {
        assert_ne!(old, now, "{task}");
        assert_eq!(executable(*now), new, "{task}");
    }
    assert_eq!(security(&node), protected);
    // The same sockets, devices, segments, namespaces.
    assert_eq!(node.ask(AAAMGR, "udp", "").unwrap(), port);
    assert_eq!(node.ask(iftask(1), "tun", "isp").unwrap(), "starward2 queue=true");
    assert_eq!(node.ask(ipsecmgr(1), "slots", "1").unwrap(), "owner");
    assert_eq!(node.ask(iftask(1), "rings", "").unwrap(), "[1, 2]");
    assert_eq!(node.ask(TASKS[8], "netns", "").unwrap(), network);
    assert_eq!(node.ask(ipsecmgr(1), "secret", "one").unwrap(), "one");
    // Nobody crashed, was told so, or ended as for good.
    assert!(!node.end_of(AAAMGR).exists());
    assert!(node.show("show crash list").ends_with("Total Crashes : 0\n"));
    let mut told = Vec::new();
    node.runtime.block_on(async {
        while told.last().map(String::as_str) != Some("SoftwareUpgradeCompleted") {
            match notices.next().await {
                Heard::Event(_, notice) => told.push(notice.event),
                Heard::Missed(publisher) => panic!("events of {publisher} were missed"),
            }
        }
    });
    told.retain(|event| event != "ProtectionMissing");
    assert_eq!(
        told,
        [
            "SystemStartup",
            "SoftwareUpgradeStarted",
            "SoftwareUpgradeCompleted"
        ]
    );
    // A crash afterwards is one, and the next process runs the new executable.
    node.signal(AAAMGR, netio::Signal::SIGKILL);
    node.replaced(AAAMGR, after[6]);
    assert_eq!(executable(node.pid(AAAMGR).unwrap()), new);
    assert!(node.show("show crash list").ends_with("Total Crashes : 1\n"));
    // And once more, from the new one.
    upgrade(&node, &copy(&node, "starward-newer")).unwrap();
    upgraded(&node, "Complete");
    assert_eq!(node.pid(SIT), Some(sit));
    assert!(node.show("show crash list").ends_with("Total Crashes : 1\n"));
}

fn what_cannot_take_over_is_refused() {
    let node = Node::start("refuse-upgrade", "full", TWO_CONTEXTS);
    node.replaced(TASKS[8], 0);
    let (sit, before) = (node.pid(SIT).unwrap(), pids(&node));
    let own = executable(sit);
    let refused = |path: &std::path::Path, why: &str| {
        let error = upgrade(&node, path).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(upgraded(&node, "Failed").contains(why));
    };
    refused(&own, "is what runs already");
    refused("/no/such/file".as_ref(), "cannot be used: No such file");
    refused(&copy(&node, "future"), "'segments' is version");
    let broken = node.folder().join("bin/broken");
    std::fs::write(&broken, "not a program").unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    refused(&broken, "cannot take over: ");
    let other = node.folder().join("bin/true");
    std::fs::copy("/bin/true", &other).unwrap();
    refused(&other, "it does not say what it is");
    refused(&copy(&node, "deaf"), "it does not answer");
    assert_eq!((node.pid(SIT), pids(&node)), (Some(sit), before));
    assert_eq!(executable(sit), own);
}

fn who_cannot_take_over_lets_the_one_before_go_on() {
    let node = Node::start("lost", "full", TWO_CONTEXTS);
    node.replaced(TASKS[8], 0);
    let (sit, before) = (node.pid(SIT).unwrap(), pids(&node));
    let own = executable(sit);
    upgrade(&node, &copy(&node, "lost")).unwrap();
    let status = upgraded(&node, "Failed");
    assert!(status.contains("no/such/folder"), "{status}");
    assert_eq!((node.pid(SIT), pids(&node)), (Some(sit), before));
    assert_eq!(executable(sit), own);
    assert_eq!(node.ask(iftask(1), "rings", "").unwrap(), "[1, 2]");
    // Nothing is lost that a further upgrade needs.
    upgrade(&node, &copy(&node, "starward-new")).unwrap();
    upgraded(&node, "Complete");
}

fn a_task_that_does_not_get_ready_stops_an_upgrade() {
    let node = Node::start("hesitant", "full", TWO_CONTEXTS);
    node.replaced(TASKS[8], 0);
    let own = executable(node.pid(SIT).unwrap());
    for (name, crashes, why) in [
        ("hesitant", 0, "ipsecmgr-1 with version"),
        ("hasty", 1, "exit status 3"),
    ] {
        let new = copy(&node, name);
        upgrade(&node, &new).unwrap();
        let status = upgraded(&node, "Failed");
        assert!(status.contains(why), "{status}");
        assert_eq!(executable(node.pid(SIT).unwrap()), new);
        eventually("ipsecmgr to serve", || node.ask(ipsecmgr(1), "netns", "").is_ok());
        // Who comes before has the new one, it and who comes after what they had.
        assert_eq!(executable(node.pid(AAAMGR).unwrap()), new);
        for task in [ipsecmgr(1), ipsecmgr(2), iftask(1), iftask(2)] {
            let now = executable(node.pid(task).unwrap());
            assert_eq!(now, own, "{task}:\n{status}");
        }
        let list = node.show("show crash list");
        assert!(list.ends_with(&format!("Total Crashes : {crashes}\n")), "{list}");
    }
    upgrade(&node, &copy(&node, "starward-new")).unwrap();
    let status = upgraded(&node, "Complete");
    assert!(status.contains(": 9 of 9\n"), "{status}");
}

fn a_signal_upgrades_to_the_file_in_place() {
    let node = Node::start_from("signalled", "full", TWO_CONTEXTS, Some("starward"));
    let sit = node.pid(SIT).unwrap();
    let place = executable(sit);
    // As a package manager does it: beside its place, and renamed.
    let fresh = copy(&node, "starward.new");
    std::fs::rename(&fresh, &place).unwrap();
    assert!(executable(sit).to_str().unwrap().ends_with(" (deleted)"));
    nix::sys::signal::kill(netio::Pid::from_raw(sit), netio::Signal::SIGUSR2).unwrap();
    upgraded(&node, "Complete");
    assert_eq!(node.pid(SIT), Some(sit));
    assert_eq!(executable(sit), place);
    assert_eq!(executable(node.pid(AAAMGR).unwrap()), place);
}
