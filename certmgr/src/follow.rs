//! Following the configuration: reads it at the start and at each change, and loads what it names.

use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::link::Links;
use bus::messages::sct::RevealSecret;
use bus::{Address, Bus, Facility};
use command::Keyword;
use config::{Config, PrivateKey, SecretText};
use task::{ConfigFollower, Sit};
use telemetry::events::Severity;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::load::{OpenedFiles, Revealed, load};
use crate::state::Store;

/// Sends a new [`Store`] whenever there is one.
pub(crate) struct Follower {
    configurations: ConfigFollower,
    links: Links,
    sit: Sit,
    state_dir: PathBuf,
}

impl Follower {
    /// Begins to listen for changes.
    pub(crate) fn new(bus: &Bus, links: Links, sit: Sit, state_dir: PathBuf) -> Self {
        Self {
            configurations: ConfigFollower::new(bus),
            links,
            sit,
            state_dir,
        }
    }

    /// Runs until nobody takes stores any more.
    pub(crate) async fn run(mut self, stores: mpsc::Sender<Store>) {
        let mut text = self.configurations.next().await.text;
        loop {
            let config = match Config::parse(&text) {
                Ok(config) => Arc::new(config),
                Err(error) => {
                    tracing::error!("cannot follow the configuration: {error}");
                    text = self.configurations.next().await.text;
                    continue;
                }
            };
            if let Some(level) = Severity::from_name(config.logging.level(Facility::Certmgr.name()).keyword())
            {
                task::set_level(level);
            }
            // Files change without the configuration changing, above all when a certificate is renewed.
            text = loop {
                let Some(store) = self.load(&config).await else {
                    return;
                };
                let interval = if store.is_whole() {
                    RELOAD_INTERVAL
                } else {
                    RETRY_INTERVAL
                };
                if stores.send(store).await.is_err() {
                    return;
                }
                if let Ok(newer) = timeout(interval, self.configurations.next()).await {
                    break newer.text;
                }
            };
        }
    }

    /// Loads everything on a thread that may block. `None` when the runtime ends.
    async fn load(&self, config: &Arc<Config>) -> Option<Store> {
        let revealed = self.reveal(config).await;
        let files = self.open_files(config).await;
        let (config, state_dir) = (config.clone(), self.state_dir.clone());
        spawn_blocking(move || load(&config, &revealed, &files, &state_dir))
            .await
            .ok()
    }

    /// Asks for the private keys that stand in the configuration itself.
    async fn reveal(&self, config: &Config) -> Revealed {
        let keys = config
            .certificates
            .values()
            .filter_map(|certificate| certificate.private_key.as_ref());
        let mut revealed = Revealed::new();
        for key in keys.chain(config.private_key.as_ref()) {
            if let PrivateKey::Data(sealed) = key
                && !revealed.contains_key(sealed)
            {
                revealed.insert(sealed.clone(), self.open(sealed).await);
            }
        }
        revealed
    }

    /// Asks for the files that the configuration names.
    async fn open_files(&self, config: &Config) -> OpenedFiles {
        let mut files = OpenedFiles::new();
        for url in config.files() {
            if !files.contains_key(url) {
                let opened = self.sit.open_file(url).await.map_err(|error| match error {
                    task::Error::Failed { cause, .. } => cause,
                    error => error.to_string(),
                });
                files.insert(url.to_owned(), opened);
            }
        }
        files
    }

    async fn open(&self, sealed: &SecretText) -> Result<Zeroizing<Vec<u8>>, String> {
        let question = RevealSecret {
            sealed: sealed.sealed().to_owned(),
        };
        match self.links.request(SCT, &question, DEADLINE).await {
            Ok(mut answer) if answer.failure.is_empty() => Ok(Zeroizing::new(take(&mut answer.secret))),
            Ok(answer) => Err(answer.failure.clone()),
            Err(error) => Err(error.to_string()),
        }
    }
}

const SCT: Address = Address::only(Facility::Sct);

/// For each question over the link.
const DEADLINE: Duration = Duration::from_secs(5);

/// Between two readings of the files, when all is well.
const RELOAD_INTERVAL: Duration = Duration::from_secs(3600);

/// Between two readings of the files, when some could not be used.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
