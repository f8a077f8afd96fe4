//! IKEv2: authentication and certificates.

use super::{counters, ikev2};

counters! {
    area "ikev2_auth", after ikev2::END, facility "ipsecmgr", schema System;

    section "Total IKEv2 Authentication Statistics", moved by "strongswan::refusals::a_wrong_key_fails_authentication" {
        PHASE1_SUCCESS       Counter Bits32 "ikev2-auth-p1succ"    "Phase 1 Success";
        PHASE1_FAIL          Counter Bits32 "ikev2-auth-p1fail"    "Phase 1 Failure";
        PHASE1_REQ           Counter Bits32 "ikev2-auth-p1req"     "Phase 1 Request Rcvd";
        PHASE1_RSP           Counter Bits32 "ikev2-auth-p1rsp"     "Phase 1 Response Sent";
        RSP_SENT             Counter Bits32 "ikev2-auth-tot-rsp-sent" "Total Responses Sent";
        RSP_REJECT           Counter Bits32 "ikev2-auth-tot-rsp-reject" "Total Responses Rejecting";
        FAIL_HASH            Counter Bits32 "ikev2-auth-failhash"  "Failed Hash";
        FAIL_SIGNATURE       Counter Bits32 "ikev2-auth-failsign"  "Failed Signature";
        FAIL_MSK_MISSING     Counter Bits32 "ikev2-auth-failmskmiss" "Failed MSK Missing";
    }

    section "Total IKEv2 Authentication Method Statistics", moved by "strongswan::certificates::rsa_certificates" {
        LOCAL_CERT_CURRENT   Gauge   Bits32 "ikev2-current-local-cert-auth-method" "Current Local Certificate";
        LOCAL_CERT_ATTEMPT   Counter Bits32 "ikev2-attempt-local-cert-auth-method" "Attempted Local Certificate";
        LOCAL_CERT_SUCCESS   Counter Bits32 "ikev2-success-local-cert-auth-method" "Successful Local Certificate";
        REMOTE_CERT_CURRENT  Gauge   Bits32 "ikev2-current-remote-cert-auth-method" "Current Remote Certificate";
        REMOTE_CERT_ATTEMPT  Counter Bits32 "ikev2-attempt-remote-cert-auth-method" "Attempted Remote Certificate";
        REMOTE_CERT_SUCCESS  Counter Bits32 "ikev2-success-remote-cert-auth-method" "Successful Remote Certificate";
        REMOTE_CERT_FAIL     Counter Bits32 "ikev2-failure-remote-cert-auth-method" "Failed Remote Certificate";
        MSCHAPV2_CURRENT     Gauge   Bits32 "ikev2-current-eap-mschapv2-auth-method" "Current EAP-MSCHAPv2";
        MSCHAPV2_ATTEMPT     Counter Bits32 "ikev2-attempt-eap-mschapv2-auth-method" "Attempted EAP-MSCHAPv2";
        MSCHAPV2_SUCCESS     Counter Bits32 "ikev2-success-eap-mschapv2-auth-method" "Successful EAP-MSCHAPv2";
        MSCHAPV2_FAIL        Counter Bits32 "ikev2-failure-eap-mschapv2-auth-method" "Failed EAP-MSCHAPv2";
    }

    section "Total IKEv2 Certificate Statistics", moved by "strongswan::certificates::rsa_certificates" {
        CERTREQ_SENT         Counter Bits32 "ikev2-cert-reqsent"   "Certificate Req Sent";
        CERTREQ_RECV         Counter Bits32 "ikev2-cert-reqrecv"   "Certificate Req Rcvd";
        CERT_SENT            Counter Bits32 "ikev2-cert-sent"      "Certificate Sent";
        CERT_RECV            Counter Bits32 "ikev2-cert-recv"      "Certificate Rcvd";
    }
}
