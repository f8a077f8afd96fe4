//! The loop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::Facility;
use bus::messages::rmctrl::{CongestionChanged, DataPlaneCore, DataPlaneCores, SlotMap};
use command::Keyword;
use config::{Config, Rebalancing};
use task::{ConfigFollower, Error, Task};
use telemetry::Reader;
use telemetry::events::Severity;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::alarms::CoreAlarms;
use crate::carried::Carried;
use crate::congestion::{Congestion, Measurement};
use crate::lanes::Lanes;
use crate::load::Loads;
use crate::measure::{LimitedService, measure};
use crate::moves::Moves;
use crate::ports::Ports;
use crate::processors::{Kernel, Place, Processors};
use crate::rebalancing::Policy;
use crate::slots::slot_map;
use crate::tasks::{HEARTBEAT_INTERVAL, Tasks};

/// Between two samples.
const SAMPLING_INTERVAL: Duration = HEARTBEAT_INTERVAL;
/// Between two comparisons with the thresholds of congestion: sessions come fast.
const CONGESTION_INTERVAL: Duration = Duration::from_secs(1);
/// Between looks for tasks that are new.
const DISCOVERY_INTERVAL: Duration = Duration::from_millis(250);

/// What the resource manager knows.
pub(crate) struct Manager {
    pub workers: u32,
    pub moves: Moves,
    pub loads: Loads,
    pub carried: Carried,
    policy: Policy,
    lanes: Lanes,
    rebalancing: Rebalancing,
    pub tasks: Tasks,
    pub processors: Processors,
    pub ports: Ports,
    pub alarms: CoreAlarms,
    pub congestion: Congestion,
    /// Services that are meant for a number of sessions.
    pub services: Vec<LimitedService>,
    /// Directory of the counter pages.
    pub counters: PathBuf,
    /// The pages, once they could be read.
    reader: Option<Reader>,
}

impl Manager {
    /// One that knows nothing yet but the number of workers.
    pub fn new(workers: u32, counters: PathBuf, moves: Moves) -> Self {
        Self {
            workers,
            moves,
            loads: Loads::new(&counters, workers),
            carried: Carried::default(),
            policy: Policy::default(),
            lanes: Lanes::default(),
            rebalancing: Rebalancing::default(),
            tasks: Tasks::default(),
            processors: Processors::default(),
            ports: Ports::default(),
            alarms: CoreAlarms::new(Instant::now()),
            congestion: Congestion::default(),
            services: Vec::new(),
            counters,
            reader: None,
        }
    }

    /// Takes over a configuration.
    pub fn configure(&mut self, config: &Config) {
        let level = config.logging.level(Facility::Rmctrl.name());
        if let Some(level) = Severity::from_name(level.keyword()) {
            task::set_level(level);
        }
        self.alarms.configure(Instant::now(), &config.thresholds);
        self.congestion.configure(&config.congestion);
        self.rebalancing = config.rebalancing;
        self.lanes.configure(config);
        self.services = LimitedService::all(config);
    }

    /// The use of the processors of the data plane in the last interval.
    pub fn data_plane_cores(&self) -> DataPlaneCores {
        let cores = self.data_plane_use().map(|(number, used)| DataPlaneCore {
            number,
            used: (used * 100.0) as u32,
        });
        DataPlaneCores {
            cores: cores.collect(),
        }
    }

    fn sample(&mut self) {
        self.loads.sample();
        self.processors
            .take(&Kernel::read(), netio::numa_nodes(Path::new(netio::NUMA_NODES)));
        let cores: Vec<(u32, f64)> = self.data_plane_use().collect();
        self.alarms.look(Instant::now(), cores);
    }

    /// Has slots moved if a manager lacks some of another data plane, or some data plane has too much to do.
    fn rebalance(&mut self) {
        let now = Instant::now();
        self.lanes.make(now, &self.moves, self.workers, &self.carried);
        let map = self.moves.map();
        let may_go = |map: &SlotMap, slot| self.lanes.may_go(map, slot);
        let (workers, carried) = (self.workers, &self.carried);
        let order = self
            .policy
            .decide(now, self.rebalancing, &map, workers, carried, may_go);
        if let Some(order) = order {
            self.moves.order(order);
        }
    }

    /// Compares with the thresholds of congestion. True when what new peers get has changed.
    fn judge(&mut self) -> bool {
        let measured = match self.congestion.settings().enabled {
            true => self.measure(),
            false => Vec::new(),
        };
        self.congestion.judge(measured)
    }

    fn measure(&mut self) -> Vec<Measurement> {
        let opened = match self.reader.take() {
            Some(mut reader) => reader.refresh().map(|()| reader),
            None => Reader::open(&self.counters),
        };
        match opened {
            Ok(reader) => {
                let reader = self.reader.insert(reader);
                measure(reader, &self.services, &self.processors, &self.tasks, &self.ports)
            }
            Err(error) => {
                tracing::warn!("congestion cannot be measured: {error}");
                Vec::new()
            }
        }
    }

    /// Each processor of the data plane with its use in percent.
    fn data_plane_use(&self) -> impl Iterator<Item = (u32, f64)> {
        let cores = self.tasks.data_plane().into_iter();
        cores.filter_map(|core| Some((core, self.processors.last(Place::Core(core))?.busy())))
    }
}

/// Serves until the node stops.
pub async fn run(mut task: Task) -> Result<(), Error> {
    // Nobody hears of a map that `sit` does not keep.
    let map = match task.sit.kept_slot_map().await? {
        Some(kept) => kept,
        None => {
            let first = slot_map(task.workers);
            task.sit.set_slot_map(&first).await?;
            first
        }
    };
    let moves = Moves::start(
        map,
        task.workers,
        task.bus.clone(),
        task.sit.clone(),
        task.counters.clone(),
    );
    let mut manager = Manager::new(task.workers, task.run_dir.join("counters"), moves);
    let mut configuration = ConfigFollower::new(&task.bus);
    let every = |duration| {
        let mut ticks = interval(duration);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut sampling, mut discovery) = (every(SAMPLING_INTERVAL), every(DISCOVERY_INTERVAL));
    let mut judging = every(CONGESTION_INTERVAL);
    task.sit.ready().await?;
    loop {
        tokio::select! {
            Some(incoming) = task.server.next() => manager.serve(incoming),
            () = manager.tasks.next() => {}
            () = manager.ports.next() => {}
            () = manager.carried.next() => {}
            text = configuration.next() => match Config::parse(&text.text) {
                Ok(config) => {
                    manager.configure(&config);
                    judging.reset_immediately();
                }
                Err(error) => tracing::error!(
                    "configuration version {} cannot be read, going on with the one before: {error}",
                    text.version
                ),
            },
            _ = sampling.tick() => {
                manager.sample();
                manager.rebalance();
                manager.carried.ask(&task.bus, task.workers);
                manager.tasks.ask(&task.bus);
                if manager.congestion.settings().enabled {
                    manager.ports.ask(&task.bus);
                }
            }
            _ = judging.tick() => {
                if manager.judge() {
                    task.bus.publish(&CongestionChanged {});
                }
            }
            _ = discovery.tick() => manager.tasks.discover(&task.bus),
            _ = task.shutdown.requested() => return Ok(()),
        }
    }
}
