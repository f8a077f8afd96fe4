//! Moves of slots between workers.

use super::{congestion, counters};

counters! {
    area "slots", after congestion::END, facility "rmctrl", schema System;

    section "Moves of Slots", moved by "strongswan::slots::a_slot_goes_to_and_fro_and_nothing_is_lost" {
        MOVED                Counter Bits64 "slots-moved"          "Parts of Slots Moved";
        MOVE_FAILED          Counter Bits64 "slots-move-failed"    "Moves of Parts of Slots Failed";
    }
}
