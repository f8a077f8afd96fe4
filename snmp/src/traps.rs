//! Notifications: which go where, what was said, and what was held back.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use mibs::{Notification, Oid};
use telemetry::events::{self, Descriptor};

use crate::outbox::{Outbox, Target};

/// An event that a task has told.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// Its row in the table.
    pub event: &'static Descriptor,
    /// When it happened.
    pub time: SystemTime,
    /// The sentence of the log.
    pub text: &'a str,
    /// Names and values.
    pub fields: Vec<(&'a str, &'a str)>,
}

impl Told<'_> {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| *value)
    }
}

/// Turns events into notifications, keeps the history and counts. Sends nothing itself.
#[derive(Default)]
pub struct Traps {
    targets: Vec<Target>,
    /// Names of notifications that `snmp trap suppress` switched off.
    suppressed: Vec<String>,
    counts: BTreeMap<&'static str, TrapCounts>,
    history: VecDeque<Entry>,
    /// What is on its way to the targets.
    pub outbox: Outbox,
    period: Period,
    discarded_untold: u64,
    cleared: Option<SystemTime>,
}

/// What `show snmp notifies` and `show snmp trap statistics` tell of one notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrapCounts {
    /// Generated.
    pub generated: u64,
    /// Thrown away because they came faster than they could be sent.
    pub discarded: u64,
    /// Not generated because they are switched off.
    pub disabled: u64,
    /// The last one.
    pub last: SystemTime,
}

/// A line of `show snmp trap history`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: SystemTime,
    /// Number of the notification.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// Its fields in words.
    pub text: String,
    /// The sentence of the log.
    pub sentence: String,
}

/// Notifications in the monitor period of [`PERIOD`] and in the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    began: SystemTime,
    /// So far.
    pub current: u64,
    /// In the one before.
    pub previous: u64,
}

/// `Notification monitor period`.
pub const PERIOD: Duration = Duration::from_secs(300);
/// Lines that the history keeps.
pub const HISTORY: usize = 5_000;

/// `snmpTraps.5`.
const AUTHENTICATION_FAILURE: [u32; 10] = [1, 3, 6, 1, 6, 3, 1, 1, 5, 5];
const AUTHENTICATION_FAILURE_NAME: &str = "AuthenticationFailure";

impl Traps {
    /// Replaces where notifications go.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        self.targets = targets;
    }

    /// Where notifications go.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Replaces what is switched off.
    pub fn set_suppressed(&mut self, names: Vec<String>) {
        self.suppressed = names;
    }

    /// Takes an event. If it has a notification that is not switched off, it goes into the history and, once for each target, into
    /// the queue. `uptime` is in hundredths of a second.
    pub fn take(&mut self, told: &Told<'_>, uptime: u32) {
        let Some(trap) = told.event.trap else { return };
        let counts = self.counts.entry(trap.name).or_insert(TrapCounts::new(told.time));
        if self.suppressed.iter().any(|name| name == trap.name) {
            counts.disabled += 1;
            return;
        }
        counts.generated += 1;
        counts.last = told.time;
        self.period.count(told.time);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        let text = describe(told);
        self.history.push_back(Entry {
            time: told.time,
            number: trap.number,
            name: trap.name,
            text,
            sentence: told.text.to_owned(),
        });
        if !self.targets.is_empty()
            && let Some(notification) = mibs::notification(told.event, |name| told.field(name))
        {
            self.send(trap.name, &notification, uptime);
        }
    }

    /// The authenticationFailure of SNMPv2-MIB: a request carried a community that is not configured.
    pub fn authentication_failure(&mut self, now: SystemTime, uptime: u32) {
        let notification = Notification {
            oid: Oid::new(&AUTHENTICATION_FAILURE),
            variables: Vec::new(),
        };
        let counts = self
            .counts
            .entry(AUTHENTICATION_FAILURE_NAME)
            .or_insert(TrapCounts::new(now));
        counts.generated += 1;
        counts.last = now;
        self.period.count(now);
        self.send(AUTHENTICATION_FAILURE_NAME, &notification, uptime);
    }

    /// The datagram at the head of the outbox has left; or it cannot be sent and `lost` says so.
    pub fn sent(&mut self, lost: bool) {
        if let Some(name) = self.outbox.sent(lost, Instant::now()) {
            self.discard(name);
        }
    }

    /// Sends informs again that were not answered.
    pub fn retry(&mut self) {
        for name in self.outbox.retry(Instant::now()) {
            self.discard(name);
        }
    }

    /// The history, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Entry> {
        self.history.iter()
    }

    /// Counts by notification, sorted by name; with `all`, also of those that never occurred.
    pub fn counts(&self, all: bool) -> Vec<(&'static str, TrapCounts)> {
        let mut counts = self.counts.clone();
        if all {
            for trap in events::all().filter_map(|event| event.trap) {
                counts
                    .entry(trap.name)
                    .or_insert(TrapCounts::new(SystemTime::UNIX_EPOCH));
            }
        }
        counts.into_iter().collect()
    }

    /// When the counts were cleared last.
    pub fn cleared(&self) -> Option<SystemTime> {
        self.cleared
    }

    /// Empties the history.
    pub fn clear_history(&mut self) {
        self.history.clear();
    }

    /// Sets the counts to zero.
    pub fn clear_counts(&mut self, now: SystemTime) {
        self.counts.clear();
        self.cleared = Some(now);
    }

    /// Notifications in this monitor period and in the one before.
    pub fn period(&mut self, now: SystemTime) -> Period {
        self.period.turn(now);
        self.period
    }

    /// Tells of what was thrown away since the last call, if anything was.
    pub fn report_discarded(&mut self) {
        let count = std::mem::take(&mut self.discarded_untold);
        if count > 0 {
            events::emit(&events::TrapsDiscarded { count });
        }
    }

    fn send(&mut self, name: &'static str, notification: &Notification, uptime: u32) {
        let outbox = &mut self.outbox;
        let lost = self
            .targets
            .iter()
            .filter(|target| !outbox.post(target, name, notification, uptime))
            .count();
        for _ in 0..lost {
            self.discard(name);
        }
    }

    fn discard(&mut self, name: &'static str) {
        self.discarded_untold += 1;
        if let Some(counts) = self.counts.get_mut(name) {
            counts.discarded += 1;
        }
    }
}

impl TrapCounts {
    fn new(last: SystemTime) -> Self {
        Self {
            generated: 0,
            discarded: 0,
            disabled: 0,
            last,
        }
    }
}

impl Period {
    fn count(&mut self, now: SystemTime) {
        self.turn(now);
        self.current += 1;
    }

    fn turn(&mut self, now: SystemTime) {
        let age = now.duration_since(self.began).unwrap_or_default();
        if age >= PERIOD {
            self.previous = if age < 2 * PERIOD { self.current } else { 0 };
            self.current = 0;
            self.began = now;
        }
    }
}

impl Default for Period {
    fn default() -> Self {
        Self {
            began: SystemTime::UNIX_EPOCH,
            current: 0,
            previous: 0,
        }
    }
}

/// The fields in words, as the history has them: `facility certmgr instance 1`.
fn describe(told: &Told<'_>) -> String {
    let words = told.fields.iter().filter(|(name, _)| !HIDDEN.contains(name));
    let words = words.map(|(name, value)| match *name {
        "user" | "context" | "facility" | "instance" | "peer" | "policy" | "reason" => {
            format!("{name} {value}")
        }
        "level" => format!("privilege level {value}"),
        "tty" => format!("ttyname {value}"),
        "local" => format!("local gateway {value}"),
        "remote" => format!("remote gateway {value}"),
        _ => format!("{} {value}", name.replace('_', " ")),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Fields that are numbers for the MIB, not for people.
const HIDDEN: &[&str] = &["facility_number", "session", "index"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::QUEUE;
    use crate::protocol::Form;
    use std::net::SocketAddr;
    use std::time::UNIX_EPOCH;

    fn restart(seconds: u64) -> Told<'static> {
        Told {
            event: Descriptor::find("ManagerRestart").unwrap(),
            time: UNIX_EPOCH + Duration::from_secs(seconds),
            text: "certmgr 1 restarted (pid 4711)",
            fields: vec![
                ("facility", "certmgr"),
                ("facility_number", "9"),
                ("instance", "1"),
                ("pid", "4711"),
            ],
        }
    }

    fn traps(targets: usize) -> Traps {
        let mut traps = Traps::default();
        let target = |number: usize| Target {
            name: format!("nms{number}"),
            address: SocketAddr::from(([127, 0, 0, 1], 1_162 + number as u16)),
            community: b"public".to_vec(),
            form: Form::TrapV2c,
        };
        traps.set_targets((0..targets).map(target).collect());
        traps
    }

    fn counts(traps: &Traps) -> TrapCounts {
        traps
            .counts(true)
            .into_iter()
            .find(|(name, _)| *name == "ManagerRestart")
            .unwrap()
            .1
    }

    #[test]
    fn an_event_goes_into_the_history_and_to_every_target() {
        let mut traps = traps(2);
        traps.take(&restart(10), 1);
        let entry = traps.history().next().unwrap();
        assert_eq!((entry.number, entry.name), (1099, "ManagerRestart"));
        assert_eq!(entry.text, "facility certmgr instance 1 pid 4711");
        let first = traps.outbox.next().unwrap().clone();
        traps.sent(false);
        let second = traps.outbox.next().unwrap().clone();
        assert_eq!((first.to.port(), second.to.port()), (1_162, 1_163));
        assert_ne!(first.datagram, second.datagram, "request numbers differ");
        traps.sent(false);
        assert_eq!(traps.outbox.next(), None);
        assert_eq!((counts(&traps).generated, counts(&traps).discarded), (1, 0));
    }

    #[test]
    fn an_event_without_a_notification_is_not_one() {
        let mut traps = traps(1);
        let told = Told {
            event: Descriptor::find("ConfigurationSaved").unwrap(),
            time: UNIX_EPOCH,
            text: "",
            fields: Vec::new(),
        };
        traps.take(&told, 1);
        assert_eq!((traps.history().count(), traps.outbox.next()), (0, None));
    }

    #[test]
    fn a_suppressed_notification_is_only_counted() {
        let mut traps = traps(1);
        traps.set_suppressed(vec!["ManagerRestart".into()]);
        traps.take(&restart(10), 1);
        assert_eq!((traps.history().count(), traps.outbox.next()), (0, None));
        assert_eq!((counts(&traps).generated, counts(&traps).disabled), (0, 1));
    }

    #[test]
    fn the_queue_and_the_history_are_bounded() {
        let mut traps = traps(1);
        for second in 0..(HISTORY as u64 + 10) {
            traps.take(&restart(second), 1);
        }
        assert_eq!(traps.history().count(), HISTORY);
        assert_eq!(counts(&traps).generated, HISTORY as u64 + 10);
        assert_eq!(counts(&traps).discarded, (HISTORY + 10 - QUEUE) as u64);
        traps.sent(true);
        assert_eq!(counts(&traps).discarded, (HISTORY + 11 - QUEUE) as u64);
    }

    #[test]
    fn an_authentication_failure_has_its_standard_identifier() {
        let mut traps = traps(1);
        traps.authentication_failure(UNIX_EPOCH, 1);
        // 1.3.6.1.6.3.1.1.5.5 as BER.
        let identifier = [0x2B, 6, 1, 6, 3, 1, 1, 5, 5];
        let datagram = &traps.outbox.next().unwrap().datagram;
        assert!(datagram.windows(identifier.len()).any(|part| part == identifier));
        assert_eq!(traps.counts(false)[0].0, "AuthenticationFailure");
    }

    #[test]
    fn history_and_counts_can_be_cleared() {
        let mut traps = traps(0);
        traps.take(&restart(1), 1);
        assert!(traps.counts(true).len() > 10, "all that exist");
        traps.clear_history();
        traps.clear_counts(UNIX_EPOCH);
        assert_eq!((traps.history().count(), traps.counts(false).len()), (0, 0));
        assert_eq!(traps.cleared(), Some(UNIX_EPOCH));
    }

    #[test]
    fn periods_follow_each_other() {
        let mut traps = traps(0);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        traps.take(&restart(1_000), 1);
        traps.take(&restart(1_010), 1);
        assert_eq!(
            (traps.period(at(1_020)).current, traps.period(at(1_020)).previous),
            (2, 0)
        );
        assert_eq!(
            (traps.period(at(1_301)).current, traps.period(at(1_301)).previous),
            (0, 2)
        );
        assert_eq!(
            (traps.period(at(5_000)).current, traps.period(at(5_000)).previous),
            (0, 0)
        );
    }
}
