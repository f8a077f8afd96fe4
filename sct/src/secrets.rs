//! The master key, and what it opens.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bus::messages::sct::{RevealSecret, Revealed};
use config::{Config, PlacedSecret, SealError, Sealer, placed_secrets};
use crypto::{MasterKey, Secret, SystemRandom};

use crate::error::Error;
use crate::files;

/// Name of the key file in the state directory: it never leaves it, and no configuration contains it.
const FILE: &str = "sct/master.key";

/// Seals and opens the secrets of the configuration.
///
/// Each sealing is another one, so that nobody sees in a configuration which secrets are equal. Whether two are is found by opening them: one
/// that is entered again at its place keeps the form it has ([`Secrets::settle`]), so that it changes nothing.
pub(crate) struct Secrets {
    key: MasterKey,
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
        Self { key }
    }

    /// Gives the secrets of a changed configuration that are what they were the forms that they had. Where the secret itself is what a line is
    /// about (a community), that makes one of two.
    pub(crate) fn settle(&self, before: &[PlacedSecret], config: &mut Config) {
        let mut known: HashMap<(&[String], &str), Vec<&str>> = HashMap::new();
        for secret in before {
            known.entry(place(secret)).or_default().push(&secret.sealed);
        }
        let text = config.to_text();
        let mut settled = text.clone();
        let after = placed_secrets(&text);
        for secret in &after {
            let forms = known.entry(place(secret)).or_default();
            if forms.contains(&secret.sealed.as_str()) {
                continue;
            }
            match forms.iter().find(|form| self.are_equal(form, &secret.sealed)) {
                Some(form) => settled = settled.replace(&secret.sealed, form),
                None => forms.push(&secret.sealed),
            }
        }
        if settled != text
            && let Ok(same) = Config::parse(&settled)
        {
            *config = same;
        }
    }

    /// The sealed forms of a plain secret among these.
    pub(crate) fn forms<'s>(&self, plain: &str, among: &'s [PlacedSecret]) -> impl Iterator<Item = &'s str> {
        let is_it = |secret: &Secret| secret.as_bytes() == plain.as_bytes();
        among
            .iter()
            .map(|secret| secret.sealed.as_str())
            .filter(move |sealed| self.key.open(sealed).as_ref().is_ok_and(is_it))
    }

    fn are_equal(&self, one: &str, other: &str) -> bool {
        match (self.key.open(one), self.key.open(other)) {
            (Ok(one), Ok(other)) => one.as_bytes() == other.as_bytes(),
            _ => false,
        }
    }

    /// The secrets that this key does not open.
    pub(crate) fn unreadable(&self, config: &Config) -> Vec<PlacedSecret> {
        let mut secrets = config.secrets();
        secrets.retain(|secret| self.key.open(&secret.sealed).is_err());
        secrets
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
        self.key.seal(plain).map_err(|error| SealError(error.to_string()))
    }
}

/// What a secret is of: its mode, and its line up to the secret.
fn place(secret: &PlacedSecret) -> (&[String], &str) {
    let line = secret.line.split(" ...").next().unwrap_or_default();
    (&secret.modes, line)
}
