//! NATs between the two, or believed to be (RFC 7296 2.23).

use std::time::Duration;

use ikev2::{Action, Count, Event};

use crate::world::Side::{A, B};
use crate::world::{World, profile};

#[test]
fn a_nat_moves_them_to_port_4500() {
    let mut world = World::connected_through_nat();
    let ours = &world.a.installed[&world.child(A)];
    assert!(ours.udp_encapsulation);
    assert_eq!((ours.path.local.port(), ours.path.remote.port()), (4500, 4500));
    let child = world.child(B);
    let theirs = &world.b.installed[&child];
    assert!(theirs.udp_encapsulation);
    assert_eq!(theirs.path.remote, "198.51.100.7:14500".parse().unwrap());
    let view = world
        .b
        .engine
        .ike_sa(world.now, world.b.installed[&child].ike, &world.b.sad)
        .unwrap();
    assert_eq!(view.nat, (false, true));
    // We are behind it, so it is up to us to keep it open.
    world.advance(Duration::from_secs(20));
    assert_eq!(world.a.count(Count::KeepaliveSent), 1);
    assert_eq!(world.wire.pop_back().unwrap().bytes, [0xff]);
    assert_eq!(world.b.count(Count::KeepaliveSent), 0);
}

#[test]
fn a_peer_behind_a_nat_is_followed() {
    let mut world = World::connected_through_nat();
    let child = world.child(B);
    world.a_outside = "198.51.100.8:500".parse().unwrap();
    // A damaged message moves nothing.
    world.action(A, Action::CheckLiveness);
    let mut damaged = world.wire.back().unwrap().clone();
    *damaged.bytes.last_mut().unwrap() ^= 1;
    world.deliver(&damaged);
    assert_eq!(
        world.b.installed[&child].path.remote.ip().to_string(),
        "198.51.100.7"
    );
    world.settle();
    assert_eq!(
        world.b.installed[&child].path.remote,
        "198.51.100.8:14500".parse().unwrap()
    );
    assert!(
        world
            .b
            .events
            .iter()
            .any(|event| matches!(event, Event::Moved { .. }))
    );
}

#[test]
fn a_peer_behind_a_nat_that_moves_silently_is_found_where_esp_came_from() {
    let mut world = World::connected_through_nat();
    let child = world.child(B);
    let goes_to = |world: &mut World| {
        world.action(B, Action::CheckLiveness);
        world.advance(Duration::from_secs(1));
        let sent = world.wire.back().unwrap().clone();
        world.settle();
        (sent.to, world.b.installed[&child].path.remote)
    };
    let learn = |world: &mut World, from: &str| {
        let now = world.now;
        let usage = world.b.sad.usage.entry(child).or_default();
        usage.last_inbound = Some(now);
        usage.learned_peer = from.parse().ok();
    };
    // The NAT gives it another address; only ESP has come from there.
    world.a_outside = "198.51.100.8:500".parse().unwrap();
    learn(&mut world, "198.51.100.8:14500");
    assert_eq!(goes_to(&mut world), (A, "198.51.100.8:14500".parse().unwrap()));
    // A message of IKE is newer than what ESP told before; that is no news any more.
    world.a_outside = "198.51.100.9:500".parse().unwrap();
    world.action(A, Action::CheckLiveness);
    world.settle();
    assert_eq!(goes_to(&mut world).1, "198.51.100.9:14500".parse().unwrap());
    // A request under way finds it as well, when it is sent again.
    world.action(B, Action::CheckLiveness);
    world.intercept(A);
    world.a_outside = "198.51.100.10:500".parse().unwrap();
    learn(&mut world, "198.51.100.10:14500");
    world.advance(Duration::from_secs(3));
    let moved = world.b.installed[&child].path.remote;
    assert_eq!(moved, "198.51.100.10:14500".parse().unwrap());
}

#[test]
fn a_gateway_behind_a_nat_of_its_own_does_not_follow_esp() {
    let mut theirs = profile(B);
    theirs.force_encapsulation = true;
    let mut world = World::connected_with(profile(A), theirs);
    let child = world.child(B);
    let before = world.b.installed[&child].path;
    world.b.sad.usage.entry(child).or_default().learned_peer = "198.51.100.8:14500".parse().ok();
    world.action(B, Action::CheckLiveness);
    world.settle();
    assert_eq!(world.b.installed[&child].path, before);
}

#[test]
fn encapsulation_can_be_forced() {
    let mut ours = profile(A);
    ours.force_encapsulation = true;
    let world = World::connected_with(ours, profile(B));
    let child = world.child(B);
    assert!(world.b.installed[&child].udp_encapsulation);
}
