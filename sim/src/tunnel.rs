//! The ESP side of one simulated eNodeB.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use esp::{InboundSa, OutboundSa, ReplayWindow, Transform};
use ikev2::{ChildSa, IkeSaId, Path};
use sadb::{SaKeys, SecretBytes};

use crate::packets::{Template, read};

/// Packets sent in one go.
const BURST: usize = 32;
/// A packet whose echo has not come by then is given up, so that the others go on.
const GIVE_UP: Duration = Duration::from_secs(1);
const IPV4: u8 = 4;

/// A tunnel that is up.
pub(crate) struct Tunnel {
    pub ike: IkeSaId,
    pub path: Path,
    outbound: OutboundSa,
    /// A new child SA that the gateway does not receive with yet, under its inbound SPI.
    pending: Option<(u32, OutboundSa)>,
    inbound: Vec<(u32, InboundSa, ReplayWindow)>,
    sequence: u64,
    template: Template,
    destination: SocketAddrV4,
    number: u32,
    pub sent: u64,
    pub echoed: u64,
    /// Sent and neither echoed nor given up.
    outstanding: u64,
    last_echo: Instant,
    /// ESP packets that are sealed and wait for room in the kernel.
    waiting: Option<(Vec<u8>, u16, u64)>,
}

/// Where a tunnel's packets go, and how long they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub length: usize,
}

impl Tunnel {
    /// From a child SA that was just installed.
    pub(crate) fn new(child: &ChildSa, number: u32, flow: Flow, now: Instant) -> Result<Self, String> {
        let (outbound, inbound) = halves(child)?;
        Ok(Self {
            ike: child.ike,
            path: child.path,
            outbound,
            pending: None,
            inbound: vec![(child.inbound_spi, inbound, ReplayWindow::new(512))],
            sequence: 0,
            template: Template::new(flow.source, flow.destination, flow.length, number),
            destination: flow.source,
            number,
            sent: 0,
            echoed: 0,
            outstanding: 0,
            last_echo: now,
            waiting: None,
        })
    }

    /// The child SA is being rekeyed: receives with both, and sends with the new one from [`Tunnel::activate`] on.
    pub(crate) fn rekey(&mut self, child: &ChildSa) -> Result<(), String> {
        let (outbound, inbound) = halves(child)?;
        self.pending = Some((child.inbound_spi, outbound));
        self.inbound
            .push((child.inbound_spi, inbound, ReplayWindow::new(512)));
        Ok(())
    }

    /// Sends with this child SA from now on.
    pub(crate) fn activate(&mut self, spi: u32) {
        if let Some((_, outbound)) = self.pending.take_if(|(pending, _)| *pending == spi) {
            self.outbound = outbound;
            self.sequence = 0;
        }
    }

    /// Receives with this child SA no longer.
    pub(crate) fn forget(&mut self, spi: u32) {
        self.inbound.retain(|(other, ..)| *other != spi);
    }

    /// Whether anything can be received.
    pub(crate) fn is_up(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// Length of an inner packet.
    pub(crate) fn inner_len(&self) -> usize {
        self.template.len()
    }

    /// Packets that await their echo.
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// The next packets to send, if `window` allows any: octets, octets of each. They count as sent with [`Tunnel::confirm`].
    pub(crate) fn burst(&mut self, window: u64, most: u64, now: Instant) -> Option<(&[u8], u16)> {
        if self.outstanding > 0 && now - self.last_echo > GIVE_UP {
            self.outstanding = 0;
            self.last_echo = now;
        }
        if self.waiting.is_none() {
            let room = window.saturating_sub(self.outstanding).min(most);
            let count = usize::try_from(room).unwrap_or(BURST).min(BURST);
            if count == 0 {
                return None;
            }
            let inner = self.template.len();
            let stride = self.outbound.transform().sealed_len(inner);
            let offset = self.outbound.transform().header_len();
            let mut buffer = vec![0; stride * count];
            for (packet, number) in buffer.chunks_exact_mut(stride).zip(self.sent..) {
                self.sequence += 1;
                self.template
                    .write(number, packet.get_mut(offset..offset + inner)?);
                self.outbound.seal(packet, inner, IPV4, self.sequence).ok()?;
            }
            self.waiting = Some((buffer, u16::try_from(stride).ok()?, count as u64));
        }
        self.waiting
            .as_ref()
            .map(|(buffer, stride, _)| (&**buffer, *stride))
    }

    /// The burst is on its way.
    pub(crate) fn confirm(&mut self) -> u64 {
        let count = self.waiting.take().map_or(0, |(.., count)| count);
        self.sent += count;
        self.outstanding += count;
        count
    }

    /// Opens an ESP packet of this tunnel; true if it was an echo.
    pub(crate) fn receive(&mut self, spi: u32, packet: &mut [u8], now: Instant) -> bool {
        let Some((_, sa, replay)) = self.inbound.iter_mut().find(|(other, ..)| *other == spi) else {
            return false;
        };
        let Ok(opened) = sa.open(packet, replay) else {
            return false;
        };
        if read(opened.payload, *self.destination.ip()).is_none_or(|(tunnel, _)| tunnel != self.number) {
            return false;
        }
        self.echoed += 1;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.last_echo = now;
        true
    }
}

/// Both directions of a child SA.
pub(crate) fn halves(child: &ChildSa) -> Result<(OutboundSa, InboundSa), String> {
    let transform = Transform::new(child.cipher, child.integrity).map_err(|error| error.to_string())?;
    let outbound = OutboundSa::new(
        transform,
        child.outbound_spi,
        &keys(&child.outbound_keys)?,
        child.esn,
    );
    let inbound = InboundSa::new(transform, &keys(&child.inbound_keys)?, child.esn);
    Ok((
        outbound.map_err(|error| error.to_string())?,
        inbound.map_err(|error| error.to_string())?,
    ))
}

fn keys(keys: &ikev2::ChildKeys) -> Result<SaKeys, String> {
    let text = |error: sadb::Error| error.to_string();
    Ok(SaKeys {
        encryption: SecretBytes::new("encryption key", keys.encryption.as_bytes()).map_err(text)?,
        salt: SecretBytes::new("salt", keys.salt.as_bytes()).map_err(text)?,
        integrity: SecretBytes::new("integrity key", keys.integrity.as_bytes()).map_err(text)?,
    })
}
