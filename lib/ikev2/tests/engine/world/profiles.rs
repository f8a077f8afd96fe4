//! What the two sides want of each other, unless a test wants something else.

use std::sync::Arc;

use crypto::{Cipher, DhGroup, Integrity, Prf};
use ikev2::{
    ChildProfile, EspProposal, Identity, IkeProposal, Profile, RemoteAuth, SelectorPolicy, TrafficSelector,
};

use super::Side::{self, A, B};

pub fn ike_proposal() -> IkeProposal {
    IkeProposal {
        ciphers: vec![Cipher::AesGcm128Icv16],
        integrities: vec![Integrity::HmacSha2_256_128],
        prfs: vec![Prf::HmacSha2_256],
        groups: vec![DhGroup::Curve25519],
    }
}

pub fn esp_proposal() -> EspProposal {
    EspProposal {
        ciphers: vec![Cipher::AesGcm128Icv16],
        integrities: vec![Integrity::HmacSha2_256_128],
        groups: Vec::new(),
        esn: vec![false],
    }
}

pub fn net(text: &str) -> TrafficSelector {
    let (address, length) = text.split_once('/').unwrap();
    TrafficSelector::prefix(address.parse().unwrap(), length.parse().unwrap())
}

pub fn ranges(nets: &[&str]) -> SelectorPolicy {
    SelectorPolicy::Ranges(nets.iter().map(|text| net(text)).collect())
}

/// A's profile; B's is its mirror.
pub fn profile(side: Side) -> Profile {
    let (own, peer, local, remote) = match side {
        A => ("a.example", "b.example", "10.1.0.0/16", "10.2.0.0/16"),
        B => ("b.example", "a.example", "10.2.0.0/16", "10.1.0.0/16"),
    };
    let child = ChildProfile::new("net", vec![esp_proposal()], ranges(&[local]), ranges(&[remote]));
    Profile {
        name: own.to_owned(),
        proposals: vec![ike_proposal()],
        children: vec![Arc::new(child)],
        local_identity: Identity::fqdn(own),
        remote_identity: Identity::fqdn(peer),
        remote_auth: RemoteAuth {
            psk: true,
            ..RemoteAuth::default()
        },
        ..Profile::default()
    }
}

/// Changes the one child profile.
pub fn change_child(profile: &mut Profile, change: impl FnOnce(&mut ChildProfile)) {
    let mut child = (*profile.children[0]).clone();
    change(&mut child);
    profile.children[0] = Arc::new(child);
}
