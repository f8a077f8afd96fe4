//! Starting a process.

use std::os::fd::AsFd;
use std::sync::Arc;

use bus::frame::{Header, Kind};
use bus::messages::sit::Welcome;
use bus::{Address, Message, Sockets};
use netio::{Child, ControlSocket, Namespace, Signal, Spawn};
use task::Channel;
use tokio::sync::mpsc;

use crate::manager::{Happening, SIT};
use crate::state::Life;

/// Starts a process for `address`, on these sockets of the bus, and tells `happenings` what it says and when it is dead.
///
/// The process dies with the thread that calls this, which is the only one that `sit` has.
pub(crate) fn launch(
    spawn: Spawn,
    address: Address,
    number: u32,
    namespace: Option<&Namespace>,
    welcome: &Welcome,
    sockets: &Sockets,
    happenings: &mpsc::Sender<Happening>,
) -> Result<Life, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (ours, theirs) = ControlSocket::pair().map_err(|error| text(&error))?;
    let spawn = match namespace {
        Some(namespace) => spawn.namespace(namespace).map_err(|error| text(&error))?,
        None => spawn,
    };
    let channel = Arc::new(Channel::new(ours).map_err(|error| text(&error))?);
    let header = Header {
        kind: Kind::Event,
        message: Welcome::TYPE,
        sender: SIT,
        correlation: 0,
    };
    // It waits in the socket for the child.
    channel
        .try_send(
            header,
            welcome,
            &[sockets.requests.as_fd(), sockets.events.as_fd()],
        )
        .map_err(|error| text(&error))?;
    let child = spawn.spawn(&theirs).map_err(|error| text(&error))?;
    let mut life = watched(Life::new(number, child, channel)).map_err(|error| text(&error))?;
    life.watch(address, happenings);
    Ok(life)
}

/// A child whose death nobody would notice does not live on beside its successor: it is killed and reaped.
fn watched<T>(life: Result<T, (Child, std::io::Error)>) -> std::io::Result<T> {
    life.map_err(|(mut child, error)| {
        if let Err(error) = child.signal(Signal::SIGKILL).and_then(|()| child.wait()) {
            tracing::error!("{error}");
        }
        error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_cannot_be_watched_is_killed_and_reaped() {
        let (_ours, theirs) = ControlSocket::pair().unwrap();
        let child = Spawn::new("/bin/sleep").argument("1000").spawn(&theirs).unwrap();
        let process = format!("/proc/{}", child.pid());
        assert!(std::fs::exists(&process).unwrap());
        let refused = watched::<()>(Err((child, std::io::ErrorKind::OutOfMemory.into())));
        assert!(refused.is_err());
        assert!(!std::fs::exists(&process).unwrap(), "not reaped");
    }
}
