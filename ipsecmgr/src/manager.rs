//! The loop: one life of an `ipsecmgr` from its first question to its last answer.

use std::collections::HashMap;
use std::future::pending;
use std::iter::{from_fn, once};
use std::time::{Duration, Instant};

use bus::messages::rmctrl::{CongestionChanged, GetCongestion, GetSlotMap, SlotMap, SlotMapChanged};
use bus::{Address, Bus, Facility};
use crypto::SystemRandom;
use ikev2::{Engine, EngineConfig};
use task::Task;
use telemetry::counters::congestion as counter;
use tokio::sync::mpsc::{channel, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{interval, sleep, sleep_until, timeout};

use crate::Error;
use crate::bus_api::Desk;
use crate::configurator::Configurator;
use crate::congestion::Congestion;
use crate::held::Held;
use crate::moves::Moves;
use crate::questions::Asker;
use crate::recovery::Recovery;
use crate::refusals::Refusals;
use crate::routes::RouteDesk;
use crate::secrets::SecretCache;
use crate::service_states::ServiceStates;
use crate::session_desks::SessionDesks;
use crate::sessions::Sessions;
use crate::sockets::{IKE_PORT, NAT_PORT, Sockets};
use crate::state::State;

const RMCTRL: Address = Address::only(Facility::Rmctrl);
const RMCTRL_DEADLINE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(200);
/// Of opening the first slots; after so many it is not for want of a newer map.
const OPENING_ATTEMPTS: u32 = 10;
/// What tasks found out that is taken in with one turn of the loop.
const TOGETHER: usize = 32;
/// With so many verdicts of `sessmgr`, which come many at once, it is enough: each may end a set-up.
const VERDICTS: usize = 128;
/// How often it is looked at how much waits in the sockets.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(1);
/// What is kept of the grace at the end, so that nobody has to kill us.
const RESERVE: Duration = Duration::from_millis(200);
/// At the end, for `sessmgr` and `vpnmgr` to hear the last news.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// One life.
pub(crate) async fn run(mut task: Task) -> Result<(), Error> {
    SystemRandom::seed_ahead();
    let worker = task.worker();
    let mut moves = Moves::new(worker, task.lives, task.sit.clone());
    let mut attempts = 0;
    let (map, begun, slots) = loop {
        let map = slot_map(&task.bus).await;
        let begun = Instant::now();
        match moves.open_first(&map).await {
            Ok(slots) => break (map, begun, slots),
            // A slot may just be moving: `sit` knows a newer map then.
            Err(Error::Sit(error)) if attempts < OPENING_ATTEMPTS => {
                tracing::warn!("{error}");
                attempts += 1;
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    };
    let (found, mut answers) = unbounded_channel();
    let mut sockets = Sockets::new(task.counters.clone())?;
    for rings in task.sit.open_rings().await? {
        sockets.join_data_plane(rings)?;
    }
    let config = EngineConfig {
        slots: moves.ours(),
        ike_port: IKE_PORT,
        nat_port: NAT_PORT,
        max_selectors: sadb::MAX_SELECTORS,
        epoch: slots.epoch(),
        rests: true,
        ..EngineConfig::default()
    };
    let mut state = State {
        engine: Engine::new(config, Box::new(SystemRandom)),
        moves,
        slots,
        sockets,
        sessions: Sessions::new(worker),
        services: HashMap::new(),
        secrets: SecretCache::default(),
        asker: Asker::new(&task.bus, &task.links, &found),
        desks: SessionDesks::start(&task.bus, worker, task.workers, &found),
        routes: RouteDesk::new(&task.bus, found),
        held: Held::default(),
        counters: task.counters.clone(),
        draining: false,
        cookies: false,
        refusals: Refusals::new(Instant::now()),
        later: Vec::new(),
        recovery: Recovery::new(begun, task.lives > 0),
        configuration: 0,
        failure: None,
        congestion: Congestion::default(),
    };
    state.reserve_recorded(begun)?;
    state.follow(map);
    let (updates, mut configured) = channel(1);
    let (open, states) = watch::channel(Vec::new());
    tokio::spawn(ServiceStates::new(&task.bus, &task.counters).run(states));
    tokio::spawn(Configurator::new(&task.bus, &task.sit, task.lives > 0, open).run(updates));
    let mut slot_maps = task::follow::<GetSlotMap, SlotMapChanged>(&task.bus, RMCTRL, GetSlotMap {});
    let mut congestion =
        task::follow::<GetCongestion, CongestionChanged>(&task.bus, RMCTRL, GetCongestion {});
    let mut backlog = interval(BACKLOG_INTERVAL);
    let mut desk = Desk::default();
    let mut ready = false;
    let mut end: Option<Instant> = None;
    loop {
        let due = [state.next_timeout(), desk.next_timeout(), end]
            .into_iter()
            .flatten()
            .min();
        tokio::select! {
            () = state.sockets.readable() => state.receive(),
            Some(first) = answers.recv() => {
                let mut verdicts = first.verdicts();
                let others = from_fn(|| {
                    let next = (verdicts < VERDICTS).then(|| answers.try_recv().ok())??;
                    verdicts += next.verdicts();
                    Some(next)
                })
                .take(TOGETHER - 1);
                state.found(once(first).chain(others));
            }
            () = until(due) => state.expire(),
            map = slot_maps.next() => state.follow(map),
            congestion = congestion.next() => state.congestion.set(congestion),
            _ = backlog.tick() => state.counters.set(counter::QUEUE, state.sockets.backlog().into()),
            Some(incoming) = task.server.next() => desk.serve(&mut state, incoming),
            Some(update) = configured.recv() => {
                state.configure(update);
                if !ready {
                    ready = true;
                    let sit = task.sit.clone();
                    tokio::spawn(async move {
                        if let Err(error) = sit.ready().await {
                            tracing::error!("{error}");
                        }
                    });
                }
            }
            grace = task.shutdown.requested(), if end.is_none() => {
                if task.shutdown.hands_over() {
                    // Every turn has committed its records: the next life goes on from them.
                    return Ok(());
                }
                end = Some(Instant::now() + grace.saturating_sub(RESERVE));
                // `sit` has them deleted before it tells us; they are here when somebody else stops this process.
                let count = state.drain();
                if count > 0 {
                    tracing::info!("told to stop, {count} IKE SAs are being deleted");
                }
            }
        }
        if let Some(error) = state.failure.take() {
            return Err(error.into());
        }
        desk.settle(&state);
        if end.is_some_and(|end| state.engine.totals().ike_sas == 0 || end <= Instant::now()) {
            // What ended last is to be accounted for, too.
            let _ = timeout(LAST_WORDS, state.delivered().recv()).await;
            return Ok(());
        }
    }
}

/// The slot map, as soon as `rmctrl` tells.
async fn slot_map(bus: &Bus) -> SlotMap {
    loop {
        match bus.request(RMCTRL, &GetSlotMap {}, RMCTRL_DEADLINE).await {
            Ok(map) => return map,
            Err(error) => {
                tracing::warn!("cannot read the slot map yet: {error}");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
