//! Settings that are kept and printed, but that nothing in this version acts on. Whoever gives one its effect removes it here.

use crate::bulkstats::Kind;
use crate::commands::management::is_trap;
use crate::{
    AddressAllocation, Config, CongestionAction, Context, CryptoTemplate, DeploymentMode, LOCAL, WsgService,
};

use super::{Findings, Scope};

/// Says so for each that is configured. Where somebody could believe to be protected, it is an error.
pub(super) fn missing(config: &Config, findings: &mut Findings) {
    congestion(config, findings);
    for (number, file) in &config.bulkstats.files {
        if !file.receivers.is_empty() {
            let mut bulkstats = findings.scope("bulkstats mode".to_owned());
            without(&mut bulkstats.scope(format!("file {number}")), "receiver");
        }
        for (kind, name) in file.schemas.keys() {
            if Kind::find(kind).is_none() {
                let mut bulkstats = findings.scope("bulkstats mode".to_owned());
                bulkstats.scope(format!("file {number}")).here(
                    false,
                    &format!("{kind} schema {name}: this version has no schemas of this type, so that nothing is written"),
                );
            }
        }
    }
    for trap in &config.snmp.suppressed {
        if !is_trap(trap) {
            let mut scope = findings.scope(format!("snmp trap suppress {trap}"));
            scope.here(false, "this version sends no trap of this name");
        }
    }
    for (name, context) in config.contexts_by_id() {
        let mut scope = findings.scope(format!("context {name}"));
        accounts(name, context, &mut scope);
        context_settings(context, &mut scope);
    }
}

/// Congestion control needs both: to be on, and a policy.
fn congestion(config: &Config, findings: &mut Findings) {
    let settings = &config.congestion;
    let has_policy = settings.wsg != CongestionAction::Nothing;
    let mut scope = findings.scope("congestion-control".to_owned());
    match (settings.enabled, has_policy) {
        (true, false) => scope.here(
            false,
            "there is no policy: \"congestion-control policy wsg-service action\" says what new peers get",
        ),
        (false, true) => scope.here(
            false,
            "the policy has no effect: \"congestion-control\" switches it on",
        ),
        (true, true) | (false, false) => {}
    }
    for (context, _, name, service) in config.wsg_services() {
        let mut scope = findings.scope(format!("context {context}"));
        let mut scope = scope.scope(format!("wsg-service {name}"));
        let redirects = settings.wsg == CongestionAction::Redirect;
        match (redirects, service.overload_gateways.is_empty()) {
            (true, true) => scope.here(
                false,
                "new peers are rejected in congestion: \"policy overload redirect\" names no gateway",
            ),
            (false, false) => scope.here(
                false,
                "policy overload redirect has no effect without \"congestion-control policy wsg-service action redirect\"",
            ),
            (true, false) | (false, true) => {}
        }
    }
    let limited = config
        .wsg_services()
        .filter(|(.., service)| service.max_sessions.is_some());
    for (context, _, name, _) in limited.filter(|_| !(settings.enabled && has_policy)) {
        findings
            .scope(format!("context {context}"))
            .scope(format!("wsg-service {name}"))
            .here(
                false,
                "max-sessions has no effect without congestion-control and a policy for wsg-service",
            );
    }
}

/// Accounts are looked for in context `local`.
fn accounts(name: &str, context: &Context, findings: &mut Scope<'_>) {
    for (user, account) in context.administrators.iter().filter(|_| name != LOCAL) {
        let mut scope = findings.scope(format!("{} {user}", account.level));
        scope.here(
            false,
            &format!("an account has an effect in context {LOCAL} only"),
        );
    }
}

fn context_settings(context: &Context, findings: &mut Scope<'_>) {
    for server in &context.syslog {
        without(
            &mut findings.scope(format!("logging syslog {}", server.address)),
            "logging syslog",
        );
    }
    let pools = context
        .ipv4_pools
        .iter()
        .map(|(name, pool)| (format!("ip pool {name}"), pool.allow_static));
    let pools = pools.chain(
        context
            .ipv6_pools
            .iter()
            .map(|(name, pool)| (format!("ipv6 pool {name}"), pool.allow_static)),
    );
    for (subject, allow_static) in pools {
        if allow_static {
            without(&mut findings.scope(subject), "policy allow-static-allocation");
        }
    }
    for (name, template) in &context.crypto_templates {
        template_settings(template, &mut findings.scope(format!("crypto template {name}")));
    }
    for (name, service) in &context.wsg_services {
        let mut scope = findings.scope(format!("wsg-service {name}"));
        allocation(context, service, &mut scope);
        for (list, word) in [
            (&service.ip_access_group, "ip"),
            (&service.ipv6_access_group, "ipv6"),
        ] {
            if list.is_some() {
                scope.here(
                    true,
                    &format!("{word} access-group has no effect in this version: every packet passes"),
                );
            }
        }
    }
}

/// The deployment mode decides whether peers get addresses; the payload is not asked.
fn allocation(context: &Context, service: &WsgService, findings: &mut Scope<'_>) {
    let template = service
        .bind
        .as_ref()
        .and_then(|bind| context.crypto_templates.get(&bind.template));
    let payloads = template.map(|template| template.payloads.values());
    let dynamic = payloads
        .is_some_and(|mut payloads| payloads.any(|payload| payload.allocation == AddressAllocation::Dynamic));
    if dynamic && service.deployment_mode == DeploymentMode::SiteToSite {
        findings.here(
            false,
            "payload ip-address-allocation dynamic has no effect with deployment-mode site-to-site: peers keep their addresses",
        );
    }
}

fn template_settings(template: &CryptoTemplate, findings: &mut Scope<'_>) {
    let policy = &template.ikesa;
    let settings = [
        (
            template.natt.is_some_and(|natt| natt.include_header),
            "natt include-header",
        ),
        (
            policy.keepalive_user_activity,
            "ikev2-ikesa keepalive-user-activity",
        ),
        (
            policy.rekey.is_some_and(|rekey| rekey.disallow_param_change),
            "ikev2-ikesa rekey disallow-param-change",
        ),
    ];
    for (is_set, name) in settings {
        if is_set {
            without(findings, name);
        }
    }
    for (name, payload) in &template.payloads {
        if payload.maximum_child_sa != crate::Payload::default().maximum_child_sa {
            without(&mut findings.scope(format!("payload {name}")), "maximum-child-sa");
        }
    }
}

fn without(findings: &mut Scope<'_>, setting: &str) {
    findings.here(false, &format!("{setting} has no effect in this version"));
}
