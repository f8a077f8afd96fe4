//! What the resource manager answers.

use std::time::Duration;

use bus::messages::common::{Execute, Output};
use bus::messages::rmctrl::{GetCongestion, GetDataPlaneCores, GetSlotMap, SlotPart};
use bus::{Facility, Incoming, dispatch};
use config::Exec;
use telemetry::Reader;
use tokio::time::timeout;

use crate::manager::Manager;
use crate::moves::{self, Order};
use crate::show::{self, cpu, slots, thresholds};

/// A shell waits a little longer for an answer.
const MOVE_PATIENCE: Duration = Duration::from_secs(4);

impl Manager {
    pub(crate) fn serve(&self, incoming: Incoming) {
        dispatch!(incoming, {
            GetSlotMap => |_, responder| responder.reply(self.moves.map()),
            GetCongestion => |_, responder| responder.reply(self.congestion.verdict()),
            GetDataPlaneCores => |_, responder| responder.reply(self.data_plane_cores()),
            Execute => |command, responder| match Exec::from_id(&command.command) {
                Some(Exec::CryptoSlotMove) => self.move_slot(&command, |outcome| responder.reply(outcome.into())),
                _ => responder.reply(self.execute(&command).into()),
            },
        });
    }

    /// `crypto slot move`: both parts of a slot or one. Answers when it is done, or what is the matter with it.
    fn move_slot(&self, command: &Execute, reply: impl FnOnce(Result<Output, String>) + Send + 'static) {
        let number = |name| command.value(name).and_then(|text| text.parse::<u32>().ok());
        let (Some(slot), Some(to)) = (number("slot"), number("worker")) else {
            return reply(Err("a slot and a worker are needed".to_owned()));
        };
        let of_one = [SlotPart::Manager, SlotPart::Data, SlotPart::Output];
        let parts = match of_one.iter().find(|part| command.has(moves::name(**part))) {
            Some(part) => std::slice::from_ref(part),
            None => &[SlotPart::Data, SlotPart::Manager],
        };
        let map = self.moves.map();
        if map.leaving.iter().any(|entry| entry.slot == slot) {
            return reply(Err(format!("slot {slot} is being moved")));
        }
        let is_own = || map.owner(SlotPart::Data, u8::try_from(slot).unwrap_or(0)) == Some(to);
        if parts == [SlotPart::Output] && !self.carried.takes_output(to) && !is_own() {
            return reply(Err(format!(
                "worker {to} has not said that it takes output: it is of an earlier version, or has just begun"
            )));
        }
        let has = |part: &SlotPart| map.owner(*part, u8::try_from(slot).unwrap_or(0)) == Some(to);
        // Of both parts those that are not there yet; of one, to hear that it is.
        let wanted = parts.iter().filter(|part| parts.len() == 1 || !has(part));
        let wanted: Vec<SlotPart> = wanted.copied().collect();
        if wanted.is_empty() {
            return reply(Err(format!("worker {to} has slot {slot} already")));
        }
        let moves = self.moves.clone();
        tokio::spawn(async move {
            // The second part only where the first went; who waits no longer does not end it.
            let all = tokio::spawn(async move {
                for part in wanted {
                    let slots = vec![slot];
                    let outcome = moves.order_and_hear(Order { slots, part, to });
                    outcome.await.map_err(|_| "the move was given up".to_owned())??;
                }
                Ok(Output::default())
            });
            let all = async move { all.await.unwrap_or_else(|error| Err(error.to_string())) };
            let still = || {
                Ok(Output::from(
                    "The move is still under way: see 'show crypto slots'.\n".to_owned(),
                ))
            };
            reply(timeout(MOVE_PATIENCE, all).await.unwrap_or_else(|_| still()));
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
            Some(Exec::ShowCryptoSlots) => {
                let all = command.has("verbose");
                Ok(slots::slots(&self.moves.map(), &self.carried, all).into())
            }
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
