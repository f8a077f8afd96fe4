//! What this process answers on the bus.

use bus::messages::common::{Execute, Output};
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
            Execute => |execute, responder| responder.reply(match show::execute(self, &execute) {
                Ok(text) => Output { text, ..Output::default() },
                Err(failure) => Output { failure, ..Output::default() },
            }),
        });
    }

    fn save(&mut self, request: &SaveConfig) -> Saved {
        if let Err(error) = self.access.check(
            &self.running.config,
            &request.user,
            Privilege::ConfigAdministrator,
        ) {
            return Saved {
                failure: error.to_string(),
                file: String::new(),
            };
        }
        let place = if request.url.is_empty() {
            Ok(self.places.boot.clone())
        } else {
            files::locate(&self.state_dir, &request.url)
        };
        let text = self.running.text();
        let saved = place.and_then(|path| files::replace(&path, text.as_bytes()).map(|()| path));
        match saved {
            Ok(path) => {
                let file = path.display().to_string();
                emit(&ConfigurationSaved {
                    user: &request.user,
                    file: &file,
                });
                Saved {
                    failure: String::new(),
                    file,
                }
            }
            Err(error) => Saved {
                failure: error.to_string(),
                file: String::new(),
            },
        }
    }

    fn open_session(&mut self, request: OpenSession) -> SessionOpened {
        let level = self.access.level(&self.running.config, &request.user).to_string();
        SessionOpened {
            session: self.sessions.open(request, &level),
            level,
        }
    }
}
