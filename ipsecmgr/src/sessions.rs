//! What this process remembers of each IKE SA besides the engine: its place in the world outside IKE.

mod record;

pub(crate) use record::recorded_name;

use std::collections::{HashMap, HashSet};

use bus::messages::sessmgr::{Authorization, ConnectedSession, RecoveredSession, Released};
use ikev2::{AuthMethod, IkeSaId, Path};
use sadb::{SaCounter, SaCounters, Spis};
use services::DisconnectReason;

/// EAP method number of EAP-MSCHAPv2.
pub(crate) const EAP_MSCHAPV2: u32 = 26;

/// One IKE SA. Begins with the first message, ends with the engine's word that it is gone. There may be a million of them: what few have is boxed.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Tag of its service.
    pub(crate) service: u64,
    /// Outer addresses.
    pub(crate) path: Path,
    /// The peer's identity, once it is known.
    pub(crate) peer: Option<Box<str>>,
    /// Inbound SPIs of its child SAs.
    pub(crate) children: Spis,
    /// `sessmgr` has a session for it.
    pub(crate) admitted: bool,
    /// The engine says that it is established.
    pub(crate) established: bool,
    /// An operator was told that the tunnel is up.
    pub(crate) up: bool,
    /// `aaamgr` has a conversation for it.
    pub(crate) in_eap: bool,
    /// EAP method seen last.
    pub(crate) eap_method: u32,
    /// What AAA authorised.
    pub(crate) authorization: Option<Box<Authorization>>,
    /// How the peer proved itself.
    pub(crate) peer_auth: Option<AuthMethod>,
    /// We proved ourselves by a certificate.
    pub(crate) signed: bool,
    /// Why it is being ended, when this process ends it.
    pub(crate) reason: Option<DisconnectReason>,
    /// The instance of `sessmgr` that admits it, or has: its session stays there, whoever has the slot.
    pub(crate) sessmgr: u32,
    /// The IKE SPI under which `sessmgr` may still know it; 0 when it knows the present one, or none.
    known_as: u64,
    /// What child SAs that are gone have carried.
    carried: Carried,
}

/// Packets and octets of both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Our instance of `sessmgr`, where new sessions are admitted.
    sessmgr: u32,
    /// Boxed, for a table is half empty after it has grown.
    sessions: HashMap<IkeSaId, Box<Session>>,
    by_child: HashMap<u32, IkeSaId>,
    /// Those whose child SAs changed since `sessmgr` was told, with the IKE SPI it knows them by, if that is another.
    changed: HashMap<IkeSaId, u64>,
    /// Those that changed since their records were saved.
    unsaved: HashSet<IkeSaId>,
    levels: Levels,
}

/// How many there are of some kinds, for gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Tunnels that are up.
    pub(crate) up: u64,
    /// Established, and we proved ourselves by a certificate.
    pub(crate) signed: u64,
    /// Established, and the peer proved itself by a certificate.
    pub(crate) certificates: u64,
    /// Established, and the peer proved itself by EAP-MSCHAPv2.
    pub(crate) mschapv2: u64,
}

impl Session {
    fn new(service: u64, path: Path, sessmgr: u32) -> Self {
        Self {
            service,
            path,
            peer: None,
            children: Spis::default(),
            admitted: false,
            established: false,
            up: false,
            in_eap: false,
            eap_method: 0,
            authorization: None,
            peer_auth: None,
            signed: false,
            reason: None,
            sessmgr,
            known_as: 0,
            carried: Carried::default(),
        }
    }

    /// The peer's identity, or its address while there is none.
    pub(crate) fn peer_text(&self) -> String {
        match &self.peer {
            Some(peer) => peer.to_string(),
            None => self.path.remote.ip().to_string(),
        }
    }

    /// Its share of the levels.
    fn levels(&self) -> Levels {
        let count = |kind: bool| u64::from(self.established && kind);
        Levels {
            up: u64::from(self.up),
            signed: count(self.signed),
            certificates: count(matches!(self.peer_auth, Some(AuthMethod::Signature(_)))),
            mschapv2: count(self.eap_method == EAP_MSCHAPV2),
        }
    }

    /// Adds what a child SA carried.
    pub(crate) fn carry(&mut self, counters: &SaCounters) {
        self.carried.packets_in += counters.get(SaCounter::PacketsIn);
        self.carried.bytes_in += counters.get(SaCounter::BytesIn);
        self.carried.packets_out += counters.get(SaCounter::PacketsOut);
        self.carried.bytes_out += counters.get(SaCounter::BytesOut);
    }

    /// The last word on it for `sessmgr`.
    pub(crate) fn released(&self, ike: IkeSaId, reason: DisconnectReason) -> Released {
        Released {
            ike_spi: ike.0,
            reason: reason.number(),
            bytes_in: self.carried.bytes_in,
            bytes_out: self.carried.bytes_out,
            packets_in: self.carried.packets_in,
            packets_out: self.carried.packets_out,
        }
    }
}

impl Sessions {
    /// None yet. New ones are admitted by this instance of `sessmgr`.
    pub(crate) fn new(sessmgr: u32) -> Self {
        Self {
            sessmgr,
            sessions: HashMap::new(),
            by_child: HashMap::new(),
            changed: HashMap::new(),
            unsaved: HashSet::new(),
            levels: Levels::default(),
        }
    }

    /// Begins one.
    pub(crate) fn begin(&mut self, ike: IkeSaId, service: u64, path: Path) {
        self.unsaved.insert(ike);
        self.sessions
            .insert(ike, Box::new(Session::new(service, path, self.sessmgr)));
    }

    /// The instance of `sessmgr` that has the session of an IKE SA, or would have it.
    pub(crate) fn sessmgr_of(&self, ike: IkeSaId) -> u32 {
        self.get(ike).map_or(self.sessmgr, |session| session.sessmgr)
    }

    /// Forgets those in these slots, which are another's from now on.
    pub(crate) fn let_go(&mut self, slots: &[u8]) {
        let goes = |ike: &IkeSaId| slots.contains(&ike.slot());
        let levels = &mut self.levels;
        self.sessions.retain(|ike, session| {
            let stays = !goes(ike);
            if !stays {
                levels.subtract(session.levels());
            }
            stays
        });
        self.by_child.retain(|_, ike| !goes(ike));
        self.changed.retain(|ike, _| !goes(ike));
        self.unsaved.retain(|ike| !goes(ike));
    }

    /// One of them.
    pub(crate) fn get(&self, ike: IkeSaId) -> Option<&Session> {
        self.sessions.get(&ike).map(Box::as_ref)
    }

    /// One of them, to be changed.
    pub(crate) fn get_mut(&mut self, ike: IkeSaId) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&ike)?;
        self.unsaved.insert(ike);
        Some(session.as_mut())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IkeSaId, &Session)> {
        self.sessions
            .iter()
            .map(|(ike, session)| (*ike, session.as_ref()))
    }

    /// Ends one.
    pub(crate) fn end(&mut self, ike: IkeSaId) -> Option<Box<Session>> {
        let session = self.sessions.remove(&ike)?;
        self.changed.remove(&ike);
        self.unsaved.remove(&ike);
        for spi in session.children.iter() {
            self.by_child.remove(spi);
        }
        self.levels.subtract(session.levels());
        Some(session)
    }

    /// The engine says that it is established.
    pub(crate) fn establish(&mut self, ike: IkeSaId, peer: &str, peer_auth: AuthMethod) {
        let Some(session) = self.sessions.get_mut(&ike) else {
            return;
        };
        self.unsaved.insert(ike);
        self.levels.subtract(session.levels());
        session.established = true;
        session.peer = Some(peer.into());
        session.peer_auth = Some(peer_auth);
        self.levels.add(session.levels());
    }

    /// It has another IKE SPI now.
    pub(crate) fn rekeyed(&mut self, old: IkeSaId, new: IkeSaId) {
        let Some(mut session) = self.sessions.remove(&old) else {
            return;
        };
        if session.known_as == 0 {
            session.known_as = old.0;
        }
        self.unsaved.extend([old, new]);
        for spi in session.children.iter() {
            self.by_child.insert(*spi, new);
        }
        // If `sessmgr` has not heard of the name before either, it knows the one before that.
        let known = self
            .changed
            .remove(&old)
            .filter(|known| *known != 0)
            .unwrap_or(old.0);
        self.changed.insert(new, known);
        self.sessions.insert(new, session);
    }

    /// It has another child SA.
    pub(crate) fn add_child(&mut self, ike: IkeSaId, spi: u32) {
        if let Some(session) = self.sessions.get_mut(&ike) {
            session.children.push(spi);
            self.by_child.insert(spi, ike);
            self.changed.entry(ike).or_insert(0);
        }
    }

    /// A child SA is gone and carried so much; returns its session.
    pub(crate) fn remove_child(
        &mut self,
        spi: u32,
        counters: &SaCounters,
    ) -> Option<(IkeSaId, &mut Session)> {
        let ike = self.by_child.remove(&spi)?;
        let session = self.sessions.get_mut(&ike)?.as_mut();
        session.children.remove(spi);
        session.carry(counters);
        self.changed.entry(ike).or_insert(0);
        self.unsaved.insert(ike);
        Some((ike, session))
    }

    /// Marks a tunnel as up or down; false when it was so already.
    pub(crate) fn set_up(&mut self, ike: IkeSaId, up: bool) -> bool {
        let Some(session) = self.sessions.get_mut(&ike).filter(|session| session.up != up) else {
            return false;
        };
        self.unsaved.insert(ike);
        self.levels.subtract(session.levels());
        session.up = up;
        self.levels.add(session.levels());
        true
    }

    /// How many there are of some kinds.
    pub(crate) fn levels(&self) -> Levels {
        self.levels
    }

    /// News of sessions that a `sessmgr` knows and whose child SAs changed, with its instance.
    pub(crate) fn take_changed(&mut self) -> Vec<(u32, ConnectedSession)> {
        let (tell, keep): (HashMap<_, _>, HashMap<_, _>) = std::mem::take(&mut self.changed)
            .into_iter()
            .partition(|(ike, _)| {
                self.sessions
                    .get(ike)
                    .is_some_and(|session| session.admitted && session.established)
            });
        self.changed = keep;
        tell.into_iter()
            .filter_map(|(ike, was)| {
                let session = self.sessions.get(&ike)?;
                let news = ConnectedSession {
                    ike_spi: ike.0,
                    was,
                    spis: session.children.to_vec(),
                };
                Some((session.sessmgr, news))
            })
            .collect()
    }

    /// `sessmgr` knows these by their present names.
    pub(crate) fn told(&mut self, ikes: &[u64]) {
        for ike in ikes {
            if let Some(session) = self
                .sessions
                .get_mut(&IkeSaId(*ike))
                .filter(|session| session.known_as != 0)
            {
                session.known_as = 0;
                self.unsaved.insert(IkeSaId(*ike));
            }
        }
    }

    /// Those that changed since the last call: their records are to be saved.
    pub(crate) fn take_unsaved(&mut self) -> HashSet<IkeSaId> {
        std::mem::take(&mut self.unsaved)
    }

    /// Takes over the session of an earlier life, as it stands in its record, with these child SAs. False if the record cannot be read.
    pub(crate) fn restore(
        &mut self,
        ike: IkeSaId,
        service: u64,
        path: Path,
        children: &[u32],
        record: &[u8],
    ) -> bool {
        let Some(mut session) = Session::from_record(service, path, record, self.sessmgr) else {
            return false;
        };
        for spi in children {
            self.by_child.insert(*spi, ike);
        }
        session.children = children.iter().copied().collect();
        self.levels.add(session.levels());
        self.sessions.insert(ike, Box::new(session));
        true
    }

    /// Those in these slots that a `sessmgr` is to go on with, with its instance.
    pub(crate) fn outlived(&self, slots: &[u8]) -> Vec<(u32, RecoveredSession)> {
        let mut outlived: Vec<(u32, RecoveredSession)> = self
            .sessions
            .iter()
            .filter(|(ike, session)| slots.contains(&ike.slot()) && session.admitted)
            .map(|(ike, session)| {
                let outlived = RecoveredSession {
                    ike_spi: ike.0,
                    known_as: session.known_as,
                    spis: session.children.to_vec(),
                };
                (session.sessmgr, outlived)
            })
            .collect();
        outlived.sort_by_key(|(sessmgr, outlived)| (*sessmgr, outlived.ike_spi));
        outlived
    }

    /// `sessmgr` shall be told what child SAs a session has.
    pub(crate) fn tell_again(&mut self, ike: IkeSaId) {
        self.changed.entry(ike).or_insert(0);
    }

    /// The services that any session belongs to.
    pub(crate) fn services(&self) -> HashSet<u64> {
        self.sessions.values().map(|session| session.service).collect()
    }
}

impl Levels {
    fn add(&mut self, other: Self) {
        self.up += other.up;
        self.signed += other.signed;
        self.certificates += other.certificates;
        self.mschapv2 += other.mschapv2;
    }

    /// Takes away what was added before.
    fn subtract(&mut self, other: Self) {
        self.up -= other.up;
        self.signed -= other.signed;
        self.certificates -= other.certificates;
        self.mschapv2 -= other.mschapv2;
    }
}

#[cfg(test)]
mod tests;
