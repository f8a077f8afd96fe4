//! `show crypto template` and the transform sets.

use std::fmt::Write as _;

use config::{
    Context, CryptoTemplate, DontFragment, IkeTransformSet, IpsecTransformSet, LocalAuthentication, Nai,
    Payload, RemoteAuthentication,
};

/// Templates of a context.
pub(super) fn templates(context: &Context, wanted: Option<&str>) -> String {
    let mut text = String::new();
    for (name, template) in context
        .crypto_templates
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name))
    {
        block(&mut text, context, name, template);
    }
    text
}

/// `ikev2-ikesa transform-set`s of a context.
pub(super) fn ike_sets(context: &Context, wanted: Option<&str>) -> String {
    let mut text = String::new();
    for (name, set) in context
        .ike_transform_sets
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name))
    {
        let _ = writeln!(text, "Transform Set: {name}");
        ike_set(&mut text, set, "  ");
        let _ = writeln!(text, "  Lifetime: {} seconds\n", set.lifetime);
    }
    text
}

/// `ipsec transform-set`s of a context.
pub(super) fn ipsec_sets(context: &Context, wanted: Option<&str>) -> String {
    let mut text = String::new();
    for (name, set) in context
        .ipsec_transform_sets
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name))
    {
        let _ = writeln!(text, "IKEv2 IPsec Transform-Set {name} :");
        let lines = [
            ("Cipher", set.encryption.to_string()),
            ("HMAC", set.hmac.to_string()),
            ("DH Group", group(set)),
            ("Encaps Mode", "TUNNEL".to_owned()),
            ("ESN", enabled(set.esn).to_owned()),
        ];
        for (label, value) in lines {
            let _ = writeln!(text, "  {label:<11} : {value}");
        }
        text.push('\n');
    }
    text
}

fn block(text: &mut String, context: &Context, name: &str, template: &CryptoTemplate) {
    let not_configured = || "<not configured>".to_owned();
    let complete = !template.payloads.is_empty()
        && template
            .ikesa
            .transform_sets
            .iter()
            .any(|set| context.ike_transform_sets.contains_key(set));
    let _ = writeln!(
        text,
        "Map Name: {name}\n{}",
        "=".repeat("Map Name: ".len() + name.len())
    );
    let _ = writeln!(
        text,
        "Map Status: {}\n",
        if complete { "Complete" } else { "Incomplete" }
    );
    let _ = writeln!(text, "Crypto Map Type: IPSEC IKEv2 Template\n");
    let count = template.ikesa.transform_sets.len();
    for (set, number) in template.ikesa.transform_sets.iter().zip(1..) {
        let _ = writeln!(text, "IKE SA Transform {number}/{count}\n  Transform Set: {set}");
        match context.ike_transform_sets.get(set) {
            Some(set) => ike_set(text, set, "    "),
            None => drop(writeln!(text, "    <not configured>")),
        }
    }
    let _ = writeln!(
        text,
        "  IKE SA Rekey: {}",
        enabled(template.ikesa.rekey.is_some())
    );
    let _ = writeln!(
        text,
        "  IKE SA Setup Timer: {} seconds",
        template.ikesa.setup_timer
    );
    let _ = writeln!(
        text,
        "  IKE SA Retransmission Timeout: {} ms{}, Maximum Retransmissions: {}\n",
        template.ikesa.retransmission_timeout,
        if template.ikesa.exponential {
            " exponential"
        } else {
            ""
        },
        template.ikesa.max_retransmissions
    );
    let nai = match &template.nai {
        Some(Nai::Idr(identity)) => format!("{} ({})", identity.value, identity.kind),
        Some(Nai::UseReceivedIdr) => "received IDr".to_owned(),
        None => not_configured(),
    };
    let _ = writeln!(text, "NAI: {nai}");
    let identity = template
        .identity
        .as_ref()
        .map_or_else(not_configured, |identity| {
            format!("{} ({})", identity.value, identity.kind)
        });
    let _ = writeln!(text, "Identity Local: {identity}");
    let _ = writeln!(
        text,
        "Remote-secret-list: {}",
        template
            .remote_secret_list
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(not_configured)
    );
    authentication(text, context, template);
    let _ = writeln!(
        text,
        "Certificate: {}",
        template.certificate.clone().unwrap_or_else(not_configured)
    );
    let authorities = if template.ca_certificates.is_empty() {
        not_configured()
    } else {
        template.ca_certificates.join(" ")
    };
    let _ = writeln!(text, "CA Certificates: {authorities}\n");
    let count = template.payloads.len();
    for ((name, payload), number) in template.payloads.iter().zip(1..) {
        let _ = writeln!(
            text,
            "IPSec SA Payload {number}/{count} ({})\n  Name : {name}",
            payload.family
        );
        payload_block(text, context, payload);
    }
    let keepalive = template.keepalive.map_or_else(
        || "Disabled".to_owned(),
        |keepalive| {
            format!(
                "Enabled, interval {} s, timeout {} s, retries {}",
                keepalive.interval, keepalive.timeout, keepalive.num_retry
            )
        },
    );
    let _ = writeln!(text, "Dead Peer Detection: {keepalive}");
    let _ = writeln!(
        text,
        "Maximum CHILD_SA: {} Overload Action: {}",
        template.max_child_sa.number, template.max_child_sa.overload
    );
    let cookies = template.cookie_challenge.map_or_else(
        || "Disabled".to_owned(),
        |challenge| format!("Enabled, start {}, stop {}", challenge.start, challenge.stop),
    );
    let _ = writeln!(text, "DOS Cookie Challenge: {cookies}");
    let fragment = match template.dont_fragment {
        DontFragment::Copy => "Copy bit from inner header",
        DontFragment::Set => "Set bit",
        DontFragment::Clear => "Clear bit",
    };
    let _ = writeln!(text, "Dont Fragment: {fragment}");
    let keepalives = template
        .natt
        .and_then(|natt| natt.send_keepalive)
        .map_or_else(String::new, |times| {
            format!(", keepalives every {} seconds", times.interval)
        });
    let _ = writeln!(text, "NATT: Enabled{keepalives}");
    let _ = writeln!(
        text,
        "Anti Replay: {}\n",
        context
            .replay_window
            .map_or_else(|| "Disabled".to_owned(), |window| format!("window {window}"))
    );
}

fn authentication(text: &mut String, context: &Context, template: &CryptoTemplate) {
    for (methods, phase) in context.authentication_of(template).iter().zip(1..) {
        let local = match &methods.local {
            Some(LocalAuthentication::Certificate) => "Certificate",
            Some(LocalAuthentication::PreSharedKey(_)) => "Pre-Shared Key",
            None => "None",
        };
        let remote = match &methods.remote {
            Some(RemoteAuthentication::Certificate) => "Certificate".to_owned(),
            Some(RemoteAuthentication::PreSharedKey(_)) => "Pre-Shared Key".to_owned(),
            Some(RemoteAuthentication::EapProfile(profile)) => format!("EAP, profile {profile}"),
            None => "None".to_owned(),
        };
        let _ = writeln!(text, "Authentication Local:\n  Phase {phase} - {local}");
        let _ = writeln!(text, "Authentication Remote:\n  Phase {phase} - {remote}");
    }
}

fn payload_block(text: &mut String, context: &Context, payload: &Payload) {
    text.push_str("  Payload Local\n");
    if payload.tsr.is_empty() {
        text.push_str("    Address Range any\n");
    }
    for range in &payload.tsr {
        let _ = writeln!(text, "    Address Range {}-{}", range.start, range.end);
    }
    let _ = writeln!(text, "  Payload Remote\n    Address Range {}", payload.tsi);
    let count = payload.transform_sets.len();
    for (set, number) in payload.transform_sets.iter().zip(1..) {
        let _ = writeln!(
            text,
            "  IPSec SA Transform {number}/{count}\n    Transform Set: {set}"
        );
        match context.ipsec_transform_sets.get(set) {
            Some(set) => ipsec_set(text, set, "      "),
            None => drop(writeln!(text, "      <not configured>")),
        }
    }
    let kilobytes = payload
        .lifetime_kilobytes
        .map(|limit| format!(", {limit} kilobytes"))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "  IPSec SA Lifetime: {} seconds{kilobytes}",
        payload.lifetime
    );
    let rekey = match payload.rekey {
        Some(rekey) if rekey.keepalive => "Enabled (also without traffic)",
        Some(_) => "Enabled",
        None => "Disabled",
    };
    let _ = writeln!(text, "  IPSec SA Rekey: {rekey}");
    let per_resource = match payload.per_resource {
        Some(wanted) => format!("Enabled (max {}, initiate {})", wanted.max, wanted.initiate),
        None => "Disabled".to_owned(),
    };
    let _ = writeln!(text, "  IPSec SA Per Resource: {per_resource}\n");
}

fn ike_set(text: &mut String, set: &IkeTransformSet, indent: &str) {
    let _ = writeln!(text, "{indent}Encryption Cipher: {}", set.encryption);
    let _ = writeln!(text, "{indent}Pseudo Random Function: {}", set.prf);
    let _ = writeln!(text, "{indent}Hashed Message Authentication Code: {}", set.hmac);
    let _ = writeln!(text, "{indent}Diffie-Hellman Group: {}", set.group);
}

fn ipsec_set(text: &mut String, set: &IpsecTransformSet, indent: &str) {
    let _ = writeln!(text, "{indent}Protocol: esp");
    let _ = writeln!(text, "{indent}Encryption Cipher: {}", set.encryption);
    let _ = writeln!(text, "{indent}Hashed Message Authentication Code: {}", set.hmac);
    let _ = writeln!(text, "{indent}Diffie-Hellman Group: {}", group(set));
    let _ = writeln!(text, "{indent}ESN : {}", enabled(set.esn));
}

fn group(set: &IpsecTransformSet) -> String {
    set.group
        .map_or_else(|| "none".to_owned(), |group| group.to_string())
}

fn enabled(on: bool) -> &'static str {
    if on { "Enabled" } else { "Disabled" }
}
