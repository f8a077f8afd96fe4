//! The tasks in front of which the shell is tested.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::messages::common::Execute;
use bus::messages::sct::{
    ConfigChanged, ConfigText, Configure, Configured, GetConfig, OpenSession, SaveConfig, Saved,
    SessionOpened,
};
use bus::{Address, Bus, Facility, Server};
use config::Config;

use crate::PATIENCE;

/// A run directory; removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("starward-shell-{name}-{}", std::process::id()));
        for part in ["bus", "counters"] {
            // The bus refuses a directory that others may enter.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder.join(part))
                .unwrap();
        }
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A configuration task on this run directory, for as long as this program runs.
pub fn serve(run_dir: &Path) -> Arc<Mutex<Config>> {
    let mut config = Config::default();
    config.system.hostname = "gw".to_owned();
    let config = Arc::new(Mutex::new(config));
    let served = config.clone();
    in_background(run_dir, Facility::Sct, async move |bus, server| {
        answer(&bus, server, &served).await;
    });
    config
}

/// A task that takes its time to follow the configuration, and then shows the contact of the node.
pub fn follow(run_dir: &Path) {
    in_background(run_dir, Facility::Sit, async |bus, mut server| {
        let mut follower = task::ConfigFollower::new(&bus);
        let mut contact = String::new();
        loop {
            tokio::select! {
                text = follower.next() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    contact = Config::parse(&text.text).unwrap().system.contact;
                }
                Some(incoming) = server.next() => bus::dispatch!(incoming, {
                    Execute => |_, responder| responder.reply(format!("{contact}\n").into()),
                }),
            }
        }
    });
}

/// A task that does this with every request.
pub fn stand_in(run_dir: &Path, facility: Facility, serve: impl Fn(bus::Incoming) + Send + 'static) {
    in_background(run_dir, facility, async move |_bus, mut server| {
        while let Some(incoming) = server.next().await {
            serve(incoming);
        }
    });
}

/// Runs a task on a thread of its own; returns when it can be reached.
fn in_background(run_dir: &Path, facility: Facility, task: impl AsyncFnOnce(Bus, Server) + Send + 'static) {
    let run_dir = run_dir.to_owned();
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (bus, server) = Bus::open(&run_dir, Address::only(facility)).await.unwrap();
            ready.send(()).unwrap();
            task(bus, server).await;
        });
    });
    is_ready.recv_timeout(PATIENCE).unwrap();
}

async fn answer(bus: &Bus, mut server: Server, config: &Mutex<Config>) {
    let mut version = 1;
    while let Some(incoming) = server.next().await {
        bus::dispatch!(incoming, {
            GetConfig => |_, responder| responder.reply(ConfigText { version, text: config.lock().unwrap().to_text() }),
            OpenSession => |_, responder| responder.reply(SessionOpened { level: "administrator".to_owned(), session: 0 }),
            SaveConfig => |request, responder| responder.reply(Saved {
                existed: request.url.contains("there"),
                file: request.url,
                failure: String::new(),
            }),
            Configure => |request, responder| {
                version += 1;
                let configured = configure(&mut config.lock().unwrap(), &request);
                responder.reply(Configured { version, ..configured });
                bus.publish(&ConfigChanged { version });
            },
        });
    }
}

fn configure(config: &mut Config, request: &Configure) -> Configured {
    let seal = |plain: &str| Ok(format!("+{plain}"));
    let result = config::tree().path(config, &request.path).and_then(|mut path| {
        let outcome = config::tree().apply(config, &mut path, &request.line, &seal)?;
        Ok((path, outcome))
    });
    match result {
        Ok((path, outcome)) => Configured {
            path: path.lines(),
            ended: outcome == command::Outcome::Ended,
            ..Configured::default()
        },
        Err(error) => Configured {
            failure: error.to_string(),
            column: error.column().and_then(|column| u32::try_from(column).ok()),
            path: request.path.clone(),
            ..Configured::default()
        },
    }
}
