//! What the resource manager answers.

use bus::messages::common::{Execute, Output};
use bus::messages::rmctrl::GetSlotMap;
use bus::{Incoming, dispatch};

use crate::manager::Manager;
use crate::show;

impl Manager {
    pub(crate) fn serve(&self, incoming: Incoming) {
        dispatch!(incoming, {
            GetSlotMap => |_, responder| responder.reply(self.map.clone()),
            Execute => |command, responder| responder.reply(match self.execute(&command) {
                Ok(text) => Output { text, ..Output::default() },
                Err(failure) => Output { failure, ..Output::default() },
            }),
        });
    }

    /// Text of a command, or the sentence after `Failure: `.
    fn execute(&self, command: &Execute) -> Result<String, String> {
        match command.command.as_str() {
            "show-crypto-managers" => {
                match command
                    .parameters
                    .iter()
                    .find(|parameter| parameter.name == "instance")
                {
                    None => Ok(show::managers(self)),
                    Some(instance) => show::manager(self, &instance.value),
                }
            }
            other => Err(format!("rmctrl does not know the command '{other}'")),
        }
    }
}
