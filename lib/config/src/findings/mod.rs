//! What does not fit together in a configuration: references that lead nowhere, settings that exclude each other.

mod effect;
mod section;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

pub use section::Section;

use crate::{
    Config, Context, CryptoTemplate, DEFAULT_AAA_GROUP, DeploymentMode, Encryption, Group, Hmac,
    LocalAuthentication, Payload, PeerAuthentication, PortDevice, RemoteAuthentication, WsgService,
};

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Something cannot work; otherwise it works, but is hardly meant.
    pub is_error: bool,
    /// The commands that lead to the object, outermost first.
    pub subject: Vec<String>,
    /// What does not fit, as a sentence that names the object.
    pub message: String,
}

impl Finding {
    /// `error` or `warning`.
    pub fn severity(&self) -> &'static str {
        if self.is_error { "error" } else { "warning" }
    }

    /// Is it about the object that these lines lead to, or about something in it? Lines may have more words than the subject.
    pub fn is_below(&self, path: &[String]) -> bool {
        let leads_to = |(line, command): (&String, &String)| {
            let mut words = line.split_whitespace();
            command
                .split_whitespace()
                .all(|wanted| words.next() == Some(wanted))
        };
        path.len() <= self.subject.len() && path.iter().zip(&self.subject).all(leads_to)
    }

    /// A finding about the object that these commands lead to, which the message need not name.
    pub fn new(is_error: bool, subject: Vec<String>, message: &str) -> Self {
        Self {
            is_error,
            message: format!("{}: {message}", subject.join(", ")),
            subject,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Config {
    /// Everything that does not fit together, in the order of `show configuration`.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Findings::default();
        self.certificates_have_keys(&mut findings);
        for (name, context) in self.contexts_by_id() {
            let mut scope = findings.scope(format!("context {name}"));
            self.context(context, &mut scope);
        }
        self.ports_fit(&mut findings);
        effect::missing(self, &mut findings);
        if self.bulkstats.collection && self.bulkstats.files.values().all(|file| file.schemas.is_empty()) {
            findings.add(false, "bulkstats collection", "there is no schema to collect");
        }
        findings.list
    }

    fn certificates_have_keys(&self, findings: &mut Findings) {
        for (name, certificate) in &self.certificates {
            if certificate.private_key.is_none() && self.private_key.is_none() {
                findings.add(true, &format!("certificate name {name}"), "it has no private key");
            }
        }
    }

    fn ports_fit(&self, findings: &mut Findings) {
        let mut devices: BTreeMap<&str, String> = BTreeMap::new();
        let mut interfaces: BTreeMap<(&str, &str), String> = BTreeMap::new();
        for (id, port) in &self.ports {
            let subject = format!("port ethernet {id}");
            if let PortDevice::Device(device) = &port.device
                && let Some(other) = devices.insert(device, subject.clone())
            {
                findings.add(true, &subject, &format!("device {device} is {other} already"));
            }
            if port.af_xdp && port.device == PortDevice::Tun {
                findings.add(
                    true,
                    &subject,
                    "af-xdp needs a device: a TUN device has none of it",
                );
            }
            if !port.shutdown && port.device == PortDevice::None {
                findings.add(true, &subject, "it has no device: say \"device NAME\" or \"tun\"");
            }
            let Some(bind) = &port.bind else { continue };
            match self.contexts.get(&bind.context) {
                None => findings.add(
                    true,
                    &subject,
                    &format!("context {} does not exist", bind.context),
                ),
                Some(context) => match context.interfaces.get(&bind.interface) {
                    None => {
                        let message = format!(
                            "interface {} does not exist in context {}",
                            bind.interface, bind.context
                        );
                        findings.add(true, &subject, &message);
                    }
                    Some(interface) if interface.loopback => {
                        findings.add(
                            true,
                            &subject,
                            &format!("interface {} is a loopback", bind.interface),
                        );
                    }
                    Some(_) => {}
                },
            }
            if let Some(other) = interfaces.insert((&bind.context, &bind.interface), subject.clone()) {
                findings.add(
                    true,
                    &subject,
                    &format!("interface {} is bound to {other} already", bind.interface),
                );
            }
        }
    }

    fn context(&self, context: &Context, findings: &mut Scope<'_>) {
        addresses_are_unique(context, findings);
        for route in &context.routes {
            if !route.interface.is_empty() && !context.interfaces.contains_key(&route.interface) {
                let family = if route.destination.addr().is_ipv6() {
                    "ipv6"
                } else {
                    "ip"
                };
                let message = format!(
                    "interface {} of the route to {} does not exist",
                    route.interface, route.destination
                );
                findings.add(true, &format!("{family} route"), &message);
            }
        }
        let subscriber = &context.subscriber;
        if let Some(name) = &subscriber.context_name
            && !self.contexts.contains_key(name)
        {
            findings.add(
                true,
                "subscriber default",
                &format!("context {name} does not exist"),
            );
        }
        if let Some(group) = &subscriber.aaa_group
            && !context.aaa_groups.contains_key(group)
        {
            findings.add(
                true,
                "subscriber default",
                &format!("aaa group {group} does not exist"),
            );
        }
        transform_sets(context, findings);
        for (name, template) in &context.crypto_templates {
            let mut scope = findings.scope(format!("crypto template {name}"));
            self.template(context, template, &mut scope);
        }
        for (name, service) in &context.wsg_services {
            let mut scope = findings.scope(format!("wsg-service {name}"));
            if let Some(bind) = &service.bind
                && let Some((place, _, other, first)) = self.wsg_services().find(|(.., other)| {
                    other
                        .bind
                        .as_ref()
                        .is_some_and(|other| other.address == bind.address)
                })
                && !std::ptr::eq(first, service)
            {
                // IKE SAs are found by their local address, in whatever context it is.
                let message = format!(
                    "wsg-service {other} of context {place} is bound to {} already",
                    bind.address
                );
                scope.here(true, &message);
            }
            wsg_service(context, service, &mut scope);
        }
    }

    fn template(&self, context: &Context, template: &CryptoTemplate, findings: &mut Scope<'_>) {
        for name in &template.auth_method_sets {
            if !context.auth_method_sets.contains_key(name) {
                findings.here(
                    true,
                    &format!("ikev2-ikesa auth-method-set {name} does not exist"),
                );
            }
        }
        let methods = context.authentication_of(template);
        if methods.is_empty() {
            findings.here(true, "there is no authentication");
        }
        for method in &methods {
            self.method(context, template, method, findings);
        }
        // One of several methods may leave a side to the others, and peers' keys may stand elsewhere.
        let keys_elsewhere = template.remote_secret_list.is_some()
            || template.peer_networks.iter().any(|peer| peer.secret.is_some());
        for (side, lacks) in [
            ("local", methods.iter().all(|method| method.local.is_none())),
            (
                "remote",
                !keys_elsewhere && methods.iter().all(|method| method.remote.is_none()),
            ),
        ] {
            if lacks && !methods.is_empty() {
                findings.here(true, &format!("there is no authentication {side}"));
            }
        }
        if let Some(obstacle) = context.eap_obstacle(template) {
            findings.here(true, obstacle);
        }
        for name in &template.ca_certificates {
            if !self.ca_certificates.contains_key(name) {
                findings.here(true, &format!("ca-certificate {name} does not exist"));
            }
        }
        if template.remote_secret_list.is_some() && self.remote_secrets(template).is_none() {
            findings.here(true, "its remote-secret-list does not exist");
        }
        if template.ikesa.transform_sets.is_empty() {
            findings.here(true, "there is no ikev2-ikesa transform-set list");
        }
        for name in &template.ikesa.transform_sets {
            if !context.ike_transform_sets.contains_key(name) {
                findings.here(true, &format!("ikev2-ikesa transform-set {name} does not exist"));
            }
        }
        if template.payloads.is_empty() {
            findings.here(true, "there is no payload");
        }
        for (name, payload) in &template.payloads {
            let mut scope = findings.scope(format!("payload {name}"));
            payload_fits(context, payload, &mut scope);
        }
    }

    fn method(
        &self,
        context: &Context,
        template: &CryptoTemplate,
        method: &PeerAuthentication,
        findings: &mut Scope<'_>,
    ) {
        match &method.local {
            Some(LocalAuthentication::Certificate) => match &template.certificate {
                None => findings.here(
                    true,
                    "authentication local certificate needs \"certificate NAME\"",
                ),
                Some(name) if !self.certificates.contains_key(name) => {
                    findings.here(true, &format!("certificate {name} does not exist"));
                }
                Some(_) => {}
            },
            Some(LocalAuthentication::PreSharedKey(_)) | None => {}
        }
        match &method.remote {
            Some(RemoteAuthentication::Certificate) if template.ca_certificates.is_empty() => {
                findings.here(
                    true,
                    "authentication remote certificate needs \"ca-certificate list\"",
                );
            }
            Some(RemoteAuthentication::EapProfile(name)) => match context.eap_profiles.get(name) {
                None => findings.here(true, &format!("eap-profile {name} does not exist")),
                Some(profile) if profile.mode.is_none() => {
                    findings.here(true, &format!("eap-profile {name} has no mode"))
                }
                Some(_) => {
                    let group = context
                        .subscriber
                        .aaa_group
                        .as_deref()
                        .unwrap_or(DEFAULT_AAA_GROUP);
                    if context
                        .aaa_groups
                        .get(group)
                        .is_none_or(|group| group.servers.is_empty())
                    {
                        findings.here(true, &format!("EAP needs a radius server in aaa group {group}"));
                    }
                }
            },
            Some(RemoteAuthentication::Certificate | RemoteAuthentication::PreSharedKey(_)) | None => {}
        }
    }
}

fn addresses_are_unique(context: &Context, findings: &mut Scope<'_>) {
    let mut owners: BTreeMap<std::net::IpAddr, &str> = BTreeMap::new();
    for (name, interface) in &context.interfaces {
        for network in interface.addresses() {
            if let Some(other) = owners.insert(network.addr(), name) {
                let message = format!("{} is an address of interface {other} already", network.addr());
                findings.add(true, &format!("interface {name}"), &message);
            }
        }
    }
}

fn transform_sets(context: &Context, findings: &mut Scope<'_>) {
    for (name, set) in &context.ipsec_transform_sets {
        let subject = format!("ipsec transform-set {name}");
        ciphers_fit(set.encryption, set.hmac, &subject, findings);
        if set.group.is_some_and(Group::is_weak) {
            findings.add(false, &subject, &weak_group(set.group));
        }
    }
    for (name, set) in &context.ike_transform_sets {
        let subject = format!("ikev2-ikesa transform-set {name}");
        ciphers_fit(set.encryption, set.hmac, &subject, findings);
        if set.group.is_weak() {
            findings.add(false, &subject, &weak_group(Some(set.group)));
        }
    }
}

fn weak_group(group: Option<Group>) -> String {
    let group = group.map(|group| group.to_string()).unwrap_or_default();
    format!("group {group} is weak: 14, 19 or 31 are not")
}

fn ciphers_fit(encryption: Encryption, hmac: Hmac, subject: &str, findings: &mut Scope<'_>) {
    if encryption.is_aead() && hmac != Hmac::None {
        findings.add(true, subject, &format!("encryption {encryption} needs hmac none"));
    }
    if !encryption.is_aead() && hmac == Hmac::None {
        findings.add(true, subject, &format!("encryption {encryption} needs an hmac"));
    }
}

fn payload_fits(context: &Context, payload: &Payload, findings: &mut Scope<'_>) {
    if payload.transform_sets.is_empty() {
        findings.here(true, "there is no ipsec transform-set list");
    }
    for name in &payload.transform_sets {
        if !context.ipsec_transform_sets.contains_key(name) {
            findings.here(true, &format!("ipsec transform-set {name} does not exist"));
        }
    }
}

fn wsg_service(context: &Context, service: &WsgService, findings: &mut Scope<'_>) {
    match &service.bind {
        None => findings.here(false, "it is not bound, so that it does not run"),
        Some(bind) => {
            if !context.crypto_templates.contains_key(&bind.template) {
                findings.here(true, &format!("crypto template {} does not exist", bind.template));
            }
            let ours: BTreeSet<_> = context
                .interfaces
                .values()
                .flat_map(|interface| interface.addresses())
                .map(|net: IpNet| net.addr())
                .collect();
            if !ours.contains(&bind.address) {
                findings.here(
                    true,
                    &format!(
                        "{} is not an address of an interface of this context",
                        bind.address
                    ),
                );
            }
        }
    }
    let missing = |name: &Option<String>, lists: &BTreeMap<String, crate::AccessList>| {
        name.clone().filter(|name| !lists.contains_key(name))
    };
    for name in [
        missing(&service.ip_access_group, &context.ipv4_access_lists),
        missing(&service.ipv6_access_group, &context.ipv6_access_lists),
    ]
    .into_iter()
    .flatten()
    {
        findings.here(true, &format!("access list {name} does not exist"));
    }
    for pool in service
        .ip_pools
        .iter()
        .filter(|pool| !has_ipv4_pool(context, pool))
    {
        findings.here(true, &format!("ip pool {pool} does not exist"));
    }
    for pool in service
        .ipv6_pools
        .iter()
        .filter(|pool| !has_ipv6_pool(context, pool))
    {
        findings.here(true, &format!("ipv6 pool {pool} does not exist"));
    }
    let pools = context.ipv4_pools.len() + context.ipv6_pools.len();
    if service.deployment_mode == DeploymentMode::RemoteAccess && pools == 0 {
        findings.here(
            false,
            "deployment-mode remote-access needs an ip pool or an ipv6 pool, or addresses from AAA",
        );
    }
}

/// A pool of this name, or a group of pools.
fn has_ipv4_pool(context: &Context, name: &str) -> bool {
    context
        .ipv4_pools
        .iter()
        .any(|(pool, settings)| pool == name || settings.group.as_deref() == Some(name))
}

fn has_ipv6_pool(context: &Context, name: &str) -> bool {
    context
        .ipv6_pools
        .iter()
        .any(|(pool, settings)| pool == name || settings.group.as_deref() == Some(name))
}

#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
}

/// Findings about what is in one object.
struct Scope<'a> {
    list: &'a mut Vec<Finding>,
    path: Vec<String>,
}

impl Findings {
    fn add(&mut self, is_error: bool, subject: &str, message: &str) {
        self.scope(subject.to_owned()).here(is_error, message);
    }

    fn scope(&mut self, line: String) -> Scope<'_> {
        Scope {
            list: &mut self.list,
            path: vec![line],
        }
    }
}

impl Scope<'_> {
    fn scope(&mut self, line: String) -> Scope<'_> {
        let mut path = self.path.clone();
        path.push(line);
        Scope {
            list: self.list,
            path,
        }
    }

    fn add(&mut self, is_error: bool, subject: &str, message: &str) {
        self.scope(subject.to_owned()).here(is_error, message);
    }

    fn here(&mut self, is_error: bool, message: &str) {
        self.list.push(Finding::new(is_error, self.path.clone(), message));
    }
}
