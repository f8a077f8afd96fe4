//! `starward sim flood`: IKE_SA_INIT requests from addresses that nobody has, and honest set-ups beside them.
//!
//! A thread of its own sends well-formed requests, each with a fresh SPI and a source address and port drawn from prefixes, through a raw socket; the honest
//! peers are those of `starward sim load`. It works inside a network namespace that it is told, never in the one that it was started in, for a bounded time.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::value_parser;
use crypto::{SystemRandom, TestRandom};
use ikev2::{Engine, EngineConfig, Output};
use ipnet::Ipv4Net;
use netio::Namespace;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt, socket,
    sockopt,
};
use serde_json::{Value, json};

use crate::initiator::Memory;
use crate::load::Load;
use crate::packets::{HEADERS, write_headers};
use crate::progress::{print, tell};
use crate::sockets::Sockets;

const IKE_PORT: u16 = 500;
/// Requests that are made beforehand, with all their cryptography; what differs from packet to packet is the SPI.
const TEMPLATES: usize = 64;
/// Packets between two looks at the clock.
const BURST: u64 = 32;
const SPI: usize = 8;
const SEND_BUFFER: usize = 4 << 20;
/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";

/// A flood of IKE_SA_INIT, and honest peers.
#[derive(Debug, clap::Args)]
pub struct Flood {
    /// Network namespace (of ip-netns) to work in; not the one this is started in
    #[arg(long)]
    pub namespace: String,
    /// Prefixes that the spoofed source addresses are of; those of honest peers may be among them
    #[arg(long, required = true, value_delimiter = ',')]
    pub from: Vec<Ipv4Net>,
    /// Spoofed requests in a second
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub flood_rate: u32,
    /// Seconds that the flood lasts at most; it ends with the last honest set-up
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=600))]
    pub flood_seconds: u32,
    /// Seconds before the first honest set-up
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(0..=600))]
    pub ahead: u32,
    /// The honest peers
    #[command(flatten)]
    pub honest: Load,
}

/// What the flood sent.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    packets: u64,
    /// That the kernel did not take.
    refused: u64,
    seconds: f64,
}

impl Flood {
    /// Runs flood and honest peers, prints the outcome; true if every honest set-up succeeded.
    pub(crate) fn run(self) -> Result<bool, String> {
        let text = |error: netio::Error| error.to_string();
        let namespace = Namespace::open(&Path::new(NAMESPACES).join(&self.namespace)).map_err(text)?;
        // A flood by mistake is never one of the network that the operator is in.
        if namespace.is_same(&Namespace::current().map_err(text)?) {
            return Err(format!(
                "{} is the network that this was started in",
                self.namespace
            ));
        }
        namespace.enter().map_err(text)?;
        let mut source = Source::new(&self)?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let (rate, time) = (self.flood_rate, Duration::from_secs(self.flood_seconds.into()));
        let flood = std::thread::Builder::new()
            .name("flood".to_owned())
            .spawn(move || source.send(rate, time, &end))
            .map_err(|error| format!("start a thread: {error}"))?;
        sleep(Duration::from_secs(self.ahead.into()));
        let honest = self.honest.measure();
        ended.store(true, Ordering::Relaxed);
        let sent = flood.join().map_err(|_| "the flood failed".to_owned())?;
        let honest = honest?;
        tell(&format!(
            "{} spoofed requests in {:.2} s: {:.0}/s, {} more were not taken by the kernel",
            sent.packets,
            sent.seconds,
            sent.rate(),
            sent.refused
        ));
        honest.lines().iter().for_each(|line| tell(line));
        print(&json!({ "flood": sent.to_json(), "honest": honest.to_json() }));
        Ok(honest.is_fine())
    }
}

impl Sent {
    fn rate(&self) -> f64 {
        self.packets as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    fn to_json(self) -> Value {
        json!({
            "packets": self.packets,
            "refused": self.refused,
            "seconds": self.seconds,
            "rate_per_s": self.rate(),
        })
    }
}

/// The spoofed peers.
struct Source {
    socket: OwnedFd,
    gateway: Ipv4Addr,
    prefixes: Vec<Ipv4Net>,
    /// Whole packets.
    packets: Vec<Vec<u8>>,
    random: TestRandom,
    number: u64,
}

impl Source {
    fn new(flood: &Flood) -> Result<Self, String> {
        let std::net::IpAddr::V4(gateway) = flood.honest.peers.gateway else {
            return Err("a flood has IPv4 addresses: so must the gateway".to_owned());
        };
        let wrong = |errno: Errno| format!("raw socket: {errno}");
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::Raw,
        )
        .map_err(wrong)?;
        setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER).map_err(wrong)?;
        Ok(Self {
            socket,
            gateway,
            prefixes: flood.from.clone(),
            packets: packets(flood, gateway)?,
            // Which addresses come in which order repeats from run to run.
            random: TestRandom::new(1),
            number: 0,
        })
    }

    /// Sends until the time is over or `ended`.
    fn send(&mut self, rate: u32, time: Duration, ended: &AtomicBool) -> Sent {
        let start = Instant::now();
        let mut sent = Sent::default();
        while !ended.load(Ordering::Relaxed) && start.elapsed() < time {
            let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            let behind = due.saturating_sub(sent.packets + sent.refused).min(BURST);
            if behind == 0 {
                sleep(Duration::from_micros(50));
            }
            for _ in 0..behind {
                match self.send_one() {
                    Ok(_) => sent.packets += 1,
                    Err(_) => sent.refused += 1,
                }
            }
        }
        sent.seconds = start.elapsed().as_secs_f64();
        sent
    }

    fn send_one(&mut self) -> nix::Result<usize> {
        let random: &mut dyn crypto::Random = &mut self.random;
        let (drawn, spi) = (random.u64(), random.array::<SPI>());
        let prefix = self.prefixes.get(pick(drawn >> 48, self.prefixes.len()));
        let source = prefix.map_or(Ipv4Addr::UNSPECIFIED, |prefix| member(*prefix, drawn as u32));
        let port = 1024 + (drawn >> 32) as u16 % (u16::MAX - 1024);
        let place = pick(self.number, self.packets.len());
        self.number += 1;
        let Some(packet) = self.packets.get_mut(place) else {
            return Ok(0);
        };
        let destination = SocketAddrV4::new(self.gateway, IKE_PORT);
        write_headers(packet, SocketAddrV4::new(source, port), destination);
        if let Some(place) = packet.get_mut(HEADERS..HEADERS + SPI) {
            place.copy_from_slice(&spi);
        }
        sendto(
            self.socket.as_raw_fd(),
            packet,
            &SockaddrIn::from(SocketAddrV4::new(self.gateway, 0)),
            MsgFlags::empty(),
        )
    }
}

/// Requests of peers that offer what the honest ones do, with room for the headers in front.
fn packets(flood: &Flood, gateway: Ipv4Addr) -> Result<Vec<Vec<u8>>, String> {
    let peers = &flood.honest.peers;
    let common = peers.common()?;
    let mut engine = Engine::new(EngineConfig::default(), Box::new(SystemRandom));
    let mut memory = Memory::default();
    let mut packets = Vec::new();
    for number in 0..TEMPLATES {
        let path = Sockets::path(peers.outer(number), gateway.into());
        engine
            .initiate(Instant::now(), peers.profile(&common, number), path, &mut memory)
            .map_err(|error| error.to_string())?;
        while let Some(output) = engine.poll() {
            if let Output::Transmit { bytes, .. } = output {
                packets.push([&[0; HEADERS], &*bytes].concat());
            }
        }
    }
    Ok(packets)
}

/// An address of a prefix.
fn member(prefix: Ipv4Net, drawn: u32) -> Ipv4Addr {
    let (network, hosts) = (prefix.network().to_bits(), prefix.hostmask().to_bits());
    Ipv4Addr::from_bits(network | drawn & hosts)
}

/// One of `count` places.
fn pick(drawn: u64, count: usize) -> usize {
    usize::try_from(drawn % (count.max(1) as u64)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_the_prefix_and_reach_all_of_it() {
        let prefix: Ipv4Net = "10.99.8.0/21".parse().unwrap();
        let random: &mut dyn crypto::Random = &mut TestRandom::new(7);
        let drawn: Vec<Ipv4Addr> = (0..50_000).map(|_| member(prefix, random.u32())).collect();
        assert!(drawn.iter().all(|address| prefix.contains(address)));
        let different: std::collections::HashSet<_> = drawn.iter().collect();
        assert_eq!(different.len(), 2048);
        let host: Ipv4Net = "192.0.2.1/32".parse().unwrap();
        assert_eq!(member(host, u32::MAX), host.addr());
    }
}
