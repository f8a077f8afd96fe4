//! The log: one line an event, to standard error, where `sit` and the service manager collect it.
//!
//! `2026-11-21T08:07:49.123Z INFO  ipsecmgr-3 ipsecmgr::manager: the sentence field=value`

use std::fmt;
use std::sync::OnceLock;
use std::time::SystemTime;

use telemetry::events::Severity;
use telemetry::time::Civil;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Logs what is at least as severe as `severity` from now on. Each manager calls it with what the configuration says for its facility.
pub fn set_level(severity: Severity) {
    if let Some(handle) = LEVEL.get() {
        // Fails only when the subscriber is gone, which it never is.
        let _ = handle.reload(filter(severity));
    }
}

/// Starts logging in the name of `who`, at level info. ([`crate::main`] does it for children; `sit` calls it itself.)
pub fn start(who: String) {
    let (level, handle) = reload::Layer::new(LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        // They would go to standard error too, and when nobody reads that, complaining ends the process.
        .log_internal_errors(false)
        .event_format(Line { who });
    // In a process that has a subscriber already (tests), that one stays.
    if tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .try_init()
        .is_ok()
    {
        let _ = LEVEL.set(handle);
    }
}

fn filter(severity: Severity) -> LevelFilter {
    match severity {
        Severity::Critical | Severity::Error => LevelFilter::ERROR,
        Severity::Warning => LevelFilter::WARN,
        Severity::Unusual | Severity::Info => LevelFilter::INFO,
        Severity::Debug => LevelFilter::DEBUG,
    }
}

struct Line {
    who: String,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
            millisecond,
            ..
        } = Civil::utc(SystemTime::now());
        let metadata = event.metadata();
        write!(
            writer,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z {:5} {} {}: ",
            metadata.level().as_str(),
            self.who,
            metadata.target(),
        )?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_names_time_level_task_and_target() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(Line {
                who: "ipsecmgr-3".into(),
            });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(target: "event", event = 7, "a sentence");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let (time, rest) = text.split_at(24);
        assert!(
            time.starts_with("20") && time.ends_with('Z') && time.as_bytes()[10] == b'T',
            "{text}"
        );
        assert_eq!(rest, " WARN  ipsecmgr-3 event: a sentence event=7\n");
    }

    #[test]
    fn severities_become_levels() {
        assert_eq!(filter(Severity::Critical), LevelFilter::ERROR);
        assert_eq!(filter(Severity::Unusual), LevelFilter::INFO);
        assert_eq!(filter(Severity::Debug), LevelFilter::DEBUG);
    }
}
