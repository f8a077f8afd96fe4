//! Stores whose order a successor relies on. All of them go through here, so that tests can have the writer die at each.

use std::sync::atomic::{AtomicU64, Ordering};

/// Stores a word, after everything that was stored before it.
pub(crate) fn store(word: &AtomicU64, value: u64) {
    #[cfg(test)]
    crash::at_a_store();
    word.store(value, Ordering::Release);
}

/// Death of the writer, for tests.
#[cfg(test)]
pub(crate) mod crash {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    struct Death;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub(super) fn at_a_store() {
        match LEFT.get() {
            Some(0) => resume_unwind(Box::new(Death)),
            left => LEFT.set(left.map(|left| left - 1)),
        }
    }

    /// Does `work`, which dies after `stores` stores; false if it did.
    pub(crate) fn after(stores: usize, work: impl FnOnce()) -> bool {
        LEFT.set(Some(stores));
        let ended = catch_unwind(AssertUnwindSafe(work));
        LEFT.set(None);
        match ended {
            Ok(()) => true,
            Err(cause) if cause.is::<Death>() => false,
            Err(cause) => resume_unwind(cause),
        }
    }
}
