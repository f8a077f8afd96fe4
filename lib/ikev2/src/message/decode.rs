//! Reading a chain of payloads.

use std::net::IpAddr;

use super::{DecodeError, NotifyKind, Proposal, Protocol, Reader, payload, proposal};
use crate::identity::{Identity, IdentityKind};
use crate::selectors::TrafficSelector;

/// Payloads taken from one message.
pub(crate) const MAX_PAYLOADS: usize = 64;
/// Selectors taken from one payload.
const MAX_SELECTORS: usize = 64;
/// SPIs taken from one delete payload.
const MAX_DELETES: usize = 64;
/// Attributes taken from one configuration payload.
const MAX_ATTRIBUTES: usize = 64;

const CRITICAL: u8 = 0x80;
const TS_IPV4: u8 = 7;
const TS_IPV6: u8 = 8;
/// Selector type, protocol, length, two ports.
const TS_HEADER_LEN: usize = 8;

/// What a chain of payloads says. Mandatory or not is decided by the exchange; nothing but notifies, deletes, certificates
/// and vendor identities may be there twice.
#[derive(Debug, Default)]
pub(crate) struct Payloads<'a> {
    pub sa: Option<Vec<Proposal>>,
    /// Group and public value.
    pub ke: Option<(u16, &'a [u8])>,
    pub nonce: Option<&'a [u8]>,
    pub idi: Option<IdPayload<'a>>,
    pub idr: Option<IdPayload<'a>>,
    /// Encoding and data.
    pub certificates: Vec<(u8, &'a [u8])>,
    /// Encoding and data.
    pub certificate_requests: Vec<(u8, &'a [u8])>,
    /// Method and data.
    pub auth: Option<(u8, &'a [u8])>,
    pub notifies: Vec<Notify<'a>>,
    pub deletes: Vec<Delete>,
    pub tsi: Option<Vec<TrafficSelector>>,
    pub tsr: Option<Vec<TrafficSelector>>,
    pub configuration: Option<Configured<'a>>,
    pub eap: Option<&'a [u8]>,
    pub is_empty: bool,
}

/// An identity, and the octets of its payload that AUTH covers.
#[derive(Debug, Clone)]
pub(crate) struct IdPayload<'a> {
    pub identity: Identity,
    pub body: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Notify<'a> {
    pub kind: NotifyKind,
    /// SPI of the child SA it is about.
    pub spi: Option<u32>,
    pub data: &'a [u8],
}

/// A delete payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delete {
    Ike,
    Esp(Vec<u32>),
    /// AH: nothing we have.
    Other,
}

/// A configuration payload.
#[derive(Debug, Clone)]
pub(crate) struct Configured<'a> {
    pub kind: u8,
    pub attributes: Vec<Attribute<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

/// One payload, not looked into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawPayload<'a> {
    pub kind: u8,
    pub next: u8,
    pub critical: bool,
    pub body: &'a [u8],
}

/// Takes the payload of type `kind` from the front.
pub(crate) fn next_payload<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<RawPayload<'a>, DecodeError> {
    let next = reader.u8().ok_or(DecodeError::PayloadLength)?;
    let flags = reader.u8().ok_or(DecodeError::PayloadLength)?;
    let length = usize::from(reader.u16().ok_or(DecodeError::PayloadLength)?);
    let body = length
        .checked_sub(super::PAYLOAD_HEADER_LEN)
        .and_then(|rest| reader.take(rest))
        .ok_or(DecodeError::PayloadLength)?;
    Ok(RawPayload {
        kind,
        next,
        critical: flags & CRITICAL != 0,
        body,
    })
}

impl<'a> Payloads<'a> {
    /// Reads a chain that begins with a payload of type `first` and fills `bytes`.
    pub fn decode(first: u8, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut payloads = Payloads {
            is_empty: first == payload::NONE,
            ..Payloads::default()
        };
        let mut kind = first;
        let mut count = 0;
        while kind != payload::NONE {
            count += 1;
            if count > MAX_PAYLOADS {
                return Err(DecodeError::TooManyPayloads);
            }
            let raw = next_payload(kind, &mut reader)?;
            payloads.read(raw)?;
            kind = raw.next;
        }
        if !reader.is_empty() {
            return Err(DecodeError::PayloadLength);
        }
        Ok(payloads)
    }

    /// The first notify of this kind.
    pub fn notify(&self, kind: NotifyKind) -> Option<&Notify<'a>> {
        self.notifies.iter().find(|notify| notify.kind == kind)
    }

    /// The first notify that is an error.
    pub fn error(&self) -> Option<NotifyKind> {
        self.notifies
            .iter()
            .map(|notify| notify.kind)
            .find(|kind| kind.is_error())
    }

    fn read(&mut self, raw: RawPayload<'a>) -> Result<(), DecodeError> {
        let body = raw.body;
        match raw.kind {
            payload::SA => once(&mut self.sa, proposal::decode(body)?),
            payload::KE => once(&mut self.ke, key_exchange(body)?),
            payload::NONCE => once(&mut self.nonce, nonce(body)?),
            payload::IDI => once(&mut self.idi, identity(body)?),
            payload::IDR => once(&mut self.idr, identity(body)?),
            payload::AUTH => once(&mut self.auth, auth(body)?),
            payload::TSI => once(&mut self.tsi, selectors(body)?),
            payload::TSR => once(&mut self.tsr, selectors(body)?),
            payload::CP => once(&mut self.configuration, configuration(body)?),
            payload::EAP => once(&mut self.eap, eap(body)?),
            payload::CERT => {
                self.certificates.push(certificate(body)?);
                Ok(())
            }
            payload::CERTREQ => {
                self.certificate_requests.push(certificate(body)?);
                Ok(())
            }
            payload::NOTIFY => {
                self.notifies.push(notify(body)?);
                Ok(())
            }
            payload::DELETE => {
                self.deletes.push(delete(body)?);
                Ok(())
            }
            payload::VENDOR => Ok(()),
            // An encrypted payload is opened before; within a chain it has no business.
            payload::SK | payload::SKF => Err(DecodeError::Syntax),
            // RFC 7296 2.5: unknown payloads are skipped unless they are critical.
            kind if raw.critical => Err(DecodeError::CriticalPayload(kind)),
            _ => Ok(()),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::Syntax),
    }
}

fn key_exchange(body: &[u8]) -> Result<(u16, &[u8]), DecodeError> {
    let mut reader = Reader::new(body);
    let group = reader.u16().ok_or(DecodeError::KeLength)?;
    reader.u16().ok_or(DecodeError::KeLength)?;
    if reader.is_empty() {
        return Err(DecodeError::KeLength);
    }
    Ok((group, reader.rest()))
}

fn nonce(body: &[u8]) -> Result<&[u8], DecodeError> {
    // RFC 7296 3.9.
    if (16..=256).contains(&body.len()) {
        Ok(body)
    } else {
        Err(DecodeError::NonceLength)
    }
}

fn identity(body: &[u8]) -> Result<IdPayload<'_>, DecodeError> {
    let (head, data) = body.split_first_chunk::<4>().ok_or(DecodeError::IdLength)?;
    let kind = IdentityKind::from_u8(head[0]).ok_or(DecodeError::IdType)?;
    let identity = Identity::new(kind, data).ok_or(DecodeError::IdLength)?;
    Ok(IdPayload { identity, body })
}

fn auth(body: &[u8]) -> Result<(u8, &[u8]), DecodeError> {
    match body.split_first_chunk::<4>() {
        Some((head, data)) if !data.is_empty() => Ok((head[0], data)),
        _ => Err(DecodeError::AuthLength),
    }
}

fn certificate(body: &[u8]) -> Result<(u8, &[u8]), DecodeError> {
    body.split_first()
        .map(|(encoding, data)| (*encoding, data))
        .ok_or(DecodeError::CertLength)
}

fn notify(body: &[u8]) -> Result<Notify<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let protocol = reader.u8().ok_or(DecodeError::NotifyLength)?;
    let spi_size = reader.u8().ok_or(DecodeError::NotifyLength)?;
    let kind = NotifyKind(reader.u16().ok_or(DecodeError::NotifyLength)?);
    let spi = reader
        .take(usize::from(spi_size))
        .ok_or(DecodeError::NotifyLength)?;
    let data = reader.rest();
    // RFC 7296 3.10.1: what a notify of a kind that we do not know says about its protocol is none of our business, and an old peer
    // may send the SPI of an IKE SA where there should be none.
    let esp = match spi {
        &[a, b, c, d] if protocol != 1 => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    };
    match kind {
        NotifyKind::COOKIE if !(1..=64).contains(&data.len()) => Err(DecodeError::NotifyCookie),
        NotifyKind::REKEY_SA if Protocol::from_u8(protocol).is_none() => Err(DecodeError::NotifyProtocol),
        NotifyKind::REKEY_SA if !matches!(spi.len(), 0 | 4) => Err(DecodeError::NotifySpiLength),
        NotifyKind::REKEY_SA if esp.is_none() => Err(DecodeError::NotifyRekey),
        _ => Ok(Notify { kind, spi: esp, data }),
    }
}

fn delete(body: &[u8]) -> Result<Delete, DecodeError> {
    let mut reader = Reader::new(body);
    let protocol = reader.u8().ok_or(DecodeError::Delete)?;
    let spi_size = reader.u8().ok_or(DecodeError::Delete)?;
    let count = usize::from(reader.u16().ok_or(DecodeError::Delete)?);
    match (protocol, spi_size) {
        (1, 0) if count == 0 && reader.is_empty() => Ok(Delete::Ike),
        (2, 4) => Ok(Delete::Other),
        (3, 4) if count <= MAX_DELETES && reader.rest().len() == count * 4 => {
            let mut spis = Vec::with_capacity(count);
            while let Some(spi) = reader.u32() {
                spis.push(spi);
            }
            Ok(Delete::Esp(spis))
        }
        _ => Err(DecodeError::Delete),
    }
}

fn selectors(body: &[u8]) -> Result<Vec<TrafficSelector>, DecodeError> {
    let mut reader = Reader::new(body);
    let count = usize::from(reader.u8().ok_or(DecodeError::TsLength)?);
    reader.take(3).ok_or(DecodeError::TsLength)?;
    if count > MAX_SELECTORS {
        return Err(DecodeError::TooManyTs);
    }
    let mut selectors = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = reader.u8().ok_or(DecodeError::TsLength)?;
        let protocol = reader.u8().ok_or(DecodeError::TsLength)?;
        let length = usize::from(reader.u16().ok_or(DecodeError::TsLength)?);
        let start_port = reader.u16().ok_or(DecodeError::TsLength)?;
        let end_port = reader.u16().ok_or(DecodeError::TsLength)?;
        let addresses = length
            .checked_sub(TS_HEADER_LEN)
            .and_then(|rest| reader.take(rest))
            .ok_or(DecodeError::TsLength)?;
        let (start, end) = match kind {
            TS_IPV4 => range::<4>(addresses)?,
            TS_IPV6 => range::<16>(addresses)?,
            // RFC 7296 2.9: what the responder does not understand it leaves out of its answer.
            _ => continue,
        };
        let selector = TrafficSelector {
            start,
            end,
            protocol,
            start_port,
            end_port,
        };
        if !selector.is_valid() {
            return Err(DecodeError::TsSyntax);
        }
        selectors.push(selector);
    }
    if !reader.is_empty() {
        return Err(DecodeError::TsLength);
    }
    Ok(selectors)
}

fn range<const N: usize>(addresses: &[u8]) -> Result<(IpAddr, IpAddr), DecodeError>
where
    IpAddr: From<[u8; N]>,
{
    let mut reader = Reader::new(addresses);
    match (reader.array::<N>(), reader.array::<N>(), reader.is_empty()) {
        (Some(start), Some(end), true) => Ok((start.into(), end.into())),
        _ => Err(DecodeError::TsSyntax),
    }
}

fn configuration(body: &[u8]) -> Result<Configured<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let kind = reader.u8().ok_or(DecodeError::CpLength)?;
    reader.take(3).ok_or(DecodeError::CpLength)?;
    let mut attributes = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u16().ok_or(DecodeError::CpAttributeLength)? & 0x7fff;
        let length = usize::from(reader.u16().ok_or(DecodeError::CpAttributeLength)?);
        let value = reader.take(length).ok_or(DecodeError::CpAttributeLength)?;
        if attributes.len() >= MAX_ATTRIBUTES {
            return Err(DecodeError::CpLength);
        }
        attributes.push(Attribute { kind, value });
    }
    Ok(Configured { kind, attributes })
}

fn eap(body: &[u8]) -> Result<&[u8], DecodeError> {
    // RFC 3748 4: code, identifier, length of all.
    match body {
        [_, _, high, low, ..] if usize::from(u16::from_be_bytes([*high, *low])) == body.len() => Ok(body),
        _ => Err(DecodeError::EapLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notify_of_an_unknown_kind_refuses_no_message() {
        // Protocol 7, an SPI of 5 octets, a status type that nobody has assigned.
        let unknown = [7, 5, 0xa0, 0, 1, 2, 3, 4, 5, 9];
        let read = notify(&unknown).unwrap();
        assert_eq!(
            (read.kind, read.spi, read.data),
            (NotifyKind(0xa000), None, &[9][..])
        );
        assert_eq!(
            notify(&[0, 8, 0x40, 0, 1, 2, 3]).err(),
            Some(DecodeError::NotifyLength)
        );
    }

    #[test]
    fn rekey_sa_names_a_child_sa() {
        let [high, low] = NotifyKind::REKEY_SA.0.to_be_bytes();
        let of = |protocol, spi: &[u8]| {
            let size = u8::try_from(spi.len()).unwrap();
            let body = [&[protocol, size, high, low], spi].concat();
            notify(&body).map(|read| read.spi)
        };
        assert_eq!(of(3, &[0, 0, 1, 2]), Ok(Some(0x102)));
        assert_eq!(of(7, &[0, 0, 1, 2]), Err(DecodeError::NotifyProtocol));
        assert_eq!(of(3, &[0; 5]), Err(DecodeError::NotifySpiLength));
        assert_eq!(of(3, &[]), Err(DecodeError::NotifyRekey));
        assert_eq!(of(1, &[0; 4]), Err(DecodeError::NotifyRekey));
    }
}
