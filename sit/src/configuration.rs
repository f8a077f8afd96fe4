//! What `sit` learns from the configuration: the contexts there are, and the devices in them.

use std::collections::BTreeMap;

use crate::contexts::{LOCAL, LOCAL_ID};

/// The contexts of a configuration in canonical form, with their numbers: `context NAME`, numbered on from the highest before, or
/// `context NAME context-id N`.
pub(crate) fn contexts_of(text: &str) -> BTreeMap<String, u32> {
    let mut contexts = BTreeMap::from([(LOCAL.to_owned(), LOCAL_ID)]);
    for line in text.lines().filter_map(|line| line.strip_prefix("  context ")) {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let given = match (words.next(), words.next()) {
            (Some("context-id"), Some(number)) => number.parse().ok(),
            _ => None,
        };
        let next = contexts
            .values()
            .max()
            .map_or(LOCAL_ID, |last| last.saturating_add(1));
        contexts.entry(name.to_owned()).or_insert(given.unwrap_or(next));
    }
    contexts
}

/// The devices that ports are bound with, and the context of each, of a configuration in canonical form. Of two contexts that want the same device the
/// first gets it.
pub(crate) fn bound_devices(text: &str) -> BTreeMap<String, String> {
    let mut bound = BTreeMap::new();
    let mut device = None;
    for line in text.lines() {
        if !line.starts_with("    ") {
            device = None;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), device) {
            (["device", name], _) => device = Some(name.trim_matches('"')),
            (["bind", "interface", _, context], Some(name)) => {
                bound
                    .entry(name.to_owned())
                    .or_insert_with(|| (*context).to_owned());
            }
            _ => {}
        }
    }
    bound
}

/// The devices among them that are to use AF_XDP: of ports with `af-xdp` that are not shut down.
pub(crate) fn xdp_devices(text: &str) -> BTreeMap<String, String> {
    let mut devices = BTreeMap::new();
    let bound = bound_devices(text);
    let (mut device, mut wanted, mut runs) = (None, false, false);
    for line in text.lines() {
        if !line.starts_with("    ") {
            (device, wanted, runs) = (None, false, false);
        }
        match line.split_whitespace().collect::<Vec<&str>>().as_slice() {
            ["device", name] => device = Some(name.trim_matches('"')),
            ["af-xdp"] => wanted = true,
            ["no", "shutdown"] => runs = true,
            ["bind", "interface", _, context] if wanted && runs => {
                let is_there = |name: &&str| bound.get(*name).is_some_and(|there| there == context);
                if let Some(name) = device.filter(is_there) {
                    devices.insert(name.to_owned(), (*context).to_owned());
                }
            }
            _ => {}
        }
    }
    devices
}

/// Whether a configuration in canonical form wants sessions to outlive the death of a process.
pub(crate) fn wants_recovery(text: &str) -> bool {
    !text.lines().any(|line| line == "  no require session recovery")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_numbered_in_their_order_unless_they_say_so() {
        let text = "config\n  system hostname sgw\n  context local\n    interface a\n  #exit\n  context isp\n  #exit\n  \
                    context apn context-id 7\n    context x\n  #exit\n  context last\n  #exit\nend\n";
        let contexts = contexts_of(text);
        let numbers: Vec<_> = contexts
            .iter()
            .map(|(name, number)| (name.as_str(), *number))
            .collect();
        assert_eq!(numbers, [("apn", 7), ("isp", 2), ("last", 8), ("local", 1)]);
        assert_eq!(contexts_of("").len(), 1);
    }

    #[test]
    fn recovery_is_wanted_unless_it_is_said() {
        let mut config = config::Config::default();
        assert!(wants_recovery(&config.to_text()));
        config.session_recovery = false;
        assert!(!wants_recovery(&config.to_text()));
    }

    #[test]
    fn devices_belong_where_their_ports_are_bound() {
        let entered = "config\ncontext isp\ninterface ran\n#exit\n#exit\n\
                       port ethernet 1/10\nbind interface ran isp\ndevice ran0\nno shutdown\n#exit\n\
                       port ethernet 1/11\ndevice core0\n#exit\n\
                       port ethernet 1/12\ntun\nbind interface tunnels isp\n#exit\n\
                       port ethernet 1/13\nbind interface nothing isp\n#exit\n\
                       port ethernet 1/14\ndevice ran0\nbind interface other local\n#exit\nend\n";
        let config = config::Config::parse(entered).unwrap();
        let bound: Vec<_> = bound_devices(&config.to_text()).into_iter().collect();
        assert_eq!(bound, [("ran0".to_owned(), "isp".to_owned())]);
    }

    #[test]
    fn af_xdp_is_for_devices_whose_ports_run_where_they_are() {
        let port = |number: u32, device: &str, context: &str, more: &str| {
            format!("port ethernet 1/{number}\nbind interface i {context}\ndevice {device}\n{more}\n#exit\n")
        };
        let entered = format!(
            "config\ncontext isp\ninterface i\n#exit\n#exit\n{}{}{}{}{}end\n",
            port(10, "ran0", "isp", "no shutdown\naf-xdp"),
            port(11, "ran1", "isp", "no shutdown"),
            port(12, "ran2", "isp", "af-xdp"),
            port(13, "ran1", "local", "no shutdown\naf-xdp"),
            port(14, "ran3", "local", "af-xdp\nno shutdown"),
        );
        let config = config::Config::parse(&entered).unwrap();
        let devices: Vec<_> = xdp_devices(&config.to_text()).into_iter().collect();
        let expected = [("ran0", "isp"), ("ran3", "local")];
        assert_eq!(
            devices,
            expected.map(|(device, context)| (device.to_owned(), context.to_owned()))
        );
    }
}
