//! What is told to accounting.

use super::*;

#[test]
fn a_site_needs_no_address_and_is_accounted() {
    let mut world = World::new(|_| ());
    let verdict = world.admit(ask(7, "site", "enb1"));
    assert_eq!((verdict.refusal.as_str(), verdict.ipv4.len()), ("", 0));
    assert_eq!(world.counters.get(counted::CURRENT_ARRIVED), 1);
    world.connect(7, 0, &[100]);
    world.traffic.set(100, 10);
    world.pass(2);
    assert_eq!(world.counters.get(counted::RX_PACKETS), 10);
    // The child SA and the IKE SA are rekeyed: nothing is lost, nothing counted twice.
    world.traffic.set(100, 12);
    world.connect(8, 7, &[101]);
    world.traffic.set(101, 5);
    world.now += Duration::from_secs(3);
    world.release(8, 2);
    assert_eq!(world.counters.get(counted::RX_PACKETS), 17);
    assert_eq!(world.counters.get(counted::CURRENT_CALLS), 0);
    assert_eq!(world.state.sessions.len(), 0);
    let records = world.records();
    let [start, stop] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(
        (start.kind, stop.kind),
        (AccountingKind::Start as i32, AccountingKind::Stop as i32)
    );
    assert_eq!(start.session, stop.session);
    assert_eq!((stop.packets_in, stop.bytes_in, stop.packets_out), (17, 1700, 2));
    assert_eq!(
        (stop.seconds, stop.terminate_cause, stop.user.as_slice()),
        (5, 1, &b"enb1"[..])
    );
    assert_eq!(
        (start.calling_station.as_str(), start.service.as_str()),
        ("198.51.100.7", "site")
    );
}

#[test]
fn accounting_names_the_user_in_the_octets_it_came_in() {
    let mut world = World::new(|_| ());
    let name = "j\u{f6}rg\\x";
    for (ike_spi, user) in [(7, name.as_bytes()), (8, &[0xff, 1][..]), (9, b"")] {
        let admission = Admission {
            user: user.to_vec(),
            ..ask(ike_spi, "site", name)
        };
        assert_eq!(world.admit(admission).refusal, "");
        world.connect(ike_spi, 0, &[100]);
        world.release(ike_spi, 2);
        let expected = if user.is_empty() { name.as_bytes() } else { user };
        for record in world.records() {
            assert_eq!(record.user, expected);
        }
    }
}
