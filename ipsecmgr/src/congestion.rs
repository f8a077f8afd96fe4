//! Congestion control for new peers, as `rmctrl` says: they get no answer, or a refusal. Who has begun a set-up or is connected is served in any case.
//!
//! Any address of the peer networks can cause these refusals: they are no longer than what they answer, and nothing is remembered of them.

use std::collections::HashSet;

use bus::messages::rmctrl::{self as message, CongestionAction};
use config::OverloadGateway;
use ikev2::{Engine, NotifyKind, Path, Redirectable};
use services::wsg::Wsg;
use telemetry::Counters;
use telemetry::counters::congestion as counter;

use crate::sockets::NAT_PORT;

/// Octets of an IKE header (RFC 7296 3.1), and of a Notify payload without SPI and data (3.10).
const HEADER: usize = 28;
const NOTIFY: usize = 8;
/// Payload type of Notify, and the flag of responses.
const NOTIFY_PAYLOAD: u8 = 41;
const FLAG_RESPONSE: u8 = 0x20;
/// RFC 3948 2.2.
const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// What new peers get now.
#[derive(Default)]
pub(crate) struct Congestion {
    action: Option<Refusal>,
    everywhere: bool,
    /// Context and name of services that are congested by themselves.
    services: HashSet<(String, String)>,
    /// Refusals to be sent.
    refused: Vec<(Path, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Drop,
    Reject,
    Redirect,
}

impl Congestion {
    /// Takes over what `rmctrl` says.
    pub(crate) fn set(&mut self, congestion: message::Congestion) {
        self.action = match congestion.action() {
            CongestionAction::Nothing => None,
            CongestionAction::Reject => Some(Refusal::Reject),
            CongestionAction::Drop => Some(Refusal::Drop),
            CongestionAction::Redirect => Some(Refusal::Redirect),
        };
        self.everywhere = congestion.everywhere;
        let services = congestion.services.into_iter();
        self.services = services
            .map(|service| (service.context, service.service))
            .collect();
    }

    /// Whether a request for a new IKE SA with this service goes no further. It is counted, and answered with
    /// [`take_refusals`](Self::take_refusals) if that is the policy.
    pub(crate) fn refuses(
        &mut self,
        wsg: &Wsg,
        path: Path,
        datagram: &[u8],
        engine: &Engine,
        counters: &Counters,
    ) -> bool {
        let Some(refusal) = self.action.filter(|_| self.concerns(wsg)) else {
            return false;
        };
        // A header that is not whole is the engine's to count; a request that is repeated has an answer already.
        let Some(spi) = new_spi(datagram).filter(|spi| !engine.is_setting_up(*spi, path)) else {
            return false;
        };
        let redirect = (refusal == Refusal::Redirect)
            .then(|| redirect(&wsg.overload_gateways, path, datagram))
            .flatten();
        match (refusal, redirect) {
            (Refusal::Drop, _) => counters.inc(counter::WSG_DROPPED),
            (_, Some(answer)) => {
                counters.inc(counter::WSG_REDIRECTED);
                self.refused.push((path, marked(path, answer)));
            }
            (_, None) => {
                counters.inc(counter::WSG_REJECTED);
                let answer = refusal_of(spi, wsg.congestion_notify);
                self.refused.push((path, marked(path, answer)));
            }
        }
        true
    }

    /// What is to be sent.
    pub(crate) fn take_refusals(&mut self) -> Vec<(Path, Vec<u8>)> {
        std::mem::take(&mut self.refused)
    }

    fn concerns(&self, wsg: &Wsg) -> bool {
        let named =
            |(context, service): &(String, String)| *context == wsg.context && *service == wsg.service;
        self.everywhere || self.services.iter().any(named)
    }
}

/// The initiator's SPI of a request for a new IKE SA that states its length truly: version 2, no responder's SPI, Message ID 0, and not shorter than its refusal.
fn new_spi(datagram: &[u8]) -> Option<u64> {
    if datagram.len() < HEADER + NOTIFY {
        return None;
    }
    let header = datagram.first_chunk::<HEADER>()?;
    let word = |at: usize| header.get(at..at + 8).and_then(|octets| octets.try_into().ok());
    let (initiator, responder, rest) = (
        u64::from_be_bytes(word(0)?),
        u64::from_be_bytes(word(8)?),
        u64::from_be_bytes(word(20)?),
    );
    let is_version_2 = header[17] >> 4 == 2;
    let is_whole = rest == datagram.len() as u64;
    (initiator != 0 && responder == 0 && is_version_2 && is_whole).then_some(initiator)
}

/// The answer that sends a peer to one of these gateways, but not to one that has just sent it here, nor to one of another family than it came by; each gets peers by its weight. `None` when there is none, or when the peer does not know how.
fn redirect(gateways: &[OverloadGateway], path: Path, datagram: &[u8]) -> Option<Vec<u8>> {
    let request = Redirectable::parse(datagram)?;
    let may = |gateway: &&OverloadGateway| {
        gateway.address.is_ipv4() == path.local.is_ipv4() && !request.comes_from(gateway.address)
    };
    let all: u64 = gateways
        .iter()
        .filter(may)
        .map(|gateway| u64::from(gateway.weight))
        .sum();
    // Initiators' SPIs are random (RFC 7296 2.6).
    let mut at = request.initiator_spi().checked_rem(all)?;
    let gateway = gateways.iter().filter(may).find(|gateway| {
        let weight = u64::from(gateway.weight);
        let is_it = at < weight;
        at = at.saturating_sub(weight);
        is_it
    })?;
    request.answer(gateway.address)
}

/// As it leaves by the port of `path`.
fn marked(path: Path, message: Vec<u8>) -> Vec<u8> {
    if path.local.port() == NAT_PORT {
        [&NON_ESP_MARKER, &message[..]].concat()
    } else {
        message
    }
}

/// IKE_SA_INIT response with nothing but a notification, and with no SPI of ours (RFC 7296 2.21.1, 2.6).
fn refusal_of(initiator_spi: u64, notify: NotifyKind) -> Vec<u8> {
    const LENGTH: usize = HEADER + NOTIFY;
    let mut message = Vec::with_capacity(LENGTH);
    message.extend(initiator_spi.to_be_bytes());
    message.extend([0; 8]);
    message.extend([NOTIFY_PAYLOAD, 0x20, crate::state::IKE_SA_INIT, FLAG_RESPONSE]);
    message.extend([0; 4]);
    message.extend((LENGTH as u32).to_be_bytes());
    // No further payload, not critical; no protocol, no SPI.
    message.extend([0, 0]);
    message.extend((NOTIFY as u16).to_be_bytes());
    message.extend([0, 0]);
    message.extend(notify.0.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path {
            local: ([192, 0, 2, 1], port).into(),
            remote: ([198, 51, 100, 7], 4_711).into(),
        }
    }

    fn request(spi: u64, length: u32) -> Vec<u8> {
        let mut message = [spi.to_be_bytes(), [0; 8]].concat();
        message.extend([33, 0x20, crate::state::IKE_SA_INIT, 0x08, 0, 0, 0, 0]);
        message.extend(length.to_be_bytes());
        message.resize(100, 0);
        message
    }

    #[test]
    fn only_whole_requests_for_something_new_are_refused() {
        assert_eq!(new_spi(&request(7, 100)), Some(7));
        assert_eq!(new_spi(&request(0, 100)), None);
        assert_eq!(new_spi(&request(7, 99)), None);
        assert_eq!(new_spi(&[]), None);
        let mut other = request(7, 100);
        other[15] = 1;
        assert_eq!(new_spi(&other), None, "for an IKE SA");
        let mut other = request(7, 100);
        other[17] = 0x10;
        assert_eq!(new_spi(&other), None, "version 1");
        let mut other = request(7, 100);
        other[23] = 1;
        assert_eq!(new_spi(&other), None, "not the first message");
    }

    #[test]
    fn a_refusal_is_a_response_with_one_notification() {
        let refusal = refusal_of(0x0102_0304_0506_0708, NotifyKind::TEMPORARY_FAILURE);
        let plain = marked(path(500), refusal.clone());
        assert_eq!(plain.len(), 36);
        assert_eq!(plain[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(plain[8..20], [0, 0, 0, 0, 0, 0, 0, 0, 41, 0x20, 34, 0x20]);
        assert_eq!(plain[20..], [0, 0, 0, 0, 0, 0, 0, 36, 0, 0, 0, 8, 0, 0, 0, 43]);
        let marked = marked(path(4_500), refusal);
        assert_eq!(marked[..4], NON_ESP_MARKER);
        assert_eq!(marked[4..], plain);
    }

    #[test]
    fn gateways_get_peers_by_their_weight() {
        let gateway = |last, weight| OverloadGateway {
            address: [192, 0, 2, last].into(),
            weight,
        };
        // Nonce, REDIRECT_SUPPORTED.
        let request = |spi: u64| {
            let mut message = [spi.to_be_bytes(), [0; 8]].concat();
            message.extend([40, 0x20, crate::state::IKE_SA_INIT, 0x08, 0, 0, 0, 0, 0, 0, 0, 76]);
            message.extend([43, 0, 0, 20]);
            message.extend([5; 16]);
            // A vendor's identity.
            message.extend([41, 0, 0, 20]);
            message.extend([6; 16]);
            message.extend([0, 0, 0, 8, 0, 0, 0x40, 0x16]);
            message
        };
        let gateways = [gateway(7, 1), gateway(8, 3)];
        let to: Vec<u8> = (1..=8)
            .map(|spi| redirect(&gateways, path(500), &request(spi)).unwrap()[41])
            .collect();
        assert_eq!(to, [8, 8, 8, 7, 8, 8, 8, 7]);
        assert_eq!(redirect(&[], path(500), &request(1)), None);
        let mut sent_by_8 = request(4);
        sent_by_8[27] = 82;
        sent_by_8.splice(68.., [0, 0, 0, 14, 0, 0, 0x40, 0x18, 1, 4, 192, 0, 2, 8]);
        assert_eq!(redirect(&gateways, path(500), &sent_by_8).unwrap()[41], 7);
        assert_eq!(redirect(&gateways[1..], path(500), &sent_by_8), None, "not back");
        let by_ipv6 = Path {
            local: "[2001:db8::1]:500".parse().unwrap(),
            remote: "[2001:db8::7]:500".parse().unwrap(),
        };
        assert_eq!(
            redirect(&gateways, by_ipv6, &request(1)),
            None,
            "of another family"
        );
    }

    #[test]
    fn what_rmctrl_says_holds_for_whom_it_names() {
        let mut congestion = Congestion::default();
        assert_eq!(congestion.action, None);
        let said = |action: CongestionAction, everywhere| message::Congestion {
            action: action.into(),
            everywhere,
            services: vec![message::CongestedService {
                context: "isp".into(),
                service: "enb".into(),
            }],
        };
        congestion.set(said(CongestionAction::Drop, false));
        assert_eq!(congestion.action, Some(Refusal::Drop));
        assert!(congestion.services.contains(&("isp".into(), "enb".into())));
        congestion.set(said(CongestionAction::Reject, true));
        assert!(congestion.everywhere);
        assert_eq!(congestion.action, Some(Refusal::Reject));
        congestion.set(message::Congestion::default());
        assert_eq!((congestion.action, congestion.services.len()), (None, 0));
    }
}
