//! Questions of the engine that other processes answer: each in a task of its own or together with others, its answer a message to the loop.

use std::time::Duration;

use bus::link::Links;
use bus::messages::aaamgr::{EapAnswer, EapRound};
use bus::messages::certmgr::{Sign, VerifyPeer};
use bus::messages::sessmgr::{Authorization, Verdict};
use bus::messages::slots::HandOverSlots;
use bus::{Address, Bus, Facility, Responder};
use config::SecretText;
use crypto::Secret;
use ikev2::{Answer, EapStep, IkeSaId, Ticket, UserName};
use sadb::SegmentFds;
use services::DisconnectReason;
use services::wsg::Wsg;
use tokio::sync::mpsc::UnboundedSender;

use crate::certificate_desk::CertificateDesk;
use crate::moves::Opened;
use crate::secrets;
use crate::session_desk::Asked;

const AAAMGR: Address = Address::only(Facility::Aaamgr);
/// To be told that a conversation is over.
const ABANDON_DEADLINE: Duration = Duration::from_secs(5);
/// RADIUS may have to try several servers.
const EAP_DEADLINE: Duration = Duration::from_secs(30);

/// What a task found out.
pub(crate) enum Found {
    /// An answer for the engine.
    Answer(Ticket, Answer),
    /// Pre-shared keys, to be kept; then the question can be answered.
    Secrets(Ticket, KeysWanted, Vec<(SecretText, Result<Secret, String>)>),
    /// The keys that the configuration refers to.
    Prefetched(SecretText, Secret),
    /// A step of EAP.
    Eap {
        ticket: Ticket,
        answer: Answer,
        authorization: Option<Authorization>,
        method: u32,
    },
    /// The routes of these child SAs stand.
    Routed(Vec<u32>),
    /// What `sessmgr` decided, or why it did not, of each that was asked for together.
    Verdicts(Vec<(Asked, Result<Verdict, String>)>),
    /// `sessmgr` knows these IKE SAs by their new names.
    Renamed(Vec<u64>),
    /// `sessmgr` does not know these, which outlived the last life.
    Unknown(Vec<u64>),
    /// The segments of a slot that is to be taken over, and by which map it is ours, or why there are none.
    Opened(u8, Result<(Opened, SegmentFds), String>),
    /// What others are to hear of slots is delivered: they can go.
    LetGo(HandOverSlots, Responder<HandOverSlots>),
}

impl Found {
    /// How many verdicts these are.
    pub(crate) fn verdicts(&self) -> usize {
        match self {
            Self::Verdicts(verdicts) => verdicts.len(),
            _ => 0,
        }
    }
}

/// Which keys answer a question for pre-shared keys; `None` where none is wanted or none is configured.
#[derive(Clone)]
pub(crate) struct KeysWanted {
    /// Proves the peer.
    pub(crate) remote: Option<SecretText>,
    /// Proves us.
    pub(crate) local: Option<SecretText>,
}

/// Asks other processes. Clones are the same. Where answers go is unbounded, for the engine bounds how many questions are open.
#[derive(Clone)]
pub(crate) struct Asker {
    certificates: CertificateDesk,
    pub(crate) bus: Bus,
    links: Links,
    pub(crate) found: UnboundedSender<Found>,
}

impl Asker {
    /// Asks over these; answers go to `found`.
    pub(crate) fn new(bus: &Bus, links: &Links, found: &UnboundedSender<Found>) -> Self {
        Self {
            certificates: CertificateDesk::start(bus, found.clone()),
            bus: bus.clone(),
            links: links.clone(),
            found: found.clone(),
        }
    }

    /// Reveals `missing` keys, then answers.
    pub(crate) fn secrets(&self, ticket: Ticket, wanted: KeysWanted, missing: Vec<SecretText>) {
        let this = self.clone();
        tokio::spawn(async move {
            let mut revealed = Vec::with_capacity(missing.len());
            for sealed in missing {
                let plain = secrets::reveal(&this.links, &sealed).await;
                revealed.push((sealed, plain));
            }
            this.tell(Found::Secrets(ticket, wanted, revealed));
        });
    }

    /// Reveals keys before anybody asks for them. Those that cannot be revealed now are asked for again when they are needed.
    pub(crate) fn prefetch(&self, sealed: Vec<SecretText>) {
        let this = self.clone();
        tokio::spawn(async move {
            for sealed in sealed {
                match secrets::reveal(&this.links, &sealed).await {
                    Ok(plain) => this.tell(Found::Prefetched(sealed, plain)),
                    Err(error) => tracing::warn!("a pre-shared key cannot be read yet: {error}"),
                }
            }
        });
    }

    /// Has `certmgr` sign.
    pub(crate) fn sign(&self, ticket: Ticket, wsg: &Wsg, octets: Vec<u8>, hashes: &[u16]) {
        let Some(name) = wsg.certificate.clone() else {
            let reason = format!("crypto template {} has no certificate", wsg.template);
            return self.tell(Found::Answer(ticket, Answer::Unavailable(reason)));
        };
        let request = Sign {
            name,
            octets,
            hashes: hashes.iter().map(|hash| u32::from(*hash)).collect(),
            ike_spi: ticket.ike.0,
        };
        self.certificates.sign(ticket, request);
    }

    /// Has `certmgr` check the peer's chain, identity and signature.
    pub(crate) fn verify(&self, ticket: Ticket, request: VerifyPeer) {
        self.certificates.verify(ticket, request);
    }

    /// Has `aaamgr` relay one round of EAP.
    pub(crate) fn eap(&self, ticket: Ticket, round: EapRound) {
        let this = self.clone();
        tokio::spawn(async move {
            let found = match this.links.request(AAAMGR, &round, EAP_DEADLINE).await {
                Ok(answer) => eap_step(ticket, answer),
                Err(error) => Found::Answer(ticket, Answer::Unavailable(error.to_string())),
            };
            this.tell(found);
        });
    }

    /// Has the managers of their slots delete IKE SAs.
    pub(crate) fn delete_elsewhere(&self, ikes: &[IkeSaId], reason: DisconnectReason) {
        let (bus, ikes) = (self.bus.clone(), ikes.iter().map(|ike| ike.0).collect());
        tokio::spawn(async move { task::delete_tunnels(&bus, ikes, reason.text()).await });
    }

    /// Tells `aaamgr` that a peer has gone in the middle of EAP.
    pub(crate) fn abandon_eap(&self, ike: IkeSaId) {
        let this = self.clone();
        tokio::spawn(async move {
            let round = EapRound {
                ike_spi: ike.0,
                abandon: true,
                ..EapRound::default()
            };
            // If it is lost, the conversation ends there by its own timer.
            if let Err(error) = this.links.request(AAAMGR, &round, ABANDON_DEADLINE).await {
                tracing::debug!("abandoning EAP: {error}");
            }
        });
    }

    fn tell(&self, found: Found) {
        // The loop is gone only when the process ends.
        let _ = self.found.send(found);
    }
}

fn eap_step(ticket: Ticket, answer: EapAnswer) -> Found {
    let (method, authorization) = (answer.method, answer.authorization);
    let step = if answer.success {
        EapStep::Success {
            message: answer.eap,
            msk: (!answer.msk.is_empty()).then(|| Secret::new(answer.msk)),
            identity: UserName::new(&answer.user),
        }
    } else if answer.failure.is_empty() {
        EapStep::Continue(answer.eap)
    } else {
        EapStep::Failure {
            message: answer.eap,
            reason: answer.failure,
        }
    };
    Found::Eap {
        ticket,
        answer: Answer::Eap(step),
        authorization,
        method,
    }
}
