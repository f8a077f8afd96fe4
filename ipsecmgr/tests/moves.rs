//! Slots move between two managers that run, and peers notice nothing: the kernel steers everything to one of them, which passes on what is not its own.
//!
//! Needs root for a network namespace, in which the ports of IKE are free.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod house;

use std::time::Instant;

use bus::messages::sessmgr::Verdict;
use house::{GATEWAY, Node, Peer, configuration, established, profile, scenario};
use ikev2::{Action, Count, Event, IkeSaId};
use telemetry::counters::{ikev2 as counter, recovery};

async fn node() -> Node {
    Node::start(&configuration("site-to-site", ""), GATEWAY, Verdict::default()).await
}

/// A peer whose IKE SA is in a slot, as the gateway numbers it.
struct Tunnel {
    peer: Peer,
    ike: IkeSaId,
    /// Inbound SPI of the gateway.
    spi: u32,
}

impl Tunnel {
    /// Connects peers, of addresses of this network, until one has its IKE SA in this slot.
    async fn in_slot(slot: u8, network: u8) -> Self {
        for number in 1..20 {
            let mut peer = Peer::new(&format!("127.0.{network}.{number}"), "secret");
            let ike = peer.initiate(&profile(false), GATEWAY);
            let theirs = established(&mut peer).await;
            let spi = peer.children[&theirs].outbound_spi;
            if spi >> 24 == u32::from(slot) {
                return Self { peer, ike, spi };
            }
        }
        panic!("nobody came to slot {slot}");
    }

    /// The peer asks whether the gateway is there, has new keys made for the child SA and for the IKE SA: it is as if nothing had happened.
    async fn goes_on(&mut self, node: &Node) {
        let answered = |event: &Event| matches!(event, Event::Count(Count::LivenessAnswered)).then_some(());
        self.peer.act(self.ike, Action::CheckLiveness);
        self.peer.until("an answer", answered).await;
        let theirs = *self.peer.children.keys().max().unwrap();
        self.peer.act(self.ike, Action::RekeyChild(theirs));
        let created = |event: &Event| match event {
            Event::ChildCreated { inbound_spi, .. } => Some(*inbound_spi),
            Event::Deleted { reason, .. } => panic!("the tunnel is gone: {reason:?}"),
            _ => None,
        };
        let theirs = self.peer.until("a fresh child SA", created).await;
        let spi = self.peer.children[&theirs].outbound_spi;
        assert_eq!(spi >> 24, self.spi >> 24);
        assert!(node.child(spi).is_some(), "it is in the segments");
        self.spi = spi;
        self.peer.act(self.ike, Action::RekeyIke);
        let rekeyed = |event: &Event| match event {
            Event::IkeRekeyed { new, .. } => Some(*new),
            Event::Deleted { reason, .. } => panic!("the tunnel is gone: {reason:?}"),
            _ => None,
        };
        self.ike = self.peer.until("a fresh IKE SA", rekeyed).await;
    }

    /// The peer says goodbye.
    async fn ends(&mut self) {
        self.peer.act(self.ike, Action::Delete);
        let deleted = |event: &Event| matches!(event, Event::Deleted { .. }).then_some(());
        self.peer.until("the end", deleted).await;
    }
}

#[test]
fn a_slot_moves_and_the_peer_notices_nothing() {
    scenario(async || {
        let mut node = node().await;
        let mut tunnel = Tunnel::in_slot(1, 1).await;
        let stays = Tunnel::in_slot(3, 2).await;
        let admissions = node.heard.lock().unwrap().admissions.clone();
        let peers = admissions.len();
        for (from, to) in [(1, 2), (2, 1), (1, 2)] {
            node.move_slot(1, from, to).await;
            tunnel.goes_on(&node).await;
        }
        {
            let heard = node.heard.lock().unwrap();
            assert_eq!(heard.admissions.len(), peers, "nobody was admitted anew");
            assert_eq!(heard.released, [], "and nobody has gone");
            // Each sessmgr is told, and the session is the first one's in any case.
            let told: Vec<(u32, &[u32], usize)> = heard
                .recovered
                .iter()
                .map(|(sessmgr, news)| (*sessmgr, &*news.slots, news.sessions.len()))
                .collect();
            let in_slot = told[0].2;
            assert!(in_slot > 0);
            let mut expected = [(1, &[1][..], in_slot), (2, &[1], 0)].repeat(3);
            expected.sort_unstable();
            let mut told = told;
            told.sort_unstable();
            assert_eq!(told, expected);
            assert!(heard.recovered.is_sorted_by_key(|(_, news)| news.tenure));
            // The routes are those of the present owner.
            let tenure = heard.recovered.last().unwrap().1.tenure;
            let routes: Vec<_> = heard.routes.iter().filter(|route| route.spi >> 24 == 1).collect();
            assert!(routes.len() >= in_slot && routes.iter().all(|route| route.tenure == tenure));
        }
        for worker in [1, 2] {
            let counters = node.counters(worker);
            let lost = [recovery::LOST, recovery::RECOVERED].map(|counter| counters.get(counter));
            assert_eq!(lost, [0, 0], "a move is no death");
        }
        let tunnels = [1, 2].map(|worker| node.counters(worker).get(counter::CURRENT_TUNNELS));
        assert_eq!(tunnels.iter().sum::<u64>() as usize, peers);
        assert!(tunnels[0] > 0 && tunnels[1] > 0);

        // Who has the tunnel ends it, and the other says that it is not there.
        let admitted = admissions.iter().find(|one| one.ike_spi >> 56 == 1).unwrap();
        let elsewhere = node.delete(1, admitted.ike_spi).await;
        assert_eq!((elsewhere.count, elsewhere.moved), (0, vec![admitted.ike_spi]));
        tunnel.ends().await;
        let released_by = async |node: &Node| node.heard.lock().unwrap().released_by == [1];
        node.until("the session is over", released_by).await;
        drop(stays);
        node.kill(1);
        node.kill(2);
    });
}

#[test]
fn a_peer_in_the_middle_of_its_set_up_follows_the_slot() {
    scenario(async || {
        let node = node().await;
        let mut peer = Peer::new("127.0.0.3", "secret");
        // It is asked for, and there is no answer.
        node.heard.lock().unwrap().no_verdicts = true;
        peer.initiate(&profile(false), GATEWAY);
        let start = Instant::now();
        let admission = loop {
            peer.step();
            if let Some(admission) = node.heard.lock().unwrap().admissions.first() {
                break admission.clone();
            }
            assert!(
                start.elapsed() < std::time::Duration::from_secs(60),
                "nobody asks"
            );
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        };
        let slot = (admission.ike_spi >> 56) as u8;
        node.move_slot(slot, 1, 2).await;
        node.heard.lock().unwrap().no_verdicts = false;
        // The peer repeats its message, and the new manager asks the same sessmgr.
        established(&mut peer).await;
        let heard = node.heard.lock().unwrap();
        assert_eq!(heard.admitted_by, [1, 1]);
        assert_eq!(heard.admissions[1].ike_spi, admission.ike_spi);
        assert!(heard.admissions[1].tenure > admission.tenure);
        assert_eq!(heard.released, []);
    });
}

#[test]
fn whoever_dies_in_a_move_the_tunnel_goes_on() {
    scenario(async || {
        let mut node = node().await;
        let mut tunnel = Tunnel::in_slot(1, 1).await;
        let mut lives = [0, 0];
        let mut next_life = |worker: u32| {
            let lives = &mut lives[worker as usize - 1];
            *lives += 1;
            *lives
        };

        // The former manager dies before it has answered: its next life has the slot still, and serves it, until it hands it over.
        let version = node.prepare(1, 2);
        node.kill(1);
        node.run(1, next_life(1)).await;
        tunnel.goes_on(&node).await;
        assert_ne!(node.take(2, 1, version).await, "", "it is not free yet");
        assert_eq!(node.hand_over(1, 1, version).await, "");
        assert_eq!(node.hand_over(1, 1, version).await, "", "once more");
        node.release();
        assert_eq!(node.take(2, 1, version).await, "");
        assert_eq!(node.take(2, 1, version).await, "", "once more");
        node.finish();
        tunnel.goes_on(&node).await;
        node.move_slot(1, 2, 1).await;

        // It dies when it may have answered: its next life does not have the slot.
        let version = node.prepare(1, 2);
        node.ask_to_let_go(version);
        node.kill(1);
        node.run(1, next_life(1)).await;
        assert_eq!(node.hand_over(1, 1, version).await, "");
        node.release();
        assert_eq!(node.take(2, 1, version).await, "");
        node.finish();
        tunnel.goes_on(&node).await;

        // It dies after it has answered: its next life does not have the slot.
        let version = node.prepare(1, 1);
        assert_eq!(node.hand_over(2, 1, version).await, "");
        node.kill(2);
        node.release();
        node.run(2, next_life(2)).await;
        assert_eq!(node.hand_over(2, 1, version).await, "");
        assert_eq!(node.take(1, 1, version).await, "");
        node.finish();
        tunnel.goes_on(&node).await;

        // The new one dies before it has taken over: its next life does so by itself.
        let version = node.prepare(1, 2);
        assert_eq!(node.hand_over(1, 1, version).await, "");
        node.kill(2);
        node.release();
        node.run(2, next_life(2)).await;
        tunnel.goes_on(&node).await;
        assert_eq!(node.take(2, 1, version).await, "");
        node.finish();

        // It dies after it has taken over, and both die at once later.
        let version = node.prepare(1, 1);
        assert_eq!(node.hand_over(2, 1, version).await, "");
        node.release();
        assert_eq!(node.take(1, 1, version).await, "");
        tunnel.goes_on(&node).await;
        node.kill(1);
        node.run(1, next_life(1)).await;
        tunnel.goes_on(&node).await;
        node.finish();
        node.kill(1);
        node.kill(2);
        node.run(1, next_life(1)).await;
        node.run(2, next_life(2)).await;
        tunnel.goes_on(&node).await;
        let heard = node.heard.lock().unwrap();
        assert_eq!(heard.released, [], "no session has ended");
        assert!(heard.admitted_by.iter().all(|sessmgr| *sessmgr == 1));
    });
}

#[test]
fn a_slot_goes_only_by_the_order_of_its_move_and_when_all_is_told() {
    scenario(async || {
        let node = node().await;
        let mut tunnel = Tunnel::in_slot(1, 1).await;
        let first = node.prepare(1, 2);
        assert_eq!(node.hand_over(1, 1, first).await, "");
        node.release();
        assert_eq!(node.take(2, 1, first).await, "");
        node.finish();
        let second = node.prepare(1, 1);
        assert_eq!(node.hand_over(2, 1, second).await, "");
        node.release();
        assert_eq!(node.take(1, 1, second).await, "");
        node.finish();
        // An order of the first move comes late.
        assert_ne!(node.hand_over(1, 1, first).await, "");
        tunnel.goes_on(&node).await;

        // News do not get through: nothing moves, and the move is taken back.
        node.heard.lock().unwrap().no_news = true;
        tunnel.goes_on(&node).await;
        let third = node.prepare(1, 2);
        assert_ne!(node.hand_over(1, 1, third).await, "");
        node.commit(|map, _| {
            map.managers[0] = 1;
            map.leaving.clear();
        });
        tunnel.goes_on(&node).await;
        node.heard.lock().unwrap().no_news = false;
        let told = async |node: &Node| {
            let fourth = node.prepare(1, 2);
            let failure = node.hand_over(1, 1, fourth).await;
            if !failure.is_empty() {
                node.commit(|map, _| {
                    map.managers[0] = 1;
                    map.leaving.clear();
                });
            }
            failure.is_empty()
        };
        node.until("they get through again", told).await;
        node.release();
        node.finish();
        tunnel.goes_on(&node).await;
    });
}

#[test]
fn a_worker_without_slots_lives_and_gets_some_again() {
    scenario(async || {
        let mut node = node().await;
        let mut tunnel = Tunnel::in_slot(3, 1).await;
        node.move_slot(1, 1, 2).await;
        node.move_slot(3, 1, 2).await;
        tunnel.goes_on(&node).await;
        assert_eq!(node.counters(1).get(counter::CURRENT_TUNNELS), 0);
        node.kill(1);
        node.run(1, 1).await;
        tunnel.goes_on(&node).await;
        node.move_slot(3, 2, 1).await;
        tunnel.goes_on(&node).await;
        tunnel.ends().await;
        // New peers come to it again.
        let mut next = Tunnel::in_slot(3, 2).await;
        next.goes_on(&node).await;
        assert_eq!(node.counters(1).get(counter::CURRENT_TUNNELS), 1);
    });
}
