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
        self.look();
        let statistics = &self.plane.statistics;
        let busy = show::Shares::new(&self.busy.borrow(), statistics);
        if command.has("statistics") {
            let ways = show::ways(&self.ways.borrow());
            return format!("{}{ways}\n", show::statistics(self.instance, statistics, busy)).into();
        }
        Output {
            heading: show::HEADING.to_owned(),
            text: show::summary(self.instance, statistics, busy),
            totals: Total::all(show::totals(statistics)),
            ..Output::default()
        }
    }
}
