//! The ESP side of one tunnel: what seals and what opens, also while the child SA is rekeyed.

use esp::{InboundSa, OutboundSa, ReplayWindow, Transform};
use ikev2::ChildSa;
use sadb::{SaKeys, SecretBytes};

const IPV4: u8 = 4;
const REPLAY: u16 = 512;

/// The child SAs of a tunnel.
pub(crate) struct Lane {
    outbound: OutboundSa,
    /// A new child SA that the gateway does not receive with yet, under its inbound SPI.
    pending: Option<(u32, OutboundSa)>,
    inbound: Vec<(u32, InboundSa, ReplayWindow)>,
    sequence: u64,
}

impl Lane {
    /// From a child SA that was just installed.
    pub(crate) fn new(child: &ChildSa) -> Result<Self, String> {
        let (outbound, inbound) = halves(child)?;
        Ok(Self {
            outbound,
            pending: None,
            inbound: vec![(child.inbound_spi, inbound, ReplayWindow::new(REPLAY))],
            sequence: 0,
        })
    }

    /// The child SA is being rekeyed: receives with both, and sends with the new one from [`Lane::activate`] on.
    pub(crate) fn rekey(&mut self, child: &ChildSa) -> Result<(), String> {
        let (outbound, inbound) = halves(child)?;
        self.pending = Some((child.inbound_spi, outbound));
        self.inbound
            .push((child.inbound_spi, inbound, ReplayWindow::new(REPLAY)));
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

    /// Octets of an ESP packet around an inner one of `inner` octets.
    pub(crate) fn sealed_len(&self, inner: usize) -> usize {
        self.outbound.transform().sealed_len(inner)
    }

    /// Seals an inner packet of `inner` octets, which `write` puts into its place, into all of `packet`.
    pub(crate) fn seal(
        &mut self,
        packet: &mut [u8],
        inner: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Option<()> {
        let offset = self.outbound.transform().header_len();
        write(packet.get_mut(offset..offset + inner)?);
        self.sequence += 1;
        self.outbound.seal(packet, inner, IPV4, self.sequence).ok()?;
        Some(())
    }

    /// Opens an ESP packet; gives the inner one.
    pub(crate) fn open<'p>(&mut self, spi: u32, packet: &'p mut [u8]) -> Option<&'p [u8]> {
        let (_, sa, replay) = self.inbound.iter_mut().find(|(other, ..)| *other == spi)?;
        Some(sa.open(packet, replay).ok()?.payload)
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
