//! What a bus promises, on both back ends: every test runs over sockets and in process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::path::Path;
use std::time::{Duration, Instant};

use bus::messages::common::{Execute, Output, Ping};
use bus::messages::rmctrl::{GetSlotMap, SlotMap};
use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig};
use bus::{Address, Bus, BusError, Facility, Heard, RefusalCode, Server, dispatch};
use tokio::time::timeout;

use ground::{Directory, Ground, PATIENCE, on_both};

const SCT: Address = Address::only(Facility::Sct);
const RMCTRL: Address = Address::only(Facility::Rmctrl);
const CLI: Address = Address::new(Facility::Cli, 7);
const SECOND: Duration = Duration::from_secs(1);

/// Answers configuration requests with `text`; keeps silent about commands; ends with the server.
async fn serve(mut server: Server, text: &'static str) {
    let mut kept = vec![];
    while let Some(incoming) = server.next().await {
        dispatch!(incoming, {
            GetConfig => |_query, responder| responder.reply(ConfigText { version: 3, text: text.into() }),
            Execute => |query, responder| match query.command.as_str() {
                "silence" => kept.push(responder),
                "drop" => drop(responder),
                "large" => responder.reply(Output { text: "x".repeat(17 << 20), ..Output::default() }),
                name => responder.reply(Output { text: name.to_owned(), ..Output::default() }),
            },
        });
    }
}

/// Waits until it is so.
async fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn execute(command: &str) -> Execute {
    Execute::new(command, &[])
}

#[test]
fn a_request_gets_its_reply() {
    on_both(async |ground| {
        let (_bus, server) = ground.open(SCT).await;
        tokio::spawn(serve(server, "config"));
        let (client, _server) = ground.open(CLI).await;
        let config = client.request(SCT, &GetConfig {}, PATIENCE).await.unwrap();
        assert_eq!(
            config,
            ConfigText {
                version: 3,
                text: "config".into()
            }
        );
        assert_eq!(
            client.request(SCT, &Ping {}, PATIENCE).await.unwrap().pid,
            std::process::id()
        );
        let statistics = client.statistics();
        assert_eq!((statistics.requests, statistics.replies), (2, 2));
        let mut addresses = client.addresses();
        addresses.sort();
        assert_eq!(addresses, [SCT, CLI]);
    });
}

#[test]
fn concurrent_requests_are_told_apart() {
    on_both(async |ground| {
        let (_bus, server) = ground.open(SCT).await;
        tokio::spawn(serve(server, "config"));
        let (client, _server) = ground.open(CLI).await;
        // Three windows' worth, so that some wait their turn.
        let calls: Vec<_> = (0..3_000)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    let command = format!("show {number}");
                    let output = client.request(SCT, &execute(&command), PATIENCE).await.unwrap();
                    assert_eq!(output.text, command);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn refusals_reach_the_caller() {
    on_both(async |ground| {
        let (_bus, server) = ground.open(SCT).await;
        tokio::spawn(serve(server, ""));
        let (client, _server) = ground.open(CLI).await;
        let code = |error| match error {
            BusError::Refused {
                to: SCT, code, text, ..
            } => (code, text),
            other => panic!("{other}"),
        };
        let error = client.request(SCT, &GetSlotMap {}, PATIENCE).await.unwrap_err();
        assert_eq!(code(error).0, RefusalCode::Unsupported);
        let error = client.request(SCT, &execute("drop"), PATIENCE).await.unwrap_err();
        assert_eq!(code(error).0, RefusalCode::Dropped);
        let (refusal, text) = code(
            client
                .request(SCT, &execute("large"), PATIENCE)
                .await
                .unwrap_err(),
        );
        assert_eq!(refusal, RefusalCode::Failed);
        assert!(text.contains("larger than"), "{text}");
        assert_eq!(client.statistics().refused, 3);
    });
}

#[test]
fn a_deadline_is_kept() {
    on_both(async |ground| {
        let (_bus, server) = ground.open(SCT).await;
        tokio::spawn(serve(server, ""));
        let (client, _server) = ground.open(CLI).await;
        // It is out long before the others, and still is when they have ended.
        let patient = {
            let client = client.clone();
            tokio::spawn(async move { client.request(SCT, &execute("silence"), 2 * PATIENCE).await })
        };
        client.request(SCT, &Ping {}, PATIENCE).await.unwrap();
        let begin = Instant::now();
        let error = client
            .request(SCT, &execute("silence"), SECOND / 5)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                BusError::Timeout {
                    to: SCT,
                    request: "Execute",
                    ..
                }
            ),
            "{error}"
        );
        let error = client
            .request(RMCTRL, &GetSlotMap {}, SECOND / 5)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                BusError::Unreachable {
                    to: RMCTRL,
                    sent: false,
                    ..
                }
            ),
            "{error}"
        );
        assert!(begin.elapsed() >= SECOND * 2 / 5, "before the deadlines");
        assert!(!patient.is_finished());
        patient.abort();
        let statistics = client.statistics();
        assert_eq!((statistics.timeouts, statistics.unreachable), (1, 1));
    });
}

#[test]
fn a_silent_peer_does_not_hold_up_others() {
    on_both(async |ground| {
        let (silent, _unserved) = ground.open(RMCTRL).await;
        let (_sct, server) = ground.open(SCT).await;
        tokio::spawn(serve(server, ""));
        let (client, _server) = ground.open(CLI).await;
        // More than the window and the queue of the silent one take.
        let stuck: Vec<_> = (0..5_000)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.request(RMCTRL, &GetSlotMap {}, 2 * PATIENCE).await })
            })
            .collect();
        until(|| client.statistics().requests == 5_000 && silent.statistics().served == 1_000).await;
        for _ in 0..100 {
            client.request(SCT, &GetConfig {}, PATIENCE).await.unwrap();
        }
        // The others were answered before any of these: they did not wait for them.
        assert!(stuck.iter().all(|call| !call.is_finished()));
        for call in stuck {
            call.abort();
        }
    });
}

#[test]
fn a_full_server_refuses() {
    on_both(async |ground| {
        let (bus, _unserved) = ground.open(SCT).await;
        let mut clients = vec![];
        let mut calls = vec![];
        // Five clients of a whole window each overfill the queue of one server.
        for instance in 1..=5 {
            let (client, server) = ground.open(Address::new(Facility::Cli, instance)).await;
            for _ in 0..1_000 {
                let client = client.clone();
                calls.push(tokio::spawn(async move {
                    client.request(SCT, &GetConfig {}, 2 * PATIENCE).await
                }));
            }
            clients.push((client, server));
        }
        until(|| calls.iter().filter(|call| call.is_finished()).count() >= 5_000 - 4_096).await;
        let statistics = bus.statistics();
        assert_eq!((statistics.served, statistics.overloaded), (4_096, 5_000 - 4_096));
        for call in calls {
            if !call.is_finished() {
                call.abort();
                continue;
            }
            match call.await.unwrap() {
                Err(BusError::Refused {
                    code: RefusalCode::Busy,
                    ..
                }) => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_request_waits_for_a_peer_that_comes_late() {
    on_both(async |ground| {
        let (client, _server) = ground.open(CLI).await;
        let call = {
            let client = client.clone();
            tokio::spawn(async move { client.request(SCT, &GetConfig {}, PATIENCE).await })
        };
        tokio::time::sleep(SECOND / 3).await;
        let (_bus, server) = ground.open(SCT).await;
        tokio::spawn(serve(server, "late"));
        // Without this it would find out by itself within its back-off.
        client.note_started(SCT);
        assert_eq!(call.await.unwrap().unwrap().text, "late");
    });
}

#[test]
fn events_reach_every_subscriber_in_order() {
    on_both(async |ground| {
        let (sct, _server) = ground.open(SCT).await;
        let (cli, _server2) = ground.open(CLI).await;
        let (other, _server3) = ground.open(RMCTRL).await;
        let mut subscriptions = [
            cli.subscribe::<ConfigChanged>(),
            other.subscribe::<ConfigChanged>(),
        ];
        for subscription in &mut subscriptions {
            subscription.follow(SCT);
            assert_eq!(subscription.next().await, Heard::Missed(SCT));
        }
        for version in 0..5_000 {
            sct.publish(&ConfigChanged { version });
        }
        for subscription in &mut subscriptions {
            for version in 0..5_000 {
                assert_eq!(
                    subscription.next().await,
                    Heard::Event(SCT, ConfigChanged { version })
                );
            }
        }
        // Beacons bring no false alarms.
        assert!(timeout(SECOND * 5 / 4, subscriptions[0].next()).await.is_err());
    });
}

#[test]
fn a_subscriber_hears_only_its_type_and_whom_it_follows() {
    on_both(async |ground| {
        let (sct, _server) = ground.open(SCT).await;
        let (rmctrl, _server2) = ground.open(RMCTRL).await;
        let (cli, _server3) = ground.open(CLI).await;
        let mut subscription = cli.subscribe::<ConfigChanged>();
        subscription.follow(SCT);
        assert_eq!(subscription.next().await, Heard::Missed(SCT));
        rmctrl.publish(&ConfigChanged { version: 1 });
        sct.publish(&bus::messages::rmctrl::SlotMapChanged { version: 2 });
        sct.publish(&ConfigChanged { version: 3 });
        assert_eq!(
            subscription.next().await,
            Heard::Event(SCT, ConfigChanged { version: 3 })
        );
        subscription.unfollow(SCT);
        sct.publish(&ConfigChanged { version: 4 });
        assert!(timeout(SECOND / 5, subscription.next()).await.is_err());
    });
}

#[test]
fn an_overfull_subscription_says_so() {
    on_both(async |ground| {
        let (sct, _server) = ground.open(SCT).await;
        let (cli, _server2) = ground.open(CLI).await;
        let mut subscription = cli.subscribe::<ConfigChanged>();
        subscription.follow(SCT);
        assert_eq!(subscription.next().await, Heard::Missed(SCT));
        for version in 0..15_000 {
            sct.publish(&ConfigChanged { version });
        }
        until(|| cli.statistics().heard == 15_000).await;
        for version in 0..10_000 {
            assert_eq!(
                subscription.next().await,
                Heard::Event(SCT, ConfigChanged { version })
            );
        }
        assert_eq!(subscription.next().await, Heard::Missed(SCT));
    });
}

#[test]
fn one_address_has_one_server() {
    on_both(async |ground| {
        let (_bus, _server) = ground.open(SCT).await;
        let second = match ground {
            Ground::Sockets(directory) => Bus::open(&directory.0, SCT).await,
            Ground::Process(hub) => Bus::in_process(hub, SCT),
        };
        assert!(matches!(
            second.err(),
            Some(BusError::AddressInUse { address: SCT, .. })
        ));
    });
}

#[test]
fn too_large_a_request_is_not_sent() {
    on_both(async |ground| {
        let (client, _server) = ground.open(CLI).await;
        let error = client
            .request(SCT, &execute(&"x".repeat(17 << 20)), PATIENCE)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                BusError::TooLarge {
                    message: "Execute",
                    ..
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn the_directory_must_be_ours_alone() {
    let directory = Directory::new();
    let bus = directory.0.join("bus");
    std::fs::create_dir(&bus).unwrap();
    std::fs::set_permissions(&bus, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = Bus::client(&directory.0, CLI).err().unwrap();
    assert!(error.to_string().contains("has mode 755"), "{error}");
    let missing = Bus::client(Path::new("/nonexistent/run"), CLI).err().unwrap();
    assert!(matches!(missing, BusError::Directory { .. }), "{missing}");
    let long = directory.0.join("x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime.block_on(Bus::open(&long, CLI)).err().unwrap();
    assert!(error.to_string().contains("shorter run directory"), "{error}");
}

#[test]
fn slot_maps_survive_the_journey() {
    on_both(async |ground| {
        let (_bus, mut server) = ground.open(RMCTRL).await;
        let map = SlotMap {
            version: 9,
            data: vec![2; 255],
            ..SlotMap::of_workers((0..255).map(|slot| slot % 4 + 1).collect())
        };
        let answer = map.clone();
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                assert_eq!(incoming.from(), CLI);
                dispatch!(incoming, { GetSlotMap => |_, responder| responder.reply(answer.clone()) });
            }
        });
        let (client, _server) = ground.open(CLI).await;
        assert_eq!(
            client.request(RMCTRL, &GetSlotMap {}, PATIENCE).await.unwrap(),
            map
        );
    });
}
