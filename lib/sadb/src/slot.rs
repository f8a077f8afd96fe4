//! Slots and the SPIs that carry them.

use std::fmt;

/// A tunnel's place: the unit of steering, recovery and migration. 1 to 255; SPIs whose first byte is 0 are reserved or mean "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// The lowest slot.
    pub const MIN: Slot = Slot(1);
    /// The highest slot.
    pub const MAX: Slot = Slot(u8::MAX);

    /// The slot with this number, `None` for 0.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Its number, 1 to 255.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Every slot, in order.
    pub fn all() -> impl Iterator<Item = Slot> {
        (Self::MIN.0..=Self::MAX.0).map(Slot)
    }

    /// The slot of an IKE message (without non-ESP marker), as the kernel is told to find it: that of our SPI, which the flag I tells from the peer's.
    /// `None` for a new IKE SA and for what is no IKE message.
    pub fn of_ike(message: &[u8]) -> Option<Self> {
        /// RFC 7296 3.1: the original initiator sent it.
        const INITIATOR: u8 = 0x08;
        let [initiators, _, _, _, _, _, _, _, responders, ..] = *message.first_chunk::<28>()?;
        let by_initiator = message.get(19)? & INITIATOR != 0;
        Self::new(if by_initiator { responders } else { initiators })
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The index of a child SA's record within its slot (14 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaIndex(u16);

impl SaIndex {
    /// The index, `None` if it has more than 14 bits.
    pub const fn new(index: u16) -> Option<Self> {
        if index < 1 << Spi::INDEX_BITS {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The index as a number, below 16,384.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// An inbound ESP SPI that we handed out: `slot (8) | generation (10) | index (14)`.
///
/// The index finds the record by an array access; the generation tells an SPI of an earlier user of the record from the present one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(u32);

impl Spi {
    pub(crate) const INDEX_BITS: u32 = 14;
    pub(crate) const GENERATION_BITS: u32 = 10;

    /// Takes the SPI apart; `None` when its first byte (the slot) is 0, as for every SPI we never hand out.
    pub const fn from_u32(value: u32) -> Option<Self> {
        if value >> 24 == 0 { None } else { Some(Self(value)) }
    }

    /// Puts an SPI together. Bits of `generation` above the tenth are dropped.
    pub const fn new(slot: Slot, generation: u16, index: SaIndex) -> Self {
        let generation = generation as u32 & ((1 << Self::GENERATION_BITS) - 1);
        Self((slot.0 as u32) << 24 | generation << Self::INDEX_BITS | index.0 as u32)
    }

    /// The SPI as it stands in the packet (host order).
    pub const fn to_u32(self) -> u32 {
        self.0
    }

    /// The slot that owns it.
    pub const fn slot(self) -> Slot {
        Slot((self.0 >> 24) as u8)
    }

    /// The record's index.
    pub const fn index(self) -> SaIndex {
        SaIndex((self.0 & ((1 << Self::INDEX_BITS) - 1)) as u16)
    }

    /// The use of the record, modulo 1,024.
    pub const fn generation(self) -> u16 {
        (self.0 >> Self::INDEX_BITS & ((1 << Self::GENERATION_BITS) - 1)) as u16
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spi({:#010x})", self.0)
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// An IKE SPI that we handed out: `slot (8) | index (24) | random (32)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSpi(u64);

impl IkeSpi {
    /// How many IKE SAs the index can tell apart within one slot.
    pub const MAX_INDEX: u32 = (1 << 24) - 1;

    /// Puts an SPI together; `None` when `index` has more than 24 bits.
    pub const fn new(slot: Slot, index: u32, random: u32) -> Option<Self> {
        if index > Self::MAX_INDEX {
            return None;
        }
        Some(Self((slot.0 as u64) << 56 | (index as u64) << 32 | random as u64))
    }

    /// Takes an SPI apart; `None` when its first byte (the slot) is 0.
    pub const fn from_u64(value: u64) -> Option<Self> {
        if value >> 56 == 0 { None } else { Some(Self(value)) }
    }

    /// The SPI as it stands in the IKE header (host order).
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The slot that owns the IKE SA.
    pub const fn slot(self) -> Slot {
        Slot((self.0 >> 56) as u8)
    }

    /// The IKE SA's index within its slot.
    pub const fn index(self) -> u32 {
        (self.0 >> 32) as u32 & Self::MAX_INDEX
    }
}

impl fmt::Debug for IkeSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IkeSpi({:#018x})", self.0)
    }
}

impl fmt::Display for IkeSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spi_parts_have_the_documented_places() {
        let spi = Spi::new(Slot::new(7).unwrap(), 0x3ff, SaIndex::new(5).unwrap());
        assert_eq!(spi.to_u32(), 7 << 24 | 0x3ff << 14 | 5);
        assert_eq!(Spi::from_u32(0x00ff_ffff), None);
        assert_eq!(SaIndex::new(1 << 14), None);
        let ike = IkeSpi::new(Slot::MAX, 0x00ab_cdef, 0x1234_5678).unwrap();
        assert_eq!(ike.to_u64(), 0xffab_cdef_1234_5678);
        assert_eq!(IkeSpi::new(Slot::MIN, 1 << 24, 0), None);
        assert_eq!(IkeSpi::from_u64(0x00ff_0000_0000_0000), None);
        assert_eq!(Slot::all().count(), 255);
    }

    #[test]
    fn the_slot_of_an_ike_message_is_that_of_our_spi() {
        let message = |initiators, responders, flags| {
            let mut message = [0xee; 28];
            (message[0], message[8], message[19]) = (initiators, responders, flags);
            message
        };
        assert_eq!(Slot::of_ike(&message(9, 5, 0x08)), Slot::new(5));
        assert_eq!(Slot::of_ike(&message(9, 5, 0x20)), Slot::new(9));
        assert_eq!(Slot::of_ike(&message(9, 0, 0x08)), None);
        assert_eq!(Slot::of_ike(&[5; 27]), None);
    }

    proptest! {
        #[test]
        fn spi_round_trip(slot in 1u8.., generation in 0u16..1024, index in 0u16..16384) {
            let spi = Spi::new(Slot::new(slot).unwrap(), generation, SaIndex::new(index).unwrap());
            let again = Spi::from_u32(spi.to_u32()).unwrap();
            prop_assert_eq!((again.slot().number(), again.generation(), again.index().number()), (slot, generation, index));
        }
    }
}
