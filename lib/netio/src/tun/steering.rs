//! Which queue of a TUN gets a packet: an eBPF program asks a table that the readers of the queues write.
//!
//! The table has a place for each hash of a destination. What stands there was written by whoever works with packets to such a destination; when nothing
//! does, the hash alone chooses, or a hash of the whole flow, if several can work with them (addresses, and ports where they are in every packet). Two destinations of one place have the queue of the one that was written last: a queue is a hint, never a promise.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::Error;
use crate::bpf::assembly::{
    ADD, ADD_CONSTANT, AND_CONSTANT, CALL, EXIT, IF_EQUAL, IF_NOT_EQUAL, JUMP, LOAD_BYTE, LOAD_MAP,
    LOAD_PACKET_BYTE, LOAD_PACKET_WORD, LOOKUP, Line, MOVE, MOVE_CONSTANT, MULTIPLY_WORD_CONSTANT,
    PSEUDO_MAP, SHIFT_RIGHT_WORD, STORE_CONSTANT, XOR_WORD, do_, encode, instruction, jump_if,
};
use crate::bpf::{self, ProgramKind};
use crate::memory::Mapping;

/// Places of the table.
const PLACES: usize = 1 << 16;
/// Rounds of the hash for each word: multiplied, and the upper part mixed into the lower (the finish of MurmurHash3).
const ROUNDS: [(u32, u32); 2] = [(0x85eb_ca6b, 13), (0xc2b2_ae35, 16)];
/// linux/if_tun.h: `_IOR('T', 224, int)`.
const TUNSETSTEERINGEBPF: libc::Ioctl = 0x8004_54e0_u32 as libc::Ioctl;

/// RFC 791 3.1, RFC 8200 3: where words of the destination stand.
const IPV4_DESTINATION: [i32; 1] = [16];
const IPV6_DESTINATION: [i32; 4] = [24, 28, 32, 36];
/// Where words of the source stand.
const IPV4_SOURCE: [i32; 1] = [12];
const IPV6_SOURCE: [i32; 4] = [8, 12, 16, 20];
/// Where the protocol stands, and the ports behind a header without options.
const IPV4_PROTOCOL: i32 = 9;
const IPV6_PROTOCOL: i32 = 6;
const IPV4_PORTS: i32 = 20;
const IPV6_PORTS: i32 = 40;
/// First octet of an IPv4 header without options; where the word with flags and fragment offset stands, and its bits that only fragments have.
const IPV4_PLAIN: i32 = 0x45;
const IPV4_FRAGMENT: i32 = 4;
const IPV4_IS_FRAGMENT: i32 = 0x3fff;
/// Protocol numbers of TCP and UDP.
const TCP: i32 = 6;
const UDP: i32 = 17;
/// In the table: packets to there go by flows. All else is the number of a queue and one more, or 0.
const BY_FLOW: u8 = u8::MAX;

/// Registers: result; arguments; the packet, by rule of the packet loads; the whole hash; its place; the frame pointer.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const PACKET: u8 = 6;
const HASH: u8 = 7;
const PLACE: u8 = 8;
const STACK: u8 = 10;
/// The key of the only value lies here on the stack.
const KEY: i16 = -4;

/// The table of a TUN.
#[derive(Debug)]
pub(super) struct TunSteering {
    table: Mapping,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Ipv6,
    Lookup,
    ByFlow,
    PortsIpv4,
    ByFlowIpv6,
    PortsIpv6,
    Unknown,
}

impl TunSteering {
    /// Takes over the table of [`Tun::steering`](crate::Tun).
    pub(super) fn adopt(fd: OwnedFd) -> Result<Self, Error> {
        let table = Mapping::new(fd, 0, PLACES)?;
        Ok(Self { table })
    }

    /// Packets to this destination come to the queue of this number from now on, as far as nobody says otherwise. Queues from 254 on cannot be told.
    pub(super) fn set(&self, destination: IpAddr, queue: usize) {
        let told = u8::try_from(queue).ok().and_then(|queue| queue.checked_add(1));
        if let Some(told) = told.filter(|told| *told != BY_FLOW) {
            self.tell(destination, told);
        }
    }

    /// Each flow to this destination comes to a queue of its own from now on, as far as nobody says otherwise.
    pub(super) fn spread(&self, destination: IpAddr) {
        self.tell(destination, BY_FLOW);
    }

    fn tell(&self, destination: IpAddr, told: u8) {
        if let Some(place) = self.table.octets(place(destination), 1).first()
            && place.load(Ordering::Relaxed) != told
        {
            place.store(told, Ordering::Relaxed);
        }
    }
}

/// Has an empty table of its own choose among a TUN's queues, any of which is `queue`; returns the table.
pub(super) fn attach(queue: &OwnedFd) -> Result<OwnedFd, Error> {
    let table = bpf::create_shared_memory(PLACES as u32)?;
    let program = bpf::load(ProgramKind::SocketFilter, &assemble(&table))?;
    let number: libc::c_int = program.as_raw_fd();
    // SAFETY: TUNSETSTEERINGEBPF takes a pointer to an int, which lives through the call; the kernel keeps the program, not the descriptor.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), TUNSETSTEERINGEBPF, std::ptr::from_ref(&number)) };
    if result < 0 {
        return Err(Error::system(
            "steer the queues of a TUN",
            std::io::Error::last_os_error(),
        ));
    }
    Ok(table)
}

/// Where a destination stands in the table.
fn place(destination: IpAddr) -> usize {
    let mix = |hash: u32, word: u32| {
        ROUNDS.iter().fold(hash ^ word, |hash, (multiplier, shift)| {
            let hash = hash.wrapping_mul(*multiplier);
            hash ^ (hash >> shift)
        })
    };
    let hash = match destination {
        IpAddr::V4(address) => mix(0, address.to_bits()),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let words = octets.as_chunks().0.iter();
            words.fold(0, |hash, word| mix(hash, u32::from_be_bytes(*word)))
        }
    };
    hash as usize % PLACES
}

/// The same for the kernel.
fn assemble(table: impl AsFd) -> Vec<u64> {
    let mut lines = vec![
        do_(MOVE, PACKET, R1, 0, 0),
        do_(MOVE_CONSTANT, HASH, 0, 0, 0),
        do_(LOAD_PACKET_BYTE, 0, 0, 0, 0),
        do_(SHIFT_RIGHT_WORD, R0, 0, 0, 4),
        jump_if(IF_EQUAL, R0, 6, Label::Ipv6),
        jump_if(IF_NOT_EQUAL, R0, 4, Label::Unknown),
    ];
    lines.extend(IPV4_DESTINATION.into_iter().flat_map(mix));
    lines.extend([
        Line::To(Label::Lookup, instruction(JUMP, 0, 0, 0, 0)),
        Line::Here(Label::Ipv6),
    ]);
    lines.extend(IPV6_DESTINATION.into_iter().flat_map(mix));
    lines.extend([
        Line::Here(Label::Lookup),
        do_(MOVE, PLACE, HASH, 0, 0),
        do_(AND_CONSTANT, PLACE, 0, 0, PLACES as i32 - 1),
        do_(STORE_CONSTANT, STACK, 0, KEY, 0),
        do_(LOAD_MAP, R1, PSEUDO_MAP, 0, table.as_fd().as_raw_fd()),
        do_(0, 0, 0, 0, 0),
        do_(MOVE, R2, STACK, 0, 0),
        do_(ADD_CONSTANT, R2, 0, 0, KEY.into()),
        do_(CALL, 0, 0, 0, LOOKUP),
        jump_if(IF_EQUAL, R0, 0, Label::Unknown),
        do_(ADD, R0, PLACE, 0, 0),
        do_(LOAD_BYTE, R0, R0, 0, 0),
        jump_if(IF_EQUAL, R0, 0, Label::Unknown),
        jump_if(IF_EQUAL, R0, BY_FLOW.into(), Label::ByFlow),
        do_(ADD_CONSTANT, R0, 0, 0, -1),
        do_(EXIT, 0, 0, 0, 0),
        Line::Here(Label::ByFlow),
        do_(LOAD_PACKET_BYTE, 0, 0, 0, 0),
        do_(SHIFT_RIGHT_WORD, R0, 0, 0, 4),
        jump_if(IF_EQUAL, R0, 6, Label::ByFlowIpv6),
    ]);
    lines.extend(IPV4_SOURCE.into_iter().flat_map(mix));
    lines.extend([
        do_(LOAD_PACKET_BYTE, 0, 0, 0, 0),
        jump_if(IF_NOT_EQUAL, R0, IPV4_PLAIN, Label::Unknown),
        do_(LOAD_PACKET_WORD, 0, 0, 0, IPV4_FRAGMENT),
        do_(AND_CONSTANT, R0, 0, 0, IPV4_IS_FRAGMENT),
        jump_if(IF_NOT_EQUAL, R0, 0, Label::Unknown),
        do_(LOAD_PACKET_BYTE, 0, 0, 0, IPV4_PROTOCOL),
        jump_if(IF_EQUAL, R0, TCP, Label::PortsIpv4),
        jump_if(IF_NOT_EQUAL, R0, UDP, Label::Unknown),
        Line::Here(Label::PortsIpv4),
    ]);
    lines.extend(mix(IPV4_PORTS));
    lines.extend([
        Line::To(Label::Unknown, instruction(JUMP, 0, 0, 0, 0)),
        Line::Here(Label::ByFlowIpv6),
    ]);
    lines.extend(IPV6_SOURCE.into_iter().flat_map(mix));
    lines.extend([
        do_(LOAD_PACKET_BYTE, 0, 0, 0, IPV6_PROTOCOL),
        jump_if(IF_EQUAL, R0, TCP, Label::PortsIpv6),
        jump_if(IF_NOT_EQUAL, R0, UDP, Label::Unknown),
        Line::Here(Label::PortsIpv6),
    ]);
    lines.extend(mix(IPV6_PORTS));
    lines.extend([
        Line::Here(Label::Unknown),
        do_(MOVE, R0, HASH, 0, 0),
        do_(EXIT, 0, 0, 0, 0),
    ]);
    encode(&lines)
}

/// Mixes the word at an offset of the packet into the hash.
fn mix(offset: i32) -> Vec<Line<Label>> {
    let mut lines = vec![
        do_(LOAD_PACKET_WORD, 0, 0, 0, offset),
        do_(XOR_WORD, HASH, R0, 0, 0),
    ];
    lines.extend(ROUNDS.into_iter().flat_map(|(multiplier, shift)| {
        [
            do_(MULTIPLY_WORD_CONSTANT, HASH, 0, 0, multiplier.cast_signed()),
            do_(MOVE, R0, HASH, 0, 0),
            do_(SHIFT_RIGHT_WORD, R0, 0, 0, shift.cast_signed()),
            do_(XOR_WORD, HASH, R0, 0, 0),
        ]
    }));
    lines
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::test::{address, is_root};
    use crate::{Namespace, Tun, TunQueue};

    /// Numbers of the queues at which packets wait, in order of their numbers; reads them.
    fn waiting(queues: &[TunQueue]) -> Vec<usize> {
        let mut buffer = vec![0; TunQueue::MAX_READ];
        let mut found = Vec::new();
        for (number, queue) in queues.iter().enumerate() {
            while queue.read(&mut buffer).is_ok() {
                // Our own datagrams only: IPv6 has its multicasts.
                if buffer[TunQueue::HEADER_BYTES..]
                    .windows(4)
                    .any(|four| four == b"ours")
                {
                    found.push(number);
                }
            }
        }
        found
    }

    #[test]
    fn packets_come_to_the_queue_that_was_told() {
        if !is_root() {
            return println!("skipped: needs root");
        }
        let namespace = Namespace::create().unwrap();
        let tun = namespace
            .run(|| {
                let mut tun = Tun::create("steered", 4, 1500).unwrap();
                tun.steer().unwrap();
                address("steered", "10.9.0.1/16");
                address("steered", "fd09::1/64");
                tun
            })
            .unwrap();
        let table = tun.steering.unwrap();
        let queues: Vec<_> = (0..)
            .zip(tun.queues)
            .map(|(number, fd)| TunQueue::adopt_steered(fd, table.try_clone().unwrap(), number).unwrap())
            .collect();
        let send = |to: &str, port: u16| {
            let to: IpAddr = to.parse().unwrap();
            let any = if to.is_ipv4() { "10.9.0.1:0" } else { "[fd09::1]:0" };
            let socket = namespace.run(|| UdpSocket::bind(any)).unwrap().unwrap();
            socket.send_to(b"ours", (to, port)).unwrap();
        };
        for to in ["10.9.3.4", "10.9.250.1", "fd09::7", "fd09::1:2:3"] {
            for queue in [3, 0, 2] {
                queues[queue].attract(to.parse().unwrap());
                for port in [7, 8, 9] {
                    send(to, port);
                }
                assert_eq!(waiting(&queues), [queue; 3], "{to}");
            }
        }
        // Told that all may have them: each flow has one queue, and not all the same.
        for to in ["10.9.3.4", "fd09::7"] {
            queues[1].spread(to.parse().unwrap());
            let any = if to.contains(':') {
                "[fd09::1]:0"
            } else {
                "10.9.0.1:0"
            };
            let mut chosen = std::collections::BTreeSet::new();
            for _ in 0..32 {
                let socket = namespace.run(|| UdpSocket::bind(any)).unwrap().unwrap();
                let to: IpAddr = to.parse().unwrap();
                for _ in 0..3 {
                    socket.send_to(b"ours", (to, 9)).unwrap();
                }
                let found = waiting(&queues);
                assert!(
                    found.len() == 3 && found.iter().all(|queue| *queue == found[0]),
                    "{found:?}"
                );
                chosen.extend(found);
            }
            assert_eq!(chosen.len(), 4, "{to}");
            // One says otherwise.
            queues[2].attract(to.parse().unwrap());
            send(to, 7);
            assert_eq!(waiting(&queues), [2]);
        }
        // Nobody told: one queue for all ports of a destination, and not the same for all destinations.
        let mut chosen = std::collections::BTreeSet::new();
        for last in 1..=32 {
            let to = format!("10.9.77.{last}");
            send(&to, 7);
            send(&to, 8);
            let found = waiting(&queues);
            assert!(
                matches!(found[..], [first, second] if first == second),
                "{found:?}"
            );
            chosen.extend(found);
        }
        assert_eq!(chosen.len(), 4);
    }
}
