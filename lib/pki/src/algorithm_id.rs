//! The AlgorithmIdentifiers of RFC 7427, appendix A, to and from DER.

use crate::der::{self, Reader};
use crate::{Error, Hash, SignatureAlgorithm};

/// The AlgorithmIdentifier of a signature algorithm.
pub(crate) fn encode(algorithm: SignatureAlgorithm) -> Vec<u8> {
    match algorithm {
        SignatureAlgorithm::RsaPkcs1(hash) => identifier(rsa_pkcs1_oid(hash), &[der::NULL, 0]),
        SignatureAlgorithm::RsaPss(hash) => {
            let hash_id = identifier(hash_oid(hash), &[der::NULL, 0]);
            let parameters = der::encode(
                der::SEQUENCE,
                &[
                    &der::encode(der::context(0), &[&hash_id]),
                    &der::encode(der::context(1), &[&identifier(OID_MGF1, &hash_id)]),
                    &der::encode(
                        der::context(2),
                        &[&der::encode(der::INTEGER, &[&[hash.output_len() as u8]])],
                    ),
                ],
            );
            identifier(OID_RSASSA_PSS, &parameters)
        }
        SignatureAlgorithm::Ecdsa(hash) => identifier(ecdsa_oid(hash), &[]),
        SignatureAlgorithm::Ed25519 => identifier(OID_ED25519, &[]),
    }
}

/// Parses an AlgorithmIdentifier. For RSASSA-PSS the salt length comes with it, as the signer is free to choose it.
pub(crate) fn decode(bytes: &[u8]) -> Result<(SignatureAlgorithm, Option<u8>), Error> {
    let malformed = Error::Malformed("signature algorithm identifier");
    let mut outer = Reader::new(bytes);
    let mut sequence = outer.enter(der::SEQUENCE).ok_or(malformed.clone())?;
    let oid = sequence.take(der::OBJECT_IDENTIFIER).ok_or(malformed.clone())?;
    if !outer.is_empty() {
        return Err(malformed);
    }
    if oid == OID_RSASSA_PSS {
        return decode_pss(sequence);
    }
    let no_parameters = sequence.is_empty() || (sequence.take(der::NULL) == Some(&[]) && sequence.is_empty());
    if !no_parameters {
        return Err(malformed);
    }
    if oid == OID_ED25519 {
        return Ok((SignatureAlgorithm::Ed25519, None));
    }
    for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        if oid == rsa_pkcs1_oid(hash) {
            return accepted(hash).map(|hash| (SignatureAlgorithm::RsaPkcs1(hash), None));
        }
        if oid == ecdsa_oid(hash) {
            return accepted(hash).map(|hash| (SignatureAlgorithm::Ecdsa(hash), None));
        }
    }
    Err(Error::SignatureAlgorithm("neither RSA, ECDSA nor Ed25519"))
}

/// RSASSA-PSS-params (RFC 4055, 3.1).
fn decode_pss(mut sequence: Reader<'_>) -> Result<(SignatureAlgorithm, Option<u8>), Error> {
    let malformed = || Error::Malformed("RSASSA-PSS parameters");
    let mut parameters = sequence.enter(der::SEQUENCE).ok_or_else(malformed)?;
    // What is left out means SHA-1.
    let Some(mut hash_field) = parameters.enter(der::context(0)) else {
        return Err(Error::SignatureAlgorithm("RSASSA-PSS with SHA-1"));
    };
    let hash = hash_identifier(&mut hash_field)?;
    let Some(mut mask_field) = parameters.enter(der::context(1)) else {
        return Err(Error::SignatureAlgorithm("RSASSA-PSS with MGF1 of SHA-1"));
    };
    let mut mask = mask_field.enter(der::SEQUENCE).ok_or_else(malformed)?;
    if mask.take(der::OBJECT_IDENTIFIER) != Some(OID_MGF1) {
        return Err(Error::SignatureAlgorithm(
            "RSASSA-PSS with a mask generation function other than MGF1",
        ));
    }
    if hash_identifier(&mut mask)? != hash {
        return Err(Error::SignatureAlgorithm(
            "RSASSA-PSS with different hash algorithms",
        ));
    }
    let salt_len = match parameters.enter(der::context(2)) {
        Some(mut salt) => match salt.take(der::INTEGER) {
            Some(&[len]) if len < 0x80 => len,
            _ => {
                return Err(Error::SignatureAlgorithm(
                    "RSASSA-PSS with a salt of more than 127 bytes",
                ));
            }
        },
        None => DEFAULT_PSS_SALT_LEN,
    };
    let trailer = parameters
        .enter(der::context(3))
        .is_none_or(|mut field| field.take(der::INTEGER) == Some(&[1]));
    if !trailer || !parameters.is_empty() || !sequence.is_empty() {
        return Err(malformed());
    }
    Ok((SignatureAlgorithm::RsaPss(hash), Some(salt_len)))
}

fn hash_identifier(reader: &mut Reader<'_>) -> Result<Hash, Error> {
    let malformed = || Error::Malformed("RSASSA-PSS parameters");
    let oid = reader
        .enter(der::SEQUENCE)
        .and_then(|mut inner| inner.take(der::OBJECT_IDENTIFIER));
    let oid = oid.ok_or_else(malformed)?;
    let known = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512]
        .into_iter()
        .find(|&h| hash_oid(h) == oid);
    accepted(known.ok_or(Error::SignatureAlgorithm(
        "RSASSA-PSS with an unknown hash algorithm",
    ))?)
}

/// SHA-1 must not be used in these signatures (RFC 8247, 3.2).
fn accepted(hash: Hash) -> Result<Hash, Error> {
    if hash == Hash::Sha1 {
        Err(Error::SignatureAlgorithm("a digital signature with SHA-1"))
    } else {
        Ok(hash)
    }
}

fn identifier(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    der::encode(
        der::SEQUENCE,
        &[&der::encode(der::OBJECT_IDENTIFIER, &[oid]), parameters],
    )
}

fn rsa_pkcs1_oid(hash: Hash) -> &'static [u8] {
    // 1.2.840.113549.1.1.x: shaXWithRSAEncryption.
    match hash {
        Hash::Sha1 => &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5],
        Hash::Sha256 => &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11],
        Hash::Sha384 => &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12],
        Hash::Sha512 => &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13],
    }
}

fn ecdsa_oid(hash: Hash) -> &'static [u8] {
    // 1.2.840.10045.4.1 and 1.2.840.10045.4.3.x: ecdsa-with-SHAx.
    match hash {
        Hash::Sha1 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1],
        Hash::Sha256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
        Hash::Sha384 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
        Hash::Sha512 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
    }
}

fn hash_oid(hash: Hash) -> &'static [u8] {
    // 1.3.14.3.2.26 and 2.16.840.1.101.3.4.2.x.
    match hash {
        Hash::Sha1 => &[0x2b, 0x0e, 3, 2, 0x1a],
        Hash::Sha256 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1],
        Hash::Sha384 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2],
        Hash::Sha512 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3],
    }
}

/// 1.2.840.113549.1.1.10
const OID_RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
/// 1.2.840.113549.1.1.8
const OID_MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
/// 1.3.101.112
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// RFC 4055, 3.1.
const DEFAULT_PSS_SALT_LEN: u8 = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [SignatureAlgorithm; 10] = [
        SignatureAlgorithm::RsaPkcs1(Hash::Sha256),
        SignatureAlgorithm::RsaPkcs1(Hash::Sha384),
        SignatureAlgorithm::RsaPkcs1(Hash::Sha512),
        SignatureAlgorithm::RsaPss(Hash::Sha256),
        SignatureAlgorithm::RsaPss(Hash::Sha384),
        SignatureAlgorithm::RsaPss(Hash::Sha512),
        SignatureAlgorithm::Ecdsa(Hash::Sha256),
        SignatureAlgorithm::Ecdsa(Hash::Sha384),
        SignatureAlgorithm::Ecdsa(Hash::Sha512),
        SignatureAlgorithm::Ed25519,
    ];

    #[test]
    fn encodings_are_those_of_rfc_7427_appendix_a() {
        let cases: [(SignatureAlgorithm, &[u8]); 4] = [
            (
                SignatureAlgorithm::RsaPkcs1(Hash::Sha256),
                &[
                    0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0,
                ],
            ),
            (
                SignatureAlgorithm::Ecdsa(Hash::Sha384),
                &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
            ),
            (
                SignatureAlgorithm::RsaPss(Hash::Sha256),
                &[
                    0x30, 0x41, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0a, 0x30, 0x34, 0xa0, 0x0f,
                    0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 0xa1, 0x1c, 0x30, 0x1a, 6,
                    9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1,
                    0x65, 3, 4, 2, 1, 5, 0, 0xa2, 3, 2, 1, 0x20,
                ],
            ),
            (SignatureAlgorithm::Ed25519, &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70]),
        ];
        for (algorithm, expected) in cases {
            assert_eq!(encode(algorithm), expected, "{algorithm:?}");
        }
    }

    #[test]
    fn all_are_read_back() {
        for algorithm in ALL {
            let salt = match algorithm {
                SignatureAlgorithm::RsaPss(hash) => Some(hash.output_len() as u8),
                _ => None,
            };
            assert_eq!(decode(&encode(algorithm)), Ok((algorithm, salt)));
        }
    }

    #[test]
    fn sha1_is_refused_wherever_it_stands() {
        for oid in [rsa_pkcs1_oid(Hash::Sha1), ecdsa_oid(Hash::Sha1)] {
            assert!(matches!(
                decode(&identifier(oid, &[])),
                Err(Error::SignatureAlgorithm(_))
            ));
        }
        // All parameters at their default, i.e. SHA-1 (RFC 7427, A.4.1).
        let default_pss = identifier(OID_RSASSA_PSS, &[der::SEQUENCE, 0]);
        assert!(matches!(decode(&default_pss), Err(Error::SignatureAlgorithm(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn damaged_identifiers_are_decoded_without_panic(
            algorithm in prop::sample::select(ALL.to_vec()),
            at in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            let mut bytes = encode(algorithm);
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok((decoded, _)) = decode(&bytes) {
                prop_assert!(ALL.contains(&decoded));
            }
        }
    }
}
