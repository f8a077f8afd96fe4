//! The loop.

use std::path::PathBuf;
use std::time::Duration;

use bus::link::LinkServer;
use bus::messages::sct::{ConfigChanged, RevealSecret, Revealed};
use bus::{Bus, Server};
use task::{Shutdown, Sit, Task};
use telemetry::events::{SecretUnreadable, emit};

use crate::access::Access;
use crate::boot::Places;
use crate::error::Error;
use crate::secrets::Secrets;
use crate::sessions::Sessions;
use crate::state::Running;

/// How often shells are looked for that ended without a word.
const SESSION_CHECK: Duration = Duration::from_secs(5);

/// Everything of this process.
pub(crate) struct Manager {
    bus: Bus,
    server: Server,
    link_server: LinkServer,
    sit: Sit,
    shutdown: Shutdown,
    pub(crate) state_dir: PathBuf,
    /// Directory of the counter pages of all tasks.
    pub(crate) pages: PathBuf,
    pub(crate) places: Places,
    pub(crate) access: Access,
    pub(crate) secrets: Secrets,
    pub(crate) running: Running,
    pub(crate) sessions: Sessions,
}

impl Manager {
    /// Loads the configuration.
    pub(crate) fn start(task: Task) -> Result<Self, Error> {
        let secrets = Secrets::open(&task.state_dir)?;
        let places = Places::new(&task.run_dir, task.boot_config);
        let access = Access::of(&task.run_dir);
        let mut running = places.load(task.lives, &secrets, &access)?;
        // Versions grow over the lives of this process, so that nobody takes an old one for a new one.
        running.version += u64::from(task.lives) << 32;
        places.keep(&mut running);
        Ok(Self {
            bus: task.bus,
            server: task.server,
            link_server: task.link_server,
            sit: task.sit,
            shutdown: task.shutdown,
            state_dir: task.state_dir,
            pages: task.run_dir.join("counters"),
            places,
            access,
            secrets,
            running,
            sessions: Sessions::default(),
        })
    }

    /// Serves until the end.
    pub(crate) async fn serve(mut self) -> Result<(), Error> {
        self.sit.ready().await?;
        self.set_log_level();
        self.bus.publish(&ConfigChanged {
            version: self.running.version,
        });
        let shutdown = self.shutdown.clone();
        let mut rounds = tokio::time::interval(SESSION_CHECK);
        loop {
            tokio::select! {
                _ = rounds.tick() => self.sessions.end_dead(),
                _ = shutdown.requested() => return Ok(()),
                incoming = self.server.next() => match incoming {
                    Some(incoming) => {
                        let before = self.running.version;
                        self.request(incoming);
                        if self.running.version != before {
                            self.changed();
                        }
                    }
                    None => return Err(Error::Closed),
                },
                incoming = self.link_server.next() => match incoming {
                    Some(incoming) => bus::dispatch!(incoming, {
                        RevealSecret => |request, responder| responder.reply(self.reveal(&request)),
                    }),
                    None => return Err(Error::Closed),
                },
            }
        }
    }

    fn reveal(&mut self, request: &RevealSecret) -> Revealed {
        let revealed = self.secrets.reveal(request);
        if !revealed.failure.is_empty()
            && let Some(secret) = self.running.secret(&request.sealed)
        {
            emit(&SecretUnreadable {
                place: &secret.place(),
            });
        }
        revealed
    }

    fn changed(&mut self) {
        self.places.keep(&mut self.running);
        self.set_log_level();
        self.bus.publish(&ConfigChanged {
            version: self.running.version,
        });
    }

    fn set_log_level(&self) {
        task::set_level(severity(self.running.config.logging.level("sct")));
    }
}

/// The severity that a log level lets through.
fn severity(level: config::LogLevel) -> telemetry::events::Severity {
    use config::LogLevel;
    use telemetry::events::Severity;
    match level {
        LogLevel::Critical => Severity::Critical,
        LogLevel::Error => Severity::Error,
        LogLevel::Warning => Severity::Warning,
        LogLevel::Unusual => Severity::Unusual,
        LogLevel::Info => Severity::Info,
        LogLevel::Trace | LogLevel::Debug => Severity::Debug,
    }
}
