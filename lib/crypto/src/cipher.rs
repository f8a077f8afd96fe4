//! Encryption algorithms of IKEv2 and ESP, as negotiated.

/// An encryption algorithm with its key length and, for AEAD, its ICV length (IKEv2 transform type 1).
///
/// AEAD algorithms are used through [`crate::AeadKey`], AES-CBC through [`crate::CbcKey`]; NULL has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cipher {
    /// ENCR_NULL (RFC 2410); never for IKE.
    Null,
    /// ENCR_AES_CBC with a 128-bit key (RFC 3602).
    AesCbc128,
    /// ENCR_AES_CBC with a 256-bit key (RFC 3602).
    AesCbc256,
    /// AES-GCM with a 128-bit key and an 8-byte ICV (RFC 4106).
    AesGcm128Icv8,
    /// AES-GCM with a 256-bit key and an 8-byte ICV (RFC 4106).
    AesGcm256Icv8,
    /// AES-GCM with a 128-bit key and a 12-byte ICV (RFC 4106).
    AesGcm128Icv12,
    /// AES-GCM with a 256-bit key and a 12-byte ICV (RFC 4106).
    AesGcm256Icv12,
    /// AES-GCM with a 128-bit key and a 16-byte ICV (RFC 4106).
    AesGcm128Icv16,
    /// AES-GCM with a 256-bit key and a 16-byte ICV (RFC 4106).
    AesGcm256Icv16,
}

impl Cipher {
    /// Every cipher, by ascending transform identifier and key length.
    pub const ALL: [Cipher; 9] = [
        Cipher::Null,
        Cipher::AesCbc128,
        Cipher::AesCbc256,
        Cipher::AesGcm128Icv8,
        Cipher::AesGcm256Icv8,
        Cipher::AesGcm128Icv12,
        Cipher::AesGcm256Icv12,
        Cipher::AesGcm128Icv16,
        Cipher::AesGcm256Icv16,
    ];

    /// The IKEv2 transform identifier.
    pub fn transform_id(self) -> u16 {
        match self {
            Cipher::Null => 11,
            Cipher::AesCbc128 | Cipher::AesCbc256 => 12,
            Cipher::AesGcm128Icv8 | Cipher::AesGcm256Icv8 => 18,
            Cipher::AesGcm128Icv12 | Cipher::AesGcm256Icv12 => 19,
            Cipher::AesGcm128Icv16 | Cipher::AesGcm256Icv16 => 20,
        }
    }

    /// The value of the Key Length attribute in bits, or `None` if the transform has none (RFC 7296, 3.3.5).
    pub fn key_length_attribute(self) -> Option<u16> {
        match self.key_len() {
            0 => None,
            16 => Some(128),
            _ => Some(256),
        }
    }

    /// The cipher with this transform identifier and Key Length attribute (in bits), if it is supported.
    pub fn from_transform(id: u16, key_length: Option<u16>) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|c| c.transform_id() == id && c.key_length_attribute() == key_length)
    }

    /// Length of the cipher key in bytes, without the salt.
    pub fn key_len(self) -> usize {
        match self {
            Cipher::Null => 0,
            Cipher::AesCbc128 | Cipher::AesGcm128Icv8 | Cipher::AesGcm128Icv12 | Cipher::AesGcm128Icv16 => 16,
            Cipher::AesCbc256 | Cipher::AesGcm256Icv8 | Cipher::AesGcm256Icv12 | Cipher::AesGcm256Icv16 => 32,
        }
    }

    /// Bytes of salt that follow the key in the key material and begin every nonce (RFC 4106, 4).
    pub fn salt_len(self) -> usize {
        if self.is_aead() { 4 } else { 0 }
    }

    /// Bytes of key material to take from `prf+`: key and salt.
    pub fn keymat_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// Bytes of initialisation vector sent with each message.
    pub fn iv_len(self) -> usize {
        match self {
            Cipher::Null => 0,
            Cipher::AesCbc128 | Cipher::AesCbc256 => 16,
            _ => 8,
        }
    }

    /// The plaintext must be padded to a multiple of this many bytes. ESP additionally pads to 4 (RFC 4303, 2.4).
    pub fn block_len(self) -> usize {
        match self {
            Cipher::AesCbc128 | Cipher::AesCbc256 => 16,
            _ => 1,
        }
    }

    /// Bytes of ICV the cipher itself adds; 0 unless it is an AEAD.
    pub fn icv_len(self) -> usize {
        match self {
            Cipher::Null | Cipher::AesCbc128 | Cipher::AesCbc256 => 0,
            Cipher::AesGcm128Icv8 | Cipher::AesGcm256Icv8 => 8,
            Cipher::AesGcm128Icv12 | Cipher::AesGcm256Icv12 => 12,
            Cipher::AesGcm128Icv16 | Cipher::AesGcm256Icv16 => 16,
        }
    }

    /// True if the cipher protects integrity too, so that no integrity algorithm is negotiated beside it.
    pub fn is_aead(self) -> bool {
        self.icv_len() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_are_those_of_iana() {
        for cipher in Cipher::ALL {
            let (id, bits) = (cipher.transform_id(), cipher.key_length_attribute());
            assert_eq!(Cipher::from_transform(id, bits), Some(cipher));
        }
        assert_eq!(
            Cipher::from_transform(20, Some(256)),
            Some(Cipher::AesGcm256Icv16)
        );
        assert_eq!(Cipher::from_transform(11, None), Some(Cipher::Null));
        assert_eq!(
            Cipher::from_transform(12, None),
            None,
            "AES has no default key length"
        );
        assert_eq!(Cipher::from_transform(12, Some(192)), None);
        assert_eq!(Cipher::from_transform(11, Some(0)), None);
    }

    #[test]
    fn lengths_belong_together() {
        for cipher in Cipher::ALL {
            assert_eq!(
                cipher.keymat_len(),
                cipher.key_len() + if cipher.is_aead() { 4 } else { 0 }
            );
            assert_eq!(
                cipher.key_length_attribute().map_or(0, usize::from),
                cipher.key_len() * 8
            );
            if cipher.is_aead() {
                assert_eq!(cipher.salt_len() + cipher.iv_len(), crate::NONCE_LEN);
                assert!(cipher.icv_len() <= crate::MAX_ICV_LEN);
            }
        }
    }
}
