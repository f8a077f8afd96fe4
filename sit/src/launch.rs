//! Starting a process and watching it.

use std::os::fd::AsFd;
use std::sync::Arc;

use bus::frame::{Header, Kind};
use bus::messages::sit::Welcome;
use bus::{Address, Message, Sockets};
use netio::{Child, ControlSocket, Namespace, Signal, Spawn};
use task::{Channel, Packet, async_fd};
use tokio::sync::mpsc;
use tokio::time::Instant;

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
    let (child, death) = watched(child, |child| {
        child.as_fd().try_clone_to_owned().and_then(async_fd)
    })
    .map_err(|error| text(&error))?;
    let died = {
        let happenings = happenings.clone();
        async move {
            // Readable means dead, and nothing else does; an error would be one of epoll itself.
            let _ = death.readable().await;
            let _ = happenings
                .send(Happening::Died {
                    address,
                    life: number,
                })
                .await;
        }
    };
    let watchers = [
        tokio::spawn(read(channel.clone(), address, number, happenings.clone())).abort_handle(),
        tokio::spawn(died).abort_handle(),
    ];
    Ok(Life {
        number,
        child,
        channel,
        since: Instant::now(),
        confined: 0,
        watchers,
    })
}

/// A child with what tells its death. One whose death nobody would notice does not live on beside its successor: it is killed and reaped.
fn watched<T>(
    mut child: Child,
    watch: impl FnOnce(&Child) -> std::io::Result<T>,
) -> std::io::Result<(Child, T)> {
    match watch(&child) {
        Ok(death) => Ok((child, death)),
        Err(error) => {
            if let Err(error) = child.signal(Signal::SIGKILL).and_then(|()| child.wait()) {
                tracing::error!("{error}");
            }
            Err(error)
        }
    }
}

async fn read(channel: Arc<Channel>, address: Address, life: u32, happenings: mpsc::Sender<Happening>) {
    loop {
        let packet: Packet = match channel.receive().await {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tracing::warn!("dropped a control message of {address}: {error}");
                continue;
            }
            Err(error) => return tracing::warn!("the control socket of {address} failed: {error}"),
        };
        if happenings
            .send(Happening::Said {
                address,
                life,
                packet,
            })
            .await
            .is_err()
        {
            return;
        }
    }
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
        let refused = watched(child, |_| -> std::io::Result<()> {
            Err(std::io::ErrorKind::OutOfMemory.into())
        });
        assert!(refused.is_err());
        assert!(!std::fs::exists(&process).unwrap(), "not reaped");
    }
}
