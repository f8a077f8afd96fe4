//! The yardstick: what this machine does now with ESP and nothing else. An SPI that is an index, a replay window, two counters, AES-GCM of the library that we use, and
//! the memory of an SA asked for two packets ahead: no routes, selectors, bursts, checksums, clocks, shared memory or recovery.
//!
//! Machines differ, and one machine from hour to hour, by more than a data plane's code does. What repeats is how near our code comes to this.

use crypto::{AeadKey, Cipher, NONCE_LEN};
use esp::Transform;
use sadb::prefetch;

use crate::measure::Carrier;
use crate::packets::{Chance, ROOM, Sizes};
use crate::tunnels::{BATCH, Way};

/// How many packets ahead of its turn the memory of an SA is asked for.
const AHEAD: usize = 2;
/// SPI and sequence number.
const HEADER: usize = 8;
const IV: usize = 8;
/// Pad length and next header.
const TRAILER: usize = 2;
const WINDOW: u32 = 64;

/// SAs in an array, and their peers.
pub struct Bare {
    transform: Transform,
    inbound: Vec<Sa>,
    outbound: Vec<Sa>,
    /// Who seals what comes.
    peers: Vec<Sa>,
    buffers: Vec<Buffer>,
    carried: (u64, u64),
}

/// One direction of a tunnel: all of it lies here.
#[repr(align(64))]
struct Sa {
    key: AeadKey,
    salt: [u8; 4],
    /// The last number sent, or the highest received.
    sequence: u32,
    window: u64,
    packets: u64,
    octets: u64,
}

struct Buffer {
    data: Box<[u8; ROOM]>,
    length: usize,
    spi: u32,
}

impl Bare {
    /// As many tunnels as asked for, AES-GCM with 128 bits.
    pub fn new(count: usize) -> Result<Self, String> {
        let transform = Transform::new(Cipher::AesGcm128Icv16, None).map_err(|error| error.to_string())?;
        let all = |way: u8| -> Result<Vec<Sa>, String> {
            (0..count as u32).map(|number| Sa::new(way, number)).collect()
        };
        let buffer = || Buffer {
            data: Box::new([0; ROOM]),
            length: 0,
            spi: 0,
        };
        Ok(Self {
            transform,
            inbound: all(0x20)?,
            outbound: all(0x40)?,
            peers: all(0x20)?,
            buffers: (0..BATCH).map(|_| buffer()).collect(),
            carried: (0, 0),
        })
    }

    fn open(&mut self) {
        for n in 0..self.buffers.len() {
            if let Some(next) = self.buffers.get(n + AHEAD)
                && let Some(sa) = spi_of(next).and_then(|spi| self.inbound.get(spi))
            {
                prefetch(sa);
            }
            if let Some(buffer) = self.buffers.get_mut(n)
                && let Some(sa) = spi_of(buffer).and_then(|spi| self.inbound.get_mut(spi))
                && let Some(packet) = buffer.data.get_mut(..buffer.length)
                && sa.open(packet).is_some()
            {
                self.carried.0 += 1;
            }
        }
    }

    fn seal(&mut self) {
        for n in 0..self.buffers.len() {
            if let Some(next) = self.buffers.get(n + AHEAD)
                && let Some(sa) = self.outbound.get(next.spi as usize)
            {
                prefetch(sa);
            }
            if let Some(buffer) = self.buffers.get_mut(n)
                && let Some(sa) = self.outbound.get_mut(buffer.spi as usize)
                && sa
                    .seal(
                        self.transform,
                        buffer.data.as_mut_slice(),
                        buffer.spi,
                        buffer.length,
                    )
                    .is_some()
            {
                self.carried.1 += 1;
            }
        }
    }
}

impl Carrier for Bare {
    fn prepare(&mut self, way: Way, sizes: Sizes, chance: &mut Chance) -> Result<(), String> {
        for buffer in &mut self.buffers {
            let spi = chance.below(self.peers.len() as u64) as usize;
            let length = sizes.pick(chance);
            let data = buffer.data.as_mut_slice();
            let header = self.transform.header_len();
            data.get_mut(header..header + length).ok_or("no room")?.fill(7);
            (buffer.spi, buffer.length) = (spi as u32, length);
            if way == Way::Open {
                let peer = self.peers.get_mut(spi).ok_or("no such peer")?;
                buffer.length = peer
                    .seal(self.transform, data, spi as u32, length)
                    .ok_or("a peer cannot seal")?;
            }
        }
        Ok(())
    }

    fn round(&mut self, way: Way, _: u64) {
        match way {
            Way::Open => self.open(),
            Way::Seal => self.seal(),
        }
    }

    fn carried(&self) -> (u64, u64) {
        self.carried
    }
}

impl Sa {
    fn new(way: u8, number: u32) -> Result<Self, String> {
        let [a, b, c, d] = number.to_be_bytes();
        let key: Vec<u8> = (0..16).map(|n| n ^ way ^ a ^ b ^ c.rotate_left(1) ^ d).collect();
        Ok(Self {
            key: AeadKey::new(Cipher::AesGcm128Icv16, &key).map_err(|error| error.to_string())?,
            salt: [way, b, c, d],
            sequence: 0,
            window: 0,
            packets: 0,
            octets: 0,
        })
    }

    /// Makes an ESP packet of `inner` octets that lie behind the room for its header; returns its length.
    fn seal(&mut self, transform: Transform, buffer: &mut [u8], spi: u32, inner: usize) -> Option<usize> {
        self.sequence += 1;
        let length = transform.sealed_len(inner);
        let (packet, icv) = buffer
            .get_mut(..length)?
            .split_at_mut_checked(length - transform.icv_len())?;
        let (header, rest) = packet.split_first_chunk_mut::<HEADER>()?;
        let (iv, body) = rest.split_first_chunk_mut::<IV>()?;
        *header = (u64::from(spi) << 32 | u64::from(self.sequence)).to_be_bytes();
        *iv = u64::from(self.sequence).to_be_bytes();
        let (padding, last) = body.get_mut(inner..)?.split_last_chunk_mut::<TRAILER>()?;
        padding
            .iter_mut()
            .zip(1..)
            .for_each(|(place, number)| *place = number);
        *last = [padding.len() as u8, esp::IPV4];
        let nonce = nonce(self.salt, *iv);
        self.key.seal_in_place(&nonce, header, body, icv).ok()?;
        self.packets += 1;
        self.octets += inner as u64;
        Some(length)
    }

    /// Checks and decrypts an ESP packet; returns the length of what is in it.
    fn open(&mut self, packet: &mut [u8]) -> Option<usize> {
        let (front, icv) = packet.split_last_chunk_mut::<{ crypto::MAX_ICV_LEN }>()?;
        let (header, rest) = front.split_first_chunk_mut::<HEADER>()?;
        let (iv, body) = rest.split_first_chunk_mut::<IV>()?;
        let [.., a, b, c, d] = *header;
        let sequence = u32::from_be_bytes([a, b, c, d]);
        if !self.is_fresh(sequence) {
            return None;
        }
        let nonce = nonce(self.salt, *iv);
        self.key.open_in_place(&nonce, header, body, icv).ok()?;
        self.accept(sequence);
        let [.., padding, next_header] = *body else {
            return None;
        };
        let inner = body.len().checked_sub(TRAILER + usize::from(padding))?;
        self.packets += 1;
        self.octets += inner as u64;
        (next_header == esp::IPV4).then_some(inner)
    }

    /// RFC 4303 3.4.3.
    fn is_fresh(&self, sequence: u32) -> bool {
        match self.sequence.checked_sub(sequence) {
            None => true,
            Some(age) => age < WINDOW && self.window >> age & 1 == 0,
        }
    }

    fn accept(&mut self, sequence: u32) {
        if let Some(ahead) = sequence.checked_sub(self.sequence) {
            self.window = self.window.checked_shl(ahead).unwrap_or(0) | 1;
            self.sequence = sequence;
        } else {
            self.window |= 1 << (self.sequence - sequence);
        }
    }
}

fn nonce([a, b, c, d]: [u8; 4], [e, f, g, h, i, j, k, l]: [u8; IV]) -> [u8; NONCE_LEN] {
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

fn spi_of(buffer: &Buffer) -> Option<usize> {
    let [a, b, c, d, ..] = *buffer.data.first_chunk::<HEADER>()?;
    Some(u32::from_be_bytes([a, b, c, d]) as usize)
}
