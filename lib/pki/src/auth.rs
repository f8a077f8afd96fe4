//! The signatures of AUTH payloads: methods 1 (RFC 7296, 3.8), 9 to 11 (RFC 4754) and 14 (RFC 7427).

use std::fmt;

use openssl::bn::{BigNum, BigNumRef};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKeyRef, Private, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer, Verifier};

use crate::private_key::{Kind, key_type};
use crate::{Certificate, Error, PrivateKey, algorithm_id};

/// A hash algorithm, as in the SIGNATURE_HASH_ALGORITHMS notification (RFC 7427, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, identifier 1; never in method 14.
    Sha1,
    /// SHA2-256, identifier 2.
    Sha256,
    /// SHA2-384, identifier 3.
    Sha384,
    /// SHA2-512, identifier 4.
    Sha512,
}

impl Hash {
    /// The IKEv2 hash algorithm identifier.
    pub fn id(self) -> u16 {
        match self {
            Hash::Sha1 => 1,
            Hash::Sha256 => 2,
            Hash::Sha384 => 3,
            Hash::Sha512 => 4,
        }
    }

    /// Length of the hash in bytes.
    pub fn output_len(self) -> usize {
        self.digest().size()
    }

    fn digest(self) -> MessageDigest {
        match self {
            Hash::Sha1 => MessageDigest::sha1(),
            Hash::Sha256 => MessageDigest::sha256(),
            Hash::Sha384 => MessageDigest::sha384(),
            Hash::Sha512 => MessageDigest::sha512(),
        }
    }
}

/// A signature algorithm of method 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 of the same hash; our salt is as long as the hash.
    RsaPss(Hash),
    /// ECDSA; the signature is an ECDSA-Sig-Value in DER.
    Ecdsa(Hash),
    /// Ed25519 (RFC 8420), announced as hash algorithm "Identity".
    Ed25519,
}

/// A curve of the AUTH methods of RFC 4754, each of which has its hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// Method 9: P-256 with SHA2-256.
    P256,
    /// Method 10: P-384 with SHA2-384.
    P384,
    /// Method 11: P-521 with SHA2-512.
    P521,
}

impl Curve {
    /// Length of a coordinate in bytes.
    pub(crate) fn coordinate_len(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    fn hash(self) -> Hash {
        match self {
            Curve::P256 => Hash::Sha256,
            Curve::P384 => Hash::Sha384,
            Curve::P521 => Hash::Sha512,
        }
    }
}

/// How an AUTH payload is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthScheme {
    /// Method 1: RSASSA-PKCS1-v1_5 with SHA-1.
    RsaSha1,
    /// Methods 9 to 11: ECDSA on a given curve; the signature is r and s, each padded to the length of the curve.
    Ecdsa(Curve),
    /// Method 14: digital signature.
    Digital(SignatureAlgorithm),
}

impl AuthScheme {
    /// The number of the AUTH method.
    pub fn method(self) -> u8 {
        match self {
            AuthScheme::RsaSha1 => 1,
            AuthScheme::Ecdsa(Curve::P256) => 9,
            AuthScheme::Ecdsa(Curve::P384) => 10,
            AuthScheme::Ecdsa(Curve::P521) => 11,
            AuthScheme::Digital(_) => 14,
        }
    }

    fn fits(self, kind: Kind) -> bool {
        match self {
            AuthScheme::RsaSha1 | AuthScheme::Digital(SignatureAlgorithm::RsaPkcs1(_)) => kind == Kind::Rsa,
            AuthScheme::Digital(SignatureAlgorithm::RsaPss(_)) => matches!(kind, Kind::Rsa | Kind::RsaPss),
            AuthScheme::Digital(SignatureAlgorithm::Ecdsa(_)) => matches!(kind, Kind::Ecdsa(_)),
            AuthScheme::Digital(SignatureAlgorithm::Ed25519) => kind == Kind::Ed25519,
            AuthScheme::Ecdsa(curve) => kind == Kind::Ecdsa(curve),
        }
    }
}

impl fmt::Display for AuthScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthScheme::RsaSha1 => f.write_str("RSA with SHA-1"),
            AuthScheme::Ecdsa(curve) => write!(
                f,
                "ECDSA with SHA2-{} on {curve:?}",
                curve.hash().output_len() * 8
            ),
            AuthScheme::Digital(SignatureAlgorithm::Ed25519) => f.write_str("Ed25519"),
            AuthScheme::Digital(SignatureAlgorithm::RsaPkcs1(hash)) => {
                write!(f, "RSA with SHA2-{}", hash.output_len() * 8)
            }
            AuthScheme::Digital(SignatureAlgorithm::RsaPss(hash)) => {
                write!(f, "RSA-PSS with SHA2-{}", hash.output_len() * 8)
            }
            AuthScheme::Digital(SignatureAlgorithm::Ecdsa(hash)) => {
                write!(f, "ECDSA with SHA2-{}", hash.output_len() * 8)
            }
        }
    }
}

/// Contents of an AUTH payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSignature {
    /// AUTH method.
    pub method: u8,
    /// Authentication data; for method 14 it begins with the length and the AlgorithmIdentifier.
    pub data: Vec<u8>,
}

impl PrivateKey {
    /// The scheme to sign with for a peer that announced these hash algorithms. Without an announcement only methods 1
    /// and 9 to 11 can be used (RFC 7427, 4).
    ///
    /// # Errors
    /// [`Error::NoCommonHash`].
    pub fn scheme_for(&self, peer_hashes: &[u16]) -> Result<AuthScheme, Error> {
        let unfit = || Error::NoCommonHash { key: self.key_type() };
        let kind = Kind::of(self.pkey()).ok_or_else(unfit)?;
        let first = |preferred: [Hash; 3]| {
            preferred
                .into_iter()
                .find(|hash| peer_hashes.contains(&hash.id()))
                .ok_or_else(unfit)
        };
        if peer_hashes.is_empty() {
            return match kind {
                Kind::Rsa => Ok(AuthScheme::RsaSha1),
                Kind::Ecdsa(curve) => Ok(AuthScheme::Ecdsa(curve)),
                Kind::RsaPss | Kind::Ed25519 => Err(unfit()),
            };
        }
        let algorithm = match kind {
            Kind::Rsa => SignatureAlgorithm::RsaPkcs1(first([Hash::Sha256, Hash::Sha384, Hash::Sha512])?),
            Kind::RsaPss => SignatureAlgorithm::RsaPss(first([Hash::Sha256, Hash::Sha384, Hash::Sha512])?),
            // The hash that is as strong as the curve, if possible (RFC 7427, 3).
            Kind::Ecdsa(Curve::P384) => {
                SignatureAlgorithm::Ecdsa(first([Hash::Sha384, Hash::Sha512, Hash::Sha256])?)
            }
            Kind::Ecdsa(Curve::P521) => {
                SignatureAlgorithm::Ecdsa(first([Hash::Sha512, Hash::Sha384, Hash::Sha256])?)
            }
            Kind::Ecdsa(Curve::P256) => {
                SignatureAlgorithm::Ecdsa(first([Hash::Sha256, Hash::Sha384, Hash::Sha512])?)
            }
            Kind::Ed25519 if peer_hashes.contains(&HASH_IDENTITY) => SignatureAlgorithm::Ed25519,
            Kind::Ed25519 => return Err(unfit()),
        };
        Ok(AuthScheme::Digital(algorithm))
    }

    /// Signs the octets of RFC 7296, 2.15.
    ///
    /// # Errors
    /// [`Error::KeyUnfit`] if the scheme is not one of this key.
    pub fn sign_auth(&self, scheme: AuthScheme, octets: &[u8]) -> Result<AuthSignature, Error> {
        let key = self.pkey();
        if !Kind::of(key).is_some_and(|kind| scheme.fits(kind)) {
            return Err(Error::KeyUnfit {
                scheme: scheme.to_string(),
                key: self.key_type(),
            });
        }
        let data = sign(key, scheme, octets).map_err(|_| Error::Library("signing"))?;
        Ok(AuthSignature {
            method: scheme.method(),
            data,
        })
    }
}

impl Certificate {
    /// Checks an AUTH payload with the key of this certificate. The chain must be validated apart from this.
    ///
    /// # Errors
    /// [`Error::AuthMethod`], [`Error::SignatureAlgorithm`], [`Error::KeyUnfit`], [`Error::Malformed`],
    /// [`Error::BadAuthSignature`].
    pub fn verify_auth(&self, method: u8, data: &[u8], octets: &[u8]) -> Result<AuthScheme, Error> {
        let key = self.public_key()?;
        verify_auth(&key, || self.subject(), method, data, octets)
    }
}

/// Checks an AUTH payload with a public key; `subject` names its owner.
pub(crate) fn verify_auth(
    key: &PKeyRef<Public>,
    subject: impl FnOnce() -> String,
    method: u8,
    data: &[u8],
    octets: &[u8],
) -> Result<AuthScheme, Error> {
    let (scheme, salt_len, signature) = parse(method, data)?;
    let kind = Kind::of(key).ok_or_else(|| Error::UnsupportedKey(key_type(key)))?;
    if !scheme.fits(kind) {
        return Err(Error::KeyUnfit {
            scheme: scheme.to_string(),
            key: key_type(key),
        });
    }
    // OpenSSL reports some wrong signatures as errors, e.g. those of a wrong length.
    if verify(key, scheme, salt_len, signature, octets).unwrap_or(false) {
        Ok(scheme)
    } else {
        Err(Error::BadAuthSignature {
            scheme: scheme.to_string(),
            subject: subject(),
        })
    }
}

/// Splits authentication data into scheme, salt length of RSASSA-PSS, and signature.
fn parse(method: u8, data: &[u8]) -> Result<(AuthScheme, Option<u8>, &[u8]), Error> {
    let scheme = match method {
        1 => AuthScheme::RsaSha1,
        9 => AuthScheme::Ecdsa(Curve::P256),
        10 => AuthScheme::Ecdsa(Curve::P384),
        11 => AuthScheme::Ecdsa(Curve::P521),
        14 => {
            // RFC 7427, 3: one byte of length, the AlgorithmIdentifier, the signature.
            let malformed = Error::Malformed("digital signature of the AUTH payload");
            let (&len, rest) = data.split_first().ok_or(malformed.clone())?;
            let (identifier, signature) = rest.split_at_checked(usize::from(len)).ok_or(malformed)?;
            let (algorithm, salt_len) = algorithm_id::decode(identifier)?;
            return Ok((AuthScheme::Digital(algorithm), salt_len, signature));
        }
        other => return Err(Error::AuthMethod(other)),
    };
    Ok((scheme, None, data))
}

fn sign(key: &PKeyRef<Private>, scheme: AuthScheme, octets: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let with_digest = |hash: Hash| Signer::new(hash.digest(), key)?.sign_oneshot_to_vec(octets);
    let algorithm = match scheme {
        AuthScheme::RsaSha1 => return with_digest(Hash::Sha1),
        AuthScheme::Digital(algorithm) => algorithm,
        AuthScheme::Ecdsa(curve) => {
            let signature = EcdsaSig::from_der(&with_digest(curve.hash())?)?;
            let padded = |number: &BigNumRef| number.to_vec_padded(curve.coordinate_len() as i32);
            return Ok([padded(signature.r())?, padded(signature.s())?].concat());
        }
    };
    let signature = match algorithm {
        SignatureAlgorithm::RsaPkcs1(hash) | SignatureAlgorithm::Ecdsa(hash) => with_digest(hash)?,
        SignatureAlgorithm::RsaPss(hash) => {
            let mut signer = Signer::new(hash.digest(), key)?;
            signer.set_rsa_padding(Padding::PKCS1_PSS)?;
            signer.set_rsa_mgf1_md(hash.digest())?;
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
            signer.sign_oneshot_to_vec(octets)?
        }
        SignatureAlgorithm::Ed25519 => Signer::new_without_digest(key)?.sign_oneshot_to_vec(octets)?,
    };
    let identifier = algorithm_id::encode(algorithm);
    Ok([&[identifier.len() as u8], identifier.as_slice(), &signature].concat())
}

fn verify(
    key: &PKeyRef<Public>,
    scheme: AuthScheme,
    salt_len: Option<u8>,
    signature: &[u8],
    octets: &[u8],
) -> Result<bool, ErrorStack> {
    let with_digest =
        |hash: Hash, signature: &[u8]| Verifier::new(hash.digest(), key)?.verify_oneshot(signature, octets);
    match scheme {
        AuthScheme::RsaSha1 => with_digest(Hash::Sha1, signature),
        AuthScheme::Ecdsa(curve) => {
            let len = curve.coordinate_len();
            if signature.len() != 2 * len {
                return Ok(false);
            }
            let (r, s) = signature.split_at(len);
            let signature =
                EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
            with_digest(curve.hash(), &signature.to_der()?)
        }
        AuthScheme::Digital(SignatureAlgorithm::RsaPkcs1(hash) | SignatureAlgorithm::Ecdsa(hash)) => {
            with_digest(hash, signature)
        }
        AuthScheme::Digital(SignatureAlgorithm::RsaPss(hash)) => {
            let mut verifier = Verifier::new(hash.digest(), key)?;
            verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
            verifier.set_rsa_mgf1_md(hash.digest())?;
            let salt_len = salt_len.map_or(hash.output_len() as i32, i32::from);
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt_len))?;
            verifier.verify_oneshot(signature, octets)
        }
        AuthScheme::Digital(SignatureAlgorithm::Ed25519) => {
            Verifier::new_without_digest(key)?.verify_oneshot(signature, octets)
        }
    }
}

/// Hash algorithm identifier "Identity" (RFC 8420, 3).
const HASH_IDENTITY: u16 = 5;

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use proptest::prelude::*;

    use super::*;
    use crate::test_pki::{Request, ecdsa, p256, rsa};

    fn pair(key: PKey<Private>) -> (PrivateKey, Certificate) {
        let issued = Request {
            key,
            ..Request::new("gw")
        }
        .self_signed();
        let file = issued.key.private_key_to_pem_pkcs8().unwrap();
        (PrivateKey::from_file(&file, None).unwrap(), issued.certificate)
    }

    #[test]
    fn the_scheme_follows_key_and_peer() {
        let ed25519 = PKey::generate_ed25519().unwrap();
        let digital = AuthScheme::Digital;
        let cases: [(PKey<Private>, &[u16], Option<AuthScheme>); 16] = [
            (rsa(2048), &[], Some(AuthScheme::RsaSha1)),
            (rsa(2048), &[1], None),
            (
                rsa(2048),
                &[4, 3, 2],
                Some(digital(SignatureAlgorithm::RsaPkcs1(Hash::Sha256))),
            ),
            (
                rsa(2048),
                &[3],
                Some(digital(SignatureAlgorithm::RsaPkcs1(Hash::Sha384))),
            ),
            (p256(), &[], Some(AuthScheme::Ecdsa(Curve::P256))),
            (
                p256(),
                &[4, 2],
                Some(digital(SignatureAlgorithm::Ecdsa(Hash::Sha256))),
            ),
            (
                p256(),
                &[4],
                Some(digital(SignatureAlgorithm::Ecdsa(Hash::Sha512))),
            ),
            (p256(), &[5], None),
            (ecdsa(Nid::SECP384R1), &[], Some(AuthScheme::Ecdsa(Curve::P384))),
            (
                ecdsa(Nid::SECP384R1),
                &[2, 3, 4],
                Some(digital(SignatureAlgorithm::Ecdsa(Hash::Sha384))),
            ),
            (ecdsa(Nid::SECP521R1), &[], Some(AuthScheme::Ecdsa(Curve::P521))),
            (
                ecdsa(Nid::SECP521R1),
                &[2, 3, 4],
                Some(digital(SignatureAlgorithm::Ecdsa(Hash::Sha512))),
            ),
            (
                ecdsa(Nid::SECP521R1),
                &[2],
                Some(digital(SignatureAlgorithm::Ecdsa(Hash::Sha256))),
            ),
            (ed25519.clone(), &[], None),
            (ed25519.clone(), &[2, 3, 4], None),
            (ed25519, &[2, 5], Some(digital(SignatureAlgorithm::Ed25519))),
        ];
        for (key, hashes, expected) in cases {
            let (key, _) = pair(key);
            assert_eq!(key.scheme_for(hashes).ok(), expected, "{key:?} {hashes:?}");
        }
    }

    /// Each key with all its schemes.
    fn schemes() -> Vec<(PKey<Private>, Vec<AuthScheme>)> {
        let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
        let ecdsa_schemes = |curve| {
            let digital = hashes.map(|hash| AuthScheme::Digital(SignatureAlgorithm::Ecdsa(hash)));
            [vec![AuthScheme::Ecdsa(curve)], digital.to_vec()].concat()
        };
        let rsa_schemes = [
            vec![AuthScheme::RsaSha1],
            hashes
                .map(|hash| AuthScheme::Digital(SignatureAlgorithm::RsaPkcs1(hash)))
                .to_vec(),
            hashes
                .map(|hash| AuthScheme::Digital(SignatureAlgorithm::RsaPss(hash)))
                .to_vec(),
        ];
        vec![
            (rsa(2048), rsa_schemes.concat()),
            (p256(), ecdsa_schemes(Curve::P256)),
            (ecdsa(Nid::SECP384R1), ecdsa_schemes(Curve::P384)),
            (ecdsa(Nid::SECP521R1), ecdsa_schemes(Curve::P521)),
            (
                PKey::generate_ed25519().unwrap(),
                vec![AuthScheme::Digital(SignatureAlgorithm::Ed25519)],
            ),
        ]
    }

    #[test]
    fn every_scheme_signs_and_verifies() {
        let schemes = schemes();
        for (key, fitting) in &schemes {
            let (key, certificate) = pair(key.clone());
            for &scheme in fitting {
                let signature = key.sign_auth(scheme, b"octets").unwrap();
                assert_eq!(signature.method, scheme.method());
                let check =
                    |data: &[u8], octets: &[u8]| certificate.verify_auth(signature.method, data, octets);
                assert_eq!(check(&signature.data, b"octets"), Ok(scheme));
                assert!(
                    matches!(
                        check(&signature.data, b"Octets"),
                        Err(Error::BadAuthSignature { .. })
                    ),
                    "{scheme}"
                );
                let mut damaged = signature.data.clone();
                *damaged.last_mut().unwrap() ^= 1;
                assert!(
                    matches!(check(&damaged, b"octets"), Err(Error::BadAuthSignature { .. })),
                    "{scheme}"
                );
                let short = &signature.data[..signature.data.len() - 1];
                assert!(
                    matches!(check(short, b"octets"), Err(Error::BadAuthSignature { .. })),
                    "{scheme}"
                );
            }
            for (_, others) in &schemes {
                for &scheme in others.iter().filter(|scheme| !fitting.contains(scheme)) {
                    assert!(
                        matches!(key.sign_auth(scheme, b"octets"), Err(Error::KeyUnfit { .. })),
                        "{scheme}"
                    );
                }
            }
        }
    }

    #[test]
    fn raw_ecdsa_signatures_have_the_length_of_rfc_4754() {
        for (key, len) in [
            (p256(), 64),
            (ecdsa(Nid::SECP384R1), 96),
            (ecdsa(Nid::SECP521R1), 132),
        ] {
            let (key, _) = pair(key);
            // Small numbers must be padded; one in 128 signatures has one.
            for i in 0..300u16 {
                let signature = key
                    .sign_auth(key.scheme_for(&[]).unwrap(), &i.to_be_bytes())
                    .unwrap();
                assert_eq!(signature.data.len(), len);
            }
        }
    }

    #[test]
    fn a_key_of_another_kind_does_not_verify() {
        let (rsa_key, _) = pair(rsa(2048));
        let (_, certificate) = pair(p256());
        let signature = rsa_key.sign_auth(AuthScheme::RsaSha1, b"octets").unwrap();
        let result = certificate.verify_auth(signature.method, &signature.data, b"octets");
        assert_eq!(
            result.unwrap_err().to_string(),
            "RSA with SHA-1 cannot be used with a key of type ECDSA P-256"
        );
    }

    #[test]
    fn methods_that_are_no_signatures_are_refused() {
        let (_, certificate) = pair(p256());
        for method in [0, 2, 3, 8, 12, 13, 15, 255] {
            assert_eq!(
                certificate.verify_auth(method, b"data", b"octets"),
                Err(Error::AuthMethod(method))
            );
        }
        for data in [&[][..], &[5], &[200, 1, 2]] {
            assert!(matches!(
                certificate.verify_auth(14, data, b"octets"),
                Err(Error::Malformed(_))
            ));
        }
    }

    proptest! {
        #[test]
        fn any_authentication_data_is_refused_without_panic(
            method in prop::sample::select(vec![1u8, 9, 10, 11, 14]),
            data in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            static CERTIFICATES: std::sync::LazyLock<Vec<Certificate>> =
                std::sync::LazyLock::new(|| [rsa(2048), p256()].map(|key| pair(key).1).to_vec());
            for certificate in CERTIFICATES.iter() {
                prop_assert!(certificate.verify_auth(method, &data, b"octets").is_err());
            }
        }
    }
}
