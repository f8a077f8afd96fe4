//! IKEv2: what was wrong with packets that could not be read.

use super::{counters, ikev2_auth};

counters! {
    area "ikev2_decode", after ikev2_auth::END, facility "ipsecmgr", schema System;

    section "Total IKEv2 Decode Failure Statistics", moved by "node::hostile::bad_packets_change_nothing" {
        PACKET               Counter Bits32 "ikev2-decfail-pktfail" "Total Packets";
        HEADER               Counter Bits32 "ikev2-decfail-ikehdr" "IKE Header";
        HEADER_INITIATOR_SPI Counter Bits32 "ikev2-decfail-ikehdrinitspi" "IKE Header Initiator SPI";
        HEADER_RESPONDER_SPI Counter Bits32 "ikev2-decfail-ikehdrrspspi" "IKE Header Responder SPI";
        HEADER_MAJOR_VERSION Counter Bits32 "ikev2-decfail-ikehdrmajver" "IKE Header Major Version";
        HEADER_EXCHANGE_TYPE Counter Bits32 "ikev2-decfail-ikehdrxchgtyp" "IKE Header Exchange Type";
        HEADER_FLAGS         Counter Bits32 "ikev2-decfail-ikehdrrecvflag" "IKE Header Flags";
        HEADER_LENGTH        Counter Bits32 "ikev2-decfail-ikehdrlen" "IKE Header Length";
        SYNTAX               Counter Bits32 "ikev2-decfail-syn"    "Syntax";
        PAYLOAD_LENGTH       Counter Bits32 "ikev2-decfail-paylen" "Payload Length";
        CRITICAL_PAYLOAD     Counter Bits32 "ikev2-decfail-unkcritpay" "Unknown Critical Payload";
        TOO_MANY_PAYLOADS    Counter Bits32 "ikev2-decfail-toomanypay" "Too Many Payloads";
        SA_LENGTH            Counter Bits32 "ikev2-decfail-sapaylen" "SA Payload Length";
        PROPOSAL_HEADER      Counter Bits32 "ikev2-decfail-saprophdr" "Proposal Header";
        PROPOSAL_LENGTH      Counter Bits32 "ikev2-decfail-saprophdrlen" "Proposal Length";
        PROPOSAL_NUMBER      Counter Bits32 "ikev2-decfail-sapropnum" "Proposal Number";
        PROPOSAL_PROTOCOL    Counter Bits32 "ikev2-decfail-saprotid" "Proposal Protocol";
        TOO_MANY_PROPOSALS   Counter Bits32 "ikev2-decfail-toomanyprop" "Too Many Proposals";
        TOO_MANY_TRANSFORMS  Counter Bits32 "ikev2-decfail-toomanytrans" "Too Many Transforms";
        TRANSFORM_HEADER     Counter Bits32 "ikev2-decfail-transhdr" "Transform Header";
        TRANSFORM_LENGTH     Counter Bits32 "ikev2-decfail-translen" "Transform Length";
        KE_LENGTH            Counter Bits32 "ikev2-decfail-kepaylen" "KE Payload Length";
        KE_GROUP_LENGTH      Counter Bits32 "ikev2-decfail-kedhgrplen" "KE DH Group Length";
        ID_LENGTH            Counter Bits32 "ikev2-decfail-idpaylen" "ID Payload Length";
        ID_TYPE              Counter Bits32 "ikev2-decfail-idpaytype" "ID Payload Type";
        AUTH_LENGTH          Counter Bits32 "ikev2-decfail-authpaylen" "AUTH Payload Length";
        NONCE_LENGTH         Counter Bits32 "ikev2-decfail-noncepaylen" "Nonce Payload Length";
        NOTIFY_LENGTH        Counter Bits32 "ikev2-decfail-notifpaylen" "Notify Payload Length";
        NOTIFY_SPI_LENGTH    Counter Bits32 "ikev2-decfail-notifpayspilen" "Notify SPI Length";
        NOTIFY_PROTOCOL      Counter Bits32 "ikev2-decfail-notifpayprotid" "Notify Protocol";
        NOTIFY_COOKIE        Counter Bits32 "ikev2-decfail-notifpaycook" "Notify Cookie";
        NOTIFY_REKEY         Counter Bits32 "ikev2-decfail-notifpayrekey" "Notify Rekey SA";
        EAP_LENGTH           Counter Bits32 "ikev2-decfail-eappaylen" "EAP Payload Length";
        CP_LENGTH            Counter Bits32 "ikev2-decfail-cppaylen" "CP Payload Length";
        CP_ATTRIBUTE_LENGTH  Counter Bits32 "ikev2-decfail-cppayattrlen" "CP Attribute Length";
        TS_LENGTH            Counter Bits32 "ikev2-decfail-tspaylen" "TS Payload Length";
        TS_SYNTAX            Counter Bits32 "ikev2-decfail-tspayrecv" "TS Payload Syntax";
        TOO_MANY_TS          Counter Bits32 "ikev2-decfail-unsupptspaytsnum" "Too Many Traffic Selectors";
        ENCRYPTED_LENGTH     Counter Bits32 "ikev2-decfail-encrpaylen" "Encrypted Payload Length";
        CERT_UNSUPPORTED     Counter Bits32 "ikev2-decfail-unsuppcertpay" "Unsupported Certificate";
        UNKNOWN              Counter Bits32 "ikev2-decfail-unkerr" "Other";
    }

    section "Total IKEv2 Decrypt Failure Statistics", moved by "node::hostile::bad_packets_change_nothing" {
        DECRYPT              Counter Bits32 "ikev2-decryptfail"    "Decrypt Failures";
        DECRYPT_INTEGRITY    Counter Bits32 "ikev2-decryptfail-hmac" "HMAC Mismatch";
        DECRYPT_PADDING      Counter Bits32 "ikev2-decryptfail-pad" "Pad Error";
    }
}
