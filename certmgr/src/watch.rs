//! Watching the node's own certificates grow old.

use std::collections::HashMap;
use std::time::SystemTime;

use pki::Certificate;
use telemetry::events::{self, CertExpired, CertShortLifetime, CertValid, CertificateUnusable};
use telemetry::time::Civil;

use crate::state::{Store, Validity};

/// What was last told of each certificate, so that it is told once.
#[derive(Default)]
pub(crate) struct Watch {
    told: HashMap<String, Told>,
}

#[derive(PartialEq, Eq)]
enum Told {
    Life(String, Validity),
    Unusable(String),
}

impl Watch {
    /// Tells what has changed since the last look.
    pub(crate) fn look(&mut self, store: &Store, now: SystemTime) {
        let mut told = HashMap::new();
        for (name, own) in &store.own {
            let news = match own {
                Ok(own) => {
                    let Some(leaf) = own.chain.first() else { continue };
                    Told::Life(leaf.serial_number(), Validity::of(leaf, now))
                }
                Err(error) => Told::Unusable(error.to_string()),
            };
            if self.told.get(name) != Some(&news) {
                tell(name, &news, own.as_ref().ok().and_then(|own| own.chain.first()));
            }
            told.insert(name.clone(), news);
        }
        for (name, error) in store
            .anchors
            .iter()
            .filter_map(|(name, anchor)| Some((name, anchor.as_ref().err()?)))
        {
            let key = format!("ca-certificate {name}");
            let news = Told::Unusable(error.to_string());
            if self.told.get(&key) != Some(&news) {
                tell(name, &news, None);
            }
            told.insert(key, news);
        }
        self.told = told;
    }
}

fn tell(name: &str, news: &Told, certificate: Option<&Certificate>) {
    match (news, certificate) {
        (Told::Life(serial, validity), Some(certificate)) => {
            let issuer = certificate.issuer();
            let expiry = rfc3339(certificate.not_after());
            let (issuer, expiry) = (issuer.as_str(), expiry.as_str());
            match validity {
                Validity::Valid => events::emit(&CertValid {
                    name,
                    serial,
                    issuer,
                    expiry,
                }),
                Validity::Short => events::emit(&CertShortLifetime {
                    name,
                    serial,
                    issuer,
                    expiry,
                }),
                Validity::Expired => events::emit(&CertExpired {
                    name,
                    serial,
                    issuer,
                    expiry,
                }),
                Validity::Future => {
                    let from = rfc3339(certificate.not_before());
                    let reason = format!("it is not valid before {from}");
                    events::emit(&CertificateUnusable {
                        name,
                        reason: &reason,
                    });
                }
            }
        }
        (Told::Unusable(reason), _) => events::emit(&CertificateUnusable { name, reason }),
        (Told::Life(..), None) => {}
    }
}

/// A time in UTC as in RFC 3339, e.g. `2026-06-01T12:00:00Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = Civil::utc(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use pki::PrivateKey;

    use super::*;
    use crate::Error;
    use crate::state::Own;
    use crate::test_pki::{Made, after};

    #[test]
    fn each_stage_of_a_life_is_told_once() {
        static TOLD: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());
        events::install(Arc::new(|record: events::Record| {
            TOLD.lock().unwrap().push((record.event.id, record.text));
        }));
        let told = || std::mem::take(&mut *TOLD.lock().unwrap());
        let root = Made::root("Root");
        let leaf = Made::leaf_for("gw.test", &root, 100);
        let mut store = Store::default();
        let own = Own {
            chain: Certificate::from_file(&leaf.certificate_pem()).unwrap(),
            key: Arc::new(PrivateKey::from_file(&leaf.key_pem(), None).unwrap()),
        };
        store.own.insert("gw".to_owned(), Ok(own));
        let mut watch = Watch::default();
        let mut ids = Vec::new();
        for day in [1, 2, 69, 71, 72, 99, 101, 200] {
            watch.look(&store, after(day));
            ids.extend(told().into_iter().map(|(id, _)| (day, id)));
        }
        assert_eq!(
            ids,
            [(1, "CertValid"), (71, "CertShortLifetime"), (101, "CertExpired")]
        );

        store.own.insert("gw".to_owned(), Err(Error::NoPrivateKey));
        store
            .anchors
            .insert("root".to_owned(), Err(Error::Url("http://host/".to_owned())));
        watch.look(&store, after(1));
        watch.look(&store, after(1));
        let texts: Vec<String> = told().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("certificate gw cannot be used: no private key"));
        assert!(texts[1].starts_with("certificate root cannot be used: http://host/ is not a local file"));
    }
}
