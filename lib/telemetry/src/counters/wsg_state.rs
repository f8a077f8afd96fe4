//! Whether each `wsg-service` runs, told by the one who knows: the `ipsecmgr` of each worker.

use super::{counters, ippool};

counters! {
    area "wsg_state", after ippool::END, facility "ipsecmgr", schema Wsg;

    section "WSG Service State", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        SERVING              Gauge   Bits32 "wsg-serving-managers" "IPSec managers that serve it";
    }
}
