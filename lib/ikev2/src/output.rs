//! What goes between the engine and its shell: outputs, questions and answers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::{Cipher, Integrity, Secret};

use crate::event::{Event, RemoveReason};
use crate::identity::{Identity, UserName};
use crate::profile::{ChildProfile, Configuration, ConfigurationRequest, Profile};
use crate::selectors::TrafficSelector;

/// Our SPI of an IKE SA: `slot (8) | index (24) | random (32)`. It names the IKE SA; a rekeyed one has another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IkeSaId(pub u64);

/// Outer addresses and UDP ports of an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// What the shell must do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram. The non-ESP marker is in it where it must be (RFC 3948 2.2).
    Transmit {
        /// Between these.
        path: Path,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// Find an answer and bring it with [`Engine::answer`](crate::Engine::answer), at once or later. No answer at all ends
    /// the set-up by its timer.
    Ask {
        /// To be handed back.
        ticket: Ticket,
        /// Whose question.
        profile: Arc<Profile>,
        /// The question.
        question: Question,
    },
    /// Write a child SA. Comes before the message that tells the peer.
    Install(Box<ChildSa>),
    /// Send with this child SA from now on, and with `replaces` no more (it still receives).
    Activate {
        /// Our SPI of the child SA.
        inbound_spi: u32,
        /// Our SPI of the one before it.
        replaces: u32,
    },
    /// Erase a child SA and give back its SPI.
    Remove {
        /// The IKE SA it belonged to.
        ike: IkeSaId,
        /// Our SPI of the child SA.
        inbound_spi: u32,
        /// Why.
        reason: RemoveReason,
    },
    /// The child SAs of this IKE SA have the peer at another address now (RFC 7296 2.23).
    Move {
        /// The IKE SA.
        ike: IkeSaId,
        /// Our SPIs of its child SAs.
        inbound_spis: Vec<u32>,
        /// The new path.
        path: Path,
    },
    /// Which child SAs of this IKE SA send to the same peer with the same traffic selectors now, if there are several (RFC 9611). What was told
    /// before is over.
    Beside {
        /// The IKE SA.
        ike: IkeSaId,
        /// Our SPIs of each group of at least two.
        groups: Vec<Vec<u32>>,
    },
    /// Something worth counting or logging.
    Event(Event),
}

/// A child SA pair, ready for use.
#[derive(Debug, Clone)]
pub struct ChildSa {
    /// The IKE SA it belongs to.
    pub ike: IkeSaId,
    /// Whose.
    pub profile: Arc<Profile>,
    /// Of which kind.
    pub child: Arc<ChildProfile>,
    /// The SPI that we chose, in packets from the peer.
    pub inbound_spi: u32,
    /// The SPI that the peer chose, in packets to it.
    pub outbound_spi: u32,
    /// Send with it at once. False for one that awaits [`Output::Activate`].
    pub outbound_active: bool,
    /// The child SA that this one replaces in a rekey: our SPI of it.
    pub replaces: Option<u32>,
    /// Encryption.
    pub cipher: Cipher,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// 64-bit extended sequence numbers.
    pub esn: bool,
    /// Keys of packets from the peer.
    pub inbound_keys: ChildKeys,
    /// Keys of packets to the peer.
    pub outbound_keys: ChildKeys,
    /// ESP in UDP (RFC 3948), between the ports of `path`.
    pub udp_encapsulation: bool,
    /// Outer addresses. Without encapsulation the ports mean nothing.
    pub path: Path,
    /// Addresses behind us.
    pub local_selectors: Arc<[TrafficSelector]>,
    /// Addresses behind the peer.
    pub remote_selectors: Arc<[TrafficSelector]>,
    /// What was assigned to the peer (to us, when we initiated).
    pub configuration: Option<Arc<Configuration>>,
    /// When it will be deleted, from now; `None`: never.
    pub lifetime: Option<Duration>,
    /// Bytes of one direction after which it will be deleted; `None`: never.
    pub lifetime_bytes: Option<u64>,
}

/// The keys of one direction.
#[derive(Debug, Clone)]
pub struct ChildKeys {
    /// Encryption key, without salt.
    pub encryption: Secret,
    /// Salt of an AEAD's nonce, otherwise empty.
    pub salt: Secret,
    /// Integrity key; empty with an AEAD.
    pub integrity: Secret,
}

/// Names a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The IKE SA that asks.
    pub ike: IkeSaId,
    pub(crate) serial: u32,
}

/// What the engine cannot know by itself.
#[derive(Debug)]
pub enum Question {
    /// The pre-shared keys between these. Answer: [`Answer::Psk`].
    Psk {
        /// We.
        local: Identity,
        /// The peer.
        remote: Identity,
        /// The key that proves the peer is wanted.
        wants_remote: bool,
        /// The key that proves us is wanted.
        wants_local: bool,
    },
    /// Sign with the key of our certificate. Answer: [`Answer::Signature`].
    Sign {
        /// What is to be signed (RFC 7296 2.15).
        octets: Vec<u8>,
        /// Hash algorithms that the peer takes with method 14 (RFC 7427 4). Empty: legacy methods 1, 9, 10, 11 only.
        hashes: Vec<u16>,
    },
    /// Check the peer's chain, that it carries the identity, and the signature. Answer: [`Answer::Verified`].
    VerifyPeer {
        /// DER certificates as they came, the peer's own first.
        certificates: Vec<Vec<u8>>,
        /// The identity it must carry.
        identity: Identity,
        /// AUTH method: 1, 9, 10, 11 or 14.
        method: u8,
        /// AUTH data; with method 14 its AlgorithmIdentifier is in front (RFC 7427 3).
        signature: Vec<u8>,
        /// What was signed.
        octets: Vec<u8>,
    },
    /// One round of EAP, we being the authenticator's relay. Answer: [`Answer::Eap`].
    EapAuthenticator {
        /// The peer's IKE identity.
        identity: Identity,
        /// The EAP packet from the peer; `None` begins.
        message: Option<Vec<u8>>,
    },
    /// One round of EAP, we being the peer. Answer: [`Answer::Eap`]; on EAP-Success with `message` `None` and the MSK.
    EapPeer {
        /// The EAP packet from the authenticator.
        message: Vec<u8>,
    },
    /// The peer is who it says; may it come in, and with which addresses? Answer: [`Answer::Admit`].
    Admit(Box<AdmitRequest>),
}

/// A peer that has proved who it is.
#[derive(Debug, Clone)]
pub struct AdmitRequest {
    /// The peer.
    pub identity: Identity,
    /// Whom it called: IDr if it sent one.
    pub called: Option<Identity>,
    /// Where it is.
    pub path: Path,
    /// How it proved it.
    pub method: AuthMethod,
    /// The identity that EAP authenticated.
    pub eap_identity: Option<UserName>,
    /// What it asks for; `None`: no CFG_REQUEST.
    pub request: Option<ConfigurationRequest>,
    /// It sent INITIAL_CONTACT: it has no other IKE SA. Those of this engine are deleted when this one is established; others may have more.
    pub initial_contact: bool,
}

/// How somebody proved who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthMethod {
    /// Pre-shared key (method 2).
    Psk,
    /// Certificate and signature; the method number.
    Signature(u8),
    /// EAP.
    Eap,
}

/// Answers to [`Question`]s.
#[derive(Debug)]
pub enum Answer {
    /// The keys, `None` where there is none or none was wanted.
    Psk {
        /// Proves the peer.
        remote: Option<Secret>,
        /// Proves us.
        local: Option<Secret>,
    },
    /// A signature.
    Signature {
        /// AUTH method.
        method: u8,
        /// AUTH data; with method 14 its AlgorithmIdentifier is in front.
        data: Vec<u8>,
    },
    /// The peer is (`Ok`) or is not who it says, with the reason for the log.
    Verified(Result<(), String>),
    /// The next step of EAP.
    Eap(EapStep),
    /// Welcome, with these addresses, or not.
    Admit(Result<Configuration, Refusal>),
    /// There is no answer: the one who knows failed or did not answer in time. The reason is for the log.
    Unavailable(String),
}

/// One step of EAP.
#[derive(Debug)]
pub enum EapStep {
    /// Send this packet and go on.
    Continue(Vec<u8>),
    /// It is over, well.
    Success {
        /// EAP-Success for the peer; empty when we are the peer.
        message: Vec<u8>,
        /// Master session key; `None` if the method makes none, then SK_pi and SK_pr stand in (RFC 7296 2.16).
        msk: Option<Secret>,
        /// Who it is, as AAA says.
        identity: Option<UserName>,
    },
    /// It is over, not well.
    Failure {
        /// EAP-Failure for the peer; may be empty.
        message: Vec<u8>,
        /// For the log.
        reason: String,
    },
}

/// Why a peer was not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It may not: AUTHENTICATION_FAILED. The reason is for the log.
    Denied(String),
    /// There is no address for it: INTERNAL_ADDRESS_FAILURE in place of a child SA, then the IKE SA is deleted (RFC 7296 2.21.2). The
    /// reason is for the log.
    NoAddress(String),
    /// With this notify type instead of AUTHENTICATION_FAILED, e.g. a private one of 3GPP TS 24.302.
    Notify(u16, String),
}

/// What an operator or the shell wants of an IKE SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Another child SA: this one of [`Profile::children`].
    CreateChild(usize),
    /// New keys for the IKE SA.
    RekeyIke,
    /// New keys for the child SA with this inbound SPI.
    RekeyChild(u32),
    /// Delete the child SA with this inbound SPI.
    DeleteChild(u32),
    /// Delete the IKE SA with all its child SAs, telling the peer.
    Delete,
    /// Forget it without telling the peer.
    Forget,
    /// Is the peer alive?
    CheckLiveness,
}

impl IkeSaId {
    /// The slot it belongs to.
    pub fn slot(self) -> u8 {
        let [slot, ..] = self.0.to_be_bytes();
        slot
    }

    /// Its index in the slot.
    pub fn index(self) -> usize {
        let [_, a, b, c, ..] = self.0.to_be_bytes();
        u32::from_be_bytes([0, a, b, c]) as usize
    }
}

impl fmt::Display for IkeSaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for IkeSaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IkeSaId({self})")
    }
}
