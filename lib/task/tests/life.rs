//! The life of a real child process: this test binary starts itself again as the child, and plays `sit`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bus::frame::{Header, Kind};
use bus::messages::common::{Notice, Ping};
use bus::messages::sit::{CONTROL_VERSION, Closed, Ready, Shutdown, TaskStarted, Welcome};
use bus::{Address, Bus, Facility, Heard, Message, Sockets};
use netio::{Child, ControlSocket, Signal, Spawn};
use task::{Channel, Task};
use telemetry::events::TunnelsLost;
use tokio::time::timeout;

const RMCTRL: Address = Address::only(Facility::Rmctrl);
const SIT: Address = Address::only(Facility::Sit);
const HOW: &str = "TASK_TEST_HOW";
const SECOND: Duration = Duration::from_secs(1);

/// Not a test of its own: the child, when the environment says so.
#[test]
fn child_process() {
    let Ok(how) = std::env::var(HOW) else { return };
    let code = task::main(
        RMCTRL.facility,
        RMCTRL.instance,
        async |task: Task| -> Result<(), String> {
            assert_eq!((task.workers, task.lives, task.context.as_str()), (3, 1, "isp"));
            task.sit.ready().await.map_err(|error| error.to_string())?;
            match how.as_str() {
                "fail" => return Err("as told".into()),
                "panic" => drop(tokio::spawn(async { panic!("as told") })),
                "tell" => telemetry::events::emit(&TunnelsLost { worker: 1, count: 2 }),
                _ => {}
            }
            let grace = task.shutdown.requested().await;
            if grace == Duration::from_millis(777) || how == "term" {
                Ok(())
            } else {
                Err(format!("{grace:?}"))
            }
        },
    );
    std::process::exit(if code == ExitCode::SUCCESS {
        0
    } else if code == ExitCode::from(1) {
        1
    } else {
        2
    });
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Life {
    child: Child,
    channel: Channel,
    bus: Bus,
    directory: Directory,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.child.signal(Signal::SIGKILL).unwrap();
    }
}

impl Life {
    async fn begin(how: &str) -> Self {
        let directory =
            Directory(std::env::temp_dir().join(format!("task-test-{}-{how}", std::process::id())));
        std::fs::create_dir_all(directory.0.join("counters/rmctrl")).unwrap();
        let (bus, _server) = Bus::open(&directory.0, SIT).await.unwrap();
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let child = Spawn::new(std::env::current_exe().unwrap())
            .argument("--exact")
            .argument("child_process")
            .argument("--nocapture")
            .environment(HOW, how)
            .spawn(&theirs)
            .unwrap();
        let channel = Channel::new(ours).unwrap();
        let welcome = Welcome {
            control_version: CONTROL_VERSION,
            run_dir: directory.0.to_string_lossy().into_owned(),
            workers: 3,
            lives: 1,
            context: "isp".into(),
            ..Welcome::default()
        };
        let header = Header {
            kind: Kind::Event,
            message: Welcome::TYPE,
            sender: SIT,
            correlation: 0,
        };
        let sockets = Sockets::bind(&directory.0, RMCTRL).unwrap();
        let sockets = [sockets.requests.as_fd(), sockets.events.as_fd()];
        channel.send(header, &welcome, &sockets).await.unwrap();
        Self {
            child,
            channel,
            bus,
            directory,
        }
    }

    async fn ready(&self) -> Ready {
        let packet = timeout(60 * SECOND, self.channel.receive())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(packet.header.message, Ready::TYPE);
        assert_eq!(packet.header.sender, RMCTRL);
        self.channel
            .send(
                Header {
                    kind: Kind::Reply,
                    sender: SIT,
                    ..packet.header
                },
                &Closed {},
                &[],
            )
            .await
            .unwrap();
        packet.decode().unwrap()
    }

    async fn end(&mut self) -> Option<i32> {
        for _ in 0..6_000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(SECOND / 100).await;
        }
        panic!("the child lives on");
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(120 * SECOND, test).await.unwrap() });
}

#[test]
fn a_child_serves_counts_tells_and_ends() {
    block_on(async {
        let mut life = Life::begin("tell").await;
        let mut notices = life.bus.subscribe::<Notice>();
        notices.follow(RMCTRL);
        life.ready().await;
        match notices.next().await {
            Heard::Event(RMCTRL, notice) => {
                assert_eq!(notice.event, "TunnelsLost");
                assert_eq!(notice.text, "2 tunnels lost by the restart of ipsecmgr 1");
            }
            other => panic!("{other:?}"),
        }
        let pong = life.bus.request(RMCTRL, &Ping {}, 60 * SECOND).await.unwrap();
        assert_eq!(pong.pid, life.child.pid().as_raw().cast_unsigned());
        // Privileges are gone, and the counter page is there.
        // (The test harness runs the child on a thread of its own, which alone has given them up.)
        let hardened = std::fs::read_dir(format!("/proc/{}/task", pong.pid))
            .unwrap()
            .any(|thread| {
                let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
                let capabilities = status
                    .lines()
                    .find_map(|line| line.strip_prefix("CapPrm:\t"))
                    .unwrap();
                status.contains("NoNewPrivs:\t1")
                    && status.contains("Seccomp:\t2")
                    && u64::from_str_radix(capabilities, 16) == Ok(0)
            });
        assert!(hardened);
        assert!(life.directory.0.join("counters/rmctrl/rmctrl-1").exists());
        life.bus.publish(&TaskStarted::default());
        let header = Header {
            kind: Kind::Event,
            message: Shutdown::TYPE,
            sender: SIT,
            correlation: 0,
        };
        life.channel
            .send(header, &Shutdown { grace: 777 }, &[])
            .await
            .unwrap();
        assert_eq!(life.end().await, Some(0));
    });
}

#[test]
fn sigterm_ends_a_child() {
    block_on(async {
        let mut life = Life::begin("term").await;
        life.ready().await;
        life.child.signal(Signal::SIGINT).unwrap();
        life.bus.request(RMCTRL, &Ping {}, 60 * SECOND).await.unwrap();
        life.child.signal(Signal::SIGTERM).unwrap();
        assert_eq!(life.end().await, Some(0));
    });
}

#[test]
fn failure_and_panic_show_in_the_exit_status() {
    block_on(async {
        for (how, status) in [("fail", 1), ("panic", 101)] {
            let mut life = Life::begin(how).await;
            life.ready().await;
            assert_eq!(life.end().await, Some(status), "{how}");
        }
    });
}

#[test]
fn a_child_does_not_outlive_its_control_socket() {
    block_on(async {
        let mut life = Life::begin("closed").await;
        life.ready().await;
        let (other, _) = ControlSocket::pair().unwrap();
        life.channel = Channel::new(other).unwrap();
        assert_eq!(life.end().await, Some(1));
    });
}
