//! Congestion control, thresholds, and how many workers there are.

use command::{Command, Keyword, Tree, lens};

use super::absent;
use crate::{
    Config, CongestionAction, CongestionThreshold, DEFAULT_THRESHOLD_POLL, PortId, PortLimits, Rebalancing,
    TaskCount, Threshold, Tolerance,
};

pub(super) fn declare(tree: &mut Tree<Config>) {
    let mut root = tree.root();
    root.explain("task", "Tasks")
        .explain("facility", "A facility")
        .explain("require", "Properties that the node starts with")
        .explain(
            "congestion-control",
            "Protects who is connected from overload by new peers",
        )
        .explain("policy", "What is done")
        .explain("threshold", "Values from which on something is done")
        .explain("poll", "How often it is looked at")
        .add(task_count())
        .add(Command::flag(
            "require ipsec-large",
            "Has two workers per processor where task-count says nothing (from the next start on)",
            lens!(tasks.ipsec_large),
            false,
        ))
        .add(Command::flag(
            "congestion-control",
            "Watches for overload and does what the policy says",
            lens!(congestion.enabled),
            false,
        ))
        .add(policy())
        .add(rebalancing());
    for threshold in CongestionThreshold::ALL {
        root.add(limit(*threshold));
    }
    root.add(port_specific())
        .add(tolerance())
        .add(crypto_cores())
        .add(crypto_cores_poll())
        .unsupported(UNSUPPORTED);
}

fn task_count() -> Command<Config> {
    let words = "task facility ipsecmgr'IPsec managers' task-count";
    Command::new(
        format!(
            "{words} {{normal'One per processor' | increased'Two per processor' | <count:1-255'So many'>}}"
        ),
        "Sets the number of workers (from the next start on)",
    )
    .undo("task facility ipsecmgr task-count")
    .set(|config: &mut Config, args| {
        config.tasks.ipsecmgr = match args.get("count")? {
            Some(count) => TaskCount::Exactly(count),
            None if args.has("increased") => TaskCount::Increased,
            None => TaskCount::Normal,
        };
        Ok(())
    })
    .unset(|config, _| {
        config.tasks.ipsecmgr = TaskCount::Normal;
        Ok(())
    })
    .show(|config, out| {
        let count = match config.tasks.ipsecmgr {
            TaskCount::Normal => return,
            TaskCount::Increased => "increased".to_owned(),
            TaskCount::Exactly(count) => count.to_string(),
        };
        out.line(format!("task facility ipsecmgr task-count {count}"));
    })
}

fn rebalancing() -> Command<Config> {
    let words = "crypto slot-rebalancing";
    Command::new(
        format!(
            "{words} [busy'Of the busiest data plane' <busy:50-100'Percent'>] \
             [difference'To the least busy one' <difference:5-50'Percentage points'>]"
        ),
        "Moves slots between data planes by their load",
    )
    .undo(words)
    .set(|config: &mut Config, args| {
        let initial = Rebalancing::default();
        config.rebalancing = Rebalancing {
            enabled: true,
            busy: args.get("busy")?.unwrap_or(initial.busy),
            difference: args.get("difference")?.unwrap_or(initial.difference),
        };
        Ok(())
    })
    .unset(|config, _| {
        config.rebalancing = Rebalancing {
            enabled: false,
            ..Rebalancing::default()
        };
        Ok(())
    })
    .reset(|config, _| {
        config.rebalancing = Rebalancing::default();
        Ok(())
    })
    .show(move |config, out| {
        let Rebalancing {
            enabled,
            busy,
            difference,
        } = config.rebalancing;
        let initial = Rebalancing::default();
        if !enabled {
            return out.line(format!("no {words}"));
        }
        let mut line = words.to_owned();
        if busy != initial.busy {
            line.push_str(&format!(" busy {busy}"));
        }
        if difference != initial.difference {
            line.push_str(&format!(" difference {difference}"));
        }
        if config.rebalancing != initial {
            out.line(line);
        }
    })
}

fn policy() -> Command<Config> {
    let words = "congestion-control policy wsg-service";
    Command::new(
        format!(
            "congestion-control policy wsg-service'Security gateway services' action'What new peers get' {{{}}}",
            CongestionAction::alternatives()
        ),
        "Sets what new peers get in congestion",
    )
    .undo(words)
    .set(|config: &mut Config, args| {
        config.congestion.wsg = args.need_keyword()?;
        Ok(())
    })
    .unset(|config, _| {
        config.congestion.wsg = CongestionAction::default();
        Ok(())
    })
    .show(move |config, out| {
        if config.congestion.wsg != CongestionAction::default() {
            out.line(format!("{words} action {}", config.congestion.wsg));
        }
    })
}

fn limit(threshold: CongestionThreshold) -> Command<Config> {
    let words = format!("congestion-control threshold {threshold}");
    let unit = match threshold {
        CongestionThreshold::MessageWait => "Seconds",
        _ => "Percent",
    };
    Command::new(
        format!(
            "congestion-control threshold {threshold}'{}' [<value:1-{}'{unit}; without it the default'>]",
            threshold.help(),
            threshold.most()
        ),
        "Sets a threshold of congestion",
    )
    .undo(&words)
    .set(move |config: &mut Config, args| {
        match args.get("value")?.filter(|value| *value != threshold.initial()) {
            None => config.congestion.limits.remove(&threshold),
            changed => config.congestion.limits.insert(threshold, changed),
        };
        Ok(())
    })
    .unset(move |config, _| {
        config.congestion.limits.insert(threshold, None);
        Ok(())
    })
    .reset(move |config, _| {
        config.congestion.limits.remove(&threshold);
        Ok(())
    })
    .show(
        move |config, out| match config.congestion.limits.get(&threshold) {
            Some(Some(value)) => out.line(format!("{words} {value}")),
            Some(None) => out.line(format!("no {words}")),
            None => {}
        },
    )
}

fn port_specific() -> Command<Config> {
    let words = "congestion-control threshold port-specific";
    let which = "{all'Every port' | <port:port'Slot and port'>}";
    Command::new(
        format!(
            "{words}'Watches ports by themselves' {which} [rx-utilization'Receive use' <rx:1-100'Percent'>] \
             [tx-utilization'Transmit use' <tx:1-100'Percent'>]"
        ),
        "Watches a port by itself",
    )
    .no(format!("{words} {which}"))
    .set(|config: &mut Config, args| {
        let limits = PortLimits {
            rx: args.get("rx")?,
            tx: args.get("tx")?,
        };
        match args.get("port")? {
            Some(port) => drop(config.congestion.ports.insert(port, limits)),
            None => config.congestion.all_ports = Some(limits),
        }
        Ok(())
    })
    .unset(|config, args| match args.get::<PortId>("port")? {
        Some(port) => match config.congestion.ports.remove(&port) {
            Some(_) => Ok(()),
            None => Err(absent(args, "port")),
        },
        None => {
            config.congestion.all_ports = None;
            Ok(())
        }
    })
    .show(move |config, out| {
        let congestion = &config.congestion;
        let all = congestion
            .all_ports
            .iter()
            .map(|limits| ("all".to_owned(), limits));
        let each = congestion
            .ports
            .iter()
            .map(|(port, limits)| (port.to_string(), limits));
        for (port, limits) in all.chain(each) {
            let mut line = format!("{words} {port}");
            for (word, value) in [("rx-utilization", limits.rx), ("tx-utilization", limits.tx)] {
                if let Some(value) = value {
                    line.push_str(&format!(" {word} {value}"));
                }
            }
            out.line(line);
        }
    })
}

fn tolerance() -> Command<Config> {
    let words = "congestion-control threshold tolerance";
    Command::new(
        format!("{words}'Below the threshold' <value:0-100'Percent'>"),
        "Sets how far below a threshold congestion ends",
    )
    .undo(words)
    .set(|config: &mut Config, args| {
        config.congestion.tolerance = Tolerance(args.need("value")?);
        Ok(())
    })
    .unset(|config, _| {
        config.congestion.tolerance = Tolerance::default();
        Ok(())
    })
    .show(move |config, out| {
        let Tolerance(value) = config.congestion.tolerance;
        if config.congestion.tolerance != Tolerance::default() {
            out.line(format!("{words} {value}"));
        }
    })
}

const CRYPTO_CORES: &str = "cpu-crypto-cores-utilization";

fn crypto_cores() -> Command<Config> {
    let words = format!("threshold {CRYPTO_CORES}");
    Command::new(
        format!(
            "threshold {CRYPTO_CORES}'Use of the processors of the data plane' <high:0-100'Percent; 0 is off'> \
             [clear'Below this the alarm is cleared' <low:0-100'Percent'>]"
        ),
        "Raises an alarm when a processor of the data plane is busy",
    )
    .undo(&words)
    .set(|config: &mut Config, args| {
        let (high, clear) = (args.need("high")?, args.get("low")?);
        if clear.is_some_and(|clear: u32| clear > high) {
            return Err(args.refuse("low", "the alarm cannot be cleared above where it is raised"));
        }
        config.thresholds.crypto_cores = (high > 0).then_some(Threshold { high, clear });
        Ok(())
    })
    .unset(|config, _| {
        config.thresholds.crypto_cores = None;
        Ok(())
    })
    .show(move |config, out| {
        if let Some(Threshold { high, clear }) = config.thresholds.crypto_cores {
            let clear = clear.map_or_else(String::new, |clear| format!(" clear {clear}"));
            out.line(format!("{words} {high}{clear}"));
        }
    })
}

/// Intervals are multiples of this many seconds.
const POLL_STEP: u32 = 30;

fn crypto_cores_poll() -> Command<Config> {
    let words = format!("threshold poll {CRYPTO_CORES} interval");
    // The second is how the reference's text spells it.
    let either = format!("threshold poll {{{CRYPTO_CORES} | ~crypto-cores-utilization}} interval");
    Command::new(
        format!("{words}'Time between two looks' <value:30-60000'Seconds, rounded up to a multiple of 30'>"),
        "Sets how often processors of the data plane are looked at",
    )
    .undo(&either)
    .set(|config: &mut Config, args| {
        let seconds: u32 = args.need("value")?;
        config.thresholds.crypto_cores_poll = seconds.next_multiple_of(POLL_STEP);
        Ok(())
    })
    .unset(|config, _| {
        config.thresholds.crypto_cores_poll = DEFAULT_THRESHOLD_POLL;
        Ok(())
    })
    .show(move |config, out| {
        let seconds = config.thresholds.crypto_cores_poll;
        if seconds != DEFAULT_THRESHOLD_POLL {
            out.line(format!("{words} {seconds}"));
        }
    })
}

/// Commands of StarOS that begin like ours and that later versions will have.
const UNSUPPORTED: &[&str] = &[
    "congestion-control overload-disconnect",
    "congestion-control policy critical",
    "congestion-control policy epdg-service",
    "congestion-control policy fng-service",
    "congestion-control policy ggsn-service",
    "congestion-control policy ha-service",
    "congestion-control policy hnbgw-service",
    "congestion-control policy hsgw-service",
    "congestion-control threshold license-utilization",
    "require crypto",
    "require demux",
    "task facility acsmgr",
    "task facility ipsecmgr ikev1",
    "task facility mmemgr",
    "task facility sessmgr",
    "threshold 10sec-cpu-utilization",
    "threshold aaa-acct-archive-size",
    "threshold aaa-acct-failure",
    "threshold aaa-auth-failure",
    "threshold aaa-retry-rate",
    "threshold aaamgr-request-queue",
    "threshold call-reject-no-resource",
    "threshold call-setup",
    "threshold call-setup-failure",
    "threshold cpu-available-memory",
    "threshold cpu-load",
    "threshold cpu-memory-usage",
    "threshold cpu-session-throughput",
    "threshold cpu-utilization",
    "threshold license",
    "threshold mgmt-cpu-memory-usage",
    "threshold mgmt-cpu-utilization",
    "threshold model",
    "threshold monitoring",
    "threshold total-subscriber",
];
