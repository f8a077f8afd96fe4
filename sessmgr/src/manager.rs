//! The loop.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bus::messages::aaamgr::{Account, AccountingRecord};
use bus::messages::rmctrl::{GetSlotMap, SlotMapChanged};
use bus::messages::sessmgr::SessionAdmitted;
use bus::messages::vpnmgr::{LeaseAddress, LeaseBlock, ReturnBlock};
use bus::{Address, Bus, BusError, Facility, Heard, Request};
use config::Config;
use ikev2::{Identity, IdentityKind};
use sadb::Slot;
use task::{ConfigFollower, Sit, Task};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::admission::{Grant, Need, address, octets};
use crate::blocks::Lease;
use crate::bus_api;
use crate::desk::Desk;
use crate::error::Error;
use crate::journal::Journal;
use crate::policy::PoolKey;
use crate::state::{Errand, SWEEP_STEP, State};
use crate::usage::Segments;

/// What helpers bring back to the loop.
enum Brought {
    /// An answer of `vpnmgr`, with the block if it gave one.
    Granted(Need, Option<Lease>, Grant),
    /// Accounting records were taken over, or not.
    Accounted(bool),
    /// The counter segments of all slots.
    Segments(Segments),
}

/// Runs until the node stops.
pub async fn run(task: Task) -> Result<(), Error> {
    let worker = task.worker();
    let Task {
        bus,
        mut server,
        sit,
        counters,
        shutdown,
        workers,
        run_dir,
        lives,
        ..
    } = task;
    let (mut journal, past) = Journal::open(&run_dir, worker, lives).map_err(Error::Journal)?;
    // Until there is a configuration nobody is served: sessions cannot be restored without their services.
    let mut past = Some(past);
    let mut state = State::new(
        worker,
        run_dir.join("counters"),
        counters,
        Box::new(Segments::default()),
    );
    let mut shell = Shell::new(bus.clone(), sit, worker);
    let mut configuration = ConfigFollower::new(&bus);
    let mut slot_maps = task::follow::<GetSlotMap, SlotMapChanged>(&bus, RMCTRL, GetSlotMap {});
    shell.map_slots();
    let mut newer = bus.subscribe::<SessionAdmitted>();
    for other in (1..=workers).filter(|&other| other != worker) {
        newer.follow(Address::new(Facility::Sessmgr, other));
    }
    let mut sweep = interval(SWEEP_STEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut desk = Desk::default();
    loop {
        tokio::select! {
            text = configuration.next() => match Config::parse(&text.text) {
                Ok(config) => {
                    state.configure(config);
                    if let Some(past) = past.take() {
                        if past.len() > 0 {
                            tracing::info!("{} sessions go on", past.len());
                        }
                        state.restore(&past, Instant::now());
                        if let Err(error) = shell.sit.ready().await {
                            tracing::warn!("{error}");
                        }
                    }
                }
                Err(error) => tracing::error!("the running configuration cannot be read: {error}"),
            },
            incoming = server.next(), if past.is_none() => match incoming {
                // What came together is written down together.
                Some(first) => {
                    let others = std::iter::from_fn(|| server.try_next()).take(TOGETHER - 1);
                    for incoming in std::iter::once(first).chain(others) {
                        let needs = bus_api::answer(&mut state, &mut desk, incoming);
                        shell.ask(needs);
                    }
                }
                None => return Ok(()),
            },
            Some(brought) = shell.brought.recv() => match brought {
                Brought::Granted(need, lease, grant) => {
                    match (&need, lease) {
                        (Need::Block(key), Some(lease)) => state.add_block(key, lease),
                        (Need::Block(key), None) => state.pool_is_dry(key, Instant::now()),
                        (Need::Address(..), _) => {}
                    }
                    shell.asked.remove(&need);
                    let needs = desk.granted(&mut state, &need, &grant, Instant::now());
                    shell.ask(needs);
                }
                Brought::Accounted(taken) => state.outbox.done(taken),
                Brought::Segments(segments) => state.meter = Box::new(segments),
            },
            event = newer.next() => if let Heard::Event(_, event) = event {
                heard(&mut state, &event);
            },
            map = slot_maps.next() => state.set_managers(map.managers),
            _ = sweep.tick() => {
                state.sweep(Instant::now());
                let low = state.low_pools(Instant::now()).into_iter().map(Need::Block).collect();
                shell.ask(low);
            }
            _ = shutdown.requested() => return Ok(()),
        }
        // Before anybody hears of it.
        journal.write(&mut state);
        desk.replies.send();
        shell.run(std::mem::take(&mut state.errands));
        if let Some(records) = state.outbox.next() {
            shell.account(records);
        }
    }
}

/// Asks other tasks in helpers of their own, so that the loop never waits.
struct Shell {
    bus: Bus,
    sit: Sit,
    worker: u32,
    /// Needs that `vpnmgr` has been asked for and has not answered.
    asked: HashSet<Need>,
    bring: mpsc::Sender<Brought>,
    brought: mpsc::Receiver<Brought>,
}

impl Shell {
    fn new(bus: Bus, sit: Sit, worker: u32) -> Self {
        let (bring, brought) = mpsc::channel(QUEUE);
        Self {
            bus,
            sit,
            worker,
            asked: HashSet::new(),
            bring,
            brought,
        }
    }

    /// Asks `vpnmgr` for what is needed and has not been asked for.
    fn ask(&mut self, needs: Vec<Need>) {
        for need in needs {
            if !self.asked.insert(need.clone()) {
                continue;
            }
            let (bus, bring, worker) = (self.bus.clone(), self.bring.clone(), self.worker);
            tokio::spawn(async move {
                let (lease, grant) = match &need {
                    Need::Block(key) => lease_block(&bus, worker, key).await,
                    Need::Address(context, address) => {
                        let request = LeaseAddress {
                            address: octets(*address),
                            worker,
                            release: false,
                        };
                        let vpnmgr = Address::new(Facility::Vpnmgr, *context);
                        (
                            None,
                            grant(bus.request(vpnmgr, &request, DEADLINE).await, |leased| {
                                leased.failure.clone()
                            }),
                        )
                    }
                };
                let _ = bring.send(Brought::Granted(need, lease, grant)).await;
            });
        }
    }

    /// Hands accounting records to `aaamgr`.
    fn account(&self, records: Vec<AccountingRecord>) {
        let (bus, bring) = (self.bus.clone(), self.bring.clone());
        tokio::spawn(async move {
            let answer = bus.request(AAAMGR, &Account { records }, DEADLINE).await;
            let taken = match answer {
                Ok(answer) if answer.failure.is_empty() => true,
                Ok(answer) => {
                    tracing::warn!("accounting records wait: {}", answer.failure);
                    false
                }
                Err(error) => {
                    tracing::warn!("accounting records wait: {error}");
                    false
                }
            };
            if !taken {
                sleep(RETRY).await;
            }
            let _ = bring.send(Brought::Accounted(taken)).await;
        });
    }

    /// Does errands.
    fn run(&self, errands: Vec<Errand>) {
        for errand in errands {
            match errand {
                Errand::GiveBack { context, pool, first } => {
                    let vpnmgr = Address::new(Facility::Vpnmgr, context);
                    let (worker, first) = (self.worker, octets(first));
                    match pool.is_empty() {
                        true => self.insist(
                            vpnmgr,
                            LeaseAddress {
                                address: first,
                                worker,
                                release: true,
                            },
                        ),
                        false => self.insist(vpnmgr, ReturnBlock { pool, worker, first }),
                    }
                }
                Errand::End(ike_spis, reason) => {
                    let bus = self.bus.clone();
                    tokio::spawn(async move { task::delete_tunnels(&bus, ike_spis, reason.text()).await });
                }
                Errand::Newer(service, identity, began) => self.bus.publish(&SessionAdmitted {
                    context: service.context.to_string(),
                    service: service.name.to_string(),
                    identity_type: identity.kind() as u32,
                    identity: identity.data().to_vec(),
                    began,
                }),
            }
        }
    }

    /// Asks again and again for something that may be asked twice, until it is done or hopeless.
    fn insist<R: Request + Sync>(&self, to: Address, request: R) {
        let bus = self.bus.clone();
        tokio::spawn(async move {
            for _ in 0..ATTEMPTS {
                match bus.request(to, &request, DEADLINE).await {
                    Ok(_) => return,
                    Err(error) => tracing::warn!("{error}"),
                }
                sleep(RETRY).await;
            }
            tracing::error!("{} given up after {ATTEMPTS} attempts", R::NAME);
        });
    }

    /// Maps the counters of all slots, as soon as `sit` gives them: a session stays here, wherever its slot goes.
    fn map_slots(&self) {
        let (sit, bring) = (self.sit.clone(), self.bring.clone());
        tokio::spawn(async move {
            let slots: Vec<Slot> = Slot::all().collect();
            loop {
                match sit.open_slot_counters(&slots).await {
                    Ok(descriptors) => {
                        let segments = Segments::map(descriptors);
                        return drop(bring.send(Brought::Segments(segments)).await);
                    }
                    Err(error) => tracing::warn!("traffic cannot be read yet: {error}"),
                }
                sleep(RETRY).await;
            }
        });
    }
}

async fn lease_block(bus: &Bus, worker: u32, key: &PoolKey) -> (Option<Lease>, Grant) {
    let request = LeaseBlock {
        pool: key.name.to_string(),
        worker,
    };
    let vpnmgr = Address::new(Facility::Vpnmgr, key.context);
    let answer = bus.request(vpnmgr, &request, DEADLINE).await;
    let lease = answer
        .as_ref()
        .ok()
        .filter(|block| block.failure.is_empty())
        .and_then(|block| {
            let prefix_length = u8::try_from(block.prefix_length).ok()?;
            Some(Lease {
                first: address(&block.first)?,
                count: block.count,
                prefix_length,
            })
        });
    match lease {
        Some(lease) => (Some(lease), Grant::Given),
        None => (None, Grant::Refused(refusal(answer.map(|block| block.failure)))),
    }
}

fn grant<T>(answer: Result<T, BusError>, failure: impl Fn(&T) -> String) -> Grant {
    match answer {
        Ok(answer) if failure(&answer).is_empty() => Grant::Given,
        other => Grant::Refused(refusal(other.map(|answer| failure(&answer)))),
    }
}

fn refusal(answer: Result<String, BusError>) -> String {
    match answer {
        Ok(failure) if failure.is_empty() => "vpnmgr gave no address".to_owned(),
        Ok(failure) => failure,
        Err(error) => error.to_string(),
    }
}

fn heard(state: &mut State, event: &SessionAdmitted) {
    let kind = u8::try_from(event.identity_type)
        .ok()
        .and_then(IdentityKind::from_u8);
    if let Some(identity) = kind.and_then(|kind| Identity::new(kind, &event.identity)) {
        state.newer_elsewhere(&event.context, &event.service, &identity, event.began);
    }
}

const RMCTRL: Address = Address::only(Facility::Rmctrl);
const AAAMGR: Address = Address::only(Facility::Aaamgr);
/// For each question to another task.
const DEADLINE: Duration = Duration::from_secs(3);
/// Between attempts.
const RETRY: Duration = Duration::from_secs(1);
/// Attempts at what must be done some time.
const ATTEMPTS: u32 = 60;
/// Requests that are taken in one turn of the loop.
const TOGETHER: usize = 32;
/// Answers of helpers that may wait.
const QUEUE: usize = 1_024;
