//! The engine and everything that moves with it. All of it belongs to the loop; nothing here waits.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ikev2::{Action, Engine, IkeSaId, Output, Path};
use services::DisconnectReason;
use services::wsg::Wsg;
use telemetry::Counters;
use telemetry::counters::{ikev2 as counter, recovery};

use crate::configurator::Update;
use crate::congestion::Congestion;
use crate::held::Held;
use crate::later::Later;
use crate::moves::Moves;
use crate::questions::Asker;
use crate::recovery::Recovery;
use crate::refusals::Refusals;
use crate::routes::RouteDesk;
use crate::secrets::SecretCache;
use crate::session_desk::News;
use crate::session_desks::SessionDesks;
use crate::sessions::Sessions;
use crate::slots::Slots;
use crate::sockets::Sockets;
use crate::{counters, report};

/// Exchange type of IKE_SA_INIT and the flag of responses (RFC 7296 3.1), for the one look we take before the engine.
pub(crate) const IKE_SA_INIT: u8 = 34;
const FLAG_RESPONSE: u8 = 0x20;

/// What one `ipsecmgr` is.
pub(crate) struct State {
    pub(crate) engine: Engine,
    /// Which slots are ours.
    pub(crate) moves: Moves,
    pub(crate) slots: Slots,
    pub(crate) sockets: Sockets,
    pub(crate) sessions: Sessions,
    /// Services by tag. One that is gone from the configuration stays while it has IKE SAs.
    pub(crate) services: HashMap<u64, Arc<Wsg>>,
    pub(crate) secrets: SecretCache,
    pub(crate) asker: Asker,
    pub(crate) desks: SessionDesks,
    pub(crate) routes: RouteDesk,
    pub(crate) held: Held,
    pub(crate) counters: Counters,
    /// No new IKE SAs: the node stops.
    pub(crate) draining: bool,
    /// Cookies are being asked for.
    pub(crate) cookies: bool,
    pub(crate) refusals: Refusals,
    /// What is done after the next commit.
    pub(crate) later: Vec<Later>,
    /// What earlier owners of our slots left.
    pub(crate) recovery: Recovery,
    /// Version of the configuration that was applied last.
    pub(crate) configuration: u64,
    /// Records cannot be committed any more: this life must end before it tells anybody anything.
    pub(crate) failure: Option<sadb::Error>,
    pub(crate) congestion: Congestion,
}

impl State {
    /// Takes in what waits in the sockets.
    pub(crate) fn receive(&mut self) {
        let now = Instant::now();
        self.take_in(now, Sockets::receive);
        self.pump(now);
    }

    /// Has the engine take in what `read` reads from the sockets.
    pub(crate) fn take_in<T>(
        &mut self,
        now: Instant,
        read: impl FnOnce(&mut Sockets, &mut dyn FnMut(Path, &[u8])) -> T,
    ) -> T {
        let Self {
            engine,
            slots,
            sockets,
            services,
            counters,
            refusals,
            congestion,
            ..
        } = self;
        let result = read(sockets, &mut |path, datagram| {
            if is_new(datagram) {
                let wsg = services.values().find(|wsg| wsg.address == path.local.ip());
                if let Some(wsg) = wsg.filter(|wsg| !wsg.admits_from(path.remote.ip())) {
                    counters.inc(counter::INIT_FAIL);
                    counters.inc(counter::INIT_FAIL_RESP);
                    if refusals.may_report(now) {
                        report::outside_peer_networks(wsg, path);
                    }
                    return;
                }
                if wsg.is_some_and(|wsg| congestion.refuses(wsg, path, datagram, engine, counters)) {
                    return;
                }
            }
            engine.receive(now, path, datagram, slots);
        });
        for (path, refusal) in congestion.take_refusals() {
            sockets.transmit(path, refusal);
        }
        result
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self) {
        let now = Instant::now();
        self.engine.expire(now, &mut self.slots);
        let sockets = &mut self.sockets;
        for spi in self.held.expire(now, |path, bytes| sockets.transmit(path, bytes)) {
            tracing::warn!("the routes of child SA {spi:#010x} are late: its first packets may be lost");
        }
        self.give_up_parked(now);
        self.pump(now);
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.engine.next_timeout(),
            self.held.next_timeout(),
            self.recovery.next_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// The routes of these child SAs stand.
    pub(crate) fn routed(&mut self, spis: &[u32]) {
        let sockets = &mut self.sockets;
        for spi in spis {
            self.held
                .routed(*spi, |path, bytes| sockets.transmit(path, bytes));
        }
        self.sockets.flush();
    }

    /// Takes over what the configuration wants now.
    pub(crate) fn configure(&mut self, update: Update) {
        let now = Instant::now();
        task::set_level(update.level);
        for (address, sockets) in update.opened {
            for fd in [sockets.udp500, sockets.udp4500] {
                if let Err(error) = self.sockets.add(fd) {
                    tracing::error!("cannot serve IKE at {address}: {error}");
                }
            }
        }
        let wanted: HashMap<u64, Arc<Wsg>> = update
            .services
            .into_iter()
            .map(|wsg| (wsg.profile.tag, wsg))
            .collect();
        let gone: Vec<Arc<Wsg>> = self
            .services
            .iter()
            .filter(|(tag, _)| !wanted.contains_key(tag))
            .map(|(_, wsg)| wsg.clone())
            .collect();
        let serving: HashSet<IpAddr> = wanted.values().map(|wsg| wsg.address).collect();
        for wsg in gone {
            if !serving.contains(&wsg.address) {
                self.engine.remove_profile(wsg.address);
            }
            self.delete_all(now, DisconnectReason::Admin, |session| session == wsg.profile.tag);
        }
        if !self.draining {
            for wsg in wanted.values() {
                self.engine.set_profile(wsg.address, wsg.profile.clone());
            }
        }
        self.services.extend(wanted.clone());
        self.configuration = update.version;
        self.recover(now, update.recovery, update.complete);
        self.take_what_is_ours();
        let referred: HashSet<_> = wanted
            .values()
            .flat_map(|wsg| wsg.secrets.all().cloned())
            .collect();
        self.secrets.retain(&referred);
        let unknown: Vec<_> = referred
            .into_iter()
            .filter(|sealed| self.secrets.get(sealed).is_none())
            .collect();
        self.asker.prefetch(unknown);
        // Services of IKE SAs that are being deleted are still needed for their deletes.
        let in_use = self.sessions.services();
        self.services
            .retain(|tag, _| wanted.contains_key(tag) || in_use.contains(tag));
        for address in update.closed {
            self.sockets.remove(address);
        }
        for context in update.fresh_contexts {
            for (tenure, slots) in self.moves.by_tenure(&self.moves.ours()) {
                self.routes.clear(context, tenure, &slots);
            }
        }
        self.pump(now);
    }

    /// Deletes IKE SAs whose service `chosen` accepts, telling their peers. Returns how many.
    pub(crate) fn delete_all(
        &mut self,
        now: Instant,
        reason: DisconnectReason,
        chosen: impl Fn(u64) -> bool,
    ) -> u64 {
        let all: Vec<IkeSaId> = self
            .sessions
            .iter()
            .filter(|(_, session)| chosen(session.service))
            .map(|(ike, _)| ike)
            .collect();
        self.delete(now, &all, reason)
    }

    /// Deletes these IKE SAs, telling their peers. Returns how many there were.
    pub(crate) fn delete(&mut self, now: Instant, ikes: &[IkeSaId], reason: DisconnectReason) -> u64 {
        let mut count = 0;
        for ike in ikes {
            if let Some(session) = self.sessions.get_mut(*ike) {
                session.reason = Some(reason);
            }
            match self.engine.action(now, *ike, Action::Delete, &mut self.slots) {
                Ok(()) => count += 1,
                // Not established: there is nobody to tell.
                Err(ikev2::Error::NotEstablished) => {
                    if self
                        .engine
                        .action(now, *ike, Action::Forget, &mut self.slots)
                        .is_ok()
                    {
                        count += 1;
                    }
                }
                Err(error) => tracing::debug!("{error}"),
            }
        }
        self.pump(now);
        count
    }

    /// Takes no new IKE SAs any more and deletes those that are there. Returns how many.
    pub(crate) fn drain(&mut self) -> u64 {
        self.draining = true;
        let addresses: Vec<IpAddr> = self.services.values().map(|wsg| wsg.address).collect();
        for address in addresses {
            self.engine.remove_profile(address);
        }
        self.delete_all(Instant::now(), DisconnectReason::Admin, |_| true)
    }

    /// Does what the engine wants, in its order, until it wants nothing more; commits what a later life must know of it; and only then does what others will
    /// know of it, and sends what is to be sent.
    pub(crate) fn pump(&mut self, now: Instant) {
        // What could not be committed must not be followed by what depends on it.
        if self.failure.is_some() {
            return;
        }
        while let Some(output) = self.engine.poll() {
            self.perform(now, output);
        }
        self.refusals.settle(now);
        if let Err(error) = self.commit(now) {
            self.failure.get_or_insert(error);
            return;
        }
        self.catch_up(now);
        self.slots.free();
        self.sockets.flush();
        for (sessmgr, session) in self.sessions.take_changed() {
            self.desks.tell(sessmgr, News::Connected(session));
        }
        let totals = self.engine.totals();
        if totals.cookies_active != self.cookies {
            self.cookies = totals.cookies_active;
            report::cookies(self.moves.worker(), &totals);
        }
        counters::levels(&self.counters, &totals, self.sessions.levels());
        counters::records(&self.counters, self.slots.records.usage());
        self.counters
            .add(counter::NAT_UPDATE_DATA, self.slots.take_moves());
    }

    /// Makes records of all that changed, at once.
    fn commit(&mut self, now: Instant) -> Result<(), sadb::Error> {
        for ike in self.sessions.take_unsaved() {
            self.engine.mark_changed(now, ike, &mut self.slots);
        }
        let Self {
            engine,
            slots,
            sessions,
            counters,
            ..
        } = self;
        let records = &mut slots.records;
        engine.checkpoint(now, &mut |changed| {
            let Some(engines) = changed.record else {
                records.erase(changed.ike);
                return true;
            };
            let ours = sessions
                .get(changed.ike)
                .map_or_else(Vec::new, |session| session.record());
            let saved = records.save(changed.ike, engines, &ours, changed.half_open);
            counters.inc(if saved {
                recovery::SAVED
            } else {
                recovery::NOT_SAVED
            });
            saved
        });
        engine.checkpoint_cookies(&mut |cookies| records.save_own(cookies));
        records.commit()?;
        if let Some(crowded) = records.take_crowded() {
            engine.set_crowded(&|slot| crowded.contains(&slot));
        }
        Ok(())
    }

    fn perform(&mut self, now: Instant, output: Output) {
        match output {
            Output::Transmit { path, bytes } => self.later.push(Later::Transmit(path, bytes)),
            Output::Ask {
                ticket,
                profile,
                question,
            } => self.ask(now, ticket, &profile, question),
            Output::Install(child) => self.install(now, &child),
            Output::Activate {
                inbound_spi,
                replaces,
            } => self.later.push(Later::Activate(inbound_spi, Some(replaces))),
            Output::Remove {
                inbound_spi, reason, ..
            } => self.remove(inbound_spi, reason),
            Output::Move {
                inbound_spis, path, ..
            } => self.later.push(Later::Move(inbound_spis, path)),
            Output::Beside { ike, groups } => self.slots.note_groups(ike, &groups),
            Output::Event(event) => self.happened(now, event),
        }
    }
}

/// Whether a datagram asks for a new IKE SA.
fn is_new(datagram: &[u8]) -> bool {
    matches!(datagram.get(18..20), Some([IKE_SA_INIT, flags]) if flags & FLAG_RESPONSE == 0)
}
