//! What this process answers on the bus.

use bus::messages::common::Execute;
use bus::messages::sct::{
    CloseSession, ConfigText, Configure, GetConfig, OpenSession, SaveConfig, Saved, SessionClosed,
    SessionOpened,
};
use bus::{Incoming, dispatch};
use config::Privilege;
use telemetry::events::{ConfigurationSaved, ConfigurationUpdate, emit};

use crate::files;
use crate::manager::Manager;
use crate::show;

impl Manager {
    /// Answers a request.
    pub(crate) fn request(&mut self, incoming: Incoming) {
        dispatch!(incoming, {
            GetConfig => |_, responder| responder.reply(ConfigText {
                version: self.running.version,
                text: self.running.text(),
            }),
            Configure => |request, responder| {
                let before = self.running.version;
                let configured = self.running.configure(&request, &self.secrets, &self.access);
                if self.running.version != before {
                    let line = self.running.loggable(&request);
                    emit(&ConfigurationUpdate { user: &request.user, line: &line });
                }
                responder.reply(configured);
            },
            SaveConfig => |request, responder| responder.reply(self.save(&request)),
            OpenSession => |request, responder| responder.reply(self.open_session(request)),
            CloseSession => |request, responder| {
                self.sessions.close(request.session);
                responder.reply(SessionClosed {});
            },
            Execute => |execute, responder| responder.reply(show::execute(self, &execute).into()),
        });
    }

    fn save(&mut self, request: &SaveConfig) -> Saved {
        self.try_save(request).unwrap_or_else(|failure| Saved {
            failure,
            ..Saved::default()
        })
    }

    fn try_save(&mut self, request: &SaveConfig) -> Result<Saved, String> {
        self.access
            .check(
                &self.running.config,
                &request.user,
                Privilege::ConfigAdministrator,
            )
            .map_err(|error| error.to_string())?;
        let path = if request.url.is_empty() {
            self.places.boot.clone()
        } else {
            files::locate(&self.state_dir, &request.url).map_err(|error| error.to_string())?
        };
        let saved = Saved {
            failure: String::new(),
            file: path.display().to_string(),
            existed: path.exists(),
        };
        if !request.probe {
            files::replace(&path, self.running.text().as_bytes()).map_err(|error| error.to_string())?;
            emit(&ConfigurationSaved {
                user: &request.user,
                file: &saved.file,
            });
        }
        Ok(saved)
    }

    fn open_session(&mut self, request: OpenSession) -> SessionOpened {
        let level = self.access.level(&self.running.config, &request.user).to_string();
        SessionOpened {
            session: self.sessions.open(request, &level),
            level,
        }
    }
}
