//! Authentication and accounting, as `aaamgr` counts them.

use super::{counters, session};

counters! {
    area "aaa", after session::END, facility "aaamgr", schema System;

    section "AAA Statistics", moved by "freeradius::a_remote_access_peer_authenticates_with_eap_and_is_accounted" {
        REQUESTS             Counter Bits32 "aaa-ttlreq"           "Total aaa requests"
            reported as starAAATtlRequests;
        CURRENT_REQUESTS     Gauge   Bits32 "aaa-curreq"           "Current aaa requests"
            reported as starAAACurRequests;
        AUTH_REQUESTS        Counter Bits32 "aaa-ttlauthreq"       "Total aaa auth requests"
            reported as starAAATtlAuthRequests;
        CURRENT_AUTH_REQUESTS Gauge  Bits32 "aaa-curauthreq"       "Current aaa auth requests"
            reported as starAAACurAuthRequests;
        ACCT_REQUESTS        Counter Bits32 "aaa-ttlacctreq"       "Total aaa acct requests"
            reported as starAAATtlAcctRequests;
        CURRENT_ACCT_REQUESTS Gauge  Bits32 "aaa-curacctreq"       "Current aaa acct requests"
            reported as starAAACurAcctRequests;
        AUTH_SUCCESS         Counter Bits32 "aaa-ttlauthsucc"      "Total aaa auth success"
            reported as starAAATtlAuthSuccess;
        AUTH_FAIL            Counter Bits32 "aaa-ttlauthfail"      "Total aaa auth failure"
            reported as starAAATtlAuthFailure;
        AUTH_CANCELLED       Counter Bits32 "aaa-ttlauthcancelled" "Total aaa auth cancelled";
        AUTH_PURGED          Counter Bits32 "aaa-ttlauthpurged"    "Total aaa auth purged";
        ACCT_SUCCESS         Counter Bits32 "aaa-ttlacctsucc"      "Total aaa acct success";
        ACCT_PURGED          Counter Bits32 "aaa-ttlacctpurged"    "Total aaa acct purged";
    }

    section "RADIUS Statistics", moved by "freeradius::a_remote_access_peer_authenticates_with_eap_and_is_accounted" {
        RADIUS_AUTH_REQUESTS Counter Bits32 "aaa-ttlradauthreq"    "Total radius auth requests";
        RADIUS_AUTH_CURRENT  Gauge   Bits32 "aaa-curradauthreq"    "Current radius auth requests";
        RADIUS_AUTH_RETRIED  Counter Bits32 "aaa-ttlradauthreqretried" "Total radius auth requests retried";
        RADIUS_AUTH_DROPPED  Counter Bits32 "aaa-ttlradauthrspdrop" "Total radius auth responses dropped";
        RADIUS_ACCT_REQUESTS Counter Bits32 "aaa-ttlradacctreq"    "Total radius acct requests";
        RADIUS_ACCT_RETRIED  Counter Bits32 "aaa-ttlradacctreqretried" "Total radius acct requests retried";
        RADIUS_ACCT_DROPPED  Counter Bits32 "aaa-ttlradacctrspdropped" "Total radius acct responses dropped";
        RADIUS_ACCT_PURGED   Counter Bits32 "aaa-ttlradacctpurged" "Total radius acct requests purged";
    }
}
