//! A task without `sit`, for tests of managers.

use std::path::Path;

use bus::messages::sit::{CONTROL_VERSION, Welcome};
use bus::{Address, Bus, BusError, Hub};
use netio::ControlSocket;
use telemetry::Counters;

use crate::Task;
use crate::channel::Channel;
use crate::error::Error;
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
        Vec::new(),
        bus.map_err(Error::Bus)?,
        Counters::in_memory(),
        Shutdown::new(),
    );
    Ok((task, Channel::new(ours)?))
}
