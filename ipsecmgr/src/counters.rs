//! Which counters an `ipsecmgr` moves, and when.

use ikev2::{
    AuthMethod, ChildExchange, ChildFailure, Count, DecodeError, DropCause, Event, RemoveReason,
    SetupFailure, Totals,
};
use sadb::IkeStoreUsage;
use telemetry::counters::{
    ikev2 as ike, ikev2_auth as auth, ikev2_decode as decode, ikev2_notify as notify, recovery,
};
use telemetry::{Counter, Counters};

use crate::notify::{received, sent};
use crate::sessions::Levels;

/// Counts what happened.
pub(crate) fn event(counters: &Counters, event: &Event) {
    match event {
        Event::Attempt { initiator, .. } => {
            counters.inc(ike::ATTEMPTS);
            counters.inc(if *initiator {
                ike::ATTEMPTS_INIT
            } else {
                ike::ATTEMPTS_RESP
            });
        }
        Event::Established(established) => {
            counters.inc(ike::TOTAL_SAS);
            counters.inc(if established.initiator {
                ike::TOTAL_SAS_INIT
            } else {
                ike::TOTAL_SAS_RESP
            });
        }
        Event::SetupFailed {
            initiator, reason, ..
        } => setup_failed(counters, *initiator, reason),
        Event::Deleted { reason, .. } => {
            counters.inc(ike::IKE_SA_DELETES);
            match reason {
                RemoveReason::Liveness => counters.inc(ike::DPD_DISCONNECT),
                RemoveReason::NoResponse => counters.inc(ike::EXP_RETRANSMISSION),
                _ => {}
            }
        }
        Event::ChildFailed { reason, .. } => {
            counters.inc(ike::CHILD_CREATE_FAIL);
            if matches!(reason, ChildFailure::BadAnswer(_)) {
                counters.inc(ike::BAD_RESPONSE);
            }
        }
        Event::ChildCreated { .. } => counters.inc(ike::CHILD_CREATED),
        Event::Dropped { cause, .. } => dropped(counters, *cause),
        Event::Undecodable { error, .. } => undecodable(counters, *error),
        Event::Moved { .. } => counters.inc(ike::NAT_UPDATE_CONTROL),
        Event::Count(count) => counted(counters, *count),
        _ => {}
    }
}

/// Sets the gauges of what a later life would find.
pub(crate) fn records(counters: &Counters, usage: &IkeStoreUsage) {
    counters.set(recovery::RECORDS, usage.records as u64);
    counters.set(recovery::RECORD_BYTES, usage.bytes as u64);
}

/// Sets the gauges.
pub(crate) fn levels(counters: &Counters, totals: &Totals, kinds: Levels) {
    for (gauge, level) in [
        (ike::CURRENT_SAS, totals.ike_sas.into()),
        (ike::CURRENT_SAS_INIT, totals.initiated.into()),
        (
            ike::CURRENT_SAS_RESP,
            totals.ike_sas.saturating_sub(totals.initiated).into(),
        ),
        (ike::CURRENT_IKEV2_SAS, totals.ike_sas.into()),
        (ike::CURRENT_HALF_OPEN, totals.half_open.into()),
        (ike::CURRENT_CONNECTING, totals.connecting.into()),
        (ike::CURRENT_ESTABLISHED, totals.established.into()),
        (ike::CURRENT_CHILD_SAS, totals.children.into()),
        (ike::WSG_CHILD_SAS, totals.children.into()),
        (ike::CURRENT_TUNNELS, kinds.up),
        (ike::ESTABLISHED_TUNNELS, kinds.up),
        (auth::LOCAL_CERT_CURRENT, kinds.signed),
        (auth::REMOTE_CERT_CURRENT, kinds.certificates),
        (auth::MSCHAPV2_CURRENT, kinds.mschapv2),
    ] {
        counters.set(gauge, level);
    }
}

fn setup_failed(counters: &Counters, initiator: bool, reason: &SetupFailure) {
    counters.inc(ike::INIT_FAIL);
    counters.inc(ike::IKE_FAILURES);
    if !initiator {
        counters.inc(ike::INIT_FAIL_RESP);
    }
    match reason {
        SetupFailure::NoResponse => {
            counters.inc(ike::INIT_FAIL_NO_RESP);
            counters.inc(ike::EXP_RETRANSMISSION);
        }
        SetupFailure::Timeout { half_open: true } => counters.inc(ike::EXP_HALF_OPEN_NO_XCHG),
        SetupFailure::Timeout { half_open: false } => counters.inc(ike::EXP_SETUP),
        SetupFailure::BadAnswer(_) => counters.inc(ike::BAD_RESPONSE),
        SetupFailure::Crypto(_) | SetupFailure::LocalAuthentication(_) | SetupFailure::Unavailable(_) => {
            counters.inc(ike::SA_CREATE_FAIL);
        }
        _ => {}
    }
}

fn dropped(counters: &Counters, cause: DropCause) {
    let counter = match cause {
        DropCause::Undecodable => decode::PACKET,
        DropCause::ResponseNoSa => {
            counters.inc(ike::UNKNOWN_SPI);
            ike::DROP_RSP_NO_SA
        }
        DropCause::RequestNoSa => {
            counters.inc(ike::UNKNOWN_SPI);
            ike::DROP_REQ_NO_SA
        }
        DropCause::UnexpectedResponse => ike::DROP_INVALID_RSP,
        DropCause::MessageId => ike::DROP_MESSAGE_ID,
        DropCause::StaleMessageId => ike::STALE_MESSAGE_ID,
        DropCause::RequestNoKey => ike::DROP_REQ_NO_KEY,
        DropCause::ResponseNoKey => ike::DROP_RSP_NO_KEY,
        DropCause::UnexpectedExchange => ike::DROP_UNEXPECTED_PAYLOAD,
        DropCause::SetupMemory => ike::DROP_QUEUE_SIZE,
        DropCause::Retransmission => ike::DROP_RETRANSMISSION,
        DropCause::NoProfile | DropCause::ForeignSlot | DropCause::Parked => ike::DROP_SA_ERROR,
        DropCause::Congestion => ike::CONGESTION_DROP,
        DropCause::Version1 => ike::DROP_MAJOR_VERSION,
        DropCause::Fragment => ike::FRAGMENTS_DROPPED,
        DropCause::Keepalive => ike::KEEPALIVE_RECV,
    };
    counters.inc(counter);
}

fn undecodable(counters: &Counters, error: DecodeError) {
    let counter = match error {
        DecodeError::Header => decode::HEADER,
        DecodeError::HeaderInitiatorSpi => decode::HEADER_INITIATOR_SPI,
        DecodeError::HeaderResponderSpi => decode::HEADER_RESPONDER_SPI,
        DecodeError::HeaderMajorVersion(_) => {
            counters.inc(ike::DROP_MAJOR_VERSION);
            decode::HEADER_MAJOR_VERSION
        }
        DecodeError::HeaderExchangeType(_) => decode::HEADER_EXCHANGE_TYPE,
        DecodeError::HeaderFlags => decode::HEADER_FLAGS,
        DecodeError::HeaderLength => decode::HEADER_LENGTH,
        DecodeError::Syntax => decode::SYNTAX,
        DecodeError::PayloadLength => decode::PAYLOAD_LENGTH,
        DecodeError::CriticalPayload(_) => {
            counters.inc(ike::DROP_CRITICAL);
            decode::CRITICAL_PAYLOAD
        }
        DecodeError::TooManyPayloads => decode::TOO_MANY_PAYLOADS,
        DecodeError::SaLength => decode::SA_LENGTH,
        DecodeError::ProposalHeader => decode::PROPOSAL_HEADER,
        DecodeError::ProposalLength => decode::PROPOSAL_LENGTH,
        DecodeError::ProposalNumber => decode::PROPOSAL_NUMBER,
        DecodeError::ProposalProtocol => decode::PROPOSAL_PROTOCOL,
        DecodeError::TooManyProposals => decode::TOO_MANY_PROPOSALS,
        DecodeError::TooManyTransforms => decode::TOO_MANY_TRANSFORMS,
        DecodeError::TransformHeader => decode::TRANSFORM_HEADER,
        DecodeError::TransformLength => decode::TRANSFORM_LENGTH,
        DecodeError::KeLength => decode::KE_LENGTH,
        DecodeError::KeGroupLength => decode::KE_GROUP_LENGTH,
        DecodeError::IdLength => decode::ID_LENGTH,
        DecodeError::IdType => decode::ID_TYPE,
        DecodeError::AuthLength => decode::AUTH_LENGTH,
        DecodeError::NonceLength => decode::NONCE_LENGTH,
        DecodeError::NotifyLength => decode::NOTIFY_LENGTH,
        DecodeError::NotifySpiLength => decode::NOTIFY_SPI_LENGTH,
        DecodeError::NotifyProtocol => decode::NOTIFY_PROTOCOL,
        DecodeError::NotifyCookie => decode::NOTIFY_COOKIE,
        DecodeError::NotifyRekey => decode::NOTIFY_REKEY,
        DecodeError::EapLength => decode::EAP_LENGTH,
        DecodeError::CpLength => decode::CP_LENGTH,
        DecodeError::CpAttributeLength => decode::CP_ATTRIBUTE_LENGTH,
        DecodeError::TsLength => decode::TS_LENGTH,
        DecodeError::TsSyntax => decode::TS_SYNTAX,
        DecodeError::TooManyTs => decode::TOO_MANY_TS,
        DecodeError::CertLength => decode::CERT_UNSUPPORTED,
        DecodeError::EncryptedLength => {
            counters.inc(decode::DECRYPT);
            decode::ENCRYPTED_LENGTH
        }
        DecodeError::Integrity => {
            counters.inc(decode::DECRYPT);
            decode::DECRYPT_INTEGRITY
        }
        DecodeError::Padding => {
            counters.inc(decode::DECRYPT);
            decode::DECRYPT_PADDING
        }
        _ => decode::UNKNOWN,
    };
    counters.inc(counter);
}

fn counted(counters: &Counters, count: Count) {
    let counter = match count {
        Count::NotifySent(kind) => return sent(kind).into_iter().for_each(|counter| counters.inc(counter)),
        Count::NotifyReceived(kind) => {
            return received(kind)
                .into_iter()
                .flatten()
                .for_each(|counter| counters.inc(counter));
        }
        Count::UnknownUnanswered => notify::WITHHELD_INVALID_IKE_SPI,
        Count::Retransmitted => ike::TX_RETRANSMITTED,
        Count::ResponseRepeated => ike::TX_REPEATED,
        Count::CookieMatched => notify::COOKIE_MATCH,
        Count::CookieMismatched => {
            counters.inc(ike::INVALID_COOKIE);
            notify::COOKIE_MISMATCH
        }
        Count::LivenessSent => ike::DPD_SENT,
        Count::LivenessAnswered => ike::DPD_REPLY_RECV,
        Count::LivenessReceived => ike::DPD_RECV,
        Count::LivenessReplied => ike::DPD_REPLY_SENT,
        Count::LivenessTimeout => ike::DPD_TIMEOUT,
        Count::IkeDeleteSent => ike::IKE_DELETE_REQ_SENT,
        Count::IkeDeleteAnswered => ike::IKE_DELETE_RSP_RECV,
        Count::IkeDeleteReceived => ike::IKE_DELETE_REQ_RECV,
        Count::IkeDeleteReplied => ike::IKE_DELETE_RSP_SENT,
        Count::ChildDeleteSent(spis) => {
            counters.inc(ike::CHILD_DELETE_SENT);
            if spis == 1 {
                ike::CHILD_DELETE_SPI_SENT
            } else {
                ike::CHILD_DELETE_SPIS_SENT
            }
        }
        Count::ChildDeleteReceived(spis) => {
            counters.inc(ike::CHILD_DELETE_RECV);
            if spis == 1 {
                ike::CHILD_DELETE_SPI_RECV
            } else {
                ike::CHILD_DELETE_SPIS_RECV
            }
        }
        Count::ChildRequestSent(exchange) => exchanged(
            exchange,
            ike::CHILD_REQ_SENT,
            ike::REKEY_CHILD_REQ_SENT,
            ike::REKEY_IKE_REQ_SENT,
        ),
        Count::ChildRequestReceived(exchange) => exchanged(
            exchange,
            ike::CHILD_REQ_RECV,
            ike::REKEY_CHILD_REQ_RECV,
            ike::REKEY_IKE_REQ_RECV,
        ),
        Count::ChildResponseSent(exchange) => exchanged(
            exchange,
            ike::CHILD_RSP_SENT,
            ike::REKEY_CHILD_RSP_SENT,
            ike::REKEY_IKE_RSP_SENT,
        ),
        Count::ChildResponseReceived(exchange) => exchanged(
            exchange,
            ike::CHILD_RSP_RECV,
            ike::REKEY_CHILD_RSP_RECV,
            ike::REKEY_IKE_RSP_RECV,
        ),
        Count::Collision(ChildExchange::RekeyIke) | Count::RekeyIgnored(ChildExchange::RekeyIke) => {
            ike::REKEY_IKE_IGNORED
        }
        Count::Collision(_) | Count::RekeyIgnored(_) => ike::REKEY_CHILD_IGNORED,
        Count::IkeSoftLifetime => ike::EXP_LIFE_SOFT,
        Count::IkeHardLifetime => ike::EXP_LIFE_HARD,
        Count::ChildSoftLifetime => ike::EXP_CHILD_LIFE_SOFT,
        Count::ChildHardLifetime => ike::EXP_CHILD_LIFE_HARD,
        Count::AuthSucceeded(method) => {
            if let AuthMethod::Signature(_) = method {
                counters.inc(auth::REMOTE_CERT_ATTEMPT);
                counters.inc(auth::REMOTE_CERT_SUCCESS);
            }
            auth::PHASE1_SUCCESS
        }
        Count::AuthFailed(method) => {
            match method {
                AuthMethod::Psk => counters.inc(auth::FAIL_HASH),
                AuthMethod::Signature(_) => {
                    counters.inc(auth::REMOTE_CERT_ATTEMPT);
                    counters.inc(auth::REMOTE_CERT_FAIL);
                    counters.inc(auth::FAIL_SIGNATURE);
                }
                AuthMethod::Eap => counters.inc(auth::FAIL_MSK_MISSING),
            }
            auth::PHASE1_FAIL
        }
        Count::AuthRequestReceived => auth::PHASE1_REQ,
        Count::AuthResponseSent(refuses) => {
            counters.inc(auth::PHASE1_RSP);
            if refuses {
                counters.inc(auth::RSP_REJECT);
            }
            auth::RSP_SENT
        }
        Count::CertificateRequestSent => auth::CERTREQ_SENT,
        Count::CertificateRequestReceived => auth::CERTREQ_RECV,
        Count::CertificateSent(certificates) => return counters.add(auth::CERT_SENT, certificates.into()),
        Count::CertificateReceived(certificates) => {
            return counters.add(auth::CERT_RECV, certificates.into());
        }
        Count::KeepaliveSent => ike::KEEPALIVE_SENT,
        Count::FragmentsSent(fragments) => {
            counters.add(ike::TX_FRAGMENTS, fragments.into());
            ike::TX_FRAGMENTED
        }
        Count::FragmentReceived => ike::RX_FRAGMENTS,
        Count::Reassembled => ike::RX_FRAGMENTED,
        Count::PerResourceCreated(true) => ike::PER_RESOURCE_INITIATED,
        Count::PerResourceCreated(false) => ike::PER_RESOURCE_ACCEPTED,
        Count::PerResourceRefused(true) => ike::PER_RESOURCE_MAX_RECV,
        Count::PerResourceRefused(false) => ike::PER_RESOURCE_MAX_SENT,
        _ => return,
    };
    counters.inc(counter);
}

fn exchanged(exchange: ChildExchange, create: Counter, rekey_child: Counter, rekey_ike: Counter) -> Counter {
    match exchange {
        ChildExchange::Create => create,
        ChildExchange::RekeyChild => rekey_child,
        ChildExchange::RekeyIke => rekey_ike,
    }
}
