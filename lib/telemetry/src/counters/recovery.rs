//! What outlives an `ipsecmgr`. Variables of our own: the reference counts nothing here.

use super::{counters, wsg_state};

counters! {
    area "recovery", after wsg_state::END, facility "ipsecmgr", schema System;

    section "IKE Recovery Statistics", moved by "strongswan::recovery::tunnels_outlive_their_ipsecmgr" {
        RECORDS      Gauge   Bits32 "recovery-records"       "IKE SAs Kept For Recovery";
        RECORD_BYTES Gauge   Bits64 "recovery-record-bytes"  "Memory Of Their Records";
        SAVED        Counter Bits64 "recovery-saved"         "Records Written";
        NOT_SAVED    Counter Bits64 "recovery-not-saved"     "Records Without Room";
        RECOVERED    Counter Bits64 "recovery-recovered"     "IKE SAs Recovered";
        LOST         Counter Bits64 "recovery-lost"          "IKE SAs Lost";
    }
}
