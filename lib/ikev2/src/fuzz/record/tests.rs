//! Records of every kind of IKE SA, and a sample of each as it was first released: it must be read for ever.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path as FilePath;

use super::*;
use crate::fuzz::{ADDRESSES, RESTART, Run};
use crate::output::Path;
use crate::profile::{LocalAuth, Profile};

/// The samples, which fuzzing begins with too.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/ike_record");

/// Records of IKE SAs in these states, by name.
#[derive(Default)]
struct Collection(BTreeMap<String, Vec<u8>>);

impl Collection {
    /// Adds what is saved now.
    fn add(&mut self, run: &Run) {
        for record in run.sad.records.values() {
            let name = same_again(record, run.epoch).unwrap().kind();
            self.0.entry(name).or_insert_with(|| record.clone());
        }
    }

    /// Lets both talk, message by message, and adds what they would save after each.
    fn follow(&mut self, run: &mut Run) {
        let mut wire = Vec::new();
        for _ in 0..40 {
            for peer in 0..2 {
                run.collect(peer, &mut wire);
                self.add(run);
            }
            if wire.is_empty() {
                return;
            }
            let (from, path, bytes): (usize, Path, Vec<u8>) = wire.remove(0);
            run.receive(1 - from, path, &bytes);
        }
        panic!("they never stop talking");
    }
}

/// Goes through every exchange.
fn collection() -> BTreeMap<String, Vec<u8>> {
    let mut collection = Collection::default();
    for local_auth in [profile().local_auth, LocalAuth::Eap] {
        let mut run = Run::new();
        let ours = Profile {
            local_auth,
            ..profile()
        };
        let path = super::super::path(0);
        let _ = run.peers[0].initiate(run.now, Arc::new(ours), path, &mut run.sad);
        collection.follow(&mut run);
        for action in [Action::CheckLiveness, Action::CreateChild(0), Action::RekeyIke] {
            for both in [false, true] {
                for engine in run.peers.iter_mut().take(1 + usize::from(both)) {
                    let (views, _) = engine.ike_sas(run.now, crate::show::Cursor::default(), 16, &run.sad);
                    for view in views {
                        let _ = engine.action(run.now, view.id, action.clone(), &mut run.sad);
                    }
                }
                collection.follow(&mut run);
            }
        }
        for both in [false, true] {
            for engine in run.peers.iter_mut().take(1 + usize::from(both)) {
                let (views, _) = engine.ike_sas(run.now, crate::show::Cursor::default(), 16, &run.sad);
                for view in views {
                    let child = view.children.last().map_or(0, |child| child.inbound_spi);
                    let _ = engine.action(run.now, view.id, Action::RekeyChild(child), &mut run.sad);
                }
            }
            collection.follow(&mut run);
        }
        let (views, _) = run.peers[0].ike_sas(run.now, crate::show::Cursor::default(), 16, &run.sad);
        for view in views {
            let child = view.children.last().map_or(0, |child| child.inbound_spi);
            let _ = run.peers[0].action(run.now, view.id, Action::DeleteChild(child), &mut run.sad);
            collection.follow(&mut run);
            let _ = run.peers[0].action(run.now, view.id, Action::Delete, &mut run.sad);
        }
        collection.follow(&mut run);
    }
    collection.0
}

#[test]
fn every_state_is_read_as_it_was_written_and_was_when_first_released() {
    let now = collection();
    let names: Vec<&str> = now.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "auth-received",
            "auth-sent",
            "closing",
            "established",
            "established-creating-child",
            "established-creating-child-collision",
            "established-deleting-child",
            "established-liveness",
            "established-rekeying-child",
            "established-rekeying-ike",
            "established-rekeying-ike-collision",
            "init-replied",
            "init-sent",
            "lingering",
            "replaced",
        ]
    );
    let samples = FilePath::new(SAMPLES);
    for (name, written) in now {
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            fs::create_dir_all(samples).unwrap();
            fs::write(samples.join(&name), &written).unwrap();
        }
        let released = fs::read(samples.join(&name)).unwrap();
        for octets in [&written, &released] {
            let sa = same_again(octets, Instant::now()).unwrap_or_else(|| panic!("{name} cannot be read"));
            assert_eq!(sa.kind(), name);
            record(octets);
        }
    }
}

#[test]
fn what_is_no_record_is_refused() {
    let (_, whole) = collection().into_iter().nth(3).unwrap();
    let epoch = Instant::now();
    for length in 0..whole.len() {
        assert!(same_again(&whole[..length], epoch).is_none(), "cut to {length}");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(same_again(&longer, epoch).is_none());
    let mut newer = whole;
    newer[0] = crate::RECORD_VERSION + 1;
    assert!(Head::of(&newer).is_none(), "another version");
}

#[test]
fn child_sas_beside_others_come_back_whatever_is_cut_off() {
    let recorded: Vec<u8> = include_str!("../../../formats/ike-record-2.hex")
        .split_whitespace()
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    let (_, whole) = recorded.split_first_chunk::<8>().unwrap();
    assert!(same_again(whole, Instant::now()).is_some());
    record(whole);
    for length in 0..whole.len() {
        record(&whole[..length]);
    }
}

#[test]
fn a_conversation_goes_on_in_another_life() {
    let mut run = Run::new();
    assert_eq!(run.peers[1].totals().established, 1);
    for _ in 0..3 {
        // A liveness check of the peer after each restart.
        run.step(RESTART | 1, &[2, crate::message::payload::NONE]);
        assert_eq!(run.peers[1].totals().established, 1);
    }
    assert!(run.peers[1].core.profiles.contains_key(&ADDRESSES[1]));
    run.end();
}
