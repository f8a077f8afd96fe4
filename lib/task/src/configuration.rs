//! Following the running configuration.

use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig};
use bus::{Address, Bus, Facility};

use crate::follow::{Follow, follow};

/// Reads the running configuration from `sct`, now and after every change. Who asks for the next version has applied the last one, as far as
/// its `show` commands tell: shells that made a change wait for that ([`Bus::note_applied`]).
pub struct ConfigFollower {
    bus: Bus,
    follow: Follow<ConfigText>,
    /// Version handed out last.
    version: Option<u64>,
}

impl ConfigFollower {
    /// Begins to listen for changes.
    pub fn new(bus: &Bus) -> Self {
        bus.note_applied(0);
        Self {
            bus: bus.clone(),
            follow: follow::<GetConfig, ConfigChanged>(bus, SCT, GetConfig {}),
            version: None,
        }
    }

    /// The running configuration: the first time as soon as `sct` gives it, then whenever it has another version. Keeps asking while
    /// `sct` is away. Cancelling loses nothing.
    pub async fn next(&mut self) -> ConfigText {
        self.bus.note_applied(self.version.unwrap_or(0));
        loop {
            let text = self.follow.next().await;
            if self.version != Some(text.version) {
                self.version = Some(text.version);
                return text;
            }
        }
    }
}

const SCT: Address = Address::only(Facility::Sct);

#[cfg(test)]
mod tests {
    use super::*;
    use bus::Hub;
    use bus::messages::common::Ping;
    use std::time::Duration;

    const SOON: Duration = Duration::from_millis(200);

    const CERTMGR: Address = Address::only(Facility::Certmgr);

    /// What the follower's task says that it has applied.
    async fn applied(bus: &Bus) -> Option<u64> {
        let pong = bus.request(CERTMGR, &Ping {}, 25 * SOON).await;
        pong.unwrap().applied
    }

    #[tokio::test]
    async fn every_version_is_handed_out_once() {
        let hub = Hub::new();
        let (reader, _server) = Bus::in_process(&hub, CERTMGR).unwrap();
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
        // The one before is applied, now that the next one is asked for.
        assert_eq!(applied(&sct).await, Some(1));
        version.store(2, std::sync::atomic::Ordering::SeqCst);
        sct.publish(&ConfigChanged { version: 2 });
        assert_eq!(follower.next().await.text, "version 2");
        assert_eq!(applied(&sct).await, Some(1), "it is only being applied");
        assert!(tokio::time::timeout(SOON, follower.next()).await.is_err());
        assert_eq!(applied(&sct).await, Some(2));
    }
}
