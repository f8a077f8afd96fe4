//! The sections in which findings are shown.

use super::Finding;

/// A section of `show configuration errors`: its title, and how the commands begin that lead to what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What it is about.
    pub title: &'static str,
    commands: &'static [&'static str],
}

const fn section(title: &'static str, commands: &'static [&'static str]) -> Section {
    Section { title, commands }
}

impl Section {
    /// Every section, in the order of the output. The last one is for what belongs to no other.
    pub const ALL: &'static [Self] = &[
        section("wsg-service", &["wsg-service"]),
        section(
            "crypto template",
            &["crypto template", "crypto remote-secret-list"],
        ),
        section(
            "transform-set",
            &["ipsec transform-set", "ikev2-ikesa transform-set"],
        ),
        section("AAA", &["aaa group", "subscriber", "eap-profile"]),
        section("address pool", &["ip pool", "ipv6 pool"]),
        section(
            "interface",
            &["interface", "ip route", "ipv6 route", "port ethernet"],
        ),
        section("certificate", &["certificate", "ca-certificate", "private-key"]),
        section("SNMP", &["snmp"]),
        section("bulkstats", &["bulkstats"]),
        section("global", &[]),
    ];
}

impl Finding {
    /// The section it is shown in.
    pub fn section(&self) -> Section {
        let others = section("global", &[]);
        let begins = |section: &Section| {
            let matches = |line: &String| section.commands.iter().any(|command| line.starts_with(command));
            self.subject.iter().any(matches)
        };
        Section::ALL.iter().copied().find(begins).unwrap_or(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_a_section() {
        let title = |subject: &[&str]| {
            let subject = subject.iter().map(|line| (*line).to_owned()).collect();
            Finding::new(true, subject, "").section().title
        };
        assert_eq!(
            title(&["context c", "crypto template t ikev2-dynamic", "payload p"]),
            "crypto template"
        );
        assert_eq!(title(&["port ethernet 1/1"]), "interface");
        assert_eq!(title(&["context local", "operator anna"]), "global");
        assert!(Section::ALL.contains(&Finding::new(true, Vec::new(), "").section()));
    }
}
