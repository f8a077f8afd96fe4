//! What ends the demo early: signals, and a reader of its output who has seen enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Knows whether and why the demo is to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupts(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// The first, which tells why; 0: none.
    first: AtomicI32,
    count: AtomicU32,
}

impl Interrupts {
    /// Hears signals from now on, and calls `tell` for each. Starts a thread.
    pub(crate) fn listen(&self, tell: impl Fn() + Send + 'static) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        // Here and not on the thread, so that none is lost.
        let context = runtime.enter();
        let hear = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        let mut interrupt = hear(SignalKind::interrupt())?;
        let mut terminate = hear(SignalKind::terminate())?;
        // Whoever starts it with nohup means it.
        let mut hangup = match netio::task::ignores(Signal::SIGHUP) {
            true => None,
            false => Some(hear(SignalKind::hangup())?),
        };
        drop(context);
        let all = self.clone();
        let wait = async move {
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::SIGINT,
                    _ = terminate.recv() => Signal::SIGTERM,
                    Some(_) = async { hangup.as_mut()?.recv().await } => Signal::SIGHUP,
                };
                all.raise(signal);
                tell();
            }
        };
        std::thread::spawn(move || runtime.block_on(wait));
        Ok(())
    }

    /// As if this signal had come.
    pub(crate) fn raise(&self, signal: Signal) {
        let Heard { first, count } = &*self.0;
        let is_first = first
            .compare_exchange(0, signal as i32, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        // Who closes a terminal sends SIGHUP more than once, and does not insist by that.
        if is_first || signal != Signal::SIGHUP {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The first that came.
    pub(crate) fn first(&self) -> Option<Signal> {
        Signal::try_from(self.0.first.load(Ordering::Relaxed)).ok()
    }

    /// How many came.
    pub(crate) fn count(&self) -> u32 {
        self.0.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_says_why() {
        let interrupts = Interrupts::default();
        assert_eq!((interrupts.first(), interrupts.count()), (None, 0));
        let other = interrupts.clone();
        other.raise(Signal::SIGTERM);
        other.raise(Signal::SIGINT);
        other.raise(Signal::SIGHUP);
        assert_eq!(
            (interrupts.first(), interrupts.count()),
            (Some(Signal::SIGTERM), 2)
        );
    }
}
