//! Kernel interfaces: everything the node needs of Linux that is not in the standard library, behind safe types.
//!
//! | module of | what |
//! |---|---|
//! | processes | [`Spawn`], [`Child`], [`spawn_inside`], [`ControlSocket`], [`LockFile`], [`Luggage`], [`Baggage`], [`task`] |
//! | networks | [`Namespace`], [`interface`] |
//! | packets | [`DatagramSocket`], [`UdpGroup`], [`ReceiveBatch`], [`SendBatch`], [`Tun`], [`TunQueue`], [`TunBatch`], [`XdpPort`], [`XdpReceiver`], [`XdpSender`], [`steering`] |
//! | waiting | [`Poller`], [`Event`] |
//! | protection | [`Identity`], [`seccomp`], [`landlock`] |
//! | memory | [`Arena`], [`numa_nodes`] |
//! | arithmetic | [`sum_words`] |
//!
//! Set-up functions return [`Error`], which says what was tried on what; calls on the packet path return plain `std::io::Result`.
//! Nothing here knows what the packets mean.

mod arena;
mod batch;
mod bpf;
mod control;
mod error;
mod handover;
mod identity;
pub mod interface;
pub mod landlock;
mod lock;
mod memory;
mod namespace;
mod numa;
mod poller;
mod process;
pub mod seccomp;
pub mod steering;
mod sum;
mod sys;
pub mod task;
#[cfg(test)]
mod test;
mod tun;
mod udp;
mod xdp;

pub use arena::{Arena, Place};
pub use batch::{
    Datagram, GRO_BUFFER_BYTES, MAX_GSO_BYTES, MAX_GSO_SEGMENTS, ReceiveBatch, Received, SendBatch,
    SendError, split_ipv4_header,
};
pub use control::{ControlMessageIn, ControlSocket};
pub use error::Error;
pub use handover::{
    Baggage, Luggage, hold_signals, keep_descriptors, release_signals, replace_with, return_to,
};
pub use identity::Identity;
pub use lock::LockFile;
pub use namespace::{Namespace, enter_user_namespace};
pub use nix::sys::signal::Signal;
pub use nix::unistd::Pid;
pub use numa::{NUMA_NODES, NumaNode, cpu_list, numa_nodes};
pub use poller::{Event, Poller};
pub use process::{Child, Spawn, open_pidfd, spawn_inside};
pub use sum::sum_words;
pub use tun::{Offloads, Tun, TunBatch, TunQueue, check_tun};
pub use udp::{DatagramSocket, SocketOptions, UdpGroup};
pub use xdp::{XDP_CLEAR_TYPE, XDP_MAX_PACKET, XdpLosses, XdpPort, XdpQueue, XdpReceiver, XdpSender};

/// Firewall mark of the node's own packets, which see no tunnels: IKE, ESP, RADIUS, SNMP. One number with the table of the tunnels, as others do it.
pub const NODE_MARK: u32 = 4500;
