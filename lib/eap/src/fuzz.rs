//! What the fuzzer and the property tests call.

use crate::authenticator::{Action, Authenticator, MAX_ROUNDS, Start, Verdict};
use crate::packet::{Code, Packet};

/// Plays a conversation written by the fuzzer: chunks of one octet that says who speaks, one octet of length, and so many octets.
/// Must not panic; success must follow from an Accept with EAP-Success alone.
pub fn conversation(script: &[u8]) {
    let mut eap = Authenticator::new();
    let mut rest = script;
    while let [speaker, length, tail @ ..] = rest {
        let (octets, next) = tail.split_at_checked(usize::from(*length)).unwrap_or((tail, &[]));
        rest = next;
        let result = match speaker % 7 {
            0 => eap.start(Start::AskIdentity),
            1 => eap.start(Start::Identity(octets)),
            2 => eap.from_peer(octets),
            3 => eap.from_aaa(Verdict::Challenge, Some(octets)),
            4 => eap.from_aaa(Verdict::Accept, Some(octets)),
            5 => eap.from_aaa(Verdict::Reject, Some(octets)),
            _ => eap.aaa_timeout(),
        };
        assert!(eap.rounds() <= MAX_ROUNDS + 1);
        let Ok(action) = result else { continue };
        let (Action::ToPeer(bytes) | Action::ToAaa(bytes) | Action::Succeed(bytes) | Action::Fail(bytes, _)) =
            &action;
        let code = Packet::decode(bytes).map(|packet| packet.code);
        assert!(
            matches!(
                (&action, code),
                (Action::ToPeer(_), Ok(Code::Request))
                    | (Action::ToAaa(_), Ok(Code::Response))
                    | (Action::Succeed(_), Ok(Code::Success))
                    | (Action::Fail(..), Ok(Code::Failure))
            ),
            "what goes out is well-formed"
        );
        assert!(!matches!(action, Action::Succeed(_)) || speaker % 7 == 4);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_scripts(script in prop::collection::vec(any::<u8>(), 0..400)) {
            super::conversation(&script);
        }

        /// Well-formed packets of every code, so that the states behind are reached.
        #[test]
        fn plausible_scripts(steps in prop::collection::vec((0u8..7, 1u8..5, 0u8..3, any::<u8>()), 0..200)) {
            let mut script = vec![1, 3, b'b', b'o', b'b'];
            for (speaker, code, identifier, method) in steps {
                let packet: &[u8] = match code {
                    3 | 4 => &[code, identifier, 0, 4],
                    _ => &[code, identifier, 0, 5, method],
                };
                script.extend([speaker, packet.len() as u8]);
                script.extend_from_slice(packet);
            }
            super::conversation(&script);
        }
    }
}
