//! Keeping up with the state of another task.

use std::time::Duration;

use bus::{Address, Bus, Event, Request};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

const DEADLINE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(200);
/// Changes that follow each other closely are read as one: after a pause, at the latest after a while.
const PAUSE: Duration = Duration::from_millis(10);
const LATEST: Duration = Duration::from_millis(100);

/// The state of another task, again and again. Ends when dropped.
pub struct Follow<S> {
    states: mpsc::Receiver<S>,
    follower: AbortHandle,
}

/// Asks `owner` for its state with `request` as soon as it answers, and again whenever it publishes an `E`, has restarted, or events may have been
/// missed. (For the configuration there is [`crate::ConfigFollower`].)
pub fn follow<R, E>(bus: &Bus, owner: Address, request: R) -> Follow<R::Reply>
where
    R: Request + Sync,
    E: Event,
{
    let (sender, states) = mpsc::channel(1);
    let follower = tokio::spawn(keep_asking::<R, E>(bus.clone(), owner, request, sender)).abort_handle();
    Follow { states, follower }
}

impl<S> Follow<S> {
    /// The next state; it may be equal to the last one. Cancelling loses nothing.
    pub async fn next(&mut self) -> S {
        match self.states.recv().await {
            Some(state) => state,
            // The follower ends only when it is dropped, or with the runtime.
            None => std::future::pending().await,
        }
    }
}

impl<S> Drop for Follow<S> {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

async fn keep_asking<R: Request + Sync, E: Event>(
    bus: Bus,
    owner: Address,
    request: R,
    states: mpsc::Sender<R::Reply>,
) {
    let mut changes = bus.subscribe::<E>();
    changes.follow(owner);
    loop {
        match bus.request(owner, &request, DEADLINE).await {
            Ok(state) => {
                if states.send(state).await.is_err() {
                    return;
                }
                changes.next().await;
                let latest = Instant::now() + LATEST;
                while timeout_at(latest.min(Instant::now() + PAUSE), changes.next())
                    .await
                    .is_ok()
                {}
            }
            Err(error) => {
                tracing::warn!("still without the state of {owner}: {error}");
                sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig};
    use bus::{Facility, Hub, dispatch};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::time::timeout;

    const SCT: Address = Address::only(Facility::Sct);
    const SECOND: Duration = Duration::from_secs(1);

    struct Sct {
        bus: Bus,
        version: Arc<AtomicU64>,
        asked: Arc<AtomicU64>,
        _server: tokio::task::JoinHandle<()>,
    }

    fn sct(hub: &Hub, first: u64) -> Sct {
        let (bus, mut server) = Bus::in_process(hub, SCT).unwrap();
        let (version, asked) = (Arc::new(AtomicU64::new(first)), Arc::new(AtomicU64::new(0)));
        let (answer, count) = (version.clone(), asked.clone());
        let server = tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                count.fetch_add(1, Ordering::Relaxed);
                let version = answer.load(Ordering::Relaxed);
                dispatch!(incoming, {
                    GetConfig => |_, responder| responder.reply(ConfigText { version, text: String::new() }),
                });
            }
        });
        Sct {
            bus,
            version,
            asked,
            _server: server,
        }
    }

    #[tokio::test]
    async fn every_change_is_seen_and_many_cost_little() {
        let hub = Hub::new();
        let bus = Bus::in_process_client(&hub, Address::new(Facility::Cli, 1));
        // It is followed before it is there.
        let mut follow = follow::<GetConfig, ConfigChanged>(&bus, SCT, GetConfig {});
        assert!(timeout(SECOND / 10, follow.next()).await.is_err());
        let sct = sct(&hub, 1);
        bus.note_started(SCT);
        while timeout(5 * SECOND, follow.next()).await.unwrap().version < 1 {}
        // Let the first word that events may have been missed pass.
        let _ = timeout(SECOND / 2, follow.next()).await;
        let before = sct.asked.load(Ordering::Relaxed);
        for version in 2..=1_000 {
            sct.version.store(version, Ordering::Relaxed);
            sct.bus.publish(&ConfigChanged { version });
        }
        while timeout(5 * SECOND, follow.next()).await.unwrap().version < 1_000 {}
        let asked = sct.asked.load(Ordering::Relaxed) - before;
        assert!(asked <= 3, "asked {asked} times");
    }

    #[tokio::test]
    async fn a_restarted_owner_is_asked_again() {
        let hub = Hub::new();
        let bus = Bus::in_process_client(&hub, Address::new(Facility::Cli, 1));
        let first = sct(&hub, 1);
        let mut follow = follow::<GetConfig, ConfigChanged>(&bus, SCT, GetConfig {});
        assert_eq!(timeout(5 * SECOND, follow.next()).await.unwrap().version, 1);
        first._server.abort();
        drop(first);
        tokio::time::sleep(SECOND / 10).await;
        let _second = sct(&hub, 2);
        while timeout(5 * SECOND, follow.next()).await.unwrap().version < 2 {}
    }
}
