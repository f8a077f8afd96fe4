//! The demo that is ended early leaves no process, and no file that it can still remove.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use netio::{Pid, Signal};

use common::{STARWARD, eventually};

struct Demo {
    process: Child,
    says: BufReader<ChildStderr>,
    /// Where it makes its folder.
    place: PathBuf,
    /// One demo at a time.
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    /// Starts one and waits until its node and its eNodeBs run.
    fn start(name: &str) -> Self {
        let mut demo = Self::spawn(name, &["--json"]);
        let mut line = String::new();
        demo.says.read_line(&mut line).unwrap();
        let run_dir = PathBuf::from(line.strip_prefix("run directory: ").unwrap().trim_end());
        assert!(run_dir.starts_with(&demo.place), "{line}");
        eventually("node, host and eNodeBs", || demo.children().len() == 3);
        assert!(run_dir.join("bus/sit-1").exists());
        demo
    }

    /// Starts one.
    fn spawn(name: &str, options: &[&str]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let place = std::env::temp_dir().join(format!("demo-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir(&place).unwrap();
        let mut process = Command::new(STARWARD)
            .args(["demo", "--duration", "600", "--tunnels", "2", "--rate", "100"])
            .args(options)
            .env("TMPDIR", &place)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            says: BufReader::new(process.stderr.take().unwrap()),
            process,
            place,
            _turn: turn,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Its children.
    fn children(&self) -> Vec<i32> {
        processes()
            .into_iter()
            .filter(|(_, parent)| parent.cast_unsigned() == self.process.id())
            .map(|(pid, _)| pid)
            .collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // The others die with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

/// Every process that lives, and its parent (proc_pid_stat(5)).
fn processes() -> Vec<(i32, i32)> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            (state != "Z" && state != "X").then_some((pid, parent))
        })
        .collect()
}

#[test]
fn a_signal_ends_it_in_order() {
    let mut demo = Demo::start("signal");
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.process.wait().unwrap().code(), Some(128 + 15));
    let mut words = String::new();
    demo.says.read_to_string(&mut words).unwrap();
    assert!(
        words.ends_with("starward demo: interrupted by SIGTERM\n"),
        "{words}"
    );
    assert_eq!(std::fs::read_dir(&demo.place).unwrap().count(), 0);
}

#[test]
fn nothing_outlives_it_when_it_is_killed() {
    let mut demo = Demo::start("kill");
    let mut family = demo.children();
    let all = processes();
    let grandchildren = all.iter().filter(|(_, parent)| family.contains(parent));
    let grandchildren: Vec<i32> = grandchildren.map(|(pid, _)| *pid).collect();
    assert!(grandchildren.len() > 5, "{grandchildren:?}");
    family.extend(grandchildren);
    demo.signal(Signal::SIGKILL);
    demo.process.wait().unwrap();
    eventually("the end of all", || {
        !processes().iter().any(|(pid, _)| family.contains(pid))
    });
}

#[test]
fn a_reader_who_has_seen_enough_ends_it_quietly() {
    let mut demo = Demo::spawn("reader", &[]);
    let mut line = String::new();
    BufReader::new(demo.process.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(demo.process.wait().unwrap().code(), Some(128 + 13));
    let mut words = String::new();
    demo.says.read_to_string(&mut words).unwrap();
    assert_eq!(words, "");
    assert_eq!(std::fs::read_dir(&demo.place).unwrap().count(), 0);
}
