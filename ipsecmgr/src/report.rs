//! What an operator is told: events of the table, and log lines that say exactly why a peer was refused.

use std::sync::Arc;

use ikev2::{
    ChildFailure, Identity, Mismatch, Path, Profile, Protocol, RemoveReason, SetupFailure, Totals,
    TrafficSelector,
};
use services::DisconnectReason;
use services::wsg::Wsg;
use telemetry::events::{
    CookieChallengeStarted, CookieChallengeStopped, IkeAuthenticationFailed, IpsecTunnelDown, IpsecTunnelUp,
    NoProposalChosen, PeerDead, TsUnacceptable, emit,
};

use crate::sessions::Session;

/// A tunnel came up, or went down for a reason.
pub(crate) fn tunnel(wsg: &Wsg, session: &Session, down: Option<DisconnectReason>) {
    let peer = session.peer_text();
    let (context, policy) = (wsg.context.as_str(), wsg.template.as_str());
    let (local, remote) = (session.path.local.ip(), session.path.remote.ip());
    match down {
        None => emit(&IpsecTunnelUp {
            context,
            policy,
            peer: &peer,
            local,
            remote,
        }),
        Some(reason) => emit(&IpsecTunnelDown {
            context,
            policy,
            peer: &peer,
            local,
            remote,
            reason: reason.text(),
        }),
    }
}

/// An IKE SA was never established.
pub(crate) fn setup_failed(
    wsg: Option<&Arc<Wsg>>,
    profile: &Profile,
    path: Path,
    peer: Option<&Identity>,
    failure: &SetupFailure,
) {
    let context = wsg.map_or("", |wsg| wsg.context.as_str());
    let peer = peer.map_or_else(|| path.remote.ip().to_string(), Identity::to_string);
    let remote = path.remote.ip();
    match failure {
        SetupFailure::PeerAuthentication { .. } | SetupFailure::AuthenticationPolicy(_) => {
            let reason = failure.to_string();
            emit(&IkeAuthenticationFailed {
                context,
                policy: &profile.name,
                peer: &peer,
                remote,
                reason: &reason,
            });
        }
        // An event of its own has said so already.
        SetupFailure::NoProposal(_) => {}
        SetupFailure::LocalAuthentication(_) | SetupFailure::Unavailable(_) | SetupFailure::Crypto(_) => {
            tracing::error!(
                "context {context} {}: set-up with {peer} at {remote} failed: {failure}",
                profile.name
            );
        }
        // Scanners and floods end here, so it is no more than information.
        _ => tracing::info!(
            "context {context} {}: set-up with {peer} at {remote} failed: {failure}",
            profile.name
        ),
    }
}

/// No IKE proposal of a peer is acceptable.
pub(crate) fn no_proposal(wsg: Option<&Arc<Wsg>>, profile: &Profile, path: Path, mismatch: &Mismatch) {
    differs(
        wsg.map_or("", |wsg| wsg.context.as_str()),
        &profile.name,
        path,
        mismatch,
    );
}

/// A child SA was not created.
pub(crate) fn child_failed(wsg: &Wsg, session: &Session, failure: &ChildFailure) {
    let (context, policy, remote) = (
        wsg.context.as_str(),
        wsg.template.as_str(),
        session.path.remote.ip(),
    );
    match failure {
        ChildFailure::NoProposal(mismatch) => differs(context, policy, session.path, mismatch),
        ChildFailure::Selectors { initiator, responder } => {
            let offered = format!("{} === {}", list(initiator), list(responder));
            let accepted = wsg
                .profile
                .children
                .iter()
                .map(|child| format!("{:?} === {:?}", child.remote, child.local))
                .collect::<Vec<_>>();
            emit(&TsUnacceptable {
                context,
                policy,
                remote,
                offered: &offered,
                accepted: &accepted.join(" or "),
            });
        }
        // RFC 7296 2.25: two wishes met, which both sides sort out by themselves; a peer could also fill the log with them.
        ChildFailure::Temporary => tracing::debug!(
            "context {context} {policy}: no child SA for {} at {remote} yet",
            session.peer_text()
        ),
        _ => tracing::warn!(
            "context {context} {policy}: no child SA for {} at {remote}: {failure}",
            session.peer_text()
        ),
    }
}

/// A peer does not answer liveness checks.
pub(crate) fn peer_dead(context: &str, peer: &Identity, path: Path) {
    emit(&PeerDead {
        context,
        peer: &peer.to_string(),
        remote: path.remote.ip(),
    });
}

/// A peer called from an address that the template does not accept.
pub(crate) fn outside_peer_networks(wsg: &Wsg, path: Path) {
    let remote = path.remote.ip();
    emit(&IkeAuthenticationFailed {
        context: &wsg.context,
        policy: &wsg.template,
        peer: &remote.to_string(),
        remote,
        reason: "its address is in no 'peer network' of the crypto template",
    });
}

/// Cookies began, or ceased, to be asked for.
pub(crate) fn cookies(worker: u32, totals: &Totals) {
    let half_open = totals.half_open.into();
    if totals.cookies_active {
        emit(&CookieChallengeStarted { worker, half_open });
    } else {
        emit(&CookieChallengeStopped { worker, half_open });
    }
}

/// Why a session ended, when its IKE SA ended so.
pub(crate) fn reason(reason: RemoveReason) -> DisconnectReason {
    match reason {
        RemoveReason::Peer => DisconnectReason::Remote,
        RemoveReason::Local => DisconnectReason::Admin,
        RemoveReason::Lifetime => DisconnectReason::Lifetime,
        RemoveReason::NoResponse => DisconnectReason::NoResponse,
        RemoveReason::Liveness => DisconnectReason::Liveness,
        RemoveReason::InitialContact => DisconnectReason::Duplicate,
        RemoveReason::Rekeyed | RemoveReason::Redundant | RemoveReason::Empty | RemoveReason::Protocol => {
            DisconnectReason::Local
        }
    }
}

/// Why a session ended before it was established.
pub(crate) fn setup_reason(failure: &SetupFailure) -> DisconnectReason {
    match failure {
        SetupFailure::NoResponse => DisconnectReason::NoResponse,
        SetupFailure::Timeout { .. } => DisconnectReason::SetupTimeout,
        SetupFailure::Refused(_) => DisconnectReason::Remote,
        SetupFailure::PeerAuthentication { .. } | SetupFailure::AuthenticationPolicy(_) => {
            DisconnectReason::WsgAuthFailed
        }
        SetupFailure::NotAdmitted(_) => DisconnectReason::NoResource,
        SetupFailure::NoProposal(_) => DisconnectReason::PolicyMismatch,
        SetupFailure::LocalAuthentication(_) | SetupFailure::Unavailable(_) | SetupFailure::Crypto(_) => {
            DisconnectReason::Internal
        }
        _ => DisconnectReason::Local,
    }
}

/// One event for each transform type that differs.
fn differs(context: &str, policy: &str, path: Path, mismatch: &Mismatch) {
    let protocol = match mismatch.protocol {
        Protocol::Ike => "IKE",
        Protocol::Ah => "AH",
        Protocol::Esp => "ESP",
    };
    for difference in &mismatch.differences {
        emit(&NoProposalChosen {
            context,
            policy,
            remote: path.remote.ip(),
            protocol,
            transform: &difference.transform.to_string(),
            offered: &difference.offered,
            accepted: &difference.configured,
        });
    }
}

fn list(selectors: &[TrafficSelector]) -> String {
    selectors
        .iter()
        .map(TrafficSelector::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
