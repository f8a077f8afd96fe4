//! Notifications on their way to the targets: a bounded queue, and the informs that wait for their answer.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mibs::Notification;

use crate::protocol::{self, Form};

/// Where notifications go: `snmp target`.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: SocketAddr,
    /// The community in the notifications: `security-name`.
    pub community: Vec<u8>,
    /// What is sent.
    pub form: Form,
}

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub datagram: Vec<u8>,
    /// Name of the notification it carries.
    pub name: &'static str,
    /// Request number and attempts so far, if it wants an answer.
    inform: Option<(i32, u32)>,
}

/// What is to be sent. Sends nothing itself.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Outgoing>,
    /// Informs that have left, by request number, with when they leave again.
    awaiting: BTreeMap<i32, (Outgoing, Instant)>,
    request: i32,
}

/// Datagrams that may wait for the network, and informs that may wait for their answer; no more are taken then.
pub const QUEUE: usize = 1_000;
/// Attempts to get an inform answered.
pub const ATTEMPTS: u32 = 3;
/// Wait for the answer to an inform.
pub const WAIT: Duration = Duration::from_secs(3);

impl Outbox {
    /// Takes a notification for a target. False when there is no room, or when it cannot be encoded (a v1 trap of 64-bit numbers).
    pub fn post(
        &mut self,
        target: &Target,
        name: &'static str,
        notification: &Notification,
        uptime: u32,
    ) -> bool {
        self.request = self.request.wrapping_add(1) & i32::MAX;
        let full = self.queue.len() >= QUEUE || self.awaiting.len() >= QUEUE;
        let encoded = protocol::notify(target.form, &target.community, self.request, uptime, notification);
        let (false, Some(datagram)) = (full, encoded) else {
            return false;
        };
        let inform = (target.form == Form::Inform).then_some((self.request, 0));
        self.queue.push_back(Outgoing {
            to: target.address,
            datagram,
            name,
            inform,
        });
        true
    }

    /// The next datagram; it stays at the head of the queue until [`Self::sent`].
    pub fn next(&self) -> Option<&Outgoing> {
        self.queue.front()
    }

    /// The datagram at the head has left; or it cannot be sent and `lost` says so. Gives the name of a notification that is lost.
    pub fn sent(&mut self, lost: bool, now: Instant) -> Option<&'static str> {
        let mut outgoing = self.queue.pop_front()?;
        let Some((request, attempts)) = &mut outgoing.inform else {
            return lost.then_some(outgoing.name);
        };
        *attempts += 1;
        self.awaiting.insert(*request, (outgoing, now + WAIT));
        None
    }

    /// A target has answered an inform. False when nobody waits for this answer.
    pub fn acknowledged(&mut self, from: SocketAddr, request: i32) -> bool {
        let waits = self
            .awaiting
            .get(&request)
            .is_some_and(|(outgoing, _)| outgoing.to == from);
        waits && self.awaiting.remove(&request).is_some()
    }

    /// Whether an answer to an inform may come from this address.
    pub fn awaits(&self, from: SocketAddr) -> bool {
        self.awaiting.values().any(|(outgoing, _)| outgoing.to == from)
    }

    /// Queues the informs again that were not answered in time; gives the names of those that are given up.
    pub fn retry(&mut self, now: Instant) -> Vec<&'static str> {
        let due: Vec<_> = self
            .awaiting
            .iter()
            .filter(|(_, (_, due))| *due <= now)
            .map(|(id, _)| *id)
            .collect();
        let mut given_up = Vec::new();
        for request in due {
            let Some((outgoing, _)) = self.awaiting.remove(&request) else {
                continue;
            };
            if outgoing.inform.is_some_and(|(_, attempts)| attempts < ATTEMPTS) && self.queue.len() < QUEUE {
                self.queue.push_back(outgoing);
            } else {
                given_up.push(outgoing.name);
            }
        }
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mibs::Oid;

    fn target(form: Form) -> Target {
        let address = SocketAddr::from(([192, 0, 2, 9], 162));
        Target {
            name: "nms".into(),
            address,
            community: b"public".to_vec(),
            form,
        }
    }

    fn notification() -> Notification {
        Notification {
            oid: Oid::new(&[1, 3, 6, 1, 4, 1, 8164, 2, 1099]),
            variables: Vec::new(),
        }
    }

    fn outbox(form: Form, count: usize) -> (Outbox, usize) {
        let mut outbox = Outbox::default();
        let taken = (0..count)
            .filter(|_| outbox.post(&target(form), "ManagerRestart", &notification(), 1))
            .count();
        (outbox, taken)
    }

    #[test]
    fn the_queue_is_bounded() {
        let (mut outbox, taken) = outbox(Form::TrapV2c, QUEUE + 7);
        assert_eq!(taken, QUEUE);
        assert_eq!(outbox.sent(true, Instant::now()), Some("ManagerRestart"));
        assert_eq!(outbox.sent(false, Instant::now()), None);
        assert!(outbox.post(&target(Form::TrapV2c), "ManagerRestart", &notification(), 1));
    }

    #[test]
    fn an_inform_is_sent_until_it_is_answered() {
        let (mut outbox, _) = outbox(Form::Inform, 1);
        let now = Instant::now();
        let first = outbox.next().unwrap().clone();
        assert_eq!(outbox.sent(false, now), None);
        assert_eq!((outbox.retry(now), outbox.next()), (Vec::new(), None));
        assert!(outbox.retry(now + WAIT).is_empty());
        assert_eq!(
            outbox.next().unwrap().datagram,
            first.datagram,
            "the same request again"
        );
        outbox.sent(false, now + WAIT);
        assert!(
            !outbox.acknowledged(SocketAddr::from(([192, 0, 2, 8], 162)), 1),
            "somebody else"
        );
        assert!(outbox.awaits(first.to) && outbox.acknowledged(first.to, 1));
        assert!(!outbox.acknowledged(first.to, 1), "only once");
        assert!(outbox.retry(now + 10 * WAIT).is_empty() && outbox.next().is_none());
    }

    #[test]
    fn an_inform_that_is_never_answered_is_given_up() {
        let (mut outbox, _) = outbox(Form::Inform, 1);
        let mut now = Instant::now();
        for _ in 1..ATTEMPTS {
            outbox.sent(false, now);
            now += WAIT;
            assert!(outbox.retry(now).is_empty());
        }
        // Not even the network takes it.
        outbox.sent(true, now);
        assert_eq!(outbox.retry(now + WAIT), ["ManagerRestart"]);
        assert_eq!(outbox.next(), None);
    }
}
