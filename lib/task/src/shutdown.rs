//! The wish of others that this task ends.

use std::time::Duration;

use tokio::sync::watch;

/// Tells when to end. Clones tell the same.
#[derive(Clone)]
pub struct Shutdown(watch::Sender<Option<End>>);

/// How a task is to end.
#[derive(Clone, Copy)]
struct End {
    grace: Duration,
    /// A successor goes on with everything.
    hands_over: bool,
}

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Waits until this task is to end; returns how long it may take over it. Can be asked any number of times.
    pub async fn requested(&self) -> Duration {
        let mut receiver = self.0.subscribe();
        loop {
            let end = *receiver.borrow_and_update();
            if let Some(end) = end {
                return end.grace;
            }
            // The sender is `self`, so this waits and does not fail.
            drop(receiver.changed().await);
        }
    }

    /// Has it been requested?
    pub fn is_requested(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Is everything to be left as it is, for a successor? Then nobody outside is to notice this end.
    pub fn hands_over(&self) -> bool {
        self.0.borrow().is_some_and(|end| end.hands_over)
    }

    /// Asks the task to end within `grace`.
    pub fn request(&self, grace: Duration) {
        self.0.send_replace(Some(End {
            grace,
            hands_over: false,
        }));
    }

    /// Asks the task to end within `grace`, and to leave everything as it is.
    pub fn request_hand_over(&self, grace: Duration) {
        self.0.send_replace(Some(End {
            grace,
            hands_over: true,
        }));
    }
}
