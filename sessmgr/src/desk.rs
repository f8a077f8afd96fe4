//! The admission desk: batches of peers that wait for their verdicts.
//!
//! Nearly every batch has its verdicts at once. A peer that needs something from `vpnmgr` waits here, and with it what arrived in the same
//! batch. Whoever asks for it again meanwhile, for the answer may have been lost with an `ipsecmgr`, waits for the same verdict.

use std::collections::HashMap;
use std::time::Instant;

use bus::messages::sessmgr::{Admission, Admit, Admitted, Verdict};
use telemetry::events::{self, SessionRejected};

use crate::admission::{Draft, Grant, Need, Refusal, Step, admitted};
use crate::replies::Replies;
use crate::session::Assigned;
use crate::state::State;

/// Who gets the verdicts of a batch.
pub type Answer = Box<dyn FnOnce(Admitted) + Send>;

/// The batches that wait.
#[derive(Default)]
pub struct Desk {
    /// What leaves once it is on file.
    pub replies: Replies,
    batches: HashMap<u64, Batch>,
    /// Peers that wait, by our IKE SPI.
    drafts: HashMap<u64, Waiting>,
    /// Who of them waits for what.
    needed: HashMap<Need, Vec<u64>>,
    next: u64,
}

struct Batch {
    verdicts: Vec<Verdict>,
    open: usize,
    answer: Answer,
}

struct Waiting {
    draft: Draft,
    /// By which tenure the `ipsecmgr` that asked last has its slot.
    tenure: u64,
    /// Batches that want its verdict, and the place in each.
    places: Vec<(u64, usize)>,
}

impl Desk {
    /// A batch arrived. Returns what `vpnmgr` has to be asked for.
    pub fn arrive(&mut self, state: &mut State, admit: Admit, answer: Answer, now: Instant) -> Vec<Need> {
        let mut batch = Batch {
            verdicts: Vec::with_capacity(admit.admissions.len()),
            open: 0,
            answer,
        };
        let (number, mut needs) = (self.next, Vec::new());
        self.next += 1;
        for (place, admission) in admit.admissions.into_iter().enumerate() {
            let ike_spi = admission.ike_spi;
            let verdict = outdated(state, &admission)
                .or_else(|| repeated(state, &admission))
                .or_else(|| self.decide_first(state, admission, (number, place), &mut needs, now));
            batch.open += usize::from(verdict.is_none());
            batch.verdicts.push(verdict.unwrap_or(Verdict {
                ike_spi,
                ..Verdict::default()
            }));
        }
        match batch.open {
            0 => self.answer(batch),
            _ => drop(self.batches.insert(number, batch)),
        }
        needs
    }

    /// `vpnmgr` answered. Returns what it has to be asked for next.
    pub fn granted(&mut self, state: &mut State, need: &Need, grant: &Grant, now: Instant) -> Vec<Need> {
        let mut needs = Vec::new();
        for ike_spi in self.needed.remove(need).unwrap_or_default() {
            let Some(waiting) = self.drafts.get_mut(&ike_spi) else {
                continue;
            };
            let answer = Some((need.clone(), grant.clone()));
            match decide(state, &mut waiting.draft, waiting.tenure, answer, now) {
                Ok(verdict) => self.decided(verdict),
                Err(next) => self.wait(next, ike_spi, &mut needs),
            }
        }
        needs
    }

    /// Gives up the peers that only earlier owners of their slots asked for.
    pub fn discard_older(&mut self, state: &mut State, now: Instant) {
        let older = |waiting: &&Waiting| waiting.tenure < state.tenure(waiting.draft.ike_spi());
        let older: Vec<u64> = self
            .drafts
            .values()
            .filter(older)
            .map(|waiting| waiting.draft.ike_spi())
            .collect();
        for ike_spi in older {
            let Some(waiting) = self.drafts.get_mut(&ike_spi) else {
                continue;
            };
            let found = waiting.draft.abandon();
            let refusal = Refusal {
                text: "ipsecmgr has restarted, or another one has its slot".to_owned(),
                no_address: true,
            };
            let verdict = refused(state, &waiting.draft, refusal, found, now);
            self.decided(verdict);
        }
    }

    /// A verdict at once, or a peer that waits.
    fn decide_first(
        &mut self,
        state: &mut State,
        admission: Admission,
        place: (u64, usize),
        needs: &mut Vec<Need>,
        now: Instant,
    ) -> Option<Verdict> {
        let (ike_spi, tenure) = (admission.ike_spi, admission.tenure);
        if let Some(waiting) = self.drafts.get_mut(&ike_spi) {
            waiting.tenure = tenure;
            waiting.places.push(place);
            return None;
        }
        let service = state.policy.find(&admission.context, &admission.service).cloned();
        state.attempted(service.as_deref());
        let mut draft = Draft::new(state, admission);
        match decide(state, &mut draft, tenure, None, now) {
            Ok(verdict) => Some(verdict),
            Err(need) => {
                let places = vec![place];
                self.drafts.insert(
                    ike_spi,
                    Waiting {
                        draft,
                        tenure,
                        places,
                    },
                );
                self.wait(need, ike_spi, needs);
                None
            }
        }
    }

    fn wait(&mut self, need: Need, ike_spi: u64, needs: &mut Vec<Need>) {
        let others = self.needed.entry(need.clone()).or_default();
        if others.is_empty() {
            needs.push(need);
        }
        others.push(ike_spi);
    }

    /// The verdict of a peer that waited.
    fn decided(&mut self, verdict: Verdict) {
        let waited = self.drafts.remove(&verdict.ike_spi);
        for (number, place) in waited.into_iter().flat_map(|waiting| waiting.places) {
            let Some(batch) = self.batches.get_mut(&number) else {
                continue;
            };
            if let Some(open) = batch.verdicts.get_mut(place) {
                open.clone_from(&verdict);
                batch.open -= 1;
            }
            if batch.open == 0
                && let Some(batch) = self.batches.remove(&number)
            {
                self.answer(batch);
            }
        }
    }

    fn answer(&mut self, batch: Batch) {
        let Batch { verdicts, answer, .. } = batch;
        self.replies.push(move || answer(Admitted { verdicts }));
    }
}

/// One step of a draft: a verdict, or what is needed first.
fn decide(
    state: &mut State,
    draft: &mut Draft,
    tenure: u64,
    answer: Option<(Need, Grant)>,
    now: Instant,
) -> Result<Verdict, Need> {
    let ike_spi = draft.ike_spi();
    match draft.step(state, answer, now) {
        Step::Waiting(need) => Err(need),
        Step::Admitted(mut session) => {
            session.tenure = tenure;
            let only_one = draft.is_only_one();
            let verdict = admitted(ike_spi, state.admit(ike_spi, session, only_one));
            if only_one {
                state.end_older_elsewhere(ike_spi);
            }
            Ok(verdict)
        }
        Step::Refused(refusal, found) => Ok(refused(state, draft, refusal, found, now)),
    }
}

fn refused(
    state: &mut State,
    draft: &Draft,
    refusal: Refusal,
    found: Vec<Assigned>,
    now: Instant,
) -> Verdict {
    let (context, service, peer) = draft.names();
    events::emit(&SessionRejected {
        context,
        service,
        peer: &peer,
        reason: &refusal.text,
    });
    state.refused(context, service, found, now);
    Verdict {
        ike_spi: draft.ike_spi(),
        refusal: refusal.text,
        no_address: refusal.no_address,
        ..Verdict::default()
    }
}

/// Who asked is dead, or has handed the slot over; its next owner asks for itself.
fn outdated(state: &mut State, admission: &Admission) -> Option<Verdict> {
    let ike_spi = admission.ike_spi;
    (!state.hear(ike_spi, admission.tenure)).then(|| Verdict {
        ike_spi,
        refusal: "another ipsecmgr has its slot".to_owned(),
        ..Verdict::default()
    })
}

/// The same verdict again for a session that is there already: the first answer was lost, perhaps with the `ipsecmgr` that waited for it.
fn repeated(state: &mut State, admission: &Admission) -> Option<Verdict> {
    let session = state.repeat(admission.ike_spi, admission.initial_contact)?;
    let verdict = admitted(admission.ike_spi, session);
    match &admission.claim {
        Some(claim) if (&claim.ipv4, &claim.ipv6) != (&verdict.ipv4, &verdict.ipv6) => Some(Verdict {
            ike_spi: admission.ike_spi,
            refusal: "the session has other addresses".to_owned(),
            ..Verdict::default()
        }),
        _ => Some(verdict),
    }
}

#[cfg(test)]
mod tests;
