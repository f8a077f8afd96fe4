//! The loop.

use std::time::Duration;

use bus::messages::sessmgr::{Held, HeldBlocks};
use bus::{Address, Bus, Facility};
use config::Config;
use task::{ConfigFollower, Sit, Task};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bus_api;
use crate::error::Error;
use crate::network::Network;
use crate::plan::needs_tun;
use crate::state::State;
use crate::watch::LinkWatch;

/// What a worker says that it holds.
struct Answer(u32, Held);

/// Runs until the node stops.
pub async fn run(task: Task) -> Result<(), Error> {
    let Task {
        bus,
        mut server,
        sit,
        shutdown,
        context,
        workers,
        lives,
        run_dir,
        ..
    } = task;
    let links = LinkWatch::open()?;
    let network = Network::open(context == config::LOCAL)?;
    let mut state = State::new(context, workers, lives, network, run_dir.join("counters"))?;
    let mut configuration = ConfigFollower::new(&bus);
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    for worker in state.unheard() {
        tokio::spawn(ask_held(
            bus.clone(),
            worker,
            state.context.clone(),
            answers.clone(),
        ));
    }
    let mut apply_at: Option<Instant> = None;
    let mut serving = false;
    loop {
        tokio::select! {
            text = configuration.next() => match Config::parse(&text.text) {
                // `sit` will end this process; until then peers are told over the network that is there.
                Ok(config) if !config.contexts.contains_key(&state.context) => apply_at = None,
                Ok(config) => {
                    let tun = tun(&sit, &state, &config).await;
                    let whole = tun.is_ok();
                    state.configure(config, tun.unwrap_or_default());
                    let done = state.apply();
                    apply_at = (!done || !whole).then(|| Instant::now() + SOON);
                    if !serving {
                        serving = true;
                        if let Err(error) = sit.ready().await {
                            tracing::warn!("{error}");
                        }
                    }
                }
                Err(error) => tracing::error!("the running configuration cannot be read: {error}"),
            },
            // Without a configuration there is no pool to give from.
            incoming = server.next(), if serving => match incoming {
                Some(incoming) => bus_api::answer(&mut state, incoming),
                None => return Ok(()),
            },
            // What is held is noted in the pools of the configuration.
            Some(Answer(worker, held)) = answered.recv(), if serving => state.hear(worker, &held),
            // A TUN that was made again, a port that came back: what was on it is gone.
            () = links.changed() => if state.has_changed() {
                let soon = Instant::now() + SOON;
                apply_at = Some(apply_at.map_or(soon, |at| at.min(soon)));
            },
            () = due(apply_at) => apply_at = (!state.apply()).then(|| Instant::now() + RETRY),
            _ = shutdown.requested() => {
                if !shutdown.hands_over() {
                    state.leave();
                }
                return Ok(());
            }
        }
    }
}

/// The device of the context's tunnels, if it needs one. An error when it should have one and cannot.
async fn tun(sit: &Sit, state: &State, config: &Config) -> Result<Option<String>, ()> {
    if !needs_tun(config, &state.context) {
        return Ok(None);
    }
    match sit.open_tun(&state.context).await {
        Ok(tun) => Ok(Some(tun.interface)),
        Err(error) => {
            tracing::error!("context {}: no device for tunnels: {error}", state.context);
            Err(())
        }
    }
}

/// Asks a worker what it holds until it answers.
async fn ask_held(bus: Bus, worker: u32, context: String, answers: mpsc::Sender<Answer>) {
    let sessmgr = Address::new(Facility::Sessmgr, worker);
    let question = HeldBlocks { context };
    loop {
        match bus.request(sessmgr, &question, DEADLINE).await {
            Ok(held) => return drop(answers.send(Answer(worker, held)).await),
            Err(error) => tracing::warn!("leases are not known yet: {error}"),
        }
        sleep(RETRY).await;
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// For each question to another task.
const DEADLINE: Duration = Duration::from_secs(3);
/// Until the first attempt at what failed: `sit` reads the same configuration and may be bringing the device. Devices that change do so several
/// times within it.
const SOON: Duration = Duration::from_millis(250);
/// Between later attempts: a device that is missing may come.
const RETRY: Duration = Duration::from_secs(2);
/// Answers that may wait.
const ANSWERS: usize = 64;
