//! What `sit` answers on the bus: `show` commands and the restart of a task.

use bus::messages::common::{Execute, Output};
use bus::{Address, Facility, Incoming, dispatch};
use config::Exec;
use netio::Signal;

use crate::manager::Manager;
use crate::show;

/// Ends a task, which is then started again: parameters `facility` and `instance`. (The shell has no command for it yet.)
const TASK_KILL: &str = "task kill";

impl Manager {
    pub(crate) fn serve(&mut self, incoming: Incoming) {
        dispatch!(incoming, {
            Execute => |command, responder| responder.reply(match self.execute(&command) {
                Ok((heading, text)) => Output { heading, text, ..Output::default() },
                Err(failure) => Output { failure, ..Output::default() },
            }),
        });
    }

    /// Heading and text of a command, or the sentence after `Failure: `.
    fn execute(&mut self, command: &Execute) -> Result<(String, String), String> {
        let parameter = |name: &str| {
            command
                .parameters
                .iter()
                .find(|parameter| parameter.name == name)
                .map(|parameter| parameter.value.as_str())
        };
        if command.command == TASK_KILL {
            let facility = parameter("facility").unwrap_or_default().parse::<Facility>()?;
            let instance = parameter("instance").unwrap_or_default();
            let instance = instance
                .parse()
                .map_err(|_| format!("'{instance}' is no instance number"))?;
            return self
                .restart(Address::new(facility, instance))
                .map(|()| (String::new(), String::new()));
        }
        match Exec::from_id(&command.command) {
            Some(Exec::ShowTaskTable) => Ok(show::task_table(self, parameter("facility"))),
            Some(Exec::ShowCrashList) => Ok((String::new(), show::crash_list(&self.crashes))),
            Some(Exec::ClearCrashList) => match self.crashes.clear() {
                Ok(()) => Ok((String::new(), String::new())),
                Err(error) => Err(format!("the crash list cannot be saved: {error}")),
            },
            Some(Exec::ShowSystemUptime) => Ok((String::new(), show::uptime(self))),
            _ => Err(format!("sit does not know the command '{}'", command.command)),
        }
    }

    /// Ends the process of a task, as a crash would; it is started again.
    fn restart(&mut self, address: Address) -> Result<(), String> {
        let life = self.tasks.get_mut(&address).and_then(|entry| entry.life.as_mut());
        let life =
            life.ok_or_else(|| format!("there is no task {} {}", address.facility, address.instance))?;
        life.child
            .signal(Signal::SIGKILL)
            .map_err(|error| error.to_string())
    }
}
