//! A peer's tunnel through a whole `ipsecmgr`: sockets, engine, slots, and everybody whom it tells or asks.
//!
//! Needs root for a network namespace, in which the ports of IKE are free.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod house;

use std::sync::Arc;
use std::time::Duration;

use bus::messages::ipsecmgr::Drain;
use bus::messages::rmctrl::{CongestedService, Congestion, CongestionAction};
use bus::messages::sessmgr::Verdict;
use house::{GATEWAY, House, PEER, Peer, configuration, established, profile, scenario};
use ikev2::{Action, Event, Profile};
use telemetry::Scope;
use telemetry::counters::{congestion, ikev2 as counter, ikev2_notify, wsg_state::SERVING};

/// Nothing is measured by this: it is how long a test waits on a busy machine before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_site_comes_rekeys_and_goes() {
    scenario(async || {
        let (house, life) = House::start(&configuration("site-to-site", ""), Verdict::default()).await;
        let mut peer = Peer::new(PEER, "secret");
        let alone = Profile {
            initial_contact: true,
            ..(*profile(false)).clone()
        };
        let ike = peer.initiate(&Arc::new(alone), GATEWAY);
        let theirs = established(&mut peer).await;
        let ours = peer.children[&theirs].outbound_spi;

        // The data plane has what the peer has.
        let child = house.child(ours).expect("not installed");
        assert_eq!(
            (child.outbound_spi, child.inbound_active, child.outbound_active),
            (theirs, true, true)
        );
        assert_eq!(
            child.inbound_keys.encryption.expose(),
            peer.children[&theirs].outbound_keys.encryption.as_bytes()
        );
        assert_eq!((child.context, child.replay_window), (2, 64));

        // Everybody else heard of it.
        let admission = house
            .until("admission", |heard| heard.admissions.first().cloned())
            .await;
        assert_eq!(
            (admission.service.as_str(), admission.identity.as_slice()),
            ("wsg", &b"peer.test"[..])
        );
        assert!(!admission.wants_ipv4 && admission.initial_contact);
        let session = house
            .until("news", |heard| heard.connected.first().cloned())
            .await;
        assert_eq!((session.ike_spi, session.spis), (admission.ike_spi, vec![ours]));
        let route = house
            .until("a route", |heard| heard.routes.first().cloned())
            .await;
        assert_eq!(
            (route.network, route.length, route.spi),
            (vec![10, 20, 1, 0], 24, ours)
        );

        // And so does an operator.
        let shown = house
            .execute("show crypto ikev2-ikesa security-associations", &[])
            .await;
        for word in ["peer.test", PEER, "Established", "aes-128-gcm-128"] {
            assert!(shown.text.contains(word), "no '{word}' in:\n{}", shown.text);
        }
        let shown = house
            .execute(
                "show crypto ipsec security-associations",
                &[("peer", ""), ("peer", PEER)],
            )
            .await;
        assert!(
            shown.text.contains(&format!(": 0x{ours:08x}"))
                && shown.text.contains(&format!(": 0x{theirs:08x}")),
            "{}",
            shown.text
        );
        let shown = house
            .execute(
                "show crypto ipsec security-associations",
                &[("peer", ""), ("peer", "192.0.2.9")],
            )
            .await;
        assert_eq!(shown.text, "");
        let shown = house
            .execute(
                "show crypto ikev2-ikesa security-associations",
                &[("summary", "")],
            )
            .await;
        assert_eq!(
            (shown.totals[0].label.as_str(), shown.totals[0].value),
            ("Total IKEv2 SAs", 1)
        );

        // New keys for the child SA: the route stays, the old SA goes.
        peer.act(ike, Action::RekeyChild(theirs));
        let fresh = peer
            .until("a fresh child SA", |event| match event {
                Event::ChildCreated {
                    inbound_spi,
                    replaces: Some(old),
                    ..
                } if *old == theirs => Some(*inbound_spi),
                _ => None,
            })
            .await;
        let ours = peer.children[&fresh].outbound_spi;
        assert!(house.child(ours).is_some());
        house
            .until("the fresh route", |heard| {
                heard.routes.iter().any(|route| route.spi == ours).then_some(())
            })
            .await;

        // New keys for the IKE SA: the session has another name.
        peer.act(ike, Action::RekeyIke);
        peer.until("a fresh IKE SA", |event| {
            matches!(event, Event::IkeRekeyed { .. }).then_some(())
        })
        .await;
        let renamed = house
            .until("the new name", |heard| {
                heard.connected.iter().find(|news| news.was != 0).cloned()
            })
            .await;
        assert_eq!(renamed.was, admission.ike_spi);

        // The peer says goodbye.
        let worker = sadb::Spi::from_u32(ours).unwrap();
        house.worker.counters(worker).unwrap().received(3, 300);
        let ike = peer
            .engine
            .ike_sas(std::time::Instant::now(), ikev2::Cursor::default(), 9, &peer.sad)
            .0
            .pop()
            .unwrap()
            .id;
        peer.act(ike, Action::Delete);
        let released = house
            .until("release", |heard| {
                peer.step();
                heard.released.first().cloned()
            })
            .await;
        assert_eq!((released.ike_spi, released.reason), (renamed.ike_spi, 2));
        assert_eq!((released.packets_in, released.bytes_in), (3, 300));
        assert!(house.child(ours).is_none());
        house
            .until("no route", |heard| heard.routes.is_empty().then_some(()))
            .await;
        for (counter, value) in [
            (counter::TOTAL_TUNNELS, 1),
            (counter::CURRENT_TUNNELS, 0),
            (counter::TOTAL_SAS_RESP, 1),
            (counter::FLOW_FAIL, 0),
            (ikev2_notify::SENT_FRAGMENTATION, 1),
            (ikev2_notify::RECV_FRAGMENTATION, 1),
        ] {
            assert_eq!(
                house.counters.get(counter),
                value,
                "{}",
                counter.descriptor().variable
            );
        }
        assert_eq!(
            house.heard.lock().unwrap().secrets_asked,
            1,
            "the key is asked for once"
        );

        house.shutdown.request(Duration::from_secs(1));
        life.await.unwrap().unwrap();
    });
}

#[test]
fn a_host_gets_the_address_that_sessmgr_gives() {
    scenario(async || {
        let verdict = Verdict {
            ipv4: vec![10, 30, 0, 7],
            dns: vec![vec![10, 30, 0, 1]],
            ..Verdict::default()
        };
        let configuration = configuration("remote-access", "ip-address-allocation dynamic\n");
        let (house, _life) = House::start(&configuration, verdict).await;
        let mut peer = Peer::new(PEER, "secret");
        peer.initiate(&profile(true), GATEWAY);
        let configuration = peer
            .until("the tunnel", |event| match event {
                Event::Established(established) => Some(established.configuration.clone().unwrap()),
                _ => None,
            })
            .await;
        assert_eq!(configuration.ipv4, Some([10, 30, 0, 7].into()));
        assert_eq!(
            configuration.dns,
            ["10.30.0.1".parse::<std::net::IpAddr>().unwrap()]
        );
        let admission = house
            .until("admission", |heard| heard.admissions.first().cloned())
            .await;
        assert!(admission.wants_ipv4 && !admission.wants_ipv6);
        house
            .until("news", |heard| heard.connected.first().cloned())
            .await;
        assert!(
            house.heard.lock().unwrap().routes.is_empty(),
            "the pool's route is enough"
        );
    });
}

#[test]
fn a_service_serves_while_it_is_whole_and_its_address_is_there() {
    scenario(async || {
        let serving = async |house: &House, wanted: u64| {
            let page = house.counters.scoped(&Scope::wsg("isp", "wsg")).unwrap();
            house
                .until("the state", |_| (page.get(SERVING) == wanted).then_some(()))
                .await;
        };
        let (house, _life) = House::start(&configuration("site-to-site", ""), Verdict::default()).await;
        serving(&house, 1).await;
        house.heard.lock().unwrap().absent = true;
        serving(&house, 0).await;
        house.heard.lock().unwrap().absent = false;
        serving(&house, 1).await;
    });
}

#[test]
fn who_is_not_admitted_gets_no_tunnel() {
    scenario(async || {
        let verdict = Verdict {
            refusal: "too many sessions".to_owned(),
            ..Verdict::default()
        };
        let (house, _life) = House::start(&configuration("site-to-site", ""), verdict).await;
        let mut peer = Peer::new(PEER, "secret");
        peer.initiate(&profile(false), GATEWAY);
        peer.until("the refusal", |event| {
            matches!(event, Event::SetupFailed { .. }).then_some(())
        })
        .await;
        let shown = house
            .execute("show crypto ipsec security-associations", &[])
            .await;
        assert_eq!(shown.text, "");
        assert_eq!(house.counters.get(counter::INIT_FAIL_RESP), 1);
    });
}

/// Overload, as rmctrl tells of it: who is connected is served, who comes anew is not.
#[test]
fn in_congestion_new_peers_are_refused_and_tunnels_go_on() {
    scenario(async || {
        let configuration = configuration("site-to-site", "").replace(
            "ikev2-ikesa rekey\n",
            "ikev2-ikesa rekey\nikev2-ikesa policy congestion-rejection notify-status-value 40970\n",
        );
        let (house, _life) = House::start(&configuration, Verdict::default()).await;
        let mut peer = Peer::new(PEER, "secret");
        let ike = peer.initiate(&profile(false), GATEWAY);
        let theirs = established(&mut peer).await;
        let ours = peer.children[&theirs].outbound_spi;
        let of = |service: &str, action: CongestionAction| Congestion {
            action: action.into(),
            everywhere: false,
            services: vec![CongestedService {
                context: "isp".to_owned(),
                service: service.to_owned(),
            }],
        };
        house.congest(of("wsg", CongestionAction::Drop));
        let dropped = || house.counters.get(congestion::WSG_DROPPED) > 0;
        let mut late = None;
        // Who comes before this was heard is still served.
        for last in 4..100 {
            let mut next = Peer::new(&format!("127.0.0.{last}"), "secret");
            next.initiate(&profile(false), GATEWAY);
            going_on(&mut next, "an answer, or none", |next| {
                dropped() || !next.children.is_empty()
            })
            .await;
            if next.children.is_empty() {
                late = Some(next);
                break;
            }
        }
        let mut late = late.expect("everybody was served");
        house.congest(of("wsg", CongestionAction::Reject));
        going_on(&mut late, "a refusal", |_| {
            house.counters.get(congestion::WSG_REJECTED) > 0
        })
        .await;
        assert!(late.children.is_empty());

        // Nothing of this is for those who are connected.
        peer.act(ike, Action::RekeyIke);
        let new = peer
            .until("new keys", |event| match event {
                Event::IkeRekeyed { new, .. } => Some(*new),
                _ => None,
            })
            .await;
        assert!(house.child(ours).is_some(), "the tunnel is another");
        peer.act(new, Action::Delete);
        peer.until("the end", |event| {
            matches!(event, Event::Deleted { .. }).then_some(())
        })
        .await;

        // It is over for this service: who asks again is served.
        house.congest(of("another", CongestionAction::Drop));
        going_on(&mut late, "the tunnel", |late| {
            if late.engine.totals().ike_sas == 0 {
                late.initiate(&profile(false), GATEWAY);
            }
            !late.children.is_empty()
        })
        .await;
    });
}

/// Lets a peer go on until something holds.
async fn going_on(peer: &mut Peer, what: &str, mut done: impl FnMut(&mut Peer) -> bool) {
    let start = std::time::Instant::now();
    while !done(peer) {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        peer.step();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_wrong_key_is_refused_and_counted() {
    scenario(async || {
        let (house, _life) = House::start(&configuration("site-to-site", ""), Verdict::default()).await;
        let mut peer = Peer::new(PEER, "another secret");
        peer.initiate(&profile(false), GATEWAY);
        peer.until("the refusal", |event| {
            matches!(event, Event::SetupFailed { .. }).then_some(())
        })
        .await;
        assert_eq!(house.counters.get(telemetry::counters::ikev2_auth::FAIL_HASH), 1);
        assert!(house.heard.lock().unwrap().admissions.is_empty());
        assert!(
            house
                .worker
                .indices()
                .all(|index| house.worker.read(index).unwrap().is_none())
        );
    });
}

#[test]
fn a_draining_node_says_goodbye_and_takes_nobody() {
    scenario(async || {
        let (house, _life) = House::start(&configuration("site-to-site", ""), Verdict::default()).await;
        let mut peer = Peer::new(PEER, "secret");
        peer.initiate(&profile(false), GATEWAY);
        established(&mut peer).await;
        let drain = house.request(&Drain {});
        let goodbye = peer.until("goodbye", |event| {
            matches!(event, Event::Deleted { .. }).then_some(())
        });
        let (deleted, ()) = tokio::join!(drain, goodbye);
        assert_eq!(deleted.count, 1);
        let released = house
            .until("release", |heard| heard.released.first().cloned())
            .await;
        assert_eq!(released.reason, 1);
        peer.initiate(&profile(false), GATEWAY);
        for _ in 0..50 {
            peer.step();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let totals = house
            .execute(
                "show crypto ikev2-ikesa security-associations",
                &[("summary", "")],
            )
            .await
            .totals;
        assert_eq!(totals[0].value, 0);
    });
}

#[test]
fn an_operator_ends_tunnels_and_many_are_listed_piece_by_piece() {
    scenario(async || {
        let (house, _life) = House::start(&configuration("site-to-site", ""), Verdict::default()).await;
        let mut peer = Peer::new(PEER, "secret");
        for _ in 0..150 {
            peer.initiate(&profile(false), GATEWAY);
            established(&mut peer).await;
        }
        let shown = house
            .execute("show crypto ipsec security-associations", &[])
            .await;
        assert_eq!(shown.text.matches("Inbound SPI").count(), 150);
        assert_eq!(
            (shown.totals[0].label.as_str(), shown.totals[0].value),
            ("Total Child SAs", 150)
        );
        let ended = house
            .execute(
                "clear crypto security-association ikev2",
                &[("tag", ""), ("tag", "other")],
            )
            .await;
        assert_eq!(ended.totals[0].value, 0);
        let ended = house
            .execute(
                "clear crypto security-association ikev2",
                &[("tag", ""), ("tag", "t")],
            )
            .await;
        assert_eq!(
            (ended.totals[0].label.as_str(), ended.totals[0].value),
            ("Tunnels ended", 150)
        );
        house
            .until("all are released", |heard| {
                peer.step();
                (heard.released.len() == 150).then_some(())
            })
            .await;
        let unknown = house.execute("show version", &[]).await;
        assert!(
            unknown.failure.contains("is not answered by ipsecmgr"),
            "{}",
            unknown.failure
        );
    });
}
