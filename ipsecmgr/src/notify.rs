//! Notify types and the counters that count them.

use ikev2::NotifyKind;
use telemetry::Counter;
use telemetry::counters::ikev2_notify as counter;

/// The counter of a notify that went out, where there is one.
pub(crate) fn sent(kind: NotifyKind) -> Option<Counter> {
    Some(match kind {
        NotifyKind::INVALID_IKE_SPI => counter::SENT_INVALID_IKE_SPI,
        NotifyKind::INVALID_KE_PAYLOAD => counter::SENT_INVALID_KE,
        NotifyKind::INVALID_MAJOR_VERSION => counter::SENT_MAJOR_VERSION,
        NotifyKind::INVALID_MESSAGE_ID => counter::SENT_MESSAGE_ID,
        NotifyKind::INVALID_SYNTAX => counter::SENT_SYNTAX,
        NotifyKind::NO_ADDITIONAL_SAS => counter::SENT_NO_ADDITIONAL,
        NotifyKind::NO_PROPOSAL_CHOSEN => counter::SENT_NO_PROPOSAL,
        NotifyKind::TS_UNACCEPTABLE => counter::SENT_TS_UNACCEPTABLE,
        NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD => counter::SENT_CRITICAL,
        NotifyKind::INTERNAL_ADDRESS_FAILURE => counter::SENT_INTERNAL_FAIL,
        NotifyKind::IKEV2_FRAGMENTATION_SUPPORTED => counter::SENT_FRAGMENTATION,
        NotifyKind::COOKIE => counter::COOKIE_SENT,
        _ => return None,
    })
}

/// The counters of a notify that came in: that of its type, and for errors that of the payload.
pub(crate) fn received(kind: NotifyKind) -> [Option<Counter>; 2] {
    [Some(message(kind)), payload(kind)]
}

fn payload(kind: NotifyKind) -> Option<Counter> {
    Some(match kind {
        NotifyKind::INVALID_KE_PAYLOAD => counter::RECV_INVALID_KE,
        NotifyKind::INVALID_MAJOR_VERSION => counter::RECV_MAJOR_VERSION,
        NotifyKind::INVALID_MESSAGE_ID => counter::RECV_MESSAGE_ID,
        NotifyKind::INVALID_SYNTAX => counter::RECV_SYNTAX,
        NotifyKind::NO_ADDITIONAL_SAS => counter::RECV_NO_ADDITIONAL,
        NotifyKind::NO_PROPOSAL_CHOSEN => counter::RECV_NO_PROPOSAL,
        NotifyKind::TS_UNACCEPTABLE => counter::RECV_TS_UNACCEPTABLE,
        NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD => counter::RECV_CRITICAL,
        NotifyKind::IKEV2_FRAGMENTATION_SUPPORTED => counter::RECV_FRAGMENTATION,
        NotifyKind::COOKIE => counter::COOKIE_RECV,
        _ => return None,
    })
}

fn message(kind: NotifyKind) -> Counter {
    match kind {
        NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD => counter::MSG_CRITICAL,
        NotifyKind::INVALID_IKE_SPI => counter::MSG_INVALID_IKE_SPI,
        NotifyKind::INVALID_MAJOR_VERSION => counter::MSG_MAJOR_VERSION,
        NotifyKind::INVALID_SYNTAX => counter::MSG_SYNTAX,
        NotifyKind::INVALID_MESSAGE_ID => counter::MSG_MESSAGE_ID,
        NotifyKind::INVALID_SPI => counter::MSG_INVALID_SPI,
        NotifyKind::NO_PROPOSAL_CHOSEN => counter::MSG_NO_PROPOSAL,
        NotifyKind::INVALID_KE_PAYLOAD => counter::MSG_INVALID_KE,
        NotifyKind::AUTHENTICATION_FAILED => counter::MSG_AUTH_FAILED,
        NotifyKind::SINGLE_PAIR_REQUIRED => counter::MSG_SINGLE_PAIR,
        NotifyKind::NO_ADDITIONAL_SAS => counter::MSG_NO_ADDITIONAL,
        NotifyKind::INTERNAL_ADDRESS_FAILURE => counter::MSG_ADDRESS_FAILURE,
        NotifyKind::FAILED_CP_REQUIRED => counter::MSG_FAILED_CP,
        NotifyKind::TS_UNACCEPTABLE => counter::MSG_TS_UNACCEPTABLE,
        NotifyKind::INVALID_SELECTORS => counter::MSG_INVALID_SELECTORS,
        NotifyKind::INITIAL_CONTACT => counter::MSG_INITIAL_CONTACT,
        NotifyKind::SET_WINDOW_SIZE => counter::MSG_WINDOW_SIZE,
        NotifyKind::ADDITIONAL_TS_POSSIBLE => counter::MSG_ADDITIONAL_TS,
        NotifyKind::IPCOMP_SUPPORTED => counter::MSG_IPCOMP,
        NotifyKind::NAT_DETECTION_SOURCE_IP => counter::MSG_NAT_SOURCE,
        NotifyKind::NAT_DETECTION_DESTINATION_IP => counter::MSG_NAT_DESTINATION,
        NotifyKind::COOKIE => counter::MSG_COOKIE,
        NotifyKind::USE_TRANSPORT_MODE => counter::MSG_TRANSPORT_MODE,
        NotifyKind::HTTP_CERT_LOOKUP_SUPPORTED => counter::MSG_HTTP_CERT,
        NotifyKind::REKEY_SA => counter::MSG_REKEY_SA,
        NotifyKind::ESP_TFC_PADDING_NOT_SUPPORTED => counter::MSG_TFC_PADDING,
        NotifyKind::NON_FIRST_FRAGMENTS_ALSO => counter::MSG_NON_FIRST_FRAGMENTS,
        NotifyKind::MULTIPLE_AUTH_SUPPORTED => counter::MSG_MULTIPLE_AUTH,
        NotifyKind::ANOTHER_AUTH_FOLLOWS => counter::MSG_ANOTHER_AUTH,
        NotifyKind::MOBIKE_SUPPORTED => counter::MSG_MOBIKE,
        NotifyKind::ADDITIONAL_IP4_ADDRESS => counter::MSG_ADDITIONAL_IP4,
        NotifyKind::ADDITIONAL_IP6_ADDRESS => counter::MSG_ADDITIONAL_IP6,
        NotifyKind::NO_ADDITIONAL_ADDRESSES => counter::MSG_NO_ADDRESSES,
        NotifyKind::UPDATE_SA_ADDRESSES => counter::MSG_UPDATE_ADDRESSES,
        NotifyKind::COOKIE2 => counter::MSG_COOKIE2,
        NotifyKind::NO_NATS_ALLOWED => counter::MSG_NO_NATS,
        _ => counter::MSG_OTHER,
    }
}
