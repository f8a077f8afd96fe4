//! What `sessmgr` serves on the bus.

use std::time::Instant;

use bus::messages::common::Execute;
use bus::messages::sessmgr::{
    Admit, Connected, Held, HeldBlocks, Noted, Recovered, Release, WorkerRecovered,
};
use bus::{Incoming, dispatch};

use crate::admission::Need;
use crate::desk::Desk;
use crate::show;
use crate::state::State;

/// Answers one request, now or when `vpnmgr` has given what it takes. Returns what `vpnmgr` has to be asked for.
pub fn answer(state: &mut State, desk: &mut Desk, incoming: Incoming) -> Vec<Need> {
    let now = Instant::now();
    let mut needs = Vec::new();
    dispatch!(incoming, {
        Admit => |request, responder| {
            let answer = Box::new(move |verdicts| responder.reply(verdicts));
            needs = desk.arrive(state, request.admissions, answer, now);
        },
        Connected => |request, responder| {
            request.sessions.iter().for_each(|session| state.connected(session, now));
            responder.reply(Noted {});
        },
        Release => |request, responder| {
            request.sessions.iter().for_each(|session| state.released(session, now));
            responder.reply(Noted {});
        },
        WorkerRecovered => |_, responder| {
            state.release_all(now);
            responder.reply(Recovered::default());
        },
        HeldBlocks => |request, responder| {
            let blocks = state.policy.context(&request.context).map(|context| state.held(context));
            responder.reply(Held { blocks: blocks.unwrap_or_default() });
        },
        Execute => |request, responder| responder.reply(show::execute(state, &request)),
    });
    needs
}
