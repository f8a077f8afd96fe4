//! How addresses, identities, algorithms and the like stand in a record.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use crypto::{Cipher, DhGroup, DhKeyPair, Integrity, Prf, Secret};

use super::{Sink, Source, Stored, stored, stored_enum};
use crate::event::RemoveReason;
use crate::identity::{Identity, IdentityKind, UserName};
use crate::message::{Proposal, ProposalSpi, Protocol, Transform, TransformKind};
use crate::negotiate::{EspAlgorithms, Pfs};
use crate::output::{AuthMethod, IkeSaId, Path};
use crate::profile::{ChildProfile, Configuration, ConfigurationRequest, Retransmission, SelectorPolicy};
use crate::selectors::TrafficSelector;
use crate::show::IkeAlgorithms;

stored!(Path { local, remote });
stored!(Proposal {
    number,
    protocol,
    spi,
    transforms
});
stored!(Transform {
    kind,
    id,
    key_length,
    unknown_attribute
});
stored!(IkeAlgorithms {
    cipher,
    integrity,
    prf,
    group
});
stored!(EspAlgorithms {
    cipher,
    integrity,
    group,
    esn
});
stored!(Configuration {
    ipv4,
    netmask,
    ipv6,
    dns
});
stored!(ConfigurationRequest {
    ipv4,
    ipv6,
    dns4,
    dns6,
    netmask
});
stored!(Retransmission {
    timeout,
    exponential,
    max
});

stored_enum!(ProposalSpi { 0 => None, 1 => Ike(spi), 2 => Esp(spi) });
stored_enum!(Protocol { 1 => Ike, 2 => Ah, 3 => Esp });
stored_enum!(TransformKind { 1 => Encryption, 2 => Prf, 3 => Integrity, 4 => Group, 5 => Esn });
stored_enum!(AuthMethod { 1 => Psk, 2 => Signature(number), 3 => Eap });
stored_enum!(Pfs { 0 => Never, 1 => AsConfigured });
stored_enum!(RemoveReason {
    1 => Peer,
    2 => Local,
    3 => Rekeyed,
    4 => Redundant,
    5 => Lifetime,
    6 => NoResponse,
    7 => Liveness,
    8 => InitialContact,
    9 => Empty,
    10 => Protocol,
});

impl Stored for IkeSaId {
    fn store(&self, out: &mut Sink) {
        self.0.store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        u64::load(from).map(Self)
    }
}

impl Stored for Ipv4Addr {
    fn store(&self, out: &mut Sink) {
        out.put(&self.octets());
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        <[u8; 4]>::load(from).map(Self::from)
    }
}

impl Stored for Ipv6Addr {
    fn store(&self, out: &mut Sink) {
        out.put(&self.octets());
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        <[u8; 16]>::load(from).map(Self::from)
    }
}

stored_enum!(IpAddr { 4 => V4(address), 6 => V6(address) });
stored_enum!(SocketAddr { 4 => V4(end), 6 => V6(end) });

impl Stored for SocketAddrV4 {
    fn store(&self, out: &mut Sink) {
        self.ip().store(out);
        self.port().store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Some(Self::new(Stored::load(from)?, Stored::load(from)?))
    }
}

impl Stored for SocketAddrV6 {
    fn store(&self, out: &mut Sink) {
        self.ip().store(out);
        self.port().store(out);
        self.flowinfo().store(out);
        self.scope_id().store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let (ip, port) = Stored::load(from)?;
        Some(Self::new(ip, port, Stored::load(from)?, Stored::load(from)?))
    }
}

impl Stored for TrafficSelector {
    fn store(&self, out: &mut Sink) {
        self.start.store(out);
        self.end.store(out);
        self.protocol.store(out);
        self.start_port.store(out);
        self.end_port.store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let selector = Self {
            start: Stored::load(from)?,
            end: Stored::load(from)?,
            protocol: Stored::load(from)?,
            start_port: Stored::load(from)?,
            end_port: Stored::load(from)?,
        };
        selector.is_valid().then_some(selector)
    }
}

impl Stored for Identity {
    fn store(&self, out: &mut Sink) {
        (self.kind() as u8).store(out);
        out.length(self.data().len());
        out.put(self.data());
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let kind = IdentityKind::from_u8(from.octet()?)?;
        let length = from.length()?;
        Self::new(kind, from.take(length)?)
    }
}

impl Stored for UserName {
    fn store(&self, out: &mut Sink) {
        out.length(self.as_bytes().len());
        out.put(self.as_bytes());
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let length = from.length()?;
        Self::new(from.take(length)?)
    }
}

impl Stored for Cipher {
    fn store(&self, out: &mut Sink) {
        self.transform_id().store(out);
        self.key_length_attribute().store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Self::from_transform(Stored::load(from)?, Stored::load(from)?)
    }
}

macro_rules! stored_transforms {
    ($($type:ty),+) => {
        $(impl Stored for $type {
            fn store(&self, out: &mut Sink) {
                self.transform_id().store(out);
            }

            fn load(from: &mut Source<'_>) -> Option<Self> {
                Self::from_transform_id(Stored::load(from)?)
            }
        })+
    };
}

stored_transforms!(Integrity, Prf, DhGroup);

impl Stored for DhKeyPair {
    fn store(&self, out: &mut Sink) {
        self.group().store(out);
        match self.private() {
            Ok(private) => private.store(out),
            Err(_) => out.fail(),
        }
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let group = DhGroup::load(from)?;
        let private = Secret::load(from)?;
        group.import(private.as_bytes()).ok()
    }
}

/// By its name in the profile. One that has gone from the configuration is there in name only: nothing new can be negotiated with it.
impl Stored for Arc<ChildProfile> {
    fn store(&self, out: &mut Sink) {
        self.name.store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let name = String::load(from)?;
        let found = from.profile.children.iter().find(|child| child.name == name);
        Some(found.map_or_else(
            || {
                let nothing = || SelectorPolicy::Ranges(Vec::new());
                Arc::new(ChildProfile::new(&name, Vec::new(), nothing(), nothing()))
            },
            Self::clone,
        ))
    }
}
