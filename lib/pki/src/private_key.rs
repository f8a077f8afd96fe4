//! Private keys.

use std::fmt;

use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private};

use crate::certificate::MAX_FILE_LEN;
use crate::{Certificate, Curve, Error, der};

/// A private key that IKEv2 signatures can be made with.
#[derive(Clone)]
pub struct PrivateKey(PKey<Private>);

impl PrivateKey {
    /// Parses a file: PEM (PKCS#8 or the older forms, encrypted or not) or DER (PKCS#8 or the older forms).
    ///
    /// # Errors
    /// [`Error::PassPhraseNeeded`], [`Error::PassPhraseWrong`], [`Error::UnsupportedKey`], [`Error::Malformed`],
    /// [`Error::TooLarge`].
    pub fn from_file(contents: &[u8], pass_phrase: Option<&[u8]>) -> Result<Self, Error> {
        if contents.len() > MAX_FILE_LEN {
            return Err(Error::TooLarge {
                what: "file",
                limit: MAX_FILE_LEN,
                actual: contents.len(),
            });
        }
        let key = if contents.first() == Some(&der::SEQUENCE) {
            from_der(contents, pass_phrase)?
        } else {
            from_pem(contents, pass_phrase)?
        };
        if Kind::of(&key).is_none() {
            return Err(Error::UnsupportedKey(key_type(&key)));
        }
        Ok(Self(key))
    }

    /// Kind and size, e.g. `RSA 2048` or `ECDSA P-256`.
    pub fn key_type(&self) -> String {
        key_type(&self.0)
    }

    /// Checks that this is the private key of `certificate`.
    ///
    /// # Errors
    /// [`Error::KeyMismatch`].
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<(), Error> {
        if certificate.public_key()?.public_eq(&self.0) {
            Ok(())
        } else {
            Err(Error::KeyMismatch {
                subject: certificate.subject(),
            })
        }
    }

    pub(crate) fn pkey(&self) -> &PKeyRef<Private> {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.key_type())
    }
}

/// The kinds of keys that signatures are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any RSA signature.
    Rsa,
    /// Only RSASSA-PSS (RFC 4055, 1.2).
    RsaPss,
    /// ECDSA on this curve.
    Ecdsa(Curve),
    /// EdDSA on Curve25519.
    Ed25519,
}

impl Kind {
    pub(crate) fn of<T: HasPublic>(key: &PKeyRef<T>) -> Option<Self> {
        match key.id() {
            Id::RSA => Some(Kind::Rsa),
            Id::RSA_PSS => Some(Kind::RsaPss),
            Id::ED25519 => Some(Kind::Ed25519),
            Id::EC => match curve(key) {
                Some(Nid::X9_62_PRIME256V1) => Some(Kind::Ecdsa(Curve::P256)),
                Some(Nid::SECP384R1) => Some(Kind::Ecdsa(Curve::P384)),
                Some(Nid::SECP521R1) => Some(Kind::Ecdsa(Curve::P521)),
                _ => None,
            },
            _ => None,
        }
    }
}

pub(crate) fn key_type<T: HasPublic>(key: &PKeyRef<T>) -> String {
    match key.id() {
        Id::RSA => format!("RSA {}", key.bits()),
        Id::RSA_PSS => format!("RSA-PSS {}", key.bits()),
        Id::EC => format!("ECDSA {}", curve_name(curve(key))),
        Id::ED25519 => "Ed25519".to_owned(),
        Id::DSA => "DSA".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Name of a curve, as people call it.
fn curve_name(nid: Option<Nid>) -> &'static str {
    match nid {
        Some(Nid::X9_62_PRIME256V1) => "P-256",
        Some(Nid::SECP384R1) => "P-384",
        Some(Nid::SECP521R1) => "P-521",
        _ => "of another curve",
    }
}

fn curve<T: HasPublic>(key: &PKeyRef<T>) -> Option<Nid> {
    key.ec_key().ok().and_then(|key| key.group().curve_name())
}

fn from_pem(contents: &[u8], pass_phrase: Option<&[u8]>) -> Result<PKey<Private>, Error> {
    let mut asked = false;
    let key = PKey::private_key_from_pem_callback(contents, |buffer| {
        asked = true;
        Ok(copy_pass_phrase(pass_phrase, buffer))
    });
    key.map_err(|_| reason(asked, pass_phrase))
}

fn from_der(contents: &[u8], pass_phrase: Option<&[u8]>) -> Result<PKey<Private>, Error> {
    if let Ok(key) = PKey::private_key_from_der(contents) {
        return Ok(key);
    }
    let mut asked = false;
    let key = PKey::private_key_from_pkcs8_callback(contents, |buffer| {
        asked = true;
        Ok(copy_pass_phrase(pass_phrase, buffer))
    });
    key.map_err(|_| reason(asked, pass_phrase))
}

/// Why a key could not be read; `asked` tells whether OpenSSL asked for a pass phrase, i.e. the key is encrypted.
fn reason(asked: bool, pass_phrase: Option<&[u8]>) -> Error {
    match (asked, pass_phrase) {
        (true, None) => Error::PassPhraseNeeded,
        (true, Some(_)) => Error::PassPhraseWrong,
        (false, _) => Error::Malformed("private key"),
    }
}

/// Hands the pass phrase to OpenSSL; nothing if there is none, or if it is longer than OpenSSL takes.
fn copy_pass_phrase(pass_phrase: Option<&[u8]>, buffer: &mut [u8]) -> usize {
    let pass_phrase = pass_phrase.unwrap_or_default();
    match buffer.get_mut(..pass_phrase.len()) {
        Some(target) => {
            target.copy_from_slice(pass_phrase);
            pass_phrase.len()
        }
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use openssl::symm::Cipher;

    use super::*;
    use crate::test_pki::{Request, ecdsa, p256, rsa};

    #[test]
    fn every_file_form_is_read() {
        let key = rsa(2048);
        let forms = [
            key.private_key_to_pem_pkcs8().unwrap(),
            key.rsa().unwrap().private_key_to_pem().unwrap(),
            key.private_key_to_pkcs8().unwrap(),
            key.private_key_to_der().unwrap(),
        ];
        for form in forms {
            let read = PrivateKey::from_file(&form, None).unwrap();
            assert!(read.pkey().public_eq(&key));
            assert_eq!(read.key_type(), "RSA 2048");
            // A pass phrase that is not needed does no harm.
            assert!(PrivateKey::from_file(&form, Some(b"unused")).is_ok());
        }
    }

    #[test]
    fn encrypted_files_need_their_pass_phrase() {
        let key = p256();
        let forms = [
            key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"right")
                .unwrap(),
            key.ec_key()
                .unwrap()
                .private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"right")
                .unwrap(),
            key.private_key_to_pkcs8_passphrase(Cipher::aes_256_cbc(), b"right")
                .unwrap(),
        ];
        for form in forms {
            assert!(PrivateKey::from_file(&form, Some(b"right")).is_ok());
            assert_eq!(
                PrivateKey::from_file(&form, Some(b"wrong")).unwrap_err(),
                Error::PassPhraseWrong
            );
            assert_eq!(
                PrivateKey::from_file(&form, Some(&[b'x'; 5000])).unwrap_err(),
                Error::PassPhraseWrong
            );
            assert_eq!(
                PrivateKey::from_file(&form, None).unwrap_err(),
                Error::PassPhraseNeeded
            );
        }
    }

    #[test]
    fn other_files_and_kinds_are_refused() {
        let malformed = Error::Malformed("private key");
        assert_eq!(PrivateKey::from_file(b"", None).unwrap_err(), malformed);
        assert_eq!(PrivateKey::from_file(b"no key", None).unwrap_err(), malformed);
        assert_eq!(
            PrivateKey::from_file(&[0x30, 0x03, 1, 2, 3], None).unwrap_err(),
            malformed
        );
        let certificate = Request::new("gw").self_signed();
        assert_eq!(
            PrivateKey::from_file(&certificate.pem, None).unwrap_err(),
            malformed
        );
        for key in [PKey::generate_x25519().unwrap(), ecdsa(Nid::SECP256K1)] {
            let file = key.private_key_to_pem_pkcs8().unwrap();
            assert!(matches!(
                PrivateKey::from_file(&file, None),
                Err(Error::UnsupportedKey(_))
            ));
        }
    }

    #[test]
    fn the_certificate_must_be_of_this_key() {
        let (one, two) = (
            Request::new("one").self_signed(),
            Request::new("two").self_signed(),
        );
        let key = PrivateKey::from_file(&one.key.private_key_to_pem_pkcs8().unwrap(), None).unwrap();
        assert_eq!(key.check_certificate(&one.certificate), Ok(()));
        let mismatch = Error::KeyMismatch {
            subject: "CN=two".to_owned(),
        };
        assert_eq!(key.check_certificate(&two.certificate), Err(mismatch));
        assert_eq!(format!("{key:?}"), "PrivateKey(ECDSA P-256)");
    }
}
