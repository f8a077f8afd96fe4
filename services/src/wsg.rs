//! `wsg-service`: a security gateway for hosts (remote access) and for sites.
//!
//! Remote-access peers ask for an address and may use only what they were given; sites say what is behind them, and that is routed to them.

mod identity;
mod profile;
mod secrets;

use std::net::IpAddr;
use std::sync::Arc;

use config::{
    Config, Context, CryptoTemplate, DeploymentMode, DontFragment, EapProfile, OverloadGateway,
    RemoteAuthentication, WsgService,
};
use ipnet::IpNet;

use crate::Problem;

pub use secrets::{Secret, Secrets};

/// Outer packets are at most this long, in octets: what every link of today carries.
const OUTER_MTU: u16 = 1_500;

/// What a bound `wsg-service` wants, with everything it refers to looked up.
#[derive(Debug, Clone)]
pub struct Wsg {
    /// Context of the service: its encrypted side.
    pub context: String,
    /// Name of the service.
    pub service: String,
    /// Name of its crypto template.
    pub template: String,
    /// Where it listens.
    pub address: IpAddr,
    /// What its peers may do.
    pub profile: Arc<ikev2::Profile>,
    /// Which secret speaks for whom.
    pub secrets: Secrets,
    /// Peers may come from these networks only; empty: from anywhere.
    pub peer_networks: Vec<IpNet>,
    /// What refuses new peers in congestion.
    pub congestion_notify: ikev2::NotifyKind,
    /// Where new peers are sent in congestion.
    pub overload_gateways: Vec<OverloadGateway>,
    /// Certificate whose key signs for us, if we prove ourselves by one.
    pub certificate: Option<String>,
    /// Authorities that peers' chains may end at.
    pub authorities: Vec<String>,
    /// EAP profile, if peers may use EAP.
    pub eap_profile: Option<String>,
    /// How the data plane treats its packets.
    pub data_path: DataPath,
    /// Sites: what is behind them is routed to them. Hosts: their addresses come from pools, which are routed as a whole.
    pub routes_selectors: bool,
    /// It names no pool of addresses, or at least one that exists.
    pub has_pool: bool,
    /// Shortcomings that do not keep it from running.
    pub warnings: Vec<Problem>,
}

/// How packets of a service are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPath {
    /// Context of the clear side.
    pub context: u32,
    /// Anti-replay window in packets, 0 = off.
    pub replay_window: u16,
    /// DF bit of the outer header.
    pub df: sadb::DfPolicy,
    /// DSCP of the outer header.
    pub dscp: sadb::DscpPolicy,
    /// Longest inner packet in an IPv4 tunnel before it is fragmented.
    pub fragment_mtu_ipv4: u16,
    /// The same in an IPv6 tunnel.
    pub fragment_mtu_ipv6: u16,
    /// Longest inner packet in an IPv4 tunnel.
    pub inner_mtu_ipv4: u16,
    /// The same in an IPv6 tunnel.
    pub inner_mtu_ipv6: u16,
    /// Longest outer packet.
    pub outer_mtu: u16,
}

/// What `certmgr` knows about the certificates that a service refers to.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// Our chain, DER, our own certificate first, anchor left out. `None` until it is known.
    pub chain: Option<Arc<[Vec<u8>]>>,
    /// Subject of our certificate as a DER name.
    pub subject: Vec<u8>,
    /// SHA-1 hashes of the anchors' public keys.
    pub trust_hashes: Vec<[u8; 20]>,
}

/// Names of certificates that a service needs from `certmgr` before [`Wsg::new`] can be called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CertificateNames {
    /// Ours, if we prove ourselves by one.
    pub own: Option<String>,
    /// Authorities for peers', if they may prove themselves by one.
    pub authorities: Vec<String>,
}

impl Wsg {
    /// What the service `service` of `context` wants; `None` when there is no such service, or when it is not bound. `tag` is handed back in the
    /// profile's [`tag`](ikev2::Profile::tag).
    ///
    /// # Errors
    /// The service cannot run: something that it refers to does not exist or does not suffice.
    pub fn new(
        config: &Config,
        context_name: &str,
        service_name: &str,
        certificates: &Certificates,
        tag: u64,
    ) -> Result<Option<Self>, Problem> {
        let Some((context, service)) = find(config, context_name, service_name) else {
            return Ok(None);
        };
        let Some(binding) = &service.bind else {
            return Ok(None);
        };
        let problem = |text: String| {
            Problem(format!(
                "wsg-service {service_name} (context {context_name}): {text}"
            ))
        };
        let template = context
            .crypto_templates
            .get(&binding.template)
            .ok_or_else(|| problem(format!("crypto template {} does not exist", binding.template)))?;
        let mut warnings = Vec::new();
        let built = profile::build(
            context,
            service,
            &binding.template,
            template,
            certificates,
            tag,
            &mut warnings,
        );
        let profile = ikev2::Profile {
            service: format!("{context_name}/{service_name}"),
            ..built.map_err(problem)?
        };
        let methods = context.authentication_of(template);
        let eap_profile = methods.iter().find_map(|method| match &method.remote {
            Some(RemoteAuthentication::EapProfile(name)) => Some(name.clone()),
            _ => None,
        });
        if let Some(name) = &eap_profile
            && context
                .eap_profiles
                .get(name)
                .is_none_or(|profile| *profile == EapProfile::default())
        {
            return Err(problem(format!(
                "eap-profile {name} does not exist or has no mode; configure 'mode authenticator-pass-through'"
            )));
        }
        if let Some(obstacle) = context.eap_obstacle(template) {
            return Err(problem(obstacle.to_owned()));
        }
        let names = certificate_names(context, template);
        Ok(Some(Self {
            context: context_name.to_owned(),
            service: service_name.to_owned(),
            template: binding.template.clone(),
            address: binding.address,
            profile: Arc::new(profile),
            secrets: Secrets::new(config, template, &methods),
            peer_networks: template.peer_networks.iter().map(|peer| peer.network).collect(),
            overload_gateways: service.overload_gateways.clone(),
            congestion_notify: template
                .ikesa
                .congestion_notify
                .map_or(ikev2::NotifyKind::TEMPORARY_FAILURE, ikev2::NotifyKind),
            certificate: names.own,
            authorities: names.authorities,
            eap_profile,
            data_path: data_path(config, context, service, template).map_err(problem)?,
            routes_selectors: service.deployment_mode == DeploymentMode::SiteToSite,
            has_pool: has_pool(config, context, service),
            warnings: warnings.into_iter().map(problem).collect(),
        }))
    }

    /// Whether a peer may come from this outer address.
    pub fn admits_from(&self, peer: IpAddr) -> bool {
        self.peer_networks.is_empty() || self.peer_networks.iter().any(|network| network.contains(&peer))
    }
}

/// The certificates that [`Wsg::new`] will ask for.
pub fn certificates_of(config: &Config, context: &str, service: &str) -> CertificateNames {
    let template = find(config, context, service).and_then(|(context, service)| {
        let template = context.crypto_templates.get(&service.bind.as_ref()?.template)?;
        Some(certificate_names(context, template))
    });
    template.unwrap_or_default()
}

fn find<'a>(config: &'a Config, context: &str, service: &str) -> Option<(&'a Context, &'a WsgService)> {
    let context = config.contexts.get(context)?;
    Some((context, context.wsg_services.get(service)?))
}

fn certificate_names(context: &Context, template: &CryptoTemplate) -> CertificateNames {
    let methods = context.authentication_of(template);
    let own = methods
        .iter()
        .any(|method| method.local == Some(config::LocalAuthentication::Certificate));
    let remote = methods
        .iter()
        .any(|method| method.remote == Some(RemoteAuthentication::Certificate));
    CertificateNames {
        own: template.certificate.clone().filter(|_| own),
        authorities: if remote {
            template.ca_certificates.clone()
        } else {
            Vec::new()
        },
    }
}

/// Whether one of the pools that the service names exists; those of sites are not looked at.
fn has_pool(config: &Config, context: &Context, service: &WsgService) -> bool {
    let subscriber = &context.subscriber;
    let clear = subscriber.context_name.as_ref();
    let clear = clear
        .and_then(|name| config.contexts.get(name))
        .unwrap_or(context);
    let ipv4_names = match service.ip_pools.is_empty() {
        true => &subscriber.ip_pools,
        false => &service.ip_pools,
    };
    let ipv4 = |name: &String| {
        let mut pools = clear.ipv4_pools.iter();
        pools.any(|(pool, settings)| pool == name || settings.group.as_ref() == Some(name))
    };
    let ipv6 = |name: &String| {
        let mut pools = clear.ipv6_pools.iter();
        pools.any(|(pool, settings)| pool == name || settings.group.as_ref() == Some(name))
    };
    let none_named = ipv4_names.is_empty() && service.ipv6_pools.is_empty();
    service.deployment_mode == DeploymentMode::SiteToSite
        || none_named
        || ipv4_names.iter().any(ipv4)
        || service.ipv6_pools.iter().any(ipv6)
}

fn data_path(
    config: &Config,
    context: &Context,
    service: &WsgService,
    template: &CryptoTemplate,
) -> Result<DataPath, String> {
    // The reference's WSG examples have both sides in the service's context unless the subscriber is sent elsewhere.
    let clear = match &context.subscriber.context_name {
        Some(name) => config
            .contexts
            .get(name)
            .ok_or_else(|| format!("subscriber default: context {name} does not exist"))?,
        None => context,
    };
    let window = context
        .replay_window
        .unwrap_or(0)
        .min(sadb::MAX_REPLAY_WINDOW.into());
    Ok(DataPath {
        context: clear.id,
        replay_window: u16::try_from(window).unwrap_or(sadb::MAX_REPLAY_WINDOW),
        df: match template.dont_fragment {
            DontFragment::Clear => sadb::DfPolicy::Clear,
            DontFragment::Copy => sadb::DfPolicy::Copy,
            DontFragment::Set => sadb::DfPolicy::Set,
        },
        dscp: sadb::DscpPolicy::Copy,
        fragment_mtu_ipv4: service.pre_fragment_mtu.min(template.ipv4_mtu),
        fragment_mtu_ipv6: service.pre_fragment_mtu.min(template.ipv6_mtu),
        inner_mtu_ipv4: template.ipv4_mtu,
        inner_mtu_ipv6: template.ipv6_mtu,
        outer_mtu: OUTER_MTU,
    })
}

#[cfg(test)]
mod tests;
