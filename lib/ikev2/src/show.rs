//! What `show` commands see: copies, a page at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::{Cipher, DhGroup, Integrity, Prf};

use crate::identity::{Identity, UserName};
use crate::output::{AuthMethod, IkeSaId, Path};
use crate::profile::{ChildProfile, Configuration, Profile};
use crate::selectors::TrafficSelector;

/// Where the next page begins. The default is the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) slot: u8,
    pub(crate) index: usize,
}

/// An IKE SA as `show` sees it.
#[derive(Debug, Clone)]
pub struct IkeSaView {
    /// Its name: our SPI.
    pub id: IkeSaId,
    /// The initiator's SPI.
    pub initiator_spi: u64,
    /// The responder's SPI; 0 before its first message.
    pub responder_spi: u64,
    /// Did we initiate it?
    pub initiator: bool,
    /// How far it is.
    pub state: IkeState,
    /// Whose.
    pub profile: Arc<Profile>,
    /// Between these.
    pub path: Path,
    /// Somebody is behind a NAT: we, the peer.
    pub nat: (bool, bool),
    /// We, once that is known.
    pub local: Option<Identity>,
    /// The peer, once that is known.
    pub peer: Option<Identity>,
    /// How the peer proved it.
    pub peer_auth: Option<AuthMethod>,
    /// What EAP authenticated.
    pub eap_identity: Option<UserName>,
    /// Algorithms, once they are negotiated.
    pub algorithms: Option<IkeAlgorithms>,
    /// Since when.
    pub created: Instant,
    /// When it will be rekeyed, from now.
    pub rekey_in: Option<Duration>,
    /// When it will be deleted, from now.
    pub expires_in: Option<Duration>,
    /// What was assigned to the peer (to us, when we initiated).
    pub configuration: Option<Arc<Configuration>>,
    /// Its child SAs.
    pub children: Vec<ChildSaView>,
}

/// A child SA as `show` sees it.
#[derive(Debug, Clone)]
pub struct ChildSaView {
    /// Of which kind.
    pub child: Arc<ChildProfile>,
    /// Our SPI.
    pub inbound_spi: u32,
    /// The peer's SPI.
    pub outbound_spi: u32,
    /// How far it is.
    pub state: ChildState,
    /// Encryption.
    pub cipher: Cipher,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// Group of its own key exchange, if it had one.
    pub group: Option<DhGroup>,
    /// Extended sequence numbers.
    pub esn: bool,
    /// It stands beside one with the same traffic selectors (RFC 9611).
    pub per_resource: bool,
    /// ESP in UDP.
    pub udp_encapsulation: bool,
    /// Addresses behind us.
    pub local_selectors: Arc<[TrafficSelector]>,
    /// Addresses behind the peer.
    pub remote_selectors: Arc<[TrafficSelector]>,
    /// Since when.
    pub created: Instant,
    /// When it will be rekeyed, from now.
    pub rekey_in: Option<Duration>,
    /// When it will be deleted, from now.
    pub expires_in: Option<Duration>,
}

/// How far an IKE SA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IkeState {
    /// IKE_SA_INIT under way, or answered and nothing further heard.
    HalfOpen,
    /// IKE_AUTH under way.
    Authenticating,
    /// In use.
    Established,
    /// Being deleted, or replaced and about to go.
    Deleting,
}

/// How far a child SA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChildState {
    /// In use.
    Installed,
    /// Installed after a rekey of the peer, not sending yet.
    Pending,
    /// Replaced, about to go.
    Rekeyed,
    /// Being deleted.
    Deleting,
}

/// Algorithms of an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IkeAlgorithms {
    /// Encryption.
    pub cipher: Cipher,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// Pseudorandom function.
    pub prf: Prf,
    /// Diffie-Hellman group.
    pub group: DhGroup,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// IKE SAs, all of them.
    pub ike_sas: u32,
    /// Of these, initiated by us.
    pub initiated: u32,
    /// Not established yet, as responder: the peer has not proved who it is.
    pub half_open: u32,
    /// Not established yet, as initiator.
    pub connecting: u32,
    /// Established.
    pub established: u32,
    /// Child SAs in use or about to go.
    pub children: u32,
    /// IKE SAs that rest: their records are all there is of them.
    pub resting: u32,
    /// Cookies are asked for now.
    pub cookies_active: bool,
}
