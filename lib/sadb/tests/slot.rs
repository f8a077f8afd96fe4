//! A slot's segments seen by two mappings, and by a second process.

#![allow(clippy::unwrap_used, reason = "test helpers fail loudly")]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use sadb::{
    Algorithms, Change, ChildSa, DfPolicy, DscpPolicy, Encapsulation, Error, IkeSpi, Lifetimes, Mode,
    ReplayVerdict, SaCounter, SaIndex, SaKeys, SecretBytes, Selector, Selectors, SequenceExhausted, Slot,
    SlotOwner, SlotReader, SlotSegments, SlotWorker, Spi,
};

fn child_sa(spi: Spi) -> ChildSa {
    let keys = |seed: u8| SaKeys {
        encryption: SecretBytes::new("key", &[seed; 16]).unwrap(),
        salt: SecretBytes::new("salt", &[seed; 4]).unwrap(),
        integrity: SecretBytes::EMPTY,
    };
    let selectors = |start: &str, end: &str| {
        Selectors::new(&[Selector::any_port(start.parse().unwrap(), end.parse().unwrap())]).unwrap()
    };
    ChildSa {
        inbound_spi: spi,
        outbound_spi: !spi.to_u32(),
        inbound_active: true,
        outbound_active: true,
        algorithms: Algorithms {
            encryption: 20,
            key_bits: 128,
            integrity: 0,
            icv_bytes: 16,
        },
        inbound_keys: keys(1),
        outbound_keys: keys(2),
        mode: Mode::Tunnel,
        esn: false,
        encapsulation: Encapsulation::Udp,
        local: "192.0.2.1:4500".parse().unwrap(),
        peer: "198.51.100.1:4500".parse().unwrap(),
        context: 1,
        replay_window: 64,
        local_selectors: selectors("10.0.0.0", "10.0.255.255"),
        remote_selectors: selectors("10.1.0.5", "10.1.0.5"),
        fragment_mtu: 1400,
        inner_mtu: 0,
        outer_mtu: 1500,
        shared: false,
        df: DfPolicy::Copy,
        dscp: DscpPolicy::Copy,
        ike_sa: IkeSpi::new(spi.slot(), 1, 2).unwrap(),
        lifetimes: Lifetimes::default(),
    }
}

fn slot(capacity: usize) -> (SlotSegments, SlotOwner, SlotWorker) {
    let segments = SlotSegments::with_capacity(Slot::new(7).unwrap(), capacity).unwrap();
    let owner = SlotOwner::map(&segments.owner_fds().unwrap()).unwrap();
    let worker = SlotWorker::map(&segments.worker_fds().unwrap()).unwrap();
    (segments, owner, worker)
}

fn install(owner: &mut SlotOwner) -> ChildSa {
    let sa = child_sa(owner.allocate().unwrap());
    owner.install(&sa).unwrap();
    sa
}

#[test]
fn the_worker_follows_the_owner() {
    let (segments, mut owner, mut worker) = slot(100);
    assert_eq!(worker.next_change(), Some(Change::Rescan));
    let spi = owner.allocate().unwrap();
    assert_eq!(spi.slot().number(), 7);
    assert_eq!((worker.next_change(), worker.find(spi).unwrap()), (None, None));

    let mut sa = child_sa(spi);
    owner.install(&sa).unwrap();
    assert_eq!(worker.next_change(), Some(Change::Record(spi.index())));
    assert_eq!(worker.find(spi).unwrap().as_ref(), Some(&sa));
    assert_eq!(owner.read(spi).unwrap(), sa);

    let hot = worker.hot(spi).unwrap();
    assert_eq!(hot.reserve(5, sa.esn), Ok(1));
    assert_eq!(hot.accept(9, sa.replay_window), ReplayVerdict::Fresh);
    hot.received_at(1000);
    hot.sent_at(2000);
    hot.learn_peer("203.0.113.9:1024".parse().unwrap());
    worker.counters(spi).unwrap().received(1, 1400);
    worker.counters(spi).unwrap().add(SaCounter::DropReplay, 3);

    sa.peer = "203.0.113.1:4500".parse().unwrap();
    owner.update(&sa).unwrap();
    assert_eq!(worker.next_change(), Some(Change::Record(spi.index())));
    assert_eq!(worker.read(spi.index()).unwrap().unwrap().peer, sa.peer);
    let activity = owner.activity(spi).unwrap();
    assert_eq!((activity.last_in_ns, activity.last_out_ns), (1000, 2000));
    assert_eq!((activity.outbound_sequence, activity.inbound_sequence), (5, 9));
    assert_eq!(activity.learned_peer, Some("203.0.113.9:1024".parse().unwrap()));

    let reader = SlotReader::map(segments.reader_fd().unwrap()).unwrap();
    let counters = reader.counters(spi).unwrap();
    assert_eq!((counters.get(SaCounter::BytesIn), counters.drops()), (1400, 3));
    assert_eq!(owner.counters(spi), Some(counters));

    owner.remove(spi).unwrap();
    assert_eq!(worker.next_change(), Some(Change::Record(spi.index())));
    assert_eq!(worker.find(spi).unwrap(), None);
    assert!(matches!(owner.read(spi), Err(Error::NoSuchSpi(_))));
    assert_eq!((owner.activity(spi), owner.counters(spi)), (None, Some(counters)));
}

#[test]
fn wrong_spis_are_refused_by_kind() {
    let (_segments, mut owner, worker) = slot(10);
    let sa = install(&mut owner);
    let spi = sa.inbound_spi;
    let other_slot = Spi::new(Slot::new(8).unwrap(), spi.generation(), spi.index());
    let other_generation = Spi::new(spi.slot(), spi.generation() + 1, spi.index());
    let no_record = Spi::new(spi.slot(), 0, SaIndex::new(16_000).unwrap());
    assert!(matches!(owner.read(other_slot), Err(Error::WrongSlot { .. })));
    assert!(matches!(owner.remove(other_generation), Err(Error::NoSuchSpi(_))));
    assert!(matches!(owner.remove(no_record), Err(Error::NoSuchSpi(_))));
    for wrong in [other_slot, other_generation, no_record] {
        assert_eq!(worker.find(wrong).unwrap(), None);
    }
    assert!(worker.hot(other_slot).is_none() && worker.hot(no_record).is_none());
    assert_eq!(
        worker.hot(other_generation).unwrap().reserve(1, false),
        Err(SequenceExhausted::Stale)
    );
    assert!(worker.counters(other_generation).is_none());
    assert!(matches!(
        owner.install(&sa),
        Err(Error::Invalid {
            field: "inbound_spi",
            ..
        })
    ));
    let mut bad = child_sa(owner.allocate().unwrap());
    bad.replay_window = 8;
    assert!(matches!(
        owner.install(&bad),
        Err(Error::Invalid {
            field: "replay_window",
            ..
        })
    ));
}

#[test]
fn an_spi_does_not_come_back_at_once() {
    let (_segments, mut owner, _worker) = slot(400);
    let mut seen = HashSet::new();
    let mut since: Vec<SaIndex> = Vec::new();
    for _ in 0..20_000 {
        let spi = owner.allocate().unwrap();
        assert!(seen.insert(spi), "{spi} was handed out twice");
        let recent = since.len().saturating_sub(256);
        assert!(!since[recent..].contains(&spi.index()), "index reused at once");
        since.push(spi.index());
        owner.remove(spi).unwrap();
    }
}

#[test]
fn a_full_slot_says_so_and_works_again_after_a_removal() {
    let (_segments, mut owner, _worker) = slot(5);
    let spis: Vec<_> = (0..5).map(|_| install(&mut owner).inbound_spi).collect();
    assert!(matches!(owner.allocate(), Err(Error::Full { capacity: 5, .. })));
    owner.remove(spis[2]).unwrap();
    let again = owner.allocate().unwrap();
    assert_eq!(again.index(), spis[2].index());
    assert_ne!(again, spis[2]);
    assert_eq!((owner.installed(), owner.clear(), owner.installed()), (4, 4, 0));
}

#[test]
fn a_new_sa_in_an_old_record_starts_from_zero() {
    let (_segments, mut owner, worker) = slot(1);
    let old = install(&mut owner).inbound_spi;
    let stale = worker.hot(old).unwrap();
    stale.reserve(100, false).unwrap();
    stale.accept(50, 64);
    worker.counters(old).unwrap().sent(1, 1);
    owner.remove(old).unwrap();
    let new = install(&mut owner).inbound_spi;
    assert_eq!(new.index(), old.index());
    // The worker that has not noticed yet gets no number of the new SA.
    assert_eq!(stale.reserve(1, false), Err(SequenceExhausted::Stale));
    let hot = worker.hot(new).unwrap();
    assert_eq!(
        (hot.reserve(1, false), hot.check(50, 64)),
        (Ok(1), ReplayVerdict::Fresh)
    );
    assert_eq!(
        worker
            .counters(new)
            .unwrap()
            .snapshot()
            .get(SaCounter::PacketsOut),
        0
    );
}

#[test]
fn a_lapped_worker_rescans() {
    let (_segments, mut owner, mut worker) = slot(10);
    assert_eq!(worker.next_change(), Some(Change::Rescan));
    let sa = install(&mut owner);
    for _ in 0..5000 {
        owner.update(&sa).unwrap();
    }
    assert_eq!(worker.next_change(), Some(Change::Rescan));
    assert_eq!(worker.next_change(), None);
    let found: Vec<_> = worker
        .indices()
        .filter_map(|index| worker.read(index).unwrap())
        .collect();
    assert_eq!(found, [sa]);
}

#[test]
fn a_restarted_owner_keeps_what_is_installed_and_what_is_reserved() {
    let (segments, mut owner, worker) = slot(10);
    let kept = install(&mut owner);
    let reserved = owner.allocate().unwrap();
    worker.hot(kept.inbound_spi).unwrap().reserve(10, false).unwrap();
    drop(owner);
    let mut owner = SlotOwner::map(&segments.owner_fds().unwrap()).unwrap();
    assert_eq!((owner.installed(), owner.spis()), (1, vec![kept.inbound_spi]));
    assert!(matches!(owner.read(reserved), Err(Error::NoSuchSpi(_))));
    assert_eq!(owner.reserved(), [reserved]);
    assert_eq!(owner.activity(kept.inbound_spi).unwrap().outbound_sequence, 10);
    assert_eq!(owner.clear(), 1);
    assert_eq!(worker.find(kept.inbound_spi).unwrap(), None);
}

#[test]
fn segments_of_another_kind_slot_or_size_are_refused() {
    let (segments, _owner, _worker) = slot(10);
    let other = SlotSegments::with_capacity(Slot::new(9).unwrap(), 10).unwrap();
    let mut fds = segments.owner_fds().unwrap();
    std::mem::swap(&mut fds.keys, &mut fds.hot);
    assert!(matches!(SlotOwner::map(&fds), Err(Error::Layout { .. })));
    let mut fds = segments.owner_fds().unwrap();
    fds.hot = other.owner_fds().unwrap().hot;
    assert!(matches!(
        SlotOwner::map(&fds),
        Err(Error::Layout { field: "slot", .. })
    ));
    assert!(matches!(
        SlotReader::map(std::fs::File::open("/dev/null").unwrap()),
        Err(Error::Layout { .. })
    ));
    // Descriptors with fewer rights than the role needs.
    let mut fds = segments.owner_fds().unwrap();
    fds.keys = segments.worker_fds().unwrap().keys;
    assert!(matches!(SlotOwner::map(&fds), Err(Error::System { .. })));
}

#[test]
fn debug_output_has_no_key_bytes() {
    let (_segments, mut owner, _worker) = slot(1);
    let mut sa = child_sa(owner.allocate().unwrap());
    sa.inbound_keys.encryption = SecretBytes::new("key", &[0xab; 16]).unwrap();
    let text = format!("{sa:?}");
    assert!(text.contains("<16 secret bytes>"), "{text}");
    // Only the length shows: other bytes of the same length change nothing.
    sa.inbound_keys.encryption = SecretBytes::new("key", &[0xcd; 16]).unwrap();
    assert_eq!(format!("{sa:?}"), text);
}

/// The keys of a removed SA are nowhere in the segment, and sealing holds.
#[test]
fn removed_keys_are_gone_from_memory_and_the_segment_cannot_shrink() {
    let (segments, mut owner, _worker) = slot(4);
    let mut sa = child_sa(owner.allocate().unwrap());
    let secret = *b"0123456789ABCDEFfedcba9876543210";
    sa.outbound_keys.encryption = SecretBytes::new("key", &secret).unwrap();
    owner.install(&sa).unwrap();
    let fds = segments.owner_fds().unwrap();
    let read = || std::fs::read(format!("/proc/self/fd/{}", fds.keys.as_raw_fd())).unwrap();
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    assert!(holds(&read()));
    owner.remove(sa.inbound_spi).unwrap();
    assert!(!holds(&read()));
    let file = std::fs::File::from(fds.keys);
    assert!(file.set_len(10).is_err());
}

/// A second process, killed in the middle of its work, has reserved numbers that are never given out again.
#[test]
fn a_killed_worker_process_leaves_nothing_to_reuse() {
    if let Ok(fds) = std::env::var("SADB_TEST_WORKER") {
        return worker_process(&fds);
    }
    let (segments, mut owner, worker) = slot(10);
    let sa = install(&mut owner);
    let fds = segments.worker_fds().unwrap();
    let list = [&fds.keys, &fds.hot, &fds.counters].map(|fd| {
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        fd.as_raw_fd().to_string()
    });
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_worker_process_leaves_nothing_to_reuse",
            "--nocapture",
        ])
        .env(
            "SADB_TEST_WORKER",
            format!("{},{}", list.join(","), sa.inbound_spi.to_u32()),
        )
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("reserved up to") {
        let length = output.read(&mut buffer).unwrap();
        assert!(length > 0, "the worker process ended early: {text}");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let hot = worker.hot(sa.inbound_spi).unwrap();
    let next = hot.reserve(1, false).unwrap();
    assert_eq!(next, owner.activity(sa.inbound_spi).unwrap().outbound_sequence);
    assert!(next > 1000, "{next}");
    assert_eq!(hot.check(488, 512), ReplayVerdict::TooOld);
    assert_eq!(hot.check(1000, 512), ReplayVerdict::Duplicate);
    assert_eq!(
        worker
            .counters(sa.inbound_spi)
            .unwrap()
            .snapshot()
            .get(SaCounter::PacketsIn),
        1000
    );
}

fn worker_process(list: &str) {
    use std::os::fd::{FromRawFd, OwnedFd};
    let numbers: Vec<i64> = list.split(',').map(|n| n.parse().unwrap()).collect();
    // SAFETY: the parent test passed these three descriptors down for us alone.
    let fd = |n: usize| unsafe { OwnedFd::from_raw_fd(numbers[n] as i32) };
    let worker = SlotWorker::map(&sadb::SegmentFds {
        keys: fd(0),
        hot: fd(1),
        counters: fd(2),
        ike: None,
    })
    .unwrap();
    let spi = Spi::from_u32(numbers[3] as u32).unwrap();
    assert!(worker.find(spi).unwrap().is_some());
    for n in 1..=1000 {
        let hot = worker.hot(spi).unwrap();
        hot.reserve(1, false).unwrap();
        assert_eq!(hot.accept(n, 512), ReplayVerdict::Fresh);
        worker.counters(spi).unwrap().received(1, 100);
    }
    std::io::stdout().write_all(b"reserved up to 1000\n").unwrap();
    std::io::stdout().flush().unwrap();
    // Until the parent kills us.
    let _ = std::io::stdin().read(&mut [0]);
}
