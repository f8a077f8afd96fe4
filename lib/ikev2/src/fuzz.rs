//! Entry points for fuzzing, and for property tests with the same functions: any octets will do, nothing may panic.

mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::{Cipher, DhGroup, Integrity, Prf, Secret, TestRandom};

use crate::engine::{Engine, EngineConfig};
use crate::message::{Builder, Exchange, HEADER_LEN, Header, Payloads, Reader, payload};
use crate::output::{Action, Answer, EapStep, IkeSaId, Output, Path, Question};
use crate::profile::{
    ChildProfile, Configuration, EspProposal, IkeProposal, Liveness, LocalAuth, Profile, RemoteAuth,
    SelectorPolicy,
};
use crate::redirect::Redirectable;
use crate::sad::{Sad, Usage};

pub use record::record;

const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
];
/// In the kind of a step: before it the responder's process is replaced.
const RESTART: u8 = 0x40;
/// Steps of one run, at most.
const MAX_STEPS: usize = 64;

/// Decodes a datagram and, beside that, what follows its header as a chain of payloads, as if it had been decrypted. What can
/// be read must be the same after writing and reading again.
pub fn message(datagram: &[u8]) {
    let _ = Header::decode(datagram);
    if let Some(request) = Redirectable::parse(datagram) {
        let answer = request.answer(ADDRESSES[1]);
        assert!(answer.is_none_or(|answer| answer.len() <= datagram.len()));
    }
    let Some((&first, _)) = datagram.get(16).zip(datagram.first()) else {
        return;
    };
    let body = datagram.get(HEADER_LEN..).unwrap_or_default();
    let Ok(payloads) = Payloads::decode(first, body) else {
        return;
    };
    let mut builder = Builder::new(HEADER_LEN);
    if let Some(proposals) = &payloads.sa {
        builder.sa(proposals);
    }
    for (kind, selectors) in [(payload::TSI, &payloads.tsi), (payload::TSR, &payloads.tsr)] {
        if let Some(selectors) = selectors {
            builder.selectors(kind, selectors);
        }
    }
    let (first, _, written) = builder.into_parts();
    let again = Payloads::decode(first, written.get(HEADER_LEN..).unwrap_or_default());
    // An unknown transform type or attribute is read, but never written.
    let writable = payloads
        .sa
        .iter()
        .flatten()
        .flat_map(|proposal| &proposal.transforms);
    if writable
        .clone()
        .all(|transform| transform.kind.is_some() && !transform.unknown_attribute)
    {
        let same = again.is_ok_and(|again| {
            again.sa == payloads.sa && again.tsi == payloads.tsi && again.tsr == payloads.tsr
        });
        assert!(same, "what was written reads differently");
    }
}

/// Drives a responder by a script: raw datagrams, chains of payloads encrypted with the right keys and Message IDs, actions, and
/// time. Each step is `kind, length (2), octets`.
pub fn engine(script: &[u8]) {
    let mut run = Run::new();
    let mut reader = Reader::new(script);
    for _ in 0..MAX_STEPS {
        let (Some(kind), Some(length)) = (reader.u8(), reader.u16()) else {
            return;
        };
        let length = usize::from(length).min(reader.rest().len());
        let octets = reader.take(length).unwrap_or_default();
        run.step(kind, octets);
    }
    run.end();
}

/// Two engines; the script is the first one's will.
struct Run {
    now: Instant,
    peers: [Engine; 2],
    sad: FuzzSad,
    /// When it began.
    epoch: Instant,
}

#[derive(Default)]
struct FuzzSad {
    next: u32,
    taken: BTreeSet<u32>,
    /// What both engines saved.
    records: BTreeMap<IkeSaId, Vec<u8>>,
}

impl Sad for FuzzSad {
    fn allocate_spi(&mut self, slot: u8) -> Option<u32> {
        self.next += 1;
        let spi = u32::from(slot) << 24 | self.next;
        self.taken.insert(spi);
        Some(spi)
    }

    fn free_spi(&mut self, spi: u32) {
        assert!(self.taken.remove(&spi), "an SPI was given back but not taken");
    }

    fn usage(&self, spi: u32) -> Usage {
        Usage {
            outbound_packets: u64::from(spi & 1) << 33,
            ..Usage::default()
        }
    }

    fn load(&self, ike: IkeSaId, into: &mut Vec<u8>) -> bool {
        let record = self.records.get(&ike);
        into.extend(record.into_iter().flatten());
        record.is_some()
    }
}

impl Run {
    fn new() -> Self {
        let epoch = Instant::now();
        let mut run = Self {
            now: epoch,
            peers: [engine_of(1, 1, epoch), engine_of(2, 2, epoch)],
            sad: FuzzSad::default(),
            epoch,
        };
        let [ours, theirs] = &mut run.peers;
        let profile = Arc::new(profile());
        theirs.set_profile(ADDRESSES[1], Arc::clone(&profile));
        let _ = ours.initiate(run.now, profile, path(0), &mut run.sad);
        run.exchange();
        run
    }

    /// Lets both talk until they have nothing to say.
    fn exchange(&mut self) {
        for _ in 0..100 {
            let mut wire = Vec::new();
            for from in 0..2 {
                self.collect(from, &mut wire);
            }
            if wire.is_empty() {
                return;
            }
            for (from, path, bytes) in wire {
                self.receive(1 - from, path, &bytes);
            }
        }
    }

    fn collect(&mut self, from: usize, wire: &mut Vec<(usize, Path, Vec<u8>)>) {
        let Some(engine) = self.peers.get_mut(from) else {
            return;
        };
        while let Some(output) = engine.poll() {
            match output {
                Output::Transmit { path, bytes } => wire.push((from, path, bytes)),
                Output::Ask { ticket, question, .. } => {
                    engine.answer(self.now, ticket, reply(&question), &mut self.sad);
                }
                Output::Remove { inbound_spi, .. } => self.sad.free_spi(inbound_spi),
                _ => {}
            }
        }
        self.checkpoint(from);
    }

    fn checkpoint(&mut self, of: usize) {
        let records = &mut self.sad.records;
        if let Some(engine) = self.peers.get_mut(of) {
            engine.checkpoint(self.now, &mut |changed| {
                match changed.record {
                    Some(record) => records.insert(changed.ike, record.to_vec()),
                    None => records.remove(&changed.ike),
                };
                true
            });
        }
    }

    fn receive(&mut self, to: usize, sent: Path, bytes: &[u8]) {
        let marked = sent.local.port() == 4500;
        let bytes = if marked {
            bytes.get(4..).unwrap_or_default()
        } else {
            bytes
        };
        let path = Path {
            local: sent.remote,
            remote: sent.local,
        };
        if let Some(engine) = self.peers.get_mut(to) {
            engine.receive(self.now, path, bytes, &mut self.sad);
        }
    }

    fn step(&mut self, kind: u8, octets: &[u8]) {
        if kind & RESTART != 0 {
            self.restart();
        }
        match kind % 8 {
            0 => self.receive(1, path(0), octets),
            1 => self.sealed(octets, false),
            2 => self.sealed(octets, true),
            3 => {
                let seconds = octets.first().copied().unwrap_or(1);
                self.now += Duration::from_secs(u64::from(seconds));
                for engine in &mut self.peers {
                    engine.expire(self.now, &mut self.sad);
                }
            }
            4 => self.act(octets),
            5 => self.exchange(),
            6 => {
                // A fresh peer, whose set-up the next steps may disturb.
                let [ours, _] = &mut self.peers;
                let _ = ours.initiate(self.now, Arc::new(profile()), path(0), &mut self.sad);
            }
            _ => {
                // What the responder says is lost.
                let mut wire = Vec::new();
                self.collect(1, &mut wire);
            }
        }
    }

    /// The responder's process is replaced.
    fn restart(&mut self) {
        // Child SAs are removed before another life looks what there is.
        self.collect(1, &mut Vec::new());
        let seed = u64::from(self.sad.next) << 8 | 2;
        let [_, theirs] = &mut self.peers;
        let mut records = self.sad.records.clone();
        records.retain(|ike, _| ike.slot() == 2);
        *theirs = engine_of(2, seed, self.epoch);
        let profile = Arc::new(profile());
        theirs.set_profile(ADDRESSES[1], Arc::clone(&profile));
        let mut claimed = BTreeSet::new();
        for (ike, record) in &records {
            match theirs.reserve_restored(*ike, record) {
                Ok(claim) => claimed.extend(claim.spis),
                Err(error) => unreachable!("{error}"),
            }
        }
        self.sad
            .taken
            .retain(|spi| spi >> 24 == 1 || claimed.contains(spi));
        for (ike, record) in &records {
            let find = |_: &str| Some(Arc::clone(&profile));
            let restored = theirs.restore(self.now, *ike, record, &find, &mut self.sad);
            assert!(restored.is_ok(), "what was saved does not come back");
        }
        theirs.finish_restore(self.now, &mut self.sad);
    }

    /// Wraps octets as the true peer would: they pass every check before the decoder.
    fn sealed(&mut self, octets: &[u8], response: bool) {
        let (Some((&choice, rest)), Some(theirs)) = (octets.split_first(), self.peers.get_mut(1)) else {
            return;
        };
        let Some((&first, plaintext)) = rest.split_first() else {
            return;
        };
        let (views, _) = theirs.ike_sas(self.now, crate::show::Cursor::default(), 16, &self.sad);
        let Some(view) = views.get(usize::from(choice >> 4) % views.len().max(1)) else {
            return;
        };
        let exchange = match choice & 3 {
            0 => Exchange::IkeAuth,
            1 => Exchange::CreateChildSa,
            _ => Exchange::Informational,
        };
        // Whoever rests cannot forge.
        theirs.mark_changed(self.now, view.id, &mut self.sad);
        if let Some(datagram) = theirs.forge(view.id, exchange, response, first, plaintext) {
            self.receive(1, path(0), &datagram);
        }
    }

    fn act(&mut self, octets: &[u8]) {
        let Some(theirs) = self.peers.get_mut(1) else {
            return;
        };
        let (views, _) = theirs.ike_sas(self.now, crate::show::Cursor::default(), 16, &self.sad);
        for view in views {
            let child = view.children.first().map_or(0, |child| child.inbound_spi);
            let action = match octets.first().copied().unwrap_or(0) % 7 {
                0 => Action::CreateChild(0),
                1 => Action::RekeyIke,
                2 => Action::RekeyChild(child),
                3 => Action::DeleteChild(child),
                4 => Action::Delete,
                5 => Action::Forget,
                _ => Action::CheckLiveness,
            };
            let _ = theirs.action(self.now, view.id, action, &mut self.sad);
        }
    }

    /// When all is over, everything has been given back.
    fn end(&mut self) {
        for _ in 0..2 {
            for engine in &mut self.peers {
                let (views, _) = engine.ike_sas(self.now, crate::show::Cursor::default(), 64, &self.sad);
                for view in views {
                    let _ = engine.action(self.now, view.id, Action::Forget, &mut self.sad);
                }
            }
            let mut wire = Vec::new();
            for from in 0..2 {
                self.collect(from, &mut wire);
            }
        }
        assert_eq!(self.sad.taken, BTreeSet::new(), "SPIs were not given back");
    }
}

fn engine_of(slot: u8, seed: u64, epoch: Instant) -> Engine {
    let config = EngineConfig {
        slots: vec![slot],
        max_ike_sas: 16,
        epoch: Some(epoch),
        rests: true,
        ..EngineConfig::default()
    };
    Engine::new(config, Box::new(TestRandom::new(seed)))
}

fn path(from: usize) -> Path {
    let end = |at: usize| SocketAddr::new(ADDRESSES[at % 2], 500);
    Path {
        local: end(from),
        remote: end(from + 1),
    }
}

fn profile() -> Profile {
    let proposal = EspProposal {
        ciphers: vec![Cipher::AesGcm128Icv16, Cipher::Null],
        integrities: vec![Integrity::HmacSha2_256_128],
        groups: vec![DhGroup::Curve25519, DhGroup::Ecp256],
        esn: vec![false, true],
    };
    let child = ChildProfile::new(
        "fuzz",
        vec![proposal],
        SelectorPolicy::Received,
        SelectorPolicy::Received,
    );
    Profile {
        proposals: vec![IkeProposal {
            ciphers: vec![Cipher::AesGcm128Icv16],
            integrities: vec![Integrity::HmacSha2_256_128],
            prfs: vec![Prf::HmacSha2_256],
            groups: vec![DhGroup::Curve25519, DhGroup::Ecp256],
        }],
        children: vec![Arc::new(child)],
        // With a pre-shared key EAP is refused.
        local_auth: LocalAuth::Certificate {
            chain: Arc::new([vec![0x30]]),
        },
        remote_auth: RemoteAuth {
            psk: true,
            certificate: true,
            eap: true,
        },
        liveness: Some(Liveness {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(2),
            retries: 2,
        }),
        admission: true,
        ..Profile::default()
    }
}

fn reply(question: &Question) -> Answer {
    match question {
        Question::Psk { .. } => Answer::Psk {
            remote: Some(Secret::from([1; 16].as_slice())),
            local: Some(Secret::from([1; 16].as_slice())),
        },
        Question::Sign { octets, .. } => Answer::Signature {
            method: 14,
            data: octets.clone(),
        },
        Question::VerifyPeer {
            signature, octets, ..
        } => Answer::Verified(if signature == octets {
            Ok(())
        } else {
            Err("no".to_owned())
        }),
        Question::EapAuthenticator { message, .. } => Answer::Eap(match message {
            None => EapStep::Continue(vec![1, 0, 0, 5, 1]),
            Some(_) => EapStep::Success {
                message: vec![3, 0, 0, 4],
                msk: None,
                identity: None,
            },
        }),
        Question::EapPeer { message } => Answer::Eap(EapStep::Continue(message.clone())),
        Question::Admit(_) => Answer::Admit(Ok(Configuration::default())),
    }
}

#[cfg(test)]
mod tests;
