//! What to send, before it is known to which server: identifier, authenticators and hidden values are added for each server.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::client::Service;
use crate::dictionary::{Attribute, Kind, Vendor};
use crate::digest::{DIGEST, hmac_md5, md5};
use crate::error::EncodeError;
use crate::hiding::hide_password;
use crate::packet::{ATTRIBUTE_HEADER, Code, HEADER, MAX_PACKET, VENDOR_SPECIFIC};
use crate::secret::Secret;

/// Attributes in their encoded form, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributeList(Vec<u8>);

impl AttributeList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds text. An empty text is left out, as RFC 2865 section 5 asks.
    pub fn text(&mut self, attribute: Attribute, value: &str) -> Result<&mut Self, EncodeError> {
        self.expect(attribute, Kind::Text)?;
        if value.is_empty() {
            return Ok(self);
        }
        self.push(attribute, value.as_bytes())
    }

    /// Adds octets, also as text that somebody else worded, such as a user name. An empty string is left out.
    pub fn octets(&mut self, attribute: Attribute, value: &[u8]) -> Result<&mut Self, EncodeError> {
        if attribute.kind() != Kind::Text {
            self.expect(attribute, Kind::Octets)?;
        }
        if value.is_empty() {
            return Ok(self);
        }
        self.push(attribute, value)
    }

    /// Adds a number.
    pub fn integer(&mut self, attribute: Attribute, value: u32) -> Result<&mut Self, EncodeError> {
        self.expect(attribute, Kind::Integer)?;
        self.push(attribute, &value.to_be_bytes())
    }

    /// Adds an IPv4 address.
    pub fn ipv4(&mut self, attribute: Attribute, value: Ipv4Addr) -> Result<&mut Self, EncodeError> {
        self.expect(attribute, Kind::Ipv4)?;
        self.push(attribute, &value.octets())
    }

    /// Adds an IPv6 address.
    pub fn ipv6(&mut self, attribute: Attribute, value: Ipv6Addr) -> Result<&mut Self, EncodeError> {
        self.expect(attribute, Kind::Ipv6)?;
        self.push(attribute, &value.octets())
    }

    /// Adds an IPv6 prefix of `length` bits.
    pub fn ipv6_prefix(
        &mut self,
        attribute: Attribute,
        prefix: Ipv6Addr,
        length: u8,
    ) -> Result<&mut Self, EncodeError> {
        self.expect(attribute, Kind::Ipv6Prefix)?;
        let octets = prefix.octets();
        let needed = usize::from(length).div_ceil(8);
        let too_long = EncodeError::ValueTooLong {
            attribute,
            length: needed,
        };
        let mut value = vec![0, length];
        value.extend_from_slice(octets.get(..needed).ok_or(too_long)?);
        self.push(attribute, &value)
    }

    /// Adds an EAP packet, split over as many EAP-Message attributes as it needs (RFC 3579 section 3.1).
    pub fn eap(&mut self, packet: &[u8]) -> Result<&mut Self, EncodeError> {
        for piece in packet.chunks(MAX_VALUE) {
            self.push(Attribute::EapMessage, piece)?;
        }
        Ok(self)
    }

    /// Adds a value that is hidden already; the caller has made it for one server.
    pub fn hidden(&mut self, attribute: Attribute, value: &[u8]) -> Result<&mut Self, EncodeError> {
        match attribute.kind() {
            Kind::Salted | Kind::Password => self.push(attribute, value),
            kind => Err(EncodeError::WrongKind { attribute, kind }),
        }
    }

    /// The encoded attributes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn expect(&self, attribute: Attribute, kind: Kind) -> Result<(), EncodeError> {
        match attribute.kind() == kind {
            true => Ok(()),
            false => Err(EncodeError::WrongKind {
                attribute,
                kind: attribute.kind(),
            }),
        }
    }

    fn push(&mut self, attribute: Attribute, value: &[u8]) -> Result<&mut Self, EncodeError> {
        let vendor = attribute.vendor();
        let inner = match vendor {
            Vendor::Standard => value.len(),
            _ => VENDOR_ID + 2 * vendor.field_width() + value.len(),
        };
        let too_long = EncodeError::ValueTooLong {
            attribute,
            length: value.len(),
        };
        let length = u8::try_from(ATTRIBUTE_HEADER + inner).map_err(|_| too_long)?;
        if self.0.len() + usize::from(length) > MAX_ATTRIBUTES {
            return Err(EncodeError::PacketTooLong);
        }
        let [high, low] = attribute.number().to_be_bytes();
        match vendor {
            Vendor::Standard => self.0.extend([low, length]),
            _ => {
                self.0.extend([VENDOR_SPECIFIC as u8, length]);
                self.0.extend(vendor.number().to_be_bytes());
                let inner = length - (ATTRIBUTE_HEADER + VENDOR_ID) as u8;
                match vendor.field_width() {
                    2 => self.0.extend([high, low, 0, inner]),
                    _ => self.0.extend([low, inner]),
                }
            }
        }
        self.0.extend_from_slice(value);
        Ok(self)
    }
}

/// A request for a [`crate::Client`].
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The attributes, without User-Password and Message-Authenticator.
    pub attributes: AttributeList,
    /// User-Password, hidden for each server.
    pub password: Option<Secret>,
    /// The only server that may be asked: the one that holds the State of this conversation.
    pub server: Option<SocketAddr>,
}

impl Request {
    /// The datagram for one server. `random` is 16 fresh octets: the Request Authenticator of an Access-Request.
    pub(crate) fn encode(
        &self,
        service: Service,
        identifier: u8,
        secret: &Secret,
        random: [u8; DIGEST],
    ) -> Result<Encoded, EncodeError> {
        match service {
            Service::Authentication => self.encode_access(identifier, secret, random),
            Service::Accounting => self.encode_accounting(identifier, secret),
        }
    }

    fn encode_access(
        &self,
        identifier: u8,
        secret: &Secret,
        authenticator: [u8; DIGEST],
    ) -> Result<Encoded, EncodeError> {
        let mut attributes = self.attributes.clone();
        if let Some(password) = &self.password {
            let hidden = hide_password(password.expose(), secret, &authenticator)?;
            attributes.hidden(Attribute::UserPassword, &hidden)?;
        }
        // In front, so that no chosen attribute can precede it in the digest: the remedy for MD5 collisions in responses.
        let length = HEADER + MESSAGE_AUTHENTICATOR + attributes.0.len();
        let mut bytes = header(Code::AccessRequest, identifier, length, authenticator)?;
        bytes.extend([
            Attribute::MessageAuthenticator.number() as u8,
            MESSAGE_AUTHENTICATOR as u8,
        ]);
        bytes.extend([0; DIGEST]);
        bytes.extend_from_slice(&attributes.0);
        let digest = hmac_md5(secret.expose(), &[&bytes])?;
        let at = HEADER + ATTRIBUTE_HEADER;
        bytes[at..at + DIGEST].copy_from_slice(&digest);
        Ok(Encoded { bytes, authenticator })
    }

    fn encode_accounting(&self, identifier: u8, secret: &Secret) -> Result<Encoded, EncodeError> {
        let length = HEADER + self.attributes.0.len();
        let mut bytes = header(Code::AccountingRequest, identifier, length, [0; DIGEST])?;
        bytes.extend_from_slice(&self.attributes.0);
        // RFC 2866 section 3: the digest over the packet with a zero authenticator, followed by the secret.
        let authenticator = md5(&[&bytes, secret.expose()])?;
        bytes[4..HEADER].copy_from_slice(&authenticator);
        Ok(Encoded { bytes, authenticator })
    }
}

/// A datagram and the authenticator its reply will be checked against.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) authenticator: [u8; DIGEST],
}

fn header(
    code: Code,
    identifier: u8,
    length: usize,
    authenticator: [u8; DIGEST],
) -> Result<Vec<u8>, EncodeError> {
    if length > MAX_PACKET {
        return Err(EncodeError::PacketTooLong);
    }
    let mut bytes = Vec::with_capacity(length);
    bytes.extend([code.number(), identifier]);
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend(authenticator);
    Ok(bytes)
}

/// Longest value of a plain attribute.
pub const MAX_VALUE: usize = 253;
/// Octets of the enterprise number in a vendor-specific attribute.
const VENDOR_ID: usize = 4;
/// Octets of a Message-Authenticator attribute.
const MESSAGE_AUTHENTICATOR: usize = ATTRIBUTE_HEADER + DIGEST;
/// Room for attributes beside header and Message-Authenticator.
const MAX_ATTRIBUTES: usize = MAX_PACKET - HEADER - MESSAGE_AUTHENTICATOR;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::Packet;

    fn packet(attributes: &AttributeList) -> Vec<u8> {
        let mut bytes = header(Code::AccessAccept, 1, HEADER + attributes.0.len(), [0; 16]).unwrap();
        bytes.extend_from_slice(&attributes.0);
        bytes
    }

    #[test]
    fn vendor_formats() {
        let mut list = AttributeList::new();
        list.text(Attribute::SnVpnName, "isp").unwrap();
        list.text(Attribute::ThreeGppImsi, "00101").unwrap();
        let starent = [26, 13, 0, 0, 0x1f, 0xe4, 0, 2, 0, 7, b'i', b's', b'p'];
        let three_gpp = [26, 13, 0, 0, 0x28, 0xaf, 1, 7, b'0', b'0', b'1', b'0', b'1'];
        assert_eq!(list.bytes(), [starent, three_gpp].concat());
        let bytes = packet(&list);
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!(packet.text(Attribute::SnVpnName), Some("isp"));
        assert_eq!(packet.text(Attribute::ThreeGppImsi), Some("00101"));
        assert_eq!(packet.check_values(), Ok(()));
    }

    #[test]
    fn limits_hold() {
        let mut list = AttributeList::new();
        let long = "x".repeat(254);
        let attribute = Attribute::UserName;
        assert_eq!(
            list.text(attribute, &long),
            Err(EncodeError::ValueTooLong {
                attribute,
                length: 254
            })
        );
        assert!(list.text(Attribute::SnVpnName, &long[..246]).is_err());
        assert!(list.text(Attribute::SnVpnName, &long[..245]).is_ok());
        assert!(list.integer(Attribute::UserName, 1).is_err());
        assert_eq!(list.eap(&[0; 4096]), Err(EncodeError::PacketTooLong));
        assert!(list.bytes().len() <= MAX_ATTRIBUTES);
    }

    #[test]
    fn several_sub_attributes_in_one_vendor_attribute() {
        let mut bytes = header(Code::AccessAccept, 1, HEADER + 18, [0; 16]).unwrap();
        bytes.extend([
            26, 18, 0, 0, 0x28, 0xaf, 1, 4, b'4', b'2', 3, 6, 0, 0, 0, 2, 13, 2,
        ]);
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!(packet.text(Attribute::ThreeGppImsi), Some("42"));
        assert_eq!(packet.integer(Attribute::ThreeGppPdpType), Some(2));
        assert_eq!(packet.check_values(), Ok(()));
    }

    proptest! {
        #[test]
        fn eap_is_split_and_joined(eap in prop::collection::vec(any::<u8>(), 1..3000)) {
            let mut list = AttributeList::new();
            list.eap(&eap).unwrap();
            let bytes = packet(&list);
            let decoded = Packet::decode(&bytes).unwrap();
            prop_assert_eq!(decoded.values(Attribute::EapMessage).count(), eap.len().div_ceil(MAX_VALUE));
            prop_assert_eq!(decoded.eap().unwrap(), eap);
        }

        #[test]
        fn values_come_back(name in "[a-z0-9@.]{1,253}", number: u32, v4: [u8; 4], v6: [u8; 16], length in 0u8..=128) {
            let mut list = AttributeList::new();
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            let prefix = Ipv6Addr::from(u128::from_be_bytes(v6) & mask);
            list.text(Attribute::UserName, &name).unwrap();
            list.integer(Attribute::SessionTimeout, number).unwrap();
            list.ipv4(Attribute::FramedIpAddress, v4.into()).unwrap();
            list.ipv4(Attribute::SnPrimaryDnsServer, v4.into()).unwrap();
            list.ipv6(Attribute::FramedIpv6Address, v6.into()).unwrap();
            list.ipv6_prefix(Attribute::FramedIpv6Prefix, v6.into(), length).unwrap();
            let bytes = packet(&list);
            let packet = Packet::decode(&bytes).unwrap();
            prop_assert_eq!(packet.check_values(), Ok(()));
            prop_assert_eq!(packet.text(Attribute::UserName), Some(name.as_str()));
            prop_assert_eq!(packet.integer(Attribute::SessionTimeout), Some(number));
            prop_assert_eq!(packet.ipv4(Attribute::FramedIpAddress), Some(v4.into()));
            prop_assert_eq!(packet.ipv4(Attribute::SnPrimaryDnsServer), Some(v4.into()));
            prop_assert_eq!(packet.ipv6(Attribute::FramedIpv6Address), Some(v6.into()));
            prop_assert_eq!(packet.ipv6_prefix(Attribute::FramedIpv6Prefix), Some((prefix, length)));
        }
    }
}
