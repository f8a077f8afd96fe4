//! One set for each `wsg-service`, kept in pages scoped to (context, service).

use super::{aaa, counters};

counters! {
    area "wsg", after aaa::END, facility "sessmgr", schema Wsg;

    section "WSG Service Statistics", moved by "strongswan::remote_access::an_ipv4_address_is_assigned" {
        CURRENT_SESSIONS     Gauge   Bits32 "wsg-current-sessions-total" "Current sessions";
        CURRENT_ACTIVE       Gauge   Bits32 "wsg-current-active-sessions" "Current active sessions";
        CURRENT_ACTIVE_IPV4  Gauge   Bits32 "wsg-current-active-ipv4-sessions" "Current active IPv4 sessions";
        CURRENT_ACTIVE_IPV6  Gauge   Bits32 "wsg-current-active-ipv6-sessions" "Current active IPv6 sessions";
        CURRENT_SIMPLE_IPV4  Gauge   Bits32 "wsg-current-simple-ipv4-total" "Current simple IPv4 sessions";
        CURRENT_SIMPLE_IPV6  Gauge   Bits32 "wsg-current-simple-ipv6-total" "Current simple IPv6 sessions";
        SETUP_ATTEMPTS       Counter Bits32 "wsg-total-setup-attempts" "Total setup attempts";
        SETUP_SUCCESSES      Counter Bits32 "wsg-total-setup-successes" "Total setup successes";
        ATTEMPTS_FAILED      Counter Bits32 "wsg-total-attempts-failed" "Total attempts failed";
        SIMPLE_IP_ATTEMPTS   Counter Bits32 "wsg-total-simple-ip-attempts" "Simple IP attempts";
        SIMPLE_IP_SUCCESSES  Counter Bits32 "wsg-total-simple-ip-successes" "Simple IP successes";
        SIMPLE_IP_FAILURES   Counter Bits32 "wsg-total-simple-ip-failures" "Simple IP failures";
        DISCONNECTED         Counter Bits32 "wsg-total-disconnected" "Total disconnected";
        DISCONNECTED_LOCALLY Counter Bits32 "wsg-total-disconnected-locally" "Disconnected locally";
        DISCONNECTED_REMOTELY Counter Bits32 "wsg-total-disconnected-remotely" "Disconnected remotely";
        DISC_REMOTE_IPSEC    Counter Bits32 "wsg-total-disconnected-remote-disc-ipsec" "Remote disconnect (IPsec)";
        DISC_ADMIN           Counter Bits32 "wsg-total-disconnected-admin-disconnect" "Admin disconnect";
        DISC_IDLE_TIMEOUT    Counter Bits32 "wsg-total-disconnected-idle-timeout" "Idle timeout";
        DISC_ABSOLUTE_TIMEOUT Counter Bits32 "wsg-total-disconnected-absolute-timeout" "Absolute timeout";
        DISC_SETUP_TIMEOUT   Counter Bits32 "wsg-total-disconnected-session-setup-timeout" "Session setup timeout";
        DISC_NO_RESOURCE     Counter Bits32 "wsg-total-disconnected-no-resource" "No resource";
        DISC_AUTH_FAILURE    Counter Bits32 "wsg-total-disconnected-auth-failure" "Auth failure";
        DISC_DUPLICATE       Counter Bits32 "wsg-total-disconnected-duplicate-request" "Duplicate request";
        DISC_MISC            Counter Bits32 "wsg-total-disconnected-misc-reasons" "Misc reasons";
        TX_PACKETS           Counter Bits64 "wsg-total-packets-sent" "Packets sent";
        TX_OCTETS            Counter Bits64 "wsg-total-bytes-sent" "Octets sent";
        RX_PACKETS           Counter Bits64 "wsg-total-packets-rcvd" "Packets received";
        RX_OCTETS            Counter Bits64 "wsg-total-bytes-rcvd" "Octets received";
    }
}
