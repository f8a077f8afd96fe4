//! Our requests: one at a time, sent again until answered (RFC 7296 2.1, 2.3); and our responses, kept for repetition.

use std::time::{Duration, Instant};

use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{Count, DropCause, RemoveReason, SetupFailure};
use crate::message::{Builder, Exchange, HEADER_LEN, Header, NotifyKind, seal};
use crate::output::Path;
use crate::profile::Retransmission;
use crate::record::{Sink, Source, Stored, stored, stored_enum};

use super::offer::{ChildOffer, IkeOffer};

/// Length of IPv4 or IPv6 header, UDP header and non-ESP marker.
const IPV4_OVERHEAD: usize = 20 + 8 + 4;
/// The same for IPv6.
const IPV6_OVERHEAD: usize = 40 + 8 + 4;

/// A response is sent again so often in [`REPEAT_INTERVAL`], at most: the request may come from one who recorded it, and the address
/// may be another's.
const MAX_REPEATS: u8 = 5;
/// See [`MAX_REPEATS`].
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A request of ours that is not answered yet.
pub(crate) struct Outstanding {
    pub message_id: u32,
    /// Datagrams, one after the other.
    datagrams: Box<[u8]>,
    pub pending: Pending,
    policy: Retransmission,
    timing: Timing,
}

/// When a request is sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// So often it was.
    attempt: u8,
    wait: Duration,
    deadline: Instant,
}

/// What the request is for.
pub(crate) enum Pending {
    Init,
    Auth,
    CreateChild(Box<ChildOffer>),
    RekeyIke(Box<IkeOffer>),
    DeleteChildren(Vec<u32>),
    DeleteIke,
    Liveness,
    /// A notify that needs no answer but the empty one.
    Inform,
}

stored!(Timing {
    attempt,
    wait,
    deadline,
});

stored_enum!(Pending {
    1 => Init,
    2 => Auth,
    3 => CreateChild(offer),
    4 => RekeyIke(offer),
    5 => DeleteChildren(spis),
    6 => DeleteIke,
    7 => Liveness,
    8 => Inform,
});

impl Outstanding {
    /// When it is sent again.
    pub fn deadline(&self) -> Instant {
        self.timing.deadline
    }

    /// Writes it, but not when it is sent again: that may be lost, and need not be saved each time.
    pub fn store(&self, out: &mut Sink) {
        self.message_id.store(out);
        self.datagrams.store(out);
        self.pending.store(out);
        self.policy.store(out);
    }

    /// Writes when it is sent again.
    pub fn store_timing(&self, out: &mut Sink) {
        self.timing.store(out);
    }

    /// Reads what [`Outstanding::store`] wrote. It is to be sent again at `deadline`, until [`Outstanding::load_timing`].
    pub fn load(from: &mut Source<'_>, deadline: Instant) -> Option<Self> {
        Some(Self {
            message_id: Stored::load(from)?,
            datagrams: Stored::load(from)?,
            pending: Stored::load(from)?,
            policy: Stored::load(from)?,
            timing: Timing {
                attempt: 0,
                wait: Duration::ZERO,
                deadline,
            },
        })
    }

    /// Reads what [`Outstanding::store_timing`] wrote.
    pub fn load_timing(&mut self, from: &mut Source<'_>) -> Option<()> {
        self.timing = Timing::load(from)?;
        Some(())
    }

    /// Sees to it that it is sent once more, at `deadline`, and then waited for, however often it was sent already: nobody listened for
    /// the response meanwhile.
    pub fn give_another_chance(&mut self, deadline: Instant) {
        self.timing.deadline = deadline;
        self.policy.max = self.policy.max.max(self.timing.attempt.saturating_add(1));
    }
}

impl IkeSa {
    /// A builder for an encrypted message.
    pub(super) fn builder(&self) -> Builder {
        match &self.keys {
            Some(keys) => Builder::new(keys.protection(self.initiator).prefix_len()),
            None => Builder::new(HEADER_LEN),
        }
    }

    /// Encrypts and sends a request, and remembers what for.
    pub(super) fn send_request(
        &mut self,
        env: &mut Env<'_>,
        exchange: Exchange,
        builder: Builder,
        pending: Pending,
    ) {
        let policy = match (&pending, self.profile.liveness) {
            (Pending::Liveness, Some(liveness)) => liveness.retransmission(),
            _ => self.profile.retransmission,
        };
        self.follow_data(env);
        let message_id = self.next_request;
        match self.sealed(env, exchange, false, message_id, builder) {
            Ok(datagrams) => self.send_clear_request(env, datagrams, pending, policy),
            Err(error) => {
                // Only for want of memory or the like; the exchange is lost, and so is the IKE SA.
                self.give_up(env, RemoveReason::Protocol, SetupFailure::Crypto(error));
            }
        }
    }

    /// Sends a request whose octets are ready.
    pub(super) fn send_clear_request(
        &mut self,
        env: &mut Env<'_>,
        datagrams: Vec<u8>,
        pending: Pending,
        policy: Retransmission,
    ) {
        env.transmit(self.path, &datagrams);
        let message_id = self.next_request;
        self.next_request = self.next_request.wrapping_add(1);
        self.outstanding = Some(Box::new(Outstanding {
            message_id,
            datagrams: datagrams.into_boxed_slice(),
            pending,
            policy,
            timing: Timing {
                attempt: 0,
                wait: policy.timeout,
                deadline: env.now + policy.timeout,
            },
        }));
    }

    /// Encrypts, keeps and sends the response to the request at hand.
    pub(super) fn send_response(&mut self, env: &mut Env<'_>, exchange: Exchange, builder: Builder) {
        let message_id = self.expected;
        match self.sealed(env, exchange, true, message_id, builder) {
            Ok(datagrams) => {
                let path = env.reply_path.unwrap_or(self.path);
                env.transmit(path, &datagrams);
                self.last_response = Some(datagrams.into_boxed_slice());
                self.responded = env.now;
                self.expected = self.expected.wrapping_add(1);
            }
            Err(error) => self.give_up(env, RemoveReason::Protocol, SetupFailure::Crypto(error)),
        }
    }

    /// A response that is nothing but one notify.
    pub(super) fn send_notify_response(
        &mut self,
        env: &mut Env<'_>,
        exchange: Exchange,
        kind: NotifyKind,
        data: &[u8],
    ) {
        let mut builder = self.builder();
        builder.notify(kind, data);
        env.count(Count::NotifySent(kind));
        self.send_response(env, exchange, builder);
    }

    /// Keeps a response that was sent unencrypted.
    pub(super) fn keep_response(&mut self, datagram: Vec<u8>) {
        self.last_response = Some(datagram.into_boxed_slice());
        self.expected = self.expected.wrapping_add(1);
    }

    /// Sends the last response again, to where the request came from.
    pub(super) fn repeat_response(&mut self, env: &mut Env<'_>, path: Path) {
        let Some(response) = &self.last_response else {
            return env.drop(path.remote, DropCause::Retransmission);
        };
        let (since, times) = &mut self.repeats;
        if env.now.saturating_duration_since(*since) >= REPEAT_INTERVAL {
            (*since, *times) = (env.now, 0);
        }
        if *times >= MAX_REPEATS {
            return env.drop(path.remote, DropCause::Retransmission);
        }
        *times += 1;
        env.transmit(path, response);
        env.count(Count::ResponseRepeated);
    }

    fn sealed(
        &mut self,
        env: &mut Env<'_>,
        exchange: Exchange,
        response: bool,
        message_id: u32,
        builder: Builder,
    ) -> Result<Vec<u8>, crypto::Error> {
        let (initiator_spi, responder_spi) = self.spis();
        let header = Header {
            initiator_spi,
            responder_spi,
            next_payload: 0,
            exchange,
            from_initiator: self.initiator,
            response,
            message_id,
        };
        let limit = self.datagram_limit();
        let Some(keys) = &self.keys else {
            return Ok(builder.finish(header));
        };
        let protection = keys.protection(self.initiator);
        let random = &mut *env.core.random;
        let (datagrams, fragments) = seal(&protection, header, builder, limit, &mut self.next_iv, random)?;
        if fragments > 1 {
            env.count(Count::FragmentsSent(fragments));
        }
        Ok(datagrams)
    }

    /// A message as the peer would send it next, with these payloads: for fuzzing what lies behind the integrity check.
    pub fn forge(&self, exchange: Exchange, response: bool, first: u8, plaintext: &[u8]) -> Option<Vec<u8>> {
        let (initiator_spi, responder_spi) = self.spis();
        let message_id = match response {
            true => self.outstanding.as_ref()?.message_id,
            false => self.expected,
        };
        let header = Header {
            initiator_spi,
            responder_spi,
            next_payload: 0,
            exchange,
            from_initiator: !self.initiator,
            response,
            message_id,
        };
        let protection = self.keys.as_ref()?.protection(!self.initiator);
        let mut builder = Builder::new(protection.prefix_len());
        builder.chain(first, plaintext);
        let mut random = crypto::TestRandom::new(u64::from(message_id));
        let sealed = seal(&protection, header, builder, usize::MAX, &mut 0, &mut random);
        Some(sealed.ok()?.0)
    }

    fn datagram_limit(&self) -> usize {
        let (mtu, overhead) = match self.path.remote.is_ipv4() {
            true => (self.profile.fragment_mtu.ipv4, IPV4_OVERHEAD),
            false => (self.profile.fragment_mtu.ipv6, IPV6_OVERHEAD),
        };
        if !self.peer_fragments || mtu == 0 {
            return usize::MAX;
        }
        usize::from(mtu).saturating_sub(overhead)
    }

    /// The outstanding request got no answer in time: again, or the peer is dead.
    pub(super) fn retransmit(&mut self, env: &mut Env<'_>) {
        self.follow_data(env);
        let Some(outstanding) = &mut self.outstanding else {
            return;
        };
        let (policy, timing) = (outstanding.policy, &mut outstanding.timing);
        if timing.attempt < policy.max {
            timing.attempt += 1;
            if policy.exponential {
                timing.wait = timing.wait.saturating_mul(2);
            }
            timing.deadline = env.now + timing.wait;
            env.transmit(self.path, &outstanding.datagrams);
            let liveness = matches!(outstanding.pending, Pending::Liveness);
            env.count(if liveness {
                Count::LivenessSent
            } else {
                Count::Retransmitted
            });
            return;
        }
        let reason = match outstanding.pending {
            Pending::Liveness => {
                env.count(Count::LivenessTimeout);
                RemoveReason::Liveness
            }
            _ => RemoveReason::NoResponse,
        };
        self.give_up(env, reason, SetupFailure::NoResponse);
    }

    /// It cannot go on: whichever of the two reasons fits its state.
    pub(super) fn give_up(&mut self, env: &mut Env<'_>, closed: RemoveReason, failed: SetupFailure) {
        self.concede_ike_rekey(env);
        match self.state {
            State::InitSent(_) | State::AuthSent(_) | State::InitReplied(_) | State::AuthReceived(_) => {
                self.fail(env, failed, false);
            }
            State::Closing(reason) => self.close(env, reason, false),
            State::Established | State::Replaced { .. } => self.close(env, closed, false),
            State::Lingering | State::Dead => self.end(env, false),
        }
    }

    /// Forgets the outstanding request and gives back what it had reserved.
    pub(super) fn abandon_request(&mut self, env: &mut Env<'_>) {
        let Some(outstanding) = self.outstanding.take() else {
            return;
        };
        match outstanding.pending {
            Pending::CreateChild(offer) => env.sad.free_spi(offer.inbound_spi),
            Pending::RekeyIke(offer) => env.core.table.release(offer.id),
            _ => {}
        }
    }
}
