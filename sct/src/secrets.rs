//! The master key, and what it opens.

use std::fs;
use std::path::Path;

use bus::messages::sct::{RevealSecret, Revealed};
use config::{SealError, Sealer};
use crypto::{MasterKey, SystemRandom};

use crate::error::Error;
use crate::files;

/// Name of the key file in the state directory: it never leaves it, and no configuration contains it.
const FILE: &str = "master.key";

/// Seals and opens the secrets of the configuration.
pub(crate) struct Secrets(MasterKey);

impl Secrets {
    /// Reads the master key; makes one at the first start of a node.
    ///
    /// # Errors
    /// When it cannot be read or made. A damaged key is never replaced: every secret in every saved configuration would be lost.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => MasterKey::from_bytes(&bytes)
                .map(Self)
                .map_err(|error| Error::MasterKey(path, error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = MasterKey::generate(&mut SystemRandom);
                files::replace(&path, key.as_bytes())?;
                tracing::info!("made a master key: {}", path.display());
                Ok(Self(key))
            }
            Err(error) => Err(Error::File("read", path, error)),
        }
    }

    /// The sealed form of a plain secret.
    ///
    /// # Errors
    /// The reason as a sentence.
    pub(crate) fn seal_text(&self, plain: &str) -> Result<String, String> {
        self.seal(plain.as_bytes()).map_err(|error| error.to_string())
    }

    /// Opens a sealed secret for a task that needs it.
    pub(crate) fn reveal(&self, request: &RevealSecret) -> Revealed {
        match self.0.open(&request.sealed) {
            Ok(secret) => Revealed {
                secret: secret.as_bytes().to_vec(),
                failure: String::new(),
            },
            Err(error) => Revealed {
                secret: Vec::new(),
                failure: error.to_string(),
            },
        }
    }
}

impl Sealer for Secrets {
    fn seal(&self, plain: &[u8]) -> Result<String, SealError> {
        self.0.seal(plain).map_err(|error| SealError(error.to_string()))
    }
}
