//! What `aaamgr` serves, on the bus and over links.

use std::time::Instant;

use bus::link::LinkIncoming;
use bus::messages::aaamgr::{Account, Accounted, EapRound};
use bus::messages::common::Execute;
use bus::{Incoming, dispatch};

use crate::conversations::Wiped;
use crate::show;
use crate::state::State;

/// Answers a request of the bus.
pub fn answer(state: &mut State, incoming: Incoming) {
    dispatch!(incoming, {
        Account => |request, responder| {
            state.account(request.records, Instant::now());
            responder.reply(Accounted::default());
        },
        Execute => |request, responder| responder.reply(show::execute(state, &request)),
    });
}

/// Answers a request of a link, now or when a server has answered.
pub fn answer_link(state: &mut State, incoming: LinkIncoming) {
    dispatch!(incoming, {
        EapRound => |round, responder| {
            let answer = Box::new(move |answer: Wiped| responder.reply_with(&answer.0));
            state.round(round, answer, Instant::now());
        },
    });
}
