//! Transform sets as IKEv2 proposals.

use config::{Encryption, Group, Hmac, IkeTransformSet, IpsecTransformSet};
use crypto::{Cipher, DhGroup, Integrity, Prf};
use ikev2::{EspProposal, IkeProposal};

/// The proposal that an `ikev2-ikesa transform-set` means.
pub(crate) fn ike(set: &IkeTransformSet) -> IkeProposal {
    IkeProposal {
        ciphers: vec![cipher(set.encryption)],
        integrities: integrity(set.hmac).into_iter().collect(),
        prfs: vec![prf(set.prf)],
        groups: vec![group(set.group)],
    }
}

/// The proposal that an `ipsec transform-set` means.
pub(crate) fn esp(set: &IpsecTransformSet) -> EspProposal {
    EspProposal {
        ciphers: vec![cipher(set.encryption)],
        integrities: integrity(set.hmac).into_iter().collect(),
        groups: set.group.map(group).into_iter().collect(),
        esn: if set.esn { vec![true, false] } else { vec![false] },
    }
}

fn cipher(encryption: Encryption) -> Cipher {
    match encryption {
        Encryption::AesCbc128 => Cipher::AesCbc128,
        Encryption::AesCbc256 => Cipher::AesCbc256,
        Encryption::Aes128Gcm64 => Cipher::AesGcm128Icv8,
        Encryption::Aes128Gcm96 => Cipher::AesGcm128Icv12,
        Encryption::Aes128Gcm128 => Cipher::AesGcm128Icv16,
        Encryption::Aes256Gcm64 => Cipher::AesGcm256Icv8,
        Encryption::Aes256Gcm96 => Cipher::AesGcm256Icv12,
        Encryption::Aes256Gcm128 => Cipher::AesGcm256Icv16,
        Encryption::Null => Cipher::Null,
    }
}

fn integrity(hmac: Hmac) -> Option<Integrity> {
    match hmac {
        Hmac::Sha1 => Some(Integrity::HmacSha1_96),
        Hmac::Sha2_256 => Some(Integrity::HmacSha2_256_128),
        Hmac::Sha2_384 => Some(Integrity::HmacSha2_384_192),
        Hmac::Sha2_512 => Some(Integrity::HmacSha2_512_256),
        Hmac::None => None,
    }
}

fn prf(prf: config::Prf) -> Prf {
    match prf {
        config::Prf::Sha1 => Prf::HmacSha1,
        config::Prf::Sha2_256 => Prf::HmacSha2_256,
        config::Prf::Sha2_384 => Prf::HmacSha2_384,
        config::Prf::Sha2_512 => Prf::HmacSha2_512,
    }
}

fn group(group: Group) -> DhGroup {
    match group {
        Group::Group2 => DhGroup::Modp1024,
        Group::Group5 => DhGroup::Modp1536,
        Group::Group14 => DhGroup::Modp2048,
        Group::Group15 => DhGroup::Modp3072,
        Group::Group16 => DhGroup::Modp4096,
        Group::Group19 => DhGroup::Ecp256,
        Group::Group20 => DhGroup::Ecp384,
        Group::Group21 => DhGroup::Ecp521,
        Group::Group31 => DhGroup::Curve25519,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use command::Keyword;

    #[test]
    fn every_keyword_means_the_algorithm_of_its_number() {
        for &word in Group::ALL {
            assert_eq!(group(word).transform_id(), word.number(), "group {word}");
        }
        for &word in Encryption::ALL {
            let means = cipher(word);
            assert_eq!(means.is_aead(), word.is_aead(), "{word}");
            assert_eq!(
                means.key_length_attribute().unwrap_or(0),
                word.key_bits(),
                "{word}"
            );
            if word.is_aead() {
                assert_eq!(means.icv_len(), usize::from(word.icv_octets()), "{word}");
            }
        }
        for &word in Hmac::ALL {
            let bits: Option<usize> = word
                .keyword()
                .rsplit('-')
                .next()
                .and_then(|bits| bits.parse().ok());
            assert_eq!(integrity(word).map(|means| means.icv_len() * 8), bits, "{word}");
        }
        for &word in config::Prf::ALL {
            let bits = match word.keyword() {
                "sha1" => 160,
                other => other
                    .rsplit('-')
                    .next()
                    .and_then(|bits| bits.parse().ok())
                    .unwrap(),
            };
            assert_eq!(prf(word).output_len() * 8, bits, "{word}");
        }
    }

    #[test]
    fn esn_is_offered_besides_normal_numbers() {
        let set = IpsecTransformSet {
            esn: true,
            ..IpsecTransformSet::default()
        };
        assert_eq!(esp(&set).esn, [true, false]);
        assert_eq!(esp(&IpsecTransformSet::default()).esn, [false]);
    }
}
