//! Letting slots go: first what waits for them in the sockets is served, for the kernel steers to the new owner by now.

use std::time::Duration;

use sadb::Slot;
use tokio::sync::oneshot;

use super::Round;

/// A processor that chose a socket by the old program may put its packet in a little later: the sockets are read once more after this time.
const SETTLE_NS: u64 = 2_000_000;
/// Reads of a socket in one pass: more than what waited when it began, of 16 MiB of the kernel's memory and 64 datagrams of at least 768 octets of it a read.
const MOST_READS: u32 = 400;
/// Both passes together take this long at most: a socket that is always full is not waited for.
const PATIENCE_NS: u64 = 200_000_000;

/// Slots on their way out.
#[derive(Debug)]
pub(super) struct HandOver {
    slots: Vec<Slot>,
    to: u16,
    done: oneshot::Sender<()>,
    /// Sockets that are not empty yet, by place, each with the reads that it may still take.
    unread: Vec<(usize, u32)>,
    /// Until this time the present pass has to wait to begin; the second one is the last.
    not_before_ns: u64,
    is_last: bool,
    latest_ns: u64,
}

impl Round {
    /// Begins to let slots go.
    pub(super) fn begin_hand_over(&mut self, slots: Vec<Slot>, to: u16, done: oneshot::Sender<()>) {
        let now_ns = self.engine.now_ns;
        self.hand_overs.push(HandOver {
            slots,
            to,
            done,
            unread: self.all_sockets(),
            not_before_ns: now_ns,
            is_last: false,
            latest_ns: now_ns + PATIENCE_NS,
        });
    }

    fn all_sockets(&self) -> Vec<(usize, u32)> {
        let sockets = self.engine.io.sockets.iter().enumerate();
        sockets
            .filter(|(_, socket)| socket.is_some())
            .map(|(place, _)| (place, MOST_READS))
            .collect()
    }

    /// How long the next round may wait for the sake of slots on their way out.
    pub(super) fn hand_over_due(&self) -> Duration {
        let due = self.hand_overs.iter().map(|leaving| {
            Duration::from_nanos(leaving.not_before_ns.saturating_sub(netio::task::monotonic_ns()))
        });
        due.min().unwrap_or(Duration::MAX)
    }

    /// Serves a batch of each socket that is not empty yet, and lets the slots go whose time has come.
    pub(super) fn advance_hand_overs(&mut self) {
        let now_ns = self.engine.now_ns;
        for mut leaving in std::mem::take(&mut self.hand_overs) {
            if now_ns >= leaving.not_before_ns {
                leaving.unread.retain_mut(|(place, reads)| {
                    *reads = reads.saturating_sub(1);
                    self.read_socket(*place) && *reads > 0
                });
                let is_over = leaving.unread.is_empty() || now_ns >= leaving.latest_ns;
                // What another worker was to send or write must have left before the new owner does.
                self.engine.flush();
                let mut slots = leaving.slots.iter();
                let has_left =
                    now_ns >= leaving.latest_ns || slots.all(|slot| self.engine.strays.has_left(*slot));
                if is_over && leaving.is_last && has_left {
                    for slot in leaving.slots {
                        self.engine.let_go(slot, leaving.to);
                    }
                    // Who asked may have given up; it will ask again.
                    let _ = leaving.done.send(());
                    continue;
                }
                if is_over && !leaving.is_last {
                    leaving.is_last = true;
                    leaving.unread = self.all_sockets();
                    leaving.not_before_ns = now_ns + SETTLE_NS;
                }
            }
            self.hand_overs.push(leaving);
        }
    }
}
