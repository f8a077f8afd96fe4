//! X.509 certificates (RFC 5280).

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::{PKey, Public};
use openssl::sha;
use openssl::x509::{X509, X509KeyUsage, X509VerifyResult};

use crate::der::{self, Reader};
use crate::identity::{check_claim, name_to_text};
use crate::private_key::key_type;
use crate::{Error, Identity};

/// The longest certificate that is accepted, in bytes of DER.
pub const MAX_CERTIFICATE_LEN: usize = 16_384;

/// The longest certificate or key file that is accepted, in bytes.
pub const MAX_FILE_LEN: usize = 262_144;

/// A certificate, parsed and of bounded size, but not validated. Cloning it is cheap.
#[derive(Clone)]
pub struct Certificate {
    x509: X509,
    der: Vec<u8>,
    extra: Extra,
}

/// What the openssl crate does not show of a certificate.
#[derive(Clone)]
struct Extra {
    spki_sha1: [u8; 20],
    ca: bool,
    /// Object identifiers of the extended key usage extension, if there is one.
    extended_key_usage: Option<Vec<Vec<u8>>>,
}

impl Certificate {
    /// Parses one certificate, e.g. of a CERT payload with encoding 4 (RFC 7296, 3.6).
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`].
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_CERTIFICATE_LEN {
            return Err(Error::TooLarge {
                what: "certificate",
                limit: MAX_CERTIFICATE_LEN,
                actual: der.len(),
            });
        }
        let extra = Extra::parse(der).ok_or(Error::Malformed("certificate"))?;
        let x509 = X509::from_der(der).map_err(|_| Error::Malformed("certificate"))?;
        Ok(Self {
            x509,
            der: der.to_vec(),
            extra,
        })
    }

    /// Parses a file: one or more certificates in PEM, or one in DER.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`], [`Error::NoCertificateInFile`].
    pub fn from_file(contents: &[u8]) -> Result<Vec<Self>, Error> {
        if contents.len() > MAX_FILE_LEN {
            return Err(Error::TooLarge {
                what: "file",
                limit: MAX_FILE_LEN,
                actual: contents.len(),
            });
        }
        if contents.first() == Some(&der::SEQUENCE) {
            return Self::from_der(contents).map(|certificate| vec![certificate]);
        }
        let parsed = X509::stack_from_pem(contents).map_err(|_| Error::Malformed("PEM certificate"))?;
        if parsed.is_empty() {
            return Err(Error::NoCertificateInFile);
        }
        parsed
            .into_iter()
            .map(|x509| Self::from_der(&x509.to_der().map_err(|_| Error::Malformed("certificate"))?))
            .collect()
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The subject for people, e.g. `CN=enb1, O=Operator`.
    pub fn subject(&self) -> String {
        name_to_text(self.x509.subject_name())
    }

    /// The subject in DER, as it stands in an ID payload of type ID_DER_ASN1_DN.
    pub fn subject_der(&self) -> Vec<u8> {
        self.x509.subject_name().to_der().unwrap_or_default()
    }

    /// The issuer for people.
    pub fn issuer(&self) -> String {
        name_to_text(self.x509.issuer_name())
    }

    /// The serial number in hexadecimal.
    pub fn serial_number(&self) -> String {
        let number = self
            .x509
            .serial_number()
            .to_bn()
            .and_then(|number| number.to_hex_str().map(|s| s.to_string()));
        number.unwrap_or_else(|_| "?".to_owned())
    }

    /// The first moment of validity.
    pub fn not_before(&self) -> SystemTime {
        system_time(self.x509.not_before())
    }

    /// The last moment of validity.
    pub fn not_after(&self) -> SystemTime {
        system_time(self.x509.not_after())
    }

    /// Kind and size of the key, e.g. `RSA 2048` or `ECDSA P-256`.
    pub fn key_type(&self) -> String {
        self.public_key()
            .map_or_else(|_| "unknown".to_owned(), |key| key_type(&key))
    }

    /// The SHA-1 of the SubjectPublicKeyInfo, by which a CERTREQ payload names a certification authority
    /// (RFC 7296, 3.7).
    pub fn spki_sha1(&self) -> [u8; 20] {
        self.extra.spki_sha1
    }

    /// True if the certificate says that it is one of a certification authority.
    pub fn is_ca(&self) -> bool {
        self.extra.ca
    }

    /// True if issuer and subject are the same.
    pub fn is_self_issued(&self) -> bool {
        let order = self.x509.issuer_name().try_cmp(self.x509.subject_name());
        order.is_ok_and(|order| order.is_eq())
    }

    /// All identities the certificate confirms: its subject, if it has one, and its alternative names.
    pub fn identities(&self) -> Vec<Identity> {
        let mut identities = Vec::new();
        if self.x509.subject_name().entries().next().is_some() {
            identities.push(Identity::DistinguishedName(self.subject_der()));
        }
        for name in self.x509.subject_alt_names().iter().flatten().take(MAX_ALT_NAMES) {
            if let Some(name) = name.dnsname() {
                identities.push(Identity::Fqdn(name.to_owned()));
            } else if let Some(name) = name.email() {
                identities.push(Identity::Rfc822(name.to_owned()));
            } else if let Some(octets) = name.ipaddress() {
                identities.extend(address(octets).map(Identity::Address));
            } else if let Some(der) = name.directory_name().and_then(|name| name.to_der().ok()) {
                identities.push(Identity::DistinguishedName(der));
            }
        }
        identities
    }

    /// Checks that the certificate confirms the identity that its owner claims (RFC 4945, 3.1).
    ///
    /// # Errors
    /// [`Error::IdentityMismatch`].
    pub fn check_identity(&self, claimed: &Identity) -> Result<(), Error> {
        check_claim(&self.identities(), claimed)
    }

    /// Checks that the certificate may be used to sign for IKE (RFC 4945, 5.1.3.2 and 5.1.3.12).
    pub(crate) fn check_usage(&self) -> Result<(), Error> {
        let signing = X509KeyUsage::DIGITAL_SIGNATURE | X509KeyUsage::NON_REPUDIATION;
        if self
            .x509
            .key_usage()
            .is_some_and(|usage| !usage.intersects(signing))
        {
            return Err(Error::KeyUsage {
                subject: self.subject(),
            });
        }
        let fits = |oid: &Vec<u8>| EXTENDED_KEY_USAGES.contains(&oid.as_slice());
        if self
            .extra
            .extended_key_usage
            .as_ref()
            .is_some_and(|oids| !oids.iter().any(fits))
        {
            return Err(Error::ExtendedKeyUsage {
                subject: self.subject(),
            });
        }
        Ok(())
    }

    pub(crate) fn x509(&self) -> &X509 {
        &self.x509
    }

    pub(crate) fn public_key(&self) -> Result<PKey<Public>, Error> {
        self.x509
            .public_key()
            .map_err(|_| Error::Malformed("public key of the certificate"))
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.subject())
    }
}

/// The certificates that lead from `leaf` towards its anchor, `leaf` first, found in `pool`. Self-issued ones are left out, as
/// the peer must have them anyway. This is what is sent in CERT payloads.
pub fn issuing_path(leaf: &Certificate, pool: &[Certificate]) -> Vec<Certificate> {
    let mut path = vec![leaf.clone()];
    while path.len() <= pool.len() {
        let Some(last) = path.last() else { break };
        let issuer = pool.iter().find(|candidate| {
            candidate.x509.issued(&last.x509) == X509VerifyResult::OK
                && !candidate.is_self_issued()
                && !path.contains(candidate)
        });
        match issuer {
            Some(issuer) => path.push(issuer.clone()),
            None => break,
        }
    }
    path
}

impl Extra {
    /// Walks a whole certificate (RFC 5280, 4.1); `None` if it is not DER or has bytes behind it.
    fn parse(der: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(der);
        let mut certificate = outer.enter(der::SEQUENCE)?;
        if !outer.is_empty() {
            return None;
        }
        let mut tbs = certificate.enter(der::SEQUENCE)?;
        let _version = tbs.take(der::context(0));
        let _serial_number = tbs.take(der::INTEGER)?;
        let _signature = tbs.take(der::SEQUENCE)?;
        let _issuer = tbs.take(der::SEQUENCE)?;
        let _validity = tbs.take(der::SEQUENCE)?;
        let _subject = tbs.take(der::SEQUENCE)?;
        let (tag, _, spki) = tbs.element()?;
        if tag != der::SEQUENCE {
            return None;
        }
        let mut extra = Self {
            spki_sha1: sha::sha1(spki),
            ca: false,
            extended_key_usage: None,
        };
        while let Some((tag, content, _)) = tbs.element() {
            if tag == der::context(3) {
                extra.parse_extensions(Reader::new(content).enter(der::SEQUENCE)?)?;
            }
        }
        tbs.is_empty().then_some(extra)
    }

    fn parse_extensions(&mut self, mut extensions: Reader<'_>) -> Option<()> {
        while !extensions.is_empty() {
            let mut extension = extensions.enter(der::SEQUENCE)?;
            let oid = extension.take(der::OBJECT_IDENTIFIER)?;
            let _critical = extension.take(der::BOOLEAN);
            let value = extension.take(der::OCTET_STRING)?;
            if oid == OID_BASIC_CONSTRAINTS {
                let mut constraints = Reader::new(value).enter(der::SEQUENCE)?;
                self.ca = constraints.take(der::BOOLEAN) == Some(&[0xff]);
            } else if oid == OID_EXTENDED_KEY_USAGE {
                let mut oids = Vec::new();
                let mut usages = Reader::new(value).enter(der::SEQUENCE)?;
                while !usages.is_empty() {
                    oids.push(usages.take(der::OBJECT_IDENTIFIER)?.to_vec());
                }
                self.extended_key_usage = Some(oids);
            }
        }
        Some(())
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Times outside of what the system can express become its epoch.
pub(crate) fn system_time(time: &Asn1TimeRef) -> SystemTime {
    let since_epoch = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(time)).ok();
    let Some(difference) = since_epoch else {
        return SystemTime::UNIX_EPOCH;
    };
    let seconds = i64::from(difference.days) * 86_400 + i64::from(difference.secs);
    let magnitude = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(magnitude)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(magnitude)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Most alternative names that are looked at.
const MAX_ALT_NAMES: usize = 64;

/// 2.5.29.19
const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// 2.5.29.37
const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// The usages that go with IKE (RFC 4945, 5.1.3.12).
const EXTENDED_KEY_USAGES: [&[u8]; 8] = [
    // anyExtendedKeyUsage
    &[0x55, 0x1d, 0x25, 0x00],
    // id-kp-serverAuth, id-kp-clientAuth
    &[0x2b, 6, 1, 5, 5, 7, 3, 1],
    &[0x2b, 6, 1, 5, 5, 7, 3, 2],
    // id-kp-ipsecIKE
    &[0x2b, 6, 1, 5, 5, 7, 3, 17],
    // ipsecEndSystem, ipsecTunnel, ipsecUser: deprecated, but in use
    &[0x2b, 6, 1, 5, 5, 7, 3, 5],
    &[0x2b, 6, 1, 5, 5, 7, 3, 6],
    &[0x2b, 6, 1, 5, 5, 7, 3, 7],
    // iKEIntermediate: of Internet-Drafts that never became an RFC, but in use
    &[0x2b, 6, 1, 5, 5, 8, 2, 2],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pki::{DAY, Request, now, rsa};

    fn enb() -> Certificate {
        let request = Request {
            dns: vec!["enb1.example.com"],
            email: vec!["enb1@example.com"],
            ip: vec!["192.0.2.1", "2001:db8::1"],
            ..Request::new("enb1")
        };
        request.self_signed().certificate
    }

    #[test]
    fn facts_of_a_certificate() {
        let root = Request::ca("Root").self_signed();
        let leaf = Request {
            key: rsa(2048),
            ..Request::new("enb1")
        }
        .issued_by(&root)
        .certificate;
        assert_eq!(leaf.subject(), "CN=enb1");
        assert_eq!(leaf.issuer(), "CN=Root");
        assert_eq!(leaf.key_type(), "RSA 2048");
        assert_eq!(root.certificate.key_type(), "ECDSA P-256");
        assert_eq!(leaf.not_before(), now() - Duration::from_secs(DAY));
        assert_eq!(leaf.not_after(), now() + Duration::from_secs(DAY));
        assert!(root.certificate.is_ca() && root.certificate.is_self_issued());
        assert!(!leaf.is_ca() && !leaf.is_self_issued());
        assert_eq!(leaf.serial_number().len(), 16);
        let spki = leaf.public_key().unwrap().public_key_to_der().unwrap();
        assert_eq!(leaf.spki_sha1(), sha::sha1(&spki));
    }

    #[test]
    fn times_before_the_epoch_and_far_ahead() {
        let request = Request {
            not_before: 0,
            not_after: 4_102_444_800,
            ..Request::new("old")
        };
        let certificate = request.self_signed().certificate;
        assert_eq!(certificate.not_before(), SystemTime::UNIX_EPOCH);
        assert_eq!(
            certificate.not_after(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800)
        );
    }

    #[test]
    fn identities_are_subject_and_alternative_names() {
        let identities: Vec<String> = enb().identities().iter().map(ToString::to_string).collect();
        assert_eq!(
            identities,
            [
                "DN CN=enb1",
                "FQDN enb1.example.com",
                "RFC822 enb1@example.com",
                "address 192.0.2.1",
                "address 2001:db8::1"
            ]
        );
    }

    #[test]
    fn every_identity_of_the_certificate_is_confirmed_and_no_other() {
        let certificate = enb();
        for identity in certificate.identities() {
            assert_eq!(certificate.check_identity(&identity), Ok(()));
        }
        let claimed = Identity::Fqdn("enb2.example.com".to_owned());
        assert_eq!(
            certificate.check_identity(&claimed).unwrap_err().to_string(),
            "identity mismatch: certificate has DN CN=enb1; FQDN enb1.example.com; RFC822 enb1@example.com; \
             address 192.0.2.1; address 2001:db8::1, peer claims FQDN enb2.example.com"
        );
        // A common name is no host name (RFC 4945, 3.1.2).
        assert!(
            certificate
                .check_identity(&Identity::Fqdn("enb1".to_owned()))
                .is_err()
        );
    }

    #[test]
    fn files_hold_pem_or_der() {
        let root = Request::ca("Root").self_signed();
        let leaf = Request::new("enb1").issued_by(&root);
        let bundle = [b"a comment\n".as_slice(), &leaf.pem, &root.pem].concat();
        let parsed = Certificate::from_file(&bundle).unwrap();
        assert_eq!(parsed, [leaf.certificate.clone(), root.certificate]);
        assert_eq!(
            Certificate::from_file(leaf.certificate.der()).unwrap(),
            [leaf.certificate]
        );
        assert_eq!(
            Certificate::from_file(b"nothing here"),
            Err(Error::NoCertificateInFile)
        );
        assert_eq!(Certificate::from_file(b""), Err(Error::NoCertificateInFile));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            Certificate::from_file(broken),
            Err(Error::Malformed("PEM certificate"))
        );
        assert!(matches!(
            Certificate::from_file(&vec![0; MAX_FILE_LEN + 1]),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn bytes_behind_a_certificate_and_huge_ones_are_refused() {
        let der = enb().der().to_vec();
        assert_eq!(
            Certificate::from_der(&[der.as_slice(), &[0]].concat()),
            Err(Error::Malformed("certificate"))
        );
        assert!(matches!(
            Certificate::from_der(&vec![0x30; MAX_CERTIFICATE_LEN + 1]),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn the_issuing_path_is_ordered_and_without_the_root() {
        let root = Request::ca("Root").self_signed();
        let first = Request::ca("Sub 1").issued_by(&root);
        let second = Request::ca("Sub 2").issued_by(&first);
        let leaf = Request::new("gw").issued_by(&second).certificate;
        let other = Request::ca("Other").self_signed().certificate;
        let pool = [
            root.certificate,
            first.certificate.clone(),
            other,
            second.certificate.clone(),
            leaf.clone(),
        ];
        assert_eq!(
            issuing_path(&leaf, &pool),
            [leaf.clone(), second.certificate, first.certificate]
        );
        assert_eq!(issuing_path(&leaf, &[]), [leaf]);
    }
}
