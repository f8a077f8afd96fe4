//! NATs: detecting them, and following peers behind them (RFC 7296 2.23).

use std::net::{IpAddr, SocketAddr};

use crypto::hash::sha1;

use super::{IkeSa, Nat, State};
use crate::env::Env;
use crate::event::Event;
use crate::message::{Builder, NotifyKind, Payloads};
use crate::output::{Output, Path};
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

impl IkeSa {
    /// A peer behind a NAT is where its last authentic message came from.
    pub(super) fn follow(&mut self, env: &mut Env<'_>, path: Path) {
        if path == self.path || !self.may_follow() {
            return;
        }
        // What ESP told before is older than this message.
        for child in &mut self.children {
            child.learned = env.sad.usage(child.inbound_spi).learned_peer;
        }
        self.move_to(env, path);
    }

    /// The same where ESP knows better than IKE: its last authentic packet came from elsewhere. Looked at before we send a request,
    /// for that must arrive; what ESP has not told anew since the last look is old.
    pub(super) fn follow_data(&mut self, env: &mut Env<'_>) {
        if !self.may_follow() {
            return;
        }
        let mut latest = None;
        for child in &mut self.children {
            let usage = env.sad.usage(child.inbound_spi);
            if usage.learned_peer != child.learned {
                child.learned = usage.learned_peer;
                latest = latest.max(Some(usage.last_inbound).zip(usage.learned_peer));
            }
        }
        let local = self.path.local;
        // IKE goes through the mapping of ESP only where both use one port (RFC 3948 2.2).
        let shares = |remote: &SocketAddr| {
            local.port() == env.core.config.nat_port && local.is_ipv4() == remote.is_ipv4()
        };
        if let Some((_, remote)) = latest.filter(|(_, remote)| shares(remote))
            && remote != self.path.remote
        {
            self.move_to(env, Path { local, remote });
        }
    }

    /// When we are behind a NAT ourselves the peer is not followed, as that NAT is ours to keep open.
    fn may_follow(&self) -> bool {
        let remote_only = Nat {
            local: false,
            remote: true,
        };
        self.nat == remote_only && matches!(self.state, State::Established | State::Closing(_))
    }

    fn move_to(&mut self, env: &mut Env<'_>, path: Path) {
        let from = std::mem::replace(&mut self.path, path);
        env.event(Event::Moved {
            ike: self.id,
            from,
            to: path,
        });
        if !self.children.is_empty() {
            env.core.outputs.push_back(Output::Move {
                ike: self.id,
                inbound_spis: self.children.iter().map(|child| child.inbound_spi).collect(),
                path,
            });
        }
    }
}
