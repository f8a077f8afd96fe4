//! Answers outside of every IKE SA: to another major version, and to requests for IKE SAs that we do not know (RFC 7296 1.5, 2.5, 2.21.4).
//!
//! Anybody can cause them, so they are no longer than what they answer, change nothing, and the second kind is limited in number.

use std::time::{Duration, Instant};

use crate::env::{Env, stated_length};
use crate::event::{Count, DropCause, Event};
use crate::message::{Builder, DecodeError, Exchange, HEADER_LEN, Header, NotifyKind};
use crate::output::Path;

const SECOND: Duration = Duration::from_secs(1);

/// How many answers went out in the present second.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    began: Option<Instant>,
    used: u32,
}

impl Limit {
    /// True if one more of `most` in a second may go out now.
    fn admits(&mut self, now: Instant, most: u32) -> bool {
        let over = |began: Instant| now.saturating_duration_since(began) >= SECOND;
        if self.began.is_none_or(over) {
            (self.began, self.used) = (Some(now), 0);
        }
        let may = self.used < most;
        self.used += u32::from(may);
        may
    }
}

/// A request for an IKE SA that was lost, perhaps with an earlier life of ours: a hint for the peer to look whether we still know it.
/// Never for a response, and not at addresses where we serve nobody.
pub(crate) fn on_unknown_ike_sa(env: &mut Env<'_>, header: &Header, path: Path) {
    if header.response || !env.core.profiles.contains_key(&path.local.ip()) {
        return;
    }
    if !env
        .core
        .unknown_answers
        .admits(env.now, env.core.config.max_unknown_answers)
    {
        return env.count(Count::UnknownUnanswered);
    }
    // RFC 7296 1.5: SPIs, Message ID and exchange type are those of the request.
    answer(
        env,
        path,
        NotifyKind::INVALID_IKE_SPI,
        Header {
            next_payload: 0,
            from_initiator: !header.from_initiator,
            response: true,
            ..*header
        },
    );
}

/// A message that is not even addressed. Only another major version may be answered (RFC 7296 2.5).
pub(crate) fn on_bad_header(env: &mut Env<'_>, path: Path, datagram: &[u8], error: DecodeError) {
    let version = match error {
        DecodeError::HeaderMajorVersion(version) => version,
        _ => return env.undecodable(path.remote, error),
    };
    if version < 2 {
        env.event(Event::Undecodable {
            remote: path.remote,
            error,
        });
        return env.drop(path.remote, DropCause::Version1);
    }
    env.undecodable(path.remote, error);
    let may = env
        .core
        .profiles
        .get(&path.local.ip())
        .is_some_and(|profile| profile.notifies.invalid_major_version);
    let Some(front) = datagram.first_chunk::<HEADER_LEN>() else {
        return;
    };
    let is_response = front[19] & 0x20 != 0;
    // What does not even state its length is no IKE of any version, and is not answered.
    if !may || is_response || stated_length(datagram) != Some(datagram.len()) {
        return;
    }
    let field = |at: usize| {
        let octets = front.get(at..).and_then(|rest| rest.first_chunk::<8>());
        u64::from_be_bytes(octets.copied().unwrap_or_default())
    };
    answer(
        env,
        path,
        NotifyKind::INVALID_MAJOR_VERSION,
        Header {
            initiator_spi: field(0),
            responder_spi: field(8),
            next_payload: 0,
            exchange: Exchange::Informational,
            from_initiator: false,
            response: true,
            message_id: 0,
        },
    );
}

fn answer(env: &mut Env<'_>, path: Path, kind: NotifyKind, header: Header) {
    let mut builder = Builder::new(HEADER_LEN);
    builder.notify(kind, &[]);
    let response = builder.finish(header);
    env.count(Count::NotifySent(kind));
    env.transmit(path, &response);
}
