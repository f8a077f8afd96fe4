// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The eBPF program that chooses which frames go to a socket of their queue.
//!
//! | frame | goes |
//! |---|---|
//! | IPv4 without options and not a fragment, or IPv6 without extension headers, to one of our addresses, with ESP (protocol 50) in it | to the socket |
//! | the same with UDP to port 4500, at least four octets long, the first four not zero (ESP, RFC 3948 2.1) | to the socket |
//! | likewise whole, and the kernel would forward it into the TUN (see [`clear`]) | to the socket |
//! | longer than a frame of the socket's memory; with a VLAN tag; a queue without a socket; everything else | on to the kernel |
//!
//! What it takes it has not checked: neither lengths nor checksums.

mod clear;

pub use clear::CLEAR_TYPE;

use std::os::fd::{AsFd, AsRawFd};

use super::XDP_MAX_PACKET;
use crate::bpf::assembly::{
    ADD_CONSTANT, AND_CONSTANT, CALL, EXIT, IF_ABOVE, IF_ABOVE_REGISTER, IF_BELOW, IF_EQUAL, IF_NOT_EQUAL,
    JUMP, LOAD_BYTE, LOAD_HALF, LOAD_MAP, LOAD_WORD, LOOKUP, Line, MOVE, MOVE_CONSTANT, PSEUDO_MAP,
    STORE_CONSTANT, STORE_WORD, SUBTRACT, TO_BIG_ENDIAN, do_, encode, instruction, jump_if,
};

/// linux/if_ether.h.
const ETHERNET: i16 = 14;
const TYPE_AT: i16 = 12;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
/// RFC 791 3.1, RFC 8200 3.
const IPV4: i16 = 20;
const IPV4_WITHOUT_OPTIONS: i32 = 0x45;
const IPV4_FRAGMENT_AT: i16 = 6;
/// More fragments, and the offset.
const IPV4_FRAGMENT: u16 = 0x3fff;
const IPV4_PROTOCOL_AT: i16 = 9;
const IPV4_DESTINATION_AT: i16 = 16;
const IPV6: i16 = 40;
const IPV6_NEXT_HEADER_AT: i16 = 6;
const IPV6_DESTINATION_AT: i16 = 24;
const ESP: i32 = 50;
const UDP: i32 = 17;
/// RFC 768.
const UDP_HEADER: i16 = 8;
const UDP_PORT_AT: i16 = 2;
const UDP_LENGTH_AT: i16 = 4;
const NAT_T_PORT: u16 = 4500;
/// SPI and sequence number; the SPI alone.
const ESP_HEADER: i16 = 8;
const SPI: i16 = 4;

/// struct xdp_md of linux/bpf.h.
const CONTEXT_DATA: i16 = 0;
const CONTEXT_END: i16 = 4;
const CONTEXT_QUEUE: i16 = 16;
/// enum xdp_action: on to the kernel.
const PASS: i32 = 2;
/// Helper function.
const REDIRECT_MAP: i32 = 51;

/// Registers: results, arguments and scratch; kept over calls; the frame pointer.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const CONTEXT: u8 = 6;
const PROTOCOL: u8 = 7;
const STACK: u8 = 10;
/// While headers are read: where they begin, where the frame ends, scratch, the type of what is inside.
const AT: u8 = R2;
const END: u8 = R3;
const SCRATCH: u8 = 4;
const TYPE: u8 = 5;
/// The destination lies here on the stack, as an IPv6 address.
const KEY: i16 = -16;

/// Octets of a key of the map of addresses.
pub(super) const KEY_BYTES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Ipv6,
    Inside,
    Lookup,
    Clear,
    ClearIpv6,
    Upper,
    Ports,
    Route,
    Routed,
    BackIpv6,
    Back,
    Redirect,
    Pass,
}

/// The program, with the map of our addresses, that of the sockets, and the one with the number of the TUN (0: none).
pub(super) fn assemble(addresses: impl AsFd, sockets: impl AsFd, tun: impl AsFd) -> Vec<u64> {
    let mut lines = vec![
        do_(MOVE, CONTEXT, R1, 0, 0),
        do_(LOAD_WORD, AT, CONTEXT, CONTEXT_DATA, 0),
        do_(LOAD_WORD, END, CONTEXT, CONTEXT_END, 0),
        do_(MOVE, SCRATCH, END, 0, 0),
        do_(SUBTRACT, SCRATCH, AT, 0, 0),
        jump_if(IF_ABOVE, SCRATCH, XDP_MAX_PACKET as i32, Label::Pass),
    ];
    lines.extend(needs(AT, ETHERNET + IPV4, Label::Pass));
    lines.extend([
        do_(LOAD_HALF, TYPE, AT, TYPE_AT, 0),
        jump_if(IF_EQUAL, TYPE, wire(TYPE_IPV6), Label::Ipv6),
        jump_if(IF_NOT_EQUAL, TYPE, wire(TYPE_IPV4), Label::Pass),
        do_(LOAD_BYTE, SCRATCH, AT, ETHERNET, 0),
        jump_if(IF_NOT_EQUAL, SCRATCH, IPV4_WITHOUT_OPTIONS, Label::Pass),
        do_(LOAD_HALF, SCRATCH, AT, ETHERNET + IPV4_FRAGMENT_AT, 0),
        do_(AND_CONSTANT, SCRATCH, 0, 0, wire(IPV4_FRAGMENT)),
        jump_if(IF_NOT_EQUAL, SCRATCH, 0, Label::Pass),
        // ::ffff:a.b.c.d
        do_(STORE_CONSTANT, STACK, 0, KEY, 0),
        do_(STORE_CONSTANT, STACK, 0, KEY + 4, 0),
        do_(
            STORE_CONSTANT,
            STACK,
            0,
            KEY + 8,
            0xffff_u32.to_be().cast_signed(),
        ),
        do_(LOAD_WORD, SCRATCH, AT, ETHERNET + IPV4_DESTINATION_AT, 0),
        do_(STORE_WORD, STACK, SCRATCH, KEY + 12, 0),
        do_(LOAD_BYTE, PROTOCOL, AT, ETHERNET + IPV4_PROTOCOL_AT, 0),
        do_(ADD_CONSTANT, AT, 0, 0, (ETHERNET + IPV4).into()),
        Line::To(Label::Inside, instruction(JUMP, 0, 0, 0, 0)),
        Line::Here(Label::Ipv6),
    ]);
    lines.extend(needs(AT, ETHERNET + IPV6, Label::Pass));
    for word in [0, 4, 8, 12] {
        lines.push(do_(
            LOAD_WORD,
            SCRATCH,
            AT,
            ETHERNET + IPV6_DESTINATION_AT + word,
            0,
        ));
        lines.push(do_(STORE_WORD, STACK, SCRATCH, KEY + word, 0));
    }
    lines.extend([
        do_(LOAD_BYTE, PROTOCOL, AT, ETHERNET + IPV6_NEXT_HEADER_AT, 0),
        do_(ADD_CONSTANT, AT, 0, 0, (ETHERNET + IPV6).into()),
        Line::Here(Label::Inside),
    ]);
    lines.extend(needs(AT, ESP_HEADER, Label::Clear));
    lines.extend([
        jump_if(IF_EQUAL, PROTOCOL, ESP, Label::Lookup),
        jump_if(IF_NOT_EQUAL, PROTOCOL, UDP, Label::Clear),
    ]);
    lines.extend(needs(AT, UDP_HEADER + SPI, Label::Clear));
    lines.extend([
        do_(LOAD_HALF, SCRATCH, AT, UDP_PORT_AT, 0),
        jump_if(IF_NOT_EQUAL, SCRATCH, wire(NAT_T_PORT), Label::Clear),
        do_(LOAD_HALF, SCRATCH, AT, UDP_LENGTH_AT, 0),
        do_(TO_BIG_ENDIAN, SCRATCH, 0, 0, 16),
        jump_if(IF_BELOW, SCRATCH, (UDP_HEADER + SPI).into(), Label::Clear),
        do_(LOAD_WORD, SCRATCH, AT, UDP_HEADER, 0),
        jump_if(IF_EQUAL, SCRATCH, 0, Label::Clear),
        Line::Here(Label::Lookup),
        do_(LOAD_MAP, R1, PSEUDO_MAP, 0, addresses.as_fd().as_raw_fd()),
        do_(0, 0, 0, 0, 0),
        do_(MOVE, R2, STACK, 0, 0),
        do_(ADD_CONSTANT, R2, 0, 0, KEY.into()),
        do_(CALL, 0, 0, 0, LOOKUP),
        jump_if(IF_EQUAL, R0, 0, Label::Clear),
        Line::To(Label::Redirect, instruction(JUMP, 0, 0, 0, 0)),
    ]);
    lines.extend(clear::lines(tun));
    lines.extend([
        Line::Here(Label::Redirect),
        do_(LOAD_MAP, R1, PSEUDO_MAP, 0, sockets.as_fd().as_raw_fd()),
        do_(0, 0, 0, 0, 0),
        do_(LOAD_WORD, R2, CONTEXT, CONTEXT_QUEUE, 0),
        do_(MOVE_CONSTANT, R3, 0, 0, PASS),
        do_(CALL, 0, 0, 0, REDIRECT_MAP),
        do_(EXIT, 0, 0, 0, 0),
        Line::Here(Label::Pass),
        do_(MOVE_CONSTANT, R0, 0, 0, PASS),
        do_(EXIT, 0, 0, 0, 0),
    ]);
    encode(&lines)
}

/// Goes on at `otherwise` unless the frame has so many octets from a register on.
fn needs(from: u8, octets: i16, otherwise: Label) -> [Line<Label>; 3] {
    [
        do_(MOVE, SCRATCH, from, 0, 0),
        do_(ADD_CONSTANT, SCRATCH, 0, 0, octets.into()),
        Line::To(otherwise, instruction(IF_ABOVE_REGISTER, SCRATCH, END, 0, 0)),
    ]
}

/// What a half word of a packet is when it is loaded as it lies there.
fn wire(value: u16) -> i32 {
    value.to_be().into()
}
