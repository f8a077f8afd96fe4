//! What the fuzzer and the property tests call.

use crate::dictionary::Attribute;
use crate::hiding::{reveal_password, reveal_salted};
use crate::packet::Packet;
use crate::secret::Secret;

/// Decodes a datagram and reads everything there is in it. Must not panic, whatever the octets.
pub fn packet(datagram: &[u8]) {
    let Ok(packet) = Packet::decode(datagram) else {
        return;
    };
    assert!(packet.bytes().len() <= datagram.len());
    assert_eq!(Packet::decode(packet.bytes()), Ok(packet), "decoding is stable");
    let secret = Secret::new(b"secret".to_vec());
    let valid = packet.check_values().is_ok();
    for attribute in Attribute::ALL.iter().copied() {
        for value in packet.values(attribute) {
            assert!(!valid || attribute.kind().accepts(value));
            let _ = reveal_salted(value, &secret, &[0; 16]);
            let _ = reveal_password(value, &secret, &[0; 16]);
        }
        let _ = (
            packet.text(attribute),
            packet.integer(attribute),
            packet.ipv4(attribute),
        );
        let _ = (packet.ipv6(attribute), packet.ipv6_prefix(attribute));
    }
    let _ = (packet.eap(), packet.message_authenticator());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_octets(octets in prop::collection::vec(any::<u8>(), 0..600)) {
            super::packet(&octets);
        }

        /// A correct header in front, so that the attributes are reached.
        #[test]
        fn arbitrary_attributes(attributes in prop::collection::vec(any::<u8>(), 0..600)) {
            let length = (20 + attributes.len()) as u16;
            let mut octets = vec![2, 7];
            octets.extend(length.to_be_bytes());
            octets.extend([0; 16]);
            octets.extend(attributes);
            super::packet(&octets);
        }

        /// Attributes with correct lengths of table numbers, so that the values are reached.
        #[test]
        fn plausible_attributes(
            list in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        ) {
            let mut octets = vec![2, 7, 0, 0];
            octets.extend([0; 16]);
            for (index, value) in list {
                let attribute = index.get(crate::Attribute::ALL);
                match attribute.vendor() {
                    crate::Vendor::Standard => octets.extend([attribute.number() as u8, value.len() as u8 + 2]),
                    vendor => {
                        octets.extend([26, value.len() as u8 + 6]);
                        octets.extend(vendor.number().to_be_bytes());
                    }
                }
                octets.extend(value);
            }
            let length = (octets.len() as u16).to_be_bytes();
            octets[2..4].copy_from_slice(&length);
            super::packet(&octets);
        }
    }
}
