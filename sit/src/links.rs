//! Private links: a new pair whenever either end is new.

use std::os::fd::AsFd;

use bus::Address;
use bus::Message;
use bus::frame::{Header, Kind};
use bus::link::{linked, pair};
use bus::messages::sit::LinkOpened;

use crate::manager::SIT;
use crate::state::{Entry, TaskTable};

/// Joins the task at `address`, which has just started, to every living task it has a link with.
pub(crate) fn join(tasks: &TaskTable, address: Address) {
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
                hand_out(entry, other.address, one);
                hand_out(other, address, two);
            }
            Err(error) => tracing::error!("no link between {address} and {}: {error}", other.address),
        }
    }
}

fn hand_out(to: &Entry, peer: Address, socket: impl AsFd) {
    let Some(life) = &to.life else { return };
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
    if let Err(error) = life.channel.try_send(header, &link, &[socket.as_fd()]) {
        tracing::warn!("cannot hand {} its link to {peer}: {error}", to.address);
    }
}
