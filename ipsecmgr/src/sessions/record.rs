//! A session as the part of its IKE SA's record that is ours.

use bus::messages::sessmgr::Authorization;
use ikev2::{AuthMethod, Path};
use prost::Message;
use services::DisconnectReason;

use super::{Carried, Session};

/// What stands in the record. Fields that a version does not know are left out, so that versions read each other's.
#[derive(Clone, PartialEq, Message)]
struct SessionRecord {
    #[prost(string, optional, tag = "1")]
    peer: Option<String>,
    #[prost(bool, tag = "2")]
    admitted: bool,
    #[prost(bool, tag = "3")]
    established: bool,
    #[prost(bool, tag = "4")]
    up: bool,
    #[prost(bool, tag = "5")]
    in_eap: bool,
    #[prost(uint32, tag = "6")]
    eap_method: u32,
    #[prost(message, optional, tag = "7")]
    authorization: Option<Authorization>,
    /// As [`method_number`] has it.
    #[prost(uint32, tag = "8")]
    peer_auth: u32,
    #[prost(bool, tag = "9")]
    signed: bool,
    /// Number of the reason, 0 = none.
    #[prost(uint32, tag = "10")]
    reason: u32,
    #[prost(fixed64, tag = "11")]
    known_as: u64,
    #[prost(uint64, repeated, tag = "12")]
    carried: Vec<u64>,
    /// Always true: a session is never an empty record.
    #[prost(bool, tag = "13")]
    is_session: bool,
    /// Instance; 0 in the records of versions where it was that of the worker.
    #[prost(uint32, tag = "14")]
    sessmgr: u32,
}

/// EAP has no number of its own in AUTH payloads.
const EAP: u32 = 0x100;
const PSK: u32 = 0x101;

impl Session {
    /// The record.
    pub(crate) fn record(&self) -> Vec<u8> {
        let carried = self.carried;
        SessionRecord {
            peer: self.peer.as_deref().map(str::to_owned),
            admitted: self.admitted,
            established: self.established,
            up: self.up,
            in_eap: self.in_eap,
            eap_method: self.eap_method,
            authorization: self.authorization.as_deref().cloned(),
            peer_auth: self.peer_auth.map_or(0, method_number),
            signed: self.signed,
            reason: self.reason.map_or(0, DisconnectReason::number),
            known_as: self.known_as,
            carried: vec![
                carried.packets_in,
                carried.bytes_in,
                carried.packets_out,
                carried.bytes_out,
            ],
            is_session: true,
            sessmgr: self.sessmgr,
        }
        .encode_to_vec()
    }

    /// The session of a record; `None` when there is none in it. `ours`: our instance of `sessmgr`.
    pub(super) fn from_record(service: u64, path: Path, record: &[u8], ours: u32) -> Option<Self> {
        let record = SessionRecord::decode(record)
            .ok()
            .filter(|record| record.is_session)?;
        let sessmgr = record.sessmgr(ours);
        let [packets_in, bytes_in, packets_out, bytes_out] = *record.carried.first_chunk()?;
        Some(Self {
            peer: record.peer.map(String::into_boxed_str),
            admitted: record.admitted,
            established: record.established,
            up: record.up,
            in_eap: record.in_eap,
            eap_method: record.eap_method,
            authorization: record.authorization.map(Box::new),
            peer_auth: method(record.peer_auth),
            signed: record.signed,
            reason: DisconnectReason::from_number(record.reason),
            known_as: record.known_as,
            carried: Carried {
                packets_in,
                bytes_in,
                packets_out,
                bytes_out,
            },
            ..Self::new(service, path, sessmgr)
        })
    }
}

impl SessionRecord {
    fn sessmgr(&self, ours: u32) -> u32 {
        if self.sessmgr == 0 { ours } else { self.sessmgr }
    }
}

fn method_number(method: AuthMethod) -> u32 {
    match method {
        AuthMethod::Psk => PSK,
        AuthMethod::Eap => EAP,
        AuthMethod::Signature(number) => number.into(),
    }
}

fn method(number: u32) -> Option<AuthMethod> {
    match number {
        0 => None,
        PSK => Some(AuthMethod::Psk),
        EAP => Some(AuthMethod::Eap),
        number => u8::try_from(number).ok().map(AuthMethod::Signature),
    }
}

/// Which `sessmgr` has the session of this record, and by which name, if there is one. `ours`: our instance.
pub(crate) fn recorded_name(record: &[u8], ours: u32) -> Option<(u32, u64)> {
    let record = SessionRecord::decode(record).ok()?;
    (record.is_session && record.admitted).then_some((record.sessmgr(ours), record.known_as))
}
