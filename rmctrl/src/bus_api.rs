//! What the resource manager answers.

use bus::messages::common::{Execute, Output};
use bus::messages::rmctrl::{GetCongestion, GetDataPlaneCores, GetSlotMap};
use bus::{Facility, Incoming, dispatch};
use config::Exec;
use telemetry::Reader;

use crate::manager::Manager;
use crate::show;
use crate::show::{cpu, thresholds};

impl Manager {
    pub(crate) fn serve(&self, incoming: Incoming) {
        dispatch!(incoming, {
            GetSlotMap => |_, responder| responder.reply(self.map.clone()),
            GetCongestion => |_, responder| responder.reply(self.congestion.verdict()),
            GetDataPlaneCores => |_, responder| responder.reply(self.data_plane_cores()),
            Execute => |command, responder| responder.reply(self.execute(&command).into()),
        });
    }

    /// What a command shows, or the sentence after `Failure: `.
    fn execute(&self, command: &Execute) -> Result<Output, String> {
        match Exec::from_id(&command.command) {
            Some(Exec::ShowCryptoManagers) => match command.value("instance") {
                None if command.has("summary") => Ok(show::managers_summary(self).into()),
                None => Ok(show::managers(self).into()),
                Some(instance) => Ok(show::manager(self, instance)?.into()),
            },
            Some(Exec::ShowCpuTable) => Ok(cpu::table(&self.processors).into()),
            Some(Exec::ShowCpuInfo) => {
                let only = command.has("crypto-cores").then(|| self.tasks.data_plane());
                Ok(cpu::info(&self.processors, only.as_ref()).into())
            }
            Some(Exec::ShowThreshold) => Ok(thresholds::configured(self.alarms.settings()).into()),
            Some(Exec::ShowCongestionControl) if command.has("configuration") => {
                Ok(thresholds::congestion_configuration(self.congestion.settings()).into())
            }
            Some(Exec::ShowCongestionControl) => {
                let reader = Reader::open(&self.counters).map_err(|error| error.to_string())?;
                Ok(thresholds::congestion_statistics(&self.congestion, &reader).into())
            }
            Some(Exec::ShowTaskResources) => {
                let instance = command
                    .value("instance")
                    .map(|text| {
                        text.parse()
                            .map_err(|_| format!("'{text}' is no instance number"))
                    })
                    .transpose()?;
                Ok(show::task_resources(self, command.value("facility"), instance))
            }
            _ => Err(command.unknown_to(Facility::Rmctrl)),
        }
    }
}
