//! Conversations and accounting with a RADIUS server in memory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::messages::aaamgr::AccountingKind;
use bus::messages::common::Execute;
use config::{AaaGroup, Config, Context, RadiusPolicy, RadiusServer, SecretText};
use radius::testing::respond;
use radius::{Attribute, AttributeList, Code, Packet, Secret};

use super::*;

const SPI: u64 = 0x0700_0001_0203_0405;

struct World {
    state: State,
    counters: Counters,
    now: Instant,
    answers: Arc<Mutex<Vec<EapAnswer>>>,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn secret() -> Secret {
    Secret::new(b"testing123".to_vec())
}

fn server(number: u8, port: u16) -> RadiusServer {
    RadiusServer {
        address: [10, 0, 0, number].into(),
        port,
        secret: SecretText::from_sealed("sealed"),
        priority: number.into(),
        max_outstanding: 256,
    }
}

fn config() -> Config {
    let mut context = Context::new(2);
    let policy = RadiusPolicy {
        max_retries: 0,
        ..RadiusPolicy::default()
    };
    let group = AaaGroup {
        nas_ip_address: Some([192, 0, 2, 1].into()),
        servers: vec![server(1, 1812)],
        accounting_servers: vec![server(1, 1813)],
        authentication: policy.clone(),
        accounting: policy,
        ..AaaGroup::default()
    };
    context
        .aaa_groups
        .insert(config::DEFAULT_AAA_GROUP.to_owned(), group);
    let mut config = Config::default();
    config.contexts.insert("isp".to_owned(), context);
    config
}

impl World {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("aaamgr-state-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let counters = Counters::in_memory();
        let state = State::new(counters.clone(), Spool::open(&folder).unwrap());
        let mut world = Self {
            state,
            counters,
            now: Instant::now(),
            answers: Arc::default(),
            folder,
        };
        world.configure(&config());
        world
    }

    fn configure(&mut self, config: &Config) {
        let secrets = Secrets::from([(SecretText::from_sealed("sealed"), secret())]);
        self.state.configure(Settings::new(config), &secrets, self.now);
    }

    fn round(&mut self, eap: &[u8]) {
        self.round_of("alice@example.org", eap);
    }

    fn round_of(&mut self, identity: &str, eap: &[u8]) {
        let answers = self.answers.clone();
        let answer = Box::new(move |answer: Wiped| answers.lock().unwrap().push(answer.0.clone()));
        let round = EapRound {
            ike_spi: SPI,
            context: "isp".to_owned(),
            identity: identity.as_bytes().to_vec(),
            eap: eap.to_vec(),
            calling_station: "198.51.100.7".to_owned(),
            ..EapRound::default()
        };
        self.state.round(round, answer, self.now);
    }

    /// The only answer so far.
    fn answer(&mut self) -> EapAnswer {
        let mut answers = self.answers.lock().unwrap();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// The only datagram that left.
    fn sent(&mut self) -> Datagram {
        let mut datagrams = std::mem::take(&mut self.state.datagrams);
        assert_eq!(datagrams.len(), 1);
        datagrams.remove(0)
    }

    fn reply(&mut self, request: &Datagram, code: Code, list: &AttributeList, msk: Option<&[u8; 64]>) {
        let bytes = respond(&request.bytes, &secret(), code, list, msk).unwrap();
        self.state
            .receive(&request.channel, request.port, request.server, &bytes, self.now);
    }

    fn challenge(&mut self, request: &Datagram, identifier: u8) {
        let mut list = AttributeList::new();
        list.octets(Attribute::State, &[0x5a, identifier]).unwrap();
        list.eap(&[1, identifier, 0, 6, 26, 0]).unwrap();
        self.reply(request, Code::AccessChallenge, &list, None);
    }
}

#[test]
fn a_peer_authenticates_and_is_authorized() {
    let mut world = World::new("accept");
    world.round(&[]);
    let first = world.sent();
    assert_eq!(first.server, "10.0.0.1:1812".parse().unwrap());
    let packet = Packet::decode(&first.bytes).unwrap();
    assert_eq!(packet.text(Attribute::UserName), Some("alice@example.org"));
    assert_eq!(packet.ipv4(Attribute::NasIpAddress), Some([192, 0, 2, 1].into()));
    assert_eq!(packet.text(Attribute::NasIdentifier), Some("starward"));
    assert_eq!(packet.text(Attribute::CallingStationId), Some("198.51.100.7"));
    assert_eq!(packet.eap().unwrap(), b"\x02\x00\x00\x16\x01alice@example.org");
    assert_eq!(world.counters.get(aaa::CURRENT_AUTH_REQUESTS), 1);

    world.challenge(&first, 7);
    let answer = world.answer();
    assert_eq!(
        (answer.eap.as_slice(), answer.method, answer.success),
        (&[1, 7, 0, 6, 26, 0][..], 26, false)
    );
    world.round(&[2, 7, 0, 6, 26, 0]);
    let second = world.sent();
    let packet = Packet::decode(&second.bytes).unwrap();
    assert_eq!(
        packet.value(Attribute::State),
        Some(&[0x5a, 7][..]),
        "State goes back"
    );
    assert_eq!(packet.text(Attribute::UserName), Some("alice@example.org"));

    let mut list = AttributeList::new();
    list.text(Attribute::UserName, "alice").unwrap();
    list.ipv4(Attribute::FramedIpAddress, [10, 30, 0, 77].into())
        .unwrap();
    list.ipv6_prefix(Attribute::FramedIpv6Prefix, "2001:db8:5::".parse().unwrap(), 64)
        .unwrap();
    list.octets(Attribute::Class, b"one").unwrap();
    list.octets(Attribute::Class, b"two").unwrap();
    list.integer(Attribute::SessionTimeout, 3600).unwrap();
    list.integer(Attribute::IdleTimeout, 600).unwrap();
    list.integer(Attribute::AcctInterimInterval, 300).unwrap();
    list.text(Attribute::SnIpPoolName, "gold").unwrap();
    list.ipv4(Attribute::SnPrimaryDnsServer, [10, 0, 0, 53].into())
        .unwrap();
    list.ipv4(Attribute::MsPrimaryDnsServer, [10, 0, 0, 53].into())
        .unwrap();
    list.eap(&[3, 7, 0, 4]).unwrap();
    let msk = std::array::from_fn(|index| index as u8);
    world.reply(&second, Code::AccessAccept, &list, Some(&msk));
    let answer = world.answer();
    assert!(answer.success && answer.failure.is_empty());
    assert_eq!(
        (answer.eap.as_slice(), answer.user.as_slice()),
        (&[3, 7, 0, 4][..], &b"alice"[..])
    );
    assert_eq!(answer.msk, msk);
    let said = answer.authorization.unwrap();
    assert_eq!(said.framed_ipv4, [10, 30, 0, 77]);
    assert_eq!(
        said.framed_ipv6,
        "2001:db8:5::1".parse::<std::net::Ipv6Addr>().unwrap().octets()
    );
    assert_eq!(said.class, [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(
        (said.session_timeout, said.idle_timeout, said.interim_interval),
        (3600, 600, 300)
    );
    assert_eq!((said.pool.as_str(), said.dns), ("gold", vec![vec![10, 0, 0, 53]]));
    assert_eq!(world.counters.get(aaa::AUTH_SUCCESS), 1);
    assert_eq!(world.counters.get(aaa::CURRENT_AUTH_REQUESTS), 0);
    assert_eq!(world.state.conversations.len(), 0);
}

#[test]
fn a_peer_without_a_name_is_asked_for_it() {
    let mut world = World::new("ask");
    world.round_of("", &[]);
    assert_eq!(world.answer().eap, [1, 0, 0, 5, 1], "EAP-Request/Identity");
    world.round_of("", b"\x02\x00\x00\x0a\x01alice");
    let first = world.sent();
    let packet = Packet::decode(&first.bytes).unwrap();
    assert_eq!(packet.text(Attribute::UserName), Some("alice"));
    assert_eq!(packet.eap().unwrap(), b"\x02\x00\x00\x0a\x01alice");
    world.challenge(&first, 1);
    world.round_of("", &[2, 1, 0, 6, 26, 0]);
    let second = world.sent();
    let packet = Packet::decode(&second.bytes).unwrap();
    assert_eq!(packet.text(Attribute::UserName), Some("alice"));
}

#[test]
fn a_rejected_peer_gets_eap_failure_and_no_keys() {
    let mut world = World::new("reject");
    world.round(&[]);
    let request = world.sent();
    let mut list = AttributeList::new();
    list.eap(&[4, 0, 0, 4]).unwrap();
    list.text(Attribute::ReplyMessage, "go away").unwrap();
    world.reply(&request, Code::AccessReject, &list, Some(&[9; 64]));
    let answer = world.answer();
    assert_eq!(answer.failure, "rejected by the AAA server: \"go away\"");
    assert_eq!(
        (answer.eap.as_slice(), answer.success, answer.msk.len()),
        (&[4, 0, 0, 4][..], false, 0)
    );
    assert_eq!(answer.authorization, None);
    assert_eq!(world.counters.get(aaa::AUTH_FAIL), 1);
}

#[test]
fn an_accept_without_eap_success_authenticates_nobody() {
    let mut world = World::new("contradiction");
    world.round(&[]);
    let request = world.sent();
    world.reply(
        &request,
        Code::AccessAccept,
        &AttributeList::new(),
        Some(&[9; 64]),
    );
    let answer = world.answer();
    assert!(
        !answer.success && answer.msk.is_empty() && !answer.failure.is_empty(),
        "{answer:?}"
    );
}

#[test]
fn silent_servers_fail_the_peer_and_what_is_unknown_is_told() {
    let mut world = World::new("silence");
    world.round(&[]);
    world.sent();
    world.now += Duration::from_secs(3);
    world.state.handle_timeout(world.now);
    assert_eq!(world.answer().failure, "no RADIUS server answered");
    world.round(&[2, 7, 0, 6, 26, 0]);
    assert_eq!(
        world.answer().failure,
        "the conversation is not known here (aaamgr was restarted)"
    );
    let mut config = config();
    config.contexts.get_mut("isp").unwrap().aaa_groups.clear();
    world.configure(&config);
    world.round_of("bob", &[]);
    assert_eq!(
        world.answer().failure,
        "context isp has no radius server in aaa group default"
    );
    assert_eq!(world.state.conversations.len(), 0);
}

#[test]
fn an_abandoned_peer_is_forgotten_and_a_new_beginning_replaces_the_old() {
    let mut world = World::new("abandon");
    world.round(&[]);
    let first = world.sent();
    world.round_of("bob", &[]);
    let second = world.sent();
    world.challenge(&first, 1);
    assert!(
        world.answers.lock().unwrap().is_empty(),
        "nobody waits for the old one"
    );
    world.challenge(&second, 2);
    assert_eq!(world.answer().eap[1], 2);
    let round = EapRound {
        ike_spi: SPI,
        abandon: true,
        ..EapRound::default()
    };
    world.state.round(round, Box::new(|_| ()), world.now);
    assert_eq!(world.state.conversations.len(), 0);
    world.round(&[2, 2, 0, 6, 26, 0]);
    assert!(!world.answer().failure.is_empty());
    world.round(&[]);
    world.now += Duration::from_secs(121);
    world.state.give_up_silent(world.now);
    assert_eq!(world.state.conversations.len(), 0);
}

#[test]
fn a_round_that_comes_again_is_answered_like_the_first_time() {
    let mut world = World::new("repeat");
    let silent = |world: &mut World| {
        assert!(world.answers.lock().unwrap().is_empty());
        assert_eq!(world.state.datagrams, [], "no server is asked again");
    };
    world.round(&[]);
    let first = world.sent();
    // The ipsecmgr dies, and the next one asks again before and after the server has answered.
    world.round(&[]);
    silent(&mut world);
    world.challenge(&first, 7);
    let challenge = world.answer();
    world.round(&[]);
    assert_eq!(world.answer(), challenge);
    let response = [2, 7, 0, 6, 26, 0];
    world.round(&response);
    let second = world.sent();
    world.round(&response);
    silent(&mut world);
    let mut list = AttributeList::new();
    list.eap(&[3, 7, 0, 4]).unwrap();
    world.reply(&second, Code::AccessAccept, &list, Some(&[5; 64]));
    let success = world.answer();
    assert!(success.success);
    world.round(&response);
    assert_eq!(world.answer(), success, "with the same keys");
    silent(&mut world);
    assert_eq!(world.counters.get(aaa::AUTH_SUCCESS), 1);
    assert_eq!(world.counters.get(aaa::AUTH_REQUESTS), 1);
    // Not for ever.
    world.now += Duration::from_secs(30);
    world.state.give_up_silent(world.now);
    world.round(&response);
    assert!(!world.answer().success);
}

#[test]
fn accounting_is_delivered_again_until_it_is_acknowledged() {
    let mut world = World::new("accounting");
    let record = AccountingRecord {
        kind: AccountingKind::Stop as i32,
        context: "isp".to_owned(),
        session: "0000000000000001".to_owned(),
        user: vec![0xff, b'a'],
        ipv4: vec![10, 30, 0, 77],
        class: vec![b"class".to_vec()],
        seconds: 60,
        bytes_in: (5 << 32) + 6,
        packets_in: 7,
        terminate_cause: 1,
        time: 1_700_000_000,
        ..AccountingRecord::default()
    };
    world.state.account(vec![record], world.now);
    let request = world.sent();
    assert_eq!(request.server, "10.0.0.1:1813".parse().unwrap());
    let packet = Packet::decode(&request.bytes).unwrap();
    assert_eq!(packet.integer(Attribute::AcctStatusType), Some(2));
    assert_eq!(packet.integer(Attribute::AcctInputOctets), Some(6));
    assert_eq!(packet.integer(Attribute::AcctInputGigawords), Some(5));
    assert_eq!(packet.integer(Attribute::AcctTerminateCause), Some(1));
    assert_eq!(packet.integer(Attribute::EventTimestamp), Some(1_700_000_000));
    assert_eq!(packet.value(Attribute::Class), Some(&b"class"[..]));
    assert_eq!(packet.value(Attribute::UserName), Some(&[0xff, b'a'][..]));
    world.now += Duration::from_secs(3);
    world.state.handle_timeout(world.now);
    assert_eq!(world.state.spool.len(), 1, "nobody acknowledged it");
    let next = world.state.next_timeout().unwrap();
    world.now = next;
    world.state.handle_timeout(world.now);
    let request = world.sent();
    world.reply(&request, Code::AccountingResponse, &AttributeList::new(), None);
    assert_eq!(world.state.spool.len(), 0);
    assert_eq!(world.counters.get(aaa::ACCT_SUCCESS), 1);
}

#[test]
fn records_that_nobody_wants_are_dropped_and_counted() {
    let mut world = World::new("unwanted");
    let record = AccountingRecord {
        context: "local".to_owned(),
        ..AccountingRecord::default()
    };
    world.state.account(vec![record], world.now);
    assert_eq!(
        (world.state.spool.len(), world.counters.get(aaa::ACCT_PURGED)),
        (0, 1)
    );
}

#[test]
fn operators_see_servers_and_counters() {
    let mut world = World::new("show");
    world.round(&[]);
    let request = world.sent();
    let mut forged = respond(
        &request.bytes,
        &secret(),
        Code::AccessAccept,
        &AttributeList::new(),
        None,
    )
    .unwrap();
    forged[8] ^= 1;
    world
        .state
        .receive(&request.channel, 0, request.server, &forged, world.now);
    let show = |world: &mut World, command: &str, words: &[(&str, &str)]| {
        let request = Execute {
            context: "isp".to_owned(),
            ..Execute::new(command, words)
        };
        crate::show::execute(&mut world.state, &request).text
    };
    let text = show(&mut world, "show radius counters", &[("all", "")]);
    let value = |label: &str| {
        let line = text
            .lines()
            .find(|line| line.trim().starts_with(label))
            .unwrap_or_else(|| panic!("{label}:\n{text}"));
        line.split_whitespace().next_back().unwrap().to_owned()
    };
    assert_eq!(value("Access-Request Sent"), "1");
    assert_eq!(value("Responses with Bad Authenticator"), "1");
    assert_eq!(value("Requests Pending"), "1");
    let text = show(&mut world, "show radius servers", &[("detail", "")]);
    assert!(
        text.contains("AUTH 10.0.0.1") && text.contains("ACCT 10.0.0.1") && text.contains("Active"),
        "{text}"
    );
    let none = show(&mut world, "show radius counters", &[("server", "10.9.9.9")]);
    assert_eq!(none, "");
    show(&mut world, "clear radius counters", &[("all", "")]);
    let text = show(&mut world, "show radius counters", &[("all", "")]);
    assert!(
        text.lines()
            .any(|line| line.contains("Access-Request Sent") && line.ends_with(" 0")),
        "{text}"
    );
    assert!(show(&mut world, "show aaa statistics", &[]).contains("Total aaa auth requests"));
}
