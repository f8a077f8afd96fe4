//! What `sit` learns from the configuration: the contexts there are.

use std::collections::BTreeMap;

use crate::contexts::{LOCAL, LOCAL_ID};

/// The contexts of a configuration in canonical form, with their numbers.
pub(crate) fn contexts_of(text: &str) -> BTreeMap<String, u32> {
    let names = text.lines().filter_map(|line| line.strip_prefix("  context "));
    let others = names.map(str::trim).filter(|name| *name != LOCAL);
    let mut contexts = BTreeMap::from([(LOCAL.to_owned(), LOCAL_ID)]);
    for name in others {
        let next = contexts.len() as u32 + LOCAL_ID;
        contexts.entry(name.to_owned()).or_insert(next);
    }
    contexts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_numbered_in_their_order() {
        let text = "config\n  system hostname sgw\n  context local\n    interface a\n  #exit\n  context isp\n  #exit\n  context apn\n  #exit\nend\n";
        let contexts = contexts_of(text);
        assert_eq!(contexts.get("isp"), Some(&2));
        assert_eq!(contexts.get("apn"), Some(&3));
        assert_eq!(contexts_of("").len(), 1);
    }
}
