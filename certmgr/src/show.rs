//! `show certificate` and `show ca-certificate`.

use std::fmt::Write;
use std::time::SystemTime;

use bus::Facility;
use bus::messages::common::{Execute, Output};
use config::Exec;
use pki::{Certificate, Identity};

use crate::Error;
use crate::state::{Store, Validity};
use crate::watch::rfc3339;

/// Answers a command of the table.
pub(crate) fn execute(query: &Execute, store: &Store, now: SystemTime) -> Output {
    let name = query.value("name");
    match Exec::from_id(&query.command) {
        Some(Exec::ShowCertificate) => {
            let blocks = store.own.iter().map(|(name, own)| {
                let certificates = own.as_ref().map(|own| own.chain.as_slice());
                let key = own.as_ref().ok().map(|own| own.key.key_type());
                (
                    name.as_str(),
                    block("Certificate Name", name, certificates, key, now),
                )
            });
            pieces(blocks, "certificate", name, &query.cursor)
        }
        Some(Exec::ShowCaCertificate) => {
            let blocks = store.anchors.iter().map(|(name, anchor)| {
                let certificates = anchor.as_ref().map(|anchor| anchor.certificates.as_slice());
                (
                    name.as_str(),
                    block("CA Certificate Name", name, certificates, None, now),
                )
            });
            pieces(blocks, "ca-certificate", name, &query.cursor)
        }
        _ => Output::failed(query.unknown_to(Facility::Certmgr)),
    }
}

/// One piece of the blocks behind the cursor, which is the last name that was shown; or the one block that was asked for.
fn pieces<'a>(
    blocks: impl Iterator<Item = (&'a str, String)>,
    kind: &'static str,
    wanted: Option<&str>,
    cursor: &[u8],
) -> Output {
    let mut output = Output::default();
    if let Some(wanted) = wanted {
        let mut blocks = blocks;
        match blocks.find(|(name, _)| *name == wanted) {
            Some((_, text)) => output.text = text,
            None => {
                output.failure = Error::Unknown {
                    kind,
                    name: wanted.to_owned(),
                }
                .to_string()
            }
        }
        return output;
    }
    for (name, text) in blocks.filter(|(name, _)| cursor.is_empty() || name.as_bytes() > cursor) {
        if output.text.len() + text.len() > PIECE && !output.text.is_empty() {
            output.more = true;
            break;
        }
        output.text.push_str(&text);
        output.cursor = name.as_bytes().to_vec();
    }
    output
}

fn block(
    title: &str,
    name: &str,
    certificates: Result<&[Certificate], &Error>,
    key: Option<String>,
    now: SystemTime,
) -> String {
    let mut text = format!("{title}: {name}\n");
    match certificates {
        Ok(certificates) => {
            for (position, certificate) in certificates.iter().enumerate() {
                if position > 0 {
                    line(
                        &mut text,
                        "Next Certificate",
                        &format!("{} of {}", position + 1, certificates.len()),
                    );
                }
                describe(&mut text, certificate, now);
            }
            if let Some(key) = key {
                line(&mut text, "Private Key", &format!("Loaded ({key})"));
            }
        }
        Err(error) => line(&mut text, "Status", &format!("Unusable: {error}")),
    }
    text.push('\n');
    text
}

fn describe(text: &mut String, certificate: &Certificate, now: SystemTime) {
    line(text, "Status", Validity::of(certificate, now).name());
    line(text, "Subject", &certificate.subject());
    line(text, "Issuer", &certificate.issuer());
    line(text, "Serial Number", &certificate.serial_number());
    line(text, "Valid From", &rfc3339(certificate.not_before()));
    line(text, "Valid Until", &rfc3339(certificate.not_after()));
    line(text, "Public Key", &certificate.key_type());
    let subject = Identity::DistinguishedName(certificate.subject_der());
    for name in certificate.identities().iter().filter(|name| **name != subject) {
        line(text, "Subject Alternative Name", &name.to_string());
    }
}

fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "  {label:<25}: {value}");
}

/// About as much text as one answer holds.
const PIECE: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pki::PrivateKey;

    use super::*;
    use crate::state::{Anchor, Own};
    use crate::test_pki::{Made, after};

    fn ask(store: &Store, command: Exec, name: Option<&str>, cursor: Vec<u8>) -> Output {
        let parameters: Vec<_> = name.map(|name| ("name", name)).into_iter().collect();
        let query = Execute {
            cursor,
            ..Execute::new(command.id(), &parameters)
        };
        execute(&query, store, after(10))
    }

    fn store() -> Store {
        let root = Made::root("Root");
        let leaf = Made::leaf_for("gw.test", &root, 20);
        let mut store = Store::default();
        let own = Own {
            chain: pki::Certificate::from_file(&leaf.certificate_pem()).unwrap(),
            key: Arc::new(PrivateKey::from_file(&leaf.key_pem(), None).unwrap()),
        };
        store.own.insert("gw".to_owned(), Ok(own));
        store.own.insert("broken".to_owned(), Err(Error::NoPrivateKey));
        for number in 0..100 {
            let certificates = pki::Certificate::from_file(&root.certificate_pem()).unwrap();
            store
                .anchors
                .insert(format!("root{number:03}"), Ok(Anchor { certificates }));
        }
        store
    }

    #[test]
    fn a_certificate_is_described() {
        let output = ask(&store(), Exec::ShowCertificate, Some("gw"), Vec::new());
        for expected in [
            "Certificate Name: gw\n",
            "  Status                   : Valid (expires soon)\n",
            "  Subject                  : CN=gw.test\n",
            "  Issuer                   : CN=Root\n",
            "  Valid From               : 2026-01-01T00:00:00Z\n",
            "  Valid Until              : 2026-01-21T00:00:00Z\n",
            "  Public Key               : ECDSA P-256\n",
            "  Subject Alternative Name : FQDN gw.test\n",
            "  Private Key              : Loaded (ECDSA P-256)\n",
        ] {
            assert!(
                output.text.contains(expected),
                "{expected:?} is missing in\n{}",
                output.text
            );
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let output = ask(&store(), Exec::ShowCertificate, Some("broken"), Vec::new());
        assert!(
            output.text.contains("Unusable: no private key is configured"),
            "{}",
            output.text
        );
        let output = ask(&store(), Exec::ShowCertificate, Some("absent"), Vec::new());
        assert_eq!(output.failure, "certificate absent is not configured");
        let output = ask(&store(), Exec::ShowBulkstats, None, Vec::new());
        assert_eq!(output.failure, "'show bulkstats' is not answered by certmgr");
    }

    #[test]
    fn long_lists_come_in_pieces_without_gaps() {
        let store = store();
        let (mut text, mut cursor, mut pieces) = (String::new(), Vec::new(), 0);
        loop {
            let output = ask(&store, Exec::ShowCaCertificate, None, cursor);
            assert!(output.text.len() <= PIECE);
            text.push_str(&output.text);
            cursor = output.cursor;
            pieces += 1;
            if !output.more {
                break;
            }
        }
        assert!(pieces > 1);
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("CA Certificate Name: "))
            .collect();
        let expected: Vec<_> = store.anchors.keys().map(String::as_str).collect();
        assert_eq!(names, expected);
    }
}
