//! The fake children.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bus::messages::common::{Execute, Output};
use bus::messages::ipsecmgr::{Deleted, Drain};
use bus::messages::rmctrl::{GetSlotMap, SlotMap};
use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig, RevealSecret, Revealed};
use bus::{Address, Facility, dispatch};
use sadb::{IkeStore, Slot, SlotOwner, SlotReader, SlotWorker};
use task::{Sit, Task};

const SCT: Address = Address::only(Facility::Sct);

/// Lives as the task `role`.
pub fn run(role: &str) -> ExitCode {
    let (facility, instance) = role.rsplit_once('-').unwrap();
    let (facility, instance) = (facility.parse().unwrap(), instance.parse().unwrap());
    task::main(facility, instance, |task| async move {
        match facility {
            Facility::Sct => sct(task).await,
            Facility::Rmctrl => rmctrl(task).await,
            _ => other(task).await,
        }
    })
}

/// Its configuration is the file `config` of the folder; published when somebody says `reload`.
async fn sct(mut task: Task) -> Result<(), task::Error> {
    let file = PathBuf::from(std::env::var_os(crate::FOLDER).unwrap()).join("config");
    let mut version = 1;
    task.sit.ready().await?;
    loop {
        tokio::select! {
            Some(incoming) = task.server.next() => dispatch!(incoming, {
                GetConfig => |_, responder| responder.reply(ConfigText {
                    version,
                    text: std::fs::read_to_string(&file).unwrap_or_default(),
                }),
                Execute => |_, responder| {
                    version += 1;
                    task.bus.publish(&ConfigChanged { version });
                    responder.reply(Output::default());
                },
            }),
            Some(incoming) = task.link_server.next() => dispatch!(incoming, {
                RevealSecret => |query, responder| responder.reply(Revealed {
                    secret: query.sealed.into_bytes(),
                    failure: String::new(),
                }),
            }),
            _ = task.shutdown.requested() => return Ok(()),
        }
    }
}

/// Odd slots belong to worker 1, even ones to worker 2.
async fn rmctrl(mut task: Task) -> Result<(), task::Error> {
    let workers = (1..=255).map(|slot| 2 - slot % 2).collect();
    let map = SlotMap::of_workers(workers);
    task.sit.set_slot_map(&map).await?;
    assert_eq!(task.sit.kept_slot_map().await?, Some(map.clone()));
    task.sit.ready().await?;
    loop {
        tokio::select! {
            Some(incoming) = task.server.next() => dispatch!(incoming, {
                GetSlotMap => |_, responder| responder.reply(map.clone()),
            }),
            _ = task.shutdown.requested() => return Ok(()),
        }
    }
}

/// Does what `Execute` says: see [`Puppet::obey`].
async fn other(mut task: Task) -> Result<(), task::Error> {
    let mut puppet = Puppet {
        sockets: HashMap::new(),
    };
    if task.address.facility == Facility::Ipsecmgr {
        puppet
            .open_ike(&task.sit)
            .await
            .map_err(|failure| task::Error::Failed {
                request: "OpenIke",
                cause: failure,
            })?;
    }
    if crate::is_called("hesitant") && task.address.facility == Facility::Ipsecmgr {
        task.shutdown.requested().await;
        return Ok(());
    }
    if crate::is_called("hasty") && task.address.facility == Facility::Ipsecmgr {
        std::process::exit(3);
    }
    task.sit.ready().await?;
    // In the one folder that it may write to.
    let counters = task.run_dir.join("counters").join(task.address.facility.name());
    let marker = counters.join(format!("{}.ended", task.address));
    loop {
        tokio::select! {
            Some(incoming) = task.server.next() => {
                let message = incoming.message();
                if message == <Drain as bus::Message>::TYPE {
                    if let Some((_, responder)) = incoming.take::<Drain>() {
                        responder.reply(Deleted { count: 7, ..Deleted::default() });
                    }
                } else if let Some((command, responder)) = incoming.take::<Execute>() {
                    let argument = command.parameters.first().map_or("", |parameter| parameter.value.as_str());
                    responder.reply(match puppet.obey(&task, &command.command, argument).await {
                        Ok(text) => Output { text, ..Output::default() },
                        Err(failure) => Output { failure, ..Output::default() },
                    });
                }
            }
            _ = task.shutdown.requested() => {
                if task.shutdown.hands_over() {
                    return Ok(());
                }
                // In the order of their names' times the test sees the order of the end.
                std::fs::write(marker, "").unwrap();
                return Ok(());
            }
        }
    }
}

struct Puppet {
    sockets: HashMap<&'static str, UdpSocket>,
}

impl Puppet {
    async fn open_ike(&mut self, sit: &Sit) -> Result<(), String> {
        let sockets = sit
            .open_ike("local", "127.0.0.1".parse().unwrap())
            .await
            .map_err(text)?;
        self.sockets.insert("500", sockets.udp500.into());
        self.sockets.insert("4500", sockets.udp4500.into());
        Ok(())
    }

    async fn obey(&mut self, task: &Task, command: &str, argument: &str) -> Result<String, String> {
        let sit = &task.sit;
        match command {
            // One datagram of one of the IKE sockets.
            "read" => {
                let mut buffer = [0; 2_000];
                let socket = self.sockets.get(argument).ok_or("no such socket")?;
                let size = socket.recv(&mut buffer).map_err(text)?;
                Ok(buffer[..size]
                    .iter()
                    .map(|octet| format!("{octet:02x}"))
                    .collect())
            }
            // `PORT HEX`: one datagram to 127.0.0.1.
            "send" => {
                let socket: UdpSocket = sit.open_udp("local", None, 0, 1).await.map_err(text)?.into();
                let (port, hex) = argument.split_once(' ').ok_or("PORT HEX")?;
                let octets: Vec<u8> = (0..hex.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                    .collect();
                socket
                    .send_to(&octets, ("127.0.0.1", port.parse().unwrap()))
                    .map_err(text)?;
                Ok(socket.local_addr().unwrap().port().to_string())
            }
            "secret" => {
                let query = RevealSecret {
                    sealed: argument.to_owned(),
                };
                let mut secret = task
                    .links
                    .request(SCT, &query, Duration::from_secs(60))
                    .await
                    .map_err(text)?;
                String::from_utf8(std::mem::take(&mut secret.secret)).map_err(text)
            }
            "slots" => slots(task, argument).await,
            "tun" => {
                let tun = sit.open_tun(argument).await.map_err(text)?;
                Ok(format!("{} queue={}", tun.interface, tun.queue.is_some()))
            }
            "rings" => {
                let rings = sit.open_rings().await.map_err(text)?;
                for ring in &rings {
                    let duplicate = |fd: &OwnedFd| fd.try_clone().unwrap();
                    sadb::StrayProducer::map(&ring.to.0, duplicate(&ring.to.1)).map_err(text)?;
                    sadb::StrayConsumer::map(&ring.from.0, duplicate(&ring.from.1)).map_err(text)?;
                }
                Ok(format!(
                    "{:?}",
                    rings.iter().map(|ring| ring.worker).collect::<Vec<_>>()
                ))
            }
            "esp" => {
                let sockets = sit
                    .open_esp("local", argument.parse().map_err(text)?)
                    .await
                    .map_err(text)?;
                Ok(format!("esp={}", sockets.esp.is_some()))
            }
            "ike" => sit
                .open_ike("local", argument.parse().map_err(text)?)
                .await
                .map(|_| String::new())
                .map_err(text),
            "netns" => {
                let link = std::fs::read_link("/proc/thread-self/ns/net").map_err(text)?;
                Ok(link.to_string_lossy().into_owned())
            }
            // For sockets that everybody may have: what it gets now.
            "udp" => {
                let socket: UdpSocket = sit.open_udp("local", None, 0, 1).await.map_err(text)?.into();
                Ok(socket.local_addr().unwrap().port().to_string())
            }
            "exit" => std::process::exit(argument.parse().unwrap()),
            _ => Err(format!("what is '{command}'?")),
        }
    }
}

/// Maps a slot in the role of the task, and tells what it got.
async fn slots(task: &Task, argument: &str) -> Result<String, String> {
    let slot = Slot::new(argument.parse().map_err(text)?).ok_or("no slot")?;
    match task.address.facility {
        Facility::Ipsecmgr => {
            let (_, fds) = task.sit.open_slots(&[slot]).await.map_err(text)?.remove(0);
            IkeStore::map(fds.ike.as_ref().ok_or("no store")?).map_err(text)?;
            SlotOwner::map(&fds).map(|_| "owner".to_owned()).map_err(text)
        }
        Facility::Iftask => {
            let (_, fds) = task.sit.open_slots(&[slot]).await.map_err(text)?.remove(0);
            // Its keys cannot be written, and IKE SAs are none of its business.
            assert!(SlotOwner::map(&fds).is_err() && fds.ike.is_none());
            SlotWorker::map(&fds).map(|_| "worker".to_owned()).map_err(text)
        }
        _ => {
            let (_, fd) = task
                .sit
                .open_slot_counters(&[slot])
                .await
                .map_err(text)?
                .remove(0);
            SlotReader::map(fd).map(|_| "reader".to_owned()).map_err(text)
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
