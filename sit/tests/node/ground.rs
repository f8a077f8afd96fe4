//! A node and the means to look into it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::messages::common::Execute;
use bus::{Address, Bus, Facility};
use netio::{Namespace, Pid, Signal, Spawn};
use sit::{Options, TakeOver};
use tokio::runtime::Runtime;

use crate::{FOLDER, KIND, ROLE, is_called};

pub const SIT: Address = Address::only(Facility::Sit);
pub const SCT: Address = Address::only(Facility::Sct);
pub const AAAMGR: Address = Address::only(Facility::Aaamgr);

pub const fn ipsecmgr(worker: u32) -> Address {
    Address::new(Facility::Ipsecmgr, worker)
}

pub const fn iftask(worker: u32) -> Address {
    Address::new(Facility::Iftask, worker)
}

/// Is the process `sit`.
pub fn node() -> ExitCode {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let given = |option: &str| {
        let mut arguments = std::env::args();
        arguments.find(|argument| argument == option)?;
        arguments.next()
    };
    let number = |option: &str| given(option).map(|number| number.parse().unwrap());
    let take_over = number("--take-over").map(|state| TakeOver {
        state,
        predecessor: number("--predecessor"),
        refused: given("--refused"),
    });
    // With a network of its own; without privilege `sit` makes one itself.
    if take_over.is_none()
        && let Ok(namespace) = Namespace::create()
    {
        namespace.enter().unwrap();
    }
    let mut options = Options::new(folder.join("config"), folder.join("state"), folder.join("run"));
    options.workers = Some(2);
    options.take_over = take_over;
    if is_called("lost") {
        // It takes everything over and then does not find the bus.
        options.run_dir = folder.join("no/such/folder");
    }
    options.spawn = Arc::new(move |program, address| {
        Spawn::new(program)
            .environment(ROLE, address.to_string())
            .environment(FOLDER, &folder)
    });
    let mut tasks = vec![SCT, Address::only(Facility::Rmctrl), ipsecmgr(1)];
    if std::env::var(KIND).unwrap() == "full" {
        tasks.extend([
            ipsecmgr(2),
            iftask(1),
            iftask(2),
            AAAMGR,
            Address::only(Facility::Sessmgr),
        ]);
    }
    options.tasks = Some(tasks);
    match sit::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Is asked by `sit` whether it can take over.
pub fn check() -> ExitCode {
    if is_called("deaf") {
        std::thread::sleep(Duration::from_secs(1_000));
    }
    let mut state = File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    match sit::upgrade_report(&[], Some(&mut state)) {
        Ok(report) => {
            for line in report.lines() {
                match line.split_once(' ') {
                    Some((name @ "segments", _)) if is_called("future") => println!("{name} 1000 1001"),
                    _ => println!("{line}"),
                }
            }
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A running node; stopped when dropped.
pub struct Node {
    process: Child,
    folder: PathBuf,
    pub runtime: Runtime,
    pub bus: Bus,
}

impl Node {
    /// Starts a node and waits until it says to the service manager that it is ready.
    pub fn start(name: &str, kind: &str, config: &str) -> Self {
        Self::start_from(name, kind, config, None)
    }

    /// Likewise, of a copy of this executable with this name in the folder `bin` of the node.
    pub fn start_from(name: &str, kind: &str, config: &str, executable: Option<&str>) -> Self {
        let folder = std::env::temp_dir().join(format!("sit-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config"), config).unwrap();
        let service_manager = UnixDatagram::bind(folder.join("notify")).unwrap();
        service_manager
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let own = std::env::current_exe().unwrap();
        let program = match executable {
            Some(name) => {
                let program = folder.join("bin").join(name);
                std::fs::create_dir(folder.join("bin")).unwrap();
                std::fs::copy(&own, &program).unwrap();
                program
            }
            None => own,
        };
        let process = command_of(&program, &folder, kind)
            .env("NOTIFY_SOCKET", folder.join("notify"))
            .spawn()
            .unwrap();
        let mut buffer = [0; 200];
        let size = service_manager.recv(&mut buffer).unwrap();
        assert!(buffer[..size].starts_with(b"READY=1\nSTATUS="));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let me = Address::new(Facility::Cli, std::process::id());
        let bus = runtime.block_on(async { Bus::client(&folder.join("run"), me).unwrap() });
        Self {
            process,
            folder,
            runtime,
            bus,
        }
    }

    /// Runs a command and returns heading and text, or the failure.
    pub fn ask(&self, task: Address, command: &str, argument: &str) -> Result<String, String> {
        let argument = [("argument", argument)];
        let given = usize::from(!argument[0].1.is_empty());
        self.execute(task, command, &argument[..given])
    }

    pub fn execute(
        &self,
        task: Address,
        command: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String, String> {
        let request = Execute::new(command, parameters);
        let output = self
            .runtime
            .block_on(self.bus.request(task, &request, Duration::from_secs(60)));
        let output = output.map_err(|error| error.to_string())?;
        if output.failure.is_empty() {
            Ok(output.heading + &output.text)
        } else {
            Err(output.failure)
        }
    }

    pub fn show(&self, command: &str) -> String {
        self.ask(SIT, command, "").unwrap()
    }

    /// The process of a task, from the task table; `None` while it has none.
    pub fn pid(&self, task: Address) -> Option<i32> {
        let table = self.show("show task table");
        let instance = task.instance.to_string();
        let line = table.lines().find(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.get(1) == Some(&task.facility.name()) && words.get(2) == Some(&instance.as_str())
        });
        line?.split_whitespace().next_back()?.parse().ok()
    }

    /// Whether there is a device of this name in the network of a task.
    pub fn sees(&self, task: Address, device: &str) -> bool {
        let devices = format!("/proc/{}/net/dev", self.pid(task).unwrap());
        std::fs::read_to_string(devices).unwrap().contains(device)
    }

    /// What a task writes when it ends.
    pub fn end_of(&self, task: Address) -> PathBuf {
        let counters = self.folder.join("run/counters").join(task.facility.name());
        counters.join(format!("{task}.ended"))
    }

    pub fn signal(&self, task: Address, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid(task).unwrap()), signal).unwrap();
    }

    /// Waits for another process of `task` than `old`; returns how long it took until it was ready to answer.
    pub fn replaced(&self, task: Address, old: i32) -> Duration {
        let begin = Instant::now();
        eventually("another process", || self.pid(task).is_some_and(|pid| pid != old));
        self.ask(task, "netns", "").unwrap();
        begin.elapsed()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tells it to stop and waits for its end.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let mut status = None;
        eventually("the end of the node", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            self.stop();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The command that starts a node in `folder`.
pub fn command(folder: &Path, kind: &str) -> Command {
    command_of(&std::env::current_exe().unwrap(), folder, kind)
}

fn command_of(program: &Path, folder: &Path, kind: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env(ROLE, "node")
        .env(FOLDER, folder)
        .env(KIND, kind)
        .stdin(Stdio::null());
    if std::env::var_os("SIT_TEST_LOUD").is_none() {
        command.stderr(Stdio::null());
    }
    command
}

pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    // Whatever takes longer hangs; a slow machine does not.
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
