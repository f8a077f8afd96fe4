//! The whole `aaamgr` with a RADIUS server on loopback; the test plays every other task.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::net::UdpSocket as StdSocket;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use bus::link::{self, Links};
use bus::messages::aaamgr::{Account, AccountingKind, AccountingRecord, EapAnswer, EapRound};
use bus::messages::common::Execute;
use bus::messages::sct::{RevealSecret, Revealed};
use bus::messages::sit::{OpenUdp, Opened};
use bus::{Address, Bus, Facility, Hub, dispatch};
use radius::testing::respond;
use radius::{Attribute, AttributeList, Code, Packet, Secret};
use task::testing;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const AAAMGR: Address = Address::only(Facility::Aaamgr);
const IPSECMGR: Address = Address::new(Facility::Ipsecmgr, 1);
const SCT: Address = Address::only(Facility::Sct);
const DEADLINE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(60);

fn configuration(authentication: u16, accounting: u16) -> String {
    format!(
        "config
  context isp
    aaa group default
      radius server 127.0.0.1 encrypted key sealed port {authentication}
      radius accounting server 127.0.0.1 encrypted key sealed port {accounting}
    exit
  exit
end
"
    )
}

struct World {
    bus: Bus,
    links: Links,
    shutdown: task::Shutdown,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts an `aaamgr` with these servers. The secret of both is `testing123`.
async fn world(name: &str, authentication: u16, accounting: u16) -> World {
    let hub = Hub::new();
    tokio::spawn(testing::play_sct(
        hub.clone(),
        configuration(authentication, accounting),
    ));
    let folder = std::env::temp_dir().join(format!("aaamgr-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let (task, channel) = testing::task(&hub, AAAMGR, 1, &folder).unwrap();
    tokio::spawn(testing::play_sit(channel, |packet| {
        let wanted: OpenUdp = packet.decode().unwrap();
        assert_eq!((wanted.context.as_str(), wanted.port), ("isp", 0));
        let socket = StdSocket::bind((wanted.address.as_str(), 0)).unwrap();
        (
            Opened {
                names: vec!["udp".to_owned()],
                ..Opened::default()
            },
            vec![OwnedFd::from(socket)],
        )
    }));
    let (theirs, ours) = link::pair().unwrap();
    task.links.install(SCT, theirs).unwrap();
    let (sct, mut secrets) = Links::new(SCT);
    sct.install(AAAMGR, ours).unwrap();
    tokio::spawn(async move {
        let _sct = sct;
        while let Some(incoming) = secrets.next().await {
            dispatch!(incoming, {
                RevealSecret => |question, responder| {
                    assert_eq!(question.sealed, "sealed");
                    responder.reply(Revealed { secret: b"testing123".to_vec(), failure: String::new() });
                },
            });
        }
    });
    let (theirs, ours) = link::pair().unwrap();
    task.links.install(IPSECMGR, theirs).unwrap();
    let (links, _) = Links::new(IPSECMGR);
    links.install(AAAMGR, ours).unwrap();
    let shutdown = task.shutdown.clone();
    tokio::spawn(async move { aaamgr::run(task).await.unwrap() });
    let bus = Bus::in_process_client(&hub, Address::new(Facility::Sessmgr, 1));
    World {
        bus,
        links,
        shutdown,
        folder,
    }
}

impl World {
    async fn round(&self, eap: &[u8]) -> EapAnswer {
        let round = EapRound {
            ike_spi: 7,
            context: "isp".to_owned(),
            identity: b"bob".to_vec(),
            eap: eap.to_vec(),
            calling_station: "198.51.100.7".to_owned(),
            ..EapRound::default()
        };
        self.links.request(AAAMGR, &round, DEADLINE).await.unwrap()
    }

    /// The first round, repeated until the configuration is there.
    async fn begin(&self) -> EapAnswer {
        loop {
            let answer = self.round(&[]).await;
            if !answer.failure.contains("no radius server") && !answer.failure.contains("no context") {
                return answer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn account(&self, kind: AccountingKind) {
        let record = AccountingRecord {
            kind: kind as i32,
            context: "isp".to_owned(),
            session: "0000000000000001".to_owned(),
            user: b"bob".to_vec(),
            ipv4: vec![10, 30, 0, 77],
            time: 1_700_000_000,
            ..AccountingRecord::default()
        };
        let accounted = self
            .bus
            .request(
                AAAMGR,
                &Account {
                    records: vec![record],
                },
                DEADLINE,
            )
            .await
            .unwrap();
        assert_eq!(accounted.failure, "");
    }

    async fn show(&self, command: &str) -> String {
        let request = Execute {
            context: "isp".to_owned(),
            ..Execute::new(command, &[])
        };
        self.bus.request(AAAMGR, &request, DEADLINE).await.unwrap().text
    }
}

/// Answers every request as `answer` says; the requests come out of the channel.
async fn play_server(
    answer: impl Fn(Packet<'_>) -> (Code, AttributeList, Option<[u8; 64]>) + Send + 'static,
) -> (u16, mpsc::UnboundedReceiver<Vec<u8>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let (seen, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let bytes = &buffer[..length];
            let (code, list, msk) = answer(Packet::decode(bytes).unwrap());
            let reply = respond(
                bytes,
                &Secret::new(b"testing123".to_vec()),
                code,
                &list,
                msk.as_ref(),
            )
            .unwrap();
            socket.send_to(&reply, from).await.unwrap();
            let _ = seen.send(bytes.to_vec());
        }
    });
    (port, requests)
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("in time") });
}

#[test]
fn eap_and_accounting_over_real_sockets() {
    block_on(async {
        let (authentication, mut requests) = play_server(|packet| {
            let mut list = AttributeList::new();
            let eap = packet.eap().unwrap();
            if eap[4] == 1 {
                list.octets(Attribute::State, b"state").unwrap();
                list.eap(&[1, 9, 0, 5, 26]).unwrap();
                return (Code::AccessChallenge, list, None);
            }
            assert_eq!(packet.value(Attribute::State), Some(&b"state"[..]));
            list.ipv4(Attribute::FramedIpAddress, [10, 30, 0, 77].into())
                .unwrap();
            list.eap(&[3, 9, 0, 4]).unwrap();
            (Code::AccessAccept, list, Some([0x5a; 64]))
        })
        .await;
        let (accounting, mut records) =
            play_server(|_| (Code::AccountingResponse, AttributeList::new(), None)).await;
        let world = world("sockets", authentication, accounting).await;
        let first = world.begin().await;
        assert_eq!(
            (first.eap.as_slice(), first.failure.as_str()),
            (&[1, 9, 0, 5, 26][..], "")
        );
        let last = world.round(&[2, 9, 0, 5, 26]).await;
        assert!(last.success, "{}", last.failure);
        assert_eq!(
            (last.msk.as_slice(), last.user.as_slice()),
            (&[0x5a; 64][..], &b"bob"[..])
        );
        assert_eq!(last.authorization.unwrap().framed_ipv4, [10, 30, 0, 77]);
        let request = requests.recv().await.unwrap();
        let packet = Packet::decode(&request).unwrap();
        // Nobody configured it: the address that the routes choose.
        assert_eq!(packet.ipv4(Attribute::NasIpAddress), Some([127, 0, 0, 1].into()));

        world.account(AccountingKind::Start).await;
        let record = records.recv().await.unwrap();
        assert_eq!(
            Packet::decode(&record)
                .unwrap()
                .integer(Attribute::AcctStatusType),
            Some(1)
        );
        let text = loop {
            let text = world.show("show radius counters").await;
            if text
                .lines()
                .any(|line| line.contains("Accounting-Response Received") && line.ends_with(" 1"))
            {
                break text;
            }
            sleep(Duration::from_millis(10)).await;
        };
        assert!(
            text.lines()
                .any(|line| line.contains("Access-Accept Received") && line.ends_with(" 1")),
            "{text}"
        );
        world.shutdown.request(DEADLINE);
    });
}
