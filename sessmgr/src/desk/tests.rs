//! Sessions from admission to release, with a `vpnmgr` and a data plane played by the test.

mod accounting;
mod addresses;
mod lives;
mod recovery;
mod restart;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::messages::aaamgr::AccountingKind;
use bus::messages::sessmgr::{Authorization, ConnectedSession, RecoveredSession, Released, WorkerRecovered};
use config::{
    AaaGroup, Config, Context, DeploymentMode, DnsServers, Ipv4Pool, Ipv4Range, Ipv6Pool, PoolAccess,
    RadiusPolicy, RadiusServer, SecretText, ServiceBinding, WsgService,
};
use services::DisconnectReason as Reason;
use telemetry::counters::{ippool, session as counted};
use telemetry::{Counters, Scope};

use super::*;
use crate::blocks::Lease;
use crate::journal::Journal;
use crate::policy::PoolKey;
use crate::session::Usage;
use crate::state::Errand;
use crate::usage::Meter;

#[derive(Clone, Default)]
struct Traffic(Arc<Mutex<HashMap<u32, Usage>>>);

impl Meter for Traffic {
    fn read(&self, spi: u32) -> Option<Usage> {
        self.0.lock().unwrap().get(&spi).copied()
    }
}

impl Traffic {
    fn set(&self, spi: u32, packets_in: u64) {
        let usage = Usage {
            packets_in,
            bytes_in: packets_in * 100,
            packets_out: 1,
            bytes_out: 50,
        };
        self.0.lock().unwrap().insert(spi, usage);
    }
}

struct World {
    state: State,
    desk: Desk,
    counters: Counters,
    traffic: Traffic,
    now: Instant,
    verdicts: Arc<Mutex<Vec<Verdict>>>,
    /// By which tenure `ipsecmgr` has its slots.
    tenure: u64,
}

fn config() -> Config {
    let mut context = Context::new(2);
    let bind = Some(ServiceBinding {
        address: [192, 0, 2, 1].into(),
        template: "t".to_owned(),
    });
    let host = WsgService {
        bind: bind.clone(),
        ..WsgService::default()
    };
    let site = WsgService {
        bind,
        deployment_mode: DeploymentMode::SiteToSite,
        ..WsgService::default()
    };
    context.wsg_services.insert("host".to_owned(), host);
    context.wsg_services.insert("site".to_owned(), site);
    context
        .wsg_services
        .insert("unbound".to_owned(), WsgService::default());
    let pool = Ipv4Pool {
        addresses: Ipv4Range::Network("10.30.0.0/24".parse().unwrap()),
        access: PoolAccess::Public(0),
        group: None,
        hold_timer: 0,
        include_network_and_broadcast: false,
        allow_static: false,
    };
    let ipv6 = Ipv6Pool {
        prefix: "fd30::/48".parse().unwrap(),
        access: PoolAccess::Public(0),
        group: None,
        allow_static: false,
    };
    context.ipv4_pools.insert("v4".to_owned(), pool.clone());
    context.ipv4_pools.insert(
        "spare".to_owned(),
        Ipv4Pool {
            access: PoolAccess::Public(5),
            ..pool
        },
    );
    context.ipv6_pools.insert("v6".to_owned(), ipv6);
    context.subscriber.dns = DnsServers {
        primary: Some([10, 0, 0, 53].into()),
        secondary: None,
    };
    let server = RadiusServer {
        address: [127, 0, 0, 1].into(),
        port: 1813,
        secret: SecretText::from_sealed("x"),
        priority: 1,
        max_outstanding: 256,
    };
    let group = AaaGroup {
        accounting_servers: vec![server],
        accounting: RadiusPolicy::default(),
        interim_interval: Some(60),
        ..AaaGroup::default()
    };
    context
        .aaa_groups
        .insert(config::DEFAULT_AAA_GROUP.to_owned(), group);
    let mut config = Config::default();
    config.contexts.insert("isp".to_owned(), context);
    config
}

fn key(name: &str) -> PoolKey {
    PoolKey {
        context: 2,
        name: name.into(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ask(ike_spi: u64, service: &str, identity: &str) -> Admission {
    Admission {
        ike_spi,
        context: "isp".to_owned(),
        service: service.to_owned(),
        identity_type: 2,
        identity: identity.as_bytes().to_vec(),
        peer: vec![198, 51, 100, 7],
        wants_ipv4: service == "host",
        ..Admission::default()
    }
}

fn chosen(admission: Admission, address: [u8; 4]) -> Admission {
    let authorization = Authorization {
        framed_ipv4: address.to_vec(),
        ..Authorization::default()
    };
    Admission {
        authorization: Some(authorization),
        ..admission
    }
}

impl World {
    fn new(change: impl FnOnce(&mut Context)) -> Self {
        let (counters, traffic) = (Counters::in_memory(), Traffic::default());
        let mut state = State::new(1, PathBuf::new(), counters.clone(), Box::new(traffic.clone()));
        let mut config = config();
        change(config.contexts.get_mut("isp").unwrap());
        state.configure(config);
        let now = Instant::now();
        Self {
            state,
            desk: Desk::default(),
            counters,
            traffic,
            now,
            verdicts: Arc::default(),
            tenure: 0,
        }
    }

    fn arrive(&mut self, admissions: Vec<Admission>) -> Vec<Need> {
        let verdicts = self.verdicts.clone();
        let answer = Box::new(move |admitted: Admitted| verdicts.lock().unwrap().extend(admitted.verdicts));
        let tenure = self.tenure;
        let admissions = admissions.into_iter();
        let admissions = admissions.map(|admission| Admission { tenure, ..admission });
        let admit = Admit {
            admissions: admissions.collect(),
        };
        let needs = self.desk.arrive(&mut self.state, admit, answer, self.now);
        self.desk.replies.send();
        needs
    }

    fn granted(&mut self, need: &Need, grant: Grant) -> Vec<Need> {
        let needs = self.desk.granted(&mut self.state, need, &grant, self.now);
        self.desk.replies.send();
        needs
    }

    /// Arrives with blocks in store; the only verdict.
    fn admit(&mut self, admission: Admission) -> Verdict {
        assert_eq!(self.arrive(vec![admission]), []);
        self.verdicts.lock().unwrap().pop().unwrap()
    }

    fn stock(&mut self, name: &str, first: &str, count: u32) {
        let prefix_length = if ip(first).is_ipv4() { 32 } else { 64 };
        self.state.add_block(
            &key(name),
            Lease {
                first: ip(first),
                count,
                prefix_length,
            },
        );
    }

    fn connect(&mut self, ike_spi: u64, was: u64, spis: &[u32]) {
        let session = ConnectedSession {
            ike_spi,
            was,
            spis: spis.to_vec(),
        };
        self.state.connected(&session, self.now);
    }

    /// `ipsecmgr` has died and begun its next life with these sessions: IKE SPI, the one it may be known under, child SAs. Returns those that
    /// are not known.
    fn recover(&mut self, sessions: &[(u64, u64, &[u32])]) -> Vec<u64> {
        self.recover_in(&[0], sessions)
    }

    /// The same in these slots only, which may have come from another worker.
    fn recover_in(&mut self, slots: &[u32], sessions: &[(u64, u64, &[u32])]) -> Vec<u64> {
        self.tenure += 1;
        let listed = |(ike_spi, known_as, spis): &(u64, u64, &[u32])| RecoveredSession {
            ike_spi: *ike_spi,
            known_as: *known_as,
            spis: spis.to_vec(),
        };
        let recovered = WorkerRecovered {
            sessions: sessions.iter().map(listed).collect(),
            more: false,
            tenure: self.tenure,
            slots: slots.to_vec(),
        };
        let unknown = self.state.recovered(&recovered, self.now);
        self.desk.discard_older(&mut self.state, self.now);
        self.desk.replies.send();
        unknown
    }

    fn release(&mut self, ike_spi: u64, reason: u32) {
        self.state.released(
            &Released {
                ike_spi,
                reason,
                ..Released::default()
            },
            self.now,
        );
    }

    /// Lets time pass in steps of the sweep.
    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        (0..40).for_each(|_| self.state.sweep(self.now));
    }

    fn records(&mut self) -> Vec<bus::messages::aaamgr::AccountingRecord> {
        let records = self.state.outbox.next().unwrap_or_default();
        self.state.outbox.done(true);
        records
    }
}
