//! Links between two tasks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bus::link::{LinkServer, Links, linked, pair};
use bus::messages::aaamgr::{EapAnswer, EapRound};
use bus::messages::sct::{RevealSecret, Revealed};
use bus::{Address, BusError, Facility, RefusalCode, dispatch};
use tokio::time::timeout;

const SCT: Address = Address::only(Facility::Sct);
const IPSECMGR: Address = Address::new(Facility::Ipsecmgr, 2);
const SECOND: Duration = Duration::from_secs(1);
/// Deadline of what is to succeed. Whatever takes longer hangs; a slow machine does not.
const PATIENCE: Duration = Duration::from_secs(120);

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.unwrap() });
}

fn join(sct: &Links, ipsecmgr: &Links) {
    let (a, b) = pair().unwrap();
    sct.install(IPSECMGR, a).unwrap();
    ipsecmgr.install(SCT, b).unwrap();
}

async fn serve(mut server: LinkServer) {
    while let Some(incoming) = server.next().await {
        assert_eq!(incoming.from(), IPSECMGR);
        dispatch!(incoming, {
            RevealSecret => |query, responder| match query.sealed.as_str() {
                "drop" => drop(responder),
                "large" => responder.reply(Revealed { secret: vec![1; 70_000], failure: String::new() }),
                sealed => responder.reply(Revealed { secret: sealed.as_bytes().to_vec(), failure: String::new() }),
            },
        });
    }
}

fn reveal(sealed: &str) -> RevealSecret {
    RevealSecret {
        sealed: sealed.into(),
    }
}

#[test]
fn the_table_is_symmetrical() {
    assert!(linked(Facility::Sct, Facility::Ipsecmgr) && linked(Facility::Ipsecmgr, Facility::Sct));
    assert!(!linked(Facility::Iftask, Facility::Ipsecmgr));
}

#[test]
fn secrets_are_asked_for_and_told() {
    block_on(async {
        let (sct, server) = Links::new(SCT);
        let (ipsecmgr, _server) = Links::new(IPSECMGR);
        join(&sct, &ipsecmgr);
        tokio::spawn(serve(server));
        let calls: Vec<_> = (0..2_000)
            .map(|number| {
                let ipsecmgr = ipsecmgr.clone();
                tokio::spawn(async move {
                    let sealed = format!("+A{number}");
                    let answer = ipsecmgr.request(SCT, &reveal(&sealed), PATIENCE).await.unwrap();
                    assert_eq!(answer.secret, sealed.as_bytes());
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(ipsecmgr.statistics().replies, 2_000);
        let large = "x".repeat(60_000);
        assert_eq!(
            ipsecmgr
                .request(SCT, &reveal(&large), PATIENCE)
                .await
                .unwrap()
                .secret
                .len(),
            60_000
        );
    });
}

#[test]
fn failures_are_told_apart() {
    block_on(async {
        let (sct, server) = Links::new(SCT);
        let (ipsecmgr, _server) = Links::new(IPSECMGR);
        let error = ipsecmgr.request(SCT, &reveal(""), SECOND / 10).await.unwrap_err();
        assert!(
            matches!(error, BusError::Unreachable { sent: false, .. }),
            "{error}"
        );
        join(&sct, &ipsecmgr);
        let error = ipsecmgr
            .request(SCT, &reveal("?"), SECOND / 10)
            .await
            .unwrap_err();
        assert!(matches!(error, BusError::Timeout { .. }), "{error}");
        tokio::spawn(serve(server));
        let refused = |error| match error {
            BusError::Refused { code, .. } => code,
            other => panic!("{other}"),
        };
        let error = ipsecmgr
            .request(SCT, &reveal("drop"), PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(refused(error), RefusalCode::Dropped);
        let error = ipsecmgr
            .request(SCT, &reveal("large"), PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(refused(error), RefusalCode::Failed);
        let error = ipsecmgr
            .request(SCT, &EapRound::default(), PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(refused(error), RefusalCode::Unsupported);
        let error = ipsecmgr
            .request(SCT, &reveal(&"x".repeat(70_000)), PATIENCE)
            .await
            .unwrap_err();
        assert!(matches!(error, BusError::TooLarge { .. }), "{error}");
    });
}

#[test]
fn a_new_pair_replaces_a_broken_one() {
    block_on(async {
        let (sct, unserved) = Links::new(SCT);
        let (ipsecmgr, _server) = Links::new(IPSECMGR);
        join(&sct, &ipsecmgr);
        let call = {
            let ipsecmgr = ipsecmgr.clone();
            tokio::spawn(async move { ipsecmgr.request(SCT, &reveal("lost"), PATIENCE).await })
        };
        tokio::time::sleep(SECOND / 10).await;
        // The process of `sct` dies.
        drop((sct, unserved));
        let error = call.await.unwrap().unwrap_err();
        assert!(
            matches!(error, BusError::Unreachable { sent: true, .. }),
            "{error}"
        );
        // A request now waits for the new pair.
        let call = {
            let ipsecmgr = ipsecmgr.clone();
            tokio::spawn(async move { ipsecmgr.request(SCT, &reveal("new"), PATIENCE).await })
        };
        tokio::time::sleep(SECOND / 10).await;
        let (sct, server) = Links::new(SCT);
        tokio::spawn(serve(server));
        join(&sct, &ipsecmgr);
        assert_eq!(call.await.unwrap().unwrap().secret, b"new");
    });
}

#[test]
fn both_ends_may_ask() {
    block_on(async {
        let (sct, _server) = Links::new(SCT);
        let (ipsecmgr, mut server) = Links::new(IPSECMGR);
        join(&sct, &ipsecmgr);
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                dispatch!(incoming, { EapRound => |round, responder| responder.reply(EapAnswer {
                    eap: round.eap,
                    ..EapAnswer::default()
                }) });
            }
        });
        let round = EapRound {
            eap: vec![1, 2, 3],
            ..EapRound::default()
        };
        assert_eq!(
            sct.request(IPSECMGR, &round, PATIENCE).await.unwrap().eap,
            [1, 2, 3]
        );
    });
}

#[test]
fn garbage_is_dropped_and_counted() {
    block_on(async {
        use nix::sys::socket::{MsgFlags, send};
        use std::os::fd::AsRawFd;
        let (sct, server) = Links::new(SCT);
        let (near, far) = pair().unwrap();
        sct.install(IPSECMGR, near).unwrap();
        tokio::spawn(serve(server));
        for packet in [&[0xff; 30][..], b"SWbu", &[0; 90_000]] {
            send(far.as_raw_fd(), packet, MsgFlags::empty()).unwrap();
        }
        let (ipsecmgr, _server) = Links::new(IPSECMGR);
        ipsecmgr.install(SCT, far).unwrap();
        assert_eq!(
            ipsecmgr
                .request(SCT, &reveal("ok"), PATIENCE)
                .await
                .unwrap()
                .secret,
            b"ok"
        );
        assert_eq!((sct.statistics().malformed, sct.statistics().oversized), (2, 1));
    });
}
