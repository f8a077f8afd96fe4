use super::*;
use netio::SocketOptions;
use sadb::{StrayConsumer, StrayProducer, StrayRing};

fn socket() -> DatagramSocket {
    DatagramSocket::bind_udp("127.0.0.1:0".parse().unwrap(), SocketOptions::default()).unwrap()
}

#[tokio::test]
async fn datagrams_come_in_and_go_out_and_are_counted() {
    let counters = Counters::in_memory();
    let mut sockets = Sockets::new(counters.clone()).unwrap();
    let (ours, peer) = (socket(), socket());
    let (local, remote) = (ours.local(), peer.local());
    sockets.add(ours.into()).unwrap();
    SendBatch::new(4)
        .send(
            &peer,
            &[Datagram::to(local, b"one"), Datagram::to(local, b"second")],
        )
        .unwrap();
    let mut got = Vec::new();
    while got.len() < 2 {
        sockets.readable().await;
        sockets.receive(&mut |path, message| {
            assert_eq!(path, Path { local, remote });
            got.push(message.to_vec());
        });
    }
    assert_eq!(got, [b"one".to_vec(), b"second".to_vec()]);
    sockets.receive(&mut |_, _| panic!("nothing waits"));
    let nothing = tokio::time::timeout(Duration::from_millis(50), sockets.readable()).await;
    assert!(nothing.is_err(), "ready although nothing waits");

    sockets.transmit(Path { local, remote }, b"answer".to_vec());
    sockets.transmit(
        Path {
            local: "127.0.0.1:1".parse().unwrap(),
            remote,
        },
        b"nobody sends this".to_vec(),
    );
    sockets.flush();
    let mut batch = ReceiveBatch::new(4, 100);
    assert_eq!(batch.receive(&peer).unwrap(), 1);
    assert_eq!(batch.iter_mut().next().unwrap().data, b"answer");
    let counted = [
        counter::RX_PACKETS,
        counter::RX_OCTETS,
        counter::TX_PACKETS,
        counter::TX_OCTETS,
    ];
    assert_eq!(counted.map(|counter| counters.get(counter)), [2, 9, 1, 6]);
}

/// Runs a test in a namespace, where port 4500 is free.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let Ok(namespace) = netio::Namespace::create() else {
        eprintln!("skipped: needs root");
        return;
    };
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    };
    namespace.run(work).unwrap();
}

fn bind(address: &str) -> DatagramSocket {
    let options = SocketOptions {
        gro: true,
        ..SocketOptions::default()
    };
    DatagramSocket::bind_udp(address.parse().unwrap(), options).unwrap()
}

#[test]
fn on_the_nat_port_only_ike_passes() {
    in_namespace(|| async {
        let counters = Counters::in_memory();
        let mut sockets = Sockets::new(counters.clone()).unwrap();
        let (ours, peer) = (bind("127.0.0.1:4500"), bind("127.0.0.1:0"));
        let to = ours.local();
        sockets.add(ours.into()).unwrap();
        let datagrams = [&b"\0\0\0\0ike"[..], b"\xff", b"\x01\0\0\x05esp", b"\0\0\0\0", b""]
            .map(|data| Datagram::to(to, data));
        SendBatch::new(8).send(&peer, &datagrams).unwrap();
        let mut got = Vec::new();
        while got.len() < 2 {
            sockets.readable().await;
            sockets.receive(&mut |_, message| got.push(message.to_vec()));
        }
        assert_eq!(got, [b"ike".to_vec(), b"".to_vec()]);
        let counted = [
            counter::RX_PACKETS,
            counter::KEEPALIVE_RECV,
            counter::DROP_UNEXPECTED_PAYLOAD,
        ];
        assert_eq!(counted.map(|counter| counters.get(counter)), [5, 1, 2]);
        sockets.remove("127.0.0.1".parse().unwrap());
        assert!(sockets.sockets.is_empty() && sockets.by_address.is_empty());
    });
}

/// A ring: what the reader needs, and what the writer needs.
fn ring() -> [(OwnedFd, OwnedFd); 2] {
    let ring = StrayRing::create(0).unwrap();
    let (memory, event) = ring.fds();
    [(); 2].map(|()| {
        (
            memory.try_clone_to_owned().unwrap(),
            event.try_clone_to_owned().unwrap(),
        )
    })
}

/// Our socket, with the data plane's ends of its rings; slot 1 is ours.
fn with_data_plane(counters: &Counters) -> (Sockets, DatagramSocket, StrayProducer, StrayConsumer) {
    let mut sockets = Sockets::new(counters.clone()).unwrap();
    let ours = bind("127.0.0.1:4500");
    let peer = bind("127.0.0.1:0");
    sockets.add(ours.into()).unwrap();
    let ([to, to_plane], [from_plane, from]) = (ring(), ring());
    let rings = RingEnds { worker: 1, to, from };
    sockets.join_data_plane(rings).unwrap();
    sockets.set_places(slot_1_is_ours);
    (
        sockets,
        peer,
        StrayProducer::map(from_plane.0, from_plane.1).unwrap(),
        StrayConsumer::map(to_plane.0, to_plane.1).unwrap(),
    )
}

fn slot_1_is_ours(slot: Slot) -> Place {
    if slot == Slot::MIN {
        Place::Ours
    } else {
        Place::Others
    }
}

/// An IKE message with marker, for the SA of a slot, `length` octets long with it.
fn ike(slot: u8, number: u8, length: usize) -> Vec<u8> {
    let mut message = vec![number; length];
    message[..4].copy_from_slice(&NON_ESP_MARKER);
    (message[4 + 8], message[4 + 19]) = (slot, 0x08);
    message
}

async fn gather(sockets: &mut Sockets, most: usize) -> Vec<(Path, Vec<u8>)> {
    let mut got = Vec::new();
    while got.len() < most {
        sockets.readable().await;
        sockets.receive(&mut |path, message| got.push((path, message.to_vec())));
    }
    got
}

#[test]
fn messages_that_the_kernel_coalesced_come_one_by_one() {
    in_namespace(|| async {
        let counters = Counters::in_memory();
        let (mut sockets, peer, ..) = with_data_plane(&counters);
        let fragments = [1, 2, 3, 4, 5].map(|n| ike(1, n, if n < 5 { 1280 } else { 304 }));
        let joined = fragments.concat();
        let datagram = Datagram {
            segment: Some(1280),
            ..Datagram::to("127.0.0.1:4500".parse().unwrap(), &joined)
        };
        SendBatch::new(1).send(&peer, &[datagram]).unwrap();
        let got = gather(&mut sockets, 5).await;
        for ((_, message), sent) in got.iter().zip(&fragments) {
            assert_eq!(message, &sent[4..]);
        }
        assert_eq!(counters.get(counter::RX_PACKETS), 5);
    });
}

#[test]
fn what_is_not_ours_goes_to_the_data_plane_and_what_is_comes_from_there() {
    in_namespace(|| async {
        let counters = Counters::in_memory();
        let (mut sockets, peer, mut producer, mut consumer) = with_data_plane(&counters);
        let local: SocketAddr = "127.0.0.1:4500".parse().unwrap();
        let esp = [&[2, 0, 0, 7][..], &[0xe5; 96]].concat();
        let mixed = [
            ike(1, 1, 100),
            esp.clone(),
            ike(2, 2, 100),
            ike(1, 3, 100),
            vec![0xff],
        ];
        let joined = mixed.concat();
        let datagram = Datagram {
            segment: Some(100),
            traffic_class: 0xb8,
            ..Datagram::to(local, &joined)
        };
        SendBatch::new(1).send(&peer, &[datagram]).unwrap();
        let got = gather(&mut sockets, 2).await;
        assert_eq!((&got[0].1[..], &got[1].1[..]), (&mixed[0][4..], &mixed[3][4..]));
        assert_eq!(counters.get(counter::KEEPALIVE_RECV), 1);
        let mut buffer = vec![0; StrayRing::MAX_PACKET];
        for (header, expected) in [
            (StrayHeader::ESP, &esp[..]),
            (StrayHeader::IKE, &ike(2, 2, 100)[4..]),
        ] {
            let (passed, length) = consumer.pop(&mut buffer).unwrap();
            let (origin, packet) = StrayOrigin::split(&mut buffer[..length]).unwrap();
            assert_eq!((passed, &*packet), (header, expected));
            let from_peer = StrayOrigin {
                source: peer.local(),
                local,
                traffic_class: 0xb8,
                encapsulation: Encapsulation::Udp,
            };
            assert_eq!(origin, from_peer);
            assert!(producer.push(StrayHeader::IKE, &[&origin.encode(), b"found"]));
        }
        assert_eq!(counters.get(ipsec::STRAYS_SENT), 2);
        let got = gather(&mut sockets, 2).await;
        let path = Path {
            local,
            remote: peer.local(),
        };
        assert_eq!(got, vec![(path, b"found".to_vec()); 2]);
        sockets.receive(&mut |_, _| panic!("nothing waits"));
        let nothing = tokio::time::timeout(Duration::from_millis(50), sockets.readable()).await;
        assert!(nothing.is_err(), "ready although nothing waits");
    });
}

#[test]
fn messages_of_a_slot_that_is_on_its_way_wait_for_it() {
    in_namespace(|| async {
        let counters = Counters::in_memory();
        let (mut sockets, peer, mut producer, mut consumer) = with_data_plane(&counters);
        let local: SocketAddr = "127.0.0.1:4500".parse().unwrap();
        let coming = |slot: Slot| match slot.number() {
            1 => Place::Ours,
            2 => Place::Coming,
            _ => Place::Others,
        };
        sockets.set_places(coming);
        let origin = StrayOrigin {
            source: peer.local(),
            local,
            traffic_class: 0,
            encapsulation: Encapsulation::Udp,
        };
        // Its former owner passes on what reached it still, also before we have heard that the slot will be ours (3).
        for (slot, number) in [(2, 1), (3, 2), (1, 9)] {
            let message = ike(slot, number, 100);
            assert!(producer.push(StrayHeader::IKE, &[&origin.encode(), &message[4..]]));
        }
        assert_eq!(gather(&mut sockets, 1).await[0].1, ike(1, 9, 100)[4..]);
        SendBatch::new(1)
            .send(
                &peer,
                &[
                    Datagram::to(local, &ike(2, 3, 100)),
                    Datagram::to(local, &ike(1, 8, 100)),
                ],
            )
            .unwrap();
        assert_eq!(gather(&mut sockets, 1).await[0].1, ike(1, 8, 100)[4..]);
        assert!(
            consumer.pop(&mut vec![0; StrayRing::MAX_PACKET]).is_none(),
            "nothing goes round"
        );
        sockets.take_waiting(&mut |_, _| panic!("not yet"));
        sockets.set_places(|slot| {
            if slot.number() <= 3 {
                Place::Ours
            } else {
                Place::Others
            }
        });
        let mut got = Vec::new();
        sockets.take_waiting(&mut |path, message| got.push((path.remote, message[20])));
        assert_eq!(got, [1, 2, 3].map(|number| (peer.local(), number)));
    });
}

#[test]
fn messages_of_a_slot_that_left_are_passed_on_from_port_500_too() {
    in_namespace(|| async {
        let counters = Counters::in_memory();
        let (mut sockets, _, _, mut consumer) = with_data_plane(&counters);
        let (ours, peer) = (bind("127.0.0.1:500"), bind("127.0.0.1:0"));
        let local = ours.local();
        sockets.add(ours.into()).unwrap();
        let mut new = ike(0, 5, 100)[4..].to_vec();
        new[8..16].fill(0);
        let (foreign, own) = (ike(2, 1, 100), ike(1, 2, 100));
        let datagrams = [&foreign[4..], &own[4..], &new].map(|data| Datagram::to(local, data));
        SendBatch::new(4).send(&peer, &datagrams).unwrap();
        let got = gather(&mut sockets, 2).await;
        assert_eq!([got[0].1[20], got[1].1[20]], [2, 5], "new peers are ours");
        let mut buffer = vec![0; StrayRing::MAX_PACKET];
        let (header, length) = consumer.pop(&mut buffer).unwrap();
        let (origin, message) = StrayOrigin::split(&mut buffer[..length]).unwrap();
        assert_eq!((header, message[20]), (StrayHeader::IKE, 1));
        assert_eq!((origin.local, origin.source), (local, peer.local()));
    });
}
