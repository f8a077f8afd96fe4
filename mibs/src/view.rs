//! A snapshot of every readable instance.

use std::time::SystemTime;

use telemetry::counters::{Counter, Schema, wsg};
use telemetry::time::{Civil, Zone, unix_seconds};
use telemetry::{Reader, Scope};

use crate::data::Data;
use crate::objects::{Index, OBJECTS, Object};
use crate::oid::Oid;

/// What the agent tells about the node, besides its counters.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// `sysDescr` and `starChassisDescription`.
    pub description: String,
    /// Software version.
    pub version: String,
    /// `system hostname`.
    pub name: String,
    /// `system contact`.
    pub contact: String,
    /// `system location`.
    pub location: String,
    /// Hundredths of a second since the node started.
    pub uptime: u32,
    /// The processes.
    pub tasks: Vec<Task>,
    /// The configured services.
    pub services: Vec<Service>,
    /// What the agent counts about itself.
    pub agent: AgentStatistics,
}

/// A row of the task table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Facility number.
    pub facility_number: u32,
    /// Facility name.
    pub facility: String,
    /// Instance.
    pub instance: u32,
}

/// A row of the service table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Number of the context, `local` is 1.
    pub context_number: u32,
    /// Number of the service.
    pub number: u32,
    /// Context name.
    pub context: String,
    /// Service name.
    pub name: String,
    /// What kind of service.
    pub kind: ServiceType,
    /// Most sessions it may have.
    pub limit: u32,
}

/// `starServiceType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum ServiceType {
    /// Wireless security gateway.
    Wsg = 41,
}

/// The snmp group of SNMPv2-MIB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentStatistics {
    /// Datagrams received.
    pub packets: u32,
    /// With a version that is not served.
    pub bad_versions: u32,
    /// With a community that is not configured.
    pub bad_community_names: u32,
    /// With a community that does not allow the operation.
    pub bad_community_uses: u32,
    /// Not decodable.
    pub parse_errors: u32,
    /// Dropped because even an error answer would have been too long, or could not be sent.
    pub silent_drops: u32,
}

/// Every readable instance with its value at one moment, in the order of the MIB.
#[derive(Debug, Clone, Default)]
pub struct View {
    instances: Vec<(Oid, Data)>,
}

/// The answer to a get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The value of the instance.
    Value(&'a Data),
    /// There is such an object, but no such instance of it.
    NoSuchInstance,
    /// There is no such object.
    NoSuchObject,
}

impl View {
    /// Takes a snapshot of the node and its counters.
    pub fn new(node: &Node, counters: &Reader, now: SystemTime, zone: &Zone) -> Self {
        let mut instances = Vec::new();
        for object in OBJECTS {
            let oid = object.oid();
            match object.index {
                Index::Scalar => {
                    if let Some(value) = scalar(object, node, counters, now, zone) {
                        instances.push((oid.child(&[0]), value));
                    }
                }
                Index::Task => instances.extend(node.tasks.iter().filter_map(|task| {
                    let value = task_column(object, task)?;
                    Some((oid.child(&[task.facility_number, task.instance]), value))
                })),
                Index::Service => instances.extend(node.services.iter().filter_map(|service| {
                    let value = service_column(object, service, counters)?;
                    Some((oid.child(&[service.context_number, service.number]), value))
                })),
                // These occur in notifications only.
                Index::Cpu | Index::Cli | Index::Certificate | Index::RadiusServer => {}
            }
        }
        instances.sort_by(|a, b| a.0.cmp(&b.0));
        instances.dedup_by(|a, b| a.0 == b.0);
        Self { instances }
    }

    /// The value of exactly this instance.
    pub fn get(&self, oid: &Oid) -> Lookup<'_> {
        if let Ok(place) = self.instances.binary_search_by(|(instance, _)| instance.cmp(oid))
            && let Some((_, value)) = self.instances.get(place)
        {
            return Lookup::Value(value);
        }
        let object = OBJECTS
            .iter()
            .map(Object::oid)
            .find(|object| oid.is_under(object));
        match object {
            Some(object)
                if self
                    .instances
                    .iter()
                    .any(|(instance, _)| instance.is_under(&object)) =>
            {
                Lookup::NoSuchInstance
            }
            _ => Lookup::NoSuchObject,
        }
    }

    /// The first instance behind this identifier; `None` at the end of the MIB.
    pub fn next(&self, oid: &Oid) -> Option<(&Oid, &Data)> {
        let place = self.instances.partition_point(|(instance, _)| instance <= oid);
        self.instances
            .get(place)
            .map(|(instance, value)| (instance, value))
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }
}

/// The value of a scalar; `None` for one that only occurs in notifications.
fn scalar(object: &Object, node: &Node, counters: &Reader, now: SystemTime, zone: &Zone) -> Option<Data> {
    let number = |number: u32| Some(Data::number(object.syntax, u64::from(number)));
    let instances = |facility: &str| {
        let count = counters
            .instances()
            .iter()
            .filter(|(name, _)| *name == facility)
            .count();
        Some(Data::number(object.syntax, count as u64))
    };
    match object.name {
        "sysDescr" | "starChassisDescription" => Some(Data::text(&node.description)),
        "sysObjectID" => Some(Data::Oid(Oid::new(&ENTERPRISE))),
        "sysUpTime" => number(node.uptime),
        "sysContact" => Some(Data::text(&node.contact)),
        "sysName" => Some(Data::text(&node.name)),
        "sysLocation" => Some(Data::text(&node.location)),
        "sysServices" => number(SERVICES),
        "snmpInPkts" => number(node.agent.packets),
        "snmpInBadVersions" => number(node.agent.bad_versions),
        "snmpInBadCommunityNames" => number(node.agent.bad_community_names),
        "snmpInBadCommunityUses" => number(node.agent.bad_community_uses),
        "snmpInASNParseErrs" => number(node.agent.parse_errors),
        "snmpSilentDrops" => number(node.agent.silent_drops),
        "starChassisUTCTime" => Some(Data::date(&Civil::utc(now), 0)),
        "starChassisLocalTime" => Some(Data::date(
            &Civil::local(now, zone),
            zone.offset(unix_seconds(now)).seconds,
        )),
        // unknown(0): none of the chassis that the enumeration knows.
        "starChassisType" => number(0),
        "starChassisSWRevision" => Some(Data::text(&node.version)),
        "starSessMgrCount" => instances("sessmgr"),
        "starAAAMgrCount" => instances("aaamgr"),
        name => {
            let counter = Counter::all().find(|counter| counter.descriptor().objects.contains(&name))?;
            Some(Data::number(object.syntax, counters.sum(counter)))
        }
    }
}

fn task_column(object: &Object, task: &Task) -> Option<Data> {
    match object.name {
        "starTaskFacilityName" => Some(Data::text(&task.facility)),
        "starTaskCard" => Some(Data::Gauge32(CARD)),
        "starTaskCPU" => Some(Data::Gauge32(0)),
        // The instance is accessible in notifications only.
        _ => None,
    }
}

fn service_column(object: &Object, service: &Service, counters: &Reader) -> Option<Data> {
    match object.name {
        "starServiceVpnName" => Some(Data::text(&service.context)),
        "starServiceServName" => Some(Data::text(&service.name)),
        "starServiceSubLimit" => Some(Data::Gauge32(service.limit)),
        "starServiceSubCurrent" => {
            let ServiceType::Wsg = service.kind;
            let scope = Scope {
                schema: Schema::Wsg,
                context: service.context.clone(),
                name: service.name.clone(),
            };
            Some(Data::number(
                object.syntax,
                counters.scoped_sum(&scope, wsg::CURRENT_SESSIONS),
            ))
        }
        "starServiceType" => Some(Data::Integer(service.kind as i32)),
        _ => None,
    }
}

/// `starentMIB`, the identity of the node in `sysObjectID`.
const ENTERPRISE: [u32; 7] = [1, 3, 6, 1, 4, 1, 8164];
/// `sysServices`: layers 3 and 4 (RFC 3418).
const SERVICES: u32 = 1 << 2 | 1 << 3;
/// A node in software is one card.
const CARD: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::Counters;
    use telemetry::counters::session;

    struct Pages(std::path::PathBuf);

    impl Drop for Pages {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn view(name: &str) -> (View, Pages) {
        let pages = Pages(std::env::temp_dir().join(format!("mibs-{name}-{}", std::process::id())));
        std::fs::create_dir_all(&pages.0).unwrap();
        for (instance, sessions) in [(1, 7), (2, 5)] {
            let counters = Counters::open(&pages.0, "sessmgr", instance).unwrap();
            counters.set(session::CURRENT_CALLS, sessions);
            counters.add(session::TX_OCTETS, u64::from(u32::MAX));
            let scoped = counters.scoped(&Scope::wsg("isp", "enb")).unwrap();
            scoped.set(wsg::CURRENT_SESSIONS, sessions);
        }
        let node = Node {
            name: "sgw1".into(),
            tasks: vec![Task {
                facility_number: 7,
                facility: "sessmgr".into(),
                instance: 2,
            }],
            services: vec![Service {
                context_number: 2,
                number: 1,
                context: "isp".into(),
                name: "enb".into(),
                kind: ServiceType::Wsg,
                limit: 8_000,
            }],
            ..Node::default()
        };
        let reader = Reader::open(&pages.0).unwrap();
        (View::new(&node, &reader, SystemTime::now(), &Zone::utc()), pages)
    }

    fn value(view: &View, name: &str, instance: &[u32]) -> Data {
        match view.get(&Object::find(name).expect(name).oid().child(instance)) {
            Lookup::Value(value) => value.clone(),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn scalars_report_counters_over_all_instances() {
        let (view, _pages) = view("scalars");
        assert_eq!(value(&view, "starSessInProgCalls", &[0]), Data::Gauge32(12));
        assert_eq!(value(&view, "starSessMgrCount", &[0]), Data::Gauge32(2));
        assert_eq!(value(&view, "starAAAMgrCount", &[0]), Data::Gauge32(0));
        let twice = 2 * u64::from(u32::MAX);
        assert_eq!(
            value(&view, "starSessTtlTxBytesRev1", &[0]),
            Data::Counter64(twice)
        );
        assert_eq!(
            value(&view, "starSessTtlTxBytes", &[0]),
            Data::Counter32(u32::MAX - 1)
        );
    }

    #[test]
    fn tables_have_a_row_for_each_task_and_service() {
        let (view, _pages) = view("tables");
        assert_eq!(
            value(&view, "starTaskFacilityName", &[7, 2]),
            Data::text("sessmgr")
        );
        assert_eq!(value(&view, "starServiceSubCurrent", &[2, 1]), Data::Gauge32(12));
        assert_eq!(value(&view, "starServiceType", &[2, 1]), Data::Integer(41));
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        let (view, _pages) = view("missing");
        let sys_name = Object::find("sysName").unwrap().oid();
        assert_eq!(view.get(&sys_name), Lookup::NoSuchInstance);
        assert_eq!(view.get(&sys_name.child(&[1])), Lookup::NoSuchInstance);
        assert_eq!(
            view.get(&Oid::new(&[1, 3, 6, 1, 2, 1, 2, 1, 0])),
            Lookup::NoSuchObject
        );
        let notify_only = Object::find("starIPSECContextName").unwrap().oid();
        assert_eq!(view.get(&notify_only.child(&[0])), Lookup::NoSuchObject);
    }

    #[test]
    fn a_walk_visits_every_instance_in_order() {
        let (view, _pages) = view("walk");
        let (mut at, mut seen) = (Oid::default(), 0);
        while let Some((oid, value)) = view.next(&at) {
            assert!(*oid > at);
            assert_eq!(view.get(oid), Lookup::Value(value));
            at = oid.clone();
            seen += 1;
        }
        assert_eq!(seen, view.len());
        assert!(seen > 40, "{seen}");
    }
}
