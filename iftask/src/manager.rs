//! The loop: configuration and slot map in, `show` out.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::messages::rmctrl::{GetSlotMap, SlotMapChanged};
use bus::{Address, Facility};
use config::Config;
use task::{ConfigFollower, Task, follow};
use telemetry::events::{StrayRingFull, emit};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::busy::Busy;
use crate::counters::Count;
use crate::error::Error;
use crate::plan::Plan;
use crate::plane::Plane;
use crate::slots::{Ask, Keeper};
use crate::supplier::{Supplier, Ways};

const RMCTRL: Address = Address::only(Facility::Rmctrl);
/// How often the data plane is looked at: whether its thread has ended, how busy it is.
const WATCH: Duration = Duration::from_millis(200);

/// A data plane that has not come round for so many looks is stuck: it does so at least ten times a second.
const STUCK: u32 = 50;

/// How often losses between workers are told, if there are any.
const LOSS_REPORT: Duration = Duration::from_secs(10);

/// What the loop knows.
pub(crate) struct Manager {
    pub(crate) instance: u32,
    pub(crate) plane: Plane,
    pub(crate) busy: RefCell<Busy>,
    pub(crate) ways: watch::Receiver<Ways>,
    /// Strays lost up to the last report.
    told_lost: Cell<u64>,
    /// The way to who has the slots.
    pub(crate) asks: UnboundedSender<Ask>,
}

impl Manager {
    /// Notes how busy the data plane has been.
    pub(crate) fn look(&self) {
        let busy_ns = self.plane.statistics.busy_ns.load(Ordering::Relaxed);
        self.busy.borrow_mut().look(netio::task::monotonic_ns(), busy_ns);
    }

    fn report_losses(&self) {
        let lost = self.plane.statistics.get(Count::StrayLost);
        let count = lost - self.told_lost.replace(lost);
        if count > 0 {
            emit(&StrayRingFull {
                worker: self.instance,
                count,
            });
        }
    }
}

/// Watches a number that has to move.
#[derive(Debug, Default)]
struct Pulse {
    last: u64,
    /// Looks since it moved.
    still: u32,
}

impl Pulse {
    /// Looks at the number; false when it has not moved for [`STUCK`] looks.
    fn beats(&mut self, now: u64) -> bool {
        self.still = if now == self.last { self.still + 1 } else { 0 };
        self.last = now;
        self.still < STUCK
    }
}

/// One life.
pub(crate) async fn run(mut task: Task) -> Result<(), Error> {
    let worker = task.worker();
    let number = u16::try_from(worker).unwrap_or(u16::MAX);
    let (lost, losses) = unbounded_channel();
    let (asks, asked) = unbounded_channel();
    let (ways, shown) = watch::channel(Ways::default());
    let manager = Manager {
        instance: worker,
        plane: Plane::start(number, task.counters.clone(), lost)?,
        busy: RefCell::default(),
        ways: shown,
        told_lost: Cell::new(0),
        asks,
    };
    let (wanted, plans) = watch::channel(None);
    let (map, slot_maps) = watch::channel(None);
    let supplier = Supplier::new(task.sit.clone(), manager.plane.handle(), ways);
    let keeper = Keeper::new(task.sit.clone(), manager.plane.handle(), worker, task.lives);
    let (supplied, has_slots) = (supplier.supplied(), keeper.has_slots());
    tokio::spawn(supplier.run(plans, has_slots, losses));
    tokio::spawn(keeper.run(slot_maps, asked, supplied));
    let mut configuration = ConfigFollower::new(&task.bus);
    let mut maps = follow::<GetSlotMap, SlotMapChanged>(&task.bus, RMCTRL, GetSlotMap {});
    let mut watching = interval(WATCH);
    watching.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pulse = Pulse::default();
    let mut reporting = interval(LOSS_REPORT);
    loop {
        tokio::select! {
            Some(incoming) = task.server.next() => manager.serve(incoming),
            text = configuration.next() => match Config::parse(&text.text) {
                Ok(config) => drop(wanted.send_replace(Some((text.version, Plan::new(&config))))),
                Err(error) => tracing::error!("cannot read version {} of the configuration: {error}", text.version),
            },
            new = maps.next() => drop(map.send_replace(Some(new))),
            _ = watching.tick() => {
                manager.look();
                if !manager.plane.is_alive() {
                    return Err(Error::PlaneEnded);
                }
                if !pulse.beats(manager.plane.statistics.rounds.load(Ordering::Relaxed)) {
                    return Err(Error::PlaneStuck);
                }
            }
            _ = reporting.tick() => manager.report_losses(),
            _ = task.shutdown.requested() => {
                manager.plane.stop();
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_stands_still_for_long_is_noticed() {
        let mut pulse = Pulse::default();
        assert!((1..1000).all(|round| pulse.beats(round / 10)));
        let looks = (0..2 * STUCK).take_while(|_| pulse.beats(99)).count();
        assert!((1..STUCK as usize).contains(&looks), "{looks}");
        assert!(pulse.beats(100), "it moves again");
    }
}
