//! The loop.

use std::time::Duration;

use bus::messages::rmctrl::SlotMap;
use task::{Error, Task};
use tokio::time::{MissedTickBehavior, interval};

use crate::load::Loads;
use crate::slots::slot_map;

const SAMPLING_INTERVAL: Duration = Duration::from_secs(5);

/// What the resource manager knows.
pub(crate) struct Manager {
    pub workers: u32,
    pub map: SlotMap,
    pub loads: Loads,
}

/// Serves until the node stops.
pub async fn run(mut task: Task) -> Result<(), Error> {
    let mut manager = Manager {
        workers: task.workers,
        map: slot_map(task.workers),
        loads: Loads::new(&task.run_dir.join("counters"), task.workers),
    };
    let mut sampling = interval(SAMPLING_INTERVAL);
    sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sampling.reset();
    task.sit.ready().await?;
    loop {
        tokio::select! {
            Some(incoming) = task.server.next() => manager.serve(incoming),
            _ = sampling.tick() => manager.loads.sample(),
            _ = task.shutdown.requested() => return Ok(()),
        }
    }
}
