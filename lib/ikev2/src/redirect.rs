//! Sending a new peer to another gateway in answer to its first message (RFC 5685, sections 3 and 5). Nothing is remembered of it.

use std::net::IpAddr;

use crate::message::{
    Builder, Exchange, HEADER_LEN, Header, MAX_PAYLOADS, NotifyKind, Reader, next_payload, payload,
};

/// Types of a gateway's identity (RFC 5685 7.2).
const IPV4: u8 = 1;
const IPV6: u8 = 2;
/// Protocol, SPI size and type of a notify.
const NOTIFY_HEAD: usize = 4;

/// A request for a new IKE SA whose sender can be sent elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirectable<'a> {
    initiator_spi: u64,
    /// Octets of the request.
    length: usize,
    nonce: &'a [u8],
    /// The gateway that it was sent here by.
    from: Option<IpAddr>,
}

impl<'a> Redirectable<'a> {
    /// Reads a datagram, without non-ESP marker. `None` when it is no request for a new IKE SA, when its sender does not say that it can be redirected, or when its chain of payloads makes no sense.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let header = Header::decode(datagram).ok()?;
        if header.exchange != Exchange::IkeSaInit || header.response || header.responder_spi != 0 {
            return None;
        }
        let mut reader = Reader::new(datagram.get(HEADER_LEN..)?);
        let (mut nonce, mut is_able, mut from) = (None, false, None);
        let mut kind = header.next_payload;
        for _ in 0..MAX_PAYLOADS {
            if kind == payload::NONE {
                break;
            }
            let raw = next_payload(kind, &mut reader).ok()?;
            kind = raw.next;
            match raw.kind {
                payload::NONCE => nonce = Some(raw.body).filter(|nonce| (16..=256).contains(&nonce.len())),
                payload::NOTIFY => match notify(raw.body) {
                    Some((NotifyKind::REDIRECT_SUPPORTED, _)) => is_able = true,
                    Some((NotifyKind::REDIRECTED_FROM, data)) => {
                        is_able = true;
                        from = address(data);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        let nonce = nonce.filter(|_| is_able && kind == payload::NONE)?;
        Some(Self {
            initiator_spi: header.initiator_spi,
            length: datagram.len(),
            nonce,
            from,
        })
    }

    /// The SPI that its sender chose.
    pub fn initiator_spi(&self) -> u64 {
        self.initiator_spi
    }

    /// Whether this gateway has just sent it away.
    pub fn comes_from(&self, gateway: IpAddr) -> bool {
        self.from == Some(gateway)
    }

    /// The answer that sends it to another gateway: an IKE_SA_INIT response with a REDIRECT notify alone, which repeats the nonce, so that nobody else can have sent it.
    /// `None` if that would be longer than the request, which has no proposals then.
    pub fn answer(&self, gateway: IpAddr) -> Option<Vec<u8>> {
        let mut data = match gateway {
            IpAddr::V4(address) => [&[IPV4, 4], &address.octets()[..]].concat(),
            IpAddr::V6(address) => [&[IPV6, 16], &address.octets()[..]].concat(),
        };
        data.extend_from_slice(self.nonce);
        let mut builder = Builder::new(HEADER_LEN);
        builder.notify(NotifyKind::REDIRECT, &data);
        let answer = builder.finish(Header {
            initiator_spi: self.initiator_spi,
            responder_spi: 0,
            next_payload: 0,
            exchange: Exchange::IkeSaInit,
            from_initiator: false,
            response: true,
            message_id: 0,
        });
        (answer.len() <= self.length).then_some(answer)
    }
}

fn notify(body: &[u8]) -> Option<(NotifyKind, &[u8])> {
    let ([_, spi, high, low], rest) = body.split_first_chunk::<NOTIFY_HEAD>()?;
    let kind = NotifyKind(u16::from_be_bytes([*high, *low]));
    Some((kind, rest.get(usize::from(*spi)..)?))
}

fn address(identity: &[u8]) -> Option<IpAddr> {
    match identity {
        [IPV4, 4, octets @ ..] => octets.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        [IPV6, 16, octets @ ..] => octets.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(notifies: &[(NotifyKind, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(HEADER_LEN);
        builder.key_exchange(31, &[9; 32]);
        builder.nonce(&[7; 32]);
        for (kind, data) in notifies {
            builder.notify(*kind, data);
        }
        builder.finish(Header {
            initiator_spi: 0x0102,
            responder_spi: 0,
            next_payload: 0,
            exchange: Exchange::IkeSaInit,
            from_initiator: true,
            response: false,
            message_id: 0,
        })
    }

    #[test]
    fn who_can_be_redirected_is_and_gets_its_nonce_back() {
        let able = request(&[(NotifyKind::REDIRECT_SUPPORTED, &[])]);
        let redirectable = Redirectable::parse(&able).unwrap();
        assert_eq!(redirectable.initiator_spi(), 0x0102);
        let answer = redirectable.answer([192, 0, 2, 9].into()).unwrap();
        assert_eq!(
            answer[..28],
            [
                0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 41, 0x20, 34, 0x20, 0, 0, 0, 0, 0, 0, 0, 74
            ]
        );
        assert_eq!(
            answer[28..42],
            [0, 0, 0, 46, 0, 0, 0x40, 0x17, 1, 4, 192, 0, 2, 9]
        );
        assert_eq!(answer[42..], [7; 32]);
        let gateway: IpAddr = "2001:db8::9".parse().unwrap();
        assert_eq!(redirectable.answer(gateway).unwrap().len(), 28 + 8 + 18 + 32);
    }

    #[test]
    fn no_answer_is_longer_than_its_request() {
        let mut builder = Builder::new(HEADER_LEN);
        builder.nonce(&[7; 32]);
        builder.notify(NotifyKind::REDIRECT_SUPPORTED, &[]);
        let able = request(&[(NotifyKind::REDIRECT_SUPPORTED, &[])]);
        let header = Header::decode(&able).unwrap();
        let bare = builder.finish(header);
        let redirectable = Redirectable::parse(&bare).unwrap();
        assert_eq!(redirectable.answer([192, 0, 2, 9].into()), None);
    }

    #[test]
    fn who_was_sent_here_is_not_sent_back() {
        let sent = request(&[(NotifyKind::REDIRECTED_FROM, &[1, 4, 192, 0, 2, 1])]);
        let redirectable = Redirectable::parse(&sent).unwrap();
        assert!(redirectable.comes_from([192, 0, 2, 1].into()));
        assert!(!redirectable.comes_from([192, 0, 2, 2].into()));
        let by_name = request(&[(NotifyKind::REDIRECTED_FROM, b"\x03\x02gw")]);
        let redirectable = Redirectable::parse(&by_name).unwrap();
        assert!(!redirectable.comes_from([192, 0, 2, 1].into()));
    }

    #[test]
    fn everybody_else_is_not() {
        assert_eq!(Redirectable::parse(&request(&[])), None, "does not know how");
        let able = request(&[(NotifyKind::REDIRECT_SUPPORTED, &[])]);
        for length in 0..able.len() {
            let mut cut = able[..length].to_vec();
            if let Some(field) = cut.get_mut(24..28) {
                field.copy_from_slice(&(length as u32).to_be_bytes());
            }
            assert_eq!(Redirectable::parse(&cut), None, "{length} octets");
        }
        for (at, octet) in [(19, 0x28), (18, 35), (15, 1)] {
            let mut other = able.clone();
            other[at] = octet;
            assert_eq!(Redirectable::parse(&other), None, "octet {at}");
        }
    }
}
