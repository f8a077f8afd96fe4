//! What an `iftask` serves on the bus.

use std::sync::atomic::Ordering;

use bus::messages::common::{Execute, Output, Total};
use bus::messages::slots::{
    GetSlotLoads, HandOverSlots, PrepareSlots, SlotLoad, SlotLoads, SlotsHeld, TakeSlots,
};
use bus::{Facility, Incoming, dispatch};
use config::Exec;

use crate::manager::Manager;
use crate::show;
use crate::slots::{Ask, Step};

impl Manager {
    pub(crate) fn serve(&self, incoming: Incoming) {
        dispatch!(incoming, {
            Execute => |command, responder| responder.reply(self.execute(&command)),
            GetSlotLoads => |_, responder| responder.reply(self.slot_loads()),
            PrepareSlots => |prepare, responder| self.ask(Step::Prepare(prepare), |held| responder.reply(held)),
            HandOverSlots => |hand_over, responder| self.ask(Step::HandOver(hand_over), |held| responder.reply(held)),
            TakeSlots => |take, responder| self.ask(Step::Take(take), |held| responder.reply(held)),
        });
    }

    /// Has the keeper of the slots do a step of a move; it answers when that is done.
    fn ask(&self, step: Step, reply: impl FnOnce(SlotsHeld) + Send + 'static) {
        let reply = Box::new(reply);
        // Fails only when the keeper is gone, and this process with it: who asked will ask the next one.
        let _ = self.asks.send(Ask { step, reply });
    }

    /// What crossed of each slot, and what it has.
    fn slot_loads(&self) -> SlotLoads {
        let slots = (0..).zip(self.plane.statistics.of_slots());
        let loads = slots.filter(|(_, (packets, tunnels))| *packets > 0 || *tunnels > 0);
        SlotLoads {
            loads: loads
                .map(|(slot, (packets, tunnels))| SlotLoad {
                    slot,
                    packets,
                    child_sas: tunnels,
                    ike_sas: 0,
                })
                .collect(),
            busy_ns: self.plane.statistics.busy_ns.load(Ordering::Relaxed),
            takes_output: true,
        }
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
