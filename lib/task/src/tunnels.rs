//! Ending tunnels, whoever has their slots.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::messages::ipsecmgr::DeleteTunnels;
use bus::messages::rmctrl::{GetSlotMap, SlotMap, SlotPart};
use bus::{Address, Bus, BusError, Facility};
use tokio::time::sleep;

const RMCTRL: Address = Address::only(Facility::Rmctrl);
const DEADLINE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_secs(1);
/// After so many it is hopeless.
const ATTEMPTS: u32 = 60;

/// Has the managers of their slots delete these tunnels, for this reason (`show session disconnect-reasons`). Slots may move meanwhile, and managers may be
/// away for a while. Returns those that could not be deleted.
pub async fn delete_tunnels(bus: &Bus, mut ike_spis: Vec<u64>, reason: &str) -> Vec<u64> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            sleep(AGAIN).await;
        }
        match bus.request(RMCTRL, &GetSlotMap {}, DEADLINE).await {
            Ok(map) => ike_spis = by_managers(bus, &map, ike_spis, reason).await,
            Err(error) => tracing::warn!("whose tunnels are to end is not known yet: {error}"),
        }
        if ike_spis.is_empty() {
            return ike_spis;
        }
    }
    tracing::error!("{} tunnels that were to end could not be ended", ike_spis.len());
    ike_spis
}

/// Asks each manager once; gives what is left to do.
async fn by_managers(bus: &Bus, map: &SlotMap, ike_spis: Vec<u64>, reason: &str) -> Vec<u64> {
    let mut of_managers: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for ike_spi in ike_spis {
        let [slot, ..] = ike_spi.to_be_bytes();
        // What is in no slot of this node is no tunnel.
        if let Some(manager) = map.steered_to(SlotPart::Manager, slot) {
            of_managers.entry(manager).or_default().push(ike_spi);
        }
    }
    let mut left = Vec::new();
    for (manager, ike_spis) in of_managers {
        let request = DeleteTunnels {
            ike_spis,
            reason: reason.to_owned(),
        };
        let to = Address::new(Facility::Ipsecmgr, manager);
        match bus.request(to, &request, DEADLINE).await {
            Ok(deleted) => left.extend(deleted.moved),
            Err(BusError::Timeout { .. } | BusError::Unreachable { .. }) => left.extend(request.ike_spis),
            Err(error) => tracing::error!("{error}"),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::messages::ipsecmgr::Deleted;
    use bus::{Hub, Server, dispatch};
    use tokio::sync::mpsc;

    fn slot(ike_spi: u64) -> u64 {
        ike_spi >> 56
    }

    /// Has these slots; tells what it was asked.
    async fn manager(mut server: Server, slots: &'static [u64], asked: mpsc::UnboundedSender<Vec<u64>>) {
        while let Some(incoming) = server.next().await {
            dispatch!(incoming, {
                DeleteTunnels => |request, responder| {
                    assert_eq!(request.reason, "why");
                    let (ours, moved): (Vec<u64>, Vec<u64>) =
                        request.ike_spis.into_iter().partition(|ike_spi| slots.contains(&slot(*ike_spi)));
                    let count = ours.len() as u64;
                    asked.send(ours).unwrap();
                    responder.reply(Deleted { count, moved });
                },
            });
        }
    }

    #[tokio::test]
    async fn whoever_has_the_slot_by_the_newest_map_ends_the_tunnel() {
        let hub = Hub::new();
        let join = |facility, instance| Bus::in_process(&hub, Address::new(facility, instance)).unwrap();
        let (bus, _server) = join(Facility::Sessmgr, 1);
        let (_one, server) = join(Facility::Ipsecmgr, 1);
        let (asked_one, mut heard_one) = mpsc::unbounded_channel();
        tokio::spawn(manager(server, &[1], asked_one));
        let (_two, server) = join(Facility::Ipsecmgr, 2);
        let (asked_two, mut heard_two) = mpsc::unbounded_channel();
        tokio::spawn(manager(server, &[2], asked_two));
        // At first the map says that 1 has slot 2 as well; slot 3 is nobody's.
        let (_rmctrl, mut server) = join(Facility::Rmctrl, 1);
        tokio::spawn(async move {
            let mut version = 0;
            while let Some(incoming) = server.next().await {
                version += 1;
                let managers = vec![1, if version == 1 { 1 } else { 2 }];
                dispatch!(incoming, {
                    GetSlotMap => |_, responder| responder.reply(SlotMap { version, managers, ..SlotMap::default() }),
                });
            }
        });
        let (first, second, nobodys) = (1 << 56 | 7, 2 << 56 | 8, 3 << 56 | 9);
        let left = delete_tunnels(&bus, vec![first, second, nobodys], "why").await;
        assert_eq!(left, [0; 0]);
        assert_eq!(heard_one.recv().await.unwrap(), [first]);
        assert_eq!(heard_two.recv().await.unwrap(), [second]);
    }
}
