//! What `starward check` finds beside bad lines.

mod common;

use common::Visible;
use config::{Finding, check, load};

#[test]
fn a_setting_without_effect_says_so() {
    let text = "context c
wsg-service s
ip access-group a
deployment-mode site-to-site
bind address 10.0.0.1 crypto-template t
#exit
crypto template t
natt include-header
payload p match childsa
ip-address-allocation dynamic
";
    let findings = load(text, &Visible).config.findings();
    let found = |is_error: bool, part: &str| {
        let matches =
            |finding: &&config::Finding| finding.is_error == is_error && finding.message.contains(part);
        assert!(
            findings.iter().any(|finding| matches(&finding)),
            "{part}: {findings:#?}"
        );
    };
    found(
        true,
        "ip access-group has no effect in this version: every packet passes",
    );
    found(false, "natt include-header has no effect in this version");
    found(
        false,
        "payload ip-address-allocation dynamic has no effect with deployment-mode site-to-site",
    );
}

#[test]
fn af_xdp_is_for_devices() {
    let text = "port ethernet 1/10\ntun\naf-xdp\n#exit\nport ethernet 1/11\ndevice ran0\naf-xdp\n#exit\n";
    let findings = load(text, &Visible).config.findings();
    let found: Vec<_> = findings
        .iter()
        .filter(|finding| finding.message.contains("af-xdp"))
        .map(|finding| (finding.is_error, finding.to_string()))
        .collect();
    let expected = "port ethernet 1/10: af-xdp needs a device: a TUN device has none of it";
    assert_eq!(found, [(true, expected.to_owned())]);
}

#[test]
fn services_share_no_address_even_in_different_contexts() {
    let service = "crypto template t\n#exit\nwsg-service s\nbind address 10.0.0.1 crypto-template t\n#exit\n";
    let text = format!("context one\n{service}#exit\ncontext two\n{service}#exit\n");
    let findings = load(&text, &Visible).config.findings();
    let shared: Vec<_> = findings
        .iter()
        .filter(|finding| finding.message.contains("is bound to"))
        .map(|finding| (finding.is_error, finding.to_string()))
        .collect();
    let expected = "context two, wsg-service s: wsg-service s of context one is bound to 10.0.0.1 already";
    assert_eq!(shared, [(true, expected.to_owned())]);
}

#[test]
fn what_does_not_fit_together_is_found() {
    let checked = check(
        "config
context isp
ipsec transform-set e
encryption aes-128-gcm-128
#exit
crypto template t ikev2-dynamic
authentication remote eap-profile nowhere
ikev2-ikesa transform-set list missing
#exit
wsg-service s
bind address 10.0.0.1 crypto-template other
#exit
#exit
port ethernet 1/1
no shutdown
bind interface ran isp
#exit
end
",
    );
    assert_eq!(checked.errors, []);
    let found = |line: usize, part: &str| {
        assert!(
            checked
                .findings
                .iter()
                .any(|(found, finding)| *found == line && finding.message.contains(part)),
            "{line} {part}: {:#?}",
            checked.findings
        );
    };
    found(3, "encryption aes-128-gcm-128 needs hmac none");
    found(6, "there is no authentication local");
    found(6, "eap-profile nowhere does not exist");
    found(6, "ikev2-ikesa transform-set missing does not exist");
    found(6, "there is no payload");
    found(10, "crypto template other does not exist");
    found(10, "10.0.0.1 is not an address of an interface");
    found(14, "it has no device");
    found(14, "interface ran does not exist in context isp");
}

/// As in the reference's example of several methods, of which the second says nothing about us; and with the keys of peers in a list.
#[test]
fn a_side_that_is_authenticated_somewhere_lacks_nothing() {
    let told = |template: &str| {
        let text = format!(
            "crypto remote-secret-list l
remote-id id-type fqdn id peer.test secret key s
#exit
context isp
ikev2-ikesa auth-method-set s
authentication remote eap-profile e
#exit
crypto template t ikev2-dynamic
{template}
#exit
"
        );
        let checked = check(&text);
        assert_eq!(checked.errors, []);
        let lacks = |side: &str| {
            let message = format!("there is no authentication {side}");
            let mut findings = checked.findings.iter();
            findings.any(|(_, finding)| finding.message.ends_with(&message))
        };
        [lacks("local"), lacks("remote")]
    };
    let sets = "ikev2-ikesa auth-method-set list s";
    assert_eq!(
        told(&format!("authentication local certificate\n{sets}")),
        [false, false]
    );
    assert_eq!(told(sets), [true, false]);
    assert_eq!(told("authentication local certificate"), [false, true]);
    let list = "authentication local pre-shared-key key k\nremote-secret-list l";
    assert_eq!(told(list), [false, false]);
}

/// RFC 7296 section 2.16, wherever the two stand.
#[test]
fn eap_needs_a_certificate_of_ours() {
    let told = |local: &str, remote: &str, set: &str| {
        let text = format!(
            "context isp
eap-profile e
mode authenticator-pass-through
#exit
ikev2-ikesa auth-method-set s
{set}
#exit
crypto template t ikev2-dynamic
{local}
{remote}
ikev2-ikesa auth-method-set list s
#exit
"
        );
        let checked = check(&text);
        assert_eq!(checked.errors, []);
        let needs = |finding: &Finding| {
            finding
                .message
                .contains("eap-profile needs \"authentication local certificate\"")
        };
        let found = checked.findings.iter().find(|(_, finding)| needs(finding));
        found.map(|(line, finding)| (*line, finding.is_error))
    };
    let key = "authentication local pre-shared-key key k";
    let certificate = "authentication local certificate";
    let eap = "authentication remote eap-profile e";
    assert_eq!(told(key, eap, ""), Some((8, true)));
    assert_eq!(told(key, "", eap), Some((8, true)));
    assert_eq!(told("", eap, key), Some((8, true)));
    assert_eq!(
        told(certificate, eap, key),
        None,
        "the template's own comes first"
    );
    assert_eq!(told(key, "authentication remote pre-shared-key key k", ""), None);
}

#[test]
fn the_form_of_sealed_secrets_is_checked() {
    let key = crypto::MasterKey::generate(&mut crypto::SystemRandom);
    let good = key.seal(b"x").unwrap();
    let checked = check(&format!(
        "context c
crypto template t
authentication local pre-shared-key encrypted key {good}
authentication remote pre-shared-key encrypted key +B1short
snmp community plain
"
    ));
    assert_eq!(checked.errors, []);
    assert_eq!(checked.sealed, 2);
    let wrong: Vec<_> = checked
        .findings
        .iter()
        .filter(|(_, finding)| finding.message.contains("not a sealed secret"))
        .map(|(line, finding)| (*line, finding.is_error, finding.message.as_str()))
        .collect();
    assert_eq!(
        wrong,
        [(
            4,
            true,
            "context c, crypto template t ikev2-dynamic, authentication remote pre-shared-key encrypted key ...: this is not a sealed secret"
        )]
    );
}

/// A variable that is not there would stay in the file as it is written.
#[test]
fn variables_of_bulk_statistics_are_looked_up() {
    let text = "bulkstats mode
schema s format \"at %date%,%ikev2-cursa%,%nonsense%\"
schema s format %date%,%ikev2-cursa%,100%
wsg schema w format %svcname%,%ikev2-cursa%
wsg schema w format %svcname%,%uptime%
gtpu schema g format %anything%
header format %host%,%svcname%
remotefile format %host%_%localdate%.csv
";
    let loaded = load(text, &Visible);
    let told: Vec<_> = loaded
        .errors
        .iter()
        .map(|error| (error.line, error.column, error.message.as_str()))
        .collect();
    let lists = "\"show bulkstats variables\" lists them";
    assert_eq!(
        told,
        [
            (
                2,
                Some(41),
                &*format!("there is no variable %nonsense% in system schemas: {lists}")
            ),
            (
                4,
                Some(30),
                &format!("there is no variable %ikev2-cursa% in wsg schemas: {lists}")
            ),
            (
                7,
                Some(21),
                &format!("there is no variable %svcname% here: {lists}")
            ),
        ]
    );
    let file = &loaded.config.bulkstats.files[&1];
    assert_eq!(file.schemas.len(), 3);
    assert_eq!(file.header, None);
}

#[test]
fn names_of_traps_and_schemas_are_looked_up() {
    let text = "snmp trap enable NoSuchTrap
snmp trap suppress NoSuchTrap LongDurationDetected
bulkstats mode
card schema c format x
ippool schema p format x
wsg schema w format x
gtpu schema g format x
schema s format x
default logging filter runtime facility all
";
    let loaded = load(text, &Visible);
    let errors: Vec<_> = loaded
        .errors
        .iter()
        .map(|error| (error.line, error.message.as_str()))
        .collect();
    assert_eq!(errors, [(1, "this version sends no trap NoSuchTrap")]);
    let findings = loaded.config.findings();
    let told = |part: &str| {
        findings
            .iter()
            .filter(|finding| finding.message.contains(part))
            .count()
    };
    assert_eq!(told("sends no trap of this name"), 2);
    assert_eq!(told("no schemas of this type"), 2);
    assert_eq!(told("gtpu schema g"), 1);
}
