//! Private links: a new pair whenever either end is new.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bus::Address;
use bus::Message;
use bus::frame::{Header, Kind};
use bus::link::{linked, pair};
use bus::messages::sit::LinkOpened;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use task::Channel;
use tokio::time::sleep;

use crate::manager::SIT;
use crate::state::{Entry, TaskTable};

/// Until a task that does not read its control socket is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// Joins the task at `address`, which has just started, to every living task it has a link with. What has to wait holds one of `errands`.
pub(crate) fn join(tasks: &TaskTable, address: Address, errands: &Arc<()>) {
    let Some(entry) = tasks.get(&address) else { return };
    for other in tasks
        .values()
        .filter(|other| linked(address.facility, other.address.facility))
    {
        if other.life.is_none() {
            // It will be joined to us when it starts.
            continue;
        }
        match pair() {
            Ok((one, two)) => {
                hand_out(entry, other.address, one, errands);
                hand_out(other, address, two, errands);
            }
            Err(error) => tracing::error!("no link between {address} and {}: {error}", other.address),
        }
    }
}

fn hand_out(to: &Entry, peer: Address, socket: OwnedFd, errands: &Arc<()>) {
    let Some(life) = &to.life else { return };
    let address = to.address;
    match offer(&life.channel, peer, &socket) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            tracing::debug!("{address} does not read: its link to {peer} has to wait");
            let (channel, errand) = (Arc::downgrade(&life.channel), errands.clone());
            tokio::spawn(async move {
                insist(channel, address, peer, socket).await;
                drop(errand);
            });
        }
        Err(error) => tracing::warn!("cannot hand {address} its link to {peer}: {error}"),
    }
}

fn offer(channel: &Channel, peer: Address, socket: &OwnedFd) -> io::Result<()> {
    let link = LinkOpened {
        facility: u32::from(peer.facility as u8),
        instance: peer.instance,
    };
    let header = Header {
        kind: Kind::Event,
        message: LinkOpened::TYPE,
        sender: SIT,
        correlation: 0,
    };
    channel.try_send(header, &link, &[socket.as_fd()])
}

/// Hands a link out as soon as there is room, unless either end dies before.
async fn insist(channel: Weak<Channel>, address: Address, peer: Address, socket: OwnedFd) {
    loop {
        sleep(AGAIN).await;
        // A peer that is gone has a successor with a link of its own, which this one must not replace.
        let Some(channel) = channel.upgrade().filter(|_| !is_orphaned(&socket)) else {
            return;
        };
        match offer(&channel, peer, &socket) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return tracing::warn!("cannot hand {address} its link to {peer}: {error}"),
        }
    }
}

/// Whether the other end of a pair is closed.
fn is_orphaned(socket: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut ends, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::Facility;
    use netio::ControlSocket;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    const SCT: Address = Address::only(Facility::Sct);
    const CHILD: Address = Address::new(Facility::Ipsecmgr, 1);

    /// A channel that is full, and the end that does not read it.
    fn full() -> (Arc<Channel>, Channel) {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let channel = Arc::new(Channel::new(ours).unwrap());
        let (one, _two) = pair().unwrap();

        while offer(&channel, SCT, &one).is_ok() {}
        (channel, Channel::new(theirs).unwrap())
    }

    #[test]
    fn a_link_waits_for_room() {
        run(async {
            let (channel, child) = full();
            let (one, _two) = pair().unwrap();
            let weak = Arc::downgrade(&channel);
            let waiting = tokio::spawn(insist(weak, CHILD, Address::only(Facility::Aaamgr), one));
            let from_aaamgr = u32::from(Facility::Aaamgr as u8);
            loop {
                let packet = child.receive().await.unwrap().unwrap();
                if packet.decode::<LinkOpened>().unwrap().facility == from_aaamgr {
                    assert_eq!(packet.fds.len(), 1);
                    break;
                }
            }
            waiting.await.unwrap();
        });
    }

    #[test]
    fn a_link_to_the_dead_is_given_up() {
        run(async {
            let (channel, _child) = full();
            let (one, two) = pair().unwrap();
            drop(two);
            insist(Arc::downgrade(&channel), CHILD, SCT, one).await;
            let (one, _two) = pair().unwrap();
            drop(channel);
            insist(Weak::new(), CHILD, SCT, one).await;
        });
    }
}
