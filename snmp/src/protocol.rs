//! SNMPv2c (RFC 1901, RFC 3416), without sockets: a request comes in, a response goes out.
//!
//! This is the only file that knows the library that encodes SNMP. Versions 1 and 3 are counted and not answered.

use async_snmp::message::{CommunityMessage, Message};
use async_snmp::pdu::{ErrorIndex, NotificationPdu, OutboundErrorStatus, Pdu, PduBody, PduType, ResponsePdu};
use async_snmp::{DecodeConfig, Value, VarBind, Version};
use mibs::{AgentStatistics, Data, Lookup, Notification, Oid, View};

/// A response never needs IP fragmentation.
pub const MAX_RESPONSE: usize = 1_472;

/// Who may ask, and for what.
#[derive(Clone, PartialEq, Eq)]
pub struct Community {
    /// The community string.
    pub name: Vec<u8>,
    /// What it allows.
    pub access: Access,
}

/// What a community allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Get.
    ReadOnly,
    /// Get and set; no object of this node can be set yet.
    ReadWrite,
}

/// Answers requests out of a view.
#[derive(Default)]
pub struct Agent {
    communities: Vec<Community>,
    statistics: AgentStatistics,
}

impl Agent {
    /// Replaces the communities.
    pub fn set_communities(&mut self, communities: Vec<Community>) {
        self.communities = communities;
    }

    /// What has been counted.
    pub fn statistics(&self) -> AgentStatistics {
        self.statistics
    }

    /// The response to a datagram; `None` when it deserves none, which is counted by cause.
    pub fn answer(&mut self, datagram: &[u8], view: &View) -> Option<Vec<u8>> {
        self.statistics.packets = self.statistics.packets.wrapping_add(1);
        let Ok(decoded) = Message::decode(datagram.to_vec().into(), DecodeConfig::default()) else {
            bump(&mut self.statistics.parse_errors);
            return None;
        };
        let message = match decoded.value {
            Message::Community(message) if message.version() == Version::V2c => message,
            _ => {
                bump(&mut self.statistics.bad_versions);
                return None;
            }
        };
        let known = self
            .communities
            .iter()
            .find(|community| message.community().matches(&community.name));
        let Some(access) = known.map(|community| community.access) else {
            bump(&mut self.statistics.bad_community_names);
            return None;
        };
        let (_, community, pdu) = message.into_parts();
        let request = pdu.standard()?;
        let limit = MAX_RESPONSE.checked_sub(OVERHEAD + community.as_bytes().len())?;
        let response = match request.pdu_type() {
            PduType::GetRequest => each(request, limit, |oid| get(view, oid)),
            PduType::GetNextRequest => each(request, limit, |oid| next(view, oid)),
            PduType::GetBulkRequest => bulk(request, limit, view),
            PduType::SetRequest => {
                let status = match access {
                    Access::ReadWrite => OutboundErrorStatus::NotWritable,
                    Access::ReadOnly => {
                        bump(&mut self.statistics.bad_community_uses);
                        OutboundErrorStatus::NoAccess
                    }
                };
                refuse_set(request, status)
            }
            // Responses, reports and notifications are not for an agent.
            _ => return None,
        };
        let encoded = response.and_then(|response| {
            CommunityMessage::v2c(community, response.into_raw())
                .and_then(|message| message.encode())
                .ok()
        });
        if encoded.is_none() {
            bump(&mut self.statistics.silent_drops);
        }
        encoded.map(|octets| octets.to_vec())
    }
}

/// How a target wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// SNMPv1 Trap-PDU (RFC 3584 section 3.2).
    TrapV1,
    /// SNMPv2-Trap-PDU.
    TrapV2c,
    /// InformRequest-PDU: the target answers.
    Inform,
}

/// The datagram of a notification, with `sysUpTime.0` and `snmpTrapOID.0` in front as the form has them. `None` when it cannot be encoded.
pub fn notify(
    form: Form,
    community: &[u8],
    request: i32,
    uptime: u32,
    notification: &Notification,
) -> Option<Vec<u8>> {
    let variables = notification
        .variables
        .iter()
        .map(|(oid, data)| bind(oid, data))
        .collect();
    let oid = to_oid(&notification.oid);
    let message = match form {
        Form::Inform => {
            let pdu = NotificationPdu::inform(Version::V2c, request, uptime, &oid, variables).ok()?;
            CommunityMessage::v2c(community, pdu.into_raw()).ok()?
        }
        Form::TrapV2c => {
            let pdu = NotificationPdu::trap_v2(Version::V2c, request, uptime, &oid, variables).ok()?;
            CommunityMessage::v2c(community, pdu.into_raw()).ok()?
        }
        Form::TrapV1 => {
            let pdu = NotificationPdu::trap_v2(Version::V2c, request, uptime, &oid, variables).ok()?;
            CommunityMessage::v1_trap(community, pdu.to_v1_trap([0; 4]).ok()?.into_raw()).ok()?
        }
    };
    Some(message.encode().ok()?.to_vec())
}

/// The request number that a datagram answers, if it is a response.
pub fn response(datagram: &[u8]) -> Option<i32> {
    let message = CommunityMessage::decode(datagram.to_vec().into(), DecodeConfig::default())
        .ok()?
        .value;
    let pdu = message.into_pdu()?;
    (pdu.pdu_type() == PduType::Response).then(|| pdu.into_raw_parts().0)
}

/// Octets of a response around its variables, without the community: sequence headers, version, request number, error fields.
const OVERHEAD: usize = 48;

/// Get and get-next: one answer for each variable, or tooBig.
fn each(request: &Pdu, limit: usize, answer: impl Fn(&Oid) -> VarBind) -> Option<ResponsePdu> {
    let (id, ..) = request.clone().into_raw_parts();
    let mut size = 0;
    let mut answers = Vec::with_capacity(request.varbinds().len().min(64));
    for variable in request.varbinds() {
        let answer = answer(&Oid::new(variable.oid.arcs()));
        size += answer.encoded_size();
        if size > limit {
            return ResponsePdu::too_big(Version::V2c, id, Vec::new()).ok();
        }
        answers.push(answer);
    }
    ResponsePdu::success(Version::V2c, id, answers).ok()
}

/// Get-bulk (RFC 3416 section 4.2.3): as many repetitions as asked for and as fit.
fn bulk(request: &Pdu, limit: usize, view: &View) -> Option<ResponsePdu> {
    let (id, body, variables) = request.clone().into_raw_parts();
    let PduBody::GetBulk {
        non_repeaters,
        max_repetitions,
    } = body
    else {
        return None;
    };
    let split = variables
        .len()
        .min(usize::try_from(non_repeaters).unwrap_or(usize::MAX));
    let (once, repeated) = variables.split_at(split);
    let mut size = 0;
    let mut answers = Vec::new();
    let mut add = |answer: VarBind| {
        size += answer.encoded_size();
        let fits = size <= limit;
        if fits {
            answers.push(answer);
        }
        fits
    };
    let mut fits = once
        .iter()
        .all(|variable| add(next(view, &Oid::new(variable.oid.arcs()))));
    let mut rows: Vec<_> = repeated
        .iter()
        .map(|variable| Oid::new(variable.oid.arcs()))
        .collect();
    let mut repetitions = 0;
    while fits && repetitions < max_repetitions && !rows.is_empty() {
        repetitions += 1;
        let mut ended = 0;
        for row in &mut rows {
            let answer = next(view, row);
            ended += usize::from(answer.value == Value::EndOfMibView);
            *row = Oid::new(answer.oid.arcs());
            fits = add(answer);
            if !fits {
                break;
            }
        }
        if ended == rows.len() {
            break;
        }
    }
    ResponsePdu::success(Version::V2c, id, answers).ok()
}

fn refuse_set(request: &Pdu, status: OutboundErrorStatus) -> Option<ResponsePdu> {
    let (id, _, variables) = request.clone().into_raw_parts();
    if variables.is_empty() {
        return ResponsePdu::success(Version::V2c, id, variables).ok();
    }
    let index = ErrorIndex::new(1, variables.len()).ok()?;
    ResponsePdu::new(Version::V2c, id, status, Some(index), variables).ok()
}

fn get(view: &View, oid: &Oid) -> VarBind {
    match view.get(oid) {
        Lookup::Value(data) => bind(oid, data),
        Lookup::NoSuchInstance => VarBind::new(to_oid(oid), Value::NoSuchInstance),
        Lookup::NoSuchObject => VarBind::new(to_oid(oid), Value::NoSuchObject),
    }
}

fn next(view: &View, oid: &Oid) -> VarBind {
    match view.next(oid) {
        Some((oid, data)) => bind(oid, data),
        None => VarBind::new(to_oid(oid), Value::EndOfMibView),
    }
}

fn bind(oid: &Oid, data: &Data) -> VarBind {
    let value = match data {
        Data::Integer(number) => Value::Integer(*number),
        Data::Octets(octets) => Value::OctetString(octets.clone().into()),
        Data::Oid(oid) => Value::ObjectIdentifier(to_oid(oid)),
        Data::Address(address) => Value::IpAddress(address.octets()),
        Data::Counter32(number) => Value::Counter32(*number),
        Data::Gauge32(number) => Value::Gauge32(*number),
        Data::TimeTicks(ticks) => Value::TimeTicks(*ticks),
        Data::Counter64(number) => Value::Counter64(*number),
    };
    VarBind::new(to_oid(oid), value)
}

fn to_oid(oid: &Oid) -> async_snmp::Oid {
    async_snmp::Oid::from_slice(oid.arcs())
}

/// Counter32 of the snmp group: rolls over.
fn bump(counter: &mut u32) {
    *counter = counter.wrapping_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_snmp::pdu::{GetBulkPdu, RequestPdu};
    use mibs::Node;
    use proptest::prelude::*;
    use std::time::SystemTime;
    use telemetry::Reader;
    use telemetry::time::Zone;

    fn view() -> View {
        let empty = std::env::temp_dir().join(format!("snmp-protocol-{}", std::process::id()));
        std::fs::create_dir_all(&empty).unwrap();
        let reader = Reader::open(&empty).unwrap();
        let node = Node {
            name: "sgw1".into(),
            description: "Starward".into(),
            uptime: 12_345,
            ..Node::default()
        };
        View::new(&node, &reader, SystemTime::now(), &Zone::utc())
    }

    fn agent() -> Agent {
        let mut agent = Agent::default();
        agent.set_communities(vec![
            Community {
                name: b"public".to_vec(),
                access: Access::ReadOnly,
            },
            Community {
                name: b"private".to_vec(),
                access: Access::ReadWrite,
            },
        ]);
        agent
    }

    fn request(community: &str, pdu: Pdu) -> Vec<u8> {
        CommunityMessage::v2c(community.as_bytes(), pdu)
            .unwrap()
            .encode()
            .unwrap()
            .to_vec()
    }

    fn oids(oids: &[&str]) -> Vec<async_snmp::Oid> {
        oids.iter()
            .map(|oid| async_snmp::Oid::parse(oid).unwrap())
            .collect()
    }

    fn bulk_of(non_repeaters: u32, repetitions: u32, asked: &[&str]) -> GetBulkPdu {
        let variables = oids(asked).into_iter().map(VarBind::null).collect();
        GetBulkPdu::new(Version::V2c, 1, non_repeaters, repetitions, variables).unwrap()
    }

    fn decoded(octets: &[u8]) -> Pdu {
        let message = CommunityMessage::decode(octets.to_vec().into(), DecodeConfig::STRICT)
            .unwrap()
            .value;
        message.into_pdu().unwrap()
    }

    fn set(community: &str) -> Vec<u8> {
        let variable = VarBind::new(
            oids(&["1.3.6.1.2.1.1.5.0"]).remove(0),
            Value::OctetString("x".into()),
        );
        request(
            community,
            RequestPdu::set(Version::V2c, 7, vec![variable])
                .unwrap()
                .into_raw(),
        )
    }

    #[test]
    fn get_tells_values_and_what_is_missing() {
        let asked = ["1.3.6.1.2.1.1.5.0", "1.3.6.1.2.1.1.5", "1.3.6.1.2.1.2.1.0"];
        let pdu = RequestPdu::get(Version::V2c, 77, &oids(&asked)).unwrap();
        let answer = decoded(
            &agent()
                .answer(&request("public", pdu.into_raw()), &view())
                .unwrap(),
        );
        let values: Vec<_> = answer
            .varbinds()
            .iter()
            .map(|variable| variable.value.clone())
            .collect();
        assert_eq!(
            values,
            [
                Value::OctetString("sgw1".into()),
                Value::NoSuchInstance,
                Value::NoSuchObject
            ]
        );
        assert_eq!(answer.into_raw_parts().0, 77);
    }

    #[test]
    fn get_next_reaches_the_end() {
        let (mut agent, view) = (agent(), view());
        let mut at = oids(&["0.0"]).remove(0);
        for visited in 0.. {
            let pdu = RequestPdu::get_next(Version::V2c, 1, &[at]).unwrap();
            let answer = decoded(&agent.answer(&request("public", pdu.into_raw()), &view).unwrap());
            if answer.varbinds()[0].value == Value::EndOfMibView {
                assert_eq!(visited, view.len());
                return;
            }
            at = answer.varbinds()[0].oid.clone();
        }
    }

    #[test]
    fn get_bulk_repeats_within_the_size_and_stops_at_the_end() {
        let (mut agent, view) = (agent(), view());
        let pdu = bulk_of(1, 2, &["1.3.6.1.2.1.1.3", "1.3.6.1.2.1.1.4"]);
        let answer = decoded(&agent.answer(&request("public", pdu.into_raw()), &view).unwrap());
        let seen: Vec<_> = answer
            .varbinds()
            .iter()
            .map(|variable| variable.oid.to_string())
            .collect();
        assert_eq!(
            seen,
            ["1.3.6.1.2.1.1.3.0", "1.3.6.1.2.1.1.4.0", "1.3.6.1.2.1.1.5.0"]
        );

        let pdu = bulk_of(0, 2_147_483_647, &["1.3"]);
        let octets = agent.answer(&request("public", pdu.into_raw()), &view).unwrap();
        assert!(octets.len() <= MAX_RESPONSE, "{} octets", octets.len());
        assert!(decoded(&octets).varbinds().len() > 20);

        let pdu = bulk_of(0, 2_147_483_647, &["1.4"]);
        let answer = decoded(&agent.answer(&request("public", pdu.into_raw()), &view).unwrap());
        assert_eq!(answer.varbinds().len(), 1);
        assert_eq!(answer.varbinds()[0].value, Value::EndOfMibView);
    }

    #[test]
    fn a_get_that_does_not_fit_is_too_big() {
        let asked = vec!["1.3.6.1.2.1.1.1.0"; 200];
        let pdu = RequestPdu::get(Version::V2c, 5, &oids(&asked)).unwrap();
        let answer = decoded(
            &agent()
                .answer(&request("public", pdu.into_raw()), &view())
                .unwrap(),
        );
        assert_eq!(answer.error_status(), 1);
        assert!(answer.varbinds().is_empty());
    }

    #[test]
    fn nothing_can_be_set() {
        let (mut agent, view) = (agent(), view());
        let answer = decoded(&agent.answer(&set("private"), &view).unwrap());
        assert_eq!((answer.error_status(), answer.error_index()), (17, 1));
        let answer = decoded(&agent.answer(&set("public"), &view).unwrap());
        assert_eq!((answer.error_status(), answer.error_index()), (6, 1));
        assert_eq!(agent.statistics().bad_community_uses, 1);
    }

    #[test]
    fn what_is_not_answered_is_counted() {
        let (mut agent, view) = (agent(), view());
        let pdu = || {
            RequestPdu::get(Version::V2c, 1, &oids(&["1.3.6.1.2.1.1.5.0"]))
                .unwrap()
                .into_raw()
        };
        assert_eq!(agent.answer(&request("wrong", pdu()), &view), None);
        assert_eq!(agent.answer(&[0x30, 0x03, 0x02, 0x01], &view), None);
        let v1 = CommunityMessage::v1(b"public".as_slice(), pdu())
            .unwrap()
            .encode()
            .unwrap();
        assert_eq!(agent.answer(&v1, &view), None);
        let expected = AgentStatistics {
            packets: 3,
            bad_versions: 1,
            bad_community_names: 1,
            parse_errors: 1,
            ..AgentStatistics::default()
        };
        assert_eq!(agent.statistics(), expected);
    }

    #[test]
    fn a_trap_begins_with_uptime_and_its_identifier() {
        let notification = Notification {
            oid: Oid::new(&[1, 3, 6, 1, 4, 1, 8164, 2, 1099]),
            variables: vec![(
                Oid::new(&[1, 3, 6, 1, 4, 1, 8164, 1, 36, 1, 0]),
                Data::Octets(b"isp".to_vec()),
            )],
        };
        let pdu = decoded(&notify(Form::TrapV2c, b"public", 9, 4_711, &notification).unwrap());
        assert_eq!(pdu.pdu_type(), PduType::TrapV2);
        let variables: Vec<_> = pdu
            .varbinds()
            .iter()
            .map(|variable| (variable.oid.to_string(), variable.value.clone()))
            .collect();
        assert_eq!(
            variables[0],
            ("1.3.6.1.2.1.1.3.0".to_owned(), Value::TimeTicks(4_711))
        );
        let identifier = Value::ObjectIdentifier(to_oid(&notification.oid));
        assert_eq!(variables[1], ("1.3.6.1.6.3.1.1.4.1.0".to_owned(), identifier));
        assert_eq!(variables.len(), 3);
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived(datagram: Vec<u8>) {
            crate::fuzz::request(&datagram);
        }

        #[test]
        fn a_damaged_request_is_survived(at in 0usize..60, to: u8, cut in 0usize..60) {
            let pdu = bulk_of(1, 9, &["1.3.6.1.2.1.1.3", "1.3.6.1.2"]);
            let mut datagram = request("public", pdu.into_raw());
            let length = datagram.len();
            datagram[at % length] = to;
            datagram.truncate(length - cut % length);
            crate::fuzz::request(&datagram);
            if let Some(answer) = agent().answer(&datagram, &view()) {
                prop_assert!(answer.len() <= MAX_RESPONSE);
            }
        }
    }
}
