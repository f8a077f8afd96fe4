//! One simulated eNodeB's tunnel, and the echoes that it waits for.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use ikev2::{ChildSa, IkeSaId, Path};

use crate::lane::Lane;
use crate::packets::{Template, read};

/// Packets sent in one go.
const BURST: usize = 32;
/// A packet whose echo has not come by then is given up, so that the others go on.
const GIVE_UP: Duration = Duration::from_secs(1);

/// A tunnel that is up.
pub(crate) struct Tunnel {
    pub ike: IkeSaId,
    pub path: Path,
    pub lane: Lane,
    template: Template,
    destination: SocketAddrV4,
    pub number: u32,
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
        Ok(Self {
            ike: child.ike,
            path: child.path,
            lane: Lane::new(child)?,
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
            let stride = self.lane.sealed_len(inner);
            let mut buffer = vec![0; stride * count];
            for (packet, number) in buffer.chunks_exact_mut(stride).zip(self.sent..) {
                let template = &self.template;
                self.lane
                    .seal(packet, inner, |place| template.write(number, place))?;
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
        let Some(inner) = self.lane.open(spi, packet) else {
            return false;
        };
        if read(inner, *self.destination.ip()).is_none_or(|(tunnel, _)| tunnel != self.number) {
            return false;
        }
        self.echoed += 1;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.last_echo = now;
        true
    }
}
