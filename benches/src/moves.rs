//! Slots of our gateway go from one worker to another while their tunnels carry packets.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use crate::crowd::far;
use crate::gateway::{Gateway, Kind, Setting};
use crate::kills::{CARRIERS, Heard, LIMIT, carry};
use crate::rows::Row;
use crate::starward::{peers, show, simulate};
use crate::summary::Measured;
use crate::world::Ground;

const ROWS: [Row; 3] = [Row::MovePackets, Row::MoveHeld, Row::MoveGap];
/// Packets a second of all tunnels.
const RATE: &str = "32000";
const TRAFFIC_MS: &str = "12000";
/// Of even load before the first move.
const BEFORE: Duration = Duration::from_secs(1);
/// Moves of one run: each takes some 200 ms, most of which its former owner only remembers it.
const MOVES: usize = 24;

/// Moves slots to and fro, `runs` times on a fresh gateway.
pub fn measure(ground: &Ground, runs: usize, measured: &mut Measured) {
    for run in 0..runs {
        eprintln!(
            "{MOVES} slot moves at {RATE} packets a second, run {} of {runs}",
            run + 1
        );
        match once(ground) {
            Ok(values) => {
                for (row, value) in ROWS.into_iter().zip(values) {
                    measured.add(Kind::Ours, row, value);
                }
            }
            Err(error) => return measured.fail(Kind::Ours, &ROWS, &error),
        }
    }
}

/// Packets lost, packets held, longest gap in milliseconds.
fn once(ground: &Ground) -> Result<[f64; 3], String> {
    let setting = Setting::default();
    let gateway = Gateway::start(ground, Kind::Ours, &setting)?;
    let world = &gateway.world;
    // The moves are ours, not the policy's.
    show(world, &["configure", "no crypto slot-rebalancing", "end"])?;
    let mut far = far(&gateway)?;
    let mut arguments = peers(&setting);
    arguments.extend(
        carry(RATE, TRAFFIC_MS)
            .iter()
            .chain(&CARRIERS)
            .map(|word| (*word).to_owned()),
    );
    let mut traffic = simulate(world, &world.ran(), None, "traffic", &arguments)?;
    traffic.wait_until("flowing", LIMIT, |traffic| traffic.log().contains("flowing"))?;
    sleep(BEFORE);
    let mut owners = owners(&show(world, &["show crypto slots verbose"])?);
    let slots = slots(&show(world, &["show crypto ipsec security-associations"])?);
    if slots.is_empty() || owners.values().max() < Some(&2) {
        return Err("slots with tunnels and two workers are needed".to_owned());
    }
    for slot in slots.iter().cycle().take(MOVES) {
        let owner = owners.entry(*slot).or_insert(1);
        *owner = 3 - *owner;
        show(
            world,
            &[&format!("crypto slot move {slot} to {owner} data-plane")],
        )?;
    }
    let statistics = show(world, &["show iftask statistics"])?;
    let traffic = traffic.result(LIMIT)?;
    // The far end tells when nothing has come for a while.
    far.wait_until("told what came", LIMIT, |far| Heard::of(far, &traffic).is_ok())?;
    let heard = Heard::of(&far, &traffic)?;
    let held = of_all(&statistics, "Packets held for a slot to come");
    eprintln!(
        "  {} of {} packets lost, {held} held, longest gap {:.1} ms",
        heard.lost, heard.sent, heard.gap_ms
    );
    Ok([heard.lost as f64, held as f64, heard.gap_ms])
}

/// The worker of the data plane of each slot, from `show crypto slots verbose`.
pub(crate) fn owners(text: &str) -> BTreeMap<u32, u32> {
    let columns = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(str::parse);
        let [Some(Ok(slot)), Some(Ok(_)), Some(Ok(data))] = std::array::from_fn(|_| words.next()) else {
            return None;
        };
        Some((slot, data))
    });
    columns.collect()
}

/// The slots of all child SAs: the first octets of their SPIs.
pub(crate) fn slots(text: &str) -> Vec<u32> {
    let spis = text
        .lines()
        .filter_map(|line| line.split_once("Inbound SPI")?.1.split_once("0x"));
    let mut slots: Vec<u32> = spis
        .filter_map(|(_, spi)| u32::from_str_radix(spi.get(..2)?, 16).ok())
        .collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// The sum of a number that each instance shows.
fn of_all(text: &str, label: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == label).then(|| value.trim().parse::<u64>().ok())?
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_prints_is_understood() {
        let text = "Slot   Manager    Plane\n----  --------  -------\n   7         1        2         0  1  5\n   8         1        1\n";
        assert_eq!(owners(text), BTreeMap::from([(7, 2), (8, 1)]));
        let text = "  Inbound SPI: 0x07c00001  \n  Outbound SPI: 0x12345678\n  Inbound SPI : 0xff000002\n  Inbound SPI: 0x07000003\n";
        assert_eq!(slots(text), [7, 255]);
        let text = "iftask instance 1:\n    Packets held for a slot to come     :    5\n    Packets held for a slot to come     :    6\n";
        assert_eq!(of_all(text, "Packets held for a slot to come"), 11);
    }
}
