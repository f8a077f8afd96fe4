//! What the resource manager answers.

use bus::messages::common::{Execute, Output};
use bus::messages::rmctrl::GetSlotMap;
use bus::{Incoming, dispatch};
use config::Exec;

use crate::manager::Manager;
use crate::show;

impl Manager {
    pub(crate) fn serve(&self, incoming: Incoming) {
        dispatch!(incoming, {
            GetSlotMap => |_, responder| responder.reply(self.map.clone()),
            Execute => |command, responder| responder.reply(match self.execute(&command) {
                Ok((heading, text)) => Output { heading, text, ..Output::default() },
                Err(failure) => Output { failure, ..Output::default() },
            }),
        });
    }

    /// Heading and text of a command, or the sentence after `Failure: `.
    fn execute(&self, command: &Execute) -> Result<(String, String), String> {
        let parameter = |name: &str| {
            command
                .parameters
                .iter()
                .find(|parameter| parameter.name == name)
                .map(|parameter| parameter.value.as_str())
        };
        match Exec::from_id(&command.command) {
            Some(Exec::ShowCryptoManagers) => match parameter("instance") {
                None => Ok((String::new(), show::managers(self))),
                Some(instance) => Ok((String::new(), show::manager(self, instance)?)),
            },
            Some(Exec::ShowTaskResources) => {
                let instance = parameter("instance")
                    .map(|text| {
                        text.parse()
                            .map_err(|_| format!("'{text}' is no instance number"))
                    })
                    .transpose()?;
                Ok(show::task_resources(self, parameter("facility"), instance))
            }
            _ => Err(format!("rmctrl does not know the command '{}'", command.command)),
        }
    }
}
