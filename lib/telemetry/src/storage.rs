//! Where a process counts: a page of 64-bit numbers that outlives it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sadb::{CounterPage, CounterPageReader};

use crate::counters::{Counter, FINGERPRINT, Kind};
use crate::error::Error;
use crate::names;
use crate::scope::{PageName, Scope};

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
    /// Opens (or makes) the page `DIRECTORY/FACILITY/FACILITY-INSTANCE`. (The folder of a facility is its user's.) Counters go on where the last life of this process left them,
    /// gauges start at zero. What another version of the table has counted under the same names counts, too.
    pub fn open(directory: &Path, facility: &str, instance: u32) -> Result<Self, Error> {
        let owner = Owner {
            directory: Some(directory.to_owned()),
            facility: facility.to_owned(),
            instance,
            scopes: Mutex::default(),
        };
        let folder = directory.join(facility);
        match std::fs::create_dir(&folder) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Page { path: folder, source });
            }
            _ => {}
        }
        names::leave(&folder).map_err(|source| Error::Page { path: folder, source })?;
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
        match &*self.cells {
            Cells::Mapped(page) => page.add(counter.index(), amount),
            Cells::Memory(cells) => {
                cells[counter.index()].fetch_add(amount, Ordering::Relaxed);
            }
        }
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, gauge: Counter, level: u64) {
        match &*self.cells {
            Cells::Mapped(page) => page.set(gauge.index(), level),
            Cells::Memory(cells) => cells[gauge.index()].store(level, Ordering::Relaxed),
        }
    }

    /// Lowers a gauge by one; never below zero.
    #[inline]
    pub fn dec(&self, gauge: Counter) {
        self.sub(gauge, 1);
    }

    /// Lowers a gauge; never below zero.
    #[inline]
    pub fn sub(&self, gauge: Counter, amount: u64) {
        match &*self.cells {
            Cells::Mapped(page) => page.sub(gauge.index(), amount),
            Cells::Memory(cells) => {
                let lower = |level: u64| Some(level.saturating_sub(amount));
                // Never fails: the closure always gives a value.
                let _ = cells[gauge.index()].fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
            }
        }
    }

    /// The value here and now, of this process alone.
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        match &*self.cells {
            Cells::Mapped(page) => page.get(counter.index()),
            Cells::Memory(cells) => cells[counter.index()].load(Ordering::Relaxed),
        }
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
            .map(|directory| directory.join(&self.facility).join(name.file_name()))
    }

    fn page(&self, scope: Option<&Scope>) -> Result<Arc<Cells>, Error> {
        let Some(path) = self.path(scope) else {
            return Ok(Arc::new(Cells::in_memory()));
        };
        // It keeps its values when a new page takes its place.
        let other = CounterPageReader::open(&path)
            .ok()
            .filter(|page| page.layout() != FINGERPRINT);
        let places = other.and_then(|page| {
            let places = names::places(path.parent()?, page.layout())?;
            Some((page, places))
        });
        let page = CounterPage::resume(&path, FINGERPRINT, Counter::COUNT)
            .map_err(|source| Error::Map { path, source })?;
        if let Some((other, places)) = places {
            for (counter, place) in Counter::all().zip(&*places) {
                page.set(
                    counter.index(),
                    place.and_then(|place| other.get(place)).unwrap_or(0),
                );
            }
        }
        for gauge in Counter::all().filter(|counter| counter.descriptor().kind == Kind::Gauge) {
            page.set(gauge.index(), 0);
        }
        Ok(Arc::new(Cells::Mapped(page)))
    }
}

enum Cells {
    /// One for each counter of the table.
    Memory(Box<[AtomicU64; Counter::COUNT]>),
    Mapped(CounterPage),
}

impl Cells {
    fn in_memory() -> Self {
        Self::Memory(Box::new([const { AtomicU64::new(0) }; Counter::COUNT]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Schema, ikev2, wsg};
    use crate::{Reader, counters};

    /// A directory of pages that goes away with the test.
    struct Pages(PathBuf);

    impl Pages {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("telemetry-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_restart_keeps_counters_and_clears_gauges() {
        let pages = Pages::new("restart");
        let first = Counters::open(&pages.0, "ipsecmgr", 1).unwrap();
        first.add(ikev2::RX_PACKETS, 5);
        first.set(ikev2::CURRENT_SAS, 3);
        drop(first);
        let second = Counters::open(&pages.0, "ipsecmgr", 1).unwrap();
        second.inc(ikev2::RX_PACKETS);
        assert_eq!(second.get(ikev2::RX_PACKETS), 6);
        assert_eq!(second.get(ikev2::CURRENT_SAS), 0);
    }

    #[test]
    fn a_page_of_another_table_starts_afresh() {
        let pages = Pages::new("fingerprint");
        drop(Counters::open(&pages.0, "ipsecmgr", 1).unwrap());
        let path = pages.0.join("ipsecmgr/ipsecmgr-1");
        let other = CounterPage::create(&path, FINGERPRINT ^ 1, Counter::COUNT).unwrap();
        other.add(ikev2::RX_PACKETS.index(), 9);
        assert_eq!(Reader::open(&pages.0).unwrap().sum(ikev2::RX_PACKETS), 0);
        let counters = Counters::open(&pages.0, "ipsecmgr", 1).unwrap();
        assert_eq!(counters.get(ikev2::RX_PACKETS), 0);
    }

    #[test]
    fn what_another_table_has_under_our_names_is_read_and_goes_on() {
        let pages = Pages::new("names-of-others");
        let folder = pages.0.join("ipsecmgr");
        std::fs::create_dir(&folder).unwrap();
        // An older table, in another order: a counter we no longer have, one as ours, one that was a gauge, a gauge as ours.
        let layout = FINGERPRINT ^ 1;
        let rows = [
            "gone::LONG_AGO Counter".to_owned(),
            format!("{} Counter", ikev2::RX_PACKETS.descriptor().id),
            format!("{} Gauge", ikev2::TX_PACKETS.descriptor().id),
            format!("{} Gauge", ikev2::CURRENT_SAS.descriptor().id),
        ];
        std::fs::write(folder.join(format!(".names-{layout:016x}")), rows.join("\n")).unwrap();
        let older = CounterPage::create(&folder.join("ipsecmgr-1"), layout, rows.len()).unwrap();
        for place in 0..rows.len() {
            older.set(place, 10 + place as u64);
        }
        let mut reader = Reader::open(&pages.0).unwrap();
        assert_eq!(reader.sum(ikev2::RX_PACKETS), 11);
        assert_eq!(reader.sum(ikev2::CURRENT_SAS), 13);
        assert_eq!(reader.sum(ikev2::TX_PACKETS), 0, "it meant something else");
        older.add(1, 5);
        reader.refresh().unwrap();
        assert_eq!(reader.sum(ikev2::RX_PACKETS), 16);

        let newer = Counters::open(&pages.0, "ipsecmgr", 1).unwrap();
        assert_eq!(newer.get(ikev2::RX_PACKETS), 16);
        assert_eq!(newer.get(ikev2::CURRENT_SAS), 0);
        assert_eq!(newer.get(ikev2::TX_PACKETS), 0);
        newer.inc(ikev2::RX_PACKETS);
        reader.refresh().unwrap();
        assert_eq!(reader.sum(ikev2::RX_PACKETS), 17);
    }

    #[test]
    fn the_names_of_our_own_table_lead_to_our_places() {
        let pages = Pages::new("own-names");
        drop(Counters::open(&pages.0, "snmp", 1).unwrap());
        let folder = pages.0.join("snmp");
        let own = names::places(&folder, FINGERPRINT).unwrap();
        let ours = folder.join(format!(".names-{FINGERPRINT:016x}"));
        std::fs::rename(ours, folder.join(format!(".names-{:016x}", 7))).unwrap();
        assert_eq!(names::places(&folder, 7).unwrap(), own);
        assert!(names::places(&folder, 8).is_none());
    }

    #[test]
    fn nobody_counts_in_the_name_of_another() {
        let pages = Pages::new("names");
        drop(Counters::open(&pages.0, "snmp", 1).unwrap());
        for name in ["snmp-1", "ipsecmgr-1"] {
            let path = pages.0.join("snmp").join(name);
            let page = CounterPage::create(&path, FINGERPRINT, Counter::COUNT).unwrap();
            page.add(ikev2::RX_PACKETS.index(), 9);
        }
        let reader = Reader::open(&pages.0).unwrap();
        assert_eq!(reader.instances(), [("snmp", 1)]);
        assert_eq!(reader.sum(ikev2::RX_PACKETS), 9);
    }

    #[test]
    fn a_reader_adds_the_instances_up_and_rolls_over() {
        let pages = Pages::new("sum");
        let workers: Vec<_> = (1..=3)
            .map(|n| Counters::open(&pages.0, "ipsecmgr", n).unwrap())
            .collect();
        let mut reader = Reader::open(&pages.0).unwrap();
        for (counters, amount) in workers.iter().zip([u64::from(u32::MAX), 2, 4]) {
            counters.add(ikev2::RX_PACKETS, amount);
            counters.set(ikev2::CURRENT_SAS, amount);
        }
        assert_eq!(reader.sum(ikev2::RX_PACKETS), 0, "the snapshot was taken before");
        reader.refresh().unwrap();
        assert_eq!(reader.sum(ikev2::RX_PACKETS), 5);
        assert_eq!(
            reader.sum(ikev2::CURRENT_SAS),
            u64::from(u32::MAX),
            "a gauge stops"
        );
        assert_eq!(reader.instance("ipsecmgr", 3, ikev2::RX_PACKETS), Some(4));
        assert_eq!(reader.instance("ipsecmgr", 4, ikev2::RX_PACKETS), None);
        assert_eq!(
            reader.instances(),
            [("ipsecmgr", 1), ("ipsecmgr", 2), ("ipsecmgr", 3)]
        );
    }

    #[test]
    fn a_scope_has_counters_of_its_own_over_all_instances() {
        let pages = Pages::new("scope");
        let service = Scope::wsg("isp", "enb");
        for instance in 1..=2 {
            let counters = Counters::open(&pages.0, "sessmgr", instance).unwrap();
            counters.scoped(&service).unwrap().inc(wsg::SETUP_ATTEMPTS);
            counters.scoped(&service).unwrap().inc(wsg::SETUP_ATTEMPTS);
            counters
                .scoped(&Scope::wsg("isp", "other"))
                .unwrap()
                .inc(wsg::SETUP_ATTEMPTS);
        }
        let mut reader = Reader::open(&pages.0).unwrap();
        assert_eq!(
            reader.scopes(Schema::Wsg),
            [&service, &Scope::wsg("isp", "other")]
        );
        assert_eq!(reader.scoped_sum(&service, wsg::SETUP_ATTEMPTS), 4);
        assert_eq!(reader.sum(wsg::SETUP_ATTEMPTS), 0);
        for instance in 1..=2 {
            Counters::open(&pages.0, "sessmgr", instance)
                .unwrap()
                .remove_scope(&service)
                .unwrap();
        }
        reader.refresh().unwrap();
        assert_eq!(reader.scopes(Schema::Wsg), [&Scope::wsg("isp", "other")]);
    }

    #[test]
    fn counting_in_memory_is_the_same() {
        let counters = Counters::in_memory();
        counters.add(counters::aaa::CURRENT_REQUESTS, 2);
        counters.sub(counters::aaa::CURRENT_REQUESTS, 5);
        counters.dec(counters::aaa::CURRENT_REQUESTS);
        assert_eq!(counters.get(counters::aaa::CURRENT_REQUESTS), 0);
    }
}
