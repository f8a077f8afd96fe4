//! Telling an event: log line, sink, and the gate that keeps a flood of them from becoming one of ours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Descriptor, Event, Severity};

/// An event that happened, ready to travel.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its row in the table.
    pub event: &'static Descriptor,
    /// When it happened.
    pub time: SystemTime,
    /// The sentence that went to the log.
    pub text: String,
    /// Field names and values, in the order of the row.
    pub fields: Vec<(&'static str, String)>,
    /// How many of this kind were held back before this one, because there were too many in one second.
    pub held_back: u64,
}

/// Who takes events further: `task` installs one that publishes them on the bus.
pub trait EventSink: Send + Sync {
    /// Takes one event. Must not wait: it is called wherever things happen.
    fn take(&self, record: Record);
}

impl<F: Fn(Record) + Send + Sync> EventSink for F {
    fn take(&self, record: Record) {
        self(record);
    }
}

/// Installs the sink of this process, in place of the one before.
pub fn install(sink: Arc<dyn EventSink>) {
    *SINK.write().unwrap_or_else(PoisonError::into_inner) = Some(sink);
}

/// Tells an event: one log line, and one record to the sink.
///
/// At most [`PER_SECOND`] of a kind are told in a second, for a hostile network causes as many as it likes; the rest is counted and
/// reported with the next one that is told.
pub fn emit<E: Event>(event: &E) {
    let time = SystemTime::now();
    let Some(held_back) = E::gate().pass(time) else {
        return;
    };
    let row = E::DESCRIPTOR;
    let mut text = event.text();
    if held_back > 0 {
        text.push_str(&format!(" ({held_back} more like this held back)"));
    }
    log(row, &text);
    let sink = SINK.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(sink) = sink {
        sink.take(Record {
            event: row,
            time,
            text,
            fields: event.fields(),
            held_back,
        });
    }
}

/// Lets the first [`PER_SECOND`] occurrences of each second through and counts the others.
#[doc(hidden)]
pub struct Gate {
    /// Second since the epoch in the upper half, occurrences told in it in the lower.
    window: AtomicU64,
    held_back: AtomicU64,
}

impl Gate {
    pub(super) const fn new() -> Self {
        Self {
            window: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }
    }

    /// The number held back since the last one let through, or `None` for one more.
    fn pass(&self, now: SystemTime) -> Option<u64> {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() & 0xFFFF_FFFF;
        let fresh = second << 32 | 1;
        let step = |window: u64| match window >> 32 == second {
            true if window & 0xFFFF_FFFF >= PER_SECOND => None,
            true => Some(window + 1),
            false => Some(fresh),
        };
        match self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
        {
            Ok(_) => Some(self.held_back.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.held_back.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

/// How many events of one kind a process tells in a second.
pub const PER_SECOND: u64 = 200;

static SINK: RwLock<Option<Arc<dyn EventSink>>> = RwLock::new(None);

fn log(row: &'static Descriptor, text: &str) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "event",
                facility = row.facility,
                event = row.number,
                severity = row.severity.name(),
                "{text}"
            )
        };
    }
    match row.severity {
        Severity::Critical | Severity::Error => line!(error),
        Severity::Warning => line!(warn),
        Severity::Unusual | Severity::Info => line!(info),
        Severity::Debug => line!(debug),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::TunnelsLost;
    use std::sync::Mutex;
    use std::time::Duration;

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let gate = Gate::new();
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let told = (0..PER_SECOND + 50).filter(|_| gate.pass(now).is_some()).count() as u64;
        assert_eq!(told, PER_SECOND);
        assert_eq!(gate.pass(now + Duration::from_secs(1)), Some(50));
        assert_eq!(gate.pass(now + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn the_sink_gets_the_event_with_its_fields() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        install(Arc::new(move |record: Record| sink.lock().unwrap().push(record)));
        emit(&TunnelsLost { worker: 7, count: 1 });
        let seen = seen.lock().unwrap();
        let record = seen
            .iter()
            .find(|record| record.event.id == "TunnelsLost")
            .unwrap();
        assert_eq!(
            record.fields,
            [("worker", "7".to_owned()), ("count", "1".to_owned())]
        );
        assert_eq!(record.text, "1 tunnels lost by the restart of ipsecmgr 7");
        assert_eq!(record.held_back, 0);
    }
}
