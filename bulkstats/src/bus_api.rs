//! What this task serves on the bus: its exec-mode commands.

use std::time::SystemTime;

use bus::messages::common::{Execute, Output};
use bus::{Facility, Incoming};
use config::Exec;

use crate::show;
use crate::state::State;

/// Records in one piece of output.
const PIECE: usize = 200;

/// Answers a request.
pub fn answer(state: &mut State, incoming: Incoming) {
    bus::dispatch!(incoming, {
        Execute => |query, responder| responder.reply(execute(state, &query)),
    });
}

fn execute(state: &mut State, query: &Execute) -> Output {
    let result = match Exec::from_id(&query.command) {
        Some(Exec::ShowBulkstats) => Ok(show::bulkstats(&state.settings, &state.files(), &state.zone)),
        Some(Exec::ShowBulkstatsSchemas) => Ok(show::schemas(&state.settings)),
        Some(Exec::ShowBulkstatsData) => return data(state, &query.cursor),
        Some(Exec::ShowBulkstatsVariables) => show::variables(query.value("schema"))
            .ok_or_else(|| "no such schema: 'show bulkstats variables' lists them all".to_owned()),
        Some(Exec::BulkstatsForceGather) => state
            .gather(SystemTime::now())
            .map(|()| String::new())
            .map_err(text),
        Some(Exec::BulkstatsForceTransfer) => {
            let written = state.transfer(SystemTime::now()).map_err(text);
            written.map(|files| files.iter().map(|file| format!("{}\n", file.display())).collect())
        }
        Some(Exec::ClearBulkstatsData) => state.clear_data().map(|()| String::new()).map_err(text),
        _ => Err(query.unknown_to(Facility::Bulkstat)),
    };
    result.into()
}

fn text(error: crate::Error) -> String {
    error.to_string()
}

/// A piece of the records that await transfer; the cursor is the number of records before it.
fn data(state: &State, cursor: &[u8]) -> Output {
    let start = cursor.try_into().map_or(0, u32::from_be_bytes) as usize;
    let lines: Vec<_> = state.waiting().skip(start).take(PIECE).collect();
    let next = start + lines.len();
    Output {
        text: lines
            .iter()
            .map(|(file, record)| format!("File {file}: {record}\n"))
            .collect(),
        cursor: (next as u32).to_be_bytes().to_vec(),
        more: next < state.waiting().count(),
        ..Output::default()
    }
}
