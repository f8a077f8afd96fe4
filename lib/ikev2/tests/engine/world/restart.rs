//! One life of a side ends and the next begins, with what the one before had saved.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crypto::{Secret, TestRandom};
use ikev2::{Changed, Engine, EngineConfig, IkeSaId, Output, Profile, Totals};

use super::Host;
use super::Side::{self, A, B};
use super::World;

/// The whole suite runs with restarts or moves when this is set: which sides, whether it "dies" or "moves", and at every how manieth call.
pub const RESTART_VARIABLE: &str = "IKEV2_TEST_RESTARTS";

/// At which point of a call a side dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The engine has worked and new child SAs are written, but nothing is saved or sent.
    BeforeCommit,
    /// All is saved, nothing else is done.
    AfterCommit,
    /// All is done.
    AfterAll,
    /// It lives: all is done, and another engine that lives as well takes over.
    Move,
}

/// When who dies.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Calls of either side so far.
    pub calls: [usize; 2],
    /// Deaths so far.
    pub deaths: Vec<Death>,
    every: Option<(Vec<Side>, usize, Death)>,
    wanted: Vec<(Side, usize, Death)>,
}

thread_local! {
    static WANTED: RefCell<Vec<(Side, usize, Death)>> = const { RefCell::new(Vec::new()) };
}

impl Plan {
    /// In worlds of this thread sides die at these calls of theirs, which are counted from 1.
    pub fn deaths(wanted: &[(Side, usize, Death)]) {
        WANTED.set(wanted.to_vec());
    }

    /// In worlds of this thread nobody dies.
    pub fn never() {
        Self::deaths(&[]);
    }

    pub(super) fn of_this_run() -> Self {
        let every = std::env::var(RESTART_VARIABLE).ok().map(|text| {
            let words: Vec<&str> = text.split(' ').collect();
            let chosen = [(A, 'A'), (B, 'B')]
                .into_iter()
                .filter(|(_, name)| words[0].contains(*name));
            let death = match words[1] {
                "dies" => Death::AfterAll,
                "moves" => Death::Move,
                other => panic!("{other}"),
            };
            (
                chosen.map(|(side, _)| side).collect(),
                words[2].parse().unwrap(),
                death,
            )
        });
        Self {
            every,
            wanted: WANTED.with_borrow(Clone::clone),
            ..Self::default()
        }
    }

    pub(super) fn death_at_call_of(&mut self, side: Side) -> Option<Death> {
        let calls = &mut self.calls[usize::from(side == B)];
        *calls += 1;
        let wanted = self
            .wanted
            .iter()
            .find(|(who, at, _)| *who == side && at == calls);
        let death = match &self.every {
            Some((sides, every, death)) => {
                (sides.contains(&side) && calls.is_multiple_of(*every)).then_some(*death)
            }
            None => wanted.map(|(_, _, death)| *death),
        };
        self.deaths.extend(death);
        death
    }
}

/// What outlives the engine of a side.
pub struct Memory {
    pub config: EngineConfig,
    /// Has no slot now, and takes over in a move.
    pub other: Engine,
    cookies: Option<Secret>,
    pub profiles: Vec<Arc<Profile>>,
    served: BTreeMap<IpAddr, Arc<Profile>>,
    /// What checkpoints gave so far: of whom, and whether the next belongs to it.
    pub saved: Vec<(IkeSaId, bool)>,
    /// Nothing can be saved.
    pub full: bool,
    seed: u64,
    lives: u64,
}

impl Memory {
    pub fn new(seed: u64, config: EngineConfig) -> Self {
        Self {
            other: idle_engine(seed | 1 << 63, &config),
            config,
            cookies: None,
            profiles: Vec::new(),
            served: BTreeMap::new(),
            saved: Vec::new(),
            full: false,
            seed,
            lives: 1,
        }
    }
}

fn idle_engine(seed: u64, config: &EngineConfig) -> Engine {
    let config = EngineConfig {
        slots: Vec::new(),
        ..config.clone()
    };
    Engine::new(config, Box::new(TestRandom::new(seed)))
}

impl Host {
    /// Remembers a profile under a name of its own.
    pub(super) fn know(&mut self, profile: Profile) -> Arc<Profile> {
        let known = &mut self.memory.profiles;
        let profile = Arc::new(Profile {
            service: format!("local/{}", known.len()),
            ..profile
        });
        known.push(profile.clone());
        profile
    }

    /// Serves this profile.
    pub fn serve(&mut self, profile: Profile) {
        let profile = self.know(profile);
        for engine in [&mut self.engine, &mut self.memory.other] {
            engine.set_profile(self.address.ip(), profile.clone());
        }
        self.memory.served.insert(self.address.ip(), profile);
    }

    /// Saves what changed.
    pub(super) fn checkpoint(&mut self, now: Instant) {
        let records = &mut self.sad.records;
        let Memory { saved, full, .. } = &mut self.memory;
        self.engine.checkpoint(now, &mut |changed: Changed<'_>| {
            saved.push((changed.ike, changed.with_next));
            let record = changed.record.filter(|_| !*full);
            match record {
                Some(record) => records.insert(changed.ike, record.to_vec()),
                None => records.remove(&changed.ike),
            };
            record.is_some() || changed.record.is_none()
        });
        let cookies = &mut self.memory.cookies;
        self.engine.checkpoint_cookies(&mut |state| {
            *cookies = Some(Secret::from(state));
            true
        });
        for spi in std::mem::take(&mut self.sad.freed) {
            self.sad.allocated.remove(&spi);
        }
    }

    /// The shell has lost a record.
    pub fn lose_record(&mut self, ike: IkeSaId) {
        self.sad.records.remove(&ike);
    }

    /// Goes no further than this with what the engine wants.
    pub(super) fn die(&mut self, death: Death) {
        while let Some(output) = self.engine.poll() {
            if let Output::Install(child) = output {
                self.install(*child);
            }
        }
        if death == Death::AfterCommit {
            // The shell's clock is the world's; nothing here depends on it.
            self.checkpoint(Instant::now());
        }
    }

    /// The next life goes on from what is saved, and makes the data plane's tables fit.
    fn revive(&mut self, now: Instant) {
        let Memory {
            config,
            cookies,
            served,
            seed,
            lives,
            ..
        } = &mut self.memory;
        *lives += 1;
        self.sad.freed.clear();
        let random = TestRandom::new(*lives << 32 | *seed);
        self.engine = Engine::new(config.clone(), Box::new(random));
        self.held.clear();
        for (address, profile) in served {
            self.engine.set_profile(*address, profile.clone());
        }
        if let Some(state) = cookies {
            assert!(self.engine.restore_cookies(state.as_bytes()));
        }
        self.restore_all(now);
    }

    /// Another engine takes over, with what is saved; this one forgets everything and says nothing.
    fn hand_over(&mut self, now: Instant) {
        let slots = self.memory.config.slots.clone();
        let saved = |ike: &IkeSaId| self.sad.records.contains_key(ike);
        let proved = self.engine.proved_in(slots[0]);
        assert!(proved.iter().all(saved) || self.memory.full);
        self.engine.remove_slots(&slots);
        assert!(self.engine.poll().is_none(), "nobody is told");
        let left = Totals {
            cookies_active: self.engine.totals().cookies_active,
            ..Totals::default()
        };
        assert_eq!(self.engine.totals(), left);
        std::mem::swap(&mut self.engine, &mut self.memory.other);
        self.held.clear();
        self.engine.mark_cookies_changed();
        self.engine.add_slots(&slots);
        self.restore_all(now);
    }

    fn restore_all(&mut self, now: Instant) {
        let profiles = &self.memory.profiles;
        let records = self.sad.records.clone();
        for (ike, record) in &records {
            let claim = self.engine.reserve_restored(*ike, record).unwrap();
            assert!(profiles.iter().any(|profile| profile.service == claim.service));
            assert!(claim.spis.iter().all(|spi| self.sad.allocated.contains(spi)));
        }
        let (mut known, mut reserved) = (BTreeSet::new(), BTreeSet::new());
        self.sending.clear();
        self.groups.clear();
        let find = |service: &str| {
            profiles
                .iter()
                .find(|profile| profile.service == service)
                .cloned()
        };
        for (ike, record) in &records {
            let restored = self
                .engine
                .restore(now, *ike, record, &find, &mut self.sad)
                .unwrap();
            assert_eq!(restored.view.id, *ike);
            self.groups.insert(*ike, restored.groups);
            reserved.extend(restored.reserved);
            for child in restored.children {
                let installed = self
                    .installed
                    .get_mut(&child.inbound_spi)
                    .expect("an installed child SA");
                assert_eq!(installed.outbound_spi, child.outbound_spi);
                (installed.ike, installed.path) = (*ike, restored.view.path);
                assert!(known.insert(child.inbound_spi), "in two IKE SAs");
                if child.outbound_active {
                    self.sending.insert(child.inbound_spi);
                }
            }
        }
        assert!(self.engine.poll().is_none(), "nothing is sent");
        self.installed.retain(|spi, _| known.contains(spi));
        self.sad
            .allocated
            .retain(|spi| known.contains(spi) || reserved.contains(spi));
        self.engine.finish_restore(now, &mut self.sad);
    }
}

impl World {
    /// Another engine takes this side over.
    pub fn move_slots(&mut self, side: Side) {
        let now = self.now;
        self.host(side).hand_over(now);
        self.pump(side);
    }

    /// The process of this side is replaced.
    pub fn restart(&mut self, side: Side) {
        let now = self.now;
        self.host(side).revive(now);
        self.pump(side);
    }
}
