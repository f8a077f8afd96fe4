//! Sessions, as `sessmgr` counts them over all services.

use super::{counters, ipsec};

counters! {
    area "session", after ipsec::END, facility "sessmgr", schema System;

    section "Session Statistics", moved by "strongswan::remote_access::an_ipv4_address_is_assigned" {
        CURRENT_CALLS        Gauge   Bits32 "sess-curttlcalls"     "In-progress calls"
            reported as starSessInProgCalls;
        CURRENT_ACTIVE       Gauge   Bits32 "sess-curactcall"      "In-progress active calls"
            reported as starSessInProgActiveCalls;
        CURRENT_ARRIVED      Gauge   Bits32 "sess-curarrived"      "Calls in ARRIVED state"
            reported as starSessInProgArrived;
        CURRENT_SIMPLE_IP    Gauge   Bits32 "sess-cursipconn"      "Calls in SIMPLE-IP CONNECTED state"
            reported as starSessInProgSIPConn;
        CURRENT_DISCONNECTING Gauge  Bits32 "sess-curdisc"         "Calls in DISCONNECTING state"
            reported as starSessInProgDisc;
        ARRIVED              Counter Bits32 "sess-ttlarrived"      "Total calls arrived"
            reported as starSessTtlArrived;
        REJECTED             Counter Bits32 "sess-ttlrejected"     "Total calls rejected"
            reported as starSessTtlRejected;
        CONNECTED            Counter Bits32 "sess-ttlconnected"    "Total calls connected"
            reported as starSessTtlConnected;
        FAILED               Counter Bits32 "sess-ttlfailed"       "Total calls failed";
        DISCONNECTED         Counter Bits32 "sess-ttldisconn"      "Total calls disconnected";
        TX_OCTETS            Counter Bits64 "sess-txbytes"         "Total octets sent to peers"
            reported as starSessTtlTxBytes, starSessTtlTxBytesRev1;
        RX_OCTETS            Counter Bits64 "sess-rxbytes"         "Total octets received from peers"
            reported as starSessTtlRxBytes, starSessTtlRxBytesRev1;
        TX_PACKETS           Counter Bits64 "sess-txpackets"       "Total packets sent to peers";
        RX_PACKETS           Counter Bits64 "sess-rxpackets"       "Total packets received from peers";
    }

    section "WSG Session Statistics", moved by "strongswan::remote_access::an_ipv4_address_is_assigned" {
        WSG_CURRENT          Gauge   Bits32 "wsg-cursess"          "Current sessions";
        WSG_ACTIVE           Gauge   Bits32 "wsg-curactive"        "Current active sessions";
        WSG_SETUP            Counter Bits32 "wsg-ttlsetup"         "Total sessions set up";
    }
}
