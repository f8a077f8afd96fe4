//! NAT keepalives of our own (RFC 3948 4), for services whose template has `natt send-keepalive`.

use std::net::IpAddr;
use std::time::Duration;

use sadb::{Encapsulation, SaIndex, Slot, Spi};

use super::engine::Engine;
use super::io::Io;

/// SAs looked at in one round.
const BATCH: usize = 1024;

/// When to send them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepalive {
    /// Silence before the first.
    pub(crate) idle: Duration,
    /// Between two.
    pub(crate) interval: Duration,
}

/// Keepalives by local address, and how far the present walk over all SAs has come.
#[derive(Debug, Default)]
pub(crate) struct Keepalives {
    services: Vec<(IpAddr, Keepalive)>,
    /// Slot and index that come next.
    position: (u8, usize),
}

impl Keepalives {
    /// Replaces what is configured.
    pub(crate) fn set(&mut self, services: Vec<(IpAddr, Keepalive)>) {
        self.services = services;
    }

    /// Of SAs with this local address.
    pub(crate) fn of(&self, local: IpAddr) -> Option<Keepalive> {
        let service = self.services.iter().find(|(address, _)| *address == local);
        service.map(|(_, keepalive)| *keepalive)
    }

    /// Whether there is anything to do at all.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.services.is_empty()
    }
}

impl<I: Io> Engine<I> {
    /// Looks at the next SAs and sends keepalives where they are due. Called several times a second.
    pub(crate) fn keep_alive(&mut self) {
        if !self.keepalives.is_wanted() {
            return;
        }
        let mut left = BATCH;
        // Empty slots cost nothing, so one call gets through all of them.
        for _ in 0..=u8::MAX {
            left = self.keep_slot_alive(left);
            if left == 0 {
                return;
            }
        }
    }

    /// Goes on with the present slot; returns how many more SAs may be looked at.
    fn keep_slot_alive(&mut self, most: usize) -> usize {
        let (number, start) = self.keepalives.position;
        let Some(slot) = Slot::new(number) else {
            self.keepalives.position = (Slot::MIN.number(), 0);
            return most;
        };
        if !self.table.owns(slot) {
            self.keepalives.position = (number.wrapping_add(1), 0);
            return most;
        }
        let now_ns = self.now_ns;
        let silent_for = |then: u64| Duration::from_nanos(now_ns.saturating_sub(then));
        let mut due: Vec<Spi> = Vec::new();
        let (_, entries) = self.table.split();
        let rest = entries.size().saturating_sub(start);
        let looked_at = rest.min(most);
        let is_last = rest <= most;
        for index in (start..start + looked_at).filter_map(|n| SaIndex::new(u16::try_from(n).ok()?)) {
            let Some(sa) = entries.at_mut(slot, index) else {
                continue;
            };
            let Some(keepalive) = self.keepalives.of(sa.local.ip()) else {
                continue;
            };
            if sa.encapsulation == Encapsulation::Udp
                && sa.inbound_active
                && silent_for(sa.sent_ns) >= keepalive.idle
                && silent_for(sa.kept_alive_ns) >= keepalive.interval
            {
                sa.kept_alive_ns = now_ns;
                due.push(sa.spi);
            }
        }
        self.keepalives.position = if is_last {
            (number.wrapping_add(1), 0)
        } else {
            (number, start + looked_at)
        };
        due.into_iter().for_each(|spi| self.send_keepalive(spi));
        most - looked_at
    }
}
