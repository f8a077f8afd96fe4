//! `show threshold` and `show congestion-control`.

use std::fmt::Write;

use command::Keyword;
use config::{CongestionThreshold, Thresholds, Tolerance};
use telemetry::Reader;
use telemetry::show::sections;

use crate::congestion::{Congestion, of, value};

/// `show threshold`.
pub(crate) fn configured(thresholds: &Thresholds) -> String {
    let mut text = String::from("Threshold operation model: ALARM\n\nConfigured thresholds:\n");
    if let Some(threshold) = thresholds.crypto_cores {
        let mut field = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<17}{value}");
        };
        field("Name:", "crypto-cores-utilization".into());
        field("Config Scope:", "SYSTEM".into());
        field("Threshold:", format!("{}%", threshold.high));
        field("Clear Threshold:", format!("{}%", threshold.low()));
        field(
            "Poll interval:",
            format!("{} seconds", thresholds.crypto_cores_poll),
        );
    }
    text
}

/// `show congestion-control configuration`.
pub(crate) fn congestion_configuration(settings: &config::Congestion) -> String {
    let mut text = format!(
        "Congestion-control: {}\n\nCongestion-control Threshold parameters:\n",
        if settings.enabled { "enabled" } else { "disabled" }
    );
    let mut field = |label: &str, value: String| {
        let _ = writeln!(text, "  {:<38} {value}", format!("{label}:"));
    };
    for threshold in CongestionThreshold::ALL {
        let limit = settings.limit(*threshold);
        field(
            &threshold.label(),
            limit.map_or_else(
                || "not watched".to_owned(),
                |limit| format!("{limit}{}", threshold.unit()),
            ),
        );
    }
    let Tolerance(tolerance) = settings.tolerance;
    field("tolerance", format!("{tolerance}%"));
    let own = |value: Option<u32>| value.map_or_else(|| "as above".to_owned(), |value| format!("{value}%"));
    let all = settings.all_ports.iter().map(|limits| ("all".to_owned(), limits));
    let each = settings
        .ports
        .iter()
        .map(|(port, limits)| (port.to_string(), limits));
    for (port, limits) in all.chain(each) {
        field(
            &format!("port specific {port}"),
            format!("rx {}, tx {}", own(limits.rx), own(limits.tx)),
        );
    }
    let _ = write!(
        text,
        "\nCongestion-control Policy:\n  {:<38} {}\n",
        "wsg-service:", settings.wsg
    );
    text
}

/// `show congestion-control statistics`: state, values, counters.
pub(crate) fn congestion_statistics(congestion: &Congestion, counters: &Reader) -> String {
    let settings = congestion.settings();
    let status = match (congestion.is_applied(), congestion.is_congested()) {
        (true, _) => "Applied",
        (false, true) => "Congested, the policy is none",
        (false, false) if settings.enabled => "Cleared",
        (false, false) => "Disabled",
    };
    let mut text = String::new();
    let _ = writeln!(text, "Current congestion status : {status}");
    let _ = writeln!(
        text,
        "Congestion applied        : {} times",
        congestion.times_applied()
    );
    let _ = write!(
        text,
        "\n{:<38} {:>10} {:>13} {:>9}  Measured\n{:-<38} {:->10} {:->13} {:->9}  {:-<15}\n",
        "Threshold", "Limit", "Exceeded", "Entered", "", "", "", "", ""
    );
    for threshold in CongestionThreshold::ALL {
        let limit = settings.limit(*threshold);
        let limit = limit.map_or_else(|| "--".to_owned(), |limit| format!("{limit}{}", threshold.unit()));
        let exceeded = if congestion.is_over(*threshold) {
            "Yes"
        } else {
            "No"
        };
        let measured = congestion.worst(*threshold);
        let measured = measured.map_or_else(
            || "--".to_owned(),
            |worst| format!("{}{}", of(&worst.subject), value(worst)),
        );
        let _ = writeln!(
            text,
            "{:<38} {limit:>10} {exceeded:>13} {:>9}  {measured}",
            threshold.label(),
            congestion.times_entered(*threshold),
        );
    }
    let services = congestion.verdict().services;
    for service in &services {
        let _ = writeln!(text, "Congested service: {} {}", service.context, service.service);
    }
    text.push('\n');
    let rows = |row: &telemetry::counters::Descriptor| row.id.starts_with("congestion::");
    text.push_str(&sections(rows, |counter| counters.sum(counter)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::{Measurement, Subject};
    use bus::messages::rmctrl::CongestedService;
    use config::Config;

    #[test]
    fn thresholds_have_the_fields_of_the_reference() {
        let config = Config::parse("threshold cpu-crypto-cores-utilization 80 clear 10\n").unwrap();
        assert_eq!(
            configured(&config.thresholds),
            "Threshold operation model: ALARM\n\nConfigured thresholds:\n  \
             Name:            crypto-cores-utilization\n  Config Scope:    SYSTEM\n  \
             Threshold:       80%\n  Clear Threshold: 10%\n  Poll interval:   300 seconds\n"
        );
        assert!(configured(&Thresholds::default()).ends_with("Configured thresholds:\n"));
    }

    #[test]
    fn thresholds_of_congestion_are_shown() {
        let config = Config::parse(
            "congestion-control\ncongestion-control policy wsg-service action reject\n\
             no congestion-control threshold system-cpu-utilization\n\
             congestion-control threshold port-specific 1/10 rx-utilization 40\n",
        )
        .unwrap();
        let text = congestion_configuration(&config.congestion);
        for line in [
            "Congestion-control: enabled\n",
            "  message queue wait time:               5 seconds\n",
            "  system cpu utilization:                not watched\n",
            "  port specific 1/10:                    rx 40%, tx as above\n",
            "  wsg-service:                           reject\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn the_state_is_shown_with_what_was_measured() {
        let directory = std::env::temp_dir().join(format!("rmctrl-show-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let reader = Reader::open(&directory).unwrap();
        let mut congestion = Congestion::default();
        assert!(congestion_statistics(&congestion, &reader).contains(": Disabled\n"));
        let config =
            Config::parse("congestion-control\ncongestion-control policy wsg-service action drop\n").unwrap();
        congestion.configure(&config.congestion);
        congestion.judge(Vec::new());
        assert!(congestion_statistics(&congestion, &reader).contains(": Cleared\n"));
        let service = CongestedService {
            context: "isp".into(),
            service: "enb".into(),
        };
        congestion.judge(vec![Measurement {
            threshold: CongestionThreshold::MaxSessions,
            subject: Subject::Service(service),
            value: 8_125,
        }]);
        let text = congestion_statistics(&congestion, &reader);
        assert!(
            text.contains("status : Applied\n") && text.contains("applied        : 1 times\n"),
            "{text}"
        );
        let line = text
            .lines()
            .find(|line| line.starts_with("max sessions"))
            .unwrap();
        let words: Vec<_> = line.split_whitespace().skip(5).collect();
        assert_eq!(words, ["80%", "Yes", "1", "isp", "enb", "81.25%"]);
        assert!(text.contains("Congested service: isp enb\n"), "{text}");
        assert!(text.contains("Congestion Control:\n"), "{text}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
