//! What every scenario does.

use system_tests::strongswan::PROGRAMS;
use system_tests::{Connection, Node, Strongswan, World, real_peer};

/// A world with a node and a strongSwan, both configured for the same connection.
pub struct Scene {
    // Dropped in this order: processes before their namespaces.
    pub peer: Strongswan,
    pub node: Node,
    pub world: World,
}

/// Sets the scene of a scenario; `None` when it has to be skipped (which says why, and fails in CI).
pub fn scene(scenario: &str, connection: &Connection) -> Option<Scene> {
    if !real_peer(scenario, PROGRAMS) {
        return None;
    }
    let world = World::new(scenario);
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    Some(Scene { peer, node, world })
}

impl Scene {
    /// Fails the scenario unless both sides name the same pairs of ESP SPIs, and no other.
    pub fn same_spis(&self) {
        let mut last = String::new();
        let same = (0..100).any(|_| {
            let mut theirs: Vec<(String, String)> = self
                .peer
                .spis()
                .into_iter()
                .map(|(inbound, outbound)| (outbound, inbound))
                .collect();
            let mut ours = self.node.spis();
            theirs.sort();
            ours.sort();
            last = format!("ours {ours:?}, theirs {theirs:?}");
            let same = !ours.is_empty() && ours == theirs;
            if !same {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            same
        });
        assert!(
            same,
            "the sides do not agree on the SPIs (inbound and outbound as we see them): {last}"
        );
    }

    /// Fails the scenario unless neither side has any SA.
    pub fn no_sa(&self) {
        assert!(
            self.node.spis().is_empty(),
            "we have a child SA:\n{}",
            self.node.cli("show crypto ipsec security-associations")
        );
        assert!(
            self.peer.spis().is_empty(),
            "the peer has a child SA:\n{}",
            self.peer.sas()
        );
    }
}

/// Runs swanctl at the peer, and fails the scenario when it fails.
pub fn swanctl(peer: &Strongswan, arguments: &[&str]) {
    let (ok, text) = peer.swanctl(arguments);
    assert!(ok, "swanctl {arguments:?}: {text}\n{}", peer.log());
}

/// SPIs of the IKE SA as the peer lists them.
pub fn ike_spis(scene: &Scene) -> String {
    let sas = scene.peer.sas();
    let line = sas.lines().find(|line| line.contains("ESTABLISHED"));
    let spis = line.map(|line| {
        let words = line
            .split_whitespace()
            .filter(|word| word.contains("_i") || word.contains("_r"));
        words
            .map(|word| word.replace('*', ""))
            .collect::<Vec<_>>()
            .join(" ")
    });
    spis.unwrap_or_else(|| panic!("the peer has no IKE SA: {sas}"))
}
