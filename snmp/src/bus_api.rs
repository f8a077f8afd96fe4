//! What the agent serves on the bus: its `show` commands.

use std::time::SystemTime;

use bus::messages::common::{Execute, Output};
use bus::{Facility, Incoming};
use config::Exec;

use crate::show;
use crate::state::State;

/// Lines of history in one piece of output.
const PIECE: usize = 200;

/// Answers a request.
pub fn answer(state: &mut State, incoming: Incoming) {
    bus::dispatch!(incoming, {
        Execute => |query, responder| responder.reply(execute(state, &query)),
    });
}

fn execute(state: &mut State, query: &Execute) -> Output {
    let verbose = query.has("verbose");
    let counts = || state.traps.counts(verbose);
    let text = match Exec::from_id(&query.command) {
        Some(Exec::ShowSnmpCommunities) => show::communities(state.communities()),
        Some(Exec::ShowSnmpServer) => show::server(
            state.communities().len(),
            state.traps.targets(),
            state.agent.statistics(),
        ),
        Some(Exec::ShowSnmpTrapHistory) => return history(state, verbose, &query.cursor),
        Some(Exec::ShowSnmpTrapStatistics) => show::statistics(&counts(), &state.zone),
        Some(Exec::ShowSnmpNotifies) => {
            let counts = counts();
            let period = state.traps.period(SystemTime::now());
            show::notifies(
                &counts,
                period,
                state.traps.cleared(),
                !state.traps.targets().is_empty(),
                &state.zone,
            )
        }
        Some(Exec::ClearSnmpTrapHistory) => {
            state.traps.clear_history();
            String::new()
        }
        Some(Exec::ClearSnmpTrapStatistics) => {
            state.traps.clear_counts(SystemTime::now());
            String::new()
        }
        _ => return Output::failed(query.unknown_to(Facility::Snmp)),
    };
    text.into()
}

/// A piece of the history, oldest line first; the cursor is the number of lines before it.
fn history(state: &State, verbose: bool, cursor: &[u8]) -> Output {
    let start = cursor.try_into().map_or(0, u32::from_be_bytes) as usize;
    let lines: Vec<_> = state.traps.history().skip(start).take(PIECE).collect();
    let next = start + lines.len();
    Output {
        text: lines
            .into_iter()
            .map(|entry| show::history_line(entry, verbose, &state.zone))
            .collect(),
        cursor: (next as u32).to_be_bytes().to_vec(),
        more: next < state.traps.history().count(),
        ..Output::default()
    }
}
