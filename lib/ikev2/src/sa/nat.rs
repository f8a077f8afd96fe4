//! NAT detection (RFC 7296 2.23).

use std::net::{IpAddr, SocketAddr};

use crypto::hash::sha1;

use super::Nat;
use crate::env::Env;
use crate::message::{Builder, NotifyKind, Payloads};
use crate::output::Path;
use crate::profile::Profile;

/// Appends both NAT_DETECTION notifies. With [`Profile::force_encapsulation`] the source is a lie, so that the peer sees a
/// NAT.
pub(super) fn announce(
    env: &mut Env<'_>,
    builder: &mut Builder,
    profile: &Profile,
    path: Path,
    spis: (u64, u64),
) {
    let source = if profile.force_encapsulation {
        env.random().array()
    } else {
        hash(spis, path.local)
    };
    builder.notify(NotifyKind::NAT_DETECTION_SOURCE_IP, &source);
    builder.notify(NotifyKind::NAT_DETECTION_DESTINATION_IP, &hash(spis, path.remote));
}

/// Who is behind a NAT, by the peer's notifies; `None` if it sent none. The peer may list several sources.
pub(super) fn detect(
    payloads: &Payloads<'_>,
    profile: &Profile,
    path: Path,
    spis: (u64, u64),
) -> Option<Nat> {
    let of = |kind| payloads.notifies.iter().filter(move |notify| notify.kind == kind);
    of(NotifyKind::NAT_DETECTION_SOURCE_IP).next()?;
    let destination = of(NotifyKind::NAT_DETECTION_DESTINATION_IP).next()?;
    let source = hash(spis, path.remote);
    Some(Nat {
        local: profile.force_encapsulation || destination.data != hash(spis, path.local),
        remote: of(NotifyKind::NAT_DETECTION_SOURCE_IP).all(|notify| notify.data != source),
    })
}

fn hash((initiator_spi, responder_spi): (u64, u64), end: SocketAddr) -> [u8; 20] {
    let (v4, v6);
    let address: &[u8] = match end.ip() {
        IpAddr::V4(address) => {
            v4 = address.octets();
            &v4
        }
        IpAddr::V6(address) => {
            v6 = address.octets();
            &v6
        }
    };
    sha1(&[
        &initiator_spi.to_be_bytes(),
        &responder_spi.to_be_bytes(),
        address,
        &end.port().to_be_bytes(),
    ])
}

impl Nat {
    /// Somebody is behind one, so ESP goes over UDP.
    pub fn any(self) -> bool {
        self.local || self.remote
    }
}
