//! A crypto template and its service as an [`ikev2::Profile`].

use std::sync::Arc;
use std::time::Duration;

use config::{
    Context, CryptoTemplate, DeploymentMode, IkeTransformSet, IpsecTransformSet, LocalAuthentication, Nai,
    OverloadAction, Payload, PayloadFamily, PayloadTsi, RemoteAuthentication, WsgService,
};
use ikev2::{
    ChildLifetime, ChildProfile, CookieThresholds, FamilyMatch, FragmentMtu, IkeLifetime, Liveness,
    LocalAuth, NotifyPolicy, PerResource, Profile, RemoteAuth, Retransmission, SelectorPolicy,
    TrafficSelector,
};

use super::{Certificates, identity};
use crate::proposals;

/// Child SAs of a peer when the template's own limit is to be ignored.
const SYSTEM_MAX_CHILDREN: u8 = 5;

pub(super) fn build(
    context: &Context,
    service: &WsgService,
    template_name: &str,
    template: &CryptoTemplate,
    certificates: &Certificates,
    tag: u64,
    warnings: &mut Vec<String>,
) -> Result<Profile, String> {
    let policy = &template.ikesa;
    let sets = ike_sets(context, template)?;
    let local_identity = template
        .local_identity()
        .map(|ours| identity::of_ours(ours, &certificates.subject))
        .transpose()?;
    if template.nai == Some(Nai::UseReceivedIdr) {
        warnings
            .push("nai use-received-idr is not supported: the identity of the template is sent".to_owned());
    }
    if template.ikesa.ignore_rekeying_requests {
        warnings.push("ikev2-ikesa ignore-rekeying-requests is not supported: peers may rekey".to_owned());
    }
    Ok(Profile {
        name: template_name.to_owned(),
        tag,
        proposals: sets.iter().map(proposals::ike).collect(),
        children: children(context, service, template)?,
        local_identity,
        remote_identity: None,
        local_auth: local_auth(context, template, certificates)?,
        remote_auth: remote_auth(context, template)?,
        trust_hashes: certificates.trust_hashes.clone(),
        retransmission: Retransmission {
            timeout: Duration::from_millis(policy.retransmission_timeout.into()),
            exponential: policy.exponential,
            max: policy.max_retransmissions,
        },
        setup_timeout: seconds(policy.setup_timer),
        half_open_timeout: seconds(policy.setup_timer),
        lifetime: IkeLifetime {
            // The engine does not know from which set a proposal came, so the strictest holds.
            time: sets.iter().map(|set| set.lifetime).min().map(seconds),
            rekey: policy.rekey.is_some(),
        },
        liveness: template.keepalive.map(|keepalive| Liveness {
            interval: seconds(keepalive.interval),
            timeout: seconds(keepalive.timeout),
            retries: u8::try_from(keepalive.num_retry).unwrap_or(u8::MAX),
        }),
        cookies: template.cookie_challenge.map(|cookie| CookieThresholds {
            start: cookie.start,
            stop: cookie.stop,
        }),
        max_children: match template.max_child_sa.overload {
            OverloadAction::Terminate => template.max_child_sa.number,
            OverloadAction::Ignore => SYSTEM_MAX_CHILDREN,
        },
        allow_empty: policy.allow_empty,
        notifies: NotifyPolicy {
            invalid_major_version: policy.error_notification.invalid_major_version,
            invalid_message_id: policy.error_notification.invalid_message_id,
            invalid_syntax: policy.error_notification.invalid_syntax,
            no_proposal_chosen: true,
        },
        admission: true,
        configuration_request: None,
        nat_keepalive: template
            .natt
            .and_then(|natt| natt.send_keepalive)
            .map(|keepalive| seconds(keepalive.interval)),
        force_encapsulation: false,
        fragment_mtu: FragmentMtu {
            ipv4: template.ipv4_ikev2_mtu,
            ipv6: template.ipv6_ikev2_mtu,
        },
        initial_contact: false,
        rfc7296_notifies: policy.use_rfc5996_notification,
        ..Profile::default()
    })
}

/// The sets that the template lists, in order; the default set when it lists none.
fn ike_sets(context: &Context, template: &CryptoTemplate) -> Result<Vec<IkeTransformSet>, String> {
    let names = &template.ikesa.transform_sets;
    if names.is_empty() {
        return Ok(vec![IkeTransformSet::default()]);
    }
    let find = |name: &String| {
        let set = context.ike_transform_sets.get(name).cloned();
        set.ok_or_else(|| format!("ikev2-ikesa transform-set {name} does not exist"))
    };
    names.iter().map(find).collect()
}

fn children(
    context: &Context,
    service: &WsgService,
    template: &CryptoTemplate,
) -> Result<Vec<Arc<ChildProfile>>, String> {
    if template.payloads.is_empty() {
        return Err("the crypto template has no payload, so peers get no child SA; configure 'payload NAME match childsa'".to_owned());
    }
    let child = |(tag, (name, payload)): (u64, (&String, &Payload))| {
        Ok(Arc::new(ChildProfile {
            name: name.clone(),
            tag,
            proposals: esp_sets(context, name, payload)?
                .iter()
                .map(proposals::esp)
                .collect(),
            family: match payload.family {
                PayloadFamily::Any => FamilyMatch::Any,
                PayloadFamily::Ipv4 => FamilyMatch::Ipv4,
                PayloadFamily::Ipv6 => FamilyMatch::Ipv6,
            },
            local: SelectorPolicy::Ranges(behind_us(payload)),
            remote: behind_peer(service, payload),
            lifetime: ChildLifetime {
                time: Some(seconds(payload.lifetime)),
                kilobytes: payload.lifetime_kilobytes.map(u64::from),
                rekey: payload.rekey.is_some(),
                rekey_idle: payload.rekey.is_some_and(|rekey| rekey.keepalive),
            },
            per_resource: payload
                .per_resource
                .map(|wanted| PerResource {
                    accept: wanted.max,
                    make: wanted.initiate,
                })
                .unwrap_or_default(),
        }))
    };
    (0..).zip(&template.payloads).map(child).collect()
}

fn esp_sets(
    context: &Context,
    payload_name: &str,
    payload: &Payload,
) -> Result<Vec<IpsecTransformSet>, String> {
    if payload.transform_sets.is_empty() {
        return Ok(vec![IpsecTransformSet::default()]);
    }
    let find = |name: &String| {
        let set = context.ipsec_transform_sets.get(name).cloned();
        set.ok_or_else(|| format!("payload {payload_name}: ipsec transform-set {name} does not exist"))
    };
    payload.transform_sets.iter().map(find).collect()
}

fn behind_us(payload: &Payload) -> Vec<TrafficSelector> {
    if payload.tsr.is_empty() {
        return vec![TrafficSelector::ANY_IPV4, TrafficSelector::ANY_IPV6];
    }
    payload
        .tsr
        .iter()
        .map(|range| TrafficSelector::range(range.start, range.end))
        .collect()
}

/// A host may use what it was given, and a site what it asks for.
fn behind_peer(service: &WsgService, payload: &Payload) -> SelectorPolicy {
    match (service.deployment_mode, payload.tsi) {
        (DeploymentMode::RemoteAccess, PayloadTsi::Endpoint) => SelectorPolicy::Assigned,
        (DeploymentMode::RemoteAccess, PayloadTsi::Any) | (DeploymentMode::SiteToSite, _) => {
            SelectorPolicy::Received
        }
    }
}

fn local_auth(
    context: &Context,
    template: &CryptoTemplate,
    certificates: &Certificates,
) -> Result<LocalAuth, String> {
    let methods = context.authentication_of(template);
    match methods.iter().find_map(|method| method.local.as_ref()) {
        Some(LocalAuthentication::PreSharedKey(_)) => Ok(LocalAuth::Psk),
        Some(LocalAuthentication::Certificate) => {
            let name = template
                .certificate
                .as_ref()
                .ok_or("authentication local certificate needs 'certificate NAME' in the crypto template")?;
            let chain = certificates
                .chain
                .clone()
                .ok_or_else(|| format!("certificate {name} is not loaded"))?;
            Ok(LocalAuth::Certificate { chain })
        }
        None => Err("the crypto template has no 'authentication local'".to_owned()),
    }
}

fn remote_auth(context: &Context, template: &CryptoTemplate) -> Result<RemoteAuth, String> {
    let mut allowed = RemoteAuth {
        psk: template.remote_secret_list.is_some()
            || template.peer_networks.iter().any(|peer| peer.secret.is_some()),
        ..RemoteAuth::default()
    };
    for method in context.authentication_of(template) {
        match method.remote {
            Some(RemoteAuthentication::PreSharedKey(_)) => allowed.psk = true,
            Some(RemoteAuthentication::Certificate) => allowed.certificate = true,
            Some(RemoteAuthentication::EapProfile(_)) => allowed.eap = true,
            None => {}
        }
    }
    if allowed == RemoteAuth::default() {
        return Err("the crypto template has no 'authentication remote'".to_owned());
    }
    if allowed.certificate && template.ca_certificates.is_empty() {
        return Err(
            "authentication remote certificate needs 'ca-certificate list' in the crypto template".to_owned(),
        );
    }
    Ok(allowed)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}
