//! What the engine wants and must not be done before the records of the IKE SAs concerned are committed: a peer, or the data plane, would know of it.

use ikev2::Path;

use crate::state::State;

/// One of these things.
pub(crate) enum Later {
    /// Sends a UDP payload.
    Transmit(Path, Vec<u8>),
    /// Has what follows on this path wait for the routes of a child SA.
    AwaitRoutes(Path, u32),
    /// Sends with a child SA from now on, and no more with the one that it replaces.
    Activate(u32, Option<u32>),
    /// Erases a child SA, or gives back an SPI.
    Remove(u32),
    /// Has the peer of child SAs at another address.
    Move(Vec<u32>, Path),
}

impl State {
    /// Does all that waited, in its order.
    pub(crate) fn catch_up(&mut self, now: std::time::Instant) {
        for later in std::mem::take(&mut self.later) {
            match later {
                Later::Transmit(path, bytes) => {
                    if let Some(bytes) = self.held.pass(path, bytes) {
                        self.sockets.transmit(path, bytes);
                    }
                }
                Later::AwaitRoutes(path, spi) => self.held.wait_for(now, path, spi),
                Later::Activate(spi, replaces) => {
                    let result = self.slots.activate(spi, replaces);
                    self.flow(result, "activate", spi);
                }
                Later::Remove(spi) => self.slots.remove(spi),
                Later::Move(spis, path) => {
                    for spi in spis {
                        let result = self.slots.relocate(spi, path);
                        self.flow(result, "move", spi);
                    }
                }
            }
        }
    }
}
