//! Reading the pages of all processes.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sadb::CounterPageReader;

use crate::counters::{Counter, Schema};
use crate::error::Error;
use crate::names::{self, Places};
use crate::scope::{PageName, Scope};

/// The counter pages of a node, for those who report: `bulkstat`, `snmp`, the shell.
pub struct Reader {
    directory: PathBuf,
    pages: Vec<Page>,
}

struct Page {
    name: PageName,
    mapping: CounterPageReader,
    places: Places,
    /// One for each counter, as of the last refresh.
    values: Vec<u64>,
}

impl Reader {
    /// Reads the pages in a directory.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let mut reader = Self {
            directory: directory.to_owned(),
            pages: Vec::new(),
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// Takes a new snapshot: every page that exists now, with its values of now.
    ///
    /// In a page of another version of the table, counters are found by their names. One that disappears meanwhile is left out.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let failed = |source| Error::Page {
            path: self.directory.clone(),
            source,
        };
        let mut tables: HashMap<(OsString, u64), Option<Places>> = HashMap::new();
        let mut pages = Vec::new();
        let mut entries = Vec::new();
        for folder in std::fs::read_dir(&self.directory).map_err(failed)? {
            let folder = folder.map_err(failed)?;
            // One that is gone meanwhile, or is no folder, has no pages.
            for entry in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                entries.push((folder.file_name(), entry));
            }
        }
        for (facility, entry) in entries {
            let Some(name) = entry.file_name().to_str().and_then(PageName::parse) else {
                continue;
            };
            // Nobody counts in the name of another.
            if facility != *name.facility {
                continue;
            }
            let path = entry.path();
            let known = self
                .pages
                .iter()
                .position(|page| page.name == name && page.mapping.is_current(&path));
            let known = known.map(|index| self.pages.swap_remove(index));
            let (mapping, places) = match known {
                Some(page) => (page.mapping, page.places),
                None => {
                    let Ok(mapping) = CounterPageReader::open(&path) else {
                        continue;
                    };
                    let places = tables
                        .entry((facility.clone(), mapping.layout()))
                        .or_insert_with(|| names::places(&self.directory.join(&facility), mapping.layout()));
                    // Nobody says what it counts.
                    let Some(places) = places.clone() else { continue };
                    (mapping, places)
                }
            };
            let value =
                |place: &Option<usize>| place.and_then(|place| mapping.get(place)).unwrap_or_default();
            let values = places.iter().map(value).collect();
            pages.push(Page {
                name,
                mapping,
                places,
                values,
            });
        }
        pages.sort_by(|a, b| a.name.cmp(&b.name));
        self.pages = pages;
        Ok(())
    }

    /// The value of a counter over all processes that count it, at its reported width.
    pub fn sum(&self, counter: Counter) -> u64 {
        self.total(counter, |name| name.scope.is_none())
    }

    /// The value of a counter in one process; `None` when it has no page.
    pub fn instance(&self, facility: &str, instance: u32, counter: Counter) -> Option<u64> {
        self.pages
            .iter()
            .find(|page| {
                page.name.scope.is_none() && page.name.facility == facility && page.name.instance == instance
            })
            .map(|page| page.value(counter))
    }

    /// The processes that have a page: facility and instance, sorted.
    pub fn instances(&self) -> Vec<(&str, u32)> {
        let unscoped = self.pages.iter().filter(|page| page.name.scope.is_none());
        unscoped
            .map(|page| (page.name.facility.as_str(), page.name.instance))
            .collect()
    }

    /// The scopes that a schema has counters for, sorted.
    pub fn scopes(&self, schema: Schema) -> Vec<&Scope> {
        let scopes = self.pages.iter().filter_map(|page| page.name.scope.as_ref());
        scopes
            .filter(|scope| scope.schema == schema)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// The value of a scoped counter over all processes, at its reported width.
    pub fn scoped_sum(&self, scope: &Scope, counter: Counter) -> u64 {
        self.total(counter, |name| name.scope.as_ref() == Some(scope))
    }

    fn total(&self, counter: Counter, wanted: impl Fn(&PageName) -> bool) -> u64 {
        let pages = self.pages.iter().filter(|page| wanted(&page.name));
        let total = pages.fold(0u64, |total, page| total.wrapping_add(page.value(counter)));
        counter.descriptor().at_width(total)
    }
}

impl Page {
    fn value(&self, counter: Counter) -> u64 {
        self.values.get(counter.index()).copied().unwrap_or_default()
    }
}
