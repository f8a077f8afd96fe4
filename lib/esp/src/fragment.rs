//! IPv4 fragmentation before encryption (RFC 791 3.2, RFC 4301 8.2).

use crate::bytes::{byte, put, word};
use crate::packet::{Addresses, FRAGMENT_OFFSET, IPV4_HEADER, MORE_FRAGMENTS, Packet, finish_ipv4_header};

/// The longest IPv4 header.
const MOST_HEADER: usize = 60;
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_COPIED: u8 = 0x80;

/// The fragments of one IPv4 packet, written one after the other.
#[derive(Debug)]
pub struct Fragments<'p> {
    data: &'p [u8],
    /// Payload bytes written so far.
    written: usize,
    first_header: usize,
    /// The header of all fragments but the first: options that are not to be copied are gone.
    later: [u8; MOST_HEADER],
    later_header: usize,
    mtu: usize,
}

impl<'p> Fragments<'p> {
    /// Fragments of at most `mtu` bytes. `None` when the packet is not IPv4, must not be fragmented, or `mtu` leaves no room for payload.
    pub fn new(data: &'p [u8], packet: &Packet, mtu: usize) -> Option<Self> {
        if packet.dont_fragment || !matches!(packet.addresses, Addresses::V4 { .. }) {
            return None;
        }
        let first_header = packet.upper;
        let (later, later_header) = later_header(data.get(..first_header)?)?;
        if mtu < first_header + 8 {
            return None;
        }
        Some(Self {
            data: data.get(..packet.length)?,
            written: 0,
            first_header,
            later,
            later_header,
            mtu,
        })
    }

    /// Writes the next fragment, with its checksum; `None` after the last, or when `out` is shorter than the MTU.
    pub fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        let payload = self.data.get(self.first_header..)?;
        let rest = payload.get(self.written..).filter(|rest| !rest.is_empty())?;
        let header = if self.written == 0 {
            self.data.get(..self.first_header)?
        } else {
            self.later.get(..self.later_header)?
        };
        let room = (self.mtu - header.len()) & !7;
        let is_last = rest.len() <= self.mtu - header.len();
        let piece = if is_last { rest } else { rest.get(..room)? };
        let length = header.len() + piece.len();
        let out = out.get_mut(..length)?;
        let (out_header, out_payload) = out.split_at_mut(header.len());
        out_header.copy_from_slice(header);
        out_payload.copy_from_slice(piece);

        // A fragment of a fragment goes on counting, and is the last only if that was.
        let field = word(self.data, 6)?;
        let offset = usize::from(field & FRAGMENT_OFFSET) + self.written / 8;
        let more = if is_last {
            field & MORE_FRAGMENTS
        } else {
            MORE_FRAGMENTS
        };
        let offset = u16::try_from(offset)
            .ok()
            .filter(|offset| *offset <= FRAGMENT_OFFSET)?;
        put(out, 2, u16::try_from(length).ok()?.to_be_bytes())?;
        put(out, 6, (more | offset).to_be_bytes())?;
        finish_ipv4_header(out)?;
        self.written += piece.len();
        Some(length)
    }
}

/// The header with those options only that are copied into every fragment, padded to whole words.
fn later_header(header: &[u8]) -> Option<([u8; MOST_HEADER], usize)> {
    let mut later = [OPTION_END; MOST_HEADER];
    let (fixed, mut options) = header.split_at_checked(IPV4_HEADER)?;
    later.get_mut(..IPV4_HEADER)?.copy_from_slice(fixed);
    let mut length = IPV4_HEADER;
    while let Some(kind) = byte(options, 0) {
        let size = match kind {
            OPTION_END => break,
            OPTION_NOTHING => 1,
            _ => usize::from(byte(options, 1)?).max(2),
        };
        let (option, rest) = options.split_at_checked(size)?;
        if kind & OPTION_COPIED != 0 {
            later.get_mut(length..length + size)?.copy_from_slice(option);
            length += size;
        }
        options = rest;
    }
    let length = length.next_multiple_of(4);
    put(&mut later, 0, [0x40 | (length / 4) as u8])?;
    Some((later, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Checksum;
    use crate::packet::UDP;
    use crate::packet::tests::ipv4;
    use proptest::prelude::*;

    fn fragments(data: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let packet = Packet::parse(data).unwrap();
        let mut fragments = Fragments::new(data, &packet, mtu).unwrap();
        let mut out = vec![0; mtu];
        std::iter::from_fn(|| fragments.write_next(&mut out).map(|n| out[..n].to_vec())).collect()
    }

    /// Puts payloads back in place; also says whether the last fragment was seen.
    fn reassemble(pieces: &[Vec<u8>]) -> (Vec<u8>, bool) {
        let (mut payload, mut complete) = (Vec::new(), false);
        for piece in pieces {
            let packet = Packet::parse(piece).unwrap();
            assert!(Checksum::new().with(&piece[..packet.upper]).is_valid());
            let field = word(piece, 6).unwrap();
            let at = usize::from(field & FRAGMENT_OFFSET) * 8;
            payload.resize(payload.len().max(at + packet.length - packet.upper), 0);
            payload[at..at + packet.length - packet.upper].copy_from_slice(&piece[packet.upper..]);
            complete |= field & MORE_FRAGMENTS == 0;
        }
        (payload, complete)
    }

    proptest! {
        #[test]
        fn fragments_make_the_packet_again(length in 1usize..4000, mtu in 68usize..1500) {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let data = ipv4(UDP, [1; 4], [2; 4], &payload);
            let pieces = fragments(&data, mtu);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= mtu));
            prop_assert_eq!(pieces.len() == 1, data.len() <= mtu);
            prop_assert_eq!(reassemble(&pieces), (payload, true));
        }
    }

    #[test]
    fn a_fragment_is_cut_further() {
        let payload: Vec<u8> = (0..1600).map(|n| n as u8).collect();
        let whole = ipv4(UDP, [1; 4], [2; 4], &payload);
        let once = fragments(&whole, 1000);
        assert_eq!(once.len(), 2);
        let twice: Vec<_> = once.iter().flat_map(|piece| fragments(piece, 400)).collect();
        assert_eq!(twice.len(), 3 + 2);
        assert_eq!(reassemble(&twice), (payload, true));
        assert!(!reassemble(&twice[..3]).1, "the middle one is not the last");
    }

    #[test]
    fn only_copied_options_are_repeated() {
        // Record route (7, not copied), a no-operation, router alert (148, copied).
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0];
        let mut data = ipv4(UDP, [1; 4], [2; 4], &[]);
        data.extend(options);
        data.extend([9; 100]);
        data[0] = 0x48;
        let length = data.len() as u16;
        put(&mut data, 2, length.to_be_bytes()).unwrap();
        let pieces = fragments(&data, 80);
        assert_eq!(pieces[0][..20 + options.len()].len(), 32);
        assert_eq!(pieces[0][20..32], options);
        assert_eq!(Packet::parse(&pieces[1]).unwrap().upper, 24);
        assert_eq!(pieces[1][20..24], [148, 4, 0, 0]);
        assert_eq!(reassemble(&pieces).0, [9; 100]);
    }

    #[test]
    fn what_must_stay_whole_stays_whole() {
        let mut data = ipv4(UDP, [1; 4], [2; 4], &[0; 100]);
        let packet = Packet::parse(&data).unwrap();
        assert!(Fragments::new(&data, &packet, 27).is_none());
        data[6] = 0x40;
        let packet = Packet::parse(&data).unwrap();
        assert!(Fragments::new(&data, &packet, 60).is_none());
    }
}
