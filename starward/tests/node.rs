//! The real executable with the example configuration: every process starts, and comes back when it is killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/node.rs"]
mod running;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use netio::{Pid, Signal};

use common::{STARWARD, eventually};
use running::{EXAMPLE, Line, Node, own_network};

#[test]
fn every_process_starts_and_comes_back_when_it_is_killed() {
    let mut node = Node::start("test");
    node.is_ready();
    let tasks = node.tasks();
    assert!(!tasks.is_empty());
    for task in &tasks {
        let find = || {
            let same = |line: &Line| line.facility == task.facility && line.instance == task.instance;
            node.tasks().into_iter().find(same)
        };
        let serves = || find().is_some_and(|line| line.state == "running");
        eventually(&format!("{} to serve", task.facility), serves);
        let old = find().unwrap().pid.unwrap();
        nix::sys::signal::kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
        eventually(&format!("another {}", task.facility), || {
            find().is_some_and(|line| line.pid.is_some_and(|pid| pid != old))
        });
        eventually(&format!("{} to serve again", task.facility), serves);
        let crashes = node.show("show crash list");
        assert!(crashes.contains(&format!(" 01/0/{old:05} ")), "{crashes}");
    }
    // Nothing else died.
    let crashes = node.show("show crash list");
    assert!(
        crashes.ends_with(&format!("Total Crashes : {}\n", tasks.len())),
        "{crashes}"
    );

    // The terminal of a node in the foreground is closed: it stops in order, as for SIGTERM.
    let signal = match netio::task::ignores(Signal::SIGHUP) {
        // Whoever runs this test with nohup has the node ignore it.
        true => Signal::SIGTERM,
        false => Signal::SIGHUP,
    };
    nix::sys::signal::kill(Pid::from_raw(node.process.id().cast_signed()), signal).unwrap();
    let status = node.process.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(node.log().contains("node has stopped"));
}

/// Every change is shown by the command after it, also in a context that did not exist before; and a node that was stopped is none.
#[test]
fn what_was_changed_is_shown_at_once() {
    let mut node = Node::start("changes");
    node.is_ready();
    let mut script = String::new();
    let mut pools = Vec::new();
    for number in 1..=100 {
        let context = if number % 50 == 0 {
            format!("c{number}")
        } else {
            "local".to_owned()
        };
        let pool = format!("pool-{number}");
        script.push_str(&format!(
            "configure\ncontext {context} -noconfirm\nip pool {pool} 10.{number}.0.0 255.255.255.0\nend\n\
             context {context}\nshow ip pool pool-name {pool}\ncontext local\n"
        ));
        pools.push(pool);
    }
    let run_dir = node.folder.join("run");
    let shell = |script: &str| {
        let mut shell = Command::new(STARWARD)
            .args(["cli", "--run-dir", text(&run_dir)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = shell.stdin.take().unwrap();
        let script = script.to_owned();
        let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
        let output = shell.wait_with_output().unwrap();
        // A shell that does not find its node does not read.
        let _ = writer.join().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let said = shell(&script);
    // A machine that stands still for seconds is told of, and excused.
    let excuses = ["has not applied the latest change yet", "does not answer"];
    let late = excuses.map(|excuse| said.matches(excuse).count()).iter().sum();
    let failures = said.lines().filter(|line| line.contains("Failure"));
    let unexcused: Vec<_> = failures.filter(|line| !line.contains(excuses[1])).collect();
    assert!(unexcused.is_empty(), "{unexcused:?} in\n{said}");
    let missing: Vec<_> = pools
        .iter()
        .filter(|pool| !said.split_whitespace().any(|word| word == *pool))
        .collect();
    assert!(
        missing.len() <= late && late < pools.len() / 2,
        "{missing:?} in\n{said}"
    );
    let pid = Pid::from_raw(i32::try_from(node.process.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    node.process.wait().unwrap();
    let said = shell("show version\n");
    assert!(said.starts_with("Failure: no node runs on "), "{said}");
}

#[test]
fn the_boot_configuration_says_how_many_workers_there_are() {
    let example = std::fs::read_to_string(EXAMPLE).unwrap();
    let path = std::env::temp_dir().join(format!("starward-workers-{}.cfg", std::process::id()));
    let line = "config\n  task facility ipsecmgr task-count 3\n";
    let config = example.replacen("config\n", line, 1);
    assert_ne!(config, example);
    std::fs::write(&path, config).unwrap();
    let node = Node::start_with("workers", &["--config", text(&path)]);
    eventually("the node to be ready", || node.log().contains("node is ready"));
    for facility in ["ipsecmgr", "iftask", "sessmgr"] {
        let tasks = node.tasks().into_iter();
        let instances: Vec<_> = tasks
            .filter(|line| line.facility == facility)
            .map(|line| line.instance)
            .collect();
        assert_eq!(instances, ["1", "2", "3"], "{facility}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_wrong_start_is_one_clear_line() {
    let line = |arguments: &[&str]| {
        let output = Command::new(STARWARD).args(arguments).output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    let folder = std::env::temp_dir().join(format!("starward-wrong-{}", std::process::id()));
    let (run, state) = (folder.join("run"), folder.join("state"));
    let missing = [
        "run",
        "--config",
        "/nonexistent",
        "--run-dir",
        text(&run),
        "--state-dir",
        text(&state),
    ];
    assert!(line(&missing).starts_with("starward: cannot read the configuration file /nonexistent: "));
    let mut directory = missing;
    directory[2] = "/";
    assert!(line(&directory).contains("cannot read the configuration file /: Is a directory"));
    let mut endless = missing;
    endless[2] = "/dev/zero";
    let error = line(&endless);
    assert!(
        error.starts_with("starward: cannot read the configuration file /dev/zero: longer than 64 MiB"),
        "{error}"
    );
    let error = line(&[
        "run",
        "--config",
        EXAMPLE,
        "--workers",
        "0",
        "--run-dir",
        text(&run),
        "--state-dir",
        text(&state),
    ]);
    assert!(
        error.contains("0 workers are not possible, 1 to 16 are"),
        "{error}"
    );
    assert!(line(&["nonsense"]).starts_with("starward: there is no command 'nonsense'"));
    // A process of the node by itself.
    assert!(line(&["rmctrl", "--instance", "1"]).contains("was this process started by `starward run`?"));
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn what_will_not_go_away_by_itself_ends_the_start() {
    let folder = std::env::temp_dir().join(format!("starward-vain-{}", std::process::id()));
    let (run, state) = (folder.join("run"), folder.join("state"));
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("master.key"), "short").unwrap();
    own_network();
    let mut program = Command::new(STARWARD);
    program.args(["run", "--config", EXAMPLE, "--run-dir", text(&run)]);
    let output = program.args(["--state-dir", text(&state)]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("master.key does not hold a master key"), "{log}");
    let last = log.lines().last().unwrap();
    assert_eq!(
        last,
        "starward: sct-1 cannot start (exit status 1): the log says why"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
