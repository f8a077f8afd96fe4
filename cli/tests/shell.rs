//! The shell as an operator has it: on a terminal, in front of a configuration task.
//!
//! The terminal is a pseudo terminal, the shell a process of its own (this program again, as the test `the_shell_itself`), and the
//! configuration task answers from the real table of commands.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::fs::{DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::messages::sct::{
    ConfigText, Configure, Configured, GetConfig, OpenSession, SaveConfig, Saved, SessionOpened,
};
use bus::{Address, Bus, Facility, Server};
use config::Config;

const PATIENCE: Duration = Duration::from_secs(60);
const RUN_DIR: &str = "STARWARD_TEST_RUN_DIR";

/// Not a test: the shell that the tests start. Without their variable it has nothing to do.
#[test]
#[ignore = "the process that the other tests start"]
fn the_shell_itself() {
    if let Some(run_dir) = std::env::var_os(RUN_DIR) {
        let shell = cli::Shell {
            run_dir: Some(run_dir.into()),
            commands: Vec::new(),
        };
        let _ = shell.run(PathBuf::new());
    }
}

#[test]
fn question_mark_shows_help_at_once_and_keeps_the_line() {
    let mut shell = Terminal::start("help");
    shell.type_in("show cl?");
    shell.expect("clock  Shows date and time");
    shell.expect("[local]gw# show cl");
    shell.type_in("\r");
    shell.expect("20");
    shell.type_in("configure\r");
    shell.expect("[local]gw(config)# ");
    shell.type_in("context isp\rYes\rwsg-service s\rbind address ?");
    shell.expect("<address>  Local address: an IPv4 or IPv6 address");
}

#[test]
fn tab_completes_what_is_unique() {
    let mut shell = Terminal::start("tab");
    shell.type_in("termi\tle\t7\r");
    shell.type_in("show termi\t\r");
    shell.expect("Terminal length: 7");
}

#[test]
fn objects_are_completed_and_must_exist() {
    let mut shell = Terminal::start("objects");
    shell.type_in("configure\rcontext isp\ry\rcrypto template enodeb\rexit\rcrypto template en\t\r");
    shell.expect("(crf-crypto-enodeb-ikev2-tunnel)# ");
    shell.expect("(crf-crypto-enodeb-ikev2-tunnel)# ");
    shell.type_in("end\rcontext i\t\r");
    shell.expect("[isp]gw# ");
    shell.type_in("show crypto template tag nope\r");
    shell.expect("Failure: there is no crypto template nope in context isp");
    shell.type_in("show wsg-service all nope\r");
    shell.expect("Failure: there is no wsg-service nope");
    shell.type_in("context nope\r");
    shell.expect("Failure: there is no context nope");
}

#[test]
fn what_is_unfinished_is_told_when_the_mode_is_left() {
    let mut shell = Terminal::start("unfinished");
    shell.type_in("configure\rcontext isp\rYes\rikev2-ikesa transform-set i\rwsg-service s\r");
    shell.expect("Warning: context isp, ikev2-ikesa transform-set i: group 2 is weak");
    shell.expect("(config-wsg-service)# ");
    shell.type_in("duplicate-session-detection\r");
    shell.expect("\r\n");
    shell.expect("(config-wsg-service)# ");
    assert!(!shell.raw.contains("not bound"), "{}", shell.raw);
    shell.type_in("exit\r");
    shell.expect("Warning: context isp, wsg-service s: it is not bound");
    // Once is enough.
    shell.type_in("end\r");
    shell.expect("[local]gw# ");
    assert_eq!(shell.raw.matches("not bound").count(), 1, "{}", shell.raw);
}

#[test]
fn what_cannot_be_undone_is_asked_for() {
    let mut shell = Terminal::start("sure");
    shell.type_in("configure\rcontext isp\r");
    shell.expect("Are you sure? [Yes|No]: ");
    shell.type_in("n\r");
    shell.expect("[local]gw(config)# ");
    shell.type_in("end\rsave configuration /flash/there.cfg\r");
    shell.expect("Are you sure? [Yes|No]: ");
    shell.type_in("No\r");
    shell.expect("[local]gw# ");
    shell.type_in("save configuration /flash/there.cfg -noconfirm\r");
    shell.expect("saved to /flash/there.cfg");
    shell.type_in("save configuration /flash/new.cfg\r");
    shell.expect("saved to /flash/new.cfg");
    shell.type_in("terminal width 20\rshow version\r");
    shell.expect("\r\n  Image Version:    \r\n");
    assert_eq!(shell.raw.matches("saved to").count(), 2);
    assert!(!shell.config.lock().unwrap().contexts.contains_key("isp"));
}

#[test]
fn an_interrupt_ends_the_command_and_not_the_shell() {
    let mut shell = Terminal::start("interrupt");
    // Nobody answers this one, so that it waits.
    shell.type_in("show task table\r");
    shell.expect("show task table\r\n");
    let begin = Instant::now();
    let process = nix::unistd::Pid::from_raw(i32::try_from(shell.shell.id()).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    shell.expect("[local]gw# ");
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "the command was waited for"
    );
    shell.type_in("configure\r");
    shell.expect("[local]gw(config)# ");
    shell.type_in("show task table\r");
    shell.expect("show task table\r\n");
    std::thread::sleep(Duration::from_millis(300));
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    shell.expect("[local]gw(config)# ");
}

#[test]
fn modes_have_their_prompts_and_the_context_is_shown() {
    let mut shell = Terminal::start("modes");
    shell.type_in("conf\r");
    shell.expect("[local]gw(config)# ");
    shell.type_in("cont isp\r");
    shell.expect("Are you sure? [Yes|No]: ");
    shell.type_in("yes\r");
    shell.expect("[isp]gw(config-ctx)# ");
    shell.type_in("crypto template t\r");
    shell.expect("[isp]gw(crf-crypto-t-ikev2-tunnel)# ");
    shell.type_in("payload p match childsa\r");
    shell.expect("(crf-crypto-tmpl-payload-p)# ");
    shell.type_in("exit\r");
    shell.expect("[isp]gw(crf-crypto-t-ikev2-tunnel)# ");
    // A command of the mode around this one leads there.
    shell.type_in("interface ran\r");
    shell.expect("[isp]gw(config-if-eth)# ");
    shell.type_in("end\r");
    shell.expect("[local]gw# ");
    shell.type_in("context isp\r");
    shell.expect("[isp]gw# ");
}

#[test]
fn a_pasted_configuration_is_run_line_by_line() {
    let mut shell = Terminal::start("paste");
    assert!(
        !shell.raw.contains("\u{1b}[?2004h"),
        "the terminal must not bundle what is pasted"
    );
    let mut text = "autoconfirm\rconfigure\rcontext isp\r".to_owned();
    for number in 1..=40 {
        text.push_str(&format!(
            "interface i{number}\rip address 10.0.{number}.1 255.255.255.0\rexit\r"
        ));
    }
    text.push_str("interface last\rip address 10.1.0.1 255.255.255.0\rend\rshow terminal\r");
    shell.type_in(&text);
    shell.expect("Terminal length");
    for number in 1..=40 {
        assert!(
            shell.config.lock().unwrap().contexts["isp"]
                .interfaces
                .contains_key(&format!("i{number}")),
            "{number}"
        );
    }
}

#[test]
fn errors_point_at_the_word() {
    let mut shell = Terminal::start("errors");
    shell.type_in("show klock\r");
    shell.expect("\r\n                ^\r\nFailure: Unexpected \"klock\"");
    shell.type_in("show crypto map\r");
    shell.expect("Failure: not supported: show crypto map");
    shell.type_in("conf\rcontext isp\rYes\rinterface i\rip address 10.0.0.1 255.0.255.0\r");
    shell.expect("^\r\nFailure: \"255.0.255.0\" is not a netmask");
}

#[test]
fn pages_and_pipes() {
    let mut shell = Terminal::start("pages");
    shell.type_in("terminal length 3\rshow version verbose\r");
    shell.expect("Image Version");
    shell.expect("--More--");
    shell.type_in("q");
    shell.expect("[local]gw# ");
    shell.type_in("terminal length 0\rshow version | grep -i IMAGE\r");
    shell.expect("| grep -i IMAGE\r\n  Image Version");
}

#[test]
fn without_an_answer_of_sct_nobody_has_rights() {
    let folder = std::env::temp_dir().join(format!("starward-shell-alone-{}", std::process::id()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder.join("bus"))
        .unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["the_shell_itself", "--exact", "--ignored", "--nocapture"])
        .env(RUN_DIR, &folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Failure: sct does not say what"), "{said}");
}

/// A shell on a pseudo terminal; taken down when dropped.
struct Terminal {
    shell: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// Everything that came.
    raw: String,
    /// What came and was not expected yet.
    seen: String,
    /// What the configuration task has.
    config: Arc<Mutex<Config>>,
    folder: PathBuf,
}

impl Terminal {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("starward-shell-{name}-{}", std::process::id()));
        for part in ["bus", "counters"] {
            // The bus refuses a directory that others may enter.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder.join(part))
                .unwrap();
        }
        let config = serve(&folder);
        let pty = nix::pty::openpty(None, None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let shell = Command::new(std::env::current_exe().unwrap())
            .args(["the_shell_itself", "--exact", "--ignored", "--nocapture"])
            .env(RUN_DIR, &folder)
            .env("TERM", "xterm")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .unwrap();
        drop(pty.slave);
        let keyboard = File::from(pty.master);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut octets = [0; 4_096];
            while let Ok(count @ 1..) = reader.read(&mut octets) {
                if sender.send(octets[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Self {
            shell,
            keyboard,
            screen,
            raw: String::new(),
            seen: String::new(),
            config,
            folder,
        };
        terminal.expect("[local]gw# ");
        terminal
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text on the screen, after what was expected before.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let plain = without_escapes(&self.seen);
            if let Some(place) = plain.find(text) {
                self.seen = plain[place + text.len()..].to_owned();
                return;
            }
            match self
                .screen
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(octets) => {
                    let text = String::from_utf8_lossy(&octets);
                    self.raw.push_str(&text);
                    self.seen.push_str(&text);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("'{text}' did not appear; the screen has:\n{plain:?}")
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Leaves out the control sequences with which the editor draws (ECMA-48: ESC [ parameters letter).
fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.push(c);
        } else if rest.next() == Some('[') {
            let _ = rest.by_ref().find(char::is_ascii_alphabetic);
        }
    }
    plain
}

/// A configuration task on this run directory, for as long as this program runs.
fn serve(run_dir: &Path) -> Arc<Mutex<Config>> {
    let mut config = Config::default();
    config.system.hostname = "gw".to_owned();
    let config = Arc::new(Mutex::new(config));
    let served = config.clone();
    let run_dir = run_dir.to_owned();
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (_bus, server) = Bus::open(&run_dir, Address::only(Facility::Sct)).await.unwrap();
            ready.send(()).unwrap();
            answer(server, &served).await;
        });
    });
    is_ready.recv_timeout(PATIENCE).unwrap();
    config
}

async fn answer(mut server: Server, config: &Mutex<Config>) {
    let mut version = 1;
    while let Some(incoming) = server.next().await {
        bus::dispatch!(incoming, {
            GetConfig => |_, responder| responder.reply(ConfigText { version, text: config.lock().unwrap().to_text() }),
            OpenSession => |_, responder| responder.reply(SessionOpened { level: "administrator".to_owned(), session: 0 }),
            SaveConfig => |request, responder| responder.reply(Saved {
                existed: request.url.contains("there"),
                file: request.url,
                failure: String::new(),
            }),
            Configure => |request, responder| {
                version += 1;
                responder.reply(configure(&mut config.lock().unwrap(), &request));
            },
        });
    }
}

fn configure(config: &mut Config, request: &Configure) -> Configured {
    let seal = |plain: &str| Ok(format!("+{plain}"));
    let result = config::tree().path(config, &request.path).and_then(|mut path| {
        let outcome = config::tree().apply(config, &mut path, &request.line, &seal)?;
        Ok((path, outcome))
    });
    match result {
        Ok((path, outcome)) => Configured {
            path: path.lines(),
            ended: outcome == command::Outcome::Ended,
            ..Configured::default()
        },
        Err(error) => Configured {
            failure: error.to_string(),
            column: error.column().and_then(|column| u32::try_from(column).ok()),
            path: request.path.clone(),
            ..Configured::default()
        },
    }
}
