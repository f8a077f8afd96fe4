//! Pre-shared keys in plain: asked of `sct` over the link once, and kept while the configuration refers to them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bus::link::Links;
use bus::messages::sct::RevealSecret;
use bus::{Address, Facility};
use config::SecretText;
use crypto::Secret;

const SCT: Address = Address::only(Facility::Sct);
/// Until then nobody is told that there is no key: a peer repeats its message while it has no answer, and would take a refusal for one.
const DEADLINE: Duration = Duration::from_secs(30);

/// The keys that are known. Each is zeroed when it is dropped.
#[derive(Default)]
pub(crate) struct SecretCache {
    plain: HashMap<SecretText, Secret>,
}

impl SecretCache {
    /// What this sealed text says, if that is known.
    pub(crate) fn get(&self, sealed: &SecretText) -> Option<&Secret> {
        self.plain.get(sealed)
    }

    /// Keeps an answer of `sct`.
    pub(crate) fn insert(&mut self, sealed: SecretText, plain: Secret) {
        self.plain.insert(sealed, plain);
    }

    /// Forgets what the configuration does not refer to any more.
    pub(crate) fn retain(&mut self, referred: &HashSet<SecretText>) {
        self.plain.retain(|sealed, _| referred.contains(sealed));
    }
}

/// Asks `sct` what a sealed text says. The reason for a failure is for the log.
pub(crate) async fn reveal(links: &Links, sealed: &SecretText) -> Result<Secret, String> {
    let request = RevealSecret {
        sealed: sealed.sealed().to_owned(),
    };
    let mut answer = links
        .request(SCT, &request, DEADLINE)
        .await
        .map_err(|error| error.to_string())?;
    if !answer.failure.is_empty() {
        return Err(answer.failure.clone());
    }
    Ok(Secret::new(std::mem::take(&mut answer.secret)))
}
