//! The loop.

use std::path::Path;
use std::time::SystemTime;

use bus::Facility;
use command::Keyword;
use config::Config;
use task::{ConfigFollower, Task};
use telemetry::Reader;
use telemetry::events::Severity;
use telemetry::time::Zone;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::settings::Settings;
use crate::state::{State, report};
use crate::{bus_api, configuration, data_plane};

/// Runs until the node stops.
pub async fn run(task: Task) -> Result<(), Error> {
    let Task {
        bus,
        mut server,
        sit,
        run_dir,
        state_dir,
        shutdown,
        ..
    } = task;
    let mut state = State::new(
        &state_dir,
        Reader::open(&run_dir.join("counters"))?,
        Zone::local(),
    );
    let mut follower = ConfigFollower::new(&bus);
    let mut timers = Timers::new(&state.settings);
    let mut data_plane = data_plane::ask(&bus);
    let mut serving = false;
    loop {
        tokio::select! {
            text = follower.next() => {
                match Config::parse(&text.text) {
                    Ok(config) => apply(&mut state, &mut timers, &config),
                    // What sct gives out can be read, unless it is of another version.
                    Err(error) => tracing::error!("configuration line {}: {}", error.line, error.message),
                }
                if !serving {
                    serving = true;
                    sit.ready().await?;
                }
            }
            () = sleep_until(timers.sample), if state.settings.collecting => {
                timers.sample += state.settings.sample_interval;
                if let Err(error) = state.gather(SystemTime::now()) {
                    report(Path::new("sample"), &error);
                }
            }
            () = sleep_until(timers.transfer), if state.settings.collecting => {
                timers.transfer += state.settings.transfer_interval;
                // Failures of files have been told; the records wait for the next time.
                if let Err(Error::Counters(error)) = state.transfer(SystemTime::now()) {
                    report(Path::new("transfer"), &error.into());
                }
            }
            Some(cores) = data_plane.recv() => state.note_data_plane(&cores),
            incoming = server.next() => match incoming {
                Some(incoming) => bus_api::answer(&mut state, incoming),
                None => return Ok(()),
            },
            _ = shutdown.requested() => return Ok(()),
        }
    }
}

fn apply(state: &mut State, timers: &mut Timers, config: &Config) {
    if let Some(level) = Severity::from_name(config.logging.level(Facility::Bulkstat.name()).keyword()) {
        task::set_level(level);
    }
    let settings = configuration::settings(config);
    timers.follow(&state.settings, &settings);
    state.apply(
        settings,
        configuration::identity(config),
        configuration::services(config),
    );
}

/// When the next sample and the next transfer are due.
struct Timers {
    sample: Instant,
    transfer: Instant,
}

impl Timers {
    fn new(settings: &Settings) -> Self {
        let now = Instant::now();
        Self {
            sample: now + settings.sample_interval,
            transfer: now + settings.transfer_interval,
        }
    }

    /// An interval that changed, or a collection that begins, begins now.
    fn follow(&mut self, before: &Settings, now: &Settings) {
        let fresh = Self::new(now);
        let begins = now.collecting && !before.collecting;
        if begins || now.sample_interval != before.sample_interval {
            self.sample = fresh.sample;
        }
        if begins || now.transfer_interval != before.transfer_interval {
            self.transfer = fresh.transfer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_changed_begins_anew() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let off = Settings::default();
        let on = Settings {
            collecting: true,
            ..off.clone()
        };
        let mut timers = Timers::new(&off);
        let began = Instant::now();
        timers.follow(&off, &on);
        assert!(
            timers.sample >= began + on.sample_interval,
            "the collection begins now"
        );
        let Timers { sample, transfer } = timers;
        timers.follow(&on, &on.clone());
        assert_eq!((timers.sample, timers.transfer), (sample, transfer));
        timers.follow(
            &on,
            &Settings {
                sample_interval: minutes(1),
                ..on.clone()
            },
        );
        assert!(timers.sample < sample && timers.transfer == transfer);
    }
}
