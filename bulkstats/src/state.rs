//! What is collected, and what becomes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bus::messages::rmctrl::DataPlaneCores;
use config::bulkstats::Format;
use telemetry::time::{Zone, node_uptime};
use telemetry::{Reader, events};

use crate::card::CardMeter;
use crate::error::Error;
use crate::sample::sample;
use crate::settings::{FileSettings, Settings};
use crate::spool::{Spool, Statistics};
use crate::variables::{Identity, Values, WsgService};

/// The state of the manager. Knows neither bus nor timers.
pub struct State {
    /// What the configuration asks for.
    pub settings: Settings,
    /// The time zone of the node.
    pub zone: Zone,
    identity: Identity,
    services: Vec<WsgService>,
    counters: Reader,
    card: CardMeter,
    spools: BTreeMap<u32, Spool>,
    /// Where records wait.
    folder: PathBuf,
    /// Where finished files go.
    target: PathBuf,
    /// The size alarm is raised.
    alarm: bool,
}

impl State {
    /// A new state that collects nothing until it has settings. Records wait in `STATE/bulkstats`, files go to `STATE/hd-raid`.
    pub fn new(state_dir: &Path, counters: Reader, zone: Zone) -> Self {
        Self {
            settings: Settings::default(),
            zone,
            identity: Identity::default(),
            services: Vec::new(),
            counters,
            card: CardMeter::default(),
            spools: BTreeMap::new(),
            folder: state_dir.join("bulkstats"),
            target: state_dir.join("hd-raid"),
            alarm: false,
        }
    }

    /// Takes the settings of a new version of the configuration. Records that wait in a file that is no longer configured stay on disk.
    pub fn apply(&mut self, settings: Settings, identity: Identity, services: Vec<WsgService>) {
        self.spools
            .retain(|number, _| settings.files.iter().any(|file| file.number == *number));
        for file in &settings.files {
            if self.spools.contains_key(&file.number) {
                continue;
            }
            match Spool::open(&self.folder, file.number, &self.target) {
                Ok(spool) => drop(self.spools.insert(file.number, spool)),
                Err(error) => report(&self.folder, &error),
            }
        }
        self.settings = settings;
        self.identity = identity;
        self.services = services;
    }

    /// Takes note of what the processors of the data plane do.
    pub fn note_data_plane(&mut self, cores: &DataPlaneCores) {
        self.card.note_data_plane(cores);
    }

    /// Takes a sample for every file.
    pub fn gather(&mut self, now: SystemTime) -> Result<(), Error> {
        self.refresh()?;
        let samples: Vec<_> = {
            let card = self.card.sample();
            let values = self.values(card, now);
            self.settings
                .files
                .iter()
                .map(|file| (file.number, sample(file, &values)))
                .collect()
        };
        for (number, lines) in samples {
            if let Some(spool) = self.spools.get_mut(&number) {
                spool.append(lines, self.settings.limit)?;
            }
        }
        self.watch_size();
        Ok(())
    }

    /// Writes what waits into files, one for each `file N`; gives their paths. A file that fails does not keep the others.
    pub fn transfer(&mut self, now: SystemTime) -> Result<Vec<PathBuf>, Error> {
        self.refresh()?;
        let names: Vec<_> = {
            let values = self.values(self.card.last(), now);
            let expand = |format: &str| Format::parse(format).expand(|variable| values.common(variable));
            let names = |file: &FileSettings| {
                (
                    file.number,
                    expand(&file.remote_file),
                    expand(&file.header),
                    expand(&file.footer),
                )
            };
            self.settings.files.iter().map(names).collect()
        };
        let (mut written, mut failed) = (Vec::new(), None);
        for (number, name, header, footer) in names {
            match self
                .spools
                .get_mut(&number)
                .map(|spool| spool.transfer(&name, &header, &footer, now))
            {
                Some(Ok(path)) => written.extend(path),
                Some(Err(error)) => {
                    report(Path::new(&name), &error);
                    failed = Some(error);
                }
                None => {}
            }
        }
        self.watch_size();
        failed.map_or(Ok(written), Err)
    }

    /// Drops what waits for transfer (`clear bulkstats data`).
    pub fn clear_data(&mut self) -> Result<(), Error> {
        self.spools.values_mut().try_for_each(Spool::clear)?;
        self.watch_size();
        Ok(())
    }

    /// Each file with what has been counted.
    pub fn files(&self) -> Vec<(&FileSettings, Statistics)> {
        let statistics = |number| {
            self.spools
                .get(&number)
                .map(Spool::statistics)
                .unwrap_or_default()
        };
        self.settings
            .files
            .iter()
            .map(|file| (file, statistics(file.number)))
            .collect()
    }

    /// The records that wait, file by file.
    pub fn waiting(&self) -> impl Iterator<Item = (u32, &str)> {
        self.spools
            .iter()
            .flat_map(|(number, spool)| spool.waiting().map(|record| (*number, record)))
    }

    fn refresh(&mut self) -> Result<(), Error> {
        self.identity.uptime = node_uptime().unwrap_or_default().as_secs();
        Ok(self.counters.refresh()?)
    }

    fn values(&self, card: crate::card::CardSample, now: SystemTime) -> Values<'_> {
        Values {
            identity: &self.identity,
            counters: &self.counters,
            services: &self.services,
            card,
            now,
            zone: &self.zone,
        }
    }

    /// Raises and clears the size alarm.
    fn watch_size(&mut self) {
        let measured = self
            .spools
            .values()
            .map(|spool| spool.statistics().waiting.octets)
            .max()
            .unwrap_or(0);
        let exceeded = measured.saturating_mul(100) >= self.settings.limit.saturating_mul(ALARM_PERCENT);
        if exceeded == self.alarm {
            return;
        }
        self.alarm = exceeded;
        let kilobytes = |octets: u64| u32::try_from(octets / 1_024).unwrap_or(u32::MAX);
        let (limit, measured) = (kilobytes(self.settings.limit), kilobytes(measured));
        if exceeded {
            events::emit(&events::StatFilesizeExceeded { limit, measured });
        } else {
            events::emit(&events::StatFilesizeClear { limit, measured });
        }
    }
}

/// Share of the limit at which the alarm is raised.
const ALARM_PERCENT: u64 = 80;

/// Tells of a failure.
pub fn report(file: &Path, error: &Error) {
    events::emit(&events::BulkstatFileFailed {
        file: &file.display().to_string(),
        reason: &error.to_string(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::{Scene, file, moment};
    use crate::variables::Kind;
    use telemetry::Counters;
    use telemetry::counters::ikev2;

    fn state(scene: &Scene) -> State {
        let reader = Reader::open(&scene.directory).unwrap();
        let mut state = State::new(&scene.directory.join("state"), reader, scene.zone.clone());
        let mut file = file(&[
            (Kind::System, "sysSch1", "sysSch1,%date%,%time%,%ikev2-cursa%"),
            (
                Kind::Wsg,
                "wsgSch1",
                "wsgSch1,%svcname%,%wsg-total-setup-attempts%",
            ),
        ]);
        file.header = "Version-1,%ipaddr%,%localtz%".into();
        file.footer = "EndOfFile".into();
        let settings = Settings {
            collecting: true,
            limit: 1_000,
            files: vec![file],
            ..Settings::default()
        };
        state.apply(settings, scene.identity.clone(), scene.services.clone());
        state
    }

    #[test]
    fn samples_are_collected_and_written() {
        let scene = Scene::new("state");
        let mut state = state(&scene);
        state.gather(moment()).unwrap();
        Counters::open(&scene.directory, "ipsecmgr", 2)
            .unwrap()
            .set(ikev2::CURRENT_SAS, 5);
        state.gather(moment()).unwrap();
        assert_eq!(state.waiting().count(), 6);
        let written = state.transfer(moment()).unwrap();
        let name = "state/hd-raid/sgw1_bulkstats_20201220_124531_EST_5_5.csv";
        assert_eq!(written, [scene.directory.join(name)]);
        let expected = "Version-1,,EST\nwsgSch1,ap,0\nwsgSch1,enb,3\nsysSch1,20201220,174531,10\n\
                        wsgSch1,ap,0\nwsgSch1,enb,3\nsysSch1,20201220,174531,15\nEndOfFile\n";
        assert_eq!(std::fs::read_to_string(&written[0]).unwrap(), expected);
        assert_eq!(state.files()[0].1.transmitted.records, 6);
        assert_eq!(state.transfer(moment()).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn the_size_alarm_is_raised_and_cleared() {
        let scene = Scene::new("alarm");
        let mut state = state(&scene);
        while !state.alarm {
            state.gather(moment()).unwrap();
            assert_eq!(
                state.files()[0].1.discarded.records,
                0,
                "the alarm comes before the loss"
            );
        }
        state.clear_data().unwrap();
        assert!(!state.alarm);
    }

    #[test]
    fn what_waits_survives_the_process_and_a_change_of_the_configuration() {
        let scene = Scene::new("restart");
        state(&scene).gather(moment()).unwrap();
        let mut again = state(&scene);
        assert_eq!(again.waiting().count(), 3);
        again.apply(Settings::default(), Identity::default(), Vec::new());
        assert_eq!(again.waiting().count(), 0);
        assert_eq!(state(&scene).waiting().count(), 3);
    }
}
