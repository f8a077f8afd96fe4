//! Contexts, their network namespaces, and the devices that ports bring into them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use netio::{Baggage, Luggage, Namespace, interface};
use nix::errno::Errno;

use crate::upgrade::state::KeptContext;

/// The context in whose namespace the node itself runs; always there, with number 1.
pub(crate) const LOCAL: &str = "local";
pub(crate) const LOCAL_ID: u32 = 1;

/// What the device of a context's tunnels is called, before the number of the context.
pub(crate) const TUN_PREFIX: &str = "starward";

/// Where the system keeps named namespaces (ip-netns(8)).
const SYSTEM: &str = "/run/netns";

/// A context.
pub(crate) struct Context {
    /// Its number, which is also the instance of its `vpnmgr`.
    pub id: u32,
    pub namespace: Namespace,
    /// Where its name stands, if we made it.
    made: Option<PathBuf>,
    /// Devices that we moved here from the namespace of the node, and that go back there.
    borrowed: BTreeSet<String>,
}

/// The contexts there are, by name.
pub(crate) struct Contexts {
    directory: PathBuf,
    /// The namespace of the node, where devices come from.
    home: Namespace,
    contexts: BTreeMap<String, Context>,
    /// What could not be done with devices; said once for as long as it persists.
    said: BTreeSet<String>,
}

impl Contexts {
    /// Only `local`; others will have their names in `directory`. What a node that did not stop in order left there is taken apart.
    pub fn new(directory: PathBuf) -> Result<Self, netio::Error> {
        let local = Context {
            id: LOCAL_ID,
            namespace: Namespace::current()?,
            made: None,
            borrowed: BTreeSet::new(),
        };
        let mut contexts = Self {
            home: Namespace::current()?,
            contexts: BTreeMap::from([(LOCAL.to_owned(), local)]),
            said: BTreeSet::new(),
            directory,
        };
        contexts.take_apart_leftovers();
        Ok(contexts)
    }

    /// Packs all of them.
    pub fn save(&self, luggage: &mut Luggage) -> Result<Vec<KeptContext>, netio::Error> {
        self.contexts
            .iter()
            .map(|(name, context)| {
                Ok(KeptContext {
                    name: name.clone(),
                    id: context.id,
                    namespace: luggage.pack(&context.namespace)?,
                    made: context
                        .made
                        .as_ref()
                        .map(|path| path.to_string_lossy().into_owned()),
                    borrowed: context.borrowed.iter().cloned().collect(),
                })
            })
            .collect()
    }

    /// Takes over those that another program packed.
    pub fn restore(
        directory: PathBuf,
        kept: &[KeptContext],
        baggage: &mut Baggage,
    ) -> Result<Self, netio::Error> {
        let mut contexts = BTreeMap::new();
        for one in kept {
            let context = Context {
                id: one.id,
                namespace: baggage.take(one.namespace)?.into(),
                made: one.made.clone().map(PathBuf::from),
                borrowed: one.borrowed.iter().cloned().collect(),
            };
            contexts.insert(one.name.clone(), context);
        }
        Ok(Self {
            home: Namespace::current()?,
            contexts,
            said: BTreeSet::new(),
            directory,
        })
    }

    pub fn get(&self, name: &str) -> Option<&Context> {
        self.contexts.get(name)
    }

    /// The names and numbers of all.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.contexts
            .iter()
            .map(|(name, context)| (name.as_str(), context.id))
    }

    /// Adds a context: in the namespace that the system has under this name, otherwise in a new one.
    pub fn add(&mut self, name: &str, id: u32) -> Result<(), netio::Error> {
        if self.contexts.contains_key(name) {
            return Ok(());
        }
        if name.starts_with('.') || name.contains('/') {
            // It would name a file elsewhere.
            return Err(netio::Error::Invalid {
                what: "a context name",
                expected: "usable as a file name",
            });
        }
        let given = Namespace::open(&Path::new(SYSTEM).join(name)).ok();
        let (namespace, made) = if let Some(given) = given.filter(|given| !given.is_same(&self.home)) {
            // An ordinary user's node may see it, but not enter it.
            given.run(|| ())?;
            (given, None)
        } else {
            let namespace = Namespace::create()?;
            let path = self.directory.join(name);
            // Without its name the namespace serves all the same; only `nsenter` and other tools cannot find it.
            let made = match namespace.persist(&path) {
                Ok(()) => Some(path),
                Err(error) => {
                    tracing::warn!("context {name} has no name in the file system: {error}");
                    None
                }
            };
            (namespace, made)
        };
        let context = Context {
            id,
            namespace,
            made,
            borrowed: BTreeSet::new(),
        };
        self.contexts.insert(name.to_owned(), context);
        Ok(())
    }

    /// Brings devices to where they belong: those in the namespace of the node into the context that `bound` has for them, and those that were borrowed
    /// and are bound there no longer back. What is not there yet may come: this is to be called now and then.
    pub fn place(&mut self, bound: &BTreeMap<String, String>) {
        let mut failures = BTreeSet::new();
        for (name, context) in &mut self.contexts {
            let errors = context.give_back(&self.home, |device| bound.get(device) != Some(name));
            failures.extend(errors.iter().map(|error| format!("context {name}: {error}")));
        }
        for (device, name) in bound.iter().filter(|(_, name)| *name != LOCAL) {
            let Some(context) = self.contexts.get_mut(name) else {
                continue;
            };
            if interface::index(device).is_err() {
                // Not in the namespace of the node: in the context already, or nowhere, which its vpnmgr says.
                continue;
            }
            match interface::move_to(device, &context.namespace) {
                Ok(()) => {
                    tracing::info!("device {device} moved into context {name}");
                    context.borrowed.insert(device.clone());
                }
                Err(error) => drop(failures.insert(format!("context {name}: {error}"))),
            }
        }
        for failure in failures.difference(&self.said) {
            tracing::error!("{failure}");
        }
        self.said = failures;
    }

    /// Forgets a context and the name we gave its namespace; borrowed devices go back.
    pub fn remove(&mut self, name: &str) {
        let Some(mut context) = self.contexts.remove(name) else {
            return;
        };
        for error in context.give_back(&self.home, |_| true) {
            tracing::error!("context {name}: {error}");
        }
        if let Some(path) = &context.made
            && let Err(error) = Namespace::remove(path)
        {
            tracing::warn!("context {name}: {error}");
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        let names: Vec<_> = self.contexts.keys().cloned().collect();
        for name in names {
            self.remove(&name);
        }
    }

    /// In a namespace that a node made, everything was brought there by it, as far as the namespace of the node has no such device itself.
    fn take_apart_leftovers(&mut self) {
        let own = interface::names().unwrap_or_default();
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let context = Namespace::open(&path).and_then(|namespace| {
                let mut devices = namespace.run(interface::names)??;
                devices.retain(|device| !own.contains(device) && !device.starts_with(TUN_PREFIX));
                Ok(Context {
                    id: 0,
                    namespace,
                    made: Some(path.clone()),
                    borrowed: devices.into_iter().collect(),
                })
            });
            match context {
                Ok(context) => {
                    self.contexts.insert(name.clone(), context);
                    self.remove(&name);
                }
                // The namespace is gone with its node; the file that was its name is left.
                Err(_) => drop(Namespace::remove(&path)),
            }
        }
    }
}

impl Context {
    /// Moves the borrowed devices that `leaves` chooses to `home`. Returns what could not be done; a device that is gone is none of that.
    fn give_back(&mut self, home: &Namespace, leaves: impl Fn(&str) -> bool) -> Vec<netio::Error> {
        let leaving: Vec<String> = self
            .borrowed
            .iter()
            .filter(|device| leaves(device))
            .cloned()
            .collect();
        if leaving.is_empty() {
            return Vec::new();
        }
        let move_all = || -> Vec<_> {
            leaving
                .iter()
                .map(|device| interface::move_to(device, home))
                .collect()
        };
        let results = match self.namespace.run(move_all) {
            Ok(results) => results,
            Err(error) => return vec![error],
        };
        let mut failures = Vec::new();
        for (device, result) in leaving.iter().zip(results) {
            match result {
                Err(error) if error.raw_os_error() != Some(Errno::ENODEV as i32) => failures.push(error),
                _ => drop(self.borrowed.remove(device)),
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a namespace that is the node's, with a device of name `swn-port`; skipped without root.
    fn at_home(test: impl FnOnce(&Path) + Send) {
        let Ok(home) = Namespace::create() else {
            return eprintln!("skipped: needs root");
        };
        let directory = std::env::temp_dir().join(format!(
            "sit-contexts-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&directory).unwrap();
        home.run(|| {
            let _port = netio::Tun::create("swn-port", 1, 1400).unwrap();
            test(&directory);
        })
        .unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }

    fn bound(context: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("swn-port".to_owned(), context.to_owned())])
    }

    fn is_home() -> bool {
        interface::index("swn-port").is_ok()
    }

    fn is_in(contexts: &Contexts, name: &str) -> bool {
        contexts.get(name).unwrap().namespace.run(is_home).unwrap()
    }

    #[test]
    fn a_device_follows_its_binding_and_comes_home() {
        at_home(|directory| {
            let mut contexts = Contexts::new(directory.to_owned()).unwrap();
            contexts.add("isp", 2).unwrap();
            contexts.add("apn", 3).unwrap();
            contexts.place(&bound("nowhere"));
            assert!(is_home());
            for _ in 0..2 {
                contexts.place(&bound("isp"));
                assert!(!is_home() && is_in(&contexts, "isp"));
            }
            contexts.place(&bound("apn"));
            assert!(!is_home() && is_in(&contexts, "apn"));
            contexts.place(&bound(LOCAL));
            assert!(is_home());
            contexts.place(&bound("apn"));
            contexts.remove("apn");
            assert!(is_home());
            contexts.place(&bound("isp"));
            contexts.clear();
            assert!(is_home());
            assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
        });
    }

    #[test]
    fn what_a_node_that_died_left_is_taken_apart() {
        at_home(|directory| {
            let mut dead = Contexts::new(directory.to_owned()).unwrap();
            dead.add("isp", 2).unwrap();
            dead.place(&bound("isp"));
            drop(dead);
            std::fs::write(directory.join("no-namespace"), "").unwrap();
            assert!(!is_home());
            let next = Contexts::new(directory.to_owned()).unwrap();
            assert!(is_home());
            assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
            assert_eq!(next.iter().collect::<Vec<_>>(), [(LOCAL, LOCAL_ID)]);
        });
    }

    #[test]
    fn what_cannot_move_is_said_once() {
        at_home(|directory| {
            let mut contexts = Contexts::new(directory.to_owned()).unwrap();
            contexts.add("isp", 2).unwrap();
            let loopback = BTreeMap::from([("lo".to_owned(), "isp".to_owned())]);
            contexts.place(&loopback);
            let said = contexts.said.clone();
            assert_eq!(said.len(), 1);
            assert!(
                said.iter()
                    .all(|line| line.starts_with("context isp: cannot move interface lo "))
            );
            contexts.place(&loopback);
            assert_eq!(contexts.said, said);
            contexts.place(&BTreeMap::new());
            assert!(contexts.said.is_empty());
            contexts.clear();
        });
    }
}
