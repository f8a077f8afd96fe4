//! What travels in stray rings: kinds that more than one process knows, and where a packet came in.

use std::net::SocketAddr;

use crate::codec::{ADDRESS, address_bytes, address_from};
use crate::{Encapsulation, StrayHeader};

/// Where a packet came in from the network. Stands before the packet in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrayOrigin {
    /// Who sent it.
    pub source: SocketAddr,
    /// Our address and port that it was sent to.
    pub local: SocketAddr,
    /// Traffic class of the outer header.
    pub traffic_class: u8,
    /// How it was wrapped.
    pub encapsulation: Encapsulation,
}

impl StrayHeader {
    /// An ESP packet, after a [`StrayOrigin`].
    pub const ESP: Self = Self { kind: 1, context: 0 };
    /// An IKE message without non-ESP marker, after a [`StrayOrigin`].
    pub const IKE: Self = Self { kind: 4, context: 0 };
}

impl StrayOrigin {
    /// Length in a ring.
    pub const BYTES: usize = 2 * (ADDRESS + 2) + 2;

    /// As it stands in a ring.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let udp = u8::from(self.encapsulation == Encapsulation::Udp);
        let fields = [self.source, self.local]
            .into_iter()
            .flat_map(|end| {
                address_bytes(end.ip())
                    .into_iter()
                    .chain(end.port().to_le_bytes())
            })
            .chain([self.traffic_class, udp]);
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Takes it off what came out of a ring; `None` when there is no such thing.
    pub fn split(data: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (bytes, rest) = data.split_first_chunk_mut::<{ Self::BYTES }>()?;
        let (source, after) = bytes.split_first_chunk::<{ ADDRESS + 2 }>()?;
        let (local, after) = after.split_first_chunk::<{ ADDRESS + 2 }>()?;
        let [traffic_class, udp] = *after.first_chunk()?;
        let origin = Self {
            source: socket_from(source)?,
            local: socket_from(local)?,
            traffic_class,
            encapsulation: if udp == 1 {
                Encapsulation::Udp
            } else {
                Encapsulation::Esp
            },
        };
        Some((origin, rest))
    }
}

fn socket_from(bytes: &[u8; ADDRESS + 2]) -> Option<SocketAddr> {
    let port = u16::from_le_bytes(*bytes.last_chunk()?);
    Some(SocketAddr::new(address_from(bytes.first_chunk()?)?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_survive_the_ring() {
        for (source, local) in [
            ("192.0.2.1:4500", "192.0.2.9:4500"),
            ("[2001:db8::1]:61000", "[2001:db8::9]:0"),
        ] {
            for encapsulation in [Encapsulation::Udp, Encapsulation::Esp] {
                let origin = StrayOrigin {
                    source: source.parse().unwrap(),
                    local: local.parse().unwrap(),
                    traffic_class: 0xb9,
                    encapsulation,
                };
                let mut bytes = origin.encode().to_vec();
                bytes.extend(b"packet");
                let split = StrayOrigin::split(&mut bytes);
                assert_eq!(split, Some((origin, &mut b"packet".to_owned()[..])));
            }
        }
        assert_eq!(StrayOrigin::split(&mut [0; StrayOrigin::BYTES]), None);
        assert_eq!(StrayOrigin::split(&mut [4; StrayOrigin::BYTES - 1]), None);
    }
}
