//! Many simulated peers in one engine: what every command that has several of them does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::SystemRandom;
use ikev2::{Action, ChildSa, Engine, EngineConfig, Event, IkeSaId, Output, Path, Profile, RemoveReason};

use crate::initiator::{Common, Memory};
use crate::sockets::{Arrived, Sockets};

/// Peers in one process at most.
pub(crate) const MOST_PEERS: i64 = 1 << 22;

/// The engine of the peers, their sockets, and what they have in common.
pub(crate) struct Fleet {
    engine: Engine,
    memory: Memory,
    sockets: Sockets,
    pub common: Common,
}

/// What becomes of the peers is told to this.
pub(crate) trait Crew {
    /// A child SA is there. The number of its peer is the tag of its profile.
    fn install(&mut self, _child: &ChildSa) {}

    /// The gateway receives with this child SA.
    fn activate(&mut self, _inbound_spi: u32) {}

    /// A child SA is gone.
    fn remove(&mut self, _inbound_spi: u32, _reason: RemoveReason) {}

    /// The tunnels of an IKE SA have another path.
    fn redirect(&mut self, _ike: IkeSaId, _path: Path) {}

    /// Something happened.
    fn event(&mut self, event: &Event);

    /// An ESP packet came.
    fn esp(&mut self, _packet: &mut [u8], _now: Instant, _memory: &mut Memory) {}
}

impl Fleet {
    /// Binds the sockets; there are no peers yet.
    pub(crate) fn open(common: Common, local: &[IpAddr]) -> Result<Self, String> {
        let config = EngineConfig {
            slots: vec![1],
            max_ike_sas: MOST_PEERS as u32,
            ..EngineConfig::default()
        };
        Ok(Self {
            engine: Engine::new(config, Box::new(SystemRandom)),
            memory: Memory::default(),
            sockets: Sockets::bind(local).map_err(|error| error.to_string())?,
            common,
        })
    }

    /// Begins to set a tunnel up.
    pub(crate) fn initiate(
        &mut self,
        profile: Arc<Profile>,
        local: IpAddr,
        gateway: IpAddr,
        crew: &mut impl Crew,
    ) -> Result<IkeSaId, String> {
        let path = Sockets::path(local, gateway);
        let name = profile.name.clone();
        let ike = self
            .engine
            .initiate(Instant::now(), profile, path, &mut self.memory)
            .map_err(|error| format!("{name}: {error}"))?;
        self.carry_out(crew)?;
        Ok(ike)
    }

    /// Does something with an IKE SA; false if it is gone.
    pub(crate) fn act(&mut self, ike: IkeSaId, action: Action, crew: &mut impl Crew) -> Result<bool, String> {
        let done = self.engine.action(Instant::now(), ike, action, &mut self.memory);
        self.carry_out(crew)?;
        Ok(done.is_ok())
    }

    /// Takes in what came and does what is due; waits at most `timeout` for it.
    pub(crate) fn step(&mut self, timeout: Duration, crew: &mut impl Crew) -> Result<(), String> {
        let timeout = self.engine.next_timeout().map_or(timeout, |at| {
            at.saturating_duration_since(Instant::now()).min(timeout)
        });
        let (engine, memory) = (&mut self.engine, &mut self.memory);
        self.sockets
            .receive(timeout, |arrived| match arrived {
                Arrived::Ike(path, message) => engine.receive(Instant::now(), path, message, memory),
                Arrived::Esp(packet) => crew.esp(packet, Instant::now(), memory),
            })
            .map_err(|error| format!("receive: {error}"))?;
        self.engine.expire(Instant::now(), &mut self.memory);
        self.carry_out(crew)
    }

    /// Sends ESP packets: see [`Sockets::send`].
    pub(crate) fn send(&mut self, path: Path, data: &[u8], segment: Option<u16>) -> Result<bool, String> {
        self.sockets
            .send(path, data, segment)
            .map_err(|error| format!("send: {error}"))
    }

    /// Sends many ESP packets: see [`Sockets::send_all`].
    pub(crate) fn send_all(&mut self, waiting: &[(Path, usize, u16)], octets: &[u8]) -> Result<u64, String> {
        self.sockets
            .send_all(waiting, octets)
            .map_err(|error| format!("send: {error}"))
    }

    /// IKE SAs that are there, also those being set up or deleted.
    pub(crate) fn ike_sas(&self) -> u64 {
        u64::from(self.engine.totals().ike_sas)
    }

    /// Does what the engine says.
    fn carry_out(&mut self, crew: &mut impl Crew) -> Result<(), String> {
        while let Some(output) = self.engine.poll() {
            match output {
                // No room in the kernel: it will be sent again, as if the network had lost it.
                Output::Transmit { path, bytes } => {
                    self.send(path, &bytes, None)?;
                }
                Output::Ask {
                    ticket,
                    profile,
                    question,
                } => {
                    let number = usize::try_from(profile.tag).unwrap_or(usize::MAX);
                    let answer = self.common.credentials.answer(number, &question);
                    self.engine
                        .answer(Instant::now(), ticket, answer, &mut self.memory);
                }
                Output::Install(child) => crew.install(&child),
                Output::Remove {
                    inbound_spi, reason, ..
                } => {
                    self.memory.remove(inbound_spi);
                    crew.remove(inbound_spi, reason);
                }
                Output::Move { ike, path, .. } => crew.redirect(ike, path),
                Output::Activate { inbound_spi, .. } => crew.activate(inbound_spi),
                // Each carries its own.
                Output::Beside { .. } => {}
                Output::Event(event) => crew.event(&event),
            }
        }
        Ok(())
    }
}
