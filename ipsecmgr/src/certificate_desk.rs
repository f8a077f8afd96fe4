//! What goes to `certmgr`: signatures to be made and peers to be judged. Many travel in one request, for set-ups come in bursts.

use std::time::Duration;

use bus::messages::certmgr::{Prove, Proved, Sign, Signed, Verified, VerifyPeer};
use bus::{Address, Bus, Facility};
use ikev2::{Answer, Ticket};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::batches::{self, Pace};
use crate::questions::Found;

const CERTMGR: Address = Address::only(Facility::Certmgr);
const DEADLINE: Duration = Duration::from_secs(5);
/// Signatures and peers in one request. Another is under way while `certmgr` works on the first.
const PACE: Pace = Pace {
    most: 32,
    under_way: 2,
    patience: Duration::ZERO,
};

/// Takes what goes to `certmgr`. Never waits. Clones are the same.
#[derive(Clone)]
pub(crate) struct CertificateDesk(UnboundedSender<(Ticket, Work)>);

enum Work {
    Sign(Sign),
    Verify(VerifyPeer),
}

impl CertificateDesk {
    /// Starts the desk's task. Answers go to `found`. There is as much work as the engine has questions open, so its queue needs no bound.
    pub(crate) fn start(bus: &Bus, found: UnboundedSender<Found>) -> Self {
        let (work, incoming) = unbounded_channel();
        let bus = bus.clone();
        let ask = move |batch| {
            let (bus, found) = (bus.clone(), found.clone());
            async move {
                for (ticket, answer) in prove(&bus, batch).await {
                    // The loop is gone only when the process ends.
                    let _ = found.send(Found::Answer(ticket, answer));
                }
            }
        };
        tokio::spawn(batches::run(incoming, PACE, ask));
        Self(work)
    }

    /// Has octets signed.
    pub(crate) fn sign(&self, ticket: Ticket, request: Sign) {
        // The task ends only with the process.
        let _ = self.0.send((ticket, Work::Sign(request)));
    }

    /// Has a peer's chain, identity and signature checked.
    pub(crate) fn verify(&self, ticket: Ticket, request: VerifyPeer) {
        let _ = self.0.send((ticket, Work::Verify(request)));
    }
}

/// Has a batch done. One answer for each.
async fn prove<T>(bus: &Bus, batch: Vec<(T, Work)>) -> Vec<(T, Answer)> {
    let (mut signers, mut verifiers, mut request) = (Vec::new(), Vec::new(), Prove::default());
    for (ticket, work) in batch {
        match work {
            Work::Sign(sign) => {
                signers.push(ticket);
                request.sign.push(sign);
            }
            Work::Verify(verify) => {
                verifiers.push(ticket);
                request.verify.push(verify);
            }
        }
    }
    let (proved, failure) = match bus.request(CERTMGR, &request, DEADLINE).await {
        Ok(proved) => (proved, "certmgr gave no answer".to_owned()),
        Err(error) => (Proved::default(), error.to_string()),
    };
    let (mut signed, mut verified) = (proved.signed.into_iter(), proved.verified.into_iter());
    let missing = || Answer::Unavailable(failure.clone());
    let signatures = signers
        .into_iter()
        .map(|ticket| (ticket, signed.next().map_or_else(missing, signature)));
    let verdicts = verifiers
        .into_iter()
        .map(|ticket| (ticket, verified.next().map_or_else(missing, verdict)));
    signatures.chain(verdicts).collect()
}

fn signature(signed: Signed) -> Answer {
    if !signed.failure.is_empty() {
        return Answer::Unavailable(signed.failure);
    }
    match u8::try_from(signed.method) {
        Ok(method) => Answer::Signature {
            method,
            data: signed.data,
        },
        Err(_) => Answer::Unavailable(format!(
            "certmgr signed with the unknown method {}",
            signed.method
        )),
    }
}

fn verdict(verified: Verified) -> Answer {
    match verified.failure.is_empty() {
        true => Answer::Verified(Ok(())),
        false => Answer::Verified(Err(verified.failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use bus::{Hub, dispatch};

    fn sign(name: &str) -> Work {
        Work::Sign(Sign {
            name: name.to_owned(),
            ..Sign::default()
        })
    }

    fn verify(identity: &[u8]) -> Work {
        Work::Verify(VerifyPeer {
            identity: identity.to_vec(),
            ..VerifyPeer::default()
        })
    }

    fn batch() -> Vec<(u32, Work)> {
        vec![
            (1, sign("gw")),
            (2, verify(b"good")),
            (3, sign("absent")),
            (4, verify(b"bad")),
            (5, sign("odd")),
        ]
    }

    /// What is failing, or nothing.
    fn outcome(answer: &Answer) -> String {
        match answer {
            Answer::Signature { method, data } => format!("signed {method} {data:?}"),
            Answer::Verified(Ok(())) => "verified".to_owned(),
            Answer::Verified(Err(reason)) => format!("refused: {reason}"),
            Answer::Unavailable(reason) => format!("unavailable: {reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn everybody_gets_the_answer_to_its_own_question() {
        let hub = Hub::new();
        let (bus, _server) = Bus::in_process(&hub, Address::new(Facility::Ipsecmgr, 1)).unwrap();
        let (_certmgr, mut server) = Bus::in_process(&hub, CERTMGR).unwrap();
        tokio::spawn(async move {
            let mut answered = 0;
            while let Some(incoming) = server.next().await {
                dispatch!(incoming, {
                    Prove => |request, responder| {
                        answered += 1;
                        let failure = |fails: bool| if fails { "no" } else { "" }.to_owned();
                        let signed = request.sign.iter().map(|sign| Signed {
                            method: if sign.name == "odd" { 300 } else { 14 },
                            data: vec![7],
                            failure: failure(sign.name == "absent"),
                        });
                        let verified = request.verify.iter().map(|verify| Verified {
                            failure: failure(verify.identity == b"bad"),
                            subject: String::new(),
                        });
                        // The second time the last ones are missing.
                        let most = if answered == 1 { 5 } else { 1 };
                        responder.reply(Proved {
                            signed: signed.take(most).collect(),
                            verified: verified.take(most).collect(),
                        })
                    },
                });
            }
        });
        let outcomes = async || {
            let mut answers = prove(&bus, batch()).await;
            answers.sort_by_key(|(ticket, _)| *ticket);
            answers
                .iter()
                .map(|(_, answer)| outcome(answer))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            outcomes().await,
            [
                "signed 14 [7]",
                "verified",
                "unavailable: no",
                "refused: no",
                "unavailable: certmgr signed with the unknown method 300"
            ]
        );
        let nothing = "unavailable: certmgr gave no answer";
        assert_eq!(
            outcomes().await,
            ["signed 14 [7]", "verified", nothing, nothing, nothing]
        );
    }
}
