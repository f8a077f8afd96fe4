//! The format of the state: what is written is read, today's for ever, and nothing else.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// A state of version 1 as it was recorded when that was the newest. It never changes.
const RECORDED: &str = include_str!("../../../formats/state-1.hex");

fn file(octets: &[u8]) -> File {
    let mut file = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(octets).unwrap();
    file
}

/// As large as any, with something in every kind of field.
fn sample() -> NodeState {
    let aaamgr = KeptAddress::from(Address::only(Facility::Aaamgr));
    NodeState {
        version: "0.1.0".into(),
        workers: 2,
        locks: vec![10, 11],
        users: Some(KeptUsers {
            group: 60_700,
            facilities: vec![KeptUser {
                facility: 8,
                user: 60_708,
                group: 60_708,
            }],
        }),
        bus: vec![12, 13],
        history: Some(History {
            incarnation: 0x0102_0304_0506_0708,
            types: vec![bus::HistoryOfType {
                message: 0x0183,
                next: 3,
                frames: vec![vec![1, 2, 3].into()],
            }],
        }),
        contexts: vec![KeptContext {
            name: "isp".into(),
            id: 2,
            namespace: 14,
            made: Some("/run/starward/netns/isp".into()),
            borrowed: vec!["ran0".into()],
        }],
        descriptors: Some(KeptDescriptors {
            key: vec![7; 16],
            slot_map: Some(SlotMap::of_workers(vec![1, 2])),
            steered: true,
            groups: vec![KeptGroup {
                context: "isp".into(),
                address: "192.0.2.1:500".into(),
                members: vec![15, 16],
                control: 17,
                by: vec![aaamgr],
            }],
            raw: vec![KeptRaw {
                context: "isp".into(),
                address: "192.0.2.1".into(),
                worker: 1,
                esp: 18,
                too_big: 19,
                by: Vec::new(),
            }],
            tuns: vec![KeptTun {
                context: "isp".into(),
                name: "starward2".into(),
                queues: vec![20, 21],
                offloads: 2,
                steering: Some(32),
            }],
            udp: vec![KeptUdp {
                holder: Some(aaamgr),
                context: "isp".into(),
                address: String::new(),
                port: 0,
                number: 3,
                socket: 22,
            }],
            slots: vec![KeptSlot {
                slot: 7,
                segments: vec![23, 24, 25, 26],
            }],
            rings: vec![KeptRing {
                facility: 6,
                from: 1,
                to: 2,
                memory: 27,
                event: 28,
            }],
            xdp: vec![KeptXdp {
                name: "ran0".into(),
                context: "isp".into(),
                port: Some(KeptXdpPort {
                    device: 5,
                    native: true,
                    link: 33,
                    addresses: 34,
                    taken: vec!["192.0.2.1".into()],
                    sockets: vec![35],
                    memories: vec![36],
                }),
            }],
        }),
        tasks: vec![KeptTask {
            address: Some(aaamgr),
            context: String::new(),
            phase: 2,
            lives: 3,
            replaced: 1,
            backoff: 200,
            failed_starts: 0,
            executable: 1,
            life: Some(KeptLife {
                number: 2,
                pid: 4_711,
                pidfd: 29,
                control: 30,
                age: 60_000,
                confined: 5,
            }),
        }],
        deferred: vec![KeptRequest {
            address: Some(aaamgr),
            life: 2,
            frame: vec![0x53; 24],
            patience: 9_000,
        }],
        executables: vec![KeptExecutable {
            key: 1,
            file: 31,
            path: "/usr/sbin/starward".into(),
            version: "0.1.0".into(),
            control: 1,
        }],
        running: 1,
        next: 2,
        configuration: "config\nend\n".into(),
        crashes: "0\n".into(),
        uptime: 86_400_000,
        unprotected: vec!["nothing".into()],
    }
}

#[test]
fn a_state_of_version_1_is_read() {
    let octets: Vec<u8> = RECORDED
        .split_whitespace()
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    assert_eq!(NodeState::read(&mut file(&octets)), Ok(sample()));
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let mut file = file(&[]);
    let mut sample_file = sample().write().unwrap();
    sample_file.rewind().unwrap();
    io::copy(&mut sample_file, &mut file).unwrap();
    // Tag 1000, a string.
    file.write_all(&[0xc2, 0x3e, 3, b'n', b'e', b'w']).unwrap();
    assert_eq!(NodeState::read(&mut file), Ok(sample()));
}

#[test]
fn what_is_no_state_of_ours_is_told_in_a_line() {
    let mut octets = Vec::new();
    let mut written = sample().write().unwrap();
    written.rewind().unwrap();
    written.read_to_end(&mut octets).unwrap();
    let refused = |octets: &[u8]| NodeState::read(&mut file(octets)).unwrap_err();
    assert_eq!(refused(b"\x7fELF and more"), "this is no state of a node");
    for length in [0, 7, 10, 15] {
        assert_eq!(refused(&octets[..length]), "the state is cut off");
    }
    let mut later = octets.clone();
    later[11] = 9;
    assert_eq!(refused(&later), "the state has version 9, 1 to 1 can be read");
    assert!(refused(&octets[..octets.len() - 1]).starts_with("the state cannot be read: "));
    let without = |change: fn(&mut NodeState)| {
        let mut state = sample();
        change(&mut state);
        NodeState::read(&mut state.write().unwrap()).unwrap_err()
    };
    assert_eq!(
        without(|state| state.descriptors = None),
        "the state is not complete"
    );
    assert_eq!(
        without(|state| state.executables.clear()),
        "aaamgr-1 runs an executable that is not there"
    );
    assert_eq!(
        without(|state| state.tasks[0].address = None),
        "a task without an address"
    );
    let unknown = |state: &mut NodeState| {
        state.tasks[0].address = Some(KeptAddress {
            facility: 200,
            instance: 1,
        });
    };
    assert_eq!(without(unknown), "there is no facility 200");
}

proptest! {
    #[test]
    fn a_state_survives_its_file(
        numbers in vec(any::<u32>(), 12), text in "\\PC{0,40}", long in any::<u64>(), octets in vec(any::<u8>(), 0..40)
    ) {
        let mut state = sample();
        state.workers = numbers[0];
        state.locks = vec![numbers[1], numbers[2]];
        state.contexts[0].name = text.clone();
        state.contexts[0].namespace = numbers[3];
        state.configuration = text.clone();
        state.uptime = long;
        state.tasks[0].lives = numbers[4];
        state.tasks[0].context = text;
        if let Some(life) = &mut state.tasks[0].life {
            (life.pid, life.pidfd, life.control, life.age) = (numbers[5], numbers[6], numbers[7], long);
        }
        state.deferred[0].frame = octets.clone();
        if let Some(descriptors) = &mut state.descriptors {
            descriptors.key = octets;
            descriptors.slot_map = Some(SlotMap::of_workers(numbers.clone()));
            descriptors.groups[0].members = numbers;
        }
        prop_assert_eq!(NodeState::read(&mut state.write().unwrap()), Ok(state));
    }

    #[test]
    fn anything_can_be_read_without_panic(octets in vec(any::<u8>(), 0..200)) {
        let mut whole = MAGIC.to_vec();
        whole.extend(VERSION.to_be_bytes());
        whole.resize(HEADER, 0);
        whole.extend(octets);
        let _ = NodeState::read(&mut file(&whole));
    }
}
