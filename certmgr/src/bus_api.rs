//! What this task serves on the bus.

use std::sync::Arc;
use std::time::SystemTime;

use bus::messages::certmgr::{
    CertificateChain, GetCertificate, GetTrust, Prove, Sign, Signed, Trust, Verified, VerifyPeer,
};
use bus::messages::common::Execute;
use bus::{Incoming, RefusalCode, Responder, dispatch};
use pki::{Certificate, PeerProof, ValidationPolicy};
use telemetry::events::{self, PeerCertificateRefused};

use crate::batch::Batch;
use crate::pool::{Job, Pool, job};
use crate::show;
use crate::state::Store;

/// Answers one request, now or from the pool.
pub(crate) fn serve(incoming: Incoming, store: &Store, pool: &Pool) {
    dispatch!(incoming, {
        GetCertificate => |query, responder| responder.reply(certificate(&query, store)),
        GetTrust => |query, responder| responder.reply(trust(&query, store)),
        Prove => |query, responder| prove(query, responder, store, pool),
        Execute => |query, responder| responder.reply(show::execute(&query, store, SystemTime::now())),
    });
}

fn certificate(query: &GetCertificate, store: &Store) -> CertificateChain {
    match store.own(&query.name) {
        Ok(own) => CertificateChain {
            certificates: own
                .chain
                .iter()
                .map(|certificate| certificate.der().to_vec())
                .collect(),
            subject: own
                .chain
                .first()
                .map(Certificate::subject_der)
                .unwrap_or_default(),
            failure: String::new(),
        },
        Err(failure) => CertificateChain {
            failure,
            ..CertificateChain::default()
        },
    }
}

fn trust(query: &GetTrust, store: &Store) -> Trust {
    let trusted = store.trusted(&query.names);
    Trust {
        hashes: trusted
            .anchors
            .certreq_hashes()
            .iter()
            .map(|hash| hash.to_vec())
            .collect(),
        failure: trusted.missing.clone(),
    }
}

/// Has the pool do all of it, or nothing.
fn prove(query: Prove, responder: Responder<Prove>, store: &Store, pool: &Pool) {
    if !pool.has_room(query.sign.len() + query.verify.len()) {
        return responder.refuse(RefusalCode::Busy, TOO_BUSY);
    }
    let batch = Batch::new(query.sign.len(), query.verify.len(), responder);
    let sign = query.sign.into_iter().enumerate();
    let sign = sign.filter_map(|(place, query)| sign_job(place, query, &batch, store));
    let verify = query.verify.into_iter().enumerate();
    let verify = verify.filter_map(|(place, query)| verify_job(place, query, &batch, store));
    pool.submit(sign.chain(verify).collect());
}

/// The making of a signature; `None` if there is no key for it, which is the answer.
fn sign_job(place: usize, query: Sign, batch: &Arc<Batch>, store: &Store) -> Option<Job> {
    let key = match store.own(&query.name) {
        Ok(own) => own.key.clone(),
        Err(failure) => {
            let signed = Signed {
                failure,
                ..Signed::default()
            };
            batch.signed(place, signed);
            return None;
        }
    };
    let batch = batch.clone();
    Some(job(move || {
        let hashes: Vec<u16> = query
            .hashes
            .iter()
            .filter_map(|&hash| u16::try_from(hash).ok())
            .collect();
        let signed = key
            .scheme_for(&hashes)
            .and_then(|scheme| key.sign_auth(scheme, &query.octets));
        let signed = match signed {
            Ok(signature) => Signed {
                method: signature.method.into(),
                data: signature.data,
                failure: String::new(),
            },
            Err(error) => {
                let failure = format!("certificate {}: {error}", query.name);
                tracing::warn!(
                    spi = format_args!("{:016x}", query.ike_spi),
                    "cannot sign: {failure}"
                );
                Signed {
                    failure,
                    ..Signed::default()
                }
            }
        };
        move || batch.signed(place, signed)
    }))
}

/// The judging of a peer; `None` if there is no anchor at all, which is the answer.
fn verify_job(place: usize, query: VerifyPeer, batch: &Arc<Batch>, store: &Store) -> Option<Job> {
    let trusted = store.trusted(&query.anchors);
    if trusted.anchors.certificates().is_empty() && !trusted.missing.is_empty() {
        let verified = Verified {
            failure: trusted.missing.clone(),
            subject: String::new(),
        };
        batch.verified(place, verified);
        return None;
    }
    let (known, batch) = (store.known.clone(), batch.clone());
    Some(job(move || {
        let proof = PeerProof {
            certificates: &query.certificates,
            // Numbers that do not fit into a byte are no types or methods either; 0 is reserved in both.
            identity_type: u8::try_from(query.identity_type).unwrap_or(0),
            identity: &query.identity,
            method: u8::try_from(query.method).unwrap_or(0),
            data: &query.data,
            octets: &query.octets,
        };
        let policy = ValidationPolicy::default();
        let verified = known.verify(proof, &trusted.anchors, SystemTime::now(), policy);
        let verified = match verified {
            Ok(peer) => Verified {
                failure: String::new(),
                subject: peer.subject,
            },
            Err(error) => refused(&query, error.to_string()),
        };
        move || batch.verified(place, verified)
    }))
}

fn refused(query: &VerifyPeer, reason: String) -> Verified {
    let leaf = query
        .certificates
        .first()
        .and_then(|der| Certificate::from_der(der).ok());
    let subject = leaf.map_or_else(|| "(none)".to_owned(), |leaf| leaf.subject());
    events::emit(&PeerCertificateRefused {
        subject: &subject,
        reason: &reason,
    });
    Verified {
        failure: reason,
        subject,
    }
}

const TOO_BUSY: &str = "too many signatures are waiting";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bus::messages::certmgr::Proved;
    use bus::{Address, Bus, BusError, Facility, Hub, Request};
    use pki::PrivateKey;

    use super::*;
    use crate::state::{Anchor, Own};
    use crate::test_pki::Made;

    const CERTMGR: Address = Address::only(Facility::Certmgr);

    /// A node with the certificate `gw` and the anchor `root`, as `ipsecmgr` sees it.
    struct Scene {
        bus: Bus,
        root: Made,
        gw: Made,
    }

    impl Scene {
        fn new(pool: Pool) -> Self {
            let root = Made::root("Root");
            let gw = Made::leaf("gw.test", &root);
            let mut store = Store::default();
            let own = Own {
                chain: Certificate::from_file(&gw.certificate_pem()).unwrap(),
                key: Arc::new(PrivateKey::from_file(&gw.key_pem(), None).unwrap()),
            };
            store.own.insert("gw".to_owned(), Ok(own));
            let certificates = Certificate::from_file(&root.certificate_pem()).unwrap();
            store
                .anchors
                .insert("root".to_owned(), Ok(Anchor { certificates }));
            let hub = Hub::new();
            let (_, mut server) = Bus::in_process(&hub, CERTMGR).unwrap();
            tokio::spawn(async move {
                while let Some(incoming) = server.next().await {
                    serve(incoming, &store, &pool);
                }
            });
            let bus = Bus::in_process_client(&hub, Address::new(Facility::Ipsecmgr, 1));
            Self { bus, root, gw }
        }

        async fn ask<R: Request>(&self, request: R) -> Result<R::Reply, BusError> {
            self.bus.request(CERTMGR, &request, Duration::from_secs(5)).await
        }

        async fn prove(&self, sign: Sign) -> Signed {
            let sign = vec![sign];
            let proved = self.ask(Prove { sign, verify: vec![] }).await.unwrap();
            proved.signed[0].clone()
        }

        async fn verify(&self, verify: VerifyPeer) -> Verified {
            let verify = vec![verify];
            let proved = self.ask(Prove { sign: vec![], verify }).await.unwrap();
            proved.verified[0].clone()
        }

        async fn sign(&self, hashes: Vec<u32>) -> Signed {
            let sign = Sign {
                name: "gw".to_owned(),
                octets: b"octets".to_vec(),
                hashes,
                ike_spi: 1,
            };
            self.prove(sign).await
        }

        fn proof(&self, signed: &Signed) -> VerifyPeer {
            VerifyPeer {
                certificates: vec![self.gw.certificate_der()],
                anchors: vec!["root".to_owned()],
                identity_type: 2,
                identity: b"gw.test".to_vec(),
                method: signed.method,
                data: signed.data.clone(),
                octets: b"octets".to_vec(),
            }
        }
    }

    fn pool() -> Pool {
        Pool::new(1, 8).unwrap()
    }

    #[tokio::test]
    async fn the_certificate_and_the_trust_of_a_template() {
        let scene = Scene::new(pool());
        let chain = scene
            .ask(GetCertificate {
                name: "gw".to_owned(),
            })
            .await
            .unwrap();
        assert_eq!(chain.certificates, [scene.gw.certificate_der()]);
        assert_eq!(
            chain.subject,
            Certificate::from_der(&chain.certificates[0])
                .unwrap()
                .subject_der()
        );
        assert_eq!(chain.failure, "");

        let names = vec!["root".to_owned(), "absent".to_owned()];
        let trust = scene.ask(GetTrust { names }).await.unwrap();
        let root = Certificate::from_der(&scene.root.certificate_der()).unwrap();
        assert_eq!(trust.hashes, [root.spki_sha1().to_vec()]);
        assert_eq!(trust.failure, "ca-certificate absent is not configured");
    }

    #[tokio::test]
    async fn a_signature_verifies_by_either_kind_of_method() {
        let scene = Scene::new(pool());
        for (hashes, method) in [(vec![], 9), (vec![2, 3, 4], 14)] {
            let signed = scene.sign(hashes).await;
            assert_eq!((signed.method, signed.failure.as_str()), (method, ""));
            let verified = scene.verify(scene.proof(&signed)).await;
            assert_eq!(
                (verified.failure.as_str(), verified.subject.as_str()),
                ("", "CN=gw.test")
            );
        }
    }

    #[tokio::test]
    async fn many_are_answered_in_order() {
        let scene = Scene::new(Pool::new(2, 64).unwrap());
        let good = scene.proof(&scene.sign(vec![2]).await);
        let bad = VerifyPeer {
            octets: b"other".to_vec(),
            ..good.clone()
        };
        let sign = |number: u8| Sign {
            name: if number.is_multiple_of(3) { "absent" } else { "gw" }.to_owned(),
            octets: vec![number],
            hashes: vec![2],
            ike_spi: 1,
        };
        let query = Prove {
            sign: (0..30).map(sign).collect(),
            verify: (0..30)
                .map(|number| {
                    if number % 7 == 0 {
                        bad.clone()
                    } else {
                        good.clone()
                    }
                })
                .collect(),
        };
        let proved = scene.ask(query).await.unwrap();
        let failed: Vec<bool> = proved.signed.iter().map(|one| !one.failure.is_empty()).collect();
        assert_eq!(failed, (0..30).map(|number| number % 3 == 0).collect::<Vec<_>>());
        let failed: Vec<bool> = proved
            .verified
            .iter()
            .map(|one| !one.failure.is_empty())
            .collect();
        assert_eq!(failed, (0..30).map(|number| number % 7 == 0).collect::<Vec<_>>());
        for (number, signed) in (0u8..).zip(&proved.signed) {
            if signed.failure.is_empty() {
                let octets = vec![number];
                let proof = VerifyPeer {
                    octets,
                    ..scene.proof(signed)
                };
                assert_eq!(scene.verify(proof).await.failure, "");
            }
        }
        assert_eq!(scene.ask(Prove::default()).await.unwrap(), Proved::default());
    }

    #[tokio::test]
    async fn a_proof_that_does_not_hold_is_refused_with_the_reason() {
        let scene = Scene::new(pool());
        let proof = scene.proof(&scene.sign(vec![2]).await);
        let stranger = Made::leaf("gw.test", &Made::root("Stranger"));
        let cases = [
            (
                VerifyPeer {
                    identity: b"other.test".to_vec(),
                    ..proof.clone()
                },
                "identity mismatch",
            ),
            (
                VerifyPeer {
                    octets: b"other".to_vec(),
                    ..proof.clone()
                },
                "signature was not made",
            ),
            (
                VerifyPeer {
                    certificates: vec![],
                    ..proof.clone()
                },
                "peer sent no certificate",
            ),
            (
                VerifyPeer {
                    certificates: vec![b"junk".to_vec()],
                    ..proof.clone()
                },
                "certificate is malformed",
            ),
            (
                VerifyPeer {
                    certificates: vec![stranger.certificate_der()],
                    ..proof.clone()
                },
                "unknown issuer",
            ),
            (
                VerifyPeer {
                    anchors: vec![],
                    ..proof.clone()
                },
                "no CA certificate is configured",
            ),
            (
                VerifyPeer {
                    anchors: vec!["absent".to_owned()],
                    ..proof.clone()
                },
                "absent is not configured",
            ),
            (
                VerifyPeer {
                    method: 2,
                    ..proof.clone()
                },
                "authentication method 2",
            ),
            (
                VerifyPeer {
                    method: 256 + 14,
                    ..proof.clone()
                },
                "authentication method 0",
            ),
            (
                VerifyPeer {
                    identity_type: 256 + 2,
                    ..proof.clone()
                },
                "identity type 0",
            ),
        ];
        for (proof, expected) in cases {
            let verified = scene.verify(proof).await;
            assert!(
                verified.failure.contains(expected),
                "{:?} does not contain {expected:?}",
                verified.failure
            );
        }
    }

    #[tokio::test]
    async fn what_cannot_be_signed_is_explained() {
        let scene = Scene::new(pool());
        assert!(
            scene
                .sign(vec![1])
                .await
                .failure
                .contains("peer supports no hash algorithm")
        );
        let sign = Sign {
            name: "absent".to_owned(),
            ..Sign::default()
        };
        assert_eq!(
            scene.prove(sign).await.failure,
            "certificate absent is not configured"
        );
    }

    #[tokio::test]
    async fn a_full_pool_refuses_at_once() {
        let scene = Scene::new(Pool::new(1, 0).unwrap());
        let sign = Sign {
            name: "gw".to_owned(),
            ..Sign::default()
        };
        let sign = vec![sign];
        let refused = scene.ask(Prove { sign, verify: vec![] }).await.unwrap_err();
        assert!(
            matches!(
                refused,
                BusError::Refused {
                    code: RefusalCode::Busy,
                    ..
                }
            ),
            "{refused:?}"
        );
        // What needs no signature is still answered.
        assert!(
            scene
                .ask(GetCertificate {
                    name: "gw".to_owned()
                })
                .await
                .is_ok()
        );
    }
}
