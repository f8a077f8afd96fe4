//! What happens to sessions by themselves: time limits, interim records, traffic; and their end from our side.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bus::messages::aaamgr::AccountingKind;
use bus::messages::sessmgr::Released;
use services::DisconnectReason as Reason;
use telemetry::counters::session as counted;

use super::{Errand, State};
use crate::accounting::record;
use crate::session::{Phase, Usage};

impl State {
    /// Looks after a share of the sessions: traffic, time limits, interim records. Called every [`SWEEP_STEP`].
    pub fn sweep(&mut self, now: Instant) {
        let share = self.sessions.len() / SWEEP_STEPS + 1;
        let due: Vec<u64> = self
            .sessions
            .after(self.sweep)
            .map(|(ike_spi, _)| ike_spi)
            .take(share)
            .collect();
        self.sweep = (due.len() == share).then(|| due.last().copied()).flatten();
        for ike_spi in due {
            self.look_after(ike_spi, now);
        }
        if self.sweep.is_none() {
            self.blocks.end_holds(now);
            self.return_spare_blocks();
        }
        let name = |number| {
            let mut contexts = self.config.contexts.iter();
            contexts.find_map(|(name, context)| (context.id == number).then(|| name.clone()))
        };
        self.pools.set(self.blocks.occupancy(), name);
    }

    fn look_after(&mut self, ike_spi: u64, now: Instant) {
        self.read_usage(ike_spi, None, now);
        let time = self.unix_seconds();
        let Some(session) = self.sessions.get_mut(ike_spi) else {
            return;
        };
        // Its set-up failed and nobody told us: the verdict came too late for `ipsecmgr`.
        if session.phase == Phase::Arrived && now.saturating_duration_since(session.active) > LONGEST_SETUP {
            let reason = Reason::SetupTimeout.number();
            return self.released(
                &Released {
                    ike_spi,
                    reason,
                    ..Released::default()
                },
                now,
            );
        }
        let Some(begin) = session.connected.filter(|_| session.phase == Phase::Connected) else {
            return;
        };
        let over = |limit: Option<u32>, since: Instant| {
            limit.is_some_and(|limit| {
                now.saturating_duration_since(since) >= Duration::from_secs(limit.into())
            })
        };
        let absolute = session.limit(|said| said.session_timeout, |service| service.absolute_timeout);
        let idle = session.limit(|said| said.idle_timeout, |service| service.idle_timeout);
        let interim = session.limit(|said| said.interim_interval, |service| service.interim_interval);
        if over(absolute, begin) {
            return self.end(ike_spi, Reason::AbsoluteTimeout);
        }
        if over(idle, session.active) {
            return self.end(ike_spi, Reason::IdleTimeout);
        }
        if session.service.accounting && session.accounted.is_some_and(|last| over(interim, last)) {
            session.accounted = Some(now);
            let seconds = u32::try_from(now.saturating_duration_since(begin).as_secs()).unwrap_or(u32::MAX);
            self.outbox
                .push(record(session, AccountingKind::Interim, seconds, time, None));
        }
    }

    /// Sessions are to end.
    pub fn end_all(&mut self, mut ike_spis: Vec<u64>, reason: Reason) {
        ike_spis.retain(|ike_spi| self.disconnect(*ike_spi, reason));
        self.ask_to_end(&ike_spis, reason);
    }

    /// Sessions are ending already, but whoever was to end them may have died over it.
    pub(super) fn end_again(&mut self, ike_spis: Vec<u64>) {
        let mut by_reason: HashMap<Reason, Vec<u64>> = HashMap::new();
        for ike_spi in ike_spis {
            if let Some(reason) = self.sessions.get(ike_spi).and_then(|session| session.ending) {
                by_reason.entry(reason).or_default().push(ike_spi);
            }
        }
        for (reason, ike_spis) in by_reason {
            self.ask_to_end(&ike_spis, reason);
        }
    }

    fn ask_to_end(&mut self, ike_spis: &[u64], reason: Reason) {
        let parts = ike_spis
            .chunks(END_AT_ONCE)
            .map(|part| Errand::End(part.to_vec(), reason));
        self.errands.extend(parts);
    }

    fn end(&mut self, ike_spi: u64, reason: Reason) {
        self.end_all(vec![ike_spi], reason);
    }

    /// A session begins to end. False if it does so already, or is not there.
    fn disconnect(&mut self, ike_spi: u64, reason: Reason) -> bool {
        let Some(session) = self.sessions.get_mut(ike_spi) else {
            return false;
        };
        if session.phase == Phase::Disconnecting {
            return false;
        }
        if session.phase == Phase::Arrived {
            self.counters.dec(counted::CURRENT_ARRIVED);
        }
        session.phase = Phase::Disconnecting;
        session.ending = Some(reason);
        self.counters.inc(counted::CURRENT_DISCONNECTING);
        true
    }

    /// Adds what has been carried since the last look to the counters.
    pub(super) fn read_usage(&mut self, ike_spi: u64, reported: Option<Usage>, now: Instant) {
        let Some(session) = self.sessions.get_mut(ike_spi) else {
            return;
        };
        let present = session.spis.iter().filter_map(|spi| self.meter.read(*spi));
        let seen = present.fold(session.past, Usage::plus).max(session.usage);
        let total = reported.map_or(seen, |reported| seen.max(reported));
        if session.restored {
            let known = reported.is_some() || session.spis.iter().all(|spi| self.meter.read(*spi).is_some());
            if known {
                // What was carried until now has been counted by an earlier life.
                session.restored = false;
                session.usage = total;
            }
            return;
        }
        let new = total.since(session.usage);
        if new == Usage::default() {
            return;
        }
        session.usage = total;
        session.active = now;
        for (counter, amount) in [
            (counted::RX_OCTETS, new.bytes_in),
            (counted::TX_OCTETS, new.bytes_out),
            (counted::RX_PACKETS, new.packets_in),
            (counted::TX_PACKETS, new.packets_out),
        ] {
            self.counters.add(counter, amount);
        }
        self.services.of(&session.service).carried(new);
    }
}

/// A sweep over all sessions takes so many steps ...
const SWEEP_STEPS: usize = 20;
/// ... at this distance.
pub const SWEEP_STEP: Duration = Duration::from_millis(100);
/// Sessions ended by one request.
const END_AT_ONCE: usize = 1_000;
/// A session that is not connected after so long is not coming: IKE gives up its half-open SAs much earlier.
const LONGEST_SETUP: Duration = Duration::from_secs(600);
