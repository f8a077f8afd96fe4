//! What `sit` learns from other tasks: the contexts there are (from `sct`) and the slot map (from `rmctrl`).

use std::collections::BTreeMap;
use std::time::Duration;

use bus::messages::rmctrl::{GetSlotMap, SlotMapChanged};
use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig};
use bus::{Address, Bus, Event, Facility, Request};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::contexts::{LOCAL, LOCAL_ID};
use crate::manager::Happening;

const DEADLINE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(200);

/// Tells of the contexts of the running configuration, now and whenever it changes.
pub(crate) async fn contexts(bus: Bus, happenings: mpsc::Sender<Happening>) {
    let tell = |config: ConfigText| Happening::Contexts(contexts_of(&config.text));
    follow::<GetConfig, ConfigChanged>(bus, Facility::Sct, GetConfig {}, tell, happenings).await;
}

/// Tells of the slot map, now and whenever it changes.
pub(crate) async fn slot_map(bus: Bus, happenings: mpsc::Sender<Happening>) {
    follow::<GetSlotMap, SlotMapChanged>(
        bus,
        Facility::Rmctrl,
        GetSlotMap {},
        Happening::SlotMap,
        happenings,
    )
    .await;
}

/// Asks for a state, and again whenever its owner says that it has changed or may have.
async fn follow<R: Request, E: Event>(
    bus: Bus,
    owner: Facility,
    request: R,
    tell: impl Fn(R::Reply) -> Happening,
    happenings: mpsc::Sender<Happening>,
) {
    let owner = Address::only(owner);
    let mut changes = bus.subscribe::<E>();
    changes.follow(owner);
    loop {
        match bus.request(owner, &request, DEADLINE).await {
            Ok(state) => {
                if happenings.send(tell(state)).await.is_err() {
                    return;
                }
                changes.next().await;
            }
            Err(error) => {
                tracing::debug!("{error}");
                sleep(RETRY).await;
            }
        }
    }
}

/// The contexts of a configuration in canonical form, with their numbers.
fn contexts_of(text: &str) -> BTreeMap<String, u32> {
    let names = text.lines().filter_map(|line| line.strip_prefix("  context "));
    let others = names.map(str::trim).filter(|name| *name != LOCAL);
    let mut contexts = BTreeMap::from([(LOCAL.to_owned(), LOCAL_ID)]);
    for name in others {
        let next = contexts.len() as u32 + LOCAL_ID;
        contexts.entry(name.to_owned()).or_insert(next);
    }
    contexts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_numbered_in_their_order() {
        let text = "config\n  system hostname sgw\n  context local\n    interface a\n  #exit\n  context isp\n  #exit\n  context apn\n  #exit\nend\n";
        let contexts = contexts_of(text);
        assert_eq!(contexts.get("isp"), Some(&2));
        assert_eq!(contexts.get("apn"), Some(&3));
        assert_eq!(contexts_of("").len(), 1);
    }
}
