//! A peer has two child SAs with the same traffic selectors, each for a data plane of ours (RFC 9611): one `ipsecmgr` has both, in slots of which another worker's data plane
//! has one.
//!
//! Needs root for a network namespace, in which the ports of IKE are free.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod house;

use std::sync::Arc;

use bus::messages::sessmgr::Verdict;
use house::{GATEWAY, Node, Peer, configuration, established, profile, scenario};
use ikev2::{Action, ChildProfile, Count, Event, IkeSaId, Profile};
use telemetry::counters::ikev2 as counter;

/// The slots of worker 1, whose data planes are those of worker 1 and worker 2.
const OWN: u8 = 1;
const OTHER: u8 = 3;

/// A peer whose IKE SA is in one of these slots.
struct Tunnel {
    peer: Peer,
    ike: IkeSaId,
}

async fn node() -> Node {
    let node = Node::start(
        &configuration("site-to-site", "per-resource-sa\n"),
        GATEWAY,
        Verdict::default(),
    )
    .await;
    data_plane_of_other(&node, 2);
    node
}

/// Whose data plane has [`OTHER`].
fn data_plane_of_other(node: &Node, worker: u32) {
    node.commit(|map, _| map.data[usize::from(OTHER) - 1] = worker);
}

impl Tunnel {
    async fn new() -> Self {
        let usual = profile(false);
        let mut child = ChildProfile::clone(&usual.children[0]);
        child.per_resource.make = 1;
        let wanted = Arc::new(Profile {
            children: vec![Arc::new(child)],
            ..Profile::clone(&usual)
        });
        for number in 1..20 {
            let mut peer = Peer::new(&format!("127.0.1.{number}"), "secret");
            let ike = peer.initiate(&wanted, GATEWAY);
            let first = established(&mut peer).await;
            if peer.children[&first].outbound_spi >> 24 != u32::from(OWN) {
                continue;
            }
            let created =
                |event: &Event| matches!(event, Event::Count(Count::PerResourceCreated(true))).then_some(());
            peer.until("a second child SA", created).await;
            return Self { peer, ike };
        }
        panic!("nobody came to slot {OWN}");
    }

    /// Inbound SPIs of the gateway by slot.
    fn spis(&self) -> Vec<u32> {
        let mut spis: Vec<u32> = self
            .peer
            .children
            .values()
            .map(|child| child.outbound_spi)
            .collect();
        spis.sort_unstable();
        spis
    }

    async fn is_alive(&mut self) {
        let answered = |event: &Event| match event {
            Event::Count(Count::LivenessAnswered) => Some(()),
            Event::Deleted { reason, .. } => panic!("the tunnel is gone: {reason:?}"),
            _ => None,
        };
        self.peer.act(self.ike, Action::CheckLiveness);
        self.peer.until("an answer", answered).await;
    }

    /// Waits until the peer has one child SA.
    async fn has_one(&mut self) {
        while self.peer.children.len() > 1 {
            self.peer.step();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

/// What the data planes know of child SAs.
fn shared(node: &Node, spis: &[u32]) -> Vec<Option<bool>> {
    spis.iter()
        .map(|spi| node.child(*spi).map(|sa| sa.shared))
        .collect()
}

async fn becomes(node: &Node, spis: &[u32], expected: &[Option<bool>]) {
    node.until("the records say who shares", async |node| {
        shared(node, spis) == expected
    })
    .await;
}

#[test]
fn each_data_plane_gets_one_and_both_know_of_each_other() {
    scenario(async || {
        let mut node = node().await;
        let mut tunnel = Tunnel::new().await;
        let spis = tunnel.spis();
        let slots: Vec<u32> = spis.iter().map(|spi| spi >> 24).collect();
        assert_eq!(slots, [OWN, OTHER].map(u32::from));
        becomes(&node, &spis, &[Some(true); 2]).await;
        assert_eq!(node.counters(1).get(counter::PER_RESOURCE_ACCEPTED), 1);
        let routed = || {
            node.heard
                .lock()
                .unwrap()
                .routes
                .iter()
                .filter(|route| spis.contains(&route.spi))
                .count()
        };
        assert_eq!(routed(), 2, "a route for each");

        // The data plane of one moves: they share no more, and then again.
        data_plane_of_other(&node, 1);
        becomes(&node, &spis, &[Some(false); 2]).await;
        data_plane_of_other(&node, 2);
        becomes(&node, &spis, &[Some(true); 2]).await;

        // The next life goes on with both, and rekeys them where they are.
        node.kill(1);
        node.run(1, 1).await;
        assert_eq!(shared(&node, &spis), [Some(true); 2]);
        tunnel.is_alive().await;
        let beside = *tunnel
            .peer
            .children
            .iter()
            .find(|(_, child)| child.outbound_spi == spis[1])
            .unwrap()
            .0;
        tunnel.peer.act(tunnel.ike, Action::RekeyChild(beside));
        let created = |event: &Event| match event {
            Event::ChildCreated { inbound_spi, .. } => Some(*inbound_spi),
            _ => None,
        };
        let fresh = tunnel.peer.until("a fresh child SA", created).await;
        let fresh = tunnel.peer.children[&fresh].outbound_spi;
        assert_eq!(fresh >> 24, u32::from(OTHER));
        becomes(&node, &[spis[0], fresh], &[Some(true); 2]).await;

        // The peer has enough of one: the other is alone.
        let mine = *tunnel
            .peer
            .children
            .iter()
            .find(|(_, child)| child.outbound_spi == fresh)
            .unwrap()
            .0;
        tunnel.peer.act(tunnel.ike, Action::DeleteChild(mine));
        while tunnel.peer.children.contains_key(&mine) {
            tunnel.peer.step();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        becomes(&node, &[spis[0], fresh], &[Some(false), None]).await;
        tunnel.is_alive().await;
        node.kill(1);
        node.kill(2);
    });
}

#[test]
fn slots_that_a_tunnel_ties_together_have_one_manager() {
    scenario(async || {
        let mut node = node().await;
        let mut tunnel = Tunnel::new().await;
        let spis = tunnel.spis();
        for slot in [OWN, OTHER] {
            let version = node.prepare(slot, 2);
            let refusal = node.hand_over(1, slot, version).await;
            assert!(refusal.contains("ties slot 3 to slot 1"), "{refusal}");
            // It is taken back.
            node.commit(|map, _| {
                map.managers[usize::from(slot) - 1] = 1;
                map.leaving.clear();
            });
            tunnel.is_alive().await;
        }
        // Who is to let go dies: its next life has one slot only, and the tunnel goes on with what is in that.
        let version = node.prepare(OTHER, 2);
        node.ask_to_let_go(version);
        node.kill(1);
        node.run(1, 1).await;
        tunnel.has_one().await;
        assert_eq!(tunnel.spis(), spis[..1]);
        tunnel.is_alive().await;
        assert_eq!(node.hand_over(1, OTHER, version).await, "");
        node.release();
        assert_eq!(node.take(2, OTHER, version).await, "");
        node.finish();
        becomes(&node, &spis, &[Some(false), None]).await;
        tunnel.is_alive().await;
        node.kill(1);
        node.kill(2);
    });
}
