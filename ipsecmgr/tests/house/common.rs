//! What all scenarios begin with.

use std::sync::Arc;

use crypto::{Cipher, DhGroup, Prf};
use ikev2::{
    ChildProfile, ConfigurationRequest, EspProposal, Event, Identity, IkeProposal, LocalAuth, Profile,
    RemoteAuth, SelectorPolicy, TrafficSelector,
};

use super::Peer;

/// Where the gateway is.
pub const GATEWAY: &str = "127.0.0.2";
/// Where a peer is.
pub const PEER: &str = "127.0.0.3";
/// A service at [`GATEWAY`].
pub fn configuration(mode: &str, payload: &str) -> String {
    format!(
        "config\n\
         context isp\n\
         ipsec transform-set esp\nencryption aes-128-gcm-128\nhmac none\n#exit\n\
         ikev2-ikesa transform-set ike\nencryption aes-128-gcm-128\nhmac none\nprf sha2-256\ngroup 31\n#exit\n\
         crypto template t ikev2-dynamic\n\
         authentication local pre-shared-key encrypted key sealed-secret\n\
         authentication remote pre-shared-key encrypted key sealed-secret\n\
         identity local id-type fqdn id gw.test\n\
         ikev2-ikesa rekey\n\
         ikev2-ikesa transform-set list ike\n\
         payload p match childsa match any\n\
         ipsec transform-set list esp\nrekey\n{payload}#exit\n\
         #exit\n\
         wsg-service wsg\ndeployment-mode {mode}\nbind address {GATEWAY} crypto-template t\n#exit\n\
         #exit\n\
         end\n"
    )
}

/// A peer of it.
pub fn profile(remote_access: bool) -> Arc<Profile> {
    let esp = EspProposal {
        ciphers: vec![Cipher::AesGcm128Icv16],
        integrities: Vec::new(),
        groups: Vec::new(),
        esn: vec![false],
    };
    let behind_us = if remote_access {
        SelectorPolicy::Assigned
    } else {
        SelectorPolicy::Ranges(vec![TrafficSelector::prefix("10.20.1.0".parse().unwrap(), 24)])
    };
    let behind_gateway =
        SelectorPolicy::Ranges(vec![TrafficSelector::prefix("10.20.2.0".parse().unwrap(), 24)]);
    Arc::new(Profile {
        name: "peer".to_owned(),
        proposals: vec![IkeProposal {
            ciphers: vec![Cipher::AesGcm128Icv16],
            integrities: Vec::new(),
            prfs: vec![Prf::HmacSha2_256],
            groups: vec![DhGroup::Curve25519],
        }],
        children: vec![Arc::new(ChildProfile::new(
            "net",
            vec![esp],
            behind_us,
            behind_gateway,
        ))],
        local_identity: Identity::fqdn("peer.test"),
        local_auth: LocalAuth::Psk,
        remote_auth: RemoteAuth {
            psk: true,
            ..RemoteAuth::default()
        },
        configuration_request: remote_access.then(|| ConfigurationRequest {
            ipv4: Some([0, 0, 0, 0].into()),
            ..ConfigurationRequest::default()
        }),
        ..Profile::default()
    })
}

/// Runs a scenario in a namespace of its own, on one thread.
pub fn scenario(run: impl AsyncFnOnce() + Send) {
    let Ok(namespace) = netio::Namespace::create() else {
        eprintln!("skipped: needs root");
        return;
    };
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, run());
    };
    namespace.run(work).unwrap();
}

/// Waits for the tunnel; gives its child SA, as the peer calls it.
pub async fn established(peer: &mut Peer) -> u32 {
    peer.until("the tunnel", |event| match event {
        Event::Established(established) => Some(established.child.expect("no child SA")),
        Event::SetupFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await
}
