//! A request for many signatures and verdicts, whose answer leaves when the last of them is there.

use std::sync::{Arc, Mutex, PoisonError};

use bus::Responder;
use bus::messages::certmgr::{Prove, Proved, Signed, Verified};

/// One request. If a part of it is never answered, the request is refused when the last reference to it goes.
pub(crate) struct Batch(Mutex<Progress>);

struct Progress {
    proved: Proved,
    open: usize,
    responder: Option<Responder<Prove>>,
}

impl Batch {
    /// For so many signatures and peers. If there are none, it is answered at once.
    pub(crate) fn new(sign: usize, verify: usize, responder: Responder<Prove>) -> Arc<Self> {
        let mut progress = Progress {
            proved: Proved {
                signed: vec![Signed::default(); sign],
                verified: vec![Verified::default(); verify],
            },
            open: sign + verify,
            responder: Some(responder),
        };
        progress.answer_if_done();
        Arc::new(Self(Mutex::new(progress)))
    }

    /// The signature in this place.
    pub(crate) fn signed(&self, place: usize, signed: Signed) {
        self.put(|proved| proved.signed.get_mut(place).map(|one| *one = signed));
    }

    /// The verdict in this place.
    pub(crate) fn verified(&self, place: usize, verified: Verified) {
        self.put(|proved| proved.verified.get_mut(place).map(|one| *one = verified));
    }

    fn put(&self, put: impl FnOnce(&mut Proved) -> Option<()>) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if put(&mut progress.proved).is_some() {
            progress.open = progress.open.saturating_sub(1);
            progress.answer_if_done();
        }
    }
}

impl Progress {
    fn answer_if_done(&mut self) {
        if self.open == 0
            && let Some(responder) = self.responder.take()
        {
            responder.reply(std::mem::take(&mut self.proved));
        }
    }
}
