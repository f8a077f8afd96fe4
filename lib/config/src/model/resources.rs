//! What the resource manager watches: congestion control and thresholds.

use std::collections::BTreeMap;

use command::Keyword as _;

use super::PortId;

/// `congestion-control ...`: when the node counts as overloaded, and what new peers get then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Congestion {
    /// `congestion-control`: thresholds are watched and the policy holds. Default off.
    pub enabled: bool,
    /// `policy wsg-service action`.
    pub wsg: CongestionAction,
    /// `threshold NAME`, where it differs from [`CongestionThreshold::initial`]; `None` is not watched.
    pub limits: BTreeMap<CongestionThreshold, Option<u32>>,
    /// `threshold tolerance`: percent below a threshold at which it counts as left.
    pub tolerance: Tolerance,
    /// `threshold port-specific all`.
    pub all_ports: Option<PortLimits>,
    /// `threshold port-specific SLOT/PORT`.
    pub ports: BTreeMap<PortId, PortLimits>,
}

impl Congestion {
    /// The value of a threshold in its unit; `None` when it is not watched.
    pub fn limit(&self, threshold: CongestionThreshold) -> Option<u32> {
        let configured = self.limits.get(&threshold).copied();
        configured.unwrap_or(Some(threshold.initial()))
    }

    /// What is watched at a port by itself: received, sent (percent); `None` when nothing is.
    pub fn port_limits(&self, port: PortId) -> Option<(Option<u32>, Option<u32>)> {
        let limits = self.ports.get(&port).or(self.all_ports.as_ref())?;
        let or_general = |own: Option<u32>, general| own.or_else(|| self.limit(general));
        Some((
            or_general(limits.rx, CongestionThreshold::PortSpecificRx),
            or_general(limits.tx, CongestionThreshold::PortSpecificTx),
        ))
    }
}

/// `crypto slot-rebalancing`: when slots go from one data plane to another by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebalancing {
    /// Off with `no crypto slot-rebalancing`.
    pub enabled: bool,
    /// `busy`: the busiest data plane works at least so many percent of the time.
    pub busy: u32,
    /// `difference`: the least busy one so many percentage points less.
    pub difference: u32,
}

impl Default for Rebalancing {
    fn default() -> Self {
        Self {
            enabled: true,
            busy: 80,
            difference: 20,
        }
    }
}

/// Thresholds of one port; `None` where the general one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortLimits {
    /// `rx-utilization`: percent.
    pub rx: Option<u32>,
    /// `tx-utilization`: percent.
    pub tx: Option<u32>,
}

/// Percent below a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance(pub u32);

impl Default for Tolerance {
    fn default() -> Self {
        Self(10)
    }
}

command::keywords! {
    /// What new peers of a kind of service get in congestion; who is connected goes on in any case.
    #[derive(Default)]
    pub enum CongestionAction {
        Drop = "drop", "New peers get no answer";
        #[default]
        Nothing = "none", "New peers are served as ever";
        Redirect = "redirect", "New peers are sent to the gateways of policy overload redirect of the service";
        Reject = "reject", "New peers are refused with a notification";
    }
}

command::keywords! {
    /// What is watched for congestion, with the keyword of its threshold.
    pub enum CongestionThreshold {
        MaxSessions = "max-sessions-per-service-utilization", "Sessions of a service, percent of its max-sessions";
        MessageQueue = "message-queue-utilization", "IKE messages that wait, percent of the room in the fullest socket";
        MessageWait = "message-queue-wait-time", "Seconds that a message to a manager waits";
        PortRx = "port-rx-utilization", "Receive use of the ports, average percent";
        PortSpecificRx = "port-specific-rx-utilization", "Receive use of a port that is watched by itself, percent";
        PortSpecificTx = "port-specific-tx-utilization", "Transmit use of a port that is watched by itself, percent";
        PortTx = "port-tx-utilization", "Transmit use of the ports, average percent";
        ServiceCpu = "service-control-cpu-utilization", "Processor time of the IPsec and session managers, average percent of a processor";
        SystemCpu = "system-cpu-utilization", "Processor time of the node, percent";
        SystemMemory = "system-memory-utilization", "Memory in use, percent";
    }
}

impl CongestionThreshold {
    /// The value when nothing is configured: percent, or seconds.
    pub const fn initial(self) -> u32 {
        match self {
            Self::MessageWait => 5,
            _ => 80,
        }
    }

    /// The largest value; the smallest is 1.
    pub const fn most(self) -> u32 {
        match self {
            Self::MessageWait => 30,
            _ => 100,
        }
    }

    /// `%`, or ` seconds`.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::MessageWait => " seconds",
            _ => "%",
        }
    }

    /// Its keyword as `show` commands print it.
    pub fn label(self) -> String {
        self.keyword().replace('-', " ")
    }
}

/// `threshold ...`: what alarms are raised for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds {
    /// `cpu-crypto-cores-utilization HIGH [clear LOW]`, percent; `None` is off.
    pub crypto_cores: Option<Threshold>,
    /// `poll cpu-crypto-cores-utilization interval`: seconds.
    pub crypto_cores_poll: u32,
}

/// `threshold poll ... interval` when nothing is configured, in seconds.
pub const DEFAULT_THRESHOLD_POLL: u32 = 300;

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            crypto_cores: None,
            crypto_cores_poll: DEFAULT_THRESHOLD_POLL,
        }
    }
}

/// A value at which an alarm is raised, and below which it is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// From here on the alarm is raised.
    pub high: u32,
    /// `clear`: below this it is cleared; `None` is `high`.
    pub clear: Option<u32>,
}

impl Threshold {
    /// Below this the alarm is cleared.
    pub fn low(&self) -> u32 {
        self.clear.unwrap_or(self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_its_own_limits_or_the_general_ones() {
        let mut congestion = Congestion::default();
        let port = PortId { slot: 1, port: 10 };
        assert_eq!(congestion.port_limits(port), None);
        congestion.all_ports = Some(PortLimits::default());
        assert_eq!(congestion.port_limits(port), Some((Some(80), Some(80))));
        congestion
            .limits
            .insert(CongestionThreshold::PortSpecificTx, Some(60));
        let own = PortLimits {
            rx: Some(40),
            tx: None,
        };
        congestion.ports.insert(port, own);
        assert_eq!(congestion.port_limits(port), Some((Some(40), Some(60))));
    }
}
