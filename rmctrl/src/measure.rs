//! What congestion control goes by, measured.

use bus::Facility;
use bus::messages::rmctrl::CongestedService;
use config::{Config, CongestionThreshold as Threshold};
use telemetry::counters::{congestion, wsg};
use telemetry::{Reader, Scope};

use crate::congestion::{Measurement, Subject};
use crate::ports::Ports;
use crate::processors::{Place, Processors};
use crate::tasks::Tasks;

/// Hundredths of a percent that are all.
const WHOLE: u64 = 10_000;

/// A service that is meant for a number of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitedService {
    pub service: CongestedService,
    pub max_sessions: u32,
}

impl LimitedService {
    /// Those of a configuration.
    pub fn all(config: &Config) -> Vec<Self> {
        let limited = config.wsg_services().filter_map(|(context, _, name, service)| {
            Some(Self {
                service: CongestedService {
                    context: context.to_owned(),
                    service: name.to_owned(),
                },
                max_sessions: service.max_sessions?,
            })
        });
        limited.collect()
    }
}

/// Everything there is a measure of now.
pub(crate) fn measure(
    reader: &Reader,
    services: &[LimitedService],
    processors: &Processors,
    tasks: &Tasks,
    ports: &Ports,
) -> Vec<Measurement> {
    let node = |threshold, value: u64| Measurement {
        threshold,
        subject: Subject::Node,
        value,
    };
    let mut measured = Vec::new();
    for limited in services {
        let scope = Scope::wsg(&limited.service.context, &limited.service.service);
        let sessions = reader.scoped_sum(&scope, wsg::CURRENT_SESSIONS);
        measured.push(Measurement {
            threshold: Threshold::MaxSessions,
            subject: Subject::Service(limited.service.clone()),
            value: sessions.saturating_mul(WHOLE) / u64::from(limited.max_sessions.max(1)),
        });
    }
    let managers = reader.instances().into_iter();
    let queues =
        managers.filter_map(|(facility, instance)| reader.instance(facility, instance, congestion::QUEUE));
    if let Some(percent) = queues.max() {
        measured.push(node(Threshold::MessageQueue, percent.saturating_mul(100)));
    }
    let control = || {
        let is_control = |facility| matches!(facility, Facility::Ipsecmgr | Facility::Sessmgr);
        tasks
            .iter()
            .filter(move |(address, _)| is_control(address.facility))
    };
    if let Some(wait) = control().map(|(_, task)| task.wait()).max() {
        let hundredths = u64::try_from(wait.as_millis() / 10).unwrap_or(u64::MAX);
        measured.push(node(Threshold::MessageWait, hundredths));
    }
    let times = control().map(|(_, task)| task.usage.cpu);
    measured.extend(average(times).map(|value| node(Threshold::ServiceCpu, value)));
    if let Some(share) = processors.last(Place::Node) {
        measured.push(node(Threshold::SystemCpu, (share.busy() * 100.0) as u64));
    }
    let memory = processors.memory_used(1).saturating_mul(WHOLE);
    measured.extend(
        memory
            .checked_div(processors.memory_total)
            .map(|value| node(Threshold::SystemMemory, value)),
    );
    for (id, usage) in ports.iter() {
        for (threshold, value) in [
            (Threshold::PortSpecificRx, usage.rx),
            (Threshold::PortSpecificTx, usage.tx),
        ] {
            measured.push(Measurement {
                threshold,
                subject: Subject::Port(id),
                value,
            });
        }
    }
    measured
        .extend(average(ports.iter().map(|(_, usage)| usage.rx)).map(|value| node(Threshold::PortRx, value)));
    measured
        .extend(average(ports.iter().map(|(_, usage)| usage.tx)).map(|value| node(Threshold::PortTx, value)));
    measured
}

fn average(values: impl Iterator<Item = u64>) -> Option<u64> {
    let (count, sum) = values.fold((0u64, 0u64), |(count, sum), value| {
        (count + 1, sum.saturating_add(value))
    });
    sum.checked_div(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::tests::{kernel, two_groups};
    use telemetry::Counters;

    #[tokio::test]
    async fn sessions_queues_processors_and_memory_are_measured() {
        let directory = std::env::temp_dir().join(format!("rmctrl-measure-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for (instance, sessions) in [(1, 2), (2, 1)] {
            let counters = Counters::open(&directory, "sessmgr", instance).unwrap();
            let page = counters.scoped(&Scope::wsg("isp", "enb")).unwrap();
            page.set(wsg::CURRENT_SESSIONS, sessions);
            let counters = Counters::open(&directory, "ipsecmgr", instance).unwrap();
            counters.set(congestion::QUEUE, 10 * u64::from(instance));
        }
        let config = Config::parse(
            "context isp\nwsg-service enb\nmax-sessions 4\nexit\nwsg-service free\nexit\nexit\n",
        )
        .unwrap();
        let services = LimitedService::all(&config);
        assert_eq!(services.len(), 1, "one has no limit");
        let mut processors = Processors::default();
        processors.take(&kernel(0, 0), two_groups());
        processors.take(&kernel(300, 100), two_groups());
        let measured = measure(
            &Reader::open(&directory).unwrap(),
            &services,
            &processors,
            &Tasks::default(),
            &Ports::default(),
        );
        let value = |threshold| {
            let mut all = measured.iter();
            all.find(|measurement| measurement.threshold == threshold)
                .map(|measurement| measurement.value)
        };
        assert_eq!(value(Threshold::MaxSessions), Some(7_500));
        assert_eq!(value(Threshold::MessageQueue), Some(2_000));
        assert_eq!(value(Threshold::SystemCpu), Some(4_285));
        assert_eq!(value(Threshold::SystemMemory), Some(5_000));
        // What is not known is not measured.
        assert_eq!(value(Threshold::MessageWait), None);
        assert_eq!(value(Threshold::ServiceCpu), None);
        assert_eq!(value(Threshold::PortRx), None);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn averages() {
        assert_eq!(average([].into_iter()), None);
        assert_eq!(average([1, 2, 6].into_iter()), Some(3));
    }
}
