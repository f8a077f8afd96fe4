//! What a node must do.

use std::process::Stdio;
use std::time::Duration;

use bus::messages::common::Notice;
use bus::messages::sit::TaskStarted;
use bus::{Address, Facility, Heard};
use netio::{Pid, Signal};
use tokio::time::timeout;

use crate::ground::{AAAMGR, Node, SCT, SIT, command, eventually, iftask, ipsecmgr};

type Scenario = (&'static str, fn());

pub const ALL: &[Scenario] = &[
    (
        "a_node_gets_ready_and_shows_its_tasks",
        a_node_gets_ready_and_shows_its_tasks,
    ),
    (
        "a_killed_child_comes_back_to_the_same_sockets",
        a_killed_child_comes_back_to_the_same_sockets,
    ),
    (
        "a_task_that_keeps_dying_is_started_less_often",
        a_task_that_keeps_dying_is_started_less_often,
    ),
    ("contexts_come_and_go", contexts_come_and_go),
    ("a_second_node_is_refused", a_second_node_is_refused),
    ("a_node_stops_in_order", a_node_stops_in_order),
    ("a_wrong_start_is_one_clear_line", a_wrong_start_is_one_clear_line),
];

const ONE_CONTEXT: &str = "config\n  context local\n  #exit\nend\n";
const TWO_CONTEXTS: &str = "config\n  context local\n  #exit\n  context isp\n  #exit\nend\n";

/// An IKE header with these SPIs and the flag I, long enough for steering.
fn ike(initiator: u64, responder: u64) -> String {
    format!("{initiator:016x}{responder:016x}21202208000000000000001c")
}

fn a_node_gets_ready_and_shows_its_tasks() {
    let node = Node::start("ready", "full", ONE_CONTEXT);
    let table = node.show("show task table");
    for task in ["sit", "sct", "rmctrl", "ipsecmgr", "iftask", "aaamgr", "sessmgr"] {
        assert!(
            table
                .lines()
                .any(|line| line.split_whitespace().any(|word| word == task)),
            "{task}:\n{table}"
        );
    }
    assert_eq!(
        table.lines().filter(|line| line.contains(" running ")).count(),
        9,
        "{table}"
    );
    assert_eq!(
        node.execute(SIT, "show task table", &[("facility", "sct")])
            .unwrap()
            .lines()
            .count(),
        4
    );
    assert_eq!(node.show("show system uptime"), "System uptime: 0D 0H 0M\n");
    assert!(node.show("show crash list").ends_with("Total Crashes : 0\n"));

    // Rights: keys of a slot go to its own worker only.
    assert_eq!(node.ask(ipsecmgr(1), "slots", "1").unwrap(), "owner");
    assert_eq!(node.ask(iftask(1), "slots", "1").unwrap(), "worker");
    assert_eq!(node.ask(iftask(2), "slots", "2").unwrap(), "worker");
    assert_eq!(
        node.ask(Address::only(Facility::Sessmgr), "slots", "1").unwrap(),
        "reader"
    );
    let refused = node.ask(ipsecmgr(2), "slots", "1").unwrap_err();
    assert!(refused.contains("slot 1 belongs to worker 1"), "{refused}");
    assert_eq!(node.ask(iftask(1), "rings", "").unwrap(), "[1, 2]");
    assert_eq!(node.ask(ipsecmgr(1), "rings", "").unwrap(), "[1]");
    let refused = node.ask(AAAMGR, "rings", "").unwrap_err();
    assert!(refused.contains("aaamgr-1 is no worker"), "{refused}");
    let refused = node.ask(AAAMGR, "ike", "127.0.0.1").unwrap_err();
    assert!(refused.contains("aaamgr-1 is no worker"), "{refused}");
    assert!(node.ask(ipsecmgr(1), "ike", "nonsense").is_err());

    // Devices and raw sockets.
    assert_eq!(
        node.ask(iftask(1), "tun", "local").unwrap(),
        "starward1 queue=true"
    );
    assert_eq!(
        node.ask(iftask(2), "tun", "local").unwrap(),
        "starward1 queue=true"
    );
    assert!(node.sees(iftask(2), "starward1"));
    assert_eq!(node.ask(iftask(1), "esp", "127.0.0.1").unwrap(), "esp=true");
    assert_eq!(node.ask(iftask(1), "esp", "::1").unwrap(), "esp=true");

    // A link each, and a new one after either end restarts.
    assert_eq!(node.ask(ipsecmgr(1), "secret", "one").unwrap(), "one");
    assert_eq!(node.ask(ipsecmgr(2), "secret", "two").unwrap(), "two");
    let old = node.pid(SCT).unwrap();
    node.signal(SCT, Signal::SIGKILL);
    eventually("a new sct", || node.pid(SCT).is_some_and(|pid| pid != old));
    assert_eq!(node.ask(ipsecmgr(1), "secret", "three").unwrap(), "three");
    let old = node.pid(ipsecmgr(1)).unwrap();
    node.signal(ipsecmgr(1), Signal::SIGKILL);
    node.replaced(ipsecmgr(1), old);
    assert_eq!(node.ask(ipsecmgr(1), "secret", "four").unwrap(), "four");
}

fn a_killed_child_comes_back_to_the_same_sockets() {
    let node = Node::start("killed", "full", ONE_CONTEXT);
    let mut notices = node.runtime.block_on(async { node.bus.subscribe::<Notice>() });
    let mut starts = node
        .runtime
        .block_on(async { node.bus.subscribe::<TaskStarted>() });
    let _inside = node.runtime.enter();
    notices.follow(SIT);
    starts.follow(SIT);
    node.runtime.block_on(async {
        // All that was told since the node started, for it is retained.
        while !matches!(notices.next().await, Heard::Event(SIT, notice) if notice.event == "SystemStartup") {}
        assert_eq!(starts.next().await, Heard::Missed(SIT));
    });

    // Responder SPIs name the slot, and the slot the worker: odd slots are worker 1's.
    for (spi, worker) in [(0x0300_0000_0000_0001, 1), (0x0400_0000_0000_0001, 2)] {
        node.ask(AAAMGR, "send", &format!("500 {}", ike(5, spi))).unwrap();
        eventually("the datagram at its worker", || {
            node.ask(ipsecmgr(worker), "read", "500") == Ok(ike(5, spi))
        });
    }

    // A datagram waits while its worker cannot read it, and the next process of the worker gets it.
    let others = |task| node.pid(task).unwrap();
    let before: Vec<_> = [SCT, ipsecmgr(2), iftask(1), AAAMGR]
        .into_iter()
        .map(others)
        .collect();
    let old = node.pid(ipsecmgr(1)).unwrap();
    node.signal(ipsecmgr(1), Signal::SIGSTOP);
    let waiting = ike(9, 0x0300_0000_0000_0002);
    node.ask(AAAMGR, "send", &format!("500 {waiting}")).unwrap();
    node.signal(ipsecmgr(1), Signal::SIGKILL);
    node.replaced(ipsecmgr(1), old);
    assert_eq!(node.ask(ipsecmgr(1), "read", "500").unwrap(), waiting);
    let after: Vec<_> = [SCT, ipsecmgr(2), iftask(1), AAAMGR]
        .into_iter()
        .map(others)
        .collect();
    assert_eq!(before, after);

    let crashes = node.show("show crash list");
    let line = crashes.lines().find(|line| line.contains("ipsecmgr")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[0], "1");
    assert_eq!(words[3], format!("01/0/{old:05}"));
    assert!(line.ends_with("killed by signal 9 (SIGKILL)"), "{line}");
    assert!(crashes.ends_with("Total Crashes : 1\n"), "{crashes}");
    eventually("the crash list in its file", || {
        node.folder().join("state/crash-list").exists()
    });

    // The traps' events, and the word to reconnect.
    node.runtime.block_on(async {
        for name in ["ManagerFailure", "ManagerRestart"] {
            match timeout(Duration::from_secs(60), notices.next()).await.unwrap() {
                Heard::Event(SIT, notice) => {
                    assert_eq!(notice.event, name);
                    let field = |name: &str| {
                        notice
                            .fields
                            .iter()
                            .find(|field| field.name == name)
                            .map(|field| field.value.clone())
                    };
                    assert_eq!(field("facility").as_deref(), Some("ipsecmgr"));
                    assert_eq!(field("instance").as_deref(), Some("1"));
                }
                other => panic!("{other:?}"),
            }
        }
        match timeout(Duration::from_secs(60), starts.next()).await.unwrap() {
            Heard::Event(SIT, started) => {
                assert_eq!(
                    (started.facility, started.instance),
                    (Facility::Ipsecmgr as u32, 1)
                );
                assert_eq!(started.lives, 1);
            }
            other => panic!("{other:?}"),
        }
    });
}

fn a_task_that_keeps_dying_is_started_less_often() {
    let node = Node::start("backoff", "worker", ONE_CONTEXT);
    for (life, at_least) in [(1, 0), (2, 100), (3, 200), (4, 400)] {
        let old = node.pid(ipsecmgr(1)).unwrap();
        // It is gone before it can answer.
        let gone = node.ask(ipsecmgr(1), "exit", "3").unwrap_err();
        assert!(gone.contains("lost its connection"), "{gone}");
        let took = node.replaced(ipsecmgr(1), old);
        // The loss of the connection is seen a little before the wait begins.
        assert!(
            took + Duration::from_millis(20) >= Duration::from_millis(at_least),
            "life {life}: {took:?}"
        );
    }
    let crashes = node.show("show crash list");
    assert_eq!(
        crashes
            .lines()
            .filter(|line| line.ends_with("exit status 3"))
            .count(),
        4,
        "{crashes}"
    );
    node.show("clear crash list");
    assert!(node.show("show crash list").ends_with("Total Crashes : 0\n"));
    // The operator's restart is one more.
    let old = node.pid(SCT).unwrap();
    node.execute(SIT, "task kill", &[("facility", "sct"), ("instance", "1")])
        .unwrap();
    eventually("a new sct", || node.pid(SCT).is_some_and(|pid| pid != old));
    let unknown = node.execute(SIT, "task kill", &[("facility", "sct"), ("instance", "9")]);
    assert_eq!(unknown.unwrap_err(), "there is no task sct 9");
    assert_eq!(
        node.execute(SIT, "nonsense", &[]).unwrap_err(),
        "'nonsense' is not answered by sit"
    );
}

fn contexts_come_and_go() {
    let node = Node::start("contexts", "full", ONE_CONTEXT);
    let vpnmgr = Address::new(Facility::Vpnmgr, 2);
    assert_eq!(node.pid(vpnmgr), None);
    // A request that comes before sit knows the context waits for it.
    std::fs::write(node.folder().join("config"), TWO_CONTEXTS).unwrap();
    let early = std::thread::scope(|scope| {
        let reload = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let me = Address::new(Facility::Cli, 1);
                let bus = bus::Bus::client(&node.folder().join("run"), me).unwrap();
                let reload = bus::messages::common::Execute::default();
                bus.request(SCT, &reload, Duration::from_secs(60)).await.unwrap();
            });
        });
        let answer = node.ask(iftask(1), "tun", "isp");
        reload.join().unwrap();
        answer
    });
    assert_eq!(early.unwrap(), "starward2 queue=true");
    assert!(!node.sees(iftask(1), "starward2"));
    eventually("the vpnmgr of the context", || {
        node.ask(vpnmgr, "netns", "").is_ok()
    });
    // It lives in the namespace of the context, where the device is.
    assert_ne!(
        node.ask(vpnmgr, "netns", "").unwrap(),
        node.ask(AAAMGR, "netns", "").unwrap()
    );
    assert_eq!(node.ask(vpnmgr, "tun", "isp").unwrap(), "starward2 queue=false");
    assert!(node.sees(vpnmgr, "starward2"));
    let refused = node.ask(vpnmgr, "tun", "local").unwrap_err();
    assert!(refused.contains("vpnmgr-2 has no business"), "{refused}");
    let table = node.show("show task table");
    assert!(
        table
            .lines()
            .any(|line| line.contains("vpnmgr") && line.contains(" isp ")),
        "{table}"
    );
    // It survives its vpnmgr.
    let before = node.ask(vpnmgr, "netns", "").unwrap();
    let old = node.pid(vpnmgr).unwrap();
    node.signal(vpnmgr, Signal::SIGKILL);
    node.replaced(vpnmgr, old);
    assert_eq!(node.ask(vpnmgr, "netns", "").unwrap(), before);
    assert_eq!(node.ask(vpnmgr, "tun", "isp").unwrap(), "starward2 queue=false");
    assert!(node.sees(vpnmgr, "starward2"));

    std::fs::write(node.folder().join("config"), ONE_CONTEXT).unwrap();
    node.ask(SCT, "reload", "").unwrap();
    eventually("the end of the vpnmgr", || node.pid(vpnmgr).is_none());
    assert!(node.end_of(vpnmgr).exists());
    let crashes = node.show("show crash list");
    assert!(crashes.ends_with("Total Crashes : 1\n"), "{crashes}");
}

fn a_second_node_is_refused() {
    let node = Node::start("second", "worker", ONE_CONTEXT);
    let output = command(node.folder(), "worker")
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("a node is already running in ") && text.contains("(process "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    // Nor does one with a run directory of its own get the state of this one.
    let other = node.folder().join("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("config"), ONE_CONTEXT).unwrap();
    std::os::unix::fs::symlink(node.folder().join("state"), other.join("state")).unwrap();
    let output = command(&other, "worker").stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("a node is already running in ") && text.contains("--state-dir"),
        "{text}"
    );
    assert!(node.show("show task table").contains("ipsecmgr"));
}

fn a_node_stops_in_order() {
    let mut node = Node::start("stop", "full", TWO_CONTEXTS);
    let tasks = [
        SCT,
        ipsecmgr(1),
        ipsecmgr(2),
        iftask(1),
        AAAMGR,
        Address::new(Facility::Vpnmgr, 2),
    ];
    let pids: Vec<_> = tasks.iter().map(|&task| node.pid(task).unwrap()).collect();
    assert_eq!(node.stop(), Some(0));
    for pid in pids {
        assert!(
            nix::sys::signal::kill(Pid::from_raw(pid), None).is_err(),
            "{pid} lives on"
        );
    }
    let ended = |task: Address| node.end_of(task).metadata().unwrap().modified().unwrap();
    assert!(ended(ipsecmgr(1)) <= ended(Address::only(Facility::Sessmgr)));
    assert!(ended(Address::only(Facility::Sessmgr)) <= ended(AAAMGR));
    assert!(ended(AAAMGR) <= ended(Address::new(Facility::Vpnmgr, 2)));
    // No name of a namespace stays behind, and no crash was recorded.
    assert_eq!(
        std::fs::read_dir(node.folder().join("run/netns"))
            .unwrap()
            .count(),
        0
    );
    assert!(!node.folder().join("state/crash-list").exists());

    // A task that does not end is killed, and the node ends all the same.
    let mut node = Node::start("stuck", "full", ONE_CONTEXT);
    node.signal(AAAMGR, Signal::SIGSTOP);
    assert_eq!(node.stop(), Some(0));
}

fn a_wrong_start_is_one_clear_line() {
    let folder = std::env::temp_dir().join(format!("sit-test-{}-wrong", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let output = command(&folder, "worker")
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("cannot read the configuration file ") && text.lines().count() == 1,
        "{text}"
    );
}
