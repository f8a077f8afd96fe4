//! What goes to `certmgr`: signatures to be made and peers to be judged. Many travel in one request, for set-ups come in bursts.

use std::time::Duration;

use bus::messages::certmgr::{Prove, Proved, Sign, Signed, Verified, VerifyPeer};
use bus::{Address, Bus, Facility};
use ikev2::{Answer, Ticket};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::batches;
use crate::questions::Found;

const CERTMGR: Address = Address::only(Facility::Certmgr);
const DEADLINE: Duration = Duration::from_secs(5);
/// Signatures and peers in one request.
const BATCH: usize = 32;
/// Requests that are under way at a time.
const UNDER_WAY: usize = 2;

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
        let prove = move |batch| prove(bus.clone(), batch, found.clone());
        tokio::spawn(batches::run(incoming, BATCH, UNDER_WAY, prove));
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

async fn prove(bus: Bus, batch: Vec<(Ticket, Work)>, found: UnboundedSender<Found>) {
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
    for (ticket, answer) in signatures.chain(verdicts) {
        // The loop is gone only when the process ends.
        let _ = found.send(Found::Answer(ticket, answer));
    }
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
