//! The loop.

use std::thread;
use std::time::{Duration, SystemTime};

use task::Task;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::follow::Follower;
use crate::pool::Pool;
use crate::watch::Watch;
use crate::{Error, bus_api};

/// Runs the task until it is asked to end.
///
/// # Errors
/// [`Error::Threads`], [`Error::Task`], [`Error::BusClosed`].
pub async fn run(task: Task) -> Result<(), Error> {
    let Task {
        bus,
        mut server,
        links,
        link_server: _link_server,
        sit,
        state_dir,
        shutdown,
        ..
    } = task;
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let pool = Pool::new(threads, MAX_WAITING).map_err(Error::Threads)?;
    let (sender, mut stores) = mpsc::channel(1);
    tokio::spawn(Follower::new(&bus, links, sit.clone(), state_dir).run(sender));

    // Requests wait in the server until there is something to answer them with.
    let mut store = tokio::select! {
        store = stores.recv() => store.ok_or(Error::BusClosed)?,
        _ = shutdown.requested() => return Ok(()),
    };
    let mut watch = Watch::default();
    watch.look(&store, SystemTime::now());
    sit.ready().await.map_err(Error::Task)?;

    let mut tick = interval(WATCH_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // What is configured before it is asked for.
            biased;
            _ = shutdown.requested() => return Ok(()),
            Some(fresh) = stores.recv() => {
                store = fresh;
                watch.look(&store, SystemTime::now());
            }
            _ = tick.tick() => watch.look(&store, SystemTime::now()),
            incoming = server.next() => bus_api::serve(incoming.ok_or(Error::BusClosed)?, &store, &pool),
        }
    }
}

/// Most threads for signatures, however many processors there are.
const MAX_THREADS: usize = 4;

/// Most signatures that wait. At about 4,000 a second and thread, none of them waits longer than a peer's retransmission.
const MAX_WAITING: usize = 1024;

/// How often the age of the certificates is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use bus::link::{self, Links};
    use bus::messages::certmgr::{GetCertificate, GetTrust, Prove, Sign};
    use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig, RevealSecret, Revealed};
    use bus::messages::sit::{OpenFile, Opened};
    use bus::{Address, Bus, Facility, Hub, dispatch};
    use config::local_path;
    use task::{Packet, testing};
    use tokio::task::JoinHandle;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::test_pki::{Folder, Made};

    const CERTMGR: Address = Address::only(Facility::Certmgr);
    const SCT: Address = Address::only(Facility::Sct);
    const LONG: Duration = Duration::from_secs(10);

    /// The manager between a `sit`, an `sct` and an `ipsecmgr` that the test plays.
    struct Scene {
        manager: JoinHandle<Result<(), Error>>,
        sit: JoinHandle<()>,
        sct: Bus,
        ipsecmgr: Bus,
        configuration: Arc<Mutex<ConfigText>>,
    }

    /// Opens what is asked for.
    fn open_file(packet: &Packet) -> (Opened, Vec<OwnedFd>) {
        let url = packet.decode::<OpenFile>().unwrap().url;
        let file = File::open(local_path(&url, Path::new("/")).unwrap()).unwrap();
        let opened = Opened {
            names: vec!["file".to_owned()],
            ..Opened::default()
        };
        (opened, vec![file.into()])
    }

    impl Scene {
        /// `key` is what the sealed text `+B1key` of the configuration reveals.
        fn start(folder: &Path, text: String, key: Vec<u8>) -> Self {
            let hub = Hub::new();
            let configuration = Arc::new(Mutex::new(ConfigText { version: 1, text }));
            let (sct, mut server) = Bus::in_process(&hub, SCT).unwrap();
            let answers = configuration.clone();
            tokio::spawn(async move {
                while let Some(incoming) = server.next().await {
                    dispatch!(incoming, {
                        GetConfig => |_, responder| responder.reply(answers.lock().unwrap().clone()),
                    });
                }
            });
            let (task, sit) = testing::task(&hub, CERTMGR, 1, folder).unwrap();
            let (ours, theirs) = link::pair().unwrap();
            task.links.install(SCT, ours).unwrap();
            let (links, mut link_server) = Links::new(SCT);
            links.install(CERTMGR, theirs).unwrap();
            tokio::spawn(async move {
                let _links = links;
                while let Some(incoming) = link_server.next().await {
                    let revealed = Revealed {
                        secret: key.clone(),
                        failure: String::new(),
                    };
                    dispatch!(incoming, {
                        RevealSecret => |question, responder| {
                            assert_eq!(question.sealed, "+B1key");
                            responder.reply(revealed);
                        },
                    });
                }
            });
            let ipsecmgr = Bus::in_process_client(&hub, Address::new(Facility::Ipsecmgr, 1));
            Self {
                manager: tokio::spawn(run(task)),
                sit: tokio::spawn(testing::play_sit(sit, open_file)),
                sct,
                ipsecmgr,
                configuration,
            }
        }

        fn configure(&self, text: String) {
            let mut configuration = self.configuration.lock().unwrap();
            configuration.version += 1;
            configuration.text = text;
            self.sct.publish(&ConfigChanged {
                version: configuration.version,
            });
        }

        async fn failure(&self) -> String {
            let question = GetCertificate {
                name: "gw".to_owned(),
            };
            self.ipsecmgr
                .request(CERTMGR, &question, LONG)
                .await
                .unwrap()
                .failure
        }

        async fn ends(self) {
            self.sit.abort();
            timeout(LONG, self.manager).await.unwrap().unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn certificates_follow_the_configuration() {
        let folder = Folder::new("manager");
        let root = Made::root("Root");
        let leaf = Made::leaf("gw.test", &root);
        let certificate = folder.write("gw.pem", &leaf.certificate_pem());
        let key = folder.write("gw.key", &leaf.key_pem());
        let root_file = folder.write("root.pem", &root.certificate_pem());
        let anchor = format!("ca-certificate name root pem url file:{root_file}\n");

        let without_key = format!("certificate name gw pem url file:{certificate}\n");
        let scene = Scene::start(folder.path(), without_key.clone(), leaf.key_pem());
        assert!(scene.failure().await.contains("no private key is configured"));

        scene.configure(format!("{without_key}private-key pem url file:{key}\n{anchor}"));
        let works = async {
            while !scene.failure().await.is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, works).await.unwrap();
        let trust = GetTrust {
            names: vec!["root".to_owned()],
        };
        let trust = scene.ipsecmgr.request(CERTMGR, &trust, LONG).await.unwrap();
        assert_eq!((trust.hashes.len(), trust.failure.as_str()), (1, ""));

        scene.configure(anchor);
        let gone = async {
            while !scene.failure().await.contains("is not configured") {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, gone).await.unwrap();
        scene.ends().await;
    }

    #[tokio::test]
    async fn a_sealed_key_comes_over_the_link() {
        let folder = Folder::new("manager-sealed");
        let leaf = Made::leaf("gw.test", &Made::root("Root"));
        let certificate = folder.write("gw.pem", &leaf.certificate_pem());
        let text =
            format!("certificate name gw pem url file:{certificate} private-key pem encrypted data +B1key\n");
        let scene = Scene::start(folder.path(), text, leaf.key_pem());
        let sign = Sign {
            name: "gw".to_owned(),
            octets: b"octets".to_vec(),
            hashes: vec![2],
            ike_spi: 1,
        };
        let prove = Prove {
            sign: vec![sign],
            verify: vec![],
        };
        let proved = scene.ipsecmgr.request(CERTMGR, &prove, LONG).await.unwrap();
        let signed = &proved.signed[0];
        assert_eq!((signed.method, signed.failure.as_str()), (14, ""));
        scene.ends().await;
    }
}
