//! What the bus counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! statistics {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// Counts since the bus was opened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Statistics { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Default)]
        pub(crate) struct Counts { $(pub $name: Count,)* }

        impl Counts {
            pub fn read(&self) -> Statistics {
                Statistics { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

statistics! {
    /// Requests sent.
    requests;
    /// Replies that reached their caller.
    replies;
    /// Requests without an answer in time.
    timeouts;
    /// Requests without a connection.
    unreachable;
    /// Requests refused by the peer.
    refused;
    /// Requests received and handed to the server.
    served;
    /// Requests received and refused because the queue of the server was full.
    overloaded;
    /// Frames received that were too short, had no magic, or were of an unknown kind or sender.
    malformed;
    /// Frames received that were larger than the limit.
    oversized;
    /// Frames received of another major version.
    other_version;
    /// Replies that nobody waits for any more.
    late_replies;
    /// Replies dropped because the peer does not read them.
    dropped_replies;
    /// Events published.
    published;
    /// Events dropped before they left.
    dropped_events;
    /// Events received.
    heard;
    /// Events that came by a replay.
    replayed;
    /// Times a subscriber was told that it may have missed events.
    missed;
    /// Connections to servers made again after one was lost.
    reconnects;
}

#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counts {
    /// Counts a frame that could not be decoded, by cause.
    pub fn bad_frame(&self, error: crate::FrameError) {
        match error {
            crate::FrameError::Oversized { .. } => self.oversized.add(),
            crate::FrameError::Version { .. } => self.other_version.add(),
            _ => self.malformed.add(),
        }
    }
}
