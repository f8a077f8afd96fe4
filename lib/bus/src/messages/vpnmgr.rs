//! Network of one context: pools and routes.

use crate::message::requests;

requests! {
    0x0401 once LeaseBlock => Block;
    0x0402 idempotent ReturnBlock => Returned;
    0x0403 once LeaseAddress => Leased;
    0x0404 idempotent AddRoutes => RoutesChanged;
    0x0405 idempotent RemoveRoutes => RoutesChanged;
    0x0406 idempotent GetAddresses => Addresses;
    0x0407 idempotent GetPortTraffic => PortTraffic;
}

/// A block of addresses (IPv4) or prefixes (IPv6) of a pool for one worker to hand out by itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaseBlock {
    /// Pool name.
    #[prost(string, tag = "1")]
    pub pool: String,
    /// Who asks.
    #[prost(uint32, tag = "2")]
    pub worker: u32,
}

/// The block.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Block {
    /// First address, 4 or 16 octets; empty when the pool has none left.
    #[prost(bytes = "vec", tag = "1")]
    pub first: Vec<u8>,
    /// Number of addresses (IPv4) or prefixes (IPv6) that follow each other.
    #[prost(uint32, tag = "2")]
    pub count: u32,
    /// Prefix length handed to a peer: 32, or the pool's prefix length (64) for IPv6.
    #[prost(uint32, tag = "3")]
    pub prefix_length: u32,
    /// Why there is none.
    #[prost(string, tag = "4")]
    pub failure: String,
}

/// A worker has no use for this block any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReturnBlock {
    /// Pool name.
    #[prost(string, tag = "1")]
    pub pool: String,
    /// Who returns it.
    #[prost(uint32, tag = "2")]
    pub worker: u32,
    /// First address.
    #[prost(bytes = "vec", tag = "3")]
    pub first: Vec<u8>,
}

/// Taken back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Returned {}

/// One address chosen by somebody else (AAA): is it ours to give, and free?
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaseAddress {
    /// The address.
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    /// Who asks.
    #[prost(uint32, tag = "2")]
    pub worker: u32,
    /// Give it back instead.
    #[prost(bool, tag = "3")]
    pub release: bool,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Leased {
    /// Empty when leased.
    #[prost(string, tag = "1")]
    pub failure: String,
    /// The pool it belongs to; empty when it is in no pool.
    #[prost(string, tag = "2")]
    pub pool: String,
}

/// Prefixes behind tunnels, to be routed to the context's TUN. Counted: the same prefix may be added by several tunnels. Those that are
/// there already stay, and are asked for anew.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AddRoutes {
    /// The routes.
    #[prost(message, repeated, tag = "2")]
    pub routes: Vec<Route>,
}

/// The tunnels of these routes are gone. An empty list: all routes of tunnels in `slots` that were not asked for by this tenure.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveRoutes {
    /// The routes.
    #[prost(message, repeated, tag = "2")]
    pub routes: Vec<Route>,
    /// Slots whose routes have all been asked for again.
    #[prost(uint32, repeated, tag = "4")]
    pub slots: Vec<u32>,
    /// By which [`tenure`](super::slots::tenure) the one who asks has them.
    #[prost(uint64, tag = "5")]
    pub tenure: u64,
}

/// A prefix and the tunnel it belongs to.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Route {
    /// Network address, 4 or 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub network: Vec<u8>,
    /// Prefix length.
    #[prost(uint32, tag = "2")]
    pub length: u32,
    /// Inbound SPI of the child SA, which makes adding and removing idempotent.
    #[prost(uint32, tag = "3")]
    pub spi: u32,
    /// By which [`tenure`](super::slots::tenure) the one who adds it has its slot.
    #[prost(uint64, tag = "4")]
    pub tenure: u64,
}

/// What became of the routes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RoutesChanged {
    /// Empty when all went well, otherwise the first failure.
    #[prost(string, tag = "1")]
    pub failure: String,
}

/// Which addresses can packets be sent to?
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetAddresses {}

/// The addresses of the context on devices that are up and have a carrier.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Addresses {
    /// 4 or 16 octets each.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub addresses: Vec<Vec<u8>>,
}

/// What went through the ports of this context?
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetPortTraffic {}

/// The devices of this context's ports that have a speed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PortTraffic {
    /// One for each.
    #[prost(message, repeated, tag = "1")]
    pub ports: Vec<PortCount>,
}

/// A device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PortCount {
    /// Slot of its port.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// Number of its port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
    /// Mbit/s in either direction.
    #[prost(uint32, tag = "3")]
    pub speed: u32,
    /// Octets received since the kernel knows it.
    #[prost(uint64, tag = "4")]
    pub received: u64,
    /// Octets sent.
    #[prost(uint64, tag = "5")]
    pub sent: u64,
}
