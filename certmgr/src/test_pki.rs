//! Certificates and files for the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

/// A certificate with its key.
pub(crate) struct Made {
    x509: X509,
    key: PKey<Private>,
}

impl Made {
    /// A self-signed CA certificate.
    pub(crate) fn root(name: &str) -> Self {
        make(name, None, key(), LONG)
    }

    /// A certificate for a host.
    pub(crate) fn leaf(name: &str, issuer: &Made) -> Self {
        make(name, Some(issuer), key(), LONG)
    }

    /// A certificate that is valid for some more days.
    pub(crate) fn leaf_for(name: &str, issuer: &Made, days: u64) -> Self {
        make(name, Some(issuer), key(), days)
    }

    /// Another certificate for the same name and key.
    pub(crate) fn renewed(&self, issuer: &Made) -> Self {
        let name = self
            .x509
            .subject_name()
            .entries()
            .next()
            .unwrap()
            .data()
            .to_string()
            .unwrap();
        make(&name, Some(issuer), self.key.clone(), LONG)
    }

    pub(crate) fn certificate_pem(&self) -> Vec<u8> {
        self.x509.to_pem().unwrap()
    }

    pub(crate) fn certificate_der(&self) -> Vec<u8> {
        self.x509.to_der().unwrap()
    }

    pub(crate) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }
}

/// A folder that is removed with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("certmgr-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its whole path.
    pub(crate) fn write(&self, name: &str, contents: &[u8]) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A time some days after the start of the validity of all these certificates.
pub(crate) fn after(days: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START + days * DAY)
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn make(name: &str, issuer: Option<&Made>, key: PKey<Private>, days: u64) -> Made {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(63, MsbOption::ONE, false).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder
        .set_issuer_name(issuer.map_or(&subject, |issuer| issuer.x509.subject_name()))
        .unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(START as i64).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::from_unix((START + days * DAY) as i64).unwrap())
        .unwrap();
    builder.set_pubkey(&key).unwrap();
    if issuer.is_none() {
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
    } else {
        let context = builder.x509v3_context(None, None);
        let names = SubjectAlternativeName::new().dns(name).build(&context).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder
        .sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256())
        .unwrap();
    Made {
        x509: builder.build(),
        key,
    }
}

const DAY: u64 = 86_400;
/// Validity in days, for tests with the real time: 100 years.
const LONG: u64 = 36_525;
/// 2026-01-01 00:00:00 UTC.
const START: u64 = 1_767_225_600;
