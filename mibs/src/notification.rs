//! From an event to its notification.

use std::net::IpAddr;

use telemetry::events::{Descriptor, Value, Variable};

use crate::data::Data;
use crate::objects::{Index, Object, TRAPS};
use crate::oid::Oid;

/// A notification, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// `snmpTrapOID.0`.
    pub oid: Oid,
    /// Its variables.
    pub variables: Vec<(Oid, Data)>,
}

/// The notification of an event; `None` for an event that has none. `field` gives the event's fields by name.
///
/// An IPv6 address where the MIB has IpAddress is sent as 0.0.0.0, and once more as text in the object that STARENT-MIB has for it
/// (RFC 3416 section 4.2.6 allows more variables than the definition names).
pub fn notification<'a>(event: &Descriptor, field: impl Fn(&str) -> Option<&'a str>) -> Option<Notification> {
    let trap = event.trap?;
    let mut variables = Vec::new();
    let mut additional = Vec::new();
    for variable in trap.variables {
        let Some(object) = Object::find(variable.object) else {
            continue;
        };
        let oid = object.oid().child(&instance(object, &field));
        variables.push((oid, value(object, variable, &field)));
        if let Some((companion, text)) = companion(variable, &field) {
            additional.push((companion.oid().child(&[0]), Data::text(text)));
        }
    }
    variables.append(&mut additional);
    Some(Notification {
        oid: Oid::new(TRAPS).child(&[trap.number]),
        variables,
    })
}

fn value<'a>(object: &Object, variable: &Variable, field: &impl Fn(&str) -> Option<&'a str>) -> Data {
    match variable.value {
        Value::Number(number) => Data::number(object.syntax, u64::from(number)),
        Value::Field(name) => Data::parse(object.syntax, field(name).unwrap_or_default()),
    }
}

/// The instance that a variable of this object means.
fn instance<'a>(object: &Object, field: &impl Fn(&str) -> Option<&'a str>) -> Vec<u32> {
    let number = |name: &str| field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    match object.index {
        Index::Scalar => vec![0],
        Index::Task => vec![number("facility_number"), number("instance")],
        Index::Service => vec![number("context_number"), number("service_number")],
        Index::Cpu => vec![1, 0],
        Index::Cli => vec![number("session")],
        Index::RadiusServer => vec![number("index")],
        // A string with implied length: its octets (RFC 2578 section 7.7). An identifier has at most 128 arcs.
        Index::Certificate => field("serial")
            .unwrap_or_default()
            .bytes()
            .take(100)
            .map(u32::from)
            .collect(),
    }
}

/// The object that carries an IPv6 address as text, and the address.
fn companion<'a>(
    variable: &Variable,
    field: &impl Fn(&str) -> Option<&'a str>,
) -> Option<(&'static Object, &'a str)> {
    let name = match variable.object {
        "starIPSECLocalGateway" => "starIPSECTunLocalIpAddr",
        "starIPSECRemoteGateway" => "starIPSECTunRemoteIpAddr",
        _ => return None,
    };
    let Value::Field(source) = variable.value else {
        return None;
    };
    let text = field(source)?;
    matches!(text.parse(), Ok(IpAddr::V6(_))).then_some((Object::find(name)?, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::events::{self, Event};

    fn of<E: Event>(event: &E) -> Notification {
        let fields = event.fields();
        let field = |name: &str| {
            fields
                .iter()
                .find(|(field, _)| *field == name)
                .map(|(_, value)| value.as_str())
        };
        notification(E::DESCRIPTOR, field).expect("this event has a notification")
    }

    fn tunnel<'a>(local: &str, remote: &str) -> events::IpsecTunnelUp<'a> {
        events::IpsecTunnelUp {
            context: "isp",
            policy: "enb",
            peer: "enb1@example.org",
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        }
    }

    #[test]
    fn a_tunnel_that_comes_up() {
        let trap = of(&tunnel("192.0.2.1", "198.51.100.9"));
        assert_eq!(trap.oid.to_string(), "1.3.6.1.4.1.8164.2.164");
        let variables: Vec<_> = trap
            .variables
            .iter()
            .map(|(oid, value)| (oid.to_string(), value))
            .collect();
        let expected = [
            ("1.3.6.1.4.1.8164.1.36.1.0", Data::text("isp")),
            ("1.3.6.1.4.1.8164.1.36.5.0", Data::text("enb")),
            ("1.3.6.1.4.1.8164.1.36.6.0", Data::Integer(4)),
            ("1.3.6.1.4.1.8164.1.36.7.0", Data::Integer(2)),
            ("1.3.6.1.4.1.8164.1.36.8.0", Data::Address([192, 0, 2, 1].into())),
            (
                "1.3.6.1.4.1.8164.1.36.9.0",
                Data::Address([198, 51, 100, 9].into()),
            ),
        ];
        assert_eq!(
            variables,
            expected.each_ref().map(|(oid, value)| ((*oid).to_owned(), value))
        );
    }

    #[test]
    fn ipv6_gateways_are_told_as_text() {
        let trap = of(&tunnel("2001:db8::1", "192.0.2.9"));
        assert_eq!(trap.variables.len(), 7);
        assert_eq!(trap.variables[4].1, Data::Address([0, 0, 0, 0].into()));
        let (oid, value) = &trap.variables[6];
        assert_eq!(
            (oid.to_string().as_str(), value),
            ("1.3.6.1.4.1.8164.1.36.3.0", &Data::text("2001:db8::1"))
        );
    }

    #[test]
    fn columns_carry_their_index() {
        let trap = of(&events::ManagerRestart {
            facility: "sessmgr",
            facility_number: 7,
            instance: 2,
            pid: 4711,
        });
        assert_eq!(trap.oid.to_string(), "1.3.6.1.4.1.8164.2.1099");
        assert_eq!(trap.variables[0].0.to_string(), "1.3.6.1.4.1.8164.1.20.1.1.3.7.2");
        assert_eq!(trap.variables[1].1, Data::Gauge32(2));
        let trap = of(&events::CertExpired {
            name: "gw",
            serial: "0a",
            issuer: "CN=CA",
            expiry: "2020-01-01T00:00:00Z",
        });
        assert_eq!(
            trap.variables[2].0.to_string(),
            "1.3.6.1.4.1.8164.1.50.1.1.2.48.97"
        );
    }

    #[test]
    fn every_trap_of_the_table_can_be_made_even_of_nothing() {
        for event in events::all() {
            let made = notification(event, |_| None);
            assert_eq!(made.is_some(), event.trap.is_some());
            if let (Some(made), Some(trap)) = (made, event.trap) {
                assert_eq!(made.variables.len(), trap.variables.len());
            }
        }
    }
}
