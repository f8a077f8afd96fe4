//! What an `iftask` serves on the bus.

use bus::messages::common::{Execute, Output, Total};
use bus::{Facility, Incoming, dispatch};
use config::Exec;

use crate::manager::Manager;
use crate::show;

impl Manager {
    pub(crate) fn serve(&self, incoming: Incoming) {
        dispatch!(incoming, {
            Execute => |command, responder| responder.reply(self.execute(&command)),
        });
    }

    fn execute(&self, command: &Execute) -> Output {
        if Exec::from_id(&command.command) != Some(Exec::ShowIftask) {
            return Output::failed(command.unknown_to(Facility::Iftask));
        }
        let statistics = &self.plane.statistics;
        if command.has("statistics") {
            return show::statistics(self.instance, statistics).into();
        }
        Output {
            heading: show::HEADING.to_owned(),
            text: show::summary(self.instance, statistics),
            totals: Total::all(show::totals(statistics)),
            ..Output::default()
        }
    }
}
