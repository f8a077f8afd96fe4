//! Real processes that are killed, stopped and replaced: this test binary starts itself again as the server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bus::messages::common::{Execute, Output, Ping};
use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig};
use bus::{Address, Bus, BusError, Facility, Heard, dispatch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

const SCT: Address = Address::only(Facility::Sct);
const CLI: Address = Address::new(Facility::Cli, 7);
const SECOND: Duration = Duration::from_secs(1);
/// Deadline of what is to succeed. Whatever takes longer hangs; a slow machine does not.
const PATIENCE: Duration = Duration::from_secs(120);
const RUN_DIR: &str = "BUS_TEST_RUN_DIR";
const LEAVING_RUN_DIR: &str = "BUS_TEST_LEAVING_RUN_DIR";
const CLIENT_RUN_DIR: &str = "BUS_TEST_CLIENT_RUN_DIR";

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(2 * PATIENCE, test).await.unwrap() });
}

/// Not a test of its own: the server process, when the environment says so. It publishes an event every 5 ms, answers
/// configuration requests with its process id, and keeps silent about commands.
#[test]
fn server_process() {
    let Ok(run_dir) = std::env::var(RUN_DIR) else {
        return;
    };
    block_on(async {
        let (bus, mut server) = Bus::open(Path::new(&run_dir), SCT).await.unwrap();
        println!("serving");
        let publisher = bus.clone();
        tokio::spawn(async move {
            for version in 0.. {
                publisher.publish(&ConfigChanged { version });
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let mut kept = vec![];
        while let Some(incoming) = server.next().await {
            dispatch!(incoming, {
                GetConfig => |_, responder| responder.reply(ConfigText {
                    version: u64::from(std::process::id()),
                    text: String::new(),
                }),
                Execute => |query, responder| if query.command == "silence" {
                    kept.push(responder);
                } else {
                    responder.reply(Output::default());
                },
            });
        }
    });
}

/// Another process; killed and reaped when dropped.
struct ServerProcess(Child);

impl ServerProcess {
    fn start(run_dir: &Path) -> Self {
        Self::start_as(RUN_DIR, "server_process", run_dir)
    }

    fn start_as(variable: &str, role: &str, run_dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", role, "--nocapture"])
            .env(variable, run_dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line.contains("serving")));
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
        // Each thread stops when it gets to it.
        while signal == Signal::SIGSTOP && !self.is_stopped() {
            std::thread::sleep(SECOND / 1_000);
        }
    }

    fn is_stopped(&self) -> bool {
        std::fs::read_dir(format!("/proc/{}/task", self.0.id()))
            .unwrap()
            .all(|thread| {
                let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
                stat.rsplit_once(')').unwrap().1.starts_with(" T")
            })
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bus-restart-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_killed_server_that_comes_back_is_talked_to_again() {
    let directory = Directory::new("killed");
    block_on(async {
        let client = Bus::client(&directory.0, CLI).unwrap();
        let mut events = client.subscribe::<ConfigChanged>();
        events.follow(SCT);
        for _ in 0..4 {
            let mut server = ServerProcess::start(&directory.0);
            let config = client.request(SCT, &GetConfig {}, PATIENCE).await.unwrap();
            assert_eq!(config.version, u64::from(server.0.id()));

            // Events resume: first the word that some may be missing, then without a gap.
            while events.next().await != Heard::Missed(SCT) {} // the last ones of the life before
            let mut last = None;
            for _ in 0..20 {
                match events.next().await {
                    Heard::Event(SCT, event) => {
                        assert!(
                            last.is_none_or(|last| event.version == last + 1),
                            "{last:?}, then {event:?}"
                        );
                        last = Some(event.version);
                    }
                    other => panic!("{other:?}"),
                }
            }

            // A request that is out when the server is killed fails at once: it must not be repeated.
            let asked = client.statistics().requests;
            let call = {
                let client = client.clone();
                tokio::spawn(async move {
                    let silence = Execute::new("silence", &[]);
                    client.request(SCT, &silence, PATIENCE).await
                })
            };
            // Requests leave in order: when this one is answered, the other is out.
            while client.statistics().requests == asked {
                tokio::task::yield_now().await;
            }
            client.request(SCT, &Ping {}, PATIENCE).await.unwrap();
            server.0.kill().unwrap();
            server.0.wait().unwrap();
            let error = call.await.unwrap().unwrap_err();
            assert!(
                matches!(error, BusError::Unreachable { sent: true, .. }),
                "{error}"
            );
        }
        assert_eq!(client.statistics().reconnects, 3);
    });
}

/// Not a test of its own: a server process that leaves at the first request, and goes on until it is killed.
#[test]
fn leaving_process() {
    let Ok(run_dir) = std::env::var(LEAVING_RUN_DIR) else {
        return;
    };
    block_on(async {
        let (bus, mut server) = Bus::open(Path::new(&run_dir), SCT).await.unwrap();
        println!("serving");
        let taken = server.next().await;
        bus.leaving().begin();
        drop((taken, server));
        std::future::pending::<()>().await;
    });
}

#[test]
fn what_one_who_leaves_has_not_answered_the_next_one_does() {
    let directory = Directory::new("leave");
    block_on(async {
        let client = Bus::client(&directory.0, CLI).unwrap();
        let leaving = ServerProcess::start_as(LEAVING_RUN_DIR, "leaving_process", &directory.0);
        let ask = || {
            let client = client.clone();
            tokio::spawn(async move { client.request(SCT, &GetConfig {}, PATIENCE).await })
        };
        let calls = [ask(), ask(), ask()];
        while client.statistics().requests < 3 {
            tokio::task::yield_now().await;
        }
        // Refusals would be there before the answers to these.
        for _ in 0..3 {
            client.request(SCT, &Ping {}, PATIENCE).await.unwrap();
            tokio::time::sleep(SECOND / 20).await;
        }
        assert!(calls.iter().all(|call| !call.is_finished()));
        drop(leaving);
        let next = ServerProcess::start(&directory.0);
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().version, u64::from(next.0.id()));
        }
    });
}

#[test]
fn an_idempotent_request_is_repeated_on_the_next_connection() {
    let directory = Directory::new("again");
    block_on(async {
        let client = Bus::client(&directory.0, CLI).unwrap();
        let server = ServerProcess::start(&directory.0);
        client.request(SCT, &Ping {}, PATIENCE).await.unwrap();
        // Stopped, so that the request is out without an answer when the process dies.
        server.signal(Signal::SIGSTOP);
        let call = {
            let client = client.clone();
            tokio::spawn(async move { client.request(SCT, &GetConfig {}, PATIENCE).await })
        };
        tokio::time::sleep(SECOND / 10).await;
        drop(server);
        let server = ServerProcess::start(&directory.0);
        assert_eq!(call.await.unwrap().unwrap().version, u64::from(server.0.id()));
    });
}

#[test]
fn a_stopped_server_times_out_and_is_back_when_it_continues() {
    let directory = Directory::new("stopped");
    block_on(async {
        let client = Bus::client(&directory.0, CLI).unwrap();
        let server = ServerProcess::start(&directory.0);
        client.request(SCT, &Ping {}, PATIENCE).await.unwrap();
        server.signal(Signal::SIGSTOP);
        for _ in 0..3 {
            let error = client.request(SCT, &GetConfig {}, SECOND / 5).await.unwrap_err();
            assert!(matches!(error, BusError::Timeout { .. }), "{error}");
        }
        server.signal(Signal::SIGCONT);
        client.request(SCT, &GetConfig {}, PATIENCE).await.unwrap();
    });
}

/// Not a test of its own: a client process, when the environment says so. It listens to events and asks without end.
#[test]
fn client_process() {
    let Ok(run_dir) = std::env::var(CLIENT_RUN_DIR) else {
        return;
    };
    block_on(async {
        let bus = Bus::client(Path::new(&run_dir), CLI).unwrap();
        let mut events = bus.subscribe::<ConfigChanged>();
        events.follow(SCT);
        events.next().await;
        println!("serving");
        loop {
            let calls = (0..1_000).map(|_| {
                let bus = bus.clone();
                tokio::spawn(async move { drop(bus.request(SCT, &GetConfig {}, SECOND).await) })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap();
            }
        }
    });
}

#[test]
fn a_stopped_client_does_not_hold_up_others() {
    let directory = Directory::new("client");
    block_on(async {
        let (bus, mut server) = Bus::open(&directory.0, SCT).await.unwrap();
        let text = "x".repeat(10_000);
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                dispatch!(incoming, { GetConfig => |_, responder| responder.reply(ConfigText {
                    version: 1,
                    text: text.clone(),
                }) });
            }
        });
        let path = directory.0.clone();
        let stopped = tokio::task::spawn_blocking(move || {
            ServerProcess::start_as(CLIENT_RUN_DIR, "client_process", &path)
        });
        let stopped = stopped.await.unwrap();
        let client = Bus::client(&directory.0, Address::new(Facility::Cli, 8)).unwrap();
        let mut events = client.subscribe::<ConfigChanged>();
        events.follow(SCT);
        assert_eq!(events.next().await, Heard::Missed(SCT));
        stopped.signal(Signal::SIGSTOP);
        for version in 0..5_000 {
            bus.publish(&ConfigChanged { version });
            assert_eq!(events.next().await, Heard::Event(SCT, ConfigChanged { version }));
            if version % 100 == 0 {
                client.request(SCT, &GetConfig {}, PATIENCE).await.unwrap();
            }
        }
        // All that happened while it was stopped. When it goes on, it is served too.
        let before = bus.statistics().served;
        stopped.signal(Signal::SIGCONT);
        while bus.statistics().served < before + 2_000 {
            tokio::time::sleep(SECOND / 100).await;
        }
    });
}

#[test]
fn garbage_is_dropped_and_counted() {
    let directory = Directory::new("garbage");
    block_on(async {
        let (bus, mut server) = Bus::open(&directory.0, SCT).await.unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                dispatch!(incoming, { GetConfig => |_, responder| responder.reply(ConfigText::default()) });
            }
        });
        let path = directory.0.join("bus/sct-1");
        // Neither ZeroMQ ...
        {
            use std::io::Write;
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(&[0x5a; 1_000]).unwrap();
        }
        // ... nor frames of ours, nor of our version, nor of a bearable size.
        use zeromq::{Socket, SocketRecv, SocketSend};
        let mut dealer = zeromq::DealerSocket::new();
        dealer
            .connect(&format!("ipc://{}", path.display()))
            .await
            .unwrap();
        let mut other_version =
            b"SWbu\x02\x00\x01\x0c\x02\x01\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x05".to_vec();
        for frame in [
            vec![],
            b"SWbu".to_vec(),
            vec![0xff; 5_000],
            vec![0; 20 << 20],
            other_version.clone(),
        ] {
            dealer.send(frame.into()).await.unwrap();
        }
        // A reply where only requests are expected, and a request that is no prost.
        other_version[4] = 1;
        other_version[6] = 2;
        dealer.send(other_version.clone().into()).await.unwrap();
        other_version[6] = 1;
        other_version.extend([0xff; 11]);
        dealer.send(other_version.into()).await.unwrap();
        // Refused: the other version and the request that is none.
        for code in [4, 2] {
            let refusal = timeout(PATIENCE, dealer.recv())
                .await
                .unwrap()
                .unwrap()
                .into_vec();
            assert_eq!(refusal[0][6], 3, "a refusal");
            assert_eq!(refusal[0][23], 5, "of that request");
            assert_eq!(refusal[0][24..26], [8, code], "for that reason");
        }
        let statistics = bus.statistics();
        assert_eq!(
            (
                statistics.malformed,
                statistics.oversized,
                statistics.other_version
            ),
            (5, 1, 1)
        );
        // And others are served as ever.
        let client = Bus::client(&directory.0, CLI).unwrap();
        client.request(SCT, &GetConfig {}, PATIENCE).await.unwrap();
    });
}
