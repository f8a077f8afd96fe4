//! Requests to `sit`, with the test in its place.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use bus::frame::{Header, Kind, Refusal};
use bus::messages::sct::{RevealSecret, Revealed};
use bus::messages::sit::{LinkOpened, OpenIke, OpenSlots, OpenTun, Opened, Ready, Shutdown};
use bus::{Address, Facility, Hub, Message, Request, dispatch};
use sadb::{Slot, SlotReader, SlotSegments};
use task::{Channel, Error, Packet, Task, testing};
use tokio::time::timeout;

const IPSECMGR: Address = Address::new(Facility::Ipsecmgr, 2);
const SIT: Address = Address::only(Facility::Sit);

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(20), test).await.unwrap() });
}

fn task() -> (Task, Channel) {
    testing::task(&Hub::new(), IPSECMGR, 2, Path::new("/nonexistent")).unwrap()
}

async fn answer(
    channel: &Channel,
    packet: &Packet,
    kind: Kind,
    message: &impl prost::Message,
    fds: &[BorrowedFd<'_>],
) {
    channel
        .send(
            Header {
                kind,
                sender: SIT,
                ..packet.header
            },
            message,
            fds,
        )
        .await
        .unwrap();
}

/// The next request, which must be a `R`.
async fn asked<R: Request>(channel: &Channel) -> (Packet, R) {
    let packet = channel.receive().await.unwrap().unwrap();
    assert_eq!(
        (packet.header.kind, packet.header.message),
        (Kind::Request, R::TYPE)
    );
    let request = packet.decode().unwrap();
    (packet, request)
}

fn event<E: Message>() -> Header {
    Header {
        kind: Kind::Event,
        message: E::TYPE,
        sender: SIT,
        correlation: 0,
    }
}

fn opened(names: &[&str]) -> Opened {
    Opened {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        ..Opened::default()
    }
}

/// Two descriptors that can be told apart by what is written into one end.
fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe().unwrap()
}

#[test]
fn descriptors_arrive_by_name() {
    block_on(async {
        let (task, channel) = task();
        let sit = tokio::spawn(async move {
            let (packet, request) = asked::<OpenIke>(&channel).await;
            assert_eq!(
                (request.context.as_str(), request.address.as_str()),
                ("isp", "192.0.2.1")
            );
            let ((read, write), (read2, write2)) = (pipe(), pipe());
            let names = opened(&["udp4500", "udp500"]);
            answer(
                &channel,
                &packet,
                Kind::Reply,
                &names,
                &[write2.as_fd(), write.as_fd()],
            )
            .await;
            (read, read2, channel)
        });
        let sockets = task
            .sit
            .open_ike("isp", "192.0.2.1".parse().unwrap())
            .await
            .unwrap();
        File::from(sockets.udp500).write_all(b"500").unwrap();
        File::from(sockets.udp4500).write_all(b"4500").unwrap();
        let (read, read2, _channel) = sit.await.unwrap();
        assert_eq!(std::io::read_to_string(File::from(read)).unwrap(), "500");
        assert_eq!(std::io::read_to_string(File::from(read2)).unwrap(), "4500");
    });
}

#[test]
fn all_slots_can_be_asked_for_at_once() {
    block_on(async {
        let (task, channel) = task();
        tokio::spawn(async move {
            loop {
                let (packet, request) = asked::<OpenSlots>(&channel).await;
                let slots: Vec<_> = request
                    .slots
                    .iter()
                    .map(|&slot| Slot::new(u8::try_from(slot).unwrap()).unwrap())
                    .collect();
                let segments: Vec<_> = slots
                    .iter()
                    .map(|&slot| SlotSegments::with_capacity(slot, 1).unwrap())
                    .collect();
                let readers: Vec<_> = segments
                    .iter()
                    .map(|segment| segment.reader_fd().unwrap())
                    .collect();
                let names = slots.iter().map(|slot| format!("slot-{slot}-counters")).collect();
                let fds: Vec<_> = readers.iter().map(AsFd::as_fd).collect();
                answer(
                    &channel,
                    &packet,
                    Kind::Reply,
                    &Opened {
                        names,
                        ..Opened::default()
                    },
                    &fds,
                )
                .await;
            }
        });
        let all: Vec<_> = Slot::all().collect();
        let readers = task.sit.open_slot_counters(&all).await.unwrap();
        assert_eq!(readers.len(), 255);
        for (slot, fd) in readers {
            assert_eq!(SlotReader::map(&fd).unwrap().slot(), slot);
        }
    });
}

#[test]
fn failures_are_told_apart() {
    block_on(async {
        let (task, channel) = task();
        let sit = tokio::spawn(async move {
            let (packet, _) = asked::<OpenTun>(&channel).await;
            let failure = "cannot open /dev/net/tun".to_owned();
            answer(
                &channel,
                &packet,
                Kind::Reply,
                &Opened {
                    failure,
                    ..Opened::default()
                },
                &[],
            )
            .await;
            let (packet, _) = asked::<OpenTun>(&channel).await;
            let refusal = Refusal {
                code: 6,
                text: "not yours".into(),
            };
            answer(&channel, &packet, Kind::Refusal, &refusal, &[]).await;
            let (packet, _) = asked::<OpenTun>(&channel).await;
            answer(&channel, &packet, Kind::Reply, &opened(&["tun"]), &[]).await;
            let (packet, _) = asked::<OpenIke>(&channel).await;
            let (read, _write) = pipe();
            answer(
                &channel,
                &packet,
                Kind::Reply,
                &opened(&["udp500"]),
                &[read.as_fd()],
            )
            .await;
            asked::<OpenIke>(&channel).await;
            // and the other end goes away
        });
        let failed = |error| match error {
            Error::Failed {
                request: "OpenTun",
                cause,
            } => cause,
            other => panic!("{other}"),
        };
        assert_eq!(
            failed(task.sit.open_tun("isp").await.unwrap_err()),
            "cannot open /dev/net/tun"
        );
        assert_eq!(failed(task.sit.open_tun("isp").await.unwrap_err()), "not yours");
        let error = task.sit.open_tun("isp").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected OpenTun from sit, got 1 names for 0 descriptors"
        );
        let address = "2001:db8::1".parse().unwrap();
        let error = task.sit.open_ike("isp", address).await.unwrap_err();
        assert!(error.to_string().contains("no descriptor 'udp4500'"), "{error}");
        assert!(matches!(
            task.sit.open_ike("isp", address).await.unwrap_err(),
            Error::Closed
        ));
        sit.await.unwrap();
        // Without sit there is no node.
        assert_eq!(task.shutdown.requested().await, Duration::ZERO);
        assert!(matches!(task.sit.ready().await.unwrap_err(), Error::Closed));
    });
}

#[test]
fn links_and_the_end_come_from_sit() {
    block_on(async {
        let (task, channel) = task();
        let sct = Address::only(Facility::Sct);
        let (ours, theirs) = bus::link::pair().unwrap();
        let link = LinkOpened {
            facility: Facility::Sct as u32,
            instance: 1,
        };
        channel
            .send(event::<LinkOpened>(), &link, &[theirs.as_fd()])
            .await
            .unwrap();
        // Links of nobody, and without a descriptor, are dropped.
        let nobody = LinkOpened {
            facility: 99,
            instance: 1,
        };
        channel
            .send(event::<LinkOpened>(), &nobody, &[theirs.as_fd()])
            .await
            .unwrap();
        channel.send(event::<LinkOpened>(), &link, &[]).await.unwrap();

        let (links, mut server) = bus::link::Links::new(sct);
        links.install(IPSECMGR, ours).unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                dispatch!(incoming, { RevealSecret => |query, responder| responder.reply(Revealed {
                    secret: query.sealed.into_bytes(),
                    failure: String::new(),
                }) });
            }
        });
        let query = RevealSecret { sealed: "s".into() };
        let secret = task
            .links
            .request(sct, &query, Duration::from_secs(5))
            .await
            .unwrap();
        assert_eq!(secret.secret, b"s");

        assert!(!task.shutdown.is_requested());
        channel
            .send(event::<Shutdown>(), &Shutdown { grace: 250 }, &[])
            .await
            .unwrap();
        assert_eq!(task.shutdown.requested().await, Duration::from_millis(250));
        drop(task);
        drop(channel);
    });
}

#[test]
fn ready_carries_what_is_unprotected() {
    block_on(async {
        let (task, channel) = task();
        let sit = tokio::spawn(async move {
            let (packet, ready) = asked::<Ready>(&channel).await;
            answer(
                &channel,
                &packet,
                Kind::Reply,
                &bus::messages::sit::Closed {},
                &[],
            )
            .await;
            ready.unprotected
        });
        task.sit.ready().await.unwrap();
        assert_eq!(sit.await.unwrap(), Vec::<String>::new());
    });
}
