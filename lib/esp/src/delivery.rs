//! A packet, or several joined, on the way to the kernel.

use crate::offload::Offload;
use crate::vnet::VnetHeader;

/// The most packets in a super-packet.
pub const MOST_JOINED: usize = 64;
/// The most parts of a [`Delivery`].
pub const MOST_PARTS: usize = 1 + MOST_JOINED;
/// No place.
pub(crate) const NONE: u32 = u32::MAX;

/// What goes to the kernel as one packet.
#[derive(Debug)]
pub struct Delivery<'d, T> {
    /// The flow's tag, as given to [`Coalescer::push`].
    pub tag: T,
    /// What the kernel has to do on it.
    pub offload: Offload,
    /// Its bytes, in order. At most [`MOST_PARTS`].
    pub parts: &'d [&'d [u8]],
    /// Number of packets in it.
    pub packets: u32,
    pub(crate) originals: Originals<'d>,
}

/// Where the packets are that it was made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Originals<'d> {
    One(&'d [u8]),
    Chain { pieces: &'d [Piece<'d>], head: u32 },
}

impl<'d, T> Delivery<'d, T> {
    /// The packets it consists of, as they came: for when the kernel does not take super-packets of this kind.
    pub fn originals(&self) -> impl Iterator<Item = &'d [u8]> + use<'d, T> {
        let originals = self.originals;
        let (mut one, mut next) = match originals {
            Originals::One(packet) => (Some(packet), NONE),
            Originals::Chain { head, .. } => (None, head),
        };
        std::iter::from_fn(move || {
            if let Some(packet) = one.take() {
                return Some(packet);
            }
            let Originals::Chain { pieces, .. } = originals else {
                return None;
            };
            let piece = pieces.get(next as usize)?;
            next = piece.next;
            Some(piece.packet)
        })
    }

    /// What stands before it on a virtual interface.
    pub fn header(&self) -> VnetHeader {
        let first = self.parts.first().copied().unwrap_or_default();
        let is_v4 = first.first().is_some_and(|byte| byte >> 4 == 4);
        VnetHeader::leaving(self.offload, is_v4, first.len())
    }

    /// Bytes of the packets it consists of.
    pub fn bytes(&self) -> u64 {
        self.originals().map(|packet| packet.len() as u64).sum()
    }
}

/// A packet of a run, and the place of the one after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'p> {
    pub(crate) packet: &'p [u8],
    pub(crate) next: u32,
}

/// A packet that goes alone.
pub(crate) fn single<'d, T>(tag: T, packet: &'d [u8], parts: &'d [&'d [u8]; 1]) -> Delivery<'d, T> {
    Delivery {
        tag,
        offload: Offload::default(),
        parts,
        packets: 1,
        originals: Originals::One(packet),
    }
}
