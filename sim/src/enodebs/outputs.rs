//! What becomes of the eNodeBs' tunnels.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use ikev2::{ChildSa, Count, Event, IkeSaId, Path, RemoveReason};

use super::Enodebs;
use crate::fleet::Crew;
use crate::initiator::Memory;
use crate::progress::Tally;
use crate::tunnel::{Flow, Tunnel};

/// UDP port of the eNodeBs' inner addresses.
const INNER_PORT: u16 = 4000;
/// Echo port of the host.
const ECHO_PORT: u16 = 7;
const MOST_ERRORS: usize = 20;

/// The eNodeBs' tunnels, and what they have done.
pub(super) struct Crowd {
    pub options: Enodebs,
    pub tunnels: Vec<Tunnel>,
    /// Inbound SPI to tunnel.
    pub by_spi: HashMap<u32, usize>,
    /// Liveness checks that are over.
    pub checked: usize,
    pub tally: Tally,
}

impl Crowd {
    /// Set-ups that are over.
    pub(super) fn done(&self) -> usize {
        usize::try_from(self.tally.tunnels_set_up + self.tally.tunnels_failed).unwrap_or(usize::MAX)
    }

    /// Notes what went wrong, the first few times.
    pub(super) fn error(&mut self, error: String) {
        if self.tally.errors.len() < MOST_ERRORS {
            self.tally.errors.push(error);
        }
    }

    fn by_spi(&mut self, spi: u32) -> Option<&mut Tunnel> {
        let index = self.by_spi.get(&spi)?;
        self.tunnels.get_mut(*index)
    }
}

impl Crew for Crowd {
    fn install(&mut self, child: &ChildSa) {
        if let Some(index) = child.replaces.and_then(|old| self.by_spi.get(&old).copied()) {
            if let Some(Err(error)) = self.tunnels.get_mut(index).map(|tunnel| tunnel.lane.rekey(child)) {
                return self.error(error);
            }
            self.by_spi.insert(child.inbound_spi, index);
            return;
        }
        let number = usize::try_from(child.profile.tag).unwrap_or(usize::MAX);
        let assigned = child
            .configuration
            .as_ref()
            .and_then(|configuration| configuration.ipv4);
        let source = assigned.unwrap_or_else(|| self.options.peers.inner(number));
        let flow = Flow {
            source: SocketAddrV4::new(source, INNER_PORT),
            destination: SocketAddrV4::new(self.options.host.unwrap_or(Ipv4Addr::UNSPECIFIED), ECHO_PORT),
            length: usize::from(self.options.length),
        };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        match Tunnel::new(child, number, flow, Instant::now()) {
            Ok(tunnel) => {
                self.by_spi.insert(child.inbound_spi, self.tunnels.len());
                self.tunnels.push(tunnel);
            }
            Err(error) => self.error(error),
        }
    }

    fn activate(&mut self, inbound_spi: u32) {
        if let Some(tunnel) = self.by_spi(inbound_spi) {
            tunnel.lane.activate(inbound_spi);
        }
    }

    fn remove(&mut self, inbound_spi: u32, reason: RemoveReason) {
        let index = self.by_spi.remove(&inbound_spi);
        let Some(tunnel) = index.and_then(|index| self.tunnels.get_mut(index)) else {
            return;
        };
        tunnel.lane.forget(inbound_spi);
        if tunnel.lane.is_up() || reason == RemoveReason::Local {
            return;
        }
        let number = tunnel.number;
        self.tally.tunnels_up = self.tally.tunnels_up.saturating_sub(1);
        let prefix = &self.options.peers.identity_prefix;
        self.error(format!("{prefix}{number}: tunnel lost: {reason}"));
    }

    fn redirect(&mut self, ike: IkeSaId, path: Path) {
        let tunnels = self.tunnels.iter_mut();
        tunnels
            .filter(|tunnel| tunnel.ike == ike)
            .for_each(|tunnel| tunnel.path = path);
    }

    fn esp(&mut self, packet: &mut [u8], now: Instant, memory: &mut Memory) {
        let Some(spi) = esp::spi_of(packet) else { return };
        let Some(tunnel) = self.by_spi(spi) else { return };
        let length = tunnel.inner_len() as u64;
        if tunnel.receive(spi, packet, now) {
            self.tally.packets_echoed += 1;
            // It was delivered to the host and came back.
            self.tally.bytes += 2 * length;
            if let Some(usage) = memory.usage_mut(spi) {
                usage.last_inbound = Some(now);
                usage.inbound_packets += 1;
                usage.inbound_bytes += length;
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Established(established) => {
                if established.child.is_some() {
                    self.tally.tunnels_up += 1;
                    self.tally.tunnels_set_up += 1;
                } else {
                    self.tally.tunnels_failed += 1;
                    self.error(format!("{}: IKE SA without child SA", established.profile.name));
                }
            }
            Event::SetupFailed { profile, reason, .. } => {
                self.tally.tunnels_failed += 1;
                self.error(format!("{}: {reason}", profile.name));
            }
            Event::IkeRekeyed { old, new, .. } => {
                let tunnels = self.tunnels.iter_mut();
                tunnels
                    .filter(|tunnel| tunnel.ike == *old)
                    .for_each(|tunnel| tunnel.ike = *new);
            }
            Event::Count(Count::Retransmitted) => self.tally.retransmissions += 1,
            Event::Count(Count::LivenessAnswered | Count::LivenessTimeout) => self.checked += 1,
            _ => {}
        }
    }
}
