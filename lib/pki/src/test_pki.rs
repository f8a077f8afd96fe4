//! A small certification authority for the tests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time, Asn1Type};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509Extension, X509Name};

use crate::Certificate;

/// The time of all tests: 2026-06-01 00:00:00 UTC.
pub(crate) const NOW: u64 = 1_780_272_000;
pub(crate) const DAY: u64 = 86_400;

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

pub(crate) fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

pub(crate) fn ecdsa(curve: Nid) -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
}

pub(crate) fn p256() -> PKey<Private> {
    ecdsa(Nid::X9_62_PRIME256V1)
}

/// A certificate to be made, and the key that it is for.
pub(crate) struct Request {
    pub(crate) name: &'static str,
    pub(crate) key: PKey<Private>,
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u32>,
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    pub(crate) dns: Vec<&'static str>,
    pub(crate) email: Vec<&'static str>,
    pub(crate) ip: Vec<&'static str>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<&'static str>,
    pub(crate) digest: MessageDigest,
    pub(crate) unknown_critical_extension: bool,
}

impl Request {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            key: p256(),
            ca: false,
            path_len: None,
            not_before: NOW - DAY,
            not_after: NOW + DAY,
            dns: Vec::new(),
            email: Vec::new(),
            ip: Vec::new(),
            key_usage: None,
            extended_key_usage: None,
            digest: MessageDigest::sha256(),
            unknown_critical_extension: false,
        }
    }

    pub(crate) fn ca(name: &'static str) -> Self {
        Self {
            ca: true,
            ..Self::new(name)
        }
    }

    pub(crate) fn self_signed(self) -> Issued {
        let issuer = (name(self.name), self.key.clone());
        self.sign(&issuer.0, &issuer.1)
    }

    pub(crate) fn issued_by(self, issuer: &Issued) -> Issued {
        self.sign(&name(issuer.name), &issuer.key)
    }

    fn sign(self, issuer: &X509Name, issuer_key: &PKey<Private>) -> Issued {
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        let serial = BigNum::from_slice(&openssl::sha::sha1(self.name.as_bytes())[..8]).unwrap();
        builder
            .set_serial_number(&serial.to_asn1_integer().unwrap())
            .unwrap();
        builder.set_subject_name(&name(self.name)).unwrap();
        builder.set_issuer_name(issuer).unwrap();
        builder
            .set_not_before(&Asn1Time::from_unix(self.not_before as i64).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::from_unix(self.not_after as i64).unwrap())
            .unwrap();
        builder.set_pubkey(&self.key).unwrap();
        if self.ca {
            let mut constraints = BasicConstraints::new();
            constraints.critical().ca();
            if let Some(len) = self.path_len {
                constraints.pathlen(len);
            }
            builder.append_extension(constraints.build().unwrap()).unwrap();
        }
        if let Some(usage) = &self.key_usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if let Some(usage) = self.extended_key_usage {
            let der = extended_key_usage(usage);
            let oid = Asn1Object::from_str("2.5.29.37").unwrap();
            let value = Asn1OctetString::new_from_bytes(&der).unwrap();
            builder
                .append_extension(X509Extension::new_from_der(&oid, true, &value).unwrap())
                .unwrap();
        }
        if self.unknown_critical_extension {
            let oid = Asn1Object::from_str("1.3.6.1.4.1.99999.1").unwrap();
            let value = Asn1OctetString::new_from_bytes(&[5, 0]).unwrap();
            builder
                .append_extension(X509Extension::new_from_der(&oid, true, &value).unwrap())
                .unwrap();
        }
        if !(self.dns.is_empty() && self.email.is_empty() && self.ip.is_empty()) {
            let mut names = SubjectAlternativeName::new();
            for name in &self.dns {
                names.dns(name);
            }
            for name in &self.email {
                names.email(name);
            }
            for name in &self.ip {
                names.ip(name);
            }
            let context = builder.x509v3_context(None, None);
            let extension = names.build(&context).unwrap();
            builder.append_extension(extension).unwrap();
        }
        let digest = if issuer_key.id() == Id::ED25519 {
            MessageDigest::null()
        } else {
            self.digest
        };
        builder.sign(issuer_key, digest).unwrap();
        let x509 = builder.build();
        Issued {
            name: self.name,
            certificate: Certificate::from_der(&x509.to_der().unwrap()).unwrap(),
            pem: x509.to_pem().unwrap(),
            key: self.key,
        }
    }
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) name: &'static str,
    pub(crate) certificate: Certificate,
    pub(crate) pem: Vec<u8>,
    pub(crate) key: PKey<Private>,
}

/// A name with one CN.
pub(crate) fn name(common_name: &str) -> X509Name {
    let mut builder = X509Name::builder().unwrap();
    builder
        .append_entry_by_text_with_type("CN", common_name, Asn1Type::UTF8STRING)
        .unwrap();
    builder.build()
}

/// ExtKeyUsageSyntax with one usage.
fn extended_key_usage(oid: &str) -> Vec<u8> {
    let oid = Asn1Object::from_str(oid).unwrap();
    crate::der::encode(
        crate::der::SEQUENCE,
        &[&crate::der::encode(
            crate::der::OBJECT_IDENTIFIER,
            &[oid.as_slice()],
        )],
    )
}
