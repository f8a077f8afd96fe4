//! What happened: for logs, counters, traps. Every packet that has no effect has a cause here.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::identity::{Identity, UserName};
use crate::message::{DecodeError, Exchange, NotifyKind};
use crate::negotiate::Mismatch;
use crate::output::{AuthMethod, IkeSaId, Path};
use crate::profile::{Configuration, Profile};
use crate::selectors::TrafficSelector;

/// One thing that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A peer's IKE_SA_INIT was answered (`initiator` false), or ours was sent.
    Attempt {
        /// The new IKE SA.
        ike: IkeSaId,
        /// Between these.
        path: Path,
        /// Did we initiate?
        initiator: bool,
        /// Of this profile.
        profile: Arc<Profile>,
    },
    /// An IKE SA is established.
    Established(Box<Established>),
    /// An IKE SA that was never established is gone.
    SetupFailed {
        /// The IKE SA.
        ike: IkeSaId,
        /// Between these.
        path: Path,
        /// Did we initiate?
        initiator: bool,
        /// Of this profile.
        profile: Arc<Profile>,
        /// The peer, if it got so far as to say.
        peer: Option<Identity>,
        /// Why.
        reason: SetupFailure,
    },
    /// An established IKE SA is gone, with its child SAs.
    Deleted {
        /// The IKE SA.
        ike: IkeSaId,
        /// Between these.
        path: Path,
        /// Of this profile.
        profile: Arc<Profile>,
        /// The peer.
        peer: Identity,
        /// Why.
        reason: RemoveReason,
    },
    /// An IKE SA has been replaced: the session goes on under another SPI, and its child SAs with it.
    IkeRekeyed {
        /// Before.
        old: IkeSaId,
        /// From now on.
        new: IkeSaId,
        /// Did we initiate it?
        initiator: bool,
    },
    /// The peer sent INITIAL_CONTACT, authenticated: it has no other IKE SA. Those of this engine are deleted already. Not told
    /// after EAP, where nobody has proved the identity.
    InitialContact {
        /// The IKE SA that is to stay.
        ike: IkeSaId,
        /// The peer.
        peer: Identity,
    },
    /// A child SA could not be created.
    ChildFailed {
        /// Its IKE SA.
        ike: IkeSaId,
        /// Did we initiate it?
        initiator: bool,
        /// Why.
        reason: ChildFailure,
    },
    /// A child SA was created or, with `replaces`, rekeyed.
    ChildCreated {
        /// Its IKE SA.
        ike: IkeSaId,
        /// Our SPI.
        inbound_spi: u32,
        /// The one before it.
        replaces: Option<u32>,
        /// Did we initiate it?
        initiator: bool,
    },
    /// No proposal in an IKE_SA_INIT is acceptable.
    NoProposal {
        /// Between these.
        path: Path,
        /// Of this profile.
        profile: Arc<Profile>,
        /// What differs.
        mismatch: Box<Mismatch>,
    },
    /// A packet had no effect.
    Dropped {
        /// From here.
        remote: SocketAddr,
        /// Why.
        cause: DropCause,
    },
    /// A packet could not be read. Comes with [`Event::Dropped`].
    Undecodable {
        /// From here.
        remote: SocketAddr,
        /// Why.
        error: DecodeError,
    },
    /// The path of an IKE SA changed with its NAT (RFC 7296 2.23).
    Moved {
        /// The IKE SA.
        ike: IkeSaId,
        /// Before.
        from: Path,
        /// From now on.
        to: Path,
    },
    /// The record of an established IKE SA cannot be read any more, so it is gone, without a word to its peer. Its child SAs are to be removed.
    RecordLost {
        /// The IKE SA.
        ike: IkeSaId,
    },
    /// Something to count, nothing to tell.
    Count(Count),
}

/// An IKE SA came up.
#[derive(Debug, Clone)]
pub struct Established {
    /// The IKE SA.
    pub ike: IkeSaId,
    /// Between these.
    pub path: Path,
    /// Did we initiate?
    pub initiator: bool,
    /// Of this profile.
    pub profile: Arc<Profile>,
    /// We.
    pub local: Identity,
    /// The peer.
    pub peer: Identity,
    /// How the peer proved it.
    pub peer_auth: AuthMethod,
    /// What EAP authenticated.
    pub eap_identity: Option<UserName>,
    /// What was assigned to the peer (to us, when we initiated).
    pub configuration: Option<Arc<Configuration>>,
    /// Our SPI of the first child SA, if it was created too.
    pub child: Option<u32>,
    /// Somebody is behind a NAT.
    pub nat: bool,
}

/// Why a packet had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropCause {
    /// See the [`Event::Undecodable`] beside it.
    Undecodable,
    /// A response for an IKE SA that does not exist.
    ResponseNoSa,
    /// A request, not IKE_SA_INIT, for an IKE SA that does not exist.
    RequestNoSa,
    /// A response that does not belong to our outstanding request.
    UnexpectedResponse,
    /// A request with a Message ID outside the window.
    MessageId,
    /// A request with an old Message ID.
    StaleMessageId,
    /// A request before the keys are there.
    RequestNoKey,
    /// A response before the keys are there.
    ResponseNoKey,
    /// An exchange that the state of the IKE SA does not allow.
    UnexpectedExchange,
    /// IKE_SA_INIT that is too long, or something of an IKE SA in set-up, or whose set-up failed, when all of them keep as much as they may.
    SetupMemory,
    /// A retransmission of a request that is being processed.
    Retransmission,
    /// IKE_SA_INIT to an address that has no profile.
    NoProfile,
    /// IKE_SA_INIT beyond the limit of IKE SAs or half-open IKE SAs.
    Congestion,
    /// IKE version 1.
    Version1,
    /// A fragment that completes nothing, or beyond the limits.
    Fragment,
    /// Not an IKE message.
    Keepalive,
    /// Our IKE SPI belongs to a slot that is not ours.
    ForeignSlot,
    /// Its IKE SA is of an earlier life, and cannot be restored yet.
    Parked,
}

/// Things that are only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Count {
    /// A request of ours was sent again.
    Retransmitted,
    /// A cached response was sent again.
    ResponseRepeated,
    /// A notify went out.
    NotifySent(NotifyKind),
    /// A notify came in.
    NotifyReceived(NotifyKind),
    /// A request for an IKE SA that does not exist was not answered: there were too many.
    UnknownUnanswered,
    /// IKE_SA_INIT with the right cookie.
    CookieMatched,
    /// IKE_SA_INIT with a wrong cookie.
    CookieMismatched,
    /// A liveness check went out.
    LivenessSent,
    /// It was answered.
    LivenessAnswered,
    /// A liveness check came in.
    LivenessReceived,
    /// We answered it.
    LivenessReplied,
    /// It was never answered.
    LivenessTimeout,
    /// A request to delete the IKE SA went out.
    IkeDeleteSent,
    /// It was answered.
    IkeDeleteAnswered,
    /// A request to delete the IKE SA came in.
    IkeDeleteReceived,
    /// We answered it.
    IkeDeleteReplied,
    /// Delete payloads for child SAs in a message of ours, with the number of SPIs.
    ChildDeleteSent(u16),
    /// The same in a message of the peer.
    ChildDeleteReceived(u16),
    /// A CREATE_CHILD_SA request went out.
    ChildRequestSent(ChildExchange),
    /// It was answered.
    ChildResponseReceived(ChildExchange),
    /// A CREATE_CHILD_SA request came in.
    ChildRequestReceived(ChildExchange),
    /// We answered it.
    ChildResponseSent(ChildExchange),
    /// A simultaneous rekeying was sorted out.
    Collision(ChildExchange),
    /// A rekeying of the peer was put off: the one before is not over yet.
    RekeyIgnored(ChildExchange),
    /// Soft lifetime of an IKE SA.
    IkeSoftLifetime,
    /// Hard lifetime of an IKE SA.
    IkeHardLifetime,
    /// Soft lifetime of a child SA.
    ChildSoftLifetime,
    /// Hard lifetime of a child SA.
    ChildHardLifetime,
    /// An AUTH payload of the peer was right.
    AuthSucceeded(AuthMethod),
    /// An AUTH payload of the peer was wrong, or there was nothing to check it with.
    AuthFailed(AuthMethod),
    /// An IKE_AUTH request came in.
    AuthRequestReceived,
    /// An IKE_AUTH response went out; true if it refuses.
    AuthResponseSent(bool),
    /// CERTREQ payloads sent.
    CertificateRequestSent,
    /// CERTREQ payloads received.
    CertificateRequestReceived,
    /// CERT payloads sent.
    CertificateSent(u16),
    /// CERT payloads received.
    CertificateReceived(u16),
    /// A NAT keepalive went out.
    KeepaliveSent,
    /// A message was sent as this many fragments.
    FragmentsSent(u16),
    /// A fragment came in.
    FragmentReceived,
    /// A message was put together from fragments.
    Reassembled,
    /// An answer came for a question that nobody waits for any more.
    LateAnswer,
    /// A message was decrypted and read, of this exchange.
    Processed(Exchange),
    /// A child SA was created beside one with the same traffic selectors (RFC 9611); true if we asked for it.
    PerResourceCreated(bool),
    /// There are enough of them; true if the peer said so, false if we did.
    PerResourceRefused(bool),
}

/// What CREATE_CHILD_SA is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChildExchange {
    /// Another child SA.
    Create,
    /// New keys for a child SA.
    RekeyChild,
    /// New keys for the IKE SA.
    RekeyIke,
}

/// Why an IKE SA was never established.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupFailure {
    /// The peer did not answer.
    NoResponse,
    /// The peer did not go on in time; true if nothing came after IKE_SA_INIT.
    Timeout {
        /// Nothing came after our IKE_SA_INIT response.
        half_open: bool,
    },
    /// The peer refused with this notify.
    Refused(NotifyKind),
    /// The peer's credentials are wrong.
    PeerAuthentication {
        /// How it tried.
        method: AuthMethod,
        /// What is wrong.
        reason: String,
    },
    /// The peer tried a way of authentication that the profile does not allow, or has another identity than it must.
    AuthenticationPolicy(String),
    /// We have no credentials.
    LocalAuthentication(String),
    /// Somebody else refused: the session manager, or AAA.
    NotAdmitted(Refusal),
    /// One who had to be asked did not answer.
    Unavailable(String),
    /// The peer's message is wrong.
    Malformed(DecodeError),
    /// The peer answered something that we did not offer.
    BadAnswer(&'static str),
    /// Cryptography failed, e.g. an invalid public value.
    Crypto(crypto::Error),
    /// No proposal of the peer fits.
    NoProposal(Box<Mismatch>),
    /// The peer's INITIAL_CONTACT, or an operator, was faster.
    Cancelled,
}

pub use crate::output::Refusal;

/// Why a child SA was not created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildFailure {
    /// No proposal fits.
    NoProposal(Box<Mismatch>),
    /// No selectors fit.
    Selectors {
        /// The initiator's.
        initiator: Vec<TrafficSelector>,
        /// The responder's.
        responder: Vec<TrafficSelector>,
    },
    /// The peer must ask for an address.
    ConfigurationRequired,
    /// There is no address.
    NoAddress(String),
    /// More than [`Profile::max_children`].
    TooMany,
    /// More with the same traffic selectors than [`PerResource::accept`](crate::PerResource::accept).
    TooManyBeside,
    /// There is no SPI left.
    NoSpi,
    /// Its kind has gone from the configuration.
    Unconfigured,
    /// The peer refused.
    Refused(NotifyKind),
    /// The child SA to be rekeyed does not exist.
    NotFound,
    /// Not now, because of something else under way.
    Temporary,
    /// The peer answered something that we did not offer.
    BadAnswer(&'static str),
    /// Cryptography failed, e.g. an invalid public value.
    Crypto(crypto::Error),
    /// The peer wants transport mode and nothing else.
    Transport,
}

/// Why an SA was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemoveReason {
    /// The peer deleted it.
    Peer,
    /// An operator or the shell wanted it.
    Local,
    /// It is replaced by another.
    Rekeyed,
    /// The other SA of a rekey collision won.
    Redundant,
    /// Its lifetime is over.
    Lifetime,
    /// The peer does not answer requests.
    NoResponse,
    /// The peer does not answer liveness checks.
    Liveness,
    /// The peer has a newer IKE SA and says that it is the only one.
    InitialContact,
    /// Its last child SA is gone.
    Empty,
    /// The peer's message made it impossible to go on.
    Protocol,
}

impl fmt::Display for SetupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoResponse => f.write_str("peer does not answer"),
            Self::Timeout { half_open: true } => f.write_str("no IKE_AUTH from the peer in time"),
            Self::Timeout { half_open: false } => f.write_str("set-up not finished in time"),
            Self::Refused(kind) => write!(f, "peer refused with {kind}"),
            Self::PeerAuthentication { method, reason } => {
                write!(f, "{method} authentication of the peer failed: {reason}")
            }
            Self::AuthenticationPolicy(reason) => write!(f, "authentication not allowed: {reason}"),
            Self::LocalAuthentication(reason) => write!(f, "we cannot authenticate ourselves: {reason}"),
            Self::NotAdmitted(refusal) => write!(f, "not admitted: {refusal}"),
            Self::Unavailable(reason) => write!(f, "no answer from within the gateway: {reason}"),
            Self::Malformed(error) => write!(f, "malformed message: {error}"),
            Self::BadAnswer(what) => write!(f, "peer answered what was not offered: {what}"),
            Self::Crypto(error) => write!(f, "cryptography: {error}"),
            Self::NoProposal(mismatch) => write!(f, "no proposal chosen: {mismatch}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl fmt::Display for ChildFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProposal(mismatch) => write!(f, "no proposal chosen: {mismatch}"),
            Self::Selectors { initiator, responder } => {
                write!(
                    f,
                    "traffic selectors unacceptable: initiator {initiator:?}, responder {responder:?}"
                )
            }
            Self::ConfigurationRequired => f.write_str("peer did not ask for an address"),
            Self::NoAddress(reason) => write!(f, "no address: {reason}"),
            Self::TooMany => f.write_str("too many child SAs"),
            Self::TooManyBeside => f.write_str("too many child SAs with the same traffic selectors"),
            Self::NoSpi => f.write_str("no SPI left"),
            Self::Unconfigured => f.write_str("not configured any more"),
            Self::Refused(kind) => write!(f, "peer refused with {kind}"),
            Self::NotFound => f.write_str("child SA to rekey not found"),
            Self::Temporary => f.write_str("not possible now"),
            Self::BadAnswer(what) => write!(f, "peer answered what was not offered: {what}"),
            Self::Crypto(error) => write!(f, "cryptography: {error}"),
            Self::Transport => f.write_str("transport mode not supported"),
        }
    }
}

impl fmt::Display for RemoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "deleted by peer",
            Self::Local => "deleted locally",
            Self::Rekeyed => "rekeyed",
            Self::Redundant => "redundant after simultaneous rekey",
            Self::Lifetime => "lifetime expired",
            Self::NoResponse => "peer does not respond",
            Self::Liveness => "dead peer detected",
            Self::InitialContact => "initial contact of the peer",
            Self::Empty => "last child SA gone",
            Self::Protocol => "protocol error",
        })
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Psk => "PSK",
            Self::Signature(1) => "RSA signature",
            Self::Signature(9..=11) => "ECDSA signature",
            Self::Signature(_) => "digital signature",
            Self::Eap => "EAP",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) | Self::NoAddress(reason) | Self::Notify(_, reason) => f.write_str(reason),
        }
    }
}
