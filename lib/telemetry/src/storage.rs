//! Where a process counts: a page of 64-bit numbers that outlives it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::counters::{Counter, FINGERPRINT, Kind};
use crate::error::Error;
use crate::scope::{PageName, Scope};

/// Cells of a page: the fingerprint of the table, then one for each counter.
pub(crate) const CELLS: usize = 1 + Counter::COUNT;

/// The counters of one process (or of one scope of it): a cheap handle that may be cloned freely within the process.
///
/// One process writes a page; everybody else reads it through [`crate::Reader`]. Counting never allocates, never fails and
/// never waits.
#[derive(Clone)]
pub struct Counters {
    cells: Arc<Cells>,
    owner: Arc<Owner>,
}

impl Counters {
    /// Opens (or makes) the page `DIRECTORY/FACILITY-INSTANCE`. Counters go on where the last life of this process left them,
    /// gauges start at zero; a page of another version of the table starts afresh.
    pub fn open(directory: &Path, facility: &str, instance: u32) -> Result<Self, Error> {
        let owner = Owner {
            directory: Some(directory.to_owned()),
            facility: facility.to_owned(),
            instance,
            scopes: Mutex::default(),
        };
        let cells = owner.page(None)?;
        Ok(Self {
            cells,
            owner: Arc::new(owner),
        })
    }

    /// Counters that nobody else sees, for tests.
    pub fn in_memory() -> Self {
        let owner = Owner {
            directory: None,
            facility: String::new(),
            instance: 0,
            scopes: Mutex::default(),
        };
        Self {
            cells: Arc::new(Cells::in_memory()),
            owner: Arc::new(owner),
        }
    }

    /// The page of a scope of this process, such as one of its services. Asking again gives the same page.
    pub fn scoped(&self, scope: &Scope) -> Result<Self, Error> {
        let mut scopes = self.owner.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = match scopes.get(scope) {
            Some(cells) => cells.clone(),
            None => {
                let cells = self.owner.page(Some(scope))?;
                scopes.insert(scope.clone(), cells.clone());
                cells
            }
        };
        Ok(Self {
            cells,
            owner: self.owner.clone(),
        })
    }

    /// Forgets the page of a scope whose object was removed from the configuration.
    pub fn remove_scope(&self, scope: &Scope) -> Result<(), Error> {
        self.owner
            .scopes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(scope);
        let Some(path) = self.owner.path(Some(scope)) else {
            return Ok(());
        };
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Page { path, source }),
            _ => Ok(()),
        }
    }

    /// Counts one.
    #[inline]
    pub fn inc(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `amount`; rolls over at 64 bits.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        self.cell(counter).fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, gauge: Counter, level: u64) {
        self.cell(gauge).store(level, Ordering::Relaxed);
    }

    /// Lowers a gauge by one; never below zero.
    #[inline]
    pub fn dec(&self, gauge: Counter) {
        self.sub(gauge, 1);
    }

    /// Lowers a gauge; never below zero.
    #[inline]
    pub fn sub(&self, gauge: Counter, amount: u64) {
        // An update that cannot fail: the closure always returns a value.
        let _ = self
            .cell(gauge)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |level| {
                Some(level.saturating_sub(amount))
            });
    }

    /// The value here and now, of this process alone.
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        self.cell(counter).load(Ordering::Relaxed)
    }

    #[inline]
    fn cell(&self, counter: Counter) -> &AtomicU64 {
        &self.cells.values()[1 + counter.index()]
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Counters({}-{})", self.owner.facility, self.owner.instance)
    }
}

/// Who counts, and where its pages are.
struct Owner {
    /// `None`: in memory.
    directory: Option<PathBuf>,
    facility: String,
    instance: u32,
    scopes: Mutex<HashMap<Scope, Arc<Cells>>>,
}

impl Owner {
    fn path(&self, scope: Option<&Scope>) -> Option<PathBuf> {
        let name = PageName {
            facility: self.facility.clone(),
            instance: self.instance,
            scope: scope.cloned(),
        };
        self.directory
            .as_ref()
            .map(|directory| directory.join(name.file_name()))
    }

    fn page(&self, scope: Option<&Scope>) -> Result<Arc<Cells>, Error> {
        let cells = match self.path(scope) {
            None => Cells::in_memory(),
            Some(path) => {
                Cells::Mapped(
                    crate::page::CounterPage::open(&path, CELLS).map_err(|source| Error::Map {
                        path: path.clone(),
                        source,
                    })?,
                )
            }
        };
        cells.begin();
        Ok(Arc::new(cells))
    }
}

enum Cells {
    Memory(Box<[AtomicU64]>),
    Mapped(crate::page::CounterPage),
}

impl Cells {
    fn in_memory() -> Self {
        Self::Memory((0..CELLS).map(|_| AtomicU64::new(0)).collect())
    }

    /// [`CELLS`] cells.
    #[inline]
    fn values(&self) -> &[AtomicU64] {
        match self {
            Self::Memory(cells) => cells,
            Self::Mapped(page) => page.cells(),
        }
    }

    /// The start of a life: gauges to zero, everything to zero when another version of the table wrote the page.
    fn begin(&self) {
        let (fingerprint, values) = match self.values().split_first() {
            Some(parts) => parts,
            None => return,
        };
        let known = fingerprint.load(Ordering::Relaxed) == FINGERPRINT;
        for (counter, value) in Counter::all().zip(values) {
            if !known || counter.descriptor().kind == Kind::Gauge {
                value.store(0, Ordering::Relaxed);
            }
        }
        fingerprint.store(FINGERPRINT, Ordering::Release);
    }
}
