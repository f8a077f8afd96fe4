//! A house around `ipsecmgr`s: everybody they talk to, played by the test, and a peer with an engine of its own.

#![allow(dead_code, unused_imports, reason = "not every suite needs everything")]

mod common;
mod node;
mod peer;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::frame::{Header, Kind};
use bus::link::{LinkServer, Links};
use bus::messages::common::{Execute, Output as Shown};
use bus::messages::rmctrl::{Congestion, CongestionChanged, GetCongestion, GetSlotMap, SlotMap};
use bus::messages::sct::{ConfigText, GetConfig, RevealSecret, Revealed};
use bus::messages::sessmgr::{
    Admission, Admit, Admitted, Connected, ConnectedSession, Noted, Recovered, Release, Released, Verdict,
    WorkerRecovered,
};
use bus::messages::sit::{Close, Closed, OpenIke, OpenRings, OpenSlots, Opened, Ready};
use bus::messages::vpnmgr::{AddRoutes, Addresses, GetAddresses, RemoveRoutes, Route, RoutesChanged};
use bus::{Address, Bus, Facility, Hub, Message, Server, dispatch};
use netio::{DatagramSocket, SocketOptions};
use sadb::{Slot, SlotSegments, SlotWorker, Spi};
use task::{Channel, Packet, Task};
use telemetry::Counters;

pub use common::{GATEWAY, PEER, configuration, established, profile, scenario};
pub use node::Node;
pub use peer::Peer;

const IPSECMGR: Address = Address::new(Facility::Ipsecmgr, 1);
const PATIENCE: Duration = Duration::from_secs(60);

/// What the others heard.
#[derive(Default)]
pub struct Heard {
    pub admissions: Vec<Admission>,
    /// The `sessmgr` that was asked for each of them.
    pub admitted_by: Vec<u32>,
    /// What each `sessmgr` was told of slots.
    pub recovered: Vec<(u32, WorkerRecovered)>,
    pub connected: Vec<ConnectedSession>,
    pub released: Vec<Released>,
    /// The `sessmgr` that was told of each of them.
    pub released_by: Vec<u32>,
    /// `sessmgr`s give no verdicts.
    pub no_verdicts: bool,
    /// `sessmgr`s answer no news.
    pub no_news: bool,
    pub routes: Vec<Route>,
    pub secrets_asked: usize,
    pub ready: bool,
    /// Our address has gone from the interface.
    pub absent: bool,
    /// What rmctrl says.
    pub congestion: Congestion,
}

/// The house.
pub struct House {
    pub heard: Arc<Mutex<Heard>>,
    pub counters: Counters,
    pub worker: SlotWorker,
    pub shutdown: task::Shutdown,
    bus: Bus,
    rmctrl: Bus,
}

impl House {
    /// Starts an `ipsecmgr` with this configuration, among others that admit peers with `verdict`. Must be called in a namespace of its own.
    pub async fn start(
        configuration: &str,
        verdict: Verdict,
    ) -> (Self, tokio::task::JoinHandle<Result<(), ipsecmgr::Error>>) {
        let hub = Hub::new();
        let folder = std::env::temp_dir();
        let (task, sit) = task::testing::task(&hub, IPSECMGR, 1, &folder).unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let segments = SlotSegments::create(Slot::new(1).unwrap()).unwrap();
        let worker = SlotWorker::map(&segments.worker_fds().unwrap()).unwrap();
        let (counters, shutdown, bus) = (task.counters.clone(), task.shutdown.clone(), task.bus.clone());
        link_to_sct(&task, heard.clone());
        tokio::task::spawn_local(play_sit(sit, segments, heard.clone()));
        let join = |facility, instance| Bus::in_process(&hub, Address::new(facility, instance)).unwrap();
        let (rmctrl, server) = join(Facility::Rmctrl, 1);
        tokio::task::spawn_local(play_rmctrl(server, heard.clone()));
        tokio::task::spawn_local(play_sct(join(Facility::Sct, 1), configuration.to_owned()));
        tokio::task::spawn_local(play_sessmgr(
            1,
            join(Facility::Sessmgr, 1),
            verdict,
            heard.clone(),
        ));
        tokio::task::spawn_local(play_vpnmgr(join(Facility::Vpnmgr, 2), heard.clone()));
        let life = tokio::task::spawn_local(ipsecmgr::run(task));
        let house = Self {
            heard,
            counters,
            worker,
            shutdown,
            bus,
            rmctrl,
        };
        house
            .until("ipsecmgr is ready", |heard| heard.ready.then_some(()))
            .await;
        (house, life)
    }

    /// Waits until the others have heard of something.
    pub async fn until<T>(&self, what: &str, mut find: impl FnMut(&Heard) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = find(&self.heard.lock().unwrap()) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a command as the shell does, all pieces of it.
    pub async fn execute(&self, command: &str, parameters: &[(&str, &str)]) -> Shown {
        let mut request = Execute::new(command, parameters);
        let mut all = Shown::default();
        loop {
            let piece = self.bus.request(IPSECMGR, &request, PATIENCE).await.unwrap();
            all.text.push_str(&piece.text);
            all.totals = piece.totals;
            all.failure = piece.failure;
            if !piece.more {
                return all;
            }
            request.cursor = piece.cursor;
        }
    }

    /// The bus, for requests.
    pub async fn request<R: bus::Request>(&self, request: &R) -> R::Reply {
        self.bus.request(IPSECMGR, request, PATIENCE).await.unwrap()
    }

    /// Has rmctrl say this from now on.
    pub fn congest(&self, congestion: Congestion) {
        self.heard.lock().unwrap().congestion = congestion;
        self.rmctrl.publish(&CongestionChanged {});
    }

    /// What the data plane would do with packets of this SPI.
    pub fn child(&self, spi: u32) -> Option<sadb::ChildSa> {
        self.worker.find(Spi::from_u32(spi).unwrap()).unwrap()
    }
}

fn link_to_sct(task: &Task, heard: Arc<Mutex<Heard>>) {
    let me = task.address;
    let sct = Address::only(Facility::Sct);
    let (ours, theirs) = bus::link::pair().unwrap();
    task.links.install(sct, ours).unwrap();
    let (links, server) = Links::new(sct);
    links.install(me, theirs).unwrap();
    tokio::spawn(play_vault(links, server, heard));
}

/// `sct` on its link: `sealed-X` says X.
async fn play_vault(_links: Links, mut server: LinkServer, heard: Arc<Mutex<Heard>>) {
    while let Some(incoming) = server.next().await {
        dispatch!(incoming, {
            RevealSecret => |request, responder| {
                heard.lock().unwrap().secrets_asked += 1;
                let plain = request.sealed.strip_prefix("sealed-");
                responder.reply(Revealed {
                    secret: plain.unwrap_or_default().as_bytes().to_vec(),
                    failure: if plain.is_some() { String::new() } else { "the master key is another".to_owned() },
                })
            },
        });
    }
}

async fn play_sit(channel: Channel, segments: SlotSegments, heard: Arc<Mutex<Heard>>) {
    while let Ok(Some(packet)) = channel.receive().await {
        match packet.header.message {
            OpenSlots::TYPE => {
                let fds = segments.owner_fds().unwrap();
                let names = ["keys", "hot", "counters", "ike"]
                    .map(|kind| format!("slot-1-{kind}"))
                    .to_vec();
                answer(
                    &channel,
                    &packet,
                    Opened {
                        names,
                        ..Opened::default()
                    },
                    vec![fds.keys, fds.hot, fds.counters, fds.ike.unwrap()],
                )
                .await;
            }
            // There is no data plane.
            OpenRings::TYPE => answer(&channel, &packet, Opened::default(), Vec::new()).await,
            OpenIke::TYPE => {
                let request: OpenIke = packet.decode().unwrap();
                let address: IpAddr = request.address.parse().unwrap();
                let socket = |port| {
                    DatagramSocket::bind_udp(SocketAddr::new(address, port), SocketOptions::default())
                        .unwrap()
                        .into()
                };
                let names = vec!["udp500".to_owned(), "udp4500".to_owned()];
                answer(
                    &channel,
                    &packet,
                    Opened {
                        names,
                        ..Opened::default()
                    },
                    vec![socket(500), socket(4500)],
                )
                .await;
            }
            Ready::TYPE => {
                heard.lock().unwrap().ready = true;
                answer(&channel, &packet, Closed {}, Vec::new()).await;
            }
            Close::TYPE => answer(&channel, &packet, Closed {}, Vec::new()).await,
            other => panic!("sit was asked for {other:#06x}"),
        }
    }
}

async fn answer(channel: &Channel, to: &Packet, message: impl MessageOf, fds: Vec<OwnedFd>) {
    let header = Header {
        kind: Kind::Reply,
        sender: Address::only(Facility::Sit),
        ..to.header
    };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    message.send(channel, header, &fds).await;
}

/// Either answer of `sit`.
trait MessageOf {
    async fn send(&self, channel: &Channel, header: Header, fds: &[std::os::fd::BorrowedFd<'_>]);
}

impl MessageOf for Opened {
    async fn send(&self, channel: &Channel, header: Header, fds: &[std::os::fd::BorrowedFd<'_>]) {
        channel.send(header, self, fds).await.unwrap();
    }
}

impl MessageOf for Closed {
    async fn send(&self, channel: &Channel, header: Header, fds: &[std::os::fd::BorrowedFd<'_>]) {
        channel.send(header, self, fds).await.unwrap();
    }
}

async fn play_rmctrl(mut server: Server, heard: Arc<Mutex<Heard>>) {
    while let Some(incoming) = server.next().await {
        let mut workers = vec![0; 255];
        workers[0] = 1;
        dispatch!(incoming, {
            GetSlotMap => |_, responder| responder.reply(SlotMap::of_workers(workers)),
            GetCongestion => |_, responder| responder.reply(heard.lock().unwrap().congestion.clone()),
        });
    }
}

async fn play_sct((_bus, mut server): (Bus, Server), text: String) {
    while let Some(incoming) = server.next().await {
        let text = text.clone();
        dispatch!(incoming, { GetConfig => |_, responder| responder.reply(ConfigText { version: 1, text }) });
    }
}

async fn play_sessmgr(
    instance: u32,
    (_bus, mut server): (Bus, Server),
    verdict: Verdict,
    heard: Arc<Mutex<Heard>>,
) {
    let (mut waiting, mut unanswered) = (Vec::new(), Vec::new());
    while let Some(incoming) = server.next().await {
        dispatch!(incoming, {
            Admit => |request, responder| {
                let verdicts = request.admissions.iter().map(|admission| Verdict { ike_spi: admission.ike_spi, ..verdict.clone() }).collect();
                let mut heard = heard.lock().unwrap();
                heard.admitted_by.extend(request.admissions.iter().map(|_| instance));
                heard.admissions.extend(request.admissions);
                match heard.no_verdicts {
                    true => waiting.push(responder),
                    false => responder.reply(Admitted { verdicts }),
                }
            },
            Connected => |request, responder| {
                let mut heard = heard.lock().unwrap();
                match heard.no_news {
                    true => unanswered.push(responder),
                    false => {
                        heard.connected.extend(request.sessions);
                        responder.reply(Noted {});
                    }
                }
            },
            Release => |request, responder| {
                let mut heard = heard.lock().unwrap();
                heard.released_by.extend(request.sessions.iter().map(|_| instance));
                heard.released.extend(request.sessions);
                responder.reply(Noted {});
            },
            WorkerRecovered => |request, responder| {
                heard.lock().unwrap().recovered.push((instance, request));
                responder.reply(Recovered::default());
            },
        });
    }
}

/// One route, whoever asked for it.
fn is_same(one: &Route, other: &Route) -> bool {
    (&one.network, one.length, one.spi) == (&other.network, other.length, other.spi)
}

async fn play_vpnmgr((_bus, mut server): (Bus, Server), heard: Arc<Mutex<Heard>>) {
    while let Some(incoming) = server.next().await {
        dispatch!(incoming, {
            AddRoutes => |request, responder| {
                let routes = &mut heard.lock().unwrap().routes;
                let is_new = |route: &Route| !request.routes.iter().any(|new| is_same(route, new));
                routes.retain(is_new);
                routes.extend(request.routes.clone());
                responder.reply(RoutesChanged::default());
            },
            RemoveRoutes => |request, responder| {
                let is_older = |route: &Route| {
                    request.slots.contains(&(route.spi >> 24)) && route.tenure < request.tenure
                };
                heard.lock().unwrap().routes.retain(|route| match request.routes.is_empty() {
                    true => !is_older(route),
                    false => !request.routes.iter().any(|gone| is_same(route, gone)),
                });
                responder.reply(RoutesChanged::default());
            },
            GetAddresses => |_, responder| {
                let there = !heard.lock().unwrap().absent;
                let addresses = there.then(|| vec![127, 0, 0, 2]).into_iter().collect();
                responder.reply(Addresses { addresses });
            },
        });
    }
}
