//! Records of IKE SAs as an earlier life may have left them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::TestRandom;

use super::{FuzzSad, profile, reply};
use crate::engine::{Engine, EngineConfig};
use crate::message::Exchange;
use crate::output::{Action, IkeSaId, Output};
use crate::profile::Profile;
use crate::record::Sink;
use crate::sa::{Head, IkeSa};

/// An IKE SPI that a record may belong to.
const IKE: IkeSaId = IkeSaId(0x0100_0003_1234_5678);
/// How much time passes after a record came back.
const STEPS: [u64; 5] = [0, 1, 10, 1000, 100_000];

/// Reads a record. One that can be read is the same after writing and reading again, and the engine lives with it.
pub fn record(octets: &[u8]) {
    let epoch = Instant::now();
    let _ = same_again(octets, epoch);
    live_with(octets, epoch);
}

/// The IKE SA of a record, if it is one.
fn same_again(octets: &[u8], epoch: Instant) -> Option<Box<IkeSa>> {
    let profile = profile_of(&Head::of(octets)?.service);
    let sa = IkeSa::load(IKE, octets, epoch, &profile)?;
    let mut written = Sink::new(epoch);
    let digest = sa.store(&mut written);
    let again = IkeSa::load(IKE, written.bytes(), epoch, &profile);
    let mut twice = Sink::new(epoch);
    let same = again.is_some_and(|again| again.store(&mut twice) == digest && again.saved == Some(digest));
    assert!(
        same && twice.bytes() == written.bytes(),
        "what was written reads differently"
    );
    Some(sa)
}

fn profile_of(service: &str) -> Arc<Profile> {
    Arc::new(Profile {
        service: service.to_owned(),
        ..profile()
    })
}

/// Brings the IKE SA back, and does with it whatever can be done.
fn live_with(octets: &[u8], epoch: Instant) {
    let config = EngineConfig {
        max_ike_sas: 16,
        epoch: Some(epoch),
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(config, Box::new(TestRandom::new(1)));
    let mut sad = FuzzSad::default();
    let mut now = epoch + Duration::from_secs(1000);
    let Ok(claim) = engine.reserve_restored(IKE, octets) else {
        return;
    };
    sad.taken.extend(claim.spis);
    let find = |service: &str| Some(profile_of(service));
    if engine.restore(now, IKE, octets, &find, &mut sad).is_err() {
        assert!(!engine.core.table.exists(IKE), "its SPI is free again");
        return;
    }
    engine.finish_restore(now, &mut sad);
    for seconds in STEPS {
        now += Duration::from_secs(seconds);
        for action in [Action::CheckLiveness, Action::RekeyIke, Action::CreateChild(0)] {
            let _ = engine.action(now, IKE, action, &mut sad);
        }
        for exchange in [
            Exchange::IkeAuth,
            Exchange::CreateChildSa,
            Exchange::Informational,
        ] {
            for response in [true, false] {
                let path = engine.ike_sa(now, IKE, &sad).map(|view| view.path);
                let message = engine.forge(IKE, exchange, response, 0, &[]);
                if let (Some(path), Some(message)) = (path, message) {
                    engine.receive(now, path, &message, &mut sad);
                }
            }
        }
        engine.expire(now, &mut sad);
        while let Some(output) = engine.poll() {
            match output {
                Output::Ask { ticket, question, .. } => {
                    engine.answer(now, ticket, reply(&question), &mut sad);
                }
                Output::Remove { inbound_spi, .. } => {
                    sad.taken.remove(&inbound_spi);
                }
                _ => {}
            }
        }
        engine.checkpoint(now, &mut |_| true);
    }
    let _ = engine.action(now, IKE, Action::Forget, &mut sad);
}

#[cfg(test)]
mod tests;
