//! Chains that hold and chains that do not.

use std::time::Duration;

use openssl::hash::MessageDigest;
use openssl::x509::extension::KeyUsage;

use super::*;
use crate::test_pki::{DAY, Issued, NOW, Request, now, rsa};

fn validate(leaf: &Issued, others: &[&Issued], anchors: &[&Issued]) -> Result<ValidChain, Error> {
    validate_at(leaf, others, anchors, now(), ValidationPolicy::default())
}

fn validate_at(
    leaf: &Issued,
    others: &[&Issued],
    anchors: &[&Issued],
    now: SystemTime,
    policy: ValidationPolicy,
) -> Result<ValidChain, Error> {
    let certificates = |list: &[&Issued]| list.iter().map(|i| i.certificate.clone()).collect::<Vec<_>>();
    TrustAnchors::new(certificates(anchors)).validate(&leaf.certificate, &certificates(others), now, policy)
}

fn key_usage(set: fn(&mut KeyUsage) -> &mut KeyUsage) -> KeyUsage {
    let mut usage = KeyUsage::new();
    set(&mut usage);
    usage
}

fn subject(name: &str) -> String {
    format!("CN={name}")
}

#[test]
fn direct_and_through_intermediates_in_any_order() {
    let root = Request::ca("Root").self_signed();
    let sub = Request::ca("Sub").issued_by(&root);
    let subsub = Request::ca("Subsub").issued_by(&sub);
    let direct = Request::new("a").issued_by(&root);
    let deep = Request::new("b").issued_by(&subsub);
    assert_eq!(
        validate(&direct, &[], &[&root]),
        Ok(ValidChain {
            len: 2,
            anchor: subject("Root")
        })
    );
    let four = Ok(ValidChain {
        len: 4,
        anchor: subject("Root"),
    });
    assert_eq!(validate(&deep, &[&subsub, &sub], &[&root]), four);
    assert_eq!(validate(&deep, &[&root, &sub, &subsub, &direct], &[&root]), four);
}

#[test]
fn an_intermediate_can_be_the_anchor() {
    let root = Request::ca("Root").self_signed();
    let sub = Request::ca("Sub").issued_by(&root);
    let leaf = Request::new("a").issued_by(&sub);
    assert_eq!(
        validate(&leaf, &[], &[&sub]),
        Ok(ValidChain {
            len: 2,
            anchor: subject("Sub")
        })
    );
}

#[test]
fn the_length_limit_counts_all_certificates() {
    let root = Request::ca("Root").self_signed();
    let a = Request::ca("A").issued_by(&root);
    let b = Request::ca("B").issued_by(&a);
    let leaf = Request::new("leaf").issued_by(&b);
    for (limit, fits) in [(2, false), (3, false), (4, true), (5, true)] {
        let policy = ValidationPolicy { max_chain_len: limit };
        let result = validate_at(&leaf, &[&a, &b], &[&root], now(), policy);
        assert_eq!(result.is_ok(), fits, "{limit}: {result:?}");
        if !fits {
            assert_eq!(result, Err(Error::ChainTooLong { limit }));
        }
    }
}

#[test]
fn unknown_issuers_are_named() {
    let root = Request::ca("Root").self_signed();
    let other = Request::ca("Other").self_signed();
    let sub = Request::ca("Sub").issued_by(&root);
    let leaf = Request::new("enb1").issued_by(&sub);
    let refused = validate(&leaf, &[], &[&root]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "unknown issuer CN=Sub of the certificate of CN=enb1"
    );
    let refused = validate(&leaf, &[&sub], &[&other]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "unknown issuer CN=Root of the certificate of CN=Sub"
    );
    let refused = validate(&leaf, &[&sub, &root], &[&other]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "self-signed certificate of CN=Root is not a configured CA certificate"
    );
    let lonely = Request::new("lonely").self_signed();
    let refused = validate(&lonely, &[], &[&root]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "self-signed certificate of CN=lonely is not a configured CA certificate"
    );
    assert_eq!(validate(&leaf, &[&sub], &[]), Err(Error::NoTrustAnchor));
}

#[test]
fn a_ca_of_the_same_name_but_another_key_is_not_the_issuer() {
    let root = Request::ca("Root").self_signed();
    let impostor = Request::ca("Root").self_signed();
    let leaf = Request::new("enb1").issued_by(&impostor);
    assert_eq!(
        validate(&leaf, &[], &[&root]),
        Err(Error::BadCertificateSignature {
            subject: subject("enb1"),
            issuer: subject("Root")
        })
    );
}

#[test]
fn validity_of_every_certificate_is_checked_at_the_given_time() {
    let root = Request {
        not_after: NOW + 10 * DAY,
        ..Request::ca("Root")
    }
    .self_signed();
    let sub = Request {
        not_after: NOW + 5 * DAY,
        ..Request::ca("Sub")
    }
    .issued_by(&root);
    let leaf = Request {
        not_before: NOW,
        not_after: NOW + DAY,
        ..Request::new("enb1")
    }
    .issued_by(&sub);
    let at = |seconds| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        validate_at(&leaf, &[&sub], &[&root], now, ValidationPolicy::default())
    };
    assert!(at(NOW).is_ok());
    assert!(at(NOW + DAY - 1).is_ok());
    assert_eq!(
        at(NOW - 1).unwrap_err().to_string(),
        "certificate of CN=enb1 is not valid before Jun  1 00:00:00 2026 GMT"
    );
    assert_eq!(
        at(NOW + DAY + 1).unwrap_err().to_string(),
        "certificate of CN=enb1 expired on Jun  2 00:00:00 2026 GMT"
    );

    let long = Request {
        not_after: NOW + 20 * DAY,
        ..Request::new("enb2")
    }
    .issued_by(&sub);
    let at = |seconds| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        validate_at(&long, &[&sub], &[&root], now, ValidationPolicy::default())
    };
    assert!(matches!(at(NOW + 6 * DAY), Err(Error::Expired { subject, .. }) if subject == "CN=Sub"));
    assert!(matches!(at(NOW + 11 * DAY), Err(Error::Expired { subject, .. }) if subject == "CN=Root"));
}

#[test]
fn an_issuer_must_be_a_ca() {
    let root = Request::ca("Root").self_signed();
    let not_ca = Request::new("enb1").issued_by(&root);
    let leaf = Request::new("enb2").issued_by(&not_ca);
    assert_eq!(
        validate(&leaf, &[&not_ca], &[&root]),
        Err(Error::NotCa {
            subject: subject("enb1")
        })
    );
}

#[test]
fn path_length_constraints_hold() {
    let root = Request {
        path_len: Some(0),
        ..Request::ca("Root")
    }
    .self_signed();
    let sub = Request::ca("Sub").issued_by(&root);
    let leaf = Request::new("enb1").issued_by(&sub);
    assert!(matches!(
        validate(&leaf, &[&sub], &[&root]),
        Err(Error::Chain { .. })
    ));
}

#[test]
fn weak_keys_and_hashes_are_refused() {
    let root = Request::ca("Root").self_signed();
    let small = Request {
        key: rsa(1024),
        ..Request::new("small")
    }
    .issued_by(&root);
    let sha1 = Request {
        digest: MessageDigest::sha1(),
        ..Request::new("sha1")
    }
    .issued_by(&root);
    for leaf in [&small, &sha1] {
        assert!(
            matches!(validate(leaf, &[], &[&root]), Err(Error::Weak { subject: s, .. }) if s == subject(leaf.name))
        );
    }
}

#[test]
fn key_usage_must_allow_signatures() {
    let root = Request::ca("Root").self_signed();
    let with = |usage| {
        Request {
            key_usage: Some(usage),
            ..Request::new("enb1")
        }
        .issued_by(&root)
    };
    let signing = with(key_usage(KeyUsage::digital_signature));
    assert!(validate(&signing, &[], &[&root]).is_ok());
    let agreement = with(key_usage(KeyUsage::key_agreement));
    assert_eq!(
        validate(&agreement, &[], &[&root]),
        Err(Error::KeyUsage {
            subject: subject("enb1")
        })
    );
}

#[test]
fn extended_key_usage_must_fit_if_present() {
    let root = Request::ca("Root").self_signed();
    let with = |oid| {
        Request {
            extended_key_usage: Some(oid),
            ..Request::new("enb1")
        }
        .issued_by(&root)
    };
    for oid in [
        "1.3.6.1.5.5.7.3.17",
        "1.3.6.1.5.5.7.3.1",
        "1.3.6.1.5.5.7.3.2",
        "2.5.29.37.0",
        "1.3.6.1.5.5.8.2.2",
    ] {
        assert!(validate(&with(oid), &[], &[&root]).is_ok(), "{oid}");
    }
    for oid in ["1.3.6.1.5.5.7.3.3", "1.3.6.1.5.5.7.3.9"] {
        assert_eq!(
            validate(&with(oid), &[], &[&root]),
            Err(Error::ExtendedKeyUsage {
                subject: subject("enb1")
            }),
            "{oid}"
        );
    }
}

#[test]
fn unknown_critical_extensions_are_refused() {
    let root = Request::ca("Root").self_signed();
    let leaf = Request {
        unknown_critical_extension: true,
        ..Request::new("enb1")
    }
    .issued_by(&root);
    assert!(matches!(validate(&leaf, &[], &[&root]), Err(Error::Chain { .. })));
}

#[test]
fn too_many_certificates_are_refused() {
    let root = Request::ca("Root").self_signed();
    let leaf = Request::new("enb1").issued_by(&root);
    let others = vec![&leaf; MAX_PEER_CERTIFICATES];
    assert!(matches!(
        validate(&leaf, &others, &[&root]),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn certreq_hashes_are_of_the_anchors_keys() {
    let (a, b) = (Request::ca("A").self_signed(), Request::ca("B").self_signed());
    let anchors = TrustAnchors::new(vec![a.certificate.clone(), b.certificate.clone()]);
    assert_eq!(
        anchors.certreq_hashes(),
        [a.certificate.spki_sha1(), b.certificate.spki_sha1()]
    );
    assert_eq!(anchors.certificates().len(), 2);
}
