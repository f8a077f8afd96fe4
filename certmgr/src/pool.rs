//! The threads that sign and verify, so that the loop never waits for an RSA operation.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

/// A piece of work. It gives the answer to its request, ready to be sent.
pub(crate) type Job = Box<dyn FnOnce() -> Answer + Send>;

/// Sends an answer.
pub(crate) type Answer = Box<dyn FnOnce()>;

/// A fixed number of threads behind a bounded queue. They end when the pool is dropped and the queue is empty.
pub(crate) struct Pool {
    queue: Arc<Queue>,
    limit: usize,
}

struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    threads: usize,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job.
    idle: usize,
    closed: bool,
}

impl Pool {
    /// Starts `threads` threads with room for `limit` waiting jobs.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn new(threads: usize, limit: usize) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            threads,
        });
        let pool = Self { queue, limit };
        for number in 1..=threads {
            let queue = pool.queue.clone();
            thread::Builder::new()
                .name(format!("crypto-{number}"))
                .spawn(move || work(&queue))?;
        }
        Ok(pool)
    }

    /// True if [`Pool::submit`] has room for so many jobs now. Asked first, so that a request can be refused with a reason.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        count <= self.limit.saturating_sub(self.queue.lock().jobs.len())
    }

    /// Queues jobs. Those that find no room are dropped, which refuses their request.
    pub(crate) fn submit(&self, jobs: Vec<Job>) {
        let mut waiting = self.queue.lock();
        let room = self.limit.saturating_sub(waiting.jobs.len());
        let wanted = waiting.idle.min(jobs.len());
        waiting.jobs.extend(jobs.into_iter().take(room));
        drop(waiting);
        (0..wanted).for_each(|_| self.queue.arrived.notify_one());
    }
}

/// A job that gives this answer.
pub(crate) fn job<A: FnOnce() + 'static>(work: impl FnOnce() -> A + Send + 'static) -> Job {
    Box::new(move || Box::new(work()))
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.arrived.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for jobs and takes a thread's share of them. None when the pool is gone.
    fn take(&self, jobs: &mut Vec<Job>) {
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() && !waiting.closed {
            waiting.idle += 1;
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        }
        let share = waiting.jobs.len().div_ceil(self.threads).min(MOST_TOGETHER);
        jobs.extend(waiting.jobs.drain(..share));
    }
}

fn work(queue: &Queue) {
    let mut jobs = Vec::with_capacity(MOST_TOGETHER);
    let mut answers = Vec::with_capacity(MOST_TOGETHER);
    loop {
        queue.take(&mut jobs);
        if jobs.is_empty() {
            return;
        }
        answers.extend(jobs.drain(..).map(|job| job()));
        // Together: the loop wakes up once and sends them with one system call.
        answers.drain(..).for_each(|answer| answer());
    }
}

/// Jobs whose answers are sent together: an answer waits for no more than three others, some milliseconds.
const MOST_TOGETHER: usize = 4;

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
        let first = job(move || {
            let number = first.recv().unwrap();
            move || done.send(number).unwrap()
        });
        let second = job(move || {
            to_first.send(7).unwrap();
            || ()
        });
        pool.submit(vec![first, second]);
        assert_eq!(test.recv().unwrap(), 7);
    }

    #[test]
    fn a_full_pool_drops_jobs() {
        let pool = Pool::new(1, 2).unwrap();
        let (release, blocked) = channel::<()>();
        let (started, has_started) = channel();
        pool.submit(vec![job(move || {
            started.send(()).unwrap();
            let _ = blocked.recv();
            || ()
        })]);
        has_started.recv().unwrap();
        let (to_test, test) = channel();
        for number in 0..3 {
            assert_eq!(pool.has_room(1), number != 2);
            assert!(!pool.has_room(3));
            let to_test = to_test.clone();
            pool.submit(vec![job(move || move || to_test.send(number).unwrap())]);
        }
        drop(to_test);
        release.send(()).unwrap();
        assert_eq!(test.iter().collect::<Vec<_>>(), [0, 1]);
    }
}
