//! Batches over loopback.

use super::*;
use crate::{DatagramSocket, SocketOptions};

fn socket(address: &str, options: SocketOptions) -> DatagramSocket {
    DatagramSocket::bind_udp(address.parse().unwrap(), options).unwrap()
}

fn gro() -> SocketOptions {
    SocketOptions {
        gro: true,
        ..SocketOptions::default()
    }
}

fn numbered(segments: usize, length: usize, last: usize) -> Vec<u8> {
    let mut data: Vec<u8> = (0..segments).flat_map(|n| vec![n as u8; length]).collect();
    data.extend(vec![0xee; last]);
    data
}

#[test]
fn many_datagrams_cross_in_order_with_their_marks() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (sender, receiver) = (
            socket(address, SocketOptions::default()),
            socket(address, SocketOptions::default()),
        );
        let packets: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; 20 + usize::from(n)]).collect();
        let datagrams: Vec<_> = packets
            .iter()
            .map(|packet| Datagram {
                traffic_class: packet[0] << 2,
                ..Datagram::to(receiver.local(), packet)
            })
            .collect();
        SendBatch::new(16).send(&sender, &datagrams).unwrap();
        let mut batch = ReceiveBatch::new(32, 256);
        let mut next = 0;
        while let Ok(count) = batch.receive(&receiver) {
            assert!((1..=32).contains(&count));
            for received in batch.iter_mut() {
                assert_eq!(received.data, &packets[next][..]);
                assert_eq!(
                    (received.source, received.destination, received.truncated),
                    (sender.local(), None, false)
                );
                assert_eq!(received.traffic_class, (next as u8) << 2);
                assert_eq!(received.segment, received.data.len());
                next += 1;
            }
        }
        assert_eq!(next, 100);
        assert_eq!(
            batch.receive(&receiver).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(batch.iter_mut().count(), 0);
    }
}

#[test]
fn segments_are_cut_and_coalesced_by_the_kernel() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (sender, plain, coalescing) = (
            socket(address, SocketOptions::default()),
            socket(address, SocketOptions::default()),
            socket(address, gro()),
        );
        let data = numbered(20, 1400, 300);
        for receiver in [&plain, &coalescing] {
            let datagram = Datagram {
                segment: Some(1400),
                ..Datagram::to(receiver.local(), &data)
            };
            SendBatch::new(4).send(&sender, &[datagram, datagram]).unwrap();
            let mut batch = ReceiveBatch::new(64, GRO_BUFFER_BYTES);
            let mut segments = Vec::new();
            let mut reads = 0;
            while let Ok(count) = batch.receive(receiver) {
                reads += count;
                for mut received in batch.iter_mut() {
                    segments.extend(received.segments_mut().map(|segment| segment.to_vec()));
                }
            }
            assert_eq!(segments.len(), 42);
            assert_eq!(segments.concat(), [&data[..], &data[..]].concat());
            assert_eq!(reads, if std::ptr::eq(receiver, &plain) { 42 } else { 2 });
        }
    }
}

#[test]
fn segments_that_do_not_fit_the_route_are_sent_without_offload() {
    if !crate::test::is_root() {
        return;
    }
    let namespace = crate::Namespace::create().unwrap();
    namespace
        .run(|| {
            crate::interface::set_mtu("lo", 1300).unwrap();
            let (sender, receiver) = (
                socket("127.0.0.1:0", SocketOptions::default()),
                socket("127.0.0.1:0", gro()),
            );
            let data = numbered(10, 1400, 7);
            let datagram = Datagram {
                segment: Some(1400),
                ..Datagram::to(receiver.local(), &data)
            };
            let mut send = SendBatch::new(4);
            send.send(&sender, &[datagram]).unwrap();
            assert!(sender.segments(), "this route is no reason to give offload up");
            let mut batch = ReceiveBatch::new(64, GRO_BUFFER_BYTES);
            let mut bytes = Vec::new();
            while batch.receive(&receiver).is_ok() {
                batch
                    .iter_mut()
                    .for_each(|received| bytes.extend_from_slice(received.data));
            }
            assert!(bytes == data);
            sender.set_dont_fragment(true).unwrap();
            let error = send
                .send(&sender, &[Datagram::to(receiver.local(), &data[..100]), datagram])
                .unwrap_err();
            assert_eq!(
                (error.sent, error.segments, error.is_too_long()),
                (1, 1, true),
                "the last segment is short enough"
            );
            let mut lengths = Vec::new();
            while batch.receive(&receiver).is_ok() {
                lengths.extend(batch.iter_mut().map(|received| received.data.len()));
            }
            assert_eq!(lengths, [100, 7]);
        })
        .unwrap();
}

#[test]
fn without_offload_the_same_datagrams_arrive() {
    let (sender, receiver) = (
        socket("127.0.0.1:0", SocketOptions::default()),
        socket("127.0.0.1:0", gro()),
    );
    let data = numbered(40, 500, 77);
    let mut send = SendBatch::new(8);
    assert!(refuses_segmentation(
        &sender,
        &io::Error::from_raw_os_error(libc::EIO)
    ));
    assert!(!sender.segments() && receiver.segments(), "of this socket only");
    let segmented = Datagram {
        segment: Some(500),
        ..Datagram::to(receiver.local(), &data)
    };
    send.send(
        &sender,
        &[segmented, Datagram::to(receiver.local(), b"single"), segmented],
    )
    .unwrap();
    let mut batch = ReceiveBatch::new(64, GRO_BUFFER_BYTES);
    let mut segments = Vec::new();
    while batch.receive(&receiver).is_ok() {
        for mut received in batch.iter_mut() {
            segments.extend(received.segments_mut().map(|segment| segment.to_vec()));
        }
    }
    assert_eq!(segments.len(), 41 + 1 + 41);
    assert_eq!(segments[41], b"single");
    assert_eq!(segments[42..].concat(), data);
}

#[test]
fn limits_are_checked_before_the_kernel_sees_them() {
    let socket = socket("127.0.0.1:0", SocketOptions::default());
    let data = vec![0; MAX_GSO_BYTES + 1];
    let mut send = SendBatch::new(4);
    for (length, segment) in [
        (MAX_GSO_BYTES + 1, Some(2000)),
        (65 * 100, Some(100)),
        (100, Some(0)),
        (MAX_GSO_BYTES + 1, None),
    ] {
        let datagram = Datagram {
            segment,
            ..Datagram::to(socket.local(), &data[..length])
        };
        let good = Datagram::to(socket.local(), b"good");
        let error = send.send(&socket, &[good, datagram]).unwrap_err();
        assert_eq!(
            (error.sent, error.error.raw_os_error()),
            (1, Some(libc::EMSGSIZE))
        );
    }
    let largest = Datagram {
        segment: Some(1024),
        ..Datagram::to(socket.local(), &data[..64 * 1023])
    };
    send.send(&socket, &[largest]).unwrap();
}

#[test]
fn a_socket_of_all_addresses_says_and_takes_which() {
    for (any, local, other) in [("0.0.0.0:0", "127.0.0.1", "127.0.0.9"), ("[::]:0", "::1", "::1")] {
        let options = SocketOptions {
            packet_info: true,
            ..SocketOptions::default()
        };
        let (one, two) = (socket(any, options), socket(any, options));
        let to = SocketAddr::new(local.parse().unwrap(), two.local().port());
        let datagram = Datagram {
            source: Some(other.parse().unwrap()),
            traffic_class: 0xb8,
            ..Datagram::to(to, b"x")
        };
        SendBatch::new(1).send(&one, &[datagram]).unwrap();
        let mut batch = ReceiveBatch::new(1, 16);
        batch.receive(&two).unwrap();
        let received = batch.iter_mut().next().unwrap();
        assert_eq!(received.destination, Some(local.parse().unwrap()));
        assert_eq!(
            (received.source.ip(), received.traffic_class),
            (other.parse::<IpAddr>().unwrap(), 0xb8)
        );
    }
}

#[test]
fn a_long_datagram_is_marked_as_cut() {
    let (sender, receiver) = (
        socket("127.0.0.1:0", SocketOptions::default()),
        socket("127.0.0.1:0", SocketOptions::default()),
    );
    SendBatch::new(1)
        .send(&sender, &[Datagram::to(receiver.local(), &[5; 100])])
        .unwrap();
    let mut batch = ReceiveBatch::new(4, 64);
    assert_eq!(batch.receive(&receiver).unwrap(), 1);
    let received = batch.iter_mut().next().unwrap();
    assert!(received.truncated && *received.data == [5; 64]);
}

#[test]
fn ip_headers_with_options_are_taken_off_and_damaged_ones_refused() {
    let mut packet = [
        0x46, 0xb8, 0, 28, 0, 0, 0, 0, 64, 50, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 0, 7, 7, 7, 7,
    ];
    assert_eq!(
        split_ipv4_header(&mut packet),
        Some((0xb8, &mut [7, 7, 7, 7][..]))
    );
    assert_eq!(split_ipv4_header(&mut packet[..23]), None);
    assert_eq!(split_ipv4_header(&mut [0x44; 40]), None);
    assert_eq!(split_ipv4_header(&mut [0x60; 40]), None);
    assert_eq!(split_ipv4_header(&mut []), None);
}

#[test]
fn buffers_are_as_large_as_asked_for_when_allowed() {
    let socket = socket("127.0.0.1:0", SocketOptions::default());
    let granted = socket.receive_buffer().unwrap();
    if crate::test::is_root() {
        assert_eq!(granted, 8 << 20);
    } else {
        assert!(granted > 0);
    }
}

#[test]
fn a_socket_of_an_address_to_come_can_be_bound() {
    let address: SocketAddr = "198.51.100.77:0".parse().unwrap();
    assert_eq!(
        socket("198.51.100.77:0", SocketOptions::default()).local().ip(),
        address.ip()
    );
    let strict = SocketOptions {
        freebind: false,
        ..SocketOptions::default()
    };
    let error = DatagramSocket::bind_udp(address, strict).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot bind UDP 198.51.100.77:0: "),
        "{error}"
    );
}
