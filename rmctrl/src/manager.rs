//! The loop.

use std::path::PathBuf;
use std::time::Duration;

use bus::messages::rmctrl::SlotMap;
use task::{Error, Task};
use tokio::time::{MissedTickBehavior, interval};

use crate::load::Loads;
use crate::slots::slot_map;
use crate::tasks::Tasks;

const SAMPLING_INTERVAL: Duration = Duration::from_secs(5);
/// Between looks for tasks that are new.
const DISCOVERY_INTERVAL: Duration = Duration::from_millis(250);

/// What the resource manager knows.
pub(crate) struct Manager {
    pub workers: u32,
    pub map: SlotMap,
    pub loads: Loads,
    pub tasks: Tasks,
    /// Directory of the counter pages.
    pub counters: PathBuf,
}

/// Serves until the node stops.
pub async fn run(mut task: Task) -> Result<(), Error> {
    let counters = task.run_dir.join("counters");
    let mut manager = Manager {
        workers: task.workers,
        map: slot_map(task.workers),
        loads: Loads::new(&counters, task.workers),
        tasks: Tasks::default(),
        counters,
    };
    let mut sampling = interval(SAMPLING_INTERVAL);
    sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut discovery = interval(DISCOVERY_INTERVAL);
    discovery.set_missed_tick_behavior(MissedTickBehavior::Delay);
    task.sit.ready().await?;
    loop {
        tokio::select! {
            Some(incoming) = task.server.next() => manager.serve(incoming),
            () = manager.tasks.next() => {}
            _ = sampling.tick() => {
                manager.loads.sample();
                manager.tasks.ask(&task.bus);
            }
            _ = discovery.tick() => manager.tasks.discover(&task.bus),
            _ = task.shutdown.requested() => return Ok(()),
        }
    }
}
