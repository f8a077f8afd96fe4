//! What the engine does to child SAs and tells of IKE SAs, and what follows from it elsewhere.

use std::time::Instant;

use ikev2::{Action, Event, IkeSaId, RemoveReason};
use services::DisconnectReason;
use telemetry::counters::{ikev2 as counter, recovery};

use crate::later::Later;
use crate::session_desk::News;
use crate::slots::slot_of;
use crate::state::State;
use crate::{child, counters, report};

impl State {
    /// Writes a child SA and has its networks routed to it. One that cannot be written carries nothing: it is deleted.
    pub(crate) fn install(&mut self, now: Instant, child: &ikev2::ChildSa) {
        let Some(wsg) = self.services.get(&child.profile.tag) else {
            return;
        };
        let record = child::record(child, &wsg.data_path);
        let result = record.and_then(|record| self.slots.install(&record));
        if wsg.routes_selectors && result.is_ok() {
            let tenure = self.moves.tenure(slot_of(child.inbound_spi));
            let routed = self.routes.add(
                wsg.data_path.context,
                tenure,
                child.inbound_spi,
                &child.remote_selectors,
            );
            // What a new child SA replaces has had the routes before.
            if routed && child.replaces.is_none() {
                self.later.push(Later::AwaitRoutes(child.path, child.inbound_spi));
            }
        }
        if child.outbound_active && result.is_ok() {
            self.later
                .push(Later::Activate(child.inbound_spi, child.replaces));
        }
        let failed = result.is_err();
        self.flow(result, "install", child.inbound_spi);
        self.sessions.add_child(child.ike, child.inbound_spi);
        if failed {
            let action = Action::DeleteChild(child.inbound_spi);
            if let Err(error) = self.engine.action(now, child.ike, action, &mut self.slots) {
                tracing::debug!("child SA {:#010x}: {error}", child.inbound_spi);
            }
        }
    }

    /// Erases a child SA and keeps what it counted.
    pub(crate) fn remove(&mut self, spi: u32, reason: RemoveReason) {
        let carried = self.slots.counters(spi);
        self.later.push(Later::Remove(spi));
        self.routes.remove(spi);
        let Some((ike, session)) = self.sessions.remove_child(spi, &carried) else {
            return;
        };
        if session.children.is_empty() {
            self.tunnel_down(ike, report::reason(reason));
        }
    }

    /// Counts and logs what the slots refused.
    pub(crate) fn flow(&self, result: Result<(), sadb::Error>, what: &str, spi: u32) {
        if let Err(error) = result {
            self.counters.inc(counter::FLOW_FAIL);
            tracing::error!("cannot {what} child SA {spi:#010x}: {error}");
        }
    }

    /// Takes note of an event.
    pub(crate) fn happened(&mut self, now: Instant, event: Event) {
        counters::event(&self.counters, &event);
        match event {
            Event::Attempt {
                ike, path, profile, ..
            } => self.sessions.begin(ike, profile.tag, path),
            Event::Established(established) => {
                self.sessions.establish(
                    established.ike,
                    &established.peer.to_string(),
                    established.peer_auth,
                );
                if established.child.is_some() {
                    self.tunnel_up(established.ike);
                }
            }
            Event::ChildCreated { ike, .. } => self.tunnel_up(ike),
            Event::IkeRekeyed { old, new, .. } => {
                self.sessions.rekeyed(old, new);
                if let Some(session) = self.sessions.get(new) {
                    tracing::info!(
                        "IKE SA {old} with {} at {} rekeyed, now {new}",
                        session.peer_text(),
                        session.path.remote.ip()
                    );
                }
            }
            Event::Moved { ike, from, to } => {
                if let Some(session) = self.sessions.get_mut(ike) {
                    session.path = to;
                    tracing::info!(
                        "peer {} moved from {} to {}",
                        session.peer_text(),
                        from.remote,
                        to.remote
                    );
                }
            }
            Event::SetupFailed {
                ike,
                path,
                profile,
                peer,
                reason,
                ..
            } => {
                let session = self.sessions.end(ike);
                let wsg = self.services.get(&profile.tag);
                if self.refusals.may_report(now) {
                    report::setup_failed(wsg, &profile, path, peer.as_ref(), &reason);
                }
                if let Some(session) = session {
                    if session.in_eap {
                        self.asker.abandon_eap(ike);
                    }
                    if session.admitted {
                        let released = session.released(ike, report::setup_reason(&reason));
                        self.desks.tell(session.sessmgr, News::Released(released));
                    }
                }
            }
            Event::Deleted {
                ike,
                path,
                peer,
                reason,
                ..
            } => {
                if reason == RemoveReason::Liveness {
                    let context = self.context_of(ike);
                    report::peer_dead(&context, &peer, path);
                }
                self.ended(ike, report::reason(reason));
            }
            Event::ChildFailed { ike, reason, .. } => {
                let session = self.sessions.get(ike);
                let wsg = session.and_then(|session| self.services.get(&session.service));
                if let (Some(session), Some(wsg)) = (session, wsg)
                    && self.refusals.may_report(now)
                {
                    report::child_failed(wsg, session, &reason);
                }
            }
            Event::RecordLost { ike } => {
                tracing::error!("IKE SA {ike} is lost: its record is damaged");
                self.counters.inc(recovery::LOST);
                self.slots.note_groups(ike, &[]);
                let children = self.sessions.get(ike).map(|session| session.children.clone());
                for spi in children.unwrap_or_default().iter() {
                    self.remove(*spi, RemoveReason::Local);
                }
                self.ended(ike, DisconnectReason::Internal);
            }
            Event::InitialContact { peer, .. } => tracing::info!("peer {peer} has no other IKE SA"),
            Event::NoProposal {
                path,
                profile,
                mismatch,
            } if self.refusals.may_report(now) => {
                report::no_proposal(self.services.get(&profile.tag), &profile, path, &mismatch);
            }
            Event::Dropped { remote, cause } => tracing::debug!("dropped a message from {remote}: {cause:?}"),
            Event::Undecodable { remote, error } => tracing::debug!("message from {remote}: {error}"),
            _ => {}
        }
    }

    /// An IKE SA is gone.
    fn ended(&mut self, ike: IkeSaId, reason: DisconnectReason) {
        let reason = self
            .sessions
            .get(ike)
            .and_then(|session| session.reason)
            .unwrap_or(reason);
        self.tunnel_down(ike, reason);
        let Some(mut session) = self.sessions.end(ike) else {
            return;
        };
        // Child SAs whose removal comes later have counted all they will count.
        for spi in std::mem::take(&mut session.children).iter() {
            session.carry(&self.slots.counters(*spi));
        }
        if session.admitted {
            self.desks
                .tell(session.sessmgr, News::Released(session.released(ike, reason)));
        }
    }

    fn tunnel_up(&mut self, ike: IkeSaId) {
        if self.sessions.set_up(ike, true) {
            self.counters.inc(counter::TOTAL_TUNNELS);
            self.tell_tunnel(ike, None);
        }
    }

    fn tunnel_down(&mut self, ike: IkeSaId, reason: DisconnectReason) {
        let reason = self
            .sessions
            .get(ike)
            .and_then(|session| session.reason)
            .unwrap_or(reason);
        if self.sessions.set_up(ike, false) {
            self.tell_tunnel(ike, Some(reason));
        }
    }

    fn tell_tunnel(&self, ike: IkeSaId, down: Option<DisconnectReason>) {
        let session = self.sessions.get(ike);
        let wsg = session.and_then(|session| self.services.get(&session.service));
        if let (Some(session), Some(wsg)) = (session, wsg) {
            report::tunnel(wsg, session, down);
        }
    }

    fn context_of(&self, ike: IkeSaId) -> String {
        let session = self.sessions.get(ike);
        session
            .and_then(|session| self.services.get(&session.service))
            .map_or_else(String::new, |wsg| wsg.context.clone())
    }
}
