//! The admission desk: batches of peers that wait for their verdicts.
//!
//! Nearly every batch is answered at once. One that needs something from `vpnmgr` waits here, and with it only what arrived with it.

use std::collections::HashMap;
use std::time::Instant;

use bus::messages::sessmgr::{Admission, Admitted, Verdict};
use telemetry::events::{self, SessionRejected};

use crate::admission::{Draft, Grant, Need, Step, admitted};
use crate::state::State;

/// Who gets the verdicts of a batch.
pub type Answer = Box<dyn FnOnce(Admitted) + Send>;

/// The batches that wait.
#[derive(Default)]
pub struct Desk {
    batches: HashMap<u64, Batch>,
    /// Who waits for what: batch, and place in it.
    waiting: HashMap<Need, Vec<(u64, usize)>>,
    next: u64,
}

struct Batch {
    drafts: Vec<Option<Draft>>,
    verdicts: Vec<Verdict>,
    open: usize,
    answer: Answer,
}

impl Desk {
    /// A batch arrived. Returns what `vpnmgr` has to be asked for.
    pub fn arrive(
        &mut self,
        state: &mut State,
        admissions: Vec<Admission>,
        answer: Answer,
        now: Instant,
    ) -> Vec<Need> {
        let count = admissions.len();
        let mut batch = Batch {
            drafts: Vec::with_capacity(count),
            verdicts: Vec::with_capacity(count),
            open: 0,
            answer,
        };
        let (number, mut needs) = (self.next, Vec::new());
        self.next += 1;
        for (place, admission) in admissions.into_iter().enumerate() {
            if let Some(verdict) = repeated(state, &admission) {
                batch.drafts.push(None);
                batch.verdicts.push(verdict);
                continue;
            }
            let service = state.policy.find(&admission.context, &admission.service).cloned();
            state.attempted(service.as_deref());
            let mut draft = Draft::new(state, admission);
            match decide(state, &mut draft, None, now) {
                Ok(verdict) => {
                    batch.drafts.push(None);
                    batch.verdicts.push(verdict);
                }
                Err(need) => {
                    batch.open += 1;
                    batch.verdicts.push(Verdict {
                        ike_spi: draft.ike_spi(),
                        ..Verdict::default()
                    });
                    batch.drafts.push(Some(draft));
                    self.wait(need, number, place, &mut needs);
                }
            }
        }
        match batch.open {
            0 => (batch.answer)(Admitted {
                verdicts: batch.verdicts,
            }),
            _ => drop(self.batches.insert(number, batch)),
        }
        needs
    }

    /// `vpnmgr` answered. Returns what it has to be asked for next.
    pub fn granted(&mut self, state: &mut State, need: &Need, grant: &Grant, now: Instant) -> Vec<Need> {
        let mut needs = Vec::new();
        for (number, place) in self.waiting.remove(need).unwrap_or_default() {
            let Some(batch) = self.batches.get_mut(&number) else {
                continue;
            };
            let Some(Some(draft)) = batch.drafts.get_mut(place) else {
                continue;
            };
            match decide(state, draft, Some((need.clone(), grant.clone())), now) {
                Ok(verdict) => {
                    batch.drafts[place] = None;
                    batch.verdicts[place] = verdict;
                    batch.open -= 1;
                    if batch.open == 0
                        && let Some(batch) = self.batches.remove(&number)
                    {
                        (batch.answer)(Admitted {
                            verdicts: batch.verdicts,
                        });
                    }
                }
                Err(next) => self.wait(next, number, place, &mut needs),
            }
        }
        needs
    }

    fn wait(&mut self, need: Need, number: u64, place: usize, needs: &mut Vec<Need>) {
        let others = self.waiting.entry(need.clone()).or_default();
        if others.is_empty() {
            needs.push(need);
        }
        others.push((number, place));
    }
}

/// One step of a draft: a verdict, or what is needed first.
fn decide(
    state: &mut State,
    draft: &mut Draft,
    answer: Option<(Need, Grant)>,
    now: Instant,
) -> Result<Verdict, Need> {
    let ike_spi = draft.ike_spi();
    match draft.step(state, answer, now) {
        Step::Waiting(need) => Err(need),
        Step::Admitted(session) => {
            let verdict = admitted(ike_spi, &session);
            let displaced = state.admit(ike_spi, *session, draft.is_only_one());
            Ok(Verdict {
                displaced: displaced.into_iter().collect(),
                ..verdict
            })
        }
        Step::Refused(refusal, found) => {
            let (context, service, peer) = draft.names();
            events::emit(&SessionRejected {
                context,
                service,
                peer: &peer,
                reason: &refusal.text,
            });
            state.refused(context, service, found, now);
            Ok(Verdict {
                ike_spi,
                refusal: refusal.text,
                no_address: refusal.no_address,
                ..Verdict::default()
            })
        }
    }
}

/// The same verdict again for a session that is there already: the first answer was lost.
fn repeated(state: &State, admission: &Admission) -> Option<Verdict> {
    let session = state.sessions.get(admission.ike_spi)?;
    Some(admitted(admission.ike_spi, session))
}

#[cfg(test)]
mod tests;
