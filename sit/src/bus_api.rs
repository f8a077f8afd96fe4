//! What `sit` answers on the bus: `show` commands and the restart of a task.

use bus::messages::common::{Execute, Output};
use bus::{Address, Facility, Incoming, dispatch};
use config::Exec;
use netio::Signal;

use crate::manager::Manager;
use crate::{security, show, upgrade};

impl Manager {
    pub(crate) fn serve(&mut self, incoming: Incoming) {
        dispatch!(incoming, {
            Execute => |command, responder| match Exec::from_id(&command.command) {
                // Answered when it is certain.
                Some(Exec::UpgradeOnline) => self.begin_upgrade(command.value("file"), Some(responder)),
                _ => responder.reply(self.execute(&command).into()),
            },
        });
    }

    /// What a command shows, or the sentence after `Failure: `.
    fn execute(&mut self, command: &Execute) -> Result<Output, String> {
        match Exec::from_id(&command.command) {
            Some(Exec::ShowTaskTable) => Ok(show::task_table(self, command.value("facility"))),
            Some(Exec::ShowProcessSecurity) => {
                Ok(security::process_security(self, command.value("facility")))
            }
            Some(Exec::ShowCrashList) => Ok(show::crash_list(&self.crashes).into()),
            Some(Exec::ShowSessionRecovery) => Ok(show::recovery_status(self, command.has("verbose")).into()),
            Some(Exec::ShowUpgrade) => Ok(upgrade::status(self)),
            Some(Exec::ClearCrashList) => match self.crashes.clear() {
                Ok(()) => Ok(Output::default()),
                Err(error) => Err(format!("the crash list cannot be saved: {error}")),
            },
            Some(Exec::TaskKill) => self.kill_task(command),
            Some(Exec::ShowSystemUptime) => Ok(show::uptime(self).into()),
            _ => Err(command.unknown_to(Facility::Sit)),
        }
    }

    fn kill_task(&mut self, command: &Execute) -> Result<Output, String> {
        let facility = command
            .value("facility")
            .unwrap_or_default()
            .parse::<Facility>()?;
        let instance = command.value("instance").unwrap_or_default();
        let instance = instance
            .parse()
            .map_err(|_| format!("'{instance}' is no instance number"))?;
        self.restart(Address::new(facility, instance))
            .map(|()| Output::default())
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
