//! One set for each pool of addresses (IPv4) or prefixes (IPv6), kept in pages scoped to (context, pool). What is in no set is free.

use super::{counters, wsg};

counters! {
    area "ippool", after wsg::END, facility "sessmgr", schema IpPool;

    section "IP Pool Statistics", moved by "strongswan::remote_access::both_families_are_assigned_and_freed" {
        USED                 Gauge   Bits32 "used"                 "Addresses used";
        HOLD                 Gauge   Bits32 "hold"                 "Addresses held";
    }
}
