//! The programs against the rule written a second time in Rust: interpreted, and in the kernel with real sockets.

use super::*;
use crate::{Datagram, DatagramSocket, ReceiveBatch, SendBatch, SocketOptions, UdpGroup};
use proptest::prelude::*;
use std::net::SocketAddr;

const RANDOM_VALUE: u32 = 0x1234_5678;

/// A classic BPF machine. `None` when the program does what the kernel would refuse or cut off (a load beyond the end returns 0).
fn run(program: &Program, packet: &[u8]) -> Option<u32> {
    let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; 16], 0usize);
    for _ in 0..program.len() {
        let instruction = program.instructions[at];
        let (k, code) = (instruction.k, instruction.code);
        at += 1;
        let bytes = |offset: u32, count: usize| packet.get(offset as usize..offset as usize + count);
        let take = |taken: bool| usize::from(if taken { instruction.jt } else { instruction.jf });
        match code {
            LD_LENGTH => a = packet.len() as u32,
            LD_WORD if k == RANDOM => a = RANDOM_VALUE,
            LD_WORD => match bytes(k, 4) {
                Some(word) => a = u32::from_be_bytes(word.try_into().unwrap()),
                None => return Some(0),
            },
            LD_BYTE | LD_BYTE_AT_X => match bytes(if code == LD_BYTE { k } else { x + k }, 1) {
                Some(byte) => a = byte[0].into(),
                None => return Some(0),
            },
            LDX_IP_HEADER_LENGTH => x = u32::from(packet[k as usize] & 0xf) * 4,
            LDX_STORED => x = memory[k as usize],
            STORE => memory[k as usize] = a,
            TO_X => x = a,
            XOR => a ^= k,
            XOR_X => a ^= x,
            ADD => a = a.wrapping_add(k),
            MULTIPLY => a = a.wrapping_mul(k),
            MODULO => a %= k,
            SHIFT_RIGHT => a >>= k,
            JUMP => at += k as usize,
            IF_EQUAL => at += take(a == k),
            IF_AT_LEAST => at += take(a >= k),
            IF_BITS => at += take(a & k != 0),
            RETURN => return Some(k),
            RETURN_A => return Some(a),
            _ => return None,
        }
    }
    None
}

fn ike(initiator: u64, responder: u64, flags: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(initiator.to_be_bytes());
    packet.extend(responder.to_be_bytes());
    packet.extend([0x21, 0x20, 34, flags, 0, 0, 0, 0, 0, 0, 0, 28]);
    packet
}

fn with_marker(packet: &[u8]) -> Vec<u8> {
    [&[0; 4], packet].concat()
}

/// The same worker has both parts of a slot.
fn both(worker: usize) -> SlotOwners {
    SlotOwners {
        manager: Some(worker),
        data: Some(worker),
    }
}

fn spread(workers: usize) -> Steering {
    Steering::new(
        workers,
        |slot| both(usize::from(slot) * workers / 256),
        *b"0123456789abcdef",
    )
    .unwrap()
}

/// Slots in no order at all: the longest program.
fn shuffled(workers: usize) -> Steering {
    Steering::new(
        workers,
        |slot| both(usize::from(slot) * 131 % 256 % workers),
        [7; 16],
    )
    .unwrap()
}

#[test]
fn programs_stay_within_the_kernels_limit() {
    for steering in [spread(1), spread(64), shuffled(2), shuffled(255)] {
        for program in [
            steering.program_500(),
            steering.program_4500(),
            steering.esp_filter(0, true),
        ] {
            assert!(program.len() < 4096, "{}", program.len());
        }
    }
    assert!(
        spread(2).program_4500().len() < 64,
        "an ordinary map needs no long program"
    );
}

#[test]
fn wrong_owners_are_refused() {
    let nobody = |_| SlotOwners::default();
    assert!(Steering::new(0, nobody, [0; 16]).is_err());
    assert!(Steering::new(256, nobody, [0; 16]).is_err());
    assert!(Steering::new(2, nobody, [0; 16]).is_ok());
    assert!(Steering::new(2, |_| both(2), [0; 16]).is_err());
    let data_alone = |_| SlotOwners {
        data: Some(2),
        ..both(1)
    };
    assert!(Steering::new(2, data_alone, [0; 16]).is_err());
}

#[test]
fn new_ike_sas_are_spread_evenly_and_by_key() {
    let (one, two) = (
        spread(8),
        Steering::new(8, |slot| both(usize::from(slot) * 8 / 256), *b"another key here").unwrap(),
    );
    let mut load = [0u32; 8];
    let mut differ = 0;
    for n in 0..8000u64 {
        // Consecutive numbers: the worst that a careless initiator does.
        let packet = ike(n, 0, 8);
        let first = run(&one.program_500(), &packet).unwrap();
        load[first as usize] += 1;
        differ += u32::from(run(&two.program_500(), &packet) != Some(first));
        assert_eq!(
            run(&one.program_4500(), &with_marker(&packet)),
            Some(first),
            "both ports must agree"
        );
    }
    assert!(load.iter().all(|count| (800..1200).contains(count)), "{load:?}");
    assert!(differ > 6000, "{differ}");
}

#[test]
fn new_ike_sas_follow_the_slots() {
    // Worker 0 has all slots but 64 to 127, which are worker 2's; worker 1 has none.
    let some = |slot: u8| both(if (64..128).contains(&slot) { 2 } else { 0 });
    let steering = Steering::new(3, some, [5; 16]).unwrap();
    let mut load = [0u32; 3];
    for n in 0..8000u64 {
        load[run(&steering.program_500(), &ike(n, 0, 8)).unwrap() as usize] += 1;
    }
    assert_eq!(load[1], 0);
    assert!((1700..2300).contains(&load[2]), "a quarter: {load:?}");
    // What is nobody's goes to somebody who has slots.
    let few = |slot: u8| if slot == 9 { both(2) } else { SlotOwners::default() };
    let steering = Steering::new(3, few, [5; 16]).unwrap();
    assert!((0..100).all(|n| run(&steering.program_500(), &ike(n, 0, 8)) == Some(2)));
}

#[test]
fn no_packet_is_without_a_socket_while_slots_change_hands() {
    let (before, after) = (shuffled(3), spread(3));
    for slot in 1..=255u32 {
        let packet = [&(slot << 24 | 7).to_be_bytes()[..], &[0; 36]].concat();
        let accepts = |program: Program| run(&program, &packet) == Some(ACCEPT);
        for worker in 0..3 {
            let (old, new) = (
                accepts(before.esp_filter(worker, false)),
                accepts(after.esp_filter(worker, false)),
            );
            let between = accepts(before.esp_filter_between(&after, worker, false));
            assert_eq!(between, old || new, "slot {slot}, worker {worker}");
        }
    }
    assert!((0..3).all(|worker| before.is_same_for_esp(&before.clone(), worker)));
    assert!((0..3).all(|worker| !before.is_same_for_esp(&after, worker)));
}

#[test]
fn keepalives_and_runts_go_somewhere_allowed() {
    let steering = shuffled(3);
    for packet in [&[][..], &[0xff], &[0, 0], &[1, 2, 3]] {
        assert_eq!(run(&steering.program_4500(), packet), Some(3 + RANDOM_VALUE % 3));
        assert_eq!(run(&steering.program_500(), packet), Some(0));
    }
    assert_eq!(run(&steering.program_4500(), &[0; 4]), Some(0));
    assert_eq!(run(&steering.program_4500(), &[0; 31]), Some(0));
}

proptest! {
    #[test]
    fn the_rule_holds_for_any_map(workers in 1usize..=255, seed: u8, other: u8, initiator in 1u64.., responder in 1u64 << 56.., flags: u8, spi in 1u32..) {
        let owner = |seed: u8, slot: u8| usize::from(slot.wrapping_mul(seed | 1)) % workers;
        let owners = |slot: u8| SlotOwners { manager: Some(owner(seed, slot)), data: Some(owner(other, slot)) };
        let steering = Steering::new(workers, owners, [seed; 16]).unwrap();
        let expected = |seed: u8, slot: u8| owner(seed, slot.max(1)) as u32;
        let ours = if flags & 8 != 0 { responder } else { initiator };
        let packet = ike(initiator, responder, flags);
        let want = Some(expected(seed, (ours >> 56) as u8));
        prop_assert_eq!(run(&steering.program_500(), &packet), want);
        prop_assert_eq!(run(&steering.program_4500(), &with_marker(&packet)), want);
        let esp = [&spi.to_be_bytes()[..], &[0; 60]].concat();
        let worker = expected(other, (spi >> 24) as u8);
        prop_assert_eq!(run(&steering.program_4500(), &esp), Some(workers as u32 + worker));
        let ipv4 = [&[0x46; 24][..], &esp].concat();
        for candidate in [0, worker] {
            let accepts = if candidate == worker { ACCEPT } else { DROP };
            prop_assert_eq!(run(&steering.esp_filter(candidate as usize, true), &ipv4), Some(accepts));
            prop_assert_eq!(run(&steering.esp_filter(candidate as usize, false), &esp), Some(accepts));
        }
        let index = run(&steering.program_500(), &ike(initiator, 0, 8)).unwrap();
        prop_assert!((index as usize) < workers);
    }
}

/// Sends each packet to a group and says which member got it.
fn members_reached(group: &UdpGroup, packets: &[Vec<u8>]) -> Vec<usize> {
    let sender = DatagramSocket::bind_udp("127.0.0.1:0".parse().unwrap(), SocketOptions::default()).unwrap();
    let mut batch = ReceiveBatch::new(8, 2048);
    let mut send = SendBatch::new(1);
    packets
        .iter()
        .map(|packet| {
            send.send(&sender, &[Datagram::to(group.address(), packet)])
                .unwrap();
            let got: Vec<usize> = (0..group.members().len())
                .filter(|n| batch.receive(&group.members()[*n]).is_ok_and(|count| count == 1))
                .collect();
            assert_eq!(got.len(), 1, "packet reached {got:?}");
            got[0]
        })
        .collect()
}

#[test]
fn the_kernel_steers_as_the_interpreter() {
    const WORKERS: usize = 3;
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for steering in [spread(WORKERS), shuffled(WORKERS)] {
        let group = UdpGroup::open(
            local,
            2 * WORKERS,
            SocketOptions::default(),
            &steering.program_4500(),
        )
        .unwrap();
        let mut packets = Vec::new();
        for slot in (1..=255u32).step_by(7) {
            packets.push([&(slot << 24 | 5).to_be_bytes()[..], &[0; 40]].concat());
            packets.push(with_marker(&ike(u64::from(slot) << 56 | 1, 99, 0)));
            packets.push(with_marker(&ike(99, u64::from(slot) << 56 | 1, 8)));
            packets.push(with_marker(&ike(
                u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                0,
                8,
            )));
        }
        let expected: Vec<_> = packets
            .iter()
            .map(|p| run(&steering.program_4500(), p).unwrap() as usize)
            .collect();
        assert_eq!(members_reached(&group, &packets), expected);
        assert!((0..2 * WORKERS).all(|member| expected.contains(&member)));

        // Another program, by the control socket; the members themselves are locked.
        let all_last = Steering::new(WORKERS, |_| both(WORKERS - 1), [0; 16]).unwrap();
        assert!(
            all_last
                .program_4500()
                .attach(&group.members()[0], libc::SO_ATTACH_REUSEPORT_CBPF)
                .is_err()
        );
        group.steer(&all_last.program_4500()).unwrap();
        assert_eq!(members_reached(&group, &packets[..1]), [2 * WORKERS - 1]);
        assert!(members_reached(&group, &[vec![0xff]])[0] >= WORKERS);
    }
}

#[test]
fn raw_esp_sockets_get_their_own_slots_only() {
    if !crate::test::is_root() {
        return;
    }
    let steering = spread(2);
    let namespace = crate::Namespace::create().unwrap();
    namespace
        .run(|| {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let address: SocketAddr = address.parse().unwrap();
                let sockets: Vec<_> = (0..2)
                    .map(|worker| {
                        let socket = DatagramSocket::bind_esp(address, SocketOptions::default()).unwrap();
                        socket
                            .attach_filter(&steering.esp_filter(worker, address.is_ipv4()))
                            .unwrap();
                        socket.lock_filter().unwrap();
                        assert!(
                            socket
                                .attach_filter(&steering.esp_filter(1 - worker, true))
                                .is_err()
                        );
                        socket
                    })
                    .collect();
                let mut batch = ReceiveBatch::new(8, 2048);
                for (slot, owner) in [(1u32, 0), (127, 0), (128, 1), (255, 1)] {
                    let packet = [&(slot << 24 | 77).to_be_bytes()[..], &[9; 36]].concat();
                    SendBatch::new(1)
                        .send(&sockets[0], &[Datagram::to(address, &packet)])
                        .unwrap();
                    assert!(batch.receive(&sockets[1 - owner]).is_err(), "slot {slot}");
                    assert_eq!(batch.receive(&sockets[owner]).unwrap(), 1, "slot {slot}");
                    let received = batch.iter_mut().next().unwrap();
                    let payload = if address.is_ipv4() {
                        crate::split_ipv4_header(received.data).unwrap().1
                    } else {
                        received.data
                    };
                    assert_eq!(payload, &packet[..]);
                    assert_eq!(received.source.ip(), address.ip());
                }
            }
        })
        .unwrap();
}

#[test]
fn of_icmp_only_what_says_that_esp_or_udp_was_too_long_passes() {
    let v4 = |kind: [u8; 2], protocol: u8| {
        // An IPv4 header with one option, ICMP, and the beginning of the packet that it quotes.
        let mut packet = vec![0; 24 + 8 + 20];
        packet[0] = 0x46;
        packet[24..26].copy_from_slice(&kind);
        packet[24 + 8 + 9] = protocol;
        run(&Program::too_big(true), &packet)
    };
    let v6 = |kind: u8, next_header: u8| {
        let mut packet = vec![0; 8 + 40];
        packet[0] = kind;
        packet[8 + 6] = next_header;
        run(&Program::too_big(false), &packet)
    };
    for protocol in 0..=u8::MAX {
        let passes = |protocols: &[u8]| {
            Some(if protocols.contains(&protocol) {
                ACCEPT
            } else {
                DROP
            })
        };
        assert_eq!(v4([3, 4], protocol), passes(&[17, 50]));
        assert_eq!(v6(2, protocol), passes(&[17, 44, 50]));
    }
    for (kind, code) in [(3, 3), (3, 5), (4, 4), (0, 0), (8, 0), (11, 0)] {
        assert_eq!(v4([kind, code], 50), Some(DROP));
    }
    for kind in [1, 3, 128, 135, 136] {
        assert_eq!(v6(kind, 50), Some(DROP));
    }
    assert_eq!(run(&Program::too_big(true), &[0x45]), Some(0), "cut");
    assert_eq!(run(&Program::too_big(false), &[2]), Some(0), "cut");
}
