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

/// Takes one request. Its answer is added to the desk's replies, now or when `vpnmgr` has given what it takes. Returns what `vpnmgr` has
/// to be asked for.
pub fn answer(state: &mut State, desk: &mut Desk, incoming: Incoming) -> Vec<Need> {
    let now = Instant::now();
    let mut needs = Vec::new();
    dispatch!(incoming, {
        Admit => |request, responder| {
            let answer = Box::new(move |verdicts| responder.reply(verdicts));
            needs = desk.arrive(state, request, answer, now);
        },
        Connected => |request, responder| {
            request.sessions.iter().for_each(|session| state.connected(session, now));
            desk.replies.push(|| responder.reply(Noted {}));
        },
        Release => |request, responder| {
            request.sessions.iter().for_each(|session| state.released(session, now));
            desk.replies.push(|| responder.reply(Noted {}));
        },
        WorkerRecovered => |request, responder| {
            let unknown = state.recovered(&request, now);
            if !request.more {
                desk.discard_older(state, now);
            }
            desk.replies.push(|| responder.reply(Recovered { unknown }));
        },
        HeldBlocks => |request, responder| {
            let blocks = state.policy.context(&request.context).map(|context| state.held(context));
            responder.reply(Held { blocks: blocks.unwrap_or_default() });
        },
        Execute => |request, responder| responder.reply(show::execute(state, &request)),
    });
    needs
}
