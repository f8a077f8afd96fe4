//! A shell on a pseudo terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use config::Config;

use crate::node::{Folder, serve};
use crate::{PATIENCE, shell};

/// A shell on a pseudo terminal; taken down when dropped.
pub struct Terminal {
    pub shell: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// Everything that came.
    pub raw: String,
    /// What came and was not expected yet.
    seen: String,
    /// What the configuration task has.
    pub config: Arc<Mutex<Config>>,
    _folder: Folder,
}

impl Terminal {
    pub fn start(name: &str) -> Self {
        let folder = Folder::new(name);
        let config = serve(&folder.0);
        let pty = nix::pty::openpty(None, None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let shell = shell(&folder.0)
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
            _folder: folder,
        };
        terminal.expect("[local]gw# ");
        terminal
    }

    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text on the screen, after what was expected before.
    pub fn expect(&mut self, text: &str) {
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
