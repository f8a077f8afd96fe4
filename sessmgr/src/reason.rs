//! What disconnect reasons count as, and how RADIUS calls them.

use services::DisconnectReason;
use telemetry::Counter;
use telemetry::counters::wsg;

/// Acct-Terminate-Cause (RFC 2866 section 5.10).
pub fn terminate_cause(reason: DisconnectReason) -> u32 {
    use DisconnectReason as Reason;
    match reason {
        Reason::Remote => USER_REQUEST,
        Reason::Liveness | Reason::NoResponse => LOST_CARRIER,
        Reason::IdleTimeout => IDLE_TIMEOUT,
        Reason::AbsoluteTimeout | Reason::Lifetime => SESSION_TIMEOUT,
        Reason::Admin => ADMIN_RESET,
        Reason::Local | Reason::Duplicate => NAS_REQUEST,
        Reason::NoResource => SERVICE_UNAVAILABLE,
        Reason::WsgAuthFailed | Reason::PolicyMismatch => USER_ERROR,
        Reason::SetupTimeout | Reason::Internal | Reason::IpsecmgrDeath | Reason::Rekeying => NAS_ERROR,
    }
}

/// What an end counts as, besides the total.
pub fn counters(reason: DisconnectReason) -> [Counter; 2] {
    use DisconnectReason as Reason;
    match reason {
        Reason::Remote => [wsg::DISCONNECTED_REMOTELY, wsg::DISC_REMOTE_IPSEC],
        Reason::Admin => [wsg::DISCONNECTED_LOCALLY, wsg::DISC_ADMIN],
        Reason::NoResource => [wsg::DISCONNECTED_LOCALLY, wsg::DISC_NO_RESOURCE],
        Reason::IdleTimeout => [wsg::DISCONNECTED_LOCALLY, wsg::DISC_IDLE_TIMEOUT],
        Reason::AbsoluteTimeout => [wsg::DISCONNECTED_LOCALLY, wsg::DISC_ABSOLUTE_TIMEOUT],
        Reason::SetupTimeout => [wsg::DISCONNECTED_LOCALLY, wsg::DISC_SETUP_TIMEOUT],
        Reason::WsgAuthFailed => [wsg::DISCONNECTED_LOCALLY, wsg::DISC_AUTH_FAILURE],
        Reason::Duplicate => [wsg::DISCONNECTED_LOCALLY, wsg::DISC_DUPLICATE],
        Reason::Local
        | Reason::Internal
        | Reason::IpsecmgrDeath
        | Reason::Rekeying
        | Reason::PolicyMismatch
        | Reason::Lifetime
        | Reason::Liveness
        | Reason::NoResponse => [wsg::DISCONNECTED_LOCALLY, wsg::DISC_MISC],
    }
}

const USER_REQUEST: u32 = 1;
const LOST_CARRIER: u32 = 2;
const IDLE_TIMEOUT: u32 = 4;
const SESSION_TIMEOUT: u32 = 5;
const ADMIN_RESET: u32 = 6;
const NAS_ERROR: u32 = 9;
const NAS_REQUEST: u32 = 10;
const SERVICE_UNAVAILABLE: u32 = 15;
const USER_ERROR: u32 = 17;
