//! Sockets of the encrypted side.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use bus::Address;
use netio::{DatagramSocket, SocketOptions, UdpGroup};
use task::NODE_MARK;

use super::{Descriptors, Held, IKE_PORT, Refusal, index};
use crate::contexts::Context;

/// Kernel memory for what routers say about packets that were too long: who floods us with it overruns this, and costs no more.
const TOO_BIG_BUFFER: usize = 64 << 10;

/// What a worker has beside its UDP socket for ESP of a local address.
pub(super) struct RawSockets {
    pub(super) esp: DatagramSocket,
    /// Hears of packets that were too long for their path.
    pub(super) too_big: DatagramSocket,
}

impl Descriptors {
    /// The sockets of an address and port, opened if they are not yet.
    pub(super) fn group(
        &mut self,
        context: &Context,
        name: &str,
        address: SocketAddr,
        who: Address,
    ) -> Result<&UdpGroup, Refusal> {
        let steering = self.steering()?;
        let workers = index(self.workers) + 1;
        let held = match self.groups.entry((name.to_owned(), address)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let group = context.namespace.run(|| {
                    if address.port() == IKE_PORT {
                        UdpGroup::open(address, workers, options(), &steering.program_500())
                    } else {
                        let options = SocketOptions {
                            gro: true,
                            ..options()
                        };
                        UdpGroup::open(address, 2 * workers, options, &steering.program_4500())
                    }
                })??;
                entry.insert(Held {
                    what: group,
                    by: BTreeSet::new(),
                })
            }
        };
        held.by.insert(who);
        Ok(&held.what)
    }

    /// The raw sockets of a worker for an address, opened if they are not yet.
    pub(super) fn raw_sockets(
        &mut self,
        context: &Context,
        name: &str,
        address: IpAddr,
        worker: u32,
        who: Address,
    ) -> Result<&RawSockets, String> {
        let steering = self.steering().map_err(|refusal| format!("{refusal:?}"))?;
        let held = match self.raw.entry((name.to_owned(), address, worker)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let filter = steering.esp_filter(index(worker), address.is_ipv4());
                let open = || {
                    let address = SocketAddr::new(address, 0);
                    let esp = DatagramSocket::bind_esp(address, options())?;
                    esp.attach_filter(&filter)?;
                    let few = SocketOptions {
                        receive_buffer: TOO_BIG_BUFFER,
                        ..options()
                    };
                    let too_big = DatagramSocket::bind_too_big(address, few)?;
                    Ok::<_, netio::Error>(RawSockets { esp, too_big })
                };
                let opened = context.namespace.run(open).and_then(|opened| opened);
                entry.insert(Held {
                    what: opened.map_err(|error| error.to_string())?,
                    by: BTreeSet::new(),
                })
            }
        };
        held.by.insert(who);
        Ok(&held.what)
    }
}

/// What all sockets have in common: what carries tunnels, admits peers or reports on them is never routed into a tunnel.
pub(super) fn options() -> SocketOptions {
    SocketOptions {
        mark: NODE_MARK,
        ..SocketOptions::default()
    }
}
