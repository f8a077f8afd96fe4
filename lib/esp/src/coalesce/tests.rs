use super::*;
use crate::Segments;
use crate::packet::finish_ipv4_header;
use crate::packet::tests::ipv4;
use crate::segment::tests::{is_valid, start_checksum, tcp, udp};
use proptest::prelude::*;

/// What was delivered: the offload, the bytes, the number of packets.
type Delivered = (Offload, Vec<u8>, u32);

fn coalesce(packets: &[Vec<u8>]) -> Vec<Delivered> {
    coalesce_tagged(&packets.iter().map(|p| (0, p.clone())).collect::<Vec<_>>())
}

fn coalesce_tagged(packets: &[(u32, Vec<u8>)]) -> Vec<Delivered> {
    let mut delivered = Vec::new();
    let mut deliver = |delivery: Delivery<'_, u32>| {
        let originals = delivery.originals().count() as u32;
        assert_eq!(originals, delivery.packets);
        let headers = delivery.parts.iter().map(|part| part.len()).sum::<usize>();
        assert!(delivery.bytes() >= headers as u64);
        delivered.push((delivery.offload, delivery.parts.concat(), delivery.packets));
    };
    let mut batch = CoalescerSpace::new().start(true);
    for (tag, data) in packets {
        batch.push(*tag, data, &Packet::parse(data).unwrap(), &mut deliver);
    }
    let space = batch.finish(&mut deliver);
    assert!(space.runs.is_empty() && space.pieces.is_empty());
    delivered
}

fn counts(packets: &[Vec<u8>]) -> Vec<u32> {
    coalesce(packets).iter().map(|(.., count)| *count).collect()
}

/// Cuts what was joined.
fn cut((offload, data, count): &Delivered) -> Vec<Vec<u8>> {
    let Some(segmentation) = offload.segmentation else {
        return vec![data.clone()];
    };
    let packet = Packet::parse(data).unwrap();
    // What the kernel will add the payload to.
    let mut expected = data.clone();
    assert_eq!(Some(start_checksum(&mut expected)), offload.checksum);
    assert_eq!(&expected, data);
    let segments = Segments::new(data, &packet, segmentation).unwrap();
    assert_eq!(segments.count(), *count as usize);
    let mut out = [0; 2000];
    (0..segments.count())
        .map(|n| {
            let length = segments.write(n, &mut out).unwrap();
            out[..length].to_vec()
        })
        .collect()
}

/// Gives a packet another identification.
fn identified(mut data: Vec<u8>, id: u16) -> Vec<u8> {
    put(&mut data, 4, id.to_be_bytes()).unwrap();
    finish_ipv4_header(&mut data).unwrap();
    data
}

fn stream(v6: bool, sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut sequence = 1000;
    let packets = sizes.iter().enumerate().map(|(n, size)| {
        let data = tcp(v6, sequence, ACK, &[1; 12], &vec![n as u8; *size]);
        sequence += *size as u32;
        if v6 { data } else { identified(data, n as u16) }
    });
    packets.collect()
}

#[test]
fn a_stream_is_joined_and_cut_into_the_same_packets() {
    for v6 in [false, true] {
        let packets = stream(v6, &[1000, 1000, 1000, 700, 1000, 1000]);
        let delivered = coalesce(&packets);
        assert_eq!(
            delivered.iter().map(|d| d.2).collect::<Vec<_>>(),
            [4, 2],
            "a short one ends a run"
        );
        let again: Vec<_> = delivered.iter().flat_map(cut).collect();
        assert_eq!(again, packets);
    }
}

#[test]
fn push_ends_a_run_and_is_kept() {
    let mut packets = stream(true, &[500; 4]);
    packets[2] = tcp(true, 2000, ACK | PSH, &[1; 12], &[2; 500]);
    let delivered = coalesce(&packets);
    assert_eq!(delivered.iter().map(|d| d.2).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(delivered.iter().flat_map(cut).collect::<Vec<_>>(), packets);
}

#[test]
fn what_differs_is_not_joined_and_never_overtaken() {
    let base = || tcp(true, 1000, ACK, &[1; 12], &[1; 500]);
    let next = |change: fn(&mut Vec<u8>)| {
        let mut data = tcp(true, 1500, ACK, &[1; 12], &[2; 500]);
        change(&mut data);
        let packet = Packet::parse(&data).unwrap();
        let checksum = start_checksum(&mut data);
        crate::finish_checksum(&mut data, &packet, checksum).unwrap();
        data
    };
    assert_eq!(counts(&[base(), next(|_| {})]), [2]);
    let changes: [fn(&mut Vec<u8>); 9] = [
        |d| d[47] ^= 1,    // sequence number
        |d| d[51] ^= 1,    // acknowledgement
        |d| d[53] |= 0x01, // FIN
        |d| d[53] |= 0x04, // RST
        |d| d[53] |= ECE,
        |d| d[55] ^= 1, // window
        |d| d[59] ^= 1, // urgent pointer
        |d| d[60] ^= 1, // options
        |d| d[7] -= 1,  // hop limit
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let other = next(change);
        let delivered = coalesce(&[base(), other.clone()]);
        assert_eq!(delivered.len(), 2, "change {n}");
        assert_eq!(
            (&delivered[0].1, &delivered[1].1),
            (&base(), &other),
            "order, change {n}"
        );
    }
    let class = next(|d| d[1] |= 0x20);
    assert_eq!(counts(&[base(), class]), [1, 1]);
    assert_eq!(
        coalesce_tagged(&[(1, base()), (2, next(|_| {}))]).len(),
        2,
        "other SA"
    );
}

#[test]
fn pure_acknowledgements_come_in_their_place() {
    let mut packets = stream(true, &[500, 500, 500, 500]);
    packets.insert(2, tcp(true, 2000, ACK, &[1; 12], &[]));
    let delivered = coalesce(&packets);
    assert_eq!(delivered.iter().map(|d| d.2).collect::<Vec<_>>(), [2, 1, 2]);
    assert_eq!(delivered.iter().flat_map(cut).collect::<Vec<_>>(), packets);
}

#[test]
fn a_wrong_checksum_stays_visible() {
    for bad in 0..3 {
        let mut packets = stream(true, &[500; 3]);
        packets[bad][100] ^= 1;
        let delivered = coalesce(&packets);
        let again: Vec<_> = delivered.iter().flat_map(cut).collect();
        assert_eq!(again, packets, "{bad}");
        assert!(delivered.iter().any(|d| d.2 == 1 && !is_valid(&d.1)));
    }
    let mut packets = stream(false, &[500; 3]);
    packets[1][10] ^= 1;
    assert_eq!(counts(&packets), [1, 1, 1], "IPv4 header");
}

#[test]
fn identifications_without_df_must_follow_each_other() {
    let packet = |id, df: bool| {
        let mut data = identified(udp(false, &[7; 100]), id);
        data[6] = if df { 0x40 } else { 0 };
        finish_ipv4_header(&mut data).unwrap();
        data
    };
    assert_eq!(counts(&[packet(9, false), packet(10, false)]), [2]);
    assert_eq!(counts(&[packet(9, false), packet(9, false)]), [1, 1]);
    assert_eq!(counts(&[packet(9, true), packet(9, true)]), [2]);
    assert_eq!(counts(&[packet(9, true), packet(10, false)]), [1, 1]);
}

#[test]
fn datagrams_are_joined_unless_switched_off() {
    let packets: Vec<_> = (0..100).map(|n| udp(true, &[n; 64])).collect();
    let delivered = coalesce(&packets);
    assert_eq!(delivered.iter().map(|d| d.2).collect::<Vec<_>>(), [64, 36]);
    assert_eq!(delivered.iter().flat_map(cut).collect::<Vec<_>>(), packets);

    let mut single = 0;
    let mut deliver = |delivery: Delivery<'_, u32>| single += delivery.packets;
    let mut batch = CoalescerSpace::new().start(false);
    for data in &packets {
        batch.push(1, data, &Packet::parse(data).unwrap(), &mut deliver);
    }
    batch.finish(&mut deliver);
    assert_eq!(single, 100);
}

#[test]
fn fragments_options_and_other_protocols_go_alone() {
    let fragment = {
        let mut data = udp(false, &[1; 64]);
        data[6] = 0x20;
        finish_ipv4_header(&mut data).unwrap();
        data
    };
    let icmp = ipv4(1, [10, 0, 0, 1], [10, 0, 0, 2], &[8, 0, 0, 0, 0, 0, 0, 0]);
    let no_checksum = {
        let mut data = udp(false, &[1; 64]);
        data[26..28].fill(0);
        data
    };
    for data in [fragment, icmp, no_checksum] {
        assert_eq!(counts(&[data.clone(), data]), [1, 1]);
    }
}

#[test]
fn more_flows_than_places() {
    // Ports tell flows apart; each has two packets, interleaved.
    let flow = |port: u16| {
        let mut data = udp(true, &[port as u8; 64]);
        put(&mut data, 40, port.to_be_bytes()).unwrap();
        let packet = Packet::parse(&data).unwrap();
        let checksum = start_checksum(&mut data);
        crate::finish_checksum(&mut data, &packet, checksum).unwrap();
        data
    };
    let flows: Vec<_> = (0..100).map(flow).collect();
    let packets: Vec<_> = flows.iter().chain(&flows).cloned().collect();
    let mut again: Vec<_> = coalesce(&packets).iter().flat_map(cut).collect();
    again.sort();
    let mut expected = packets.clone();
    expected.sort();
    assert_eq!(again, expected);
    let few: Vec<_> = flows[..60].iter().chain(&flows[..60]).cloned().collect();
    assert_eq!(counts(&few), [2; 60]);
}

#[test]
fn super_packets_stay_within_the_ip_length() {
    let packets = stream(true, &[1448; 60]);
    let delivered = coalesce(&packets);
    assert!(delivered.iter().all(|d| d.1.len() <= 65_535));
    assert_eq!(delivered.iter().map(|d| d.2).collect::<Vec<_>>(), [45, 15]);
    assert_eq!(delivered.iter().flat_map(cut).collect::<Vec<_>>(), packets);
}

proptest! {
    /// Whatever comes, each flow gives the same packets in the same order.
    #[test]
    fn flows_are_kept(steps in proptest::collection::vec((0u8..3, prop_oneof![Just(0usize), Just(500), 1usize..600], any::<u8>(), 0u8..12), 1..80)) {
        let mut sequences = [0u32; 3];
        let packets: Vec<_> = steps.iter().map(|(flow, size, flags, accident)| {
            let next = sequences.get_mut(usize::from(*flow)).unwrap();
            let flags = ACK | if *accident == 0 { *flags } else { flags & PSH };
            let mut data = tcp(true, *next, flags, &[], &vec![flags; *size]);
            data[55] = *flow;
            put(&mut data, 40, u16::from(*flow).to_be_bytes()).unwrap();
            if *accident != 1 {
                let packet = Packet::parse(&data).unwrap();
                let checksum = start_checksum(&mut data);
                crate::finish_checksum(&mut data, &packet, checksum).unwrap();
            }
            if *accident != 2 {
                *next = next.wrapping_add(*size as u32);
            }
            data
        }).collect();
        let again: Vec<_> = coalesce(&packets).iter().flat_map(cut).collect();
        for flow in 0..3u8 {
            let of = |list: &[Vec<u8>]| list.iter().filter(|d| d[41] == flow).cloned().collect::<Vec<_>>();
            prop_assert_eq!(of(&again), of(&packets));
        }
    }
}
