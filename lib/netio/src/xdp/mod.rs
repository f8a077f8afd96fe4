//! AF_XDP: packets straight from a device's receive queue into memory that the data plane reads, and from such memory to the device.
//!
//! ```text
//!   device ── eBPF program ──┬─ ESP to one of our addresses ──> queue's socket ──> receive ring ──> XdpReceiver
//!                            ├─ what is to enter the TUN ────>                <── fill ring    <──
//!                            └─ everything else ──> the kernel, as ever
//!   device <───────────────────────────────────── queue's socket <── transmit ring   <── XdpSender
//!                                                                ──> completion ring ──>
//! ```
//!
//! [`XdpPort`] is what the process holds that opens it: the program's link to the device, its maps, and for each queue a socket and the memory of its frames.
//! [`XdpReceiver`] and [`XdpSender`] are what the process has that works with a queue. It may die at any instruction: whoever maps the same queue next finds in
//! the shared memory which frame is whose (see [`ledger`]), so none is lost and none has two owners.

mod ledger;
mod port;
mod program;
mod queue;
mod receiver;
mod ring;
mod sender;

pub use port::XdpPort;
pub use program::CLEAR_TYPE as XDP_CLEAR_TYPE;
pub use queue::XdpQueue;
pub use receiver::{XdpLosses, XdpReceiver};
pub use sender::XdpSender;

/// Memory of a frame: the kernel leaves 256 octets in front of what it receives (XDP_PACKET_HEADROOM).
pub(crate) const FRAME_BYTES: usize = 2048;
/// The longest Ethernet frame that fits into a frame of ours: longer ones take the kernel's way.
pub const XDP_MAX_PACKET: usize = FRAME_BYTES - 256;

/// Frames for what comes: as many as its rings have places, so that a ring is never full before the frames are used up. At 300,000 packets a second they
/// bridge 13 ms without anybody reading.
pub(crate) const RECEIVE_FRAMES: usize = 4096;
/// Frames for what leaves, likewise.
pub(crate) const SEND_FRAMES: usize = 2048;
const FRAMES: usize = RECEIVE_FRAMES + SEND_FRAMES;

/// Where things lie in the memory of a queue: frames, then for each the word that says whose it is, then what was told of the kernel's statistics.
const LEDGER_AT: usize = FRAMES * FRAME_BYTES;
const TOLD_AT: usize = LEDGER_AT + FRAMES * size_of::<u64>();
const TOLD_WORDS: usize = 3;
const MEMORY_BYTES: usize = (TOLD_AT + TOLD_WORDS * size_of::<u64>()).next_multiple_of(4096);

#[cfg(test)]
mod tests;
