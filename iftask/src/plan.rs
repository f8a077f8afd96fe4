//! What the configuration wants of the data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use config::{Config, Interface, Port};

use crate::plane::Keepalive;

/// Addresses to receive ESP on, contexts with a clear side, and what goes with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Names of contexts, by context and address of a bound service.
    pub(crate) addresses: BTreeMap<(u32, IpAddr), String>,
    /// Names of contexts that have a TUN.
    pub(crate) tuns: BTreeMap<u32, String>,
    /// Devices with AF_XDP, with the number of their context; the names of these contexts.
    pub(crate) xdp: BTreeMap<(u32, String), String>,
    /// Addresses of the interfaces in contexts of such devices.
    pub(crate) own: BTreeSet<(u32, IpAddr)>,
    /// By local address.
    pub(crate) keepalives: Vec<(IpAddr, Keepalive)>,
}

impl Plan {
    /// Everything that bound services need: their addresses in their contexts, and a TUN in the contexts where their clear sides are.
    pub(crate) fn new(config: &Config) -> Self {
        let mut plan = Self::default();
        for (name, context, _, service) in config.wsg_services() {
            let Some(binding) = &service.bind else { continue };
            plan.addresses
                .insert((context.id, binding.address), name.to_owned());
            let clear = context.subscriber.context_name.as_deref().unwrap_or(name);
            if let Some(context) = config.contexts.get(clear) {
                plan.tuns.insert(context.id, clear.to_owned());
            }
            let template = context.crypto_templates.get(&binding.template);
            let natt = template.and_then(|template| template.natt);
            if let Some(keepalive) = natt.and_then(|natt| natt.send_keepalive) {
                let keepalive = Keepalive {
                    idle: Duration::from_secs(keepalive.idle_interval.into()),
                    interval: Duration::from_secs(keepalive.interval.into()),
                };
                plan.keepalives.push((binding.address, keepalive));
            }
        }
        for (device, name) in config.ports.values().filter_map(Port::xdp_device) {
            if let Some(context) = config.contexts.get(name) {
                plan.xdp.insert((context.id, device.to_owned()), name.to_owned());
                let addresses = context.interfaces.values().flat_map(Interface::addresses);
                plan.own
                    .extend(addresses.map(|network| (context.id, network.addr())));
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_services_get_sockets_and_clear_sides() {
        let text = "config
  context ingress
    subscriber default
      ip context-name core
    exit
    crypto template enb ikev2-dynamic
      natt include-header send-keepalive idle-interval 60 interval 30
    exit
    wsg-service one
      bind address 192.0.2.1 crypto-template enb
    exit
    wsg-service unbound
    exit
  exit
  context core
  exit
  context own
    crypto template host ikev2-dynamic
    exit
    wsg-service two
      bind address 2001:db8::1 crypto-template host
    exit
  exit
  port ethernet 1/10
    device ran0
    af-xdp
    no shutdown
    bind interface ran ingress
  exit
  port ethernet 1/11
    device ran1
    af-xdp
    bind interface ran own
  exit
  port ethernet 1/12
    device ran2
    no shutdown
    bind interface ran own
  exit
end
";
        let config = Config::parse(text).unwrap();
        let plan = Plan::new(&config);
        let id = |name: &str| config.contexts[name].id;
        let addresses: Vec<_> = plan
            .addresses
            .iter()
            .map(|(key, name)| (*key, name.as_str()))
            .collect();
        assert_eq!(
            addresses,
            [
                ((id("ingress"), "192.0.2.1".parse().unwrap()), "ingress"),
                ((id("own"), "2001:db8::1".parse().unwrap()), "own")
            ]
        );
        let devices: Vec<_> = plan.xdp.clone().into_iter().collect();
        let expected = ((id("ingress"), "ran0".to_owned()), "ingress".to_owned());
        assert_eq!(devices, [expected]);
        assert_eq!(plan.tuns.values().collect::<Vec<_>>(), ["core", "own"]);
        let [(address, keepalive)] = plan.keepalives[..] else {
            panic!("{plan:?}")
        };
        assert_eq!(address.to_string(), "192.0.2.1");
        assert_eq!((keepalive.idle.as_secs(), keepalive.interval.as_secs()), (60, 30));
    }

    #[test]
    fn nothing_configured_nothing_wanted() {
        assert_eq!(Plan::new(&Config::default()), Plan::default());
    }
}
