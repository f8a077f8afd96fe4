//! The loop: configuration and slot map in, `show` out.

use std::cell::Cell;
use std::time::Duration;

use bus::messages::rmctrl::{GetSlotMap, SlotMapChanged};
use bus::{Address, Facility};
use config::Config;
use task::{ConfigFollower, Task, follow};
use telemetry::events::{StrayRingFull, emit};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::counters::Count;
use crate::error::Error;
use crate::plan::Plan;
use crate::plane::Plane;
use crate::supplier::{Supplier, Wanted};

const RMCTRL: Address = Address::only(Facility::Rmctrl);
/// How soon the end of the data plane's thread is noticed.
const WATCH: Duration = Duration::from_millis(200);

/// How often losses between workers are told, if there are any.
const LOSS_REPORT: Duration = Duration::from_secs(10);

/// What the loop knows.
pub(crate) struct Manager {
    pub(crate) instance: u32,
    pub(crate) plane: Plane,
    /// Strays lost up to the last report.
    told_lost: Cell<u64>,
}

impl Manager {
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

/// One life.
pub(crate) async fn run(mut task: Task) -> Result<(), Error> {
    let worker = task.worker();
    let number = u16::try_from(worker).unwrap_or(u16::MAX);
    let manager = Manager {
        instance: worker,
        plane: Plane::start(number, task.counters.clone())?,
        told_lost: Cell::new(0),
    };
    let (wanted, receiver) = watch::channel(Wanted::default());
    let supplier = Supplier::new(task.sit.clone(), manager.plane.handle(), worker);
    tokio::spawn(supplier.run(receiver));
    let mut configuration = ConfigFollower::new(&task.bus);
    let mut maps = follow::<GetSlotMap, SlotMapChanged>(&task.bus, RMCTRL, GetSlotMap {});
    let mut watching = interval(WATCH);
    watching.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reporting = interval(LOSS_REPORT);
    loop {
        tokio::select! {
            Some(incoming) = task.server.next() => manager.serve(incoming),
            text = configuration.next() => match Config::parse(&text.text) {
                Ok(config) => wanted.send_modify(|wanted| wanted.plan = Some(Plan::new(&config))),
                Err(error) => tracing::error!("cannot read version {} of the configuration: {error}", text.version),
            },
            map = maps.next() => wanted.send_modify(|wanted| wanted.slots = Some(map)),
            _ = watching.tick() => if !manager.plane.is_alive() {
                return Err(Error::PlaneEnded);
            },
            _ = reporting.tick() => manager.report_losses(),
            _ = task.shutdown.requested() => {
                manager.plane.stop();
                return Ok(());
            }
        }
    }
}
