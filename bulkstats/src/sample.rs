//! A sample: one line for each object of each schema.

use crate::settings::{FileSettings, SchemaSettings};
use crate::variables::{Kind, Values};

/// The lines of a file for one moment. Objects follow each other, each with all its schemas in the order of their names; the lines of
/// the system come last.
pub fn sample(file: &FileSettings, values: &Values<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in Kind::ALL {
        let mut schemas: Vec<&SchemaSettings> =
            file.schemas.iter().filter(|schema| schema.kind == kind).collect();
        if schemas.is_empty() {
            continue;
        }
        schemas.sort_by(|a, b| a.name.cmp(&b.name));
        for object in values.objects(kind) {
            lines.extend(
                schemas
                    .iter()
                    .map(|schema| schema.format.expand(|variable| values.of(object, variable))),
            );
        }
    }
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::card::CardSample;
    use crate::variables::{Identity, WsgService, rows};
    use config::bulkstats::Format;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    use telemetry::counters::{ikev2, wsg, wsg_state};
    use telemetry::time::Zone;
    use telemetry::{Counters, Reader, Scope};

    /// A node with counters, in a directory of its own.
    pub(crate) struct Scene {
        pub directory: std::path::PathBuf,
        pub reader: Reader,
        pub identity: Identity,
        pub services: Vec<WsgService>,
        pub zone: Zone,
    }

    impl Scene {
        pub(crate) fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("bulkstats-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let ike = Counters::open(&directory, "ipsecmgr", 1).unwrap();
            ike.set(ikev2::CURRENT_SAS, 10);
            ike.add(ikev2::RX_PACKETS, (1 << 32) + 40);
            let sessions = Counters::open(&directory, "sessmgr", 1).unwrap();
            sessions
                .scoped(&Scope::wsg("isp", "enb"))
                .unwrap()
                .add(wsg::SETUP_ATTEMPTS, 3);
            ike.scoped(&Scope::wsg("isp", "enb"))
                .unwrap()
                .set(wsg_state::SERVING, 1);
            let service = |name: &str, number| WsgService {
                context: "isp".into(),
                context_number: 2,
                name: name.into(),
                number,
                address: "192.0.2.1".into(),
            };
            Self {
                reader: Reader::open(&directory).unwrap(),
                directory,
                identity: Identity {
                    host: "sgw1".into(),
                    uptime: 99,
                    ..Identity::default()
                },
                services: vec![service("enb", 1), service("ap", 2)],
                zone: Zone::posix("EST5").unwrap(),
            }
        }

        pub(crate) fn values(&self) -> Values<'_> {
            Values {
                identity: &self.identity,
                counters: &self.reader,
                services: &self.services,
                card: CardSample::default(),
                now: moment(),
                zone: &self.zone,
            }
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    /// 2020-12-20 17:45:31 UTC.
    pub(crate) fn moment() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_608_486_331)
    }

    pub(crate) fn file(schemas: &[(Kind, &str, &str)]) -> FileSettings {
        let schema = |&(kind, name, format): &(Kind, &str, &str)| SchemaSettings {
            kind,
            name: name.into(),
            format: Format::parse(format),
        };
        FileSettings {
            number: 1,
            remote_file: "%host%_bulkstats_%localdate%_%localtime%_%localtz%_5_5.csv".into(),
            header: String::new(),
            footer: String::new(),
            schemas: schemas.iter().map(schema).collect(),
        }
    }

    #[test]
    fn lines_come_by_object_and_schema_name_and_the_system_last() {
        let scene = Scene::new("order");
        let file = file(&[
            (
                Kind::System,
                "sysSch1",
                "sysSch1,%date%,%time%,%ikev2-cursa%,%ikev2-rxpacket%",
            ),
            (
                Kind::Wsg,
                "wsgSch2",
                "wsgSch2,%svcname%,%wsg-total-setup-attempts%,%state%",
            ),
            (
                Kind::Wsg,
                "wsgSch10",
                "wsgSch10,%vpnname%,%svcname%,%vpnid%,%svcid%,%ikev2-cursa%",
            ),
            (Kind::Card, "cardSch1", "cardSch1,%date%,%card%,%cpubusy%"),
        ]);
        let expected = [
            "cardSch1,20201220,1,0.00",
            "wsgSch10,isp,ap,2,2,%ikev2-cursa%",
            "wsgSch2,ap,0,Initialized",
            "wsgSch10,isp,enb,2,1,%ikev2-cursa%",
            "wsgSch2,enb,3,Started",
            "sysSch1,20201220,174531,10,40",
        ];
        assert_eq!(sample(&file, &scene.values()), expected);
    }

    #[test]
    fn dates_and_times_in_every_form() {
        let scene = Scene::new("dates");
        let format = "%date% %date3% %time% %localdate% %localdate3% %localtime% %localtz% %localtzoffset% %epochtime%";
        let line = sample(&file(&[(Kind::System, "s", format)]), &scene.values()).remove(0);
        assert_eq!(
            line,
            "20201220 201220 174531 20201220 201220 124531 EST -0500 1608486331"
        );
    }

    #[test]
    fn every_variable_that_is_listed_has_a_value() {
        let scene = Scene::new("rows");
        let values = scene.values();
        for row in rows() {
            let value = match Kind::find(row.schema) {
                None => values.common(row.variable),
                Some(kind) => values.of(values.objects(kind)[0], row.variable),
            };
            assert!(value.is_some(), "{} {}", row.schema, row.variable);
        }
    }
}
