//! IPsec: what the data plane does with packets.

use super::{counters, ikev2_notify};

counters! {
    area "ipsec", after ikev2_notify::END, facility "iftask", schema System;

    section "Data Path Statistics", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        TX_ESP_PACKETS       Counter Bits64 "crypto-txesppacket"   "ESP Packets Sent";
        TX_ESP_OCTETS        Counter Bits64 "crypto-txespoctet"    "ESP Octets Sent";
        RX_ESP_PACKETS       Counter Bits64 "crypto-rxesppacket"   "ESP Packets Received";
        RX_ESP_OCTETS        Counter Bits64 "crypto-rxespoctet"    "ESP Octets Received";
    }

    section "Data Path Error Statistics", moved by "node::hostile::bad_packets_change_nothing" {
        AUTH_ERROR_PACKETS   Counter Bits64 "crypto-errauthpacket" "Authentication Error Packets";
        AUTH_ERROR_OCTETS    Counter Bits64 "crypto-errauthoctet"  "Authentication Error Octets";
        BAD_RECORD_PACKETS   Counter Bits64 "crypto-errbadrecpacket" "No SA Packets";
        BAD_RECORD_OCTETS    Counter Bits64 "crypto-errbadrecoctet" "No SA Octets";
        DISCARD_PACKETS      Counter Bits64 "crypto-errdiscpacket" "Discarded Packets";
        DISCARD_OCTETS       Counter Bits64 "crypto-errdiscoctet"  "Discarded Octets";
        IGNORED_PACKETS      Counter Bits64 "crypto-errignpacket"  "Selector Mismatch Packets";
        IGNORED_OCTETS       Counter Bits64 "crypto-errignoctet"   "Selector Mismatch Octets";
        UNDERRUN_PACKETS     Counter Bits64 "crypto-errunderrunpacket" "Truncated Packets";
        UNDERRUN_OCTETS      Counter Bits64 "crypto-errunderrunoctet" "Truncated Octets";
        INVALID_PACKETS      Counter Bits64 "crypto-errinvpacket"  "Invalid Packets";
        INVALID_OCTETS       Counter Bits64 "crypto-errinvoctet"   "Invalid Octets";
        REPLAY_PACKETS       Counter Bits64 "crypto-errreplaypacket" "Replayed Packets";
        REPLAY_OCTETS        Counter Bits64 "crypto-errreplayoctet" "Replayed Octets";
    }

    // Variables of our own, for what the reference does not count.
    section "Data Path Worker Statistics", moved by "strongswan::net_to_net::a_tunnel_carries_packets_both_ways_and_nothing_leaks" {
        STRAYS_SENT          Counter Bits64 "iftask-stray-sent"    "Packets Passed To Other Workers";
        STRAYS_RECEIVED      Counter Bits64 "iftask-stray-rcvd"    "Packets Taken From Other Workers";
        STRAYS_LOST          Counter Bits64 "iftask-stray-lost"    "Packets Lost Between Workers";
        CLEAR_NO_SA          Counter Bits64 "iftask-clear-no-sa"   "Clear Packets Without SA";
        FRAGMENTED           Counter Bits64 "iftask-prefragmented" "Clear Packets Fragmented";
        TOO_BIG              Counter Bits64 "iftask-too-big"       "Clear Packets Too Big";
    }

    section "Data Path Output By Another Worker", moved by "strongswan::slots::the_output_of_a_slot_goes_to_another_worker_and_back" {
        OUTPUT_HANDED_ON     Counter Bits64 "iftask-output-handed" "Packets Handed On For Output";
        OUTPUT_TAKEN         Counter Bits64 "iftask-output-taken"  "Packets Taken For Output";
    }

    section "Data Path Slot Moves", moved by "strongswan::slots::a_slot_goes_to_and_fro_and_nothing_is_lost" {
        HELD                 Counter Bits64 "iftask-held"          "Packets Held While Their Slot Moved";
        HELD_LOST            Counter Bits64 "iftask-held-lost"     "Packets Lost While Their Slot Moved";
    }
}
