//! Congestion control, as the `ipsecmgr`s see and enforce it.

use super::{counters, recovery};

counters! {
    area "congestion", after recovery::END, facility "ipsecmgr", schema System;

    section "Congestion Control", moved by "node::congestion::new_peers_are_refused_while_tunnels_go_on" {
        WSG_DROPPED          Counter Bits32 "cong-wsg-dropped"     "New WSG Peers Dropped";
        WSG_REJECTED         Counter Bits32 "cong-wsg-rejected"    "New WSG Peers Rejected";
        WSG_REDIRECTED       Counter Bits32 "cong-wsg-redirected"  "New WSG Peers Redirected";
        QUEUE                Gauge   Bits32 "cong-ike-queue"       "Fullest IKE Socket, Percent";
    }
}
