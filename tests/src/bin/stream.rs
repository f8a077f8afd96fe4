//! One end of a numbered stream of packets: `stream OWN OTHER RATE SECONDS OCTETS`.
//!
//! Sends `RATE * SECONDS` numbered datagrams of `OCTETS` octets to `OTHER` and counts those that come from there, on an ordinary kernel socket. Prints one
//! JSON object. Starts when the other end is heard (or heard of: both ends send hellos until they have an answer).

#![expect(
    clippy::expect_used,
    reason = "a tool of tests: a failure here is a failed test"
)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const HELLO: u64 = u64::MAX;
const LINGER: Duration = Duration::from_millis(1500);
/// The longest datagram.
const MOST: usize = 65_507;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let own: SocketAddr = arguments[1].parse().expect("own address");
    let other: SocketAddr = arguments[2].parse().expect("other address");
    let rate: u64 = arguments[3].parse().expect("packets a second");
    let seconds: u64 = arguments[4].parse().expect("seconds");
    let octets: usize = arguments[5].parse().expect("octets");
    let mut packet = vec![0; octets.clamp(size_of::<u64>(), MOST)];
    let socket = UdpSocket::bind(own).expect("bind");
    // The receiver must not be the one that loses packets.
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(16 << 20));
    socket.connect(other).expect("connect");
    socket.set_nonblocking(true).expect("non-blocking");
    let total = rate * seconds;
    let mut tally = Tally::new(total);
    meet(&socket, &mut packet, &mut tally);

    let start = Instant::now();
    let mut sent = 0_u64;
    while sent < total {
        let due = (u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX) * rate / 1_000_000 + 1)
            .min(total);
        while sent < due {
            match send(&socket, &mut packet, sent) {
                Ok(()) => sent += 1,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("send: {error}"),
            }
        }
        tally.drain(&socket);
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut quiet = Instant::now();
    while quiet.elapsed() < LINGER && tally.received < total {
        if tally.drain(&socket) {
            quiet = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // Wait a little for packets that come twice.
    std::thread::sleep(Duration::from_millis(100));
    tally.drain(&socket);
    println!(
        "{{\"sent\": {sent}, \"received\": {}, \"duplicates\": {}, \"overtaken\": {}}}",
        tally.received, tally.duplicates, tally.overtaken
    );
}

struct Tally {
    seen: Vec<bool>,
    buffer: Vec<u8>,
    received: u64,
    duplicates: u64,
    /// Came after one that was sent later.
    overtaken: u64,
    next: usize,
    hello: bool,
}

impl Tally {
    fn new(total: u64) -> Self {
        Self {
            seen: vec![false; usize::try_from(total).expect("size")],
            buffer: vec![0; MOST],
            received: 0,
            duplicates: 0,
            overtaken: 0,
            next: 0,
            hello: false,
        }
    }

    /// Reads what waits in the socket; true if there was anything.
    fn drain(&mut self, socket: &UdpSocket) -> bool {
        let mut any = false;
        while let Ok(length) = socket.recv(&mut self.buffer) {
            any = true;
            let Some(number) = self.buffer[..length]
                .first_chunk::<8>()
                .map(|bytes| u64::from_be_bytes(*bytes))
            else {
                continue;
            };
            if number == HELLO {
                self.hello = true;
            } else if let Some((index, seen)) = usize::try_from(number)
                .ok()
                .and_then(|index| Some((index, self.seen.get_mut(index)?)))
            {
                self.hello = true;
                self.overtaken += u64::from(index < self.next);
                self.next = self.next.max(index + 1);
                if std::mem::replace(seen, true) {
                    self.duplicates += 1;
                } else {
                    self.received += 1;
                }
            }
        }
        any
    }
}

fn meet(socket: &UdpSocket, packet: &mut [u8], tally: &mut Tally) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !tally.hello {
        assert!(
            Instant::now() < deadline,
            "the other end was not heard within 15 seconds"
        );
        let _ = send(socket, packet, HELLO);
        std::thread::sleep(Duration::from_millis(20));
        tally.drain(socket);
    }
    for _ in 0..3 {
        let _ = send(socket, packet, HELLO);
    }
}

fn send(socket: &UdpSocket, packet: &mut [u8], number: u64) -> std::io::Result<()> {
    packet[..8].copy_from_slice(&number.to_be_bytes());
    socket.send(packet).map(drop)
}
