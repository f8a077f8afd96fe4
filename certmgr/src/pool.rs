//! The threads that sign and verify, so that the loop never waits for an RSA operation.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

/// A piece of work; it answers its request itself.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads behind a bounded queue. They end when the pool is dropped and the queue is empty.
pub(crate) struct Pool {
    jobs: SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

impl Pool {
    /// Starts `threads` threads with room for `limit` waiting jobs.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn new(threads: usize, limit: usize) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(limit);
        let queue = Arc::new(Mutex::new(queue));
        let waiting = Arc::new(AtomicUsize::new(0));
        for number in 1..=threads {
            let (queue, waiting) = (queue.clone(), waiting.clone());
            thread::Builder::new()
                .name(format!("crypto-{number}"))
                .spawn(move || work(&queue, &waiting))?;
        }
        Ok(Self { jobs, waiting, limit })
    }

    /// True if [`Pool::submit`] has no room now. Asked first, so that a request can be refused with a reason.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.limit
    }

    /// Queues a job. One that finds no room is dropped, which refuses its request.
    pub(crate) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(Box::new(job)).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, waiting: &AtomicUsize) {
    loop {
        // The lock is held while waiting for a job, not while doing it.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        waiting.fetch_sub(1, Ordering::Relaxed);
        job();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn jobs_run_on_several_threads() {
        let pool = Pool::new(2, 8).unwrap();
        let (to_first, first) = channel();
        let (to_test, test) = channel();
        let done = to_test.clone();
        // The first job waits for the second: with one thread they would never end.
        pool.submit(move || done.send(first.recv().unwrap()).unwrap());
        pool.submit(move || to_first.send(7).unwrap());
        assert_eq!(test.recv().unwrap(), 7);
    }

    #[test]
    fn a_full_pool_drops_jobs() {
        let pool = Pool::new(1, 2).unwrap();
        let (release, blocked) = channel::<()>();
        let (started, has_started) = channel();
        pool.submit(move || {
            started.send(()).unwrap();
            let _ = blocked.recv();
        });
        has_started.recv().unwrap();
        let (to_test, test) = channel();
        for number in 0..3 {
            assert_eq!(pool.is_full(), number == 2);
            let to_test = to_test.clone();
            pool.submit(move || to_test.send(number).unwrap());
        }
        drop(to_test);
        release.send(()).unwrap();
        assert_eq!(test.iter().collect::<Vec<_>>(), [0, 1]);
    }
}
