//! How busy the ports are: counted by the kernel, told by the `vpnmgr` of each context.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::messages::vpnmgr::{GetPortTraffic, PortCount, PortTraffic};
use bus::{Address, Bus, Facility};
use config::PortId;
use tokio::task::JoinSet;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(2);

/// The ports that have a speed.
#[derive(Default)]
pub(crate) struct Ports {
    ports: BTreeMap<PortId, Port>,
    /// Questions under way.
    questions: JoinSet<(Address, Option<PortTraffic>)>,
    asked: BTreeSet<Address>,
}

struct Port {
    owner: Address,
    at: Instant,
    received: u64,
    sent: u64,
    usage: Option<PortUse>,
}

/// Use of a port over the last interval, hundredths of a percent of its speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortUse {
    pub rx: u64,
    pub tx: u64,
}

impl Ports {
    /// Asks every `vpnmgr`; [`next`](Self::next) takes the answers.
    pub fn ask(&mut self, bus: &Bus) {
        let managers = bus.addresses().into_iter();
        for address in managers.filter(|address| address.facility == Facility::Vpnmgr) {
            if self.asked.insert(address) {
                let bus = bus.clone();
                self.questions.spawn(async move {
                    let answer = bus.request(address, &GetPortTraffic {}, DEADLINE).await;
                    (address, answer.ok())
                });
            }
        }
    }

    /// Waits for an answer and takes it in. Waits for ever when none is under way; cancelling loses nothing.
    pub async fn next(&mut self) {
        match self.questions.join_next().await {
            Some(Ok((address, traffic))) => {
                self.asked.remove(&address);
                self.heard(address, Instant::now(), &traffic.unwrap_or_default());
            }
            // A question does not panic, and is not aborted.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// The use of each port, as far as it is known.
    pub fn iter(&self) -> impl Iterator<Item = (PortId, PortUse)> {
        self.ports
            .iter()
            .filter_map(|(id, port)| Some((*id, port.usage?)))
    }

    fn heard(&mut self, owner: Address, now: Instant, traffic: &PortTraffic) {
        let told: BTreeMap<PortId, &PortCount> = traffic
            .ports
            .iter()
            .filter_map(|count| {
                let (slot, port) = (count.slot.try_into().ok()?, count.port.try_into().ok()?);
                Some((PortId { slot, port }, count))
            })
            .collect();
        self.ports
            .retain(|id, port| port.owner != owner || told.contains_key(id));
        for (id, count) in told {
            let usage = self
                .ports
                .get(&id)
                .filter(|before| before.owner == owner)
                .and_then(|before| before.usage(now, count));
            let port = Port {
                owner,
                at: now,
                received: count.received,
                sent: count.sent,
                usage,
            };
            self.ports.insert(id, port);
        }
    }
}

impl Port {
    /// Since this one was noted; `None` when no time has passed.
    fn usage(&self, now: Instant, count: &PortCount) -> Option<PortUse> {
        let microseconds = now.saturating_duration_since(self.at).as_micros();
        // Mbit/s are bits in a microsecond.
        let room = microseconds.saturating_mul(u128::from(count.speed));
        let share = |now: u64, before: u64| {
            let bits = u128::from(now.saturating_sub(before)) * 8;
            let hundredths = (bits * 10_000).checked_div(room)?;
            // Octets are counted in bursts.
            Some(u64::try_from(hundredths).unwrap_or(u64::MAX).min(10_000))
        };
        Some(PortUse {
            rx: share(count.received, self.received)?,
            tx: share(count.sent, self.sent)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn use_is_what_went_through_in_an_interval() {
        let (one, two) = (
            Address::new(Facility::Vpnmgr, 1),
            Address::new(Facility::Vpnmgr, 2),
        );
        let count = |port, received, sent| PortCount {
            slot: 1,
            port,
            speed: 1_000,
            received,
            sent,
        };
        let told = |ports: &[PortCount]| PortTraffic {
            ports: ports.to_vec(),
        };
        let mut ports = Ports::default();
        let start = Instant::now();
        ports.heard(one, start, &told(&[count(10, 0, 7)]));
        ports.heard(two, start, &told(&[count(11, 0, 0)]));
        assert_eq!(ports.iter().count(), 0, "one reading says nothing");
        // A gigabit in two seconds is half of it.
        let later = start + Duration::from_secs(2);
        ports.heard(one, later, &told(&[count(10, 125_000_000, 7)]));
        let all: Vec<_> = ports.iter().collect();
        let id = |port| PortId { slot: 1, port };
        assert_eq!(all, [(id(10), PortUse { rx: 5_000, tx: 0 })]);
        // It moves to another context, where its counters begin anew; a context without ports has none.
        ports.heard(two, later, &told(&[count(10, 5, 5)]));
        ports.heard(one, later, &PortTraffic::default());
        assert_eq!(ports.iter().count(), 0);
        assert_eq!(ports.ports.len(), 1);
    }
}
