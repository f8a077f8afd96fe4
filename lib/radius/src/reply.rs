//! What a server said: a packet whose authenticators have been verified, and the means to reveal the keys in it.

use std::fmt;
use std::net::SocketAddr;

use zeroize::Zeroizing;

use crate::client::Service;
use crate::counter::Counter;
use crate::dictionary::Attribute;
use crate::digest::{DIGEST, equal, hmac_md5, md5};
use crate::hiding::reveal_salted;
use crate::packet::{Code, HEADER, MessageAuthenticatorFault, Packet};
use crate::secret::Secret;

/// A verified reply.
pub struct Reply {
    server: SocketAddr,
    bytes: Vec<u8>,
    request_authenticator: [u8; DIGEST],
    secret: Secret,
}

impl Reply {
    pub(crate) fn new(
        server: SocketAddr,
        packet: Packet<'_>,
        request_authenticator: [u8; DIGEST],
        secret: Secret,
    ) -> Self {
        Self {
            server,
            bytes: packet.bytes().to_vec(),
            request_authenticator,
            secret,
        }
    }

    /// Who sent it: the server to which the next request of the conversation must go.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// The packet.
    pub fn packet(&self) -> Packet<'_> {
        Packet::verified(&self.bytes)
    }

    /// The packet type.
    pub fn code(&self) -> Code {
        self.packet().code()
    }

    /// The keys of an EAP method (RFC 2548 sections 2.4.2 and 2.4.3); none when one is missing or malformed.
    pub fn mppe_keys(&self) -> Option<MppeKeys> {
        let key = |attribute| {
            let hidden = self.packet().value(attribute)?;
            reveal_salted(hidden, &self.secret, &self.request_authenticator)
        };
        Some(MppeKeys {
            recv: key(Attribute::MsMppeRecvKey)?,
            send: key(Attribute::MsMppeSendKey)?,
        })
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("server", &self.server)
            .field("code", &self.code())
            .finish_non_exhaustive()
    }
}

/// The halves of the MSK as RADIUS carries them, named from the authenticator's point of view.
pub struct MppeKeys {
    /// MS-MPPE-Recv-Key: the first 32 octets of the MSK.
    pub recv: Zeroizing<Vec<u8>>,
    /// MS-MPPE-Send-Key: the next 32 octets.
    pub send: Zeroizing<Vec<u8>>,
}

impl MppeKeys {
    /// The MSK: both halves one after the other, filled up with zeroes to 64 octets. Methods with short keys (EAP-MSCHAPv2: 16
    /// octets each) define their MSK just so. None when the halves are longer than 64 octets together.
    pub fn msk(&self) -> Option<Zeroizing<[u8; MSK]>> {
        let mut msk = Zeroizing::new([0; MSK]);
        let (recv, rest) = msk.split_at_mut_checked(self.recv.len())?;
        recv.copy_from_slice(&self.recv);
        rest.get_mut(..self.send.len())?.copy_from_slice(&self.send);
        Some(msk)
    }
}

/// Checks the Response Authenticator (RFC 2865 section 3) and the Message-Authenticator (RFC 3579 section 3.2), both in constant
/// time. A reply to an Access-Request must have the latter; an Accounting-Response may. The error is the counter of the cause.
pub(crate) fn verify(
    packet: Packet<'_>,
    service: Service,
    request_authenticator: &[u8; DIGEST],
    secret: &Secret,
) -> Result<(), Counter> {
    let bytes = packet.bytes();
    let (head, attributes) = (&bytes[..4], &bytes[HEADER..]);
    let expected = md5(&[head, request_authenticator, attributes, secret.expose()])
        .map_err(|_| Counter::BadAuthenticator)?;
    if !equal(&expected, packet.authenticator()) {
        return Err(Counter::BadAuthenticator);
    }
    let at = match packet.message_authenticator() {
        Ok(at) => at,
        Err(MessageAuthenticatorFault::Missing) if service == Service::Accounting => return Ok(()),
        Err(MessageAuthenticatorFault::Missing) => return Err(Counter::NoMessageAuthenticator),
        Err(MessageAuthenticatorFault::Malformed) => return Err(Counter::BadMessageAuthenticator),
    };
    let (before, after) = (&bytes[HEADER..at], &bytes[at + DIGEST..]);
    let expected = hmac_md5(
        secret.expose(),
        &[head, request_authenticator, before, &[0; DIGEST], after],
    )
    .map_err(|_| Counter::BadMessageAuthenticator)?;
    match equal(&expected, &bytes[at..at + DIGEST]) {
        true => Ok(()),
        false => Err(Counter::BadMessageAuthenticator),
    }
}

/// Octets of an MSK (RFC 3748 section 7.10).
pub const MSK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2865 section 7.1: the answer to nemo, of a time before Message-Authenticators.
    #[test]
    fn response_of_rfc2865_example() {
        let octets = b"\x02\x00\x00\x26\x86\xfe\x22\x0e\x76\x24\xba\x2a\x10\x05\xf6\xbf\x9b\x55\xe0\xb2\
            \x06\x06\x00\x00\x00\x01\x0f\x06\x00\x00\x00\x00\x0e\x06\xc0\xa8\x01\x03";
        let request_authenticator = *b"\x0f\x40\x3f\x94\x73\x97\x80\x57\xbd\x83\xd5\xcb\x98\xf4\x22\x7a";
        let secret = Secret::new(b"xyzzy5461".to_vec());
        let packet = Packet::decode(octets).unwrap();
        let check = |service, secret| verify(packet, service, &request_authenticator, secret);
        assert_eq!(check(Service::Accounting, &secret), Ok(()));
        assert_eq!(
            check(Service::Authentication, &secret),
            Err(Counter::NoMessageAuthenticator)
        );
        let other = Secret::new(b"xyzzy5462".to_vec());
        assert_eq!(check(Service::Accounting, &other), Err(Counter::BadAuthenticator));
    }

    #[test]
    fn msk_is_both_keys_then_zeroes() {
        let keys = |recv, send| MppeKeys {
            recv: Zeroizing::new(vec![1; recv]),
            send: Zeroizing::new(vec![2; send]),
        };
        let short = keys(16, 16).msk().unwrap();
        assert_eq!(short[..], [[1; 16], [2; 16], [0; 16], [0; 16]].concat());
        assert!(keys(32, 33).msk().is_none());
        assert!(keys(65, 0).msk().is_none());
    }
}
