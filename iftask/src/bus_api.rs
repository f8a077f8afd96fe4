//! What an `iftask` serves on the bus.

use bus::messages::common::{Execute, Output, Total};
use bus::{Incoming, dispatch};
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
            return Output {
                failure: format!("iftask does not know the command '{}'", command.command),
                ..Output::default()
            };
        }
        let statistics = &self.plane.statistics;
        let wants_all = command.parameters.iter().any(|p| p.name == "statistics");
        if wants_all {
            return Output {
                text: show::statistics(self.instance, statistics),
                ..Output::default()
            };
        }
        let totals = show::totals(statistics).into_iter().map(|(label, value)| Total {
            label: label.to_owned(),
            value,
        });
        Output {
            heading: show::HEADING.to_owned(),
            text: show::summary(self.instance, statistics),
            totals: totals.collect(),
            ..Output::default()
        }
    }
}
