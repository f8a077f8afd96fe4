//! An encrypted message comes in: window, integrity, fragments, then to its exchange.

use super::tasks::Task;
use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{Count, DropCause, RemoveReason, SetupFailure};
use crate::message::{DecodeError, Exchange, Fragment, Header, NotifyKind, Opened, Payloads, open};
use crate::output::Path;

/// Fragments of one message, at most.
const MAX_FRAGMENTS: u16 = 64;
/// Octets of a reassembled message, at most.
const MAX_REASSEMBLED: usize = 64 * 1024;
/// The same before the peer has proved who it is; chains of certificates are shorter.
const MAX_REASSEMBLED_IN_SETUP: usize = 16 * 1024;

/// Fragments of one message that came so far (RFC 7383 2.6).
pub(crate) struct Reassembly {
    message_id: u32,
    response: bool,
    first: u8,
    missing: u16,
    octets: usize,
    pieces: Vec<Option<Box<[u8]>>>,
}

impl Reassembly {
    /// How much has come.
    pub fn octets(&self) -> usize {
        self.octets
    }
}

/// Where a request stands to the window of one.
enum Place {
    Next,
    /// The one before: its response is sent again.
    Repeated,
    Outside(DropCause),
}

impl IkeSa {
    /// Takes in an encrypted message whose SPIs are ours. `scratch` is where it is decrypted.
    pub fn on_message(
        &mut self,
        env: &mut Env<'_>,
        header: &Header,
        path: Path,
        datagram: &[u8],
        scratch: &mut Vec<u8>,
    ) {
        let place = self.place(header);
        if let Place::Outside(cause) = place {
            env.drop(path.remote, cause);
            if cause != DropCause::MessageId || !self.profile.notifies.invalid_message_id {
                return;
            }
        }
        let Some(keys) = &self.keys else {
            let cause = if header.response {
                DropCause::ResponseNoKey
            } else {
                DropCause::RequestNoKey
            };
            return env.drop(path.remote, cause);
        };
        let opened = match open(&keys.protection(!self.initiator), header, datagram, scratch) {
            Ok(opened) => opened,
            // Anybody can send such messages, so they are counted and have no other effect (RFC 7296 2.21.1).
            Err(error) => return env.undecodable(path.remote, error),
        };
        if let Place::Outside(_) = place {
            // RFC 7296 2.3: it is authentic, so the peer may be told, in a request of our own.
            self.add_task(Task::InvalidMessageId(header.message_id));
            return self.run_tasks(env);
        }
        if let Place::Repeated = place {
            return self.on_repeated(env, path, opened.fragment);
        }
        // Whoever recorded a message can send it again, so only what is new tells that the peer is alive (RFC 7296 2.4).
        self.last_heard = env.now;
        if opened.fragment.is_none() {
            // RFC 7383 2.6: the whole message makes fragments that came before pointless.
            self.reassembly = None;
            return self.on_opened(env, header, path, &opened);
        }
        env.count(Count::FragmentReceived);
        let whole = self.reassemble(env, header, path, &opened);
        if let Some((first, message)) = whole {
            env.count(Count::Reassembled);
            let opened = Opened {
                first,
                plaintext: &message,
                fragment: None,
            };
            self.on_opened(env, header, path, &opened);
        }
    }

    fn place(&self, header: &Header) -> Place {
        if header.response {
            return match &self.outstanding {
                Some(outstanding) if outstanding.message_id == header.message_id => Place::Next,
                _ => Place::Outside(DropCause::UnexpectedResponse),
            };
        }
        if header.message_id == self.expected {
            return match (&self.state, header.exchange) {
                (State::Lingering, Exchange::Informational) => Place::Next,
                (State::Lingering | State::Dead, _) => Place::Outside(DropCause::UnexpectedExchange),
                _ => Place::Next,
            };
        }
        if header.message_id.wrapping_add(1) == self.expected {
            return Place::Repeated;
        }
        Place::Outside(if header.message_id < self.expected {
            DropCause::StaleMessageId
        } else {
            DropCause::MessageId
        })
    }

    fn on_repeated(&mut self, env: &mut Env<'_>, path: Path, fragment: Option<Fragment>) {
        // RFC 7383 2.6.1: of a fragmented request only the first fragment asks for the response again.
        match fragment {
            Some(fragment) if fragment.number != 1 => env.drop(path.remote, DropCause::Retransmission),
            _ => self.repeat_response(env, path),
        }
    }

    fn on_opened(&mut self, env: &mut Env<'_>, header: &Header, path: Path, opened: &Opened<'_>) {
        let payloads = match Payloads::decode(opened.first, opened.plaintext) {
            Ok(payloads) => payloads,
            Err(error) => return self.on_malformed(env, header, path, error),
        };
        env.count(Count::Processed(header.exchange));
        for notify in &payloads.notifies {
            env.count(Count::NotifyReceived(notify.kind));
        }
        self.follow(env, path);
        env.reply_path = Some(path);
        if header.response {
            self.on_response(env, header.exchange, &payloads);
        } else {
            self.on_request(env, header.exchange, path, &payloads);
        }
        self.run_tasks(env);
        env.reply_path = None;
    }

    /// RFC 7296 2.21.3: an authentic message that is malformed is the end of the IKE SA; an unknown critical payload only of
    /// its exchange.
    fn on_malformed(&mut self, env: &mut Env<'_>, header: &Header, path: Path, error: DecodeError) {
        env.undecodable(path.remote, error);
        let busy = matches!(&self.state, State::AuthReceived(auth) if auth.is_waiting());
        if header.response {
            return self.give_up(env, RemoveReason::Protocol, SetupFailure::Malformed(error));
        }
        if busy {
            return;
        }
        env.reply_path = Some(path);
        match error {
            DecodeError::CriticalPayload(kind) => {
                self.send_notify_response(
                    env,
                    header.exchange,
                    NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD,
                    &[kind],
                );
            }
            _ => self.send_notify_response(env, header.exchange, NotifyKind::INVALID_SYNTAX, &[]),
        }
        env.reply_path = None;
        match self.state {
            State::Established if matches!(error, DecodeError::CriticalPayload(_)) => {}
            State::Established | State::Replaced { .. } | State::Closing(_) => {
                self.close(env, RemoveReason::Protocol, true);
            }
            State::Lingering | State::Dead => {}
            _ => self.fail(env, SetupFailure::Malformed(error), true),
        }
    }

    fn on_request(&mut self, env: &mut Env<'_>, exchange: Exchange, path: Path, payloads: &Payloads<'_>) {
        match (&self.state, exchange) {
            (State::InitReplied(_), Exchange::IkeAuth) => {
                // A peer that saw a NAT comes from another port now (RFC 7296 2.23).
                env.core.half_open.remove(&(self.peer_spi, self.path));
                self.path = path;
                self.on_first_auth_request(env, payloads);
            }
            (State::AuthReceived(auth), Exchange::IkeAuth) => {
                if auth.is_waiting() {
                    env.drop(path.remote, DropCause::Retransmission);
                } else {
                    self.on_next_auth_request(env, payloads);
                }
            }
            (State::Established | State::Replaced { .. } | State::Closing(_), Exchange::CreateChildSa) => {
                self.on_create_child_request(env, payloads);
            }
            (State::Established | State::Replaced { .. } | State::Closing(_), Exchange::Informational) => {
                self.on_informational_request(env, payloads);
            }
            (State::Lingering, Exchange::Informational) => {
                // The peer takes leave of what is gone already; it need not do so again and again.
                let builder = self.builder();
                self.send_response(env, exchange, builder);
            }
            _ => env.drop(path.remote, DropCause::UnexpectedExchange),
        }
    }

    fn reassemble(
        &mut self,
        env: &mut Env<'_>,
        header: &Header,
        path: Path,
        opened: &Opened<'_>,
    ) -> Option<(u8, Vec<u8>)> {
        let fragment = opened.fragment?;
        if fragment.total > MAX_FRAGMENTS {
            env.drop(path.remote, DropCause::Fragment);
            return None;
        }
        let in_setup = self.parties.is_none();
        if in_setup && env.is_setup_memory_full() {
            env.drop(path.remote, DropCause::SetupMemory);
            return None;
        }
        let most = if in_setup {
            MAX_REASSEMBLED_IN_SETUP
        } else {
            MAX_REASSEMBLED
        };
        let total = usize::from(fragment.total);
        let current = self.reassembly.as_ref().is_some_and(|reassembly| {
            reassembly.message_id == header.message_id
                && reassembly.response == header.response
                // RFC 7383 2.6: more fragments than before means the peer sent it again in smaller ones.
                && reassembly.pieces.len() >= total
        });
        if !current {
            self.reassembly = Some(Box::new(Reassembly {
                message_id: header.message_id,
                response: header.response,
                first: 0,
                missing: fragment.total,
                octets: 0,
                pieces: vec![None; total],
            }));
        }
        let reassembly = self.reassembly.as_mut()?;
        let same_total = reassembly.pieces.len() == total;
        let place = match reassembly.pieces.get_mut(usize::from(fragment.number - 1)) {
            Some(place @ None) if same_total => place,
            _ => {
                env.drop(path.remote, DropCause::Fragment);
                return None;
            }
        };
        if reassembly.octets + opened.plaintext.len() > most {
            self.reassembly = None;
            env.drop(path.remote, DropCause::Fragment);
            return None;
        }
        *place = Some(opened.plaintext.into());
        reassembly.octets += opened.plaintext.len();
        reassembly.missing -= 1;
        if fragment.number == 1 {
            reassembly.first = opened.first;
        }
        if reassembly.missing > 0 {
            return None;
        }
        let reassembly = self.reassembly.take()?;
        let mut message = Vec::with_capacity(reassembly.octets);
        for piece in reassembly.pieces.iter().flatten() {
            message.extend_from_slice(piece);
        }
        Some((reassembly.first, message))
    }
}
