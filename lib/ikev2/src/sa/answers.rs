//! Where responses of the peer and answers of the shell go.

use super::request::{Outstanding, Pending};
use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{Count, DropCause, RemoveReason};
use crate::message::{Exchange, Payloads};
use crate::output::Answer;

impl IkeSa {
    /// The response to our outstanding request.
    pub(super) fn on_response(&mut self, env: &mut Env<'_>, exchange: Exchange, payloads: &Payloads<'_>) {
        let Some(outstanding) = self.outstanding.take() else {
            return;
        };
        if exchange != outstanding.pending.exchange() {
            let remote = env.reply_path.unwrap_or(self.path).remote;
            self.outstanding = Some(outstanding);
            return env.drop(remote, DropCause::UnexpectedResponse);
        }
        let Outstanding { pending, .. } = *outstanding;
        match pending {
            Pending::Init => {}
            Pending::Auth => self.on_auth_response(env, payloads),
            Pending::CreateChild(offer) => self.on_create_child_response(env, offer, payloads),
            Pending::RekeyIke(offer) => self.on_ike_rekey_response(env, *offer, payloads),
            Pending::DeleteChildren(spis) => self.on_child_delete_response(env, &spis),
            Pending::DeleteIke => {
                env.count(Count::IkeDeleteAnswered);
                self.close(env, RemoveReason::Local, false);
            }
            Pending::Liveness => env.count(Count::LivenessAnswered),
            Pending::Inform => {}
        }
    }

    /// An answer of the shell to the question with this serial.
    pub fn on_answer(&mut self, env: &mut Env<'_>, serial: u32, answer: Answer) {
        let awaited = match &mut self.state {
            State::AuthReceived(auth) => auth.take_question(serial),
            State::AuthSent(auth) => auth.take_question(serial),
            _ => false,
        };
        if !awaited {
            return env.count(Count::LateAnswer);
        }
        match self.state {
            State::AuthReceived(_) => self.on_responder_answer(env, answer),
            _ => self.on_initiator_answer(env, answer),
        }
        self.run_tasks(env);
    }
}

impl Pending {
    fn exchange(&self) -> Exchange {
        match self {
            Pending::Init => Exchange::IkeSaInit,
            Pending::Auth => Exchange::IkeAuth,
            Pending::CreateChild(_) | Pending::RekeyIke(_) => Exchange::CreateChildSa,
            Pending::DeleteChildren(_) | Pending::DeleteIke | Pending::Liveness | Pending::Inform => {
                Exchange::Informational
            }
        }
    }
}
