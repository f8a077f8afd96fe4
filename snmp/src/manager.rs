//! The loop.

use std::time::{Duration, SystemTime};

use bus::messages::common::Notice;
use bus::messages::sit::TaskStarted;
use bus::{Address, Bus, Facility, Heard, Subscription};
use config::Config;
use task::{ConfigFollower, Task};
use telemetry::Reader;
use telemetry::events::Descriptor;
use telemetry::time::Zone;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::bus_api;
use crate::error::Error;
use crate::journal::Journal;
use crate::loader::{Loader, Prepared};
use crate::sockets::{self, Sockets};
use crate::state::State;
use crate::traps::Told;

/// How often the task table is made anew, and what was counted is told.
const TICK: Duration = Duration::from_secs(1);

/// Runs until the node stops.
pub async fn run(task: Task) -> Result<(), Error> {
    let Task {
        bus,
        mut server,
        links,
        sit,
        run_dir,
        shutdown,
        lives,
        ..
    } = task;
    let mut state = State::new(Reader::open(&run_dir.join("counters"))?, Zone::local());
    let mut sockets = Sockets::new(Vec::new());
    let mut journal = Journal::new(&run_dir);
    // A first life begins with what the node told before it.
    let heard = if lives > 0 {
        journal.load()
    } else {
        Default::default()
    };
    let mut notices = bus.subscribe::<Notice>().resume(heard);
    let mut starts = bus.subscribe::<TaskStarted>();
    starts.follow(Address::only(Facility::Sit));
    follow(&mut state, &bus, &mut notices);
    let loader = Loader {
        links,
        sit: sit.clone(),
    };
    let mut follower = ConfigFollower::new(&bus);
    let mut preparing: Option<JoinHandle<Prepared>> = None;
    // The port of the sockets that are open.
    let mut open = None;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut serving = false;
    loop {
        let full = sockets::send(&mut state, &sockets);
        tokio::select! {
            request = sockets.next() => sockets::answer(&mut state, &request),
            () = sockets::writable(full) => {}
            // Not before it is known where notifications go.
            heard = notices.next(), if serving => {
                // Before it is taken: if it is what ends this process, it does not end the next one too.
                let (Heard::Event(publisher, _) | Heard::Missed(publisher)) = &heard;
                journal.note(*publisher, notices.positions());
                hear(&mut state, &heard);
            }
            started = starts.next() => if let Heard::Event(_, started) = started
                && let Some(address) = started.address()
            {
                notices.follow(address);
            },
            text = follower.next(), if preparing.is_none() => {
                match Config::parse(&text.text) {
                    Ok(config) => preparing = Some(tokio::spawn(loader.clone().prepare(config, open))),
                    // What sct gives out can be read, unless it is of another version.
                    Err(error) => tracing::error!("configuration line {}: {}", error.line, error.message),
                }
            }
            prepared = finished(&mut preparing) => {
                if let Some(level) = prepared.log_level {
                    task::set_level(level);
                }
                if let Some(opened) = prepared.sockets {
                    open = prepared.settings.socket();
                    sockets = Sockets::new(opened);
                }
                state.apply(prepared.settings);
                if !serving {
                    serving = true;
                    sit.ready().await?;
                }
            }
            incoming = server.next() => match incoming {
                Some(incoming) => bus_api::answer(&mut state, incoming),
                None => return Ok(()),
            },
            _ = tick.tick() => {
                follow(&mut state, &bus, &mut notices);
                state.report();
            }
            _ = shutdown.requested() => return Ok(()),
        }
    }
}

/// Takes what a task has told.
pub fn hear(state: &mut State, heard: &Heard<Notice>) {
    let notice = match heard {
        Heard::Event(_, notice) => notice,
        Heard::Missed(publisher) => {
            tracing::debug!("events of {publisher} before now are not known");
            return;
        }
    };
    // A task of another version may know events that we do not.
    let Some(event) = Descriptor::find(&notice.event) else {
        tracing::debug!("event {} is not known", notice.event);
        return;
    };
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(notice.time));
    let fields = notice
        .fields
        .iter()
        .map(|field| (field.name.as_str(), field.value.as_str()));
    state.take(&Told {
        event,
        time: time.unwrap_or(SystemTime::UNIX_EPOCH),
        text: &notice.text,
        fields: fields.collect(),
    });
}

/// Follows every task that is on the bus, and keeps the task table.
pub fn follow(state: &mut State, bus: &Bus, notices: &mut Subscription<Notice>) {
    let mut addresses = bus.addresses();
    addresses.sort_unstable();
    for address in &addresses {
        notices.follow(*address);
    }
    let tasks = addresses.iter().map(|address| mibs::Task {
        facility_number: u32::from(address.facility as u8),
        facility: address.facility.name().to_owned(),
        instance: address.instance,
    });
    state.set_tasks(tasks.collect());
}

/// The configuration that is being prepared. Waits for ever when none is.
async fn finished(preparing: &mut Option<JoinHandle<Prepared>>) -> Prepared {
    let prepared = match preparing {
        None => std::future::pending().await,
        Some(handle) => handle.await,
    };
    *preparing = None;
    match prepared {
        Ok(prepared) => prepared,
        // It was cancelled, which only the end of the runtime does.
        Err(_) => std::future::pending().await,
    }
}
