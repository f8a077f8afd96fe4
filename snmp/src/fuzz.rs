//! What the fuzzer and the property tests call. Nothing here may panic, whatever the octets.

use mibs::View;

use crate::protocol::{Access, Agent, Community, MAX_RESPONSE};

/// Hands a datagram to an agent.
pub fn request(datagram: &[u8]) {
    let mut agent = Agent::default();
    agent.set_communities(vec![Community {
        name: b"public".to_vec(),
        access: Access::ReadWrite,
    }]);
    if let Some(answer) = agent.answer(datagram, &View::default()) {
        assert!(answer.len() <= MAX_RESPONSE);
        assert!(
            agent.answer(&answer, &View::default()).is_none(),
            "an answer is not answered"
        );
    }
}
