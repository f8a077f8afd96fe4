// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The part for the clear side: which frames are taken that are to enter a tunnel.
//!
//! The kernel's own routing decides, rules and all, so nothing has to be told twice (helper bpf_fib_lookup). A frame is taken if
//!
//! - it holds TCP, UDP, ICMP or ICMPv6 between addresses of hosts in the wide sense, with a TTL that lets it go on;
//! - the kernel would forward it to the TUN, and it is not too long for that;
//! - the kernel would send packets for its source by this device, from the address that the frame is for, and knows the station there.
//!
//! That station is written into the frame as where it came from: so whoever gets the frame knows how an answer goes, as the kernel sees it. Its type is replaced by
//! [`CLEAR_TYPE`], so that nothing else is ever taken for such a frame.
//! For IPv6 it must not know another way to the destination either: whether that is the longer prefix cannot be asked.
//!
//! What the kernel has to answer or to refuse itself, and what it cannot yet send an answer to, goes on to it.

use std::os::fd::{AsFd, AsRawFd};

use super::{
    AT, CONTEXT, CONTEXT_DATA, CONTEXT_END, END, ETHERNET, IPV4, IPV4_DESTINATION_AT, IPV4_PROTOCOL_AT, IPV6,
    IPV6_DESTINATION_AT, IPV6_NEXT_HEADER_AT, Label, R0, R1, R2, R3, SCRATCH, STACK, TYPE, TYPE_AT,
    TYPE_IPV6, UDP, needs, wire,
};
use crate::NODE_MARK;
use crate::bpf::assembly::{
    ADD_CONSTANT, AND_CONSTANT, CALL, IF_ABOVE, IF_BELOW, IF_EQUAL, IF_EQUAL_REGISTER, IF_NOT_EQUAL,
    IF_NOT_EQUAL_REGISTER, JUMP, LOAD_BYTE, LOAD_HALF, LOAD_MAP, LOAD_WORD, Line, MOVE, MOVE_CONSTANT,
    PSEUDO_MAP_VALUE, STORE_BYTE, STORE_BYTE_CONSTANT, STORE_CONSTANT, STORE_DOUBLE_CONSTANT, STORE_HALF,
    STORE_WORD, TO_BIG_ENDIAN, do_, instruction, jump_if,
};

/// The type of a frame that was taken for the clear side, in place of that of IPv4 or IPv6: the first for local experiments (IEEE 802), which no frame of ours leaves with.
pub const CLEAR_TYPE: u16 = 0x88b5;
/// RFC 791 3.1, RFC 8200 3.
const IPV4_CLASS_AT: i16 = 1;
const IPV4_LENGTH_AT: i16 = 2;
const IPV4_TTL_AT: i16 = 8;
const IPV4_SOURCE_AT: i16 = 12;
const IPV6_LENGTH_AT: i16 = 4;
const IPV6_HOPS_AT: i16 = 7;
const IPV6_SOURCE_AT: i16 = 8;
/// Traffic class and flow label.
const IPV6_FLOW: u32 = 0x0fff_ffff;
const ICMP: i32 = 1;
const TCP: i32 = 6;
const ICMPV6: i32 = 58;
/// Source and destination, which stand first.
const PORTS: i16 = 4;

/// struct xdp_md of linux/bpf.h.
const CONTEXT_DEVICE: i16 = 12;
/// struct bpf_fib_lookup, on the stack.
const LOOKUP: i16 = -80;
const LOOKUP_BYTES: i16 = 64;
const LOOKUP_FAMILY: i16 = LOOKUP;
const LOOKUP_PROTOCOL: i16 = LOOKUP + 1;
const LOOKUP_SOURCE_PORT: i16 = LOOKUP + 2;
const LOOKUP_DESTINATION_PORT: i16 = LOOKUP + 4;
const LOOKUP_LENGTH: i16 = LOOKUP + 6;
const LOOKUP_DEVICE: i16 = LOOKUP + 8;
const LOOKUP_FLOW: i16 = LOOKUP + 12;
const LOOKUP_SOURCE: i16 = LOOKUP + 16;
const LOOKUP_DESTINATION: i16 = LOOKUP + 32;
const LOOKUP_MARK: i16 = LOOKUP + 52;
/// What is written in its place.
const LOOKUP_OURS: i16 = LOOKUP + 52;
const LOOKUP_NEIGHBOUR: i16 = LOOKUP + 58;
const FAMILY_IPV4: i32 = 2;
const FAMILY_IPV6: i32 = 10;
/// Helper function, and what it says.
const FIB_LOOKUP: i32 = 69;
/// The mark counts (since Linux 6.10; before, no IPv6 is taken).
const WITH_MARK: i32 = 1 << 5;
const FOUND: i32 = 0;
const NOT_FORWARDED: i32 = 4;
const NO_NEIGHBOUR: i32 = 7;

const R4: u8 = 4;
/// Kept over calls: the number of the TUN, the protocol, the beginning of the frame.
const TUN: u8 = 7;
const PROTOCOL: u8 = 8;
const FRAME: u8 = 9;

/// From [`Label::Clear`] on: goes to [`Label::Redirect`] or [`Label::Pass`]. IPv4 headers were looked at already: there are neither options nor fragments.
pub(super) fn lines(tun: impl AsFd) -> Vec<Line<Label>> {
    let mut lines = vec![
        Line::Here(Label::Clear),
        do_(LOAD_MAP, R1, PSEUDO_MAP_VALUE, 0, tun.as_fd().as_raw_fd()),
        do_(0, 0, 0, 0, 0),
        do_(LOAD_WORD, TUN, R1, 0, 0),
        jump_if(IF_EQUAL, TUN, 0, Label::Pass),
        do_(LOAD_WORD, FRAME, CONTEXT, CONTEXT_DATA, 0),
        do_(LOAD_WORD, END, CONTEXT, CONTEXT_END, 0),
    ];
    lines.extend(needs(FRAME, ETHERNET + IPV4 + PORTS, Label::Pass));
    lines.extend(fresh());
    lines.extend([
        do_(LOAD_HALF, TYPE, FRAME, TYPE_AT, 0),
        jump_if(IF_EQUAL, TYPE, wire(TYPE_IPV6), Label::ClearIpv6),
        do_(LOAD_BYTE, SCRATCH, FRAME, ETHERNET + IPV4_TTL_AT, 0),
        jump_if(IF_BELOW, SCRATCH, 2, Label::Pass),
    ]);
    for address in [IPV4_SOURCE_AT, IPV4_DESTINATION_AT] {
        lines.extend([
            // RFC 6890: this network, loopback, and from groups on.
            do_(LOAD_BYTE, SCRATCH, FRAME, ETHERNET + address, 0),
            jump_if(IF_EQUAL, SCRATCH, 0, Label::Pass),
            jump_if(IF_EQUAL, SCRATCH, 127, Label::Pass),
            jump_if(IF_ABOVE, SCRATCH, 223, Label::Pass),
        ]);
    }
    lines.extend([
        do_(LOAD_BYTE, SCRATCH, FRAME, ETHERNET + IPV4_CLASS_AT, 0),
        do_(STORE_BYTE, STACK, SCRATCH, LOOKUP_FLOW, 0),
        do_(LOAD_HALF, SCRATCH, FRAME, ETHERNET + IPV4_LENGTH_AT, 0),
        do_(TO_BIG_ENDIAN, SCRATCH, 0, 0, 16),
        do_(STORE_HALF, STACK, SCRATCH, LOOKUP_LENGTH, 0),
        do_(LOAD_BYTE, PROTOCOL, FRAME, ETHERNET + IPV4_PROTOCOL_AT, 0),
    ]);
    lines.extend(addresses_v4(IPV4_SOURCE_AT, IPV4_DESTINATION_AT));
    lines.extend([
        do_(MOVE, AT, FRAME, 0, 0),
        do_(ADD_CONSTANT, AT, 0, 0, (ETHERNET + IPV4).into()),
        Line::To(Label::Upper, instruction(JUMP, 0, 0, 0, 0)),
        Line::Here(Label::ClearIpv6),
    ]);
    lines.extend(needs(FRAME, ETHERNET + IPV6 + PORTS, Label::Pass));
    lines.extend([
        do_(LOAD_BYTE, SCRATCH, FRAME, ETHERNET + IPV6_HOPS_AT, 0),
        jump_if(IF_BELOW, SCRATCH, 2, Label::Pass),
    ]);
    for address in [IPV6_SOURCE_AT, IPV6_DESTINATION_AT] {
        lines.extend([
            // RFC 4291 2.4: unspecified, loopback and addresses with IPv4 in them; the link's own; groups.
            do_(LOAD_BYTE, SCRATCH, FRAME, ETHERNET + address, 0),
            jump_if(IF_EQUAL, SCRATCH, 0, Label::Pass),
            jump_if(IF_ABOVE, SCRATCH, 0xfd, Label::Pass),
        ]);
    }
    lines.extend([
        do_(LOAD_WORD, SCRATCH, FRAME, ETHERNET, 0),
        do_(AND_CONSTANT, SCRATCH, 0, 0, IPV6_FLOW.to_be().cast_signed()),
        do_(STORE_WORD, STACK, SCRATCH, LOOKUP_FLOW, 0),
        do_(LOAD_HALF, SCRATCH, FRAME, ETHERNET + IPV6_LENGTH_AT, 0),
        do_(TO_BIG_ENDIAN, SCRATCH, 0, 0, 16),
        do_(ADD_CONSTANT, SCRATCH, 0, 0, IPV6.into()),
        do_(STORE_HALF, STACK, SCRATCH, LOOKUP_LENGTH, 0),
        do_(LOAD_BYTE, PROTOCOL, FRAME, ETHERNET + IPV6_NEXT_HEADER_AT, 0),
    ]);
    lines.extend(addresses_v6(IPV6_SOURCE_AT, IPV6_DESTINATION_AT));
    lines.extend([
        do_(MOVE, AT, FRAME, 0, 0),
        do_(ADD_CONSTANT, AT, 0, 0, (ETHERNET + IPV6).into()),
        Line::Here(Label::Upper),
        do_(STORE_BYTE, STACK, PROTOCOL, LOOKUP_PROTOCOL, 0),
        jump_if(IF_EQUAL, PROTOCOL, ICMP, Label::Route),
        jump_if(IF_EQUAL, PROTOCOL, ICMPV6, Label::Route),
        jump_if(IF_EQUAL, PROTOCOL, TCP, Label::Ports),
        jump_if(IF_NOT_EQUAL, PROTOCOL, UDP, Label::Pass),
        Line::Here(Label::Ports),
        // Rules may go by them.
        do_(LOAD_HALF, SCRATCH, AT, 0, 0),
        do_(STORE_HALF, STACK, SCRATCH, LOOKUP_SOURCE_PORT, 0),
        do_(LOAD_HALF, SCRATCH, AT, 2, 0),
        do_(STORE_HALF, STACK, SCRATCH, LOOKUP_DESTINATION_PORT, 0),
        Line::Here(Label::Route),
    ]);
    lines.extend(look_up(false));
    lines.extend([
        jump_if(IF_EQUAL, R0, FOUND, Label::Routed),
        // A TUN has no stations.
        jump_if(IF_NOT_EQUAL, R0, NO_NEIGHBOUR, Label::Pass),
        Line::Here(Label::Routed),
        do_(LOAD_WORD, SCRATCH, STACK, LOOKUP_DEVICE, 0),
        unless_equal(SCRATCH, TUN),
    ]);
    lines.extend(back());
    lines
}

/// Looks for the way of an answer, and writes it into the frame.
fn back() -> Vec<Line<Label>> {
    let mut lines = Vec::from(fresh());
    lines.extend([
        do_(LOAD_HALF, TYPE, FRAME, TYPE_AT, 0),
        jump_if(IF_EQUAL, TYPE, wire(TYPE_IPV6), Label::BackIpv6),
    ]);
    lines.extend(addresses_v4(IPV4_DESTINATION_AT, IPV4_SOURCE_AT));
    lines.extend(look_up(false));
    lines.extend([
        Line::To(Label::Back, instruction(JUMP, 0, 0, 0, 0)),
        Line::Here(Label::BackIpv6),
        // It is: the kernel's verifier does not remember what came of the type before.
        do_(LOAD_WORD, END, CONTEXT, CONTEXT_END, 0),
    ]);
    lines.extend(needs(FRAME, ETHERNET + IPV6, Label::Pass));
    lines.extend(back_v6());
    lines.extend([
        Line::Here(Label::Back),
        jump_if(IF_NOT_EQUAL, R0, FOUND, Label::Pass),
        do_(LOAD_WORD, SCRATCH, STACK, LOOKUP_DEVICE, 0),
        do_(LOAD_WORD, TYPE, CONTEXT, CONTEXT_DEVICE, 0),
        unless_equal(SCRATCH, TYPE),
        // What a promiscuous device sees of others is not for us.
        do_(LOAD_WORD, SCRATCH, STACK, LOOKUP_OURS, 0),
        do_(LOAD_WORD, TYPE, FRAME, 0, 0),
        unless_equal(SCRATCH, TYPE),
        do_(LOAD_HALF, SCRATCH, STACK, LOOKUP_OURS + 4, 0),
        do_(LOAD_HALF, TYPE, FRAME, 4, 0),
        unless_equal(SCRATCH, TYPE),
    ]);
    for octet in [0, 2, 4] {
        lines.extend([
            do_(LOAD_HALF, SCRATCH, STACK, LOOKUP_NEIGHBOUR + octet, 0),
            do_(STORE_HALF, FRAME, SCRATCH, 6 + octet, 0),
        ]);
    }
    lines.extend([
        do_(MOVE_CONSTANT, SCRATCH, 0, 0, wire(CLEAR_TYPE)),
        do_(STORE_HALF, FRAME, SCRATCH, TYPE_AT, 0),
    ]);
    lines
}

/// For IPv6 the helper knows nothing of rules that pass over default routes, and takes a route of kind `throw` for the end of the search. So it is asked
/// without and with the mark of those who see no tunnels.
fn back_v6() -> Vec<Line<Label>> {
    // What has a way beside the tunnels may have been found in one by its default route alone.
    let mut lines = addresses_v6(IPV6_SOURCE_AT, IPV6_DESTINATION_AT);
    lines.extend(look_up(true));
    lines.push(jump_if(IF_NOT_EQUAL, R0, NOT_FORWARDED, Label::Pass));
    // No tunnel leads to the source.
    lines.extend(fresh());
    lines.extend(addresses_v6(IPV6_DESTINATION_AT, IPV6_SOURCE_AT));
    lines.extend(look_up(false));
    lines.extend([
        do_(LOAD_WORD, SCRATCH, STACK, LOOKUP_DEVICE, 0),
        Line::To(Label::Pass, instruction(IF_EQUAL_REGISTER, SCRATCH, TUN, 0, 0)),
    ]);
    lines.extend(fresh());
    lines.extend(addresses_v6(IPV6_DESTINATION_AT, IPV6_SOURCE_AT));
    lines.extend(look_up(true));
    lines
}

/// A question with nothing in it but the device that the frame came by.
fn fresh() -> [Line<Label>; 10] {
    std::array::from_fn(|n| match n {
        0..8 => do_(STORE_DOUBLE_CONSTANT, STACK, 0, LOOKUP + 8 * n as i16, 0),
        8 => do_(LOAD_WORD, SCRATCH, CONTEXT, CONTEXT_DEVICE, 0),
        _ => do_(STORE_WORD, STACK, SCRATCH, LOOKUP_DEVICE, 0),
    })
}

/// Has it be about IPv4 from the address at one place of the IP header to that at another.
fn addresses_v4(source: i16, destination: i16) -> [Line<Label>; 5] {
    [
        do_(STORE_BYTE_CONSTANT, STACK, 0, LOOKUP_FAMILY, FAMILY_IPV4),
        do_(LOAD_WORD, SCRATCH, FRAME, ETHERNET + source, 0),
        do_(STORE_WORD, STACK, SCRATCH, LOOKUP_SOURCE, 0),
        do_(LOAD_WORD, SCRATCH, FRAME, ETHERNET + destination, 0),
        do_(STORE_WORD, STACK, SCRATCH, LOOKUP_DESTINATION, 0),
    ]
}

/// The same for IPv6.
fn addresses_v6(source: i16, destination: i16) -> Vec<Line<Label>> {
    let mut lines = vec![do_(STORE_BYTE_CONSTANT, STACK, 0, LOOKUP_FAMILY, FAMILY_IPV6)];
    for (from, to) in [(source, LOOKUP_SOURCE), (destination, LOOKUP_DESTINATION)] {
        for word in [0, 4, 8, 12] {
            lines.extend([
                do_(LOAD_WORD, SCRATCH, FRAME, ETHERNET + from + word, 0),
                do_(STORE_WORD, STACK, SCRATCH, to + word, 0),
            ]);
        }
    }
    lines
}

/// Asks, `beside` the tunnels or with them.
fn look_up(beside: bool) -> Vec<Line<Label>> {
    let (mark, flags) = if beside { (NODE_MARK, WITH_MARK) } else { (0, 0) };
    vec![
        do_(STORE_CONSTANT, STACK, 0, LOOKUP_MARK, mark.cast_signed()),
        do_(MOVE, R1, CONTEXT, 0, 0),
        do_(MOVE, R2, STACK, 0, 0),
        do_(ADD_CONSTANT, R2, 0, 0, LOOKUP.into()),
        do_(MOVE_CONSTANT, R3, 0, 0, LOOKUP_BYTES.into()),
        do_(MOVE_CONSTANT, R4, 0, 0, flags),
        do_(CALL, 0, 0, 0, FIB_LOOKUP),
    ]
}

/// On to the kernel unless both registers are the same.
fn unless_equal(one: u8, other: u8) -> Line<Label> {
    Line::To(Label::Pass, instruction(IF_NOT_EQUAL_REGISTER, one, other, 0, 0))
}
