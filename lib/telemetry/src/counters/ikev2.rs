//! IKEv2: SAs, packets, exchanges, rekeying, timers.

use super::counters;

counters! {
    area "ikev2", after 0, facility "ipsecmgr", schema System;

    section "Detailed IKE Statistics", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        CURRENT_SAS          Gauge   Bits32 "ikev2-cursa"          "Current IKE SAs";
        CURRENT_SAS_INIT     Gauge   Bits32 "ikev2-cursainit"      "Current IKE SAs Initiated";
        CURRENT_SAS_RESP     Gauge   Bits32 "ikev2-cursaresp"      "Current IKE SAs Responded";
        TOTAL_SAS            Counter Bits32 "ikev2-ttlsa"          "Total IKE SAs";
        TOTAL_SAS_INIT       Counter Bits32 "ikev2-ttlsainit"      "Total IKE SAs Initiated";
        TOTAL_SAS_RESP       Counter Bits32 "ikev2-ttlsaresp"      "Total IKE SAs Responded";
        ATTEMPTS             Counter Bits32 "ikev2-attempt"        "Total Attempts";
        ATTEMPTS_INIT        Counter Bits32 "ikev2-attemptinit"    "Total Attempts Initiated";
        ATTEMPTS_RESP        Counter Bits32 "ikev2-attemptresp"    "Total Attempts Responded";
        RX_PACKETS           Counter Bits32 "ikev2-rxpacket"       "Total Packets In";
        TX_PACKETS           Counter Bits32 "ikev2-txpacket"       "Total Packets Out";
        RX_OCTETS            Counter Bits32 "ikev2-rxoctet"        "Total Octets In";
        TX_OCTETS            Counter Bits32 "ikev2-txoctet"        "Total Octets Out";
        RX_FRAGMENTS         Counter Bits32 "ikev2-rx-fragments"   "Total Fragments In";
        TX_FRAGMENTS         Counter Bits32 "ikev2-tx-fragments"   "Total Fragments Out";
        RX_FRAGMENTED        Counter Bits32 "ikev2-rx-fragmented-packet" "Total IKE Fragmented Packets In";
        TX_FRAGMENTED        Counter Bits32 "ikev2-tx-fragmented-packet" "Total IKE Fragmented Packets out";
        FRAGMENTS_DROPPED    Counter Bits32 "ikev2-rx-fragments-dropped" "Total IKE Fragments Dropped";
        TX_RETRANSMITTED     Counter Bits32 "ikev2-tx-retransmitted" "Total Requests Sent Again";
        TX_REPEATED          Counter Bits32 "ikev2-tx-repeated"    "Total Responses Sent Again";
        INIT_FAIL            Counter Bits32 "ikev2-initfail"       "Total Setup Failures";
        INIT_FAIL_NO_RESP    Counter Bits32 "ikev2-initfail-noresp" "Setup Failures, No Response";
        INIT_FAIL_RESP       Counter Bits32 "ikev2-initfail-resp"  "Setup Failures as Responder";
        INVALID_COOKIE       Counter Bits32 "ikev2-invcookie"      "Invalid Cookies";
        CONGESTION_DROP      Counter Bits32 "ikev2-congdrop"       "Congestion Drops";
        UNKNOWN_SPI          Counter Bits32 "ikev2-unkxchgspi"     "Unknown Exchange SPI";
        KEEPALIVE_RECV       Counter Bits32 "ikev2-nattkeepalive-recv" "NATT Keepalive Rcvd";
        KEEPALIVE_SENT       Counter Bits32 "ikev2-nattkeepalive-send" "NATT Keepalive Sent";
    }

    section "Total IKEv2 SA Statistics", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        CURRENT_IKEV2_SAS    Gauge   Bits32 "ikev2-curikev2sa"     "Current IKE_SA";
        CURRENT_HALF_OPEN    Gauge   Bits32 "ikev2-curhalfsa"      "Current Half Open IKE_SA";
        CURRENT_CONNECTING   Gauge   Bits32 "ikev2-curconnsa"      "Current Connecting IKE_SA";
        CURRENT_ESTABLISHED  Gauge   Bits32 "ikev2-curestsa"       "Current Established IKE_SA";
        CURRENT_CHILD_SAS    Gauge   Bits32 "ikev2-curchildsa"     "Current CHILD_SA";
    }

    section "IPSec Tunnel Statistics", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        CURRENT_TUNNELS      Gauge   Bits32 "ipsec-cur-tun"        "Current Tunnels";
        ESTABLISHED_TUNNELS  Gauge   Bits32 "ipsec-cur-tunestablished" "Current Tunnels Established";
        TOTAL_TUNNELS        Counter Bits32 "ipsec-ttl-tun"        "Total Tunnels";
        IKE_FAILURES         Counter Bits32 "ipsec-ike-fails"      "Total IKE Failures";
        WSG_CHILD_SAS        Gauge   Bits32 "wsg-curchildsa"       "Current WSG CHILD_SA";
    }

    section "Dead Peer Detection Statistics", moved by "strongswan::liveness::we_answer_the_peers_liveness_checks" {
        DPD_RECV             Counter Bits32 "ikev2-dpd-recv"       "Total DPD Requests Received";
        DPD_SENT             Counter Bits32 "ikev2-dpd-send"       "Total DPD Requests Sent";
        DPD_REPLY_RECV       Counter Bits32 "ikev2-dpd-recv-reply" "Total DPD Replies Received";
        DPD_REPLY_SENT       Counter Bits32 "ikev2-dpd-send-reply" "Total DPD Replies Sent";
        DPD_TIMEOUT          Counter Bits32 "ikev2-dpd-timeout"    "Total DPD Timeouts";
        DPD_DISCONNECT       Counter Bits32 "ikev2-dpd-disconnect" "Total DPD Disconnects";
    }

    section "Total IKEv2 IKE_SA Delete Statistics", moved by "node::processes::a_stopping_node_deletes_its_tunnels" {
        IKE_SA_DELETES       Counter Bits32 "ikev2-ikesadel"         "IKE_SA Deleted";
        IKE_DELETE_REQ_SENT  Counter Bits32 "ikev2-ikesadelreq-sent" "Delete Req Sent";
        IKE_DELETE_REQ_RECV  Counter Bits32 "ikev2-ikesadelreq-recv" "Delete Req Rcvd";
        IKE_DELETE_RSP_SENT  Counter Bits32 "ikev2-ikesadelrep-sent" "Delete Rsp Sent";
        IKE_DELETE_RSP_RECV  Counter Bits32 "ikev2-ikesadelrep-recv" "Delete Rsp Rcvd";
    }

    section "Total IKEv2 Timer Expiration Statistics", moved by "strongswan::liveness::a_dead_peer_is_noticed_and_its_tunnel_removed" {
        EXP_RETRANSMISSION   Counter Bits32 "ikev2-exp-retran"     "Max Retransmissions";
        EXP_SETUP            Counter Bits32 "ikev2-exp-setup"      "IKE_SA Setup";
        EXP_HALF_OPEN_NO_XCHG Counter Bits32 "ikev2-exp-half-open-sa-noxchg" "IKE_SA Half Open (No XCHG)";
        EXP_LIFE_SOFT        Counter Bits32 "ikev2-exp-lifesoft"   "IKE_SA Soft Lifetime";
        EXP_LIFE_HARD        Counter Bits32 "ikev2-exp-lifehard"   "IKE_SA Hard Lifetime";
        EXP_CHILD_LIFE_SOFT  Counter Bits32 "ikev2-exp-childlifesoft" "CHILD_SA Soft Lifetime";
        EXP_CHILD_LIFE_HARD  Counter Bits32 "ikev2-exp-childlifehard" "CHILD_SA Hard Lifetime";
    }

    section "Total IKEv2 Child_SA Statistics", moved by "strongswan::rekeying::the_peer_rekeys_the_child" {
        CHILD_REQ_SENT       Counter Bits32 "ikev2-csa-createreqsnt" "Create Req Sent";
        CHILD_REQ_RECV       Counter Bits32 "ikev2-csa-createreqrcv" "Create Req Rcvd";
        CHILD_RSP_SENT       Counter Bits32 "ikev2-csa-createrspsnt" "Create Rsp Sent";
        CHILD_RSP_RECV       Counter Bits32 "ikev2-csa-creatersprcv" "Create Rsp Rcvd";
        CHILD_CREATED        Counter Bits32 "ikev2-csa-createsucc" "Create Success";
        CHILD_CREATE_FAIL    Counter Bits32 "ikev2-csa-createfail" "Create Failure";
        CHILD_DELETE_SENT    Counter Bits32 "ikev2-csa-sngldelpldsnt" "Single Delete Payload Sent";
        CHILD_DELETE_RECV    Counter Bits32 "ikev2-csa-sngldelpldrcv" "Single Delete Payload Rcvd";
        CHILD_DELETE_SPI_SENT Counter Bits32 "ikev2-csa-delpldsnglspisnt" "Delete Single SPI Sent";
        CHILD_DELETE_SPI_RECV Counter Bits32 "ikev2-csa-delpldsnglspircv" "Delete Single SPI Rcvd";
        CHILD_DELETE_SPIS_SENT Counter Bits32 "ikev2-csa-delmultspisnt" "Delete Multiple SPIs Sent";
        CHILD_DELETE_SPIS_RECV Counter Bits32 "ikev2-csa-delmultspircv" "Delete Multiple SPIs Rcvd";
    }

    section "Total IKEv2 Rekey Statistics", moved by "strongswan::rekeying::the_peer_rekeys_the_ike_sa" {
        REKEY_IKE_REQ_SENT   Counter Bits32 "ikev2-rekey-ikesareqsent" "IKE_SA Rekey Req Sent";
        REKEY_IKE_REQ_RECV   Counter Bits32 "ikev2-rekey-ikesareqrcvd" "IKE_SA Rekey Req Rcvd";
        REKEY_IKE_RSP_SENT   Counter Bits32 "ikev2-rekey-ikesarspsent" "IKE_SA Rekey Rsp Sent";
        REKEY_IKE_RSP_RECV   Counter Bits32 "ikev2-rekey-ikesarsprcvd" "IKE_SA Rekey Rsp Rcvd";
        REKEY_IKE_IGNORED    Counter Bits32 "ikev2-rekey-ikesaignored" "IKE_SA Rekey Ignored";
        REKEY_CHILD_REQ_SENT Counter Bits32 "ikev2-rekey-childsareqsent" "CHILD_SA Rekey Req Sent";
        REKEY_CHILD_REQ_RECV Counter Bits32 "ikev2-rekey-childsareqrecv" "CHILD_SA Rekey Req Rcvd";
        REKEY_CHILD_RSP_SENT Counter Bits32 "ikev2-rekey-childsarspsent" "CHILD_SA Rekey Rsp Sent";
        REKEY_CHILD_RSP_RECV Counter Bits32 "ikev2-rekey-childsarsprecv" "CHILD_SA Rekey Rsp Rcvd";
        REKEY_CHILD_IGNORED  Counter Bits32 "ikev2-rekey-childsaignored" "CHILD_SA Rekey Ignored";
    }

    section "Total IKEv2 Exchanges Dropped", moved by "node::hostile::bad_packets_change_nothing" {
        DROP_UNEXPECTED_PAYLOAD Counter Bits32 "ikev2-xchg-dropunexppld" "Unexpected Payload";
        DROP_RSP_NO_SA       Counter Bits32 "ikev2-xchg-droprspnoikesa" "Response, No IKE_SA";
        DROP_INVALID_RSP     Counter Bits32 "ikev2-xchg-dropinvrsp" "Invalid Response";
        DROP_REQ_NO_SA       Counter Bits32 "ikev2-xchg-dropnoninitnoikesa" "Non-Init Request, No IKE_SA";
        DROP_MESSAGE_ID      Counter Bits32 "ikev2-xchg-dropinvmsgid" "Invalid Message ID";
        DROP_QUEUE_SIZE      Counter Bits32 "ikev2-xchg-drop-msg-queuesize-exceeded" "Message Queue Size Exceeded";
        DROP_REQ_NO_KEY      Counter Bits32 "ikev2-xchg-drop-req-no-key" "Request, No Key";
        DROP_RSP_NO_KEY      Counter Bits32 "ikev2-xchg-drop-rsp-no-key" "Response, No Key";
        DROP_MAJOR_VERSION   Counter Bits32 "ikev2-xchg-dropinvmajver" "Invalid Major Version";
        DROP_SA_ERROR        Counter Bits32 "ikev2-xchg-dropikesaerr" "IKE_SA Error";
        DROP_CRITICAL        Counter Bits32 "ikev2-xchg-dropunkcrit" "Unknown Critical Payload";
        DROP_RETRANSMISSION  Counter Bits32 "ikev2-xchg-dropretransdisc" "Retransmission Discarded";
        STALE_MESSAGE_ID     Counter Bits32 "ikev2-xchg-stalemsgid" "Stale Message ID";
        BAD_RESPONSE         Counter Bits32 "ikev2-xchg-badresp"   "Bad Response";
    }

    section "Total IKEv2 Per-Resource CHILD_SA Statistics", moved by "strongswan::per_resource::flows_of_one_tunnel_cross_both_workers" {
        PER_RESOURCE_INITIATED Counter Bits32 "ikev2-perres-initiated" "Created by Us";
        PER_RESOURCE_ACCEPTED Counter Bits32 "ikev2-perres-accepted" "Created by the Peer";
        PER_RESOURCE_MAX_RECV Counter Bits32 "ikev2-perres-maxrecv" "Refused by the Peer";
        PER_RESOURCE_MAX_SENT Counter Bits32 "ikev2-perres-maxsent" "Refused by Us";
    }

    section "Total IKEv2 Misc Statistics", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        SA_CREATE_FAIL       Counter Bits32 "ikev2-misc-ikesacrefail" "IKE_SA Create Failures";
        FLOW_FAIL            Counter Bits32 "ikev2-misc-saflowopfail" "SA Flow Operation Failures";
        NAT_UPDATE_CONTROL   Counter Bits32 "ikev2-nat-update-addr-control" "NAT Address Update, Control";
        NAT_UPDATE_DATA      Counter Bits32 "ikev2-nat-update-addr-data" "NAT Address Update, Data";
    }
}
