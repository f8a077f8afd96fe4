//! The generated reference: what stands in `docs/reference/counters.md` and `events.md`.

use crate::counters::{Counter, Schema};
use crate::events::{self, Alarm};

/// The page of counters, as Markdown.
pub fn counters() -> String {
    let mut text = String::from(
        "# Counters\n\nGenerated from `telemetry::counters`; do not edit. \
         `show` prints a counter under the title and label given here.\n",
    );
    for schema in Schema::ALL {
        text.push_str(&format!("\n## Schema `{}`\n", schema.name()));
        let mut section = "";
        for counter in Counter::all() {
            let row = counter.descriptor();
            if row.schema != schema {
                continue;
            }
            if row.section != section {
                section = row.section;
                text.push_str(&format!(
                    "\n### {section}\n\nMoved by `{}`; proved by `{}`.\n\n\
                     | variable | label | type | kind | SNMP |\n|---|---|---|---|---|\n",
                    row.facility, row.test
                ));
            }
            text.push_str(&format!(
                "| `{}` | {} | {} | {} | {} |\n",
                row.variable,
                row.label,
                row.width.name(),
                row.kind.name(),
                row.objects.join(", ")
            ));
        }
    }
    text
}

/// The page of events, as Markdown.
pub fn events() -> String {
    let mut text = String::from(
        "# Events\n\nGenerated from `telemetry::events`; do not edit. \
         `{name}` in a text stands for the field of this name.\n\n\
         | number | event | facility | severity | meaning and text | trap | alarm |\n|---|---|---|---|---|---|---|\n",
    );
    let mut rows: Vec<_> = events::all().collect();
    rows.sort_by_key(|row| row.number);
    for row in rows {
        let trap = row
            .trap
            .map_or(String::new(), |trap| format!("{} {}", trap.number, trap.name));
        let alarm = match row.alarm {
            None => String::new(),
            Some(Alarm::Raise { severity, .. }) => format!("{severity:?}").to_lowercase(),
            Some(Alarm::Clear { raised_by, .. }) => format!("clears {raised_by}"),
        };
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} `{}` | {trap} | {alarm} |\n",
            row.number,
            row.id,
            row.facility,
            row.severity.name(),
            row.meaning.trim(),
            row.text
        ));
    }
    text
}
