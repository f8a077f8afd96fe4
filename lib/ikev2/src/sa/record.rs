//! An IKE SA as a record, and back in another life.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::Child;
use super::request::{Outstanding, Pending};
use super::tasks::Task;
use super::timers::spread_overdue;
use super::{Class, IkeSa, State, bump};
use crate::env::Env;
use crate::output::IkeSaId;
use crate::profile::Profile;
use crate::record::{OLDEST_VERSION, PER_RESOURCE, Sink, Source, Stored, VERSION};
use crate::recovery::Restored;

/// Messages that a life may have encrypted after its last record of the IKE SA, at most. None should be, but an IV that comes twice gives
/// the key away.
pub(super) const IV_GAP: u64 = 1 << 16;
/// IVs of a record are below this, so that they never run out.
const MAX_IV: u64 = u64::MAX / 2;
/// RFC 7296 2.1: a responder may forget its response after some minutes.
const RESPONSE_LIFE: Duration = Duration::from_secs(240);
/// What should have ended while nobody was there gets this long.
const GRACE: Duration = Duration::from_secs(2);
/// Requests that should have been sent again meanwhile are spread over this long.
const SPREAD: Duration = Duration::from_millis(500);

/// The front of a record: what can be read of it without the profile.
pub(crate) struct Head {
    /// Of the layout.
    version: u8,
    /// [`Profile::service`].
    pub service: String,
    /// The SPI that is reserved for the IKE SA which is to replace this one.
    pub offered: Option<IkeSaId>,
    /// Inbound SPIs of its child SAs.
    pub children: Vec<u32>,
    /// The inbound SPI that is reserved for a child SA under negotiation.
    pub reserved: Option<u32>,
}

impl Head {
    /// Reads it from the front of a record.
    fn load(from: &mut Source<'_>) -> Option<Self> {
        let version = from.octet()?;
        (OLDEST_VERSION..=VERSION).contains(&version).then_some(())?;
        Some(Self {
            version,
            service: Stored::load(from)?,
            offered: Stored::load(from)?,
            children: Stored::load(from)?,
            reserved: Stored::load(from)?,
        })
    }

    /// The head of this record.
    pub fn of(record: &[u8]) -> Option<Self> {
        let nobody = Arc::new(Profile::default());
        Self::load(&mut Source::new(record, Instant::now(), &nobody))
    }
}

/// Our SPIs of the child SAs that stand beside others, and of the one that another is just being asked for beside.
type Beside = (Vec<u32>, Option<u32>);

impl Stored for State {
    fn store(&self, out: &mut Sink) {
        match self {
            State::InitSent(sent) => {
                out.put(&[1]);
                sent.store(out);
            }
            State::AuthSent(auth) => {
                out.put(&[2]);
                auth.store(out);
            }
            State::InitReplied(replied) => {
                out.put(&[3]);
                replied.store(out);
            }
            State::AuthReceived(auth) => {
                out.put(&[4]);
                auth.store(out);
            }
            State::Established => out.put(&[5]),
            State::Replaced { by } => {
                out.put(&[6]);
                by.store(out);
            }
            State::Closing(reason) => {
                out.put(&[7]);
                reason.store(out);
            }
            State::Lingering => out.put(&[8]),
            State::Dead => out.fail(),
        }
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Some(match from.octet()? {
            1 => State::InitSent(Stored::load(from)?),
            2 => State::AuthSent(Stored::load(from)?),
            3 => State::InitReplied(Stored::load(from)?),
            4 => State::AuthReceived(Stored::load(from)?),
            5 => State::Established,
            6 => State::Replaced {
                by: Stored::load(from)?,
            },
            7 => State::Closing(Stored::load(from)?),
            8 => State::Lingering,
            _ => return None,
        })
    }
}

impl IkeSa {
    /// May it be saved now? While a question is open the record from before the peer's message stands: the peer sends that again, and a
    /// later life asks again.
    pub fn is_storable(&self) -> bool {
        match &self.state {
            State::AuthSent(auth) => !auth.is_waiting(),
            State::AuthReceived(auth) => !auth.is_waiting(),
            State::Dead => false,
            _ => true,
        }
    }

    /// Nobody has proved yet who the peer is.
    pub fn is_half_open(&self) -> bool {
        self.state.class() == Class::HalfOpen
    }

    /// IKE SAs whose records must fit to this one's.
    pub fn relatives(&self) -> impl Iterator<Item = IkeSaId> + use<> {
        let by = match self.state {
            State::Replaced { by } => Some(by),
            _ => None,
        };
        [by, self.rival(), self.contested_by, self.predecessor]
            .into_iter()
            .flatten()
    }

    /// What the peer's rekey made while ours is under way.
    fn rival(&self) -> Option<IkeSaId> {
        match self.outstanding.as_ref().map(|outstanding| &outstanding.pending) {
            Some(Pending::RekeyIke(offer)) => offer.collision.as_ref().map(|collision| collision.rival),
            _ => None,
        }
    }

    /// Forgets a response that the peer cannot be waiting for any more.
    pub fn forget_response(&mut self, now: Instant) {
        let established = matches!(self.state, State::Established);
        if established && now.saturating_duration_since(self.responded) >= RESPONSE_LIFE {
            self.last_response = None;
        }
    }

    /// Writes its record. Gives a digest of all in it that matters: with the same digest it need not be saved again.
    pub fn store(&self, out: &mut Sink) -> u64 {
        let beside = self.beside();
        let version = if beside.is_some() {
            PER_RESOURCE
        } else {
            OLDEST_VERSION
        };
        out.put(&[version]);
        self.profile.service.store(out);
        self.offered().store(out);
        out.length(self.children.len());
        for child in &self.children {
            child.inbound_spi.store(out);
        }
        self.reserved_spi().store(out);

        self.peer_spi.store(out);
        self.initiator.store(out);
        self.path.store(out);
        self.nat.store(out);
        self.peer_fragments.store(out);
        self.state.store(out);
        self.keys.store(out);
        self.next_iv.store(out);
        self.expected.store(out);
        self.last_response.store(out);
        self.next_request.store(out);
        self.tasks.store(out);
        self.children.store(out);
        self.parties.store(out);
        self.created.store(out);
        self.deadlines.store(out);
        self.failed.store(out);
        self.temporary_failures.store(out);
        self.contested_by.store(out);
        self.predecessor.store(out);
        if let Some(beside) = beside {
            beside.store(out);
        }
        self.outstanding.is_some().store(out);
        if let Some(outstanding) = &self.outstanding {
            outstanding.store(out);
        }
        let digest = digest(out.bytes());
        // What follows changes with every retransmission, and may be lost.
        if let Some(outstanding) = &self.outstanding {
            outstanding.store_timing(out);
        }
        digest
    }

    /// Reads the record of the IKE SA with this SPI; `None` if it is none.
    pub fn load(id: IkeSaId, record: &[u8], epoch: Instant, profile: &Arc<Profile>) -> Option<Box<Self>> {
        let mut source = Source::new(record, epoch, profile);
        let from = &mut source;
        let head = Head::load(from)?;
        let mut sa = Box::new(Self {
            id,
            profile: Arc::clone(profile),
            peer_spi: Stored::load(from)?,
            initiator: Stored::load(from)?,
            path: Stored::load(from)?,
            nat: Stored::load(from)?,
            peer_fragments: Stored::load(from)?,
            state: Stored::load(from)?,
            keys: Stored::load(from)?,
            next_iv: Stored::load(from)?,
            expected: Stored::load(from)?,
            last_response: Stored::load(from)?,
            next_request: Stored::load(from)?,
            tasks: Stored::load(from)?,
            children: Stored::load(from)?,
            told_groups: Vec::new(),
            parties: Stored::load(from)?,
            created: Stored::load(from)?,
            deadlines: Stored::load(from)?,
            failed: Stored::load(from)?,
            temporary_failures: Stored::load(from)?,
            contested_by: Stored::load(from)?,
            predecessor: Stored::load(from)?,
            outstanding: None,
            reassembly: None,
            armed: None,
            source: None,
            charged: 0,
            last_heard: epoch,
            responded: epoch,
            repeats: (epoch, 0),
            touched: false,
            saved: None,
            resumed: false,
        });
        let (spis, asked) = match head.version >= PER_RESOURCE {
            true => <Beside>::load(from)?,
            false => Beside::default(),
        };
        for child in &mut sa.children {
            child.per_resource = spis.contains(&child.inbound_spi);
        }
        if bool::load(from)? {
            sa.outstanding = Some(Box::new(Outstanding::load(from, epoch)?));
        }
        if let Some(Pending::CreateChild(offer)) = sa
            .outstanding
            .as_mut()
            .map(|outstanding| &mut outstanding.pending)
        {
            offer.beside = asked;
        }
        let matters = record.len() - from.len();
        sa.saved = record.get(..matters).map(digest);
        if let Some(outstanding) = &mut sa.outstanding {
            outstanding.load_timing(from)?;
        }
        sa.children.iter_mut().for_each(Child::complete_profile);
        sa.told_groups = sa.groups();
        let children = sa.children.iter().map(|child| child.inbound_spi);
        let fits = from.is_empty()
            && sa.next_iv < MAX_IV
            && head.service == profile.service
            && head.offered == sa.offered()
            && head.reserved == sa.reserved_spi()
            && children.eq(head.children);
        fits.then_some(sa)
    }

    /// Its state and what it is doing, as a name.
    #[cfg(test)]
    pub fn kind(&self) -> String {
        let state = match self.state {
            State::InitSent(_) => "init-sent",
            State::AuthSent(_) => "auth-sent",
            State::InitReplied(_) => "init-replied",
            State::AuthReceived(_) => "auth-received",
            State::Established => "established",
            State::Replaced { .. } => "replaced",
            State::Closing(_) => "closing",
            State::Lingering => "lingering",
            State::Dead => "dead",
        };
        let established = matches!(self.state, State::Established);
        let doing = match self.outstanding.as_ref().map(|outstanding| &outstanding.pending) {
            _ if !established => "",
            Some(Pending::CreateChild(offer)) if offer.collision.is_some() => "-creating-child-collision",
            Some(Pending::CreateChild(offer)) if offer.rekeying.is_some() => "-rekeying-child",
            Some(Pending::CreateChild(_)) => "-creating-child",
            Some(Pending::RekeyIke(_)) if self.rival().is_some() => "-rekeying-ike-collision",
            Some(Pending::RekeyIke(_)) => "-rekeying-ike",
            Some(Pending::DeleteChildren(_)) => "-deleting-child",
            Some(Pending::Liveness) => "-liveness",
            Some(_) => "-busy",
            None if !self.tasks.is_empty() => "-waiting",
            None => "",
        };
        format!("{state}{doing}")
    }

    /// What only [`PER_RESOURCE`] has room for, if there is anything.
    fn beside(&self) -> Option<Beside> {
        let marked = self.children.iter().filter(|child| child.per_resource);
        let spis: Vec<u32> = marked.map(|child| child.inbound_spi).collect();
        let asked = match self.outstanding.as_ref().map(|outstanding| &outstanding.pending) {
            Some(Pending::CreateChild(offer)) => offer.beside,
            _ => None,
        };
        let waits = self
            .tasks
            .iter()
            .any(|task| matches!(task, Task::CreateBeside(_)));
        (waits || asked.is_some() || !spis.is_empty()).then_some((spis, asked))
    }

    /// The SPI that is reserved for an IKE SA in place of this one.
    fn offered(&self) -> Option<IkeSaId> {
        match self.outstanding.as_ref().map(|outstanding| &outstanding.pending) {
            Some(Pending::RekeyIke(offer)) => Some(offer.id),
            _ => None,
        }
    }

    /// The inbound SPI that is reserved for a child SA under negotiation.
    pub fn reserved_spi(&self) -> Option<u32> {
        let under_way = self.outstanding.as_ref().map(|outstanding| &outstanding.pending);
        match (&self.state, under_way) {
            (State::AuthSent(auth), _) => auth.reserved_spi(),
            (_, Some(Pending::CreateChild(offer))) => Some(offer.inbound_spi),
            _ => None,
        }
    }

    /// Comes into the engine of a later life: it is counted and found there, and what is overdue gets its time. Nothing is sent.
    pub fn resume(mut self: Box<Self>, env: &mut Env<'_>) -> Restored {
        self.next_iv += IV_GAP;
        self.resumed = true;
        self.resume_deadlines(env);
        self.resume_children(env);
        bump(&mut env.core.totals, self.state.class(), self.initiator, 1);
        self.note_source(env);
        if let State::InitReplied(_) = self.state {
            env.core.half_open.insert((self.peer_spi, self.path), self.id);
        }
        if let (State::Established, Some(key)) = (&self.state, self.peer_key()) {
            env.core.peers.insert(key);
        }
        env.core.failed += u32::from(self.failed);
        self.note_memory(env);
        self.arm(env);
        let id = self.id;
        let restored = Restored {
            ike: self.id,
            children: self.children.iter().map(Child::restored).collect(),
            reserved: self.reserved_spi(),
            groups: self.told_groups.clone(),
            view: self.view(env.now),
        };
        if self.rival().is_some() {
            env.core.contested.push(self.id);
        }
        env.core.table.put(self);
        env.core.rest(env.now, id);
        restored
    }

    fn resume_deadlines(&mut self, env: &mut Env<'_>) {
        let now = env.now;
        let profile = Arc::clone(&self.profile);
        let ago = |time: Duration| now.checked_sub(time).unwrap_or(now);
        self.responded = now;
        self.repeats = (now, 0);
        self.last_heard = now;
        if self.deadlines.phase.is_some_and(|at| at <= now) {
            self.deadlines.phase = Some(now + GRACE);
        }
        spread_overdue(env, &mut self.deadlines.expire, None);
        spread_overdue(env, &mut self.deadlines.rekey, self.deadlines.expire);
        spread_overdue(env, &mut self.deadlines.retry, None);
        if let Some(outstanding) = &mut self.outstanding
            && outstanding.deadline() <= now
        {
            outstanding.give_another_chance(now + env.jitter(SPREAD, 0, 1000));
        }
        if !matches!(self.state, State::Established) {
            return;
        }
        if let Some(liveness) = profile.liveness {
            // As if they had been heard at any time, else all would be asked at once.
            self.last_heard = ago(env.jitter(liveness.interval, 0, 1000));
            self.deadlines.liveness = Some(self.last_heard + liveness.interval);
        }
        if let (true, Some(interval)) = (self.nat.local, profile.nat_keepalive) {
            self.deadlines.keepalive = Some(now + env.jitter(interval, 0, 1000));
        }
    }

    fn resume_children(&mut self, env: &mut Env<'_>) {
        for child in &mut self.children {
            child.resume(env);
        }
        let count = u32::try_from(self.children.len()).unwrap_or(u32::MAX);
        env.core.totals.children = env.core.totals.children.saturating_add(count);
    }

    /// All that could be restored is. What the peer's rekey made is lost if it is not among that: our own stands alone.
    pub fn resolve(&mut self, env: &mut Env<'_>) {
        let is_lost = |rival: IkeSaId| !env.core.table.exists(rival);
        if !self.rival().is_some_and(is_lost) {
            return;
        }
        if let Some(outstanding) = &mut self.outstanding
            && let Pending::RekeyIke(offer) = &mut outstanding.pending
        {
            offer.collision = None;
        }
        self.check_empty(env);
    }
}

fn digest(octets: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(octets);
    hasher.finish()
}
