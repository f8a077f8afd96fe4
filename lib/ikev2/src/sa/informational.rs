//! INFORMATIONAL: deletes, liveness checks (RFC 7296 1.4).

use super::IkeSa;
use super::child::Phase;
use super::request::Pending;
use crate::env::Env;
use crate::event::{Count, RemoveReason};
use crate::message::{Delete, Exchange, NotifyKind, Payloads};

impl IkeSa {
    pub(super) fn on_informational_request(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>) {
        if payloads.is_empty {
            env.count(Count::LivenessReceived);
            let builder = self.builder();
            self.send_response(env, Exchange::Informational, builder);
            return env.count(Count::LivenessReplied);
        }
        if payloads.deletes.contains(&Delete::Ike) {
            return self.on_ike_delete(env);
        }
        // RFC 7296 2.21.2: the initiator does not believe us.
        if payloads.notify(NotifyKind::AUTHENTICATION_FAILED).is_some() {
            let builder = self.builder();
            self.send_response(env, Exchange::Informational, builder);
            return self.close(env, RemoveReason::Protocol, true);
        }
        let mut builder = self.builder();
        let mut answered = Vec::new();
        for delete in &payloads.deletes {
            if let Delete::Esp(spis) = delete {
                env.count(Count::ChildDeleteReceived(
                    u16::try_from(spis.len()).unwrap_or(u16::MAX),
                ));
                for &spi in spis {
                    answered.extend(self.on_child_delete(env, spi));
                }
            }
        }
        if !answered.is_empty() {
            builder.delete_esp(&answered);
        }
        self.send_response(env, Exchange::Informational, builder);
        if !payloads.deletes.is_empty() {
            self.check_empty(env);
        }
    }

    fn on_ike_delete(&mut self, env: &mut Env<'_>) {
        env.count(Count::IkeDeleteReceived);
        // RFC 7296 1.4.1: the answer is empty. It is sent first, as nothing can be encrypted afterwards.
        let builder = self.builder();
        self.send_response(env, Exchange::Informational, builder);
        env.count(Count::IkeDeleteReplied);
        self.concede_ike_rekey(env);
        self.yield_to_contester(env);
        let successor = self.successor();
        self.close(env, RemoveReason::Peer, true);
        if let Some(successor) = successor {
            env.with(successor, |successor, env| successor.run_tasks(env));
        }
    }

    /// The peer deletes the child SA that it sends with, `outbound_spi`; gives ours of the pair, if it is to be answered.
    fn on_child_delete(&mut self, env: &mut Env<'_>, outbound_spi: u32) -> Option<u32> {
        let Some(child) = self
            .children
            .iter()
            .find(|child| child.outbound_spi == outbound_spi)
        else {
            return self.on_child_delete_elsewhere(env, outbound_spi);
        };
        let inbound_spi = child.inbound_spi;
        match child.phase {
            // RFC 7296 1.4.1: when both delete it, neither answers with a delete.
            Phase::Deleting(reason) if self.is_delete_sent(inbound_spi) => {
                self.child_deleted(env, inbound_spi, reason);
                None
            }
            Phase::Draining => None,
            _ => {
                let reason = match child.replaced_by {
                    Some(_) => RemoveReason::Rekeyed,
                    None if matches!(child.phase, Phase::Pending(_)) => RemoveReason::Redundant,
                    None => RemoveReason::Peer,
                };
                self.child_deleted(env, inbound_spi, reason);
                Some(inbound_spi)
            }
        }
    }

    /// A delete that crossed a rekey of the IKE SA: the child SA is with the new one already.
    fn on_child_delete_elsewhere(&mut self, env: &mut Env<'_>, outbound_spi: u32) -> Option<u32> {
        let by = self.successor()?;
        let mut answered = None;
        env.with(by, |successor, env| {
            if successor
                .children
                .iter()
                .any(|child| child.outbound_spi == outbound_spi)
            {
                answered = successor.on_child_delete(env, outbound_spi);
                successor.check_empty(env);
            }
        });
        answered
    }

    fn is_delete_sent(&self, inbound_spi: u32) -> bool {
        self.outstanding.as_ref().is_some_and(|outstanding| {
            matches!(&outstanding.pending, Pending::DeleteChildren(spis) if spis.contains(&inbound_spi))
        })
    }

    /// Asks the peer to delete a child SA that we do not want any more.
    pub(super) fn request_child_delete(&mut self, env: &mut Env<'_>, inbound_spi: u32) {
        let still = self
            .child(inbound_spi)
            .is_some_and(|child| matches!(child.phase, Phase::Deleting(_)));
        if !still {
            return;
        }
        let mut builder = self.builder();
        builder.delete_esp(&[inbound_spi]);
        env.count(Count::ChildDeleteSent(1));
        let pending = Pending::DeleteChildren(vec![inbound_spi]);
        self.send_request(env, Exchange::Informational, builder, pending);
    }

    /// The peer answered a delete of ours. What it says does not matter: the child SA is gone.
    pub(super) fn on_child_delete_response(&mut self, env: &mut Env<'_>, spis: &[u32]) {
        for &spi in spis {
            let reason = match self.child(spi).map(|child| child.phase) {
                Some(Phase::Deleting(reason)) => reason,
                _ => continue,
            };
            self.child_deleted(env, spi, reason);
        }
        self.check_empty(env);
    }
}
