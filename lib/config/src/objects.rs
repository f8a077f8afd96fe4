//! What commands of exec mode name.

use crate::{Config, Context, Exec, FACILITIES};

/// A kind of object with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// `context`.
    Context,
    /// `interface`.
    Interface,
    /// `ip pool`.
    Ipv4Pool,
    /// `ipv6 pool`.
    Ipv6Pool,
    /// `ip access-list`.
    Ipv4AccessList,
    /// `ipv6 access-list`.
    Ipv6AccessList,
    /// `ikev2-ikesa transform-set`.
    IkeTransformSet,
    /// `ipsec transform-set`.
    IpsecTransformSet,
    /// `crypto template` of this context.
    Template,
    /// `crypto template` of any context.
    AnyTemplate,
    /// `wsg-service` of any context.
    WsgService,
    /// `certificate name`.
    Certificate,
    /// `ca-certificate name`.
    CaCertificate,
    /// A kind of process, whatever is configured.
    Facility,
}

impl Object {
    /// The command that makes such objects.
    pub fn command(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Interface => "interface",
            Self::Ipv4Pool => "ip pool",
            Self::Ipv6Pool => "ipv6 pool",
            Self::Ipv4AccessList => "ip access-list",
            Self::Ipv6AccessList => "ipv6 access-list",
            Self::IkeTransformSet => "ikev2-ikesa transform-set",
            Self::IpsecTransformSet => "ipsec transform-set",
            Self::Template | Self::AnyTemplate => "crypto template",
            Self::WsgService => "wsg-service",
            Self::Certificate => "certificate",
            Self::CaCertificate => "ca-certificate",
            Self::Facility => "facility",
        }
    }

    /// Contexts have their own ones.
    pub fn belongs_to_context(self) -> bool {
        match self {
            Self::Context
            | Self::AnyTemplate
            | Self::WsgService
            | Self::Certificate
            | Self::CaCertificate
            | Self::Facility => false,
            Self::Interface
            | Self::Ipv4Pool
            | Self::Ipv6Pool
            | Self::Ipv4AccessList
            | Self::Ipv6AccessList
            | Self::IkeTransformSet
            | Self::IpsecTransformSet
            | Self::Template => true,
        }
    }

    /// The names of those there are, sorted; of a kind that belongs to contexts, in this one.
    pub fn names(self, config: &Config, context: &str) -> Vec<String> {
        let here = config.contexts.get(context);
        let names = |list: fn(&Context) -> Vec<String>| here.map(list).unwrap_or_default();
        let mut names: Vec<String> = match self {
            Self::Context => config.contexts.keys().cloned().collect(),
            Self::Interface => names(|context| context.interfaces.keys().cloned().collect()),
            Self::Ipv4Pool => names(|context| context.ipv4_pools.keys().cloned().collect()),
            Self::Ipv6Pool => names(|context| context.ipv6_pools.keys().cloned().collect()),
            Self::Ipv4AccessList => names(|context| context.ipv4_access_lists.keys().cloned().collect()),
            Self::Ipv6AccessList => names(|context| context.ipv6_access_lists.keys().cloned().collect()),
            Self::IkeTransformSet => names(|context| context.ike_transform_sets.keys().cloned().collect()),
            Self::IpsecTransformSet => {
                names(|context| context.ipsec_transform_sets.keys().cloned().collect())
            }
            Self::Template => names(|context| context.crypto_templates.keys().cloned().collect()),
            Self::AnyTemplate => config
                .contexts
                .values()
                .flat_map(|context| context.crypto_templates.keys().cloned())
                .collect(),
            Self::WsgService => config
                .wsg_services()
                .map(|(_, _, name, _)| name.to_owned())
                .collect(),
            Self::Certificate => config.certificates.keys().cloned().collect(),
            Self::CaCertificate => config.ca_certificates.keys().cloned().collect(),
            Self::Facility => FACILITIES.iter().map(|name| (*name).to_owned()).collect(),
        };
        names.sort();
        names.dedup();
        names
    }
}

impl Exec {
    /// What a parameter of this command names, if it names an object of the configuration.
    pub fn object(self, parameter: &str) -> Option<Object> {
        Some(match (self, parameter) {
            (Self::ShowContext | Self::EnterContext, "name") | (Self::ShowConfiguration, "context") => {
                Object::Context
            }
            (Self::ShowIpInterface | Self::ShowIpv6Interface, "name") => Object::Interface,
            (Self::ShowIpPool, "name") => Object::Ipv4Pool,
            (Self::ShowIpv6Pool, "name") => Object::Ipv6Pool,
            (Self::ShowIpAccessList, "list") => Object::Ipv4AccessList,
            (Self::ShowIpv6AccessList, "list") => Object::Ipv6AccessList,
            (Self::ShowIkeTransformSet, "set") => Object::IkeTransformSet,
            (Self::ShowCryptoIpsecTransformSet | Self::ShowIpsecTransformSet, "set") => {
                Object::IpsecTransformSet
            }
            (Self::ShowCryptoTemplate, "tag") => Object::Template,
            (Self::ClearCryptoIkev2, "tag") => Object::AnyTemplate,
            (Self::ShowWsgService | Self::ShowWsgServiceStatistics, "name")
            | (Self::ShowSubscribers | Self::ClearSubscribers, "service") => Object::WsgService,
            (Self::ShowCertificate, "name") => Object::Certificate,
            (Self::ShowCaCertificate, "name") => Object::CaCertificate,
            (_, "facility") => Object::Facility,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command with a new parameter that names something must be listed above.
    #[test]
    fn every_parameter_that_is_a_name_is_known() {
        // Names of other things: schema types.
        let others = ["schema"];
        for exec in Exec::ALL {
            for piece in exec.syntax().split('<').skip(1) {
                let (name, kind) = piece.split_once(':').unwrap();
                if kind.starts_with("name(") && !others.contains(&name) {
                    assert!(exec.object(name).is_some(), "{}: {name}", exec.id());
                }
            }
        }
    }

    #[test]
    fn names_are_those_of_the_context() {
        let config =
            Config::parse("context a\ncrypto template t\nexit\nexit\ncontext b\ncrypto template u\n")
                .unwrap();
        assert_eq!(Object::Template.names(&config, "a"), ["t"]);
        assert_eq!(Object::AnyTemplate.names(&config, "a"), ["t", "u"]);
        assert_eq!(Object::Context.names(&config, "a"), ["a", "b", "local"]);
        assert!(Object::Interface.names(&config, "nope").is_empty());
        assert!(Object::Facility.names(&config, "a").contains(&"sct".to_owned()));
    }
}
