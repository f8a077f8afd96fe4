//! Gets the data plane what it needs from `sit`, and takes away what it no longer needs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bus::messages::rmctrl::SlotMap;
use sadb::Slot;
use task::Sit;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::error::Error;
use crate::plan::Plan;
use crate::plane::{Command, PlaneHandle};

/// Until what was refused is asked for again (a context may still be in the making).
const AGAIN: Duration = Duration::from_secs(1);

/// What is wanted, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) plan: Option<Plan>,
    pub(crate) slots: Option<SlotMap>,
}

/// What the data plane has.
pub(crate) struct Supplier {
    sit: Sit,
    plane: PlaneHandle,
    worker: u32,
    addresses: BTreeMap<(u32, IpAddr), String>,
    tuns: BTreeMap<u32, String>,
    slots: BTreeSet<Slot>,
    has_rings: bool,
    is_ready: bool,
}

impl Supplier {
    pub(crate) fn new(sit: Sit, plane: PlaneHandle, worker: u32) -> Self {
        Self {
            sit,
            plane,
            worker,
            addresses: BTreeMap::new(),
            tuns: BTreeMap::new(),
            slots: BTreeSet::new(),
            has_rings: false,
            is_ready: false,
        }
    }

    /// Follows what is wanted, and replaces what is lost: TUNs of contexts. Says that this task is ready once it has all of it for the first time.
    pub(crate) async fn run(mut self, mut wanted: watch::Receiver<Wanted>, mut lost: UnboundedReceiver<u32>) {
        let mut trouble = String::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            let known = now.plan.is_some() && now.slots.is_some();
            let again = match self.supply(now).await {
                Ok(()) => {
                    if known && !self.is_ready {
                        self.is_ready = true;
                        if let Err(error) = self.sit.ready().await {
                            tracing::error!("{error}");
                        }
                    }
                    trouble.clear();
                    None
                }
                Err(error) => {
                    // Once for as long as it lasts.
                    let error = error.to_string();
                    if trouble != error {
                        tracing::warn!("{error}; trying again");
                        trouble = error;
                    }
                    Some(AGAIN)
                }
            };
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                Some(context) = lost.recv() => {
                    self.tuns.remove(&context);
                    // Whoever deletes it may do so again.
                    sleep(AGAIN).await;
                }
                () = sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
        }
    }

    /// Brings the data plane as close to what is wanted as possible; the first failure is reported at the end.
    async fn supply(&mut self, wanted: Wanted) -> Result<(), Error> {
        let mut outcome = Ok(());
        let mut note = |result: Result<(), Error>| {
            if outcome.is_ok() {
                outcome = result;
            }
        };
        if let Some(map) = &wanted.slots {
            let slots = self.slots(map).await;
            // What waits in the rings is for our slots: without them it would be dropped.
            let rings = match &slots {
                Ok(()) => self.rings().await,
                Err(_) => Ok(()),
            };
            note(slots);
            note(rings);
        }
        if let Some(plan) = wanted.plan {
            self.plane.tell(Command::Keepalives(plan.keepalives.clone()));
            self.close_unwanted(&plan).await;
            for (context, name) in &plan.tuns {
                note(self.tun(*context, name).await);
            }
            for ((context, address), name) in &plan.addresses {
                note(self.address(*context, *address, name).await);
            }
        }
        outcome
    }

    async fn rings(&mut self) -> Result<(), Error> {
        if self.has_rings {
            return Ok(());
        }
        for ends in self.sit.open_rings().await? {
            let Ok(worker) = u16::try_from(ends.worker) else {
                continue;
            };
            self.plane.tell(Command::OpenRing {
                worker,
                to: ends.to,
                from: ends.from,
            });
        }
        self.has_rings = true;
        Ok(())
    }

    async fn slots(&mut self, map: &SlotMap) -> Result<(), Error> {
        let owners = map.data.iter().map(|worker| u16::try_from(*worker).unwrap_or(0));
        self.plane.tell(Command::Owners(owners.collect()));
        let own: BTreeSet<Slot> = Slot::all()
            .zip(&map.data)
            .filter(|(_, owner)| **owner == self.worker)
            .map(|(slot, _)| slot)
            .collect();
        for slot in self.slots.difference(&own) {
            self.plane.tell(Command::DropSlot(*slot));
        }
        self.slots.retain(|slot| own.contains(slot));
        let fresh: Vec<Slot> = own.difference(&self.slots).copied().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        for (slot, fds) in self.sit.open_slots(&fresh).await? {
            self.plane.tell(Command::AddSlot(fds));
            self.slots.insert(slot);
        }
        Ok(())
    }

    async fn close_unwanted(&mut self, plan: &Plan) {
        let gone = |(key, name): (&(u32, IpAddr), &String)| {
            (plan.addresses.get(key) != Some(name)).then(|| (*key, name.clone()))
        };
        let addresses: Vec<_> = self.addresses.iter().filter_map(gone).collect();
        for (key @ (context, address), name) in addresses {
            self.addresses.remove(&key);
            self.plane.tell(Command::CloseAddress { context, address });
            self.closed(&name, Some(address)).await;
        }
        let gone =
            |(id, name): (&u32, &String)| (plan.tuns.get(id) != Some(name)).then(|| (*id, name.clone()));
        let tuns: Vec<_> = self.tuns.iter().filter_map(gone).collect();
        for (context, name) in tuns {
            self.tuns.remove(&context);
            self.plane.tell(Command::CloseTun { context });
            self.closed(&name, None).await;
        }
    }

    async fn closed(&self, name: &str, address: Option<IpAddr>) {
        // The context may be gone already, and everything in it.
        if let Err(error) = self.sit.close(name, address).await {
            tracing::debug!("{error}");
        }
    }

    async fn tun(&mut self, context: u32, name: &str) -> Result<(), Error> {
        if self.tuns.contains_key(&context) {
            return Ok(());
        }
        let tun = self.sit.open_tun(name).await?;
        let queue = tun.queue.ok_or_else(|| Error::NoQueue(name.to_owned()))?;
        self.plane.tell(Command::OpenTun {
            context,
            queue,
            steering: tun.steering,
        });
        self.tuns.insert(context, name.to_owned());
        Ok(())
    }

    async fn address(&mut self, context: u32, address: IpAddr, name: &str) -> Result<(), Error> {
        if self.addresses.contains_key(&(context, address)) {
            return Ok(());
        }
        let sockets = self.sit.open_esp(name, address).await?;
        self.plane.tell(Command::OpenAddress {
            context,
            address,
            udp: sockets.udp4500,
            esp: sockets.esp,
            too_big: sockets.too_big,
        });
        self.addresses.insert((context, address), name.to_owned());
        Ok(())
    }
}
