//! What `show crypto ...` prints of the tunnels of one worker.

use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::time::Duration;

use crypto::{Cipher, DhGroup, Integrity, Prf};
use ikev2::{AuthMethod, ChildSaView, ChildState, IkeSaView, IkeState, Totals, TrafficSelector};
use sadb::{Activity, SaCounter, SaCounters};
use services::wsg::Wsg;

/// One IKE SA in full.
pub(crate) fn ike_sa(view: &IkeSaView, wsg: Option<&Wsg>) -> String {
    let mut block = Block::new(format!("IKEv2 SA: {}", view.id));
    if let Some(wsg) = wsg {
        block.field("Context", &wsg.context);
        block.field("WSG Service", &wsg.service);
    }
    block.field("Crypto Template", &view.profile.name);
    block.field("State", ike_state(view.state));
    block.field("Role", if view.initiator { "Initiator" } else { "Responder" });
    block.field("Initiator SPI", format_args!("0x{:016x}", view.initiator_spi));
    block.field("Responder SPI", format_args!("0x{:016x}", view.responder_spi));
    block.field("Local Gateway", view.path.local);
    block.field("Remote Gateway", view.path.remote);
    if let Some(local) = &view.local {
        block.field("Local Identity", local);
    }
    if let Some(peer) = &view.peer {
        block.field("Remote Identity", peer);
    }
    if let Some(method) = view.peer_auth {
        block.field("Peer Authentication", auth_method(method));
    }
    if let Some(user) = &view.eap_identity {
        block.field("EAP Identity", user);
    }
    block.field(
        "NAT Detected",
        match view.nat {
            (false, false) => "No",
            (true, false) => "Local side",
            (false, true) => "Remote side",
            (true, true) => "Both sides",
        },
    );
    if let Some(algorithms) = view.algorithms {
        block.field("Encryption", cipher(algorithms.cipher));
        block.field("HMAC", algorithms.integrity.map_or("none", integrity));
        block.field("PRF", prf(algorithms.prf));
        block.field("DH Group", group(algorithms.group));
    }
    if let Some(configuration) = &view.configuration {
        if let Some(ipv4) = configuration.ipv4 {
            block.field("Assigned IPv4 Address", ipv4);
        }
        if let Some((ipv6, length)) = configuration.ipv6 {
            block.field("Assigned IPv6 Address", format_args!("{ipv6}/{length}"));
        }
    }
    block.field("Age", age(view.created.elapsed()));
    block.field("Rekey In", span(view.rekey_in));
    block.field("Expires In", span(view.expires_in));
    let children: Vec<String> = view
        .children
        .iter()
        .filter(|child| is_current(child))
        .map(|child| format!("0x{:08x}", child.inbound_spi))
        .collect();
    block.field(
        "Child SAs",
        if children.is_empty() {
            "none".to_owned()
        } else {
            children.join(" ")
        },
    );
    block.text
}

/// The child SAs of an IKE SA in full. `data` gives what the data plane knows of one, by its inbound SPI.
pub(crate) fn child_sas(
    view: &IkeSaView,
    wsg: Option<&Wsg>,
    data: impl Fn(u32) -> (SaCounters, Option<Activity>),
) -> String {
    let mut text = String::new();
    for child in view.children.iter().filter(|child| is_current(child)) {
        let (counters, activity) = data(child.inbound_spi);
        text.push_str(&child_sa(view, child, wsg, &counters, activity.as_ref()));
    }
    text
}

/// Lines of `summary`, to be added up over the workers.
pub(crate) fn ike_totals(totals: &Totals) -> Vec<(&'static str, u64)> {
    vec![
        ("Total IKEv2 SAs", totals.ike_sas.into()),
        ("Established", totals.established.into()),
        ("Half Open", totals.half_open.into()),
        ("Connecting", totals.connecting.into()),
        ("Initiated", totals.initiated.into()),
        (
            "Responded",
            totals.ike_sas.saturating_sub(totals.initiated).into(),
        ),
    ]
}

/// The same for child SAs.
pub(crate) fn child_totals(totals: &Totals) -> Vec<(&'static str, u64)> {
    vec![
        ("Total Child SAs", totals.children.into()),
        ("Total IKEv2 SAs", totals.ike_sas.into()),
    ]
}

/// Whether an IKE SA is with this peer; all are when there is none.
pub(crate) fn is_with(view: &IkeSaView, peer: Option<IpAddr>) -> bool {
    peer.is_none_or(|peer| view.path.remote.ip() == peer)
}

fn child_sa(
    view: &IkeSaView,
    child: &ChildSaView,
    wsg: Option<&Wsg>,
    counters: &SaCounters,
    activity: Option<&Activity>,
) -> String {
    let mut block = Block::new(format!("Child SA of IKEv2 SA {}", view.id));
    if let Some(wsg) = wsg {
        block.field("Context", &wsg.context);
        block.field("WSG Service", &wsg.service);
    }
    block.field("Crypto Template", &view.profile.name);
    block.field("Payload", &child.child.name);
    block.field("State", child_state(child.state));
    block.field("Local Gateway", view.path.local);
    block.field(
        "Remote Gateway",
        activity
            .and_then(|activity| activity.learned_peer)
            .unwrap_or(view.path.remote),
    );
    if let Some(peer) = &view.peer {
        block.field("Remote Identity", peer);
    }
    block.field("Inbound SPI", format_args!("0x{:08x}", child.inbound_spi));
    block.field("Outbound SPI", format_args!("0x{:08x}", child.outbound_spi));
    block.field(
        "Protocol",
        if child.udp_encapsulation {
            "ESP in UDP, tunnel mode"
        } else {
            "ESP, tunnel mode"
        },
    );
    block.field("Encryption", cipher(child.cipher));
    block.field("HMAC", child.integrity.map_or("none", integrity));
    block.field("DH Group", child.group.map_or("none", group));
    block.field("Extended Sequence Numbers", if child.esn { "Yes" } else { "No" });
    // RFC 9611.
    block.field("Per Resource", if child.per_resource { "Yes" } else { "No" });
    block.field("Local Selectors", list(&child.local_selectors));
    block.field("Remote Selectors", list(&child.remote_selectors));
    for (label, counter) in [
        ("Packets In", SaCounter::PacketsIn),
        ("Octets In", SaCounter::BytesIn),
        ("Packets Out", SaCounter::PacketsOut),
        ("Octets Out", SaCounter::BytesOut),
        ("Authentication Errors", SaCounter::DropAuthentication),
        ("Replayed Packets", SaCounter::DropReplay),
        ("Selector Mismatches", SaCounter::DropSelector),
    ] {
        block.field(label, counters.get(counter));
    }
    block.field("All Drops", counters.drops());
    if let Some(activity) = activity {
        block.field("Inbound Sequence Number", activity.inbound_sequence);
        block.field("Outbound Sequence Number", activity.outbound_sequence);
    }
    block.field("Age", age(child.created.elapsed()));
    block.field("Rekey In", span(child.rekey_in));
    block.field("Expires In", span(child.expires_in));
    block.text
}

/// Replaced child SAs only wait for packets that are still under way; they are no tunnels any more.
fn is_current(child: &ChildSaView) -> bool {
    matches!(child.state, ChildState::Installed | ChildState::Pending)
}

fn ike_state(state: IkeState) -> &'static str {
    match state {
        IkeState::HalfOpen => "Half Open",
        IkeState::Authenticating => "Connecting",
        IkeState::Established => "Established",
        IkeState::Deleting => "Deleting",
    }
}

fn child_state(state: ChildState) -> &'static str {
    match state {
        ChildState::Installed => "Established",
        ChildState::Pending => "Receiving, not sending yet",
        ChildState::Rekeyed => "Rekeyed",
        ChildState::Deleting => "Deleting",
    }
}

fn auth_method(method: AuthMethod) -> String {
    match method {
        AuthMethod::Psk => "Pre-shared key".to_owned(),
        AuthMethod::Signature(number) => format!("Certificate (method {number})"),
        AuthMethod::Eap => "EAP".to_owned(),
    }
}

/// In the words of `transform-set`.
fn cipher(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Null => "null",
        Cipher::AesCbc128 => "aes-cbc-128",
        Cipher::AesCbc256 => "aes-cbc-256",
        Cipher::AesGcm128Icv8 => "aes-128-gcm-64",
        Cipher::AesGcm256Icv8 => "aes-256-gcm-64",
        Cipher::AesGcm128Icv12 => "aes-128-gcm-96",
        Cipher::AesGcm256Icv12 => "aes-256-gcm-96",
        Cipher::AesGcm128Icv16 => "aes-128-gcm-128",
        Cipher::AesGcm256Icv16 => "aes-256-gcm-128",
    }
}

fn integrity(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::HmacSha1_96 => "sha1-96",
        Integrity::HmacSha2_256_128 => "sha2-256-128",
        Integrity::HmacSha2_384_192 => "sha2-384-192",
        Integrity::HmacSha2_512_256 => "sha2-512-256",
    }
}

fn prf(prf: Prf) -> &'static str {
    match prf {
        Prf::HmacSha1 => "sha1",
        Prf::HmacSha2_256 => "sha2-256",
        Prf::HmacSha2_384 => "sha2-384",
        Prf::HmacSha2_512 => "sha2-512",
    }
}

fn group(group: DhGroup) -> &'static str {
    match group {
        DhGroup::Modp1024 => "2",
        DhGroup::Modp1536 => "5",
        DhGroup::Modp2048 => "14",
        DhGroup::Modp3072 => "15",
        DhGroup::Modp4096 => "16",
        DhGroup::Ecp256 => "19",
        DhGroup::Ecp384 => "20",
        DhGroup::Ecp521 => "21",
        DhGroup::Curve25519 => "31",
    }
}

fn list(selectors: &[TrafficSelector]) -> String {
    selectors
        .iter()
        .map(TrafficSelector::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}h{:02}m{:02}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn span(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), age)
}

/// A heading and labelled values below it.
struct Block {
    text: String,
}

impl Block {
    fn new(heading: String) -> Self {
        Self { text: heading + "\n" }
    }

    fn field(&mut self, label: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "  {label:<26}: {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ikev2::{ChildProfile, Identity, IkeAlgorithms, IkeSaId, Path, Profile, SelectorPolicy};
    use std::sync::Arc;
    use std::time::Instant;

    fn view() -> IkeSaView {
        let child = |state, spi| ChildSaView {
            child: Arc::new(ChildProfile::new(
                "p",
                Vec::new(),
                SelectorPolicy::Received,
                SelectorPolicy::Received,
            )),
            inbound_spi: spi,
            outbound_spi: !spi,
            state,
            cipher: Cipher::AesGcm128Icv16,
            integrity: None,
            group: None,
            esn: false,
            per_resource: false,
            udp_encapsulation: true,
            local_selectors: vec![TrafficSelector::ANY_IPV4].into(),
            remote_selectors: vec![TrafficSelector::host("10.20.1.1".parse().unwrap())].into(),
            created: Instant::now(),
            rekey_in: None,
            expires_in: Some(Duration::from_secs(3_725)),
        };
        IkeSaView {
            id: IkeSaId(0x0100_0000_0000_0001),
            initiator_spi: 7,
            responder_spi: 0x0100_0000_0000_0001,
            initiator: false,
            state: IkeState::Established,
            profile: Arc::new(Profile {
                name: "t".to_owned(),
                ..Profile::default()
            }),
            path: Path {
                local: "10.10.0.2:4500".parse().unwrap(),
                remote: "10.10.0.1:4500".parse().unwrap(),
            },
            nat: (false, true),
            local: Identity::fqdn("gw.test"),
            peer: Identity::fqdn("peer.test"),
            peer_auth: Some(AuthMethod::Psk),
            eap_identity: None,
            algorithms: Some(IkeAlgorithms {
                cipher: Cipher::AesCbc256,
                integrity: Some(Integrity::HmacSha2_256_128),
                prf: Prf::HmacSha2_256,
                group: DhGroup::Curve25519,
            }),
            created: Instant::now(),
            rekey_in: None,
            expires_in: None,
            configuration: None,
            children: vec![
                child(ChildState::Installed, 0x0100_0001),
                child(ChildState::Rekeyed, 0x0100_0002),
            ],
        }
    }

    #[test]
    fn an_ike_sa_names_peer_algorithms_and_child_sas() {
        let text = ike_sa(&view(), None);
        for line in [
            "IKEv2 SA: 0100000000000001",
            "  Remote Gateway            : 10.10.0.1:4500",
            "  Remote Identity           : peer.test",
            "  Encryption                : aes-cbc-256",
            "  HMAC                      : sha2-256-128",
            "  DH Group                  : 31",
            "  NAT Detected              : Remote side",
            "  Child SAs                 : 0x01000001",
            "  Expires In                : never",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no line '{line}' in:\n{text}"
            );
        }
        assert!(is_with(&view(), None) && is_with(&view(), Some("10.10.0.1".parse().unwrap())));
        assert!(!is_with(&view(), Some("10.10.0.9".parse().unwrap())));
    }

    #[test]
    fn only_child_sas_in_use_are_shown() {
        let text = child_sas(&view(), None, |_| (SaCounters::default(), None));
        assert_eq!(text.matches("Inbound SPI").count(), 1);
        assert!(text.contains("Inbound SPI               : 0x01000001\n"));
        assert!(text.contains("Outbound SPI              : 0xfefffffe\n"));
        assert!(text.contains("Expires In                : 1h02m05s\n"));
        assert!(
            text.contains("Remote Selectors          : 10.20.1.1/32\n"),
            "{text}"
        );
    }
}
