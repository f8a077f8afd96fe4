//! One child SA as the data plane keeps it: in its own memory, with keys prepared at the first packet.

use std::net::SocketAddr;

use esp::{Error, InboundSa, Limits, OutboundSa, Packet, Policy, Transform};
use ipnet::IpNet;
use netio::Place;
use sadb::{ChildSa, DscpPolicy, Encapsulation, Hot, Spi};

use super::io::SocketNote;
use super::paths::Path;
use super::ranges::networks;

/// A child SA without its keys, and with them once they were needed. One for each record, made from it, replaced when it changes.
///
/// Small, as most tunnels are idle; in the order of use: a packet that comes needs the first two cache lines, one that leaves some more.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Sa {
    pub(crate) spi: Spi,
    /// Of the clear side.
    pub(crate) context: u32,
    /// Once they were needed.
    pub(super) keys: Option<Place>,
    pub(crate) policy: Policy,
    /// Where the peer is: learned, or as configured.
    pub(crate) peer: SocketAddr,
    pub(crate) replay_window: u16,
    pub(crate) inbound_active: bool,
    pub(crate) outbound_active: bool,
    pub(crate) esn: bool,
    /// Other workers have SAs of their own for the same packets.
    pub(crate) shared: bool,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) dscp: DscpPolicy,
    pub(crate) local: SocketAddr,
    /// That of `local`.
    pub(super) socket: SocketNote,
    /// As far as is known of the path.
    pub(crate) limits: Limits,
    /// The burst that its last packet went into, and the batch in which that was.
    pub(crate) burst: (u64, usize),
    /// When the last packet left, and the last NAT keepalive (nanoseconds of CLOCK_MONOTONIC, as far as this process knows).
    pub(crate) sent_ns: u64,
    pub(crate) kept_alive_ns: u64,
    pub(super) path: Option<Path>,
    /// Where IKE says the peer is.
    pub(crate) configured_peer: SocketAddr,
    /// As the record has it.
    pub(super) widest: Limits,
    /// The peer's.
    pub(crate) outbound_spi: u32,
    /// The remote selectors as networks, by which packets find it.
    pub(crate) routes: Box<[IpNet]>,
}

/// Both directions, prepared; or room for them.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) inbound: Option<InboundSa>,
    pub(crate) outbound: Option<OutboundSa>,
}

impl Sa {
    /// How much of the front is looked at for a packet that comes, and for one that leaves.
    pub(crate) const RECEIVING_BYTES: usize = std::mem::offset_of!(Self, local);
    pub(crate) const SENDING_BYTES: usize = std::mem::offset_of!(Self, kept_alive_ns);

    /// From a record; takes over from the hot record what was learned of the peer's endpoint and path, and when the last packet left.
    ///
    /// # Errors
    /// The algorithms are not supported, or it is in transport mode.
    pub(crate) fn new(record: &ChildSa, hot: Option<Hot<'_>>) -> Result<Self, Error> {
        let transform = Transform::from_algorithms(&record.algorithms)?;
        if record.mode != sadb::Mode::Tunnel {
            return Err(Error::TransportMode);
        }
        let learned = hot.and_then(|hot| hot.learned_peer());
        let limits = Limits::new(
            transform,
            record.encapsulation,
            record.local,
            record.outer_mtu,
            record.fragment_mtu,
            record.df,
        )
        .within(record.inner_mtu);
        let mut sa = Self {
            spi: record.inbound_spi,
            outbound_spi: record.outbound_spi,
            inbound_active: record.inbound_active,
            outbound_active: record.outbound_active,
            esn: record.esn,
            shared: record.shared,
            encapsulation: record.encapsulation,
            dscp: record.dscp,
            replay_window: record.replay_window,
            context: record.context,
            local: record.local,
            configured_peer: record.peer,
            peer: learned.unwrap_or(record.peer),
            limits,
            widest: limits,
            path: None,
            policy: Policy::new(&record.local_selectors, &record.remote_selectors),
            routes: networks(&record.remote_selectors).into(),
            socket: None,
            burst: (0, 0),
            sent_ns: 0,
            kept_alive_ns: 0,
            keys: None,
        };
        if let Some(hot) = hot {
            sa.sent_ns = hot.last_sent_ns();
            if let Some(path) = hot.path() {
                sa.follow(path.into());
            }
        }
        Ok(sa)
    }

    /// Whether a clear packet is one of those that carry this very tunnel: routed into it, it would come back longer each time. Others between
    /// the same addresses are fine: a peer may have its outer address behind it.
    pub(crate) fn carries_itself(&self, packet: &Packet) -> bool {
        let between = (packet.addresses.source(), packet.addresses.destination());
        between == (self.local.ip(), self.peer.ip())
            && match (packet.protocol, packet.ports) {
                (ESP, _) => true,
                (UDP, Some((port, _))) => IKE_PORTS.contains(&port),
                (UDP, None) => packet.is_fragment,
                _ => false,
            }
    }
}

impl Keys {
    /// Prepares those of a record.
    pub(crate) fn new(record: &ChildSa) -> Result<Self, Error> {
        Ok(Self {
            inbound: Some(InboundSa::from_record(record)?),
            outbound: Some(OutboundSa::from_record(record)?),
        })
    }
}

/// Protocol numbers of what carries tunnels (RFC 4303 2, RFC 768).
const ESP: u8 = 50;
const UDP: u8 = 17;
/// RFC 7296 section 2, RFC 3948.
const IKE_PORTS: [u16; 2] = [500, 4500];
