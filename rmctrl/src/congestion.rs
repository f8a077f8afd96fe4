//! Congestion control: what is measured against its thresholds, and what follows for new peers.
//!
//! A threshold is entered when the measured value reaches it, and left when the value is back below it by the tolerance. Congestion of a
//! service's sessions concerns this service, any other all services.

use std::collections::{BTreeMap, BTreeSet};

use bus::messages::rmctrl::{self as message, CongestedService};
use config::{CongestionAction, CongestionThreshold as Threshold, PortId, Tolerance};
use telemetry::events::{Congestion as Raised, CongestionClear, emit};

/// What a measured value is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Node,
    Service(CongestedService),
    Port(PortId),
}

/// A value in hundredths of its unit (percent, or seconds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measurement {
    pub threshold: Threshold,
    pub subject: Subject,
    pub value: u64,
}

/// The state of congestion control.
#[derive(Debug, Default)]
pub(crate) struct Congestion {
    settings: config::Congestion,
    /// What is beyond its threshold, with its value.
    over: BTreeMap<(Threshold, Subject), u64>,
    /// The latest measurements.
    measured: Vec<Measurement>,
    /// How often each threshold was entered.
    entered: BTreeMap<Threshold, u64>,
    /// How often the policy came to be applied.
    applied: u64,
    /// The policy is being applied, and an alarm is raised.
    applying: bool,
}

impl Congestion {
    /// Thresholds and policy.
    pub fn settings(&self) -> &config::Congestion {
        &self.settings
    }

    /// Takes over thresholds and policy; what that changes shows with the next [`judge`](Self::judge).
    pub fn configure(&mut self, settings: &config::Congestion) {
        self.settings = settings.clone();
    }

    /// Compares what was measured with the thresholds. True when what new peers get has changed.
    pub fn judge(&mut self, measured: Vec<Measurement>) -> bool {
        let before = self.verdict();
        let mut over = BTreeMap::new();
        let mut fresh = Vec::new();
        for measurement in measured.iter().filter(|_| self.settings.enabled) {
            let Some(limit) = self.limit(measurement) else {
                continue;
            };
            let key = (measurement.threshold, measurement.subject.clone());
            let was_over = self.over.contains_key(&key);
            // With a tolerance of nothing it is left below, not at, where it is entered.
            let is_over = measurement.value >= u64::from(limit) * 100
                || was_over && measurement.value > self.clear(measurement.threshold, limit);
            if is_over {
                over.insert(key, measurement.value);
            }
            if is_over && !was_over {
                *self.entered.entry(measurement.threshold).or_default() += 1;
                fresh.push((measurement.clone(), limit));
            }
        }
        self.over = over;
        self.measured = measured;
        if self.is_applied() && !self.applying {
            self.applied += 1;
            // The policy may be younger than the congestion.
            fresh = self.standing();
        }
        self.tell(&fresh);
        before != self.verdict()
    }

    /// What new peers get, for those who serve them.
    pub fn verdict(&self) -> message::Congestion {
        let services: BTreeSet<&CongestedService> = self.over.keys().filter_map(service).collect();
        let action = match (self.settings.enabled, self.settings.wsg) {
            (false, _) | (true, CongestionAction::Nothing) => message::CongestionAction::Nothing,
            (true, CongestionAction::Drop) => message::CongestionAction::Drop,
            (true, CongestionAction::Reject) => message::CongestionAction::Reject,
            (true, CongestionAction::Redirect) => message::CongestionAction::Redirect,
        };
        message::Congestion {
            action: action.into(),
            everywhere: self.over.keys().any(|key| service(key).is_none()),
            services: services.into_iter().cloned().collect(),
        }
    }

    /// Is anything beyond its threshold?
    pub fn is_congested(&self) -> bool {
        !self.over.is_empty()
    }

    /// Does the policy do something about it now?
    pub fn is_applied(&self) -> bool {
        self.is_congested() && self.settings.enabled && self.settings.wsg != CongestionAction::Nothing
    }

    /// How often the policy came to be applied.
    pub fn times_applied(&self) -> u64 {
        self.applied
    }

    /// How often a threshold was entered.
    pub fn times_entered(&self, threshold: Threshold) -> u64 {
        self.entered.get(&threshold).copied().unwrap_or(0)
    }

    /// The highest value measured for a threshold, and of what; `None` when nothing could be measured.
    pub fn worst(&self, threshold: Threshold) -> Option<&Measurement> {
        let all = self.measured.iter();
        all.filter(|measurement| measurement.threshold == threshold)
            .max_by_key(|measurement| measurement.value)
    }

    /// Is this threshold reached anywhere?
    pub fn is_over(&self, threshold: Threshold) -> bool {
        self.over.keys().any(|(over, _)| *over == threshold)
    }

    /// At this value or below a threshold is left, in hundredths: percent of a percentage are taken off it, percent of seconds are a part of them.
    pub fn clear(&self, threshold: Threshold, limit: u32) -> u64 {
        let Tolerance(tolerance) = self.settings.tolerance;
        match threshold {
            Threshold::MessageWait => u64::from(limit) * u64::from(100 - tolerance.min(100)),
            _ => u64::from(limit.saturating_sub(tolerance)) * 100,
        }
    }

    fn limit(&self, measurement: &Measurement) -> Option<u32> {
        match (&measurement.subject, measurement.threshold) {
            (Subject::Port(port), Threshold::PortSpecificRx) => self.settings.port_limits(*port)?.0,
            (Subject::Port(port), Threshold::PortSpecificTx) => self.settings.port_limits(*port)?.1,
            (_, threshold) => self.settings.limit(threshold),
        }
    }

    /// Everything beyond its threshold, with the threshold.
    fn standing(&self) -> Vec<(Measurement, u32)> {
        let over = self.over.iter().filter_map(|((threshold, subject), value)| {
            let measurement = Measurement {
                threshold: *threshold,
                subject: subject.clone(),
                value: *value,
            };
            let limit = self.limit(&measurement)?;
            Some((measurement, limit))
        });
        over.collect()
    }

    fn tell(&mut self, fresh: &[(Measurement, u32)]) {
        for (measurement, limit) in fresh {
            let measured = format!(
                "{}{} (threshold {limit}{})",
                of(&measurement.subject),
                value(measurement),
                measurement.threshold.unit()
            );
            let label = measurement.threshold.label();
            let Some(policy) = policy(self.settings.wsg) else {
                tracing::warn!("congestion: {label} is {measured}; the policy does nothing about it");
                continue;
            };
            emit(&Raised {
                threshold: &label,
                measured: &measured,
                action: &self.settings.wsg.to_string(),
                policy,
                resource: resource(measurement.threshold),
            });
        }
        if self.applying && !self.is_applied() {
            emit(&CongestionClear {});
        }
        self.applying = self.is_applied();
    }
}

/// The service that a threshold concerns, if it is one.
fn service((_, subject): &(Threshold, Subject)) -> Option<&CongestedService> {
    match subject {
        Subject::Service(service) => Some(service),
        Subject::Node | Subject::Port(_) => None,
    }
}

/// What a value is of, in words with a blank behind them.
pub(crate) fn of(subject: &Subject) -> String {
    match subject {
        Subject::Node => String::new(),
        Subject::Service(service) => format!("{} {} ", service.context, service.service),
        Subject::Port(port) => format!("{port} "),
    }
}

/// `81.25%`, `5.00 seconds`.
pub(crate) fn value(measurement: &Measurement) -> String {
    let Measurement { threshold, value, .. } = measurement;
    format!("{}.{:02}{}", value / 100, value % 100, threshold.unit())
}

/// starCongestionPolicy of STARENT-MIB, which has no number for nothing.
fn policy(action: CongestionAction) -> Option<u32> {
    match action {
        CongestionAction::Nothing => None,
        CongestionAction::Reject => Some(1),
        CongestionAction::Redirect => Some(2),
        CongestionAction::Drop => Some(3),
    }
}

/// starCongestionResourceType of STARENT-MIB.
fn resource(threshold: Threshold) -> u32 {
    match threshold {
        Threshold::SystemCpu => 1,
        Threshold::ServiceCpu => 2,
        Threshold::SystemMemory => 3,
        Threshold::MessageQueue => 4,
        Threshold::MessageWait => 5,
        Threshold::PortRx => 8,
        Threshold::PortTx => 9,
        Threshold::PortSpecificRx => 10,
        Threshold::PortSpecificTx => 11,
        Threshold::MaxSessions => 12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(lines: &str) -> config::Congestion {
        config::Config::parse(lines).unwrap().congestion
    }

    fn node(threshold: Threshold, value: u64) -> Measurement {
        Measurement {
            threshold,
            subject: Subject::Node,
            value,
        }
    }

    fn of_service(name: &str, value: u64) -> Measurement {
        let service = CongestedService {
            context: "isp".into(),
            service: name.into(),
        };
        Measurement {
            threshold: Threshold::MaxSessions,
            subject: Subject::Service(service),
            value,
        }
    }

    #[test]
    fn a_threshold_is_entered_where_it_is_and_left_below_its_tolerance() {
        let mut congestion = Congestion::default();
        congestion.configure(&settings(
            "congestion-control\ncongestion-control policy wsg-service action reject\n\
             congestion-control threshold system-cpu-utilization 90\ncongestion-control threshold tolerance 5\n",
        ));
        let cpu = |value| vec![node(Threshold::SystemCpu, value)];
        assert!(!congestion.judge(cpu(8_999)));
        assert!(congestion.judge(cpu(9_000)));
        let verdict = congestion.verdict();
        assert_eq!(verdict.action(), message::CongestionAction::Reject);
        assert!(verdict.everywhere && verdict.services.is_empty());
        assert!(!congestion.judge(cpu(8_501)), "within the tolerance");
        assert!(congestion.judge(cpu(8_500)));
        assert!(!congestion.verdict().everywhere);
        assert_eq!(
            (
                congestion.times_entered(Threshold::SystemCpu),
                congestion.times_applied()
            ),
            (1, 1)
        );
    }

    #[test]
    fn without_tolerance_it_is_left_where_it_was_entered() {
        let mut congestion = Congestion::default();
        congestion.configure(&settings(
            "congestion-control\ncongestion-control threshold tolerance 0\n",
        ));
        let cpu = |value| vec![node(Threshold::SystemCpu, value)];
        assert!(congestion.judge(cpu(8_000)));
        assert!(!congestion.judge(cpu(8_000)), "it stands");
        assert!(congestion.judge(cpu(7_999)));
    }

    #[test]
    fn seconds_have_a_part_of_them_for_tolerance() {
        let mut congestion = Congestion::default();
        congestion.configure(&settings("congestion-control\n"));
        let wait = |value| vec![node(Threshold::MessageWait, value)];
        assert!(congestion.judge(wait(500)));
        assert!(!congestion.judge(wait(451)));
        assert!(congestion.judge(wait(450)));
    }

    #[test]
    fn sessions_concern_their_service_alone() {
        let mut congestion = Congestion::default();
        congestion.configure(&settings(
            "congestion-control\ncongestion-control policy wsg-service action drop\n\
             congestion-control threshold max-sessions-per-service-utilization 1\n",
        ));
        assert!(congestion.judge(vec![of_service("a", 5_000), of_service("b", 0)]));
        let verdict = congestion.verdict();
        assert!(!verdict.everywhere);
        assert_eq!(verdict.action(), message::CongestionAction::Drop);
        assert_eq!(
            verdict
                .services
                .iter()
                .map(|service| &*service.service)
                .collect::<Vec<_>>(),
            ["a"]
        );
        // A threshold smaller than the tolerance is left at nothing.
        assert!(!congestion.judge(vec![of_service("a", 1)]));
        assert!(congestion.judge(vec![of_service("a", 0)]));
        // A service that is gone is not congested.
        assert!(congestion.judge(vec![of_service("a", 5_000)]));
        assert!(congestion.judge(Vec::new()));
    }

    #[test]
    fn what_is_not_watched_does_not_count() {
        let mut congestion = Congestion::default();
        let busy = || vec![node(Threshold::SystemCpu, 10_000)];
        assert!(!congestion.judge(busy()), "it is off");
        congestion.configure(&settings(
            "congestion-control\nno congestion-control threshold system-cpu-utilization\n",
        ));
        assert!(!congestion.judge(busy()));
        // Without a policy it is seen, and nothing is done.
        congestion.configure(&settings("congestion-control\n"));
        assert!(congestion.judge(busy()));
        assert!(congestion.is_congested() && !congestion.is_applied());
        assert_eq!(congestion.verdict().action(), message::CongestionAction::Nothing);
        congestion.configure(&settings(
            "congestion-control\ncongestion-control policy wsg-service action drop\n",
        ));
        congestion.judge(busy());
        assert!(congestion.is_applied() && congestion.applying);
        assert_eq!((congestion.times_applied(), congestion.standing().len()), (1, 1));
        congestion.configure(&settings(""));
        congestion.judge(busy());
        assert!(!congestion.is_congested() && !congestion.applying);
    }

    #[test]
    fn ports_have_their_own_limits() {
        let mut congestion = Congestion::default();
        congestion.configure(&settings(
            "congestion-control\ncongestion-control threshold port-specific 1/10 rx-utilization 40\n",
        ));
        let port = |port, threshold, value| Measurement {
            threshold,
            subject: Subject::Port(PortId { slot: 1, port }),
            value,
        };
        assert!(!congestion.judge(vec![
            port(10, Threshold::PortSpecificRx, 3_999),
            port(10, Threshold::PortSpecificTx, 7_999),
            port(11, Threshold::PortSpecificRx, 10_000),
        ]));
        assert!(congestion.judge(vec![port(10, Threshold::PortSpecificRx, 4_000)]));
        assert!(congestion.verdict().everywhere);
    }
}
