//! Congestion control, thresholds and what the node starts with: entered, printed, taken back, refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use config::{
    Config, CongestionAction, CongestionThreshold, Exec, PortId, Privilege, Threshold, boot_tasks, check,
    tree,
};

fn printed(lines: &str) -> String {
    let text = Config::parse(lines).unwrap().to_text();
    let ours = ["congestion", "threshold", "require", "task "];
    let is_ours = |line: &&str| {
        let line = line.trim_start().trim_start_matches("no ");
        ours.iter().any(|word| line.starts_with(word))
    };
    text.lines()
        .map(str::trim)
        .filter(is_ours)
        .collect::<Vec<_>>()
        .join("\n")
}

/// What a line is refused with at the top.
fn refusal(line: &str) -> String {
    let (mut config, mut path) = (Config::default(), command::Path::default());
    tree()
        .apply(&mut config, &mut path, line, &|_| Ok(String::new()))
        .unwrap_err()
        .to_string()
}

#[test]
fn congestion_control_prints_what_differs_and_takes_it_back() {
    let lines = "congestion-control\n\
                 congestion-control policy wsg-service action reject\n\
                 congestion-control threshold max-sessions-per-service-utilization 50\n\
                 congestion-control threshold message-queue-wait-time 12\n\
                 no congestion-control threshold system-cpu-utilization\n\
                 congestion-control threshold port-specific all tx-utilization 70\n\
                 congestion-control threshold port-specific 1/10\n\
                 congestion-control threshold tolerance 5";
    assert_eq!(printed(lines), lines);
    let config = Config::parse(lines).unwrap();
    let congestion = &config.congestion;
    assert_eq!(
        (congestion.enabled, congestion.wsg),
        (true, CongestionAction::Reject)
    );
    assert_eq!(congestion.limit(CongestionThreshold::MessageWait), Some(12));
    assert_eq!(congestion.limit(CongestionThreshold::SystemCpu), None);
    assert_eq!(congestion.limit(CongestionThreshold::SystemMemory), Some(80));
    assert_eq!(
        congestion.port_limits(PortId { slot: 1, port: 11 }),
        Some((Some(80), Some(70)))
    );
    let undone = format!(
        "{lines}\nno congestion-control\n\
         default congestion-control policy wsg-service\n\
         default congestion-control threshold max-sessions-per-service-utilization\n\
         default congestion-control threshold message-queue-wait-time\n\
         default congestion-control threshold system-cpu-utilization\n\
         no congestion-control threshold port-specific all\n\
         no congestion-control threshold port-specific 1/10\n\
         default congestion-control threshold tolerance\n"
    );
    assert_eq!(printed(&undone), "");
    // The default value, entered, is nothing to print.
    assert_eq!(
        printed("congestion-control threshold system-cpu-utilization 80\n"),
        ""
    );
}

#[test]
fn thresholds_print_and_are_rounded() {
    let lines = "threshold cpu-crypto-cores-utilization 80 clear 10\n\
                 threshold poll cpu-crypto-cores-utilization interval 150";
    assert_eq!(printed(&lines.replace("150", "130")), lines);
    let config = Config::parse(lines).unwrap();
    let threshold = Threshold {
        high: 80,
        clear: Some(10),
    };
    assert_eq!(config.thresholds.crypto_cores, Some(threshold));
    assert_eq!(
        (
            threshold.low(),
            Threshold {
                clear: None,
                ..threshold
            }
            .low()
        ),
        (10, 80)
    );
    let undone = format!(
        "{lines}\ndefault threshold poll crypto-cores-utilization interval\nthreshold cpu-crypto-cores-utilization 0\n"
    );
    assert_eq!(printed(&undone), "");
}

#[test]
fn the_number_of_workers_follows_the_boot_configuration() {
    let workers = |lines: &str| boot_tasks(&format!("config\n{lines}\nend\n")).workers(4);
    assert_eq!(workers(""), 4);
    assert_eq!(workers("require ipsec-large"), 8);
    assert_eq!(
        workers("require ipsec-large\ntask facility ipsecmgr task-count 3"),
        3
    );
    assert_eq!(workers("task facility ipsecmgr task-count increased"), 8);
    let lines = "task facility ipsecmgr task-count increased\nrequire ipsec-large";
    assert_eq!(printed(lines), lines);
    assert_eq!(
        printed(&format!(
            "{lines}\nno require ipsec-large\nno task facility ipsecmgr task-count\n"
        )),
        ""
    );
}

#[test]
fn what_is_not_built_is_refused_in_words() {
    for (line, what) in [
        (
            "congestion-control policy epdg-service action drop",
            "congestion-control policy epdg-service",
        ),
        (
            "congestion-control threshold license-utilization 90",
            "congestion-control threshold license-utilization",
        ),
        ("threshold call-setup 10", "threshold call-setup"),
        ("threshold model alert", "threshold model"),
    ] {
        assert_eq!(refusal(line), format!("not supported: {what}"), "{line}");
    }
    assert!(
        refusal("threshold cpu-crypto-cores-utilization 50 clear 60").contains("cannot be cleared above")
    );
    assert!(refusal("congestion-control threshold message-queue-wait-time 31").contains("30"));
}

#[test]
fn half_a_congestion_control_is_told() {
    let findings = |lines: &str| {
        let findings = check(&format!("config\n{lines}\nend\n")).findings;
        findings
            .into_iter()
            .map(|(_, finding)| finding.message)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(findings("congestion-control").contains("there is no policy"));
    assert!(findings("congestion-control policy wsg-service action drop").contains("switches it on"));
    let service = "context local\nwsg-service s\nmax-sessions 5\n#exit\n#exit";
    assert!(findings(service).contains("max-sessions has no effect"));
    let whole = format!("congestion-control\ncongestion-control policy wsg-service action drop\n{service}");
    assert!(!findings(&whole).contains("no effect"), "{}", findings(&whole));
}

#[test]
fn commands_are_answered_by_the_resource_manager() {
    for (line, parameter) in [
        ("show cpu info card 1 cpu 0 crypto-cores", "crypto-cores"),
        ("show cpu info crypto", "crypto-cores"),
        ("show congestion-control statistics", "statistics"),
        ("show crypto managers summary", "summary"),
        ("show crypto managers 2", "instance"),
        ("show crypto managers instance 2", "instance"),
    ] {
        let (exec, args) = Exec::parse(line, Privilege::Operator).unwrap();
        let parameters = Exec::parameters(&args);
        assert!(
            parameters.iter().any(|(name, _)| name == parameter),
            "{line}: {parameters:?}"
        );
        assert_eq!(exec.answer(), config::Answer::One("rmctrl"), "{line}");
    }
    assert!(Exec::parse("show cpu info card 2", Privilege::Operator).is_err());
}
