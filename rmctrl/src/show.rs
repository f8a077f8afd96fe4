//! The `show` commands of the resource manager.

pub(crate) mod cpu;
pub(crate) mod slots;
pub(crate) mod thresholds;

use std::fmt::Write;

use bus::messages::common::Output;
use bus::messages::rmctrl::{Leaving, SlotMap, SlotPart};
use bus::{Address, Facility};
use telemetry::Reader;
use telemetry::counters::{congestion, session};

use crate::load::Load;
use crate::manager::Manager;
use crate::slots::slots_of;
use crate::tasks::Task;
use crate::usage::{Verdict, allocation};

/// Heartbeats missed in a row from which a task is suspect.
const SUSPECT: u32 = 2;

/// `show crypto managers`: one line for each `ipsecmgr`, and their sum.
pub(crate) fn managers(manager: &Manager) -> String {
    let mut text = HEADING.to_owned();
    let mut sum = Load::default();
    for worker in 1..=manager.workers {
        let load = manager.loads.of(worker);
        text.push_str(&line(
            &worker.to_string(),
            slots_of(&manager.moves.map(), worker),
            &load,
        ));
        sum = add(sum, load);
    }
    text.push_str(RULE);
    text.push_str(&line(
        "Total",
        manager
            .moves
            .map()
            .managers
            .iter()
            .filter(|&&worker| worker > 0)
            .count(),
        &sum,
    ));
    text
}

/// `show crypto managers summary`: the sum of all.
pub(crate) fn managers_summary(manager: &Manager) -> String {
    let loads = (1..=manager.workers).map(|worker| manager.loads.of(worker));
    let sum = loads.fold(Load::default(), add);
    let slots = manager
        .moves
        .map()
        .managers
        .iter()
        .filter(|&&worker| worker > 0)
        .count();
    let mut text = String::from("IPSec Managers Summary\n");
    field(&mut text, "Managers", manager.workers);
    field(&mut text, "Slots", slots);
    load_fields(&mut text, &sum);
    text
}

/// `show crypto managers INSTANCE`: all about one `ipsecmgr`. Fails when there is none of this number.
pub(crate) fn manager(manager: &Manager, instance: &str) -> Result<String, String> {
    let worker = instance
        .parse()
        .ok()
        .filter(|worker| (1..=manager.workers).contains(worker))
        .ok_or_else(|| {
            format!(
                "there is no ipsecmgr {instance}; instances are 1 to {}",
                manager.workers
            )
        })?;
    let mut text = format!("IPSec Manager Instance: {worker}\n");
    field(&mut text, "Demux Card", "1/0");
    let map = manager.moves.map();
    field(&mut text, "Slots", slots_of(&map, worker));
    field(&mut text, "Slot numbers", ranges(&map.managers, worker));
    let data = map.data.iter().filter(|&&owner| owner == worker).count();
    field(&mut text, "Slots of its data plane", data);
    field(&mut text, "Their numbers", ranges(&map.data, worker));
    field(&mut text, "Slots on their way", on_their_way(&map, worker));
    load_fields(&mut text, &manager.loads.of(worker));
    if let Ok(reader) = Reader::open(&manager.counters) {
        let name = Facility::Ipsecmgr.name();
        let value = |counter| reader.instance(name, worker, counter).unwrap_or(0);
        field(
            &mut text,
            "Room of IKE sockets in use",
            format!("{}%", value(congestion::QUEUE)),
        );
        field(&mut text, "New peers dropped", value(congestion::WSG_DROPPED));
        field(&mut text, "New peers rejected", value(congestion::WSG_REJECTED));
    }
    // The worker is three tasks, and each has its share of the work.
    for facility in [Facility::Ipsecmgr, Facility::Iftask, Facility::Sessmgr] {
        let address = Address::new(facility, worker);
        let Some((_, task)) = manager.tasks.iter().find(|(found, _)| *found == address) else {
            continue;
        };
        let usage = format!(
            "{}, memory {}, {}",
            percent(task.usage.cpu),
            memory(task.usage.memory),
            verdict(address, task).name()
        );
        field(
            &mut text,
            &format!("Processor time of {}", facility.name()),
            usage,
        );
    }
    Ok(text)
}

fn field(text: &mut String, label: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "  {label:<28}: {value}");
}

fn load_fields(text: &mut String, load: &Load) {
    field(text, "Current IKE SAs", load.ike_sas);
    field(text, "Current Half Open IKE SAs", load.half_open);
    field(text, "Current Child SAs", load.child_sas);
    field(text, "Total IKE SAs", load.total);
    field(text, "Total Setup Failures", load.failures);
    field(text, "Setups per second", tenths(load.setups));
    field(text, "IKE packets per second", tenths(load.packets));
}

/// `show task resources`: heading and lines, of one facility or one instance if wanted.
pub(crate) fn task_resources(manager: &Manager, facility: Option<&str>, instance: Option<u32>) -> Output {
    let reader = Reader::open(&manager.counters).ok();
    let wanted = |address: Address| {
        facility.is_none_or(|facility| facility.eq_ignore_ascii_case(address.facility.name()))
            && instance.is_none_or(|instance| instance == address.instance)
    };
    let lines = manager
        .tasks
        .iter()
        .filter(|(address, _)| wanted(*address))
        .map(|(address, task)| {
            let sessions = reader
                .as_ref()
                .filter(|_| address.facility == Facility::Sessmgr)
                .map(|reader| {
                    let name = address.facility.name();
                    let current = reader.instance(name, address.instance, session::CURRENT_CALLS);
                    // A session needs a child SA at least, and a slot has room for so many.
                    let most = slots_of(&manager.moves.map(), address.instance) * sadb::DEFAULT_CAPACITY;
                    (current.unwrap_or(0), most as u64)
                });
            resources_line(address, task, sessions)
        });
    Output {
        heading: RESOURCES_HEADING.to_owned(),
        text: lines.collect(),
        ..Output::default()
    }
}

const RESOURCES_HEADING: &str = concat!(
    "                   task   cputime        memory     files      sessions\n",
    " cpu facility      inst  used  allc   used  alloc used allc  used  allc S status\n",
    "----------------------- ----------- ------------- --------- ------------- ------\n",
);

fn resources_line(address: Address, task: &Task, sessions: Option<(u64, u64)>) -> String {
    let (usage, allowed) = (&task.usage, allocation(address.facility));
    let (current, most) = match sessions {
        Some((current, most)) => (count(current), count(most)),
        None => ("--".to_owned(), "--".to_owned()),
    };
    // `I`: initialised and in service.
    format!(
        " 1/0 {:<12}{:>6}{:>6} {:>4}% {:>6} {:>6} {:>4} {:>4} {:>5} {:>5} I {:>6}\n",
        address.facility.name(),
        address.instance,
        percent(usage.cpu),
        allowed.cpu,
        memory(usage.memory),
        memory(allowed.memory),
        usage.files,
        allowed.files,
        current,
        most,
        verdict(address, task).name(),
    )
}

fn verdict(address: Address, task: &Task) -> Verdict {
    match task.usage.verdict(allocation(address.facility)) {
        Verdict::Good if task.missed >= SUSPECT => Verdict::Warn,
        verdict => verdict,
    }
}

/// A number of sessions in five columns: `12000`, `2097k`.
fn count(value: u64) -> String {
    match value {
        0..100_000 => value.to_string(),
        _ => format!("{}k", value / 1_000),
    }
}

/// Hundredths of a percent.
fn percent(hundredths: u64) -> String {
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// `126.9M`, and `2.00G` for what would not fit six columns in mebibytes.
fn memory(octets: u64) -> String {
    let tenths = octets.saturating_mul(10) >> 20;
    if tenths < 10_000 {
        return format!("{}M", self::tenths(tenths));
    }
    let hundredths = octets.saturating_mul(100) >> 30;
    format!("{}.{:02}G", hundredths / 100, hundredths % 100)
}

const HEADING: &str = concat!(
    "ipsecmgr  Demux              IKE    Half-open      Child      Setups  IKE pkts\n",
    "Instance  Card   Slots       SAs      IKE SAs        SAs       per s     per s\n",
    "--------  -----  -----  --------  -----------  ---------  ----------  --------\n",
);
const RULE: &str = "--------  -----  -----  --------  -----------  ---------  ----------  --------\n";

fn line(instance: &str, slots: usize, load: &Load) -> String {
    format!(
        "{instance:>8}  {:<5}  {slots:>5}  {:>8}  {:>11}  {:>9}  {:>10}  {:>8}\n",
        "1/0",
        load.ike_sas,
        load.half_open,
        load.child_sas,
        tenths(load.setups),
        tenths(load.packets),
    )
}

fn add(a: Load, b: Load) -> Load {
    Load {
        ike_sas: a.ike_sas.saturating_add(b.ike_sas),
        half_open: a.half_open.saturating_add(b.half_open),
        child_sas: a.child_sas.saturating_add(b.child_sas),
        setups: a.setups.saturating_add(b.setups),
        packets: a.packets.saturating_add(b.packets),
        total: a.total.saturating_add(b.total),
        failures: a.failures.saturating_add(b.failures),
    }
}

fn tenths(value: u64) -> String {
    format!("{}.{}", value / 10, value % 10)
}

/// How many parts of slots come to a worker or leave it just now.
fn on_their_way(map: &SlotMap, worker: u32) -> usize {
    let concerns = |entry: &&Leaving| {
        let slot = u8::try_from(entry.slot).unwrap_or(0);
        let to = SlotPart::try_from(entry.part)
            .ok()
            .and_then(|part| map.owner(part, slot));
        entry.from == worker || to == Some(worker)
    };
    map.leaving.iter().filter(concerns).count()
}

/// The slots of a worker in few words: `1-255`, or `1 3 5 7 ... (128 in all)`.
fn ranges(workers: &[u32], worker: u32) -> String {
    const MOST: usize = 8;
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (slot, _) in (1u32..).zip(workers).filter(|(_, owner)| **owner == worker) {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == slot => *end = slot,
            _ => runs.push((slot, slot)),
        }
    }
    let mut words: Vec<_> = runs
        .iter()
        .take(MOST)
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    if runs.len() > MOST {
        words.push("...".into());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moves::Moves;
    use crate::slots::slot_map;
    use crate::usage::Usage;

    fn manager_of(workers: u32) -> Manager {
        Manager::new(workers, "/nonexistent".into(), Moves::none(slot_map(workers)))
    }

    #[test]
    fn resources_have_the_columns_of_the_reference() {
        let sessmgr = Address::new(Facility::Sessmgr, 4);
        let usage = Usage {
            cpu: 40,
            memory: 224_082_330,
            files: 32,
            ..Usage::default()
        };
        let task = Task {
            pid: 4_711,
            usage,
            ..Task::default()
        };
        let line = resources_line(sessmgr, &task, Some((12, 2_097_152)));
        let columns: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            columns,
            [
                "1/0", "sessmgr", "4", "0.40%", "110%", "213.7M", "2.00G", "32", "1024", "12", "2097k", "I",
                "good"
            ]
        );
        let suspect = resources_line(
            sessmgr,
            &Task {
                missed: SUSPECT,
                ..task.clone()
            },
            None,
        );
        assert!(suspect.ends_with("   --    -- I   warn\n"), "{suspect}");
        let over = Task {
            usage: Usage {
                files: 5_000,
                ..Usage::default()
            },
            ..task
        };
        assert!(resources_line(sessmgr, &over, None).ends_with("over\n"));
    }

    #[test]
    fn memory_fits_its_column() {
        let cases = [
            (0, "0.0M"),
            (999 << 20, "999.0M"),
            (1_000 << 20, "0.97G"),
            (4_096 << 20, "4.00G"),
            (300 << 30, "300.00G"),
        ];
        for (octets, text) in cases {
            assert_eq!(memory(octets), text);
        }
        let widest = (0..40).map(|power| memory((1 << power) - 1).len()).max();
        assert_eq!(widest, Some(7), "up to 99 GiB have six columns");
    }

    #[test]
    fn every_manager_has_a_line() {
        let text = managers(&manager_of(2));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3 + 2 + 2, "{text}");
        let words: Vec<_> = lines[3].split_whitespace().collect();
        assert_eq!(words, ["1", "1/0", "128", "0", "0", "0", "0.0", "0.0"]);
        assert!(
            lines[0].ends_with("  IKE pkts") && lines[1].ends_with("     per s"),
            "{text}"
        );
        assert!(lines[6].starts_with("   Total  1/0      255"), "{text}");
    }

    #[test]
    fn the_sum_stands_alone() {
        let text = managers_summary(&manager_of(3));
        assert!(text.contains("  Managers                    : 3\n"), "{text}");
        assert!(text.contains("  Slots                       : 255\n"), "{text}");
        assert!(text.contains("  Setups per second           : 0.0\n"), "{text}");
    }

    #[test]
    fn one_manager_is_described_and_others_are_refused() {
        let text = super::manager(&manager_of(1), "1").unwrap();
        assert!(text.contains("Demux Card"), "{text}");
        assert!(text.contains("Slot numbers                : 1-255\n"), "{text}");
        let text = super::manager(&manager_of(2), "2").unwrap();
        assert!(text.contains(": 2 4 6 8 10 12 14 16 ...\n"), "{text}");
        for wrong in ["0", "3", "x"] {
            let failure = super::manager(&manager_of(2), wrong).unwrap_err();
            assert_eq!(
                failure,
                format!("there is no ipsecmgr {wrong}; instances are 1 to 2")
            );
        }
    }
}
