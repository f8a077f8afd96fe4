//! Gets the data plane what it needs from `sit`, and takes away what it no longer needs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use task::Sit;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::error::Error;
use crate::plan::Plan;
use crate::plane::{Command, Lost, LostDevice, PlaneHandle};

/// Until what was refused is asked for again (a context may still be in the making).
const AGAIN: Duration = Duration::from_secs(1);
/// And until a device that could not do AF_XDP is tried again: meanwhile sockets do.
const XDP_AGAIN: Duration = Duration::from_secs(5);

/// How far the data plane has what the configuration wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Supplied {
    /// Of this version of the configuration.
    pub(crate) version: u64,
    /// All of it.
    pub(crate) complete: bool,
}

/// How packets come from the devices that are configured for AF_XDP, in words: by context and device.
pub(crate) type Ways = BTreeMap<(String, String), String>;

/// What the data plane has of sockets and queues.
pub(crate) struct Supplier {
    sit: Sit,
    plane: PlaneHandle,
    addresses: BTreeMap<(u32, IpAddr), String>,
    tuns: BTreeMap<u32, String>,
    /// Devices whose queues it has.
    xdp: BTreeMap<(u32, String), String>,
    ways: watch::Sender<Ways>,
    /// How far it is: told to whoever answers for slots.
    supplied: watch::Sender<Supplied>,
    is_ready: bool,
}

impl Supplier {
    /// Tells `ways` what `show` prints of devices with AF_XDP.
    pub(crate) fn new(sit: Sit, plane: PlaneHandle, ways: watch::Sender<Ways>) -> Self {
        Self {
            sit,
            plane,
            addresses: BTreeMap::new(),
            tuns: BTreeMap::new(),
            xdp: BTreeMap::new(),
            ways,
            supplied: watch::Sender::default(),
            is_ready: false,
        }
    }

    /// Tells how far it is.
    pub(crate) fn supplied(&self) -> watch::Receiver<Supplied> {
        self.supplied.subscribe()
    }

    /// Follows what is wanted (a version of the configuration and what it means), and replaces what is lost: TUNs of contexts, devices with AF_XDP. Begins once the slots are
    /// there, without which packets would be dropped, and says that this task is ready once it has all of it for the first time.
    pub(crate) async fn run(
        mut self,
        mut wanted: watch::Receiver<Option<(u64, Plan)>>,
        mut has_slots: watch::Receiver<bool>,
        mut lost: UnboundedReceiver<Lost>,
    ) {
        if has_slots.wait_for(|has_slots| *has_slots).await.is_err() {
            return;
        }
        let mut trouble = String::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            let again = match now {
                None => None,
                Some((version, plan)) => {
                    let devices = plan.xdp.len();
                    let outcome = self.supply(plan).await;
                    let complete = outcome.is_ok();
                    self.supplied.send_replace(Supplied { version, complete });
                    match outcome {
                        Ok(()) => {
                            if !self.is_ready {
                                self.is_ready = true;
                                if let Err(error) = self.sit.ready().await {
                                    tracing::error!("{error}");
                                }
                            }
                            trouble.clear();
                            (self.xdp.len() < devices).then_some(XDP_AGAIN)
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
                    }
                }
            };
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                Some(lost) = lost.recv() => {
                    match lost {
                        Lost::Tun(context) => drop(self.tuns.remove(&context)),
                        Lost::Xdp(LostDevice { context, device }) => drop(self.xdp.remove(&(context, device))),
                    }
                    // Whoever deletes it may do so again.
                    sleep(AGAIN).await;
                }
                () = sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
        }
    }

    /// Brings the data plane as close to what is wanted as possible; the first failure is reported at the end.
    async fn supply(&mut self, plan: Plan) -> Result<(), Error> {
        let mut outcome = Ok(());
        let mut note = |result: Result<(), Error>| {
            if outcome.is_ok() {
                outcome = result;
            }
        };
        self.plane.tell(Command::Keepalives(plan.keepalives.clone()));
        self.plane.tell(Command::OwnAddresses(plan.own.clone()));
        self.close_unwanted(&plan).await;
        for (context, name) in &plan.tuns {
            note(self.tun(*context, name).await);
        }
        for ((context, address), name) in &plan.addresses {
            note(self.address(*context, *address, name).await);
        }
        self.close_unwanted_devices(&plan);
        for ((context, device), name) in &plan.xdp {
            self.xdp(*context, device, name).await;
        }
        outcome
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

    fn close_unwanted_devices(&mut self, plan: &Plan) {
        let plane = &self.plane;
        self.xdp.retain(|key, name| {
            let stays = plan.xdp.get(key) == Some(name);
            if !stays {
                let (context, device) = key.clone();
                plane.tell(Command::CloseXdp { context, device });
            }
            stays
        });
        self.ways.send_modify(|ways| {
            ways.retain(|(name, device), _| {
                let mut wanted = plan.xdp.iter();
                wanted.any(|((_, wanted), context)| wanted == device && context == name)
            });
        });
    }

    /// Gets the queues of a device. What cannot be had is no failure: sockets do the same.
    async fn xdp(&mut self, context: u32, device: &str, name: &str) {
        let key = (context, device.to_owned());
        if self.xdp.contains_key(&key) {
            return;
        }
        let way = match self.sit.open_xdp(name, device).await {
            Ok(opened) => {
                let numbers: Vec<String> = opened
                    .queues
                    .iter()
                    .map(|queue| queue.number.to_string())
                    .collect();
                let by = if opened.native { "driver" } else { "kernel" };
                self.plane.tell(Command::OpenXdp {
                    context,
                    device: device.to_owned(),
                    queues: opened.queues,
                });
                self.xdp.insert(key, name.to_owned());
                match numbers.as_slice() {
                    [] => "sockets: the device has no queue for this worker".to_owned(),
                    numbers => format!("AF_XDP by the {by}, queues {}", numbers.join(" ")),
                }
            }
            // sit has told it.
            Err(task::Error::Failed { cause, .. }) => format!("sockets: {cause}"),
            Err(error) => format!("sockets: {error}"),
        };
        self.ways
            .send_modify(|ways| drop(ways.insert((name.to_owned(), device.to_owned()), way)));
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
