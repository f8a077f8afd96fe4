//! What goes to `sessmgr`: admissions, which are answered, and news of sessions, which are delivered in order. Many sessions travel in one request, for set-ups
//! come in bursts.

use std::sync::Arc;
use std::time::Duration;

use bus::messages::sessmgr::{
    Admission, Admit, Connected, ConnectedSession, Release, Released, WorkerRecovered,
};
use bus::{Address, Bus, BusError, Request};
use ikev2::Ticket;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::questions::Found;

/// Sessions in one request.
const BATCH: usize = 128;
/// Requests for admission that are under way at a time: one whose answer takes long (a pool's block must be leased first) does not hold up the others.
const UNDER_WAY: usize = 8;
const ADMIT_DEADLINE: Duration = Duration::from_secs(5);
const NEWS_DEADLINE: Duration = Duration::from_secs(2);
/// Between attempts to deliver news.
const AGAIN: Duration = Duration::from_millis(250);
/// News that wait while `sessmgr` is away.
const QUEUE: usize = 100_000;

/// Takes what goes to `sessmgr`. Never waits.
pub(crate) struct SessionDesk {
    admissions: UnboundedSender<(Ticket, Admission)>,
    news: Sender<News>,
}

/// Something to tell `sessmgr`.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// This life of the process has begun without a session.
    Restarted,
    /// A session has these child SAs.
    Connected(ConnectedSession),
    /// A session is over.
    Released(Released),
}

impl SessionDesk {
    /// Starts the desk's tasks. Verdicts go to `found`. Admissions are as many as the engine has questions open, so their queue needs no bound.
    /// `life` counts the lives of this process from 0.
    pub(crate) fn start(bus: &Bus, sessmgr: Address, life: u32, found: UnboundedSender<Found>) -> Self {
        let (admissions, incoming) = unbounded_channel();
        let (news, stories) = channel(QUEUE);
        tokio::spawn(admit(bus.clone(), sessmgr, life, incoming, found));
        tokio::spawn(deliver(bus.clone(), sessmgr, life, stories));
        Self { admissions, news }
    }

    /// Asks for admission; a [`Found::Verdict`] follows.
    pub(crate) fn admit(&self, ticket: Ticket, admission: Admission) {
        // The task ends only with the process.
        let _ = self.admissions.send((ticket, admission));
    }

    /// Tells `sessmgr`, as soon as it is there.
    pub(crate) fn tell(&self, news: News) {
        if let Err(TrySendError::Full(news)) = self.news.try_send(news) {
            tracing::error!("sessmgr has been away for too long, lost {news:?}");
        }
    }
}

async fn admit(
    bus: Bus,
    sessmgr: Address,
    life: u32,
    mut incoming: UnboundedReceiver<(Ticket, Admission)>,
    found: UnboundedSender<Found>,
) {
    let permits = Arc::new(Semaphore::new(UNDER_WAY));
    let mut batch = Vec::with_capacity(BATCH);
    // Waiting for the permit first lets a batch grow while `sessmgr` is busy.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        if incoming.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let asked = std::mem::take(&mut batch);
        let (tickets, admissions) = asked.into_iter().unzip();
        let request = Admit { admissions, life };
        tokio::spawn(admit_batch(
            bus.clone(),
            sessmgr,
            tickets,
            request,
            found.clone(),
            permit,
        ));
    }
}

async fn admit_batch(
    bus: Bus,
    sessmgr: Address,
    tickets: Vec<Ticket>,
    request: Admit,
    found: UnboundedSender<Found>,
    _permit: OwnedSemaphorePermit,
) {
    let answer = bus.request(sessmgr, &request, ADMIT_DEADLINE).await;
    let (verdicts, failure) = match answer {
        Ok(admitted) => (admitted.verdicts, "sessmgr gave no verdict".to_owned()),
        Err(error) => (Vec::new(), error.to_string()),
    };
    let mut verdicts = verdicts.into_iter();
    for ticket in tickets {
        let verdict = verdicts
            .next()
            .filter(|verdict| verdict.ike_spi == ticket.ike.0)
            .ok_or_else(|| failure.clone());
        // The loop is gone only when the process ends.
        let _ = found.send(Found::Verdict(ticket, verdict));
    }
}

async fn deliver(bus: Bus, sessmgr: Address, life: u32, mut stories: Receiver<News>) {
    let mut batch = Vec::with_capacity(BATCH);
    while stories.recv_many(&mut batch, BATCH).await > 0 {
        let (mut connected, mut released) = (Vec::new(), Vec::new());
        for news in batch.drain(..) {
            match news {
                News::Restarted => {
                    let lost_all = WorkerRecovered {
                        life,
                        ..WorkerRecovered::default()
                    };
                    insist(&bus, sessmgr, &lost_all).await;
                }
                News::Connected(session) => connected.push(session),
                News::Released(session) => released.push(session),
            }
        }
        // A session never comes back under its SPI, so its end may always follow its news.
        if !connected.is_empty() {
            insist(&bus, sessmgr, &Connected { sessions: connected }).await;
        }
        if !released.is_empty() {
            insist(&bus, sessmgr, &Release { sessions: released }).await;
        }
    }
}

/// Asks until `to` has answered. All that is told here is idempotent.
pub(crate) async fn insist<R: Request>(bus: &Bus, to: Address, request: &R) {
    loop {
        match bus.request(to, request, NEWS_DEADLINE).await {
            Ok(_) => return,
            Err(BusError::Timeout { .. } | BusError::Unreachable { .. }) => sleep(AGAIN).await,
            Err(error) => return tracing::warn!("{error}"),
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
        let (found, _found) = mpsc::unbounded_channel();
        let desk = SessionDesk::start(&bus, SESSMGR, 3, found);
        desk.tell(News::Restarted);
        for ike_spi in 1..=50 {
            desk.tell(News::Connected(ConnectedSession {
                ike_spi,
                ..ConnectedSession::default()
            }));
            desk.tell(released(ike_spi));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (_sessmgr, mut server) = Bus::in_process(&hub, SESSMGR).unwrap();
        let (mut requests, mut gone) = (Vec::new(), 0);
        while gone < 50 {
            let incoming = server.next().await.unwrap();
            dispatch!(incoming, {
                WorkerRecovered => |news, responder| {
                    assert_eq!(news, WorkerRecovered { life: 3, sessions: Vec::new(), more: false });
                    requests.push("restarted");
                    responder.reply(Recovered::default())
                },
                Connected => |news, responder| {
                    assert_eq!(news.sessions.len(), 50);
                    requests.push("connected");
                    responder.reply(Noted {})
                },
                Release => |news, responder| { gone += news.sessions.len(); requests.push("released"); responder.reply(Noted {}) },
            });
        }
        assert_eq!(requests, ["restarted", "connected", "released"]);
    }
}
