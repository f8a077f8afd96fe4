//! Following the running configuration.

use std::time::Duration;

use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig};
use bus::{Address, Bus, Facility, Heard, Subscription};
use tokio::time::sleep;

/// Reads the running configuration from `sct`, now and after every change.
pub struct ConfigFollower {
    bus: Bus,
    changes: Subscription<ConfigChanged>,
    /// Version handed out last.
    version: Option<u64>,
    /// There may be a newer one.
    stale: bool,
}

impl ConfigFollower {
    /// Begins to listen for changes.
    pub fn new(bus: &Bus) -> Self {
        let mut changes = bus.subscribe::<ConfigChanged>();
        changes.follow(SCT);
        Self {
            bus: bus.clone(),
            changes,
            version: None,
            stale: true,
        }
    }

    /// The running configuration: the first time as soon as `sct` gives it, then whenever it has another version. Keeps asking while
    /// `sct` is away. Cancelling loses nothing.
    pub async fn next(&mut self) -> ConfigText {
        loop {
            while !self.stale {
                self.stale = match self.changes.next().await {
                    Heard::Event(_, changed) => Some(changed.version) != self.version,
                    Heard::Missed(_) => true,
                };
            }
            match self.bus.request(SCT, &GetConfig {}, DEADLINE).await {
                Ok(text) => {
                    self.stale = false;
                    if self.version != Some(text.version) {
                        self.version = Some(text.version);
                        return text;
                    }
                }
                Err(error) => {
                    tracing::warn!("cannot read the configuration yet: {error}");
                    sleep(ASK_AGAIN).await;
                }
            }
        }
    }
}

const SCT: Address = Address::only(Facility::Sct);
/// For each question to `sct`.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between questions that were not answered.
const ASK_AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use bus::Hub;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn every_version_is_handed_out_once() {
        let hub = Hub::new();
        let reader = Bus::in_process_client(&hub, Address::only(Facility::Certmgr));
        let mut follower = ConfigFollower::new(&reader);
        // Asked before sct is there.
        assert!(tokio::time::timeout(SOON, follower.next()).await.is_err());
        let (sct, mut server) = Bus::in_process(&hub, SCT).unwrap();
        let version = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(1));
        let answers = version.clone();
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                let version = answers.load(std::sync::atomic::Ordering::SeqCst);
                let text = format!("version {version}");
                bus::dispatch!(incoming, { GetConfig => |_, responder| responder.reply(ConfigText { version, text }) });
            }
        });
        assert_eq!(follower.next().await.text, "version 1");
        assert!(
            tokio::time::timeout(SOON, follower.next()).await.is_err(),
            "nothing new"
        );
        version.store(2, std::sync::atomic::Ordering::SeqCst);
        sct.publish(&ConfigChanged { version: 2 });
        assert_eq!(follower.next().await.text, "version 2");
    }
}
