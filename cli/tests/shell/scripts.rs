//! What is run from a script.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use bus::Facility;
use config::Config;

use crate::node::{Folder, follow, serve, stand_in};
use crate::{DONE, shell};

#[test]
fn scripts_may_ask_too() {
    let node = Served::start("script-help");
    let (ok, said) = node.script("show cl?\nconfigure\nsystem ?\nend\nshow clock ?\n");
    assert!(ok, "{said}");
    for help in [
        "clock  Shows date",
        "hostname  Names the node",
        "universal  Coord",
    ] {
        assert!(said.contains(help), "{help}: {said}");
    }
    // A value may end with it.
    let (ok, said) = node.script("configure\nsystem contact who?\nend\n");
    assert!(ok && said.is_empty(), "{said}");
    assert_eq!(node.config.lock().unwrap().system.contact, "who?");
    let (ok, said) = node.script("show nonsense ?\n");
    assert!(!ok && said.contains("Unexpected \"nonsense\""), "{said}");
}

#[test]
fn scripts_are_run_to_their_end_whatever_is_in_them() {
    let node = Served::start("script");
    let script = format!(
        "show clock\n\u{1b}[2J\n{}\nend\nconfigure\ncontext isp -noconfirm\nend\n",
        "x".repeat(1 << 20)
    );
    let (ok, said) = node.script(&script);
    assert!(!ok);
    assert!(
        said.contains("Unknown command - \"?[2J\"") && said.contains("Line too long"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'));
    assert!(node.config.lock().unwrap().contexts.contains_key("isp"));
}

#[test]
fn names_with_escape_sequences_are_shown_without() {
    let node = Served::start("escapes");
    node.config.lock().unwrap().system.hostname = "gw".to_owned();
    let (ok, said) = node.script("show context name a\u{1b}]0;x\n");
    assert!(!ok && !said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn facilities_are_known() {
    let mut names: Vec<&str> = Facility::ALL.iter().map(|facility| facility.name()).collect();
    names.retain(|name| *name != Facility::Cli.name());
    names.sort_unstable();
    assert_eq!(names, config::FACILITIES);
    let node = Served::start("facilities");
    let (ok, said) = node.script("show task table facility foo\n");
    assert!(
        !ok && said.contains("Failure: there is no facility foo (there is aaamgr, bulkstat"),
        "{said}"
    );
}

#[test]
fn what_is_shown_knows_of_the_changes_before() {
    let node = Served::start("changes");
    let script: String = (1..=100)
        .map(|number| format!("configure\nsystem contact number-{number}\nend\nshow system uptime\n"))
        .collect();
    let (ok, said) = node.script(&script);
    assert!(ok, "{said}");
    // A machine that stands still for seconds is told of, and excused.
    let (late, shown): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.starts_with("Warning: "));
    let right = (1..=100)
        .zip(&shown)
        .filter(|(number, line)| **line == format!("number-{number}"))
        .count();
    assert_eq!(shown.len(), 100, "{said}");
    assert!(right + late.len() >= 100 && late.len() < 50, "{said}");
}

#[test]
fn without_an_answer_of_sct_nobody_has_rights() {
    let folder = Folder::new("alone");
    stand_in(&folder.0, Facility::Sit, |incoming| {
        incoming.refuse(bus::RefusalCode::Failed, "no")
    });
    let (ok, said) = script(&folder.0, "show clock\n");
    assert!(!ok && said.contains("Failure: sct does not say what"), "{said}");
}

#[test]
fn a_node_that_was_stopped_is_no_node() {
    let folder = Folder::new("stopped");
    // What a dead node leaves behind: sockets that nobody listens to.
    for address in ["sct-1", "sit-1"] {
        drop(std::os::unix::net::UnixListener::bind(folder.0.join("bus").join(address)).unwrap());
    }
    let (ok, said) = script(&folder.0, "show clock\n");
    assert!(!ok && said.contains("Failure: no node runs on "), "{said}");
}

/// Runs a script in a shell of its own: did all go well, and what did it say?
fn script(run_dir: &Path, lines: &str) -> (bool, String) {
    let mut shell = shell(run_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, lines) = (shell.stdin.take().unwrap(), lines.to_owned());
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = shell.wait_with_output().unwrap();
    // It may end before it has read everything.
    let _ = writer.join().unwrap();
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    // What the test program itself says around the shell.
    let begin = out.find("running 1 test\n").unwrap() + "running 1 test\n".len();
    let end = out.find(DONE).unwrap_or(out.len());
    let ok = out[end..].starts_with(&format!("{DONE}true"));
    (ok, format!("{}{err}", &out[begin..end]))
}

/// A node for scripts.
struct Served {
    folder: Folder,
    config: Arc<Mutex<Config>>,
}

impl Served {
    fn start(name: &str) -> Self {
        let folder = Folder::new(name);
        let config = serve(&folder.0);
        follow(&folder.0);
        Self { folder, config }
    }

    fn script(&self, lines: &str) -> (bool, String) {
        script(&self.folder.0, lines)
    }
}
