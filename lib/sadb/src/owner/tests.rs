//! Owners that die, and their successors.

use std::os::fd::AsRawFd;

use super::*;
use crate::codec::tests::sample;
use crate::word::crash;
use crate::{Change, SlotSegments, SlotWorker};

/// What both sides see of a record.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Free,
    Reserved,
    Installed(Box<ChildSa>),
}

fn map(segments: &SlotSegments) -> SlotOwner {
    SlotOwner::map(&segments.owner_fds().unwrap()).unwrap()
}

/// Has owners die at every store of `work`, which is done to a child SA that is `installed` or only reserved; what their successors may find.
fn die(installed: bool, work: impl Fn(&mut SlotOwner, &ChildSa), may_find: impl Fn(&ChildSa) -> Vec<Seen>) {
    let mut seen = vec![0; 4];
    for stores in 0.. {
        let segments = SlotSegments::with_capacity(Slot::MIN, 4).unwrap();
        let mut owner = map(&segments);
        let mut worker = SlotWorker::map(&segments.worker_fds().unwrap()).unwrap();
        let sa = sample(owner.allocate().unwrap());
        if installed {
            owner.install(&sa).unwrap();
        }
        while worker.next_change().is_some() {}
        worker.hot(sa.inbound_spi).unwrap().reserve(5, true).ok();
        let ended = crash::after(stores, || work(&mut owner, &sa));
        drop(owner);
        let owner = map(&segments);
        let spi = sa.inbound_spi;
        let found = if owner.spis() == [spi] {
            // Numbers that were given out stay so.
            let numbers = if installed { 5 } else { 0 };
            assert_eq!(owner.activity(spi).unwrap().outbound_sequence, numbers);
            Seen::Installed(Box::new(owner.read(spi).unwrap()))
        } else if owner.reserved() == [spi] {
            Seen::Reserved
        } else {
            assert!(owner.reserved().is_empty() && owner.spis().is_empty());
            Seen::Free
        };
        let may_find = may_find(&sa);
        let which = may_find.iter().position(|may| *may == found);
        seen[which.unwrap_or_else(|| panic!("after {stores} stores: {found:?}"))] += 1;
        assert_eq!(owner.installed(), owner.spis().len());
        // The data plane looks at everything again and sees the same.
        let changes = std::iter::from_fn(|| worker.next_change());
        assert!(changes.last() == Some(Change::Rescan));
        let read = worker.find(spi).unwrap();
        assert_eq!(read, owner.read(spi).ok());
        // Keys are where they are needed only.
        let secrets = usize::from(matches!(found, Seen::Installed(_)));
        let fd = segments.owner_fds().unwrap().keys;
        let keys = std::fs::read(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        let holds = keys.windows(32).filter(|window| *window == [0x11; 32]).count();
        assert_eq!(holds, secrets, "after {stores} stores");
        if ended {
            assert!(
                seen.iter().take(may_find.len()).all(|times| *times > 0),
                "{seen:?}"
            );
            return;
        }
    }
}

fn installed(sa: ChildSa) -> Seen {
    Seen::Installed(Box::new(sa))
}

#[test]
fn an_update_is_made_or_not() {
    let moved = |sa: &ChildSa| ChildSa {
        peer: "[2001:db8:9::9]:9".parse().unwrap(),
        local: "[2001:db8:8::8]:4500".parse().unwrap(),
        ..sa.clone()
    };
    die(
        true,
        |owner, sa| owner.update(&moved(sa)).unwrap(),
        |sa| vec![installed(sa.clone()), installed(moved(sa))],
    );
}

#[test]
fn sending_is_switched_or_not() {
    let on = |sa: &ChildSa| ChildSa {
        outbound_active: true,
        ..sa.clone()
    };
    die(
        true,
        |owner, sa| owner.set_outbound(sa.inbound_spi, true).unwrap(),
        |sa| vec![installed(sa.clone()), installed(on(sa))],
    );
}

#[test]
fn what_is_half_installed_is_only_reserved() {
    die(
        false,
        |owner, sa| owner.install(sa).unwrap(),
        |sa| vec![Seen::Reserved, installed(sa.clone())],
    );
    die(
        true,
        |owner, sa| owner.withdraw(sa.inbound_spi).unwrap(),
        |sa| vec![installed(sa.clone()), Seen::Reserved],
    );
}

#[test]
fn what_is_half_removed_carries_nothing() {
    die(
        true,
        |owner, sa| owner.remove(sa.inbound_spi).unwrap(),
        |sa| vec![installed(sa.clone()), Seen::Reserved, Seen::Free],
    );
    die(
        false,
        |owner, sa| owner.remove(sa.inbound_spi).unwrap(),
        |_| vec![Seen::Reserved, Seen::Free],
    );
}

#[test]
fn a_successor_goes_on_with_what_was_reserved() {
    let segments = SlotSegments::with_capacity(Slot::MIN, 4).unwrap();
    let mut owner = map(&segments);
    let reserved = owner.allocate().unwrap();
    let withdrawn = sample(owner.allocate().unwrap());
    owner.install(&withdrawn).unwrap();
    let mut owner = map(&segments);
    owner.withdraw(withdrawn.inbound_spi).unwrap();
    owner.install(&withdrawn).unwrap();
    owner.install(&sample(reserved)).unwrap();
    let fresh = owner.allocate().unwrap();
    assert!(![reserved, withdrawn.inbound_spi].contains(&fresh));
    assert_eq!((owner.clear(), owner.reserved()), (2, vec![]));
}
