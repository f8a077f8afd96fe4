//! Writing a chain of payloads.

use std::net::IpAddr;

use super::{Header, NotifyKind, PAYLOAD_HEADER_LEN, Proposal, Writer, payload, proposal};
use crate::profile::{Configuration, ConfigurationRequest};
use crate::selectors::TrafficSelector;

use super::attribute::{IP4_ADDRESS, IP4_DNS, IP4_NETMASK, IP6_ADDRESS, IP6_DNS};

/// A typical message, so that the vector does not grow.
const CAPACITY: usize = 512;

/// Builds a message: payloads are appended, each linked from the one before. Room for what comes before the first payload
/// is left in front.
#[derive(Debug)]
pub(crate) struct Builder {
    writer: Writer,
    prefix: usize,
    first: u8,
    /// Where the last payload's next-payload field is.
    last: Option<usize>,
}

impl Builder {
    /// A message with `prefix` octets in front of its first payload.
    pub fn new(prefix: usize) -> Self {
        let mut writer = Writer::with_capacity(CAPACITY);
        writer.bytes(&[0; 64][..prefix.min(64)]);
        Self {
            writer,
            prefix: prefix.min(64),
            first: payload::NONE,
            last: None,
        }
    }

    /// Appends a payload whose body `write` writes.
    pub fn payload(&mut self, kind: u8, write: impl FnOnce(&mut Writer)) {
        let start = self.writer.len();
        match self.last {
            None => self.first = kind,
            Some(last) => self.writer.patch_u8(last, kind),
        }
        self.last = Some(start);
        self.writer.bytes(&[0; PAYLOAD_HEADER_LEN]);
        write(&mut self.writer);
        self.writer.patch_u16(start + 2, self.writer.len() - start);
    }

    /// Takes a chain that is written already, as the only content.
    pub fn chain(&mut self, first: u8, octets: &[u8]) {
        self.first = first;
        self.writer.bytes(octets);
    }

    pub fn sa(&mut self, proposals: &[Proposal]) {
        self.payload(payload::SA, |w| proposal::encode(proposals, w));
    }

    pub fn key_exchange(&mut self, group: u16, public: &[u8]) {
        self.payload(payload::KE, |w| {
            w.u16(group);
            w.u16(0);
            w.bytes(public);
        });
    }

    pub fn nonce(&mut self, nonce: &[u8]) {
        self.payload(payload::NONCE, |w| w.bytes(nonce));
    }

    /// `kind` is IDI or IDR, `body` what [`Identity::payload_body`](crate::Identity) gives.
    pub fn identity(&mut self, kind: u8, body: &[u8]) {
        self.payload(kind, |w| w.bytes(body));
    }

    pub fn certificate(&mut self, encoding: u8, data: &[u8]) {
        self.payload(payload::CERT, |w| {
            w.u8(encoding);
            w.bytes(data);
        });
    }

    pub fn certificate_request(&mut self, encoding: u8, hashes: &[[u8; 20]]) {
        self.payload(payload::CERTREQ, |w| {
            w.u8(encoding);
            for hash in hashes {
                w.bytes(hash);
            }
        });
    }

    pub fn auth(&mut self, method: u8, data: &[u8]) {
        self.payload(payload::AUTH, |w| {
            w.bytes(&[method, 0, 0, 0]);
            w.bytes(data);
        });
    }

    pub fn notify(&mut self, kind: NotifyKind, data: &[u8]) {
        self.payload(payload::NOTIFY, |w| {
            w.u16(0);
            w.u16(kind.0);
            w.bytes(data);
        });
    }

    /// A notify about a child SA.
    pub fn notify_esp(&mut self, kind: NotifyKind, spi: u32) {
        self.payload(payload::NOTIFY, |w| {
            w.bytes(&[3, 4]);
            w.u16(kind.0);
            w.bytes(&spi.to_be_bytes());
        });
    }

    pub fn delete_ike(&mut self) {
        self.payload(payload::DELETE, |w| w.bytes(&[1, 0, 0, 0]));
    }

    pub fn delete_esp(&mut self, spis: &[u32]) {
        self.payload(payload::DELETE, |w| {
            w.bytes(&[3, 4]);
            w.u16(u16::try_from(spis.len()).unwrap_or(u16::MAX));
            for spi in spis {
                w.bytes(&spi.to_be_bytes());
            }
        });
    }

    pub fn eap(&mut self, message: &[u8]) {
        self.payload(payload::EAP, |w| w.bytes(message));
    }

    /// `kind` is TSI or TSR.
    pub fn selectors(&mut self, kind: u8, selectors: &[TrafficSelector]) {
        self.payload(kind, |w| {
            w.u8(u8::try_from(selectors.len()).unwrap_or(u8::MAX));
            w.bytes(&[0; 3]);
            for selector in selectors {
                w.u8(if selector.is_ipv4() { 7 } else { 8 });
                w.u8(selector.protocol);
                w.u16(if selector.is_ipv4() { 16 } else { 40 });
                w.u16(selector.start_port);
                w.u16(selector.end_port);
                address(w, selector.start);
                address(w, selector.end);
            }
        });
    }

    pub fn configuration_request(&mut self, request: &ConfigurationRequest) {
        self.payload(payload::CP, |w| {
            w.bytes(&[super::CFG_REQUEST, 0, 0, 0]);
            match request.ipv4 {
                Some(wanted) if !wanted.is_unspecified() => attribute(w, IP4_ADDRESS, &wanted.octets()),
                Some(_) => attribute(w, IP4_ADDRESS, &[]),
                None => {}
            }
            match request.ipv6 {
                Some(wanted) if !wanted.is_unspecified() => {
                    attribute(w, IP6_ADDRESS, &ipv6_with_prefix(wanted.octets(), 128));
                }
                Some(_) => attribute(w, IP6_ADDRESS, &[]),
                None => {}
            }
            for (wanted, kind) in [
                (request.netmask, IP4_NETMASK),
                (request.dns4, IP4_DNS),
                (request.dns6, IP6_DNS),
            ] {
                if wanted {
                    attribute(w, kind, &[]);
                }
            }
        });
    }

    pub fn configuration_reply(&mut self, configuration: &Configuration) {
        self.payload(payload::CP, |w| {
            w.bytes(&[super::CFG_REPLY, 0, 0, 0]);
            if let Some(address) = configuration.ipv4 {
                attribute(w, IP4_ADDRESS, &address.octets());
            }
            if let Some(mask) = configuration.netmask {
                attribute(w, IP4_NETMASK, &mask.octets());
            }
            if let Some((address, length)) = configuration.ipv6 {
                attribute(w, IP6_ADDRESS, &ipv6_with_prefix(address.octets(), length));
            }
            for server in &configuration.dns {
                match server {
                    IpAddr::V4(server) => attribute(w, IP4_DNS, &server.octets()),
                    IpAddr::V6(server) => attribute(w, IP6_DNS, &server.octets()),
                }
            }
        });
    }

    /// The finished message, unencrypted. The prefix must be that of an IKE header.
    pub fn finish(self, header: Header) -> Vec<u8> {
        let mut message = self.writer.into_vec();
        Header {
            next_payload: self.first,
            ..header
        }
        .encode(&mut message);
        message
    }

    /// The type of the first payload, the length of the prefix, and the octets.
    pub fn into_parts(self) -> (u8, usize, Vec<u8>) {
        (self.first, self.prefix, self.writer.into_vec())
    }
}

fn address(writer: &mut Writer, address: IpAddr) {
    match address {
        IpAddr::V4(address) => writer.bytes(&address.octets()),
        IpAddr::V6(address) => writer.bytes(&address.octets()),
    }
}

fn attribute(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.u16(kind);
    writer.u16(u16::try_from(value.len()).unwrap_or(0));
    writer.bytes(value);
}

fn ipv6_with_prefix(address: [u8; 16], length: u8) -> [u8; 17] {
    let mut value = [length; 17];
    value[..16].copy_from_slice(&address);
    value
}
