//! A life of the process ends, the IKE SAs go on in the next: [`Engine::checkpoint`] gives the shell records to keep, [`Engine::restore`] takes
//! them back.
//!
//! What the peer may have seen must be kept first, so the shell does in this order: it lets the engine work, writes new child SAs, makes a
//! checkpoint and commits it, and only then sends datagrams and does the rest. A later life first reserves the SPIs of all records
//! ([`Engine::reserve_restored`]), then restores each, then calls [`Engine::finish_restore`], and only then takes in messages.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::{Engine, env};
use crate::env::Core;
use crate::output::IkeSaId;
use crate::profile::Profile;
use crate::sa::{Head, IkeSa};
use crate::sad::Sad;
use crate::show::IkeSaView;
use crate::table::{Found, Taken};

/// An IKE SA whose record is to be kept, or to be erased.
#[derive(Debug)]
pub struct Changed<'a> {
    /// Which.
    pub ike: IkeSaId,
    /// Its record. `None`: it is gone; its index may have come back under another SPI by now.
    pub record: Option<&'a [u8]>,
    /// The peer has not proved who it is.
    pub half_open: bool,
    /// What comes next belongs to it: both are kept, or neither.
    pub with_next: bool,
}

/// What a record lays claim to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// [`Profile::service`] of its profile.
    pub service: String,
    /// Inbound SPIs of its child SAs, also of one under negotiation: nobody else may have them.
    pub spis: Vec<u32>,
}

/// An IKE SA that came back.
#[derive(Debug)]
pub struct Restored {
    /// Which.
    pub ike: IkeSaId,
    /// Its child SAs, as the data plane is to have them.
    pub children: Vec<RestoredChild>,
    /// The inbound SPI that is reserved for a child SA under negotiation.
    pub reserved: Option<u32>,
    /// Child SAs that send with the same traffic selectors: see [`Output::Beside`](crate::Output::Beside).
    pub groups: Vec<Vec<u32>>,
    /// What is to be seen of it.
    pub view: IkeSaView,
}

/// A child SA that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredChild {
    /// Our SPI.
    pub inbound_spi: u32,
    /// The peer's SPI.
    pub outbound_spi: u32,
    /// Send with it.
    pub outbound_active: bool,
    /// Our SPI of the one whose place it takes when [`Output::Activate`](crate::Output::Activate) says so.
    pub replaces: Option<u32>,
}

/// Why an IKE SA did not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreError {
    /// Nobody knows the profile of this service, yet.
    NoProfile {
        /// [`Profile::service`].
        service: String,
    },
    /// The record cannot be read, or lays claim to what is another's.
    Corrupt,
    /// Its SPI is not reserved for it.
    NotParked,
}

impl Engine {
    /// Gives every IKE SA that changed since the last call: its record, or that it is gone. `save` says whether it could be kept; if not, it must
    /// have erased the record before, which would repeat Message IDs and IVs, and the IKE SA comes again when it changes again. One that waits for an
    /// answer does not come: its record from before the peer's message stands.
    pub fn checkpoint(&mut self, now: Instant, save: &mut dyn FnMut(Changed<'_>) -> bool) {
        let mut changed = std::mem::take(&mut self.core.changed);
        let links = links(&self.core, &changed);
        if links.is_empty() {
            for id in &changed {
                self.save_one(now, *id, false, save);
            }
        }
        for family in families(&links, &changed) {
            for (place, member) in family.iter().enumerate() {
                let with_next = place + 1 < family.len();
                self.save_one(now, *member, with_next, save);
            }
        }
        changed.clear();
        self.core.changed = changed;
    }

    fn save_one(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        with_next: bool,
        save: &mut dyn FnMut(Changed<'_>) -> bool,
    ) {
        let (Some(out), sa) = (&mut self.core.sink, self.core.table.get_mut(ike)) else {
            return;
        };
        let mut changed = Changed {
            ike,
            record: None,
            half_open: false,
            with_next,
        };
        let Some(sa) = sa else {
            save(changed);
            return;
        };
        sa.touched = false;
        if !sa.is_storable() {
            return;
        }
        sa.forget_response(now);
        let digest = sa.store(out);
        if sa.saved != Some(digest) {
            changed.half_open = sa.is_half_open();
            changed.record = (!out.has_failed()).then(|| out.bytes());
            let kept = save(changed) && !out.has_failed();
            sa.saved = kept.then_some(digest);
            sa.resumed &= !kept;
        }
        out.clear();
        if sa.saved.is_some() {
            self.core.rest(now, ike);
        }
    }

    /// What the shell keeps beside the record of this IKE SA changed: the next checkpoint gives it in any case.
    pub fn mark_changed(&mut self, now: Instant, ike: IkeSaId, sad: &mut dyn Sad) {
        env(&mut self.core, now, sad).with(ike, |sa, _| sa.saved = None);
    }

    /// No new IKE SAs are begun in these slots for now, as there is no room for their records; if that is all of them, no new peers are accepted.
    pub fn set_crowded(&mut self, is_crowded: &dyn Fn(u8) -> bool) {
        self.core.congested = !self.core.table.set_crowded(is_crowded);
    }

    /// Gives `save` the secrets of cookies, if they changed since it could keep them last; it says whether it can. Secrets from outside are not among
    /// them.
    pub fn checkpoint_cookies(&mut self, save: &mut dyn FnMut(&[u8]) -> bool) {
        if let Some(epoch) = self.core.config.epoch {
            self.core.cookies.save(epoch, save);
        }
    }

    /// The secrets of cookies are not kept any more: the next [`Engine::checkpoint_cookies`] gives them in any case.
    pub fn mark_cookies_changed(&mut self) {
        self.core.cookies.mark_changed();
    }

    /// Takes over the secrets of cookies from an earlier life, so that those it handed out are good. False if they cannot be read.
    pub fn restore_cookies(&mut self, state: &[u8]) -> bool {
        match self.core.config.epoch {
            Some(epoch) => self.core.cookies.restore(state, epoch),
            None => false,
        }
    }

    /// Parks the IKE SA of a record of an earlier life: its SPIs are taken, messages for it are dropped, until it is restored.
    ///
    /// # Errors
    /// [`RestoreError::Corrupt`]: nothing of it is reserved.
    pub fn reserve_restored(&mut self, ike: IkeSaId, record: &[u8]) -> Result<Claim, RestoreError> {
        let head = Head::of(record).ok_or(RestoreError::Corrupt)?;
        if !self.core.table.park(ike, head.offered) {
            return Err(RestoreError::Corrupt);
        }
        let mut spis = head.children;
        spis.extend(head.reserved);
        Ok(Claim {
            service: head.service,
            spis,
        })
    }

    /// Brings a parked IKE SA back. `profile_of` finds the profile of a service. Nothing is sent.
    ///
    /// # Errors
    /// [`RestoreError::NoProfile`]: it stays parked. [`RestoreError::Corrupt`]: it is gone, with its SPIs. [`RestoreError::NotParked`].
    pub fn restore(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        record: &[u8],
        profile_of: &dyn Fn(&str) -> Option<Arc<Profile>>,
        sad: &mut dyn Sad,
    ) -> Result<Restored, RestoreError> {
        if !self.core.table.is_parked(ike) {
            return Err(RestoreError::NotParked);
        }
        let sa = match self.read(ike, record, profile_of) {
            Ok(sa) => sa,
            Err(RestoreError::Corrupt) => {
                self.discard_parked(ike);
                return Err(RestoreError::Corrupt);
            }
            Err(error) => return Err(error),
        };
        self.core.table.unpark(ike);
        Ok(sa.resume(&mut env(&mut self.core, now, sad)))
    }

    fn read(
        &mut self,
        ike: IkeSaId,
        record: &[u8],
        profile_of: &dyn Fn(&str) -> Option<Arc<Profile>>,
    ) -> Result<Box<IkeSa>, RestoreError> {
        let epoch = self.core.config.epoch.ok_or(RestoreError::Corrupt)?;
        let head = Head::of(record).ok_or(RestoreError::Corrupt)?;
        let Some(profile) = profile_of(&head.service) else {
            return Err(RestoreError::NoProfile {
                service: head.service,
            });
        };
        let sa = IkeSa::load(ike, record, epoch, &profile).ok_or(RestoreError::Corrupt)?;
        let claimed = &mut self.core.claimed;
        if self.core.table.offered_of(ike) != head.offered
            || head.children.iter().any(|spi| claimed.contains(spi))
        {
            return Err(RestoreError::Corrupt);
        }
        claimed.extend(head.children);
        Ok(sa)
    }

    /// Gives up a parked IKE SA: its SPIs are free. Its record is to be erased, and its child SAs are to be removed.
    pub fn discard_parked(&mut self, ike: IkeSaId) {
        if !self.core.table.is_parked(ike) {
            return;
        }
        if let Some(offered) = self.core.table.offered_of(ike) {
            self.core.table.release(offered);
        }
        self.core.table.release(ike);
    }

    /// All that can be restored now is. What depends on one that is lost goes on without it; parked ones are not lost.
    pub fn finish_restore(&mut self, now: Instant, sad: &mut dyn Sad) {
        self.core.claimed = HashSet::new();
        let contested = std::mem::take(&mut self.core.contested);
        let mut env = env(&mut self.core, now, sad);
        for ike in contested {
            env.with(ike, |sa, env| sa.resolve(env));
        }
    }
}

impl Engine {
    /// These slots are ours too from now on; restore what is in them.
    pub fn add_slots(&mut self, slots: &[u8]) {
        for slot in slots {
            self.core.table.add_slot(*slot);
        }
    }

    /// These slots are another's from now on: their IKE SAs are not here any more, and nobody is told. What was to be done for them has been done
    /// ([`Engine::poll`]) and kept ([`Engine::checkpoint`]).
    pub fn remove_slots(&mut self, slots: &[u8]) {
        let core = &mut self.core;
        for slot in slots {
            for taken in core.table.remove_slot(*slot) {
                match taken {
                    Taken::Awake(sa) => sa.leave(core),
                    Taken::Resting(rest) => rest.leave(core),
                }
            }
        }
        let stays = |id: IkeSaId| !slots.contains(&id.slot());
        core.half_open.retain(|_, id| stays(*id));
        core.peers.retain(|(_, id)| stays(*id));
        core.changed.retain(|id| stays(*id));
        core.contested.retain(|id| stays(*id));
    }

    /// The IKE SAs of a slot that are more than half-open: those that must not be lost.
    pub fn proved_in(&self, slot: u8) -> Vec<IkeSaId> {
        let (mut proved, mut index) = (Vec::new(), 0);
        while let Some((id, found, of, next)) = self.core.table.next_from(slot, index) {
            if of != slot {
                break;
            }
            let counts = match found {
                Found::Awake(sa) => !sa.is_half_open() && !sa.is_gone(),
                Found::Resting(_) => true,
            };
            proved.extend(counts.then_some(id));
            index = next;
        }
        proved
    }

    /// An SPI that an IKE SA has reserved in another slot than its own, for a child SA under negotiation (RFC 9611), where either of the slots is one of these.
    pub fn reserved_apart(&self, slots: &[u8]) -> Option<(IkeSaId, u32)> {
        let (mut slot, mut index) = (0, 0);
        while let Some((id, found, of, next)) = self.core.table.next_from(slot, index) {
            let reserved = match found {
                Found::Awake(sa) => sa.reserved_spi(),
                Found::Resting(_) => None,
            };
            let apart = |spi: &u32| {
                let [other, ..] = spi.to_be_bytes();
                other != id.slot() && (slots.contains(&other) || slots.contains(&id.slot()))
            };
            if let Some(spi) = reserved.filter(apart) {
                return Some((id, spi));
            }
            (slot, index) = (of, next);
        }
        None
    }
}

/// Who is whose relative, both ways, sorted. Most have none.
fn links(core: &Core, changed: &[IkeSaId]) -> Vec<(IkeSaId, IkeSaId)> {
    let mut links = Vec::new();
    for id in changed {
        for relative in core.table.get(*id).into_iter().flat_map(IkeSa::relatives) {
            links.extend([(*id, relative), (relative, *id)]);
        }
    }
    links.sort_unstable();
    links
}

/// Puts those whose records must fit together one after the other, in the order of the first of each family; nothing where nobody has relatives.
fn families(links: &[(IkeSaId, IkeSaId)], changed: &[IkeSaId]) -> Vec<Vec<IkeSaId>> {
    let mut families = Vec::new();
    if links.is_empty() {
        return families;
    }
    let mut waiting: HashSet<IkeSaId> = changed.iter().copied().collect();
    for id in changed {
        let mut family = Vec::new();
        let mut found = vec![*id];
        while let Some(id) = found.pop() {
            if !waiting.remove(&id) {
                continue;
            }
            family.push(id);
            let from = links.partition_point(|(of, _)| *of < id);
            let of_it = links.iter().skip(from).take_while(|(of, _)| *of == id);
            found.extend(of_it.map(|(_, relative)| *relative));
        }
        families.push(family);
    }
    families
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProfile { service } => write!(f, "no service {service}"),
            Self::Corrupt => f.write_str("the record cannot be read"),
            Self::NotParked => f.write_str("its SPI is not reserved"),
        }
    }
}

impl std::error::Error for RestoreError {}
