//! What the resource manager answers.

use bus::messages::common::{Execute, Output};
use bus::messages::rmctrl::GetSlotMap;
use bus::{Facility, Incoming, dispatch};
use config::Exec;

use crate::manager::Manager;
use crate::show;

impl Manager {
    pub(crate) fn serve(&self, incoming: Incoming) {
        dispatch!(incoming, {
            GetSlotMap => |_, responder| responder.reply(self.map.clone()),
            Execute => |command, responder| responder.reply(self.execute(&command).into()),
        });
    }

    /// What a command shows, or the sentence after `Failure: `.
    fn execute(&self, command: &Execute) -> Result<Output, String> {
        match Exec::from_id(&command.command) {
            Some(Exec::ShowCryptoManagers) => match command.value("instance") {
                None => Ok(show::managers(self).into()),
                Some(instance) => Ok(show::manager(self, instance)?.into()),
            },
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
