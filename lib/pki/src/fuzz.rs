//! What the fuzzer and the property tests call. Nothing here may panic, whatever the octets.

use std::time::SystemTime;

use crate::{Certificate, Identity, PrivateKey, TrustAnchors, ValidationPolicy};

/// Parses a certificate, reads everything there is in it, and uses it as a peer's, as an anchor and as an intermediate.
pub fn certificate(der: &[u8]) {
    let Ok(certificate) = Certificate::from_der(der) else {
        return;
    };
    assert_eq!(certificate.der(), der);
    assert!(!certificate.subject().is_empty() && !certificate.issuer().is_empty());
    let _ = (
        certificate.serial_number(),
        certificate.key_type(),
        certificate.is_ca(),
        certificate.is_self_issued(),
    );
    let _ = (certificate.not_before(), certificate.not_after());
    for identity in certificate.identities() {
        assert_eq!(certificate.check_identity(&identity), Ok(()));
        assert!(!identity.to_string().contains(char::is_control));
    }
    for method in [1, 9, 10, 11, 14] {
        assert!(
            certificate
                .verify_auth(method, b"no signature", b"octets")
                .is_err()
        );
    }
    let anchors = TrustAnchors::new(vec![certificate.clone()]);
    let others = [certificate.clone()];
    let _ = anchors.validate(
        &certificate,
        &others,
        SystemTime::UNIX_EPOCH,
        ValidationPolicy::default(),
    );
}

/// Parses an ID payload: one octet of type, then the data.
pub fn identity(payload: &[u8]) {
    let Some((&id_type, data)) = payload.split_first() else {
        return;
    };
    if let Ok(identity) = Identity::from_ike(id_type, data) {
        assert_eq!(identity.ike_type(), id_type);
        assert!(identity.matches(&identity));
        assert!(!identity.to_string().contains(char::is_control));
    }
}

/// Parses the AlgorithmIdentifier of a digital signature (RFC 7427, 3).
pub fn algorithm_identifier(der: &[u8]) {
    if let Ok((algorithm, _)) = crate::algorithm_id::decode(der) {
        let encoded = crate::algorithm_id::encode(algorithm);
        assert_eq!(
            crate::algorithm_id::decode(&encoded).map(|(decoded, _)| decoded),
            Ok(algorithm)
        );
    }
}

/// Parses the files that an operator names: certificates and a private key.
pub fn file(contents: &[u8]) {
    let _ = Certificate::from_file(contents);
    let _ = PrivateKey::from_file(contents, Some(b"pass phrase"));
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use crate::test_pki::{Request, name};

    /// A certificate with everything in it that is looked at.
    fn whole() -> Vec<u8> {
        let request = Request {
            dns: vec!["enb1.example.com"],
            email: vec!["enb1@example.com"],
            ip: vec!["192.0.2.1", "2001:db8::1"],
            extended_key_usage: Some("1.3.6.1.5.5.7.3.17"),
            ..Request::ca("enb1")
        };
        request.self_signed().certificate.der().to_vec()
    }

    fn damage(bytes: &mut Vec<u8>, edits: &[(Index, u8)], cut: Option<Index>) {
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn damaged_certificates(edits in vec((any::<Index>(), any::<u8>()), 0..4), cut in prop::option::of(any::<Index>())) {
            static WHOLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(whole);
            let mut der = WHOLE.clone();
            damage(&mut der, &edits, cut);
            super::certificate(&der);
            super::file(&der);
        }

        #[test]
        fn damaged_names(edits in vec((any::<Index>(), any::<u8>()), 0..4), cut in prop::option::of(any::<Index>())) {
            let mut payload = [vec![9], name("enb1.example.com").to_der().unwrap()].concat();
            damage(&mut payload, &edits, cut);
            super::identity(&payload);
        }

        #[test]
        fn arbitrary_octets(octets in vec(any::<u8>(), 0..300)) {
            super::certificate(&octets);
            super::identity(&octets);
            super::algorithm_identifier(&octets);
            super::file(&octets);
        }
    }
}
