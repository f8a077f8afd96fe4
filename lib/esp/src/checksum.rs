//! The Internet checksum (RFC 1071).

/// A one's complement sum in the making. Pieces are added at even offsets; the byte order of the machine does not matter (RFC 1071 2B).
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// An empty sum.
    pub const fn new() -> Self {
        Self(0)
    }

    /// With `data` added. Only the last piece may have an odd length.
    #[must_use]
    pub fn with(self, data: &[u8]) -> Self {
        Self(fold(self.0) + fold(netio::sum_words(data)))
    }

    /// With a 16-bit field added.
    #[must_use]
    pub fn with_word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// The sum as it goes into a packet: folded and complemented.
    pub fn finish(self) -> [u8; 2] {
        (!self.folded()).to_ne_bytes()
    }

    /// The sum as it goes into a packet whose checksum is finished later (NEEDS_CSUM): folded, not complemented.
    pub fn partial(self) -> [u8; 2] {
        self.folded().to_ne_bytes()
    }

    /// Whether the sum over data that contains its checksum is right.
    pub fn is_valid(self) -> bool {
        self.folded() == u16::MAX
    }

    fn folded(self) -> u16 {
        let sum = fold(self.0);
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }
}

/// To at most 33 bits.
fn fold(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// The pseudo-header of an upper-layer protocol: `addresses` are source and destination as they lie in the IP header.
pub(crate) fn pseudo_header(addresses: &[u8], protocol: u8, length: u32) -> Checksum {
    Checksum::new()
        .with(addresses)
        .with_word(protocol.into())
        .with_word((length >> 16) as u16)
        .with_word(length as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 4.1, word by word.
    fn reference(data: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn vector_of_the_rfc() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Checksum::new().with(&data).partial(), [0xdd, 0xf2]);
    }

    #[test]
    fn nothing_overflows() {
        let data = vec![0xff; 1 << 17];
        assert!(Checksum::new().with(&data).is_valid());
        let mut sum = Checksum::new();
        for _ in 0..70_000 {
            sum = sum.with(&[0xff; 64]).with_word(0xffff);
        }
        assert!(sum.is_valid());
    }

    proptest! {
        #[test]
        fn same_as_word_by_word(data in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..150) {
            let cut = (cut * 2).min(data.len() & !1);
            let sum = Checksum::new().with(&data[..cut]).with(&data[cut..]);
            prop_assert_eq!(u16::from_be_bytes(sum.finish()), reference(&data));
            if data.len() % 2 == 0 {
                let whole = [&data[..], &sum.finish()].concat();
                prop_assert!(Checksum::new().with(&whole).is_valid());
            }
        }
    }
}
