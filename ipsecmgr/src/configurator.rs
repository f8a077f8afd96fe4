//! Follows the configuration: looks services up, fetches their certificates, opens their sockets, and hands the result to the loop. Whatever is not there yet is
//! tried again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bus::messages::certmgr::{GetCertificate, GetTrust};
use bus::{Address, Bus, Facility};
use config::{Config, LogLevel};
use services::wsg::{CertificateNames, Certificates, Wsg, certificates_of};
use task::{ConfigFollower, IkeSockets, Sit};
use telemetry::Scope;
use telemetry::events::Severity;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::service_states::Configured;

const CERTMGR: Address = Address::only(Facility::Certmgr);
const CERTMGR_DEADLINE: Duration = Duration::from_secs(2);
/// Between attempts at what is missing.
const AGAIN: Duration = Duration::from_secs(1);
/// Length of a SHA-1 hash in CERTREQ.
const TRUST_HASH: usize = 20;

/// What the loop has to take over.
pub(crate) struct Update {
    /// Of the configuration.
    pub(crate) version: u64,
    /// What is to be logged.
    pub(crate) level: Severity,
    /// `require session recovery`.
    pub(crate) recovery: bool,
    /// Nothing of the configuration is missing here.
    pub(crate) complete: bool,
    /// All services that run.
    pub(crate) services: Vec<Arc<Wsg>>,
    /// Sockets of addresses that are new.
    pub(crate) opened: Vec<(IpAddr, IkeSockets)>,
    /// Addresses that no service is bound to any more.
    pub(crate) closed: Vec<IpAddr>,
    /// Clear contexts that a former life of this process may have left routes in.
    pub(crate) fresh_contexts: Vec<u32>,
}

/// The task.
pub(crate) struct Configurator {
    bus: Bus,
    sit: Sit,
    follower: ConfigFollower,
    /// Of the configuration that was read last.
    version: u64,
    /// This is not the first life of this process.
    reborn: bool,
    tags: HashMap<(String, String), u64>,
    /// Bound addresses with their contexts.
    open: BTreeMap<IpAddr, String>,
    /// Certificates fetched for this version of the configuration.
    certificates: HashMap<CertificateNames, Certificates>,
    contexts: BTreeSet<u32>,
    /// Problems and warnings that were logged, once, and persist.
    reported: HashSet<String>,
    /// All services, for the one who tells their state.
    states: watch::Sender<Vec<Configured>>,
}

impl Configurator {
    /// Nothing is configured yet.
    pub(crate) fn new(bus: &Bus, sit: &Sit, reborn: bool, states: watch::Sender<Vec<Configured>>) -> Self {
        Self {
            bus: bus.clone(),
            sit: sit.clone(),
            follower: ConfigFollower::new(bus),
            version: 0,
            reborn,
            tags: HashMap::new(),
            open: BTreeMap::new(),
            certificates: HashMap::new(),
            contexts: BTreeSet::new(),
            reported: HashSet::new(),
            states,
        }
    }

    /// Hands updates over until the loop is gone.
    pub(crate) async fn run(mut self, updates: Sender<Update>) {
        let mut config = self.read().await;
        loop {
            let (update, complete) = self.apply(&config).await;
            if updates.send(update).await.is_err() {
                return;
            }
            config = if complete {
                self.read().await
            } else {
                match timeout(AGAIN, self.read()).await {
                    Ok(newer) => newer,
                    Err(_) => config,
                }
            };
        }
    }

    /// The next configuration that can be read.
    async fn read(&mut self) -> Config {
        loop {
            let text = self.follower.next().await;
            match Config::parse(&text.text) {
                Ok(config) => {
                    self.certificates.clear();
                    self.version = text.version;
                    return config;
                }
                Err(error) => {
                    tracing::error!(
                        "configuration version {} cannot be read, going on with the one before: {error}",
                        text.version
                    );
                }
            }
        }
    }

    /// Makes the update for a configuration. False: something is missing, try again.
    async fn apply(&mut self, config: &Config) -> (Update, bool) {
        let bound: Vec<(String, String)> = config
            .wsg_services()
            .filter(|(_, _, _, service)| service.bind.is_some())
            .map(|(context, _, service, _)| (context.to_owned(), service.to_owned()))
            .collect();
        let mut services: Vec<Arc<Wsg>> = Vec::with_capacity(bound.len());
        let mut problems = Vec::new();
        let mut opened = Vec::new();
        for (context, service) in bound {
            let certificates = self
                .certificates_for(config, &context, &service)
                .await
                .unwrap_or_else(|problem| {
                    problems.push(problem);
                    Certificates::default()
                });
            let tag = self.tag(&context, &service);
            let wsg = match Wsg::new(config, &context, &service, &certificates, tag) {
                Ok(Some(wsg)) => wsg,
                Ok(None) => continue,
                Err(problem) => {
                    problems.push(problem.to_string());
                    continue;
                }
            };
            if let Some(other) = services.iter().find(|other| other.address == wsg.address) {
                problems.push(format!(
                    "wsg-service {service} (context {context}): address {} is bound by wsg-service {} (context {}); bind another",
                    wsg.address, other.service, other.context
                ));
                continue;
            }
            match self.open(&wsg).await {
                Ok(sockets) => opened.extend(sockets.map(|sockets| (wsg.address, sockets))),
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            }
            for warning in &wsg.warnings {
                let warning = warning.to_string();
                if self.reported.insert(warning.clone()) {
                    tracing::warn!("{warning}");
                }
            }
            services.push(Arc::new(wsg));
        }
        let complete = problems.is_empty();
        self.states.send_replace(configured(config, &services));
        self.reported.retain(|old| {
            problems.contains(old)
                || services
                    .iter()
                    .any(|wsg| wsg.warnings.iter().any(|w| w.to_string() == *old))
        });
        for problem in problems {
            if !self.reported.contains(&problem) {
                tracing::error!("{problem}");
                self.reported.insert(problem);
            }
        }
        let update = Update {
            version: self.version,
            recovery: config.session_recovery,
            complete,
            level: severity(config.logging.level(Facility::Ipsecmgr.name())),
            closed: self.close(&services).await,
            fresh_contexts: self.fresh_contexts(&services),
            services,
            opened,
        };
        (update, complete)
    }

    async fn certificates_for(
        &mut self,
        config: &Config,
        context: &str,
        service: &str,
    ) -> Result<Certificates, String> {
        let names = certificates_of(config, context, service);
        if let Some(known) = self.certificates.get(&names) {
            return Ok(known.clone());
        }
        let certificates = self
            .fetch(&names)
            .await
            .map_err(|problem| format!("wsg-service {service} (context {context}): {problem}"))?;
        self.certificates.insert(names, certificates.clone());
        Ok(certificates)
    }

    async fn fetch(&self, names: &CertificateNames) -> Result<Certificates, String> {
        let mut certificates = Certificates::default();
        if let Some(name) = &names.own {
            let request = GetCertificate { name: name.clone() };
            let own = self
                .bus
                .request(CERTMGR, &request, CERTMGR_DEADLINE)
                .await
                .map_err(|error| error.to_string())?;
            if !own.failure.is_empty() {
                return Err(format!("certificate {name}: {}", own.failure));
            }
            certificates.chain = Some(own.certificates.into());
            certificates.subject = own.subject;
        }
        if !names.authorities.is_empty() {
            let request = GetTrust {
                names: names.authorities.clone(),
            };
            let trust = self
                .bus
                .request(CERTMGR, &request, CERTMGR_DEADLINE)
                .await
                .map_err(|error| error.to_string())?;
            if !trust.failure.is_empty() {
                return Err(trust.failure);
            }
            let hashes = trust
                .hashes
                .iter()
                .filter_map(|hash| <[u8; TRUST_HASH]>::try_from(hash.as_slice()).ok());
            certificates.trust_hashes = hashes.collect();
        }
        Ok(certificates)
    }

    /// Opens the sockets of a service, if they are not open.
    async fn open(&mut self, wsg: &Wsg) -> Result<Option<IkeSockets>, String> {
        if self.open.get(&wsg.address) == Some(&wsg.context) {
            return Ok(None);
        }
        let opened = self.sit.open_ike(&wsg.context, wsg.address).await;
        let sockets = opened
            .map_err(|error| format!("wsg-service {} (context {}): {error}", wsg.service, wsg.context))?;
        self.open.insert(wsg.address, wsg.context.clone());
        Ok(Some(sockets))
    }

    /// Gives up the sockets of addresses that are not bound any more.
    async fn close(&mut self, services: &[Arc<Wsg>]) -> Vec<IpAddr> {
        let unused: Vec<(IpAddr, String)> = self
            .open
            .iter()
            .filter(|(address, _)| services.iter().all(|wsg| wsg.address != **address))
            .map(|(address, context)| (*address, context.clone()))
            .collect();
        for (address, context) in &unused {
            self.open.remove(address);
            if let Err(error) = self.sit.close(context, Some(*address)).await {
                tracing::warn!("{error}");
            }
        }
        unused.into_iter().map(|(address, _)| address).collect()
    }

    fn fresh_contexts(&mut self, services: &[Arc<Wsg>]) -> Vec<u32> {
        let contexts = services.iter().map(|wsg| wsg.data_path.context);
        contexts
            .filter(|context| self.contexts.insert(*context) && self.reborn)
            .collect()
    }

    fn tag(&mut self, context: &str, service: &str) -> u64 {
        let next = self.tags.len() as u64;
        *self
            .tags
            .entry((context.to_owned(), service.to_owned()))
            .or_insert(next)
    }
}

/// All services of the configuration, with the addresses of those that are open.
fn configured(config: &Config, services: &[Arc<Wsg>]) -> Vec<Configured> {
    let open = |context: &str, service: &str| {
        let mut whole = services.iter().filter(|wsg| wsg.has_pool);
        let found = whole.find(|wsg| wsg.context == context && wsg.service == service);
        found.map(|wsg| wsg.address)
    };
    let all = config.wsg_services();
    all.map(|(name, context, service, _)| Configured {
        scope: Scope::wsg(name, service),
        context: context.id,
        open: open(name, service),
    })
    .collect()
}

fn severity(level: LogLevel) -> Severity {
    match level {
        LogLevel::Critical => Severity::Critical,
        LogLevel::Error => Severity::Error,
        LogLevel::Warning => Severity::Warning,
        LogLevel::Unusual => Severity::Unusual,
        LogLevel::Info => Severity::Info,
        LogLevel::Trace | LogLevel::Debug => Severity::Debug,
    }
}
