//! Requests to another process, many in one message.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

/// How requests follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Items in one request.
    pub(crate) most: usize,
    /// Requests that are under way at a time: a batch grows while the other process is busy.
    pub(crate) under_way: usize,
    /// The next request waits so long for the answer to the one before: most answers are there by then, and the fewer requests there are, the less they cost.
    pub(crate) patience: Duration,
}

/// Hands what comes in to `ask`, each batch in a task of its own. Ends when nothing can come in any more.
pub(crate) async fn run<T, A>(mut incoming: UnboundedReceiver<T>, pace: Pace, ask: impl Fn(Vec<T>) -> A)
where
    A: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(pace.under_way));
    // The permit first: meanwhile the batch grows.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let mut batch = Vec::new();
        if incoming.recv_many(&mut batch, pace.most).await == 0 {
            return;
        }
        let asked = ask(batch);
        let mut asking = tokio::spawn(async move {
            asked.await;
            drop(permit);
        });
        if !pace.patience.is_zero() {
            // Late or not, the answer finds its way.
            let _ = timeout(pace.patience, &mut asking).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::sync::mpsc::unbounded_channel;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_comes_while_others_are_under_way_goes_together() {
        let (wishes, incoming) = unbounded_channel();
        let (asked, mut batches) = unbounded_channel();
        let ask = move |batch: Vec<u32>| {
            let (done, wait) = oneshot::channel::<()>();
            asked.send((batch, done)).unwrap();
            async move { drop(wait.await) }
        };
        let pace = Pace {
            most: 4,
            under_way: 2,
            patience: Duration::ZERO,
        };
        let run = tokio::spawn(run(incoming, pace, ask));
        let mut under_way = Vec::new();
        for number in 1..=2 {
            wishes.send(number).unwrap();
            let (batch, done) = batches.recv().await.unwrap();
            assert_eq!(batch, [number], "nobody else is there to wait for");
            under_way.push(done);
        }
        for number in 3..=8 {
            wishes.send(number).unwrap();
        }
        tokio::task::yield_now().await;
        assert!(batches.try_recv().is_err(), "two are under way");
        under_way.remove(0).send(()).unwrap();
        let (batch, _done) = batches.recv().await.unwrap();
        assert_eq!(batch, [3, 4, 5, 6]);
        under_way.remove(0).send(()).unwrap();
        drop(wishes);
        let (batch, done) = batches.recv().await.unwrap();
        assert_eq!(batch, [7, 8]);
        drop(done);
        run.await.unwrap();
    }

    #[tokio::test]
    async fn the_next_waits_for_an_answer_but_not_for_ever() {
        for patience in [Duration::from_secs(3600), Duration::from_millis(1)] {
            let (wishes, incoming) = unbounded_channel();
            let (asked, mut batches) = unbounded_channel();
            let ask = move |batch: Vec<u32>| {
                let (done, wait) = oneshot::channel::<()>();
                asked.send((batch, done)).unwrap();
                async move { drop(wait.await) }
            };
            let pace = Pace {
                most: 4,
                under_way: 3,
                patience,
            };
            let run = tokio::spawn(run(incoming, pace, ask));
            wishes.send(1).unwrap();
            let (_, answered) = batches.recv().await.unwrap();
            wishes.send(2).unwrap();
            wishes.send(3).unwrap();
            if patience > Duration::from_secs(1) {
                tokio::task::yield_now().await;
                assert!(batches.try_recv().is_err(), "the answer may come any moment");
                answered.send(()).unwrap();
            }
            let (batch, _) = batches.recv().await.unwrap();
            assert_eq!(batch, [2, 3]);
            drop(wishes);
            run.await.unwrap();
        }
    }
}
