//! `show bulkstats ...`.

use std::time::{Duration, SystemTime};

use telemetry::time::{Civil, Zone, unix_seconds};

use crate::settings::{FileSettings, Settings};
use crate::spool::Statistics;
use crate::variables::rows;

/// `show bulkstats`: the server, then each file with its counts.
pub fn bulkstats(settings: &Settings, files: &[(&FileSettings, Statistics)], zone: &Zone) -> String {
    let state = if settings.collecting {
        "Enabled"
    } else {
        "Disabled"
    };
    let mut text = format!(
        "Bulkstats Server Configuration:\n\
         \x20 Server State:                  {state}\n\
         \x20 File Limit:                    {} KB\n\
         \x20 Sample Interval:               {}\n\
         \x20 Transfer Interval:             {}\n\
         Bulkstats Server Statistics:\n",
        settings.limit / 1_024,
        minutes(settings.sample_interval),
        minutes(settings.transfer_interval),
    );
    let total = files
        .iter()
        .fold(Statistics::default(), |total, (_, file)| total.joined(file));
    text.push_str(&volumes(&total, "  "));
    for (file, statistics) in files {
        text.push_str(&format!(
            "  File {}\n    Remote File Format:            {}\n    File Header:                   {}\n\
             \x20   File Footer:                   {}\n    Bulkstats Receivers:\n        Local: /hd-raid\n    File Statistics:\n",
            file.number, file.remote_file, file.header, file.footer
        ));
        text.push_str(&volumes(statistics, "      "));
        text.push_str(&transfers(statistics, zone));
    }
    text
}

/// `show bulkstats variables [SCHEMA]`; `None` for a schema that does not exist.
pub fn variables(schema: Option<&str>) -> Option<String> {
    let mut text = String::from(
        "Index Schema    Variable Name                                               Data Type Key Counter Type\n\
         ----- --------- ----------------------------------------------------------  --------- --- ------------\n",
    );
    let mut found = false;
    for (index, row) in rows().iter().enumerate() {
        if schema.is_some_and(|schema| schema != row.schema) {
            continue;
        }
        found = true;
        let variable = format!("%{}%", row.variable);
        let key = u8::from(row.key);
        text.push_str(&format!(
            "{index:<5} {:<9} {variable:<60}  {:<9} {key}   {}\n",
            row.schema, row.data_type, row.counter_type
        ));
    }
    found.then_some(text)
}

/// `show bulkstats schemas`: the schema lines of each file.
pub fn schemas(settings: &Settings) -> String {
    settings.files.iter().fold(String::new(), |mut text, file| {
        text.push_str(&format!("File {}\n", file.number));
        let mut schemas: Vec<_> = file.schemas.iter().collect();
        schemas.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        for schema in schemas {
            let variables: Vec<_> = schema.format.variables().collect();
            text.push_str(&format!(
                "  {} schema {}: {} variables\n",
                schema.kind.name(),
                schema.name,
                variables.len()
            ));
        }
        text
    })
}

impl Statistics {
    fn joined(mut self, other: &Self) -> Self {
        self.waiting.join(other.waiting);
        self.collected.join(other.collected);
        self.transmitted.join(other.transmitted);
        self.discarded.join(other.discarded);
        self
    }
}

fn volumes(statistics: &Statistics, margin: &str) -> String {
    let rows = [
        ("Records awaiting transmission:", statistics.waiting.records),
        ("Bytes awaiting transmission:", statistics.waiting.octets),
        ("Total records collected:", statistics.collected.records),
        ("Total bytes collected:", statistics.collected.octets),
        ("Total records transmitted:", statistics.transmitted.records),
        ("Total bytes transmitted:", statistics.transmitted.octets),
        ("Total records discarded:", statistics.discarded.records),
        ("Total bytes discarded:", statistics.discarded.octets),
    ];
    rows.iter().fold(String::new(), |text, (label, value)| {
        text + &format!("{margin}{label:<31}{value}\n")
    })
}

fn transfers(statistics: &Statistics, zone: &Zone) -> String {
    let date =
        |time: SystemTime| Civil::local(time, zone).long(&zone.offset(unix_seconds(time)).abbreviation);
    let required = format!("{} second(s)", statistics.transfer_seconds);
    let mut text = format!("      {:<31}{required}\n", "Last transfer time required:");
    match statistics.last_success {
        None => text.push_str("      No successful data transfers\n"),
        Some((time, volume)) => {
            for (label, value) in [
                ("Last successful transfer:", date(time)),
                ("Last successful tx recs:", volume.records.to_string()),
                ("Last successful tx bytes:", volume.octets.to_string()),
            ] {
                text.push_str(&format!("      {label:<31}{value}\n"));
            }
        }
    }
    match statistics.last_attempt {
        None => text.push_str("      No attempted data transfers\n"),
        Some(time) => text.push_str(&format!(
            "      {:<31}{}\n",
            "Last attempted transfer:",
            date(time)
        )),
    }
    text
}

/// `15 minutes (0D 0H 15M)`.
fn minutes(interval: Duration) -> String {
    let minutes = interval.as_secs() / 60;
    format!(
        "{minutes} minutes ({}D {}H {}M)",
        minutes / 1_440,
        minutes / 60 % 24,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::{file, moment};
    use crate::spool::Volume;
    use crate::variables::Kind;

    #[test]
    fn the_layout_of_variables() {
        let text = variables(None).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[2],
            "0     common    %uptime%                                                      Int32     0   Info"
        );
        assert_eq!(lines.len(), 2 + rows().len());
        let wsg = variables(Some("wsg")).unwrap();
        assert!(wsg.lines().nth(2).unwrap().contains("wsg       %vpnname%"));
        assert!(wsg.lines().nth(2).unwrap().ends_with("String    1   Info"));
        assert_eq!(variables(Some("hnbgw")), None);
    }

    #[test]
    fn the_layout_of_bulkstats() {
        let file = FileSettings {
            number: 2,
            footer: "EndOfFile".into(),
            ..file(&[(Kind::System, "s", "x")])
        };
        let volume = Volume {
            records: 5_991,
            octets: 794_656,
        };
        let statistics = Statistics {
            transmitted: volume,
            last_success: Some((moment(), volume)),
            last_attempt: Some(moment()),
            ..Statistics::default()
        };
        let settings = Settings {
            collecting: true,
            files: vec![file.clone()],
            ..Settings::default()
        };
        let text = bulkstats(&settings, &[(&file, statistics)], &Zone::posix("EST5").unwrap());
        for line in [
            "  Transfer Interval:             480 minutes (0D 8H 0M)",
            "  File 2",
            "    File Footer:                   EndOfFile",
            "      Records awaiting transmission: 0",
            "      Total bytes transmitted:       794656",
            "      Last successful transfer:      Sunday December 20 12:45:31 EST 2020",
            "      Last successful tx recs:       5991",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "no line '{line}' in\n{text}"
            );
        }
        let fresh = bulkstats(&settings, &[(&file, Statistics::default())], &Zone::utc());
        assert!(
            fresh.contains("No successful data transfers") && fresh.contains("No attempted data transfers")
        );
    }

    #[test]
    fn schemas_are_listed_by_file() {
        let file = file(&[
            (Kind::Wsg, "b", "%svcname%"),
            (Kind::Wsg, "a", "%svcname%,%date%"),
        ]);
        let settings = Settings {
            files: vec![file],
            ..Settings::default()
        };
        assert_eq!(
            schemas(&settings),
            "File 1\n  wsg schema a: 2 variables\n  wsg schema b: 1 variables\n"
        );
    }
}
