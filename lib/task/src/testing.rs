//! A task without `sit`, for tests of managers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bus::frame::{Header, Kind};
use bus::messages::sct::{ConfigText, GetConfig};
use bus::messages::sit::{CONTROL_VERSION, Close, Closed, Opened, Ready, Welcome};
use bus::{Address, Bus, BusError, Facility, Hub, Message};
use netio::ControlSocket;
use telemetry::Counters;

use crate::Task;
use crate::channel::{Channel, Packet};
use crate::error::Error;
use crate::hardening::{Confinement, confine, harden};
use crate::protection::Directories;
use crate::shutdown::Shutdown;
use crate::start::assemble;

/// A task on the in-process bus, with counters in memory, and the other end of its control socket: the test plays `sit` (or drops it, and the
/// task is asked to end). Must be called within a tokio runtime.
pub fn task(hub: &Hub, address: Address, workers: u32, directory: &Path) -> Result<(Task, Channel), Error> {
    let (ours, theirs) = ControlSocket::pair().map_err(Error::Control)?;
    let bus: Result<_, BusError> = Bus::in_process(hub, address);
    let welcome = Welcome {
        control_version: CONTROL_VERSION,
        run_dir: directory.join("run").to_string_lossy().into_owned(),
        state_dir: directory.join("state").to_string_lossy().into_owned(),
        workers,
        ..Welcome::default()
    };
    let task = assemble(
        address,
        welcome,
        Channel::new(theirs)?,
        Confinement::default(),
        bus.map_err(Error::Bus)?,
        Counters::in_memory(),
        Shutdown::new(),
    );
    Ok((task, Channel::new(ours)?))
}

/// Gives up, for good, what a process of `facility` does. Returns the protections that could not be switched on, in words. The calling thread alone loses
/// capabilities and files.
pub fn protect(facility: Facility, directories: Directories<'_>) -> Vec<String> {
    let mut missing = harden(facility);
    missing.extend(confine(facility, directories).missing);
    missing
}

/// Plays `sit` for a task of [`task`]: `open` answers requests for descriptors by their type and contents, everything else is acknowledged.
/// Ends when the task does.
pub async fn play_sit(channel: Channel, mut open: impl FnMut(&Packet) -> (Opened, Vec<OwnedFd>)) {
    while let Ok(Some(packet)) = channel.receive().await {
        let header = Header {
            kind: Kind::Reply,
            sender: Address::only(Facility::Sit),
            ..packet.header
        };
        let sent = match packet.header.message {
            Ready::TYPE | Close::TYPE => channel.send(header, &Closed {}, &[]).await,
            _ => {
                let (opened, fds) = open(&packet);
                let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                channel.send(header, &opened, &fds).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Plays `sct` on `hub`: gives out this configuration, for ever.
pub async fn play_sct(hub: Hub, text: String) -> Result<(), BusError> {
    let (_bus, mut server) = Bus::in_process(&hub, Address::only(Facility::Sct))?;
    while let Some(incoming) = server.next().await {
        let answer = ConfigText {
            version: 1,
            text: text.clone(),
        };
        bus::dispatch!(incoming, { GetConfig => |_, responder| responder.reply(answer) });
    }
    Ok(())
}
