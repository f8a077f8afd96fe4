//! The master key, and what it opens.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bus::messages::sct::{RevealSecret, Revealed};
use config::{Config, PlacedSecret, SealError, Sealer, placed_secrets};
use crypto::{MasterKey, SystemRandom, hash};

use crate::error::Error;
use crate::files;

/// Name of the key file in the state directory: it never leaves it, and no configuration contains it.
const FILE: &str = "master.key";

/// Most secrets that are remembered.
const MAX_KNOWN: usize = 100_000;

/// Seals and opens the secrets of the configuration.
///
/// Sealing is randomised, so that two sealed forms of a secret cannot be compared. What was sealed or opened once is therefore remembered:
/// a secret that is entered again gets the form it has already, is found by `no snmp community public`, and changes nothing.
pub(crate) struct Secrets {
    key: MasterKey,
    /// Sealed forms by the keyed digest of what they hold.
    known: RefCell<HashMap<[u8; 32], String>>,
}

impl Secrets {
    /// Reads the master key; makes one at the first start of a node.
    ///
    /// # Errors
    /// When it cannot be read or made. A damaged key is never replaced: every secret in every saved configuration would be lost.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => MasterKey::from_bytes(&bytes)
                .map(Self::new)
                .map_err(|error| Error::MasterKey(path, error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = MasterKey::generate(&mut SystemRandom);
                files::replace(&path, key.as_bytes())?;
                tracing::info!("made a master key: {}", path.display());
                Ok(Self::new(key))
            }
            Err(error) => Err(Error::File("read", path, error)),
        }
    }

    pub(crate) fn new(key: MasterKey) -> Self {
        Self {
            key,
            known: RefCell::default(),
        }
    }

    /// Gives equal secrets of a configuration equal forms, and remembers them. Says which ones this key does not open.
    pub(crate) fn adopt(&self, config: &mut Config) -> Vec<PlacedSecret> {
        let mut text = config.to_text();
        let mut unreadable = Vec::new();
        for secret in placed_secrets(&text.clone()) {
            let Ok(plain) = self.key.open(&secret.sealed) else {
                unreadable.push(secret);
                continue;
            };
            let form = self.remember(plain.as_bytes(), || secret.sealed.clone());
            if form != secret.sealed {
                text = text.replace(&secret.sealed, &form);
            }
        }
        if let Ok(same) = Config::parse(&text) {
            *config = same;
        }
        unreadable
    }

    /// The secrets that this key does not open.
    pub(crate) fn unreadable(&self, config: &Config) -> Vec<PlacedSecret> {
        let mut secrets = config.secrets();
        secrets.retain(|secret| self.key.open(&secret.sealed).is_err());
        secrets
    }

    /// The form this secret has already, otherwise the new one.
    fn remember(&self, plain: &[u8], new: impl FnOnce() -> String) -> String {
        let digest = hash::sha256(&[b"starward secret identity", self.key.as_bytes(), plain]);
        let mut known = self.known.borrow_mut();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.entry(digest).or_insert_with(new).clone()
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
        match self.key.open(&request.sealed) {
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
        let sealed = self
            .key
            .seal(plain)
            .map_err(|error| SealError(error.to_string()))?;
        Ok(self.remember(plain, || sealed))
    }
}
