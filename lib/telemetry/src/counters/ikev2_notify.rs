//! IKEv2: notify payloads sent and received, by type.

use super::{counters, ikev2_decode};

counters! {
    area "ikev2_notify", after ikev2_decode::END, facility "ipsecmgr", schema System;

    section "Total IKEv2 Cookie Statistics", moved by "node::hostile::bad_packets_change_nothing" {
        COOKIE_SENT          Counter Bits32 "ikev2-notif-cooksent" "Cookie Notify Sent";
        COOKIE_RECV          Counter Bits32 "ikev2-notif-cookrecv" "Cookie Notify Rcvd";
        COOKIE_MATCH         Counter Bits32 "ikev2-notif-cookmatch" "Cookie Notify Match";
        COOKIE_MISMATCH      Counter Bits32 "ikev2-notif-cooknotmatch" "Cookie Notify Not Match";
    }

    section "Total IKEv2 Notify Payload Sent Statistics", moved by "strongswan::refusals::no_common_ike_proposal_is_refused_and_the_difference_is_named" {
        SENT_INVALID_KE      Counter Bits32 "ikev2-notifpaysent-invke" "Invalid KE Payload";
        SENT_MAJOR_VERSION   Counter Bits32 "ikev2-notifpaysent-invmajver" "Invalid Major Version";
        SENT_MESSAGE_ID      Counter Bits32 "ikev2-notifpaysent-invmsgid" "Invalid Message ID";
        SENT_SYNTAX          Counter Bits32 "ikev2-notifpaysent-invsyn" "Invalid Syntax";
        SENT_NO_ADDITIONAL   Counter Bits32 "ikev2-notifpaysent-noaddsa" "No Additional SAs";
        SENT_NO_PROPOSAL     Counter Bits32 "ikev2-notifpaysent-noprop" "No Proposal Chosen";
        SENT_TS_UNACCEPTABLE Counter Bits32 "ikev2-notifpaysent-tsunaccept" "TS Unacceptable";
        SENT_CRITICAL        Counter Bits32 "ikev2-notifpaysent-unsuppcrit" "Unsupported Critical Payload";
        SENT_INTERNAL_FAIL   Counter Bits32 "ikev2-notifpaysent-intfail" "Internal Address Failure";
        SENT_INVALID_IKE_SPI Counter Bits32 "ikev2-notifpaysent-invikespi" "Invalid IKE SPI";
        WITHHELD_INVALID_IKE_SPI Counter Bits32 "ikev2-notifpaysent-invikespi-limited" "Invalid IKE SPI Withheld";
        SENT_FRAGMENTATION   Counter Bits32 "ikev2-notifpaysent-fragsupp" "Fragmentation Supported Notify Sent";
    }

    section "Total IKEv2 Notify Payload Received Statistics", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        RECV_INVALID_KE      Counter Bits32 "ikev2-notifpayrecv-invke" "Invalid KE Payload";
        RECV_MAJOR_VERSION   Counter Bits32 "ikev2-notifpayrecv-invmajver" "Invalid Major Version";
        RECV_MESSAGE_ID      Counter Bits32 "ikev2-notifpayrecv-invmsgid" "Invalid Message ID";
        RECV_SYNTAX          Counter Bits32 "ikev2-notifpayrecv-invsyn" "Invalid Syntax";
        RECV_NO_ADDITIONAL   Counter Bits32 "ikev2-notifpayrecv-noaddsa" "No Additional SAs";
        RECV_NO_PROPOSAL     Counter Bits32 "ikev2-notifpayrecv-noprop" "No Proposal Chosen";
        RECV_TS_UNACCEPTABLE Counter Bits32 "ikev2-notifpayrecv-tsunaccept" "TS Unacceptable";
        RECV_CRITICAL        Counter Bits32 "ikev2-notifpayrecv-unsuppcrit" "Unsupported Critical Payload";
        RECV_FRAGMENTATION   Counter Bits32 "ikev2-notifpayrecv-fragsupp" "Fragmentation Supported Notify Rcvd";
    }

    section "Total IKEv2 Notify Message Receive Statistics", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        MSG_CRITICAL         Counter Bits32 "ikev2-notifrecv-unsuppcritpay" "Unsupported Critical Payload";
        MSG_INVALID_IKE_SPI  Counter Bits32 "ikev2-notifrecv-invikespi" "Invalid IKE SPI";
        MSG_MAJOR_VERSION    Counter Bits32 "ikev2-notifrecv-invmajver" "Invalid Major Version";
        MSG_SYNTAX           Counter Bits32 "ikev2-notifrecv-invsyn" "Invalid Syntax";
        MSG_MESSAGE_ID       Counter Bits32 "ikev2-notifrecv-invmsgid" "Invalid Message ID";
        MSG_INVALID_SPI      Counter Bits32 "ikev2-notifrecv-invspi" "Invalid SPI";
        MSG_NO_PROPOSAL      Counter Bits32 "ikev2-notifrecv-nopropchosen" "No Proposal Chosen";
        MSG_INVALID_KE       Counter Bits32 "ikev2-notifrecv-invkepay" "Invalid KE Payload";
        MSG_AUTH_FAILED      Counter Bits32 "ikev2-notifrecv-authfail" "Authentication Failed";
        MSG_SINGLE_PAIR      Counter Bits32 "ikev2-notifrecv-singpairreq" "Single Pair Required";
        MSG_NO_ADDITIONAL    Counter Bits32 "ikev2-notifrecv-noaddsa" "No Additional SAs";
        MSG_ADDRESS_FAILURE  Counter Bits32 "ikev2-notifrecv-intaddrfail" "Internal Address Failure";
        MSG_FAILED_CP        Counter Bits32 "ikev2-notifrecv-failcpreq" "Failed CP Required";
        MSG_TS_UNACCEPTABLE  Counter Bits32 "ikev2-notifrecv-tsunaccept" "TS Unacceptable";
        MSG_INVALID_SELECTORS Counter Bits32 "ikev2-notifrecv-invsel" "Invalid Selectors";
        MSG_INITIAL_CONTACT  Counter Bits32 "ikev2-notifrecv-initcont" "Initial Contact";
        MSG_WINDOW_SIZE      Counter Bits32 "ikev2-notifrecv-windsiz" "Set Window Size";
        MSG_ADDITIONAL_TS    Counter Bits32 "ikev2-notifrecv-addtsposs" "Additional TS Possible";
        MSG_IPCOMP           Counter Bits32 "ikev2-notifrecv-ipcompsupp" "IPCOMP Supported";
        MSG_NAT_SOURCE       Counter Bits32 "ikev2-notifrecv-natdetsrcip" "NAT Detection Source IP";
        MSG_NAT_DESTINATION  Counter Bits32 "ikev2-notifrecv-natdetdstip" "NAT Detection Destination IP";
        MSG_COOKIE           Counter Bits32 "ikev2-notifrecv-cookie" "Cookie";
        MSG_TRANSPORT_MODE   Counter Bits32 "ikev2-notifrecv-usetransmode" "Use Transport Mode";
        MSG_HTTP_CERT        Counter Bits32 "ikev2-notifrecv-httpcertsupp" "HTTP Cert Lookup Supported";
        MSG_REKEY_SA         Counter Bits32 "ikev2-notifrecv-rekeysa" "Rekey SA";
        MSG_TFC_PADDING      Counter Bits32 "ikev2-notifrecv-esptfcpadnotsupp" "ESP TFC Padding Not Supported";
        MSG_NON_FIRST_FRAGMENTS Counter Bits32 "ikev2-notifrecv-nonfirstfragalso" "Non First Fragments Also";
        MSG_MULTIPLE_AUTH    Counter Bits32 "ikev2-notifrecv-multiauthsupp" "Multiple Auth Supported";
        MSG_ANOTHER_AUTH     Counter Bits32 "ikev2-notifrecv-anothauthfoll" "Another Auth Follows";
        MSG_MOBIKE           Counter Bits32 "ikev2-notifrecv-mobikesupp" "MOBIKE Supported";
        MSG_ADDITIONAL_IP4   Counter Bits32 "ikev2-notifrecv-addip4addr" "Additional IPv4 Address";
        MSG_ADDITIONAL_IP6   Counter Bits32 "ikev2-notifrecv-addip6addr" "Additional IPv6 Address";
        MSG_NO_ADDRESSES     Counter Bits32 "ikev2-notifrecv-noaddaddr" "No Additional Address";
        MSG_UPDATE_ADDRESSES Counter Bits32 "ikev2-notifrecv-updsaaddr" "Update SA Addresses";
        MSG_COOKIE2          Counter Bits32 "ikev2-notifrecv-cookie2" "COOKIE2";
        MSG_NO_NATS          Counter Bits32 "ikev2-notifrecv-nonatallow" "No NAT Allowed";
        MSG_OTHER            Counter Bits32 "ikev2-notifrecv-other" "Other";
    }
}
