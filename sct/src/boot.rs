//! Where the configuration comes from when the process starts.

use std::path::{Path, PathBuf};

use telemetry::events::{ConfigurationLineRefused, emit};

use crate::access::Access;
use crate::error::Error;
use crate::files;
use crate::secrets::Secrets;
use crate::state::Running;

/// The running configuration, kept while the node runs so that this process may die.
const RUNNING: &str = "sct/running.cfg";

/// Where things are.
pub(crate) struct Places {
    pub boot: PathBuf,
    running: PathBuf,
}

impl Places {
    pub(crate) fn new(run_dir: &Path, boot: PathBuf) -> Self {
        Self {
            boot,
            running: run_dir.join(RUNNING),
        }
    }

    /// Loads the boot file, or in a later life what was running.
    ///
    /// # Errors
    /// The boot file cannot be read.
    pub(crate) fn load(&self, lives: u32, secrets: &Secrets, access: &Access) -> Result<Running, Error> {
        let file = if lives > 0 && self.running.exists() {
            &self.running
        } else {
            &self.boot
        };
        let text = config::read(file).map_err(|error| Error::File("read", file.clone(), error))?;
        let (running, bad) = Running::load(&text, secrets);
        for error in &bad {
            emit(&ConfigurationLineRefused {
                file: &file.display().to_string(),
                line: u32::try_from(error.line).unwrap_or(u32::MAX),
                reason: &error.message,
            });
        }
        for finding in running.findings(access) {
            tracing::warn!("{}: {}", file.display(), finding.message);
        }
        Ok(running)
    }

    /// Keeps what is running now.
    pub(crate) fn keep(&self, running: &mut Running) {
        let text = running.text();
        if let Err(error) = files::replace(&self.running, text.as_bytes()) {
            tracing::error!("{error}");
        }
    }
}
