//! The other side, for tests of managers: answers a request as a server does.

use crate::digest::{hmac_md5, md5};
use crate::error::EncodeError;
use crate::hiding::hide_salted;
use crate::packet::{Code, HEADER, Packet};
use crate::request::AttributeList;
use crate::secret::Secret;
use crate::{Attribute, DecodeError};

/// A reply to `request` with Message-Authenticator and Response Authenticator. `msk` is sent along as MS-MPPE keys.
pub fn respond(
    request: &[u8],
    secret: &Secret,
    code: Code,
    attributes: &AttributeList,
    msk: Option<&[u8; 64]>,
) -> Result<Vec<u8>, EncodeError> {
    let packet = Packet::decode(request).map_err(|_: DecodeError| EncodeError::PacketTooLong)?;
    let mut authenticator = [0; 16];
    authenticator.copy_from_slice(packet.authenticator());
    let mut attributes = attributes.clone();
    if let Some((recv, send)) = msk.map(|msk| msk.split_at(32)) {
        for (attribute, salt, key) in [
            (Attribute::MsMppeRecvKey, 1, recv),
            (Attribute::MsMppeSendKey, 2, send),
        ] {
            attributes.hidden(attribute, &hide_salted(key, salt, secret, &authenticator)?)?;
        }
    }
    let length = HEADER + 18 + attributes.bytes().len();
    let mut bytes = vec![code.number(), packet.identifier()];
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend(authenticator);
    bytes.extend([Attribute::MessageAuthenticator.number() as u8, 18]);
    bytes.extend([0; 16]);
    bytes.extend_from_slice(attributes.bytes());
    let digest = hmac_md5(secret.expose(), &[&bytes])?;
    bytes[HEADER + 2..HEADER + 18].copy_from_slice(&digest);
    let digest = md5(&[&bytes, secret.expose()])?;
    bytes[4..HEADER].copy_from_slice(&digest);
    Ok(bytes)
}
