//! Slots move between engines that both live. (That it may happen at any step of any exchange is among the restarts.)

use crypto::TestRandom;
use ikev2::{Action, DropCause, Engine, EngineConfig, Profile};

use crate::world::Side::{A, B};
use crate::world::{RESTART_VARIABLE, World, profile};

/// The former owner has other slots, whose IKE SAs go on there; messages for those that moved are not its own any more.
#[test]
fn only_what_is_in_the_slot_moves() {
    if std::env::var_os(RESTART_VARIABLE).is_some() {
        return;
    }
    let mut world = World::new();
    let (now, own) = (world.now, world.b.memory.config.slots[0]);
    world.b.engine.add_slots(&[0x23]);
    world.b.serve(Profile {
        initial_contact: false,
        ..profile(B)
    });
    for _ in 0..4 {
        world.initiate(profile(A));
        world.settle();
    }
    world.check_pairs(4);
    let of = |engine: &Engine, slot| engine.proved_in(slot).len();
    assert_eq!((of(&world.b.engine, own), of(&world.b.engine, 0x23)), (2, 2));
    assert_eq!(world.b.engine.counts().map(|(_, count)| count).sum::<usize>(), 4);
    world.b.engine.remove_slots(&[own]);
    let left = world.b.engine.totals();
    assert_eq!((left.established, left.children, left.ike_sas), (2, 2, 2));
    assert_eq!(of(&world.b.engine, own), 0);
    assert_eq!(world.b.engine.counts().collect::<Vec<_>>(), [(0x23, 2)]);
    let mut there = Vec::new();
    let views = world.a.views(now);
    for view in &views {
        let action = Action::CheckLiveness;
        world
            .a
            .engine
            .action(now, view.id, action, &mut world.a.sad)
            .unwrap();
        world.collect(A);
        let before = world.b.drops(DropCause::ForeignSlot);
        world.deliver_next(B);
        there.push(world.b.drops(DropCause::ForeignSlot) == before);
    }
    assert_eq!(there.iter().filter(|there| **there).count(), 2);
    // The other engine has an IKE SA of its own already, in another slot.
    let mut other = Engine::new(
        EngineConfig {
            slots: vec![0x44],
            ..world.b.memory.config.clone()
        },
        Box::new(TestRandom::new(99)),
    );
    other.add_slots(&[own]);
    let find = |_: &str| world.b.memory.profiles.last().cloned();
    for (ike, record) in world.b.sad.records.clone() {
        if ike.slot() == own {
            other.reserve_restored(ike, &record).unwrap();
            other.restore(now, ike, &record, &find, &mut world.b.sad).unwrap();
        }
    }
    other.finish_restore(now, &mut world.b.sad);
    assert_eq!((of(&other, own), other.totals().established), (2, 2));
}
