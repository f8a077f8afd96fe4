//! The shells that people have open.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use bus::messages::sct::OpenSession;
use telemetry::events::{CliSessionEnd, CliSessionStart, emit};

/// A shell that a person has open.
pub(crate) struct Session {
    pub user: String,
    pub level: String,
    pub tty: String,
    pub since: SystemTime,
    pid: u32,
}

/// Open shells by their number.
#[derive(Default)]
pub(crate) struct Sessions {
    open: BTreeMap<u32, Session>,
    last: u32,
}

impl Sessions {
    /// Lists a shell and tells of it; returns its number, or 0 for a script.
    pub(crate) fn open(&mut self, request: OpenSession, level: &str) -> u32 {
        if request.tty.is_empty() {
            return 0;
        }
        self.last = self.last.checked_add(1).unwrap_or(1);
        let session = Session {
            user: request.user,
            level: level.to_owned(),
            tty: request.tty,
            since: SystemTime::now(),
            pid: request.pid,
        };
        emit(&CliSessionStart {
            user: &session.user,
            level,
            tty: &session.tty,
            session: self.last,
        });
        self.open.insert(self.last, session);
        self.last
    }

    /// The shell has ended.
    pub(crate) fn close(&mut self, number: u32) {
        if let Some(session) = self.open.remove(&number) {
            emit(&CliSessionEnd {
                user: &session.user,
                level: &session.level,
                tty: &session.tty,
                session: number,
            });
        }
    }

    /// Closes those whose process is gone.
    pub(crate) fn end_dead(&mut self) {
        let processes = Path::new("/proc");
        let dead: Vec<u32> = self
            .open
            .iter()
            .filter(|(_, session)| !processes.join(session.pid.to_string()).exists())
            .map(|(number, _)| *number)
            .collect();
        dead.into_iter().for_each(|number| self.close(number));
    }

    /// Those that are open.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.open.iter().map(|(number, session)| (*number, session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_listed_until_it_ends_or_dies() {
        let mut sessions = Sessions::default();
        let request = |tty: &str, pid| OpenSession {
            user: "noc".to_owned(),
            tty: tty.to_owned(),
            pid,
        };
        assert_eq!(sessions.open(request("", std::process::id()), "operator"), 0);
        let alive = sessions.open(request("pts/1", std::process::id()), "operator");
        // No process has the largest number there is.
        let dead = sessions.open(request("pts/2", u32::MAX), "operator");
        assert_ne!(alive, dead);
        sessions.end_dead();
        assert_eq!(
            sessions.iter().map(|(number, _)| number).collect::<Vec<_>>(),
            [alive]
        );
        sessions.close(alive);
        assert_eq!(sessions.iter().count(), 0);
    }
}
