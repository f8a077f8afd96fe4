//! The orderly end of the node.

use std::time::Duration;

use bus::messages::ipsecmgr::Drain;
use bus::{Address, Facility};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::lives::send_shutdown;
use crate::manager::{Manager, notify_service_manager};
use crate::state::{Phase, STOP_ORDER};

/// For the deletes of all tunnels to leave.
const DRAIN: Duration = Duration::from_secs(3);
/// For the tasks of one step to end; whoever lives on is killed.
const GRACE: Duration = Duration::from_millis(1_200);
/// For the killed to be dead.
const DEATH: Duration = Duration::from_secs(1);

/// The signals that stop the node in order: SIGTERM, SIGINT, and SIGHUP unless whoever started us has it ignored (nohup(1)).
pub(crate) struct StopSignals {
    term: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Catches them from now on.
    pub fn new() -> std::io::Result<Self> {
        let hangs_up = !netio::task::ignores(netio::Signal::SIGHUP);
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: hangs_up.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for one that cannot be meant for the beginning of the stop: who closes a terminal sends SIGHUP more than once.
    pub async fn insists(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the first one.
    pub async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

impl Manager {
    /// Sends the deletes of all tunnels, ends the tasks step by step, and releases what outlives them. A second signal ends everything at once.
    pub(crate) async fn stop(&mut self, signals: &mut StopSignals) {
        tracing::info!("node stops");
        notify_service_manager("STOPPING=1");
        self.stopping = true;
        let in_order = async {
            self.drain().await;
            for step in STOP_ORDER {
                self.end(step).await;
            }
        };
        tokio::select! {
            () = in_order => {}
            () = signals.insists() => tracing::warn!("told again to stop: killing what is left"),
        }
        self.kill_all(Facility::ALL);
        self.await_deaths(Facility::ALL, DEATH).await;
        self.release();
        tracing::info!("node has stopped");
    }

    /// Lets every `ipsecmgr` say goodbye to its peers.
    async fn drain(&mut self) {
        let managers: Vec<Address> = self
            .tasks
            .values()
            .filter(|entry| entry.address.facility == Facility::Ipsecmgr && entry.phase == Phase::Ready)
            .map(|entry| entry.address)
            .collect();
        let (done, mut drained) = mpsc::channel::<()>(managers.len().max(1));
        for address in managers {
            let (bus, done) = (self.bus.clone(), done.clone());
            tokio::spawn(async move {
                match bus.request(address, &Drain {}, DRAIN).await {
                    Ok(deleted) => tracing::info!("{address} deleted {} IKE SAs", deleted.count),
                    Err(error) => tracing::warn!("{error}"),
                }
                drop(done);
            });
        }
        drop(done);
        loop {
            tokio::select! {
                // Closed when all have answered or timed out.
                _ = drained.recv() => return,
                Some(happening) = self.queue.recv() => self.happened(happening),
            }
        }
    }

    /// Ends the tasks of some facilities.
    async fn end(&mut self, facilities: &[Facility]) {
        for entry in self
            .tasks
            .values_mut()
            .filter(|entry| facilities.contains(&entry.address.facility))
        {
            entry.phase = Phase::Stopping;
            send_shutdown(entry, GRACE);
        }
        if !self.await_deaths(facilities, GRACE).await {
            self.kill_all(facilities);
            self.await_deaths(facilities, DEATH).await;
        }
    }

    fn kill_all(&mut self, facilities: &[Facility]) {
        let left: Vec<_> = self
            .tasks
            .values()
            .filter(|entry| facilities.contains(&entry.address.facility))
            .filter_map(|entry| Some((entry.address, entry.life.as_ref()?.number)))
            .collect();
        for (address, life) in left {
            self.kill(address, life, "the node stops");
        }
    }

    /// Waits until no task of these facilities has a process; false when some still have after `patience`.
    async fn await_deaths(&mut self, facilities: &[Facility], patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            let left = |entry: &crate::state::Entry| {
                entry.life.is_some() && facilities.contains(&entry.address.facility)
            };
            if !self.tasks.values().any(left) {
                return true;
            }
            tokio::select! {
                Some(happening) = self.queue.recv() => self.happened(happening),
                () = sleep_until(until) => return false,
            }
        }
    }
}
