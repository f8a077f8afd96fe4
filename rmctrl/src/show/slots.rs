//! `show crypto slots`.

use bus::messages::rmctrl::{MovePhase, SlotMap, SlotPart};

use crate::carried::{Carried, Load};
use crate::moves::name;

const HEADING: &str = concat!(
    "         IPSec     Data               IKE      Child     Packets\n",
    "Slot   Manager    Plane  Output       SAs        SAs       per s  Moves\n",
    "----  --------  -------  ------  --------  ---------  ----------  -------------------\n",
);

/// One line for each slot that has anything or is being moved, or for each one.
pub(crate) fn slots(map: &SlotMap, carried: &Carried, all: bool) -> String {
    let mut text = HEADING.to_owned();
    for slot in 1u8..=u8::MAX {
        let load = carried.of(slot.into());
        let moves: Vec<_> = [SlotPart::Manager, SlotPart::Data]
            .into_iter()
            .filter_map(|part| {
                let (entry, phase) = map.leaving_of(part, slot)?;
                Some(format!("{} from {}, {}", name(part), entry.from, words(phase)))
            })
            .collect();
        let owner = |part| map.owner(part, slot).unwrap_or(0);
        let is_handed_on = owner(SlotPart::Output) != owner(SlotPart::Data);
        if !all && moves.is_empty() && !is_handed_on && load == Load::default() {
            continue;
        }
        let line = format!(
            "{slot:>4}  {:>8}  {:>7}  {:>6}  {:>8}  {:>9}  {:>10}  {}",
            owner(SlotPart::Manager),
            owner(SlotPart::Data),
            owner(SlotPart::Output),
            load.ike_sas,
            load.child_sas,
            load.packets,
            moves.join("; ")
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How far a move is.
fn words(phase: MovePhase) -> &'static str {
    match phase {
        MovePhase::Preparing => "preparing",
        MovePhase::Steered => "letting go",
        MovePhase::Released => "taking over",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::messages::rmctrl::Leaving;

    #[test]
    fn slots_that_move_are_shown_with_their_move() {
        let mut map = SlotMap::of_workers(vec![1; 255]);
        map.data[6] = 2;
        map.leaving.push(Leaving {
            slot: 7,
            part: SlotPart::Data as i32,
            from: 1,
            phase: MovePhase::Steered as i32,
            version: 2,
        });
        let text = slots(&map, &Carried::default(), false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        let words: Vec<_> = lines[3].split_whitespace().collect();
        assert_eq!(
            words,
            [
                "7",
                "1",
                "2",
                "2",
                "0",
                "0",
                "0",
                "data-plane",
                "from",
                "1,",
                "letting",
                "go"
            ]
        );
        map.give(SlotPart::Output, 9, 2);
        let text = slots(&map, &Carried::default(), false);
        assert!(
            text.ends_with("   9         1        1       2         0          0           0\n"),
            "{text}"
        );
        let all = slots(&map, &Carried::default(), true);
        assert_eq!(all.lines().count(), 3 + 255);
        assert!(
            all.ends_with(" 255         1        1       1         0          0           0\n"),
            "{all}"
        );
    }
}
