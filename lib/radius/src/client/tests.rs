//! The client against servers in memory.

use std::time::Duration;

use crypto::TestRandom;
use proptest::prelude::*;

use super::*;
use crate::digest::{hmac_md5, md5};
use crate::hiding::{hide_salted, reveal_password};
use crate::packet::HEADER;
use crate::{Attribute, AttributeList, Counter, Secret};

const SECRET: &[u8] = b"testing123";

/// How a server signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signature {
    Good,
    WrongSecret,
    NoMessageAuthenticator,
    WrongMessageAuthenticator,
    TwoMessageAuthenticators,
}

fn respond(request: &[u8], code: Code, attributes: &AttributeList, signature: Signature) -> Vec<u8> {
    let secret = if signature == Signature::WrongSecret {
        b"other".as_slice()
    } else {
        SECRET
    };
    let authenticators = match signature {
        Signature::NoMessageAuthenticator => 0,
        Signature::TwoMessageAuthenticators => 2,
        _ => 1,
    };
    let mut body = [80, 18]
        .into_iter()
        .chain([0; 16])
        .collect::<Vec<u8>>()
        .repeat(authenticators);
    body.extend_from_slice(attributes.bytes());
    let mut bytes = vec![code.number(), request[1]];
    bytes.extend(((HEADER + body.len()) as u16).to_be_bytes());
    bytes.extend_from_slice(&request[4..HEADER]);
    bytes.extend(body);
    if authenticators > 0 && signature != Signature::WrongMessageAuthenticator {
        let digest = hmac_md5(secret, &[&bytes]).unwrap();
        bytes[HEADER + 2..HEADER + 18].copy_from_slice(&digest);
    }
    let digest = md5(&[&bytes, secret]).unwrap();
    bytes[4..HEADER].copy_from_slice(&digest);
    bytes
}

fn accept(request: &[u8]) -> Vec<u8> {
    respond(
        request,
        Code::AccessAccept,
        &AttributeList::new(),
        Signature::Good,
    )
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 1812))
}

fn server(number: u8, priority: u32) -> Server {
    Server {
        address: address(number),
        secret: Secret::new(SECRET.to_vec()),
        priority,
    }
}

fn config(servers: &[Server]) -> Config {
    Config {
        servers: servers.to_vec(),
        ..Config::default()
    }
}

fn client(config: Config) -> Client {
    Client::new(Service::Authentication, config, Box::new(TestRandom::new(1)))
}

fn request() -> Request {
    let mut request = Request::default();
    request.attributes.text(Attribute::UserName, "bob").unwrap();
    request
}

/// What came out, sorted by kind.
#[derive(Debug, Default)]
struct Outputs {
    sent: Vec<(SocketAddr, u16, Vec<u8>)>,
    completed: Vec<Completion>,
    down: Vec<SocketAddr>,
    up: Vec<SocketAddr>,
}

fn outputs(client: &mut Client) -> Outputs {
    let mut all = Outputs::default();
    while let Some(output) = client.poll_output() {
        match output {
            Output::Transmit { server, port, bytes } => all.sent.push((server, port, bytes)),
            Output::Completed(completion) => all.completed.push(completion),
            Output::ServerDown(address) => all.down.push(address),
            Output::ServerUp(address) => all.up.push(address),
        }
    }
    all
}

fn counter(client: &Client, number: u8, counter: Counter) -> u64 {
    client
        .servers()
        .find(|status| status.address == address(number))
        .unwrap()
        .counters
        .get(counter)
}

/// Lets time pass until the client has nothing more to do, without any answer. Gives back the end and all outputs.
fn starve(client: &mut Client, until: Instant) -> Outputs {
    let mut all = outputs(client);
    while let Some(next) = client.next_timeout().filter(|&next| next <= until) {
        client.handle_timeout(next);
        let more = outputs(client);
        all.sent.extend(more.sent);
        all.completed.extend(more.completed);
        all.down.extend(more.down);
        all.up.extend(more.up);
    }
    all
}

#[test]
fn access_request_is_signed_and_answered() {
    let now = Instant::now();
    let mut client = client(config(&[server(1, 1)]));
    let mut request = request();
    request.password = Some(Secret::new(b"hello".to_vec()));
    let ticket = client.submit(now, request).unwrap();
    let sent = outputs(&mut client).sent;
    let [(to, 0, bytes)] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(*to, address(1));
    let packet = Packet::decode(bytes).unwrap();
    assert_eq!(packet.code(), Code::AccessRequest);
    assert_eq!(
        packet.message_authenticator(),
        Ok(HEADER + 2),
        "in front of all other attributes"
    );
    let mut blank = bytes.clone();
    blank[HEADER + 2..HEADER + 18].fill(0);
    assert_eq!(
        hmac_md5(SECRET, &[&blank]).unwrap(),
        bytes[HEADER + 2..HEADER + 18]
    );
    let authenticator = packet.authenticator().try_into().unwrap();
    let hidden = packet.value(Attribute::UserPassword).unwrap();
    assert_eq!(
        **reveal_password(hidden, &Secret::new(SECRET.to_vec()), &authenticator).unwrap(),
        *b"hello"
    );

    let mut attributes = AttributeList::new();
    attributes.integer(Attribute::SessionTimeout, 3600).unwrap();
    let later = now + Duration::from_millis(7);
    client.receive(
        later,
        address(1),
        0,
        &respond(bytes, Code::AccessAccept, &attributes, Signature::Good),
    );
    let completed = outputs(&mut client).completed;
    let [
        Completion {
            ticket: done,
            result: Ok(reply),
        },
    ] = completed.as_slice()
    else {
        panic!("{completed:?}")
    };
    assert_eq!(
        (*done, reply.code(), reply.server()),
        (ticket, Code::AccessAccept, address(1))
    );
    assert_eq!(reply.packet().integer(Attribute::SessionTimeout), Some(3600));
    let status = client.servers().next().unwrap();
    assert_eq!(
        (status.pending, status.roundtrip),
        (0, Some(Duration::from_millis(7)))
    );
    assert_eq!(client.next_timeout(), None);
}

/// RFC 2866 section 3, computed over the whole datagram.
#[test]
fn accounting_request_is_signed_and_needs_no_message_authenticator_in_reply() {
    let now = Instant::now();
    let mut client = Client::new(
        Service::Accounting,
        config(&[server(1, 1)]),
        Box::new(TestRandom::new(1)),
    );
    client.submit(now, request()).unwrap();
    let bytes = outputs(&mut client).sent.remove(0).2;
    let mut blank = bytes.clone();
    blank[4..HEADER].fill(0);
    assert_eq!(md5(&[&blank, SECRET]).unwrap(), bytes[4..HEADER]);
    let empty = AttributeList::new();
    client.receive(
        now,
        address(1),
        0,
        &respond(&bytes, Code::AccessAccept, &empty, Signature::Good),
    );
    assert_eq!(counter(&client, 1, Counter::UnknownType), 1);
    let code = Code::AccountingResponse;
    client.receive(
        now,
        address(1),
        0,
        &respond(&bytes, code, &empty, Signature::WrongMessageAuthenticator),
    );
    assert_eq!(
        counter(&client, 1, Counter::BadMessageAuthenticator),
        1,
        "checked where there is one"
    );
    client.receive(
        now,
        address(1),
        0,
        &respond(&bytes, code, &empty, Signature::NoMessageAuthenticator),
    );
    assert!(matches!(
        outputs(&mut client).completed.as_slice(),
        [Completion { result: Ok(_), .. }]
    ));
    assert_eq!(counter(&client, 1, Counter::ResponsesReceived), 1);
}

#[test]
fn keys_are_revealed() {
    let now = Instant::now();
    let mut client = client(config(&[server(1, 1)]));
    client.submit(now, request()).unwrap();
    let bytes = outputs(&mut client).sent.remove(0).2;
    let authenticator: [u8; 16] = bytes[4..HEADER].try_into().unwrap();
    let secret = Secret::new(SECRET.to_vec());
    let mut attributes = AttributeList::new();
    for (attribute, salt, key) in [
        (Attribute::MsMppeSendKey, 1, [0x55; 32]),
        (Attribute::MsMppeRecvKey, 2, [0xaa; 32]),
    ] {
        let hidden = hide_salted(&key, salt, &secret, &authenticator).unwrap();
        attributes.hidden(attribute, &hidden).unwrap();
    }
    client.receive(
        now,
        address(1),
        0,
        &respond(&bytes, Code::AccessAccept, &attributes, Signature::Good),
    );
    let completion = outputs(&mut client).completed.remove(0);
    let msk = completion.result.unwrap().mppe_keys().unwrap().msk().unwrap();
    assert_eq!(*msk, [[0xaa; 32], [0x55; 32]].concat().as_slice());
}

#[test]
fn forged_replies_are_counted_by_cause_and_ignored() {
    let now = Instant::now();
    let mut client = client(config(&[server(1, 1)]));
    client.submit(now, request()).unwrap();
    let bytes = outputs(&mut client).sent.remove(0).2;
    let empty = AttributeList::new();
    let reply = |signature| respond(&bytes, Code::AccessAccept, &empty, signature);

    for (signature, cause) in [
        (Signature::WrongSecret, Counter::BadAuthenticator),
        (Signature::NoMessageAuthenticator, Counter::NoMessageAuthenticator),
        (
            Signature::WrongMessageAuthenticator,
            Counter::BadMessageAuthenticator,
        ),
        (
            Signature::TwoMessageAuthenticators,
            Counter::BadMessageAuthenticator,
        ),
    ] {
        let before = counter(&client, 1, cause);
        client.receive(now, address(1), 0, &reply(signature));
        assert_eq!(counter(&client, 1, cause), before + 1, "{signature:?}");
    }
    client.receive(now, address(1), 0, &reply(Signature::Good)[..19]);
    assert_eq!(counter(&client, 1, Counter::Malformed), 1);
    client.receive(
        now,
        address(1),
        0,
        &respond(&bytes, Code::AccessRequest, &empty, Signature::Good),
    );
    assert_eq!(counter(&client, 1, Counter::UnknownType), 1);
    let mut other_identifier = bytes.clone();
    other_identifier[1] ^= 1;
    client.receive(now, address(1), 0, &accept(&other_identifier));
    client.receive(now, address(1), 1, &reply(Signature::Good));
    assert_eq!(
        counter(&client, 1, Counter::Dropped),
        2,
        "wrong identifier, wrong port"
    );
    client.receive(now, address(9), 0, &reply(Signature::Good));
    assert_eq!(client.strays(), 1);
    let mut bad_value = AttributeList::new();
    bad_value.integer(Attribute::SessionTimeout, 1).unwrap();
    let mut datagram = respond(&bytes, Code::AccessAccept, &bad_value, Signature::Good);
    assert_eq!(datagram.pop(), Some(1));
    client.receive(now, address(1), 0, &datagram);
    assert_eq!(counter(&client, 1, Counter::Malformed), 2);
    assert!(outputs(&mut client).completed.is_empty());
    assert_eq!(counter(&client, 1, Counter::AcceptsReceived), 0);

    client.receive(now, address(1), 0, &reply(Signature::Good));
    assert_eq!(outputs(&mut client).completed.len(), 1);
    client.receive(now, address(1), 0, &reply(Signature::Good));
    assert!(outputs(&mut client).completed.is_empty());
    assert_eq!(counter(&client, 1, Counter::Dropped), 3, "a duplicate");
}

#[test]
fn verified_reply_with_malformed_attribute_is_ignored() {
    let now = Instant::now();
    let mut client = client(config(&[server(1, 1)]));
    client.submit(now, request()).unwrap();
    let bytes = outputs(&mut client).sent.remove(0).2;
    let mut attributes = AttributeList::new();
    attributes.text(Attribute::ReplyMessage, "abc").unwrap();
    let mut raw = attributes.bytes().to_vec();
    raw[0] = Attribute::SessionTimeout.number() as u8;
    // Session-Timeout of three octets: built by hand, the list would refuse it.
    let mut datagram = vec![2, bytes[1], 0, (HEADER + 18 + raw.len()) as u8];
    datagram.extend_from_slice(&bytes[4..HEADER]);
    datagram.extend([80, 18]);
    datagram.extend([0; 16]);
    datagram.extend(raw);
    let digest = hmac_md5(SECRET, &[&datagram]).unwrap();
    datagram[HEADER + 2..HEADER + 18].copy_from_slice(&digest);
    let digest = md5(&[&datagram, SECRET]).unwrap();
    datagram[4..HEADER].copy_from_slice(&digest);
    client.receive(now, address(1), 0, &datagram);
    assert_eq!(counter(&client, 1, Counter::MalformedAttribute), 1);
    assert!(outputs(&mut client).completed.is_empty());
}

#[test]
fn request_is_repeated_unchanged_and_given_up() {
    let now = Instant::now();
    let mut client = client(config(&[server(1, 1)]));
    client.submit(now, request()).unwrap();
    let all = starve(&mut client, now + Duration::from_secs(60));
    assert_eq!(all.sent.len(), 6, "once and five times again");
    assert!(all.sent.iter().all(|(_, _, bytes)| *bytes == all.sent[0].2));
    assert!(matches!(
        all.completed.as_slice(),
        [Completion {
            result: Err(Failure::Timeout),
            ..
        }]
    ));
    assert_eq!(counter(&client, 1, Counter::RequestsSent), 1);
    assert_eq!(counter(&client, 1, Counter::RequestsRetried), 5);
    assert_eq!(counter(&client, 1, Counter::RequestTimeouts), 1);
    assert!(all.down.is_empty());
}

#[test]
fn transmissions_are_bounded_over_all_servers() {
    let now = Instant::now();
    let servers = [server(1, 1), server(2, 2)];
    let mut client = client(Config {
        max_transmissions: Some(8),
        ..config(&servers)
    });
    client.submit(now, request()).unwrap();
    let all = starve(&mut client, now + Duration::from_secs(60));
    let to = |number| {
        all.sent
            .iter()
            .filter(|(server, ..)| *server == address(number))
            .count()
    };
    assert_eq!((to(1), to(2)), (6, 2));
    assert_eq!(all.completed.len(), 1);
}

#[test]
fn next_server_answers_and_dead_one_comes_back() {
    let start = Instant::now();
    let mut client = client(Config {
        max_retries: 0,
        ..config(&[server(1, 1), server(2, 2)])
    });
    let mut now = start;
    let mut down = Vec::new();
    for _ in 0..4 {
        client.submit(now, request()).unwrap();
        assert_eq!(outputs(&mut client).sent[0].0, address(1));
        now += Duration::from_secs(3);
        client.handle_timeout(now);
        let all = outputs(&mut client);
        down.extend(all.down);
        let [(to, port, bytes)] = all.sent.as_slice() else {
            panic!("{:?}", all.sent)
        };
        assert_eq!(*to, address(2));
        client.receive(now, address(2), *port, &accept(bytes));
        assert!(matches!(
            outputs(&mut client).completed.as_slice(),
            [Completion { result: Ok(_), .. }]
        ));
    }
    assert_eq!(down, [address(1)]);
    assert_eq!(counter(&client, 1, Counter::DeclaredDead), 1);

    client.submit(now, request()).unwrap();
    let sent = outputs(&mut client).sent;
    assert_eq!(
        sent[0].0,
        address(2),
        "a dead server gets nothing while another lives"
    );
    client.receive(now, address(2), sent[0].1, &accept(&sent[0].2));
    let all = starve(&mut client, now + Duration::from_secs(601));
    assert_eq!(all.up, [address(1)], "deadtime is over");
    now += Duration::from_secs(601);
    client.submit(now, request()).unwrap();
    assert_eq!(outputs(&mut client).sent[0].0, address(1));
}

#[test]
fn when_all_are_dead_all_are_asked_and_an_answer_revives() {
    let now = Instant::now();
    let rule = DeadServer {
        consecutive_failures: Some(1),
        response_timeout: None,
    };
    let servers = [server(1, 1), server(2, 2)];
    let mut client = client(Config {
        max_retries: 0,
        dead_server: rule,
        ..config(&servers)
    });
    client.submit(now, request()).unwrap();
    let all = starve(&mut client, now + Duration::from_secs(6));
    assert_eq!(all.down, [address(1), address(2)]);
    let later = now + Duration::from_secs(6);
    client.submit(later, request()).unwrap();
    let (to, port, bytes) = outputs(&mut client).sent.remove(0);
    assert_eq!(to, address(1));
    client.receive(later, to, port, &accept(&bytes));
    let all = outputs(&mut client);
    assert_eq!(all.up, [address(1)]);
    assert_eq!(all.completed.len(), 1);
}

#[test]
fn both_conditions_of_death_must_be_met() {
    let now = Instant::now();
    let rule = DeadServer {
        consecutive_failures: Some(1),
        response_timeout: Some(Duration::from_secs(5)),
    };
    let mut client = client(Config {
        max_retries: 0,
        dead_server: rule,
        ..config(&[server(1, 1)])
    });
    client.submit(now, request()).unwrap();
    assert!(
        starve(&mut client, now + Duration::from_secs(3)).down.is_empty(),
        "failed, but silent for 3 s only"
    );
    let later = now + Duration::from_secs(3);
    client.submit(later, request()).unwrap();
    assert_eq!(
        starve(&mut client, later + Duration::from_secs(3)).down,
        [address(1)]
    );
}

#[test]
fn round_robin_takes_turns() {
    let now = Instant::now();
    let servers = [server(1, 1), server(2, 2), server(3, 3)];
    let mut client = client(Config {
        algorithm: Algorithm::RoundRobin,
        ..config(&servers)
    });
    for _ in 0..6 {
        client.submit(now, request()).unwrap();
    }
    let to: Vec<_> = outputs(&mut client)
        .sent
        .iter()
        .map(|(server, ..)| *server)
        .collect();
    assert_eq!(to, [1, 2, 3, 1, 2, 3].map(address));
}

#[test]
fn conversation_stays_with_its_server() {
    let now = Instant::now();
    let mut client = client(Config {
        max_retries: 1,
        ..config(&[server(1, 1), server(2, 2)])
    });
    let bound = Request {
        server: Some(address(2)),
        ..request()
    };
    client.submit(now, bound.clone()).unwrap();
    let all = starve(&mut client, now + Duration::from_secs(60));
    assert!(all.sent.iter().all(|(server, ..)| *server == address(2)));
    assert!(matches!(
        all.completed.as_slice(),
        [Completion {
            result: Err(Failure::Timeout),
            ..
        }]
    ));
    let stranger = Request {
        server: Some(address(7)),
        ..request()
    };
    assert_eq!(client.submit(now, stranger), Err(SubmitError::UnknownServer));

    client.submit(now, bound).unwrap();
    client.reconfigure(now, config(&[server(1, 1)]));
    let completed = outputs(&mut client).completed;
    assert!(matches!(
        completed.as_slice(),
        [Completion {
            result: Err(Failure::ServerRemoved),
            ..
        }]
    ));
}

#[test]
fn outstanding_requests_are_bounded_and_the_queue_too() {
    let now = Instant::now();
    let settings = Config {
        max_outstanding: 300,
        queue_limit: 10,
        ..config(&[server(1, 1)])
    };
    assert_eq!(settings.ports(), 2);
    let mut client = client(settings);
    for _ in 0..310 {
        client.submit(now, request()).unwrap();
    }
    assert_eq!((client.outstanding(), client.queued()), (300, 10));
    assert_eq!(client.submit(now, request()), Err(SubmitError::QueueFull));
    let sent = outputs(&mut client).sent;
    let mut identifiers: Vec<_> = sent.iter().map(|(_, port, bytes)| (*port, bytes[1])).collect();
    identifiers.sort_unstable();
    identifiers.dedup();
    assert_eq!(identifiers.len(), 300, "no identifier twice on a port");
    for (server, port, bytes) in &sent {
        client.receive(now, *server, *port, &accept(bytes));
    }
    let all = outputs(&mut client);
    assert_eq!(
        (all.completed.len(), all.sent.len(), client.queued()),
        (300, 10, 0)
    );
}

#[test]
fn cancelled_request_makes_room_and_its_reply_is_dropped() {
    let now = Instant::now();
    let mut client = client(Config {
        max_outstanding: 1,
        ..config(&[server(1, 1)])
    });
    let first = client.submit(now, request()).unwrap();
    let second = client.submit(now, request()).unwrap();
    let third = client.submit(now, request()).unwrap();
    let sent = outputs(&mut client).sent;
    assert_eq!(sent.len(), 1);
    client.cancel(now, second);
    client.cancel(now, first);
    assert_eq!(outputs(&mut client).sent.len(), 1);
    client.receive(now, address(1), 0, &accept(&sent[0].2));
    assert_eq!(counter(&client, 1, Counter::Dropped), 1);
    client.cancel(now, third);
    assert_eq!(
        (client.outstanding(), client.queued(), client.next_timeout()),
        (0, 0, None)
    );
}

#[test]
fn new_secret_restarts_requests_and_keeps_counters() {
    let now = Instant::now();
    let mut client = client(config(&[server(1, 1)]));
    client.submit(now, request()).unwrap();
    let old = outputs(&mut client).sent.remove(0).2;
    let other = Server {
        secret: Secret::new(b"other".to_vec()),
        ..server(1, 1)
    };
    client.reconfigure(now, config(&[other]));
    let new = outputs(&mut client).sent.remove(0).2;
    assert_ne!(old[4..HEADER], new[4..HEADER]);
    client.receive(
        now,
        address(1),
        0,
        &respond(
            &new,
            Code::AccessAccept,
            &AttributeList::new(),
            Signature::WrongSecret,
        ),
    );
    assert_eq!(outputs(&mut client).completed.len(), 1);
    assert_eq!(counter(&client, 1, Counter::RequestsSent), 2);
    client.reconfigure(now, config(&[]));
    assert_eq!(client.submit(now, request()), Err(SubmitError::NoServer));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost, late, doubled or garbled: every request completes exactly once, and nothing stays behind.
    #[test]
    fn every_request_completes_once(
        count in 1usize..40, outstanding in 1u16..10, seed: u64,
        fates in prop::collection::vec(0u8..6, 1..400),
    ) {
        let mut now = Instant::now();
        let end = now + Duration::from_secs(100_000);
        let settings = Config {
            max_outstanding: outstanding, max_retries: 2, algorithm: Algorithm::RoundRobin,
            ..config(&[server(1, 1), server(2, 1), server(3, 5)])
        };
        let mut client = Client::new(Service::Authentication, settings, Box::new(TestRandom::new(seed)));
        let mut open: Vec<Ticket> = (0..count).map(|_| client.submit(now, request()).unwrap()).collect();
        let mut fate = fates.iter().cycle();
        while now < end {
            let all = outputs(&mut client);
            for Completion { ticket, .. } in all.completed {
                let index = open.iter().position(|&other| other == ticket);
                prop_assert!(index.is_some(), "completed twice");
                open.swap_remove(index.unwrap());
            }
            prop_assert!(client.outstanding() <= usize::from(outstanding));
            let quiet = all.sent.is_empty();
            for (server, port, bytes) in all.sent {
                let good = accept(&bytes);
                match fate.next().unwrap() {
                    0 | 1 => client.receive(now, server, port, &good),
                    2 => {
                        client.receive(now, server, port, &good);
                        client.receive(now, server, port, &good);
                    }
                    3 => {
                        let mut garbled = good;
                        let at = garbled.len() - 1 - usize::from(bytes[5]) % garbled.len();
                        garbled[at] ^= 0x40;
                        client.receive(now, server, port, &garbled);
                    }
                    _ => {}
                }
            }
            if !quiet {
                continue;
            }
            let Some(next) = client.next_timeout().filter(|_| !open.is_empty()) else { break };
            now = next;
            client.handle_timeout(now);
        }
        prop_assert!(open.is_empty(), "{} requests never completed", open.len());
        prop_assert_eq!((client.outstanding(), client.queued()), (0, 0));
    }
}
