//! The algorithms of an SA and the lengths that follow from them.

use crypto::{CBC_BLOCK_LEN, Cipher, Integrity};
use sadb::Algorithms;

use crate::Error;

/// SPI and sequence number (RFC 4303 2).
pub(crate) const ESP_HEADER: usize = 8;
/// Pad length and next header.
pub(crate) const TRAILER: usize = 2;
/// What follows the payload must end on a 4-byte boundary (RFC 4303 2.4).
const ALIGN: usize = 4;

/// Encryption and integrity, checked to be a combination that ESP may use. Small and `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transform {
    cipher: Cipher,
    integrity: Option<Integrity>,
}

impl Transform {
    /// An AEAD alone, or any other cipher (NULL too) with integrity.
    ///
    /// # Errors
    /// [`Error::Algorithms`] for other combinations: an AEAD with integrity beside it, or no integrity at all (RFC 4303 3.2.1).
    pub fn new(cipher: Cipher, integrity: Option<Integrity>) -> Result<Self, Error> {
        let transform = Self { cipher, integrity };
        if cipher.is_aead() == integrity.is_none() {
            Ok(transform)
        } else {
            Err(Error::Algorithms(transform.algorithms()))
        }
    }

    /// From IANA numbers, as an SA's record has them.
    ///
    /// # Errors
    /// [`Error::Algorithms`] when it is none of ours.
    pub fn from_algorithms(algorithms: &Algorithms) -> Result<Self, Error> {
        let unknown = || Error::Algorithms(*algorithms);
        let key_bits = (algorithms.key_bits != 0).then_some(algorithms.key_bits);
        let cipher = Cipher::from_transform(algorithms.encryption, key_bits).ok_or_else(unknown)?;
        let integrity = match algorithms.integrity {
            0 => None,
            id => Some(Integrity::from_transform_id(id).ok_or_else(unknown)?),
        };
        let transform = Self::new(cipher, integrity)?;
        if transform.icv_len() != usize::from(algorithms.icv_bytes) {
            return Err(unknown());
        }
        Ok(transform)
    }

    /// The IANA numbers, as an SA's record has them.
    pub fn algorithms(&self) -> Algorithms {
        Algorithms {
            encryption: self.cipher.transform_id(),
            key_bits: self.cipher.key_length_attribute().unwrap_or(0),
            integrity: self.integrity.map_or(0, Integrity::transform_id),
            icv_bytes: u8::try_from(self.icv_len()).unwrap_or(u8::MAX),
        }
    }

    /// The cipher.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// The integrity algorithm, unless the cipher is an AEAD.
    pub fn integrity(&self) -> Option<Integrity> {
        self.integrity
    }

    /// Whether several packets at once are sealed in less time than one after the other: with CBC, where no block can be encrypted before the one ahead of it.
    pub fn seals_in_runs(&self) -> bool {
        self.cipher.block_len() == CBC_BLOCK_LEN
    }

    /// Bytes of ICV on the wire.
    pub fn icv_len(&self) -> usize {
        self.integrity.map_or(self.cipher.icv_len(), Integrity::icv_len)
    }

    /// Bytes before the inner packet: SPI, sequence number, IV.
    pub fn header_len(&self) -> usize {
        ESP_HEADER + self.cipher.iv_len()
    }

    /// Bytes of the whole ESP packet, from the SPI to the ICV, around an inner packet of `inner` bytes.
    pub fn sealed_len(&self, inner: usize) -> usize {
        self.header_len() + (inner + TRAILER).next_multiple_of(self.block()) + self.icv_len()
    }

    /// The longest inner packet whose ESP packet has at most `sealed` bytes.
    pub fn max_inner(&self, sealed: usize) -> usize {
        let room = sealed.saturating_sub(self.header_len() + self.icv_len());
        (room - room % self.block()).saturating_sub(TRAILER)
    }

    /// Payload and trailer together are a multiple of this.
    pub(crate) fn block(&self) -> usize {
        self.cipher.block_len().max(ALIGN)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every combination there is.
    pub(crate) fn all() -> Vec<Transform> {
        let integrities = || Integrity::ALL.into_iter().map(Some).chain([None]);
        Cipher::ALL
            .into_iter()
            .flat_map(|cipher| integrities().filter_map(move |i| Transform::new(cipher, i).ok()))
            .collect()
    }

    #[test]
    fn six_aeads_and_three_ciphers_with_four_macs() {
        assert_eq!(all().len(), 6 + 3 * 4);
        assert!(matches!(
            Transform::new(Cipher::Null, None),
            Err(Error::Algorithms(_))
        ));
        assert!(Transform::new(Cipher::AesGcm128Icv16, Some(Integrity::HmacSha1_96)).is_err());
    }

    #[test]
    fn records_and_back() {
        for transform in all() {
            let algorithms = transform.algorithms();
            assert_eq!(Transform::from_algorithms(&algorithms), Ok(transform));
            let other_icv = Algorithms {
                icv_bytes: algorithms.icv_bytes + 1,
                ..algorithms
            };
            let error = Transform::from_algorithms(&other_icv).unwrap_err();
            assert!(error.to_string().contains("no supported combination"), "{error}");
        }
        let unknown = Algorithms {
            encryption: 3,
            key_bits: 0,
            integrity: 1,
            icv_bytes: 12,
        };
        assert_eq!(
            Transform::from_algorithms(&unknown),
            Err(Error::Algorithms(unknown))
        );
    }

    #[test]
    fn the_familiar_case() {
        // Ethernet, IPv4, UDP: 1500 - 20 - 8 leaves 1438 inner bytes with AES-GCM-16.
        let gcm = Transform::new(Cipher::AesGcm128Icv16, None).unwrap();
        assert_eq!(gcm.max_inner(1500 - 28), 1438);
        assert_eq!(gcm.sealed_len(1438), 1472);
        assert_eq!(gcm.max_inner(0), 0);
    }

    proptest! {
        #[test]
        fn max_inner_is_the_largest_that_fits(which in 0usize..18, inner in 0usize..9000) {
            let transform = all()[which];
            let sealed = transform.sealed_len(inner);
            let most = transform.max_inner(sealed);
            prop_assert!(most >= inner && transform.sealed_len(most) == sealed);
            prop_assert!(transform.sealed_len(most + 1) > sealed);
        }
    }
}
