//! What the engine of the eNodeBs says, carried out.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use ikev2::{Count, Event, Output, RemoveReason};

use super::World;
use crate::initiator::answer;
use crate::tunnel::{Flow, Tunnel};

/// UDP port of the eNodeBs' inner addresses.
const INNER_PORT: u16 = 4000;
/// Echo port of the host.
const ECHO_PORT: u16 = 7;
const MOST_ERRORS: usize = 20;

impl World {
    /// Does what the engine says.
    pub(super) fn carry_out(&mut self) -> Result<(), String> {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Transmit { path, bytes } => {
                    // No room in the kernel: it will be sent again, as if the network had lost it.
                    self.sockets
                        .send(path, &bytes, None)
                        .map_err(|error| format!("send: {error}"))?;
                }
                Output::Ask { ticket, question, .. } => {
                    let answer = answer(&self.common, &question);
                    self.engine
                        .answer(Instant::now(), ticket, answer, &mut self.memory);
                }
                Output::Install(child) => self.install(&child),
                Output::Remove {
                    inbound_spi, reason, ..
                } => self.remove(inbound_spi, reason),
                Output::Move { ike, path, .. } => {
                    self.tunnels
                        .iter_mut()
                        .filter(|tunnel| tunnel.ike == ike)
                        .for_each(|tunnel| tunnel.path = path);
                }
                Output::Activate { inbound_spi, .. } => {
                    if let Some(tunnel) = self
                        .by_spi
                        .get(&inbound_spi)
                        .and_then(|index| self.tunnels.get_mut(*index))
                    {
                        tunnel.activate(inbound_spi);
                    }
                }
                Output::Event(event) => self.event(event),
            }
        }
        Ok(())
    }

    fn install(&mut self, child: &ikev2::ChildSa) {
        if let Some(index) = child.replaces.and_then(|old| self.by_spi.get(&old).copied()) {
            if let Some(Err(error)) = self.tunnels.get_mut(index).map(|tunnel| tunnel.rekey(child)) {
                return self.error(error);
            }
            self.by_spi.insert(child.inbound_spi, index);
            return;
        }
        let Some(number) = self.by_ike.get(&child.ike).copied() else {
            return;
        };
        let assigned = child
            .configuration
            .as_ref()
            .and_then(|configuration| configuration.ipv4);
        let flow = Flow {
            source: SocketAddrV4::new(assigned.unwrap_or_else(|| self.inner(number)), INNER_PORT),
            destination: SocketAddrV4::new(self.options.host.unwrap_or(Ipv4Addr::UNSPECIFIED), ECHO_PORT),
            length: usize::from(self.options.length),
        };
        let index = self.tunnels.len();
        match Tunnel::new(
            child,
            u32::try_from(index).unwrap_or(u32::MAX),
            flow,
            Instant::now(),
        ) {
            Ok(tunnel) => {
                self.tunnels.push(tunnel);
                self.by_spi.insert(child.inbound_spi, index);
            }
            Err(error) => self.error(error),
        }
    }

    fn remove(&mut self, inbound_spi: u32, reason: RemoveReason) {
        self.memory.remove(inbound_spi);
        let index = self.by_spi.remove(&inbound_spi);
        let Some(tunnel) = index.and_then(|index| self.tunnels.get_mut(index)) else {
            return;
        };
        tunnel.forget(inbound_spi);
        if tunnel.is_up() || reason == RemoveReason::Local {
            return;
        }
        self.tally.tunnels_up = self.tally.tunnels_up.saturating_sub(1);
        let number = self.by_ike.get(&tunnel.ike).copied().unwrap_or_default();
        let prefix = &self.options.identity_prefix;
        self.error(format!("{prefix}{number}: tunnel lost: {reason}"));
    }

    fn event(&mut self, event: Event) {
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
                if let Some(number) = self.by_ike.remove(&old) {
                    self.by_ike.insert(new, number);
                }
                self.tunnels
                    .iter_mut()
                    .filter(|tunnel| tunnel.ike == old)
                    .for_each(|tunnel| tunnel.ike = new);
            }
            Event::Count(Count::Retransmitted) => self.tally.retransmissions += 1,
            Event::Count(Count::LivenessAnswered | Count::LivenessTimeout) => self.checked += 1,
            _ => {}
        }
    }

    /// Notes what went wrong, the first few times.
    pub(super) fn error(&mut self, error: String) {
        if self.tally.errors.len() < MOST_ERRORS {
            self.tally.errors.push(error);
        }
    }
}
