//! The wish of others that this task ends.

use std::time::Duration;

use tokio::sync::watch;

/// Tells when to end. Clones tell the same.
#[derive(Clone)]
pub struct Shutdown(watch::Sender<Option<Duration>>);

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Waits until this task is to end; returns how long it may take over it. Can be asked any number of times.
    pub async fn requested(&self) -> Duration {
        let mut receiver = self.0.subscribe();
        loop {
            let grace = *receiver.borrow_and_update();
            if let Some(grace) = grace {
                return grace;
            }
            // The sender is `self`, so this waits and does not fail.
            drop(receiver.changed().await);
        }
    }

    /// Has it been requested?
    pub fn is_requested(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Asks the task to end within `grace`.
    pub fn request(&self, grace: Duration) {
        self.0.send_replace(Some(grace));
    }
}
