//! The last step for packets of a slot is taken by another worker: nothing is lost, doubled or overtaken, whenever it begins or ends.

use crypto::{Cipher, Integrity};
use esp::Transform;
use proptest::prelude::*;
use sadb::{ChildSa, Encapsulation, SaCounter, Spi, StrayConsumer, StrayProducer, StrayRing};

use super::world::*;
use crate::counters::Count;

/// Two workers; the first has the slot of a tunnel to a peer.
struct Pair {
    workers: [World; 2],
    peer: World,
    spi: Spi,
}

impl Pair {
    fn new(encapsulation: Encapsulation) -> Self {
        Self::with(|sa| sa.encapsulation = encapsulation)
    }

    /// The tunnel is changed by `change`.
    fn with(change: impl Fn(&mut ChildSa)) -> Self {
        let (mut first, peer, spi, _) = tunnel(change);
        let mut second = World::new(2, 2, GATEWAY);
        let rings = [(); 2].map(|()| StrayRing::create(0).unwrap());
        let fds = |ring: &StrayRing| {
            let (memory, event) = ring.fds();
            (
                memory.try_clone_to_owned().unwrap(),
                event.try_clone_to_owned().unwrap(),
            )
        };
        let to = |ring| {
            let (memory, event) = fds(ring);
            StrayProducer::map(memory, event).unwrap()
        };
        let from = |ring| {
            let (memory, event) = fds(ring);
            StrayConsumer::map(memory, event).unwrap()
        };
        let [there, back] = &rings;
        first.engine.strays.add_ring(2, to(there), from(back));
        second.engine.strays.add_ring(1, to(back), from(there));
        Self {
            workers: [first, second],
            peer,
            spi,
        }
    }

    /// The output of the tunnel's slot is this worker's.
    fn output(&mut self, worker: u16) {
        let mut outputs = vec![0; 255];
        outputs[0] = if worker == 1 { 0 } else { worker };
        self.workers[0].engine.strays.set_outputs(&outputs);
    }

    fn peer_sends(&mut self, payload: &[u8], gso: Option<u16>) {
        let (header, packet) = udp("10.2.0.7", "10.1.0.1", payload, gso);
        self.peer.send(header, &packet);
        let sent = self.peer.flushed();
        self.workers[0].receive(&sent, PEER);
    }

    fn network_sends(&mut self, payload: &[u8], gso: Option<u16>) {
        let (header, packet) = udp("10.1.0.1", "10.2.0.7", payload, gso);
        self.workers[0].send(header, &packet);
        self.workers[0].engine.flush();
    }

    fn second_works(&mut self) {
        while self.workers[1].engine.take_strays(1) {}
    }

    fn counts(&mut self, count: Count) -> [u64; 2] {
        self.workers.each_mut().map(|worker| worker.count(count))
    }
}

#[test]
fn super_packets_are_handed_on_whole_and_counted_once() {
    let mut pair = Pair::new(Encapsulation::Udp);
    pair.output(2);
    let payload: Vec<u8> = (0..6000).map(|n| n as u8).collect();
    pair.peer_sends(&payload, Some(1000));
    pair.network_sends(&payload, Some(1000));
    assert_eq!(pair.workers[0].engine.io.written.len(), 0);
    assert_eq!(pair.workers[0].flushed(), []);
    pair.second_works();
    let written = std::mem::take(&mut pair.workers[1].engine.io.written);
    assert_eq!(written.len(), 1, "as one super-packet");
    assert_eq!(written[0].2[28..], payload);
    let sent = pair.workers[1].flushed();
    assert_eq!(sent.len(), 1, "as one burst");
    pair.peer.receive(&sent, GATEWAY);
    let arrived = pair.peer.delivered();
    let again: Vec<u8> = arrived.iter().flat_map(|packet| packet[28..].to_vec()).collect();
    assert_eq!(again, payload);
    for (count, both) in [
        (Count::EspReceived, [6, 0]),
        (Count::Delivered, [0, 6]),
        (Count::ClearReceived, [6, 0]),
        (Count::EspSent, [0, 6]),
        (Count::OutputHandedOn, [12, 0]),
        (Count::OutputTaken, [0, 12]),
    ] {
        assert_eq!(pair.counts(count), both, "{count:?}");
    }
    let of_sa = |counter| pair.workers[0].of_sa(pair.spi, counter);
    assert_eq!(
        (of_sa(SaCounter::PacketsIn), of_sa(SaCounter::PacketsOut)),
        (6, 6)
    );
}

#[test]
fn a_burst_of_cbc_is_sealed_before_it_is_handed_on() {
    let cbc = Transform::new(Cipher::AesCbc256, Some(Integrity::HmacSha2_256_128)).unwrap();
    let mut pair = Pair::with(|sa| with_transform(sa, cbc));
    pair.output(2);
    let payload: Vec<u8> = (0..23_000).map(|n| (n / 5) as u8).collect();
    pair.network_sends(&payload, Some(1000));
    pair.second_works();
    let sent = pair.workers[1].flushed();
    assert_eq!(sent.len(), 1, "as one burst");
    pair.peer.receive(&sent, GATEWAY);
    let arrived = pair.peer.delivered();
    let again: Vec<u8> = arrived.iter().flat_map(|packet| packet[28..].to_vec()).collect();
    assert_eq!(again, payload);
}

#[test]
fn protocol_50_leaves_packet_by_packet() {
    let mut pair = Pair::new(Encapsulation::Esp);
    pair.output(2);
    pair.network_sends(&[7; 3000], Some(1000));
    pair.second_works();
    let sent = pair.workers[1].flushed();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|sent| sent.socket == 1 && sent.segment.is_none()));
}

#[test]
fn what_the_other_one_cannot_do_is_counted_there_and_told() {
    let mut pair = Pair::new(Encapsulation::Udp);
    pair.output(2);
    // A kernel that takes no super-packets of UDP.
    pair.workers[1].engine.io.old_kernel = true;
    pair.peer_sends(&[1; 3000], Some(1000));
    pair.second_works();
    assert_eq!(pair.workers[1].delivered().len(), 3);
    assert_eq!(pair.counts(Count::Delivered), [0, 3]);
    // A clear side that is down.
    pair.workers[1].engine.io.down = true;
    pair.peer_sends(&[2; 3000], Some(1000));
    pair.second_works();
    assert_eq!(pair.counts(Count::NotDelivered), [0, 3]);
    // An interface that takes less than the record says: the sender of the next packet hears of it.
    pair.workers[1].engine.io.narrow = Some(1200);
    let (header, mut packet) = udp("10.1.0.1", "10.2.0.7", &[3; 1200], None);
    packet[6] = 0x40;
    pair.workers[0].send(header, &packet);
    pair.workers[0].engine.flush();
    pair.second_works();
    assert_eq!(pair.counts(Count::NotSent), [0, 1]);
    pair.workers[0].engine.take_strays(2);
    pair.workers[0].send(header, &packet);
    assert_eq!(pair.counts(Count::TooBig), [1, 0]);
    assert_eq!(pair.workers[0].delivered().len(), 1, "the ICMP message");
}

#[test]
fn what_the_ring_does_not_take_is_lost_and_counted_here() {
    let mut pair = Pair::new(Encapsulation::Udp);
    pair.output(2);
    for _ in 0..20 {
        pair.peer_sends(&[1; 20_000], Some(1000));
        pair.network_sends(&[1; 20_000], Some(1000));
    }
    pair.second_works();
    let [lost_in, _] = pair.counts(Count::NotDelivered);
    let [lost_out, _] = pair.counts(Count::NotSent);
    assert!(lost_in > 0 && lost_out > 0);
    let [_, taken] = pair.counts(Count::OutputTaken);
    assert_eq!(taken + lost_in + lost_out, 800);
    let of_sa = |counter| pair.workers[0].of_sa(pair.spi, counter);
    assert_eq!(of_sa(SaCounter::DropDeliver), lost_in);
    assert_eq!(of_sa(SaCounter::DropSend), lost_out);
}

#[test]
fn an_output_comes_back_also_from_a_worker_that_does_not_come_to_an_end() {
    let mut pair = Pair::new(Encapsulation::Udp);
    let late = |pair: &mut Pair| pair.workers[0].engine.strays.take_back_late();
    pair.output(2);
    pair.peer_sends(b"handed on", None);
    assert_eq!(late(&mut pair), 0, "it is meant to be there");
    pair.output(1);
    for _ in 0..9 {
        assert_eq!(late(&mut pair), 0);
        pair.peer_sends(b"behind it", None);
    }
    assert!(pair.workers[0].delivered().is_empty());
    assert_eq!(late(&mut pair), 1);
    pair.peer_sends(b"overtakes", None);
    assert_eq!(pair.workers[0].delivered().len(), 1);
    pair.second_works();
    assert_eq!(pair.workers[1].delivered().len(), 10, "nothing is lost");
    // What others put into the same ring afterwards does not keep it there.
    pair.output(2);
    pair.peer_sends(b"handed on", None);
    pair.second_works();
    let header = sadb::StrayHeader { kind: 5, context: 0 };
    assert!(pair.workers[0].engine.strays.push(2, header, &[]));
    pair.output(1);
    pair.peer_sends(b"our own", None);
    assert_eq!(pair.workers[0].delivered().len(), 1);
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Happening {
    PeerSends,
    NetworkSends,
    SecondWorks,
    Output(u16),
}

proptest! {
    #[test]
    fn the_order_stays_whoever_has_the_output(happenings in proptest::collection::vec(prop_oneof![
        4 => Just(Happening::PeerSends),
        4 => Just(Happening::NetworkSends),
        2 => Just(Happening::SecondWorks),
        1 => (1u16..3).prop_map(Happening::Output),
    ], 0..60)) {
        let mut pair = Pair::new(Encapsulation::Udp);
        let (mut number, mut arrived, mut left) = (0u32, Vec::new(), Vec::new());
        let (mut expected_in, mut expected_out) = (Vec::new(), Vec::new());
        for happening in happenings.into_iter().chain([Happening::SecondWorks]) {
            number += 1;
            match happening {
                Happening::PeerSends => {
                    pair.peer_sends(&number.to_be_bytes(), None);
                    expected_in.push(number);
                }
                Happening::NetworkSends => {
                    pair.network_sends(&number.to_be_bytes(), None);
                    expected_out.push(number);
                }
                Happening::SecondWorks => pair.second_works(),
                Happening::Output(worker) => pair.output(worker),
            }
            for worker in &mut pair.workers {
                let number = |packet: &[u8]| u32::from_be_bytes(*packet.last_chunk().unwrap());
                arrived.extend(worker.delivered().iter().map(|packet| number(packet)));
                let sent = worker.flushed();
                pair.peer.receive(&sent, GATEWAY);
                left.extend(pair.peer.delivered().iter().map(|packet| number(packet)));
            }
        }
        prop_assert_eq!(arrived, expected_in);
        prop_assert_eq!(left, expected_out);
        // Nothing is on its way: the next packet goes by whoever the map says.
        pair.output(1);
        pair.peer_sends(b"last", None);
        prop_assert_eq!(pair.workers[0].delivered().len(), 1);
    }
}
