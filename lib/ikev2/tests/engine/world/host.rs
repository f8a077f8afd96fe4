//! One engine, and a shell that a test can tell what to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use crypto::{Secret, TestRandom};
use ikev2::{
    Answer, ChildFailure, ChildSa, Configuration, Count, DropCause, EapStep, Engine, EngineConfig, Event,
    IkeSaId, IkeSaView, Question, Refusal, RemoveReason, Sad, SetupFailure, Ticket, Usage,
};

use super::restart::Memory;

/// A table of SPIs, and of what the test says was carried.
#[derive(Debug)]
pub struct TestSad {
    next: u32,
    pub allocated: BTreeSet<u32>,
    /// Given back, but a record that is saved may list them still.
    pub(super) freed: BTreeSet<u32>,
    pub usage: BTreeMap<u32, Usage>,
    pub records: BTreeMap<IkeSaId, Vec<u8>>,
    /// Slots that other processors work for.
    pub others: Vec<u8>,
    pub capacity: usize,
}

impl Sad for TestSad {
    fn allocate_spi(&mut self, slot: u8) -> Option<u32> {
        if self.allocated.len() >= self.capacity {
            return None;
        }
        self.next += 1;
        let spi = u32::from(slot) << 24 | self.next;
        self.allocated.insert(spi);
        Some(spi)
    }

    fn slot_beside(&self, of: u8, taken: &[u8]) -> u8 {
        let uses = |slot: &u8| taken.iter().filter(|taken| *taken == slot).count();
        let least = self.others.iter().copied().min_by_key(uses);
        least.filter(|slot| uses(slot) < uses(&of)).unwrap_or(of)
    }

    fn free_spi(&mut self, spi: u32) {
        assert!(
            self.allocated.contains(&spi) && self.freed.insert(spi),
            "SPI {spi:08x} was given back but not taken"
        );
    }

    fn usage(&self, spi: u32) -> Usage {
        self.usage.get(&spi).copied().unwrap_or_default()
    }

    fn load(&self, ike: IkeSaId, into: &mut Vec<u8>) -> bool {
        let record = self.records.get(&ike);
        into.extend(record.into_iter().flatten());
        record.is_some()
    }
}

/// How a side answers questions.
pub struct Answers {
    pub remote_psk: Option<&'static [u8]>,
    pub local_psk: Option<&'static [u8]>,
    pub admit: Result<Configuration, Refusal>,
    pub verify: Result<(), String>,
    /// Questions are kept instead of answered.
    pub hold: bool,
    /// Rounds of EAP before success; `None`: failure.
    pub eap_rounds: Option<u8>,
    pub msk: Option<&'static [u8]>,
    /// Whom EAP authenticates.
    pub user: &'static [u8],
}

/// An engine with its shell.
pub struct Host {
    pub engine: Engine,
    pub sad: TestSad,
    pub events: Vec<Event>,
    pub installed: BTreeMap<u32, ChildSa>,
    /// SPIs that send.
    pub sending: BTreeSet<u32>,
    pub removed: Vec<(u32, RemoveReason)>,
    /// Child SAs with the same traffic selectors, as the engine told them last.
    pub groups: BTreeMap<IkeSaId, Vec<Vec<u32>>>,
    pub answers: Answers,
    pub held: Vec<(Ticket, Question)>,
    pub asked: Vec<String>,
    pub address: SocketAddr,
    pub memory: Memory,
}

impl Host {
    pub(super) fn new(now: Instant, seed: u64, slot: u8, address: &str) -> Self {
        let config = EngineConfig {
            slots: vec![slot],
            epoch: Some(now),
            rests: true,
            ..EngineConfig::default()
        };
        Self {
            engine: Engine::new(config.clone(), Box::new(TestRandom::new(seed))),
            memory: Memory::new(seed, config),
            sad: TestSad {
                next: 0,
                allocated: BTreeSet::new(),
                freed: BTreeSet::new(),
                usage: BTreeMap::new(),
                records: BTreeMap::new(),
                others: Vec::new(),
                capacity: 1000,
            },
            events: Vec::new(),
            installed: BTreeMap::new(),
            sending: BTreeSet::new(),
            removed: Vec::new(),
            groups: BTreeMap::new(),
            answers: Answers {
                remote_psk: Some(b"secret"),
                local_psk: Some(b"secret"),
                admit: Ok(Configuration::default()),
                verify: Ok(()),
                hold: false,
                eap_rounds: Some(1),
                msk: Some(&[0x5a; 64]),
                user: b"user@aaa",
            },
            held: Vec::new(),
            asked: Vec::new(),
            address: address.parse().unwrap(),
        }
    }

    /// Begins anew with other limits.
    pub fn configure(&mut self, seed: u64, config: EngineConfig) {
        let before = &self.memory.config;
        let config = EngineConfig {
            slots: before.slots.clone(),
            epoch: before.epoch,
            rests: before.rests,
            ..config
        };
        self.engine = Engine::new(config.clone(), Box::new(TestRandom::new(seed)));
        self.memory = Memory::new(seed, config);
    }

    /// Writes a child SA into the data plane's tables.
    pub(super) fn install(&mut self, child: ChildSa) {
        assert!(self.sad.allocated.contains(&child.inbound_spi));
        assert!(self.installed.insert(child.inbound_spi, child).is_none());
    }

    pub fn established(&self) -> usize {
        self.engine.totals().established as usize
    }

    pub fn views(&self, now: Instant) -> Vec<IkeSaView> {
        let (views, more) = self
            .engine
            .ike_sas(now, ikev2::Cursor::default(), 1000, &self.sad);
        assert!(more.is_none());
        views
    }

    pub fn count(&self, wanted: Count) -> usize {
        self.events
            .iter()
            .filter(|event| matches!(event, Event::Count(count) if *count == wanted))
            .count()
    }

    /// Why a set-up failed, if one did.
    pub fn setup_failure(&self) -> Option<&SetupFailure> {
        self.events.iter().find_map(|event| match event {
            Event::SetupFailed { reason, .. } => Some(reason),
            _ => None,
        })
    }

    /// Why a child SA was not created; one must have been refused.
    pub fn child_failure(&self) -> &ChildFailure {
        let failure = self.events.iter().find_map(|event| match event {
            Event::ChildFailed { reason, .. } => Some(reason),
            _ => None,
        });
        failure.unwrap()
    }

    pub fn drops(&self, wanted: DropCause) -> usize {
        self.events
            .iter()
            .filter(|event| matches!(event, Event::Dropped { cause, .. } if *cause == wanted))
            .count()
    }

    pub(super) fn reply(&mut self, question: &Question) -> Answer {
        match question {
            Question::Psk { .. } => Answer::Psk {
                remote: self.answers.remote_psk.map(Secret::from),
                local: self.answers.local_psk.map(Secret::from),
            },
            // A signature that the other side's shell can check: the octets' hash.
            Question::Sign { octets, hashes } => Answer::Signature {
                method: if hashes.contains(&2) { 14 } else { 1 },
                data: crypto::hash::sha256(&[octets]).to_vec(),
            },
            Question::VerifyPeer {
                octets, signature, ..
            } => Answer::Verified(match signature == &crypto::hash::sha256(&[octets]).to_vec() {
                true => self.answers.verify.clone(),
                false => Err("signature does not fit the octets".to_owned()),
            }),
            Question::EapAuthenticator { message, .. } => Answer::Eap(self.authenticate(message.as_deref())),
            Question::EapPeer { message } => Answer::Eap(match message.first() {
                Some(3) => EapStep::Success {
                    message: Vec::new(),
                    msk: self.answers.msk.map(Secret::from),
                    identity: None,
                },
                Some(4) => EapStep::Failure {
                    message: Vec::new(),
                    reason: "EAP-Failure".to_owned(),
                },
                _ => EapStep::Continue(vec![2, message[1], 0, 5, 1]),
            }),
            Question::Admit(_) => Answer::Admit(self.answers.admit.clone()),
        }
    }

    fn authenticate(&mut self, message: Option<&[u8]>) -> EapStep {
        let round = message.map_or(0, |message| message[1] + 1);
        match self.answers.eap_rounds {
            Some(rounds) if round < rounds => EapStep::Continue(vec![1, round, 0, 5, 1]),
            Some(_) => EapStep::Success {
                message: vec![3, round, 0, 4],
                msk: self.answers.msk.map(Secret::from),
                identity: ikev2::UserName::new(self.answers.user),
            },
            None if round == 0 => EapStep::Continue(vec![1, round, 0, 5, 1]),
            None => EapStep::Failure {
                message: vec![4, round, 0, 4],
                reason: "Access-Reject".to_owned(),
            },
        }
    }
}
