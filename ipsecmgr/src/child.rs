//! A child SA of the engine as a record of the data plane.

use ikev2::TrafficSelector;
use sadb::{
    Algorithms, ChildSa, Encapsulation, IkeSpi, Lifetimes, Mode, SaKeys, SecretBytes, Selector, Selectors,
    Spi,
};
use services::wsg::DataPath;

/// The record for `child`, treated as `path` says.
///
/// # Errors
/// The SPI is not one of ours, or a key or the selectors do not fit the record.
pub(crate) fn record(child: &ikev2::ChildSa, path: &DataPath) -> Result<ChildSa, sadb::Error> {
    let invalid = |field, expected| sadb::Error::Invalid { field, expected };
    let ipv4 = child.path.local.is_ipv4();
    Ok(ChildSa {
        inbound_spi: Spi::from_u32(child.inbound_spi)
            .ok_or(invalid("inbound_spi", "one that was allocated"))?,
        outbound_spi: child.outbound_spi,
        inbound_active: true,
        outbound_active: child.outbound_active,
        algorithms: Algorithms {
            encryption: child.cipher.transform_id(),
            key_bits: child.cipher.key_length_attribute().unwrap_or(0),
            integrity: child.integrity.map_or(0, |integrity| integrity.transform_id()),
            icv_bytes: icv_bytes(child),
        },
        inbound_keys: keys(&child.inbound_keys)?,
        outbound_keys: keys(&child.outbound_keys)?,
        mode: Mode::Tunnel,
        esn: child.esn,
        encapsulation: if child.udp_encapsulation {
            Encapsulation::Udp
        } else {
            Encapsulation::Esp
        },
        local: child.path.local,
        peer: child.path.remote,
        context: path.context,
        replay_window: path.replay_window,
        local_selectors: selectors(&child.local_selectors)?,
        remote_selectors: selectors(&child.remote_selectors)?,
        fragment_mtu: if ipv4 {
            path.fragment_mtu_ipv4
        } else {
            path.fragment_mtu_ipv6
        },
        inner_mtu: if ipv4 {
            path.inner_mtu_ipv4
        } else {
            path.inner_mtu_ipv6
        },
        outer_mtu: path.outer_mtu,
        shared: false,
        df: path.df,
        dscp: path.dscp,
        ike_sa: IkeSpi::from_u64(child.ike.0).ok_or(invalid("ike_sa", "an IKE SPI with a slot"))?,
        lifetimes: Lifetimes {
            hard_seconds: child
                .lifetime
                .map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
            hard_bytes: child.lifetime_bytes.unwrap_or(0),
            // The engine rekeys by itself; the data plane need not know when.
            soft_seconds: 0,
            soft_bytes: 0,
        },
    })
}

fn icv_bytes(child: &ikev2::ChildSa) -> u8 {
    let length = child
        .integrity
        .map_or(child.cipher.icv_len(), |integrity| integrity.icv_len());
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn keys(keys: &ikev2::ChildKeys) -> Result<SaKeys, sadb::Error> {
    Ok(SaKeys {
        encryption: SecretBytes::new("encryption key", keys.encryption.as_bytes())?,
        salt: SecretBytes::new("salt", keys.salt.as_bytes())?,
        integrity: SecretBytes::new("integrity key", keys.integrity.as_bytes())?,
    })
}

fn selectors(selectors: &[TrafficSelector]) -> Result<Selectors, sadb::Error> {
    let list: Vec<Selector> = selectors
        .iter()
        .map(|selector| Selector {
            start: selector.start,
            end: selector.end,
            protocol: selector.protocol,
            start_port: selector.start_port,
            end_port: selector.end_port,
        })
        .collect();
    Selectors::new(&list)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crypto::{Cipher, Integrity, Secret};
    use ikev2::{ChildKeys, ChildProfile, IkeSaId, Path, Profile, SelectorPolicy};
    use std::sync::Arc;
    use std::time::Duration;

    /// A child SA as the engine gives it.
    pub(crate) fn child(spi: u32) -> ikev2::ChildSa {
        let keys = |byte: u8| ChildKeys {
            encryption: Secret::new(vec![byte; 16]),
            salt: Secret::new(Vec::new()),
            integrity: Secret::new(vec![byte; 32]),
        };
        ikev2::ChildSa {
            ike: IkeSaId(0x0300_0001_0000_0001),
            profile: Arc::new(Profile::default()),
            child: Arc::new(ChildProfile::new(
                "p",
                Vec::new(),
                SelectorPolicy::Received,
                SelectorPolicy::Received,
            )),
            inbound_spi: spi,
            outbound_spi: 0xcafe_0001,
            outbound_active: true,
            replaces: None,
            cipher: Cipher::AesCbc128,
            integrity: Some(Integrity::HmacSha2_256_128),
            esn: false,
            inbound_keys: keys(1),
            outbound_keys: keys(2),
            udp_encapsulation: true,
            path: Path {
                local: "192.0.2.1:4500".parse().unwrap(),
                remote: "198.51.100.1:4500".parse().unwrap(),
            },
            local_selectors: vec![TrafficSelector::ANY_IPV4].into(),
            remote_selectors: vec![TrafficSelector::prefix("10.1.0.0".parse().unwrap(), 16)].into(),
            configuration: None,
            lifetime: Some(Duration::from_secs(3600)),
            lifetime_bytes: None,
        }
    }

    /// How the data plane treats it.
    pub(crate) fn data_path() -> DataPath {
        DataPath {
            context: 2,
            replay_window: 64,
            df: sadb::DfPolicy::Copy,
            dscp: sadb::DscpPolicy::Copy,
            fragment_mtu_ipv4: 1400,
            fragment_mtu_ipv6: 1380,
            inner_mtu_ipv4: 1438,
            inner_mtu_ipv6: 1422,
            outer_mtu: 1500,
        }
    }

    #[test]
    fn algorithms_keys_and_policy_reach_the_record() {
        let sa = record(&child(0x0300_0005), &data_path()).unwrap();
        assert_eq!(
            sa.algorithms,
            Algorithms {
                encryption: 12,
                key_bits: 128,
                integrity: 12,
                icv_bytes: 16
            }
        );
        assert_eq!(
            (
                sa.inbound_keys.encryption.expose(),
                sa.outbound_keys.integrity.expose()
            ),
            (&[1; 16][..], &[2; 32][..])
        );
        assert_eq!(
            (sa.encapsulation, sa.fragment_mtu, sa.context),
            (Encapsulation::Udp, 1400, 2)
        );
        assert_eq!((sa.lifetimes.hard_seconds, sa.lifetimes.hard_bytes), (3600, 0));

        let gcm = ikev2::ChildSa {
            cipher: Cipher::AesGcm256Icv12,
            integrity: None,
            path: Path {
                local: "[2001:db8::1]:500".parse().unwrap(),
                remote: "[2001:db8::2]:500".parse().unwrap(),
            },
            udp_encapsulation: false,
            ..child(0x0300_0005)
        };
        let sa = record(&gcm, &data_path()).unwrap();
        assert_eq!(
            sa.algorithms,
            Algorithms {
                encryption: 19,
                key_bits: 256,
                integrity: 0,
                icv_bytes: 12
            }
        );
        assert_eq!(
            (sa.encapsulation, sa.fragment_mtu, sa.inner_mtu),
            (Encapsulation::Esp, 1380, 1422)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(record(&child(5), &data_path()).is_err(), "an SPI without a slot");
        let none = ikev2::ChildSa {
            local_selectors: Vec::new().into(),
            ..child(0x0300_0005)
        };
        assert!(record(&none, &data_path()).is_err());
    }
}
