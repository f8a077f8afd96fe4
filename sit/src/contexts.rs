//! Contexts and their network namespaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use netio::Namespace;

/// The context in whose namespace the node itself runs; always there, with number 1.
pub(crate) const LOCAL: &str = "local";
pub(crate) const LOCAL_ID: u32 = 1;

/// Where the system keeps named namespaces (ip-netns(8)).
const SYSTEM: &str = "/run/netns";

/// A context.
pub(crate) struct Context {
    /// Its number, which is also the instance of its `vpnmgr`.
    pub id: u32,
    pub namespace: Namespace,
    /// Where its name stands, if we made it.
    made: Option<PathBuf>,
}

/// The contexts there are, by name.
pub(crate) struct Contexts {
    directory: PathBuf,
    contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Only `local`; others will have their names in `directory`.
    pub fn new(directory: PathBuf) -> Result<Self, netio::Error> {
        let local = Context {
            id: LOCAL_ID,
            namespace: Namespace::current()?,
            made: None,
        };
        Ok(Self {
            directory,
            contexts: BTreeMap::from([(LOCAL.to_owned(), local)]),
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

    /// Adds a context: in the namespace that the system or an earlier node has under this name, otherwise in a new one.
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
        let given = Path::new(SYSTEM).join(name);
        let ours = self.directory.join(name);
        let context = if let Ok(namespace) = Namespace::open(&given) {
            Context {
                id,
                namespace,
                made: None,
            }
        } else if let Ok(namespace) = Namespace::open(&ours) {
            Context {
                id,
                namespace,
                made: Some(ours),
            }
        } else {
            let namespace = Namespace::create()?;
            // Without its name the namespace serves all the same; only `ip netns` and other tools cannot find it.
            let made = match namespace.persist(&ours) {
                Ok(()) => Some(ours),
                Err(error) => {
                    tracing::warn!("context {name} has no name in the file system: {error}");
                    None
                }
            };
            Context { id, namespace, made }
        };
        self.contexts.insert(name.to_owned(), context);
        Ok(())
    }

    /// Forgets a context, and the name we gave its namespace.
    pub fn remove(&mut self, name: &str) {
        if let Some(Context { made: Some(path), .. }) = self.contexts.remove(name)
            && let Err(error) = Namespace::remove(&path)
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
}
