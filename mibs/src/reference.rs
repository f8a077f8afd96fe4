//! The generated reference: what stands in `docs/reference/mib.md`.

use telemetry::counters::Counter;
use telemetry::events;

use crate::objects::{Index, OBJECTS, TRAPS};
use crate::oid::Oid;

/// The page of objects and notifications, as Markdown.
pub fn reference() -> String {
    let mut text = String::from(
        "# SNMP\n\nGenerated from `mibs::objects`, `telemetry::counters` and `telemetry::events`; do not edit.\n\n\
         ## Objects\n\n| object | identifier | type | index | bulkstats variable |\n|---|---|---|---|---|\n",
    );
    for object in OBJECTS {
        let counter = Counter::all().find(|counter| counter.descriptor().objects.contains(&object.name));
        let variable = counter.map_or(String::new(), |counter| {
            format!("`{}`", counter.descriptor().variable)
        });
        let index = match object.index {
            Index::Scalar => "",
            Index::Task => "facility, instance",
            Index::Service => "context, service",
            Index::Cpu => "card, processor",
            Index::Cli => "session",
            Index::Certificate => "serial number",
            Index::RadiusServer => "server",
        };
        text.push_str(&format!(
            "| {} | {} | {:?} | {index} | {variable} |\n",
            object.name,
            object.oid(),
            object.syntax
        ));
    }
    text.push_str(
        "\n## Notifications\n\n| number | name | identifier | event | variables |\n|---|---|---|---|---|\n",
    );
    let mut rows: Vec<_> = events::all()
        .filter_map(|row| Some((row.trap?, row.id)))
        .collect();
    rows.sort_by_key(|(trap, _)| trap.number);
    for (trap, event) in rows {
        let oid = Oid::new(TRAPS).child(&[trap.number]);
        let variables: Vec<_> = trap.variables.iter().map(|variable| variable.object).collect();
        text.push_str(&format!(
            "| {} | star{} | {oid} | {event} | {} |\n",
            trap.number,
            trap.name,
            variables.join(", ")
        ));
    }
    text
}
