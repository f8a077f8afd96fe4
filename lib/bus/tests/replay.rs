//! Events that their publisher retains reach a subscriber that comes late or misses some: each once, and in order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bus::messages::common::Notice;
use bus::{Address, Bus, Event, Facility, Heard, Position, Server, Subscription};

use ground::{Ground, on_both};

const IPSECMGR: Address = Address::new(Facility::Ipsecmgr, 2);
const SNMP: Address = Address::only(Facility::Snmp);
const RETAINED: u64 = Notice::RETAINED as u64;

fn notice(time: u64) -> Notice {
    Notice {
        time,
        ..Notice::default()
    }
}

fn publish(bus: &Bus, times: Range<u64>) {
    for time in times {
        bus.publish(&notice(time));
    }
}

/// These come next, and nothing else.
async fn hears(subscription: &mut Subscription<Notice>, times: Range<u64>) {
    for time in times {
        assert_eq!(
            subscription.next().await,
            Heard::Event(IPSECMGR, notice(time)),
            "{time}"
        );
    }
}

fn follow(snmp: &Bus) -> Subscription<Notice> {
    let mut subscription = snmp.subscribe();
    subscription.follow(IPSECMGR);
    subscription
}

/// The next life of the publisher, when the last one has left the bus. (In a process of its own it would be gone at once; here `zeromq` still
/// removes its socket files a little later, and must not remove those of the next.)
async fn restart(ground: &Ground, life: (Bus, Server)) -> (Bus, Server) {
    drop(life);
    let is_there = || match ground {
        Ground::Sockets(directory) => ["ipsecmgr-2", "ipsecmgr-2.events"]
            .iter()
            .any(|name| directory.0.join("bus").join(name).exists()),
        Ground::Process(hub) => Bus::in_process_client(hub, SNMP).addresses().contains(&IPSECMGR),
    };
    while is_there() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ground.open(IPSECMGR).await
}

#[test]
fn a_late_subscriber_hears_everything() {
    on_both(async |ground| {
        let (ipsecmgr, _server) = ground.open(IPSECMGR).await;
        let (snmp, _server2) = ground.open(SNMP).await;
        publish(&ipsecmgr, 0..500);
        let mut subscription = follow(&snmp);
        // Others come while it is connecting and while it is catching up.
        let publisher = tokio::spawn(async move {
            for time in 500..1_000 {
                ipsecmgr.publish(&notice(time));
                tokio::task::yield_now().await;
            }
            ipsecmgr
        });
        hears(&mut subscription, 0..1_000).await;
        publish(&publisher.await.unwrap(), 1_000..1_100);
        hears(&mut subscription, 1_000..1_100).await;
        let statistics = snmp.statistics();
        assert_eq!((statistics.heard, statistics.missed), (1_100, 0));
        assert!(statistics.replayed >= 500);
    });
}

#[test]
fn a_subscriber_that_follows_before_the_first_event_hears_it() {
    on_both(async |ground| {
        let (snmp, _server) = ground.open(SNMP).await;
        let mut subscription = follow(&snmp);
        let (ipsecmgr, _server2) = ground.open(IPSECMGR).await;
        publish(&ipsecmgr, 0..1);
        hears(&mut subscription, 0..1).await;
        publish(&ipsecmgr, 1..2);
        hears(&mut subscription, 1..2).await;
    });
}

#[test]
fn a_gap_is_filled() {
    on_both(async |ground| {
        let (ipsecmgr, _server) = ground.open(IPSECMGR).await;
        let (snmp, _server2) = ground.open(SNMP).await;
        let mut subscription = follow(&snmp);
        publish(&ipsecmgr, 0..1);
        hears(&mut subscription, 0..1).await;
        // What the back end takes at once, and some that it drops.
        let taken = match ground {
            Ground::Sockets(_) => 16_384,
            Ground::Process(_) => 100_000,
        };
        let all = 1..taken + RETAINED / 2;
        publish(&ipsecmgr, all.clone());
        hears(&mut subscription, all.clone()).await;
        assert!(snmp.statistics().replayed > 0);
        // And it goes on.
        publish(&ipsecmgr, all.end..all.end + 10);
        hears(&mut subscription, all.end..all.end + 10).await;
        assert_eq!(snmp.statistics().missed, 0);
    });
}

#[test]
fn what_is_no_longer_retained_is_missed() {
    on_both(async |ground| {
        let (ipsecmgr, _server) = ground.open(IPSECMGR).await;
        let (snmp, _server2) = ground.open(SNMP).await;
        publish(&ipsecmgr, 0..RETAINED + 100);
        let mut subscription = follow(&snmp);
        assert_eq!(subscription.next().await, Heard::Missed(IPSECMGR));
        hears(&mut subscription, 100..RETAINED + 100).await;
        publish(&ipsecmgr, RETAINED + 100..RETAINED + 110);
        hears(&mut subscription, RETAINED + 100..RETAINED + 110).await;
        assert_eq!(snmp.statistics().missed, 1);
    });
}

#[test]
fn a_restarted_publisher_is_heard_from_its_beginning() {
    on_both(async |ground| {
        let (snmp, _server) = ground.open(SNMP).await;
        let mut subscription = follow(&snmp);
        let mut life = ground.open(IPSECMGR).await;
        publish(&life.0, 0..10);
        hears(&mut subscription, 0..10).await;
        // Each life publishes before anybody listens; the second one as many as the first, the third fewer.
        for times in [10..20, 20..25] {
            life = restart(ground, life).await;
            publish(&life.0, times.clone());
            // The last ones of the life before may not have left.
            assert_eq!(subscription.next().await, Heard::Missed(IPSECMGR));
            hears(&mut subscription, times).await;
        }
        publish(&life.0, 25..30);
        hears(&mut subscription, 25..30).await;
    });
}

#[test]
fn a_restarted_subscriber_goes_on_where_the_last_one_was() {
    on_both(async |ground| {
        let life = ground.open(IPSECMGR).await;
        let (snmp, _server) = ground.open(SNMP).await;
        publish(&life.0, 0..10);
        let mut subscription = follow(&snmp);
        hears(&mut subscription, 0..4).await;
        let positions = subscription.positions().clone();
        assert_eq!(positions.get(&IPSECMGR).map(|position| position.next), Some(4));
        drop(subscription);
        publish(&life.0, 10..20);
        let resumed = |positions: &BTreeMap<Address, Position>| {
            let mut subscription = snmp.subscribe::<Notice>().resume(positions.clone());
            subscription.follow(IPSECMGR);
            subscription
        };
        let mut subscription = resumed(&positions);
        hears(&mut subscription, 4..20).await;
        // What waits in a subscription is not heard again when the publisher is followed anew.
        publish(&life.0, 20..30);
        hears(&mut subscription, 20..21).await;
        subscription.unfollow(IPSECMGR);
        subscription.follow(IPSECMGR);
        hears(&mut subscription, 21..30).await;
        // Another life of the publisher has other positions.
        let life = restart(ground, life).await;
        publish(&life.0, 30..40);
        let mut subscription = resumed(&positions);
        assert_eq!(subscription.next().await, Heard::Missed(IPSECMGR));
        hears(&mut subscription, 30..40).await;
    });
}
