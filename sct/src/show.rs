//! What the shell shows of the configuration.

mod template;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bus::Facility;
use bus::messages::common::Execute;
use config::{AccessList, Context, Exec, Finding, Section, WsgService};
use telemetry::Reader;
use telemetry::time::{Civil, Zone};

use crate::manager::Manager;

/// Shows it.
///
/// # Errors
/// The sentence after `Failure: `.
pub(crate) fn execute(manager: &mut Manager, execute: &Execute) -> Result<String, String> {
    let unknown = || execute.unknown_to(Facility::Sct);
    let exec = Exec::from_id(&execute.command).ok_or_else(unknown)?;
    manager
        .access
        .check(&manager.running.config, &execute.user, exec.privilege())
        .map_err(|error| error.to_string())?;
    let context = || here(manager, &execute.context);
    Ok(match exec {
        Exec::ShowConfiguration => {
            return configuration(manager, execute.value("context"), execute.has("bulkstats"));
        }
        Exec::ShowConfigurationErrors => {
            let findings = manager.running.all_findings(&manager.access, &manager.secrets);
            errors(&findings, execute.has("verbose"))
        }
        Exec::ShowBoot => format!(
            "boot system priority 1 \\\n    config {}\n",
            manager.places.boot.display()
        ),
        Exec::ShowContext => contexts(manager, execute.value("name")),
        Exec::ShowAdministrators => administrators(manager),
        Exec::ShowLogging => logging(manager),
        Exec::ShowCryptoTemplate => template::templates(context()?, execute.value("tag")),
        Exec::ShowIkeTransformSet => template::ike_sets(context()?, execute.value("set")),
        Exec::ShowCryptoIpsecTransformSet | Exec::ShowIpsecTransformSet => {
            template::ipsec_sets(context()?, execute.value("set"))
        }
        Exec::ShowIpAccessList => access_lists(&context()?.ipv4_access_lists, execute.value("list"), false),
        Exec::ShowIpv6AccessList => access_lists(&context()?.ipv6_access_lists, execute.value("list"), true),
        Exec::ShowWsgService => services(manager, execute.value("name"))?,
        _ => return Err(unknown()),
    })
}

fn here<'a>(manager: &'a Manager, name: &str) -> Result<&'a Context, String> {
    manager
        .running
        .config
        .contexts
        .get(name)
        .ok_or_else(|| format!("context '{name}' does not exist"))
}

/// The configuration, or a part of it.
fn configuration(manager: &mut Manager, context: Option<&str>, bulkstats: bool) -> Result<String, String> {
    match (context, bulkstats) {
        (Some(name), _) => manager
            .running
            .config
            .context_text(name)
            .map_err(|error| error.to_string()),
        (None, true) => Ok(manager.running.config.bulkstats_text()),
        (None, false) => Ok(manager.running.text()),
    }
}

/// Findings by section; those without any only when everything is wanted, or when there is nothing else to show.
fn errors(findings: &[Finding], verbose: bool) -> String {
    let banner = "#".repeat(90);
    let mut text = String::new();
    for section in Section::ALL {
        let of_section: Vec<&Finding> = findings
            .iter()
            .filter(|finding| finding.section() == *section)
            .collect();
        if of_section.is_empty() && !verbose && !findings.is_empty() {
            continue;
        }
        let title = format!("Displaying {} system errors", section.title);
        let _ = writeln!(text, "{banner}\n{}\n{banner}", format!("{title:^90}").trim_end());
        for finding in &of_section {
            let _ = writeln!(text, "{:<7} : {}", finding.severity(), finding.message);
        }
        let errors = of_section.iter().filter(|finding| finding.is_error).count();
        let _ = writeln!(
            text,
            "Total {errors} error(s) in this section !\nTotal {} warning(s) in this section!\n",
            of_section.len() - errors
        );
    }
    text
}

fn contexts(manager: &Manager, wanted: Option<&str>) -> String {
    let mut text = "Context Name    ContextID    State     Description\n--------------- --------- ----------   -----------------------\n".to_owned();
    for (name, context) in manager.running.config.contexts_by_id() {
        if wanted.is_none_or(|wanted| wanted == name) {
            let _ = writeln!(text, "{name:<15} {:<9}    Active", context.id);
        }
    }
    text
}

fn administrators(manager: &Manager) -> String {
    let mut text = format!(
        "{:<15} {:<32} {:<18} Password\n",
        "Context", "Administrator", "Level"
    );
    for (name, context) in manager.running.config.contexts_by_id() {
        for (user, account) in &context.administrators {
            let password = if account.password.is_some() { "set" } else { "none" };
            let _ = writeln!(
                text,
                "{name:<15} {user:<32} {:<18} {password}",
                account.level.to_string()
            );
        }
    }
    let zone = Zone::local();
    let _ = writeln!(
        text,
        "\n{:<9} {:<32} {:<18} {:<12} Start Time",
        "Session", "Administrator", "Level", "TTY"
    );
    for (number, session) in manager.sessions.iter() {
        let _ = writeln!(
            text,
            "{number:<9} {:<32} {:<18} {:<12} {}",
            session.user,
            session.level,
            session.tty,
            Civil::local(session.since, &zone).asctime()
        );
    }
    text
}

fn logging(manager: &Manager) -> String {
    let config = &manager.running.config;
    let mut text = format!("{:<20} Level\n", "Facility");
    for facility in bus::Facility::ALL {
        let _ = writeln!(
            text,
            "{:<20} {}",
            facility.name(),
            config.logging.level(facility.name())
        );
    }
    for (name, context) in config.contexts_by_id() {
        for server in &context.syslog {
            let _ = writeln!(
                text,
                "Syslog server {} port {} facility local{} (context {name})",
                server.address, server.port, server.local
            );
        }
    }
    text
}

fn access_lists(lists: &BTreeMap<String, AccessList>, wanted: Option<&str>, ipv6: bool) -> String {
    let mut text = String::new();
    for (name, list) in lists
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name))
    {
        let _ = writeln!(text, "Access list {name}: {} rule(s)", list.rules.len());
        for rule in &list.rules {
            let _ = writeln!(text, "  {}", rule.to_line(ipv6));
        }
    }
    text
}

fn services(manager: &Manager, wanted: Option<&str>) -> Result<String, String> {
    let counters = Reader::open(&manager.pages).map_err(|error| error.to_string())?;
    let mut text = String::new();
    for (context_name, _, name, service) in manager.running.config.wsg_services() {
        if wanted.is_none_or(|wanted| wanted == name) {
            let state = telemetry::show::wsg_state(&counters, context_name, name);
            service_block(&mut text, context_name, name, service, state);
        }
    }
    Ok(text)
}

fn service_block(text: &mut String, context_name: &str, name: &str, service: &WsgService, state: &str) {
    let none = || "Not configured".to_owned();
    let list = |names: &[String]| if names.is_empty() { none() } else { names.join(" ") };
    let bound = service.bind.as_ref();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<33}: {value}");
    };
    line("Service name", name.to_owned());
    line("Context", context_name.to_owned());
    line("Service state", state.to_owned());
    line(
        "Bind address",
        bound.map_or_else(none, |bind| bind.address.to_string()),
    );
    line(
        "Crypto template",
        bound.map_or_else(none, |bind| bind.template.clone()),
    );
    line("Deployment mode", service.deployment_mode.to_string());
    line(
        "IP access group",
        service.ip_access_group.clone().unwrap_or_else(none),
    );
    line(
        "IPv6 access group",
        service.ipv6_access_group.clone().unwrap_or_else(none),
    );
    line("IP address pools", list(&service.ip_pools));
    line("IPv6 prefix pools", list(&service.ipv6_pools));
    line("Pre-fragment MTU", service.pre_fragment_mtu.to_string());
    let duplicates = if service.duplicate_session_detection {
        "Enabled"
    } else {
        "Disabled"
    };
    line("Duplicate session detection", duplicates.to_owned());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use config::Config;

    use super::*;

    /// The context `isp` with these lines.
    fn context(lines: &str) -> Context {
        let mut config = Config::parse(&format!("context isp\n{lines}\n")).unwrap();
        config.contexts.remove("isp").unwrap()
    }

    #[test]
    fn rules_are_shown_as_they_are_configured() {
        let rules = ["permit tcp any host 10.0.0.1 eq 22", "deny log ip any any"];
        let context = context(&format!("ip access-list a\n{}", rules.join("\n")));
        assert_eq!(
            access_lists(&context.ipv4_access_lists, None, false),
            format!("Access list a: 2 rule(s)\n  {}\n  {}\n", rules[0], rules[1])
        );
        let rule = "permit icmpv6 any fd00::/48";
        let context = self::context(&format!("ipv6 access-list a\n{rule}"));
        let shown = access_lists(&context.ipv6_access_lists, Some("a"), true);
        assert!(shown.contains(&format!("  {rule}\n")), "{shown}");
    }

    #[test]
    fn findings_are_shown_by_section_with_their_severity() {
        let finding = |is_error, message| Finding::new(is_error, vec!["wsg-service s".to_owned()], message);
        let findings = [finding(true, "no"), finding(false, "hardly")];
        let shown = errors(&findings, false);
        assert!(
            shown.contains("Displaying wsg-service system errors\n####"),
            "{shown}"
        );
        assert!(
            shown.ends_with(
                "####\nerror   : wsg-service s: no\nwarning : wsg-service s: hardly\n\
                 Total 1 error(s) in this section !\nTotal 1 warning(s) in this section!\n\n"
            ),
            "{shown}"
        );
        assert_eq!(shown.matches("Displaying").count(), 1);
        assert_eq!(
            errors(&findings, true).matches("Displaying").count(),
            Section::ALL.len()
        );
        assert!(errors(&[], false).contains("Total 0 error(s) in this section !"));
    }

    #[test]
    fn transform_sets_are_laid_out_as_in_the_reference() {
        let context = context("ipsec transform-set tselsa\nesn");
        assert_eq!(
            template::ipsec_sets(&context, Some("tselsa")),
            "IKEv2 IPsec Transform-Set tselsa :
  Cipher      : aes-cbc-128
  HMAC        : sha1-96
  DH Group    : none
  Encaps Mode : TUNNEL
  ESN         : Enabled

"
        );
    }
}
