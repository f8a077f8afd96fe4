//! Processes of our gateway are killed under load.
//!
//! A crowd of tunnels is there and is asked afterwards which of them still are; a few others carry packets; and set-ups go on, whose requests are repeated
//! every 20 ms, so that the longest of them is as long as nobody answered.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::crowd::{VISITORS, far};
use crate::gateway::{Gateway, Kind, Setting};
use crate::process::Running;
use crate::rows::Row;
use crate::setup::count;
use crate::starward::{peers, simulate};
use crate::summary::Measured;
use crate::world::{Ground, HOST};

/// Everything is over within this time.
pub const LIMIT: Duration = Duration::from_secs(600);
/// Of even load before the kill.
const BEFORE: Duration = Duration::from_secs(1);
/// Seconds after the last set-up of the crowd at which its tunnels are asked for.
const STAY: Duration = Duration::from_secs(10);
/// What a gateway has to notice a kill, at least, before that.
const AFTER: Duration = Duration::from_secs(4);
/// Tunnels that carry packets, one flow each.
const FLOWS: &str = "16";
/// Packets a second of all of them: one in a millisecond in each.
const RATE: &str = "16000";
const TRAFFIC_MS: &str = "7000";
/// Inner addresses of those.
pub const CARRIERS: [&str; 4] = ["--inner", "10.126.0.1", "--identity-prefix", "carrier"];
const IMPATIENT: [&str; 5] = ["--retransmit-ms", "20", "--retransmissions", "250", "--steady"];
/// When those give up, in milliseconds: a set-up that failed took so long at least.
const GIVEN_UP: f64 = 5020.0;

/// What the tunnels that carry packets are told: so many packets a second in all, for so many milliseconds.
pub fn carry<'a>(rate: &'a str, ms: &'a str) -> [&'a str; 10] {
    [
        "--tunnels",
        FLOWS,
        "--far",
        HOST,
        "--length",
        "200",
        "--rate",
        rate,
        "--ms",
        ms,
    ]
}

/// Kills each process `runs` times, each time on a fresh gateway.
pub fn measure(ground: &Ground, tunnels: u32, runs: usize, measured: &mut Measured) {
    let victims: [(&str, &[Row]); 2] = [
        (
            "ipsecmgr",
            &[Row::IpsecmgrTunnels, Row::IpsecmgrPackets, Row::IpsecmgrTime],
        ),
        ("iftask", &[Row::IftaskTunnels, Row::IftaskTime]),
    ];
    for (facility, rows) in victims {
        for run in 0..runs {
            eprintln!(
                "kill -9 of {facility} with {tunnels} tunnels, run {} of {runs}",
                run + 1
            );
            match once(ground, facility, tunnels) {
                Ok(outcome) => {
                    for row in rows {
                        measured.add(Kind::Ours, *row, outcome.value(*row));
                    }
                    let first = rows.first().copied().unwrap_or(Row::IpsecmgrTunnels);
                    measured.disturbed(Kind::Ours, first, "set-ups failed", outcome.failed);
                }
                Err(error) => {
                    measured.fail(Kind::Ours, rows, &error);
                    break;
                }
            }
        }
    }
}

struct Outcome {
    /// Of the crowd, and of those that carried packets.
    tunnels: u64,
    packets: u64,
    /// Without packets in any one tunnel, in milliseconds; to the planned end where none came any more.
    gap: f64,
    /// Of a set-up, in milliseconds.
    setup: f64,
    /// Set-ups that failed.
    failed: u64,
}

impl Outcome {
    fn value(&self, row: Row) -> f64 {
        match row {
            Row::IpsecmgrPackets => self.packets as f64,
            Row::IpsecmgrTime => self.setup,
            Row::IftaskTime => self.gap,
            _ => self.tunnels as f64,
        }
    }
}

fn once(ground: &Ground, facility: &str, tunnels: u32) -> Result<Outcome, String> {
    let setting = Setting::default();
    let gateway = Gateway::start(ground, Kind::Ours, &setting)?;
    let world = &gateway.world;
    let far = far(&gateway)?;
    let start = |command: &str, more: &[&str], others: &[&str], locals: &str| -> Result<Running, String> {
        let mut arguments = peers(&setting);
        // Several simulators share no port: each has an address of its own.
        if let Some(place) = arguments.iter().position(|word| word == "--local")
            && let Some(local) = arguments.get_mut(place + 1)
        {
            *local = locals.to_owned();
        }
        arguments.extend(more.iter().chain(others).map(|word| (*word).to_owned()));
        simulate(world, &world.ran(), None, command, &arguments)
    };
    let [first, second, third, fourth] = crate::world::INITIATORS;
    let crowd = [
        "--count",
        &tunnels.to_string(),
        "--stay",
        &STAY.as_secs().to_string(),
        "--keep",
    ];
    let mut crowd = start("load", &crowd, &[], &format!("{first},{second}"))?;
    crowd.wait_until("set up", LIMIT, |crowd| crowd.log().contains("set-ups are over"))?;
    let begun = Instant::now();
    let mut traffic = start("traffic", &carry(RATE, TRAFFIC_MS), &CARRIERS, third)?;
    traffic.wait_until("flowing", LIMIT, |traffic| traffic.log().contains("flowing"))?;
    let visits = ["--count", "500", "--rate", "100", "--concurrent", "500"];
    let visitors = start("load", &visits, &[&VISITORS[..], &IMPATIENT].concat(), fourth)?;
    sleep(BEFORE);
    let victim = gateway.cost()?.pids.into_iter().find(|pid| is(*pid, facility));
    let victim = victim.ok_or_else(|| format!("there is no {facility}"))?;
    kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL)
        .map_err(|error| format!("kill {facility}: {error}"))?;
    if begun.elapsed() + AFTER > STAY {
        return Err(
            "this machine is too busy: the tunnels would have been asked for before the kill was felt"
                .to_owned(),
        );
    }
    let visited = visitors.result(LIMIT)?;
    let traffic = traffic.result(LIMIT)?;
    let crowd = crowd.result(LIMIT)?;
    let heard = Heard::of(&far, &traffic)?;
    let failed = sum(&visited["failed"]);
    let longest = visited["setup_us"]["max"].as_f64().unwrap_or_default() / 1000.0;
    let outcome = Outcome {
        tunnels: sum(&crowd["lost"]) + count(&traffic, "tunnels_lost"),
        packets: heard.lost,
        gap: heard.gap_ms,
        setup: if failed > 0 {
            GIVEN_UP.max(longest)
        } else {
            longest
        },
        failed,
    };
    eprintln!(
        "  {} tunnels and {} of {} packets lost, longest gap {:.1} ms, longest set-up {:.1} ms, {} set-ups failed",
        outcome.tunnels, outcome.packets, heard.sent, outcome.gap, outcome.setup, outcome.failed,
    );
    Ok(outcome)
}

/// What came of the packets of a run.
pub struct Heard {
    pub sent: u64,
    pub lost: u64,
    /// The longest time without packets in any one tunnel, in milliseconds; to the planned end where none came any more.
    pub gap_ms: f64,
}

impl Heard {
    /// By the result of `sim traffic` and the log of the far end, which says by itself what it received: if every tunnel was lost nobody could ask it.
    pub fn of(far: &Running, traffic: &Value) -> Result<Self, String> {
        let log = far.log();
        let heard = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .rfind(|line| line["run"] == traffic["run"])
            .ok_or("the far end received nothing")?;
        let sent = count(&traffic["up"], "sent");
        let gap = heard["received"]["longest_gap_us"].as_f64();
        Ok(Self {
            sent,
            lost: sent.saturating_sub(count(&heard["received"], "received")),
            gap_ms: gap.ok_or("the far end tells no gap")? / 1000.0,
        })
    }
}

/// Whether a process is an instance of this facility.
fn is(pid: u32, facility: &str) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|octet| *octet == 0).nth(1) == Some(facility.as_bytes())
}

/// Of the numbers of an object.
fn sum(causes: &Value) -> u64 {
    let numbers = causes.as_object().into_iter().flat_map(|causes| causes.values());
    numbers.filter_map(Value::as_u64).sum()
}
