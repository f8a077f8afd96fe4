//! What the agent knows: the answers it gives, and the notifications it makes.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use mibs::{Node, Task, View};
use telemetry::time::{Zone, node_uptime};
use telemetry::{Reader, events};

use crate::protocol::{self, Agent, Community};
use crate::settings::Settings;
use crate::traps::{Told, Traps};

/// A view is this fresh at least; a walk is answered from one or a few of them.
const FRESH: Duration = Duration::from_millis(500);

/// The state of the manager. Knows neither sockets nor bus.
pub struct State {
    /// The agent.
    pub agent: Agent,
    /// Notifications.
    pub traps: Traps,
    /// The time zone of the node.
    pub zone: Zone,
    node: Node,
    counters: Reader,
    began: Instant,
    view: Option<(Instant, View)>,
    refused_told: u32,
    authentication_failure_trap: bool,
    communities: Vec<Community>,
}

impl State {
    /// A new state that answers nobody until it has settings.
    pub fn new(counters: Reader, zone: Zone) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let node = Node {
            description: format!("Starward security gateway, version {version}"),
            version,
            ..Node::default()
        };
        Self {
            agent: Agent::default(),
            traps: Traps::default(),
            zone,
            node,
            counters,
            began: node_began(),
            view: None,
            refused_told: 0,
            authentication_failure_trap: false,
            communities: Vec::new(),
        }
    }

    /// Takes the settings of a new version of the configuration.
    pub fn apply(&mut self, settings: Settings) {
        self.agent.set_communities(settings.communities.clone());
        self.communities = settings.communities;
        self.authentication_failure_trap = settings.authentication_failure_trap;
        self.traps.set_targets(settings.targets);
        self.traps.set_suppressed(settings.suppressed);
        self.node.name = settings.host;
        self.node.contact = settings.contact;
        self.node.location = settings.location;
        self.node.services = settings.services;
        self.view = None;
    }

    /// Takes the processes that run now.
    pub fn set_tasks(&mut self, tasks: Vec<Task>) {
        if self.node.tasks != tasks {
            self.node.tasks = tasks;
            self.view = None;
        }
    }

    /// The answer to a datagram; none to the answer of a target to an inform.
    pub fn answer(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        if self.traps.outbox.awaits(from)
            && let Some(request) = protocol::response(datagram)
        {
            self.traps.outbox.acknowledged(from, request);
            return None;
        }
        let now = Instant::now();
        let stale = self
            .view
            .as_ref()
            .is_none_or(|(taken, _)| now.duration_since(*taken) >= FRESH);
        if stale {
            if let Err(error) = self.counters.refresh() {
                tracing::warn!("counters are not up to date: {error}");
            }
            self.node.uptime = self.uptime();
            self.node.agent = self.agent.statistics();
            let view = View::new(&self.node, &self.counters, SystemTime::now(), &self.zone);
            self.view = Some((now, view));
        }
        let (_, view) = self.view.as_ref()?;
        self.agent.answer(datagram, view)
    }

    /// Takes an event that a task has told.
    pub fn take(&mut self, told: &Told<'_>) {
        let uptime = self.uptime();
        self.traps.take(told, uptime);
    }

    /// Tells of refused requests and lost notifications since the last call.
    pub fn report(&mut self) {
        let refused = self.agent.statistics().bad_community_names;
        let count = refused.wrapping_sub(self.refused_told);
        if count > 0 {
            self.refused_told = refused;
            events::emit(&events::SnmpAuthenticationFailure {
                count: u64::from(count),
            });
            if self.authentication_failure_trap {
                let uptime = self.uptime();
                self.traps.authentication_failure(SystemTime::now(), uptime);
            }
        }
        self.traps.retry();
        self.traps.report_discarded();
    }

    /// Who may ask.
    pub fn communities(&self) -> &[Community] {
        &self.communities
    }

    /// Hundredths of a second since the node started; rolls over as TimeTicks do.
    fn uptime(&self) -> u32 {
        ((self.began.elapsed().as_millis() / 10) & 0xFFFF_FFFF) as u32
    }
}

/// When the node started; now if the kernel does not tell.
fn node_began() -> Instant {
    let now = Instant::now();
    let began = node_uptime().and_then(|uptime| now.checked_sub(uptime));
    began.unwrap_or(now)
}
