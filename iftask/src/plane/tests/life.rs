//! SAs come and go, processes restart, workers help each other.

use std::time::Duration;

use sadb::{
    SaCounter, Selector, Selectors, Slot, StrayConsumer, StrayHeader, StrayOrigin, StrayProducer, StrayRing,
};

use super::world::*;
use crate::counters::Count;
use crate::plane::keepalive::Keepalive;

const SECOND: u64 = 1_000_000_000;

fn reply(gateway: &mut World) -> Vec<Sent> {
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", b"reply", None);
    gateway.send(header, &packet);
    gateway.flushed()
}

fn request(peer: &mut World) -> Vec<Sent> {
    let (header, packet) = udp("10.2.0.7", "10.1.0.1", b"request", None);
    peer.send(header, &packet);
    peer.flushed()
}

fn spi_of(sent: &[Sent]) -> u32 {
    esp::spi_of(&sent[0].data).unwrap()
}

#[test]
fn rekeying_loses_nothing() {
    let (mut gateway, mut peer, old_in, old_out) = tunnel(|_| {});
    let late = request(&mut peer);
    // The responder has the new pair, and does not send on it before the peer is known to have it.
    let (new_in, new_out) = (gateway.owner.allocate().unwrap(), peer.owner.allocate().unwrap());
    let mut new = gateway_sa(new_in, new_out.to_u32(), 7);
    new.inbound_keys = new.outbound_keys.clone();
    new.outbound_active = false;
    gateway.install(&new);
    assert_eq!(spi_of(&reply(&mut gateway)), old_out.to_u32());
    // The initiator sends on the new one at once; the responder follows.
    new.outbound_active = true;
    peer.install(&mirrored(&new, new_out));
    let first = request(&mut peer);
    assert_eq!(spi_of(&first), new_in.to_u32());
    gateway.receive(&first, PEER);
    gateway.update(&new);
    assert_eq!(spi_of(&reply(&mut gateway)), new_out.to_u32());
    // What was under way on the old one still arrives, until it is deleted.
    gateway.receive(&late, PEER);
    assert_eq!(gateway.delivered().len(), 2);
    gateway.owner.remove(old_in).unwrap();
    gateway.engine.refresh();
    gateway.receive(&late, PEER);
    assert_eq!(gateway.count(Count::NoSa), 1);
    assert_eq!(gateway.engine.table.len(), 1);
}

#[test]
fn a_packet_finds_an_sa_that_was_installed_a_moment_ago() {
    let mut gateway = World::new(1, 1, GATEWAY);
    let mut peer = World::new(1, 9, PEER);
    let (inbound, outbound) = (gateway.owner.allocate().unwrap(), peer.owner.allocate().unwrap());
    let sa = gateway_sa(inbound, outbound.to_u32(), 7);
    peer.install(&mirrored(&sa, outbound));
    let sent = request(&mut peer);
    // Nobody looks at the change log but for the packet's sake.
    gateway.owner.install(&sa).unwrap();
    gateway.receive(&sent, PEER);
    assert_eq!(gateway.delivered().len(), 1);

    let (another, out) = (gateway.owner.allocate().unwrap(), 0xdead_beef);
    gateway.owner.install(&gateway_sa(another, out, 8)).unwrap();
    gateway.engine.now_ns += 2_000_000;
    let (header, packet) = udp("10.1.0.1", "10.2.0.8", b"x", None);
    gateway.send(header, &packet);
    assert_eq!(spi_of(&gateway.flushed()), out);
}

#[test]
fn a_removed_sa_sends_nothing_even_if_that_was_not_noticed_yet() {
    let (mut gateway, _, inbound, _) = tunnel(|_| {});
    assert_eq!(reply(&mut gateway).len(), 1);
    gateway.owner.remove(inbound).unwrap();
    // The record goes to another SA (in real life after a rest).
    let mut again = gateway.owner.allocate().unwrap();
    while again.index() != inbound.index() {
        again = gateway.owner.allocate().unwrap();
    }
    gateway.owner.install(&gateway_sa(again, 0x0bad_cafe, 9)).unwrap();
    assert_eq!(
        reply(&mut gateway),
        [],
        "no number of the new SA under the old key"
    );
    assert_eq!(gateway.engine.table.len(), 1, "and now it was noticed");
    let (header, packet) = udp("10.1.0.1", "10.2.0.9", b"x", None);
    gateway.send(header, &packet);
    let sent = gateway.flushed();
    assert_eq!((spi_of(&sent), sent[0].data[7]), (0x0bad_cafe, 1));
}

#[test]
fn a_restarted_data_plane_goes_on() {
    let (mut gateway, mut peer, inbound, _) = tunnel(|_| {});
    let old = request(&mut peer);
    gateway.receive(&old, "203.0.113.5:61000");
    let before: Vec<_> = (0..3).flat_map(|_| reply(&mut gateway)).collect();
    let mut gateway = gateway.restarted(GATEWAY);
    assert_eq!(gateway.engine.table.len(), 1);
    let after = reply(&mut gateway);
    assert_eq!((before[2].data[7], after[0].data[7]), (3, 4), "no number twice");
    assert_eq!(
        after[0].destination.to_string(),
        "203.0.113.5:61000",
        "the learned address"
    );
    gateway.receive(&old, PEER);
    assert_eq!(gateway.count(Count::Replayed), 1, "the window");
    assert_eq!(gateway.of_sa(inbound, SaCounter::PacketsOut), 4, "the counters");
    peer.receive(&[before, after].concat(), GATEWAY);
    assert_eq!(peer.delivered().len(), 4);
}

#[test]
fn used_up_numbers_stop_the_sa() {
    let (mut gateway, _, inbound, _) = tunnel(|_| {});
    {
        let worker = gateway.engine.table.slots().get(Slot::MIN).unwrap();
        worker.hot(inbound).unwrap().reserve(u32::MAX - 1, false).unwrap();
    }
    assert_eq!(reply(&mut gateway).len(), 1);
    assert_eq!(reply(&mut gateway).len(), 0);
    assert_eq!(gateway.of_sa(inbound, SaCounter::DropSequence), 1);
    assert_eq!(gateway.count(Count::SequenceSpent), 1);

    let (mut gateway, mut peer, inbound, outbound) = tunnel(|sa| sa.esn = true);
    {
        let worker = gateway.engine.table.slots().get(Slot::MIN).unwrap();
        worker.hot(inbound).unwrap().reserve(u32::MAX - 1, true).unwrap();
        let slot = Slot::new(9).unwrap();
        let worker = peer.engine.table.slots().get(slot).unwrap();
        let hot = worker.hot(outbound).unwrap();
        hot.accept(u64::from(u32::MAX) - 1, 64);
    }
    let sent: Vec<_> = (0..3).flat_map(|_| reply(&mut gateway)).collect();
    peer.receive(&sent, GATEWAY);
    assert_eq!(peer.delivered().len(), 3, "extended numbers go on");
}

#[test]
fn unusable_records_are_reported_and_left_out() {
    let mut gateway = World::new(1, 1, GATEWAY);
    let inbound = gateway.owner.allocate().unwrap();
    let mut sa = gateway_sa(inbound, 5, 7);
    sa.algorithms.encryption = 3;
    gateway.install(&sa);
    assert_eq!(gateway.engine.table.len(), 0);
    sa = gateway_sa(inbound, 5, 7);
    sa.outbound_keys.encryption = sadb::SecretBytes::new("key", &[1; 5]).unwrap();
    gateway.update(&sa);
    assert_eq!(reply(&mut gateway), []);
    assert_eq!(gateway.count(Count::Unusable), 1);
}

#[test]
fn slots_come_and_go() {
    let (mut gateway, mut peer, ..) = tunnel(|_| {});
    let sent = request(&mut peer);
    gateway.engine.drop_slot(Slot::MIN);
    gateway.receive(&sent, PEER);
    assert_eq!((gateway.engine.table.len(), gateway.count(Count::NoSa)), (0, 1));
    assert_eq!(reply(&mut gateway), []);
}

/// Rings between some workers, all to all.
fn connect(worlds: &mut [World]) {
    let numbers: Vec<u16> = (1..=worlds.len() as u16).collect();
    let owners: Vec<u16> = numbers.clone();
    let mut rings = std::collections::HashMap::new();
    for &one in &numbers {
        for &two in &numbers {
            rings.insert((one, two), StrayRing::create(0).unwrap());
        }
    }
    let end = |from: u16, to: u16| {
        let (memory, event) = rings[&(from, to)].fds();
        (
            memory.try_clone_to_owned().unwrap(),
            event.try_clone_to_owned().unwrap(),
        )
    };
    for (world, &number) in worlds.iter_mut().zip(&numbers) {
        world.engine.strays.set_owners(&owners, &owners);
        for &other in numbers.iter().filter(|other| **other != number) {
            let (memory, event) = end(number, other);
            let to = StrayProducer::map(memory, event).unwrap();
            let (memory, event) = end(other, number);
            let from = StrayConsumer::map(memory, event).unwrap();
            world.engine.strays.add_ring(other, to, from);
        }
    }
}

/// Lets every worker take what the others passed on, some times over.
fn settle(worlds: &mut [World]) {
    for _ in 0..worlds.len() + 1 {
        let count = worlds.len() as u16;
        for (world, number) in worlds.iter_mut().zip(1..) {
            for other in (1..=count).filter(|other| *other != number) {
                world.engine.take_strays(other);
            }
            world.engine.end();
        }
    }
}

#[test]
fn strays_from_the_network_reach_their_owner() {
    let mut workers: Vec<World> = (1..=3).map(|n| World::new(n, n as u8, GATEWAY)).collect();
    connect(&mut workers);
    let mut peer = World::new(1, 9, PEER);
    let (inbound, outbound) = (
        workers[2].owner.allocate().unwrap(),
        peer.owner.allocate().unwrap(),
    );
    let sa = gateway_sa(inbound, outbound.to_u32(), 7);
    workers[2].install(&sa);
    peer.install(&mirrored(&sa, outbound));
    let sent = request(&mut peer);
    workers[0].receive(&sent, "203.0.113.5:61000");
    settle(&mut workers);
    assert_eq!(workers[2].delivered().len(), 1);
    assert_eq!(
        (
            workers[0].count(Count::StraySent),
            workers[2].count(Count::StrayReceived)
        ),
        (1, 1)
    );
    let learned = workers[2].owner.activity(inbound).unwrap().learned_peer;
    assert_eq!(learned, Some("203.0.113.5:61000".parse().unwrap()));
    // A slot of nobody.
    let mut stranger = sent.clone();
    stranger[0].data[0] = 200;
    workers[0].receive(&stranger, PEER);
    assert_eq!(workers[0].count(Count::NoSa), 1);
}

/// The rings between a worker and its `ipsecmgr`: that one's ends.
fn join_manager(world: &mut World, worker: u16) -> (StrayProducer, StrayConsumer) {
    let [(to, from), (to_us, from_us)] = [(); 2].map(|()| {
        let ring = StrayRing::create(0).unwrap();
        let (memory, event) = ring.fds();
        let event = || event.try_clone_to_owned().unwrap();
        (
            StrayProducer::map(memory, event()).unwrap(),
            StrayConsumer::map(memory, event()).unwrap(),
        )
    });
    world.engine.strays.add_ring(worker, to, from_us);
    (to_us, from)
}

fn popped(ring: &mut StrayConsumer) -> Option<(StrayHeader, StrayOrigin, Vec<u8>)> {
    let mut buffer = vec![0; StrayRing::MAX_PACKET];
    let (header, length) = ring.pop(&mut buffer)?;
    let (origin, data) = StrayOrigin::split(&mut buffer[..length])?;
    Some((header, origin, data.to_vec()))
}

#[test]
fn ike_among_esp_reaches_the_ipsecmgr_of_its_slot() {
    let mut workers: Vec<World> = (1..=2).map(|n| World::new(n, n as u8, GATEWAY)).collect();
    connect(&mut workers);
    let mut managers: Vec<_> = (1..).zip(&mut workers).map(|(n, w)| join_manager(w, n)).collect();
    let mut peer = World::new(1, 9, PEER);
    let (inbound, outbound) = (
        workers[0].owner.allocate().unwrap(),
        peer.owner.allocate().unwrap(),
    );
    let sa = gateway_sa(inbound, outbound.to_u32(), 7);
    workers[0].install(&sa);
    peer.install(&mirrored(&sa, outbound));
    let mut sent = request(&mut peer);
    let length = sent[0].data.len();
    let ike = |slot: u8, length: usize| {
        let mut message = vec![0x2e; length];
        (message[8], message[19]) = (slot, 0x08);
        message
    };
    // Three that are as long as the packet, and a shorter one, as the kernel coalesces them.
    let messages = [
        ike(1, length - 4),
        ike(2, length - 4),
        ike(0, length - 4),
        ike(1, 28),
    ];
    for message in &messages {
        sent[0].data.extend([&[0; 4][..], message].concat());
    }
    sent[0].segment = Some(length as u16);
    workers[0].receive(&sent, "203.0.113.5:61000");
    settle(&mut workers);
    assert_eq!(workers[0].delivered().len(), 1);
    let origin = StrayOrigin {
        source: "203.0.113.5:61000".parse().unwrap(),
        local: GATEWAY.parse().unwrap(),
        traffic_class: sent[0].traffic_class,
        encapsulation: sadb::Encapsulation::Udp,
    };
    for (manager, number) in [(0, 0), (1, 1), (0, 2), (0, 3)] {
        let expected = (StrayHeader::IKE, origin, messages[number].clone());
        assert_eq!(
            popped(&mut managers[manager].1),
            Some(expected),
            "message {number}"
        );
    }
    assert_eq!(managers.iter_mut().find_map(|(_, from)| popped(from)), None);
    assert_eq!(workers[0].count(Count::NotEsp), 0);

    // What an ipsecmgr found goes to the owner, and never back.
    let mut esp = request(&mut peer);
    let from_manager = |managers: &mut [(StrayProducer, StrayConsumer)], header, data: &[u8]| {
        assert!(managers[1].0.push(header, &[&origin.encode(), data]));
    };
    from_manager(&mut managers, StrayHeader::ESP, &esp.remove(0).data);
    from_manager(&mut managers, StrayHeader::IKE, &messages[0]);
    from_manager(&mut managers, StrayHeader::IKE, &messages[1]);
    workers[1].engine.take_strays(2);
    settle(&mut workers);
    assert_eq!(workers[0].delivered().len(), 1);
    let expected = (StrayHeader::IKE, origin, messages[0].clone());
    assert_eq!(popped(&mut managers[0].1), Some(expected));
    assert_eq!(popped(&mut managers[1].1), None);
    assert_eq!(workers[1].count(Count::IkeAstray), 1);
}

#[test]
fn strays_from_the_clear_side_find_their_owner_and_later_ones_go_straight() {
    let mut workers: Vec<World> = (1..=4).map(|n| World::new(n, n as u8, GATEWAY)).collect();
    connect(&mut workers);
    let inbound = workers[3].owner.allocate().unwrap();
    workers[3].install(&gateway_sa(inbound, 0xcafe, 7));
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", b"x", None);
    workers[0].send(header, &packet);
    settle(&mut workers);
    assert_eq!(workers[3].flushed().len() + workers[3].engine.io.sent.len(), 1);
    assert_eq!(workers[1].count(Count::StraySent), 1, "by way of worker 2");
    let attracted = |worker: &World| worker.engine.io.attracted.last().copied();
    let tun = workers[3].engine.ports.tun(CONTEXT).unwrap();
    assert_eq!(
        attracted(&workers[3]),
        Some((tun, "10.2.0.7".parse().unwrap())),
        "the kernel knows"
    );
    assert_eq!(workers[0].engine.io.attracted, []);
    workers[0].send(header, &packet);
    settle(&mut workers);
    assert_eq!(workers[1].count(Count::StraySent), 1, "no longer");
    assert_eq!(workers[3].count(Count::EspSent), 2);

    // Nobody has it: everybody was asked, one counted it.
    let (header, packet) = udp("10.1.0.1", "10.2.0.99", b"x", None);
    workers[1].send(header, &packet);
    settle(&mut workers);
    let lost: u64 = workers
        .iter_mut()
        .map(|worker| worker.count(Count::ClearNoSa))
        .sum();
    assert_eq!(lost, 1);
    // For a while nobody is asked again, then everybody is.
    let passed = |workers: &mut [World]| -> u64 {
        workers
            .iter_mut()
            .map(|worker| worker.count(Count::StraySent))
            .sum()
    };
    let before = passed(&mut workers);
    workers[1].send(header, &packet);
    settle(&mut workers);
    assert_eq!(passed(&mut workers), before);
    assert_eq!(workers[1].count(Count::ClearNoSa), 1);
    let later = workers[1].engine.now_ns + 2 * SECOND;
    workers[1].engine.begin(later);
    workers[1].send(header, &packet);
    settle(&mut workers);
    assert_eq!(passed(&mut workers), before + 3);

    // The SA moves to another worker: one packet is lost to the old hint at most, then it is found again.
    workers[3].owner.remove(inbound).unwrap();
    workers[3].engine.refresh();
    let inbound = workers[1].owner.allocate().unwrap();
    workers[1].install(&gateway_sa(inbound, 0xcafe, 7));
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", b"x", None);
    for _ in 0..3 {
        workers[0].send(header, &packet);
        settle(&mut workers);
    }
    assert!(workers[1].count(Count::EspSent) >= 2);
    let tun = workers[1].engine.ports.tun(CONTEXT).unwrap();
    assert_eq!(attracted(&workers[1]), Some((tun, "10.2.0.7".parse().unwrap())));
}

/// RFC 9611.
#[test]
fn flows_to_a_destination_that_several_have_sas_for_go_to_each_of_them() {
    for range in [("10.2.0.7", "10.2.0.7"), ("10.2.0.0", "10.2.0.255")] {
        let mut workers: Vec<World> = (1..=3).map(|n| World::new(n, n as u8, GATEWAY)).collect();
        connect(&mut workers);
        let spis: Vec<_> = (1..3)
            .map(|n| {
                let inbound = workers[n].owner.allocate().unwrap();
                let mut sa = gateway_sa(inbound, 0xcafe, 7);
                let [start, end] = [range.0, range.1].map(|address| address.parse().unwrap());
                sa.remote_selectors = Selectors::new(&[Selector::any_port(start, end)]).unwrap();
                sa.shared = true;
                workers[n].install(&sa);
                (inbound, sa)
            })
            .collect();
        settle(&mut workers);
        for worker in &mut workers {
            worker.engine.io.attracted.clear();
        }
        let (header, packet) = udp("10.1.0.1", "10.2.0.7", b"x", None);
        for worker in &mut workers {
            worker.send(header, &packet);
        }
        settle(&mut workers);
        // Whoever has an SA uses it, whoever has none finds one.
        let sent: Vec<u64> = workers
            .iter_mut()
            .map(|worker| worker.count(Count::EspSent))
            .collect();
        assert_eq!((sent[0], sent.iter().sum::<u64>()), (0, 3), "{sent:?}");
        assert!(sent[1] > 0 && sent[2] > 0);
        for worker in &workers[1..] {
            let tun = worker.engine.ports.tun(CONTEXT).unwrap();
            assert!(
                worker
                    .engine
                    .io
                    .spread
                    .contains(&(tun, "10.2.0.7".parse().unwrap()))
            );
            assert_eq!(worker.engine.io.attracted, [], "nobody takes all of them");
        }
        // One of them is left: it takes them all.
        workers[1].owner.remove(spis[0].0).unwrap();
        workers[1].engine.refresh();
        let mut alone = spis[1].1.clone();
        alone.shared = false;
        workers[2].owner.update(&alone).unwrap();
        workers[2].engine.refresh();
        for _ in 0..2 {
            workers[1].send(header, &packet);
            settle(&mut workers);
        }
        assert!(workers[2].count(Count::EspSent) > sent[2]);
        let tun = workers[2].engine.ports.tun(CONTEXT).unwrap();
        let attracted = workers[2].engine.io.attracted.last();
        assert_eq!(attracted, Some(&(tun, "10.2.0.7".parse().unwrap())));
    }
}

#[test]
fn a_new_sa_is_found_although_nobody_had_it_a_moment_ago() {
    for range in [("10.2.0.7", "10.2.0.7"), ("10.2.0.0", "10.2.0.255")] {
        let mut workers: Vec<World> = (1..=3).map(|n| World::new(n, n as u8, GATEWAY)).collect();
        connect(&mut workers);
        let (header, packet) = udp("10.1.0.1", "10.2.0.7", b"x", None);
        for _ in 0..2 {
            workers[0].send(header, &packet);
            settle(&mut workers);
        }
        assert_eq!(
            workers[0].count(Count::ClearNoSa),
            1,
            "the second was not asked for"
        );
        let inbound = workers[2].owner.allocate().unwrap();
        let mut sa = gateway_sa(inbound, 0xcafe, 7);
        sa.remote_selectors = selectors(&[range]);
        workers[2].install(&sa);
        settle(&mut workers);
        workers[0].send(header, &packet);
        settle(&mut workers);
        assert_eq!(workers[2].count(Count::EspSent), 1);
        // A changed record is no news.
        workers[2].owner.update(&sa).unwrap();
        workers[2].engine.table.refresh();
        assert_eq!(workers[2].engine.table.take_news(), None);
    }
}

#[test]
fn a_flood_for_nobody_does_not_keep_the_others_busy() {
    let mut workers: Vec<World> = (1..=2).map(|n| World::new(n, n as u8, GATEWAY)).collect();
    connect(&mut workers);
    for number in 0..20_000u32 {
        let [.., high, low] = number.to_be_bytes();
        let (header, packet) = udp("10.1.0.1", &format!("10.9.{high}.{low}"), b"x", None);
        workers[0].send(header, &packet);
        if number % 1000 == 0 {
            // Hints come back by the same rings.
            while workers[1].engine.take_strays(1) {}
            while workers[0].engine.take_strays(2) {}
        }
    }
    let sent = workers[0].count(Count::StraySent);
    assert_eq!(sent, 10_000, "of this moment's allowance");
    assert!(workers[0].count(Count::ClearNoSa) >= 10_000);
}

#[test]
fn a_full_ring_loses_and_counts() {
    let mut workers: Vec<World> = (1..=2).map(|n| World::new(n, n as u8, GATEWAY)).collect();
    connect(&mut workers);
    let (header, packet) = tcp("10.1.0.1", "10.2.0.7", &[0; 60_000], Some(1400));
    for _ in 0..10 {
        workers[0].send(header, &packet);
    }
    let (sent, lost) = (
        workers[0].count(Count::StraySent),
        workers[0].count(Count::StrayLost),
    );
    assert!(lost > 0 && sent + lost == 10, "{sent} {lost}");
}

#[test]
fn keepalives_are_sent_on_idle_sas_of_services_that_want_them() {
    let (mut gateway, mut peer, ..) = tunnel(|_| {});
    let local = GATEWAY.parse::<std::net::SocketAddr>().unwrap().ip();
    let start = gateway.engine.now_ns;
    let after = |gateway: &mut World, seconds: u64| {
        gateway.engine.begin(start + seconds * SECOND);
        for _ in 0..3 {
            gateway.engine.keep_alive();
        }
        gateway.flushed()
    };
    assert_eq!(after(&mut gateway, 100), [], "not configured");
    let keepalive = Keepalive {
        idle: Duration::from_secs(30),
        interval: Duration::from_secs(20),
    };
    gateway.engine.keepalives.set(vec![(local, keepalive)]);
    let sent = after(&mut gateway, 101);
    assert_eq!((sent.len(), sent[0].data.as_slice()), (1, &[0xff][..]));
    assert_eq!(after(&mut gateway, 102), []);
    assert_eq!(after(&mut gateway, 122).len(), 1);
    reply(&mut gateway);
    assert_eq!(after(&mut gateway, 145), [], "not idle");
    assert_eq!(after(&mut gateway, 160).len(), 1);
    peer.receive(&sent, GATEWAY);
    assert_eq!(peer.count(Count::Keepalives), 1);
}
