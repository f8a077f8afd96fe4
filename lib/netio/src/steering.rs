//! Which worker's socket gets a packet: classic BPF programs for socket groups and raw sockets.
//!
//! A slot is the first byte of every SPI that we hand out, so the kernel can find the owner without state. The rule:
//!
//! | packet | goes to |
//! |---|---|
//! | port 4500, shorter than an ESP header's SPI (a keepalive, RFC 3948 2.3) | any data plane |
//! | port 4500, first word not zero: ESP | the data plane of the SPI's slot |
//! | IKE, too short for a header | the first IKE manager, which counts it |
//! | IKE, flag I set, responder SPI of no slot: a new IKE SA | the IKE manager of a slot by a keyed hash of the initiator's SPI |
//! | IKE, flag I set | the IKE manager of the responder SPI's slot: ours |
//! | IKE, flag I clear | the IKE manager of the initiator SPI's slot: ours |
//!
//! Port 4500's IKE has four zero bytes before it (RFC 3948 2.2). The hash is keyed at boot, so nobody outside can aim at one worker. A worker gets new IKE SAs as it
//! has slots; one that has none gets none.
//!
//! Socket indices, for `W` workers: group 500 has the IKE managers of workers 1 to W at 0 to W-1; group 4500 has those too, and the data planes at
//! W to 2W-1.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::sock_filter;

use crate::Error;

/// Offsets in the IKE header (RFC 7296 3.1).
const IKE_INITIATOR_SPI: u32 = 0;
const IKE_RESPONDER_SPI: u32 = 8;
const IKE_FLAGS: u32 = 19;
const IKE_HEADER_BYTES: u32 = 28;
const IKE_FLAG_INITIATOR: u32 = 0x08;
const NON_ESP_MARKER_BYTES: u32 = 4;

/// ICMP (RFC 792, RFC 4443 3.2), and where the packet that it quotes says what it carries.
const ICMP_UNREACHABLE: u32 = 3;
const ICMP_FRAGMENTATION_NEEDED: u32 = 4;
const ICMPV6_TOO_BIG: u32 = 2;
const ICMP_HEADER_BYTES: u32 = 8;
const IPV4_PROTOCOL: u32 = 9;
const IPV6_NEXT_HEADER: u32 = 6;
const UDP: u32 = 17;
const FRAGMENT: u32 = 44;
const ESP: u32 = 50;

/// What a filter returns to let the whole packet pass.
const ACCEPT: u32 = u32::MAX;
const DROP: u32 = 0;
/// The random number of linux/filter.h: SKF_AD_OFF + SKF_AD_RANDOM.
const RANDOM: u32 = (-0x1000i32 + 56) as u32;

const LD_LENGTH: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_LEN) as u16;
const LD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LD_BYTE_AT_X: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
const LDX_IP_HEADER_LENGTH: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const LDX_STORED: u16 = (libc::BPF_LDX | libc::BPF_MEM) as u16;
const STORE: u16 = libc::BPF_ST as u16;
const TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
const XOR: u16 = (libc::BPF_ALU | libc::BPF_XOR | libc::BPF_K) as u16;
const XOR_X: u16 = (libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X) as u16;
const ADD: u16 = (libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K) as u16;
const MULTIPLY: u16 = (libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K) as u16;
const MODULO: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
const SHIFT_RIGHT: u16 = (libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const RETURN_A: u16 = (libc::BPF_RET | libc::BPF_A) as u16;

/// The slot map as the kernel is to know it.
#[derive(Clone, PartialEq, Eq)]
pub struct Steering {
    workers: u32,
    /// By slot, the index (from 0) of the worker whose IKE manager has it. Index 0 of the table is for SPIs of no slot.
    managers: Owners,
    /// Likewise, of the worker whose data plane has it.
    data: Owners,
    key: [u32; 4],
}

type Owners = [u32; 256];

/// Who has a slot: workers, counted from 0; `None` when it is not of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotOwners {
    /// Whose IKE manager has it.
    pub manager: Option<usize>,
    /// Whose data plane has it.
    pub data: Option<usize>,
}

/// A classic BPF program.
#[derive(Clone, Debug)]
pub struct Program {
    instructions: Vec<sock_filter>,
}

impl Steering {
    /// `owners` gives each slot's workers, below `workers`. Packets for a slot that is not of this node go where those of the next slot do, to somebody who will not
    /// know them. `key` is drawn at boot and never told.
    pub fn new(workers: usize, owners: impl Fn(u8) -> SlotOwners, key: [u8; 16]) -> Result<Self, Error> {
        let invalid = Error::Invalid {
            what: "workers",
            expected: "1 to 255, and each slot's owners among them",
        };
        let of_manager = table(workers, |slot| owners(slot).manager);
        let of_data = table(workers, |slot| owners(slot).data);
        let (true, Some(managers), Some(data)) = ((1..=255).contains(&workers), of_manager, of_data) else {
            return Err(invalid);
        };
        let word = |n: usize| {
            key.as_chunks()
                .0
                .get(n)
                .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
        };
        Ok(Self {
            workers: workers as u32,
            managers,
            data,
            key: std::array::from_fn(word),
        })
    }

    /// The program of a group on port 500.
    pub fn program_500(&self) -> Program {
        let mut program = Vec::new();
        self.steer_ike(&mut program, 0);
        Program {
            instructions: program,
        }
    }

    /// The program of a group on port 4500.
    pub fn program_4500(&self) -> Program {
        let workers = self.workers;
        let mut ike = Vec::new();
        self.steer_ike(&mut ike, NON_ESP_MARKER_BYTES);
        let mut program = vec![
            statement(LD_LENGTH, 0),
            branch(IF_AT_LEAST, NON_ESP_MARKER_BYTES, 4, 0),
            statement(LD_WORD, RANDOM),
            statement(MODULO, workers),
            statement(ADD, workers),
            statement(RETURN_A, 0),
            statement(LD_WORD, 0),
            branch(IF_EQUAL, 0, 0, 1),
            statement(JUMP, 0),
            statement(LD_BYTE, 0),
        ];
        let jump = program.len() - 2;
        by_slot(&mut program, |slot| {
            self.data_of(slot).map(|worker| workers + worker)
        });
        let distance = program.len() - jump - 1;
        if let Some(instruction) = program.get_mut(jump) {
            instruction.k = distance as u32;
        }
        program.extend(ike);
        Program {
            instructions: program,
        }
    }

    /// The filter of one worker's raw ESP socket: accepts its own slots, drops the others'. `worker` counts from 0. IPv4 packets begin with their IP
    /// header there, IPv6 ones with ESP.
    pub fn esp_filter(&self, worker: usize, ipv4: bool) -> Program {
        self.esp_filter_between(self, worker, ipv4)
    }

    /// The filter of such a socket while one steering is replaced by another: accepts what is the worker's by either. With every socket on this one before any is on
    /// the next one's, a packet reaches one socket or two, and never none.
    pub fn esp_filter_between(&self, next: &Self, worker: usize, ipv4: bool) -> Program {
        let mut program = if ipv4 {
            vec![statement(LDX_IP_HEADER_LENGTH, 0), statement(LD_BYTE_AT_X, 0)]
        } else {
            vec![statement(LD_BYTE, 0)]
        };
        by_slot(&mut program, |slot| {
            let is_its = |steering: &Self| {
                steering
                    .data_of(slot)
                    .is_some_and(|owner| owner as usize == worker)
            };
            Some(if is_its(self) || is_its(next) {
                ACCEPT
            } else {
                DROP
            })
        });
        Program {
            instructions: program,
        }
    }

    /// Whether a worker's raw ESP socket gets the same by both.
    pub fn is_same_for_esp(&self, other: &Self, worker: usize) -> bool {
        let differs =
            |(ours, theirs): (&u32, &u32)| (*ours as usize == worker) != (*theirs as usize == worker);
        !self.data.iter().zip(&other.data).any(differs)
    }

    fn data_of(&self, slot: u8) -> Option<u32> {
        self.data.get(usize::from(slot)).copied()
    }

    /// Appends the choice among the IKE managers; the IKE header begins at `start`.
    fn steer_ike(&self, program: &mut Vec<sock_filter>, start: u32) {
        let [key_high, key_low, mix, finish] = self.key;
        let mut new_sa = vec![
            // Two rounds of multiply and shift over both words, each keyed; multipliers are odd so that no bit is lost.
            statement(LD_WORD, start + IKE_INITIATOR_SPI),
            statement(XOR, key_high),
            statement(MULTIPLY, mix | 1),
            statement(STORE, 0),
            statement(SHIFT_RIGHT, 15),
            statement(LDX_STORED, 0),
            statement(XOR_X, 0),
            statement(TO_X, 0),
            statement(LD_WORD, start + IKE_INITIATOR_SPI + 4),
            statement(XOR, key_low),
            statement(XOR_X, 0),
            statement(MULTIPLY, finish | 1),
            statement(STORE, 0),
            statement(SHIFT_RIGHT, 16),
            statement(LDX_STORED, 0),
            statement(XOR_X, 0),
            // A slot, 1 to 255: whoever has it gets the new IKE SA.
            statement(MODULO, u32::from(u8::MAX)),
            statement(ADD, 1),
        ];
        let hash_length = new_sa.len() as u8;
        program.extend([
            statement(LD_LENGTH, 0),
            branch(IF_AT_LEAST, start + IKE_HEADER_BYTES, 1, 0),
            statement(RETURN, 0),
            statement(LD_BYTE, start + IKE_FLAGS),
            branch(IF_BITS, IKE_FLAG_INITIATOR, 2, 0),
            statement(LD_BYTE, start + IKE_INITIATOR_SPI),
            statement(JUMP, 2 + u32::from(hash_length)),
            statement(LD_BYTE, start + IKE_RESPONDER_SPI),
            branch(IF_EQUAL, 0, 0, hash_length),
        ]);
        program.append(&mut new_sa);
        by_slot(program, |slot| self.managers.get(usize::from(slot)).copied());
    }
}

/// The owner of each slot as a table. `None` when one is not among the workers.
fn table(workers: usize, owner: impl Fn(u8) -> Option<usize>) -> Option<Owners> {
    // From above, so that each slot of nobody finds the owner of the next one; those above the last one find the first.
    let first = (1..=u8::MAX).find_map(&owner).unwrap_or(0);
    let mut table = [0; 256];
    let mut next = first;
    for (slot, place) in (1..=u8::MAX).zip(table.iter_mut().skip(1)).rev() {
        next = owner(slot).unwrap_or(next);
        if next >= workers {
            return None;
        }
        *place = next as u32;
    }
    // SPIs of no slot.
    if let Some(place) = table.first_mut() {
        *place = first as u32;
    }
    Some(table)
}

/// Appends a search tree: the slot is in A; returns what `result` says of it.
fn by_slot(program: &mut Vec<sock_filter>, result: impl Fn(u8) -> Option<u32>) {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for slot in 0..=u8::MAX {
        let value = result(slot).unwrap_or(DROP);
        if runs.last().is_none_or(|(_, last)| *last != value) {
            runs.push((slot.into(), value));
        }
    }
    search_tree(program, &runs);
}

impl Program {
    /// The filter of a raw ICMP socket: accepts what says that a packet of ESP, or of UDP, was too long. IPv4 messages begin with their IP header
    /// there, IPv6 ones with ICMP.
    pub(crate) fn too_big(ipv4: bool) -> Self {
        let instructions = if ipv4 {
            vec![
                statement(LDX_IP_HEADER_LENGTH, 0),
                statement(LD_BYTE_AT_X, 0),
                branch(IF_EQUAL, ICMP_UNREACHABLE, 0, 6),
                statement(LD_BYTE_AT_X, 1),
                branch(IF_EQUAL, ICMP_FRAGMENTATION_NEEDED, 0, 4),
                statement(LD_BYTE_AT_X, ICMP_HEADER_BYTES + IPV4_PROTOCOL),
                branch(IF_EQUAL, ESP, 1, 0),
                branch(IF_EQUAL, UDP, 0, 1),
                statement(RETURN, ACCEPT),
                statement(RETURN, DROP),
            ]
        } else {
            vec![
                statement(LD_BYTE, 0),
                branch(IF_EQUAL, ICMPV6_TOO_BIG, 0, 5),
                statement(LD_BYTE, ICMP_HEADER_BYTES + IPV6_NEXT_HEADER),
                branch(IF_EQUAL, ESP, 2, 0),
                branch(IF_EQUAL, UDP, 1, 0),
                branch(IF_EQUAL, FRAGMENT, 0, 1),
                statement(RETURN, ACCEPT),
                statement(RETURN, DROP),
            ]
        };
        Self { instructions }
    }

    /// How long it is; the kernel takes up to 4,096.
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Whether it has no instruction at all.
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    pub(crate) fn attach(&self, socket: &OwnedFd, option: libc::c_int) -> Result<(), Error> {
        let mut instructions = self.instructions.clone();
        let program = libc::sock_fprog {
            len: u16::try_from(instructions.len()).map_err(|_| Error::Invalid {
                what: "program",
                expected: "below 4096 instructions",
            })?,
            filter: instructions.as_mut_ptr(),
        };
        // SAFETY: `program` points at `instructions`, and both live through the call; the kernel copies them.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                std::ptr::from_ref(&program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if result < 0 {
            return Err(Error::system(
                "attach a steering program",
                std::io::Error::last_os_error(),
            ));
        }
        Ok(())
    }
}

/// Appends a balanced tree over `runs` of (first slot, result), sorted.
fn search_tree(program: &mut Vec<sock_filter>, runs: &[(u32, u32)]) {
    match runs {
        [] => program.push(statement(RETURN, 0)),
        [(_, result)] => program.push(statement(RETURN, *result)),
        runs => {
            let (low, high) = runs.split_at(runs.len() / 2);
            let first_high = high.first().map_or(0, |(slot, _)| *slot);
            let mut below = Vec::new();
            search_tree(&mut below, low);
            // A branch reaches 255 instructions, and the lower half has fewer: at most 128 results and 127 branches.
            let over = u8::try_from(below.len()).unwrap_or(u8::MAX);
            program.push(branch(IF_AT_LEAST, first_high, over, 0));
            program.append(&mut below);
            search_tree(program, high);
        }
    }
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Skips `then` or `otherwise` instructions.
fn branch(code: u16, k: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter {
        code,
        jt: then,
        jf: otherwise,
        k,
    }
}

#[cfg(test)]
mod tests;
