//! What goes to one `sessmgr`: admissions, which are answered, and news of sessions, which are delivered in order. Many sessions travel in one request, for set-ups
//! come in bursts.

use std::time::Duration;

use bus::messages::sessmgr::{
    Admission, Admit, Connected, ConnectedSession, RecoveredSession, Release, Released, WorkerRecovered,
};
use bus::{Address, Bus, BusError, Request};
use ikev2::{IkeSaId, Ticket};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender, channel, unbounded_channel};
use tokio::time::sleep;

use crate::batches::{self, Pace};
use crate::questions::Found;

/// Sessions in one request.
const BATCH: usize = 128;
/// Sessions of the last life in one request.
const RECOVERED_BATCH: usize = 1000;
/// Of requests for admission: one whose answer takes long (a pool's block must be leased first) does not hold up the others.
const ADMISSIONS: Pace = Pace {
    most: BATCH,
    under_way: 8,
    patience: Duration::from_millis(5),
};
/// Between deliveries of news, which nobody waits for: meanwhile there is more to tell with the next one.
const NEWS_INTERVAL: Duration = Duration::from_millis(5);
const ADMIT_DEADLINE: Duration = Duration::from_secs(5);
const NEWS_DEADLINE: Duration = Duration::from_secs(2);
/// Between attempts to deliver news.
const AGAIN: Duration = Duration::from_millis(250);
/// News that wait while `sessmgr` is away.
const QUEUE: usize = 100_000;

/// Takes what goes to `sessmgr`. Never waits.
pub(crate) struct SessionDesk {
    admissions: UnboundedSender<(Asked, Admission)>,
    news: Sender<News>,
}

/// Who is to be admitted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    /// A peer that has authenticated: the engine asks.
    Engine(Ticket),
    /// A tunnel of the last life that `sessmgr` has forgotten.
    Outlived(IkeSaId),
}

impl Asked {
    fn ike(self) -> IkeSaId {
        match self {
            Self::Engine(ticket) => ticket.ike,
            Self::Outlived(ike) => ike,
        }
    }
}

/// Something to tell `sessmgr`.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// These slots are ours now, with these sessions of this `sessmgr`.
    Recovered(Outlived),
    /// A session has these child SAs.
    Connected(ConnectedSession),
    /// A session is over.
    Released(Released),
    /// Nothing: what was told before it is delivered when it is dropped.
    Mark(Sender<()>),
}

/// What a `sessmgr` is told of slots.
#[derive(Debug, Clone)]
pub(crate) struct Outlived {
    /// By which tenure we have them.
    pub(crate) tenure: u64,
    pub(crate) slots: Vec<u32>,
    /// All sessions in them that it goes on with.
    pub(crate) sessions: Vec<RecoveredSession>,
}

impl SessionDesk {
    /// Starts the desk's tasks. Verdicts go to `found`. Admissions are as many as the engine has questions open, so their queue needs no bound.
    pub(crate) fn start(bus: &Bus, sessmgr: Address, found: UnboundedSender<Found>) -> Self {
        let (admissions, incoming) = unbounded_channel();
        let (news, stories) = channel(QUEUE);
        let (asker, verdicts) = (bus.clone(), found.clone());
        let admit = move |batch| admit(asker.clone(), sessmgr, batch, verdicts.clone());
        tokio::spawn(batches::run(incoming, ADMISSIONS, admit));
        tokio::spawn(deliver(bus.clone(), sessmgr, stories, found));
        Self { admissions, news }
    }

    /// Asks for admission; a [`Found::Verdict`] follows.
    pub(crate) fn admit(&self, asked: Asked, admission: Admission) {
        // The task ends only with the process.
        let _ = self.admissions.send((asked, admission));
    }

    /// Tells `sessmgr`, as soon as it is there.
    pub(crate) fn tell(&self, news: News) {
        if let Err(TrySendError::Full(news)) = self.news.try_send(news) {
            tracing::error!("sessmgr has been away for too long, lost {news:?}");
        }
    }
}

async fn admit(bus: Bus, sessmgr: Address, batch: Vec<(Asked, Admission)>, found: UnboundedSender<Found>) {
    let (asked, admissions): (Vec<Asked>, _) = batch.into_iter().unzip();
    let request = Admit { admissions };
    let answer = bus.request(sessmgr, &request, ADMIT_DEADLINE).await;
    let (verdicts, failure) = match answer {
        Ok(admitted) => (admitted.verdicts, "sessmgr gave no verdict".to_owned()),
        Err(error) => (Vec::new(), error.to_string()),
    };
    if verdicts.is_empty() && asked.iter().any(|asked| matches!(asked, Asked::Outlived(_))) {
        // They are claimed until there is an answer.
        sleep(AGAIN).await;
    }
    let mut verdicts = verdicts.into_iter();
    let decided = asked.into_iter().map(|asked| {
        let verdict = verdicts
            .next()
            .filter(|verdict| verdict.ike_spi == asked.ike().0)
            .ok_or_else(|| failure.clone());
        (asked, verdict)
    });
    // The loop is gone only when the process ends.
    let _ = found.send(Found::Verdicts(decided.collect()));
}

async fn deliver(bus: Bus, sessmgr: Address, mut stories: Receiver<News>, found: UnboundedSender<Found>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let count = stories.recv_many(&mut batch, BATCH).await;
        if count == 0 {
            return;
        }
        let (mut connected, mut released, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        for news in batch.drain(..) {
            match news {
                News::Recovered(outlived) => recovered(&bus, sessmgr, &outlived, &found).await,
                News::Connected(session) => connected.push(session),
                News::Released(session) => released.push(session),
                News::Mark(mark) => marks.push(mark),
            }
        }
        // A session never comes back under its SPI, so its end may always follow its news.
        if !connected.is_empty() {
            let renamed = connected.iter().filter(|session| session.was != 0);
            let renamed: Vec<u64> = renamed.map(|session| session.ike_spi).collect();
            insist(&bus, sessmgr, &Connected { sessions: connected }).await;
            if !renamed.is_empty() {
                // The loop is gone only when the process ends.
                let _ = found.send(Found::Renamed(renamed));
            }
        }
        if !released.is_empty() {
            insist(&bus, sessmgr, &Release { sessions: released }).await;
        }
        let quiet = count < BATCH && marks.is_empty();
        drop(marks);
        if quiet {
            sleep(NEWS_INTERVAL).await;
        }
    }
}

/// Lists the sessions that go on. Those that `sessmgr` does not know are told to the loop when it has heard of all: until then others that are over may
/// have their addresses.
async fn recovered(bus: &Bus, sessmgr: Address, outlived: &Outlived, found: &UnboundedSender<Found>) {
    let mut rest = outlived.sessions.as_slice();
    let mut unknown = Vec::new();
    loop {
        let (now, later) = rest.split_at(rest.len().min(RECOVERED_BATCH));
        let news = WorkerRecovered {
            sessions: now.to_vec(),
            more: !later.is_empty(),
            tenure: outlived.tenure,
            slots: outlived.slots.clone(),
        };
        let reply = insist(bus, sessmgr, &news).await;
        unknown.extend(reply.into_iter().flat_map(|reply| reply.unknown));
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    let renamed = outlived.sessions.iter().filter(|session| session.known_as != 0);
    let renamed: Vec<u64> = renamed.map(|session| session.ike_spi).collect();
    // The loop is gone only when the process ends.
    let _ = found.send(Found::Renamed(renamed));
    if !unknown.is_empty() {
        let _ = found.send(Found::Unknown(unknown));
    }
}

/// Asks until `to` has answered; `None` if it refuses. All that is told here is idempotent.
pub(crate) async fn insist<R: Request>(bus: &Bus, to: Address, request: &R) -> Option<R::Reply> {
    loop {
        match bus.request(to, request, NEWS_DEADLINE).await {
            Ok(reply) => return Some(reply),
            Err(BusError::Timeout { .. } | BusError::Unreachable { .. }) => sleep(AGAIN).await,
            Err(error) => {
                tracing::warn!("{error}");
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::messages::sessmgr::{Noted, Recovered};
    use bus::{Facility, Hub, dispatch};
    use tokio::sync::mpsc;

    const SESSMGR: Address = Address::new(Facility::Sessmgr, 1);

    fn released(ike_spi: u64) -> News {
        News::Released(Released {
            ike_spi,
            ..Released::default()
        })
    }

    #[tokio::test]
    async fn news_reach_a_sessmgr_that_was_away_in_order_and_in_few_requests() {
        let hub = Hub::new();
        let (bus, _server) = Bus::in_process(&hub, Address::new(Facility::Ipsecmgr, 1)).unwrap();
        let (found, mut told) = mpsc::unbounded_channel();
        let one = RecoveredSession {
            ike_spi: 99,
            known_as: 98,
            ..RecoveredSession::default()
        };
        let outlived = vec![one; RECOVERED_BATCH + 1];
        let desk = SessionDesk::start(&bus, SESSMGR, found);
        desk.tell(News::Recovered(Outlived {
            tenure: 3,
            slots: vec![1, 2],
            sessions: outlived,
        }));
        for ike_spi in 1..=50 {
            desk.tell(News::Connected(ConnectedSession {
                ike_spi,
                was: if ike_spi == 1 { 77 } else { 0 },
                ..ConnectedSession::default()
            }));
            desk.tell(released(ike_spi));
        }
        let (mark, mut marked) = channel(1);
        desk.tell(News::Mark(mark));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), marked.recv())
                .await
                .is_err(),
            "nothing is delivered"
        );
        let (_sessmgr, mut server) = Bus::in_process(&hub, SESSMGR).unwrap();
        let (mut requests, mut gone) = (Vec::new(), 0);
        while gone < 50 {
            let incoming = server.next().await.unwrap();
            dispatch!(incoming, {
                WorkerRecovered => |news, responder| {
                    assert_eq!((news.tenure, news.slots), (3, vec![1, 2]));
                    let (request, unknown) = match (news.sessions.len(), news.more) {
                        (RECOVERED_BATCH, true) => ("many", vec![99]),
                        (1, false) => {
                            assert!(told.try_recv().is_err(), "not before the last");
                            ("the last", vec![97])
                        }
                        other => panic!("{other:?}"),
                    };
                    requests.push(request);
                    responder.reply(Recovered { unknown })
                },
                Connected => |news, responder| {
                    assert_eq!(news.sessions.len(), 50);
                    requests.push("connected");
                    responder.reply(Noted {})
                },
                Release => |news, responder| { gone += news.sessions.len(); requests.push("released"); responder.reply(Noted {}) },
            });
        }
        assert_eq!(requests, ["many", "the last", "connected", "released"]);
        marked.recv().await;
        assert!(matches!(told.recv().await, Some(Found::Renamed(ikes)) if ikes == [99; RECOVERED_BATCH + 1]));
        assert!(matches!(told.recv().await, Some(Found::Unknown(ikes)) if ikes == [99, 97]));
        assert!(matches!(told.recv().await, Some(Found::Renamed(ikes)) if ikes == [1]));
    }
}
