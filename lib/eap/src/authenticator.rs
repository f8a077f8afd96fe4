//! The pass-through authenticator: passes EAP between one peer and one AAA server and notices what happens.
//!
//! | state | from the peer | from AAA | then |
//! |---|---|---|---|
//! | `Idle` | - | - | [`Authenticator::start`]: `WaitPeer` (identity asked) or `WaitAaa` (identity known) |
//! | `WaitPeer` | response to the pending request | - | `WaitAaa` |
//! | `WaitAaa` | - | challenge with a request | `WaitPeer` |
//! | `WaitAaa` | - | accept, reject | `Done` |
//!
//! Everything else is discarded with its cause and changes nothing.

use std::fmt;

use crate::packet::{
    Code, DecodeError, MAX_IDENTITY, Method, Packet, end, identity_request, identity_response,
};

/// How a conversation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// The peer is asked who it is.
    AskIdentity,
    /// The lower layer knows already: the IKE identity. The AAA server gets it as if the peer had answered.
    Identity(&'a [u8]),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send an EAP request to the peer and wait for its response.
    ToPeer(Vec<u8>),
    /// Send an EAP response to the AAA server, with the identity as User-Name, and wait for its verdict.
    ToAaa(Vec<u8>),
    /// Send EAP-Success to the peer. It is authenticated.
    Succeed(Vec<u8>),
    /// Send EAP-Failure to the peer. It is not authenticated.
    Fail(Vec<u8>, Failure),
}

/// What the AAA server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The conversation goes on (Access-Challenge).
    Challenge,
    /// The peer is authenticated (Access-Accept).
    Accept,
    /// It is not (Access-Reject).
    Reject,
}

/// Why a conversation ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The AAA server rejected the peer.
    Rejected,
    /// The AAA server sent something that is no EAP request where one was due.
    BadRequest,
    /// Verdict and EAP packet contradict each other (RFC 3579 section 2.6.3).
    Contradiction,
    /// Too many rounds.
    TooManyRounds,
    /// The AAA server did not answer.
    NoAnswer,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "rejected by the AAA server",
            Self::BadRequest => "the AAA server sent no valid EAP request",
            Self::Contradiction => "the AAA server's verdict contradicts its EAP packet",
            Self::TooManyRounds => "too many EAP rounds",
            Self::NoAnswer => "the AAA server did not answer",
        })
    }
}

/// Why something was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// No EAP packet.
    Malformed(DecodeError),
    /// Not a response.
    NotResponse,
    /// A response to another request (RFC 3748 section 4.1).
    Identifier,
    /// An identity longer than any User-Name can be.
    IdentityTooLong,
    /// Nobody waits for it now.
    Unexpected,
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::NotResponse => f.write_str("EAP packet from the peer is no response"),
            Self::Identifier => f.write_str("EAP response to another request"),
            Self::IdentityTooLong => write!(f, "EAP identity is longer than {MAX_IDENTITY} octets"),
            Self::Unexpected => f.write_str("EAP packet was not expected now"),
        }
    }
}

/// One conversation. Lives from the peer's first message until success, failure, or until the peer is given up.
#[derive(Debug, Clone)]
pub struct Authenticator {
    state: State,
    identity: Vec<u8>,
    /// Identifier of the last request.
    identifier: u8,
    method: Option<Method>,
    naks: u32,
    rounds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    WaitPeer,
    WaitAaa,
    Done,
}

impl Authenticator {
    /// A conversation that has not begun.
    pub fn new() -> Self {
        Self {
            state: State::Idle,
            identity: Vec::new(),
            identifier: 0,
            method: None,
            naks: 0,
            rounds: 0,
        }
    }

    /// Begins. A conversation begins once.
    pub fn start(&mut self, start: Start<'_>) -> Result<Action, Discard> {
        if self.state != State::Idle {
            return Err(Discard::Unexpected);
        }
        match start {
            Start::AskIdentity => {
                self.state = State::WaitPeer;
                Ok(Action::ToPeer(identity_request(self.identifier)))
            }
            Start::Identity(identity) if identity.len() > MAX_IDENTITY => Err(Discard::IdentityTooLong),
            Start::Identity(identity) => {
                self.identity = identity.to_vec();
                self.state = State::WaitAaa;
                Ok(Action::ToAaa(identity_response(self.identifier, identity)))
            }
        }
    }

    /// A packet came from the peer.
    pub fn from_peer(&mut self, octets: &[u8]) -> Result<Action, Discard> {
        let packet = Packet::decode(octets).map_err(Discard::Malformed)?;
        if packet.code != Code::Response {
            return Err(Discard::NotResponse);
        }
        if self.state != State::WaitPeer {
            return Err(Discard::Unexpected);
        }
        if packet.identifier != self.identifier {
            return Err(Discard::Identifier);
        }
        match packet.method {
            Some(Method::IDENTITY) if packet.data.len() > MAX_IDENTITY => {
                return Err(Discard::IdentityTooLong);
            }
            // A later identity (a pseudonym, RFC 4187 section 4.1) is a matter of the method; User-Name stays the first one.
            Some(Method::IDENTITY) if self.identity.is_empty() => self.identity = packet.data.to_vec(),
            Some(Method::NAK) => self.naks += 1,
            Some(method) if method.authenticates() => self.method = Some(method),
            _ => {}
        }
        self.state = State::WaitAaa;
        Ok(Action::ToAaa(packet.bytes().to_vec()))
    }

    /// The AAA server spoke. `eap` is the EAP packet it sent along, if any.
    pub fn from_aaa(&mut self, verdict: Verdict, eap: Option<&[u8]>) -> Result<Action, Discard> {
        if self.state != State::WaitAaa {
            return Err(Discard::Unexpected);
        }
        let packet = eap.map(Packet::decode);
        Ok(match (verdict, packet) {
            (Verdict::Challenge, Some(Ok(packet))) if packet.code == Code::Request => self.challenge(packet),
            (Verdict::Challenge, Some(Ok(packet))) if packet.code != Code::Response => {
                self.fail(Failure::Contradiction)
            }
            (Verdict::Challenge, _) => self.fail(Failure::BadRequest),
            // RFC 3579 section 2.6.3: an Accept without EAP-Message, or with anything but Success, authenticates nobody.
            (Verdict::Accept, Some(Ok(packet))) if packet.code == Code::Success => {
                self.state = State::Done;
                Action::Succeed(packet.bytes().to_vec())
            }
            (Verdict::Accept, _) => self.fail(Failure::Contradiction),
            (Verdict::Reject, Some(Ok(packet))) if packet.code == Code::Failure => {
                self.identifier = packet.identifier;
                self.fail(Failure::Rejected)
            }
            (Verdict::Reject, _) => self.fail(Failure::Rejected),
        })
    }

    /// The AAA server gave no answer: the conversation fails.
    pub fn aaa_timeout(&mut self) -> Result<Action, Discard> {
        match self.state {
            State::WaitAaa => Ok(self.fail(Failure::NoAnswer)),
            _ => Err(Discard::Unexpected),
        }
    }

    /// Who the peer says it is: the User-Name of every request to AAA. Empty until known.
    pub fn identity(&self) -> &[u8] {
        &self.identity
    }

    /// The method that authenticates: proposed by AAA, corrected by the peer's answer.
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    /// How often the peer asked for another method.
    pub fn naks(&self) -> u32 {
        self.naks
    }

    /// Requests passed to the peer so far.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Success or failure has been told.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn challenge(&mut self, request: Packet<'_>) -> Action {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return self.fail(Failure::TooManyRounds);
        }
        self.identifier = request.identifier;
        if let Some(method) = request.method.filter(|method| method.authenticates()) {
            self.method = Some(method);
        }
        self.state = State::WaitPeer;
        Action::ToPeer(request.bytes().to_vec())
    }

    fn fail(&mut self, failure: Failure) -> Action {
        self.state = State::Done;
        Action::Fail(end(Code::Failure, self.identifier), failure)
    }
}

impl Default for Authenticator {
    fn default() -> Self {
        Self::new()
    }
}

/// Requests to the peer in one conversation. EAP-TLS with long chains needs some twenty.
pub const MAX_ROUNDS: u32 = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(identifier: u8, method: Method) -> Vec<u8> {
        vec![1, identifier, 0, 6, method.0, 0]
    }

    fn response(identifier: u8, method: Method) -> Vec<u8> {
        vec![2, identifier, 0, 6, method.0, 0]
    }

    #[test]
    fn identity_from_ike_then_success() {
        let mut eap = Authenticator::new();
        assert_eq!(
            eap.start(Start::Identity(b"bob")),
            Ok(Action::ToAaa(b"\x02\x00\x00\x08\x01bob".to_vec()))
        );
        assert_eq!(eap.from_peer(&response(0, Method::MD5)), Err(Discard::Unexpected));
        let challenge = request(7, Method::MSCHAPV2);
        assert_eq!(
            eap.from_aaa(Verdict::Challenge, Some(&challenge)),
            Ok(Action::ToPeer(challenge))
        );
        assert_eq!(
            eap.from_aaa(Verdict::Accept, Some(&[3, 7, 0, 4])),
            Err(Discard::Unexpected)
        );
        assert_eq!(
            eap.from_peer(&response(6, Method::MSCHAPV2)),
            Err(Discard::Identifier)
        );
        assert_eq!(
            eap.from_peer(&request(7, Method::MSCHAPV2)),
            Err(Discard::NotResponse)
        );
        let answer = response(7, Method::MSCHAPV2);
        assert_eq!(eap.from_peer(&answer), Ok(Action::ToAaa(answer)));
        assert_eq!(
            eap.from_aaa(Verdict::Accept, Some(&[3, 7, 0, 4])),
            Ok(Action::Succeed(vec![3, 7, 0, 4]))
        );
        assert_eq!(
            (eap.method(), eap.identity(), eap.rounds()),
            (Some(Method::MSCHAPV2), &b"bob"[..], 1)
        );
        assert!(eap.is_done());
        assert_eq!(
            eap.from_aaa(Verdict::Accept, Some(&[3, 7, 0, 4])),
            Err(Discard::Unexpected)
        );
        assert_eq!(eap.start(Start::AskIdentity), Err(Discard::Unexpected));
    }

    #[test]
    fn identity_is_asked_and_nak_counted() {
        let mut eap = Authenticator::new();
        assert_eq!(
            eap.start(Start::AskIdentity),
            Ok(Action::ToPeer(vec![1, 0, 0, 5, 1]))
        );
        let identity = identity_response(0, b"alice@example.org");
        assert_eq!(eap.from_peer(&identity), Ok(Action::ToAaa(identity)));
        assert_eq!(eap.identity(), b"alice@example.org");
        eap.from_aaa(Verdict::Challenge, Some(&request(1, Method::MD5)))
            .unwrap();
        assert_eq!(eap.method(), Some(Method::MD5));
        eap.from_peer(&[2, 1, 0, 6, 3, Method::AKA.0]).unwrap();
        eap.from_aaa(Verdict::Challenge, Some(&request(2, Method::AKA)))
            .unwrap();
        assert_eq!((eap.method(), eap.naks()), (Some(Method::AKA), 1));
        let failure = Action::Fail(vec![4, 2, 0, 4], Failure::Rejected);
        eap.from_peer(&response(2, Method::AKA)).unwrap();
        assert_eq!(eap.from_aaa(Verdict::Reject, Some(&[4, 2, 0, 4])), Ok(failure));
    }

    #[test]
    fn accept_without_success_authenticates_nobody() {
        for eap_message in [
            None,
            Some(&[4, 0, 0, 4][..]),
            Some(&[1, 0, 0, 5, 4]),
            Some(&[3, 0, 0]),
            Some(&[]),
        ] {
            let mut eap = Authenticator::new();
            eap.start(Start::Identity(b"bob")).unwrap();
            let action = eap.from_aaa(Verdict::Accept, eap_message).unwrap();
            assert_eq!(
                action,
                Action::Fail(vec![4, 0, 0, 4], Failure::Contradiction),
                "{eap_message:?}"
            );
        }
    }

    #[test]
    fn challenge_without_request_fails() {
        for (eap_message, cause) in [
            (None, Failure::BadRequest),
            (Some(&[2, 0, 0, 5, 4][..]), Failure::BadRequest),
            (Some(&[3, 0, 0, 4]), Failure::Contradiction),
        ] {
            let mut eap = Authenticator::new();
            eap.start(Start::Identity(b"bob")).unwrap();
            let action = eap.from_aaa(Verdict::Challenge, eap_message).unwrap();
            assert_eq!(action, Action::Fail(vec![4, 0, 0, 4], cause));
        }
    }

    #[test]
    fn rounds_are_bounded() {
        let mut eap = Authenticator::new();
        eap.start(Start::Identity(b"bob")).unwrap();
        for round in 0..MAX_ROUNDS {
            let identifier = round as u8;
            eap.from_aaa(Verdict::Challenge, Some(&request(identifier, Method::TLS)))
                .unwrap();
            eap.from_peer(&response(identifier, Method::TLS)).unwrap();
        }
        let action = eap
            .from_aaa(Verdict::Challenge, Some(&request(99, Method::TLS)))
            .unwrap();
        assert!(matches!(action, Action::Fail(_, Failure::TooManyRounds)));
    }

    #[test]
    fn silence_of_aaa_fails_the_conversation() {
        let mut eap = Authenticator::new();
        assert_eq!(eap.aaa_timeout(), Err(Discard::Unexpected));
        eap.start(Start::Identity(b"bob")).unwrap();
        assert_eq!(
            eap.aaa_timeout(),
            Ok(Action::Fail(vec![4, 0, 0, 4], Failure::NoAnswer))
        );
        assert!(eap.is_done());
    }

    proptest! {
        #[test]
        fn long_identities_are_refused(length in MAX_IDENTITY + 1..2_000) {
            let mut eap = Authenticator::new();
            prop_assert_eq!(eap.start(Start::Identity(&vec![b'a'; length])), Err(Discard::IdentityTooLong));
            eap.start(Start::AskIdentity).unwrap();
            let mut octets = vec![2, 0];
            octets.extend(((length + 5) as u16).to_be_bytes());
            octets.push(1);
            octets.extend(vec![b'a'; length]);
            prop_assert_eq!(eap.from_peer(&octets), Err(Discard::IdentityTooLong));
        }
    }
}
