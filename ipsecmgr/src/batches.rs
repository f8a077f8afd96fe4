//! Requests to another process, many in one message.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;

/// Hands what comes in to `ask`, at most `most` together, in a task of its own; at most `under_way` of them at a time, so that a batch grows while the
/// other process is busy. Ends when nothing can come in any more.
pub(crate) async fn run<T, A>(
    mut incoming: UnboundedReceiver<T>,
    most: usize,
    under_way: usize,
    ask: impl Fn(Vec<T>) -> A,
) where
    A: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(under_way));
    let mut batch = Vec::with_capacity(most);
    // The permit first: meanwhile the batch grows.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        if incoming.recv_many(&mut batch, most).await == 0 {
            return;
        }
        let asked = ask(std::mem::take(&mut batch));
        tokio::spawn(async move {
            asked.await;
            drop(permit);
        });
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
        let run = tokio::spawn(run(incoming, 4, 2, ask));
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
}
