//! Sessions from admission to release, with a `vpnmgr` and a data plane played by the test.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::messages::aaamgr::AccountingKind;
use bus::messages::sessmgr::{Authorization, ConnectedSession, Released};
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
        }
    }

    fn arrive(&mut self, admissions: Vec<Admission>) -> Vec<Need> {
        let verdicts = self.verdicts.clone();
        let answer = Box::new(move |admitted: Admitted| verdicts.lock().unwrap().extend(admitted.verdicts));
        self.desk.arrive(&mut self.state, admissions, answer, self.now)
    }

    fn granted(&mut self, need: &Need, grant: Grant) -> Vec<Need> {
        self.desk.granted(&mut self.state, need, &grant, self.now)
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

#[test]
fn a_site_needs_no_address_and_is_accounted() {
    let mut world = World::new(|_| ());
    let verdict = world.admit(ask(7, "site", "enb1"));
    assert_eq!((verdict.refusal.as_str(), verdict.ipv4.len()), ("", 0));
    assert_eq!(world.counters.get(counted::CURRENT_ARRIVED), 1);
    world.connect(7, 0, &[100]);
    world.traffic.set(100, 10);
    world.pass(2);
    assert_eq!(world.counters.get(counted::RX_PACKETS), 10);
    // The child SA and the IKE SA are rekeyed: nothing is lost, nothing counted twice.
    world.traffic.set(100, 12);
    world.connect(8, 7, &[101]);
    world.traffic.set(101, 5);
    world.now += Duration::from_secs(3);
    world.release(8, 2);
    assert_eq!(world.counters.get(counted::RX_PACKETS), 17);
    assert_eq!(world.counters.get(counted::CURRENT_CALLS), 0);
    assert_eq!(world.state.sessions.len(), 0);
    let records = world.records();
    let [start, stop] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(
        (start.kind, stop.kind),
        (AccountingKind::Start as i32, AccountingKind::Stop as i32)
    );
    assert_eq!(start.session, stop.session);
    assert_eq!((stop.packets_in, stop.bytes_in, stop.packets_out), (17, 1700, 2));
    assert_eq!(
        (stop.seconds, stop.terminate_cause, stop.user.as_slice()),
        (5, 1, &b"enb1"[..])
    );
    assert_eq!(
        (start.calling_station.as_str(), start.service.as_str()),
        ("198.51.100.7", "site")
    );
}

#[test]
fn accounting_names_the_user_in_the_octets_it_came_in() {
    let mut world = World::new(|_| ());
    let name = "j\u{f6}rg\\x";
    for (ike_spi, user) in [(7, name.as_bytes()), (8, &[0xff, 1][..]), (9, b"")] {
        let admission = Admission {
            user: user.to_vec(),
            ..ask(ike_spi, "site", name)
        };
        assert_eq!(world.admit(admission).refusal, "");
        world.connect(ike_spi, 0, &[100]);
        world.release(ike_spi, 2);
        let expected = if user.is_empty() { name.as_bytes() } else { user };
        for record in world.records() {
            assert_eq!(record.user, expected);
        }
    }
}

#[test]
fn a_host_waits_for_the_first_block_only() {
    let mut world = World::new(|_| ());
    let both = Admission {
        wants_ipv6: true,
        ..ask(1, "host", "ue1")
    };
    let needs = world.arrive(vec![both, ask(2, "host", "ue2")]);
    assert_eq!(needs, [Need::Block(key("v4"))], "asked for once");
    world.stock("v4", "10.30.0.1", 4);
    let needs = world.granted(&needs[0], Grant::Given);
    assert_eq!(needs, [Need::Block(key("v6"))]);
    assert!(world.verdicts.lock().unwrap().is_empty());
    world.stock("v6", "fd30::", 4);
    assert_eq!(world.granted(&needs[0], Grant::Given), []);
    let verdicts = std::mem::take(&mut *world.verdicts.lock().unwrap());
    assert_eq!(
        verdicts.iter().map(|verdict| verdict.ike_spi).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(verdicts[0].ipv4, [10, 30, 0, 1]);
    assert_eq!(
        verdicts[0].ipv6,
        "fd30::1".parse::<std::net::Ipv6Addr>().unwrap().octets()
    );
    assert_eq!(
        (verdicts[0].ipv6_prefix_length, verdicts[0].dns.clone()),
        (64, vec![vec![10, 0, 0, 53]])
    );
    assert_eq!(
        (verdicts[1].ipv4.clone(), verdicts[1].ipv6.len()),
        (vec![10, 30, 0, 2], 0)
    );
    assert_eq!(world.admit(ask(3, "host", "ue3")).ipv4, [10, 30, 0, 3]);
    assert_eq!(
        world.admit(ask(3, "host", "ue3")).ipv4,
        [10, 30, 0, 3],
        "asked twice, given once"
    );
}

#[test]
fn the_next_pool_is_tried_and_then_there_is_none() {
    let mut world = World::new(|_| ());
    let needs = world.arrive(vec![ask(1, "host", "ue1")]);
    let needs = world.granted(&needs[0], Grant::Refused("empty".to_owned()));
    assert_eq!(needs, [Need::Block(key("spare"))]);
    assert_eq!(world.granted(&needs[0], Grant::Refused("empty".to_owned())), []);
    let verdict = world.verdicts.lock().unwrap().pop().unwrap();
    assert!(verdict.no_address && !verdict.refusal.is_empty());
    let unknown = world.admit(ask(2, "nowhere", "ue1"));
    assert_eq!(unknown.refusal, "there is no wsg-service nowhere in context isp");
    assert!(!unknown.no_address);
    assert_eq!(
        world.admit(ask(3, "unbound", "ue1")).refusal,
        "wsg-service unbound is not bound"
    );
    assert_eq!(world.counters.get(counted::REJECTED), 3);
    assert_eq!(world.state.sessions.len(), 0);
}

#[test]
fn one_family_is_enough() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 4);
    let needs = world.arrive(vec![Admission {
        wants_ipv6: true,
        ..ask(1, "host", "ue1")
    }]);
    assert_eq!(needs, [Need::Block(key("v6"))]);
    world.granted(&needs[0], Grant::Refused("empty".to_owned()));
    let verdict = world.verdicts.lock().unwrap().pop().unwrap();
    assert_eq!(
        (verdict.ipv4.len(), verdict.ipv6.len(), verdict.refusal.as_str()),
        (4, 0, "")
    );
}

#[test]
fn released_addresses_are_given_again_and_spare_blocks_return() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 2);
    let first = world.admit(ask(1, "host", "ue1")).ipv4;
    world.admit(ask(2, "host", "ue2"));
    world.release(1, 2);
    assert_eq!(world.admit(ask(3, "host", "ue3")).ipv4, first);
    world.stock("v4", "10.30.0.32", 8);
    world.stock("v4", "10.30.0.40", 8);
    world.pass(1);
    let returned: Vec<Errand> = std::mem::take(&mut world.state.errands);
    assert_eq!(returned, [], "one idle block is not many");
    world.stock("v4", "10.30.0.48", 8);
    world.pass(1);
    let back = Errand::GiveBack {
        context: 2,
        pool: "v4".to_owned(),
        first: ip("10.30.0.32"),
    };
    assert_eq!(world.state.errands, [back]);
}

#[test]
fn pools_have_gauges_of_what_sessions_use() {
    let mut world = World::new(|context| {
        if let Some(pool) = context.ipv4_pools.get_mut("v4") {
            pool.hold_timer = 60;
        }
    });
    let levels = |world: &World| {
        let page = world.counters.scoped(&Scope::pool("isp", "v4")).unwrap();
        (page.get(ippool::USED), page.get(ippool::HOLD))
    };
    world.stock("v4", "10.0.0.0", 64);
    world.pass(1);
    assert_eq!(levels(&world), (0, 0), "what is leased is not used");
    for ike_spi in 1..=3 {
        let identity = format!("ue{ike_spi}");
        assert_eq!(world.admit(ask(ike_spi, "host", &identity)).refusal, "");
    }
    world.release(1, 2);
    world.pass(1);
    assert_eq!(levels(&world), (2, 1));
    world.pass(60);
    assert_eq!(levels(&world), (2, 0));
}

#[test]
fn an_address_of_aaa_is_given_once() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    assert_eq!(
        world.admit(chosen(ask(1, "host", "ue1"), [10, 30, 0, 5])).ipv4,
        [10, 30, 0, 5]
    );
    let again = world.admit(chosen(ask(2, "host", "ue2"), [10, 30, 0, 5]));
    assert_eq!(again.refusal, "address 10.30.0.5, chosen by AAA, is in use");
    // Outside our blocks: vpnmgr decides.
    let need = Need::Address(2, ip("10.30.0.77"));
    assert_eq!(
        world.arrive(vec![chosen(ask(3, "host", "ue3"), [10, 30, 0, 77])]),
        std::slice::from_ref(&need)
    );
    assert_eq!(
        world.arrive(vec![chosen(ask(4, "host", "ue4"), [10, 30, 0, 77])]),
        [],
        "asked already"
    );
    world.granted(&need, Grant::Given);
    let verdicts = std::mem::take(&mut *world.verdicts.lock().unwrap());
    assert_eq!(verdicts[0].ipv4, [10, 30, 0, 77]);
    assert!(verdicts[1].no_address, "{verdicts:?}");
    world.arrive(vec![chosen(ask(5, "host", "ue5"), [10, 30, 0, 78])]);
    world.granted(
        &Need::Address(2, ip("10.30.0.78")),
        Grant::Refused("taken".to_owned()),
    );
    assert!(
        world.verdicts.lock().unwrap()[0]
            .refusal
            .ends_with("is refused: taken")
    );
    world.state.errands.clear();
    world.release(3, 2);
    let back = Errand::GiveBack {
        context: 2,
        pool: String::new(),
        first: ip("10.30.0.77"),
    };
    assert_eq!(world.state.errands, [back]);
    // 255.255.255.254 leaves the choice to us (RFC 2865 section 5.8).
    assert_eq!(
        world
            .admit(chosen(ask(6, "host", "ue6"), [255, 255, 255, 254]))
            .ipv4,
        [10, 30, 0, 1]
    );
}

#[test]
fn of_two_sessions_on_two_workers_the_younger_stays() {
    let detect = |context: &mut Context| {
        let service = context.wsg_services.get_mut("site").unwrap();
        service.duplicate_session_detection = true;
    };
    let (mut older, mut younger) = (World::new(detect), World::new(detect));
    let tell = |from: &mut World, to: &mut World| {
        for errand in std::mem::take(&mut from.state.errands) {
            let Errand::Newer(service, identity, began) = errand else {
                panic!("{errand:?}")
            };
            to.state
                .newer_elsewhere(&service.context, &service.name, &identity, began);
        }
    };
    assert_eq!(older.admit(ask(1, "site", "enb1")).refusal, "");
    assert_eq!(younger.admit(ask(2, "site", "enb1")).refusal, "");
    // Both hear of each other; the younger one's word comes first, or its errands would be of its own end.
    let said = std::mem::take(&mut older.state.errands);
    tell(&mut younger, &mut older);
    let ends = older.state.errands.split_off(0);
    assert_eq!(ends, [Errand::End(vec![1], Reason::Duplicate)]);
    older.state.errands = said;
    tell(&mut older, &mut younger);
    assert_eq!(younger.state.errands, []);
}

#[test]
fn a_second_session_of_an_identity_displaces_the_first_and_takes_its_address() {
    let detect = |context: &mut Context| {
        let service = context.wsg_services.get_mut("host").unwrap();
        service.duplicate_session_detection = true;
    };
    let mut world = World::new(detect);
    world.stock("v4", "10.30.0.1", 8);
    assert_eq!(
        world
            .admit(chosen(ask(1, "host", "ue1"), [10, 30, 0, 5]))
            .displaced,
        [0; 0]
    );
    let verdict = world.admit(chosen(ask(2, "host", "ue1"), [10, 30, 0, 5]));
    assert_eq!(
        (verdict.displaced.as_slice(), verdict.ipv4.as_slice()),
        (&[1][..], &[10, 30, 0, 5][..])
    );
    world.release(1, 344);
    let other = world.admit(chosen(ask(3, "host", "ue2"), [10, 30, 0, 5]));
    assert!(other.no_address, "the address went with the younger session");
    assert!(
        world
            .state
            .errands
            .iter()
            .any(|errand| matches!(errand, Errand::Newer(..)))
    );
    // Another worker admits the same identity later; an older announcement changes nothing.
    world.state.errands.clear();
    let identity = ikev2::Identity::fqdn("ue1").unwrap();
    let began = world.state.sessions.get(2).unwrap().began;
    world.state.newer_elsewhere("isp", "host", &identity, began - 1);
    assert_eq!(world.state.errands, []);
    world.state.newer_elsewhere("isp", "host", &identity, began + 1);
    assert_eq!(world.state.errands, [Errand::End(vec![2], Reason::Duplicate)]);
    world.state.newer_elsewhere("isp", "host", &identity, began + 2);
    assert_eq!(world.state.errands.len(), 1, "told once");
}

#[test]
fn without_detection_both_sessions_stay() {
    let mut world = World::new(|_| ());
    world.admit(ask(1, "site", "enb1"));
    assert_eq!(world.admit(ask(2, "site", "enb1")).displaced, [0; 0]);
    assert_eq!(world.state.errands, []);
    world.release(1, 2);
    world.release(2, 2);
    assert_eq!(world.counters.get(counted::CURRENT_CALLS), 0);
}

#[test]
fn a_peer_that_has_no_other_session_ends_all_its_older_ones_at_other_workers() {
    let mut left = World::new(|_| ());
    left.admit(ask(1, "site", "enb1"));
    left.admit(ask(2, "site", "enb1"));
    left.admit(ask(3, "site", "enb2"));
    assert_eq!(left.state.errands, []);
    let mut came_to = World::new(|_| ());
    let back = Admission {
        initial_contact: true,
        ..ask(9, "site", "enb1")
    };
    assert_eq!(came_to.admit(back).displaced, [0; 0]);
    let told = came_to.state.errands.pop();
    let Some(Errand::Newer(service, identity, began)) = told else {
        panic!("nobody is told: {told:?}");
    };
    let hear = |world: &mut World| {
        world
            .state
            .newer_elsewhere(&service.context, &service.name, &identity, began);
    };
    hear(&mut left);
    assert_eq!(left.state.errands, [Errand::End(vec![1, 2], Reason::Duplicate)]);
    hear(&mut came_to);
    assert_eq!(came_to.state.errands, [], "the younger one stays");
    left.state.errands.clear();
    left.admit(ask(4, "site", "enb1"));
    hear(&mut left);
    assert_eq!(left.state.errands, [], "and so does one that came since");
}

#[test]
fn time_limits_end_sessions_and_traffic_keeps_them() {
    let limits = |context: &mut Context| {
        context.subscriber.idle_timeout = Some(30);
        context.subscriber.absolute_timeout = Some(300);
    };
    let mut world = World::new(limits);
    let authorization = Authorization {
        session_timeout: 50,
        ..Authorization::default()
    };
    world.admit(Admission {
        authorization: Some(authorization),
        ..ask(1, "site", "short")
    });
    world.admit(ask(2, "site", "idle"));
    world.admit(ask(3, "site", "busy"));
    (1..=3).for_each(|number| world.connect(number, 0, &[number as u32]));
    let kinds =
        |world: &mut World| -> Vec<i32> { world.records().iter().map(|record| record.kind).collect() };
    assert_eq!(kinds(&mut world), [1, 1, 1]);
    for second in 0..12 {
        world.traffic.set(1, second + 1);
        world.traffic.set(3, second + 1);
        world.pass(5);
    }
    let ended = std::mem::take(&mut world.state.errands);
    let expected = [
        Errand::End(vec![2], Reason::IdleTimeout),
        Errand::End(vec![1], Reason::AbsoluteTimeout),
    ];
    assert_eq!(ended, expected);
    assert_eq!(world.counters.get(counted::CURRENT_DISCONNECTING), 2);
    assert_eq!(
        kinds(&mut world),
        [3],
        "an interim record of the busy one after a minute"
    );
    // ipsecmgr calls both a local disconnect; we know better.
    world.release(1, 3);
    world.release(2, 3);
    let stops = world.records();
    assert_eq!(
        stops.iter().map(|stop| stop.terminate_cause).collect::<Vec<_>>(),
        [5, 4]
    );
    assert_eq!(world.counters.get(counted::CURRENT_DISCONNECTING), 0);
    assert_eq!(world.counters.get(counted::CURRENT_ACTIVE), 1);
}

#[test]
fn a_restarted_sessmgr_goes_on_where_the_last_one_ended() {
    let folder = std::env::temp_dir().join(format!("sessmgr-journal-{}", std::process::id()));
    let detect = |context: &mut Context| {
        context
            .wsg_services
            .get_mut("host")
            .unwrap()
            .duplicate_session_detection = true;
    };
    let mut world = World::new(detect);
    let (mut journal, past) = Journal::open(&folder, 1, 0).unwrap();
    assert_eq!(past.len(), 0);
    world.stock("v4", "10.30.0.1", 8);
    world.stock("v6", "fd30::", 4);
    let authorization = Authorization {
        class: vec![b"class".to_vec()],
        session_timeout: 3600,
        framed_ipv4: vec![10, 30, 0, 77],
        ..Authorization::default()
    };
    assert_eq!(
        world.arrive(vec![Admission {
            wants_ipv6: true,
            ..ask(1, "host", "ue1")
        }]),
        []
    );
    world.arrive(vec![Admission {
        authorization: Some(authorization),
        ..ask(2, "host", "ue2")
    }]);
    world.granted(&Need::Address(2, ip("10.30.0.77")), Grant::Given);
    world.admit(ask(3, "site", "enb1"));
    world.admit(ask(4, "site", "enb2"));
    world.connect(1, 0, &[100]);
    world.connect(2, 0, &[200]);
    world.traffic.set(200, 5);
    world.connect(3, 0, &[300]);
    world.connect(33, 3, &[301]);
    world.release(4, 2);
    world.pass(1);
    journal.write(&mut world.state);
    world.admit(ask(5, "host", "ue5"));
    journal.write(&mut world.state);
    let call = world.state.sessions.get(2).unwrap().call;
    drop(journal);

    let mut again = World::new(detect);
    again.traffic = world.traffic.clone();
    again.state.meter = Box::new(world.traffic.clone());
    let (mut journal, past) = Journal::open(&folder, 1, 1).unwrap();
    again.state.restore(&past, again.now);
    let spis: Vec<u64> = again
        .state
        .sessions
        .after(None)
        .map(|(ike_spi, _)| ike_spi)
        .collect();
    assert_eq!(spis, [1, 2, 5, 33]);
    assert_eq!(again.counters.get(counted::CURRENT_ACTIVE), 3);
    assert_eq!(again.counters.get(counted::CURRENT_ARRIVED), 1);
    assert_eq!(again.state.held(2).len(), 3, "two blocks and a single address");
    let session = again.state.sessions.get(1).unwrap();
    assert_eq!(session.ipv4.as_ref().unwrap().address, ip("10.30.0.1"));
    assert_eq!(session.ipv6.as_ref().unwrap().address, ip("fd30::1"));
    assert_eq!(
        again.admit(ask(6, "host", "ue6")).ipv4,
        [10, 30, 0, 3],
        "1 and 2 are in use"
    );
    let single = again.admit(chosen(ask(7, "host", "ue7"), [10, 30, 0, 2]));
    assert!(single.no_address, "an address was given twice");
    assert_eq!(
        again.admit(ask(8, "host", "ue1")).displaced,
        [1],
        "identities are known again"
    );
    // Traffic of the earlier life is in the stop record, but not in the counters a second time.
    again.pass(2);
    assert_eq!(again.counters.get(counted::RX_PACKETS), 0);
    again.traffic.set(200, 9);
    again.release(2, 2);
    let stop = again.records().pop().unwrap();
    assert_eq!(
        (stop.packets_in, stop.class.clone()),
        (9, vec![b"class".to_vec()])
    );
    assert_eq!(
        stop.session,
        format!("{call:016X}"),
        "the same accounting session"
    );
    assert_eq!(again.counters.get(counted::RX_PACKETS), 4);
    assert!(
        again
            .state
            .errands
            .iter()
            .any(|errand| matches!(errand, Errand::GiveBack { pool, .. } if pool.is_empty()))
    );
    journal.write(&mut again.state);
    let (_, past) = Journal::open(&folder, 1, 2).unwrap();
    assert_eq!(past.len(), 5);
    let (_, past) = Journal::open(&folder, 1, 0).unwrap();
    assert_eq!(past.len(), 0, "a new life of the node");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_session_whose_set_up_was_forgotten_does_not_stay_for_ever() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    world.pass(599);
    assert_eq!(world.state.sessions.len(), 1);
    world.pass(2);
    assert_eq!(world.state.sessions.len(), 0);
    assert_eq!(world.state.blocks.free(&key("v4")), 8);
    assert_eq!(world.counters.get(counted::CURRENT_ARRIVED), 0);
    assert_eq!(world.counters.get(counted::FAILED), 1);
}

#[test]
fn a_restarted_ipsecmgr_releases_everything() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    world.admit(ask(2, "site", "enb1"));
    world.connect(2, 0, &[5]);
    world.state.release_all(world.now);
    assert_eq!(world.state.sessions.len(), 0);
    assert_eq!(world.state.blocks.free(&key("v4")), 8);
    for gauge in [
        counted::CURRENT_CALLS,
        counted::CURRENT_ACTIVE,
        counted::CURRENT_ARRIVED,
    ] {
        assert_eq!(world.counters.get(gauge), 0);
    }
    assert_eq!(world.state.held(2).len(), 1, "the block stays ours");
}

#[test]
fn operators_see_and_clear_sessions() {
    use bus::messages::common::Execute;
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    world.admit(ask(2, "site", "enb1"));
    world.connect(2, 0, &[0x0700_0005]);
    let execute = |world: &mut World, command: &str, words: &[(&str, &str)]| {
        let request = Execute {
            context: "isp".to_owned(),
            ..Execute::new(command, words)
        };
        crate::show::execute(&mut world.state, &request)
    };
    let all = execute(&mut world, "show subscribers", &[("all", "")]);
    let lines: Vec<&str> = all.text.lines().collect();
    assert!(
        lines[0].starts_with("AR ") && lines[0].contains("ue1") && lines[0].contains("10.30.0.1"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("CS ") && lines[1].contains("peer 198.51.100.7"),
        "{lines:?}"
    );
    assert_eq!(all.totals[0].value, 2);
    let one = execute(
        &mut world,
        "show subscribers",
        &[("full", ""), ("username", ""), ("username", "enb1")],
    );
    assert!(
        one.text.contains("Inbound SPIs            : 0x07000005"),
        "{}",
        one.text
    );
    assert!(!one.text.contains("ue1"));
    let summary = execute(&mut world, "show subscribers", &[("summary", "")]);
    let values: Vec<u64> = summary.totals.iter().map(|total| total.value).collect();
    assert_eq!(values, [2, 1, 1, 0, 1, 1, 1, 0]);
    let cleared = execute(
        &mut world,
        "clear subscribers",
        &[("wsg-service", ""), ("service", "site")],
    );
    assert_eq!(cleared.totals[0].value, 1);
    assert_eq!(world.state.errands, [Errand::End(vec![2], Reason::Admin)]);
    let elsewhere = Execute {
        context: "other".to_owned(),
        ..Execute::new("show subscribers", &[])
    };
    assert_eq!(crate::show::execute(&mut world.state, &elsewhere).text, "");
}

/// Not an assertion, but the number to look at: the cost of a session on the set-up path.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_session() {
    let folder = std::env::temp_dir().join(format!("sessmgr-cost-{}", std::process::id()));
    let (mut journal, _) = Journal::open(&folder, 1, 0).unwrap();
    let mut world = World::new(|_| ());
    (0..50).for_each(|block| world.stock("v4", &format!("10.32.{}.0", block * 4), 1_024));
    let begin = Instant::now();
    for batch in 0..1_000u64 {
        let numbers = batch * 50 + 1..=batch * 50 + 50;
        let admissions = numbers
            .clone()
            .map(|number| ask(number, "host", &format!("ue{number}")))
            .collect();
        world.arrive(admissions);
        journal.write(&mut world.state);
        numbers.for_each(|number| world.connect(number, 0, &[number as u32]));
        journal.write(&mut world.state);
    }
    let up = begin.elapsed() / 50_000;
    let begin = Instant::now();
    for ike_spi in 1..=50_000 {
        world.release(ike_spi, 2);
        if ike_spi % 50 == 0 {
            journal.write(&mut world.state);
        }
    }
    println!(
        "{up:?} to admit and connect, {:?} to release a session",
        begin.elapsed() / 50_000
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
