//! The security association database, as far as the engine needs to look into it.

use std::net::SocketAddr;
use std::time::Instant;

use crate::output::IkeSaId;

/// What the shell does for the engine at once, over the data plane's tables. Installing and removing go through
/// [`Output`](crate::Output) instead, as they have an order with messages.
pub trait Sad {
    /// Reserves an inbound ESP SPI in this slot, or `None` if the slot is full. It is given back with
    /// [`Sad::free_spi`], or by [`Output::Remove`](crate::Output::Remove) once it was installed.
    fn allocate_spi(&mut self, slot: u8) -> Option<u32>;

    /// The slot for a child SA of an IKE SA in slot `of`, beside those with the same traffic selectors in the slots of `taken`: one that another
    /// processor works for, if there is one.
    fn slot_beside(&self, of: u8, taken: &[u8]) -> u8 {
        let _ = taken;
        of
    }

    /// Gives back an SPI that was never installed.
    fn free_spi(&mut self, spi: u32);

    /// What the child SA with this inbound SPI has carried; zeros if it is not known.
    fn usage(&self, spi: u32) -> Usage;

    /// Puts the record of this IKE SA into `into`, as [`Engine::checkpoint`](crate::Engine::checkpoint) gave it last. False if there is none. Asked
    /// only where [`EngineConfig::rests`](crate::EngineConfig::rests).
    fn load(&self, ike: IkeSaId, into: &mut Vec<u8>) -> bool {
        let _ = (ike, into);
        false
    }
}

/// What a child SA has carried since it was installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// When the last authentic packet came in.
    pub last_inbound: Option<Instant>,
    /// Where the newest authentic packet came from, if that is another place than the child SA was installed for or last moved to
    /// (RFC 7296 2.23); it stays until the next such.
    pub learned_peer: Option<SocketAddr>,
    /// Bytes from the peer.
    pub inbound_bytes: u64,
    /// Packets from the peer.
    pub inbound_packets: u64,
    /// Bytes to the peer.
    pub outbound_bytes: u64,
    /// Packets to the peer; counted for the sequence number too.
    pub outbound_packets: u64,
}
