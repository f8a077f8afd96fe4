//! Sessions from their first message to their last.

use super::*;

/// Instance of our `sessmgr`, and of another one.
const OURS: u32 = 4;
const OTHER: u32 = 9;
/// The slot of the IKE SPIs here.
const SLOT: &[u8] = &[0];

fn path() -> Path {
    Path {
        local: "192.0.2.1:500".parse().unwrap(),
        remote: "198.51.100.1:500".parse().unwrap(),
    }
}

fn established() -> Sessions {
    let mut sessions = Sessions::new(OURS);
    sessions.begin(IkeSaId(1), 7, path());
    sessions.get_mut(IkeSaId(1)).unwrap().admitted = true;
    sessions.establish(IkeSaId(1), "peer", AuthMethod::Signature(14));
    sessions
}

fn told(sessions: &mut Sessions) -> Vec<(u64, u64, Vec<u32>)> {
    sessions
        .take_changed()
        .into_iter()
        .map(|(sessmgr, session)| {
            assert_eq!(sessmgr, OURS);
            (session.ike_spi, session.was, session.spis)
        })
        .collect()
}

#[test]
fn sessmgr_hears_of_every_change_once_and_under_a_name_it_knows() {
    let mut sessions = established();
    sessions.add_child(IkeSaId(1), 10);
    assert_eq!(told(&mut sessions), [(1, 0, vec![10])]);
    assert_eq!(told(&mut sessions), []);
    sessions.add_child(IkeSaId(1), 11);
    sessions.remove_child(10, &SaCounters::default()).unwrap();
    sessions.rekeyed(IkeSaId(1), IkeSaId(2));
    sessions.rekeyed(IkeSaId(2), IkeSaId(3));
    assert_eq!(told(&mut sessions), [(3, 1, vec![11])]);
    assert_eq!(
        sessions.remove_child(11, &SaCounters::default()).unwrap().0,
        IkeSaId(3)
    );
    assert!(sessions.get(IkeSaId(1)).is_none() && sessions.get(IkeSaId(3)).is_some());
    sessions.end(IkeSaId(3)).unwrap();
    assert_eq!(told(&mut sessions), []);
}

#[test]
fn nothing_is_told_of_a_session_before_it_is_admitted_and_established() {
    let mut sessions = Sessions::new(OURS);
    sessions.begin(IkeSaId(1), 7, path());
    sessions.add_child(IkeSaId(1), 10);
    assert_eq!(told(&mut sessions), []);
    sessions.get_mut(IkeSaId(1)).unwrap().admitted = true;
    assert_eq!(told(&mut sessions), []);
    sessions.get_mut(IkeSaId(1)).unwrap().established = true;
    assert_eq!(told(&mut sessions), [(1, 0, vec![10])]);
}

#[test]
fn tunnels_are_counted_while_they_are_up() {
    let mut sessions = established();
    assert!(sessions.set_up(IkeSaId(1), true) && !sessions.set_up(IkeSaId(1), true));
    assert_eq!((sessions.levels().up, sessions.levels().certificates), (1, 1));
    sessions.rekeyed(IkeSaId(1), IkeSaId(2));
    assert_eq!((sessions.levels().up, sessions.levels().certificates), (1, 1));
    assert!(sessions.end(IkeSaId(2)).unwrap().up);
    assert_eq!(sessions.levels(), Levels::default());
    assert!(!sessions.set_up(IkeSaId(2), false));
}

#[test]
fn a_session_goes_on_in_a_later_life() {
    let mut sessions = established();
    sessions.add_child(IkeSaId(1), 10);
    sessions.add_child(IkeSaId(1), 11);
    sessions.remove_child(10, &SaCounters::default()).unwrap();
    sessions.set_up(IkeSaId(1), true);
    let session = sessions.get_mut(IkeSaId(1)).unwrap();
    session.authorization = Some(Box::default());
    session.reason = Some(DisconnectReason::Admin);
    session.carried.bytes_out = 7;
    sessions.rekeyed(IkeSaId(1), IkeSaId(2));
    sessions.rekeyed(IkeSaId(2), IkeSaId(3));
    let mut unsaved: Vec<u64> = sessions.take_unsaved().into_iter().map(|ike| ike.0).collect();
    unsaved.sort_unstable();
    assert_eq!(unsaved, [1, 2, 3]);
    let record = sessions.get(IkeSaId(3)).unwrap().record();

    // Also where another worker has it then: it stays with the `sessmgr` that admitted it.
    assert_eq!(recorded_name(&record, OTHER), Some((OURS, 1)));
    let mut later = Sessions::new(OTHER);
    assert!(later.restore(IkeSaId(3), 8, path(), &[11], &record));
    assert_eq!(later.levels(), sessions.levels());
    let session = Session {
        service: 7,
        ..later.get(IkeSaId(3)).unwrap().clone()
    };
    assert_eq!(
        format!("{session:?}"),
        format!("{:?}", sessions.get(IkeSaId(3)).unwrap())
    );
    assert!(later.outlived(&[1]).is_empty());
    let outlived = later.outlived(SLOT);
    assert_eq!(
        outlived
            .iter()
            .map(|(sessmgr, one)| (*sessmgr, one.ike_spi, one.known_as, one.spis.as_slice()))
            .collect::<Vec<_>>(),
        [(OURS, 3, 1, &[11][..])],
        "sessmgr may not have heard of its present name"
    );
    assert!(later.take_unsaved().is_empty() && told(&mut later).is_empty());
    later.told(&[3, 4]);
    assert_eq!(later.outlived(SLOT)[0].1.known_as, 0);
    assert_eq!(later.take_unsaved().into_iter().collect::<Vec<_>>(), [IkeSaId(3)]);
    assert_eq!(
        later.remove_child(11, &SaCounters::default()).unwrap().0,
        IkeSaId(3)
    );
    // One that only the engine knows has no session.
    assert!(!later.restore(IkeSaId(9), 8, path(), &[], &[]));
    assert!(!later.restore(IkeSaId(9), 8, path(), &[], &[0xff; 9]));
}

#[test]
fn sessions_of_slots_that_leave_are_forgotten() {
    let mut sessions = established();
    sessions.set_up(IkeSaId(1), true);
    sessions.add_child(IkeSaId(1), 10);
    let stays = IkeSaId(7 << 56 | 1);
    sessions.begin(stays, 7, path());
    sessions.add_child(stays, 7 << 24 | 1);
    sessions.let_go(SLOT);
    assert_eq!(sessions.levels(), Levels::default());
    assert!(sessions.get(IkeSaId(1)).is_none() && sessions.get(stays).is_some());
    assert!(sessions.remove_child(10, &SaCounters::default()).is_none());
    assert_eq!(sessions.take_unsaved().into_iter().collect::<Vec<_>>(), [stays]);
    assert_eq!(sessions.changed.keys().copied().collect::<Vec<_>>(), [stays]);
}

#[test]
fn a_record_without_instance_is_of_the_sessmgr_of_the_worker() {
    let mut sessions = established();
    sessions.get_mut(IkeSaId(1)).unwrap().sessmgr = 0;
    let record = sessions.get(IkeSaId(1)).unwrap().record();
    assert_eq!(recorded_name(&record, OTHER), Some((OTHER, 0)));
    let mut later = Sessions::new(OTHER);
    assert!(later.restore(IkeSaId(1), 7, path(), &[], &record));
    assert_eq!(later.sessmgr_of(IkeSaId(1)), OTHER);
}
